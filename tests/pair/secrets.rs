//! Where the pair's key must never be: in the log at any level, in what commands say, in the state, in the environment or the
//! command line of a process, in the memory of a child that does not need it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use twobox::config::key_file;
use twobox::console::control::{MirrorRequest, Request};
use twobox::mirror::channel::link_key;
use twobox::wire::heartbeat::Seal;
use twobox::wire::pair::{BootId, Side};

use crate::rig::{Rig, other, program, site, wait};
use crate::services::processes;
use crate::{DEFAULT, session};

/// The keys of a pair, as bytes and as text. Half of one is too much already.
struct Keys {
    pair: [u8; 32],
    heartbeat: [u8; 32],
    mirror: [u8; 32],
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Keys {
    fn of(rig: &Rig) -> Keys {
        let pair = *key_file::load(&rig.dir.join("pair.key")).unwrap().bytes();
        let heartbeat = Seal::new(Side::A, BootId::new(1).unwrap(), "test", &pair).key;
        Keys { pair, heartbeat, mirror: link_key(hex(&pair).as_bytes()) }
    }

    /// Which of them is in `bytes`.
    fn seen_in(&self, bytes: &[u8]) -> Vec<&'static str> {
        let all =
            [("the pair's key", self.pair), ("the heartbeats' key", self.heartbeat), ("the mirror's key", self.mirror)];
        let shown = |key: &[u8; 32]| {
            let (text, list) = (hex(key), format!("{:?}", &key[..16]));
            has(bytes, &key[..16])
                || has(bytes, &text.as_bytes()[..32])
                || has(bytes, &text.to_uppercase().as_bytes()[..32])
                || has(bytes, list.trim_matches(['[', ']']).as_bytes())
        };
        all.into_iter().filter(|(_, key)| shown(key)).map(|(name, _)| name).collect()
    }

    #[track_caller]
    fn are_not_in(&self, what: &str, bytes: &[u8]) {
        assert_eq!(self.seen_in(bytes), [""; 0], "{what}");
    }
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// All of a process's memory that can be read and is its own.
fn memory(process: &Path) -> Vec<u8> {
    let maps = fs::read_to_string(process.join("maps")).unwrap();
    let file = File::open(process.join("mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        let name = words.nth(3).unwrap_or_default();
        let bounds = range.split_once('-').unwrap();
        let [from, to] = [bounds.0, bounds.1].map(|end| u64::from_str_radix(end, 16).unwrap());
        if !rights.starts_with("rw") || name == "[vvar]" {
            continue;
        }
        // Memory that was never touched cannot be read everywhere; it holds nothing.
        let mut page = [0; 4096];
        for at in (from..to).step_by(page.len()) {
            if file.read_exact_at(&mut page, at).is_ok() {
                all.extend_from_slice(&page);
            }
        }
    }
    all
}

fn files_below(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), found);
        } else if kind.is_file() && entry.path().extension().is_none_or(|end| end != "key") {
            found.push(entry.path());
        }
    }
}

#[test]
fn keys_are_in_no_log_no_answer_no_state_and_no_child_that_does_not_need_them() {
    let mut rig = Rig::new("secret", DEFAULT);
    for node in ["a", "b"] {
        fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let more = "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1s\"\n\
                    [observe]\nlisten = 9140\n[log]\nlevel = \"trace\"\n";
        let more = more.replace("DIR", rig.dir.to_str().unwrap());
        fs::write(rig.dir.join(format!("site-{node}.toml")), site(&rig.dir, DEFAULT) + &more).unwrap();
    }
    let keys = Keys::of(&rig);
    let active = rig.start_both();
    wait("the copy is current", || rig.status(active).is_some_and(|s| s.takeover.ready && s.mirror[0].current));
    rig.order(active, &Request::Mirror(MirrorRequest::Sync { tree: None, confirm_delete: false })).unwrap();
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    rig.await_touch();

    for node in [active, other(active)] {
        for words in ["status", "status --json", "log -n 1000", "history", "peer status", "peer log", "mirror status"] {
            keys.are_not_in(words, session::said(&rig, node, words).as_bytes());
        }
        let daemon = format!("/proc/{}", rig.pid(node));
        let own = memory(Path::new(&daemon));
        assert!(has(&own, &keys.pair), "a search that does not find the key where it is shows nothing");
        assert!(!has(&own, &hex(&keys.pair).as_bytes()[..16]), "the key's text is wiped after use");
        for (word, needs) in
            [("mirror-child", vec!["the mirror's key"]), ("observe-child", vec![]), ("responder.py", vec![])]
        {
            let all = processes(&rig, node, word);
            assert!(!all.is_empty(), "{word}");
            for process in all {
                assert_eq!(keys.seen_in(&memory(&process)), needs, "memory of {word}");
            }
        }
        for process in processes(&rig, node, "") {
            for name in ["environ", "cmdline"] {
                keys.are_not_in(name, &fs::read(process.join(name)).unwrap_or_default());
            }
        }
    }
    let mut files = Vec::new();
    files_below(&rig.dir, &mut files);
    assert!(files.len() > 10);
    for file in files {
        keys.are_not_in(&file.display().to_string(), &fs::read(&file).unwrap_or_default());
    }
}

/// What is said about a key file that is nearly right shows nothing of it.
#[test]
fn what_is_wrong_with_a_key_is_told_without_it() {
    let rig = Rig::new("damaged", DEFAULT);
    let path = rig.dir.join("pair.key");
    let good = fs::read_to_string(&path).unwrap();
    for damaged in [&good[1..], &good.replace('\n', "0\n"), &good.replacen(&good[..1], "g", 1)] {
        fs::write(&path, damaged).unwrap();
        for words in ["check", "run --node a --state /nonexistent"] {
            let output = Command::new(program())
                .args(words.split(' '))
                .arg("--board")
                .arg(rig.path("a", "board.toml"))
                .arg("--site")
                .arg(rig.dir.join("site-a.toml"))
                .output()
                .unwrap();
            let said = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&said);
            assert!(!output.status.success() && text.contains("key"), "{text}");
            assert!(!has(&said, &good.as_bytes()[8..16]), "{text}");
        }
    }
}
