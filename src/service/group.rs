//! All processes of one service, wherever they have hidden.
//!
//! Four handles: a cgroup v2 directory where the kernel has one for us (cgroup.kill ends everything at once, cgroups(7)
//! and kernel Documentation/admin-guide/cgroup-v2.rst); always a mark in the environment, which offspring inherits
//! through fork, setsid and double fork; and the session of the main process, because a program that sets its own title
//! writes over its environment (nginx does, and its mark is gone); and descent, because a program that begins a new session
//! for somebody (su, sudo, runuser with PAM; PostgreSQL for each client) leaves all three behind. The first two have a name
//! that a later life of the daemon knows again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The mark's variable.
pub const MARK: &str = "TWOBOX_SERVICE";

/// The processes of one service.
pub struct Group {
    /// Value of [`MARK`]: the daemon's instance and the service, unique on the box.
    mark: String,
    cgroup: Option<Cgroup>,
    /// Session of the main process, until the group is empty: a number that nobody uses may be given to others.
    session: Cell<Option<i32>>,
    /// Processes that were found to be ours, with the times of their starts: they stay ours when their parent ends.
    known: RefCell<HashMap<i32, u64>>,
}

struct Cgroup {
    path: PathBuf,
    procs: OwnedFd,
}

impl Group {
    /// The group of `service` under `instance`, which no other daemon on this box has. Makes its control group if it can.
    #[must_use]
    pub fn new(instance: &str, service: &str) -> Self {
        let mark = format!("{instance}/{service}");
        let cgroup = own_cgroup().and_then(|own| {
            let path = own.join(format!("twobox.{}", mark.replace('/', ".")));
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
                _ => {}
            }
            let procs = OpenOptions::new().write(true).open(path.join("cgroup.procs")).ok()?;
            Some(Cgroup { path, procs: procs.into() })
        });
        Self { mark, cgroup, session: Cell::new(None), known: RefCell::default() }
    }

    /// The mark that a process of this group carries.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Where a process of this group writes itself.
    #[must_use]
    pub fn procs(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.as_ref().map(|cgroup| cgroup.procs.as_fd())
    }

    /// The main process has started, as the leader of its own session.
    pub fn started(&self, leader: u32) {
        self.session.set(i32::try_from(leader).ok());
    }

    /// Gets to know what the main process and its offspring have started, while it can be asked: what is left when they end
    /// tells nobody whose it was.
    pub fn look(&self) {
        let mut known = self.known.borrow_mut();
        known.retain(|pid, started| Process::read(*pid).is_some_and(|process| process.started == *started));
        let mut asked: Vec<i32> = self.session.get().into_iter().chain(known.keys().copied()).collect();
        while let Some(parent) = asked.pop() {
            for child in children(parent) {
                if let Some(process) = Process::read(child)
                    && known.insert(child, process.started) != Some(process.started)
                {
                    asked.push(child);
                }
            }
        }
    }

    /// Nothing of the service is left (zombies do not count).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let populated = self.cgroup.as_ref().is_some_and(|cgroup| {
            fs::read_to_string(cgroup.path.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
        });
        let is_empty = !populated && self.members().is_empty();
        if is_empty {
            self.session.set(None);
            self.known.borrow_mut().clear();
        }
        is_empty
    }

    /// Ends all of it now. What forks meanwhile is found by the next call: repeat until [`Group::is_empty`].
    pub fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            // ENOENT before Linux 5.14; the other handles find them too.
            let _ = fs::write(cgroup.path.join("cgroup.kill"), "1");
        }
        self.signal(Signal::SIGKILL);
    }

    /// Sends all of it a signal.
    pub fn signal(&self, signal: Signal) {
        for pid in self.members() {
            match kill(pid, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => log::warn!("{}: process {pid} takes no {signal}: {errno}", self.mark),
            }
        }
    }

    /// Living processes of ours. Their number may be given away between reading and signalling only if the process ends
    /// and as many others start in between as there are numbers (pid_max); a pidfd would not close the window, as it is
    /// opened by number too.
    fn members(&self) -> Vec<Pid> {
        let wanted = format!("{MARK}={}", self.mark);
        let confined =
            self.cgroup.as_ref().and_then(|cgroup| fs::read_to_string(cgroup.path.join("cgroup.procs")).ok());
        let confined: Vec<i32> = confined.iter().flat_map(|text| text.lines()).flat_map(str::parse).collect();
        let mut known = self.known.borrow_mut();
        let (mut ours, mut others): (HashMap<i32, u64>, Vec<Process>) = (HashMap::new(), Vec::new());
        for process in Process::all() {
            let is_ours = known.get(&process.pid) == Some(&process.started)
                || self.session.get() == Some(process.session)
                || confined.contains(&process.pid)
                || carries(process.pid, wanted.as_bytes());
            if is_ours {
                ours.insert(process.pid, process.started);
            } else {
                others.push(process);
            }
        }
        let mut found = usize::MAX;
        while found != ours.len() {
            found = ours.len();
            others.retain(|process| {
                let is_child = ours.contains_key(&process.parent);
                if is_child {
                    ours.insert(process.pid, process.started);
                }
                !is_child
            });
        }
        known.clone_from(&ours);
        ours.into_keys().map(Pid::from_raw).collect()
    }
}

