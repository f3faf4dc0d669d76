//! Two boxes and what lies between them, in one queue of events. The nodes are the real ones; everything around them is
//! modelled, the belts above all, because safety is judged by what leaves a box.

mod act;
mod check;
pub mod clock;
pub mod fault;
mod inflict;
pub mod judge;
pub mod machine;
pub mod network;
pub mod random;

use clock::{Clock, MS, NEVER, SECOND, Time, ns};
use fault::Word;
use judge::Judge;
use machine::{Belts, Holding, Machine, Power, SOCKET_FRAMES, Waiting};
use network::Network;
use random::Random;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use twobox::node::settings::{NULL_MODEM, PATHS};
use twobox::node::{Action, Answer, Input, Node, Order, Settings};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{Heartbeat, Seal};
use twobox::wire::pair::{BootId, Role, Side};

/// Places among the recorded frames that always hold recent ones.
const RECENT: usize = 32;
/// Recorded frames that an attacker keeps.
const RECORDED: usize = 256;

/// What a world is made of.
#[derive(Clone)]
pub struct Setup {
    pub seed: u64,
    /// Of A and B; the boot id is drawn at every start.
    pub settings: [Settings; 2],
    pub belts: [Belts; 2],
    /// Parts per billion.
    pub drift: [i64; 2],
    pub network: Network,
    /// From power to the program's start, at least and at most.
    pub boot_time: (Time, Time),
    /// From the program's start to addresses confirmed down, at most.
    pub clean_time: Time,
    /// Conflict probes reach the peer; where they do not, nothing but the waits stands between the boxes.
    pub probes_answered: bool,
    /// Every frame goes through its bytes.
    pub through_wire: bool,
    /// An assumption that does not hold, for tests of the simulator itself.
    pub lie: Option<Lie>,
}

/// An assumption of the proof that the modelled hardware breaks: the simulator must notice each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The watchdog fires ten times later than told.
    SlowWatchdog,
    /// The gate does not close by itself.
    OpenGate,
    /// The address lease does not end.
    EndlessAddress,
    /// Witnesses drop reflected heartbeats and keep answering pings.
    UnsharedFate,
    /// Clocks run apart by ten percent.
    WildClocks,
    /// What is called durable is not.
    ForgetfulDisk,
}

impl Lie {
    pub const ALL: [Lie; 6] =
        [Lie::SlowWatchdog, Lie::OpenGate, Lie::EndlessAddress, Lie::UnsharedFate, Lie::WildClocks, Lie::ForgetfulDisk];
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Frame { to: usize, path: u8, frame: u32 },
    AtWitness { witness: u8, from: usize, round: Option<u32>, frame: u32, life: u32 },
    Pong { to: usize, witness: u8, round: u32, life: u32 },
    Tell { to: usize, life: u32, what: Told },
    Written { to: usize, life: u32, ticket: u32 },
    Text { to: usize, ends: bool },
    Dog { side: usize, epoch: u32 },
    DogReset { side: usize, epoch: u32 },
    PowerOn { side: usize, epoch: u32 },
    Start { side: usize, epoch: u32, life: u32 },
    Resume { side: usize },
    Order { side: usize, order: Order },
    Replay { to: usize, left: u8, every: Time },
    Mark,
    Second,
}

/// What the drivers of a box tell its loop.
#[derive(Clone, Copy, Debug)]
enum Told {
    Down(u32),
    NotDown,
    ServicesStopped(u32),
    Carriers,
    Services,
    Bound,
    Data,
    Conflict,
}

