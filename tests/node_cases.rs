//! One node and a peer made of hand-written frames: cases that once went wrong, one test each.

#[path = "node_cases/rules.rs"]
mod rules;

use twobox::node::planted::Planted;
use twobox::node::settings::{FIRST_REFLECTED, LAN, NULL_MODEM, Settings, StaleData};
use twobox::node::status::{Alarm, Blocker};
use twobox::node::{Action, Answer, Input, Memory, Node, Order};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{Echo, Heartbeat, Vote};
use twobox::wire::pair::{BootId, Data, Role, Score, Side};

const MS: Duration = Duration::from_millis(1);
const TICK: u32 = 5;

fn settings() -> Settings {
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
struct Peer {
    speaks: bool,
    frame: Heartbeat,
    /// `sent_at` of the newest frame that reached it.
    heard: Option<Instant>,
    spoke: Instant,
}

struct Script {
    now: Instant,
    node: Node,
    peer: Peer,
    witness: bool,
    /// The peer's kernel answers conflict probes.
    answers: bool,
    /// Whether writes succeed; `None`: they hang.
    disk: Option<bool>,
    down: Vec<u32>,
    answer: Option<Answer>,
    left: bool,
}

impl Script {
    fn new() -> Script {
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
        };
        script.input(Input::Down { order: 0 });
        script
    }

    /// A node that follows an Active peer.
    fn standby() -> Script {
        let mut s = Script::new();
        s.run(1000);
        assert_eq!(s.role(), Role::Standby);
        s
    }

    fn role(&self) -> Role {
        self.node.status(self.now).role
    }

    fn input(&mut self, input: Input<'_>) {
        self.node.handle(self.now, input);
        let mut pongs = vec![];
        let mut written = vec![];
        let mut conflict = false;
        while let Some(action) = self.node.next_action() {
            match action {
                Action::Send(h) => self.peer.heard = Some(h.sent_at),
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

    fn order(&mut self, order: Order) -> Option<Answer> {
        self.answer = None;
        self.input(Input::Order(order));
        self.answer
    }

    /// The peer's next frame on `path`, made now, not yet delivered.
    fn frame(&mut self, path: u8) -> Heartbeat {
        let f = &mut self.peer.frame;
        f.path = path;
        f.path_sequence += 1;
        f.content_sequence += 1;
        f.sent_at = f.sent_at + MS * 10;
        f.echo = self.peer.heard.map(|sent_at| Echo { boot: settings().boot, sent_at });
        *f
    }

    fn deliver(&mut self, f: &Heartbeat) {
        self.input(Input::Heartbeat { path: f.path, heartbeat: f });
    }

    /// The peer dies and comes back: a new life that has heard nobody.
    fn reboot_peer(&mut self, boot: u64) {
        self.peer.frame.boot = BootId::new(boot).expect("not zero");
        self.peer.frame.role = Role::Joining;
        self.peer.frame.farewell = false;
        self.peer.heard = None;
    }

    fn run(&mut self, ms: u32) {
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

#[test]
fn a_standby_claims_after_a_silent_peer() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.run(1450);
    assert_eq!(s.role(), Role::Claiming);
    s.run(1000);
    assert_eq!(s.role(), Role::Active);
}

/// A dead daemon's kernel may answer for the address until its fence bound is over.
#[test]
fn an_answer_to_a_probe_before_the_fence_bound_is_over_stops_no_claim() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.answers = true;
    s.run(1450);
    s.answers = false;
    assert_eq!(s.role(), Role::Claiming);
    s.run(1000);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_peer_that_answers_although_it_must_be_fenced_is_not_replaced_and_that_is_told() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.answers = true;
    let mut told = 0;
    for _ in 0..20_000 / TICK {
        s.run(TICK);
        assert_ne!(s.role(), Role::Active);
        told += u32::from(s.node.status(s.now).alarms.has(Alarm::FencingFailed));
    }
    // From the end of the wait on, and without a gap: the alarm lasts as long as its reason.
    assert!(told > 17_000 / TICK, "told for {} ms", told * TICK);
    assert!(s.node.status(s.now).blockers.has(Blocker::Conflict));
    s.answers = false;
    s.run(5_000);
    assert_eq!(s.role(), Role::Active);
    assert!(!s.node.status(s.now).alarms.has(Alarm::FencingFailed));
}

/// Its heartbeats were lost for a moment: whoever is heard again answers for its address by right.
#[test]
fn a_peer_that_is_heard_again_is_not_accused() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.answers = true;
    s.run(700);
    assert_eq!(s.role(), Role::Claiming);
    s.peer.speaks = true;
    for _ in 0..3_000 / TICK {
        s.run(TICK);
        assert!(!s.node.status(s.now).alarms.has(Alarm::FencingFailed));
    }
    assert_eq!(s.role(), Role::Standby);
}

#[test]
fn a_farewell_does_not_stop_a_claim_in_silence() {
    let mut s = Script::standby();
    s.input(Input::Services { healthy: false });
    s.peer.frame.role = Role::Held;
    s.peer.frame.farewell = true;
    s.run(500);
    assert_eq!(s.role(), Role::Held);
    s.peer.speaks = false;
    s.input(Input::Services { healthy: true });
    s.run(10_000);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_late_farewell_of_the_former_life_does_not_outlive_the_word_of_the_next() {
    let mut s = Script::standby();
    s.peer.frame.role = Role::Held;
    s.peer.frame.farewell = true;
    s.run(200);
    let late = s.frame(LAN);
    s.peer.speaks = false;
    s.run(20);
    s.reboot_peer(12);
    let hello = s.frame(LAN);
    s.deliver(&hello);
    s.run(20);
    s.deliver(&late);
    s.run(2000);
    let right = s.node.status(s.now).right;
    assert!(right.is_none_or(|r| r.until != Instant::NEVER), "{right:?}");
}

#[test]
fn a_force_ordered_while_claiming_is_not_kept_for_later() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.run(1000);
    assert_eq!(s.role(), Role::Claiming);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.run(2000);
    assert_eq!(s.role(), Role::Active);
    // The peer comes back and is fit; we hand over, and stay down.
    s.peer.frame.role = Role::Standby;
    s.peer.frame.eligible = true;
    s.peer.speaks = true;
    s.run(4000);
    if s.role() == Role::Active {
        let term = s.node.known_term();
        assert_eq!(s.order(Order::Switchover { term }), Some(Answer::Accepted));
    }
    for _ in 0..100 {
        s.run(TICK);
        assert!(!matches!(s.role(), Role::Claiming), "{}", s.node.status(s.now).why);
    }
}

#[test]
fn a_force_ends_with_a_word_of_the_peer() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.run(600);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.now = s.now + MS;
    let f = s.frame(LAN);
    s.deliver(&f);
    s.now = s.now + MS;
    s.input(Input::Turn);
    assert_eq!(s.role(), Role::Standby);
}

/// By what the operator confirmed, nobody else is there: the first word of the peer ends it. Only a word that shows that the
/// peer has heard us grants anything in its place.
#[test]
fn a_forced_right_ends_with_a_word_of_the_peer_and_a_fresh_grant_takes_its_place() {
    for hears_us in [false, true] {
        let mut s = Script::standby();
        s.peer.speaks = false;
        s.witness = false;
        s.run(600);
        assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
        s.run(3000);
        assert_eq!(s.role(), Role::Active);
        s.peer.frame.role = Role::Standby;
        let mut f = s.frame(LAN);
        f.echo = f.echo.filter(|_| hears_us);
        s.deliver(&f);
        s.input(Input::Turn);
        assert_eq!(s.role(), if hears_us { Role::Active } else { Role::Yielding });
    }
}

#[test]
fn a_failed_write_that_nothing_needs_any_more_does_not_hold_for_ever() {
    let mut s = Script::standby();
    s.disk = Some(false);
    let term = s.node.known_term();
    assert_eq!(s.order(Order::Hold { term }), Some(Answer::Accepted));
    s.run(50);
    assert_eq!(s.order(Order::Release), Some(Answer::Accepted));
    s.run(50);
    s.disk = Some(true);
    s.run(3000);
    assert_eq!(s.role(), Role::Standby);
}

#[test]
fn a_peer_without_a_bound_for_a_moment_is_replaced_all_the_same() {
    let mut s = Script::standby();
    s.peer.frame.fence = None;
    s.run(200);
    s.peer.frame.fence = Some(MS * 1000);
    s.run(200);
    s.peer.speaks = false;
    s.run(3000);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_peer_without_a_bound_is_never_claimed_in_silence() {
    let mut s = Script::standby();
    s.peer.frame.fence = None;
    s.run(200);
    s.peer.speaks = false;
    s.run(100_000);
    assert_eq!(s.role(), Role::Claiming);
}

#[test]
fn a_promise_to_a_former_life_binds_no_more() {
    let mut s = Script::standby();
    s.peer.frame.fence = None;
    s.run(200);
    s.reboot_peer(12);
    s.peer.frame.fence = Some(MS * 1000);
    s.run(300);
    s.peer.speaks = false;
    s.run(5000);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn an_old_panic_text_waives_nothing() {
    let mut s = Script::standby();
    s.run(1000);
    s.witness = false;
    s.peer.speaks = false;
    s.run(20);
    let began = s.now;
    s.input(Input::PanicText { began });
    // Without quorum nothing is claimed. When it comes back, the peer may have booted and serve.
    s.run(60_000);
    assert_eq!(s.role(), Role::Standby);
    s.witness = true;
    s.run(800);
    assert_ne!(s.role(), Role::Active);
    s.run(3000);
    assert_eq!(s.role(), Role::Active);
}

/// While nobody was heard and there was no quorum either, the peer may have lost a belt and come to serve with a longer bound
/// than it told.
#[test]
fn a_told_bound_holds_only_for_a_silence_without_a_gap() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.witness = false;
    s.run(10_000);
    s.witness = true;
    // The wait for the bound that was told would be 1.55 s, the one for the longest bound is 3 s.
    s.run(2900);
    assert_ne!(s.role(), Role::Active);
    s.run(400);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_frame_that_echoes_somebody_else_does_not_end_the_touch() {
    let mut s = Script::standby();
    let mut f = s.frame(LAN);
    f.echo = Some(Echo { boot: BootId::new(77).expect("not zero"), sent_at: s.now });
    s.deliver(&f);
    assert!(s.node.status(s.now).in_touch);
    // But only until what it echoed of us before is old.
    s.peer.speaks = false;
    s.run(495);
    let mut f = s.frame(LAN);
    f.echo = Some(Echo { boot: BootId::new(77).expect("not zero"), sent_at: s.now });
    s.deliver(&f);
    assert!(!s.node.status(s.now).in_touch);
}

/// The voter's promise is for the bound that it knew.
#[test]
fn a_vote_for_what_was_said_before_the_bound_grew_is_void() {
    for grows in [false, true] {
        let mut s = Script::standby();
        s.peer.frame.role = Role::Standby;
        s.peer.frame.vote = Some(Vote { term: 2, candidate: settings().boot });
        let f = s.frame(LAN);
        s.now = s.now + MS;
        if grows {
            s.input(Input::FenceBound(Some(MS * 2000)));
        }
        s.deliver(&f);
        s.input(Input::Turn);
        assert_eq!(s.role(), if grows { Role::Standby } else { Role::Active });
    }
}

#[test]
fn a_fresh_panic_text_waives_the_wait() {
    let mut s = Script::standby();
    s.run(1000);
    s.peer.speaks = false;
    s.run(20);
    let began = s.now;
    s.input(Input::PanicText { began });
    s.run(600);
    assert_eq!(s.role(), Role::Active);
}

#[test]
fn a_heartbeat_is_late_half_an_interval_after_it_was_due() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    // The script numbers the frames of all paths in one row: only this one is used from here on.
    let beat = |s: &mut Script, after: u32, lost: u32| {
        for _ in 0..lost {
            s.frame(LAN);
        }
        s.run(after);
        let f = s.frame(LAN);
        s.deliver(&f);
        let path = s.node.paths()[usize::from(LAN)];
        (path.late, path.lost)
    };
    beat(&mut s, 0, 0);
    let (late, lost) = beat(&mut s, 50, 0);
    assert_eq!(beat(&mut s, 75, 0), (late, lost), "half an interval late at most");
    assert_eq!(beat(&mut s, 80, 0), (late + 1, lost));
    assert_eq!(beat(&mut s, 20, 0), (late + 1, lost));
    // What was lost on the way does not make the next one late.
    assert_eq!(beat(&mut s, 150, 2), (late + 1, lost + 2));
    assert_eq!(beat(&mut s, 180, 2), (late + 2, lost + 4));
}

/// A direct frame that is sent while a reflected one is on its way arrives before it.
#[test]
fn a_reflected_frame_that_was_overtaken_shows_that_the_witness_reflects() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    for _ in 0..30 {
        let reflected = s.frame(FIRST_REFLECTED);
        let direct = s.frame(LAN);
        s.deliver(&direct);
        s.deliver(&reflected);
        s.run(50);
    }
    assert_eq!(s.node.status(s.now).heard, 1, "heard through the witness");
}

#[test]
fn terms_are_on_disk_before_they_are_needed() {
    let mut s = Script::standby();
    s.run(2000);
    s.disk = None;
    s.peer.speaks = false;
    s.run(2600);
    assert_eq!(s.role(), Role::Active, "a disk that hangs does not stop a takeover");
}

#[test]
fn leaving_during_a_forced_claim_leaves() {
    let mut s = Script::standby();
    s.disk = None;
    // The peer uses up the terms that are reserved ahead.
    s.peer.frame.top = 100;
    s.run(200);
    s.peer.speaks = false;
    s.run(600);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.run(20);
    assert_eq!(s.role(), Role::Claiming);
    assert_eq!(s.order(Order::Leave), Some(Answer::Accepted));
    s.run(4000);
    assert!(s.left && s.role() == Role::Held);
    assert_eq!(s.order(Order::Force), Some(Answer::NotReady));
}

#[test]
fn the_highest_possible_term_does_not_panic() {
    let mut s = Script::standby();
    s.peer.frame.top = u64::MAX;
    s.run(200);
    s.peer.speaks = false;
    s.run(600);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.run(1000);
}

#[test]
fn content_that_came_by_two_paths_is_heard_on_both_and_rejected_on_none() {
    use twobox::node::settings::CROSSOVER;
    let mut s = Script::standby();
    let first = s.frame(LAN);
    s.deliver(&first);
    let before = *s.node.paths();
    // The same content, later, on the slower path.
    let second = Heartbeat { path: CROSSOVER, path_sequence: 1, ..first };
    s.deliver(&second);
    let path = s.node.paths()[CROSSOVER as usize];
    assert_eq!((path.heard, path.rejected.iter().sum::<u32>()), (1, 0));
    // The same frame once more is a replay, on either path.
    s.deliver(&second);
    s.deliver(&first);
    let rejected = |path: u8| s.node.paths()[path as usize].rejected.iter().sum::<u32>();
    assert_eq!(rejected(CROSSOVER), 1);
    assert_eq!(rejected(LAN), before[LAN as usize].rejected.iter().sum::<u32>() + 1);
}

/// A start is no trouble: what nobody has said yet is missed when there was time to say it.
#[test]
fn nothing_is_missed_before_it_had_a_fair_chance() {
    let mut s = Script::new();
    (s.peer.speaks, s.witness) = (false, false);
    s.input(Input::Turn);
    assert!(s.node.status(s.now).alarms.is_empty());
    s.run(950);
    assert!(s.node.status(s.now).alarms.is_empty());
    s.run(100);
    let told: Vec<Alarm> = s.node.status(s.now).alarms.iter().collect();
    assert_eq!(told, [Alarm::PeerSilent, Alarm::NoQuorum]);
    // Nor are addresses that nobody has looked at yet.
    let now = Instant::BOOT + Duration::from_secs(100);
    let mut node = Node::new(settings(), now, Memory::Fresh, false);
    let alarmed = |node: &mut Node, now| {
        node.handle(now, Input::Turn);
        while node.next_action().is_some() {}
        node.status(now).alarms.has(Alarm::NotDown)
    };
    assert!(!alarmed(&mut node, now));
    assert!(alarmed(&mut node, now + Duration::from_secs(1)));
}

/// The clients' outage begins when the services are told to stop, not with the vote that follows.
#[test]
fn the_account_of_a_planned_hand_over_begins_with_the_first_word_of_the_surrender() {
    let mut s = Script::standby();
    s.peer.frame.role = Role::Yielding;
    s.run(300);
    s.peer.frame.role = Role::Standby;
    s.peer.frame.intent = true;
    s.peer.frame.vote = Some(Vote { term: 2, candidate: settings().boot });
    s.run(50);
    assert_eq!(s.role(), Role::Active);
    let account = s.node.status(s.now).handover.expect("the service came from the peer");
    assert!(account.planned && account.detect == Duration::ZERO);
    assert!((MS * 250..=MS * 350).contains(&account.surrender), "{account:?}");
}

/// A peer that fenced itself votes like one that surrendered; but nobody planned that.
#[test]
fn a_vote_without_a_surrender_is_a_failover() {
    let mut s = Script::standby();
    s.peer.frame.role = Role::Standby;
    s.run(200);
    s.peer.frame.vote = Some(Vote { term: 2, candidate: settings().boot });
    s.run(50);
    assert_eq!(s.role(), Role::Active);
    let account = s.node.status(s.now).handover.expect("the service came from the peer");
    assert!(!account.planned && account.surrender == Duration::ZERO);
    assert!((MS * 200..=MS * 350).contains(&account.detect), "from the last frame of the one who served: {account:?}");
}

#[test]
fn a_first_start_is_no_hand_over() {
    let mut s = Script::new();
    (s.peer.frame.role, s.peer.frame.served, s.peer.frame.top) = (Role::Standby, 0, 0);
    s.run(200);
    s.peer.frame.vote = Some(Vote { term: 2, candidate: settings().boot });
    s.run(50);
    assert_eq!(s.role(), Role::Active);
    assert_eq!(s.node.status(s.now).handover, None);
}