/// Ends all that is left of a session.
pub fn kill_session(leader: u32) {
    let leader = leader.cast_signed();
    for process in Process::all().filter(|process| process.session == leader) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL); // ESRCH: it ended at this moment
    }
}

/// A living process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    /// In ticks since the boot: a number that is given again has another one.
    started: u64,
}

impl Process {
    fn all() -> impl Iterator<Item = Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?))
    }

    fn read(pid: i32) -> Option<Process> {
        Process::of_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Out of a line of /proc/PID/stat, unless the process is a zombie (proc_pid_stat(5)). The second field may hold anything,
    /// a closing bracket too.
    fn of_stat(pid: i32, stat: &str) -> Option<Process> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(15)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Process { pid, parent, session, started })
    }
}

/// Children of a process, by any of its threads (proc_tid_children(5)); none where the kernel does not tell.
fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    texts
        .flat_map(|text| text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            let _ = fs::remove_dir(&cgroup.path); // EBUSY: something lives in it, and a later life ends that
        }
    }
}

/// A zombie's environment reads as empty, a kernel thread's too.
fn carries(pid: i32, wanted: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == wanted))
}

/// The cgroup v2 directory that this process lives in, if there is one.
fn own_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let of_process = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = Path::new(mount_point(&mounts)?).join(of_process.lines().find_map(|line| line.strip_prefix("0::/"))?);
    own.is_dir().then_some(own)
}

/// Where cgroup v2 is mounted: fifth field of the line whose type, after ` - `, is `cgroup2` (proc_pid_mountinfo(5)).
fn mount_point(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        file_system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_the_program_is_called() {
        let rest = "-1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 100";
        let process = Some(Process { pid: 71, parent: 3, session: 69, started: 4711 });
        assert_eq!(Process::of_stat(71, &format!("71 (nginx) S 3 70 69 0 {rest}")), process);
        assert_eq!(Process::of_stat(71, &format!("71 (a) Z 1) S 3 70 69 0 {rest}")), process);
        assert_eq!(Process::of_stat(71, &format!("71 (nginx) Z 3 70 69 0 {rest}")), None);
        assert_eq!(Process::of_stat(71, "71 (nginx"), None);
        let own = std::process::id().cast_signed();
        assert_eq!(Process::read(own).unwrap().parent, nix::unistd::getppid().as_raw());
    }

    /// Also before anybody has looked, and where the kernel tells nobody's children: with an environment and a session of its own, it
    /// is known by its parent alone.
    #[test]
    #[allow(clippy::disallowed_methods)] // it starts processes, and waits for them
    fn what_a_process_of_ours_has_just_started_is_ours() {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};

        let group = Group::new("unit", "descent");
        let mut main = Command::new("setsid")
            .args(["sh", "-c", "setsid env -i sleep 600 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        group.started(main.id());
        let mut line = String::new();
        BufReader::new(main.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let hidden: i32 = line.trim().parse().unwrap();
        while Process::read(hidden).unwrap().session != hidden {
            std::thread::yield_now();
        }
        let mut members: Vec<i32> = group.members().into_iter().map(Pid::as_raw).collect();
        members.sort_unstable();
        let mut both = [main.id().cast_signed(), hidden];
        both.sort_unstable();
        assert_eq!(members, both);
        group.kill();
        main.wait().unwrap();
        while !group.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(Process::read(hidden), None);
    }

    #[test]
    fn the_mount_point_is_found_among_the_others() {
        let text = "\
            26 21 0:23 / /sys rw,relatime - sysfs sysfs rw\n\
            31 26 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(text), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point("26 21 0:23 / /sys rw - sysfs sysfs rw\n"), None);
    }
}
