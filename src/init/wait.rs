//! A box on which the pair cannot run: it says why, keeps its watchdog fed, and waits for what is missing, or to be repaired.
//!
//! It holds no address and serves nothing, so feeding is right (a reset would only bring it here again); the peer finds
//! it silent and does what it does with a dead one.
#![allow(clippy::disallowed_methods)] // no loop runs here: this is all that PID 1 does

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::boot::{self, Boot};
use super::power::{End, leave};
use crate::journal;
use crate::time::Duration;

/// Between two feeds: far below every time-out.
const TURN: Duration = Duration::from_secs(1);
/// Turns between two tellings on the console.
const TELL_EVERY: u32 = 60;
/// Turns until a new image that cannot run the pair gives way to the former one, which could.
const TRIAL: u32 = 60;

/// Waits until the steps of the boot that stand in the way have been taken after all: what they missed has come late.
pub fn until_it_can_run(mut boot: Boot) -> Boot {
    let signals = ending_signals();
    for turn in 0_u32.. {
        if turn > 0 && turn.is_multiple_of(TELL_EVERY) {
            boot::retry(&mut boot);
        }
        let Some(reason) = boot.obstacle().map(str::to_owned) else { break };
        take_turn(&mut boot, &reason, turn, signals.as_ref());
    }
    drop(signals);
    let _ = endings().thread_unblock(); // they are the daemon's now
    boot
}

/// Waits for ctrl-alt-del, SIGTERM or the power button's signal. Never returns.
pub fn wait(mut boot: Boot, reason: &str) -> ! {
    log::error!("the pair cannot run on this box: {reason}");
    let signals = ending_signals();
    for turn in 0_u32.. {
        take_turn(&mut boot, reason, turn, signals.as_ref());
    }
    unreachable!("the loop ends after 136 years");
}

fn take_turn(boot: &mut Boot, reason: &str, turn: u32, signals: Option<&SignalFd>) {
    if turn.is_multiple_of(TELL_EVERY)
        && let Some(terminal) = boot.terminal.as_mut()
    {
        terminal.say(&format!("HELD: {reason}"));
        terminal.say("This box serves nothing. Repair it and press ctrl-alt-del, or switch it off and on.");
    }
    boot.feed();
    if turn >= TRIAL && boot.image.as_ref().is_some_and(|image| image.slot.has_way_back()) {
        log::error!("the pair cannot run with this image: starting the former one");
        leave(End::Reboot, boot.watchdog.take());
    }
    while matches!(waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
    journal::drain();
    if let Some(signals) = signals
        && let Ok(Some(signal)) = signals.read_signal()
    {
        let power_fails = signal.ssi_signo == Signal::SIGPWR as u32;
        leave(if power_fails { End::PowerOff } else { End::Reboot }, boot.watchdog.take());
    }
    std::thread::sleep(TURN);
}

fn endings() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR])
}

fn ending_signals() -> Option<SignalFd> {
    let mask = endings();
    mask.thread_block().ok()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok()
}
