//! The ends of a box: reboot and power off. What PID 1 does instead of exiting.

use std::fs::{File, OpenOptions};

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, sync};

use super::{patience, volume};
use crate::fence::reset::Reset;
use crate::fence::watchdog::Watchdog;
use crate::time::Duration;
use crate::{clock, journal};

/// How the box ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It comes back.
    Reboot,
    /// It stays off until somebody presses the button.
    PowerOff,
}

/// How long the disks may take to write everything: below the 120 s after which the kernel panics for a task that hangs.
const WRITTEN: Duration = Duration::from_secs(100);

/// Writes everything to the disks, makes them read-only, and ends the box. Returns never: disks that do not take it in
/// time are given up; what then hangs in the kernel is ended by the watchdog, which is fed until then and never stopped;
/// and a reboot that the kernel refuses by the panic that follows.
pub fn leave(end: End, mut watchdog: Option<Watchdog>) -> ! {
    log::info!("{end:?}");
    journal::drain();
    // Opened before: with a disk that hangs, that may be what no longer works.
    let mut reset = Reset::arm();
    let feed = || {
        if let Some(Err(error)) = watchdog.as_mut().map(|watchdog| watchdog.feed(clock::now())) {
            log::error!("the watchdog takes no feed: {error}");
        }
    };
    match patience::within(WRITTEN, feed, tidy_disks) {
        Ok(Ok(())) => {}
        Ok(Err(_)) => {
            log::error!("the disks do not take what is to be written: {end:?} without it");
            journal::drain();
            if end == End::Reboot {
                let Err(error) = reset.now();
                log::error!("no reset: {error}");
            }
        }
        Err(_) => tidy_disks(), // no thread is to be had
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

fn tidy_disks() {
    sync();
    for at in [volume::DATA, volume::STATE] {
        // One that is not mounted, or busy, stays as it is: its journal is replayed at the next boot.
        let _ = mount(None::<&str>, at, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>);
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
