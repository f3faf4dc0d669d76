//! The status as text. The first line answers in words who serves and whether a takeover would work now.

use std::fmt::Write;

use super::alarm;
use super::printable::printable;
use super::status::{
    BoundBy, Cause, Direction, Gate, RightKind, Role, ServiceState, Status, Tree, TreeState, UpdateState,
};

/// A peer that was silent for longer is not believed to be what it last said.
const BELIEVED_MS: u64 = 3_000;

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// With colours (ECMA-48 SGR), for terminals only.
    pub colour: bool,
}

/// How good news are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Wrong.
    Bad,
}

impl Mood {
    fn of(good: bool) -> Self {
        if good { Mood::Good } else { Mood::Bad }
    }

    fn code(self) -> &'static str {
        match self {
            Mood::Good => "32",
            Mood::Odd => "33",
            Mood::Bad => "1;31",
        }
    }
}

/// The whole status.
#[must_use]
pub fn full(status: &Status, style: Style) -> String {
    let mut paper = Paper { style, text: String::new() };
    let (mood, answer) = answer(status);
    paper.wrapped("", &answer, mood);
    if status.takeover.blocked_by.len() > 1 {
        for reason in &status.takeover.blocked_by[1..] {
            paper.wrapped("  and: ", reason, mood);
        }
    }
    paper.line("");
    boxes(&mut paper, status);
    fence(&mut paper, status);
    image(&mut paper, status);
    links(&mut paper, status);
    services(&mut paper, status);
    trees(&mut paper, &status.mirror);
    processes(&mut paper, status);
    handover(&mut paper, status);
    alarms(&mut paper, status);
    paper.text
}

/// The mirrored trees alone, for `mirror status`.
#[must_use]
pub fn mirror(status: &Status, style: Style) -> String {
    let mut paper = Paper { style, text: String::new() };
    if status.mirror.is_empty() {
        paper.line("no tree is mirrored: the site file has no [[mirror]]");
    }
    trees(&mut paper, &status.mirror);
    paper.text
}

/// Who serves, and would a takeover work now?
#[must_use]
pub fn answer(status: &Status) -> (Mood, String) {
    let (serving, who) = who_serves(status);
    let standby = match serving {
        Some(active) if active == status.node => &status.peer.node,
        _ => &status.node,
    };
    let takeover = &status.takeover;
    if status.role == Role::Claiming {
        let reason = takeover.blocked_by.first().map_or(String::new(), |reason| format!(": {reason}"));
        return (Mood::Bad, format!("Nobody serves yet: {} is taking over{reason}.", status.node));
    }
    let mood = match (serving.is_some(), takeover.ready) {
        (true, true) => Mood::Good,
        (true, false) => Mood::Odd,
        (false, _) => Mood::Bad,
    };
    let verdict = match (takeover.ready, takeover.blocked_by.first()) {
        (true, _) => format!("{standby} would take over at once."),
        (false, Some(reason)) => format!("A takeover by {standby} would NOT work now: {reason}."),
        (false, None) => format!("A takeover by {standby} would NOT work now."),
    };
    (mood, format!("{who} {verdict}"))
}

/// What the peer said last is what it does now, as far as anybody can know: it is not long ago, and this box has not taken
/// over from it since.
pub(super) fn is_news(status: &Status) -> bool {
    let taken_over = |age: u64| status.role == Role::Active && age >= status.since_ms;
    status.peer.heard_ms_ago.is_some_and(|age| age <= BELIEVED_MS && !taken_over(age))
}

/// The name of the box that surely serves, and a sentence.
fn who_serves(status: &Status) -> (Option<&str>, String) {
    let (own, peer) = (status.node.as_str(), status.peer.node.as_str());
    let peer_role = if is_news(status) { status.peer.role } else { Role::Unknown };
    match (status.role, peer_role) {
        (Role::Active, Role::Active) => (None, format!("BOTH SERVE: {own} and {peer}; one fences itself at once.")),
        (Role::Active, _) => (Some(own), format!("{own} serves.")),
        (_, Role::Active) => (Some(peer), format!("{peer} serves.")),
        (Role::Yielding, _) => (None, format!("{own} is giving the service up.")),
        (_, Role::Yielding) => (None, format!("{peer} is giving the service up.")),
        (_, Role::Claiming) => (None, format!("Nobody serves yet: {peer} is taking over.")),
        (_, Role::Unknown) => match status.peer.heard_ms_ago {
            Some(age) => (None, format!("{peer} was heard {} ago; it may or may not serve.", span(age))),
            None => (None, format!("{own} does not serve, and {peer} was never heard.")),
        },
        _ => (None, "NOBODY SERVES.".to_owned()),
    }
}

