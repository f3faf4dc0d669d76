//! Repairs as an operator does them: words typed on a box, and what the program says. docs/manual.md shows these very
//! sessions; what differs from run to run (times, counts, ages) is compared by its place only.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use twobox::console::control::{MirrorRequest, Request};
use twobox::console::status::{Role, Status};

use crate::rig::{self, Rig, index, wait};

/// What was typed and shown so far.
pub struct Session {
    text: String,
}

impl Session {
    pub fn new() -> Self {
        Self { text: String::new() }
    }

    /// A line that tells what happens meanwhile.
    pub fn told(&mut self, what: &str) {
        let _ = writeln!(self.text, "# {what}");
    }

    /// Types words on a box; everything that they show.
    pub fn types(&mut self, rig: &Rig, node: &str, words: &str) -> String {
        self.keeps(rig, node, words, |_| true)
    }

    /// Types `status`; of its rows only the answer and the alarms are kept.
    pub fn asks(&mut self, rig: &Rig, node: &str) -> String {
        let mut part = "answer";
        self.keeps(rig, node, "status", |line| {
            if line.starts_with("ALARM") {
                part = "alarms";
            } else if line.is_empty() {
                part = "rows";
            }
            part != "rows"
        })
    }

    /// Types words; only some lines of what they show are kept, `...` stands for the others.
    pub fn keeps(&mut self, rig: &Rig, node: &str, words: &str, mut keep: impl FnMut(&str) -> bool) -> String {
        let role = rig.status(node).map_or("no daemon".to_owned(), |status| format!("{node} {}", status.role.word()));
        let shown = said(rig, node, words);
        let _ = writeln!(self.text, "{role}> {words}");
        let mut left_out = false;
        for line in shown.lines() {
            if keep(line) {
                let _ = writeln!(self.text, "{line}");
                left_out = false;
            } else if !std::mem::replace(&mut left_out, true) {
                let _ = writeln!(self.text, "...");
            }
        }
        shown
    }

    /// Compares with the manual; with UPDATE_SNAPSHOTS set, writes it there.
    pub fn ends(self, rig: &Rig, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manual.md");
        let manual = std::fs::read_to_string(&path).unwrap();
        let (begin, end) =
            (format!("<!-- begin session {name} -->\n\n```\n"), format!("```\n\n<!-- end session {name} -->"));
        let start = manual.find(&begin).unwrap_or_else(|| panic!("no mark {begin}")) + begin.len();
        let stop = start + manual[start..].find(&end).unwrap_or_else(|| panic!("no mark {end}"));
        let dir = rig.dir.display().to_string();
        let text = self.text.replace(&format!("{dir}/data"), "/data").replace(&dir, "/etc/twobox");
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, format!("{}{text}{}", &manual[..start], &manual[stop..])).unwrap();
            return;
        }
        let (now, was) = (skeleton(&text), skeleton(&manual[start..stop]));
        assert!(now == was, "session {name} in docs/manual.md; now it is\n{text}\n{now}\n{was}");
    }
}

/// What the program says to these words on that box.
pub fn said(rig: &Rig, node: &str, words: &str) -> String {
    assert!(index(node) < 2);
    let output = Command::new(env!("CARGO_BIN_EXE_twobox"))
        .arg("--socket")
        .arg(rig.path(node, "socket"))
        .args(words.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).unwrap().replace("twobox: ", "")
}

