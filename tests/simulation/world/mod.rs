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
mod power;
mod queue;
pub mod random;
mod turn;
mod way;

use clock::{MS, NEVER, SECOND, Time, ns};
use fault::Word;
use judge::Judge;
use machine::{Belts, Machine, Power, Waiting};
use network::Network;
use queue::{Event, Queued, Told};
use random::Random;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use twobox::node::{Action, Answer, Order, Settings};
use twobox::time::Instant;
use twobox::wire::heartbeat::{Heartbeat, Seal};
use twobox::wire::pair::{BootId, Side};

/// Places among the recorded frames that always hold recent ones.
const RECENT: usize = 32;
/// Recorded frames that an attacker keeps.
const RECORDED: usize = 256;
/// Frames on a tape: enough for some seconds.
const TAPE: usize = 1000;

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
    /// A box that cannot be sure that its addresses are down resets itself, and that works.
    pub reset_works: bool,
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
    /// The gate is lost between the end of a program and the moment when its next life has taken down what it left up.
    UnwatchedLoss,
    /// Boxes are guests of a host that pauses them now and then, with clock, watchdog and all.
    PausedGuest,
}

impl Lie {
    pub const ALL: [Lie; 8] = [
        Lie::SlowWatchdog,
        Lie::OpenGate,
        Lie::EndlessAddress,
        Lie::UnsharedFate,
        Lie::WildClocks,
        Lie::ForgetfulDisk,
        Lie::UnwatchedLoss,
        Lie::PausedGuest,
    ];
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
    /// The first frames of each box's first life, with their times.
    tapes: [Vec<(Time, Heartbeat)>; 2],
    actions: Vec<Action>,
    /// A round of a box that has been started and whose heartbeat follows.
    round: [Option<(u8, u32)>; 2],
    /// No new fault before this: one that needs peace is going on.
    guarded_until: Time,
    /// The surroundings have not changed since; faults that are random all along count until they end.
    changed_at: Time,
    /// Everything has healed.
    healed: bool,
    /// A box that runs a newer program: the other one cannot read its heartbeats.
    pub newer: Option<usize>,
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
            tapes: [Vec::new(), Vec::new()],
            actions: Vec::new(),
            round: [None; 2],
            guarded_until: 0,
            changed_at: 0,
            healed: false,
            newer: None,
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
            Event::Playback { to, next, end, pace } => self.playback(to, next, end, pace),
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
        if a && b && !self.judge.operator_answers {
            self.judge.found(self.now, "both boxes send as holder of the service addresses".into());
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
            Word::Force => Order::Force,
        };
        self.after(delay, Event::Order { side, order });
    }

    fn claim_wait(&self, of: usize) -> Time {
        let s = &self.setup.settings[of];
        let fence = self.setup.belts[of].bound().unwrap_or(5 * SECOND);
        (ns(s.lease) + fence) * 1002 / 1000 + ns(s.margin)
    }
}
