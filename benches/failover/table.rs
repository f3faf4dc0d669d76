//! The figures as tables of docs/performance.md.

use std::fmt::Write;
use std::fs;

use twobox::console::status::Handover;
use twobox::time::Duration;

use crate::judge::{Faults, Figures, Plan};
use crate::rig;
use crate::steady::Steady;

/// Where and what.
pub fn machine(plan: &Plan) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "`{}`, {} processors, kernel {}, load average at the start {}; {} faults of each kind, {} s under load\n\n",
        in_tree(&rig::program().display().to_string()),
        processors,
        read("/proc/sys/kernel/osrelease").split('-').next().unwrap_or_default(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        plan.faults,
        plan.quiet.as_secs()
    )
}

/// Where a program lies in this source tree; otherwise its path.
fn in_tree(program: &str) -> &str {
    program.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/")).unwrap_or(program)
}

/// Outages seen by the client.
pub fn outages(figures: &[Figures]) -> String {
    let mut text = String::from(
        "| system | planned, ms: min / median / max | power loss, ms: min / median / max | owner changes under load | \
         two owners | worst stall of the machine under load, ms | |\n|---|---|---|---|---|---|---|\n",
    );
    for f in figures {
        let (planned, lost) = (spread(&f.planned.outages), spread(&f.lost.outages));
        let (double, stall) = (f.planned.double + f.lost.double, f.stall.as_secs_f64() * 1e3);
        let Figures { name, changes, remark, .. } = f;
        let _ = writeln!(text, "| {name} | {planned} | {lost} | {changes} | {double} | {stall:.1} | {remark} |");
    }
    text + "\n"
}

/// Where the time went, by the new owner's own account: medians.
pub fn parts(figures: &[Figures]) -> String {
    let told = |faults: &Faults| faults.accounts.first().map(|first| first.steps.clone());
    let Some(steps) = figures.iter().find_map(|f| told(&f.planned).or(told(&f.lost))) else { return String::new() };
    let names: Vec<String> = steps.into_iter().map(|step| step.name).collect();
    let mut text =
        String::from("Where the time goes, by the new owner's own account (`last_handover` in `status --json`):\n\n");
    let _ = writeln!(text, "| medians, ms | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for f in figures {
        for (kind, faults) in [("planned", &f.planned), ("power loss", &f.lost)] {
            if !faults.accounts.is_empty() {
                let medians = names.iter().map(|name| median(&faults.accounts, name));
                let _ = writeln!(text, "| {}, {kind} | {} |", f.name, medians.collect::<Vec<_>>().join(" | "));
            }
        }
    }
    text + "\n"
}

/// The pair at rest.
pub fn steady(steady: &Steady) -> String {
    let mut text =
        String::from("| at rest | resident, KiB | of these from the program's file | processor |\n|---|---|---|---|\n");
    for at in &steady.boxes {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} % |",
            at.what, at.resident_kib, at.of_file_kib, at.processor_percent
        );
    }
    let Steady { program, program_bytes, allocations, turns, .. } = steady;
    let program = in_tree(program);
    let _ =
        writeln!(text, "\n`{program}`: {program_bytes} bytes. {allocations} allocations in {turns} turns of the loop.");
    text
}

fn spread(times: &[Duration]) -> String {
    let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let Some(last) = ms.last() else { return "-".into() };
    format!("{:.1} / {:.1} / {last:.1}", ms[0], ms[ms.len() / 2])
}

fn median(accounts: &[Handover], name: &str) -> String {
    let of = |handover: &Handover| handover.steps.iter().find(|step| step.name == name).map(|step| step.us);
    let mut us: Vec<u64> = accounts.iter().filter_map(of).collect();
    us.sort_unstable();
    us.get(us.len() / 2).map_or_else(|| "-".into(), |us| format!("{:.2}", *us as f64 / 1e3))
}
