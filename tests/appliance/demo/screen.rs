//! The one screen of the demonstration, from what is known to cells. Pure; fits 80x24 and uses what is larger for the log.

use std::time::Duration;

use twobox::console::screen::{Screen, Weight};
use twobox::console::status::{BoundBy, Gate, RightKind, Role, Status};

use super::model::{CORDS, CROSSOVER, LAN, Model, NAMES, NULL_MODEM, State, WITNESS};
use super::verdict::seconds;

/// Width of a box.
const BOX: usize = 28;
/// Lines of text in a box.
const INSIDE: usize = 5;
/// First row of the boxes.
const TOP: usize = 6;
/// Row below the boxes.
const BELOW: usize = TOP + INSIDE + 2;

/// What the keys do.
const KEYS: [&str; 2] = [
    " cut/mend: n null modem  x crossover  1 2 LAN of a, b  w witness  m mend all",
    " box (a b chooses): p power  h hang  k panic  o hold/release  s switch  q quit",
];

/// Draws all of it.
pub fn draw(model: &Model, screen: &mut Screen) {
    screen.clear();
    head(model, screen);
    lan(model, screen);
    let right = screen.width().clamp(2 * BOX + 20, 120) - BOX;
    for (index, column) in [(0, 0), (1, right)] {
        node(model, index, column, screen);
    }
    between(model, right, screen);
    alarms(model, screen);
    client(model, screen);
    log(model, screen);
    for (row, keys) in (screen.height().saturating_sub(KEYS.len())..).zip(KEYS) {
        screen.put(row, 0, &keys[..keys.len().min(screen.width())], Weight::Plain);
    }
}

fn head(model: &Model, screen: &mut Screen) {
    let how = if model.emulated { "emulated: no KVM here" } else { "KVM" };
    let time = model.now.as_secs();
    let text = format!(" Twobox: two boxes, one serves      {:02}:{:02}   {how}", time / 60, time % 60);
    screen.put(0, 0, &text, Weight::Bold);
}

/// Client, witness, and the LAN with its two cables.
fn lan(model: &Model, screen: &mut Screen) {
    let width = screen.width().clamp(2 * BOX + 20, 120);
    let witness = match model.cut[WITNESS] {
        Some(since) => format!("witness OFF for {}", age(model.now, since)),
        None => "witness 192.0.2.1".into(),
    };
    let (left, right) = (BOX / 2, width - BOX / 2);
    let client = "client, asks 192.0.2.10";
    screen.put(2, left + 4, client, Weight::Plain);
    screen.put(2, right - 4 - witness.len(), &witness, weight(model.cut[WITNESS].is_some()));
    screen.put(3, left, &"=".repeat(right - left + 1), Weight::Plain);
    screen.put(3, width / 2 - 3, " LAN ", Weight::Plain);
    for (index, column) in [(0, left), (1, right)] {
        let cut = model.cut[LAN + index];
        let (mark, text) = match cut {
            Some(since) => ("X", format!("CUT {}", age(model.now, since))),
            None => ("|", format!("{} up", CORDS[LAN + index])),
        };
        screen.put(4, column, mark, weight(cut.is_some()));
        screen.put(5, column, mark, weight(cut.is_some()));
        let place = if index == 0 { column + 2 } else { column - 1 - text.len() };
        screen.put(4, place, &text, weight(cut.is_some()));
    }
}

fn node(model: &Model, index: usize, column: usize, screen: &mut Screen) {
    let chosen = model.chosen == index;
    let title = format!("+-- {}{} ", NAMES[index], if chosen { " <- keys" } else { "" });
    let edge = if chosen { Weight::Bold } else { Weight::Plain };
    screen.put(TOP, column, &format!("{title:-<width$}+", width = BOX - 1), edge);
    screen.put(TOP + INSIDE + 1, column, &format!("+{}+", "-".repeat(BOX - 2)), edge);
    let lines = inside(model, index);
    for row in 0..INSIDE {
        let (text, weight) = lines.get(row).cloned().unwrap_or_default();
        screen.put(TOP + 1 + row, column, "|", edge);
        screen.put(TOP + 1 + row, column + 2, &short(&text, BOX - 4), weight);
        screen.put(TOP + 1 + row, column + BOX - 1, "|", edge);
    }
}

/// The text in a box.
fn inside(model: &Model, index: usize) -> Vec<(String, Weight)> {
    let node = &model.boxes[index];
    let plain = |text: String| (text, Weight::Plain);
    let role = match node.state(model.now) {
        State::Off => return vec![("OFF".into(), Weight::Reverse)],
        State::Booting => {
            let since = age(model.now, node.on_since.unwrap_or_default());
            return vec![plain(format!("booting, on for {since}"))];
        }
        State::Silent(age) => return vec![(format!("SILENT for {} s", age.as_secs()), Weight::Reverse)],
        State::In(role) => role,
    };
    let Some(status) = node.fresh(model.now) else { return Vec::new() };
    let mut first = format!("{} for {}", role.word().to_uppercase(), long(status.since_ms));
    if role == Role::Held && !status.held_by.is_empty() {
        first = format!("HELD: {}", status.held_by.join(", "));
    }
    let serves = if role == Role::Active { Weight::Reverse } else { Weight::Bold };
    let right = match (status.right.kind, status.right.remaining_ms) {
        (RightKind::None, _) => "no right".to_owned(),
        (kind, Some(left)) => format!("{} {:.1} s left", kind.word(), Duration::from_millis(left).as_secs_f64()),
        (kind, None) => kind.word().to_owned(),
    };
    vec![
        (first, serves),
        plain(format!("term {}, {right}", status.term)),
        plain(fence(status)),
        plain(services(status)),
        plain(
            status
                .fence
                .watchdog
                .as_ref()
                .map_or("no watchdog".into(), |dog| format!("started by: {}", dog.last_reset.word())),
        ),
    ]
}

