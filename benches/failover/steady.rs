//! What a pair at rest costs: memory, processor, allocations, the size of the program.

use std::fs;
use std::path::Path;
use std::thread::sleep;

use nix::unistd::Pid;
use twobox::time::Duration;

use crate::pair::Pair;
use crate::rig::counting::count;
use crate::rig::{self, Rig, other, wait};

/// How long a pair at rest is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// One box at rest.
pub struct AtRest {
    pub what: String,
    pub resident_kib: u64,
    /// Of these, pages of the program's own file.
    pub of_file_kib: u64,
    pub processor_percent: f64,
}

/// All figures.
pub struct Steady {
    pub boxes: Vec<AtRest>,
    pub program: String,
    pub program_bytes: u64,
    pub allocations: u64,
    pub turns: u64,
}

/// Watches pairs at rest.
pub fn measure() -> Steady {
    let mut boxes = Vec::new();
    for profile in ["fastest", "fast", "default"] {
        eprintln!("steady: {profile}, {} s at rest", WATCHED.as_secs());
        let pair = Pair::new(profile);
        let active = pair.rig.active().unwrap();
        boxes.extend(watch(&pair.rig, profile, active));
    }
    eprintln!("steady: allocations");
    let (allocations, turns) = allocations();
    let program = rig::program();
    let program_bytes = fs::metadata(&program).unwrap().len();
    Steady { boxes, program: program.display().to_string(), program_bytes, allocations, turns }
}

fn watch(rig: &Rig, profile: &str, active: &'static str) -> [AtRest; 2] {
    sleep(Duration::from_secs(1));
    let nodes = [active, other(active)];
    let before = nodes.map(|node| processor_time(rig.pid(node)));
    sleep(WATCHED);
    let after = nodes.map(|node| processor_time(rig.pid(node)));
    [0, 1].map(|at| {
        let status = fs::read_to_string(format!("/proc/{}/status", rig.pid(nodes[at]))).unwrap();
        let used = after[at].saturating_sub(before[at]);
        AtRest {
            what: format!("{profile}, {}", ["active", "standby"][at]),
            resident_kib: kib(&status, "VmRSS:"),
            of_file_kib: kib(&status, "RssFile:"),
            processor_percent: used.as_secs_f64() / WATCHED.as_secs_f64() * 100.0,
        }
    })
}

/// A figure of /proc/PID/status in KiB (proc_pid_status(5)).
fn kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Time on a processor of all threads of a process, to the nanosecond (sched-stats.rst).
fn processor_time(process: Pid) -> Duration {
    let of_thread = |path: &Path| -> u64 {
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
    };
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    Duration::from_nanos(threads.flatten().map(|thread| of_thread(&thread.path())).sum())
}

/// Allocations of the loop's thread in some seconds of peace, and its turns in that time.
fn allocations() -> (u64, u64) {
    let mut rig = Rig::new("count", "profile = \"fast\"");
    rig.launch("b");
    wait("b waits", || rig.role("b").is_some());
    let count = count(&mut rig, "a", "");
    rig.launch("a");
    wait("one of two active", || rig.active().is_some());
    rig.await_touch();
    let turns = |rig: &Rig| rig.status("a").unwrap().cluster_loop.turns;
    let (before, first) = (count.so_far(), turns(&rig));
    sleep(Duration::from_secs(5));
    (count.so_far() - before, turns(&rig) - first)
}