struct Queued {
    at: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub struct World {
    pub now: Time,
    pub boxes: [Machine; 2],
    pub network: Network,
    pub judge: Judge,
    /// The trace, if one is wanted.
    pub trace: Option<Vec<String>>,
    setup: Setup,
    random: Random,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    frames: Vec<Heartbeat>,
    free: Vec<u32>,
    recorded: Vec<Heartbeat>,
    actions: Vec<Action>,
    /// A round of a box that has been started and whose heartbeat follows.
    round: [Option<(u8, u32)>; 2],
    /// No new fault before this: one that needs peace is going on.
    guarded_until: Time,
    /// The surroundings have not changed since; faults that are random all along count until they end.
    changed_at: Time,
    /// Everything has healed.
    healed: bool,
    /// Orders and their answers so far.
    pub answers: Vec<(usize, Order, Answer)>,
}

impl World {
    pub fn new(setup: Setup, trace: bool) -> World {
        let machine = |i: usize| {
            let side = if i == 0 { Side::A } else { Side::B };
            let boot = BootId::new(1).expect("one is not zero");
            let seal = Seal::new(side, boot, "simulated", &[7; 32]);
            let drift = if setup.lie == Some(Lie::WildClocks) { [0, 100_000_000][i] } else { setup.drift[i] };
            Machine::new(setup.settings[i].clone(), seal, setup.belts[i], drift)
        };
        let mut world = World {
            now: 0,
            boxes: [machine(0), machine(1)],
            network: setup.network.clone(),
            judge: Judge::new(),
            trace: trace.then(Vec::new),
            random: Random::new(setup.seed, 1),
            queue: BinaryHeap::new(),
            queued: 0,
            frames: Vec::new(),
            free: Vec::new(),
            recorded: Vec::new(),
            actions: Vec::new(),
            round: [None; 2],
            guarded_until: 0,
            changed_at: 0,
            healed: false,
            answers: Vec::new(),
            setup,
        };
        world.after(SECOND, Event::Second);
        world
    }

    fn after(&mut self, wait: Time, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse(Queued { at: self.now.saturating_add(wait), number: self.queued, event }));
    }

