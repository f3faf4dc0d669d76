//! The node, checked exhaustively: every timing of a few faults within a horizon, with the very code that the daemon runs.
//!
//! Time goes in ticks of a quarter of the lease. Before every tick the checker may spend one of its faults: cut or heal the
//! direct cable in either direction or delay it, take a leg of a witness down or up, crash, boot, hang or wake a box, make its
//! disk slow or fast. After the last tick everything heals in one step, and exactly one box must serve.
//!
//! Safety is judged by what leaves a box: addresses up, and less than the fence bound after the end of the right that was last
//! written to the gate, whether the node believes it or not. A hung box emits until then.

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use twobox::node::canonical::Canonical;
use twobox::node::planted::{Fault, Planted};
use twobox::node::settings::{CROSSOVER, FIRST_REFLECTED, Settings, StaleData};
use twobox::node::{Action, Input, Memory, Node, Order, Record};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::Heartbeat;
use twobox::wire::pair::{BootId, Role, Side};

const MS: Duration = Duration::from_millis(1);
/// Turns of both nodes in a tick: one a round.
const STEPS: u32 = 4;
const LEASE: Duration = Duration::from_millis(16);
const FENCE: Duration = Duration::from_millis(4);
const MARGIN: Duration = Duration::from_millis(1);
/// Ticks by which a delayed frame is late: longer than a lease.
const DELAY: u32 = 5 * STEPS;
/// Longer than every duration of the settings below.
const HORIZON: Duration = Duration::from_millis(64);
/// Ticks within which everything must have settled once it has healed.
const HEAL_TICKS: u32 = 60;

fn settings(side: Side, life: u64, fence: Duration, rules: Rules) -> Settings {
    Settings {
        node: side,
        boot: BootId::new(2 * life + side as u64 + 2).expect("not zero"),
        lease: LEASE,
        fence: Some(fence),
        drift_ppm: 0,
        margin: MARGIN,
        intervals: [None, Some(MS * 4), None],
        witnesses: rules.witnesses,
        round: MS,
        round_idle: MS,
        require_reflection: true,
        settle: MS * 32,
        hold_down: MS * 8,
        boot_wait: MS * 32,
        longest_wait: MS * 30,
        prefer: None,
        stale_data: StaleData::Serve,
        mirrored: false,
        panic_text: false,
        feed: MS * 4,
        stop_timeout: MS * 16,
        terms_ahead: rules.terms_ahead,
        digest: 1,
        planted: rules.planted,
    }
}

/// What does not change during an exploration.
#[derive(Clone, Copy)]
struct Rules {
    witnesses: u8,
    /// The witnesses reflect, and were proven to.
    reflects: bool,
    /// Fence bound of each box.
    fences: [Duration; 2],
    planted: Planted,
    /// Terms reserved on disk ahead; 0: every claim waits for its write.
    terms_ahead: u8,
}

#[derive(Clone)]
struct Powered {
    node: Node,
    hung: bool,
    slow_disk: bool,
    up: bool,
    gate: Instant,
    /// Something left the box between two actions of this turn.
    emitted: bool,
    feedback: Vec<Feedback>,
    inbox: Vec<Flying>,
    pongs: Vec<(u8, u32)>,
}

#[derive(Clone, Copy)]
enum Feedback {
    Down(u32),
    Persist(u32, Record),
    Release,
}

#[derive(Clone, Copy)]
struct Flying {
    due: Instant,
    path: u8,
    frame: Heartbeat,
}

