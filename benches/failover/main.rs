//! How long clients go without an answer: this pair and keepalived, one after the other on the same machine.
//!
//! For each: planned hand-overs, power losses, and a time without any fault under four busy processes. Judged by a client
//! that asks every millisecond, and by every frame that leaves as holder of the service address. Printed as the tables of
//! docs/performance.md.

#![allow(clippy::disallowed_methods)] // a benchmark starts programs, sleeps and reads the clock

mod judge;
mod keepalived;
mod pair;
mod power;
#[allow(dead_code)] // the tests of the pair use all of it
#[path = "../../tests/pair/rig/mod.rs"]
mod rig;
mod stall;
mod steady;
mod table;

use judge::{Figures, Plan};
use keepalived::Keepalived;
use pair::Pair;
use rig::counting::{self, Counting};
use twobox::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USAGE: &str = "usage: tests/bench failover [--faults N] [--quiet SECONDS] [--only PART]
  --faults N       planned hand-overs and power losses of each system (20)
  --quiet SECONDS  time without a fault under four busy processes (60)
  --only PART      only systems whose name contains PART, `steady` for the figures of a pair at rest";

/// What was asked for.
struct Options {
    plan: Plan,
    only: String,
}

fn main() {
    if counting::daemon() {
        return; // the benchmark started this, to count
    }
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            std::process::exit(2);
        }
    };
    print!("{}", table::machine(&options.plan));
    let wanted = |name: &str| name.contains(&options.only);
    let mut figures: Vec<Figures> = Vec::new();
    for profile in ["fastest", "fast", "default"] {
        if wanted(&format!("twobox {profile}")) {
            figures.push(judge::measure(&mut Pair::new(profile), options.plan));
        }
    }
    for (advert, real_time) in [("0.01", true), ("0.01", false), ("0.1", false)] {
        let name = keepalived::name(advert, real_time);
        if wanted(&name) {
            figures.push(judge::measure(&mut Keepalived::new(name, advert, real_time), options.plan));
        }
    }
    print!("{}", table::outages(&figures));
    print!("{}", table::parts(&figures));
    if wanted("steady") {
        print!("{}", table::steady(&steady::measure()));
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { plan: Plan { faults: 20, quiet: Duration::from_secs(60) }, only: String::new() };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u32>().map_err(|_| format!("{text} is no number"));
        match word.as_str() {
            "--faults" => options.plan.faults = number(value()?)? as usize,
            "--quiet" => options.plan.quiet = Duration::from_secs(number(value()?)?.into()),
            "--only" => options.only = value()?,
            "--bench" => {} // cargo's own
            _ => return Err(format!("{word}: not known")),
        }
    }
    Ok(options)
}
