//! Faults of the program, of the kernel, of the disk, and of whoever set the boxes up.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::rig::{Rig, ruin};
use crate::scenario::{NAMES, TAKEOVER, dies_loudly, handed_over, healthy, rested, unmoved};

/// An answer of a box that has much else to do.
const ANSWER: Duration = Duration::from_secs(10);
/// A boot until the box says that it is held, or waits.
const BOOT: Duration = Duration::from_secs(60);

/// The daemon is PID 1: a bug that ends it is a kernel panic.
pub fn killed(rig: &mut Rig) -> Result<String, String> {
    dies_loudly(rig, ruin::KILL_INIT, "Attempted to kill init")
}

/// The console's process is killed again and again: it comes back, after pauses that grow, and nobody else notices.
pub fn children(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    // The pattern does not match itself.
    let kill = "find() { for p in /proc/[0-9]*; do bb grep -q 'console-chil[d]' $p/cmdline 2>/dev/null && echo ${p#/proc/}; done; }; \
                until old=$(find); [ -n \"$old\" ]; do bb usleep 50000; done; bb cat /proc/uptime; bb kill -9 $old; \
                until new=$(find); [ -n \"$new\" ] && [ \"$new\" != \"$old\" ]; do bb usleep 50000; done; bb cat /proc/uptime";
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let (said, _) = rig.ask(active, kill, BOOT).ok_or("the console does not come back")?;
        let times: Vec<f64> = said.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        let [killed, back] = times[..] else { return Err(format!("no times in {said:?}")) };
        pauses.push(back - killed);
    }
    // 0.5, 1, 2, 4 s: emulation makes them longer and never shorter.
    if pauses.iter().zip([0.5, 1.0, 2.0, 4.0]).any(|(pause, least)| *pause < least - 0.1) {
        return Err(format!("the pauses do not grow: {pauses:.1?}"));
    }
    crate::console::answers(rig, active, "active")?;
    unmoved(rig, &before, start)?;
    Ok(format!("the console came back after {pauses:.1?} s, nothing moved"))
}

/// The clocks of both boxes jump by years, forward and back: nothing moves, and a hand-over works as ever.
pub fn clock(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    for date in ["2061-05-04 03:02:01", "1991-08-25 20:57:08", "2026-01-01 12:00:00"] {
        for index in [active, 1 - active] {
            let (said, done) = rig.ask(index, &format!("bb date -s '{date}'"), ANSWER).ok_or("no answer")?;
            if !done {
                return Err(format!("date: {said}"));
            }
        }
        rig.pass(Duration::from_secs(6));
        unmoved(rig, &before, start)?;
    }
    let (said, _) = rig.ask(active, "/init log -n 1", ANSWER).ok_or("no answer")?;
    if !said.contains("2026-01-01 1") {
        return Err(format!("the log does not show the new time: {said}"));
    }
    rig.machines[active].agent.send("bb date -s '2050-01-01 00:00:00'; /init switchover");
    rig.wait_served(&[1 - active], TAKEOVER).ok_or("the peer does not take over")?;
    handed_over(rig, &before, 1 - active)?;
    healthy(rig)?;
    Ok("years forward and back, nothing moved; then a hand-over".into())
}

/// The kernel stumbles in a module: an oops is a panic.
pub fn oops(rig: &mut Rig) -> Result<String, String> {
    dies_loudly(rig, "bb insmod /data/bin/oops.ko", "Fatal exception")
}

/// The active's keyboard: an orderly surrender first, then the reboot.
pub fn ctrl_alt_del(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    rig.timeline.add("rig", format!("presses ctrl-alt-del on {}", NAMES[active]));
    rig.machines[active].press_ctrl_alt_del();
    rig.wait_served(&[1 - active], TAKEOVER).ok_or("the peer does not take over")?;
    let took = rig.outage_since(start);
    let reset = |event: &crate::rig::timeline::Event| event.who == NAMES[active] && event.text.contains("RESET");
    rig.timeline.wait(mark, Duration::from_secs(20), reset).ok_or("the box does not reboot")?;
    healthy(rig)?;
    handed_over(rig, &before, 1 - active)?;
    if took > Duration::from_secs(2) {
        return Err(format!("an orderly surrender took {took:?}"));
    }
    Ok(format!("outage {} ms; back as standby", took.as_millis()))
}

