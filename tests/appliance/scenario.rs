//! The scenarios: what is done to the boxes, and what must be seen from outside.

use std::time::Duration;

use crate::damage;
use crate::rig::hub::Fault;
use crate::rig::station::Reign;
use crate::rig::{Cable, Rig, ruin};
use crate::{mirror, slow, unhang, update};

/// One scenario. It finds the pair as the one before left it and leaves it healthy.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The board it runs on.
    pub board: &'static str,
    /// Whether it belongs to the set that runs before every change.
    pub short: bool,
    /// Does it; returns figures for the log, or what went wrong.
    pub run: fn(&mut Rig) -> Result<String, String>,
}

const fn short(name: &'static str, run: fn(&mut Rig) -> Result<String, String>) -> Scenario {
    Scenario { name, board: "qemu-pc", short: true, run }
}

const fn full(name: &'static str, run: fn(&mut Rig) -> Result<String, String>) -> Scenario {
    Scenario { name, board: "qemu-pc", short: false, run }
}

const fn generic(name: &'static str, run: fn(&mut Rig) -> Result<String, String>) -> Scenario {
    Scenario { name, board: "generic-x86_64", short: false, run }
}

const fn uefi(name: &'static str, run: fn(&mut Rig) -> Result<String, String>) -> Scenario {
    Scenario { name, board: "qemu-q35-uefi", short: false, run }
}

/// All of them, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    short("pair", pair),
    short("switchover", switchover),
    short("power_cut/active", power_cut_active),
    short("panic", panic),
    short("hang", hang),
    short("unhang/spin", unhang::spins),
    full("unhang/stop", unhang::stops),
    short("cut/null_modem", |rig| nothing_moves(rig, &[Cable::NullModem])),
    short("cut/crossover", |rig| nothing_moves(rig, &[Cable::Crossover])),
    short("cut/active_alone", active_alone),
    short("null_modem/break", slow::null_modem_break),
    short("memory", weight),
    full("power_cut/standby", power_cut_standby),
    full("cut/lan_of_active", lan_of_active),
    full("cut/all", all_cut),
    full("lossy/lan_of_active", lossy_lan),
    full("cut/null_modem_and_crossover", |rig| nothing_moves(rig, &[Cable::NullModem, Cable::Crossover])),
    full("witness/dead", witness_dead),
    full("reboot/standby", reboot_standby),
    full("alone", alone),
    full("console", crate::console::session),
    full("console/commands", crate::console::every_command),
    full("children", damage::children),
    full("clock", damage::clock),
    full("killed", damage::killed),
    full("oops", damage::oops),
    full("ctrl_alt_del", damage::ctrl_alt_del),
    full("data/full", damage::data_full),
    full("data/corrupt", damage::data_corrupt),
    full("data/with_errors", damage::data_with_errors),
    full("data/read_only", damage::data_read_only),
    full("disk/read_only", damage::disk_read_only),
    full("crossover/dead", slow::dead_card),
    full("lan/card", slow::card_that_comes_back),
    full("disk/slow_boot", slow::boot),
    full("disk/slow_reboot", slow::reboot),
    full("disk/late", slow::late),
    full("disk/hangs_at_boot", slow::hangs),
    full("wear", slow::wear),
    full("mirror", mirror::follows),
    full("twins", damage::twins),
    generic("generic/found", found),
    generic("generic/panic_saves_the_wait", panic_saves_the_wait),
    generic("generic/ipmi", ipmi),
    uefi("uefi/pair", pair),
    uefi("uefi/power_cut", power_cut_active),
    uefi("uefi/update_pair", update::both),
    // Behind an update that was good: there is another image that is confirmed.
    uefi("uefi/rots", update::rots),
    uefi("uefi/update_bad", update::bad),
    uefi("uefi/update_blind", update::blind),
    uefi("uefi/update_unwatched", update::unwatched),
    uefi("uefi/update_cut", update::cut),
    uefi("uefi/update", update::one),
    uefi("uefi/update_torn", update::torn),
    uefi("uefi/update_needed", update::needed),
];

