//! Two nodes joined by perfect cables and one honest witness: the first whole take-overs, without any fault model.

use twobox::node::planted::Planted;
use twobox::node::settings::{FIRST_REFLECTED, Settings, StaleData};
use twobox::node::{Action, Answer, Input, Memory, Node, Order};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::Heartbeat;
use twobox::wire::pair::{BootId, Role, Side};

const MS: Duration = Duration::from_millis(1);

fn settings(node: Side) -> Settings {
    Settings {
        node,
        boot: BootId::new(if node == Side::A { 1 } else { 2 }).expect("not zero"),
        lease: MS * 500,
        fence: Some(MS * 4000),
        drift_ppm: 1_000,
        margin: MS * 50,
        intervals: [Some(MS * 100), Some(MS * 50), Some(MS * 50)],
        witnesses: 1,
        round: MS * 25,
        round_idle: MS * 250,
        require_reflection: true,
        settle: MS * 2000,
        hold_down: MS * 30_000,
        boot_wait: MS * 60_000,
        longest_wait: MS * 10_000,
        prefer: None,
        stale_data: StaleData::Serve,
        mirrored: false,
        panic_text: true,
        feed: MS * 400,
        stop_timeout: MS * 5000,
        terms_ahead: 8,
        digest: 1,
        planted: Planted::NONE,
    }
}

struct Box_ {
    node: Node,
    alive: bool,
    inbox: Vec<(u8, Heartbeat)>,
    pongs: Vec<(u8, u32)>,
    feedback: Vec<Feedback>,
    answers: Vec<Answer>,
}

enum Feedback {
    Down(u32),
    Persisted(u32),
}

struct World {
    now: Instant,
    boxes: [Box_; 2],
    cables: bool,
}

impl World {
    fn new() -> World {
        World::fenced(MS * 4000)
    }

    fn fenced(bound: Duration) -> World {
        let start = Instant::BOOT + Duration::from_secs(1);
        let make = |side| Box_ {
            node: Node::new(Settings { fence: Some(bound), ..settings(side) }, start, Memory::Fresh, false),
            alive: true,
            inbox: vec![],
            pongs: vec![],
            feedback: vec![Feedback::Down(0)],
            answers: vec![],
        };
        World { now: start, boxes: [make(Side::A), make(Side::B)], cables: true }
    }

    fn run(&mut self, ms: u32) {
        for _ in 0..ms {
            self.now = self.now + MS;
            for i in 0..2 {
                self.turn(i);
            }
            let serves = |i: usize| self.boxes[i].alive && self.role(i) == Role::Active;
            assert!(!(serves(0) && serves(1)), "both active");
        }
    }

    fn turn(&mut self, i: usize) {
        let now = self.now;
        if !self.boxes[i].alive {
            return;
        }
        let b = &mut self.boxes[i];
        let (inbox, pongs) = (std::mem::take(&mut b.inbox), std::mem::take(&mut b.pongs));
        let due = !inbox.is_empty() || !pongs.is_empty() || !b.feedback.is_empty() || now >= b.node.next_deadline();
        if !due {
            return;
        }
        for feedback in std::mem::take(&mut b.feedback) {
            match feedback {
                Feedback::Down(order) => self.input(i, Input::Down { order }),
                Feedback::Persisted(ticket) => self.input(i, Input::Persisted { ticket, durable: true }),
            }
        }
        for (path, heartbeat) in inbox {
            self.input(i, Input::Heartbeat { path, heartbeat: &heartbeat });
        }
        for (witness, round) in pongs {
            self.input(i, Input::Pong { witness, round });
        }
        self.input(i, Input::Turn);
    }

    fn input(&mut self, i: usize, input: Input<'_>) {
        self.boxes[i].node.handle(self.now, input);
        while let Some(action) = self.boxes[i].node.next_action() {
            match action {
                Action::Send(h) if h.path >= FIRST_REFLECTED || self.cables => {
                    self.boxes[1 - i].inbox.push((h.path, h));
                }
                Action::Ping { witness, round } => self.boxes[i].pongs.push((witness, round)),
                Action::Persist { ticket, .. } => self.boxes[i].feedback.push(Feedback::Persisted(ticket)),
                Action::Yield { order } | Action::Fence { order } => self.boxes[i].feedback.push(Feedback::Down(order)),
                Action::Answer(_, answer) => self.boxes[i].answers.push(answer),
                Action::Reset => panic!("nothing here needs a reset"),
                _ => {}
            }
        }
    }

    fn role(&self, i: usize) -> Role {
        self.boxes[i].node.status(self.now).role
    }

    fn order(&mut self, i: usize, order: Order) -> Answer {
        self.input(i, Input::Order(order));
        self.boxes[i].answers.pop().expect("every order is answered")
    }
}

#[test]
fn boots_and_elects_the_lower_node() {
    let mut w = World::new();
    w.run(2000);
    assert_eq!((w.role(0), w.role(1)), (Role::Active, Role::Standby));
    assert_eq!(w.boxes[0].node.status(w.now).served, 1);
}

/// A bound that the wire rounds up: each box must not take its own, known to the nanosecond, for the better one.
#[test]
fn elects_with_bounds_that_are_no_whole_microseconds() {
    let mut w = World::fenced(Duration::from_nanos(14_700_123));
    w.run(2000);
    assert_eq!((w.role(0), w.role(1)), (Role::Active, Role::Standby));
}

#[test]
fn switchover_and_back() {
    let mut w = World::new();
    w.run(2000);
    assert_eq!(w.order(0, Order::Switchover { term: 1 }), Answer::Accepted);
    w.run(100);
    assert_eq!((w.role(0), w.role(1)), (Role::Standby, Role::Active));
    w.run(5000);
    assert_eq!(w.order(1, Order::Switchover { term: 1 }), Answer::OtherTerm);
    assert_eq!(w.order(1, Order::Switchover { term: 2 }), Answer::Accepted);
    w.run(100);
    assert_eq!((w.role(0), w.role(1)), (Role::Active, Role::Standby));
}

#[test]
fn dead_active_is_replaced_after_the_claim_wait_and_not_before() {
    let mut w = World::new();
    w.run(3000);
    w.boxes[0].alive = false;
    w.run(4500);
    assert_ne!(w.role(1), Role::Active);
    w.run(500);
    assert_eq!(w.role(1), Role::Active);
}

#[test]
fn dead_standby_moves_nothing_while_the_witness_answers() {
    let mut w = World::new();
    w.run(3000);
    w.boxes[1].alive = false;
    w.run(20_000);
    assert_eq!(w.role(0), Role::Active);
}

#[test]
fn cut_cables_move_nothing_while_the_witness_reflects() {
    let mut w = World::new();
    w.run(3000);
    w.cables = false;
    w.run(20_000);
    assert_eq!((w.role(0), w.role(1)), (Role::Active, Role::Standby));
}

#[test]
fn farewell_lets_the_other_serve_on_alone() {
    let mut w = World::new();
    w.run(3000);
    assert_eq!(w.order(0, Order::Leave), Answer::Accepted);
    w.run(200);
    assert_eq!(w.role(1), Role::Active);
    w.run(2000);
    w.boxes[0].alive = false;
    w.run(10_000);
    assert_eq!(w.role(1), Role::Active);
}
