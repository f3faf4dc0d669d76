//! Faults begin here.

use super::clock::{MS, SECOND, Time};
use super::fault::{DiskFault, Fault, Ways, Word};
use super::machine::Power;
use super::{Event, Lie, Told, World};
use twobox::node::settings::LAN;
use twobox::node::{Memory, Order};
use twobox::wire::pair::Role;

/// How long all must stay well after a witness stopped reflecting, or after a false panic text.
const GUARD: Time = 6 * SECOND;
/// A panic text proves something only if the line brought a heartbeat this shortly before; a little more than the node's own
/// figure, for the way that the text takes.
const PANIC_AGE: Time = 1_100 * MS;

impl World {
    /// Begins `fault` now, unless a fault that needs peace is going on, or it needs peace and there is none.
    pub fn inflict(&mut self, fault: Fault) {
        if self.now < self.guarded_until {
            return;
        }
        let needs_peace = matches!(fault, Fault::StopsReflecting { .. } | Fault::FalsePanicText { .. });
        if needs_peace && !self.peaceful() {
            return;
        }
        self.say(|_| format!("-- {fault:?}"));
        self.changed();
        let end = self.now + self.begin(fault);
        if end > self.now {
            self.after(end - self.now, Event::Mark);
        }
    }

    /// Returns how long the surroundings are changing.
    fn begin(&mut self, fault: Fault) -> Time {
        let now = self.now;
        match fault {
            Fault::Cut { path, ways, length } => {
                for line in self.lines(path, ways) {
                    self.network.lines[path as usize][line].cut_until = now + length;
                }
                length
            }
            Fault::Loss { path, ways, permille, length } => {
                for line in self.lines(path, ways) {
                    self.network.lines[path as usize][line].loss = (permille, now + length);
                }
                self.restless(length)
            }
            Fault::Delay { path, ways, up_to, length } => {
                for line in self.lines(path, ways) {
                    self.network.lines[path as usize][line].delay = (up_to, now + length);
                }
                self.restless(length + up_to)
            }
            Fault::Noise { path, ways, length } => {
                for line in self.lines(path, ways) {
                    self.network.lines[path as usize][line].noise_until = now + length;
                }
                self.restless(length)
            }
            Fault::LegCut { side, witness, ways, length } => {
                for way in self.lines(0, ways) {
                    self.network.witnesses[witness as usize].legs[side][way].cut_until = now + length;
                }
                length
            }
            Fault::LegLoss { side, witness, ways, permille, length } => {
                for way in self.lines(0, ways) {
                    self.network.witnesses[witness as usize].legs[side][way].loss = (permille, now + length);
                }
                self.restless(length)
            }
            Fault::LegDelay { side, witness, ways, by, length } => {
                for way in self.lines(0, ways) {
                    self.network.witnesses[witness as usize].legs[side][way].delay = (by, now + length);
                }
                self.restless(length + by)
            }
            Fault::Nic { side, length } => {
                self.nic(side, length);
                length
            }
            Fault::Split { with_a, length } => {
                for line in &mut self.network.lines[LAN as usize] {
                    line.cut_until = now + length;
                }
                for (w, witness) in self.network.witnesses.iter_mut().enumerate() {
                    let far = usize::from(with_a & (1 << w) != 0);
                    for leg in &mut witness.legs[far] {
                        leg.cut_until = now + length;
                    }
                }
                length
            }
            Fault::WitnessDown { witness, length } => {
                self.network.witnesses[witness as usize].down_until = now + length;
                length
            }
            Fault::StopsReflecting { witness, length } => {
                self.network.witnesses[witness as usize].silent_until = now + length;
                self.guarded_until = now + GUARD;
                length
            }
            Fault::Replay { to, count, every } => {
                self.after(0, Event::Replay { to, left: count, every });
                self.restless(every * Time::from(count))
            }
            Fault::Playback { to, length, pace } => {
                self.after(0, Event::Playback { to, next: 0, end: now + length, pace });
                0
            }
            Fault::Carrier { side, path, length } => {
                self.lose_carrier(side, path, length);
                for line in &mut self.network.lines[path as usize] {
                    line.cut_until = now + length;
                }
                length
            }
            _ => self.begin_in_box(fault),
        }
    }

