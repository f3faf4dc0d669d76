//! The hardware watchdog (Documentation/watchdog/watchdog-api.rst): armed once, fed only when told, never closed by accident.

#![allow(unsafe_code)] // the ioctls of linux/watchdog.h

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::{Duration, Instant};

/// Later than this share of the timeout after the last feed, a feed is late: 3/5.
const LATE: (u32, u32) = (3, 5);

/// Seconds to try with a driver that refuses a shorter time: iTCO_wdt begins at 3 or 4 s, mei_wdt at 120 s.
const LONGER: [u64; 8] = [3, 4, 5, 10, 20, 30, 60, 120];

/// `struct watchdog_info` (linux/watchdog.h).
#[repr(C)]
struct Info {
    options: u32,
    firmware: u32,
    identity: [u8; 32],
}

mod request {
    use super::Info;

    nix::ioctl_read!(get_support, b'W', 0, Info);
    nix::ioctl_read!(get_boot_status, b'W', 2, libc::c_int);
    nix::ioctl_read!(keep_alive, b'W', 5, libc::c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
    nix::ioctl_read!(get_timeout, b'W', 7, libc::c_int);
}

/// WDIOF_CARDRESET: the last reset was the watchdog's.
const CARD_RESET: libc::c_int = 0x20;
/// WDIOF_MAGICCLOSE: closing does not stop it unless a `V` was written before.
const MAGIC_CLOSE: u32 = 0x100;

/// What is wanted of the watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `/dev/watchdog0` and the like.
    pub device: PathBuf,
    /// W. Drivers count whole seconds; rounded up.
    pub timeout: Duration,
    /// Never to be disarmed, whatever the driver allows.
    pub nowayout: bool,
}

/// Why a watchdog is no fence against a hanging kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// It is the kernel's own timer (softdog): a kernel that hangs hangs it too.
    Software,
    /// It stops when its file is closed, which the kernel does for a program that dies.
    StopsOnClose,
    /// Its driver takes no time-out as short as the one that was wanted.
    Slower,
}

/// How a feed went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Time since the feed before.
    pub after: Duration,
    /// More than 3/5 of the timeout: worth a warning.
    pub late: bool,
}

/// An armed watchdog. Dropping it leaves it running: unless somebody opens and feeds it, the box resets.
#[derive(Debug)]
pub struct Watchdog {
    device: PathBuf,
    file: File,
    identity: heapless::String<32>,
    timeout: Duration,
    reset_by_watchdog: bool,
    weakness: Option<Weakness>,
    nowayout: bool,
    /// When the last feed that succeeded began.
    fed_at: AtomicU64,
}

impl Watchdog {
    /// Opens the device, which arms it; sets the timeout, reads it back, and feeds once so that the new timeout counts.
    ///
    /// # Errors
    ///
    /// Names the device and what to do: it is missing (module not loaded), busy (another program has it), or the driver takes
    /// no such timeout. A device that was opened before the error stays armed.
    pub fn arm(settings: &Settings, now: Instant) -> io::Result<Watchdog> {
        let explain = |what: &str, e: io::Error| {
            io::Error::new(e.kind(), format!("watchdog {}: {what}: {e}", settings.device.display()))
        };
        let file = OpenOptions::new().write(true).open(&settings.device).map_err(|e| {
            let advice = match e.kind() {
                io::ErrorKind::NotFound => "load the module of the board's watchdog",
                io::ErrorKind::ResourceBusy => "another program holds it; stop that",
                _ => "open",
            };
            explain(advice, e)
        })?;
        let fd = file.as_raw_fd();
        let mut info = Info { options: 0, firmware: 0, identity: [0; 32] };
        // SAFETY: the kernel writes one `struct watchdog_info` through the pointer.
        unsafe { request::get_support(fd, &raw mut info) }.map_err(|e| explain("WDIOC_GETSUPPORT", e.into()))?;
        let mut boot_status = 0;
        // SAFETY: the kernel writes one int through the pointer. A driver without boot status says 0 or an error.
        let _ = unsafe { request::get_boot_status(fd, &raw mut boot_status) };
        let mut seconds = whole_seconds(settings.timeout);
        // SAFETY: the kernel reads and writes one int through the pointer.
        let set = unsafe { request::set_timeout(fd, &raw mut seconds) };
        let mut actual = 0;
        // SAFETY: the kernel writes one int through the pointer.
        unsafe { request::get_timeout(fd, &raw mut actual) }.map_err(|e| explain("WDIOC_GETTIMEOUT", e.into()))?;
        // A driver with one fixed timeout refuses to set any: what counts is what it says it has.
        if let Err(e) = set
            && actual != seconds
        {
            let what = format!("it does not take a timeout of {seconds} s and has {actual} s");
            return Err(explain(&what, e.into()));
        }
        let watchdog = Watchdog {
            device: settings.device.clone(),
            file,
            identity: text(&info.identity),
            timeout: Duration::from_secs(u64::try_from(actual).unwrap_or(0)),
            reset_by_watchdog: boot_status & CARD_RESET != 0,
            weakness: weakness(&info),
            nowayout: settings.nowayout,
            fed_at: AtomicU64::new(now.as_nanos()),
        };
        watchdog.feed(now)?;
        Ok(watchdog)
    }