/// A full data partition is the operator's affair: the box boots, stands by, and could take over.
pub fn data_full(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    let fill = "bb dd if=/dev/zero of=/data/filler bs=65536; bb sync";
    rig.ask(standby, fill, BOOT).ok_or("the partition does not fill")?;
    rig.machines[standby].power_cut();
    healthy(rig)?;
    let (said, _) = rig.ask(standby, "bb df /data", ANSWER).ok_or("no answer")?;
    if !said.contains("100%") {
        return Err(format!("the partition is not full: {said}"));
    }
    rig.ask(standby, "bb rm /data/filler; bb sync", ANSWER).ok_or("no answer")?;
    unmoved(rig, &before, start)
}

/// Byte offset of the data partition on the tests' disk: flash.sh's sizes, one MiB for the table.
const DATA: u64 = (1 + 64 + 16) << 20;
/// The ext4 superblock in it, and its field of states.
const SUPERBLOCK: u64 = DATA + 1024;
const STATE: u64 = SUPERBLOCK + 0x3a;

fn overwrite(disk: &Path, at: u64, bytes: &[u8]) -> Vec<u8> {
    let file = OpenOptions::new().read(true).write(true).open(disk).expect("the disk");
    let mut former = vec![0; bytes.len()];
    file.read_exact_at(&mut former, at).expect("the disk");
    file.write_all_at(bytes, at).expect("the disk");
    former
}

/// The standby boots with `bytes` at `at` of its disk: held, with the reason in its status; repaired it stands by again.
fn damaged(rig: &mut Rig, at: u64, bytes: &[u8], why: &str) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    // In order: what lies in the journal would be written over the damage, or over the repair.
    rig.machines[standby].agent.send("/init poweroff");
    rig.pass(Duration::from_secs(8));
    rig.machines[standby].power_cut();
    let former = overwrite(&rig.machines[standby].disk, at, bytes);
    rig.power_on(standby);
    let said = held(rig, standby);
    // Such a hold outlives the repair: somebody has to look, and to say so.
    rig.machines[standby].console.send("release");
    rig.pass(Duration::from_secs(3));
    rig.machines[standby].power_cut();
    overwrite(&rig.machines[standby].disk, at, &former);
    let said = said?;
    if !said.contains(why) {
        return Err(format!("held by {said}"));
    }
    healthy(rig)?;
    unmoved(rig, &before, start)?;
    Ok(format!("held by {said}"))
}

/// Waits until the box is held, and says why it is.
fn held(rig: &Rig, index: usize) -> Result<String, String> {
    let until = rig.timeline.now() + BOOT;
    while rig.timeline.now() < until {
        // No service runs on a box without data: the rig's hand is missing. The console has its own.
        rig.machines[index].console.send("status --json");
        rig.pass(Duration::from_secs(2));
        let status = rig.last_status(NAMES[index]);
        if let Some(status) = status.filter(|status| status["role"] == "held") {
            return Ok(status["held_by"].to_string());
        }
    }
    Err(format!("{} is not held", NAMES[index]))
}

/// No file system any more.
pub fn data_corrupt(rig: &mut Rig) -> Result<String, String> {
    damaged(rig, SUPERBLOCK, &[0; 1024], "holds no ext4 file system")
}

/// The kernel noted errors in it.
pub fn data_with_errors(rig: &mut Rig) -> Result<String, String> {
    damaged(rig, STATE, &[3, 0], "has errors")
}

/// The data alone can only be read (a disk of their own, write-protected): the box is held, and says why. Its state is whole,
/// so it takes part in the pair.
pub fn data_read_only(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.machines[standby].agent.send("/init poweroff");
    rig.pass(Duration::from_secs(8));
    rig.machines[standby].power_cut();
    let disk = rig.machines[standby].disk.clone();
    let second = disk.with_extension("second");
    crate::rig::copy_sparse(&disk, &second);
    for (file, part) in [(&second, 1), (&second, 2), (&disk, 3)] {
        name_partition(file, part, "spare")?;
    }
    rig.machines[standby].second_disk = Some(second);
    rig.power_on(standby);
    let said = held(rig, standby);
    // Held it votes and is heard: the peer is not alone.
    let status = rig.status(active, ANSWER);
    rig.machines[standby].console.send("release");
    rig.pass(Duration::from_secs(3));
    rig.machines[standby].power_cut();
    rig.machines[standby].second_disk = None;
    name_partition(&disk, 3, "twobox-data")?;
    let said = said?;
    if !said.contains("data: ") || !said.contains("can only be read") {
        return Err(format!("held by {said}"));
    }
    let peer = status.ok_or("the active does not answer")?["peer"]["role"].clone();
    if peer != "held" {
        return Err(format!("the active takes its peer for {peer}"));
    }
    healthy(rig)?;
    unmoved(rig, &before, start)?;
    Ok(format!("held by {said}"))
}

