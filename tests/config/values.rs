//! Values that contradict each other or pass a limit, of the timings, the addresses, the board and the mirror.

use nix::sys::signal::Signal;
use twobox::config::digest::of_site;
use twobox::config::site::MaxDelete;

use crate::{BOARD, SITE, board_with, parse, site_with};

#[test]
fn what_breaks_an_inequality_is_refused_where_it_stands() {
    let timing = "profile = \"default\"";
    assert_eq!(
        site_with(timing, "profile = \"default\"\nlease = \"140ms\""),
        [
            "site.toml:10: timing.lease: 140ms is less than three heartbeats of 50ms; allowed: lease >= 150ms, or shorter heartbeats"
        ]
    );
    assert_eq!(
        site_with(timing, "witness = \"32ms\""),
        [
            "site.toml:9: timing.witness: 32ms is more than a sixteenth of the lease of 500ms; allowed: witness <= 31.25ms, or a longer lease"
        ]
    );
    assert_eq!(
        site_with(timing, "witness = \"15ms\""),
        [
            "site.toml:9: timing.witness: 15ms is less than a thirty-second of the lease of 500ms; allowed: witness >= 15.625ms, or a shorter lease"
        ]
    );
    assert_eq!(
        site_with("boot-wait = \"60s\"", "boot-wait = \"5s\""),
        [
            "site.toml:6: pair.boot-wait: 5s is shorter than the longest claim wait of 6.556s; allowed: boot-wait >= 6.556s"
        ]
    );
    // 2 x 110 % of 2 s and 0.1 s.
    assert_eq!(
        site_with("[timing]", "[watchdog]\nlongest-bound = \"4s\"\n[timing]"),
        [
            "site.toml:9: watchdog.longest-bound: 4s is shorter than the bound of this board's watchdog of 4.5s; allowed: longest-bound >= 4.5s, on both boxes"
        ]
    );
    let slow = board_with("\"/dev/watchdog0\"", "\"/dev/watchdog0\"\nfiring = \"225%\"\nreset-time = \"1s\"");
    assert!(slow[0].contains("watchdog.longest-bound: 9s is shorter") && slow.len() == 1, "{slow:?}");
    for profile in ["fast", "fastest"] {
        assert_eq!(site_with(timing, &format!("profile = \"{profile}\"")), [""; 0]);
    }
}

#[test]
fn limits_hold_and_are_named() {
    let many = |header: &str, count: usize, body: &dyn Fn(usize) -> String| {
        (0..count).map(|i| format!("[[{header}]]\n{}\n", body(i))).collect::<String>()
    };
    let refused = |extra: &str| parse(&format!("{SITE}\n{extra}"), BOARD).1;
    let witness = |i: usize| format!("ip = \"192.0.2.{}\"", 100 + i);
    assert_eq!(refused(&many("witness", 7, &witness)), [""; 0]);
    assert!(refused(&many("witness", 8, &witness))[0].ends_with("witness[9]: is one too many; allowed: at most 8"));
    let address = |i: usize| format!("ip = \"192.0.2.{}/24\"", 100 + i);
    assert_eq!(refused(&many("address", 15, &address)), [""; 0]);
    assert!(refused(&many("address", 16, &address))[0].contains("allowed: at most 16"));
    let service = |i: usize| format!("name = \"s{i}\"\nstart = [\"/bin/s\"]");
    assert_eq!(refused(&many("service", 31, &service)), [""; 0]);
    assert!(refused(&many("service", 32, &service))[0].contains("allowed: at most 32"));
    let tree = |i: usize| format!("tree = \"/data/{i}\"");
    assert_eq!(refused(&many("mirror", 62, &tree)), [""; 0]);
    assert_eq!(refused(&many("mirror", 70, &tree)).len(), 1);
}

#[test]
fn one_address_has_one_owner() {
    let problems = site_with("ip = \"192.0.2.1\"", "ip = \"192.0.2.3\"");
    assert_eq!(
        problems,
        ["site.toml:22: witness[1].ip: 192.0.2.3 is also an own address of b; allowed: every address once"]
    );
    let problems = site_with("ip = \"192.0.2.10/24\"", "ip = \"2001:db8::3/64\"");
    assert!(problems[0].contains("is also an own address of b"), "{problems:?}");
}

