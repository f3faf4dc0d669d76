//! Resetting the machine: the last belt, for a box that cannot make sure that its addresses are down.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use nix::sys::reboot::{RebootMode, reboot};

/// The kernel's emergency key (Documentation/admin-guide/sysrq.rst). Writing to it works whatever kernel.sysrq says.
const TRIGGER: &str = "/proc/sysrq-trigger";
/// Resets at once: no sync, no unmount, nothing that a hung disk could hold up.
const REBOOT_NOW: &[u8] = b"b";

/// The means to reset, opened at the start: when it is needed, opening a file may be what no longer works.
#[derive(Debug)]
pub enum Reset {
    /// `sysrq-trigger` is open; reboot(2) follows if that should return.
    Armed(File),
    /// Only reboot(2): /proc has no `sysrq-trigger`, or it must not be written.
    RebootOnly,
    /// Never: the host is not ours to reset.
    Disabled,
}

impl Reset {
    /// Prepares the reset. Nothing is reset yet.
    #[must_use]
    pub fn arm() -> Reset {
        Reset::arm_at(Path::new(TRIGGER))
    }

    fn arm_at(trigger: &Path) -> Reset {
        OpenOptions::new().write(true).open(trigger).map_or(Reset::RebootOnly, Reset::Armed)
    }

    /// A reset that does nothing, for a host that runs other things too (hosted mode, and every test).
    #[must_use]
    pub const fn disabled() -> Reset {
        Reset::Disabled
    }

    /// Resets the machine now. Does not return when it works.
    ///
    /// # Errors
    ///
    /// `Unsupported` when it is disabled; else what reboot(2) says (EPERM without CAP_SYS_BOOT). Then only the watchdog
    /// is left: the caller must not feed it any more.
    pub fn now(&mut self) -> io::Result<Infallible> {
        match self {
            Reset::Disabled => return Err(io::Error::from(io::ErrorKind::Unsupported)),
            // That the write failed matters less than the next attempt.
            Reset::Armed(trigger) => drop(trigger.write_all(REBOOT_NOW)),
            Reset::RebootOnly => {}
        }
        reboot(RebootMode::RB_AUTOBOOT).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disabled_reset_refuses() {
        assert_eq!(Reset::disabled().now().unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn without_a_trigger_reboot_is_left() {
        assert!(matches!(Reset::arm_at(Path::new("/nonexistent/sysrq-trigger")), Reset::RebootOnly));
    }
}