/// Names a partition in the table of a disk.
#[allow(clippy::disallowed_methods)] // runs sfdisk
fn name_partition(disk: &Path, number: u32, name: &str) -> Result<(), String> {
    let done = std::process::Command::new("/sbin/sfdisk")
        .args(["--quiet", "--part-label"])
        .arg(disk)
        .args([&number.to_string(), name])
        .output()
        .map_err(|error| format!("sfdisk: {error}"))?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

/// A disk that can only be read keeps no term: the box must not serve, and says so.
pub fn disk_read_only(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    let (before, mark) = (rig.reigns(), rig.timeline.mark());
    rig.machines[standby].agent.send("/init poweroff");
    rig.pass(Duration::from_secs(8));
    rig.machines[standby].power_cut();
    rig.machines[standby].disk_is_read_only = true;
    rig.power_on(standby);
    let says = |event: &crate::rig::timeline::Event| {
        event.who == NAMES[standby] && (event.text.contains("FAILED state") || event.text.contains("HELD"))
    };
    let said = rig.timeline.wait(mark, BOOT, says).ok_or("the box says nothing");
    // Whatever happens to the other one, this box must not serve.
    rig.machines[active].power_cut();
    rig.pass(TAKEOVER);
    let served = rig.reigns().len() > before.len();
    rig.machines[standby].power_cut();
    rig.machines[standby].disk_is_read_only = false;
    let said = said?.text;
    if served {
        return Err(format!("a box that can keep no term serves: {:?}", rig.reigns().last()));
    }
    rig.power_on(active);
    healthy(rig)?;
    Ok(said)
}

/// Both are set up as the same box: the second one leaves the first one its address on the LAN, is held and never serves,
/// and both say so. The service does not notice.
pub fn twins(rig: &mut Rig) -> Result<String, String> {
    // For long enough that the witness is proven: the first one serves by it alone.
    let active = rested(rig)?;
    let other = 1 - active;
    rig.machines[other].power_cut();
    let (before, start) = (rig.reigns(), rig.timeline.now());
    let own = rig.machines[other].disk.with_extension("own");
    std::fs::rename(&rig.machines[other].disk, &own).map_err(|e| e.to_string())?;
    crate::rig::copy_sparse(&rig.first_disks[active], &rig.machines[other].disk);
    rig.machines[other].node = NAMES[active];
    rig.power_on(other);
    let found = twins_found(rig, active, other);
    rig.machines[other].power_cut();
    std::fs::rename(&own, &rig.machines[other].disk).map_err(|e| e.to_string())?;
    rig.machines[other].node = NAMES[other];
    found?;
    unmoved(rig, &before, start)?;
    healthy(rig)?;
    Ok("the second one is held and leaves the address alone, both say so, the first one serves on".into())
}

/// Waits until the twin is held and both say why, and then until every wait of a claim is over.
fn twins_found(rig: &Rig, active: usize, other: usize) -> Result<(), String> {
    let until = rig.timeline.now() + BOOT;
    let tells = |status: &serde_json::Value, alarm: &str| status["alarms"].to_string().contains(alarm);
    let is_held = |twin: &serde_json::Value| {
        twin["role"] == "held"
            && twin["held_by"].to_string().contains("says that it is")
            && tells(twin, "same-node")
            && tells(twin, "own-address-conflict")
    };
    let mut say = String::new();
    while rig.timeline.now() < until {
        if let (Some(one), Some(two)) = (rig.status(active, ANSWER), rig.status(other, ANSWER)) {
            if tells(&one, "same-node") && is_held(&two) {
                rig.pass(TAKEOVER);
                let after = rig.status(other, ANSWER).ok_or("the twin does not answer")?;
                let first = rig.status(active, ANSWER).ok_or("the first one does not answer")?;
                if is_held(&after) && first["role"] == "active" && !tells(&first, "own-address-conflict") {
                    return Ok(());
                }
                return Err(format!("later the first one is {} and its twin {}", first["role"], after["role"]));
            }
            say = format!("{} {}; its twin {} {}", one["role"], one["alarms"], two["role"], two["alarms"]);
        }
        rig.pass(Duration::from_secs(1));
    }
    Err(format!("{} is {say}", NAMES[active]))
}
