//! Disks and programs that take their time, and lines that make noise: what a box meets in ten years and must not take for
//! a fault of its own.

use std::time::Duration;

use crate::rig::{Cable, Rig};
use crate::scenario::{LEASE, NAMES, STALL, TAKEOVER, gate_counts, healthy, neighbours, rested, unmoved, was_reset_by};

/// An order to a box whose disk is slow.
const ANSWER: Duration = Duration::from_secs(60);

/// Whether the watchdog of a box has fired since `mark`.
fn fired(rig: &Rig, mark: usize, index: usize) -> bool {
    rig.timeline.since(mark).iter().any(|event| event.who == NAMES[index] && event.text == "WATCHDOG")
}

/// The power of a peer fails, and the line between the boxes with it: that is a break, and whatever comes next.
pub fn null_modem_break(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    rig.set_cut(Cable::NullModem, true);
    // Magic keys of the kernel's console that a distribution's kernel obeys: reset, power off, all disks read-only, kill all.
    for key in *b"bouei" {
        rig.break_null_modem(active, key);
    }
    rig.set_cut(Cable::NullModem, false);
    rig.pass(LEASE * 2);
    let ended = |event: &crate::rig::timeline::Event| {
        event.who == NAMES[active] && (event.text.starts_with("RESET") || event.text == "SHUTDOWN")
    };
    if let Some(event) = rig.timeline.since(mark).into_iter().find(ended) {
        return Err(format!("a break on the null modem: {}", event.text));
    }
    let (said, written) =
        rig.ask(active, "bb touch /data/still-written && bb rm /data/still-written", STALL * 2).ok_or("no answer")?;
    if !written {
        return Err(format!("after a break on the null modem the disk cannot be written: {said}"));
    }
    healthy(rig)?;
    unmoved(rig, &before, start)
}

/// The card of the crossover has died while the standby was off: it takes its place all the same, with a link less.
pub fn dead_card(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.machines[standby].power_cut();
    rig.machines[standby].crossover_is_dead = true;
    rig.power_on(standby);
    rig.machines[standby].crossover_is_dead = false;
    let found = healthy(rig).and_then(|_| {
        let status = rig.status(standby, STALL * 2).ok_or("the standby does not answer")?;
        let links = status["links"].as_array().cloned().unwrap_or_default();
        let up = |name: &str| links.iter().find(|link| link["name"] == name).map(|link| link["up"] == true);
        match (up("crossover"), up("null-modem"), up("lan")) {
            (Some(false), Some(true), Some(true)) => Ok(()),
            _ => Err(format!("the links are {links:?}")),
        }
    });
    // A box that has just come cannot be missed yet: the witness is proven by both.
    rig.pass(LEASE * 5);
    rig.machines[standby].power_cut();
    found?;
    healthy(rig)?;
    unmoved(rig, &before, start)
}

/// The standby's LAN card is taken out and put in again, as one on USB is that starts anew: the box switches it on, and is on the LAN
/// with its own addresses as before.
pub fn card_that_comes_back(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    let wait_for_lan = |rig: &Rig, wanted: (bool, &str)| {
        let until = rig.timeline.now() + TAKEOVER;
        loop {
            let status = rig.status(standby, STALL * 2).ok_or("the standby does not answer")?;
            let lan = status["links"].as_array().and_then(|all| all.iter().find(|link| link["name"] == "lan")).cloned();
            let lan = lan.unwrap_or_default();
            if (lan["up"] == wanted.0, lan["finding"].as_str().unwrap_or_default()) == (true, wanted.1) {
                return Ok(());
            }
            if rig.timeline.now() > until {
                return Err(format!("the LAN of {} is {lan}", NAMES[standby]));
            }
            rig.pass(Duration::from_millis(500));
        }
    };
    rig.machines[standby].take_card_out();
    wait_for_lan(rig, (false, "the interface is gone"))?;
    rig.machines[standby].put_card_in(standby);
    let back = rig.timeline.now();
    wait_for_lan(rig, (true, ""))?;
    let took = rig.timeline.now() - back;
    neighbours(rig)?;
    gate_counts(rig)?;
    healthy(rig)?;
    unmoved(rig, &before, start)?;
    Ok(format!("on the LAN again {:.1} s after it was put in", took.as_secs_f64()))
}

