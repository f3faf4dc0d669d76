//! What the mirror's process tells the daemon: figures once a second from a thread of its own, so that they come while a
//! cycle runs, and everything else as it happens.
#![allow(clippy::disallowed_methods)] // the thread that reports

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::control::{self, Cause, Report, State, TreeFigures};
use crate::clock;
use crate::time::{Duration, Instant};

/// Figures go out so often.
const PERIOD: Duration = Duration::from_secs(1);

/// A tree's figures, with moments instead of ages.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What is reported as it is.
    pub plain: TreeFigures,
    /// When the standby's cut was taken.
    pub cut_at: Option<Instant>,
    /// Since when changes wait.
    pub behind_since: Option<Instant>,
}

impl Figures {
    fn at(&self, now: Instant) -> TreeFigures {
        let age = |then: Instant| u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX);
        TreeFigures {
            cut_age_ms: self.cut_at.map(age),
            lag_ms: self.behind_since.map(age).or(self.cut_at.map(|_| 0)),
            ..self.plain.clone()
        }
    }
}

/// Where reports go.
#[derive(Clone)]
pub struct Reporter(Arc<Shared>);

struct Shared {
    to: Mutex<Box<dyn Write + Send>>,
    figures: Mutex<Vec<Figures>>,
    /// Every tree has been opened, or could not be: before that the figures say less than there is.
    complete: AtomicBool,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

impl Reporter {
    /// Starts to report.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(to: Box<dyn Write + Send>) -> io::Result<Self> {
        let reporter = Reporter(Arc::new(Shared {
            to: Mutex::new(to),
            figures: Mutex::new(Vec::new()),
            complete: AtomicBool::new(false),
        }));
        let ours = reporter.clone();
        thread::Builder::new().name("mirror-report".into()).stack_size(64 * 1024).spawn(move || {
            loop {
                thread::sleep(PERIOD);
                ours.figures();
            }
        })?;
        Ok(reporter)
    }

    /// Says something. A daemon that has gone does not hear it; the end of its orders ends this process.
    pub fn say(&self, report: &Report) {
        let mut to = self.0.to.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = control::write(&mut *to, report).and_then(|()| to.flush());
    }

    /// Every tree has been looked at: from here on the figures are told, and now.
    pub fn complete(&self) {
        self.0.complete.store(true, Ordering::Release);
        self.figures();
    }

    /// Says the figures, once they are complete.
    pub fn figures(&self) {
        if !self.0.complete.load(Ordering::Acquire) {
            return;
        }
        let now = clock::now();
        let trees: Vec<TreeFigures> = self.lock().iter().map(|figures| figures.at(now)).collect();
        if !trees.is_empty() {
            self.say(&Report::Trees { trees });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Figures>> {
        self.0.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a tree's figures.
    pub fn update(&self, number: usize, change: impl FnOnce(&mut Figures)) {
        let mut all = self.lock();
        if all.len() <= number {
            all.resize_with(number + 1, Figures::default);
        }
        change(&mut all[number]);
    }

    /// A cycle was cut off. That says nothing of the tree: what needed the operator before still does.
    pub fn cut_off(&self, number: usize) {
        self.update(number, |figures| {
            figures.plain.state = if figures.plain.reason.is_some() { State::Blocked } else { State::Idle };
        });
    }

    /// Says that something needs the operator, or no longer does; once for each change.
    pub fn alarm(&self, number: usize, trouble: Option<(Cause, String)>) {
        let mut tree = None;
        let (cause, text) = trouble.unzip();
        self.update(number, |figures| {
            if figures.plain.reason != text {
                figures.plain.reason.clone_from(&text);
                tree = Some(figures.plain.tree.clone());
            }
            figures.plain.cause = cause;
            figures.plain.state = if text.is_some() { State::Blocked } else { State::Idle };
        });
        if let Some(tree) = tree {
            self.say(&Report::Alarm { tree, text });
        }
    }
}