/// A time span in words, two figures at most.
#[must_use]
pub fn span(ms: u64) -> String {
    const SECOND: u64 = 1_000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..10_000 => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        10_000..120_000 => format!("{} s", ms / SECOND),
        120_000..7_200_000 => format!("{} min", ms / MINUTE),
        7_200_000..172_800_000 => format!("{} h {} min", ms / HOUR, ms % HOUR / MINUTE),
        _ => format!("{} d {} h", ms / (24 * HOUR), ms % (24 * HOUR) / HOUR),
    }
}

/// An age, or "never".
#[must_use]
pub fn ago(ms: Option<u64>) -> String {
    ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", span(ms)))
}

/// A number of bytes in decimal units.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000), ("B", 1)];
    let (unit, size) = UNITS.into_iter().find(|(_, size)| count >= *size).unwrap_or(("B", 1));
    if size == 1 || count / size >= 100 {
        format!("{} {unit}", count / size)
    } else {
        format!("{}.{} {unit}", count / size, count % size * 10 / size)
    }
}

/// Text under construction.
struct Paper {
    style: Style,
    text: String,
}

impl Paper {
    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// A row: what kind, its name, what there is to say. Continued under the third column when it does not fit.
    fn row(&mut self, kind: &str, name: &str, mood: Mood, said: &str) {
        let head = format!("{kind:<8} {name:<19} ");
        self.wrapped(&head, said, mood);
    }

    /// Text after a head, wrapped at words and indented under its beginning, coloured by mood.
    fn wrapped(&mut self, head: &str, said: &str, mood: Mood) {
        let (head, said) = (&*printable(head), &*printable(said));
        // A name that is too long for its column pushes the text aside; beyond half a line it goes below.
        let long = head.chars().count() > self.style.width / 2;
        let indent = if long { 8 } else { head.chars().count() };
        let room = self.style.width.saturating_sub(indent).max(20);
        if long {
            self.line(head);
        }
        for (index, part) in wrap(said, room).into_iter().enumerate() {
            let head = if index == 0 && !long { head.to_owned() } else { " ".repeat(indent) };
            let part = if self.style.colour && mood != Mood::Good {
                format!("\x1b[{}m{part}\x1b[0m", mood.code())
            } else {
                part
            };
            self.line(&format!("{head}{part}"));
        }
    }
}

/// Cuts text into lines of at most `room` characters, at words where there are any.
#[must_use]
pub fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + 1 + word.chars().count() > room {
            lines.push(String::new());
        } else if used > 0 {
            lines.last_mut().expect("never empty").push(' ');
        }
        for character in word.chars() {
            if lines.last().is_none_or(|line| line.chars().count() >= room) {
                lines.push(String::new());
            }
            lines.last_mut().expect("never empty").push(character);
        }
    }
    lines
}

fn boxes(paper: &mut Paper, status: &Status) {
    let right = match (status.right.kind, status.right.remaining_ms) {
        (RightKind::None, _) => "no right to serve".to_owned(),
        (kind, Some(ms)) => format!("right: {} {}", kind.word(), span(ms)),
        (kind, None) => format!("right: {}", kind.word()),
    };
    let said = format!("{} for {}, term {}, {right}", status.role.word(), span(status.since_ms), status.term);
    let mood = if status.role == Role::Held { Mood::Odd } else { Mood::Good };
    paper.row("pair", &status.pair, Mood::Good, &format!("twobox {}", status.version));
    paper.row("this box", &status.node, mood, &said);
    for reason in &status.held_by {
        paper.row("", "", Mood::Odd, reason);
    }
    let peer = &status.peer;
    let silent = !is_news(status);
    let role = if silent && peer.role != Role::Unknown {
        format!("was {}", peer.role.word())
    } else {
        peer.role.word().into()
    };
    let heard = peer.heard_ms_ago.map_or("never heard".to_owned(), |age| format!("heard {} ago", span(age)));
    let config = match peer.config_matches {
        Some(true) => ", same configuration",
        Some(false) => ", DIFFERENT CONFIGURATION",
        None => "",
    };
    let mood = if silent || peer.config_matches == Some(false) { Mood::Bad } else { Mood::Good };
    paper.row("peer", &peer.node, mood, &format!("{role}, {heard}{config}"));
}

