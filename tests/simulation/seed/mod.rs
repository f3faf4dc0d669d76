//! What a seed decides: the pair, its surroundings, and what goes wrong when.

mod schedule;
mod setup;

use super::situation::Situation;
use super::world::clock::{SECOND, Time};
use super::world::fault::Fault;
use super::world::judge::Violation;
use super::world::random::Random;
use super::world::{Setup, World};
use std::collections::BTreeMap;
use twobox::node::Answer;
use twobox::node::planted::Planted;

pub use setup::{clock_runs, dwell, fasten, rounds_in_a_lease};

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    Calm,
    Hostile,
    Lossy,
    Partition,
    Hang,
    Reboot,
    Disk,
    Operator,
    Everything,
    /// Not random faults, but a schedule drawn up for one situation.
    In(Situation),
}

impl Profile {
    /// The random ones.
    const RANDOM: [Profile; 9] = [
        Profile::Calm,
        Profile::Hostile,
        Profile::Lossy,
        Profile::Partition,
        Profile::Hang,
        Profile::Reboot,
        Profile::Disk,
        Profile::Operator,
        Profile::Everything,
    ];

    /// How often each random one is drawn, and every situation.
    const WEIGHTS: [u64; 9] = [2, 4, 8, 20, 14, 12, 8, 10, 22];
    const SITUATION_WEIGHT: u64 = 1;

    pub fn all() -> impl Iterator<Item = Profile> {
        Profile::RANDOM.into_iter().chain(Situation::ALL.map(Profile::In))
    }

    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Hostile => "hostile",
            Profile::Lossy => "lossy",
            Profile::Partition => "partition",
            Profile::Hang => "hang",
            Profile::Reboot => "reboot",
            Profile::Disk => "disk",
            Profile::Operator => "operator",
            Profile::Everything => "everything",
            Profile::In(situation) => situation.name(),
        }
    }

    fn draw(random: &mut Random) -> Profile {
        let weights = Self::WEIGHTS.into_iter().chain(std::iter::repeat(Self::SITUATION_WEIGHT));
        let all: u64 = Self::WEIGHTS.iter().sum::<u64>() + Self::SITUATION_WEIGHT * Situation::ALL.len() as u64;
        let mut n = random.below(all);
        for (profile, weight) in Profile::all().zip(weights) {
            if n < weight {
                return profile;
            }
            n -= weight;
        }
        Profile::Everything
    }

    /// Weights of the kinds of faults, in the order of the names in [`schedule`].
    fn kinds(self) -> [u64; 7] {
        match self {
            Profile::Calm | Profile::Hostile | Profile::In(_) => [0; 7],
            //                   lossy cut  hang boot disk word fit
            Profile::Lossy => [10, 2, 1, 1, 0, 1, 1],
            Profile::Partition => [2, 14, 1, 2, 0, 1, 1],
            Profile::Hang => [1, 2, 14, 1, 1, 1, 1],
            Profile::Reboot => [1, 4, 1, 14, 1, 1, 0],
            Profile::Disk => [1, 3, 1, 6, 10, 2, 0],
            Profile::Operator => [1, 2, 1, 2, 1, 14, 2],
            Profile::Everything => [4, 8, 5, 5, 2, 4, 4],
        }
    }
}

/// In the calm and the hostile profile the pair has found itself by then, and nothing may move any more.
const STEADY: Time = 40 * SECOND;
const STEADY_SOON: Time = 24 * SECOND;

/// A run, before it runs.
#[derive(Clone)]
pub struct Plan {
    pub profile: Profile,
    pub setup: Setup,
    pub faults: Vec<(Time, Fault)>,
    pub heals_at: Time,
}

/// What came of it.
pub struct Outcome {
    pub violation: Option<Violation>,
    pub simulated: Time,
    pub takeovers: BTreeMap<&'static str, u64>,
    /// Orders that were accepted, and all.
    pub orders: (u64, u64),
}

/// Runs `plan` to its end or to the first violation, and writes down what happens if somebody wants to read it.
pub fn run(plan: &Plan, trace: Option<&mut Vec<String>>) -> Outcome {
    let mut world = World::new(plan.setup.clone(), trace.is_some());
    world.power_on(0);
    world.power_on(1);
    world.judge.steady_from = match plan.profile {
        Profile::Calm | Profile::Hostile => Some(STEADY),
        Profile::In(Situation::Playback) => Some(STEADY_SOON),
        _ => None,
    };
    for &(at, fault) in &plan.faults {
        world.run_until(at);
        if world.judge.violation.is_some() {
            break;
        }
        world.inflict(fault);
    }
    world.run_until(plan.heals_at);
    if world.judge.violation.is_none() {
        world.heal();
        world.await_recovery();
    }
    if let Some(trace) = trace {
        *trace = world.trace.take().unwrap_or_default();
    }
    let accepted = world.answers.iter().filter(|a| a.2 == Answer::Accepted).count();
    Outcome {
        orders: (accepted as u64, world.answers.len() as u64),
        violation: world.judge.violation.take(),
        simulated: world.now,
        takeovers: std::mem::take(&mut world.judge.takeovers),
    }
}

/// The plan that `seed` stands for; `profile` overrides the one that it would draw.
pub fn plan(seed: u64, profile: Option<Profile>, planted: Planted) -> Plan {
    let mut random = Random::new(seed, 2);
    let drawn = Profile::draw(&mut random);
    let profile = profile.unwrap_or(drawn);
    let mut setup = setup::draw(seed, planted, &mut random);
    if let Profile::In(situation) = profile {
        let (faults, heals_at) = situation.stage(&mut setup, &mut random);
        return Plan { profile, setup, faults, heals_at };
    }
    let length = random.between(20, 100) * SECOND;
    let faults = schedule::draw(profile, &setup, length, &mut random);
    Plan { profile, setup, faults, heals_at: length }
}
