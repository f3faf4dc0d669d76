//! Low priority for processor and disk: the mirror is never in the way.
#![allow(unsafe_code)] // setpriority and ioprio_set have no wrappers in nix

/// Takes the lowest share of the processor short of idle, and of the disk the lowest best-effort one. A kernel that
/// refuses leaves things as they are.
pub fn give_way() {
    const NICE: libc::c_int = 10;
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_BEST_EFFORT_LOWEST: libc::c_int = 2 << 13 | 7; // ioprio_set(2): class in the upper bits
    // SAFETY: both take plain numbers and concern this process alone.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_BEST_EFFORT_LOWEST);
    }
}
