//! The boot as data: named steps in order, what a failure of each means, and what the box does then.

use std::path::{Path, PathBuf};

use super::command_line::CommandLine;
use super::terminal::Terminal;
use super::{interface, kernel, last_reset, module, mounts, patience, volume};
use crate::clock;
use crate::config::board::Board;
use crate::config::{self, Config};
use crate::fence::watchdog::{self, Watchdog};
use crate::time::{Duration, Instant};
use crate::update::esp::{self, Booted};
use crate::update::loader;
use crate::update::slot::Slot;
use crate::wire::pair::Side;

/// Where the image keeps its own files.
const IMAGE: &str = "/etc/twobox";

/// The file on the state partition that says which box this is.
const NODE: &str = "node-name";

/// The board file in the image.
pub const BOARD: &str = "/etc/twobox/board.toml";

/// The watchdog's time-outs while the box boots and when it leaves, the first one that the driver takes: some know no
/// minute (iTCO_wdt of older chip sets 39 s, ib700wdt 30 s). A step that hangs ends by it; between steps it is fed. The pair
/// sets the site's own when it starts.
const BOOT_TIMEOUTS: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(30), Duration::from_secs(10)];
/// How long a mount may take: the replay of a journal of 1 GiB on a slow disk. Then the box is held without it.
const MOUNT: Duration = Duration::from_secs(600);
/// How long a look at the slots may take, which replays nothing.
const LOOK: Duration = Duration::from_secs(60);
/// How long an interface may take to show up: one on USB needs some seconds.
const INTERFACE_WAIT: Duration = Duration::from_secs(15);

/// One step.
pub struct Step {
    /// Its name, in the log and on the console.
    pub name: &'static str,
    /// Does it; returns a detail for the log, or why it failed.
    run: fn(&mut Boot) -> Result<String, String>,
    /// What a failure means, in the operator's words.
    pub meaning: &'static str,
    /// What the box does after a failure.
    pub then: Then,
}

/// What follows a failed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Then {
    /// The pair runs with less; status shows it.
    GoOn,
    /// The pair runs, and this box is held: it grants and votes, and never serves until it is repaired and booted anew.
    Hold,
    /// The pair cannot run here. The box waits for the operator and feeds its watchdog: a reset would not mend this.
    Wait,
}

/// A step that failed.
#[derive(Clone)]
pub struct Fault {
    /// The step, which says what the box does about it.
    pub step: &'static Step,
    /// Step, reason and meaning in one line.
    pub text: String,
}

/// What the steps have found out so far.
#[derive(Default)]
pub struct Boot {
    /// When the kernel started us.
    pub began: Instant,
    /// What the boot loader said.
    pub command_line: CommandLine,
    /// The board file.
    pub board: Option<Board>,
    /// The console port.
    pub terminal: Option<Terminal>,
    /// Armed with one of [`BOOT_TIMEOUTS`].
    pub watchdog: Option<Watchdog>,
    /// Why the box was reset before this boot.
    pub last_reset: last_reset::Cause,
    /// The slot that was booted.
    pub image: Option<Booted>,
    /// The image is on trial and cannot read where that stands: it could neither confirm itself nor be followed by another one.
    pub lost_trial: Option<Slot>,
    /// Which box this is.
    pub side: Option<Side>,
    /// The site file.
    pub site: Option<PathBuf>,
    /// Site, board and key.
    pub config: Option<Config>,
    /// A disk was given up; the kernel does not panic for tasks that wait for it.
    pub disk_hangs: bool,
    /// What still waits for it.
    pub(super) given_up: patience::GivenUp,
    /// One line for each step.
    pub report: Vec<String>,
    /// The steps that failed.
    pub faults: Vec<Fault>,
}

const fn step(
    name: &'static str,
    run: fn(&mut Boot) -> Result<String, String>,
    then: Then,
    meaning: &'static str,
) -> Step {
    Step { name, run, meaning, then }
}

