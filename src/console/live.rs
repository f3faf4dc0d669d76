//! The picture of the live view: both boxes, the cables between them, and what stands behind them. Pure.

use super::report::{Mood, ago, answer, bytes, is_news, span, wrap};
use super::screen::{Screen, Weight};
use super::status::{
    BoundBy, Cause, Direction, Gate, Link, LinkKind, RightKind, Role, ServiceState, Status, TreeState, Witness,
};

/// Columns of each box.
const BOX: usize = 24;
/// On a narrower screen a cable's name and age do not fit between the boxes: everything is told line by line.
const PICTURE: usize = 2 * BOX + 24;

/// A line of a panel.
type Line = (String, Weight);

/// Draws a status. Fits any size; 80x24 is the least that shows all of a small pair as a picture.
pub fn draw(status: &Status, screen: &mut Screen) {
    screen.clear();
    let width = screen.width();
    let alarms = match status.alarms.len() {
        0 => String::new(),
        1 => " - 1 ALARM".to_owned(),
        count => format!(" - {count} ALARMS"),
    };
    let title = format!(" twobox {} - seen from {}{alarms}", status.pair, status.node);
    screen.put(0, 0, &format!("{title:<width$}"), Weight::Reverse);
    screen.put(0, width.saturating_sub(9), "q leaves ", Weight::Reverse);
    let (mood, text) = answer(status);
    let weight = if mood == Mood::Good { Weight::Plain } else { Weight::Bold };
    for (row, line) in wrap(&text, width.saturating_sub(1)).into_iter().take(2).enumerate() {
        screen.put(1 + row, 1, &line, weight);
    }
    if width < PICTURE {
        list(status, screen, 3);
        return;
    }
    let row = boxes(status, screen, 3);
    let row = witnesses(status, screen, row);
    panels(status, screen, row);
}

/// The same without a picture: one line after the other, what matters most first.
fn list(status: &Status, screen: &mut Screen, top: usize) {
    let width = screen.width().saturating_sub(2);
    let boxes = [(format!("{} (here)", status.node), own_box(status)), (status.peer.node.clone(), peer_box(status))];
    let mut lines = Vec::new();
    for (name, about) in boxes {
        let words: Vec<&str> = about.iter().map(|(line, _)| line.as_str()).filter(|line| !line.is_empty()).collect();
        lines.extend(wrapped(&format!("{name}: {}", words.join(", ")), width, about[0].1));
    }
    for link in status.links.iter().filter(|link| link.kind != LinkKind::Reflected) {
        let (text, weight) = told(link);
        lines.extend(wrapped(&text, width, weight));
    }
    for (text, weight) in status.witnesses.iter().map(|witness| way_through(status, witness)) {
        lines.extend(wrapped(&text, width, weight));
    }
    lines.extend(wrong(status, width));
    for (text, weight) in served(status, width).into_iter().chain(guards(status)) {
        lines.extend(wrapped(&text, width, weight));
    }
    lines.extend(last(status, width));
    put_lines(&lines, screen, (top, 1), width);
}

/// As many lines as there is room for, and how many there are more.
fn put_lines(lines: &[Line], screen: &mut Screen, (top, column): (usize, usize), width: usize) {
    let room = screen.height().saturating_sub(top + 1);
    let fits = if lines.len() > room { room.saturating_sub(1) } else { room };
    for (row, (line, weight)) in lines.iter().take(fits).enumerate() {
        screen.put(top + row, column, &cut(line, width), *weight);
    }
    if lines.len() > room {
        screen.put(top + fits, column, &format!("and {} more: see `status`", lines.len() - fits), Weight::Bold);
    }
}

/// Draws that no status comes, over an empty screen.
pub fn draw_trouble(what: &str, screen: &mut Screen) {
    screen.clear();
    let width = screen.width();
    screen.put(0, 0, &format!("{:<width$}", " twobox"), Weight::Reverse);
    screen.put(0, width.saturating_sub(9), "q leaves ", Weight::Reverse);
    for (row, line) in wrap(what, width.saturating_sub(1)).into_iter().enumerate() {
        screen.put(2 + row, 1, &line, Weight::Bold);
    }
}