fn fence(paper: &mut Paper, status: &Status) {
    let fence = &status.fence;
    let bound = match (fence.bound_ms, fence.bound_by) {
        (Some(ms), by) if by != BoundBy::None => {
            format!("surely silent {} after its right ends, by {}", span(ms), by.word())
        }
        _ => "NOTHING bounds how long it may go on after its right ends".to_owned(),
    };
    let (mood, name) = if fence.fenced { (Mood::Good, "fenced") } else { (Mood::Bad, "UNFENCED") };
    paper.row("fence", name, mood, &bound);
    let gate = match fence.egress_gate {
        Gate::Absent => "no egress gate".to_owned(),
        gate => format!("egress gate {}", gate.word()),
    };
    match &fence.watchdog {
        Some(dog) => {
            let name = if dog.identity.is_empty() { String::new() } else { format!("{}, ", dog.identity) };
            let said = format!("{name}{}, last reset: {}; {gate}", span(dog.timeout_ms), dog.last_reset.word());
            paper.row("", &dog.device, Mood::Good, &said);
        }
        None => {
            let reset = format!("last reset: {}; {gate}", status.last_reset.word());
            paper.row("", "no watchdog", Mood::Good, &reset);
        }
    }
    if let Some(panic) = &status.last_panic {
        paper.row("", "last panic", Mood::Odd, panic);
    }
}

fn image(paper: &mut Paper, status: &Status) {
    let Some(image) = &status.image else { return };
    let (mood, word) = if image.confirmed { (Mood::Good, "confirmed") } else { (Mood::Odd, "on trial") };
    let update = match (image.update, &image.failure) {
        (UpdateState::None | UpdateState::Failed, None) => String::new(),
        (UpdateState::Writing, _) => "; another is being written".to_owned(),
        (UpdateState::Restarting, _) => "; another is about to start".to_owned(),
        (_, Some(why)) => format!("; the last update failed: {why}"),
    };
    paper.row("image", &format!("slot {}", image.slot), mood, &format!("{word}, {}{update}", image.hash));
}

/// The daemon's own processes that read what strangers send, and what they must do without.
fn processes(paper: &mut Paper, status: &Status) {
    let all = [
        ("mirror", &status.mirror_confinement),
        ("observe", &status.observe_confinement),
        ("update", &status.update_confinement),
    ];
    for (name, by) in all {
        if let Some(by) = by {
            let mood = if by == "none" { Mood::Bad } else { Mood::Good };
            paper.row("process", name, mood, &format!("confined by: {by}"));
        }
    }
}

fn links(paper: &mut Paper, status: &Status) {
    for link in &status.links {
        let state = if link.up { "up" } else { "DOWN" };
        let mut said = format!("{state}, heard {}", ago(link.heard_ms_ago));
        for (count, what) in [(link.lost, "lost"), (link.late, "late"), (link.rejected, "rejected")] {
            if count > 0 {
                let _ = write!(said, ", {count} {what}");
            }
        }
        if let Some(finding) = &link.finding {
            let _ = write!(said, ": {finding}");
        }
        paper.row("link", &link.name, Mood::of(link.up && link.finding.is_none()), &said);
    }
    for witness in &status.witnesses {
        let answers = match (witness.reachable, witness.rtt_us) {
            (true, Some(us)) => format!("answers in {}.{} ms", us / 1_000, us % 1_000 / 100),
            (true, None) => "answers".to_owned(),
            (false, _) => "DOES NOT ANSWER".to_owned(),
        };
        let reflects = if witness.reflects { "reflects" } else { "DOES NOT REFLECT" };
        let mood = Mood::of(witness.reachable && witness.reflects);
        paper.row("witness", &witness.ip, mood, &format!("{answers}, {reflects}"));
    }
    if status.witnesses.is_empty() {
        paper.row("witness", "none", Mood::Odd, "no quorum: a box whose peer dies stops serving too");
    }
}

