//! A simulator that cannot fail is a defect: every safety rule is undone by itself, and every assumption about the hardware
//! broken by itself, and it has to be noticed. Prints where, and after how many seeds. Rules that say the same from two
//! sides are undone together.

#[path = "simulation/plain.rs"]
mod plain;
#[path = "simulation/seed/mod.rs"]
mod seed;
#[path = "simulation/situation/mod.rs"]
mod situation;
#[path = "simulation/world/mod.rs"]
mod world;

use seed::Profile;
use situation::Situation;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use twobox::node::planted::{Fault, Planted};
use world::clock::SECOND;
use world::judge::Violation;
use world::{Lie, Setup, World};

const THREADS: usize = 2;

/// Where a fault is looked for.
#[derive(Clone, Copy)]
enum Hunt {
    /// In random worlds.
    Random,
    /// In one situation, drawn up for it.
    In(Situation),
    /// In one world that is always the same: what goes wrong there, if anything does.
    Case(fn(Planted) -> Option<String>),
}

impl Hunt {
    fn name(self) -> &'static str {
        match self {
            Hunt::Random => "random",
            Hunt::In(situation) => situation.name(),
            Hunt::Case(_) => "one case",
        }
    }

    /// Seeds after which a fault counts as not found.
    fn seeds(self) -> u64 {
        match self {
            Hunt::Random => 1_500,
            Hunt::In(_) => 400,
            Hunt::Case(_) => 1,
        }
    }

    fn profile(self) -> Option<Profile> {
        match self {
            Hunt::In(situation) => Some(Profile::In(situation)),
            Hunt::Random | Hunt::Case(_) => None,
        }
    }
}

/// What is undone together, and where that shows.
struct Planting {
    undone: &'static [Fault],
    lie: Option<Lie>,
    hunt: Hunt,
}

const fn undo(undone: &'static [Fault], hunt: Hunt) -> Planting {
    Planting { undone, lie: None, hunt }
}

const fn lie(lie: Lie, hunt: Hunt) -> Planting {
    Planting { undone: &[], lie: Some(lie), hunt }
}

use Fault as F;
use Situation as S;

const PLANTINGS: &[Planting] = &[
    undo(&[F::NoVoteFloor], Hunt::In(S::Crossing)),
    undo(&[F::GrantsInYielding], Hunt::Random),
    undo(&[F::GrantsInClaiming], Hunt::In(S::Deaf)),
    undo(&[F::AcceptsAnyBoot], Hunt::In(S::Playback)),
    undo(&[F::HelloStarves], Hunt::In(S::Playback)),
    undo(&[F::QuorumByMean], Hunt::In(S::Seesaw)),
    undo(&[F::UnjudgedIsGood], Hunt::In(S::Seesaw)),
    undo(&[F::OwnFenceBound], Hunt::Random),
    undo(&[F::DriftOnLeaseOnly], Hunt::In(S::Drift)),
    undo(&[F::FeedsInYielding], Hunt::In(S::Stuck)),
    undo(&[F::UnheardBlocks], Hunt::In(S::Deaf)),
    undo(&[F::NoParity], Hunt::Random),
    undo(&[F::SpeaksBeforeLooking], Hunt::Random),
    undo(&[F::LateKeepsClocks], Hunt::In(S::Wake)),
    undo(&[F::StaleVote], Hunt::In(S::Swap)),
    undo(&[F::OrderWithoutTerm], Hunt::In(S::Orders)),
    undo(&[F::NoFenceWait], Hunt::Random),
    undo(&[F::NoPromise], Hunt::In(S::Glimpse)),
    undo(&[F::NoQuorumWait], Hunt::In(S::Seesaw)),
    undo(&[F::AcceptsReplay], Hunt::In(S::Tape)),
    undo(&[F::NotPersisted], Hunt::In(S::Alone)),
    undo(&[F::NoRecheck], Hunt::In(S::Swap)),
    undo(&[F::OrderedIsDurable], Hunt::In(S::Alone)),
    undo(&[F::ForgetsReserved], Hunt::In(S::Alone)),
    // A voter asks for a term above what the candidate tells, so a burnt one is asked for again only if it is not told.
    undo(&[F::NotBurnt, F::TopIsServed], Hunt::In(S::Alone)),
    undo(&[F::TopIsServed], Hunt::Random),
    undo(&[F::StaleSource], Hunt::In(S::Copies)),
    undo(&[F::PanicWithoutAge], Hunt::In(S::Text)),
    undo(&[F::RivalIgnored], Hunt::Random),
    undo(&[F::LeaseFromReceipt], Hunt::Random),
    undo(&[F::FenceGrowthKeepsLease], Hunt::In(S::Growth)),
    undo(&[F::ToldBoundForEver], Hunt::In(S::Growth)),
    undo(&[F::VotesInAnyRole], Hunt::Random),
    // Who is passive and speaks has its addresses down; and a vote before that needs a word before that.
    undo(&[F::VotesBeforeDown, F::SpeaksBeforeDown], Hunt::In(S::Restart)),
    undo(&[F::UnprovenCounts], Hunt::Random),
    undo(&[F::ForcedForEver], Hunt::In(S::Return)),
    undo(&[F::FarewellForgotten], Hunt::In(S::Return)),
    undo(&[F::NeverBlocked], Hunt::In(S::Deaf)),
    undo(&[F::ClaimantIsNoRival], Hunt::In(S::Deaf)),
    undo(&[F::NoBootWait], Hunt::Case(claims_before_the_peer_has_time_to_appear)),
    undo(&[F::OneSequence], Hunt::Case(panic_text_saves_nothing)),
    undo(&[F::HeldWithoutQuorum], Hunt::Case(nobody_serves_without_the_witness)),
    undo(&[F::IgnoresCopies], Hunt::In(S::Reinstalled)),
    undo(&[F::WaitsForTheDisk], Hunt::In(S::Stalled)),
    undo(&[F::HeardWhenRead], Hunt::In(S::Growth)),
    undo(&[F::VouchesAlone], Hunt::Case(both_serve_by_witnesses_of_their_own)),
    undo(&[F::ProvenForOne], Hunt::Case(both_serve_by_parts_of_a_list)),
    lie(Lie::SlowWatchdog, Hunt::Random),
    lie(Lie::OpenGate, Hunt::Random),
    lie(Lie::EndlessAddress, Hunt::Random),
    lie(Lie::UnsharedFate, Hunt::Random),
    lie(Lie::WildClocks, Hunt::In(S::Drift)),
    lie(Lie::ForgetfulDisk, Hunt::Random),
    lie(Lie::UnwatchedLoss, Hunt::In(S::Orphan)),
    lie(Lie::PausedGuest, Hunt::Random),
];

