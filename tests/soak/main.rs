//! The long run: faults at random on a pair in network namespaces, one after the other, with an audit after each.
//!
//! ```text
//! cargo test --release --test soak -- --minutes 60 [--seed N] [--from STEP] [--steps N] [--totals FILE] [--profile NAME]
//! ```
//!
//! Every step is decided by the seed and its number. Totals are kept in a file, so that runs add up: a later run with the same
//! file goes on with the next step. A step that fails ends the run and prints how to repeat it. Needs root.

#![allow(clippy::disallowed_methods)] // a test starts programs, sleeps and reads the clock

mod audit;
#[path = "../mirror/compare.rs"]
mod compare;
mod fault;
mod lasting;
#[allow(dead_code)] // the tests of the pair use all of it
#[path = "../pair/rig/mod.rs"]
mod rig;
mod totals;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use fault::Fault;
use rig::Rig;
use totals::Totals;
use twobox::clock;
use twobox::time::Duration;

/// What a plain `cargo test` does of it.
const FEW_MINUTES: u64 = 1;

struct Arguments {
    minutes: u64,
    seed: u64,
    from: Option<u64>,
    steps: u64,
    totals: Option<PathBuf>,
    profile: String,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments {
        minutes: FEW_MINUTES,
        seed: 1,
        from: None,
        steps: u64::MAX,
        totals: None,
        profile: "default".to_owned(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match word.as_str() {
            "--minutes" => parsed.minutes = number(value()?)?,
            "--seed" => parsed.seed = number(value()?)?,
            "--from" => parsed.from = Some(number(value()?)?),
            "--steps" => parsed.steps = number(value()?)?,
            "--totals" => parsed.totals = Some(value()?.into()),
            "--profile" => parsed.profile = value()?,
            _ => return Err(format!("what is {word}?")),
        }
    }
    Ok(parsed)
}

/// Random numbers of one step (splitmix64).
pub struct Dice(u64);

impl Dice {
    fn of_step(seed: u64, step: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step);
        dice.roll(2); // neighbours differ from the first roll on
        dice
    }

    /// From 0 to `sides - 1`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("soak: {message}");
            return ExitCode::from(2);
        }
    };
    let mut totals = arguments.totals.as_ref().map_or_else(Totals::default, |file| Totals::read(file));
    let mut step = arguments.from.unwrap_or(totals.steps);
    let until = clock::now() + Duration::from_secs(60 * arguments.minutes);
    let last = step.saturating_add(arguments.steps);
    let timing = format!("profile = \"{}\"\n{}", arguments.profile, workload::sections("soak"));
    let mut rig = Rig::new("soak", &timing);
    workload::make_trees(&rig);
    rig.start_both();
    let mut audit = audit::Audit::begin(&mut rig);
    while clock::now() < until && step < last {
        let began = clock::now();
        let mut dice = Dice::of_step(arguments.seed, step);
        workload::change(&rig, &mut dice);
        let faults = Fault::draw(&mut dice);
        let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
        println!("step {step}: {}", names.join(" with "));
        // A panic in here prints both logs and statuses; this line says how to see it again.
        let repeat = Repeat { seed: arguments.seed, step };
        for fault in &faults {
            fault.inject(&mut rig, &mut dice);
        }
        std::thread::sleep(Duration::from_millis(200 + dice.roll(2500)));
        Fault::heal(&rig);
        let seen = audit.after(&mut rig);
        workload::compare(&rig);
        std::mem::forget(repeat);
        totals.add(&names, clock::now().since(began), &seen);
        step += 1;
        totals.steps = totals.steps.max(step);
        if let Some(file) = &arguments.totals {
            totals.write(file);
        }
    }
    println!("{totals}");
    ExitCode::SUCCESS
}

/// Dropped only when a step fails.
struct Repeat {
    seed: u64,
    step: u64,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        eprintln!("soak: repeat with --seed {} --from {} --steps 1", self.seed, self.step);
    }
}
