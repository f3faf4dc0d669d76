//! What a child of the daemon says on standard error, as lines of the log: its warnings, and its last words.

use std::io;
use std::process::{Child, ChildStderr};

use smol::Async;
use smol::future::pending;
use smol::io::AsyncReadExt;

use super::helper::within;
use crate::time::Duration;

/// Longest line that stays whole.
const LINE: usize = 1024;
/// How long a dead child's words may take to be read: whatever it has started may hold the pipe.
const REST: Duration = Duration::from_secs(1);

/// The child's standard error.
pub(super) struct Words {
    who: &'static str,
    pipe: Option<Async<ChildStderr>>,
    line: Vec<u8>,
}

impl Words {
    /// Of a child that was started with a pipe.
    pub(super) fn of(who: &'static str, child: &mut Child) -> io::Result<Self> {
        let pipe = child.stderr.take().map(Async::new).transpose()?;
        Ok(Self { who, pipe, line: Vec::with_capacity(LINE) })
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
        say(self.who, &mut self.line);
    }

    async fn until_the_end(&mut self) {
        let Self { who, pipe: Some(pipe), line } = self else { return };
        let mut bytes = [0; LINE];
        while let Ok(n @ 1..) = pipe.read(&mut bytes).await {
            for &byte in &bytes[..n] {
                if byte == b'\n' || line.len() == LINE {
                    say(who, line);
                }
                if byte != b'\n' {
                    line.push(byte);
                }
            }
        }
    }
}

fn say(who: &str, line: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(line);
    let (level, text) = level(text.trim_end());
    // The mirror names itself.
    let text = text.strip_prefix(who).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text);
    if !text.is_empty() {
        log::log!(level, "{who}: {text}");
    }
    line.clear();
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