#[derive(Clone)]
struct World {
    now: Instant,
    tick: u32,
    spent: u32,
    boxes: [Option<Powered>; 2],
    disks: [Record; 2],
    lives: [u64; 2],
    /// Direct cable, by direction of the sender.
    cable: [Cable; 2],
    /// Bit 2 * witness + side: the leg is up.
    legs: u8,
    both_emitted: bool,
    healed: bool,
    rules: Rules,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cable {
    Good,
    Cut,
    Slow,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Tick,
    Heal,
    Cable(usize, Cable),
    CutBoth,
    Leg(u8),
    Crash(usize),
    Boot(usize),
    Hang(usize),
    Wake(usize),
    Disk(usize),
}

impl World {
    fn new(rules: Rules) -> World {
        let proven = if rules.reflects { (1 << rules.witnesses) - 1 } else { 0 };
        let proven = Record { proven, proven_digest: 1, ..Record::default() };
        World {
            now: Instant::BOOT + Duration::from_secs(1),
            tick: 0,
            spent: 0,
            boxes: [None, None],
            disks: [proven; 2],
            lives: [0; 2],
            cable: [Cable::Good; 2],
            legs: all_legs(rules.witnesses),
            both_emitted: false,
            healed: false,
            rules,
        }
    }

    fn settled(rules: Rules) -> World {
        let mut w = World::new(rules);
        w.boot(0);
        // Together the better fenced one would be elected; alone at first, box a serves whatever its bound.
        w.run(40);
        w.boot(1);
        w.run(40);
        w.tick = 0;
        w
    }

    fn boot(&mut self, i: usize) {
        self.lives[i] += 1;
        let side = [Side::A, Side::B][i];
        let s = settings(side, self.lives[i], self.rules.fences[i], self.rules);
        self.boxes[i] = Some(Powered {
            node: Node::new(s, self.now, Memory::Known(self.disks[i]), false),
            hung: false,
            slow_disk: false,
            up: false,
            gate: Instant::BOOT,
            emitted: false,
            feedback: vec![Feedback::Down(0)],
            inbox: vec![],
            pongs: vec![],
        });
    }

    fn run(&mut self, ticks: u32) {
        for _ in 0..ticks * STEPS {
            self.now = self.now + MS;
            for i in 0..2 {
                self.turn(i);
            }
            self.both_emitted |= self.emits(0) && self.emits(1);
        }
        self.tick += ticks;
    }

    /// Whether something leaves box `i` as holder of a service address: as long as the belts allow in the worst case.
    fn emits(&self, i: usize) -> bool {
        self.boxes[i].as_ref().is_some_and(|b| b.emitted || (b.up && self.now < b.gate + self.rules.fences[i]))
    }

    fn serves(&self, i: usize) -> bool {
        self.boxes[i].as_ref().is_some_and(|b| !b.hung && b.node.status(self.now).role == Role::Active)
    }

    fn turn(&mut self, i: usize) {
        let now = self.now;
        let legs = (self.legs, self.rules.reflects);
        let Some(b) = &mut self.boxes[i] else { return };
        b.emitted = false;
        if b.hung {
            return;
        }
        let mut later = vec![];
        let mut sent = vec![];
        for feedback in std::mem::take(&mut b.feedback) {
            match feedback {
                Feedback::Down(order) => {
                    b.node.handle(now, Input::Down { order });
                }
                Feedback::Release => b.node.handle(now, Input::Order(Order::Release)),
                Feedback::Persist(..) if b.slow_disk => later.push(feedback),
                Feedback::Persist(ticket, record) => {
                    self.disks[i] = record;
                    b.node.handle(now, Input::Persisted { ticket, durable: true });
                }
            }
            act(b, i, &mut later, &self.cable, legs, now, &mut sent);
        }
        let mut feedback = later;
        let (due, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut b.inbox).into_iter().partition(|f| f.due <= now);
        b.inbox = waiting;
        for f in due {
            b.node.handle(now, Input::Heartbeat { path: f.path, heartbeat: &f.frame });
            act(b, i, &mut feedback, &self.cable, legs, now, &mut sent);
        }
        b.node.handle(now, Input::Turn);
        act(b, i, &mut feedback, &self.cable, legs, now, &mut sent);
        // Witnesses answer within the step: a leg that is down takes the whole round with it.
        for (witness, round) in std::mem::take(&mut b.pongs) {
            b.node.handle(now, Input::Pong { witness, round });
            act(b, i, &mut feedback, &self.cable, legs, now, &mut sent);
        }
        b.feedback = feedback;
        if let Some(peer) = &mut self.boxes[1 - i] {
            peer.inbox.extend(sent);
        }
    }

