//! What happened when: every event of the rig, stamped when it was seen from outside the boxes.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// One line of the timeline.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the rig was started.
    pub at: Duration,
    /// `a`, `b`, `rig`, `client`, `hub`.
    pub who: String,
    /// What was seen.
    pub text: String,
}

struct Shared {
    events: Mutex<Vec<Event>>,
    news: Condvar,
    started: Instant,
    print: bool,
}

/// Shared by everything that watches.
#[derive(Clone)]
pub struct Timeline(Arc<Shared>);

impl Timeline {
    /// Starts the clock. With `print` every event goes to standard output at once.
    #[allow(clippy::disallowed_methods)] // the rig measures real machines
    pub fn start(print: bool) -> Self {
        let (events, news) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { events, news, started: Instant::now(), print }))
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Adds an event that happens now.
    pub fn add(&self, who: &str, text: impl Into<String>) {
        let event = Event { at: self.now(), who: who.to_owned(), text: text.into() };
        if self.0.print {
            println!("{}", show(&event));
        }
        self.0.events.lock().unwrap().push(event);
        self.0.news.notify_all();
    }

    /// Number of events so far: a mark to wait from.
    pub fn mark(&self) -> usize {
        self.0.events.lock().unwrap().len()
    }

    /// Waits for an event after `mark`; `None` when `limit` passes before.
    pub fn wait(&self, mark: usize, limit: Duration, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        let until = self.now() + limit;
        let mut events = self.0.events.lock().unwrap();
        let mut seen = mark;
        loop {
            if let Some(event) = events[seen..].iter().find(|event| wanted(event)) {
                return Some(event.clone());
            }
            seen = events.len();
            let left = until.checked_sub(self.now())?;
            events = self.0.news.wait_timeout(events, left).unwrap().0;
        }
    }

    /// What `look` finds in the newest event in which it finds anything.
    pub fn newest<T>(&self, look: impl Fn(&Event) -> Option<T>) -> Option<T> {
        self.0.events.lock().unwrap().iter().rev().find_map(look)
    }

    /// What `who` has said since `mark`, up to a line that begins with `end`.
    pub fn said(&self, mark: usize, who: &str, end: &str) -> String {
        let events = self.0.events.lock().unwrap();
        let lines = events[mark..].iter().filter(|event| event.who == who && !event.text.starts_with("done "));
        lines
            .take_while(|event| !event.text.starts_with(end))
            .map(|event| event.text.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// All events from `mark` on.
    pub fn since(&self, mark: usize) -> Vec<Event> {
        self.0.events.lock().unwrap()[mark..].to_vec()
    }

    /// All events from `mark` on as text.
    pub fn text(&self, mark: usize) -> String {
        self.0.events.lock().unwrap()[mark..].iter().map(|event| show(event) + "\n").collect()
    }
}

fn show(event: &Event) -> String {
    format!("{:9.3}  {:<6}  {}", event.at.as_secs_f64(), event.who, event.text)
}
