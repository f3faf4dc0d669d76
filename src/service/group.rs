//! All processes of one service, wherever they have hidden.
//!
//! Three handles: a cgroup v2 directory where the kernel has one for us (cgroup.kill ends everything at once, cgroups(7)
//! and kernel Documentation/admin-guide/cgroup-v2.rst); always a mark in the environment, which offspring inherits
//! through fork, setsid and double fork; and the session of the main process, because a program that sets its own title
//! writes over its environment (nginx does, and its mark is gone). The first two have a name that a later life of the
//! daemon knows again.

use std::cell::Cell;
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
        Self { mark, cgroup, session: Cell::new(None) }
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

    /// Nothing of the service is left (zombies do not count).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let populated = self.cgroup.as_ref().is_some_and(|cgroup| {
            fs::read_to_string(cgroup.path.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
        });
        let is_empty = !populated && self.members().is_empty();
        if is_empty {
            self.session.set(None);
        }
        is_empty
    }

    /// Asks all of it to end.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends all of it now. What forks meanwhile is found by the next call: repeat until [`Group::is_empty`].
    pub fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            // ENOENT before Linux 5.14; the other handles find them too.
            let _ = fs::write(cgroup.path.join("cgroup.kill"), "1");
        }
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
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
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| carries(*pid, wanted.as_bytes()) || self.is_in_session(*pid) || confined.contains(pid))
            .map(Pid::from_raw)
            .collect()
    }

    fn is_in_session(&self, pid: i32) -> bool {
        let Some(session) = self.session.get() else { return false };
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| living_session(&stat) == Some(session))
    }
}

/// The session in a line of /proc/PID/stat, unless the process is a zombie (proc_pid_stat(5)). The second field may hold
/// anything, a closing bracket too.
fn living_session(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let session = fields.nth(2)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(session)
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
    fn the_session_is_read_whatever_the_program_is_called() {
        assert_eq!(living_session("71 (nginx) S 1 70 69 0 -1 4194560"), Some(69));
        assert_eq!(living_session("71 (a) Z 1) S 1 70 69 0 -1"), Some(69));
        assert_eq!(living_session("71 (nginx) Z 1 70 69 0 -1"), None);
        assert_eq!(living_session("71 (nginx"), None);
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
