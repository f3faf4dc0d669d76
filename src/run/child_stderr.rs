//! What a child of the daemon says on standard error, as lines of the log: its warnings, and its last words.

use std::io;
use std::process::{Child, ChildStderr};

use smol::Async;
use smol::future::{or, pending};

use super::helper::within;
use super::voice::Voice;
use crate::service::lines::Lines;
use crate::time::Duration;

/// Longest line that stays whole.
const LINE: usize = 1024;
/// How long a dead child's words may take to be read: whatever it has started may hold the pipe.
const REST: Duration = Duration::from_secs(1);

/// The child's standard error.
pub(super) struct Words<'a> {
    voice: &'a Voice,
    lines: Option<Lines<Async<ChildStderr>>>,
}

impl<'a> Words<'a> {
    /// Of a child that was started with a pipe.
    pub(super) fn of(voice: &'a Voice, child: &mut Child) -> io::Result<Self> {
        let pipe = child.stderr.take().map(Async::new).transpose()?;
        Ok(Self { voice, lines: pipe.map(|pipe| Lines::new(pipe, LINE)) })
    }

    /// Copies them for as long as this is waited for.
    pub(super) async fn copy<T>(&mut self) -> T {
        let (voice, copy) = (self.voice, self.until_the_end());
        let copy = async {
            copy.await;
            pending().await
        };
        or(copy, voice.account()).await
    }

    /// What is left after the child's end.
    pub(super) async fn copy_rest(mut self) {
        if within(REST, self.until_the_end()).await.is_none() {
            log::debug!("{}: somebody else holds its standard error", self.voice.who());
        }
        if let Some(line) = self.lines.and_then(|mut lines| lines.begun()) {
            say(self.voice, &line);
        }
        self.voice.close();
    }

    async fn until_the_end(&mut self) {
        let Some(lines) = &mut self.lines else { return };
        while let Ok(Some(line)) = lines.next().await {
            say(self.voice, &line);
        }
    }
}

fn say(voice: &Voice, line: &str) {
    if !voice.admits() {
        return;
    }
    let (who, (level, text)) = (voice.who(), level(line));
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
    use std::process::{Command, Stdio};

    use super::*;

    /// The log's ring has room for 256.
    #[test]
    #[allow(clippy::disallowed_methods)] // the child
    fn a_flood_leaves_room_for_what_the_box_itself_says() {
        let voice = Voice::of("flood");
        let mut child =
            Command::new("sh").args(["-c", "yes | head -n 5000 >&2"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut words = Words::of(&voice, &mut child).unwrap();
        smol::block_on(words.until_the_end());
        child.wait().unwrap();
        assert!(!voice.admits(), "all of it was written");
    }

    #[test]
    fn a_line_has_the_level_that_it_names() {
        assert_eq!(level("INFO: connected"), (log::Level::Info, "connected"));
        assert_eq!(level("ERROR: a: b"), (log::Level::Error, "a: b"));
        assert_eq!(level("thread main panicked: x"), (log::Level::Warn, "thread main panicked: x"));
    }
}
