//! The ends of a box: reboot and power off. What PID 1 does instead of exiting.

use std::fs::{File, OpenOptions};

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, sync};

use super::volume;
use crate::journal;

/// How the box ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It comes back.
    Reboot,
    /// It stays off until somebody presses the button.
    PowerOff,
}

/// Writes everything to the disks, makes them read-only, and ends the box. Returns never: a reboot that the kernel
/// refuses is ended by the panic that follows, and that by the watchdog.
pub fn leave(end: End) -> ! {
    log::info!("{end:?}");
    journal::drain();
    sync();
    for at in [volume::DATA, volume::STATE] {
        // One that is not mounted, or busy, stays as it is: its journal is replayed at the next boot.
        let _ = mount(None::<&str>, at, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>);
    }
    let mode = match end {
        End::Reboot => RebootMode::RB_AUTOBOOT,
        End::PowerOff => RebootMode::RB_POWER_OFF,
    };
    match reboot(mode) {
        Err(errno) => panic!("the kernel refuses {mode:?}: {errno}"),
        Ok(never) => match never {},
    }
}

/// The kernel opened its console for us, which is the null modem: a word of ours there would stand between the frames.
pub(super) fn detach_standard_streams() {
    // The image brings /dev/null along, so this works before anything is mounted.
    let open = || OpenOptions::new().read(true).write(true).open("/dev/null").map_err(|_| ());
    let null: Result<File, ()> = open();
    if let Ok(null) = null {
        let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
    }
}
