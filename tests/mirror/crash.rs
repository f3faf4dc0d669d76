//! Death at every step: after a kill anywhere the receiving tree is cut N or cut N+1, whole, and the next cycle heals.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use twobox::mirror::control::{LinkKey, Settings};
use twobox::mirror::publish;

use crate::compare::{assert_equal, describe, differences};
use crate::mutate::{Random, mutate};
use crate::rig::{Pair, TERM_1};

/// A free port on loopback; another process may take it before we do, then the test fails loudly.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Both sides must name the tree alike: the children see it through a mount of their own.
pub struct Children {
    home: PathBuf,
    places: [PathBuf; 2],
    mounted: PathBuf,
    pub address: SocketAddr,
}

impl Children {
    pub fn new(pair: &Pair) -> Self {
        let mounted = pair.home.join("mnt");
        fs::create_dir_all(&mounted).unwrap();
        fs::write(pair.home.join("key"), "ab".repeat(32)).unwrap();
        let mut tree = pair.settings("a");
        tree.tree = mounted.join("tree");
        tree.store = Some(mounted.clone());
        let settings = Settings {
            key: LinkKey::default(),
            port: 0,
            trees: vec![tree],
            bytes_per_second: None,
            lan_bytes_per_second: None,
        };
        fs::write(pair.home.join("config"), serde_json::to_vec(&settings).unwrap()).unwrap();
        let places = ["a", "b"].map(|side| pair.place(side));
        Children { home: pair.home.clone(), places, mounted, address: free_port() }
    }

    /// The same, but side b is that of a copy of its disk.
    pub fn of_copy(pair: &Pair, disk: &Path) -> Self {
        let children = Self::new(pair);
        Children { places: [pair.place("a"), disk.join("b")], ..children }
    }

    /// Starts a side in a mount namespace where its directory lies at the common path.
    pub fn start(&self, side: &str, role: &str, more: &[&str]) -> Child {
        self.command(side, role, more).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// What starts it.
    pub fn command(&self, side: &str, role: &str, more: &[&str]) -> Command {
        let (home, place) = (&self.home, &self.places[usize::from(side == "b")]);
        let script = format!(
            "mount --bind {} {} && exec {} mirror-child --role {role} --generation 1:a --key {} --config {} {} {} {}",
            place.display(),
            self.mounted.display(),
            env!("CARGO_BIN_EXE_twobox"),
            home.join("key").display(),
            home.join("config").display(),
            if role == "send" { "--connect" } else { "--listen" },
            self.address,
            more.join(" ")
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]);
        command
    }

    /// Finishes what a killed receiver began, as its next start does.
    pub fn restart(&self) {
        let mut child = self.start("b", "receive", &[]);
        Self::settle(&mut child);
        end(child);
    }

    /// One cycle; the receiver with these arguments more. Has the receiver died, is the sender done?
    pub fn cycle(&self, receiver: &[&str]) -> (bool, bool) {
        let mut receiver = self.start("b", "receive", receiver);
        Self::settle(&mut receiver);
        let sender = self.start("a", "send", &["--once"]).wait_with_output().unwrap();
        let done = sender.status.success();
        // A receiver that is dying has cut the connection before its parent hears of its end.
        for _ in 0..200 {
            if done || receiver.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let died = receiver.try_wait().unwrap().is_some();
        end(receiver);
        if !done && !died {
            println!("sender: {}", String::from_utf8_lossy(&sender.stdout));
        }
        (died, done)
    }

    /// Waits until the child says that it has taken its role.
    pub fn settle(child: &mut Child) {
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap());
        let mut line = String::new();
        while !line.contains("\"settled\"") {
            line.clear();
            if lines.read_line(&mut line).unwrap() == 0 {
                return;
            }
        }
    }
}

pub fn end(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn a_kill_at_any_step_leaves_a_whole_cut_and_the_next_cycle_heals() {
    let seed = std::env::var("TWOBOX_SEED").map_or(7, |seed| seed.parse().unwrap());
    let mut kills = 0;
    let mut published = 0;
    let wanted: u64 = std::env::var("TWOBOX_KILLS").map_or(200, |n| n.parse().unwrap());
    let mut round = 0;
    while kills < wanted {
        let mut r = Random(seed + round);
        round += 1;
        let pair = Pair::new();
        let children = Children::new(&pair);
        for _ in 0..30 {
            mutate(&pair.a(), &mut r);
        }
        let cycle = |abort: &[&str]| children.cycle(abort);
        let (_, done) = cycle(&[]);
        assert!(done, "seed {seed} round {round}");
        assert_equal(&pair.a(), &pair.b());
        for _ in 0..8 {
            let before = describe(&pair.b());
            for _ in 0..1 + r.below(12) {
                mutate(&pair.a(), &mut r);
            }
            let after = describe(&pair.a());
            // Ever later steps of the same cycle, until one survives them all.
            let mut step = 1 + r.below(4);
            loop {
                let (died, done) = cycle(&["--abort-at", &step.to_string()]);
                if !died {
                    assert!(done, "seed {seed} round {round} step {step}: not killed, but failed");
                    break;
                }
                kills += 1;
                children.restart();
                let now = describe(&pair.b());
                let (old, new) = (differences(&before, &now), differences(&after, &now));
                assert!(
                    old.is_empty() || new.is_empty(),
                    "seed {seed} round {round} step {step}: a mixture\n{}\n---\n{}",
                    old.join("\n"),
                    new.join("\n")
                );
                if new.is_empty() {
                    published += 1;
                    break;
                }
                step += 1 + r.below(5);
            }
            let (_, done) = cycle(&[]);
            assert!(done, "seed {seed} round {round}");
            assert_equal(&pair.a(), &pair.b());
            let aside = pair.home.join("b/.twobox/diverged");
            assert!(!aside.exists(), "seed {seed} round {round}: the receiver's own files were taken for foreign");
        }
    }
    assert!(published > 0, "no kill came after the decision");
    println!("{kills} kills in {round} rounds, {published} of them after the decision");
}

#[test]
fn random_changes_are_followed_exactly() {
    let seed = std::env::var("TWOBOX_SEED").map_or(100, |seed| seed.parse().unwrap());
    for seed in seed..seed + 12 {
        let pair = Pair::new();
        let mut r = Random(seed);
        for cycle in 0..12 {
            for _ in 0..1 + r.below(15) {
                mutate(&pair.a(), &mut r);
            }
            let synced = pair.try_sync("a", "b", TERM_1, false);
            let (sent, _) = synced.unwrap_or_else(|e| panic!("seed {seed} cycle {cycle}: {e}"));
            assert_eq!((sent.blocked, sent.unsettled), (None, 0), "seed {seed} cycle {cycle}");
            let found = differences(&describe(&pair.a()), &describe(&pair.b()));
            assert!(found.is_empty(), "seed {seed} cycle {cycle}: {}", found.join("\n"));
        }
        publish::replay(&pair.side("b"), 0).unwrap();
        let aside = pair.home.join("b/.twobox");
        let sets = twobox::mirror::diverged::list(&aside).unwrap();
        for set in &sets {
            twobox::mirror::diverged::show(&aside, &set.name, |path, _| println!("set aside: {path:?}")).unwrap();
        }
        assert!(sets.is_empty(), "seed {seed}: the receiver took its own files for foreign ones");
    }
}
