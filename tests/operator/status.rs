//! The status as text and as JSON: six states of a pair on 80 columns.

use super::states;
use twobox::console::report::{self, Style};
use twobox::console::status::Status;

const PLAIN: Style = Style { width: 80, colour: false };

#[test]
fn text_of_six_states() {
    for (name, status) in states::all() {
        let text = report::full(&status, PLAIN);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        states::assert_snapshot(&format!("status-{name}.txt"), &text);
    }
}

#[test]
fn the_first_line_answers_who_serves_and_what_a_takeover_would_do() {
    let first =
        |status: &Status| report::full(status, Style { width: 200, ..PLAIN }).lines().next().unwrap().to_owned();
    assert_eq!(first(&states::peace()), "a serves. b would take over at once.");
    assert_eq!(first(&states::standby()), "a serves. b would take over at once.");
    assert_eq!(first(&states::alone()), "b serves. A takeover by a would NOT work now: a is not heard.");
    assert!(first(&states::held()).starts_with("a serves. A takeover by b would NOT work now: held by the operator"));
    assert!(first(&states::claiming()).starts_with("Nobody serves yet: b is taking over: it waits another 2.2 s"));
    let mut both = states::peace();
    both.peer.role = twobox::console::status::Role::Active;
    assert!(first(&both).starts_with("BOTH SERVE"));
    // A peer that was taken over said before that it served: that is no double service.
    let mut taken = states::alone();
    (taken.since_ms, taken.peer.heard_ms_ago, taken.peer.role) =
        (300, Some(850), twobox::console::status::Role::Active);
    assert!(first(&taken).starts_with("b serves. A takeover by a would NOT work now"), "{}", first(&taken));
    let mut deaf = states::standby();
    deaf.peer.heard_ms_ago = Some(60_000);
    assert!(first(&deaf).starts_with("a was heard 60 s ago; it may or may not serve."));
}

#[test]
fn colour_is_for_terminals_only() {
    let status = states::trouble();
    assert!(!report::full(&status, PLAIN).contains('\x1b'));
    let coloured = report::full(&status, Style { colour: true, ..PLAIN });
    assert!(coloured.contains("\x1b[1;31m"));
    // Taking the colours away gives the plain text: nothing is said by colour alone.
    let mut plain = coloured;
    for code in ["\x1b[1;31m", "\x1b[33m", "\x1b[0m"] {
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, report::full(&status, PLAIN));
}

#[test]
fn a_drill_is_refused_with_every_reason_unless_all_is_green() {
    use twobox::console::drill_ready::obstacles;
    assert_eq!(obstacles(&states::peace()), [""; 0]);
    assert_eq!(obstacles(&states::standby()), [""; 0]);
    let held = obstacles(&states::held());
    assert_eq!(held, ["b is held", "held by the operator (`release` ends it)"]);
    let alone = obstacles(&states::alone()).join("; ");
    for reason in ["a is not heard", "b serves by quorum", "crossover is down", "/data is not current"] {
        assert!(alone.contains(reason), "{reason}: {alone}");
    }
    let trouble = obstacles(&states::trouble()).join("; ");
    for reason in [
        "the site files of the two boxes differ",
        "null-modem is down: wrong baud rate",
        "the witness 192.0.2.1 does not reflect",
        "the witness 2001:db8::1 does not answer",
        "the service web fails",
        "the mirror of /data/mail is blocked",
        "changes of /data were set aside",
        "another device claims a service address",
    ] {
        assert!(trouble.contains(reason), "{reason}: {trouble}");
    }
    // A box without belts may rehearse: it hands over by vote.
    assert!(!trouble.contains("UNFENCED"), "{trouble}");
}

/// The names that outside programs rely on.
#[test]
fn json_has_the_fields_of_the_contract() {
    let value = serde_json::to_value(states::alone()).unwrap();
    for pointer in [
        "/version",
        "/pair",
        "/node",
        "/role",
        "/since_ms",
        "/term",
        "/right/kind",
        "/right/remaining_ms",
        "/fence/watchdog/device",
        "/fence/watchdog/timeout_ms",
        "/fence/watchdog/last_reset",
        "/fence/egress_gate",
        "/fence/bound_ms",
        "/fence/bound_by",
        "/fence/fenced",
        "/peer/node",
        "/peer/role",
        "/peer/heard_ms_ago",
        "/peer/config_matches",
        "/links/0/name",
        "/links/0/kind",
        "/links/0/up",
        "/links/0/heard_ms_ago",
        "/links/0/lost",
        "/links/0/rejected",
        "/witnesses/0/ip",
        "/witnesses/0/reachable",
        "/witnesses/0/reflects",
        "/witnesses/0/rtt_us",
        "/addresses/0/ip",
        "/addresses/0/held",
        "/services/0/name",
        "/services/0/state",
        "/services/0/restarts",
        "/mirror/0/tree",
        "/mirror/0/direction",
        "/mirror/0/last_cut_ms_ago",
        "/mirror/0/lag_ms",
        "/mirror/0/state",
        "/mirror/0/files",
        "/mirror/0/bytes_sent",
        "/mirror/0/diverged",
        "/mirror/0/current",
        "/takeover/ready",
        "/takeover/blocked_by/0",
        "/last_handover/kind",
        "/last_handover/reason",
        "/last_handover/detect_ms",
        "/last_handover/fence_wait_ms",
        "/last_handover/total_ms",
        "/alarms/0/since_ms",
        "/alarms/0/text",
    ] {
        assert!(value.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer}");
    }
    for pointer in ["/addresses/0/conflict", "/mirror/0/reason"] {
        assert!(value.pointer(pointer).is_some_and(serde_json::Value::is_null), "{pointer}");
    }
    let text = serde_json::to_string_pretty(&states::peace()).unwrap() + "\n";
    states::assert_snapshot("status.json", &text);
    assert_eq!(value.pointer("/right/kind").unwrap(), "quorum");
    assert_eq!(serde_json::to_value(states::trouble()).unwrap().pointer("/fence/bound_by").unwrap(), "address-lease");
}
