//! The pair on its stage: gives orders to the rig and brings what is seen into the model.

use std::time::Duration;

use crate::rig::{Cable, Rig, ruin};

use super::model::{CROSSOVER, LAN, Model, NULL_MODEM, WITNESS};
use super::script::{Cord, Order, Which};

/// Between two questions for a box's status.
const PERIOD: Duration = Duration::from_millis(1000);
/// A question that is not answered by then is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The rig and what is known of it.
pub struct Stage {
    /// Both machines and every cable.
    pub rig: Rig,
    /// What is known.
    pub model: Model,
    /// Lines of the rig's timeline that were looked at.
    mark: usize,
    /// When each box was asked for its status, and whether it has answered.
    asked: [Option<(Duration, bool)>; 2],
}

impl Stage {
    /// Everything is laid, both boxes are off.
    pub fn new(rig: Rig) -> Stage {
        let model = Model { emulated: rig.accelerator != "kvm", ..Model::default() };
        Stage { rig, model, mark: 0, asked: [None, None] }
    }

    /// Looks at all that has happened; returns the lines worth telling. To be called some ten times a second.
    pub fn turn(&mut self) -> Vec<String> {
        let events = self.rig.timeline.since(self.mark);
        self.mark += events.len();
        let mut told = Vec::new();
        for event in &events {
            told.extend(self.model.see(event));
            for (index, who) in ["a$", "b$"].into_iter().enumerate() {
                if event.who == who && event.text.starts_with("done ") {
                    self.asked[index] = self.asked[index].map(|(at, _)| (at, true));
                }
            }
        }
        let now = self.rig.timeline.now();
        self.model.pass(now, self.rig.fetched());
        for index in [0, 1] {
            let due = self.asked[index]
                .is_none_or(|(at, answered)| now.saturating_sub(at) > if answered { PERIOD } else { PATIENCE });
            if due && self.model.boxes[index].is_ready {
                self.asked[index] = Some((now, false));
                self.rig.machines[index].agent.send("/init status --json");
            }
        }
        told
    }

    /// The box that is meant.
    pub fn index(&self, which: Which) -> usize {
        match which {
            Which::A => 0,
            Which::B => 1,
            Which::Active => self.model.active(),
            Which::Standby => 1 - self.model.active(),
        }
    }

    /// Gives an order that takes no time.
    ///
    /// # Errors
    ///
    /// Why it makes no sense now.
    pub fn order(&mut self, order: Order) -> Result<(), String> {
        match order {
            Order::Cut(cord) => self.set_cut(cord, true),
            Order::Mend(cord) => self.set_cut(cord, false),
            Order::MendAll => {
                for cord in [NULL_MODEM, CROSSOVER, LAN, LAN + 1, WITNESS] {
                    if self.model.cut[cord].is_some() {
                        self.set_place(cord, false);
                    }
                }
            }
            Order::PowerCut(which) => {
                let index = self.on(which)?;
                self.rig.machines[index].power_cut();
            }
            Order::PowerOn => {
                for index in [0, 1] {
                    if !self.rig.machines[index].is_on() {
                        self.rig.power_on(index);
                        self.asked[index] = None;
                    }
                }
            }
            Order::Hang(which) => self.tell(which, "hangs", ruin::HANG)?,
            Order::Panic(which) => self.tell(which, "panics the kernel of", ruin::PANIC)?,
            Order::Switchover => self.tell(Which::Active, "orders a switchover at", "/init switchover")?,
            Order::Hold(which) => self.tell(which, "holds", "/init hold the demonstration")?,
            Order::Release(which) => self.tell(which, "releases", "/init release")?,
            Order::Wait(_) | Order::Healthy => {}
        }
        Ok(())
    }

    fn on(&self, which: Which) -> Result<usize, String> {
        let index = self.index(which);
        if self.rig.machines[index].is_on() { Ok(index) } else { Err(format!("{} is off", ["a", "b"][index])) }
    }

    /// Types a command inside a box.
    fn tell(&self, which: Which, verb: &str, command: &str) -> Result<(), String> {
        let index = self.on(which)?;
        if !self.model.boxes[index].is_ready {
            return Err(format!("{} is still booting", ["a", "b"][index]));
        }
        self.rig.timeline.add("rig", format!("{verb} {}", ["a", "b"][index]));
        self.rig.machines[index].agent.send(command);
        Ok(())
    }

    fn set_cut(&mut self, cord: Cord, cut: bool) {
        let place = match cord {
            Cord::NullModem => NULL_MODEM,
            Cord::Crossover => CROSSOVER,
            // "mend lan active": the box that serves may have changed since the cut; the cable is the one that is out.
            Cord::Lan(Which::Active | Which::Standby) if !cut && self.model.cut[LAN].is_some() => LAN,
            Cord::Lan(Which::Active | Which::Standby) if !cut && self.model.cut[LAN + 1].is_some() => LAN + 1,
            Cord::Lan(which) => LAN + self.index(which),
            Cord::Witness => WITNESS,
        };
        self.set_place(place, cut);
    }

    fn set_place(&mut self, place: usize, cut: bool) {
        self.model.cut[place] = cut.then(|| self.rig.timeline.now());
        match place {
            NULL_MODEM => self.rig.set_cut(Cable::NullModem, cut),
            CROSSOVER => self.rig.set_cut(Cable::Crossover, cut),
            WITNESS => self.rig.set_witness(!cut),
            lan => self.rig.set_cut(Cable::Lan(lan - LAN), cut),
        }
    }
}
