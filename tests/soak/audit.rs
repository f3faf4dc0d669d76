//! What must be true after every step, whatever was done.

use std::collections::BTreeMap;
use std::fs;

use twobox::console::control::Request;
use twobox::console::status::{Role, Status};
use twobox::time::{Duration, Instant};

use crate::rig::{Rig, SERVICE, must, wait, wait_for};
use crate::totals::Seen;

/// Most descriptors of a daemon, and most memory (KiB). Far above what was ever seen, far below a leak of hours.
const MOST_DESCRIPTORS: u64 = 64;
const MOST_MEMORY: u64 = 24 * 1024;
/// How long a pair may need to be whole again: the hold-down after a fault of a box's own is 30 s of it.
const RECOVERY: Duration = Duration::from_secs(90);
/// Processes of a box: the daemon, its mirror, the service, and whatever is just starting or ending.
const MOST_PROCESSES: usize = 6;

/// What is remembered from one step to the next.
pub struct Audit {
    term: u64,
    since: Instant,
}

impl Audit {
    /// Begins with a healthy pair.
    pub fn begin(rig: &mut Rig) -> Self {
        rig.capture.take();
        rig.client.take();
        Self { term: term(rig), since: twobox::clock::now() }
    }

    /// Waits until the pair is well again, then looks at everything.
    pub fn after(&mut self, rig: &mut Rig) -> Seen {
        let mut seen = Seen::default();
        let mut exits = Vec::new();
        let mut released = 0;
        wait_for(RECOVERY, "both boxes are well again", || {
            for node in ["a", "b"] {
                if let Some(status) = rig.ended(node) {
                    exits.push(status.to_string());
                }
                // Whoever left, was reset or lost power starts again, as its init would have it.
                if !rig.runs(node) {
                    rig.launch(node);
                }
            }
            let both: Vec<Status> = ["a", "b"].iter().filter_map(|node| rig.status(node)).collect();
            for status in both.iter().filter(|status| waits_for_release(status)) {
                println!("  {} is held: {}", status.node, status.held_by.join(", "));
                if rig.order(&status.node, &Request::Release).is_ok() {
                    released += 1;
                }
            }
            both.len() == 2 && both.iter().all(is_well) && both.iter().filter(|s| s.role == Role::Active).count() == 1
        });
        // An abort (a panic, an assertion) is never right.
        for exit in &exits {
            assert!(!exit.contains("SIGABRT") && !exit.contains("SIGSEGV"), "a daemon ended with {exit}");
        }
        let active = rig.active().expect("one serves");
        rig.client.await_answer_from(active);
        self.owners(rig, active, &mut seen);
        for node in ["a", "b"] {
            self.resources(rig, node, &mut seen);
            let held = rig.ip(node, "-4 addr show dev lan").contains(SERVICE);
            assert_eq!(held, node == active, "the service address on {node}");
        }
        seen.exits = exits;
        seen.released = released;
        seen.diverged = ["a", "b"]
            .iter()
            .filter_map(|node| rig.status(node))
            .flat_map(|s| s.mirror)
            .map(|tree| tree.diverged)
            .sum();
        seen
    }

    /// Never two owners: the wire changes hands at most as often as a term began, and the status says who has it now.
    fn owners(&mut self, rig: &Rig, active: &str, seen: &mut Seen) {
        seen.outage = rig.client.longest_outage(self.since);
        self.since = twobox::clock::now();
        rig.client.take();
        let frames = rig.capture.take();
        let mut owners: Vec<&str> = frames.iter().map(|frame| frame.from).collect();
        owners.dedup();
        let now = term(rig);
        assert!(now >= self.term, "the term went back from {} to {now}", self.term);
        seen.terms = now - self.term;
        seen.owner_changes = owners.len().saturating_sub(1) as u64;
        assert!(seen.owner_changes <= seen.terms, "{owners:?} on the wire in {} terms", seen.terms);
        assert_eq!(owners.last(), Some(&active), "who holds the address on the wire, and who says that it serves");
        self.term = now;
    }

    fn resources(&self, rig: &Rig, node: &str, seen: &mut Seen) {
        let pid = rig.pid(node);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let fields: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
        let memory: u64 = fields["VmRSS"].trim().trim_end_matches(" kB").parse().unwrap();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
        assert!(memory <= MOST_MEMORY, "{node}: {memory} KiB of memory");
        assert!(descriptors <= MOST_DESCRIPTORS, "{node}: {descriptors} descriptors");
        seen.memory = seen.memory.max(memory);
        seen.descriptors = seen.descriptors.max(descriptors);
        let count = || must(&format!("ip netns pids {}-{node}", rig.name)).lines().count();
        wait(&format!("no process of {node} is left over"), || count() <= MOST_PROCESSES);
        let belts = must(&format!("nsenter --net=/run/netns/{}-{node} nft list tables", rig.name)).lines().count();
        assert!(belts <= 1, "{belts} tables of packet filters on {node}");
    }
}

fn is_well(status: &Status) -> bool {
    is_whole(status)
        && status.services.iter().all(|service| service.state == twobox::console::status::ServiceState::Running)
}

/// The box has its place, and every way and belt.
pub fn is_whole(status: &Status) -> bool {
    matches!(status.role, Role::Active | Role::Standby)
        && status.links.iter().all(|link| link.up)
        && status.takeover.ready
        && status.fence.fenced
        && status.witnesses.iter().all(|witness| witness.reachable && witness.reflects)
}

/// It holds itself until an operator has looked; every other hold ends by itself.
pub fn waits_for_release(status: &Status) -> bool {
    status.held_by.iter().any(|why| why.contains("`release` ends it"))
}

fn term(rig: &Rig) -> u64 {
    ["a", "b"].iter().filter_map(|node| rig.status(node)).map(|status| status.term).max().expect("a status")
}
