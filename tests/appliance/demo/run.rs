//! The two ways of a demonstration: by keys on a terminal, and by a script without one.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signalfd::SignalFd;
use twobox::console::screen::Screen;
use twobox::console::status::Role;
use twobox::console::terminal::Terminal;

use super::model::{CROSSOVER, LAN, NULL_MODEM, WITNESS};
use super::screen;
use super::script::{Act, Cord, Order, Which};
use super::stage::Stage;
use super::verdict::{Done, verdict};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A signal asked for the end.
struct Ended;

/// What a key asks for.
enum Wish {
    Give(Order),
    Choose(usize),
    Redraw,
    Leave,
}

/// Shows the screen and obeys the keys until `q` or a signal.
///
/// # Errors
///
/// A terminal that is none, or has gone.
pub fn interactive(stage: &mut Stage, signals: &SignalFd) -> std::io::Result<()> {
    let terminal = Terminal::standard()?;
    let size = || terminal.known_size().unwrap_or((80, 24));
    let mut screen = Screen::new(size().0, size().1);
    stage.order(Order::PowerOn).expect("boxes that are off");
    loop {
        stage.turn();
        let fresh = Screen::new(size().0, size().1);
        if (fresh.width(), fresh.height()) != (screen.width(), screen.height()) {
            screen = fresh;
        }
        screen::draw(&stage.model, &mut screen);
        terminal.write(&screen.update())?;
        let (key, signal) = terminal.wait(Some(signals.as_fd()), LOOK)?;
        if signal {
            break;
        }
        let mut keys = [0; 16];
        let count = if key { terminal.read(&mut keys)? } else { 0 };
        let mut leave = false;
        for key in &keys[..count] {
            match wish(*key, stage) {
                Some(Wish::Give(order)) => {
                    if let Err(why) = stage.order(order) {
                        stage.rig.timeline.add("rig", why);
                    }
                }
                Some(Wish::Choose(index)) => stage.model.chosen = index,
                Some(Wish::Redraw) => screen.forget(),
                Some(Wish::Leave) => leave = true,
                None => {}
            }
        }
        if leave {
            break;
        }
    }
    terminal.write(b"\x1b[0m\x1b[2J\x1b[1;1H")
}

/// What a key means now.
fn wish(key: u8, stage: &Stage) -> Option<Wish> {
    const CTRL_C: u8 = 3;
    const CTRL_L: u8 = 12;
    let model = &stage.model;
    let chosen = if model.chosen == 0 { Which::A } else { Which::B };
    let cord = |place: usize, cord: Cord| {
        Some(Wish::Give(if model.cut[place].is_some() { Order::Mend(cord) } else { Order::Cut(cord) }))
    };
    match key.to_ascii_lowercase() {
        b'n' => cord(NULL_MODEM, Cord::NullModem),
        b'x' => cord(CROSSOVER, Cord::Crossover),
        b'1' => cord(LAN, Cord::Lan(Which::A)),
        b'2' => cord(LAN + 1, Cord::Lan(Which::B)),
        b'w' => cord(WITNESS, Cord::Witness),
        b'm' => Some(Wish::Give(Order::MendAll)),
        b'a' => Some(Wish::Choose(0)),
        b'b' => Some(Wish::Choose(1)),
        b'\t' => Some(Wish::Choose(1 - model.chosen)),
        b'p' if stage.rig.machines[model.chosen].is_on() => Some(Wish::Give(Order::PowerCut(chosen))),
        b'p' => Some(Wish::Give(Order::PowerOn)),
        b'h' => Some(Wish::Give(Order::Hang(chosen))),
        b'k' => Some(Wish::Give(Order::Panic(chosen))),
        b'o' => {
            let status = model.boxes[model.chosen].fresh(model.now);
            let held = status.is_some_and(|status| status.role == Role::Held);
            Some(Wish::Give(if held { Order::Release(chosen) } else { Order::Hold(chosen) }))
        }
        b's' => Some(Wish::Give(Order::Switchover)),
        b'q' | CTRL_C => Some(Wish::Leave),
        CTRL_L => Some(Wish::Redraw),
        _ => None,
    }
}

