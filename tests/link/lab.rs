//! Network namespaces of this test's own, gone when they are dropped.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};

/// One namespace.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    /// An empty one, loopback up, in which IPv6 addresses need no waiting.
    pub fn new() -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tblk{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {name}"));
        let namespace = Namespace { name };
        namespace.ip("link set lo up");
        namespace.set("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
        namespace
    }

    /// Runs `ip` in it.
    pub fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    /// Joins this namespace's `near` with `far` of the other by a veth pair, both up.
    pub fn cable(&self, near: &str, other: &Namespace, far: &str) {
        self.ip(&format!("link add {near} type veth peer name {far} netns {}", other.name));
        self.ip(&format!("link set {near} up"));
        other.ip(&format!("link set {far} up"));
    }

    /// Writes a file of its /proc.
    pub fn set(&self, file: &str, value: &str) {
        self.inside(|| std::fs::write(file, value).unwrap_or_else(|e| panic!("{file}: {e}")));
    }

    /// Does `work` in it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let entered = || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(entered).join().unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(done.success(), "ip {arguments}");
}

/// Asks again until there is an answer.
pub fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Nothing to read within 50 ms.
pub fn quiet(fd: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(50u8)).unwrap() == 0
}
