//! The simulator: `cargo test --release --test simulation -- --seeds N --from S [--trace] [--profile NAME] [--lie NAME]`,
//! with `--features planted-faults` also `[--undo RULE]`, as often as wanted.
//!
//! One seed decides a whole run: the pair, its surroundings and every fault. First comes a phase in which safety is
//! judged, then everything heals and service is demanded. A failing seed is printed with the shortest schedule of faults
//! that still fails, and with its trace.

#[path = "seed/mod.rs"]
mod seed;
#[path = "situation/mod.rs"]
mod situation;
#[path = "world/mod.rs"]
mod world;

use seed::{Outcome, Plan, Profile};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "planted-faults")]
use twobox::node::planted::Fault;
use twobox::node::planted::Planted;
use world::Lie;
use world::clock::{SECOND, Time};

/// Seeds of a plain `cargo test`.
const FEW: u64 = if cfg!(debug_assertions) { 40 } else { 400 };
/// Failing seeds that are shown in full before giving up.
const SHOWN: usize = 3;
const THREADS: usize = 2;

struct Arguments {
    seeds: u64,
    from: u64,
    trace: bool,
    profile: Option<Profile>,
    lie: Option<Lie>,
    planted: Planted,
}

impl Arguments {
    fn plan(&self, seed: u64) -> Plan {
        let mut plan = seed::plan(seed, self.profile, self.planted);
        plan.setup.lie = self.lie;
        plan
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { seeds: FEW, from: 1, trace: false, profile: None, lie: None, planted: Planted::NONE };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match word.as_str() {
            "--seeds" => parsed.seeds = number(value()?)?,
            "--from" => parsed.from = number(value()?)?,
            "--trace" => parsed.trace = true,
            "--profile" => {
                let name = value()?;
                let profile = Profile::all().find(|p| p.name() == name);
                parsed.profile = Some(profile.ok_or(format!("no profile is called {name}"))?);
            }
            "--lie" => {
                let name = value()?;
                let lie = Lie::ALL.into_iter().find(|l| format!("{l:?}") == name);
                parsed.lie = Some(lie.ok_or(format!("no lie is called {name}"))?);
            }
            #[cfg(feature = "planted-faults")]
            "--undo" => {
                let name = value()?;
                let fault = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name);
                parsed.planted = parsed.planted.with(fault.ok_or(format!("no rule is called {name}"))?);
            }
            // What cargo and its test harness pass along to every test program.
            "--nocapture" | "--quiet" | "-q" => {}
            other => return Err(format!("{other} is unknown: --seeds N, --from S, --trace, --profile NAME")),
        }
    }
    Ok(parsed)
}

#[derive(Default)]
struct Totals {
    runs: BTreeMap<(Profile, u8), (u64, Time)>,
    takeovers: BTreeMap<&'static str, u64>,
    orders: (u64, u64),
    failed: BTreeMap<u64, String>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    #[allow(clippy::disallowed_methods)] // how fast it goes is part of the report
    let began = std::time::Instant::now();
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let totals = Mutex::new(Totals::default());
    #[allow(clippy::disallowed_methods)] // one thread a core
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let plan = arguments.plan(seed);
                    let outcome = seed::run(&plan, None);
                    note(&mut totals.lock().expect("nobody panics with it"), seed, &plan, outcome);
                }
            });
        }
    });
    let totals = totals.into_inner().expect("nobody panics with it");
    for &seed in totals.failed.keys().take(SHOWN) {
        show(seed, arguments.plan(seed));
    }
    if arguments.trace && arguments.seeds == 1 && totals.failed.is_empty() {
        let mut trace = Vec::new();
        seed::run(&arguments.plan(arguments.from), Some(&mut trace));
        println!("{}", trace.join("\n"));
    }
    #[allow(clippy::disallowed_methods)] // how fast it goes is part of the report
    let took = began.elapsed().as_secs_f64();
    report(&arguments, &totals, took);
    if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn note(totals: &mut Totals, seed: u64, plan: &Plan, outcome: Outcome) {
    let runs = totals.runs.entry((plan.profile, plan.setup.settings[0].witnesses)).or_default();
    runs.0 += 1;
    runs.1 += outcome.simulated;
    for (why, count) in outcome.takeovers {
        *totals.takeovers.entry(why).or_default() += count;
    }
    totals.orders.0 += outcome.orders.0;
    totals.orders.1 += outcome.orders.1;
    if let Some(violation) = outcome.violation {
        totals.failed.insert(seed, format!("{:?} {}", plan.profile, violation.what));
    }
}

