//! The operator's commands against a living pair, as a script sees them: exit code, output, one-line reasons.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use twobox::console::control::Request;
use twobox::console::status::{Handovers, RightKind, Role};

use crate::DEFAULT;
use crate::rig::{PATIENCE, Rig, other, wait};

#[allow(clippy::disallowed_methods)] // the program under test
fn twobox(rig: &Rig, node: &str, words: &str, input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_twobox"))
        .env("TWOBOX_SOCKET", rig.path(node, "socket"))
        .args(words.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must end with `code`; what it says on standard output, or if it fails on standard error, which then is
/// one line.
fn expect(rig: &Rig, node: &str, words: &str, input: &str, code: i32) -> String {
    let output = twobox(rig, node, words, input);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{words}: {out}{err}");
    if code == 1 {
        assert_eq!(err.lines().count(), 1, "{words}: {err}");
        assert!(err.starts_with("twobox: ") && err.len() > 20, "{words}: {err}");
        return err;
    }
    if code == 0 { out } else { err }
}

#[test]
fn every_command_does_what_it_says_and_ends_with_its_code() {
    let mut rig = Rig::new("words", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let site = rig.dir.join("site-a.toml").display().to_string();
    let board = rig.path("a", "board.toml").display().to_string();
    // Looking.
    for node in ["a", "b"] {
        assert!(
            expect(&rig, node, "status", "", 0).starts_with(&format!("{active} serves. {standby} would take over"))
        );
        let log = expect(&rig, node, "log -n 5", "", 0);
        assert!((1..=5).contains(&log.lines().count()), "{log}");
    }
    let history = expect(&rig, active, "history", "", 0);
    assert!(!history.is_empty() && !history.contains(" to "), "a first start is no hand-over: {history}");
    assert!(expect(&rig, active, "version", "", 0).starts_with("twobox "));
    assert!(expect(&rig, active, "peer status", "", 0).starts_with(&format!("{active} serves.")));
    assert!(expect(&rig, active, "peer log -n 3", "", 0).lines().count() <= 3);
    expect(&rig, active, &format!("check --board {board} --site {site}"), "", 0);
    // Wrong use.
    for words in
        ["", "frobnicate", "activate", "hold --no-such-switch", "peer", "check --board /nowhere --site /nowhere"]
    {
        expect(&rig, active, words, "", 2);
    }
    // Refused, and nothing has happened.
    for words in
        ["mirror sync", "mirror diverged list", "update /etc/hostname", "reboot", "poweroff", "watch", "peer reboot"]
    {
        expect(&rig, active, words, "", 1);
    }
    assert!(expect(&rig, active, "activate --force", "", 1).contains("serves already"));
    let forced = format!("activate {standby}\n");
    assert!(expect(&rig, standby, "activate --force", &forced, 1).contains("not silent"));
    assert_eq!(rig.role(active), Some(Role::Active));
    // A hand-over, told step by step, ordered on either box.
    for (at, to) in [(active, standby), (active, active)] {
        let told = expect(&rig, at, "switchover", "", 0);
        let steps: Vec<&str> = told.lines().collect();
        assert!(steps.len() >= 3, "{told}");
        let of_step =
            |line: &&str| line.trim_start().split_once(" ms  ").is_some_and(|(ms, _)| ms.parse::<f64>().is_ok());
        assert!(steps[..steps.len() - 1].iter().all(of_step), "{told}");
        assert!(steps[steps.len() - 1].starts_with(&format!("{to} serves after ")), "{told}");
        rig.client.await_answer_from(to);
    }
    // The second one waited by itself until the first surrender was over, and so does a hold.
    let told = expect(&rig, active, "switchover", "", 0);
    assert!(told.contains("waiting up to") && told.contains("just surrendered"), "{told}");
    assert!(expect(&rig, standby, "hold", "", 0).contains("waiting up to"));
    assert!(expect(&rig, active, "history -n 1", "", 0).contains(&format!("switchover to {active}")));
    expect(&rig, standby, "release", "", 0);
    rig.await_touch();
    // Maintenance.
    expect(&rig, standby, "hold disk swap", "", 0);
    wait("held", || rig.role(standby) == Some(Role::Held));
    assert!(expect(&rig, active, "switchover", "", 1).contains("held"));
    assert!(expect(&rig, active, "hold", "", 1).contains("held"), "nobody else would serve");
    assert!(expect(&rig, active, "drill", "", 1).contains("held"));
    expect(&rig, active, "peer release", "", 0);
    rig.await_touch();
    expect(&rig, active, "peer hold battery", "", 0);
    wait("held", || rig.role(standby) == Some(Role::Held));
    expect(&rig, standby, "release", "", 0);
    rig.await_touch();
    // A hold of the active box is a hand-over first.
    expect(&rig, active, "hold", "", 0);
    rig.client.await_answer_from(standby);
    assert_eq!(rig.role(active), Some(Role::Held));
    expect(&rig, active, "release", "", 0);
    rig.await_touch();
    assert!(expect(&rig, standby, "drill", "", 0).contains("back"));
    // Alone and without a quorum nobody serves, but by the operator's force, typed.
    rig.ip("lan", "link set dev witness down");
    wait("the witness is missed", || rig.alarmed(active, "no-quorum"));
    rig.kill(standby);
    wait("the peer is missed", || rig.alarmed(active, "peer-silent"));
    assert!(expect(&rig, active, "status", "", 0).contains("quorum"));
    let asked = twobox::clock::now();
    assert!(expect(&rig, active, "peer status", "", 1).contains("not heard on any link"));
    assert!(twobox::clock::now().since(asked) < PATIENCE / 3, "it is known, so nothing is waited for");
    assert_eq!(rig.role(active), Some(Role::Standby));
    expect(&rig, active, "activate --force", &format!("activate {active}\n"), 0);
    rig.client.await_answer_from(active);
    assert!(rig.alarmed(active, "forced"));
}

/// What outside programs may rely on, with the type of every value: `s`tring, `n`umber, `b`oolean, `a`rray, `?` or null.
const FIELDS: &[(&str, &str)] = &[
    ("/version", "s"),
    ("/pair", "s"),
    ("/node", "s"),
    ("/role", "s"),
    ("/since_ms", "n"),
    ("/term", "n"),
    ("/right/kind", "s"),
    ("/last_reset", "s"),
    ("/quorum", "b"),
    ("/right/remaining_ms", "n?"),
    ("/fence/watchdog", "?"),
    ("/fence/egress_gate", "s"),
    ("/fence/bound_ms", "n"),
    ("/fence/bound_by", "s"),
    ("/fence/fenced", "b"),
    ("/peer/node", "s"),
    ("/peer/role", "s"),
    ("/peer/heard_ms_ago", "n"),
    ("/peer/config_matches", "b"),
    ("/links/0/name", "s"),
    ("/links/0/kind", "s"),
    ("/links/0/up", "b"),
    ("/links/0/heard_ms_ago", "n"),
    ("/links/0/lost", "n"),
    ("/links/0/rejected", "n"),
    ("/witnesses/0/ip", "s"),
    ("/witnesses/0/reachable", "b"),
    ("/witnesses/0/reflects", "b"),
    ("/witnesses/0/rtt_us", "n"),
    ("/addresses/0/ip", "s"),
    ("/addresses/0/held", "b"),
    ("/addresses/0/conflict", "s?"),
    ("/addresses/0/dropped_out", "n"),
    ("/addresses/0/dropped_in", "n"),
    ("/fence/last_pass_ms_ago", "n?"),
    ("/services/0/name", "s"),
    ("/services/0/state", "s"),
    ("/services/0/restarts", "n"),
    ("/mirror", "a"),
    ("/takeover/ready", "b"),
    ("/takeover/blocked_by", "a"),
    ("/alarms", "a"),
];

#[test]
fn the_status_of_a_living_pair_has_every_field_with_its_type_and_unit() {
    let mut rig = Rig::new("json", DEFAULT);
    let first = rig.start_both();
    for node in ["a", "b"] {
        let status = rig.status(node).unwrap();
        assert_eq!(status.last_handover, None, "{node}: nobody served before");
        assert_eq!(status.handovers, Handovers::default());
    }
    rig.order(first, &Request::Switchover { lose_changes: false }).unwrap();
    rig.await_touch();
    let active = other(first);
    wait("what was granted at the start is over", || {
        rig.status(other(active)).is_some_and(|s| s.right.kind == RightKind::None)
    });
    for node in ["a", "b"] {
        // A content that came by two ways is no fault of the slower one. What came before the two knew each other is.
        let rejected = |rig: &Rig| rig.status(node).unwrap().links.iter().map(|link| link.rejected).collect::<Vec<_>>();
        let before = rejected(&rig);
        let heard = rig.status(node).unwrap().links[1].heard;
        wait("fifty heartbeats", || rig.status(node).is_some_and(|s| s.links[1].heard > heard + 50));
        assert_eq!(rejected(&rig), before, "{node}");
        let words = expect(&rig, node, "status --json", "", 0);
        assert_eq!(words.lines().count(), 1);
        let status: Value = serde_json::from_str(&words).unwrap();
        for (pointer, kinds) in FIELDS {
            let value = status.pointer(pointer).unwrap_or_else(|| panic!("{node}: no {pointer}: {words}"));
            let kind = match value {
                Value::String(_) => "s",
                Value::Number(n) if n.is_u64() => "n",
                Value::Bool(_) => "b",
                Value::Array(_) => "a",
                Value::Null => "?",
                _ => "none",
            };
            assert!(kinds.contains(kind), "{node}: {pointer} is {value}");
        }
        let at = |pointer: &str| status.pointer(pointer).unwrap().clone();
        let is_active = node == active;
        assert_eq!(at("/role"), if is_active { "active" } else { "standby" });
        assert_eq!(at("/peer/role"), if is_active { "standby" } else { "active" });
        assert_eq!(at("/fence/egress_gate"), if is_active { "open" } else { "closed" });
        assert_eq!((at("/fence/bound_by"), at("/fence/bound_ms")), ("gate".into(), 1.into()));
        assert_eq!(at("/addresses/0/ip"), "10.77.0.10/24");
        assert_eq!((at("/addresses/0/held"), at("/addresses/0/conflict")), (is_active.into(), Value::Null));
        let silent = at("/fence/last_pass_ms_ago").as_u64().expect("both have served");
        // Client and kernel talk to whoever serves; nothing has left the other one since the hand-over, fifty heartbeats ago.
        assert!(is_active || silent > 1_000, "{node}: a frame left {silent} ms ago");
        assert!(at("/peer/heard_ms_ago").as_u64().unwrap() < 1_000);
        let names: Vec<Value> = at("/links").as_array().unwrap().iter().map(|link| link["name"].clone()).collect();
        assert_eq!(names, ["null-modem", "crossover", "lan", "reflected:10.77.0.1"]);
        let kinds: Vec<Value> = at("/links").as_array().unwrap().iter().map(|link| link["kind"].clone()).collect();
        assert_eq!(kinds, ["serial", "ethernet", "ethernet", "reflected"]);
        assert_eq!(at("/right/kind"), if is_active { "lease" } else { "none" });
        if is_active {
            assert!((1..=500).contains(&at("/right/remaining_ms").as_u64().unwrap()));
        }
        let handover = at("/last_handover");
        assert_eq!((&handover["kind"], &handover["to"]), (&"switchover".into(), &active.into()), "{handover}");
        for field in ["detect_ms", "fence_wait_ms", "total_ms"] {
            assert!(handover[field].is_u64(), "{handover}");
        }
    }
}

/// The words of `run` on a box that has a daemon already, with a state directory and a control socket of their own.
fn run_beside(rig: &Rig, node: &str) -> Output {
    let options = rig.options(node);
    let own = |what: &str| rig.path(node, what);
    Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}-{node}", rig.name))
        .args(["timeout", "20"])
        .arg(env!("CARGO_BIN_EXE_twobox"))
        .args(["run", "--node", node, "--board"])
        .arg(options.board)
        .arg("--site")
        .arg(options.site)
        .arg("--state")
        .arg(own("other-state"))
        .arg("--socket")
        .arg(own("other-socket"))
        .output()
        .unwrap()
}

#[test]
fn a_second_daemon_on_the_box_is_refused_before_it_touches_anything() {
    let mut rig = Rig::new("beside", DEFAULT);
    let active = rig.start_both();
    let touched = |rig: &Rig| {
        let status = rig.status(active).unwrap();
        (status.term, status.role, status.fence.gate_repairs, status.addresses[0].held)
    };
    let before = touched(&rig);
    for node in [active, other(active)] {
        // More often than anybody who is asked remembers askers.
        for _ in 0..3 {
            let output = run_beside(&rig, node);
            let err = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{err}");
            let last = err.lines().last().unwrap_or_default();
            assert!(last.starts_with("twobox: another daemon runs on this box; "), "{err}");
            assert!(!rig.path(node, "other-socket").exists());
        }
    }
    rig.await_touch();
    assert_eq!(touched(&rig), before);
}

#[test]
fn the_console_port_of_the_board_file_has_a_prompt_on_a_host_too() {
    use std::io::Read;
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, poll};

    let mut rig = Rig::new("port", DEFAULT);
    let port = nix::pty::openpty(None, None).unwrap();
    let device = nix::unistd::ttyname(&port.slave).unwrap();
    let board = rig.path("a", "board.toml");
    let text = std::fs::read_to_string(&board).unwrap();
    std::fs::write(&board, format!("{text}\n[serial.console]\ndevice = \"{}\"\n", device.display())).unwrap();
    rig.start_both();
    let mut master = std::fs::File::from(port.master);
    let mut seen = String::new();
    let mut shown = |what: &str, typed: &str| {
        master.write_all(typed.as_bytes()).unwrap();
        wait(what, || {
            let readable = poll(&mut [PollFd::new(master.as_fd(), PollFlags::POLLIN)], 0_u16) == Ok(1);
            let mut chunk = [0; 4096];
            if let Some(count) = readable.then(|| master.read(&mut chunk).unwrap_or(0)) {
                seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
            seen.contains(what)
        });
        seen.clear();
    };
    shown("a ", "\r");
    shown("would take over at once.", "status\r");
    let confined = rig.status("a").unwrap().console_confinement;
    assert!(confined.as_ref().is_some_and(|by| by.contains("capabilities")), "{confined:?}");
    assert_eq!(rig.status("b").unwrap().console_confinement, None, "its board names no port");
}