/// Plays a script and prints what happens; returns the verdict.
///
/// # Errors
///
/// A signal that ended it.
pub fn script(stage: &mut Stage, acts: &[Act], signals: &SignalFd) -> Result<bool, String> {
    acts_one_by_one(stage, acts, signals).map_err(|Ended| "ended by a signal".into())
}

fn acts_one_by_one(stage: &mut Stage, acts: &[Act], signals: &SignalFd) -> Result<bool, Ended> {
    let mut results = Vec::new();
    stage.order(Order::PowerOn).expect("boxes that are off");
    for act in acts {
        let at = stage.rig.timeline.now();
        stage.rig.timeline.add("script", &act.text);
        let fault = play(stage, act, signals)?.err();
        let outages = &stage.model.client.outages;
        let ended = outages.iter().filter(|(start, length)| *start + *length >= at).map(|(_, length)| *length).max();
        let running = fault.as_ref().and(stage.model.current_outage());
        let outage = ended.max(running).unwrap_or_default();
        results.push(Done { act: act.text.clone(), at, served_by: stage.model.server(), outage, fault });
    }
    let (text, good) = verdict(&results, &stage.rig.reigns(), stage.model.client.wrong);
    print!("{text}");
    Ok(good)
}

/// Carries out one act and waits until the service answers again.
fn play(stage: &mut Stage, act: &Act, signals: &SignalFd) -> Result<Result<(), String>, Ended> {
    // Two boxes that share one CPU with a build boot in a minute; what is not there by then does not come.
    const LIMIT: Duration = Duration::from_secs(150);
    /// Orders take a moment to act: only pages that came later than that count.
    const MOMENT: Duration = Duration::from_secs(3);
    for order in &act.orders {
        let (active, since) = (stage.model.active(), stage.rig.timeline.now());
        if let Err(why) = stage.order(*order) {
            return Ok(Err(why));
        }
        let moves = match order {
            Order::Switchover => true,
            Order::PowerCut(which) | Order::Hang(which) | Order::Panic(which) => stage.index(*which) == active,
            _ => false,
        };
        let happened = match order {
            Order::Wait(time) => pass(stage, signals, *time)?,
            Order::Healthy => wait(stage, signals, LIMIT, |stage| stage.model.is_healthy(since))?,
            _ if moves => wait(stage, signals, LIMIT, |stage| stage.model.server() == Some(1 - active))?,
            _ => pass(stage, signals, MOMENT)?,
        };
        if !happened {
            let what = if moves { "the other box does not serve" } else { "the pair does not become healthy" };
            return Ok(Err(what.into()));
        }
    }
    let served = wait(stage, signals, LIMIT, |stage| stage.model.server().is_some())?;
    Ok(if served { Ok(()) } else { Err("nobody serves".into()) })
}

/// Lets things happen for a while.
fn pass(stage: &mut Stage, signals: &SignalFd, time: Duration) -> Result<bool, Ended> {
    wait(stage, signals, time, |_| false)?;
    Ok(true)
}

/// Lets things happen until `enough` or the limit; tells which of them it was.
fn wait(
    stage: &mut Stage,
    signals: &SignalFd,
    limit: Duration,
    enough: impl Fn(&Stage) -> bool,
) -> Result<bool, Ended> {
    let until = stage.rig.timeline.now() + limit;
    loop {
        for line in stage.turn() {
            println!("{line}");
        }
        if enough(stage) {
            return Ok(true);
        }
        let left = until.saturating_sub(stage.rig.timeline.now()).min(LOOK);
        if left.is_zero() {
            return Ok(false);
        }
        if is_signalled(signals, left) {
            return Err(Ended);
        }
    }
}

fn is_signalled(signals: &SignalFd, limit: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO)).is_ok_and(|ready| ready > 0)
}
