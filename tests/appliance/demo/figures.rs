//! The appliance's figures, `tests/bench appliance`: every fault some times, timed from outside by the client that pings
//! every 20 ms, and what a box weighs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use twobox::console::status::Role;

use crate::rig::images::Images;
use crate::rig::root;

use super::model::NAMES;
use super::script::{Cord, Order, Which};
use super::stage::Stage;

/// What to do, and its name in the table.
const FAULTS: &[(&str, &[Order])] = &[
    ("switchover", &[Order::Switchover]),
    ("power cut of the active", &[Order::PowerCut(Which::Active)]),
    ("kernel panic of the active", &[Order::Panic(Which::Active)]),
    ("hang of the active", &[Order::Hang(Which::Active)]),
    (
        "the active cut off from everything",
        &[Order::Cut(Cord::NullModem), Order::Cut(Cord::Crossover), Order::Cut(Cord::Lan(Which::Active))],
    ),
];

/// Nothing of the rig takes longer, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(240);
/// No box claims in silence before the longest wait of a claim has passed since its boot.
const REST: Duration = Duration::from_secs(16);

/// Samples of one figure.
#[derive(Default)]
pub struct Figures(Vec<(String, Vec<f64>)>);

impl Figures {
    fn add(&mut self, name: &str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name.to_owned(), vec![value])),
        }
    }

    /// A table: median (of an even number the upper one), least and greatest of each figure.
    pub fn table(&self) -> String {
        let mut text = String::from("| what | median | least | greatest | runs |\n|---|---|---|---|---|\n");
        for (name, values) in &self.0 {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let (least, greatest) = (sorted[0], sorted[sorted.len() - 1]);
            let median = sorted[sorted.len() / 2];
            text += &format!("| {name} | {median:.2} | {least:.2} | {greatest:.2} | {} |\n", sorted.len());
        }
        text
    }
}

/// Does everything `runs` times.
///
/// # Errors
///
/// What did not happen within its limit: there are no figures then.
pub fn measure(stage: &mut Stage, images: &Images, runs: usize) -> Result<Figures, String> {
    let mut figures = Figures::default();
    for run in 1..=runs {
        eprintln!("run {run} of {runs}");
        boot(stage, &mut figures)?;
        standby(stage, &mut figures)?;
        for (name, orders) in FAULTS {
            fault(stage, name, orders, &mut figures)?;
        }
        for index in [0, 1] {
            figures.add("memory of PID 1, MiB", resident(stage, index)?);
            stage.rig.machines[index].power_cut();
        }
    }
    for board in ["qemu-pc", "qemu-q35-uefi", "generic-x86_64"] {
        figures.add(&format!("image of {board}, MiB"), image(board, images)?);
    }
    Ok(figures)
}

fn wait(stage: &mut Stage, what: &str, limit: Duration, enough: impl Fn(&Stage) -> bool) -> Result<(), String> {
    let until = stage.rig.timeline.now() + limit;
    loop {
        stage.turn();
        if enough(stage) {
            return Ok(());
        }
        if stage.rig.timeline.now() > until {
            return Err(format!(
                "not seen: {what}\n{}",
                stage.model.log.iter().cloned().collect::<Vec<_>>().join("\n")
            ));
        }
        stage.rig.pass(Duration::from_millis(50));
    }
}

/// Both boxes from power on.
fn boot(stage: &mut Stage, figures: &mut Figures) -> Result<(), String> {
    let mark = stage.rig.timeline.mark();
    stage.order(Order::PowerOn)?;
    let on = stage.rig.timeline.now();
    wait(stage, "a healthy pair", LIMIT, |stage| stage.model.is_healthy(on))?;
    let served = stage.rig.reigns().iter().find(|reign| reign.first > on).map(|reign| reign.first);
    figures
        .add("power on to the first answer, both boxes booting, s", served.map_or(0.0, |at| (at - on).as_secs_f64()));
    for index in [0, 1] {
        let booted = stage
            .rig
            .timeline
            .wait(mark, Duration::ZERO, |event| event.who == NAMES[index] && event.text.contains("booted in"));
        let booted = booted.ok_or("a silent console")?;
        let seconds = booted.text.split_whitespace().rev().nth(1).and_then(|word| word.parse().ok());
        figures.add("/init to the daemon, s", seconds.ok_or("a boot without its time")?);
    }
    Ok(())
}

/// The standby loses power and comes back beside a peer that serves: two boxes that boot together wait for each other.
fn standby(stage: &mut Stage, figures: &mut Figures) -> Result<(), String> {
    let index = 1 - stage.model.active();
    stage.order(Order::PowerCut(Which::Standby))?;
    let mark = stage.rig.timeline.mark();
    stage.order(Order::PowerOn)?;
    let on = stage.rig.timeline.now();
    wait(stage, "a healthy pair", LIMIT, |stage| stage.model.is_healthy(on))?;
    // The box's own word: "standby 0.94 s after /init".
    let seconds = |event: &crate::rig::timeline::Event| {
        let (before, _) = event.text.split_once(" s after /init").filter(|(before, _)| before.contains("standby"))?;
        before.split_whitespace().next_back()?.parse().ok()
    };
    let says = |event: &crate::rig::timeline::Event| event.who == NAMES[index] && seconds(event).is_some();
    let said = stage.rig.timeline.wait(mark, LIMIT / 4, says).ok_or("a box that does not say when it stands by")?;
    figures.add("/init to Standby beside a peer that serves, s", seconds(&said).unwrap_or_default());
    Ok(())
}