    fn begin_in_box(&mut self, fault: Fault) -> Time {
        let now = self.now;
        match fault {
            Fault::PowerLoss { side, length } => {
                self.off(side, length);
                0
            }
            Fault::StateLoss { side, length } => {
                let m = &self.boxes[side];
                // A farewell that is forgotten is a promise broken: nothing but the disk holds it.
                let promised = matches!(m.memory, Memory::Known(record) if record.farewell)
                    || m.writing.is_some_and(|(_, record)| record.farewell);
                if m.template.mirrored && !promised {
                    self.off(side, length);
                    self.boxes[side].memory = Memory::Fresh;
                    self.say(|_| format!("{}'s state directory is lost", Self::name(side)));
                }
                0
            }
            Fault::Panic { side, length } => {
                if self.boxes[side].kernel_runs(now) {
                    self.text(side);
                    self.boxes[side].unclean = true;
                    self.off(side, length);
                }
                0
            }
            Fault::FalsePanicText { side } => {
                self.text(side);
                self.guarded_until = now + GUARD;
                GUARD
            }
            Fault::OldPanicText { side } => {
                let m = &self.boxes[side];
                if m.kernel_runs(now) && now < m.stopped_until && now - m.said_at > PANIC_AGE {
                    self.text(side);
                }
                0
            }
            Fault::KernelHang { side, length } => {
                // Nothing but the address lease would hold then, and it does not: its timer hangs too.
                if self.boxes[side].kernel_runs(now) {
                    if self.setup.lie == Some(Lie::PausedGuest) {
                        self.boxes[side].pause(now, length);
                    }
                    self.boxes[side].hung_until = now + length;
                    self.after(length, Event::Resume { side });
                }
                0
            }
            Fault::Stop { side, length } => {
                if self.boxes[side].runs(now) {
                    self.boxes[side].stopped_until = now + length;
                    self.after(length, Event::Resume { side });
                }
                0
            }
            Fault::StopInTurn { side, length } => {
                let length = self.bearable_stop(side, length);
                if self.boxes[side].runs(now) {
                    self.boxes[side].stop_in_turn = Some(length);
                }
                length
            }
            Fault::StopTwice { side, length, again } => {
                if self.boxes[side].runs(now) {
                    self.boxes[side].stop_in_turn = Some(length);
                    self.boxes[side].stop_again = again;
                }
                length + again
            }
            Fault::Late { side, by, length } => {
                self.boxes[side].late = (by, now + length);
                self.restless(length)
            }
            Fault::Kill { side, restart } => {
                if self.boxes[side].power == Power::On && self.boxes[side].program.is_some() {
                    self.kill(side, restart);
                }
                0
            }
            Fault::Disk { side, fault, length } => {
                let m = &mut self.boxes[side];
                match fault {
                    DiskFault::Slow(by) => m.disk_slow = (by, now + length),
                    DiskFault::Fails => m.disk_fails_until = now + length,
                    // Nothing changes as long as it lasts: whoever does not need that disk must serve.
                    DiskFault::Hangs => {
                        m.disk_hangs_until = now + length;
                        return length;
                    }
                }
                self.restless(length)
            }
            Fault::Order { side, word, delay } => {
                self.order(side, word, delay);
                delay
            }
            Fault::Leave { side, length } => {
                self.boxes[side].leave_length = length;
                self.after(0, Event::Order { side, order: Order::Leave });
                0
            }
            Fault::Force { side, stays_off } => {
                // Off for longer than anything of it could still be under way.
                if self.boxes[1 - side].power == Power::Off && self.boxes[side].runs(now) {
                    self.boxes[1 - side].kept_off = stays_off;
                    self.order(side, Word::Force, self.setup.boot_time.1);
                }
                0
            }
            Fault::Services { side, length } => {
                self.boxes[side].services_fail_until = now + length;
                let life = self.boxes[side].life;
                self.after(0, Event::Tell { to: side, life, what: Told::Services });
                self.after(length, Event::Tell { to: side, life, what: Told::Services });
                length
            }
            Fault::StopsSlowly { side, by, length } => {
                self.boxes[side].stops_slowly = (by, now + length);
                0
            }
            Fault::BeltLoss { side, length } => {
                let m = &self.boxes[side];
                let alone = m.runs(now) && now >= m.stuck_until && m.stop_in_turn.is_none() && m.late.1 <= now;
                // Until the next life has taken down what a killed one left up, a lost gate is noticed by nobody: assumption
                // A2 excludes that, and a lie brings it back.
                let watched = !m.address_up || self.role(side) != Some(Role::Joining);
                let watched = watched || self.setup.lie == Some(Lie::UnwatchedLoss);
                if alone && watched && m.unfinished.is_empty() && m.full_belts.weakened().bound().is_some() {
                    let life = m.life;
                    self.boxes[side].belt_lost_until = now + length;
                    self.after(0, Event::Tell { to: side, life, what: Told::Bound });
                    self.after(length, Event::Tell { to: side, life, what: Told::Bound });
                }
                length
            }
            Fault::Stuck { side, length } => {
                // Without gate and watchdog nothing would stop such a box but its own reset.
                if self.boxes[side].belts.gate || self.boxes[side].belts.watchdog.is_some() {
                    self.boxes[side].stuck_until = now + length;
                }
                length
            }
            _ => 0,
        }
    }