    fn say(&mut self, text: impl FnOnce(&World) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>5}.{:06}  {}", self.now / SECOND, self.now % SECOND / 1000, text(self));
            if let Some(trace) = &mut self.trace {
                trace.push(line);
            }
        }
    }

    fn name(side: usize) -> &'static str {
        if side == 0 { "A" } else { "B" }
    }

    /// Runs until `end`, or until something is violated.
    pub fn run_until(&mut self, end: Time) {
        while self.judge.violation.is_none() {
            let event_at = self.queue.peek().map_or(NEVER, |q| q.0.at);
            let [a, b] = [self.boxes[0].wake, self.boxes[1].wake];
            let next = event_at.min(a).min(b);
            if next > end {
                break;
            }
            debug_assert!(next >= self.now);
            self.now = next;
            if event_at <= next {
                let Some(Reverse(queued)) = self.queue.pop() else { break };
                self.happen(queued.event);
            } else if a <= b {
                self.turn(0);
            } else {
                self.turn(1);
            }
        }
        if self.judge.violation.is_none() {
            self.now = self.now.max(end);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame { to, path, frame } => self.arrive(to, path, frame),
            Event::AtWitness { witness, from, round, frame, life } => {
                self.at_witness(witness, from, round, frame, life);
            }
            Event::Pong { to, witness, round, life } => {
                if self.boxes[to].life == life && self.boxes[to].kernel_runs(self.now) {
                    self.wait(to, Waiting::Pong { witness, round });
                }
            }
            Event::Tell { to, life, what } => {
                if self.boxes[to].life == life {
                    let waiting = match what {
                        Told::Down(order) => Waiting::Down { order },
                        Told::NotDown => Waiting::NotDown,
                        Told::ServicesStopped(order) => Waiting::ServicesStopped { order },
                        Told::Carriers => Waiting::Carriers,
                        Told::Services => Waiting::Services,
                        Told::Bound => Waiting::Bound,
                        Told::Data => Waiting::Data,
                        Told::Conflict => Waiting::Conflict,
                    };
                    self.wait(to, waiting);
                }
            }
            Event::Written { to, life, ticket } => self.written(to, life, ticket),
            Event::Text { to, ends } => {
                if self.boxes[to].kernel_runs(self.now) {
                    self.wait(to, if ends { Waiting::TextEnds } else { Waiting::TextBegins });
                }
            }
            Event::Dog { side, epoch } => self.dog(side, epoch),
            Event::DogReset { side, epoch } => {
                if self.boxes[side].epoch == epoch {
                    self.boxes[side].unclean = true;
                    self.reboot(side, "the watchdog resets the box");
                }
            }
            Event::PowerOn { side, epoch } => {
                let m = &self.boxes[side];
                if m.epoch == epoch && m.power == Power::Off && !m.kept_off {
                    self.power_on(side);
                }
            }
            Event::Start { side, epoch, life } => {
                if self.boxes[side].epoch == epoch && self.boxes[side].life == life {
                    self.start(side);
                }
            }
            Event::Resume { side } => {
                self.changed();
                if self.boxes[side].runs(self.now) {
                    self.boxes[side].wake = self.now;
                }
                self.look();
            }
            Event::Order { side, order } => {
                if !self.healed || order == Order::Release {
                    self.wait(side, Waiting::Order(order));
                }
            }
            Event::Replay { to, left, every } => self.replay(to, left, every),
            Event::Mark => self.changed(),
            Event::Second => {
                self.second();
                self.after(SECOND, Event::Second);
            }
        }
    }

    /// Something for the loop of a box; it wakes for it, if it can.
    fn wait(&mut self, to: usize, what: Waiting) {
        let m = &mut self.boxes[to];
        if m.program.is_none() || m.power != Power::On {
            if let Waiting::Frame { frame, .. } = what {
                self.free.push(frame);
            }
            return;
        }
        m.waiting.push(what);
        if m.runs(self.now) {
            let soon = self.now + self.random.between(MS / 50, MS / 6) + self.lateness(to);
            let m = &mut self.boxes[to];
            m.wake = m.wake.min(soon);
        }
    }

    fn lateness(&mut self, side: usize) -> Time {
        let (by, until) = self.boxes[side].late;
        if self.now < until { self.random.below(by) } else { 0 }
    }

    fn arrive(&mut self, to: usize, path: u8, frame: u32) {
        let m = &mut self.boxes[to];
        if !m.kernel_runs(self.now) || m.program.is_none() || m.frames_waiting >= SOCKET_FRAMES {
            self.free.push(frame);
            return;
        }
        m.frames_waiting += 1;
        self.wait(to, Waiting::Frame { path, frame });
    }

    /// One packet pair reaches a witness: the pong goes back, the heartbeat goes on.
    fn at_witness(&mut self, w: u8, from: usize, round: Option<u32>, frame: u32, life: u32) {
        let dwell = self.network.dwell;
        let witness = &mut self.network.witnesses[w as usize];
        if self.now < witness.down_until {
            self.free.push(frame);
            return;
        }
        let latency = witness.latency;
        let back = witness.legs[from][1].pass(self.now, dwell, &mut self.random);
        let reflects = witness.reflects[from] && self.now >= witness.silent_until;
        let selective = self.setup.lie == Some(Lie::UnsharedFate) && self.now % (20 * SECOND) > 10 * SECOND;
        let reflects = reflects && !selective;
        let on = witness.legs[1 - from][1].pass(self.now, dwell, &mut self.random).filter(|_| reflects);
        if let (Some(late), Some(round)) = (back, round) {
            self.after(latency + late, Event::Pong { to: from, witness: w, round, life });
        }
        match on {
            Some(late) => {
                let path = self.frames[frame as usize].path;
                self.after(latency + late, Event::Frame { to: 1 - from, path, frame });
            }
            None => self.free.push(frame),
        }
    }

    fn keep(&mut self, h: Heartbeat) -> u32 {
        if let Some(i) = self.free.pop() {
            self.frames[i as usize] = h;
            return i;
        }
        self.frames.push(h);
        u32::try_from(self.frames.len() - 1).expect("few frames are under way")
    }

    /// One turn of a box's loop: hand everything over, decide, do it.
    fn turn(&mut self, i: usize) {
        let m = &mut self.boxes[i];
        m.wake = NEVER;
        if !m.runs(self.now) {
            return;
        }
        let life = m.life;
        if !m.unfinished.is_empty() {
            let unfinished = std::mem::take(&mut m.unfinished);
            for action in unfinished {
                if self.boxes[i].life == life {
                    self.act(i, action);
                }
            }
            if self.boxes[i].life != life || self.judge.violation.is_some() {
                return;
            }
        }
        let m = &mut self.boxes[i];
        let now = m.clock.local(self.now);
        let mut waiting = std::mem::take(&mut m.waiting);
        m.frames_waiting = 0;
        let mut node = m.program.take().expect("it runs");
        let mut steady = false;
        for what in waiting.drain(..) {
            steady |= matches!(what, Waiting::Bound);
            self.hand_over(i, &mut node, now, what);
        }
        self.handle(i, &mut node, now, Input::Turn);
        let deadline = node.next_deadline();
        let m = &mut self.boxes[i];
        m.program = Some(node);
        m.waiting = waiting;
        let mut actions = std::mem::take(&mut self.actions);
        // A belt that is lost while the program stops in the same turn would be two failures at once.
        let stop = self.boxes[i].stop_in_turn.take_if(|_| !steady);
        let until = stop.map_or(actions.len(), |_| self.random.below(actions.len() as u64 + 1) as usize);
        for (n, action) in actions.drain(..).enumerate() {
            if self.boxes[i].life != life {
                break;
            }
            if n < until {
                self.act(i, action);
            } else {
                self.boxes[i].unfinished.push(action);
            }
        }
        self.actions = actions;
        if self.boxes[i].life != life {
            return;
        }
        if let Some(length) = stop {
            self.say(|_| format!("{} is stopped after {until} actions of its turn", Self::name(i)));
            self.boxes[i].stopped_until = self.boxes[i].stopped_until.max(self.now + length);
            self.after(length, Event::Resume { side: i });
            return;
        }
        let late = self.random.between(MS / 100, MS / 10) + self.lateness(i);
        let m = &mut self.boxes[i];
        if m.runs(self.now) {
            m.wake = m.wake.min(m.clock.world(deadline).max(self.now) + late);
        }
    }

    fn handle(&mut self, i: usize, node: &mut Node, now: Instant, input: Input<'_>) {
        node.handle(now, input);
        while let Some(action) = node.next_action() {
            self.actions.push(action);
        }
        let _ = i;
    }

    fn hand_over(&mut self, i: usize, node: &mut Node, now: Instant, what: Waiting) {
        match what {
            Waiting::Frame { path, frame } => {
                let h = self.frames[frame as usize];
                self.free.push(frame);
                self.handle(i, node, now, Input::Heartbeat { path, heartbeat: &h });
                let status = node.status(now);
                if status.peer_boot == Some(h.boot) {
                    let heard = &mut self.boxes[i].heard_of;
                    let serves = h.role == Role::Active;
                    *heard = if serves { h.data.generation } else { (*heard).max(h.data.generation) };
                }
            }
            Waiting::Pong { witness, round } => self.handle(i, node, now, Input::Pong { witness, round }),
            Waiting::Down { order } => self.handle(i, node, now, Input::Down { order }),
            Waiting::NotDown => self.handle(i, node, now, Input::NotDown),
            Waiting::ServicesStopped { order } => self.take_down(i, order),
            Waiting::Written { ticket, durable } => self.handle(i, node, now, Input::Persisted { ticket, durable }),
            Waiting::Order(order) => {
                let before = node.status(now);
                self.handle(i, node, now, Input::Order(order));
                let answer = self.actions.iter().rev().find_map(|a| match a {
                    Action::Answer(o, answer) if *o == order => Some(*answer),
                    _ => None,
                });
                let answer = answer.expect("every order is answered at once");
                self.say(|_| format!("{} hears {order:?}: {answer:?}", Self::name(i)));
                self.answers.push((i, order, answer));
                if let (Order::Switchover { term } | Order::Hold { term }, Answer::Accepted, Role::Active) =
                    (order, answer, before.role)
                    && term < before.served
                {
                    let text = format!("{} serves {} and obeys {order:?}", Self::name(i), before.served);
                    self.judge.found(self.now, text);
                }
            }
            Waiting::TextBegins => self.boxes[i].text_began = Some(now),
            Waiting::TextEnds => {
                if let Some(began) = self.boxes[i].text_began.take() {
                    self.say(|_| format!("{} reads the panic text", Self::name(i)));
                    self.handle(i, node, now, Input::PanicText { began });
                }
            }
            Waiting::Carriers => {
                let bits = self.boxes[i].carriers(self.now);
                self.handle(i, node, now, Input::Carriers(bits));
            }
            Waiting::Services => {
                let healthy = self.now >= self.boxes[i].services_fail_until;
                self.handle(i, node, now, Input::Services { healthy });
            }
            Waiting::Data => {
                let data = self.data(i);
                self.handle(i, node, now, Input::Data(data));
            }
            Waiting::Bound => {
                let bound = self.refresh_belts(i);
                self.say(|_| format!("{}'s fence bound is {bound:?}", Self::name(i)));
                self.handle(i, node, now, Input::FenceBound(bound));
            }
            Waiting::Conflict => {
                self.say(|_| format!("{}'s probe is answered by the peer", Self::name(i)));
                self.handle(i, node, now, Input::Conflict);
            }
        }
    }

    /// Both boxes emit: that must never be. It can only begin when something of a box changes, so it is looked at then.
    fn look(&mut self) {
        if self.setup.lie == Some(Lie::OpenGate) {
            for m in &mut self.boxes {
                if m.gate_until > Instant::BOOT {
                    m.gate_until = Instant::NEVER;
                }
            }
        }
        let (a, b) = (self.boxes[0].emits(self.now), self.boxes[1].emits(self.now));
        if a && b {
            self.judge.found(self.now, "both boxes send as holder of the service addresses".into());
        }
    }

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
    fn reboot(&mut self, i: usize, why: &str) {
        self.say(|_| format!("{}: {why}", Self::name(i)));
        self.lose_power(i);
        if !self.boxes[i].kept_off {
            self.power_on(i);
        }
    }

    /// Power is gone. A write under way is torn: old, new, or nothing that can be read.
    fn lose_power(&mut self, i: usize) {
        self.changed();
        self.abandon_write(i, true);
        self.give_back(i);
        self.boxes[i].lose_power();
    }

    /// Frees the frames that wait for a loop that will not come.
    fn give_back(&mut self, i: usize) {
        for what in &self.boxes[i].waiting {
            if let Waiting::Frame { frame, .. } = what {
                self.free.push(*frame);
            }
        }
    }

    /// The program starts: a new life, whether the kernel is a new one or not.
    fn start(&mut self, i: usize) {
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
        for what in [Told::Carriers, Told::Services, Told::Data] {
            self.after(MS, Event::Tell { to: i, life, what });
        }
        if tells_later {
            self.after(clean / 2 + MS, Event::Tell { to: i, life, what: Told::Bound });
        }
    }

    /// The program dies; the kernel keeps addresses, gate and watchdog.
    fn kill(&mut self, i: usize, restart: Time) {
        self.abandon_write(i, false);
        self.give_back(i);
        self.boxes[i].lose_program();
        let (epoch, life) = (self.boxes[i].epoch, self.boxes[i].life);
        self.after(restart, Event::Start { side: i, epoch, life });
    }

    fn arm_dog(&mut self, i: usize) {
        let m = &mut self.boxes[i];
        if m.dog_fires != NEVER && m.dog_event == NEVER {
            m.dog_event = m.dog_fires;
            let (wait, epoch) = (m.dog_fires.saturating_sub(self.now), m.epoch);
            self.after(wait, Event::Dog { side: i, epoch });
        }
    }

    fn dog(&mut self, i: usize, epoch: u32) {
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

    fn replay(&mut self, to: usize, left: u8, every: Time) {
        let sender = self.setup.settings[1 - to].node;
        for _ in 0..8 {
            if self.recorded.is_empty() {
                break;
            }
            // Half of the time something that has just been said.
            let n = match self.recorded.len() {
                RECORDED if self.random.chance(500) => self.random.below(RECENT as u64) as usize,
                all => self.random.below(all as u64) as usize,
            };
            let h = self.recorded[n];
            if h.node == sender {
                // Now and then by another path than it was recorded on.
                let path = if self.random.chance(100) { self.random.below(PATHS as u64) as u8 } else { h.path };
                let frame = self.keep(h);
                self.arrive(to, path, frame);
                break;
            }
        }
        if left > 0 {
            self.after(every, Event::Replay { to, left: left - 1, every });
        }
    }

    /// The term that the operator sees, as an order takes it along.
    fn seen_term(&self) -> u64 {
        self.judge.highest
    }

    /// Gives an order that arrives after `delay`.
    pub fn order(&mut self, side: usize, word: Word, delay: Time) {
        let term = self.seen_term();
        let order = match word {
            Word::Switchover => Order::Switchover { term },
            Word::Hold => Order::Hold { term },
            Word::Release => Order::Release,
        };
        self.after(delay, Event::Order { side, order });
    }

    fn claim_wait(&self, of: usize) -> Time {
        let s = &self.setup.settings[of];
        let fence = self.setup.belts[of].bound().unwrap_or(5 * SECOND);
        (ns(s.lease) + fence) * 1002 / 1000 + ns(s.margin)
    }

    fn text(&mut self, from: usize) {
        let line = self.network.lines[NULL_MODEM as usize][from];
        if line.up(self.now) {
            let begins = self.random.between(25 * MS, 60 * MS);
            let ends = begins + self.random.between(20 * MS, 300 * MS);
            self.after(begins, Event::Text { to: 1 - from, ends: false });
            self.after(ends, Event::Text { to: 1 - from, ends: true });
        }
    }
}
