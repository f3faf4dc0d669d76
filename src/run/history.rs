//! Hand-overs and alarms, kept across reboots: one JSON line each, in the state directory.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::HISTORY;
use crate::console::control::Event;
use crate::console::status::Handover;
use crate::time::{Duration, Instant};
use crate::wire::pair::BootId;

/// Before this second the clock of a box has not been set: 2020.
const CLOCK_IS_SET: u64 = 1_577_836_800;

/// The life that writes or asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    /// Its name.
    pub boot: BootId,
    /// Number of its start.
    pub start: u64,
}

/// An event as it stands in the file.
#[derive(Debug, Deserialize, Serialize)]
struct Line {
    boot: u64,
    #[serde(default)]
    start: u64,
    boot_ms: u64,
    unix_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handover: Option<Handover>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alarm: Option<String>,
}

/// An alarm that comes and goes has one line in the history in so long a time.
const AGAIN: Duration = Duration::from_secs(600);
/// So many different alarms have a line in that time.
const KINDS: usize = 64;

/// Which alarms have had a line lately. One that comes and goes every few seconds for years would wear the disk out, and
/// everything else would soon be gone from the history; the log and the syslog server have all of it.
#[derive(Default)]
pub(super) struct Lately(Vec<(String, Instant)>);

impl Lately {
    /// Whether an alarm is worth a line; then it has had one.
    pub(super) fn admits(&mut self, text: &str, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.since(*at) < AGAIN);
        let admitted = self.0.len() < KINDS && self.0.iter().all(|(known, _)| known != text);
        if admitted {
            self.0.push((text.to_owned(), now));
        }
        admitted
    }
}

/// A hand-over to this box.
pub(super) fn of_handover(present: Present, now: Instant, unix_s: Option<u64>, handover: Handover) -> Box<str> {
    line(&Line { handover: Some(handover), ..of(present, now, unix_s) })
}

/// An alarm that began.
pub(super) fn of_alarm(present: Present, now: Instant, unix_s: Option<u64>, alarm: &str) -> Box<str> {
    line(&Line { alarm: Some(alarm.to_owned()), ..of(present, now, unix_s) })
}

fn of(Present { boot, start }: Present, now: Instant, unix_s: Option<u64>) -> Line {
    Line { boot: boot.get(), start, boot_ms: ms(now), unix_s, handover: None, alarm: None }
}

fn line(line: &Line) -> Box<str> {
    serde_json::to_string(line).unwrap_or_default().into()
}

fn ms(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000
}

/// The wall clock in seconds since 1970, for the operator's eyes only, if it has been set.
pub(super) fn wall_clock() -> Option<u64> {
    wall_clock_us().map(|us| us / 1_000_000)
}

/// The same in microseconds.
#[allow(clippy::disallowed_methods)] // no decision rests on it
pub(super) fn wall_clock_us() -> Option<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok().filter(|us| *us >= CLOCK_IS_SET * 1_000_000)
}

/// The newest `count` events, oldest first. Lines that are none (a torn end) are left out.
pub(super) fn read(directory: &Path, present: Present, count: usize) -> Vec<Event> {
    // A torn character is no reason to lose the others.
    let bytes = std::fs::read(directory.join(HISTORY)).unwrap_or_default();
    events(&String::from_utf8_lossy(&bytes), present, count)
}

fn events(text: &str, present: Present, count: usize) -> Vec<Event> {
    let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut events = Vec::new();
    let (mut boots_ago, mut newer) = (0, present.boot.get());
    for line in lines.into_iter().rev().take(count) {
        if line.boot != newer {
            boots_ago += 1;
            newer = line.boot;
        }
        // Most lives have no events. A line without a number, or after that was lost, is at least so old.
        let starts = if line.start > 0 { present.start.saturating_sub(line.start) } else { 0 };
        boots_ago = boots_ago.max(u32::try_from(starts).unwrap_or(u32::MAX));
        let Line { boot_ms, unix_s, handover, alarm, .. } = line;
        events.push(Event { unix_s, boot_ms, boots_ago, handover, alarm });
    }
    events.reverse();
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_that_comes_and_goes_for_a_year_does_not_fill_the_history() {
        let mut lately = Lately::default();
        let second = |n: u64| Instant::BOOT + Duration::from_secs(n);
        assert!(lately.admits("no quorum", second(1)) && lately.admits("mirror-late: /mail", second(1)));
        let day = (2..86_402).filter(|n| lately.admits("no quorum", second(*n))).count();
        assert_eq!(day, 144, "one in ten minutes");
        // Nor one that is another one each time: a stranger's hardware address is part of it.
        let other = (0..600).filter(|n| lately.admits(&format!("address-conflict: {n}"), second(100_000 + n))).count();
        assert_eq!(other, KINDS);
        assert!(lately.admits("no quorum", second(101_000)));
    }

    #[test]
    fn a_torn_character_costs_its_line_and_no_other() {
        let path = std::env::temp_dir().join(format!("twobox-history-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let present = Present { boot: BootId::new(3).unwrap(), start: 1 };
        let of = |text: &str| format!("{}\n", of_alarm(present, Instant::from_nanos(1), None, text));
        let torn = of("/daten/gr\u{fc}n");
        let cut = torn.find('\u{fc}').unwrap() + 1;
        std::fs::write(
            path.join(HISTORY),
            [of("one").as_bytes(), &torn.as_bytes()[..cut], b"\n", of("two").as_bytes()].concat(),
        )
        .unwrap();
        let alarms: Vec<_> = read(&path, present, 9).into_iter().filter_map(|event| event.alarm).collect();
        assert_eq!(alarms, ["one", "two"]);
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn boots_are_counted_back_from_the_present_one() {
        let life = |boot, start| Present { boot: BootId::new(boot).unwrap(), start };
        let at = Instant::from_nanos(5_000_000);
        let lives = [(3, 0), (3, 0), (7, 4), (9, 6)];
        let line = |(boot, start)| format!("{}\n", of_alarm(life(boot, start), at, None, &format!("alarm of {boot}")));
        let mut text: String = lives.into_iter().map(line).collect();
        text.push_str("{\"boot\": 9, torn");
        let ago: Vec<(u32, Option<String>)> =
            events(&text, life(9, 6), 3).into_iter().map(|event| (event.boots_ago, event.alarm)).collect();
        let alarm = |n: u8| Some(format!("alarm of {n}"));
        assert_eq!(ago, [(3, alarm(3)), (2, alarm(7)), (0, alarm(9))], "the fifth start had no events");
        assert_eq!(events(&text, life(11, 9), 1)[0].boots_ago, 3, "so do lives since then");
        assert_eq!(events(&text, life(11, 1), 1)[0].boots_ago, 1, "the number was lost");
    }
}
