//! Another image: for one box, for both in turn, a bad one, and a power cut in the middle of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::rig::Rig;
use crate::scenario::{NAMES, TAKEOVER, handed_over, healthy, rested, unmoved};

/// An image of 11 MB through an emulated disk and a null modem's worth of progress lines.
const WRITTEN: Duration = Duration::from_secs(90);
/// From the order to restart to a pair that is healthy, firmware included.
const BACK: Duration = Duration::from_secs(150);

/// A box's account of its image: slot, confirmed, slot that was rolled back.
fn image(rig: &Rig, index: usize) -> Option<(u64, bool, Option<u64>)> {
    let image = &rig.status(index, Duration::from_secs(5))?["image"];
    Some((image["slot"].as_u64()?, image["confirmed"].as_bool()?, image["rolled_back"].as_u64()))
}

/// Waits until a box runs and has confirmed an image in another slot than `former`.
fn confirmed(rig: &Rig, index: usize, former: u64) -> Result<u64, String> {
    let until = rig.timeline.now() + BACK;
    let mut last = None;
    while rig.timeline.now() < until {
        last = image(rig, index);
        match last {
            Some((slot, true, _)) if slot != former => return Ok(slot),
            _ => rig.pass(Duration::from_secs(1)),
        }
    }
    Err(format!("{} has not confirmed another image than that of slot {former}: {last:?}", NAMES[index]))
}

fn slot(rig: &Rig, index: usize) -> Result<u64, String> {
    let (slot, confirmed, _) = image(rig, index).ok_or("no image in the status")?;
    if confirmed { Ok(slot) } else { Err(format!("slot {slot} of {} is on trial", NAMES[index])) }
}

/// Orders an update that must succeed as far as the order goes.
fn order(rig: &Rig, index: usize, words: &str) -> Result<String, String> {
    let (said, done) = rig.ask(index, &format!("/init update {words}"), WRITTEN).ok_or("the update does not end")?;
    if done { Ok(said) } else { Err(format!("update {words}: {said}")) }
}

fn restarted(rig: &Rig, mark: usize, index: usize) -> Result<(), String> {
    let reset = |event: &crate::rig::timeline::Event| event.who == NAMES[index] && event.text.contains("RESET");
    rig.timeline.wait(mark, Duration::from_secs(30), reset).map(drop).ok_or("the box does not restart".into())
}

/// The standby alone. What must not be taken is refused first.
pub fn one(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    rig.ask(standby, "echo short >/data/short.efi", WRITTEN).ok_or("no answer")?;
    let refusals = [
        (active, "/data/again.efi", "this box serves"),
        (standby, "/data/none.efi", "/data/none.efi"),
        (standby, "/data/short.efi", "too short for an image"),
        (standby, "/data/bin/busybox", "its seal is missing"),
        (standby, "--pair /data/again.efi", "this box does not serve"),
    ];
    for (index, words, why) in refusals {
        let (said, done) = rig.ask(index, &format!("/init update {words}"), WRITTEN).ok_or("no answer")?;
        if done || !said.contains(why) {
            return Err(format!("update {words} on {}: {said}", NAMES[index]));
        }
    }
    let former = slot(rig, standby)?;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    order(rig, standby, "/data/again.efi")?;
    restarted(rig, mark, standby)?;
    let slot = confirmed(rig, standby, former)?;
    let took = (rig.timeline.now() - start).as_secs_f64();
    healthy(rig)?;
    unmoved(rig, &before, start)?;
    Ok(format!("slot {former} to {slot} in {took:.0} s, nothing moved"))
}