/// Words without line breaks; every span of time, every number and every name made of hexadecimal digits as `#`.
fn skeleton(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let unit = matches!(word.trim_end_matches([',', '.', ';', ':', ')']), "ms" | "s" | "min" | "h" | "d");
        let number = word.contains(|c: char| c.is_ascii_digit());
        let name = word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        match words.last_mut() {
            Some(last) if unit && last.ends_with('#') => last.push_str(word.trim_start_matches(char::is_alphabetic)),
            _ if number && name => words.push("#".to_owned()),
            _ if number => {
                let mut bare: String = word.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
                while bare.contains("##") || bare.contains("#.#") {
                    bare = bare.replace("##", "#").replace("#.#", "#");
                }
                words.push(bare);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words.join(" ")
}

#[test]
fn only_what_differs_from_run_to_run_is_left_out() {
    let skeletons = ["for 95 s: it was 0.4 ms ago", "for\n2 min: it was 12 ms ago"].map(skeleton);
    assert_eq!(skeletons[0], "for #: it was # ago");
    assert_eq!(skeletons[0], skeletons[1]);
    assert_ne!(skeleton("a serves"), skeleton("b serves"));
    assert_eq!(skeleton("drop 1-f59d-03"), skeleton("drop 12-e-9"));
}

/// A pair of which a serves.
fn a_serves(rig: &mut Rig) {
    if rig.start_both() == "b" {
        rig.order("b", &Request::Switchover { lose_changes: false }).unwrap();
        rig.client.await_answer_from("a");
    }
    all_is_well(rig);
}

/// Both would take over, and no alarm stands.
fn all_is_well(rig: &Rig) {
    rig.await_touch();
    wait("no alarm", || ["a", "b"].iter().all(|node| rig.status(node).is_some_and(|s| s.alarms.is_empty())));
}

#[test]
fn a_hold_is_found_and_ended() {
    let mut rig = Rig::new("held", crate::DEFAULT);
    a_serves(&mut rig);
    let mut session = Session::new();
    session.told("somebody holds b and goes home");
    session.types(&rig, "b", "hold disk swap");
    wait("held", || rig.status("a").is_some_and(|s| s.peer.role == Role::Held));
    session.told("in the night, on a");
    assert!(session.asks(&rig, "a").contains("would NOT work now"));
    let mut answer = true;
    session.keeps(&rig, "a", "peer status", |line| {
        answer &= !line.is_empty();
        answer
    });
    session.types(&rig, "a", "peer release");
    all_is_well(&rig);
    assert!(session.asks(&rig, "a").starts_with("a serves. b would take over at once."));
    session.ends(&rig, "hold");
}

#[test]
fn a_failover_is_understood_and_turned_back() {
    let mut rig = Rig::new("night", crate::DEFAULT);
    a_serves(&mut rig);
    let mut session = Session::new();
    session.told("the power of a fails");
    rig.power_off("a");
    rig.client.await_answer_from("b");
    let silent = |s: &Status| s.alarms.len() == 1 && s.alarms[0].name == "peer-silent";
    wait("the alarm", || rig.status("b").is_some_and(|s| silent(&s)));
    session.asks(&rig, "b");
    wait("the history is written", || said(&rig, "b", "history").contains("failover to b"));
    session.keeps(&rig, "b", "history", |line| line.contains("failover to b"));
    session.told("the power is back, and a boots");
    rig.null_modem.set(crate::WHOLE);
    for link in ["lan", "cross"] {
        rig.ip("a", &format!("link set {link} up"));
    }
    rig.launch("a");
    all_is_well(&rig);
    session.asks(&rig, "b");
    session.types(&rig, "b", "switchover");
    all_is_well(&rig);
    session.asks(&rig, "a");
    session.ends(&rig, "failover");
}

#[test]
fn a_diverged_tree_is_looked_at_and_restored() {
    let mut rig = Rig::new("aside", crate::DEFAULT);
    for node in ["a", "b"] {
        std::fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let mirror = "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1h\"\n";
        let mirror = mirror.replace("DIR", rig.dir.to_str().unwrap());
        std::fs::write(rig.dir.join(format!("site-{node}.toml")), rig::site(&rig.dir, crate::DEFAULT) + &mirror)
            .unwrap();
    }
    let mail = rig.path("a", "data").join("mail");
    std::fs::write(mail.join("monday"), "copied").unwrap();
    a_serves(&mut rig);
    let mut session = Session::new();
    wait("the first cut", || rig.order("a", &sync()).is_ok());
    session.told("a takes mail in that b has not got yet, and crashes; b serves; a comes back as the standby");
    std::fs::write(mail.join("tuesday"), "not copied").unwrap();
    rig.kill("a");
    rig.client.await_answer_from("b");
    rig.launch("a");
    rig.await_touch();
    let aside = |s: &Status| s.alarms.iter().any(|alarm| alarm.name == "mirror-diverged") && s.mirror[0].current;
    wait("set aside", || rig.status("a").is_some_and(|s| aside(&s) && s.alarms.len() == 1));
    session.asks(&rig, "a");
    let list = session.types(&rig, "a", "mirror diverged list");
    let name = list[..4].to_owned(); // the beginning will do
    assert!(session.types(&rig, "a", &format!("mirror diverged show {name}")).contains("tuesday"));
    session.told("the mail is wanted: a must serve, because whatever is put into a copy is set aside again");
    session.types(&rig, "a", "switchover");
    rig.client.await_answer_from("a");
    rig.await_touch();
    assert!(session.types(&rig, "a", &format!("mirror diverged restore {name}")).contains("1 files put back"));
    session.types(&rig, "a", &format!("mirror diverged drop {name}"));
    wait("the copy is equal", || rig.order("a", &sync()).is_ok());
    all_is_well(&rig);
    session.asks(&rig, "a");
    assert_eq!(std::fs::read(rig.path("b", "data").join("mail/tuesday")).unwrap(), b"not copied");
    session.ends(&rig, "diverged");
}

fn sync() -> Request {
    Request::Mirror(MirrorRequest::Sync { tree: None, confirm_delete: false })
}

#[test]
fn a_bad_configuration_is_refused_found_and_repaired() {
    let mut rig = Rig::new("config", crate::DEFAULT);
    a_serves(&mut rig);
    let file = rig.dir.join("site-b.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let check = format!("check --board {} --site {}", rig.path("b", "board.toml").display(), file.display());
    let mut session = Session::new();
    session.told("the site file of b is edited, and b is started again: it does not come up");
    std::fs::write(
        &file,
        good.replace("profile = \"default\"", "profile = \"defualt\"\nlease = \"100ms\"\nleas = \"1s\""),
    )
    .unwrap();
    rig.signal("b", nix::sys::signal::Signal::SIGTERM);
    rig.end_of("b");
    rig.launch("b");
    assert_eq!(rig.end_of("b").code(), Some(2));
    let shown = session.types(&rig, "b", &check);
    assert_eq!(shown.lines().filter(|line| line.contains("site-b.toml:")).count(), 3, "{shown}");
    let differs = |rig: &Rig| {
        rig.status("a").is_some_and(|s| s.takeover.ready && s.alarms.len() == 1 && s.alarms[0].name == "config-differs")
    };
    session.told("it is edited again, and now it is right; the daemon is started");
    std::fs::write(&file, good.replace("profile = \"default\"", "lease = \"600ms\"")).unwrap();
    let keep = |line: &str| line.contains("lease L") || line.starts_with("with gate");
    let explained = session.keeps(&rig, "b", &check, keep);
    assert!(explained.contains("C 651.601ms"), "{explained}");
    rig.launch("b");
    wait("the alarm", || differs(&rig));
    session.asks(&rig, "a");
    session.told("the file of a is copied to b, and the daemon of b is started again");
    std::fs::write(&file, good).unwrap();
    rig.signal("b", nix::sys::signal::Signal::SIGTERM);
    rig.end_of("b");
    rig.launch("b");
    all_is_well(&rig);
    session.asks(&rig, "a");
    session.ends(&rig, "configuration");
}
