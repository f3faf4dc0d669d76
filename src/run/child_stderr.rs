//! What a child of the daemon says on standard error, as lines of the log: its warnings, and its last words.

use std::io;
use std::process::{Child, ChildStderr};

use smol::Async;
use smol::future::pending;

use super::helper::within;
use crate::service::lines::Lines;
use crate::time::Duration;

/// Longest line that stays whole.
const LINE: usize = 1024;
/// How long a dead child's words may take to be read: whatever it has started may hold the pipe.
const REST: Duration = Duration::from_secs(1);

/// The child's standard error.
pub(super) struct Words {
    who: &'static str,
    lines: Option<Lines<Async<ChildStderr>>>,
}

impl Words {
    /// Of a child that was started with a pipe.
    pub(super) fn of(who: &'static str, child: &mut Child) -> io::Result<Self> {
        let pipe = child.stderr.take().map(Async::new).transpose()?;
        Ok(Self { who, lines: pipe.map(|pipe| Lines::new(pipe, LINE)) })
    }

    /// Copies them for as long as this is waited for.
    pub(super) async fn copy<T>(&mut self) -> T {
        self.until_the_end().await;
        pending().await
    }

    /// What is left after the child's end.
    pub(super) async fn copy_rest(mut self) {
        if within(REST, self.until_the_end()).await.is_none() {
            log::debug!("{}: somebody else holds its standard error", self.who);
        }
        if let Some(line) = self.lines.and_then(|mut lines| lines.begun()) {
            say(self.who, &line);
        }
    }

    async fn until_the_end(&mut self) {
        let Some(lines) = &mut self.lines else { return };
        while let Ok(Some(line)) = lines.next().await {
            say(self.who, &line);
        }
    }
}

fn say(who: &str, line: &str) {
    let (level, text) = level(line);
    // The mirror names itself.
    let text = text.strip_prefix(who).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text);
    log::log!(level, "{who}: {text}");
}

/// A child's own log writes its level first; anything else it says because something is wrong.
fn level(text: &str) -> (log::Level, &str) {
    let named = text.split_once(": ").and_then(|(word, rest)| Some((word.parse::<log::Level>().ok()?, rest)));
    named.unwrap_or((log::Level::Warn, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_level_that_it_names() {
        assert_eq!(level("INFO: connected"), (log::Level::Info, "connected"));
        assert_eq!(level("ERROR: a: b"), (log::Level::Error, "a: b"));
        assert_eq!(level("thread main panicked: x"), (log::Level::Warn, "thread main panicked: x"));
    }
}
