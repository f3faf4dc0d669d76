//! What a box at rest holds in memory, of the program as it is shipped.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;
use twobox::console::control::Request;

use crate::DEFAULT;
use crate::rig::{Rig, other};
use crate::shipped;

/// What a box at rest holds at most.
const RESIDENT_MAX_KIB: u64 = 4096;
/// The mirror's database is larger than this.
const DATABASE_MIN_KIB: u64 = 256;

/// A range of a process that is mapped from a file.
#[derive(Debug)]
struct Mapping {
    executable: bool,
    size_kib: u64,
    resident_kib: u64,
}

/// A figure in KiB of a text with a line for each (proc_pid_status(5), proc_pid_smaps(5)).
fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The ranges that are mapped from `program`.
fn mappings(process: Pid, program: &Path) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    // The last line of each range.
    let of_program = text.split_inclusive("VmFlags:").filter(|range| range.contains(program.to_str().unwrap()));
    of_program
        .map(|range| Mapping {
            executable: range.lines().any(|line| line.contains(" r-xp ")),
            size_kib: kib(range, "Size:"),
            resident_kib: kib(range, "Rss:"),
        })
        .collect()
}

/// Whatever the loop may run stays in memory. What the daemon never runs does not: not even hand-overs and answers touched it.
#[test]
fn the_shipped_program_is_in_memory_but_for_the_mirrors_database_and_below_four_mebibytes() {
    // First: while there is a rig no other test runs, which a build beside it would disturb.
    let mut rig = Rig::new("memory", DEFAULT);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    shipped::build(root);
    let program = shipped::folder(root).join("twobox");
    rig.programs = [program.clone(), program.clone()];
    let active = rig.start_both();
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(other(active));
    rig.await_touch();
    for node in ["a", "b"] {
        let mappings = mappings(rig.pid(node), &program);
        let (whole, apart): (Vec<_>, Vec<_>) = mappings.iter().partition(|range| range.resident_kib == range.size_kib);
        assert!(whole.iter().any(|range| range.executable && range.size_kib > 1024), "{node}: {mappings:?}");
        let [database] = apart[..] else { panic!("{node}: {mappings:?}") };
        assert!(database.executable && database.size_kib > DATABASE_MIN_KIB, "{node}: {mappings:?}");
        assert_eq!(database.resident_kib, 0, "{node}: {mappings:?}");
        let status = fs::read_to_string(format!("/proc/{}/status", rig.pid(node))).unwrap();
        let resident = kib(&status, "VmRSS:");
        println!("{node}: {resident} KiB");
        assert!(resident <= RESIDENT_MAX_KIB, "{node}: {status}");
    }
}