/// The rig's site: L = 2 s, h = 200 ms on the slowest link.
pub const LEASE: Duration = Duration::from_secs(2);
/// Added to every limit: two boxes share two CPUs with whatever else the machine does.
pub const STALL: Duration = Duration::from_secs(3);
/// A takeover comes at most so much later than lease and fence bound; and a stall.
const SLACK: Duration = Duration::from_millis(1500 + 3000);
/// The packed image of the tests' boards, modules included, in bytes.
const IMAGE_MAX: u64 = 3 << 20;
/// What PID 1 holds in memory, in kB.
const RESIDENT_MAX: u64 = 4096;
/// Time that a takeover may take at most, whatever its way: the wait for the watchdog's bound, and more.
pub const TAKEOVER: Duration = Duration::from_secs(40);

/// Names of the boxes.
pub const NAMES: [&str; 2] = ["a", "b"];

/// Both boxes on, one serves, the other stands by ready to take over. Returns the one that serves.
pub fn healthy(rig: &mut Rig) -> Result<usize, String> {
    for index in [0, 1] {
        if !rig.machines[index].is_on() {
            rig.power_on(index);
        }
    }
    let limit = rig.machines[0].kernel_time() + TAKEOVER;
    let until = rig.timeline.now() + limit;
    loop {
        let active = rig.wait_served(&[0, 1], limit).ok_or("nobody serves")?;
        release_after_strikes(rig);
        // On a busy machine a box may stall for longer than its lease while both boot: the other one serves then.
        if rig.wait_role(active, "active", STALL * 2) && rig.wait_role(1 - active, "standby", TAKEOVER) {
            return Ok(active);
        }
        if rig.timeline.now() > until {
            return Err(format!("{} serves, and the two do not settle", NAMES[active]));
        }
    }
}

/// A box that fenced itself or was reset three times within ten minutes holds itself until somebody has looked for the
/// reason. Here it is known: the scenarios before.
fn release_after_strikes(rig: &Rig) {
    for index in [0, 1] {
        let status = rig.status(index, Duration::from_secs(3));
        if status.is_some_and(|status| {
            status["role"] == "held" && status["held_by"].to_string().contains("three self-fences")
        }) {
            rig.timeline.add("rig", format!("releases {}", NAMES[index]));
            rig.ask(index, "/init release", STALL);
        }
    }
}

/// As [`healthy`], and both have been up long enough for a claim in silence: no box claims before the longest wait of a
/// claim has passed since its boot, whatever it hears.
pub fn rested(rig: &mut Rig) -> Result<usize, String> {
    let active = healthy(rig)?;
    let status = rig.status(1 - active, STALL * 2).ok_or("the standby does not answer")?;
    let up = Duration::from_millis(status["since_ms"].as_u64().unwrap_or(0));
    rig.pass(rig.machines[1 - active].longest_wait().saturating_sub(up));
    healthy(rig)
}

/// From the outside: since `before`, the address went from its former holder to `to`, once, and nobody else sent.
pub fn handed_over(rig: &Rig, before: &[Reign], to: usize) -> Result<(), String> {
    let reigns = rig.reigns();
    let after: Vec<usize> = reigns[before.len()..].iter().map(|reign| reign.port).collect();
    if after == [to] { Ok(()) } else { Err(format!("the address went {after:?} instead of to {} alone", NAMES[to])) }
}

/// Both boxes reach /init without a fault, one serves, the client is answered.
fn pair(rig: &mut Rig) -> Result<String, String> {
    let mark = rig.timeline.mark();
    let active = healthy(rig)?;
    let mut figures = vec![format!("{} serves", NAMES[active])];
    for name in NAMES {
        let booted = |event: &crate::rig::timeline::Event| event.who == name && event.text.contains("booted in");
        let event = rig.timeline.wait(mark, Duration::ZERO, booted).ok_or_else(|| format!("{name} says nothing"))?;
        figures.push(format!("{name} {}", event.text.trim_start_matches("twobox ")));
        figures.push(format!("{name} {}", arrived(rig, mark, name)?));
    }
    if rig.reigns().iter().any(|reign| reign.port != active) {
        return Err(format!("both have served: {:?}", rig.reigns()));
    }
    let image = rig.image_size;
    figures.push(format!("image {image} bytes"));
    if image > IMAGE_MAX {
        return Err(format!("an image larger than {IMAGE_MAX} bytes: {image}"));
    }
    figures.push(weight(rig)?);
    gate_counts(rig)?;
    neighbours(rig)?;
    no_fault(rig, mark)?;
    Ok(figures.join(", "))
}