fn fence(status: &Status) -> String {
    let gate = match status.fence.egress_gate {
        Gate::Open => "gate open",
        Gate::Closed => "gate closed",
        Gate::Absent => "NO GATE",
    };
    match (status.fence.bound_by, status.fence.bound_ms) {
        (BoundBy::None, _) | (_, None) => format!("{gate}, UNFENCED"),
        (belt, Some(bound)) => format!("{gate}, F {bound} ms {}", belt.word()),
    }
}

fn services(status: &Status) -> String {
    // The rig's own hand in the box is no service of the pair.
    let shown = status.services.iter().filter(|service| service.name != "agent");
    let words: Vec<String> = shown.map(|service| format!("{} {}", service.name, service.state.word())).collect();
    words.join(", ")
}

/// The cables between the boxes: what was done to them, and whether the boxes hear each other on them.
fn between(model: &Model, right: usize, screen: &mut Screen) {
    let width = right - BOX;
    for (row, cord, name) in [(TOP + 2, NULL_MODEM, "null-modem"), (TOP + 4, CROSSOVER, "crossover")] {
        let heard = |index: usize| {
            let status = model.boxes[index].fresh(model.now)?;
            Some(status.links.iter().any(|link| link.name == name && link.up))
        };
        let (text, line) = match (model.cut[cord], heard(0), heard(1)) {
            (Some(since), _, _) => (format!("{} CUT {}", CORDS[cord], age(model.now, since)), ' '),
            (None, Some(true), Some(true)) => (CORDS[cord].to_owned(), '='),
            (None, None, _) | (None, _, None) => (CORDS[cord].to_owned(), '-'),
            (None, Some(_), Some(_)) => (format!("{} silent", CORDS[cord]), '-'),
        };
        let drawn: String = std::iter::repeat_n(line, width).collect();
        screen.put(row, BOX, &drawn, Weight::Plain);
        if model.cut[cord].is_some() {
            screen.put(row, BOX, "-X", Weight::Plain);
            screen.put(row, right - 2, "X-", Weight::Plain);
        }
        let text = format!(" {} ", short(&text, width.saturating_sub(6)));
        screen.put(row, BOX + (width - text.len()) / 2, &text, weight(model.cut[cord].is_some()));
    }
}

/// The first alarm of each box, with the number of the others.
fn alarms(model: &Model, screen: &mut Screen) {
    for index in [0, 1] {
        let alarms = model.boxes[index].fresh(model.now).map_or(&[][..], |status| &status.alarms);
        let Some(first) = alarms.first() else { continue };
        let more = if alarms.len() > 1 { format!(" (and {} more)", alarms.len() - 1) } else { String::new() };
        let room = screen.width().saturating_sub(more.len() + 9);
        let text = format!(" ! {}: {}{more}", NAMES[index], short(&first.text, room));
        screen.put(BELOW + index, 0, &text, Weight::Bold);
    }
}

fn client(model: &Model, screen: &mut Screen) {
    let server = match (model.server(), model.current_outage()) {
        (Some(index), _) => format!("served by {}", NAMES[index]),
        (None, Some(outage)) => format!("NONE for {:.1} s", outage.as_secs_f64()),
        (None, None) => "no answer yet".to_owned(),
    };
    let longest = model.client.outages.iter().map(|(_, length)| *length).max();
    let told = |outage: Option<Duration>| outage.map_or("-".to_owned(), seconds);
    let wrong = if model.client.wrong > 0 { format!(", {} WRONG", model.client.wrong) } else { String::new() };
    let text = format!(
        " client: {server}; {} pages{wrong}; outages: last {}, longest {}",
        model.client.answers,
        told(model.client.outages.last().map(|(_, length)| *length)),
        told(longest),
    );
    screen.put(BELOW + 2, 0, &text, weight(model.current_outage().is_some()));
    let room = screen.width().saturating_sub(16);
    let skip = model.seconds.len().saturating_sub(room);
    let bar: String = model.seconds.iter().skip(skip).collect();
    screen.put(BELOW + 3, 0, &format!(" each second: {bar}"), Weight::Plain);
}

/// As many of the newest lines as there is room for.
fn log(model: &Model, screen: &mut Screen) {
    let first = BELOW + 5;
    let room = screen.height().saturating_sub(first + KEYS.len());
    let skip = model.log.len().saturating_sub(room);
    for (row, line) in (first..).zip(model.log.iter().skip(skip)) {
        screen.put(row, 0, line, Weight::Plain);
    }
}

fn weight(is_wrong: bool) -> Weight {
    if is_wrong { Weight::Reverse } else { Weight::Plain }
}

fn age(now: Duration, since: Duration) -> String {
    long(u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX))
}

fn long(milliseconds: u64) -> String {
    match milliseconds / 1000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

fn short(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    cut.push('~');
    cut
}
