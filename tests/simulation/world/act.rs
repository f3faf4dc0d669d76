//! What the drivers of a box do when its node tells them.

use super::clock::{MS, SECOND, Time, ns};
use super::judge::seconds;
use super::machine::{EXPIRY_LATENESS, Holding, Machine, Waiting};
use super::{Event, RECENT, RECORDED, TAPE, Told, World};
use twobox::node::record::owns_term;
use twobox::node::settings::FIRST_REFLECTED;
use twobox::node::settings::StaleData;
use twobox::node::{Action, Memory, Note, Record};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{Heartbeat, SIZE};
use twobox::wire::pair::{Data, Generation, Role};

/// Up to this age a copy is current.
const STALE: Time = 10 * SECOND;

impl World {
    pub(super) fn act(&mut self, i: usize, action: Action) {
        let life = self.boxes[i].life;
        match action {
            Action::Send(h) => self.send(i, h),
            Action::Ping { witness, round } => self.round[i] = Some((witness, round)),
            Action::Persist { ticket, record } => self.persist(i, ticket, record),
            Action::Activate { term, until } => self.activate(i, term, until),
            Action::Lineage(generation) => self.rename(i, generation),
            Action::Renew { until } => self.renew(i, until),
            Action::Yield { order } => {
                let (by, slow_until) = self.boxes[i].stops_slowly;
                let m = &mut self.boxes[i];
                m.order = order;
                m.holding = Holding::Stopping;
                let slow = if self.now < slow_until { by } else { 100 * MS };
                let wait = self.random.between(2 * MS, slow.max(2 * MS));
                self.after(wait, Event::Tell { to: i, life, what: Told::ServicesStopped(order) });
            }
            Action::Fence { order } => {
                self.boxes[i].order = order;
                self.boxes[i].holding = Holding::Stopping;
                self.take_down(i, order);
            }
            Action::Feed => {
                let lazy = self.setup.lie == Some(super::Lie::SlowWatchdog);
                self.boxes[i].feed(self.now + if lazy { 20 * SECOND } else { 0 });
            }
            Action::Probe => self.probe(i),
            Action::Reset if self.setup.reset_works => self.reboot(i, "resets itself"),
            Action::Reset => {}
            Action::Leave => {
                self.say(|_| format!("{} has left and is switched off", Self::name(i)));
                let length = if self.healed { MS } else { self.boxes[i].leave_length };
                self.lose_power(i);
                let epoch = self.boxes[i].epoch;
                self.after(length, Event::PowerOn { side: i, epoch });
            }
            Action::Note(note) => self.note(i, note),
            Action::Answer(..) => {}
        }
    }

    fn note(&mut self, i: usize, note: Note) {
        if matches!(note, Note::Role { to: Role::Claiming, .. }) {
            self.boxes[i].claiming_at = self.now;
        }
        if self.trace.is_none() {
            return;
        }
        let name = Self::name(i);
        match note {
            Note::Role { from, to, why, term } => {
                self.say(|_| format!("{name} {} -> {} (term {term}): {why}", from.name(), to.name()));
            }
            Note::Rejected { .. } => {}
            other => self.say(|_| format!("{name} {other:?}")),
        }
    }