/// What a box says on its console of its way from /init into the pair, since `mark`.
fn arrived(rig: &Rig, mark: usize, name: &str) -> Result<String, String> {
    // Held first, where the card's link comes up later than the box.
    let says = |event: &crate::rig::timeline::Event| {
        event.who == name && event.text.contains(" after /init") && !event.text.contains("held ")
    };
    let event =
        rig.timeline.wait(mark, STALL * 2, says).ok_or_else(|| format!("{name} does not say when it arrived"))?;
    // What clears the prompt before it.
    let said = event.text.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let right = ["standby", "active"].iter().any(|role| said.starts_with(role))
        && said.split_whitespace().nth(1).is_some_and(|seconds| seconds.parse::<f32>().is_ok());
    if right { Ok(said.to_owned()) } else { Err(format!("{name} says {said:?} of its arrival")) }
}

/// No step of a boot has failed since `mark`.
fn no_fault(rig: &Rig, mark: usize) -> Result<(), String> {
    let fault =
        |event: &crate::rig::timeline::Event| NAMES.contains(&event.who.as_str()) && event.text.contains("FAILED");
    let found = rig.timeline.wait(mark, Duration::ZERO, fault);
    found.map_or(Ok(()), |event| Err(format!("{}: {}", event.who, event.text)))
}

/// On both boxes the gate bounds the peer's wait, or will soon: a link may take seconds to tell its speed.
pub fn gate_counts(rig: &Rig) -> Result<(), String> {
    for index in [0, 1] {
        let until = rig.timeline.now() + TAKEOVER;
        loop {
            let fence = rig.status(index, STALL * 2).map(|status| status["fence"].clone());
            if fence.as_ref().is_some_and(|fence| fence["bound_by"] == "gate") {
                break;
            }
            if rig.timeline.now() > until {
                return Err(format!("{} does not rely on its gate: {fence:?}", NAMES[index]));
            }
            rig.pass(Duration::from_millis(500));
        }
    }
    Ok(())
}

/// The boxes have their own addresses on the LAN, or will soon: each answers the other one's ping there.
pub fn neighbours(rig: &Rig) -> Result<(), String> {
    for (from, to) in [(0, "192.0.2.3"), (1, "192.0.2.2")] {
        let until = rig.timeline.now() + TAKEOVER;
        loop {
            let asked = rig.ask(from, &format!("bb ping -c 3 -W 5 {to}"), STALL * 6);
            if asked.as_ref().is_some_and(|(_, answered)| *answered) {
                break;
            }
            if rig.timeline.now() > until {
                return Err(format!("{to} does not answer {}: {asked:?}", NAMES[from]));
            }
            rig.pass(Duration::from_secs(1));
        }
    }
    Ok(())
}

/// What PID 1 of each box holds in memory.
fn weight(rig: &mut Rig) -> Result<String, String> {
    healthy(rig)?;
    let mut figures = Vec::new();
    for index in [0, 1] {
        let (said, _) = rig.ask(index, "bb grep VmRSS /proc/1/status", STALL * 2).ok_or("no answer")?;
        let resident: u64 = said.split_whitespace().find_map(|word| word.parse().ok()).ok_or("no figure of memory")?;
        figures.push(format!("{} {resident}", NAMES[index]));
        if resident > RESIDENT_MAX {
            return Err(format!("PID 1 of {} holds {resident} kB, more than {RESIDENT_MAX}", NAMES[index]));
        }
    }
    Ok(format!("PID 1 holds in kB: {}", figures.join(", ")))
}

/// A planned hand-over.
fn switchover(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.timeline.add("rig", "orders a switchover");
    rig.machines[active].agent.send("/init switchover");
    rig.wait_served(&[1 - active], Duration::from_secs(15)).ok_or("the peer does not take over")?;
    handed_over(rig, &before, 1 - active)?;
    Ok(format!("outage {} ms", rig.outage_since(start).as_millis()))
}

fn power_cut_active(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let before = rig.reigns();
    let start = rig.timeline.now();
    rig.machines[active].power_cut();
    rig.wait_served(&[1 - active], TAKEOVER).ok_or("the peer does not take over")?;
    let took = rig.outage_since(start);
    healthy(rig)?;
    handed_over(rig, &before, 1 - active)?;
    was_reset_by(rig, active, "power")?;
    Ok(format!("outage {:.2} s; back as standby", took.as_secs_f64()))
}

