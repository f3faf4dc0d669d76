//! Random numbers at a start: a kernel that has not gathered enough noise yet has none, and lets whoever asks wait, for ever if
//! it must. Asked for here once, with a bound, before anything is opened: nobody waits for them after that.
#![allow(unsafe_code)] // getrandom(2) without waiting has no wrapper

use std::io;

use crate::init::patience;
use crate::time::Duration;

/// How long a start waits. On the appliance nobody feeds the watchdog meanwhile, whose time-out is a minute then.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// Whether the kernel has random numbers now.
///
/// # Errors
///
/// What getrandom(2) says.
pub(super) fn is_there() -> io::Result<bool> {
    let mut byte = 0_u8;
    // SAFETY: the byte lives until the call returns, which writes at most one.
    if unsafe { libc::getrandom((&raw mut byte).cast(), 1, libc::GRND_NONBLOCK) } == 1 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Waits until there are some. `ask` waits in the kernel, in a thread of its own: only while somebody waits there does the
/// kernel gather noise by itself (random(7)). `tell` is called before that.
///
/// # Errors
///
/// What `is_there` and `ask` say; `TimedOut` after `limit`.
pub(super) fn wait(
    limit: Duration,
    is_there: impl FnOnce() -> io::Result<bool>,
    tell: impl FnOnce(),
    ask: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    if is_there()? {
        return Ok(());
    }
    tell();
    let asked = patience::within(limit, || {}, ask)?;
    asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc::channel;

    use super::*;

    fn never() -> io::Result<()> {
        let (_keeps_it_open, nothing) = channel::<()>();
        nothing.recv().map_err(io::Error::other)
    }

    #[test]
    fn a_kernel_that_has_some_is_not_waited_for() {
        assert!(is_there().unwrap(), "this machine has been up for long enough");
        wait(Duration::ZERO, is_there, || panic!("nothing to tell"), never).unwrap();
    }

    #[test]
    fn a_start_waits_with_a_word_and_goes_on() {
        let told = Cell::new(false);
        wait(LIMIT, || Ok(false), || told.set(true), || Ok(())).unwrap();
        assert!(told.get());
    }

    #[test]
    fn a_start_does_not_wait_for_ever() {
        let waited = wait(Duration::from_millis(20), || Ok(false), || {}, never);
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let failed = wait(LIMIT, || Ok(false), || {}, || Err(io::ErrorKind::Unsupported.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