    fn send(&mut self, i: usize, h: Heartbeat) {
        let h = if self.setup.through_wire { self.through_wire(i, h) } else { h };
        if self.recorded.len() < RECORDED {
            self.recorded.push(h);
        } else if self.random.chance(60) {
            let n = self.random.between(RECENT as u64, RECORDED as u64 - 1) as usize;
            self.recorded[n] = h;
        } else {
            let n = (h.content_sequence % RECENT as u64) as usize;
            self.recorded[n] = h;
        }
        let tape = &mut self.tapes[i];
        if tape.len() < TAPE && tape.first().is_none_or(|first| first.1.boot == h.boot) {
            tape.push((self.now, h));
        }
        self.boxes[i].said_at = self.now;
        if !h.eligible || h.intent || !h.role.is_passive() {
            self.boxes[i].unfit_at = Some(self.now);
        }
        if h.path >= FIRST_REFLECTED {
            let witness = h.path - FIRST_REFLECTED;
            let round = self.round[i].take().filter(|r| r.0 == witness).map(|r| r.1);
            let dwell = self.network.dwell;
            let latency = self.network.witnesses[witness as usize].latency;
            let leg = &mut self.network.witnesses[witness as usize].legs[i][0];
            if let Some(late) = leg.pass(self.now, dwell, &mut self.random) {
                let jitter = self.random.between(MS / 20, MS / 2);
                let life = self.boxes[i].life;
                let frame = self.keep(h);
                self.after(latency + jitter + late, Event::AtWitness { witness, from: i, round, frame, life });
            }
            return;
        }
        let passage = self.network.lines[h.path as usize][i].pass(self.now, &mut self.random);
        if passage.corrupt {
            self.corrupt(i, h);
            return;
        }
        for at in passage.arrive.into_iter().flatten() {
            let frame = self.keep(h);
            self.after(at - self.now, Event::Frame { to: 1 - i, path: h.path, frame });
        }
    }

    fn through_wire(&mut self, i: usize, h: Heartbeat) -> Heartbeat {
        let mut bytes = [0; SIZE];
        let (ours, theirs) = (&self.boxes[i].seal, &self.boxes[1 - i].seal);
        match theirs.decode(ours.encode(&h, &mut bytes)) {
            Ok(back) => back,
            Err(reason) => {
                self.judge.found(self.now, format!("a good frame is refused: {}", reason.name()));
                h
            }
        }
    }

