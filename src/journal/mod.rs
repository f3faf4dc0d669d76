//! The log: a backend of the `log` facade that never makes a caller wait.
//!
//! Whoever logs formats its line into a fixed record and puts it on a fixed queue: no allocation, no lock, no blocking
//! write on the loop's thread. The helper thread drains the queue into a ring (for `twobox log`) and to standard error
//! or `/dev/kmsg`. A full queue, and a terminal that does not take more, cost lines; how many is counted and said.

mod levels;
mod ring;
mod sink;

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use heapless::mpmc::Queue;
use log::{Level, Log, Metadata, Record};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::clock;
use crate::time::Instant;

pub use levels::Levels;
pub use ring::{LINES, Line};
pub use sink::Sink;

/// Longest text of one line, in bytes; what is longer is cut and ends in `...`.
pub const TEXT: usize = 320;

/// Lines that may wait between two drains.
const WAITING: usize = 128;

/// How often a panic tries to get its words out, and how long it lets others run in between.
const LAST_TRIES: usize = 50;
const LAST_PAUSE: core::time::Duration = core::time::Duration::from_millis(1);

/// A text that stops growing when it is full.
pub(crate) type Text = heapless::String<TEXT>;

struct Waiting {
    at: Instant,
    level: Level,
    module: &'static str,
    text: Text,
}

struct Journal {
    levels: Levels,
    /// Neither end ever waits for the other one: the loop's thread keeps those that it interrupts from going on.
    queue: Box<Queue<Waiting, WAITING>>,
    /// Lines in the queue, and those being put there.
    waiting: AtomicUsize,
    dropped: AtomicU64,
    /// Lines that were lost, ever.
    lost: AtomicU64,
    wake: EventFd,
    awake: AtomicBool,
    reader: Mutex<Reader>,
}

struct Reader {
    ring: ring::Ring,
    sink: sink::Sink,
}

static JOURNAL: OnceLock<Journal> = OnceLock::new();

/// Makes this the program's log.
///
/// # Errors
///
/// When the kernel gives no eventfd, or the program already has a log.
pub fn start(levels: Levels, sink: Sink) -> io::Result<()> {
    let most = levels.most();
    JOURNAL.set(Journal::new(levels, sink)?).map_err(|_| io::Error::other("the log was started twice"))?;
    let journal = JOURNAL.get().ok_or_else(|| io::Error::other("the log did not start"))?;
    log::set_logger(journal).map_err(|_| io::Error::other("the program already has a log"))?;
    log::set_max_level(most);
    std::panic::set_hook(Box::new(|info| {
        log::error!("{info}");
        journal.drain_last();
    }));
    Ok(())
}

/// Readable when lines wait for [`drain`]. `None` before [`start`].
#[must_use]
pub fn wake() -> Option<BorrowedFd<'static>> {
    JOURNAL.get().map(|journal| journal.wake.as_fd())
}

/// Moves what waits into the ring and to the sink. For the helper thread, and for the main thread before and after the
/// helper's life; never for the loop. Returns at once if another thread is at it.
pub fn drain() {
    if let Some(journal) = JOURNAL.get() {
        journal.drain();
    }
}

/// How many lines were lost since the start.
#[must_use]
pub fn lost() -> u64 {
    JOURNAL.get().map_or(0, |journal| journal.lost.load(Ordering::Relaxed))
}

/// At most `count` lines from number `first` on (lines are numbered from 0), oldest first. What the ring no longer has
/// is skipped: compare [`Line::number`].
#[must_use]
pub fn lines(first: u64, count: usize) -> Vec<Line> {
    let Some(journal) = JOURNAL.get() else { return Vec::new() };
    let reader = journal.reader.lock().unwrap_or_else(PoisonError::into_inner);
    reader.ring.from(first).take(count).cloned().collect()
}

/// The number that the next line will get.
#[must_use]
pub fn next_number() -> u64 {
    JOURNAL.get().map_or(0, |journal| journal.reader.lock().unwrap_or_else(PoisonError::into_inner).ring.next_number())
}

