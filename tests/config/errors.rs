//! Whatever is wrong in a text is told at once, each with its line, its key and what to write, and nothing that only follows from it.

use crate::{BOARD, SITE, board_with, parse, site_with};

#[test]
fn every_error_is_told_at_once_with_file_line_key_and_remedy() {
    let site = r#"[pair]
nane = "office"
key-file = "pair.key"
[timing]
lease = "fast"
heartbeat = 50
[node.a]
lan = "192.0.2.2"
[node.b]
wan = "192.0.2.3/24"
[[address]]
ip = "192.0.2.0/24"
[adress]
[[service]]
name = "web"
start = []
"#;
    let (_, problems) = parse(site, BOARD);
    let expected = [
        "site.toml:1: pair.name: is missing; allowed: 1 to 32 of a-z, 0-9 and -",
        "site.toml:2: pair.nane: is unknown; did you mean name?",
        "site.toml:3: pair.key-file: \"pair.key\" is not absolute; allowed: an absolute path",
        "site.toml:5: timing.lease: \"fast\" is no duration such as \"500ms\", \"2s\", \"1m\" or \"1h\"; allowed: a duration from 10ms to 1m",
        "site.toml:6: timing.heartbeat: is of the wrong kind (integer); allowed: a duration from 1ms to 10s",
        "site.toml:8: node.a.lan: \"192.0.2.2\" has no prefix length such as /24; allowed: an address with its prefix length, v4 or v6, or a list of up to 4",
        "site.toml:9: node.b.lan: is missing; allowed: an address with its prefix length, v4 or v6, or a list of up to 4",
        "site.toml:10: node.b.wan: the board has no interface \"wan\"; the board's are: crossover, lan",
        "site.toml:12: address[1].ip: 192.0.2.0 is the address of the network itself; allowed: an address with its prefix length, v4 or v6",
        "site.toml:13: adress: is unknown; did you mean address?",
        "site.toml:16: service[1].start: is empty; allowed: a list of strings, the first an absolute path",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn the_two_nodes_are_asked_for_by_their_names() {
    let without: String = SITE.split("[node.a]").next().unwrap().to_owned();
    assert_eq!(parse(&without, BOARD).1, ["site.toml:1: node: is missing; allowed: sections [node.a] and [node.b]"]);
    let problems = site_with("[node.b]", "[node.c]");
    assert!(problems.iter().any(|problem| problem.ends_with("node.c: is unknown; did you mean b?")), "{problems:?}");
}

/// Nothing of what may follow from it: neither in the same section, nor where another one rests on that.
#[test]
fn a_syntax_error_is_one_error_with_its_key_its_text_and_what_to_write() {
    let start = "start = [\"/usr/sbin/nginx\", \"-g\", \"daemon off;\"]";
    let cases = [
        ("name = \"office\"", "name = \"office", "3: pair.name: `name = \"office` is not TOML: ", "write text within"),
        (
            "name = \"office\"",
            "name = office",
            "3: pair.name: `name = office` is not TOML: ",
            "write text in double quotes",
        ),
        ("name = \"office\"", "name =", "3: pair.name: `name =` is not TOML: ", "write text in double quotes"),
        ("name = \"office\"", "name \"office\"", "3: pair.name: `name \"office\"` is not TOML: ", "write KEY = VALUE"),
        (
            "name = \"office\"",
            "name: \"office\"",
            "3: pair.name: `name: \"office\"` is not TOML: ",
            "write KEY = VALUE",
        ),
        (
            "name = \"office\"",
            "name = \"off\\ice\"",
            "3: pair.name: `name = \"off\\ice\"` is not TOML: ",
            "write a \\ in",
        ),
        (
            "name = \"office\"",
            "name = \"\"\"office",
            "3: pair.name: `name = \"\"\"office` is not TOML: ",
            "end it with the three",
        ),
        (
            "\"/etc/twobox/pair.key\"",
            "\"/etc/twobox",
            "4: pair.key-file: `key-file = \"/etc/twobox` is",
            "write text within",
        ),
        (
            "boot-wait = \"60s\"",
            "boot-wait = 60s",
            "6: pair.boot-wait: `boot-wait = 60s` is not TOML: ",
            "write text in",
        ),
        (
            "prefer = \"a\"",
            "prefer = \"a\"\nprefer = \"b\"",
            "6: pair.prefer: `prefer = \"b\"` is not TOML: duplicate key",
            "write it once",
        ),
        ("[pair]", "[pair", "2: pair: `[pair` is not TOML: ", "write [SECTION]"),
        (
            "profile = \"default\"",
            "lease = 2s\nheartbeat = \"1s\"",
            "9: timing.lease: `lease = 2s` is not TOML: ",
            "write text",
        ),
        (
            "[node.a]\nlan = \"192.0.2.2/24\"",
            "[observe]\nlisten = \"192.0.2.2:9140\"\n[node.a]\nlan = 192.0.2.2/24",
            "14: node.a.lan: `lan = 192.0.2.2/24` is not TOML: ",
            "write text in double quotes",
        ),
        ("[node.b]", "[node.a]", "13: node.a: `[node.a]` is not TOML: duplicate key", "write it once"),
        ("[[address]]", "[[address]", "16: address[1]: `[[address]` is not TOML: ", "write [[SECTION]]"),
        (
            start,
            "start = [\"/usr/sbin/nginx\"",
            "26: service[1].start: `start = [\"/usr/sbin/nginx\"` is not TOML: ",
            "write a list",
        ),
        (start, "start = [\n  \"/x\"\n  \"-g\",\n]", "28: service[1].start: `\"-g\",` is not TOML: ", "write a list"),
        ("every = \"1h\"", "every = 1h", "34: mirror[2].every: `every = 1h` is not TOML: ", "write text in"),
    ];
    for (from, to, what, remedy) in cases {
        let problems = site_with(from, to);
        assert_eq!(problems.len(), 1, "{to}: {problems:#?}");
        let (told, allowed) = problems[0].split_once("; ").unwrap_or((&problems[0], ""));
        assert!(told.starts_with(&format!("site.toml:{what}")), "{problems:#?}");
        assert!(allowed.starts_with(remedy), "{problems:#?}");
    }
    for (from, to, what) in [
        ("[interface.crossover]", "[interface.crossover", "6: interface.crossover: "),
        ("[interface.lan]", "[interface.lan", "4: interface.lan: "),
        ("device = \"/dev/watchdog0\"", "device = /dev/watchdog0", "14: watchdog.device: "),
        ("name = \"qemu-q35\"", "name = qemu-q35", "2: name: "),
    ] {
        let problems = board_with(from, to);
        assert_eq!(problems.len(), 1, "{to}: {problems:#?}");
        assert!(problems[0].starts_with(&format!("board.toml:{what}`{to}` is not TOML: ")), "{problems:#?}");
    }
}

/// The parser goes on after some errors where it likes: neither that nor the error itself hides what else is wrong.
#[test]
fn every_error_is_told_at_once_beside_syntax_errors_in_the_same_section() {
    let site = r#"[pair]
name "office"
nane = "office"
key-file = "pair.key"
prefer = a
boot-wait = "60"
[timing
lease = "fast"
heartbeat = 50ms
[node.a]
lan = 192.0.2.2/24
wan = "192.0.2.2"
[node.b]
[[address]]
ip = "192.0.2.10/24"
mac = "virtual
interface
colour = "red"
[[service]]
name = "Web"
start = [
  "/usr/sbin/nginx"
  "-g",
]
check = ["/usr/bin/wget"
check-interval = "2"
[[service]
name = "mail"
[[mirror]]
tree = "data"
on-change = yes
settle = "2s"
[[mirror]]
exclude = ["*.tmp", *.bak]
tree = "/data"
tree = "/data"
[watchdog]
timeout = "1500ms"
[watchdog]
timeout = "2s"
"#;
    let (_, problems) = parse(site, BOARD);
    let expected = [
        ("2: pair.name: `name \"office\"` is not TOML", "write KEY = VALUE"),
        ("3: pair.nane: is unknown", "did you mean name?"),
        ("4: pair.key-file: \"pair.key\" is not absolute", "allowed: an absolute path"),
        ("5: pair.prefer: `prefer = a` is not TOML", "write text in double quotes"),
        ("6: pair.boot-wait: \"60\" is no duration", "allowed: a duration"),
        ("7: timing: `[timing` is not TOML", "write [SECTION]"),
        ("8: timing.lease: \"fast\" is no duration", "allowed: a duration"),
        ("9: timing.heartbeat: `heartbeat = 50ms` is not TOML", "write text in double quotes"),
        ("11: node.a.lan: `lan = 192.0.2.2/24` is not TOML", "write text in double quotes"),
        ("12: node.a.wan: \"192.0.2.2\" has no prefix length", "allowed: an address"),
        ("16: address[1].mac: `mac = \"virtual` is not TOML", "write text within one pair"),
        ("17: address[1].interface: `interface` is not TOML", "write KEY = VALUE"),
        ("18: address[1].colour: is unknown", "known here: ip, interface, mac"),
        ("20: service[1].name: \"Web\" is no name", "allowed: 1 to 32"),
        ("23: service[1].start: `\"-g\",` is not TOML", "write a list"),
        ("25: service[1].check: `check = [\"/usr/bin/wget\"` is not TOML", "write a list"),
        ("26: service[1].check-interval: \"2\" is no duration", "allowed: a duration"),
        ("27: service[2]: `[[service]` is not TOML", "write [[SECTION]]"),
        ("30: mirror[1].tree: \"data\" is not absolute", "allowed: an absolute path"),
        ("31: mirror[1].on-change: `on-change = yes` is not TOML", "write"),
        ("34: mirror[2].exclude: `exclude = [\"*.tmp\", *.bak]` is not TOML", ""),
        ("36: mirror[2].tree: `tree = \"/data\"` is not TOML: duplicate key", "write it once"),
        ("38: watchdog.timeout: the kernel counts it in whole seconds", "allowed: a duration of whole seconds"),
        ("39: watchdog: `[watchdog]` is not TOML: duplicate key", "write it once"),
    ];
    for (problem, (told, allowed)) in problems.iter().zip(expected) {
        assert!(problem.starts_with(&format!("site.toml:{told}")), "{told}: {problems:#?}");
        assert!(problem.split_once("; ").is_some_and(|(_, remedy)| remedy.starts_with(allowed)), "{problem}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    // A header that can be put right leaves no doubt about what is missing.
    let problems = parse("[pair]\nname = office\n[timing\nlease = \"2s\"\n", BOARD).1;
    for (problem, begin) in
        problems.iter().zip(["1: node: is missing", "1: pair.key-file: is missing", "2: pair.name: `", "3: timing: `"])
    {
        assert!(problem.starts_with(&format!("site.toml:{begin}")), "{problems:#?}");
    }
    assert_eq!(problems.len(), 4, "{problems:#?}");
    // A text of several lines that never ends is one error, and what follows is read.
    let problems = site_with("prefer = \"a\"", "prefer = \"\"\"a\nstale-data = \"hoard\"");
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems[0].starts_with("site.toml:5: pair.prefer: ") && problems[1].contains("6: pair.stale-data: \"hoard\"")
    );
    // How an interface is found stands on the line that cannot be read.
    let problems = board_with("path = \"pci-0000:00:02.0\"", "path = pci-0000:00:02.0\nnmae = \"eth0\"");
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("board.toml:5: interface.lan.path: `"), "{problems:#?}");
    assert!(
        problems[1].starts_with("board.toml:6: interface.lan.nmae: is unknown; did you mean name?"),
        "{problems:#?}"
    );
}

#[test]
fn a_file_that_is_no_configuration_is_told_in_bounds_and_in_no_time() {
    let begun = twobox::clock::now();
    let problems = parse(&"x\n".repeat(100_000), BOARD).1;
    assert!((1..100).contains(&problems.len()), "{}", problems.len());
    assert!(twobox::clock::now().since(begun) < std::time::Duration::from_secs(60));
}

#[test]
fn a_syntax_error_does_not_hide_what_is_wrong_in_other_sections() {
    let problems = site_with("prefer = \"a\"", "prefer = a\n[log]\nlevel = \"lots\"\n[watchdog]\ntimeout = 2s");
    assert_eq!(problems.len(), 4, "{problems:#?}");
    for (problem, begin) in problems.iter().zip([
        "5: pair.prefer: `prefer = a` is",
        "7: log.level: ",
        "9: watchdog.timeout: `",
        "10: watchdog.boot-wait: is unknown",
    ]) {
        assert!(problem.starts_with(&format!("site.toml:{begin}")), "{problems:#?}");
    }
}

#[test]
fn what_is_missing_or_twice_is_named_with_its_line_and_what_is_allowed() {
    let without_pair = SITE.split("[timing]").nth(1).unwrap();
    let problems = parse(&format!("[timing]{without_pair}"), BOARD).1;
    assert_eq!(problems, ["site.toml:1: pair: is missing; allowed: a section [pair]"]);
    let twice = site_with("prefer = \"a\"", "prefer = \"a\"\nprefer = \"b\"");
    assert_eq!(twice, ["site.toml:6: pair.prefer: `prefer = \"b\"` is not TOML: duplicate key; write it once"]);
    let problems = site_with("settle = \"2s\"", "max-delete = true");
    assert!(problems[0].contains("mirror[1].max-delete: is of the wrong kind (boolean)"), "{problems:?}");
}

/// More lines that are no TOML than are shown: the others are counted, and the sum is right.
#[test]
fn errors_that_are_not_shown_are_counted() {
    let broken = |count: usize| {
        let lines: String = (0..count).map(|n| format!("k{n} =\n")).collect();
        let (_, problems) = twobox::config::parse(("site.toml", &format!("[pair]\n{lines}")), ("board.toml", BOARD));
        let told: usize = problems.iter().map(|problem| problem.stands_for).sum();
        (problems.iter().map(ToString::to_string).collect::<Vec<_>>(), told)
    };
    let (shown, told) = broken(50);
    assert_eq!((shown.len(), told), (33, 50), "{shown:#?}");
    assert!(shown[31].starts_with("site.toml:33: pair.k31: "), "{shown:#?}");
    assert_eq!(shown[32], "site.toml:34: and 18 more from here on; they are told when those above are right");
    // As many as are shown: nothing is left.
    let (shown, told) = broken(32);
    assert!(told == shown.len() && shown.iter().all(|line| !line.contains("more from here on")), "{shown:#?}");
}
