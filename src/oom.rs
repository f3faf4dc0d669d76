//! Whom the kernel ends when memory runs out (`oom_score_adj`, proc_pid_oom_score_adj(5)).
//!
//! A daemon that is ended in the middle of its right is a failover; a mirror that is ended is a copy some seconds older. So the
//! daemon is never chosen, what it runs beside itself is chosen early, and a service stands as any other program does: it does
//! not inherit what protects the daemon.
#![allow(unsafe_code)] // system calls between fork and exec

use std::io;

/// Where a process says how much it is to be spared.
const OWN: &core::ffi::CStr = c"/proc/self/oom_score_adj";
/// Never chosen.
const NEVER: &str = "-1000";
/// Counts as if it held half of all memory beside its own.
const EARLY: &str = "500";
/// As most programs.
const ORDINARY: &str = "0";

/// Protects this process for good.
///
/// # Errors
///
/// `PermissionDenied` without CAP_SYS_RESOURCE, unless whoever started it has protected it already.
pub fn protect() -> io::Result<()> {
    std::fs::write(OWN.to_string_lossy().as_ref(), NEVER)
}

/// Has the kernel choose this process before others.
///
/// # Errors
///
/// Where /proc is missing.
pub fn expose() -> io::Result<()> {
    std::fs::write(OWN.to_string_lossy().as_ref(), EARLY)
}

/// Takes from this process what it has inherited. For use between fork and exec: system calls only; what fails, fails.
pub fn disinherit() {
    // SAFETY: the path and the text live until the calls return.
    unsafe {
        let file = libc::open(OWN.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            let _ = libc::write(file, ORDINARY.as_ptr().cast(), ORDINARY.len());
            libc::close(file);
        }
    }
}