/// The box says this of its last reset.
pub fn was_reset_by(rig: &Rig, index: usize, cause: &str) -> Result<(), String> {
    let status = rig.status(index, STALL * 2).ok_or("the box that was reset does not answer")?;
    let told = &status["fence"]["watchdog"]["last_reset"];
    if told == cause { Ok(()) } else { Err(format!("the last reset of {} was {told}, not {cause}", NAMES[index])) }
}

fn power_cut_standby(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.machines[1 - active].power_cut();
    rig.pass(TAKEOVER / 2);
    healthy(rig)?;
    unmoved(rig, &before, start)
}

/// The kernel panics: the peer reads it on the null modem and does not wait for the belts.
fn panic(rig: &mut Rig) -> Result<String, String> {
    dies_loudly(rig, ruin::PANIC, "sysrq triggered crash")
}

/// The active's kernel dies of `command` with `text` on the null modem, and remembers it.
pub fn dies_loudly(rig: &mut Rig, command: &str, text: &str) -> Result<String, String> {
    let active = rested(rig)?;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    rig.timeline.add("rig", format!("on {}: {command}", NAMES[active]));
    rig.machines[active].agent.send(command);
    let counts = |event: &crate::rig::timeline::Event| event.text.contains("Rebooting in");
    let line = rig.timeline.wait(mark, Duration::from_secs(10), counts).ok_or("no panic text on the null modem")?;
    rig.wait_served(&[1 - active], TAKEOVER).ok_or("the peer does not take over")?;
    let took = rig.outage_since(start);
    let first = rig.reigns().last().map_or(Duration::ZERO, |reign| reign.first);
    let waited = first.saturating_sub(line.at);
    healthy(rig)?;
    handed_over(rig, &before, 1 - active)?;
    let status = rig.status(active, Duration::from_secs(5)).ok_or("the box that panicked does not answer")?;
    let (cause, panic) = (&status["fence"]["watchdog"]["last_reset"], &status["last_panic"]);
    if cause != "panic" || !panic.as_str().is_some_and(|panic| panic.contains(text)) {
        return Err(format!("the box that panicked says that it was {cause}: {panic}"));
    }
    if waited > LEASE + Duration::from_secs(1) + STALL {
        return Err(format!("takeover {:.2} s after the line that counts", waited.as_secs_f64()));
    }
    let figures = (waited.as_secs_f64(), took.as_secs_f64());
    Ok(format!("takeover {:.2} s after the text, outage {:.2} s; back as standby", figures.0, figures.1))
}

/// A board that names no hardware: both boxes find theirs, and no step of the boot fails.
fn found(rig: &mut Rig) -> Result<String, String> {
    let mark = rig.timeline.mark();
    let active = healthy(rig)?;
    no_fault(rig, mark)?;
    neighbours(rig)?;
    let status = rig.status(active, STALL * 2).ok_or("no answer")?;
    let watchdog = &status["fence"]["watchdog"]["identity"];
    if watchdog != "i6300ESB timer" {
        return Err(format!("the status calls the watchdog {watchdog}"));
    }
    if status["fence"]["bound_by"] != "watchdog" {
        return Err(format!("the bound is that of {} and not of {watchdog}", status["fence"]["bound_by"]));
    }
    let weight = weight(rig)?;
    Ok(format!("{} serves; image {} bytes, {weight}", NAMES[active], rig.image_size))
}

/// A server's board: its watchdog is that of the management controller, which no device asks for. It is armed and fed, and it
/// ends a hang. It counts as no belt: its driver does not say that it goes on when it is closed, and a controller may restart.
fn ipmi(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.machines[standby].power_cut();
    let usual = std::mem::replace(
        &mut rig.machines[standby].watchdog,
        &["-device", "ipmi-bmc-sim,id=bmc", "-device", "isa-ipmi-kcs,bmc=bmc"],
    );
    rig.power_on(standby);
    rig.machines[standby].watchdog = usual;
    let found = controller_fences(rig, standby);
    rig.machines[standby].power_cut();
    found?;
    healthy(rig)?;
    unmoved(rig, &before, start)
}

