//! The long run: faults at random on a pair, one after the other, with an audit after each.
//!
//! ```text
//! cargo test --release --test soak -- --minutes 60 [--seed N] [--from STEP] [--steps N] [--totals FILE] [--profile NAME]
//! cargo test --release --test soak -- --appliance --minutes 60 [--seed N] [--from STEP] [--steps N] [--totals FILE] [--print]
//! ```
//!
//! The pair is two daemons in network namespaces (needs root), or with `--appliance` two boxes in QEMU. Every step is decided
//! by the seed and its number. Totals are kept in a file, so that runs add up: a later run with the same file goes on with
//! the next step. A step that fails ends the run and prints how to repeat it.

#![allow(clippy::disallowed_methods)] // a test starts programs, sleeps and reads the clock

mod appliance;
mod arguments;
mod audit;
#[path = "../mirror/compare.rs"]
mod compare;
mod dice;
mod fault;
mod lasting;
mod pair;
#[allow(dead_code)] // the tests of the pair use all of it
#[path = "../pair/rig/mod.rs"]
mod rig;
mod totals;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("soak: {message}");
            return ExitCode::from(2);
        }
    };
    match if arguments.appliance { appliance::run(&arguments) } else { pair::run(&arguments) } {
        Ok(totals) => {
            println!("{totals}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("soak: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Dropped only when a step fails.
struct Repeat {
    rig: &'static str,
    seed: u64,
    step: u64,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        eprintln!("soak: repeat with {} --seed {} --from {} --steps 1", self.rig, self.seed, self.step);
    }
}
