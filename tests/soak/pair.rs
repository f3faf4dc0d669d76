//! The run on two daemons in network namespaces.

use twobox::clock;
use twobox::time::Duration;

use crate::arguments::Arguments;
use crate::audit::Audit;
use crate::dice::Dice;
use crate::fault::Fault;
use crate::rig::Rig;
use crate::totals::Totals;
use crate::{Repeat, workload};

pub fn run(arguments: &Arguments) -> Result<Totals, String> {
    let mut totals = Totals::read(arguments.totals.as_deref(), "pair")?;
    let mut step = arguments.from.unwrap_or(totals.steps);
    let until = clock::now() + Duration::from_secs(60 * arguments.minutes);
    let last = step.saturating_add(arguments.steps);
    let timing = format!("profile = \"{}\"\n{}", arguments.profile, workload::sections("soak"));
    let mut rig = Rig::new("soak", &timing);
    workload::make_trees(&rig);
    rig.start_both();
    let mut audit = Audit::begin(&mut rig);
    while clock::now() < until && step < last {
        let began = clock::now();
        let mut dice = Dice::of_step(arguments.seed, step);
        workload::change(&rig, &mut dice);
        let faults = Fault::draw(&mut dice);
        let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
        println!("step {step}: {}", names.join(" with "));
        // A panic in here prints both logs and statuses; this line says how to see it again.
        let repeat = Repeat { rig: "", seed: arguments.seed, step };
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
    Ok(totals)
}
