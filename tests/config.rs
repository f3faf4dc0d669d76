//! Site and board files: the examples of the manual parse, and whatever is wrong is said with its line, all at once.

use twobox::config::{
    self, Parsed,
    site::{MaxDelete, Schedule},
    timing::Belt,
};

const BOARD: &str = r#"
name = "qemu-q35"
modules = ["virtio_net", "i6300esb", "ext4"]
[interface.lan]
path = "pci-0000:00:02.0"
[interface.crossover]
path = "pci-0000:00:03.0"
[serial.console]
device = "/dev/ttyS0"
baud = 115200
[serial.null-modem]
device = "/dev/ttyS1"
[watchdog]
device = "/dev/watchdog0"
[storage]
data = "PARTLABEL=twobox-data"
"#;

const SITE: &str = r#"
[pair]
name = "office"
key-file = "/etc/twobox/pair.key"
prefer = "a"
boot-wait = "60s"

[timing]
profile = "default"

[node.a]
lan = "192.0.2.2/24"
[node.b]
lan = ["192.0.2.3/24", "2001:db8::3/64"]

[[address]]
ip = "192.0.2.10/24"
interface = "lan"
mac = "virtual"

[[witness]]
ip = "192.0.2.1"

[[service]]
name = "web"
start = ["/usr/sbin/nginx", "-g", "daemon off;"]

[[mirror]]
tree = "/data/mail"
on-change = true
settle = "2s"
[[mirror]]
tree = "/data"
every = "1h"
"#;

fn parse(site: &str, board: &str) -> (Parsed, Vec<String>) {
    let (parsed, problems) = config::parse(("site.toml", site), ("board.toml", board));
    (parsed, problems.iter().map(ToString::to_string).collect())
}

/// The problems of the good site file with one text replaced by another.
fn site_with(from: &str, to: &str) -> Vec<String> {
    assert!(SITE.contains(from), "{from}");
    parse(&SITE.replacen(from, to, 1), BOARD).1
}

/// The problems of the good board file with one text replaced by another.
fn board_with(from: &str, to: &str) -> Vec<String> {
    assert!(BOARD.contains(from), "{from}");
    parse(SITE, &BOARD.replacen(from, to, 1)).1
}