/// Both in turn, ordered on the box that serves: the service moves once.
pub fn both(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let former = [slot(rig, 0)?, slot(rig, 1)?];
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    rig.machines[active].agent.send("/init update --pair /data/good.efi");
    let who = format!("{}$", NAMES[active]);
    let done = |event: &crate::rig::timeline::Event| event.who == who && event.text.starts_with("done ");
    let end = rig.timeline.wait(mark, BACK * 2, done).ok_or("the update does not end")?;
    if end.text != "done 0" {
        return Err(rig.timeline.said(mark, &who, "done "));
    }
    confirmed(rig, 1 - active, former[1 - active])?;
    confirmed(rig, active, former[active])?;
    let took = (rig.timeline.now() - start).as_secs_f64();
    healthy(rig)?;
    handed_over(rig, &before, 1 - active)?;
    let outage = rig.outage_since(start);
    if outage > Duration::from_secs(3) {
        return Err(format!("the client waited {outage:?}"));
    }
    Ok(format!("both in {took:.0} s, outage {} ms", outage.as_millis()))
}

/// An image whose /init ends: it is tried once, and the former one is back.
pub fn bad(rig: &mut Rig) -> Result<String, String> {
    tried_once(rig, "bad", "Attempted to kill init")
}

/// An image that cannot read the boot partition, so that it does not find there that it is on trial.
pub fn blind(rig: &mut Rig) -> Result<String, String> {
    tried_once(rig, "blind", "the former image starts now")
}

fn tried_once(rig: &mut Rig, image_name: &str, last_words: &str) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    let former = slot(rig, standby)?;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    order(rig, standby, &format!("/data/{image_name}.efi"))?;
    restarted(rig, mark, standby)?;
    let ends = |event: &crate::rig::timeline::Event| event.text.contains(last_words);
    rig.timeline.wait(mark, BACK, ends).ok_or("the image does not end itself")?;
    let until = rig.timeline.now() + BACK;
    let rolled_back = loop {
        match image(rig, standby) {
            Some((slot, true, Some(rolled_back))) if slot == former => break rolled_back,
            _ if rig.timeline.now() > until => return Err("the former image does not come back".into()),
            _ => rig.pass(Duration::from_secs(1)),
        }
    };
    let took = (rig.timeline.now() - start).as_secs_f64();
    let (said, _) = rig.ask(standby, "/init status", Duration::from_secs(5)).ok_or("no status")?;
    if !said.contains("rolled back") {
        return Err(format!("the status does not tell of the roll-back: {said}"));
    }
    healthy(rig)?;
    unmoved(rig, &before, start)?;
    Ok(format!("slot {rolled_back} tried, back with slot {former} after {took:.0} s, nothing moved"))
}

/// An image whose kernel has no driver for the watchdog: the pair is healthy with it, and it is not kept all the same.
pub fn unwatched(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let status = rig.status(1 - active, Duration::from_secs(10)).ok_or("the standby does not answer")?;
    if status["fence"]["watchdog"].is_null() {
        return Err("the former image has no watchdog either: nothing would be shown".into());
    }
    tried_once(rig, "unwatched", "the watchdog that the board file names is not armed")
}

/// The image that runs rots on the disk. The box finds out while it runs, and boots the other one the next time; the boot loader
/// would have stopped at the one that rots.
pub fn rots(rig: &mut Rig) -> Result<String, String> {
    /// The first look comes two minutes after the start of the daemon.
    const FOUND: Duration = Duration::from_secs(240);
    let active = healthy(rig)?;
    let standby = 1 - active;
    // The time of the first look is known after a start only.
    rig.machines[standby].power_cut();
    healthy(rig)?;
    let former = slot(rig, standby)?;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    rot(&rig.machines[standby].disk, former).map_err(|error| error.to_string())?;
    let told = |event: &crate::rig::timeline::Event| {
        event.who == NAMES[standby] && event.text.contains("an image on this box's disk is damaged")
    };
    let why = format!("slot {former}: damaged");
    let said = rig.timeline.wait(mark, FOUND, told).ok_or("the box does not notice")?.text;
    if !said.contains(&why) {
        return Err(format!("the box says {said:?}"));
    }
    // What it does about it follows the alarm: it reads all once more, and renames.
    rig.pass(Duration::from_secs(20));
    let mark = rig.timeline.mark();
    rig.machines[standby].agent.send("/init reboot");
    restarted(rig, mark, standby)?;
    healthy(rig)?;
    let now = slot(rig, standby)?;
    if now == former {
        return Err(format!("slot {now} runs, which was damaged"));
    }
    unmoved(rig, &before, start)?;
    Ok(format!("slot {former} was damaged, slot {now} runs, nothing moved"))
}