/// Both boxes, `a` always on the left, with the direct cables between them. Returns the next free row.
fn boxes(status: &Status, screen: &mut Screen, top: usize) -> usize {
    let width = screen.width();
    let (own, peer) = (own_box(status), peer_box(status));
    let (left, right) = if status.node == "a" { (own, peer) } else { (peer, own) };
    let cables: Vec<_> = status.links.iter().filter(|link| link.kind != LinkKind::Reflected).collect();
    let height = left.len().max(right.len()).max(cables.len());
    let second = width.saturating_sub(BOX);
    for (lines, name, column) in [(left, "a", 0), (right, "b", second)] {
        let here = if status.node == name { " (here) " } else { " " };
        let edge = format!("+-- {name}{here}");
        screen.put(top, column, &format!("{edge:-<w$}+", w = BOX - 1), Weight::Plain);
        for row in 0..height {
            screen.put(top + 1 + row, column, "|", Weight::Plain);
            screen.put(top + 1 + row, column + BOX - 1, "|", Weight::Plain);
        }
        for (row, (line, weight)) in lines.iter().enumerate() {
            screen.put(top + 1 + row, column + 2, &cut(line, BOX - 4), *weight);
        }
        screen.put(top + 1 + height, column, &format!("+{:-<w$}+", "", w = BOX - 2), Weight::Plain);
    }
    let room = second.saturating_sub(BOX);
    for (row, link) in cables.into_iter().enumerate() {
        let (line, weight) = cable(link, room);
        screen.put(top + 1 + row, BOX, &line, weight);
    }
    top + height + 2
}

/// One cable in words: its name, state and age.
fn told(link: &Link) -> Line {
    let age = link.heard_ms_ago.map_or("never".to_owned(), span);
    let text = match (&link.finding, link.up) {
        (Some(finding), _) => format!("{} {finding} {age}", link.name),
        (None, true) => format!("{} {age}", link.name),
        (None, false) => format!("{} DOWN {age}", link.name),
    };
    (text, if link.up && link.finding.is_none() { Weight::Plain } else { Weight::Bold })
}

/// One cable, drawn over the space between the boxes: whole or cut.
fn cable(link: &Link, room: usize) -> Line {
    let (state, weight) = told(link);
    let state = cut(&state, room.saturating_sub(6));
    let fill = room.saturating_sub(state.chars().count() + 2);
    let (before, after) = (fill / 2, fill - fill / 2);
    let good = weight == Weight::Plain;
    let side = |length: usize| match (good, length) {
        (true, _) => "=".repeat(length),
        (false, 0) => String::new(),
        (false, _) => format!("{}X{}", "-".repeat(length / 2), "-".repeat((length - 1) - length / 2)),
    };
    (format!("{} {state} {}", side(before), side(after)), weight)
}

fn own_box(status: &Status) -> Vec<Line> {
    let mut lines = vec![
        (status.role.word().to_uppercase(), weight_of(status.role)),
        (format!("for {}", span(status.since_ms)), Weight::Plain),
        (format!("term {}", status.term), Weight::Plain),
    ];
    lines.push(match (status.right.kind, status.right.remaining_ms) {
        (RightKind::None, _) => ("no right to serve".to_owned(), Weight::Plain),
        (kind, Some(ms)) => (format!("{} {} left", kind.word(), span(ms)), Weight::Plain),
        (kind, None) => (kind.word().to_owned(), Weight::Bold),
    });
    lines
}