/// An ordered reboot of a box whose service ends slowly and whose disk writes slowly, both longer than the watchdog's
/// time-out: nothing is cut off.
pub fn reboot(rig: &mut Rig) -> Result<String, String> {
    const LENGTH: usize = 12 << 20;
    let active = healthy(rig)?;
    let standby = 1 - active;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    // The rig's own service does not hear SIGTERM any more: it is killed after its stop-timeout.
    let write = format!("trap '' TERM; bb dd if=/dev/zero of=/data/slow bs=65536 count={}", LENGTH / 65_536);
    rig.machines[standby].slow_disk(1 << 20, 0);
    rig.ask(standby, &write, ANSWER).ok_or("no answer")?;
    let ordered = rig.timeline.now();
    rig.machines[standby].console.send("reboot");
    let reset = |event: &crate::rig::timeline::Event| event.who == NAMES[standby] && event.text.starts_with("RESET");
    let reset = rig.timeline.wait(mark, ANSWER * 2, reset).ok_or("the box does not reboot")?;
    rig.machines[standby].slow_disk(0, 0);
    if fired(rig, mark, standby) {
        return Err(format!("the watchdog cut an ordered reboot off after {:?}", reset.at - ordered));
    }
    healthy(rig)?;
    was_reset_by(rig, standby, "ordered")?;
    let (said, _) = rig.ask(standby, "bb wc -c </data/slow; bb rm /data/slow; bb sync", ANSWER).ok_or("no answer")?;
    if said.lines().next() != Some(&LENGTH.to_string()) {
        return Err(format!("what was written before the reboot is not there: {said}"));
    }
    unmoved(rig, &before, start)?;
    Ok(format!("{:.1} s from the order to the reset, nothing cut off", (reset.at - ordered).as_secs_f64()))
}

