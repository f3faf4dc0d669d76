//! The mirror on the boxes themselves: over the rig's crossover, through a power cut, and back.

use std::time::Duration;

use crate::rig::Rig;
use crate::scenario::{NAMES, TAKEOVER, handed_over, healthy, rested};

/// From a change to the copy on an emulated box.
const COPIED: Duration = Duration::from_secs(40);
/// An answer of a box that has much else to do.
const ANSWER: Duration = Duration::from_secs(10);

/// What is written on the active reaches the standby; the new active has the last cut after a power cut, and what is
/// written there reaches the box that comes back.
pub fn follows(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    let mut took = Vec::new();
    for text in ["first", "second"] {
        took.push(write(rig, active, text)?);
    }
    current(rig, standby)?;
    for index in [active, standby] {
        // The key's partition is another file system than the trees'.
        let status = rig.status(index, ANSWER).ok_or("no answer")?;
        let by = status["mirror_confinement"].as_str().unwrap_or_default();
        if !by.contains("other file systems") || by.contains("without") {
            return Err(format!("the mirror of {} can change other file systems: {by}", NAMES[index]));
        }
    }
    // A few files at once are one cut: all of them or none. Were they not on the writer's disk when its power goes, what it has
    // instead would be set aside as its own; and so would they, were that the peer has them not on that disk, too.
    let many = "for n in 0 1 2 3 4 5 6 7 8 9; do echo many-$n >/data/mail/many-$n; done; \
                echo last >/data/mail/letter; bb sync";
    rig.ask(active, many, ANSWER).ok_or("no answer")?;
    seen(rig, standby, "letter", "last")?;
    rig.pass(Duration::from_secs(2));
    rig.ask(active, "bb sync", ANSWER).ok_or("no answer")?;
    rig.machines[active].power_cut();
    rig.wait_served(&[standby], TAKEOVER).ok_or("the peer does not take over")?;
    let gap = rig.outage_since(start);
    let (said, _) = rig.ask(standby, "bb cat /data/mail/letter /data/mail/many-*", ANSWER).ok_or("no answer")?;
    let lines: Vec<&str> = said.lines().collect();
    if lines.first() != Some(&"last") || lines.len() != 11 {
        return Err(format!("{} has not the last cut: {said}", NAMES[standby]));
    }
    healthy(rig)?;
    handed_over(rig, &before, standby)?;
    took.push(write(rig, standby, "of the new active")?);
    rig.ask(standby, "bb rm /data/mail/many-*", ANSWER).ok_or("no answer")?;
    current(rig, active)?;
    let took: Vec<String> = took.iter().map(|took| format!("{:.1}", took.as_secs_f64())).collect();
    Ok(format!(
        "copied after {} s; outage {:.2} s with the last cut on the new active",
        took.join(", "),
        gap.as_secs_f64()
    ))
}

/// Writes the letter on one box and waits until the other one has it.
fn write(rig: &Rig, from: usize, text: &str) -> Result<Duration, String> {
    let start = rig.timeline.now();
    rig.ask(from, &format!("echo '{text}' >/data/mail/letter"), ANSWER).ok_or("no answer")?;
    seen(rig, 1 - from, "letter", text)?;
    Ok(rig.timeline.now() - start)
}

fn seen(rig: &Rig, index: usize, name: &str, text: &str) -> Result<(), String> {
    let until = rig.timeline.now() + COPIED;
    loop {
        let said = rig.ask(index, &format!("bb cat /data/mail/{name}"), ANSWER).map(|(said, _)| said);
        if said.as_deref() == Some(text) {
            return Ok(());
        }
        if rig.timeline.now() > until {
            let tree = rig.status(index, ANSWER).map(|status| status["mirror"].to_string());
            return Err(format!("{} has {said:?} and not {text:?}: {tree:?}", NAMES[index]));
        }
        rig.pass(Duration::from_millis(200));
    }
}

/// The copy's own box says that it is whole and new.
fn current(rig: &Rig, index: usize) -> Result<(), String> {
    let until = rig.timeline.now() + COPIED;
    loop {
        let status = rig.status(index, ANSWER).ok_or("no answer")?;
        let tree = &status["mirror"][0];
        if tree["tree"] == "/data/mail"
            && tree["direction"] == "receive"
            && tree["current"] == true
            && tree["diverged"] == 0
        {
            return Ok(());
        }
        if rig.timeline.now() > until {
            return Err(format!("the copy of {} is not current: {tree}", NAMES[index]));
        }
        rig.pass(Duration::from_millis(500));
    }
}
