//! What the kernel is told at boot: settings that make every kind of failure a reset, the host's name, an even clock.
#![allow(unsafe_code)] // adjtimex(2)

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;

/// Kernel settings by path below `/proc/sys`, and why.
const SETTINGS: &[(&str, &str)] = &[
    // A panic, an oops, a CPU that is stuck: each ends in a reset within a second, and its text on the null modem.
    ("kernel/panic", "1"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/softlockup_panic", "1"),
    ("kernel/hung_task_panic", "1"),
    ("kernel/hung_task_timeout_secs", "120"),
    ("kernel/unknown_nmi_panic", "1"),
    // The null modem is the kernel's console, and a break on it makes the next byte a magic key (sysrq.rst): a peer that
    // loses its power sends a break, and one heartbeat in a hundred begins with a byte that resets this box or switches
    // it off. Our own reset goes by /proc/sysrq-trigger, which this does not stop.
    ("kernel/sysrq", "0"),
    // What PID 1 logs while it boots is all kept, not ten lines in five seconds. This one is taken only with the end of its
    // line (devkmsg_sysctl_set_loglvl in kernel/printk/printk.c).
    ("kernel/printk_devkmsg", "on\n"),
];

/// Applies all settings.
///
/// # Errors
///
/// Those that this kernel does not have, after all others are applied.
pub fn apply_settings() -> io::Result<String> {
    let refused: Vec<&str> = SETTINGS
        .iter()
        .filter(|(path, value)| fs::write(Path::new("/proc/sys").join(path), value).is_err())
        .map(|(path, _)| *path)
        .collect();
    if refused.is_empty() {
        Ok(String::new())
    } else {
        Err(io::Error::other(format!("without {}", refused.join(", "))))
    }
}

/// Whether a task that waits for a disk for two minutes makes the kernel panic. Where the box serves, it should: the other one has
/// a disk too. While it boots, the next boot would end in the same way.
///
/// # Errors
///
/// What the kernel said.
pub fn panic_for_hung_tasks(panic: bool) -> io::Result<()> {
    fs::write("/proc/sys/kernel/hung_task_panic", if panic { "1" } else { "0" })
}

/// Sets the host's name to `pair-node`.
///
/// # Errors
///
/// What the kernel said.
pub fn set_host_name(pair: &str, node: &str) -> io::Result<String> {
    let name = format!("{pair}-{node}");
    nix::unistd::sethostname(&name)?;
    Ok(name)
}

/// Takes every correction off the clock that some earlier program left: leases count on a clock that runs as fast as
/// its crystal (adjtimex(2): frequency 0, tick 10,000 us).
///
/// # Errors
///
/// What the kernel said.
pub fn straighten_clock() -> io::Result<String> {
    const TICK: libc::c_long = 10_000;
    // SAFETY: timex is a plain C structure of numbers, for which all zeroes is a value.
    let mut timex: libc::timex = unsafe { core::mem::zeroed() };
    timex.modes = libc::ADJ_FREQUENCY | libc::ADJ_TICK;
    timex.tick = TICK;
    // SAFETY: the structure is valid and outlives the call.
    Errno::result(unsafe { libc::adjtimex(&raw mut timex) })?;
    Ok(String::new())
}

/// ctrl-alt-del becomes SIGINT for us instead of a reset without farewell (reboot(2)).
///
/// # Errors
///
/// What the kernel said.
pub fn take_ctrl_alt_del() -> io::Result<String> {
    nix::sys::reboot::set_cad_enabled(false)?;
    Ok(String::new())
}