fn peer_box(status: &Status) -> Vec<Line> {
    let peer = &status.peer;
    let heard = match peer.heard_ms_ago {
        None => ("never heard".to_owned(), Weight::Bold),
        Some(age) if is_news(status) => (format!("heard {} ago", span(age)), Weight::Plain),
        Some(age) => (format!("SILENT for {}", span(age)), Weight::Bold),
    };
    let config = match peer.config_matches {
        Some(true) => ("same configuration".to_owned(), Weight::Plain),
        Some(false) => ("OTHER CONFIGURATION".to_owned(), Weight::Bold),
        None => (String::new(), Weight::Plain),
    };
    let silent = !is_news(status);
    let role = if silent && peer.role != Role::Unknown {
        (format!("was {}", peer.role.word()), Weight::Plain)
    } else {
        (peer.role.word().to_uppercase(), weight_of(peer.role))
    };
    vec![role, heard, config]
}

fn weight_of(role: Role) -> Weight {
    if role == Role::Active { Weight::Reverse } else { Weight::Bold }
}

/// Each witness as the way that heartbeats take through it. Returns the next free row.
fn witnesses(status: &Status, screen: &mut Screen, top: usize) -> usize {
    let most = if screen.height() < 40 { 3 } else { 8 };
    let mut row = top;
    for witness in status.witnesses.iter().take(most) {
        let (text, weight) = way_through(status, witness);
        screen.put(row, 1, &text, weight);
        row += 1;
    }
    if status.witnesses.is_empty() {
        screen.put(row, 1, "no witness: a box whose peer dies stops serving too", Weight::Bold);
        row += 1;
    }
    if status.witnesses.len() > most {
        screen.put(row, 1, &format!("and {} more witnesses", status.witnesses.len() - most), Weight::Plain);
        row += 1;
    }
    row
}

/// The way that heartbeats take through a witness.
fn way_through(status: &Status, witness: &Witness) -> Line {
    let ping = match (witness.reachable, witness.rtt_us) {
        (true, Some(us)) => format!("== {}.{} ms ==", us / 1_000, us % 1_000 / 100),
        (true, None) => "== answers ==".to_owned(),
        (false, _) => "--X no answer --".to_owned(),
    };
    let name = format!("reflected:{}", witness.ip);
    let heard = status.links.iter().find(|link| link.name == name).and_then(|link| link.heard_ms_ago);
    let reflects = match (witness.reflects, heard) {
        (true, Some(age)) => format!("== reflects {} ==", span(age)),
        (true, None) => "== reflects ==".to_owned(),
        (false, _) => "--X does not reflect --".to_owned(),
    };
    let (own, peer) = (&status.node, &status.peer.node);
    let good = witness.reachable && witness.reflects;
    let weight = if good { Weight::Plain } else { Weight::Bold };
    (format!("{own} {ping} witness {} {reflects} {peer}", witness.ip), weight)
}

/// The lower part: what is served on the left; what guards it, what was and what is wrong on the right.
fn panels(status: &Status, screen: &mut Screen, top: usize) {
    let half = screen.width() / 2;
    let inner = half.saturating_sub(2);
    let mut right = guards(status);
    right.extend(wrong(status, inner));
    right.extend(last(status, inner));
    put_lines(&served(status, inner), screen, (top, 1), inner);
    put_lines(&right, screen, (top, half + 1), inner);
}