/// All steps, in order.
pub const STEPS: &[Step] = &[
    step("mounts", |_| shown(mounts::mount_all()), Then::Wait, "the kernel lacks a file system that everything needs"),
    step("command line", read_command_line, Then::GoOn, "a word of the boot loader's is not obeyed"),
    step("board", read_board, Then::Wait, "the hardware is not known: write a right board file into the image"),
    step("console", open_console, Then::GoOn, "nothing is seen on the console port"),
    step("watchdog", arm_watchdog, Then::GoOn, "UNFENCED: a hang of this box is not ended by hardware"),
    step("modules", |_| all_loaded(module::load_listed()), Then::GoOn, "a device of the board will be missing"),
    step(
        "hardware",
        |_| all_loaded(module::load_for_hardware("")),
        Then::GoOn,
        "a device that is plugged in is not driven",
    ),
    step("last reset", find_last_reset, Then::GoOn, "why the box was reset is not known"),
    step(
        "kernel settings",
        |_| shown(kernel::apply_settings()),
        Then::GoOn,
        "some faults of the kernel do not end in a reset",
    ),
    step("ctrl-alt-del", |_| shown(kernel::take_ctrl_alt_del()), Then::GoOn, "ctrl-alt-del resets without a farewell"),
    step("clock", |_| shown(kernel::straighten_clock()), Then::GoOn, "leases may be counted on a clock that is slewed"),
    step("interfaces", bring_interfaces_up, Then::Wait, "the pair cannot speak: compare the board file with the ports"),
    step(
        "crossover",
        bring_crossover_up,
        Then::GoOn,
        "one link less to the peer, and the mirror has no cable of its own: look at its card",
    ),
    step("state", mount_state, Then::Hold, "terms cannot be kept, so this box must not serve"),
    step("image", find_own_image, Then::GoOn, "this box takes no updates"),
    step("node", know_own_side, Then::Wait, "which box of the pair this is, nobody said"),
    step(
        "site",
        read_site,
        Then::Wait,
        "the pair is not configured: put site.toml and pair.key on the state partition",
    ),
    step("host name", name_host, Then::GoOn, "the box has no name"),
    step("data", mount_data, Then::Hold, "what is served is not there, so this box must not serve"),
    step("service roots", furnish_roots, Then::GoOn, "a service may miss /dev or /proc in its root"),
];

/// Runs all steps, in order, whatever fails; every one is logged with its duration and told on the console. Returns the
/// time that all took.
pub fn run(boot: &mut Boot) -> Duration {
    let start: Instant = clock::now();
    let mut told = 0;
    for step in STEPS {
        let line = take(boot, step);
        boot.report.push(line);
        // The first steps are over before there is a port to tell them on.
        if let Some(terminal) = boot.terminal.as_mut() {
            boot.report[told..].iter().for_each(|line| terminal.say(line));
            told = boot.report.len();
        }
    }
    clock::now().since(start)
}

/// Takes one step, and says how it went.
fn take(boot: &mut Boot, step: &'static Step) -> String {
    let before = clock::now();
    boot.feed();
    let result = (step.run)(boot);
    let took = clock::now().since(before).as_secs_f64() * 1e3;
    match result {
        Ok(detail) => format!("{took:8.1} ms  {:<15} {detail}", step.name).trim_end().to_owned(),
        Err(why) => {
            let text = format!("{}: {why}; {}", step.name, step.meaning);
            boot.faults.push(Fault { step, text: text.clone() });
            format!("{took:8.1} ms  FAILED {text}")
        }
    }
}

/// Takes the steps that failed once more: a disk or a card that has come late is there now.
pub(super) fn retry(boot: &mut Boot) {
    for Fault { step, .. } in std::mem::take(&mut boot.faults) {
        let line = take(boot, step);
        if boot.faults.last().is_none_or(|fault| fault.step.name != step.name) {
            if let Some(terminal) = boot.terminal.as_mut() {
                terminal.say(&line);
            }
            boot.report.push(line);
        }
    }
}

