//! One node, and a peer made of hand-written frames.

use twobox::node::planted::Planted;
use twobox::node::settings::{FIRST_REFLECTED, LAN, NULL_MODEM, Settings, StaleData};
use twobox::node::status::RightKind;
use twobox::node::{Action, Answer, Input, Memory, Node, Order};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{Echo, Heartbeat, Vote};
use twobox::wire::pair::{BootId, Data, Generation, Role, Score, Side};

pub const MS: Duration = Duration::from_millis(1);
pub const TICK: u32 = 5;

pub fn settings() -> Settings {
    Settings {
        node: Side::B,
        boot: BootId::new(2).expect("not zero"),
        lease: MS * 500,
        fence: Some(MS * 1000),
        drift_ppm: 1_000,
        margin: MS * 50,
        intervals: [Some(MS * 100), None, Some(MS * 50)],
        witnesses: 1,
        round: MS * 25,
        round_idle: MS * 250,
        require_reflection: false,
        settle: MS * 2000,
        hold_down: MS * 3000,
        boot_wait: MS * 10_000,
        longest_wait: MS * 3_000,
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

/// What the peer says, when it speaks.
pub struct Peer {
    pub speaks: bool,
    pub frame: Heartbeat,
    /// `sent_at` of the newest frame that reached it.
    pub heard: Option<Instant>,
    pub spoke: Instant,
}

pub struct Script {
    pub now: Instant,
    pub node: Node,
    pub peer: Peer,
    pub witness: bool,
    /// The peer's kernel answers conflict probes.
    pub answers: bool,
    /// Whether writes succeed; `None`: they hang.
    pub disk: Option<bool>,
    pub down: Vec<u32>,
    pub answer: Option<Answer>,
    pub left: bool,
    /// What the node said last.
    pub said: Option<Heartbeat>,
    /// What it did besides speaking.
    pub did: Vec<Action>,
}

impl Script {
    pub fn new() -> Script {
        let now = Instant::BOOT + Duration::from_secs(100);
        let frame = Heartbeat {
            node: Side::A,
            boot: BootId::new(11).expect("not zero"),
            path: LAN,
            path_sequence: 0,
            content_sequence: 0,
            sent_at: Instant::BOOT,
            role: Role::Active,
            quorum: false,
            intent: false,
            eligible: false,
            farewell: false,
            lease: MS * 500,
            fence: Some(MS * 1000),
            interval: MS * 50,
            served: 1,
            top: 1,
            vote: None,
            echo: None,
            reached: 1,
            heard: 1,
            score: Score { services: 1, witnesses: 1, carriers: 2 },
            data: Data::default(),
            digest: 1,
        };
        let mut script = Script {
            now,
            node: Node::new(settings(), now, Memory::Fresh, false),
            peer: Peer { speaks: true, frame, heard: None, spoke: Instant::BOOT },
            witness: true,
            answers: false,
            disk: Some(true),
            down: vec![],
            answer: None,
            left: false,
            said: None,
            did: vec![],
        };
        script.input(Input::Down { order: 0 });
        script
    }

    /// A node that follows an Active peer.
    pub fn standby() -> Script {
        let mut s = Script::new();
        s.run(1000);
        assert_eq!(s.role(), Role::Standby);
        s
    }

    /// A node of its own settings and record, whose addresses are down.
    pub fn with(settings: Settings, memory: Memory) -> Script {
        let mut s = Script::new();
        s.node = Node::new(settings, s.now, memory, false);
        s.input(Input::Down { order: 0 });
        s
    }

    /// The peer is a fit spare; whether it votes for us is another matter.
    pub fn peer_stands_by(&mut self) {
        self.peer.frame.role = Role::Standby;
        self.peer.frame.eligible = true;
    }

    pub fn peer_votes(&mut self, term: u64) {
        self.peer.frame.vote = Some(Vote { term, candidate: settings().boot });
    }

    /// Active by the vote of a peer that then stands by.
    pub fn active(&mut self) {
        self.run(1000);
        self.peer_stands_by();
        self.peer_votes(2);
        self.run(200);
        assert_eq!(self.role(), Role::Active);
        self.peer.frame.vote = None;
    }

    /// The ticket of the last write that was wanted.
    pub fn ticket(&self) -> u32 {
        let ticket = |a: &Action| if let Action::Persist { ticket, .. } = a { Some(*ticket) } else { None };
        self.did.iter().rev().find_map(ticket).expect("it writes")
    }

    /// Runs until the node has that role, for so long at most.
    pub fn until(&mut self, role: Role, ms: u32) {
        let end = self.now + MS * ms;
        while self.role() != role {
            assert!(self.now < end, "{}", self.node.status(self.now).why);
            self.run(TICK);
        }
    }

    pub fn never(&mut self, role: Role, ms: u32) {
        for _ in 0..ms / TICK {
            self.run(TICK);
            assert_ne!(self.role(), role, "{}", self.node.status(self.now).why);
        }
    }

    pub fn data(&mut self, generation: Generation, stale_trees: u8) {
        let data = Data { generation, lag_s: 0, stale_trees };
        self.input(Input::Data { data, newest: generation.term });
    }

    /// The kind of what permits serving now.
    pub fn right(&self) -> Option<RightKind> {
        self.node.status(self.now).right.map(|right| right.kind)
    }

    pub fn role(&self) -> Role {
        self.node.status(self.now).role
    }

    pub fn input(&mut self, input: Input<'_>) {
        self.node.handle(self.now, input);
        let mut pongs = vec![];
        let mut written = vec![];
        let mut conflict = false;
        while let Some(action) = self.node.next_action() {
            if !matches!(action, Action::Send(_)) {
                self.did.push(action);
            }
            match action {
                Action::Send(h) => {
                    self.peer.heard = Some(h.sent_at);
                    self.said = Some(h);
                }
                Action::Ping { witness, round } if self.witness => pongs.push((witness, round)),
                Action::Persist { ticket, .. } => written.extend(self.disk.map(|durable| (ticket, durable))),
                Action::Yield { order } | Action::Fence { order } => self.down.push(order),
                Action::Answer(_, answer) => self.answer = Some(answer),
                Action::Leave => self.left = true,
                Action::Probe => conflict = self.answers,
                _ => {}
            }
        }
        for (witness, round) in pongs {
            self.input(Input::Pong { witness, round });
        }
        if conflict {
            self.input(Input::Conflict);
        }
        for (ticket, durable) in written {
            self.input(Input::Persisted { ticket, durable });
        }
    }

    pub fn order(&mut self, order: Order) -> Option<Answer> {
        self.answer = None;
        self.input(Input::Order(order));
        self.answer
    }

    /// The peer's next frame on `path`, made now, not yet delivered.
    pub fn frame(&mut self, path: u8) -> Heartbeat {
        let f = &mut self.peer.frame;
        f.path = path;
        f.path_sequence += 1;
        f.content_sequence += 1;
        f.sent_at = f.sent_at + MS * 10;
        f.echo = self.peer.heard.map(|sent_at| Echo { boot: settings().boot, sent_at });
        *f
    }

    pub fn deliver(&mut self, f: &Heartbeat) {
        self.input(Input::Heartbeat { path: f.path, heartbeat: f });
    }

    /// The peer dies and comes back: a new life that has heard nobody.
    pub fn reboot_peer(&mut self, boot: u64) {
        self.peer.frame.boot = BootId::new(boot).expect("not zero");
        self.peer.frame.role = Role::Joining;
        self.peer.frame.farewell = false;
        self.peer.heard = None;
    }

    pub fn run(&mut self, ms: u32) {
        for _ in 0..ms / TICK {
            self.now = self.now + MS * TICK;
            for order in std::mem::take(&mut self.down) {
                self.input(Input::Down { order });
            }
            if self.peer.speaks && self.now.since(self.peer.spoke) >= MS * 50 {
                self.peer.spoke = self.now;
                for path in [NULL_MODEM, LAN, FIRST_REFLECTED] {
                    let f = self.frame(path);
                    self.deliver(&f);
                }
            }
            self.input(Input::Turn);
        }
    }
}