    fn one_serves_and_the_other_follows(&self) -> bool {
        let role = |i: usize| self.boxes[i].as_ref().map(|b| b.node.status(self.now).role);
        matches!(
            (role(0), role(1)),
            (Some(Role::Active), Some(Role::Standby)) | (Some(Role::Standby), Some(Role::Active))
        )
    }

    fn heal(&mut self) {
        self.cable = [Cable::Good; 2];
        self.legs = all_legs(self.rules.witnesses);
        for i in 0..2 {
            match &mut self.boxes[i] {
                None => self.boot(i),
                Some(b) => {
                    b.hung = false;
                    b.slow_disk = false;
                    // Three fences in a row hold a box; whoever heals the pair releases it.
                    b.feedback.push(Feedback::Release);
                }
            }
        }
        self.run(HEAL_TICKS);
        self.healed = true;
    }
}

/// Carries out what the node wants done.
fn act(
    b: &mut Powered,
    i: usize,
    feedback: &mut Vec<Feedback>,
    cable: &[Cable; 2],
    (legs, reflects): (u8, bool),
    now: Instant,
    sent: &mut Vec<Flying>,
) {
    while let Some(action) = b.node.next_action() {
        b.emitted |= b.up && now < b.gate;
        match action {
            Action::Send(frame) if frame.path == CROSSOVER => match cable[i] {
                Cable::Good => sent.push(Flying { due: now + MS, path: frame.path, frame }),
                Cable::Cut => {}
                Cable::Slow => sent.push(Flying { due: now + MS * DELAY, path: frame.path, frame }),
            },
            Action::Send(frame) => {
                let witness = frame.path - FIRST_REFLECTED;
                if reflects && legs >> (2 * witness) & 3 == 3 {
                    sent.push(Flying { due: now + MS, path: frame.path, frame });
                }
            }
            Action::Ping { witness, round } => {
                if legs >> (2 * witness + i as u8) & 1 == 1 {
                    b.pongs.push((witness, round));
                }
            }
            Action::Persist { ticket, record } => feedback.push(Feedback::Persist(ticket, record)),
            Action::Activate { until, .. } => {
                b.up = true;
                b.gate = until;
            }
            Action::Renew { until } => b.gate = until,
            Action::Yield { order } | Action::Fence { order } => {
                b.up = false;
                feedback.push(Feedback::Down(order));
            }
            // Only where data are mirrored, and here they are not.
            Action::Lineage(_) => {}
            Action::Feed | Action::Probe | Action::Reset | Action::Leave | Action::Note(_) | Action::Answer(..) => {}
        }
    }
}

/// Bits of all legs up.
fn all_legs(witnesses: u8) -> u8 {
    (0..2 * witnesses).fold(0, |bits, leg| bits | 1 << leg)
}

#[derive(Clone)]
struct State(Arc<World>);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let w = &self.0;
        write!(f, "tick {} legs {:b} cable {:?}", w.tick, w.legs, w.cable)?;
        for (i, b) in w.boxes.iter().enumerate() {
            match b {
                None => write!(f, " | off")?,
                Some(b) => {
                    let s = b.node.status(w.now);
                    let hung = if b.hung { " hung" } else { "" };
                    let emits = if w.emits(i) { " emits" } else { "" };
                    write!(f, " | {:?}{hung}{emits} served {} top {} right {:?}", s.role, s.served, s.top, s.right)?;
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn numbers(&self) -> Vec<u64> {
        let w = &self.0;
        let mut out = Vec::with_capacity(512);
        let mut c = Canonical::new(w.now, HORIZON, &mut out);
        c.number(u64::from(w.tick) | u64::from(w.spent) << 32);
        c.number(u64::from(w.legs) | (w.cable[0] as u64) << 8 | (w.cable[1] as u64) << 16);
        c.number(u64::from(w.both_emitted) | u64::from(w.healed) << 1);
        for i in 0..2 {
            c.number(w.disks[i].reserved | w.disks[i].served << 16);
            c.number(u64::from(w.disks[i].strikes) << 8 | u64::from(w.disks[i].proven) | w.lives[i] << 32);
            let Some(b) = &w.boxes[i] else { continue };
            let peer = w.boxes[1 - i].as_ref();
            c.number(u64::from(b.hung) | u64::from(b.up) << 1 | u64::from(b.slow_disk) << 2 | 8);
            c.time(b.gate);
            b.node.canonical(&mut c, peer.map(|p| &p.node));
            for f in &b.feedback {
                match f {
                    Feedback::Down(_) => c.number(1),
                    Feedback::Release => c.number(3),
                    Feedback::Persist(_, r) => c.number(2 | r.reserved << 8 | r.served << 24),
                }
            }
            for f in &b.inbox {
                c.time(f.due);
                let sender = peer.filter(|p| p.node.settings().boot == f.frame.boot);
                let (content, path) = sender.map_or((0, 0), |p| p.node.sequences(f.path));
                c.frame(&f.frame, content, path);
            }
        }
        out
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.numbers().hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.numbers() == other.numbers()
    }
}

/// What to explore.
#[derive(Clone, Copy)]
struct Pair {
    rules: Rules,
    ticks: u32,
    faults: u32,
}

impl Model for Pair {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut booting = World::new(self.rules);
        booting.boot(0);
        booting.boot(1);
        vec![State(Arc::new(World::settled(self.rules))), State(Arc::new(booting))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        let w = &state.0;
        if w.healed || w.both_emitted {
            return;
        }
        if w.tick >= self.ticks {
            actions.push(Step::Heal);
            return;
        }
        actions.push(Step::Tick);
        if w.spent >= self.faults {
            return;
        }
        for i in 0..2 {
            for cable in [Cable::Good, Cable::Cut, Cable::Slow] {
                if w.cable[i] != cable {
                    actions.push(Step::Cable(i, cable));
                }
            }
            match &w.boxes[i] {
                None => actions.push(Step::Boot(i)),
                Some(b) if b.hung => actions.extend([Step::Wake(i), Step::Crash(i)]),
                Some(_) => actions.extend([Step::Hang(i), Step::Crash(i), Step::Disk(i)]),
            }
        }
        if w.cable != [Cable::Cut; 2] {
            actions.push(Step::CutBoth);
        }
        for leg in 0..2 * w.rules.witnesses {
            actions.push(Step::Leg(leg));
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut w = World::clone(&state.0);
        if !matches!(step, Step::Tick | Step::Heal) {
            w.spent += 1;
        }
        match step {
            Step::Tick => w.run(1),
            Step::Heal => w.heal(),
            Step::Cable(i, cable) => w.cable[i] = cable,
            Step::CutBoth => w.cable = [Cable::Cut; 2],
            Step::Leg(leg) => w.legs ^= 1 << leg,
            Step::Crash(i) => w.boxes[i] = None,
            Step::Boot(i) => w.boot(i),
            Step::Hang(i) => w.boxes[i].as_mut()?.hung = true,
            Step::Wake(i) => w.boxes[i].as_mut()?.hung = false,
            Step::Disk(i) => {
                let b = w.boxes[i].as_mut()?;
                b.slow_disk = !b.slow_disk;
            }
        }
        Some(State(Arc::new(w)))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never both", |_, s: &State| !s.0.both_emitted),
            Property::eventually("one serves and the other follows", |_, s: &State| {
                s.0.healed && s.0.one_serves_and_the_other_follows()
            }),
            Property::sometimes("failover and return", |_, s: &State| {
                s.0.serves(0) && s.0.boxes[0].as_ref().is_some_and(|b| b.node.status(s.0.now).served >= 3)
            }),
        ]
    }
}

const HONEST: Rules =
    Rules { witnesses: 1, reflects: true, fences: [FENCE; 2], planted: Planted::NONE, terms_ahead: 0 };

fn holds(rules: Rules, ticks: u32, faults: u32) -> usize {
    let Rules { witnesses, terms_ahead, .. } = rules;
    let checker = Pair { rules, ticks, faults }.checker().threads(2).spawn_dfs().join();
    for property in checker.model().properties() {
        if let Some(path) = checker.discovery(property.name)
            && property.expectation != Expectation::Sometimes
        {
            println!("{} states", checker.unique_state_count());
            panic!("{}:\n{}", property.name, described(path.into_vec()));
        }
    }
    println!(
        "model: {witnesses} witness(es), {terms_ahead} terms ahead, {faults} fault(s) at any of {ticks} ticks: {} unique states, none unsafe",
        checker.unique_state_count()
    );
    checker.unique_state_count()
}

fn described(path: Vec<(State, Option<Step>)>) -> String {
    path.iter().map(|(state, step)| format!("{state:?}\n    {step:?}\n")).collect()
}

#[test]
fn one_witness() {
    let full = std::env::var_os("TWOBOX_FULL").is_some();
    let states = holds(HONEST, 14, if full { 3 } else { 2 });
    assert!(states > 10_000, "the model explores next to nothing");
}

/// A claim that finds its term on disk serves in the turn in which its wait ends.
#[test]
fn terms_reserved_ahead() {
    let full = std::env::var_os("TWOBOX_FULL").is_some();
    let states = holds(Rules { terms_ahead: 4, ..HONEST }, 14, if full { 3 } else { 2 });
    assert!(states > 10_000, "the model explores next to nothing");
}

#[test]
fn two_witnesses() {
    let full = std::env::var_os("TWOBOX_FULL").is_some();
    let states = holds(Rules { witnesses: 2, ..HONEST }, 12, if full { 3 } else { 2 });
    assert!(states > 10_000, "the model explores next to nothing");
}

/// A model that cannot fail is a defect: with these rules undone it finds both boxes serving, all by itself.
#[test]
fn planted_faults_are_found() {
    let none = Planted::NONE;
    let silence = none.with(Fault::NoFenceWait).with(Fault::NoPromise).with(Fault::NoQuorumWait);
    let own = none.with(Fault::OwnFenceBound).with(Fault::NoQuorumWait);
    let uneven = [FENCE * 3, Duration::ZERO];
    let undone = [
        ("no fence wait, no promise, no quorum wait", Rules { planted: silence, ..HONEST }),
        ("lease from receipt", Rules { planted: none.with(Fault::LeaseFromReceipt), ..HONEST }),
        ("unproven witness counts", Rules { planted: none.with(Fault::UnprovenCounts), reflects: false, ..HONEST }),
        ("own fence bound, no quorum wait", Rules { planted: own, fences: uneven, ..HONEST }),
        ("speaks before it looks", Rules { planted: none.with(Fault::SpeaksBeforeLooking), ..HONEST }),
    ];
    let mut missed = vec![];
    for (name, rules) in undone {
        let checker = Pair { rules, ticks: 14, faults: 2 }
            .checker()
            .finish_when(HasDiscoveries::AnyOf(["never both"].into()))
            .spawn_dfs()
            .join();
        let found = checker.discovery("never both").is_some();
        println!("model: {name}: found: {found}, {} unique states", checker.unique_state_count());
        if !found {
            missed.push(name);
        }
    }
    assert!(missed.is_empty(), "undone and not found: {missed:?}");
}
