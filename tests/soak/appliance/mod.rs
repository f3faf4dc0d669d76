//! The run on two boxes in QEMU: the rig of the appliance's tests, with every cable in one hand, judged from outside.

mod inject;
mod judge;
mod look;
mod plan;
#[allow(dead_code)] // the tests of the appliance use all of it
#[path = "../../appliance/rig/mod.rs"]
mod rig;
mod trees;

use std::time::Duration;

use twobox::clock;

use crate::Repeat;
use crate::arguments::Arguments;
use crate::dice::Dice;
use crate::totals::{Seen, Totals};
use judge::name;
use look::Audit;
use plan::Plan;
use rig::{Rig, images, root};

const BOARD: &str = "qemu-pc";

pub fn run(arguments: &Arguments) -> Result<Totals, String> {
    let mut totals = Totals::read(arguments.totals.as_deref(), "appliance")?;
    let mut step = arguments.from.unwrap_or(totals.steps);
    let last = step.saturating_add(arguments.steps);
    let images = images::make(root(), BOARD, &root().join("tests/appliance/site.toml"));
    let until = clock::now() + Duration::from_secs(60 * arguments.minutes);
    let mut rig = Rig::new(BOARD, &images, arguments.print);
    let mut audit = begin(&mut rig).map_err(|why| format!("at the start: {why}\n{}", told(&rig, 0)))?;
    while clock::now() < until && step < last {
        let began = clock::now();
        let mut dice = Dice::of_step(arguments.seed, step);
        let plan = Plan::draw(&mut dice);
        let mut names = plan.names();
        println!("step {step}: {}", names.join(" with "));
        let repeat = Repeat { rig: "--appliance", seed: arguments.seed, step };
        let mark = rig.timeline.mark();
        let seen = play(&mut rig, &plan, &mut dice, &mut audit);
        let seen = seen.map_err(|why| format!("step {step}: {why}\n{}", told(&rig, mark)))?;
        std::mem::forget(repeat);
        // Emulation on a busy machine starves a box until its watchdog fires: then the outage is not that of the fault alone.
        if seen.exits.iter().any(|end| end.ends_with(look::UNASKED)) {
            names.push("reset of a box that nobody struck");
        }
        let took = clock::now().since(began);
        println!(
            "  {:.0} s; outage {} ms, {} changes of the owner in {} terms; PID 1 {} KiB and {} descriptors at most",
            took.as_secs_f64(),
            seen.outage.as_millis(),
            seen.owner_changes,
            seen.terms,
            seen.memory,
            seen.descriptors
        );
        totals.add(&names, took, &seen);
        step += 1;
        totals.steps = totals.steps.max(step);
        if let Some(file) = &arguments.totals {
            totals.write(file);
        }
    }
    Ok(totals)
}

/// A whole pair with files in its tree, all of it in order.
fn begin(rig: &mut Rig) -> Result<Audit, String> {
    let whole = look::recovered(rig)?;
    trees::fill(rig, whole.active)?;
    let mut audit = Audit::default();
    audit.after(rig, &whole, &[])?;
    Ok(audit)
}

/// One step: faults, healing, and a look at everything.
fn play(rig: &mut Rig, plan: &Plan, dice: &mut Dice, audit: &mut Audit) -> Result<Seen, String> {
    let before = if plan.rested { look::rested(rig)? } else { look::recovered(rig)? };
    let active = before.active;
    let (start, mark) = (rig.timeline.now(), rig.timeline.mark());
    trees::change(rig, active, dice)?;
    let struck: Vec<usize> = plan.faults.iter().flat_map(|fault| inject::inject(*fault, rig, active)).collect();
    rig.pass(plan.lasts);
    inject::heal(rig);
    look::went_down(rig, mark, &struck)?;
    let whole = look::recovered(rig)?;
    let seen = audit.after(rig, &whole, &struck)?;
    Ok(Seen { outage: rig.outage_since(start), released: before.released + seen.released, ..seen })
}

/// What happened since `mark`, without the boxes' long answers, and what both say now.
fn told(rig: &Rig, mark: usize) -> String {
    const SHORT: usize = 300;
    let text = rig.timeline.text(mark);
    let mut told: Vec<String> = text.lines().map(|line| line.chars().take(SHORT).collect()).collect();
    for index in [0, 1] {
        let log = rig.ask(index, "/init log -n 60", look::ANSWER).map(|(said, _)| said);
        told.push(format!("{}: {:?}\n{}", name(index), rig.status(index, look::ANSWER), log.unwrap_or_default()));
    }
    told.join("\n")
}