fn shown(result: std::io::Result<String>) -> Result<String, String> {
    result.map_err(|error| error.to_string())
}

fn read_command_line(boot: &mut Boot) -> Result<String, String> {
    let text = std::fs::read_to_string("/proc/cmdline").map_err(|e| e.to_string())?;
    boot.command_line = CommandLine::parse(&text);
    match boot.command_line.unknown.as_slice() {
        [] => Ok(boot.command_line.node.as_ref().map(|node| format!("node {node}")).unwrap_or_default()),
        unknown => Err(format!("unknown: {}; known is twobox.node=a or =b", unknown.join(" "))),
    }
}

fn read_board(boot: &mut Boot) -> Result<String, String> {
    let text = std::fs::read_to_string(BOARD).map_err(|e| format!("{BOARD}: {e}"))?;
    let (board, problems) = config::parse_board(BOARD, &text);
    if let Some(problem) = problems.first() {
        return Err(problem.to_string());
    }
    let name = board.name.clone();
    boot.board = Some(board);
    Ok(name)
}

fn board(boot: &Boot) -> Result<&Board, String> {
    boot.board.as_ref().ok_or_else(|| "there is no board".to_owned())
}

fn open_console(boot: &mut Boot) -> Result<String, String> {
    let Some(port) = &board(boot)?.console else { return Ok("none on this board".into()) };
    let said = format!("{} {} baud", port.device.display(), port.baud);
    boot.terminal = Some(Terminal::open(&port.device, port.baud).map_err(|e| format!("{said}: {e}"))?);
    Ok(said)
}

/// Before every other device: from here on a boot that hangs is ended. Its module stands first in the board's list.
fn arm_watchdog(boot: &mut Boot) -> Result<String, String> {
    let Some(dog) = &board(boot)?.watchdog else { return Err("the board names none".into()) };
    let device = dog.device.clone();
    module::load_until(&device).map_err(|e| e.to_string())?;
    if !device.exists() {
        // A board that is not known beforehand: whatever its hardware asks for.
        module::load_for_hardware(module::NO_WAY_OUT).map_err(|e| e.to_string())?;
    }
    // No device asks for these two: that of a management controller, and the kernel's own timer as the last.
    for name in ["ipmi_watchdog", "softdog"] {
        if !device.exists() {
            let _ = module::load_by_name(name); // not packed on a board that has a real one
        }
    }
    let watchdog = arm(&device).map_err(|e| e.to_string())?;
    let said = format!("{} for {} s while booting", device.display(), watchdog.timeout().as_secs());
    boot.watchdog = Some(watchdog);
    Ok(said)
}

/// Arms the watchdog with the first of [`BOOT_TIMEOUTS`] that its driver takes, or a longer one if it knows none as short.
///
/// # Errors
///
/// That of the last one.
pub fn arm(device: &Path) -> std::io::Result<Watchdog> {
    let [longest, shorter @ ..] = BOOT_TIMEOUTS;
    let settings = |timeout| watchdog::Settings { device: device.to_owned(), timeout, nowayout: true };
    let mut armed = Watchdog::arm_at_least(&settings(longest), clock::now());
    for timeout in shorter {
        armed = armed.or_else(|_| Watchdog::arm(&settings(timeout), clock::now()));
    }
    armed
}

/// Opens console and watchdog again.
pub(super) fn reopen(boot: &mut Boot) {
    let _ = (open_console(boot), arm_watchdog(boot)); // the box waits for its operator, with or without
}

fn all_loaded(loaded: std::io::Result<module::Loaded>) -> Result<String, String> {
    let loaded = loaded.map_err(|e| e.to_string())?;
    if loaded.refused.is_empty() { Ok(loaded.told()) } else { Err(loaded.refused.join(", ")) }
}

fn find_last_reset(boot: &mut Boot) -> Result<String, String> {
    let by_watchdog = boot.watchdog.as_ref().is_some_and(Watchdog::reset_by_watchdog);
    boot.last_reset = last_reset::find(by_watchdog).map_err(|e| e.to_string())?;
    Ok(boot.last_reset.to_string())
}