fn report(arguments: &Arguments, totals: &Totals, took: f64) {
    let hours = |t: Time| t as f64 / SECOND as f64 / 3600.0;
    println!("profile     witnesses   seeds  pair-hours");
    let mut simulated = 0;
    for ((profile, witnesses), (seeds, time)) in &totals.runs {
        println!("{:<11} {witnesses:>9} {seeds:>7} {:>11.2}", profile.name(), hours(*time));
        simulated += time;
    }
    println!("takeovers:");
    for (why, count) in &totals.takeovers {
        println!("  {count:>8}  {why}");
    }
    println!("orders accepted: {} of {}", totals.orders.0, totals.orders.1);
    println!(
        "{} seeds from {}, {:.2} pair-hours in {took:.1} s: {:.1} pair-hours a minute",
        arguments.seeds,
        arguments.from,
        hours(simulated),
        hours(simulated) * 60.0 / took
    );
    for (seed, what) in &totals.failed {
        println!("FAILED seed {seed}: {what}");
    }
    println!("{} seeds failed", totals.failed.len());
}

/// Prints the shortest schedule that still fails, and its trace.
fn show(seed: u64, plan: Plan) {
    let plan = shorten(plan);
    let mut trace = Vec::new();
    let outcome = seed::run(&plan, Some(&mut trace));
    println!("\nseed {seed}, profile {}, {} faults needed:", plan.profile.name(), plan.faults.len());
    for (i, s) in plan.setup.settings.iter().enumerate() {
        println!("  {}: lease {:?}, F {:?}, {:?}", ["A", "B"][i], s.lease, s.fence, plan.setup.belts[i]);
    }
    let s = &plan.setup.settings[0];
    println!(
        "  drift {:?} ppb, reflection required: {}, prefer {:?}, stale data {:?}, mirrored {}",
        plan.setup.drift, s.require_reflection, s.prefer, s.stale_data, s.mirrored
    );
    for witness in plan.setup.network.witnesses.iter().take(s.witnesses.into()) {
        println!("  witness: reflects {:?}, {} us a leg", witness.reflects, witness.latency / 1000);
    }
    for line in trace {
        println!("{line}");
    }
    if let Some(v) = outcome.violation {
        println!("{:>5}.{:06}  VIOLATED: {}", v.at / SECOND, v.at % SECOND / 1000, v.what);
    }
}

/// Drops faults from the end, then one by one, as long as it still fails in the same way.
fn shorten(mut plan: Plan) -> Plan {
    let kind = |plan: &Plan| seed::run(plan, None).violation.map(|v| v.what.chars().take(12).collect::<String>());
    let wanted = kind(&plan);
    let fails = |plan: &Plan| kind(plan) == wanted;
    let mut low = 0;
    let mut high = plan.faults.len();
    while low < high {
        let middle = (low + high) / 2;
        let shorter = Plan { faults: plan.faults[..middle].to_vec(), ..plan.clone() };
        if fails(&shorter) { high = middle } else { low = middle + 1 }
    }
    let shorter = Plan { faults: plan.faults[..high].to_vec(), ..plan.clone() };
    if fails(&shorter) {
        plan = shorter;
    }
    let mut n = plan.faults.len();
    while n > 0 {
        n -= 1;
        let mut shorter = plan.clone();
        shorter.faults.remove(n);
        if fails(&shorter) {
            plan = shorter;
        }
    }
    plan
}
