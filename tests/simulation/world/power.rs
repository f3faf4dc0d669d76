//! Power, the start and the end of the program, and the watchdog that ends both.

use super::clock::{Clock, MS, NEVER, SECOND, Time};
use super::machine::{Holding, Power, Waiting};
use super::{Event, Told, World};
use twobox::node::{Node, Settings};
use twobox::time::Duration;
use twobox::wire::pair::BootId;

impl World {
    /// Power comes on.
    pub fn power_on(&mut self, i: usize) {
        let boot = self.random.between(self.setup.boot_time.0, self.setup.boot_time.1);
        self.say(|_| format!("{} is switched on", Self::name(i)));
        let m = &mut self.boxes[i];
        m.power = Power::Booting;
        let (epoch, life) = (m.epoch, m.life);
        self.after(boot, Event::Start { side: i, epoch, life });
    }

    /// The box loses everything that is not on disk, and boots again.
    pub(super) fn reboot(&mut self, i: usize, why: &str) {
        self.say(|_| format!("{}: {why}", Self::name(i)));
        self.lose_power(i);
        if !self.boxes[i].kept_off {
            self.power_on(i);
        }
    }

    /// Power is gone. A write under way is torn: old, new, or nothing that can be read.
    pub(super) fn lose_power(&mut self, i: usize) {
        self.changed();
        self.abandon_write(i, true);
        self.give_back(i);
        self.boxes[i].lose_power();
    }

    /// Frees the frames that wait for a loop that will not come.
    pub(super) fn give_back(&mut self, i: usize) {
        for what in &self.boxes[i].waiting {
            if let Waiting::Frame { frame, .. } = what {
                self.free.push(*frame);
            }
        }
    }

    /// The program starts: a new life, whether the kernel is a new one or not.
    pub(super) fn start(&mut self, i: usize) {
        self.changed();
        let boot = BootId::new(self.random.next() | 1).expect("odd is not zero");
        let fresh = self.boxes[i].power == Power::Booting;
        let origin = if fresh { self.random.between(SECOND, 20 * SECOND) } else { 0 };
        let tells_later = self.random.chance(300);
        let m = &mut self.boxes[i];
        if fresh {
            m.power = Power::On;
            m.clock = Clock { booted: self.now, from: origin, drift: m.clock.drift };
            m.address_up = false;
        }
        m.life += 1;
        m.seal.boot = boot;
        m.belts = m.full_belts;
        let fence = m.belts.bound().map(Duration::from_nanos);
        let settings = Settings { boot, fence: fence.filter(|_| !tells_later), ..m.template.clone() };
        let unclean = std::mem::take(&mut m.unclean);
        let now = m.clock.local(self.now);
        m.program = Some(Box::new(Node::new(settings, now, m.memory, unclean)));
        m.order = 0;
        m.heard_of = Default::default();
        (m.cut_at, m.unfit_at) = (None, None);
        m.holding = if m.address_up { Holding::Stopping } else { Holding::Down };
        if let Some((fire, _)) = m.belts.watchdog {
            m.dog_fires = self.now + fire;
        }
        m.wake = self.now;
        let (life, memory) = (m.life, m.memory);
        self.say(|_| format!("{} starts, boot {:x}, on disk {memory:?}", Self::name(i), boot.get()));
        self.arm_dog(i);
        let clean = self.random.between(MS, self.setup.clean_time);
        self.after(clean, Event::Tell { to: i, life, what: Told::ServicesStopped(0) });
        for what in [Told::Carriers, Told::Services] {
            self.after(MS, Event::Tell { to: i, life, what });
        }
        // The mirror is a process of its own, and opens its copies first.
        let opens = self.random.between(MS, 3 * SECOND);
        self.boxes[i].copies_read_at = self.now + opens;
        self.tell_data(i, opens);
        if tells_later {
            self.after(clean / 2 + MS, Event::Tell { to: i, life, what: Told::Bound });
        }
    }

    /// The program dies; the kernel keeps addresses, gate and watchdog.
    pub(super) fn kill(&mut self, i: usize, restart: Time) {
        self.abandon_write(i, false);
        self.give_back(i);
        self.boxes[i].lose_program();
        let (epoch, life) = (self.boxes[i].epoch, self.boxes[i].life);
        self.after(restart, Event::Start { side: i, epoch, life });
    }

    pub(super) fn arm_dog(&mut self, i: usize) {
        let m = &mut self.boxes[i];
        if m.dog_fires != NEVER && m.dog_event == NEVER {
            m.dog_event = m.dog_fires;
            let (wait, epoch) = (m.dog_fires.saturating_sub(self.now), m.epoch);
            self.after(wait, Event::Dog { side: i, epoch });
        }
    }

    pub(super) fn dog(&mut self, i: usize, epoch: u32) {
        let m = &mut self.boxes[i];
        m.dog_event = NEVER;
        if m.epoch == epoch && m.dog_fires <= self.now {
            m.dog_fires = NEVER;
            let reset = m.belts.watchdog.map_or(0, |(_, reset)| reset);
            self.say(|_| format!("{}'s watchdog fires", Self::name(i)));
            self.after(reset, Event::DogReset { side: i, epoch });
        } else {
            self.arm_dog(i);
        }
    }
}