fn controller_fences(rig: &mut Rig, index: usize) -> Result<(), String> {
    healthy(rig)?;
    let mark = rig.timeline.mark();
    // Twice the time-out: it is fed.
    rig.pass(Duration::from_secs(12));
    let fence = rig.status(index, STALL * 2).ok_or("no answer")?["fence"].clone();
    if fence["watchdog"]["identity"] != "IPMI" || fence["bound_by"] == "watchdog" {
        return Err(format!("the fence is {fence}"));
    }
    let reset = |event: &crate::rig::timeline::Event| event.who == NAMES[index] && event.text.starts_with("RESET");
    if rig.timeline.wait(mark, Duration::ZERO, reset).is_some() {
        return Err("it is not fed".into());
    }
    rig.machines[index].agent.send(ruin::HANG);
    rig.timeline.wait(mark, TAKEOVER, reset).map(drop).ok_or_else(|| "it does not end a hang".to_owned())
}

/// The watchdog is the bound: after a power cut its whole time is waited out, after a panic less than half of that.
fn panic_saves_the_wait(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let start = rig.timeline.now();
    rig.machines[active].power_cut();
    rig.wait_served(&[1 - active], TAKEOVER * 2).ok_or("the peer does not take over")?;
    let silent = rig.outage_since(start);
    let active = rested(rig)?;
    let (mark, start) = (rig.timeline.mark(), rig.timeline.now());
    rig.machines[active].agent.send(ruin::PANIC);
    let counts = |event: &crate::rig::timeline::Event| event.text.contains("Rebooting in");
    rig.timeline.wait(mark, Duration::from_secs(10), counts).ok_or("no panic text on the null modem")?;
    rig.wait_served(&[1 - active], TAKEOVER * 2).ok_or("the peer does not take over")?;
    let told = rig.outage_since(start);
    healthy(rig)?;
    let figures = format!("{:.2} s in silence, {:.2} s by the text", silent.as_secs_f64(), told.as_secs_f64());
    if told * 2 < silent { Ok(figures) } else { Err(figures) }
}

/// Nothing but interrupts runs any more: the belts silence the box, the watchdog resets it.
fn hang(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let status = rig.status(active, STALL * 2).ok_or("the active does not answer")?;
    let bound = Duration::from_millis(status["fence"]["bound_ms"].as_u64().ok_or("the active has no bound")?);
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    rig.timeline.add("rig", format!("hangs {}", NAMES[active]));
    rig.machines[active].agent.send(ruin::HANG);
    let reset = |event: &crate::rig::timeline::Event| event.who == NAMES[active] && event.text == "WATCHDOG";
    rig.wait_served(&[1 - active], TAKEOVER).ok_or("the peer does not take over")?;
    let reset = rig.timeline.wait(mark, Duration::from_secs(12), reset).ok_or("the watchdog does not fire")?;
    let took = rig.outage_since(start);
    let first = rig.reigns().last().map_or(Duration::ZERO, |reign| reign.first);
    if first < start + bound + LEASE - Duration::from_millis(500) {
        return Err(format!("takeover {:?} after the hang, before lease and bound are over", first - start));
    }
    if first > start + bound + LEASE + SLACK {
        return Err(format!(
            "takeover {:?} after the hang, with a lease of {LEASE:?} and a bound of {bound:?}",
            first - start
        ));
    }
    healthy(rig)?;
    handed_over(rig, &before, 1 - active)?;
    was_reset_by(rig, active, "watchdog")?;
    let fired = (reset.at - start).as_secs_f64();
    Ok(format!("watchdog after {fired:.2} s, outage {:.2} s; back as standby", took.as_secs_f64()))
}

/// Since `before` the address did not move, and no silence was longer than a stall.
pub fn unmoved(rig: &Rig, before: &[Reign], start: Duration) -> Result<String, String> {
    let reigns = rig.reigns();
    if reigns.len() != before.len() {
        return Err(format!("the address moved: {:?}", &reigns[before.len()..]));
    }
    let silence = rig.outage_since(start);
    if silence > STALL { Err(format!("the client waited {silence:?}")) } else { Ok("nothing moved".into()) }
}

/// Cables whose loss must not move the service.
fn nothing_moves(rig: &mut Rig, cables: &[Cable]) -> Result<String, String> {
    healthy(rig)?;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    for cable in cables {
        rig.set_cut(*cable, true);
    }
    rig.pass(LEASE * 4);
    for cable in cables {
        rig.set_cut(*cable, false);
    }
    rig.pass(LEASE * 2);
    healthy(rig)?;
    unmoved(rig, &before, start)
}

