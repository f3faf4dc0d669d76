//! Which calls a process can make to the kernel (seccomp(2)): those that are listed here, by what they are for.
//!
//! What is not allowed fails with EPERM; another machine's call numbers (32 bit) end the process. Arguments that are
//! numbers are looked at where that makes the difference: which family a socket is of, whether memory becomes
//! executable, whom a signal is for, which device a node names, whether a watch only hears.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// What calls are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Memory, threads, time, descriptors that are open: every process.
    Base,
    /// Opening and looking at files.
    Read,
    /// Making, changing and removing files, with all of their metadata.
    Write,
    /// Learning of changes to files.
    Watch,
    /// Sockets of the internet families.
    Internet,
    /// Sockets on this machine (AF_UNIX).
    Local,
    /// A terminal's settings.
    Terminal,
}

const BASE: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_clone3, // and then refused in another way, see `filter`
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_gettimeofday,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
];

const READ: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_readlinkat,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_flock,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
];

/// Linux 6.6; the same number on every machine, which C libraries do not all name.
const FCHMODAT2: libc::c_long = 452;

const WRITE: &[libc::c_long] = &[
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

const WATCH: &[libc::c_long] = &[libc::SYS_fanotify_mark, libc::SYS_name_to_handle_at];

/// Of sockets, once they are there.
const SOCKETS: &[libc::c_long] =
    &[libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_connect];

/// Older forms that this machine still has, and that C libraries use.
#[cfg(target_arch = "x86_64")]
const OLD: &[(Group, libc::c_long)] = &[
    (Group::Base, libc::SYS_dup2),
    (Group::Base, libc::SYS_pipe),
    (Group::Base, libc::SYS_poll),
    (Group::Base, libc::SYS_select),
    (Group::Base, libc::SYS_epoll_wait),
    (Group::Base, libc::SYS_arch_prctl),
    (Group::Base, libc::SYS_time),
    (Group::Read, libc::SYS_open),
    (Group::Read, libc::SYS_stat),
    (Group::Read, libc::SYS_lstat),
    (Group::Read, libc::SYS_access),
    (Group::Read, libc::SYS_readlink),
    (Group::Write, libc::SYS_rename),
    (Group::Write, libc::SYS_renameat),
    (Group::Write, libc::SYS_link),
    (Group::Write, libc::SYS_unlink),
    (Group::Write, libc::SYS_mkdir),
    (Group::Write, libc::SYS_rmdir),
    (Group::Write, libc::SYS_symlink),
    (Group::Write, libc::SYS_chmod),
    (Group::Write, libc::SYS_chown),
    (Group::Write, libc::SYS_lchown),
];
#[cfg(target_arch = "aarch64")]
const OLD: &[(Group, libc::c_long)] = &[(Group::Write, libc::SYS_renameat)];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLD: &[(Group, libc::c_long)] = &[];

/// Character devices whose nodes can be made even where they could be opened: whoever does gets nothing that he has not
/// already. Major and minor number. A disk's or the watchdog's node would be a way out of every other bound.
const HARMLESS: &[(u64, u64)] = &[
    (0, 0), // an overlay's mark for a file that is gone
    (1, 3), // null
    (1, 5), // zero
    (1, 7), // full
    (1, 8), // random
    (1, 9), // urandom
    (5, 0), // tty
    (5, 2), // ptmx
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn is(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)
}

/// What ioctl(2) may be asked for (asm-generic/ioctls.h, linux/fs.h, linux/sockios.h). C libraries differ in their type.
mod request {
    pub const BASE: &[u64] = &[0x5421, 0x541b, 0x5451]; // FIONBIO, FIONREAD, FIOCLEX
    pub const WRITE: &[u64] = &[0x4004_9409, 0x4020_940d, 0x8011_1500]; // FICLONE, FICLONERANGE, FS_IOC_GETFSUUID
    pub const INTERNET: &[u64] = &[0x8933]; // SIOCGIFINDEX
    pub const TERMINAL: &[u64] = &[0x5401, 0x5402, 0x5403, 0x5404, 0x540b, 0x5413]; // TCGETS, TCSETS*, TCFLSH, TIOCGWINSZ
}

/// The lower 32 bits alone: what the kernel takes for an `int`.
const INT: u64 = 0xffff_ffff;

/// What fcntl(2) may be asked for: copies and flags of a descriptor, and locks of a file's parts, which the mirror's database takes.
/// Its owner (F_SETOWN, F_SETSIG) would be sent any signal by the kernel itself, as root's that one needs no capability: kill(2) by
/// another door.
const FCNTL: &[libc::c_int] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
];

/// A group of fanotify(7) that only hears, by handles and names (FAN_REPORT_DIR_FID), with bounds. Of the flags in the mask the
/// others would let it hold up or refuse whoever opens a file (FAN_CLASS_CONTENT, FAN_CLASS_PRE_CONTENT), and have the kernel keep
/// events and marks without end (FAN_UNLIMITED_QUEUE, FAN_UNLIMITED_MARKS).
const HEARING: (u64, u64) = (0x400 | 0x4 | 0x8 | 0x10 | 0x20, 0x400);

