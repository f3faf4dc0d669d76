//! Site and board files: the examples of the manual parse, and whatever is wrong is said with its line, all at once.

mod errors;
mod files;
mod values;

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