#[test]
fn an_end_of_an_own_network_is_no_service_address_and_no_witness() {
    for (from, to, what) in [
        (
            "192.0.2.10/24",
            "192.0.2.255/32",
            "address[1].ip: 192.0.2.255 is the broadcast address of the network of 192.0.2.2/24",
        ),
        (
            "192.0.2.10/24",
            "192.0.2.0/16",
            "address[1].ip: 192.0.2.0 is the address of the network of 192.0.2.2/24 itself",
        ),
        ("ip = \"192.0.2.1\"", "ip = \"192.0.2.255\"", "witness[1].ip: 192.0.2.255 is the broadcast address of"),
    ] {
        let problems = site_with(from, to);
        assert!(problems.len() == 1 && problems[0].contains(what), "{to}: {problems:?}");
    }
    assert_eq!(site_with("192.0.2.10/24", "198.51.100.255/16"), [""; 0], "another network's");
}

#[test]
fn a_witness_can_be_asked_by_both_boxes() {
    let problems = site_with("ip = \"192.0.2.1\"", "ip = \"2001:db8::1\"");
    assert_eq!(
        problems,
        [
            "site.toml:22: witness[1].ip: a has no own address on \"lan\" from which 2001:db8::1 could be asked; allowed: a \
          witness of the family, v4 or v6, of an own address of both boxes"
        ]
    );
}

#[test]
fn values_of_the_board_are_checked_too() {
    assert!(board_with("baud = 115200", "baud = 115201")[0].contains("115201 is no speed of a serial port"));
    assert!(board_with("path = \"pci-0000:00:02.0\"", "")[0].contains("interface.lan: says not how to find"));
    assert!(board_with("[interface.lan]", "[interface.wan]")[0].contains("has no section [interface.lan]"));
    assert!(board_with("device = \"/dev/ttyS1\"", "")[0].contains("serial.null-modem.device: is missing"));
    assert!(board_with("PARTLABEL=", "PARTLABLE=")[0].contains("\"PARTLABLE=\" is unknown"));
    assert!(board_with("[serial.null-modem]", "[serial.nullmodem]")[0].contains("did you mean null-modem?"));
}

#[test]
fn a_stop_signal_has_a_name_and_both_boxes_the_same() {
    let with = |name: &str| SITE.replace("name = \"web\"", &format!("name = \"web\"\nstop-signal = \"{name}\""));
    let (parsed, problems) = parse(&with("SIGINT"), BOARD);
    assert_eq!((parsed.site.services[0].stop_signal, problems.len()), (Signal::SIGINT, 0));
    let digest = |text: &str| of_site(&parse(text, BOARD).0.site);
    assert!(digest(&with("SIGINT")) != digest(SITE) && digest(&with("SIGTERM")) == digest(SITE));
    let problems = parse(&with("INT"), BOARD).1;
    assert!(problems.len() == 1 && problems[0].contains("service[1].stop-signal: \"INT\" is unknown"), "{problems:?}");
    assert!(problems[0].contains("allowed: \"SIGTERM\", \"SIGINT\""), "{problems:?}");
}

#[test]
fn contradictions_of_the_mirror_are_refused() {
    assert!(site_with("on-change = true", "every = \"1m\"\non-change = true")[0].contains("allowed: one of the two"));
    assert!(site_with("on-change = true", "")[0].contains("no meaning without on-change"));
    assert!(site_with("tree = \"/data\"", "tree = \"/data/mail/\"")[0].contains("is listed twice"));
    assert!(site_with("every = \"1h\"", "max-delete = \"101%\"")[0].contains("out of range"));
    assert!(site_with("every = \"1h\"", "max-delete = -1")[0].contains("out of range"));
    let (parsed, problems) = parse(&SITE.replace("every = \"1h\"", "max-delete = 1000"), BOARD);
    assert_eq!((parsed.site.trees[1].max_delete, problems.len()), (MaxDelete::Entries(1000), 0));
    assert!(site_with("[[witness]]", "[mirror-link]\nport = 65536\n[[witness]]")[0].contains("65536 is no port"));
}
