//! What keeps the loop on time: real-time priority and memory that is never paged out.
//!
//! Measured under load (two cores, four busy processes): without these two the loop's 99.9th percentile of lateness is
//! 35 to 124 ms, with them 0.3 ms.
#![allow(unsafe_code)] // raw system calls

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{SysconfVar, sysconf};

/// Priority of the loop among real-time threads, 1 to 99: above ordinary real-time work, below the kernel's own threads
/// that interrupts run in (50 by default on kernels with forced threaded interrupts).
const LOOP_PRIORITY: i32 = 40;
/// The network's thread renews what ends by itself soon, and only waits for the kernel.
const NETWORK_PRIORITY: i32 = 30;
/// The disk's thread is on the way of every takeover, and only waits for the disk.
const DISK_PRIORITY: i32 = 20;

/// The loop's thread has its priority, or has not asked yet.
static LOOP_ON_TIME: AtomicBool = AtomicBool::new(true);

/// Which thread asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// The cluster loop.
    Loop,
    /// The one that asks the kernel about the network's configuration.
    Network,
    /// The one that writes the record.
    Disk,
    /// The one that feeds the watchdog: as urgent as the loop, which asks for each feed.
    Watchdog,
}

/// Makes the calling thread SCHED_FIFO. Whatever it forks starts with ordinary scheduling (SCHED_RESET_ON_FORK,
/// sched(7)).
///
/// # Errors
///
/// `PermissionDenied` without CAP_SYS_NICE; the loop then runs as late as the machine is busy.
pub fn prioritize(thread: Thread) -> io::Result<()> {
    // The kernel's struct sched_param is this one int; musl's has more fields, of an option that Linux lacks.
    let parameter: libc::c_int = match thread {
        Thread::Loop | Thread::Watchdog => LOOP_PRIORITY,
        Thread::Network => NETWORK_PRIORITY,
        Thread::Disk => DISK_PRIORITY,
    };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // The raw call: musl's sched_setscheduler always fails with ENOSYS.
    // SAFETY: `parameter` lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) };
    let outcome = if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    if thread == Thread::Loop {
        LOOP_ON_TIME.store(outcome.is_ok(), Ordering::Relaxed);
    }
    outcome
}

/// The loop got its priority when it asked for it.
#[must_use]
pub fn loop_has_priority() -> bool {
    LOOP_ON_TIME.load(Ordering::Relaxed)
}

/// Locks what is mapped now and whatever is mapped later (mlockall(2)). Later pages are locked when they are first
/// touched: locking them at once would make every thread's unused stack resident. So are those with the code of the
/// mirror's database, which this process never runs. With `in_memory` the program's file lies in memory itself, as on the
/// appliance: then all its pages are locked when they are first touched, which waits for no disk, and what is never used
/// takes no room.
///
/// What another thread maps between two calls is made resident as a whole: in memory, where that is no file, the 2 MiB of a
/// default stack. So there it is one call.
///
/// # Errors
///
/// `PermissionDenied` or `OutOfMemory` without CAP_IPC_LOCK and enough RLIMIT_MEMLOCK.
pub fn lock_memory(in_memory: bool) -> io::Result<()> {
    const LATER: libc::c_int = libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: the calls take flags only.
    let result = unsafe {
        if in_memory {
            libc::mlockall(libc::MCL_CURRENT | LATER)
        } else {
            match libc::mlockall(libc::MCL_CURRENT) {
                0 => libc::mlockall(LATER),
                error => error,
            }
        }
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { give_back_database() }
}

// The linker's own names for the ends of a section.
unsafe extern "C" {
    #[link_name = "__start_database_code"]
    static DATABASE_BEGIN: u8;
    #[link_name = "__stop_database_code"]
    static DATABASE_END: u8;
}

/// Has the linker know the section in every program, although the database lies there in the shipped one alone
/// (`.cargo/layout.ld`).
#[used]
#[unsafe(link_section = "database_code")]
static IN_THE_SECTION: u8 = 0;

/// Gives back the locked code of the mirror's database; what is touched of it after all is locked from then on.
fn give_back_database() -> io::Result<()> {
    let page = usize::try_from(sysconf(SysconfVar::PAGE_SIZE)?.unwrap_or(4096)).unwrap_or(4096);
    let begin = (&raw const DATABASE_BEGIN).addr().next_multiple_of(page);
    let length = ((&raw const DATABASE_END).addr() / page * page).saturating_sub(begin);
    if length == 0 {
        return Ok(());
    }
    let code = core::ptr::without_provenance_mut::<libc::c_void>(begin);
    // SAFETY: whole pages of the program's code, which nobody writes to: given back, they are read from its file when they
    // are touched. Linux gives back no page that is locked.
    let result = unsafe {
        match (libc::munlock(code, length), libc::madvise(code, length, libc::MADV_DONTNEED)) {
            (0, 0) => libc::mlock2(code, length, libc::MLOCK_ONFAULT),
            _ => -1,
        }
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Touches this much of the calling thread's stack, so that the loop never waits for a page of it: the whole thread was seen to use
/// 36 KiB, with a takeover and status.
const STACK_TOUCHED: usize = 64 * 1024;

/// Makes the stack that the loop will need resident.
#[inline(never)]
pub fn touch_stack() {
    let mut stack = [0u8; STACK_TOUCHED];
    for page in stack.chunks_mut(4096) {
        // SAFETY: a write through a valid reference; volatile so that it is made although nobody reads it.
        unsafe { core::ptr::write_volatile(&raw mut page[0], 1) };
    }
    core::hint::black_box(&stack);
}

/// Whether the kernel's clock is being slewed so far that the drift reckoned with does not hold. Said in the log.
#[must_use]
pub fn clock_is_slewed() -> bool {
    let slewed = clock_tick().filter(|tick| is_slewed(*tick));
    if let Some(tick) = slewed {
        log::warn!("the kernel's clock is slewed (tick {tick} us): waits are reckoned with 10 % of drift");
    }
    slewed.is_some()
}

/// A tick off its nominal 10,000 us moves CLOCK_BOOTTIME by up to 10 % (adjtimex(2)); the frequency alone is bounded to
/// 500 ppm.
#[must_use]
pub fn is_slewed(tick: i64) -> bool {
    const NOMINAL_TICK: i64 = 10_000;
    (tick - NOMINAL_TICK).abs() > 1
}

/// The kernel's tick in microseconds; `None` when it does not tell.
#[must_use]
pub fn clock_tick() -> Option<i64> {
    // SAFETY: timex is a plain C structure of numbers, for which all zeroes is a value: no mode, so nothing is set.
    let mut timex: libc::timex = unsafe { core::mem::zeroed() };
    // SAFETY: `timex` is valid and outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    #[allow(clippy::useless_conversion)] // 32 bits on some targets
    (state >= 0).then(|| i64::from(timex.tick))
}