fn services(paper: &mut Paper, status: &Status) {
    for address in &status.addresses {
        let held = if address.held { "held here" } else { "not held here" };
        match &address.conflict {
            Some(mac) => paper.row("address", &address.ip, Mood::Bad, &format!("{held}, CLAIMED BY {mac} TOO")),
            None => paper.row("address", &address.ip, Mood::Good, held),
        }
    }
    for service in &status.services {
        let restarts = match service.restarts {
            0 => String::new(),
            1 => ", restarted once".to_owned(),
            count => format!(", restarted {count} times"),
        };
        let failed = service.state == ServiceState::Failed;
        let word = if failed { "FAILED" } else { service.state.word() };
        paper.row("service", &service.name, Mood::of(!failed), &format!("{word}{restarts}"));
    }
}

fn trees(paper: &mut Paper, trees: &[Tree]) {
    for tree in trees {
        let way = match tree.direction {
            Direction::Send => "sends",
            Direction::Receive => "receives",
        };
        if tree.state == TreeState::Starting {
            paper.row("mirror", &tree.tree, Mood::Odd, &format!("{way}, not known yet: its process is starting"));
            continue;
        }
        let current = if tree.current { "current" } else { "NOT CURRENT" };
        let cut = tree.last_cut_ms_ago.map_or("no cut yet".to_owned(), |age| format!("cut {} old", span(age)));
        let mut said = format!("{way}, {current}, {cut}, {} files", tree.files);
        if tree.state == TreeState::Running {
            said.push_str(", cycle running");
        }
        if let Some(reason) = &tree.reason {
            let _ = write!(said, ", {}: {reason}", tree.cause.map_or("BLOCKED", Cause::heading));
        } else if tree.state == TreeState::Blocked {
            said.push_str(", BLOCKED");
        }
        if tree.diverged > 0 {
            let _ = write!(said, ", {} set aside", tree.diverged);
        }
        let good = tree.current && tree.diverged == 0 && tree.state != TreeState::Blocked;
        paper.row("mirror", &tree.tree, Mood::of(good), &said);
    }
}

fn handover(paper: &mut Paper, status: &Status) {
    let Some(last) = &status.last_handover else { return };
    let when = last.ago_ms.map_or("before this start".to_owned(), |ms| format!("{} ago", span(ms)));
    let to = if last.to.is_empty() { String::new() } else { format!(" to {}", last.to) };
    let mut said = format!(
        "{when}{to}: {}; {} (detect {}, fence {}",
        last.reason,
        span(last.total_ms),
        span(last.detect_ms),
        span(last.fence_wait_ms),
    );
    for step in last.steps.iter().filter(|step| !matches!(step.name.as_str(), "detect" | "wait")) {
        #[allow(clippy::cast_precision_loss)] // for the eye
        let _ = write!(said, ", {} {:.1} ms", step.name, step.us as f64 / 1e3);
    }
    said.push(')');
    paper.row("last", last.kind.word(), Mood::Good, &said);
}

fn alarms(paper: &mut Paper, status: &Status) {
    if status.alarms.is_empty() {
        return;
    }
    paper.line("");
    for alarm in &status.alarms {
        paper.wrapped("ALARM ", &format!("for {}: {}", span(alarm.since_ms), alarm.text), Mood::Bad);
        let remedy = alarm::find(&alarm.name).map_or("look at `log` for the lines around it", |entry| entry.remedy);
        paper.wrapped("   -> ", remedy, Mood::Good);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_figures_at_most() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (9_999, "9.9 s"),
            (10_000, "10 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h 0 min"),
            (172_800_000, "2 d 0 h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn bytes_are_decimal() {
        assert_eq!([0, 999, 1_500, 123_456, 4_200_000].map(bytes), ["0 B", "999 B", "1.5 kB", "123 kB", "4.2 MB"]);
    }

    #[test]
    fn wrapping_keeps_every_word_and_cuts_only_what_is_too_long() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