#[test]
fn a_good_pair_of_files_gives_its_values() {
    let (parsed, problems) = parse(SITE, BOARD);
    assert_eq!(problems, [""; 0]);
    assert_eq!(parsed.site.nodes[1].len(), 2);
    assert!(parsed.site.addresses[0].virtual_mac);
    assert_eq!(parsed.site.trees[0].schedule, Schedule::OnChange(std::time::Duration::from_secs(2)));
    assert_eq!(parsed.site.trees[1].max_delete, MaxDelete::Percent(25));
    assert_eq!(parsed.board.null_modem.unwrap().baud, 115_200);
    // W = 2 s fires at 110 %, twice, and 100 ms until the box is silent
    assert_eq!(parsed.plan.fence_bound(Belt::Watchdog), Some(std::time::Duration::from_millis(4500)));
}

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
fn an_appliance_has_its_key_in_one_place_however_the_site_file_is_written() {
    let dir = std::env::temp_dir().join(format!("twobox-config-appliance-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (site, board) = (dir.join("site.toml"), dir.join("board.toml"));
    std::fs::write(&board, BOARD).unwrap();
    let line = "key-file = \"/etc/twobox/pair.key\"";
    assert!(SITE.contains(line));
    for (written, wrong) in [
        (line, None),
        ("\"key-file\" = '/etc/twobox/pair.key' # that one", None),
        ("key-file = \"/root/a & b|c.key\"", Some("/root/a & b|c.key")),
        ("'key-file'=\"/etc/\\u0074wobox/key\"", Some("/etc/twobox/key")),
    ] {
        std::fs::write(&site, SITE.replace(line, written)).unwrap();
        let problems = config::problems_on_appliance(&site, &board);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let expected = wrong.map(|path| {
            format!(
                "pair.key-file: {path} is on no appliance; allowed: /etc/twobox/pair.key, which is the key on the state"
            )
        });
        assert_eq!(told.len(), usize::from(expected.is_some()), "{written}: {told:?}");
        assert!(expected.iter().zip(&told).all(|(expected, told)| told.contains(expected)), "{told:?}");
    }
    std::fs::write(&site, SITE.replace(line, "")).unwrap();
    let told = config::problems_on_appliance(&site, &board);
    assert!(told.len() == 1 && told[0].to_string().contains("key-file: is missing"), "{told:?}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_hides_nothing_of_the_other_one() {
    let dir = std::env::temp_dir().join(format!("twobox-config-half-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (site, board) = (dir.join("site.toml"), dir.join("board.toml"));
    std::fs::write(&site, SITE.replace("lease", "leas").replace("[pair]\n", "[pair]\nnane = \"x\"\n")).unwrap();
    std::fs::write(&board, BOARD.replace("baud = 115200", "baud = 1")).unwrap();
    let told = |site: &std::path::Path, board: &std::path::Path| -> Vec<String> {
        config::load(site, board).unwrap_err().iter().map(ToString::to_string).collect()
    };
    let nowhere = dir.join("nowhere");
    let problems = told(&site, &nowhere);
    assert!(problems[0].contains("nowhere: cannot be read"), "{problems:#?}");
    assert!(problems[1].contains("pair.nane: is unknown"), "{problems:#?}");
    assert!(problems[2].contains("pair.key-file: /etc/twobox/pair.key"), "{problems:#?}");
    assert_eq!(problems.len(), 3, "what the board would have said is not guessed: {problems:#?}");
    let problems = told(&nowhere, &board);
    assert!(problems[0].contains("1 is no speed of a serial port"), "{problems:#?}");
    assert!(problems[1].contains("nowhere: cannot be read") && problems.len() == 2, "{problems:#?}");
    std::fs::remove_dir_all(&dir).unwrap();
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

#[test]
fn the_digest_tells_what_matters_from_what_does_not() {
    let digest = |text: &str| {
        let (parsed, problems) = parse(text, BOARD);
        assert_eq!(problems, [""; 0]);
        config::digest::of_site(&parsed.site)
    };
    let base = digest(SITE);
    // Golden: another version of the program must find the same, or an update box by box would raise an alarm.
    assert_eq!(format!("{base:016x}"), "c6f1fd55523f4158");
    // Spelled out defaults, the place of the key and the log level are no difference.
    let same = SITE.replace("boot-wait = \"60s\"", "boot-wait = \"1m\"\nstale-data = \"serve\"");
    assert_eq!(digest(&same.replace("/etc/twobox/pair.key", "/etc/pair.key")), base);
    assert_eq!(digest(&format!("{SITE}[log]\nlevel = \"debug\"\n")), base);
    assert_eq!(digest(&format!("{SITE}[watchdog]\nlongest-bound = \"9s\"\n")), base);
    assert_ne!(digest(&format!("{SITE}[watchdog]\nlongest-bound = \"10s\"\n")), base);
    assert_ne!(digest(&SITE.replace("192.0.2.10", "192.0.2.11")), base);
    assert_ne!(digest(&SITE.replace("profile = \"default\"", "margin = \"60ms\"")), base);
}

#[test]
fn no_text_whatever_makes_it_panic() {
    proptest::proptest!(|(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), at in 0..SITE.len())| {
        let noise = String::from_utf8_lossy(&bytes).into_owned();
        let mut cut = SITE.to_owned();
        if cut.is_char_boundary(at) {
            cut.insert_str(at, &noise);
        }
        let _ = parse(&cut, BOARD);
        let _ = parse(&noise, &noise);
        let _ = parse(SITE, &noise);
    });
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

#[test]
fn what_is_no_regular_file_is_refused_and_not_read() {
    let dir = std::env::temp_dir().join(format!("twobox-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (pipe, long) = (dir.join("pipe"), dir.join("long.toml"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::fs::write(&long, vec![b'#'; (1 << 20) + 1]).unwrap();
    let good = dir.join("good.toml");
    std::fs::write(&good, BOARD).unwrap();
    for (path, what) in [
        (std::path::Path::new("/dev/zero"), "is no regular file"),
        (&pipe, "is no regular file"),
        (&dir, "is no regular file"),
        (&long, "is too long"),
    ] {
        let problems = config::load(path, &good).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().contains(what), "{}", problems[0]);
    }
    std::fs::remove_dir_all(&dir).unwrap();
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