/// One fault, and back to a healthy pair.
fn fault(stage: &mut Stage, name: &str, orders: &[Order], figures: &mut Figures) -> Result<(), String> {
    rest(stage)?;
    let active = stage.model.active();
    let (mark, start) = (stage.rig.timeline.mark(), stage.rig.timeline.now());
    let reigns = stage.rig.reigns().len();
    for order in orders {
        stage.order(*order)?;
    }
    let taken_over = |stage: &Stage| stage.rig.reigns()[reigns..].iter().any(|reign| reign.port != active);
    wait(stage, "a takeover", LIMIT, taken_over)?;
    wait(stage, "an answer", LIMIT, |stage| {
        let seen = stage.rig.seen();
        seen.served_by == Some(1 - active) && stage.rig.timeline.now().saturating_sub(seen.last) < REST / 80
    })?;
    let outages = stage.rig.seen().outages;
    let ended = outages.iter().filter(|(at, length)| *at + *length >= start).map(|(_, length)| *length).max();
    // Shorter than what counts as an outage at all: said as that.
    figures.add(&format!("{name}: outage, s"), ended.map_or(0.15, |outage| outage.as_secs_f64()));
    let first = stage.rig.reigns()[reigns..].iter().find(|reign| reign.port != active).map(|reign| reign.first);
    let counts = |text: &'static str| move |event: &crate::rig::timeline::Event| event.text.contains(text);
    if orders == [Order::Panic(Which::Active)]
        && let (Some(line), Some(first)) =
            (stage.rig.timeline.wait(mark, Duration::ZERO, counts("Rebooting in")), first)
    {
        figures.add(&format!("{name}: takeover after the text, s"), first.saturating_sub(line.at).as_secs_f64());
    }
    if orders == [Order::Hang(Which::Active)] {
        let reset = stage.rig.timeline.wait(mark, LIMIT / 4, counts("WATCHDOG")).ok_or("the watchdog does not fire")?;
        figures.add(&format!("{name}: watchdog of 5 s fires after, s"), (reset.at - start).as_secs_f64());
    }
    stage.order(Order::MendAll)?;
    stage.order(Order::PowerOn)
}

/// A healthy pair whose boxes have been up for long enough. A box that fenced itself three times within ten minutes holds
/// itself, as it must, until an operator releases it: here it was us each time.
fn rest(stage: &mut Stage) -> Result<(), String> {
    let since = stage.rig.timeline.now();
    let is_held = |stage: &Stage, index: usize| {
        stage.model.boxes[index].fresh(stage.model.now).is_some_and(|status| status.role == Role::Held)
    };
    wait(stage, "a pair that is healthy or held", LIMIT, |stage| {
        stage.model.is_healthy(since) || is_held(stage, 0) || is_held(stage, 1)
    })?;
    for (index, which) in [(0, Which::A), (1, Which::B)] {
        if is_held(stage, index) {
            stage.order(Order::Release(which))?;
        }
    }
    wait(stage, "a healthy pair", LIMIT, |stage| stage.model.is_healthy(since))?;
    let rested = stage.rig.timeline.now() + REST;
    wait(stage, "a rested pair", LIMIT, |stage| stage.model.is_healthy(rested))
}

/// Resident memory of PID 1.
fn resident(stage: &mut Stage, index: usize) -> Result<f64, String> {
    let mark = stage.rig.timeline.mark();
    stage.rig.machines[index].agent.send("/data/bin/busybox grep VmRSS /proc/1/status");
    let said = stage.rig.timeline.wait(mark, LIMIT / 4, |event| event.text.starts_with("VmRSS")).ok_or("no VmRSS")?;
    let kib: f64 = said.text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).ok_or(said.text)?;
    Ok(kib / 1024.0)
}

/// Size of a board's initramfs.
#[allow(clippy::disallowed_methods)] // runs the packer
fn image(board: &str, images: &Images) -> Result<f64, String> {
    let output = std::env::temp_dir().join(format!("twobox-figures-{}", std::process::id()));
    std::fs::create_dir_all(&output).map_err(|error| error.to_string())?;
    let [(_, program), (_, packer)] = crate::rig::images::programs(root());
    let done = Command::new(packer)
        .arg("--board")
        .arg(Path::new(root()).join("board").join(board))
        .arg("--program")
        .arg(program)
        .arg("--modules")
        .arg(crate::rig::images::modules(&images.kernel))
        .arg("--output")
        .arg(&output)
        .output();
    let size = std::fs::metadata(output.join("initramfs")).map(|data| data.len());
    let _ = std::fs::remove_dir_all(&output);
    let done = done.map_err(|error| error.to_string())?;
    match size {
        Ok(size) if done.status.success() => Ok(f64::from(u32::try_from(size).expect("below 4 GiB")) / 1_048_576.0),
        _ => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_median_least_and_greatest() {
        let mut figures = Figures::default();
        for value in [3.0, 1.0, 2.0] {
            figures.add("outage, s", value);
        }
        assert!(figures.table().ends_with("| outage, s | 2.00 | 1.00 | 3.00 | 3 |\n"), "{}", figures.table());
    }
}