/// A disk on which the boot takes longer than the watchdog's time-out for it: the box comes up all the same.
pub fn boot(rig: &mut Rig) -> Result<String, String> {
    /// More than the time-out of 60 s, and its first steps.
    const SLOW: Duration = Duration::from_secs(85);
    let active = rested(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.machines[standby].power_cut();
    let mark = rig.timeline.mark();
    rig.machines[standby].disk_speed = Some(1);
    rig.power_on(standby);
    rig.machines[standby].disk_speed = None;
    let armed =
        |event: &crate::rig::timeline::Event| event.who == NAMES[standby] && event.text.contains("while booting");
    rig.timeline.wait(mark, rig.machines[standby].kernel_time(), armed).ok_or("the box does not boot")?;
    rig.pass(SLOW);
    let booted = rig.timeline.since(mark).iter().any(|event| event.text.contains("booted in"));
    rig.machines[standby].slow_disk(0, 0);
    if fired(rig, mark, standby) {
        return Err("the watchdog ends every boot of a box with a slow disk".into());
    }
    if booted {
        return Err(format!("the boot took less than {SLOW:?}: nothing was shown"));
    }
    healthy(rig)?;
    unmoved(rig, &before, start)
}

/// A disk that is there half a minute after the boot has looked for it, as behind a controller that starts cold: the box waits, and
/// takes its place without anybody's hand.
pub fn late(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.machines[standby].power_cut();
    let mark = rig.timeline.mark();
    rig.machines[standby].disk_is_late = true;
    rig.power_on(standby);
    rig.machines[standby].disk_is_late = false;
    let waits = |event: &crate::rig::timeline::Event| event.who == NAMES[standby] && event.text.contains("HELD:");
    let limit = rig.machines[standby].kernel_time() + Duration::from_secs(60);
    rig.timeline.wait(mark, limit, waits).ok_or("the box does not say that it waits")?;
    let mark = rig.timeline.mark();
    rig.machines[standby].plug_disk_in();
    healthy(rig)?;
    let reset = |event: &crate::rig::timeline::Event| event.who == NAMES[standby] && event.text.starts_with("RESET");
    if rig.timeline.since(mark).iter().any(reset) {
        return Err("the box was reset in between".into());
    }
    unmoved(rig, &before, start)
}

/// A disk that takes a request and never answers, in the middle of a mount: the box boots on when the disk does, and is not reset
/// for it again and again.
pub fn hangs(rig: &mut Rig) -> Result<String, String> {
    /// The kernel looks every two minutes for tasks that have not moved for two minutes.
    const NOTICED: Duration = Duration::from_secs(250);
    let active = rested(rig)?;
    let standby = 1 - active;
    rig.machines[standby].power_cut();
    let mark = rig.timeline.mark();
    // So slow that the mount is not over before it is noticed.
    rig.machines[standby].disk_speed = Some(4);
    rig.power_on(standby);
    rig.machines[standby].disk_speed = None;
    let named = |event: &crate::rig::timeline::Event| event.who == NAMES[standby] && event.text.contains("host name");
    let limit = rig.machines[standby].kernel_time() + Duration::from_secs(60);
    rig.timeline.wait(mark, limit, named).ok_or("the box does not boot")?;
    rig.pass(Duration::from_millis(1500));
    rig.machines[standby].hang_disk();
    rig.pass(NOTICED);
    let ended = |event: &crate::rig::timeline::Event| {
        event.who == NAMES[standby] && (event.text.starts_with("RESET") || event.text.contains("booted in"))
    };
    let ended = rig.timeline.since(mark).into_iter().find(ended);
    rig.machines[standby].slow_disk(0, 0);
    if let Some(event) = ended {
        return Err(format!("while its disk hung: {}", event.text));
    }
    // Whether the other box serves all these minutes by itself is not asked: it has nobody who votes for it when it stalls.
    healthy(rig)?;
    Ok(format!("it hung for {} s, and the box came up", NOTICED.as_secs()))
}

/// What two boxes at rest write to their disks: flash wears out, and nobody looks for years.
pub fn wear(rig: &mut Rig) -> Result<String, String> {
    const REST: Duration = Duration::from_secs(60);
    const MINUTE: Duration = Duration::from_secs(120);
    /// In KiB a minute: 30 MB a day. None were measured, and 162 where every comparison of a quiet tree was committed.
    const MOST: u64 = 20;
    /// On a busy machine the boxes are not always at rest: what happens in the pair is written down.
    const ATTEMPTS: usize = 6;
    healthy(rig)?;
    rig.pass(REST);
    // Each boot tries whether it can write.
    if [written(rig, 0)?, written(rig, 1)?].as_flattened().contains(&0) {
        return Err("nothing was written since the boot: this is no count".into());
    }
    for _ in 0..ATTEMPTS {
        let mark = rig.timeline.mark();
        let before = [written(rig, 0)?, written(rig, 1)?];
        rig.pass(MINUTE);
        let after = [written(rig, 0)?, written(rig, 1)?];
        if let Some(event) = disturbance(rig, mark) {
            rig.timeline.add("rig", format!("they were not at rest: {}: {}", event.who, event.text));
            healthy(rig)?;
            continue;
        }
        let a_minute = |index: usize, part: usize| (after[index][part] - before[index][part]) * 60 / MINUTE.as_secs();
        let figures: Vec<String> = [0, 1]
            .map(|index| format!("{} {} state, {} data", NAMES[index], a_minute(index, 0), a_minute(index, 1)))
            .to_vec();
        let figures = format!("KiB a minute at rest: {}", figures.join("; "));
        let all = [0, 1].map(|index| a_minute(index, 0) + a_minute(index, 1));
        return if all.iter().any(|kib| *kib > MOST) { Err(figures) } else { Ok(figures) };
    }
    Err(format!("the pair was never at rest for {MINUTE:?}"))
}

/// What has happened in the pair since `mark`, if anything has: a box tells of it, or the service has moved.
fn disturbance(rig: &Rig, mark: usize) -> Option<crate::rig::timeline::Event> {
    let is_one = |event: &crate::rig::timeline::Event| match event.who.as_str() {
        "hub" => true,
        who => NAMES.contains(&who) && (event.text.contains("ALARM") || event.text.contains("> ")),
    };
    rig.timeline.since(mark).into_iter().find(is_one)
}

/// KiB that a box has written to its partitions since it booted: state and data.
fn written(rig: &Rig, index: usize) -> Result<[u64; 2], String> {
    let ask = "bb sync; bb cat /sys/block/vda/vda2/stat /sys/block/vda/vda3/stat";
    let (said, _) = rig.ask(index, ask, ANSWER).ok_or("no answer")?;
    let sectors = |line: &str| line.split_whitespace().nth(6)?.parse::<u64>().ok();
    let found: Vec<u64> = said.lines().filter_map(sectors).map(|sectors| sectors / 2).collect();
    found.try_into().map_err(|_| format!("no counts in {said:?}"))
}
