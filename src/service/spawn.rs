//! Starting a process that has nothing of the daemon but its output pipes.
//!
//! The daemon is real-time, locked in memory, spared when memory runs out, and holds raw sockets; a service must inherit none of
//! it. Memory locks end with fork (mlockall(2)); the rest is undone here, between fork and exec.
//!
//! Nobody waits for the exec: on a disk that hangs it may take for ever, and whoever started the check of a service on that
//! disk is the one who has to notice. The standard library's way of starting a program waits.
#![allow(unsafe_code)] // fork, and raw system calls between fork and exec

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::pipe2;
use smol::Async;
use smol::io::AsyncReadExt;

/// What to start and how.
pub struct Start<'a> {
    /// Program, by its whole path, and arguments.
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

/// A process on its way to being the program.
#[derive(Debug)]
pub struct Started {
    id: u32,
    /// Closed by the exec; before that comes the error that stops it.
    exec: Async<File>,
}

/// What a service manager says to this daemon alone: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). A service
/// that took it for its own would tell the manager that the daemon is ready, or stops.
const OF_SERVICE_MANAGER: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// The descriptor by which the process between fork and exec says what stops it.
const SAYS: libc::c_int = 3;

impl Started {
    /// Its number, which is that of its session too.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits until it is the program, or has ended before.
    ///
    /// # Errors
    ///
    /// What chroot or exec said.
    pub async fn runs(&self) -> io::Result<()> {
        let mut errno = [0; size_of::<i32>()];
        match (&self.exec).read_exact(&mut errno).await {
            Ok(()) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Starts a process in a session of its own with default signals, normal scheduling (SCHED_OTHER, nice 0), no
/// descriptor but standard input, output and error, nothing of the daemon's service manager, and a SIGKILL on the way
/// should this daemon die. Returns at once; [`Started::runs`] tells what became of it.
///
/// # Errors
///
/// `InvalidInput` without a program or with a NUL in a word or a path; otherwise what pipe and fork said.
pub fn spawn(start: Start<'_>) -> io::Result<Started> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    let (exec, says) = pipe2(OFlag::O_CLOEXEC)?;
    let exec = Async::new(File::from(exec))?;
    let words = start.words.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>()?;
    let program = words.first().ok_or(io::ErrorKind::InvalidInput)?;
    let environment = environment(start.mark)?;
    let root = start.root.map(|root| CString::new(root.as_os_str().as_bytes())).transpose()?;
    let (arguments, variables) = (pointers(&words), pointers(&environment));
    let image = Image {
        program,
        arguments: &arguments,
        environment: &variables,
        root: root.as_deref(),
        cgroup: start.cgroup.map(|fd| fd.as_raw_fd()),
        input: nothing.as_raw_fd(),
        output: start.output.as_ref().map_or(nothing.as_raw_fd(), AsRawFd::as_raw_fd),
        says: says.as_raw_fd(),
        daemon: std::process::id(),
    };
    // A handler of ours that ran in the child would ring the daemon's bell.
    let former = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the child makes system calls on values prepared before the fork, and neither allocates nor takes a lock; it
    // ends in exec or _exit.
    let id = match unsafe { libc::fork() } {
        0 => image.run(),
        id => Errno::result(id),
    };
    former.thread_set_mask()?;
    Ok(Started { id: id?.cast_unsigned(), exec })
}

/// What this process was given but for what is its own affair, and the mark.
fn environment((mark, value): (&str, &str)) -> io::Result<Vec<CString>> {
    let inherited =
        std::env::vars_os().filter(|(name, _)| OF_SERVICE_MANAGER.iter().all(|of| name != of) && name != mark);
    let variables = inherited.chain([(OsString::from(mark), OsString::from(value))]);
    let joined = variables.map(|(name, value)| {
        CString::new([name.as_os_str(), OsStr::new("="), value.as_os_str()].map(OsStr::as_bytes).concat())
    });
    Ok(joined.collect::<Result<_, _>>()?)
}

/// As execve(2) takes them.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([core::ptr::null()]).collect()
}

/// All that the child needs.
struct Image<'a> {
    program: &'a CStr,
    arguments: &'a [*const libc::c_char],
    environment: &'a [*const libc::c_char],
    root: Option<&'a CStr>,
    cgroup: Option<libc::c_int>,
    input: libc::c_int,
    output: libc::c_int,
    says: libc::c_int,
    /// Whose child it is.
    daemon: u32,
}

impl Image<'_> {
    /// In the child. Only system calls: no allocation, no lock (another thread may have held it at the fork).
    fn run(&self) -> ! {
        let (errno, says) = match self.detach() {
            Ok(says) => {
                // SAFETY: the lists end with a null, and what they point to lives.
                unsafe { libc::execve(self.program.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr()) };
                (Errno::last_raw(), says)
            }
            Err(errno) => (errno, self.says),
        };
        let errno = errno.to_ne_bytes();
        // SAFETY: the bytes live until the call returns; then the process ends without running anything of the daemon's.
        unsafe {
            libc::write(says, errno.as_ptr().cast(), errno.len());
            libc::_exit(127)
        }
    }

    /// Leaves everything that is the daemon's. Returns where an error is told from now on.
    fn detach(&self) -> Result<libc::c_int, i32> {
        // The kernel's struct sched_param: one int (linux/sched/types.h). musl's own has more fields than that.
        let parameter: libc::c_int = 0;
        // SAFETY: every call takes integers, or pointers to values that live until it returns.
        unsafe {
            check(libc::setsid())?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if libc::getppid().cast_unsigned() != self.daemon {
                return Err(libc::ESRCH); // it died before it could be heard
            }
            // The raw call: musl's sched_setscheduler always fails with ENOSYS.
            let ordinary = libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const parameter);
            check(if ordinary < 0 { -1 } else { 0 })?;
            // EACCES: whoever may not set it was started as a nice one.
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL); // EINVAL for SIGKILL, SIGSTOP and the C library's own
            }
            let mut none = core::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut()))?;
            crate::oom::disinherit();
            if let Some(procs) = self.cgroup {
                let me = b"0";
                // A control group is the better handle, not a condition: the mark finds the process as well.
                let _ = libc::write(procs, me.as_ptr().cast(), me.len());
            }
            for (from, to) in [(self.input, 0), (self.output, 1), (self.output, 2)] {
                check(libc::dup2(from, to))?;
            }
            if let Some(root) = self.root {
                check(libc::chroot(root.as_ptr()))?;
                check(libc::chdir(c"/".as_ptr()))?;
            }
            // Everything else goes now and not with the exec: who waits for a disk there would hold the daemon's watchdog
            // and sockets. ENOSYS before Linux 5.9; all our descriptors are close-on-exec by themselves.
            if self.says != SAYS {
                check(libc::dup3(self.says, SAYS, libc::O_CLOEXEC))?;
            }
            libc::syscall(libc::SYS_close_range, SAYS + 1, libc::c_uint::MAX, 0);
        }
        Ok(SAYS)
    }
}

fn check(result: i32) -> Result<(), i32> {
    if result < 0 { Err(Errno::last_raw()) } else { Ok(()) }
}
