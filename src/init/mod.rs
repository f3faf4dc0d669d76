//! PID 1 on the appliance: named boot steps, modules, mounts, and what happens when the pair cannot run or has ended.
//!
//! [`start`] boots, `main` hands what it found to the daemon, and whatever the daemon returns goes to [`leave`]. PID 1
//! never exits, and a panic aborts it: that is a kernel panic, a reset, and the text on the null modem that tells the
//! peer.

pub mod boot;
mod command_line;
pub mod interface;
mod kernel;
pub mod last_reset;
mod module;
mod mounts;
pub mod partition;
pub mod patience;
pub mod power;
pub mod terminal;
pub mod volume;
pub mod wait;

use boot::{Boot, Then};

use crate::clock;

/// Boots the box: runs all steps and says on the console what came out. A new image that cannot even find out that it is on
/// trial starts the former one instead.
#[must_use]
pub fn start() -> Boot {
    power::detach_standard_streams();
    let mut boot = Boot { began: clock::now(), ..Boot::default() };
    let took = boot::run(&mut boot);
    let said = format!("twobox {} booted in {:.2} s", env!("CARGO_PKG_VERSION"), took.as_secs_f64());
    boot.report.push(said.clone());
    if let Some(terminal) = boot.terminal.as_mut() {
        terminal.say(&said);
        if let last_reset::Cause::Panic(_) | last_reset::Cause::Watchdog = boot.last_reset {
            terminal.say(&format!("the last reset was ordered by: {}", boot.last_reset));
        }
    }
    if let Some(slot) = boot.lost_trial {
        if let Some(terminal) = boot.terminal.as_mut() {
            terminal.say(&format!(
                "image: the boot loader tries slot {}, which does not find itself on the disk: the former image starts now",
                slot.number
            ));
        }
        drop(boot.terminal.take()); // closed, it has been sent
        power::leave(power::End::Reboot, boot.watchdog.take());
    }
    boot
}

impl Boot {
    /// Takes console and watchdog back after the daemon has failed. What cannot be opened stays away.
    pub fn reopen(&mut self) {
        boot::reopen(self);
    }

    /// Feeds the watchdog, if there is one: the boot goes on, or the box waits for its operator.
    pub(crate) fn feed(&mut self) {
        if let Some(Err(error)) = self.watchdog.as_mut().map(|watchdog| watchdog.feed(clock::now())) {
            log::error!("the watchdog takes no feed: {error}");
        }
    }

    /// Why the pair cannot run on this box at all, if so.
    #[must_use]
    pub fn obstacle(&self) -> Option<&str> {
        self.faults.iter().find(|fault| fault.step.then == Then::Wait).map(|fault| fault.text.as_str())
    }

    /// Why this box must be held, if so.
    #[must_use]
    pub fn hold_reason(&self) -> Option<&str> {
        self.faults.iter().find(|fault| fault.step.then == Then::Hold).map(|fault| fault.text.as_str())
    }
}
