//! How the former life of the daemon ended, and why the box was reset last, as far as that can be known.
//!
//! A file in the state directory says during which boot of the kernel the daemon ran, whether it left in order, what was known
//! of the reset before, and how many starts there were. Whoever finds another boot of the kernel than that one knows that the box was reset since.

use crate::console::status::ResetCause;
use crate::state::{Directory, Found};

/// Its name in the state directory.
pub const FILE: &str = "life";
/// Another number with every boot of the kernel (random(4)).
const KERNEL_BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// Where the kernel tells who keeps its last words (kernel Documentation/admin-guide/pstore-blk.rst).
const KEEPER: &str = "/sys/module/pstore/parameters/backend";

/// A life of the daemon as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// The kernel's boot.
    kernel: String,
    /// It left in order.
    left: bool,
    /// Why the box was reset before.
    reset: ResetCause,
    /// Number of its start.
    start: u64,
}

/// What speaks for a cause.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traces {
    /// The kernel's last words of the former boot were found.
    pub panicked: bool,
    /// The watchdog says that it reset the box.
    pub by_watchdog: bool,
    /// There is a hardware watchdog, and the kernel keeps its last words: a hang or a panic would have left a trace.
    pub would_tell: bool,
}

/// What is known at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// This life, not over.
    pub life: Life,
    /// The box was reset since the former life, or there was none.
    pub new_boot: bool,
    /// The former life left in order; `None`: there was none.
    pub former_left: Option<bool>,
}

/// Reads what the former life left, and puts this one in its place.
pub(super) fn begin(directory: &Directory, traces: Traces) -> Known {
    let kernel = std::fs::read_to_string(KERNEL_BOOT).unwrap_or_default().trim().to_owned();
    let former = match directory.read(FILE) {
        Ok(Found::Payload(bytes)) => decode(&bytes),
        _ => None, // it only explains
    };
    let known = know(former, &kernel, traces);
    if let Err(error) = directory.write(FILE, &encode(&known.life)) {
        log::warn!("{}: {FILE} cannot be written: {error}", directory.path().display());
    }
    match (known.new_boot, known.former_left) {
        (true, _) => log::info!("the last reset of this box: {}", known.life.reset.word()),
        (false, Some(true)) => log::info!("started again; the former daemon left in order, the box was not reset"),
        (false, _) => log::warn!("started again; the former daemon did not leave in order, the box was not reset"),
    }
    known
}

/// Whether the kernel keeps its last words over a reset.
pub(super) fn last_words_are_kept() -> bool {
    std::fs::read_to_string(KEEPER).is_ok_and(|name| !matches!(name.trim(), "" | "(null)"))
}

fn know(former: Option<Life>, kernel: &str, traces: Traces) -> Known {
    let new_boot = former.as_ref().is_none_or(|former| former.kernel != kernel);
    let former_left = former.as_ref().map(|former| former.left);
    let reset = match &former {
        _ if traces.panicked => ResetCause::Panic,
        _ if traces.by_watchdog => ResetCause::Watchdog,
        Some(former) if !new_boot => former.reset,
        Some(former) if former.left => ResetCause::Ordered,
        Some(_) if traces.would_tell => ResetCause::Power,
        _ => ResetCause::Unknown,
    };
    let start = former.map_or(0, |former| former.start).saturating_add(1);
    Known { life: Life { kernel: kernel.to_owned(), left: false, reset, start }, new_boot, former_left }
}

impl Life {
    /// Why the box was reset last.
    pub(super) fn reset(&self) -> ResetCause {
        self.reset
    }

    /// Number of this start, from 1.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The file's content once this life has left in order.
    pub(super) fn left(&self) -> Box<[u8]> {
        encode(&Life { left: true, ..self.clone() }).into()
    }
}

const CAUSES: [ResetCause; 5] =
    [ResetCause::Watchdog, ResetCause::Panic, ResetCause::Power, ResetCause::Ordered, ResetCause::Unknown];

fn encode(life: &Life) -> Vec<u8> {
    let end = if life.left { "left" } else { "runs" };
    format!("{}\n{end}\n{}\n{}\n", life.kernel, life.reset.word(), life.start).into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Life> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    let kernel = lines.next()?.to_owned();
    let left = match lines.next()? {
        "left" => true,
        "runs" => false,
        _ => return None,
    };
    let word = lines.next()?;
    let reset = CAUSES.into_iter().find(|cause| cause.word() == word)?;
    let start = lines.next()?.parse().ok()?;
    Some(Life { kernel, left, reset, start })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(kernel: &str, left: bool, reset: ResetCause) -> Life {
        Life { kernel: kernel.into(), left, reset, start: 7 }
    }

    fn cause(former: Option<Life>, traces: Traces) -> ResetCause {
        know(former, "new", traces).life.reset
    }

    #[test]
    fn a_life_survives_its_file_and_nothing_else_is_one() {
        for reset in CAUSES {
            for left in [false, true] {
                let one = life("4f6c", left, reset);
                assert_eq!(decode(&encode(&one)), Some(one.clone()));
                assert_eq!(decode(&one.left()), Some(Life { left: true, ..one }));
            }
        }
        for text in
            ["", "4f6c", "4f6c\nleft", "4f6c\nleft\nmagic\n7", "4f6c\nperhaps\npower\n7", "4f6c\nleft\npower\n-1"]
        {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_strongest_trace_names_the_cause_and_without_one_nothing_is_guessed() {
        use ResetCause::{Ordered, Panic, Power, Unknown, Watchdog};
        let none = Traces::default();
        let would_tell = Traces { would_tell: true, ..none };
        let by_watchdog = Traces { by_watchdog: true, ..would_tell };
        let panicked = Traces { panicked: true, ..by_watchdog };
        let ran = Some(life("old", false, Unknown));
        let left = Some(life("old", true, Unknown));
        assert_eq!(cause(ran.clone(), none), Unknown, "power, a crash, a button");
        assert_eq!(cause(ran.clone(), would_tell), Power);
        assert_eq!(cause(ran.clone(), by_watchdog), Watchdog);
        assert_eq!(cause(ran, panicked), Panic, "the watchdog fired behind it");
        assert_eq!(cause(left.clone(), none), Ordered);
        assert_eq!(cause(left.clone(), would_tell), Ordered);
        assert_eq!(cause(left, by_watchdog), Watchdog, "it hung while it went down");
        assert_eq!(cause(None, would_tell), Unknown, "a new box");
    }

    #[test]
    fn a_daemon_that_is_started_again_does_not_count_as_a_reset() {
        let former = Some(life("new", true, ResetCause::Power));
        let known = know(former, "new", Traces::default());
        assert_eq!((known.life.reset, known.new_boot, known.former_left), (ResetCause::Power, false, Some(true)));
        // The watchdog's mark stays for as long as the kernel runs: it is one reset, however often the daemon starts.
        let again = know(Some(known.life), "new", Traces { by_watchdog: true, ..Traces::default() });
        assert_eq!((again.life.reset, again.new_boot), (ResetCause::Watchdog, false));
        assert_eq!(again.life.start(), 9, "two starts after the seventh");
        let first = know(None, "new", Traces::default());
        assert_eq!((first.new_boot, first.life.start()), (true, 1));
    }
}