/// Turns some bits in the middle of an image on a disk that a box has in use.
fn rot(disk: &Path, slot: u64) -> io::Result<()> {
    let fat = Fat::of(disk)?;
    let (first, last) = fat.place(&format!("::/EFI/Linux/twobox-{slot}.efi"))?;
    let at = fat.data + (first.midpoint(last) - 2) * fat.cluster;
    let mut bytes = [0; 64];
    fat.file.read_exact_at(&mut bytes, at)?;
    bytes.iter_mut().for_each(|byte| *byte ^= 0x10);
    fat.file.write_all_at(&bytes, at)
}

/// The power of the standby fails while it writes the image: it comes back with the one that it had.
pub fn cut(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    let former = slot(rig, standby)?;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    // An idle machine writes the whole image within the pause below.
    rig.machines[standby].slow_disk(1 << 20, 0);
    rig.machines[standby].agent.send("/init update /data/again.efi");
    let who = format!("{}$", NAMES[standby]);
    let writes = |event: &crate::rig::timeline::Event| event.who == who && event.text.contains("made for this board");
    rig.timeline.wait(mark, WRITTEN, writes).ok_or("the update does not begin")?;
    rig.pass(Duration::from_millis(700));
    rig.machines[standby].power_cut();
    healthy(rig)?;
    let after = slot(rig, standby)?;
    unmoved(rig, &before, start)?;
    if after == former { Ok(format!("slot {former} as before")) } else { Err(format!("slot {after} runs")) }
}

/// The box that serves loses its power while the standby writes an image: the standby takes over, and does not restart.
pub fn needed(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let standby = 1 - active;
    let (before, mark, former) = (rig.reigns(), rig.timeline.mark(), slot(rig, standby)?);
    rig.machines[standby].slow_disk(1 << 20, 0);
    let who = format!("{}$", NAMES[standby]);
    // Which of the two runs there depends on the scenarios before.
    let begins = |event: &crate::rig::timeline::Event| {
        event.who == who && (event.text.contains("made for this board") || event.text.contains("runs here already"))
    };
    let mut mark_of_order = mark;
    for name in ["good", "again"] {
        mark_of_order = rig.timeline.mark();
        rig.machines[standby].agent.send(&format!("/init update /data/{name}.efi"));
        let begun = rig.timeline.wait(mark_of_order, WRITTEN, begins).ok_or("the update does not begin")?;
        if begun.text.contains("made for this board") {
            break;
        }
    }
    rig.pass(Duration::from_millis(700));
    rig.machines[active].power_cut();
    rig.wait_served(&[standby], TAKEOVER).ok_or("the standby does not take over")?;
    let end = |event: &crate::rig::timeline::Event| event.who == who && event.text.starts_with("done ");
    let end = rig.timeline.wait(mark_of_order, WRITTEN, end).ok_or("the update does not end")?;
    let said = rig.timeline.said(mark_of_order, &who, "done ");
    if end.text == "done 0" || !said.contains("this box serves") {
        return Err(format!("the update ends with {} and says {said:?}", end.text));
    }
    rig.pass(Duration::from_secs(3));
    rig.machines[standby].slow_disk(0, 0);
    healthy(rig)?;
    handed_over(rig, &before, standby)?;
    let reset = |event: &crate::rig::timeline::Event| event.who == NAMES[standby] && event.text.contains("RESET");
    let after = slot(rig, standby)?;
    match rig.timeline.wait(mark, Duration::ZERO, reset) {
        Some(_) => Err("the box that was needed restarted".into()),
        None if after == former => Ok(format!("slot {former} serves on")),
        None => Err(format!("slot {after} runs")),
    }
}