impl Planting {
    fn name(&self) -> String {
        let names: Vec<_> = self.undone.iter().map(|fault| format!("{fault:?}")).collect();
        self.lie.map_or(names.join(" + "), |lie| format!("{lie:?}"))
    }

    fn planted(&self) -> Planted {
        self.undone.iter().fold(Planted::NONE, |set, &fault| set.with(fault))
    }

    /// What seed `seed` shows, if it shows something that it does not show without the fault.
    fn try_seed(&self, seed: u64) -> Option<String> {
        let profile = self.hunt.profile();
        let mut plan = seed::plan(seed, profile, self.planted());
        plan.setup.lie = self.lie;
        let outcome = seed::run(&plan, None);
        let Violation { at, what } = outcome.violation?;
        let takeovers: u64 = outcome.takeovers.values().sum();
        let (orders, of) = (outcome.orders.1, outcome.simulated / SECOND);
        if seed::run(&seed::plan(seed, profile, Planted::NONE), None).violation.is_some() {
            return None;
        }
        let after = format!("after {} of {of} s, {takeovers} takeovers, {orders} orders", at / SECOND);
        Some(format!("{} {after}: {what}", plan.profile.name()))
    }

    /// The first seed that finds it, with what it finds.
    fn find(&self) -> Option<(u64, String)> {
        if let Hunt::Case(case) = self.hunt {
            assert_eq!(case(Planted::NONE), None, "without a fault nothing goes wrong there");
            return case(self.planted()).map(|what| (1, what));
        }
        let next = AtomicU64::new(1);
        let best = AtomicU64::new(u64::MAX);
        let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
        #[allow(clippy::disallowed_methods)] // one thread a core
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed > self.hunt.seeds() || seed > best.load(Ordering::Relaxed) {
                            break;
                        }
                        let Some(what) = self.try_seed(seed) else { continue };
                        best.fetch_min(seed, Ordering::Relaxed);
                        let mut found = found.lock().expect("nobody panics with it");
                        if found.as_ref().is_none_or(|f| f.0 > seed) {
                            *found = Some((seed, what));
                        }
                    }
                });
            }
        });
        found.into_inner().expect("nobody panics with it")
    }
}

