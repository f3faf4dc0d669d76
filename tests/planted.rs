//! A simulator that cannot fail is a defect: each safety rule is undone by itself, and each assumption about the hardware
//! broken by itself, and it has to be noticed. Prints after how many seeds.

#[path = "simulation/seed.rs"]
mod seed;
#[path = "simulation/world/mod.rs"]
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use twobox::node::planted::{Fault, Planted};
use world::Lie;
use world::clock::SECOND;
use world::judge::Violation;

/// Seeds after which a fault counts as not found.
const SEEDS: u64 = 3000;
const THREADS: usize = 2;

/// What is undone together, with a name.
struct Planting {
    name: String,
    planted: Planted,
    lie: Option<Lie>,
}

/// Undone one at a time. Rules that overlap with another one are not noticed alone; docs/testing.md names them.
const SINGLE: &[Fault] = &[Fault::GrantsInYielding, Fault::OwnFenceBound, Fault::NoParity, Fault::SpeaksBeforeLooking];

/// Clocks that run apart by more than is reckoned with are not noticed within these seeds.
fn noticed_by_random(lie: &Lie) -> bool {
    !matches!(lie, Lie::WildClocks)
}

fn plantings() -> Vec<Planting> {
    let single =
        |&fault: &Fault| Planting { name: format!("{fault:?}"), planted: Planted::NONE.with(fault), lie: None };
    let lie = |lie: Lie| Planting { name: format!("{lie:?}"), planted: Planted::NONE, lie: Some(lie) };
    SINGLE.iter().map(single).chain(Lie::ALL.into_iter().filter(noticed_by_random).map(lie)).collect()
}

/// The first seed that finds it, with what it finds; the seed has to be clean without the fault.
fn find(planting: &Planting) -> Option<(u64, String, Violation)> {
    let next = AtomicU64::new(1);
    let found: Mutex<Option<(u64, String, Violation)>> = Mutex::new(None);
    let best = AtomicU64::new(u64::MAX);
    #[allow(clippy::disallowed_methods)] // one thread a core
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS || seed > best.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut plan = seed::plan(seed, None, planting.planted);
                    plan.setup.lie = planting.lie;
                    let outcome = seed::run(&plan, None);
                    let Some(violation) = outcome.violation else { continue };
                    if seed::run(&seed::plan(seed, None, Planted::NONE), None).violation.is_some() {
                        continue;
                    }
                    let takeovers: u64 = outcome.takeovers.values().sum();
                    let run = format!(
                        "{} after {} s, {takeovers} takeovers and {} orders",
                        plan.profile.name(),
                        outcome.simulated / SECOND,
                        outcome.orders.1
                    );
                    if best.fetch_min(seed, Ordering::Relaxed) > seed {
                        let mut found = found.lock().expect("nobody panics with it");
                        if found.as_ref().is_none_or(|f| f.0 > seed) {
                            *found = Some((seed, run, violation));
                        }
                    }
                }
            });
        }
    });
    found.into_inner().expect("nobody panics with it")
}

#[test]
fn every_planted_fault_is_found() {
    let mut missed = Vec::new();
    println!("{:<24} {:>6}  what was seen", "fault", "seeds");
    for planting in plantings() {
        match find(&planting) {
            Some((seed, run, violation)) => {
                let what: String = violation.what.chars().take(70).collect();
                println!("{:<24} {seed:>6}  {run}: {what}", planting.name);
            }
            None => {
                println!("{:<24} {:>6}  nothing", planting.name, "-");
                missed.push(planting.name);
            }
        }
    }
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
}
