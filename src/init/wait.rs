//! A box on which the pair cannot run: it says why, keeps its watchdog fed, and waits to be repaired.
//!
//! It holds no address and serves nothing, so feeding is right (a reset would only bring it here again); the peer finds
//! it silent and does what it does with a dead one.
#![allow(clippy::disallowed_methods)] // no loop runs here: this is all that PID 1 does

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::boot::Boot;
use super::power::{End, leave};
use crate::journal;
use crate::time::Duration;

/// Between two feeds: far below every time-out.
const TURN: Duration = Duration::from_secs(1);
/// Turns between two tellings on the console.
const TELL_EVERY: u32 = 60;
/// Turns until a new image that cannot run the pair gives way to the former one, which could.
const TRIAL: u32 = 60;

/// Waits for ctrl-alt-del, SIGTERM or the power button's signal. Never returns.
pub fn wait(mut boot: Boot, reason: &str) -> ! {
    log::error!("the pair cannot run on this box: {reason}");
    let signals = ending_signals();
    for turn in 0_u32.. {
        if turn % TELL_EVERY == 0
            && let Some(terminal) = boot.terminal.as_mut()
        {
            terminal.say(&format!("HELD: {reason}"));
            terminal.say("This box serves nothing. Repair it and press ctrl-alt-del, or switch it off and on.");
        }
        boot.feed();
        if turn >= TRIAL && boot.image.as_ref().is_some_and(|image| image.slot.is_on_trial()) {
            log::error!("the pair cannot run with this image: starting the former one");
            leave(End::Reboot, boot.watchdog.take());
        }
        while matches!(waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        journal::drain();
        if let Some(signals) = &signals
            && let Ok(Some(signal)) = signals.read_signal()
        {
            let power_fails = signal.ssi_signo == Signal::SIGPWR as u32;
            leave(if power_fails { End::PowerOff } else { End::Reboot }, boot.watchdog.take());
        }
        std::thread::sleep(TURN);
    }
    unreachable!("the loop ends after 136 years");
}

fn ending_signals() -> Option<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR] {
        mask.add(signal);
    }
    mask.thread_block().ok()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok()
}