/// The active loses its LAN and is still heard: the pair moves the service by itself.
fn lan_of_active(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.set_cut(Cable::Lan(active), true);
    rig.wait_served(&[1 - active], TAKEOVER).ok_or("the peer does not take over")?;
    let took = rig.outage_since(start);
    rig.set_cut(Cable::Lan(active), false);
    rig.pass(LEASE * 3);
    handed_over(rig, &before, 1 - active)?;
    // The box whose port was dead is held until it has been well for the hold-down.
    healthy(rig)?;
    Ok(format!("outage {:.2} s", took.as_secs_f64()))
}

/// The active is cut off from everything at once: it must be silent before the other one serves.
fn active_alone(rig: &mut Rig) -> Result<String, String> {
    let active = rested(rig)?;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    let cables = [Cable::NullModem, Cable::Crossover, Cable::Lan(active)];
    for cable in cables {
        rig.set_cut(cable, true);
    }
    rig.wait_served(&[1 - active], TAKEOVER).ok_or("the peer does not take over")?;
    let took = rig.outage_since(start);
    for cable in cables {
        rig.set_cut(cable, false);
    }
    rig.pass(LEASE * 3);
    handed_over(rig, &before, 1 - active)?;
    healthy(rig)?;
    handed_over(rig, &before, 1 - active)?;
    Ok(format!("outage {:.2} s, and never two", took.as_secs_f64()))
}

/// Everything is cut: when it comes back, exactly one serves.
fn all_cut(rig: &mut Rig) -> Result<String, String> {
    healthy(rig)?;
    let before = rig.reigns();
    let cables = [Cable::NullModem, Cable::Crossover, Cable::Lan(0), Cable::Lan(1)];
    for cable in cables {
        rig.set_cut(cable, true);
    }
    rig.pass(TAKEOVER);
    let dark = rig.reigns();
    for cable in cables {
        rig.set_cut(cable, false);
    }
    let active = healthy(rig)?;
    let reigns = rig.reigns();
    let after: Vec<usize> = reigns[dark.len()..].iter().map(|reign| reign.port).collect();
    if after.len() > 1 || after.first().is_some_and(|first| *first != active) {
        return Err(format!("after the cut the address went {after:?}, since {:?}", before.last()));
    }
    Ok(format!("{} serves afterwards", NAMES[active]))
}

fn witness_dead(rig: &mut Rig) -> Result<String, String> {
    healthy(rig)?;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    rig.set_witness(false);
    rig.pass(TAKEOVER / 2);
    rig.set_witness(true);
    healthy(rig)?;
    unmoved(rig, &before, start)
}

fn reboot_standby(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    rig.machines[1 - active].agent.send("/init reboot");
    let reset = |event: &crate::rig::timeline::Event| event.who == NAMES[1 - active] && event.text.contains("RESET");
    rig.timeline.wait(mark, Duration::from_secs(20), reset).ok_or("the box does not reboot")?;
    healthy(rig)?;
    was_reset_by(rig, 1 - active, "ordered")?;
    unmoved(rig, &before, start)
}

/// Both lose power; only the former active comes back. It serves after its waiting time, alone.
fn alone(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    rig.machines[0].power_cut();
    rig.machines[1].power_cut();
    let start = rig.timeline.now();
    rig.power_on(active);
    let limit = rig.machines[active].kernel_time() + TAKEOVER * 2;
    rig.wait_served(&[active], limit).ok_or("the box that is alone does not serve")?;
    let took = (rig.timeline.now() - start).as_secs_f64();
    healthy(rig)?;
    Ok(format!("serves {took:.1} s after power on"))
}

/// A bad cable on the LAN: a third of the frames is lost. The crossover carries the leases, so nothing moves.
fn lossy_lan(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let before = rig.reigns();
    rig.disturb_lan(active, Fault { loss: 30, ..Fault::default() });
    rig.pass(LEASE * 5);
    rig.disturb_lan(active, Fault::default());
    healthy(rig)?;
    let start = rig.timeline.now();
    rig.pass(LEASE);
    unmoved(rig, &before, start)
}
