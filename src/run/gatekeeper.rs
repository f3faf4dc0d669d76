//! Looks after the egress gate and the belt against raw senders, on the helper's thread: verifying allocates and makes system
//! calls, so the loop cannot do it.
//!
//! What was taken away is put back and verified again. If that works, nothing else has to change: from then on the gate closes
//! with the right again. If it does not work, or somebody does it again and again, the gate counts for nothing: the fence bound
//! falls back to the next belt at once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use smol::Timer;

use super::belts::{self, Way};
use super::letters::ToLoop;
use super::mailbox::Mailbox;
use crate::clock;
use crate::fence::gate::Gate;
use crate::fence::gate::nft::Belt;
use crate::netlink::Socket;
use crate::takeover::{ADDRESSES, interface};
use crate::time::{Duration, Instant};

/// How often it is looked: whoever takes a belt away is noticed within a second.
const LOOK: Duration = Duration::from_millis(500);
/// A second interference within this time is no accident.
const AGAIN: Duration = Duration::from_secs(60);
/// So long the gate must have been left alone before it counts again.
const QUIET: Duration = Duration::from_secs(10);

/// What the status shows of it.
#[derive(Clone, Default)]
pub(super) struct Told {
    /// The gate itself, for its counters.
    pub gate: Option<Arc<Gate>>,
    /// How often the gate was put back.
    pub repairs: u32,
    /// When that was last.
    pub repaired_at: Option<Instant>,
    /// It was installed and cannot be relied on.
    pub lost: bool,
    /// The belt against raw senders stands.
    pub raw_belt: bool,
}

impl Told {
    fn repaired(&mut self) {
        self.repairs = self.repairs.saturating_add(1);
        self.repaired_at = Some(clock::now());
    }
}

/// What is looked after.
pub(super) struct Gatekeeper {
    pub gate: Option<Arc<Gate>>,
    pub raw_belt: Option<Belt>,
    /// The interfaces; their indexes change when one is taken out and put in again.
    pub ways: Vec<Way>,
    pub to_loop: Arc<Mailbox<ToLoop>>,
    pub told: Rc<RefCell<Told>>,
    /// Other interfaces that could not be guarded at the last look.
    pub unguarded: Vec<u32>,
}

/// Whether a gate that was interfered with counts. Pure.
#[derive(Clone, Copy, Debug, Default)]
struct Trust {
    interfered_at: Option<Instant>,
    lost: bool,
}

impl Trust {
    /// `intact`: nothing was amiss. `holds`: nothing is, perhaps after a repair. True: it counts.
    fn look(&mut self, now: Instant, intact: bool, holds: bool) -> bool {
        let within = |age: Duration| self.interfered_at.is_some_and(|at| now.since(at) < age);
        if !holds {
            self.lost = true;
        } else if !intact {
            self.lost |= within(AGAIN);
        } else if !within(QUIET) {
            self.lost = false;
        }
        if !intact || !holds {
            self.interfered_at = Some(now);
        }
        !self.lost
    }
}

impl Gatekeeper {
    /// For as long as the daemon runs; tells the loop whenever it changes whether the gate counts.
    pub(super) async fn watch(mut self) {
        let mut trust = Trust::default();
        let mut loop_knows = true;
        self.told.borrow_mut().raw_belt = self.raw_belt.is_some();
        self.told.borrow_mut().gate.clone_from(&self.gate);
        let mut loop_follows = false; // nobody has told it yet where the gate is
        loop {
            Timer::after(LOOK).await;
            let (moved, names) = self.find_interfaces();
            self.look_at_raw_belt(moved, &names);
            if let Some(gate) = self.gate.clone() {
                let counts = self.look_at_gate(&gate, moved, &mut trust);
                self.look_at_others(&gate);
                // A loop that takes no letters is stuck; the gate's own clock and the watchdog are there for that. Told again
                // at the next look.
                if counts != loop_knows && self.to_loop.send(ToLoop::Gate { holds: counts }).is_ok() {
                    loop_knows = counts;
                    say(counts);
                }
            }
            // Not before: an address goes on the new interface when the gate is there, or counts no more.
            let mut gated = [0; ADDRESSES];
            gated.iter_mut().zip(&self.ways).for_each(|(index, way)| *index = way.index);
            loop_follows = (loop_follows && !moved) || self.to_loop.send(ToLoop::Moved { gated }).is_ok();
        }
    }

    /// Whether the gate counts.
    fn look_at_gate(&self, gate: &Gate, moved: bool, trust: &mut Trust) -> bool {
        if moved && let Err(error) = gate.repair(&self.indexes()) {
            log::error!("the egress gate cannot be put on the new interface: {error}");
        }
        let faults = gate.verify();
        let intact = faults.is_empty();
        let holds = intact || self.repair(gate, &faults);
        let counts = trust.look(clock::now(), intact, holds);
        self.told.borrow_mut().lost = !counts;
        counts
    }