fn only(
    rules: &mut Rules,
    call: libc::c_long,
    conditions: Vec<SeccompCondition>,
) -> Result<(), seccompiler::BackendError> {
    rules.entry(call).or_default().push(SeccompRule::new(conditions)?);
    Ok(())
}

fn ioctls(rules: &mut Rules, requests: &[u64]) -> Result<(), seccompiler::BackendError> {
    requests.iter().try_for_each(|&request| only(rules, libc::SYS_ioctl, vec![is(1, INT, request)?]))
}

fn base(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    let me = u64::from(std::process::id());
    const EXECUTE: u64 = libc::PROT_EXEC as u64;
    const THREAD: u64 = libc::CLONE_THREAD as u64;
    only(rules, libc::SYS_mmap, vec![is(2, EXECUTE, 0)?])?;
    only(rules, libc::SYS_mprotect, vec![is(2, EXECUTE, 0)?])?;
    only(rules, libc::SYS_clone, vec![is(0, THREAD, THREAD)?])?;
    only(rules, libc::SYS_kill, vec![is(0, INT, me)?])?;
    only(rules, libc::SYS_tgkill, vec![is(0, INT, me)?])?;
    only(rules, libc::SYS_prlimit64, vec![is(0, INT, 0)?])?;
    for &command in FCNTL {
        only(rules, libc::SYS_fcntl, vec![is(1, INT, command as u64)?])?;
    }
    for name in [libc::PR_SET_NAME as u64, 0x5356_4d41] {
        only(rules, libc::SYS_prctl, vec![is(0, INT, name)?])?; // the latter: PR_SET_VMA, names for memory
    }
    ioctls(rules, request::BASE)
}

fn write(rules: &mut Rules, any_device: bool) -> Result<(), seccompiler::BackendError> {
    ioctls(rules, request::WRITE)?;
    if any_device {
        rules.insert(libc::SYS_mknodat, Vec::new());
        return Ok(());
    }
    const FORMAT: u64 = libc::S_IFMT as u64;
    for format in [libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK] {
        only(rules, libc::SYS_mknodat, vec![is(2, FORMAT, u64::from(format))?])?;
    }
    for &(major, minor) in HARMLESS {
        // The kernel's own form of a small device number: major in the second byte, minor in the first.
        let conditions = vec![is(2, FORMAT, u64::from(libc::S_IFCHR))?, is(3, INT, major << 8 | minor)?];
        only(rules, libc::SYS_mknodat, conditions)?;
    }
    Ok(())
}

fn rules(groups: &[Group], any_device: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    for &group in groups {
        let plain: &[&[libc::c_long]] = match group {
            Group::Base => &[BASE],
            Group::Read => &[READ],
            Group::Write => &[WRITE],
            Group::Watch => &[WATCH],
            Group::Internet | Group::Local => &[SOCKETS],
            Group::Terminal => &[],
        };
        let old = OLD.iter().filter(|(of, _)| *of == group).map(|(_, call)| call);
        rules.extend(plain.iter().flat_map(|list| list.iter()).chain(old).map(|&call| (call, Vec::new())));
    }
    for &group in groups {
        match group {
            Group::Base => base(&mut rules)?,
            Group::Write => write(&mut rules, any_device)?,
            // A handle names any directory of the file system: it is looked at, never opened.
            Group::Watch => {
                const PATH: u64 = libc::O_PATH as u64;
                only(&mut rules, libc::SYS_open_by_handle_at, vec![is(2, PATH, PATH)?])?;
                only(&mut rules, libc::SYS_fanotify_init, vec![is(0, HEARING.0, HEARING.1)?])?;
            }
            Group::Internet => {
                for family in [libc::AF_INET, libc::AF_INET6] {
                    only(&mut rules, libc::SYS_socket, vec![is(0, INT, family as u64)?])?;
                }
                ioctls(&mut rules, request::INTERNET)?;
            }
            Group::Local => only(&mut rules, libc::SYS_socket, vec![is(0, INT, libc::AF_UNIX as u64)?])?,
            Group::Terminal => ioctls(&mut rules, request::TERMINAL)?,
            Group::Read => {}
        }
    }
    Ok(rules)
}

/// Lets the calling thread and all that it starts make the calls of these groups and no others. `any_device`: nodes of
/// every device can be made, because none can be opened. False: the kernel has no filters.
///
/// # Errors
///
/// What seccomp(2) says.
pub fn filter(groups: &[Group], any_device: bool) -> io::Result<bool> {
    let machine = || std::env::consts::ARCH.try_into().map_err(io::Error::other);
    let allow = |rules, mismatch, matching| -> io::Result<BpfProgram> {
        let filter = SeccompFilter::new(rules, mismatch, matching, machine()?).map_err(io::Error::other)?;
        filter.try_into().map_err(io::Error::other)
    };
    let rules = rules(groups, any_device).map_err(io::Error::other)?;
    let main = allow(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?;
    // Its arguments lie in memory, where no filter looks: C libraries fall back to clone(2).
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let absent = allow(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    for program in [&absent, &main] {
        match apply_filter(program) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(e) | seccompiler::Error::Prctl(e))
                if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) =>
            {
                return Ok(false);
            }
            Err(e) => return Err(io::Error::other(e)),
        }
    }
    Ok(true)
}