    /// Arms as [`Watchdog::arm`] does, and where the driver refuses the time-out, with the next longer one that it takes. That is
    /// [`Weakness::Slower`] and no belt, but better than nothing: a device that was opened once is armed with whatever it had,
    /// and would reset the box again and again if nobody fed it.
    ///
    /// # Errors
    ///
    /// As those of [`Watchdog::arm`].
    pub fn arm_at_least(settings: &Settings, now: Instant) -> io::Result<Watchdog> {
        let refuses = |armed: &io::Result<Watchdog>| {
            armed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput)
        };
        let mut armed = Watchdog::arm(settings, now);
        for seconds in LONGER.map(Duration::from_secs).into_iter().filter(|longer| *longer > settings.timeout) {
            if !refuses(&armed) {
                break;
            }
            let longer = Settings { timeout: seconds, ..settings.clone() };
            armed = Watchdog::arm(&longer, now).map(|dog| Watchdog { weakness: Some(Weakness::Slower), ..dog });
        }
        armed
    }

    /// Feeds it. Only ever called for the node's action: fed while the addresses are confirmed down or the right is valid. Waits
    /// for the device: that of a management controller takes tens of milliseconds, and seconds while the controller starts anew.
    /// One thread feeds, and others may ask how it stands.
    ///
    /// # Errors
    ///
    /// The driver's. The box will reset.
    pub fn feed(&self, now: Instant) -> io::Result<Fed> {
        let mut dummy = 0;
        // SAFETY: the kernel leaves the int alone or writes it (WDIOC_KEEPALIVE is declared as reading one).
        unsafe { request::keep_alive(self.file.as_raw_fd(), &raw mut dummy) }?;
        let after = self.unfed(now);
        self.fed_at.store(now.as_nanos(), Ordering::SeqCst);
        Ok(Fed { after, late: late(self.timeout, after) })
    }

    /// Time since the last feed that succeeded has begun.
    #[must_use]
    pub fn unfed(&self, now: Instant) -> Duration {
        now.since(Instant::from_nanos(self.fed_at.load(Ordering::SeqCst)))
    }

    /// Stops the watchdog and closes it: only after a confirmed surrender of a hosted daemon.
    ///
    /// # Errors
    ///
    /// `Unsupported`, and it stays armed, when it is `nowayout` by our settings; else what write(2) says. A kernel with
    /// nowayout of its own keeps it running all the same.
    pub fn disarm(mut self) -> io::Result<()> {
        if self.nowayout {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        self.file.write_all(b"V")
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The driver's name for itself.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The timeout as the driver has it: it may have rounded ours.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The last reset of the box was this watchdog's.
    #[must_use]
    pub const fn reset_by_watchdog(&self) -> bool {
        self.reset_by_watchdog
    }

    /// Why it is no belt, if it is none.
    #[must_use]
    pub const fn weakness(&self) -> Option<Weakness> {
        self.weakness
    }
}

fn late(timeout: Duration, after: Duration) -> bool {
    after > timeout * LATE.0 / LATE.1
}

fn weakness(info: &Info) -> Option<Weakness> {
    if info.identity.starts_with(b"Software Watchdog") {
        Some(Weakness::Software)
    } else if info.options & MAGIC_CLOSE == 0 {
        Some(Weakness::StopsOnClose)
    } else {
        None
    }
}

fn whole_seconds(timeout: Duration) -> libc::c_int {
    let seconds = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0));
    libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX).max(1)
}

/// What a driver calls itself: up to the first zero, printable.
fn text(bytes: &[u8; 32]) -> heapless::String<32> {
    bytes.iter().take_while(|&&b| b != 0).map(|&b| if b.is_ascii_graphic() { b as char } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(identity: &str, options: u32) -> Info {
        let mut info = Info { options, firmware: 0, identity: [0; 32] };
        info.identity[..identity.len()].copy_from_slice(identity.as_bytes());
        info
    }

    #[test]
    fn a_software_watchdog_and_one_that_stops_on_close_are_no_belts() {
        assert_eq!(weakness(&info("Software Watchdog", 0x8180)), Some(Weakness::Software));
        assert_eq!(weakness(&info("i6300ESB timer", 0x8180)), None);
        assert_eq!(weakness(&info("iTCO_wdt", 0x8080)), Some(Weakness::StopsOnClose));
    }

    #[test]
    fn a_feed_is_late_after_three_fifths() {
        let timeout = Duration::from_secs(2);
        assert!(!late(timeout, Duration::from_millis(1_200)));
        assert!(late(timeout, Duration::from_nanos(1_200_000_001)));
    }

    #[test]
    fn timeouts_round_up_to_whole_seconds() {
        assert_eq!(whole_seconds(Duration::from_millis(1_001)), 2);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::MAX), libc::c_int::MAX);
        assert_eq!(text(&info("i6300ESB timer", 0).identity), "i6300ESB timer");
    }

    #[test]
    fn a_missing_device_is_named_with_what_to_do() {
        let settings = Settings {
            device: PathBuf::from("/nonexistent/watchdog0"),
            timeout: Duration::from_secs(2),
            nowayout: true,
        };
        let error = Watchdog::arm(&settings, Instant::BOOT).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/watchdog0: load the module"), "{error}");
    }
}