    fn repair(&self, gate: &Gate, faults: &[impl core::fmt::Debug]) -> bool {
        let repaired = gate.repair(&self.indexes());
        let left = gate.verify();
        let holds = left.is_empty();
        match repaired {
            Ok(()) if holds => {
                log::warn!("somebody changed the egress gate ({faults:?}): it was put back and holds");
                self.told.borrow_mut().repaired();
            }
            // Once, not at every look.
            _ if self.told.borrow().lost => {}
            Ok(()) => log::error!("the egress gate was changed ({faults:?}) and cannot be put back: {left:?}"),
            Err(error) => log::error!("the egress gate was changed ({faults:?}) and cannot be put back: {error}"),
        }
        holds
    }

    /// One that comes is guarded from the next look on.
    fn look_at_others(&mut self, gate: &Gate) {
        let Ok(others) = belts::others(&self.ways) else { return };
        let found = gate.guard_others(&others);
        let unguarded: Vec<u32> = found.unguarded.iter().map(|(index, _)| *index).collect();
        let put_back: Vec<u32> = found.touched.iter().copied().filter(|index| !unguarded.contains(index)).collect();
        if !put_back.is_empty() {
            log::warn!("somebody changed the egress gate on other interfaces ({put_back:?}): it was put back");
            self.told.borrow_mut().repaired();
        }
        for (index, error) in found.unguarded {
            if !self.unguarded.contains(&index) {
                log::warn!(
                    "no egress gate on interface {index}, which has no service address: {error}; what leaves by it as holder, as from \
                     a packet socket or by a route, is stopped by slower belts"
                );
            }
        }
        self.unguarded = unguarded;
    }

    fn indexes(&self) -> Vec<u32> {
        self.ways.iter().map(|way| way.index).collect()
    }

    /// Whether another interface has taken the name of one; and the names that those that are there have now.
    fn find_interfaces(&mut self) -> (bool, Vec<String>) {
        let mut moved = false;
        let Ok(all) = Socket::open().and_then(|mut netlink| interface::list(&mut netlink)) else {
            return (false, Vec::new());
        };
        for way in &mut self.ways {
            // Gone: its index stays, and the gate is missing there.
            if let Some(found) = interface::replacement(&all, &way.name, way.index) {
                log::info!("interface {} is a new one", way.name);
                (way.index, moved) = (found.index, true);
            }
        }
        let name = |way: &Way| Some(all.iter().find(|interface| interface.index == way.index)?.name.to_string());
        (moved, self.ways.iter().filter_map(name).collect())
    }

    /// The belt is on interfaces by their names: since Linux 6.16 it leaves one that gets another name.
    fn look_at_raw_belt(&mut self, moved: bool, names: &[String]) {
        let (Some(belt), Some(gate)) = (&self.raw_belt, &self.gate) else { return };
        if names.is_empty() {
            return; // there is nowhere to put it
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if !moved && belt.verify(&names).unwrap_or(false) {
            self.told.borrow_mut().raw_belt = true;
            return;
        }
        let stood = self.told.borrow().raw_belt;
        match belts::against_raw_senders(&names, gate.settings()) {
            Ok(belt) => {
                log::warn!("the belt against raw senders was gone: it was put back");
                self.raw_belt = Some(belt);
                self.told.borrow_mut().raw_belt = true;
            }
            Err(error) => {
                if stood {
                    log::error!("the belt against raw senders is gone and cannot be put back: {error}");
                }
                self.told.borrow_mut().raw_belt = false;
            }
        }
    }
}

fn say(counts: bool) {
    if counts {
        log::info!("the egress gate holds again");
    } else {
        log::error!(
            "the egress gate does not hold: the fence bound falls back to the next belt; find who changes the interface's \
             filters"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    #[test]
    fn one_interference_that_was_repaired_costs_nothing() {
        let mut trust = Trust::default();
        assert!(trust.look(at(1), true, true));
        assert!(trust.look(at(2), false, true));
        assert!(trust.look(at(3), true, true));
        assert!(trust.look(at(70), false, true), "a minute later it is another one");
    }

    #[test]
    fn a_second_one_soon_after_ends_the_trust_until_it_is_quiet() {
        let mut trust = Trust::default();
        assert!(trust.look(at(100), false, true));
        assert!(!trust.look(at(101), false, true));
        assert!(!trust.look(at(110), true, true));
        assert!(trust.look(at(111), true, true));
    }

    #[test]
    fn what_cannot_be_repaired_never_counts() {
        let mut trust = Trust::default();
        assert!(!trust.look(at(100), false, false));
        assert!(!trust.look(at(105), false, false));
        assert!(!trust.look(at(114), true, true));
        assert!(trust.look(at(115), true, true));
    }
}