/// The power failed long ago while an image was written, and left a file whose clusters are on the disk in part. The kernel takes
/// that for damage and writes no more; the next update is one like any other.
pub fn torn(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.machines[standby].power_cut();
    tear(&rig.machines[standby].disk).map_err(|error| error.to_string())?;
    healthy(rig)?;
    let (former, mark) = (slot(rig, standby)?, rig.timeline.mark());
    // Which of the two runs there depends on the scenarios before.
    match order(rig, standby, "/data/good.efi") {
        Err(why) if why.contains("runs here already") => order(rig, standby, "/data/again.efi")?,
        other => other?,
    };
    restarted(rig, mark, standby)?;
    let slot = confirmed(rig, standby, former)?;
    healthy(rig)?;
    unmoved(rig, &before, start)?;
    Ok(format!("slot {former} to {slot}, nothing moved"))
}

/// The boot partition of a disk (FAT32, Microsoft's specification); places in bytes of the disk.
struct Fat {
    file: File,
    image: String,
    tables: Vec<u64>,
    data: u64,
    cluster: u64,
}

impl Fat {
    fn of(disk: &Path) -> io::Result<Fat> {
        const PARTITION: u64 = 1 << 20;
        const SECTOR: u64 = 512;
        let file = File::options().read(true).write(true).open(disk)?;
        let mut block = [0; 512];
        file.read_exact_at(&mut block, PARTITION)?;
        let reserved = u64::from(u16::from_le_bytes([block[0x0e], block[0x0f]]));
        let table = u64::from(u32::from_le_bytes([block[0x24], block[0x25], block[0x26], block[0x27]]));
        let number = u64::from(block[0x10]);
        Ok(Fat {
            file,
            image: format!("{}@@{PARTITION}", disk.display()),
            tables: (0..number).map(|number| PARTITION + (reserved + number * table) * SECTOR).collect(),
            data: PARTITION + (reserved + number * table) * SECTOR,
            cluster: u64::from(block[0x0d]) * SECTOR,
        })
    }

    #[allow(clippy::disallowed_methods)] // runs mtools
    fn mtools(&self, words: &[&str]) -> io::Result<String> {
        let done = Command::new(words[0]).args(["-i", &self.image]).args(&words[1..]).output()?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if done.status.success() { Ok(said(&done.stdout)) } else { Err(io::Error::other(said(&done.stderr))) }
    }

    /// The first and the last cluster of a file's first piece.
    fn place(&self, name: &str) -> io::Result<(u64, u64)> {
        // "::/EFI/Linux/twobox-9.new <5-804>"
        let shown = self.mtools(&["mshowfat", name])?;
        let range = shown.split(['<', '>']).nth(1).and_then(|range| range.split_once('-'));
        let (first, last) = range.ok_or_else(|| io::Error::other(format!("no place: {shown}")))?;
        let [first, last]: [u64; 2] = [first, last].map(|number| number.parse().expect("a number"));
        Ok((first, last))
    }
}

/// Leaves half of a draft on a disk: all of its entry, and half of its chain in the tables.
fn tear(disk: &Path) -> io::Result<()> {
    const DRAFT: &str = "::/EFI/Linux/twobox-9.new";
    let fat = Fat::of(disk)?;
    let content = disk.with_extension("torn");
    std::fs::write(&content, vec![7; 400 * 1024])?;
    fat.mtools(&["mcopy", &content.display().to_string(), DRAFT])?;
    let (first, last) = fat.place(DRAFT)?;
    let middle = first.midpoint(last);
    for table in &fat.tables {
        fat.file.write_all_at(&vec![0; usize::try_from(last - middle + 1).expect("a file") * 4], table + middle * 4)?;
    }
    Ok(())
}