fn served(status: &Status, width: usize) -> Vec<Line> {
    let mut lines = vec![("ADDRESSES AND SERVICES".to_owned(), Weight::Bold)];
    for address in &status.addresses {
        lines.push(match (&address.conflict, address.held) {
            (Some(mac), _) => (format!("{} CONFLICT {mac}", address.ip), Weight::Bold),
            (None, true) => (format!("{} held here", address.ip), Weight::Plain),
            (None, false) => (format!("{} not here", address.ip), Weight::Plain),
        });
    }
    for service in &status.services {
        let restarts = if service.restarts > 0 { format!(", {} restarts", service.restarts) } else { String::new() };
        let failed = service.state == ServiceState::Failed;
        let word = if failed { "FAILED" } else { service.state.word() };
        let weight = if failed { Weight::Bold } else { Weight::Plain };
        lines.push((format!("{} {word}{restarts}", service.name), weight));
    }
    if !status.mirror.is_empty() {
        lines.push(("MIRROR".to_owned(), Weight::Bold));
    }
    for tree in &status.mirror {
        let way = match tree.direction {
            Direction::Send => "->",
            Direction::Receive => "<-",
        };
        let cut_age = tree.last_cut_ms_ago.map_or("no cut".to_owned(), |age| format!("cut {} old", span(age)));
        let state = match tree.state {
            TreeState::Blocked => match tree.cause {
                Some(Cause::Missing) => " MISSING",
                Some(Cause::Failed) => " FAILED",
                Some(Cause::Guard) | None => " BLOCKED",
            },
            TreeState::Starting => " starting",
            TreeState::Running => " running",
            TreeState::Idle if !tree.current => " NOT CURRENT",
            TreeState::Idle => "",
        };
        let aside = if tree.diverged > 0 { format!(" {} aside", tree.diverged) } else { String::new() };
        let good = tree.current && tree.state != TreeState::Blocked && tree.diverged == 0;
        let tail = format!(" {way} {cut_age}{state}{aside}");
        let name = cut(&tree.tree, width.saturating_sub(tail.len()).max(8));
        lines.push((format!("{name}{tail}"), if good { Weight::Plain } else { Weight::Bold }));
        if width >= 60 {
            let text = format!("   {} files, {} in the last cycle", tree.files, bytes(tree.bytes_sent));
            lines.push((text, Weight::Plain));
        }
    }
    lines
}

fn guards(status: &Status) -> Vec<Line> {
    let fence = &status.fence;
    let mut lines = vec![("FENCE".to_owned(), Weight::Bold)];
    if !fence.fenced {
        lines.push(("UNFENCED: a hung box goes on serving".to_owned(), Weight::Reverse));
    }
    lines.push(match (fence.bound_ms, fence.bound_by) {
        (Some(ms), by) if by != BoundBy::None => {
            (format!("silent {} after the right, {}", span(ms), by.word()), Weight::Plain)
        }
        _ => ("NOTHING bounds it".to_owned(), Weight::Bold),
    });
    let gate = match fence.egress_gate {
        Gate::Absent => "no egress gate".to_owned(),
        gate => format!("egress gate {}", gate.word()),
    };
    let dog = fence.watchdog.as_ref().map_or("no watchdog".to_owned(), |dog| {
        format!("watchdog {}, last reset: {}", span(dog.timeout_ms), dog.last_reset.word())
    });
    lines.extend([(gate, Weight::Plain), (dog, Weight::Plain)]);
    lines
}

fn last(status: &Status, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(last) = &status.last_handover {
        lines.push(("LAST HAND-OVER".to_owned(), Weight::Bold));
        let to = if last.to.is_empty() { String::new() } else { format!(" to {}", last.to) };
        lines.push((format!("{}{to}, {}", last.kind.word(), ago(last.ago_ms)), Weight::Plain));
        lines.extend(wrapped(&last.reason, width, Weight::Plain));
        let cost =
            format!("{}: detect {}, fence {}", span(last.total_ms), span(last.detect_ms), span(last.fence_wait_ms));
        lines.push((cost, Weight::Plain));
    }
    lines
}

fn wrong(status: &Status, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    if !status.takeover.ready {
        lines.push(("A TAKEOVER IS BLOCKED BY".to_owned(), Weight::Bold));
        for reason in &status.takeover.blocked_by {
            lines.extend(wrapped(reason, width, Weight::Plain));
        }
    }
    if !status.alarms.is_empty() {
        lines.push((format!("ALARMS: {}", status.alarms.len()), Weight::Reverse));
    }
    for alarm in &status.alarms {
        lines.extend(wrapped(&format!("{}: {}", span(alarm.since_ms), alarm.text), width, Weight::Bold));
    }
    lines
}

fn wrapped(text: &str, width: usize, weight: Weight) -> Vec<Line> {
    wrap(text, width).into_iter().map(|line| (line, weight)).collect()
}

/// At most `room` characters; what is cut off is marked.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(std::iter::once('~')).collect()
}