/// The crossover's role: the one that a pair can do without.
const CROSSOVER: &str = "crossover";

fn bring_interfaces_up(boot: &mut Boot) -> Result<String, String> {
    interface::bring_up("lo").map_err(|e| format!("lo: {e}"))?;
    bring_up(boot, |role| role != CROSSOVER)
}

fn bring_crossover_up(boot: &mut Boot) -> Result<String, String> {
    if board(boot)?.interface(CROSSOVER).is_none() {
        return Ok("none on this board".into());
    }
    bring_up(boot, |role| role == CROSSOVER)
}

fn bring_up(boot: &mut Boot, is_meant: impl Fn(&str) -> bool) -> Result<String, String> {
    let wanted: Vec<_> = board(boot)?.interfaces.iter().filter(|wanted| is_meant(&wanted.role)).cloned().collect();
    let found = wait_for_interfaces(boot, is_meant)?;
    let mut said = Vec::new();
    let mut missing = Vec::new();
    for wanted in &wanted {
        match interface::choose(wanted, &found) {
            Some(chosen) => {
                interface::bring_up(&chosen.name).map_err(|e| format!("{}: {e}", chosen.name))?;
                said.push(format!("{} is {} ({})", wanted.role, chosen.name, chosen.mac));
            }
            None => missing.push(wanted.role.as_str()),
        }
    }
    if missing.is_empty() {
        return Ok(said.join(", "));
    }
    let there: Vec<String> = found.iter().map(|f| format!("{} {} {}", f.name, f.path, f.mac)).collect();
    Err(format!("no {}; there is: {}", missing.join(", no "), there.join(", ")))
}

/// All interfaces, once the wanted ones are there: a card on USB, and one behind a bridge that has just been driven,
/// shows up some time after its driver.
fn wait_for_interfaces(boot: &mut Boot, is_meant: impl Fn(&str) -> bool) -> Result<Vec<interface::Found>, String> {
    let all = board(boot)?.interfaces.clone();
    volume::until(
        INTERFACE_WAIT,
        || boot.feed(),
        |last| {
            let found = interface::list().map_err(|e| e.to_string())?;
            Ok((last || interface::are_there(&all, &is_meant, &found)).then_some(found))
        },
    )
    .map(Option::unwrap_or_default)
}

fn mount_state(boot: &mut Boot) -> Result<String, String> {
    let volume = board(boot)?.state.clone().ok_or("the board names no state partition")?;
    let device = volume::wait_for(&volume, || boot.feed())?;
    patiently(boot, MOUNT, move || volume::mount_state(&device))
}

/// What may wait for a disk for a long time, and for ever. The watchdog is fed meanwhile, and the kernel is not to panic for the
/// task that waits: it would hang in the next boot as well. After a disk was given up it never is, and what else wants that
/// disk is given up soon.
fn patiently<T: Send + 'static>(
    boot: &mut Boot,
    limit: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    if boot.given_up.are_too_many() {
        return Err("the disk still hangs".into());
    }
    let limit = if boot.disk_hangs { limit.min(LOOK) } else { limit };
    // Where it cannot be set, the kernel knows no such panic.
    let _ = kernel::panic_for_hung_tasks(false);
    let done = patience::within(limit, || boot.feed(), work).map_err(|e| e.to_string())?;
    boot.disk_hangs |= done.is_err();
    if !boot.disk_hangs {
        let _ = kernel::panic_for_hung_tasks(true);
    }
    done.unwrap_or_else(|thread| {
        boot.given_up.add(thread);
        Err(format!("nothing has come of it for {} s: the disk hangs", limit.as_secs()))
    })
}

/// Which slot this is, and whether it is on trial. An image that does not find out asks the boot loader's variable.
fn find_own_image(boot: &mut Boot) -> Result<String, String> {
    let found = look_for_own_image(boot);
    if boot.image.is_none() {
        let _ = module::load_by_name("efivarfs"); // not packed, or this firmware has no variables
        boot.lost_trial = loader::counted().filter(|slot| slot.has_way_back());
    }
    found
}