    pub(super) fn changed(&mut self) {
        self.changed_at = self.changed_at.max(self.now);
    }

    /// A fault that is random as long as it lasts.
    fn restless(&mut self, length: Time) -> Time {
        self.changed_at = self.changed_at.max(self.now + length);
        length
    }

    fn lines(&self, _path: u8, ways: Ways) -> impl Iterator<Item = usize> + use<> {
        (0..2usize).filter(move |way| ways & (1 << way) != 0)
    }

    fn nic(&mut self, side: usize, length: Time) {
        for line in &mut self.network.lines[LAN as usize] {
            line.cut_until = self.now + length;
        }
        for witness in &mut self.network.witnesses {
            for leg in &mut witness.legs[side] {
                leg.cut_until = self.now + length;
            }
        }
        self.lose_carrier(side, LAN, length);
    }

    fn lose_carrier(&mut self, side: usize, path: u8, length: Time) {
        self.boxes[side].carrier_lost_until[path as usize] = self.now + length;
        let life = self.boxes[side].life;
        self.after(MS, Event::Tell { to: side, life, what: Told::Carriers });
        self.after(length, Event::Tell { to: side, life, what: Told::Carriers });
    }

    /// Off now, and on again after `length`.
    fn off(&mut self, side: usize, length: Time) {
        self.say(|_| format!("{} is off", Self::name(side)));
        self.lose_power(side);
        let epoch = self.boxes[side].epoch;
        if !self.boxes[side].kept_off {
            self.after(length, Event::PowerOn { side, epoch });
        }
    }

    /// An address lease alone bears a stop between look and renewal only while the address is still there: a later
    /// renewal adds it again.
    fn bearable_stop(&self, side: usize, length: Time) -> Time {
        let belts = self.boxes[side].belts;
        match belts.lifetime {
            Some(lifetime) if !belts.gate && belts.watchdog.is_none() => length.min(lifetime),
            None if !belts.gate && belts.watchdog.is_none() => length.min(MS),
            _ => length,
        }
    }

    /// Everything ends well: the network is whole, the boxes are on and fit, nobody is held.
    pub fn heal(&mut self) {
        self.say(|_| "-- everything heals".into());
        self.healed = true;
        self.network.heal();
        self.changed();
        for side in 0..2 {
            let now = self.now;
            let m = &mut self.boxes[side];
            m.hung_until = m.hung_until.min(now);
            m.stopped_until = m.stopped_until.min(now);
            m.stop_in_turn = None;
            m.stop_again = 0;
            m.late = (0, 0);
            m.disk_slow = (0, 0);
            m.disk_fails_until = 0;
            m.disk_hangs_until = 0;
            m.services_fail_until = 0;
            m.stops_slowly = (0, 0);
            m.stuck_until = 0;
            m.carrier_lost_until = [0; 3];
            m.belt_lost_until = 0;
            m.kept_off = false;
            let life = m.life;
            let hung = m.writing.map(|w| w.0);
            if let Some(ticket) = hung {
                self.after(MS, Event::Written { to: side, life, ticket });
            }
            let m = &self.boxes[side];
            if m.power == Power::Off {
                let epoch = m.epoch;
                self.after(0, Event::PowerOn { side, epoch });
            } else {
                if m.power == Power::On && m.program.is_none() {
                    let epoch = m.epoch;
                    self.after(0, Event::Start { side, epoch, life });
                }
                self.after(0, Event::Resume { side });
                for what in [Told::Carriers, Told::Services, Told::Bound] {
                    self.after(MS, Event::Tell { to: side, life, what });
                }
            }
        }
        // Whoever is still booting hears the later ones.
        for n in 0..10 {
            for side in 0..2 {
                self.after((1 + n * 3) * SECOND, Event::Order { side, order: Order::Release });
            }
        }
    }
}