    /// A flipped bit anywhere must not get through.
    fn corrupt(&mut self, i: usize, h: Heartbeat) {
        let mut bytes = [0; SIZE];
        self.boxes[i].seal.encode(&h, &mut bytes);
        let bit = self.random.below(SIZE as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = self.boxes[1 - i].seal.decode(&bytes) {
            self.judge.found(self.now, format!("bit {bit} was flipped, and read as {read:?}"));
        }
    }

    fn persist(&mut self, i: usize, ticket: u32, record: Record) {
        let m = &mut self.boxes[i];
        let slow = if self.now < m.disk_slow.1 { m.disk_slow.0 } else { 20 * MS };
        m.writing = Some((ticket, record));
        let (life, hangs) = (m.life, m.disk_hangs_until.saturating_sub(self.now));
        let wait = hangs + self.random.between(MS / 2, slow.max(MS));
        self.after(wait, Event::Written { to: i, life, ticket });
    }

    pub(super) fn written(&mut self, i: usize, life: u32, ticket: u32) {
        let half = self.random.chance(500);
        let m = &mut self.boxes[i];
        let Some((_, record)) = m.writing.take_if(|w| w.0 == ticket && m.life == life) else { return };
        let durable = self.now >= m.disk_fails_until;
        if (durable || half) && self.setup.lie != Some(super::Lie::ForgetfulDisk) {
            m.memory = Memory::Known(record);
        }
        if !durable {
            self.say(|_| format!("{}'s write fails", Self::name(i)));
        }
        self.wait(i, Waiting::Written { ticket, durable });
    }

    /// Nobody waits for the write any more. `torn`: the power went with it.
    pub(super) fn abandon_write(&mut self, i: usize, torn: bool) {
        let luck = self.random.below(if torn { 5 } else { 2 });
        let m = &mut self.boxes[i];
        let Some((_, record)) = m.writing.take() else { return };
        match luck {
            0 | 2 => {}
            1 | 3 => m.memory = Memory::Known(record),
            _ => {
                m.memory = Memory::Damaged;
                m.damaged_ever = true;
                self.say(|_| format!("{}'s record is torn", Self::name(i)));
            }
        }
    }

    fn activate(&mut self, i: usize, term: u64, until: Instant) {
        let lateness = self.expiry_lateness();
        let m = &mut self.boxes[i];
        m.gate_until = until;
        m.holding = Holding::Up;
        m.renew_address(self.now, lateness);
        let boot = m.seal.boot.get();
        let reserved = if let Memory::Known(record) = m.memory { record.reserved } else { 0 };
        let (before, synced) = (m.copy, m.synced);
        m.copy = Generation { term, boot };
        (m.synced, m.served_at, m.cut_at) = (self.now, self.now, Some(self.now));
        let mirrored = m.template.mirrored;
        let (stale_matters, heard) = (m.template.mirrored && m.template.stale_data == StaleData::Hold, m.heard_of);
        let lost = m.damaged_ever;
        let status = m.program.as_ref().map(|node| node.status(m.clock.local(self.now)));
        let why = status.and_then(|s| s.handover).map_or("?", |h| h.why);
        self.say(|_| format!("{} brings its addresses up in term {term}", Self::name(i)));
        if reserved < term {
            self.judge.found(self.now, format!("{} serves term {term}, on its disk is {reserved}", Self::name(i)));
        }
        self.judge.activated(self.now, Self::name(i), term, why, lost);
        if mirrored && before.term >= term {
            // The mirror would refuse to send it, and the peer to take it.
            let text = format!("{} serves term {term}, and its data are of term {}", Self::name(i), before.term);
            self.judge.found(self.now, text);
        }
        if mirrored && self.source_is_passed_over(i, before, synced) {
            let age = seconds(self.boxes[1 - i].served_at - synced);
            let text = format!("{} serves a copy that is {age} older than its source, which is there", Self::name(i));
            self.judge.found(self.now, text);
        }
        if stale_matters && before.term < heard.term && why != "forced by the operator" {
            let text = format!("{} serves data of term {} and knows of {}", Self::name(i), before.term, heard.term);
            self.judge.found(self.now, text);
        }
        self.look();
    }

    /// What is served bears another name from now on, which must be as new as one of a takeover.
    fn rename(&mut self, i: usize, generation: Generation) {
        self.say(|_| format!("{} serves on in term {}", Self::name(i), generation.term));
        let m = &mut self.boxes[i];
        let reserved = if let Memory::Known(record) = m.memory { record.reserved } else { 0 };
        if m.holding != Holding::Up || reserved < generation.term || m.copy.term >= generation.term {
            let (copy, name) = (m.copy.term, Self::name(i));
            let text =
                format!("{name} serves on in term {generation:?}, on its disk is {reserved}, its copy is of {copy}");
            self.judge.found(self.now, text);
            return;
        }
        m.copy = generation;
        let lost = m.damaged_ever;
        self.judge.names(self.now, Self::name(i), generation.term, lost);
    }

    /// The other box is where the data came from that are served now, has what was written after they were copied, and would
    /// have served.
    fn source_is_passed_over(&self, i: usize, data: Generation, synced: Time) -> bool {
        let (m, source) = (&self.boxes[i], &self.boxes[1 - i]);
        let is_source = data.term > 0 && source.copy == data && owns_term(source.template.node, data.term);
        let is_older = source.served_at > synced + STALE + 2 * SECOND;
        // A vote that was given while it could not serve may be used for a lease.
        let voted_at = m.claiming_at.saturating_sub(2 * ns(m.template.lease));
        let is_fit = source.runs(self.now) && source.unfit_at.is_none_or(|at| at < voted_at);
        let hears = |m: &Machine| m.program.as_ref().is_some_and(|node| node.status(m.clock.local(self.now)).in_touch);
        is_source && is_older && is_fit && hears(m) && hears(source) && !self.judge.operator_answers
    }

    /// How much later than its lifetime the kernel takes an address away.
    fn expiry_lateness(&mut self) -> Time {
        let endless = self.setup.lie == Some(super::Lie::EndlessAddress);
        self.random.between(4 * MS, EXPIRY_LATENESS) + if endless { 1000 * SECOND } else { 0 }
    }

    /// The gate's end is absolute; the address' lifetime counts from now, and a renewal that comes too late adds it again.
    fn renew(&mut self, i: usize, until: Instant) {
        if self.boxes[i].holding == Holding::Down {
            return;
        }
        let lateness = self.expiry_lateness();
        let m = &mut self.boxes[i];
        m.gate_until = until;
        m.renew_address(self.now, lateness);
        self.look();
    }

    /// Closes the gate, takes the addresses down and reads back.
    pub(super) fn take_down(&mut self, i: usize, order: u32) {
        let m = &mut self.boxes[i];
        if m.order != order || m.holding == Holding::Up {
            return;
        }
        m.gate_until = Instant::BOOT;
        m.holding = Holding::Down;
        let life = m.life;
        if self.now < m.stuck_until {
            m.holding = Holding::Stopping;
            self.after(2 * MS, Event::Tell { to: i, life, what: Told::NotDown });
            self.after(200 * MS, Event::Tell { to: i, life, what: Told::ServicesStopped(order) });
            return;
        }
        m.address_up = false;
        let wait = self.random.between(MS / 2, 4 * MS);
        self.after(wait, Event::Tell { to: i, life, what: Told::Down(order) });
    }

    /// A conflict probe: whoever emits and is reached answers, the program has no part in it.
    fn probe(&mut self, i: usize) {
        let lan = twobox::node::settings::LAN as usize;
        let (there, back) = (self.network.lines[lan][i], self.network.lines[lan][1 - i]);
        if self.setup.probes_answered && there.up(self.now) && back.up(self.now) && self.boxes[1 - i].emits(self.now) {
            let life = self.boxes[i].life;
            self.after(MS, Event::Tell { to: i, life, what: Told::Conflict });
        }
    }

    pub(super) fn refresh_belts(&mut self, i: usize) -> Option<Duration> {
        let m = &mut self.boxes[i];
        let belts = if self.now < m.belt_lost_until { m.full_belts.weakened() } else { m.full_belts };
        if belts.gate && !m.belts.gate {
            m.gate_until = Instant::BOOT;
        }
        match (belts.watchdog, m.belts.watchdog) {
            (Some((fire, _)), None) => m.dog_fires = self.now + fire,
            (None, Some(_)) => m.dog_fires = super::clock::NEVER,
            _ => {}
        }
        if belts.lifetime.is_some() && m.belts.lifetime.is_none() && m.address_up {
            m.address_until = self.now + belts.lifetime.unwrap_or(0);
        }
        m.belts = belts;
        self.arm_dog(i);
        belts.bound().map(Duration::from_nanos)
    }

    /// What the mirror of a box says.
    pub(super) fn data(&self, i: usize, role: Role) -> Data {
        let m = &self.boxes[i];
        let age = m.cut_at.map(|at| self.now - at);
        let sends = matches!(role, Role::Active | Role::Yielding);
        Data {
            generation: m.copy,
            lag_s: age.map_or(0, |age| u32::try_from(age / SECOND).unwrap_or(u32::MAX)),
            stale_trees: u8::from(!sends && age.is_none_or(|age| age > STALE)),
        }
    }

    /// Once a second the boxes' mirrors catch up with whoever serves.
    pub(super) fn mirror(&mut self) {
        for i in 0..2 {
            let source = &self.boxes[1 - i];
            // Whatever a returning box has of its own is set aside: it becomes a copy of the one that serves, but of none
            // that serves a lower term than that of its own.
            let serves = source.runs(self.now) && source.holding == Holding::Up;
            let up = |path: usize| self.network.lines[path].iter().all(|line| line.up(self.now));
            let generation = source.copy;
            let takes = generation.term >= self.boxes[i].copy.term;
            if serves && takes && (up(1) || up(2)) && self.boxes[i].runs(self.now) {
                self.boxes[i].copy = generation;
                self.boxes[i].synced = self.now;
                self.boxes[i].cut_at = Some(self.now);
            }
            if self.boxes[i].emits(self.now) {
                self.boxes[i].served_at = self.now;
            }
            if self.boxes[i].runs(self.now) && self.now >= self.boxes[i].copies_read_at {
                self.tell_data(i, 0);
            }
        }
    }

    /// Where nothing is mirrored there is no mirror to say anything.
    pub(super) fn tell_data(&mut self, i: usize, wait: Time) {
        if self.boxes[i].template.mirrored {
            let life = self.boxes[i].life;
            self.after(wait, Event::Tell { to: i, life, what: Told::Data });
        }
    }
}
