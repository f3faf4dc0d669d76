//! The appliance under test: two boxes under QEMU, every cable in one hand, judged from outside.
//!
//! ```text
//! cargo test --test appliance                    the short set (TWOBOX_FULL=1: all)
//! cargo test --test appliance -- NAME...         those whose names contain a word
//! cargo test --test appliance -- --list
//! cargo test --test appliance -- --print        tells what happens as it happens
//! ```
//!
//! All scenarios of a board run one after the other on one pair, which each of them leaves healthy: a boot under
//! emulation takes longer than most faults. After a failure the next one gets new boxes.

mod console;
mod damage;
mod mirror;
#[allow(dead_code)] // the demonstration uses the rest
mod rig;
mod scenario;
mod slow;
mod unhang;
mod update;

use std::process::ExitCode;
use std::time::Duration;

use rig::{Rig, images, root};
use scenario::{SCENARIOS, Scenario};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let full = std::env::var_os("TWOBOX_FULL").is_some();
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| match words.as_slice() {
            [] => full || scenario.short,
            words => words.iter().any(|word| scenario.name == *word || scenario.name.starts_with(&format!("{word}/"))),
        })
        .collect();
    if arguments.iter().any(|word| word == "--list") {
        SCENARIOS.iter().for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    let failed = run(&chosen, arguments.iter().any(|word| word == "--print"));
    println!("\nappliance: {} passed, {} failed {}", chosen.len() - failed.len(), failed.len(), failed.join(" "));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the scenarios in their order; returns the names of those that failed.
fn run(chosen: &[&Scenario], print: bool) -> Vec<&'static str> {
    let mut failed = Vec::new();
    let mut pair: Option<Rig> = None;
    let mut board = "";
    for scenario in chosen {
        if scenario.board != board {
            board = scenario.board;
            pair = None;
        }
        let rig = pair.get_or_insert_with(|| {
            let images = images::make(root(), scenario.board, &root().join("tests/appliance/site.toml"));
            Rig::new(scenario.board, &images, print)
        });
        let mark = rig.timeline.mark();
        let start = rig.timeline.now();
        let result = (scenario.run)(rig).and_then(|figures| page_is_right(rig, start).map(|()| figures));
        let took = (rig.timeline.now() - start).as_secs_f64();
        match result {
            Ok(figures) => println!("ok      {:<28} {took:6.1} s  {figures}", scenario.name),
            Err(why) => {
                println!("FAILED  {:<28} {took:6.1} s  {why}", scenario.name);
                if !print {
                    println!("{}", rig.timeline.text(mark));
                }
                failed.push(scenario.name);
                pair = None;
            }
        }
    }
    failed
}

/// After every scenario the page is fetched, and no other content was ever got.
fn page_is_right(rig: &Rig, start: Duration) -> Result<(), String> {
    const LIMIT: Duration = Duration::from_secs(15);
    let until = rig.timeline.now() + LIMIT;
    loop {
        let fetched = rig.fetched();
        if fetched.wrong > 0 {
            return Err(format!("the service gave {} wrong pages", fetched.wrong));
        }
        if fetched.answers > 0 && fetched.last > start {
            return Ok(());
        }
        if rig.timeline.now() > until {
            return Err("pings are answered and no page comes".into());
        }
        rig.pass(Duration::from_millis(100));
    }
}