/// A board without slots was booted by somebody else.
fn look_for_own_image(boot: &mut Boot) -> Result<String, String> {
    let Some(volume) = board(boot)?.esp.clone() else { return Ok("in no slot".into()) };
    let hash = boot.command_line.image.clone().ok_or("the boot loader does not say which image this is")?;
    let device = volume::wait_for(&volume, || boot.feed())?;
    let look = move || esp::look(&device, &hash).map_err(|e| e.to_string());
    let booted = patiently(boot, LOOK, look)?;
    let trial = if booted.slot.is_on_trial() { ", on trial" } else { "" };
    let failed = booted.rolled_back.map(|slot| format!("; the trial of slot {} failed", slot.number));
    let said = format!("slot {}{trial}{}", booted.slot.number, failed.unwrap_or_default());
    boot.image = Some(booted);
    Ok(said)
}

/// The boot loader's word, else the one that stands on the state partition.
fn know_own_side(boot: &mut Boot) -> Result<String, String> {
    let written = std::fs::read_to_string(Path::new(volume::STATE).join(NODE)).ok();
    let (written, said) = (written.as_deref().map(str::trim), boot.command_line.node.as_deref());
    if let (Some(written), Some(said)) = (written, said)
        && written != said
    {
        return Err(format!("the boot loader says {said} and the state partition {written}: one is in the wrong box"));
    }
    let name = said.or(written).ok_or("neither twobox.node= nor a file `node-name` on the state partition")?;
    let side = [Side::A, Side::B].into_iter().find(|side| side.name() == name);
    boot.side = Some(side.ok_or_else(|| format!("\"{name}\" is neither a nor b"))?);
    Ok(name.to_owned())
}

fn read_site(boot: &mut Boot) -> Result<String, String> {
    let on_state = Path::new(volume::STATE).join("site.toml");
    let site = if on_state.exists() { on_state } else { Path::new(IMAGE).join("site.toml") };
    volume::link_key().map_err(|e| e.to_string())?;
    let config = config::load(&site, Path::new(BOARD))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))?;
    let said = format!("{} from {}", config.site.pair.name, site.display());
    boot.config = Some(config);
    boot.site = Some(site);
    Ok(said)
}

fn config(boot: &Boot) -> Result<&Config, String> {
    boot.config.as_ref().ok_or_else(|| "there is no site".to_owned())
}

fn name_host(boot: &mut Boot) -> Result<String, String> {
    let node = boot.side.ok_or("the box does not know which one it is")?;
    shown(kernel::set_host_name(&config(boot)?.site.pair.name, node.name()))
}

fn mount_data(boot: &mut Boot) -> Result<String, String> {
    let Some(volume) = board(boot)?.data.clone() else { return Ok("none on this board".into()) };
    let device = volume::wait_for(&volume, || boot.feed())?;
    patiently(boot, MOUNT, move || volume::mount_data(&device))
}

fn furnish_roots(boot: &mut Boot) -> Result<String, String> {
    let roots = config(boot)?.site.services.iter().filter_map(|service| service.root.clone());
    let roots: Vec<_> = roots.collect();
    shown(mounts::furnish(&roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_says_what_its_failure_means_and_names_are_unique() {
        for (index, step) in STEPS.iter().enumerate() {
            assert!(!step.meaning.is_empty() && step.name.len() <= 15, "{}", step.name);
            assert!(STEPS[..index].iter().all(|other| other.name != step.name), "{}", step.name);
        }
    }

    #[test]
    fn the_watchdog_is_armed_before_any_other_device_is_driven() {
        let place = |name: &str| STEPS.iter().position(|step| step.name == name).unwrap();
        for later in ["modules", "hardware", "interfaces", "state", "data"] {
            assert!(place("watchdog") < place(later), "{later}");
        }
    }
}
