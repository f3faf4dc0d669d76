//! The one judge of all systems: faults in turn, the outage that a client sees, who sends as holder of the address.

use std::process::{Child, Command};
use std::thread::sleep;

use twobox::clock;
use twobox::console::status::Handover;
use twobox::time::Duration;

use crate::rig::wire::{Capture, Frame};
use crate::rig::{Rig, other};
use crate::stall::Stalls;

/// Busy processes in the time without faults.
const BUSY: usize = 4;
/// After the new owner answers the wire is watched for this long: a former owner may come back.
const AFTERMATH: Duration = Duration::from_millis(300);

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Faults of each kind.
    pub faults: usize,
    /// Time under load without a fault.
    pub quiet: Duration,
}

/// Two boxes that hand a service address over.
pub trait System {
    /// As the table names it.
    fn name(&self) -> String;
    /// Where it runs.
    fn rig(&self) -> &Rig;
    /// Waits until the next fault may come, and says who serves.
    fn settle(&mut self) -> &'static str;
    /// A planned hand-over away from `active`.
    fn hand_over(&mut self, active: &'static str);
    /// `active` loses its power in this moment.
    fn lose_power(&mut self, active: &'static str);
    /// Whatever was stopped starts again.
    fn restore(&mut self, stopped: &'static str);
    /// The new owner's own account of the last hand-over.
    fn account(&self, owner: &'static str) -> Option<Handover>;
    /// What else is worth a word.
    fn remark(&self) -> String;
}

/// What one system did.
pub struct Figures {
    pub name: String,
    pub planned: Faults,
    pub lost: Faults,
    /// Owner changes in the time without a fault.
    pub changes: usize,
    /// Longest time that nothing ran on one of the processors in that time, not even at real-time priority.
    pub stall: Duration,
    pub remark: String,
}

/// Faults of one kind.
#[derive(Default)]
pub struct Faults {
    /// Longest time without an answer, each.
    pub outages: Vec<Duration>,
    /// In so many of them a box sent as holder after the other one had begun to.
    pub double: usize,
    /// The system's own accounts, where it gives some.
    pub accounts: Vec<Handover>,
}

/// Everything that is to be known of one system.
pub fn measure(system: &mut dyn System, plan: Plan) -> Figures {
    eprintln!("{}: {} planned hand-overs", system.name(), plan.faults);
    let planned = faults(system, plan.faults, |system, active| system.hand_over(active));
    eprintln!("{}: {} power losses", system.name(), plan.faults);
    let lost = faults(system, plan.faults, |system, active| system.lose_power(active));
    eprintln!("{}: {} s without a fault, {BUSY} busy processes", system.name(), plan.quiet.as_secs());
    system.settle();
    let (changes, stall) = quiet(system.rig(), plan.quiet);
    Figures { name: system.name(), planned, lost, changes, stall, remark: system.remark() }
}

fn faults(system: &mut dyn System, count: usize, fault: impl Fn(&mut dyn System, &'static str)) -> Faults {
    let mut done = Faults::default();
    for turn in 0..count {
        let active = system.settle();
        // Not in step with anybody's heartbeats.
        sleep(Duration::from_micros(u64::try_from(turn).unwrap() * 7_919 % 50_000));
        let (first, since) = (system.rig().capture.count(), clock::now());
        fault(system, active);
        let owner = other(active);
        system.rig().client.await_answer_from(owner);
        sleep(AFTERMATH);
        done.outages.push(system.rig().client.longest_outage(since));
        done.double += usize::from(overlap(&system.rig().capture.frames_from(first), owner));
        done.accounts.extend(system.account(owner));
        system.restore(active);
    }
    done
}

/// The former owner sent as holder after the new one had begun to.
fn overlap(frames: &[Frame], new: &str) -> bool {
    frames.iter().skip_while(|frame| frame.from != new).any(|frame| frame.from != new)
}

/// Owner changes on the wire under load while nobody does anything, and the worst stall of the machine.
fn quiet(rig: &Rig, time: Duration) -> (usize, Duration) {
    let first = rig.capture.count().saturating_sub(1);
    let stalls = Stalls::watch();
    let load: Vec<Child> = (0..BUSY).map(|_| burn()).collect();
    sleep(time);
    load.into_iter().for_each(end);
    let changes = rig.capture.frames_from(first).windows(2).filter(|pair| pair[0].from != pair[1].from).count();
    (changes, stalls.worst())
}

/// A program that only burns time.
fn burn() -> Child {
    Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()
}

/// Kills a program and waits for its end.
pub fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

impl Capture {
    /// All frames from the one with this number on.
    pub fn frames_from(&self, first: usize) -> Vec<Frame> {
        self.frames.lock().unwrap()[first..].to_vec()
    }

    /// Number of frames so far.
    pub fn count(&self) -> usize {
        self.frames.lock().unwrap().len()
    }
}
