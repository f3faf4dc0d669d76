//! Starting a process that has nothing of the daemon but its output pipes.
//!
//! The daemon is real-time, locked in memory, spared when memory runs out, and holds raw sockets; a service must inherit none of
//! it. Memory locks end with fork (mlockall(2)); the rest is undone here, between fork and exec.
#![allow(unsafe_code)] // pre_exec: code between fork and exec, raw system calls only

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What to start and how.
pub struct Start<'a> {
    /// Program and arguments.
    pub words: &'a [String],
    /// Root file system for it.
    pub root: Option<&'a Path>,
    /// `NAME=VALUE` by which [`super::group`] finds it and its offspring.
    pub mark: (&'a str, &'a str),
    /// `cgroup.procs` of its control group.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Where its output goes; without one, `/dev/null`.
    pub output: Option<OwnedFd>,
}

/// What a service manager says to this daemon alone: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). A service
/// that took it for its own would tell the manager that the daemon is ready, or stops.
const OF_SERVICE_MANAGER: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// Starts a process in a session of its own with default signals, normal scheduling (SCHED_OTHER, nice 0), no
/// descriptor but standard input, output and error, nothing of the daemon's service manager, and a SIGKILL on the way
/// should this daemon die.
///
/// # Errors
///
/// `InvalidInput` without a program or with a NUL in a path; otherwise what fork, chroot or exec said.
pub fn spawn(start: Start<'_>) -> io::Result<Child> {
    let (program, arguments) = start.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let root = start.root.map(|root| CString::new(root.as_os_str().as_bytes())).transpose()?;
    let cgroup = start.cgroup.map(|fd| fd.as_raw_fd());
    let mut command = Command::new(program);
    command.args(arguments).env(start.mark.0, start.mark.1).stdin(Stdio::null());
    for of_manager in OF_SERVICE_MANAGER {
        command.env_remove(of_manager);
    }
    match start.output {
        Some(pipe) => {
            command.stdout(Stdio::from(pipe.try_clone()?)).stderr(Stdio::from(pipe));
        }
        None => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
    if root.is_some() {
        command.current_dir("/");
    }
    let detach = move || detach(cgroup, root.as_deref());
    // SAFETY: the closure runs in the child between fork and exec; it makes system calls on values prepared before the
    // fork, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(detach) };
    #[allow(clippy::disallowed_methods)] // the one place that starts services
    command.spawn()
}

/// In the child. Only system calls: no allocation, no lock (another thread may have held it at the fork).
fn detach(cgroup: Option<i32>, root: Option<&core::ffi::CStr>) -> io::Result<()> {
    // The kernel's struct sched_param: one int (linux/sched/types.h). musl's own has more fields than that.
    let parameter: libc::c_int = 0;
    // SAFETY: every call takes integers, or pointers to values that live until it returns.
    unsafe {
        check(libc::setsid())?;
        // The raw call: musl's sched_setscheduler always fails with ENOSYS.
        check_long(libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const parameter))?;
        check(libc::setpriority(libc::PRIO_PROCESS, 0, 0))?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL); // EINVAL for SIGKILL, SIGSTOP and the C library's own
        }
        let mut none = core::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut()))?;
        crate::oom::disinherit();
        if let Some(procs) = cgroup {
            let me = b"0";
            // A control group is the better handle, not a condition: the mark finds the process as well.
            let _ = libc::write(procs, me.as_ptr().cast(), me.len());
        }
        if let Some(root) = root {
            check(libc::chroot(root.as_ptr()))?;
            check(libc::chdir(c"/".as_ptr()))?;
        }
        // Marks, does not close: the standard library still needs its pipe to tell us that exec failed. ENOSYS before
        // Linux 5.11; all our descriptors are close-on-exec by themselves.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    Ok(())
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check_long(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