impl Journal {
    fn new(levels: Levels, sink: Sink) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "a call that fails instead of waiting, for which it is deprecated, is what is wanted"
        )]
        let queue = Box::new(Queue::new());
        Ok(Self {
            levels,
            queue,
            waiting: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            awake: AtomicBool::new(false),
            reader: Mutex::new(Reader { ring: ring::Ring::new(), sink }),
        })
    }

    fn drain(&self) {
        let Ok(mut reader) = self.reader.try_lock() else { return };
        let reader = &mut *reader;
        // In this order: who logs in between finds `awake`, rings no more, and its line is taken below. The other way round its
        // ring would be taken, and nobody would ring again for ever.
        let _ = self.wake.read(); // EAGAIN: nobody woke us, we came by ourselves
        self.awake.swap(false, Ordering::SeqCst);
        while let Some(line) = self.queue.dequeue() {
            reader.write(line.at, line.level, line.module, &line.text);
            self.waiting.fetch_sub(1, Ordering::Relaxed); // not before: whoever has panicked waits for it
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed) + reader.sink.take_dropped();
        if dropped > 0 {
            self.lost.fetch_add(dropped, Ordering::Relaxed);
            let mut text = Text::new();
            let _ = write!(text, "{dropped} log lines were dropped here");
            reader.write(clock::now(), Level::Warn, module_path!(), &text);
        }
    }

    /// The last words of a program that has panicked: whoever is draining, or was interrupted while it logged, gets some time
    /// to come to its end.
    fn drain_last(&self) {
        for _ in 0..LAST_TRIES {
            self.drain();
            if self.waiting.load(Ordering::Relaxed) == 0 {
                break;
            }
            #[allow(clippy::disallowed_methods)] // nothing will be decided any more
            std::thread::sleep(LAST_PAUSE);
        }
    }
}

impl Reader {
    fn write(&mut self, at: Instant, level: Level, module: &'static str, text: &Text) {
        let line = self.ring.push(at, level, module, text);
        self.sink.write(line);
    }
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.levels.of(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let module = record.module_path_static().unwrap_or("twobox");
        let line = Waiting { at: clock::now(), level: record.level(), module, text: text_of(record.args()) };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.queue.enqueue(line).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if !self.awake.swap(true, Ordering::SeqCst) {
            let _ = self.wake.write(1); // EAGAIN: the counter is full, so it is readable
        }
    }

    fn flush(&self) {
        drain();
    }
}

/// `arguments` as one line: control characters become spaces, what does not fit is cut.
fn text_of(arguments: &core::fmt::Arguments<'_>) -> Text {
    const CUT: &str = "...";
    struct Cutting(Text);
    impl Write for Cutting {
        fn write_str(&mut self, s: &str) -> core::fmt::Result {
            for c in s.chars() {
                let c = if c.is_control() { ' ' } else { c };
                if self.0.len() + c.len_utf8() > TEXT - CUT.len() {
                    let _ = self.0.push_str(CUT);
                    return Err(core::fmt::Error);
                }
                let _ = self.0.push(c);
            }
            Ok(())
        }
    }
    let mut text = Cutting(Text::new());
    let _ = text.write_fmt(*arguments);
    text.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_is_cut_where_it_is_too_long() {
        assert_eq!(text_of(&format_args!("a\nb\x1b[31m")), "a b [31m");
        let long = "é".repeat(TEXT);
        let text = text_of(&format_args!("{long}{long}"));
        assert!(text.len() <= TEXT && text.ends_with("..."), "{text}");
    }
    #[test]
    fn a_panic_while_somebody_drains_is_written_all_the_same() {
        let journal = Journal::new(Levels::default(), Sink::nowhere()).unwrap();
        let (locked, is_locked) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let draining = journal.reader.lock().unwrap();
                locked.send(()).unwrap();
                #[allow(clippy::disallowed_methods)] // somebody who is slow
                std::thread::sleep(LAST_PAUSE);
                drop(draining);
            });
            is_locked.recv().unwrap();
            journal.log(&Record::builder().level(Level::Error).args(format_args!("the last words")).build());
            journal.drain_last();
        });
        let ring = &journal.reader.lock().unwrap().ring;
        assert!(ring.from(0).any(|line| line.text == "the last words"), "they were left in the queue");
    }
}