#[test]
fn every_planted_fault_is_found() {
    let mut missed = Vec::new();
    println!("{:<36} {:<9} {:>5}  what was seen", "undone", "where", "seeds");
    for planting in PLANTINGS {
        let (seeds, what) = match planting.find() {
            Some((seed, what)) => (seed.to_string(), what),
            None => {
                missed.push(planting.name());
                ("-".into(), "nothing".into())
            }
        };
        let what: String = what.chars().take(110).collect();
        println!("{:<36} {:<9} {seeds:>5}  {what}", planting.name(), planting.hunt.name());
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn no_switch_is_left_out() {
    for fault in Fault::ALL {
        assert!(PLANTINGS.iter().any(|planting| planting.undone.contains(&fault)), "{fault:?}");
    }
    for lie in Lie::ALL {
        assert!(PLANTINGS.iter().any(|planting| planting.lie == Some(lie)), "{lie:?}");
    }
}

fn with(mut setup: Setup, planted: Planted) -> World {
    for s in &mut setup.settings {
        s.planted = planted;
    }
    World::new(setup, false)
}

/// A box that boots alone gives its peer the boot wait to appear, however fast that peer would be fenced.
fn claims_before_the_peer_has_time_to_appear(planted: Planted) -> Option<String> {
    let mut setup = plain::setup(1);
    for s in &mut setup.settings {
        s.require_reflection = false;
    }
    let mut world = with(setup, planted);
    world.power_on(plain::A);
    world.run_until(9_500_000_000);
    world.boxes[plain::A].emits(world.now).then(|| "serves before the boot wait is over".into())
}

/// Frames on the slow null modem are never the newest, and yet they show that it works.
fn panic_text_saves_nothing(planted: Planted) -> Option<String> {
    let mut world = with(plain::watchdog_only(1), planted);
    world.power_on(plain::A);
    world.power_on(plain::B);
    world.run_until(20 * SECOND);
    world.inflict(world::fault::Fault::Panic { side: plain::A, length: plain::EVER });
    world.run_until(22 * SECOND);
    (!world.boxes[plain::B].emits(world.now)).then(|| "the panic text does not save the wait".into())
}

/// The operator vouches for his witnesses, and the boxes do not ask the same ones.
fn both_serve_by_witnesses_of_their_own(planted: Planted) -> Option<String> {
    let mut setup = plain::setup(3);
    for s in &mut setup.settings {
        s.require_reflection = false;
    }
    (setup.settings[plain::A].witnesses, setup.settings[plain::A].digest) = (1, 2);
    let mut world = with(setup, planted);
    world.power_on(plain::A);
    world.power_on(plain::B);
    world.run_until(20 * SECOND);
    apart(&mut world, [(plain::A, 1), (plain::A, 2), (plain::B, 0)]);
    world.run_until(50 * SECOND);
    world.judge.violation.map(|violation| violation.what)
}

/// One box was told of a shorter list, when all of the longer one were proven.
fn both_serve_by_parts_of_a_list(planted: Planted) -> Option<String> {
    let mut world = with(plain::setup(3), planted);
    world.power_on(plain::A);
    world.power_on(plain::B);
    world.run_until(20 * SECOND);
    let template = &mut world.boxes[plain::B].template;
    (template.witnesses, template.digest) = (1, 2);
    world.inflict(world::fault::Fault::Kill { side: plain::B, restart: 50_000_000 });
    world.run_until(30 * SECOND);
    apart(&mut world, [(plain::A, 0), (plain::B, 1), (plain::B, 2)]);
    world.run_until(60 * SECOND);
    world.judge.violation.map(|violation| violation.what)
}

/// No cable connects the boxes any more, and so many legs to witnesses are gone.
fn apart(world: &mut World, legs: [(usize, u8); 3]) {
    for path in 0..3 {
        world.inflict(world::fault::Fault::Cut { path, ways: 3, length: plain::EVER });
    }
    for (side, witness) in legs {
        world.inflict(world::fault::Fault::LegCut { side, witness, ways: 3, length: plain::EVER });
    }
}

/// A dead witness forbids claims in silence, and nothing else.
fn nobody_serves_without_the_witness(planted: Planted) -> Option<String> {
    let mut setup = plain::setup(1);
    setup.network.witnesses[0].down_until = plain::EVER;
    let mut world = with(setup, planted);
    world.power_on(plain::A);
    world.power_on(plain::B);
    world.run_until(20 * SECOND);
    world.boxes.iter().all(|m| !m.emits(world.now)).then(|| "nobody serves while the witness is dead".into())
}
