//! What a program that the daemon has started says, line by line: a service's output, a child's log and last words.

use std::io;

use smol::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Bytes that are read at once.
const BUFFER: usize = 1024;

/// The lines that come out of a pipe.
///
/// A line has at most so many bytes as it was given: a longer one comes in pieces, each as a line, and nothing of it is
/// lost but white space at a cut. White space at the end of a line does not count, an empty line is none. Half a line at the end of the
/// stream is a line. Whatever is not UTF-8 is replaced.
pub struct Lines<R> {
    from: BufReader<R>,
    begun: Vec<u8>,
    longest: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Out of `from`; no line has more than `longest` bytes.
    ///
    /// # Panics
    ///
    /// When a line may have no byte at all.
    pub fn new(from: R, longest: usize) -> Self {
        assert!(longest > 0);
        Self { from: BufReader::with_capacity(BUFFER, from), begun: Vec::with_capacity(longest), longest }
    }

    /// The next line, `None` at the end of the stream. Whoever stops waiting for it has lost nothing: what has come is
    /// the beginning of what the next call returns.
    ///
    /// # Errors
    ///
    /// What the pipe says.
    pub async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            // Of a program that prints without end there is always more: whoever else has something to do comes in between.
            smol::future::yield_now().await;
            let came = self.from.fill_buf().await?;
            if came.is_empty() {
                return Ok(self.begun());
            }
            let room = self.longest - self.begun.len();
            let end = came.iter().take(room).position(|&byte| byte == b'\n');
            let taken = end.unwrap_or_else(|| came.len().min(room));
            self.begun.extend_from_slice(&came[..taken]);
            self.from.consume(taken + usize::from(end.is_some()));
            if (end.is_some() || self.begun.len() == self.longest)
                && let Some(line) = self.begun()
            {
                return Ok(Some(line));
            }
        }
    }

    /// The beginning of a line whose end has not come, for whoever does not wait for it any longer.
    pub fn begun(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&self.begun).trim_end().to_owned();
        self.begun.clear();
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::io::AsyncWriteExt;
    use std::time::Duration;

    fn all(of: &[u8], longest: usize) -> Vec<String> {
        smol::block_on(async {
            let mut lines = Lines::new(of, longest);
            let mut all = Vec::new();
            while let Some(line) = lines.next().await.unwrap() {
                all.push(line);
            }
            all
        })
    }

    #[test]
    fn lines_have_no_ends_and_empty_ones_are_none() {
        assert_eq!(all(b"one\ntwo\r\n\n \r\nthree \n", 80), ["one", "two", "three"]);
        assert_eq!(all(b"", 80), [""; 0]);
        assert_eq!(all(b"\n\n", 80), [""; 0]);
    }

    #[test]
    fn half_a_line_at_the_end_is_a_line() {
        assert_eq!(all(b"one\nhal", 80), ["one", "hal"]);
    }

    #[test]
    fn a_longer_line_comes_in_pieces_and_one_that_just_fits_is_whole() {
        assert_eq!(all(b"12345678901\nab\n", 5), ["12345", "67890", "1", "ab"]);
        assert_eq!(all(b"12345\nab", 5), ["12345", "ab"]);
        let flood = "x".repeat(10 * BUFFER);
        assert_eq!(all(flood.as_bytes(), 256).concat(), flood);
        assert!(all(flood.as_bytes(), 256).iter().all(|line| line.len() == 256));
    }

    #[test]
    fn lines_without_end_let_others_run() {
        for flood in [&b"y\n"[..], b"\n", b"long "] {
            let (flood, turns) = (flood.repeat(100_000), std::cell::Cell::new(0));
            let executor = smol::LocalExecutor::new();
            let other = async {
                loop {
                    turns.set(turns.get() + 1);
                    smol::future::yield_now().await;
                }
            };
            let other = executor.spawn(other);
            let reading = executor.spawn(async {
                let mut lines = Lines::new(&flood[..], 8);
                while lines.next().await.unwrap().is_some() {}
            });
            smol::block_on(executor.run(reading));
            assert!(turns.get() > 1000, "{} turns of another program", turns.get());
            drop(other);
        }
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(all(b"a\xffb\n", 80), ["a\u{fffd}b"]);
    }

    #[test]
    fn a_wait_that_was_given_up_loses_nothing() {
        smol::block_on(async {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            let mut lines = Lines::new(smol::Async::new(ours).unwrap(), 80);
            let mut writer = smol::Async::new(theirs).unwrap();
            writer.write_all(b"begin").await.unwrap();
            let late = async {
                smol::Timer::after(Duration::from_millis(50)).await;
                None
            };
            assert!(smol::future::or(async { Some(lines.next().await) }, late).await.is_none());
            writer.write_all(b"ning\nleft").await.unwrap();
            assert_eq!(lines.next().await.unwrap().as_deref(), Some("beginning"));
            drop(writer);
            assert_eq!(lines.next().await.unwrap().as_deref(), Some("left"));
            assert_eq!(lines.begun(), None);
        });
    }

    #[test]
    fn the_beginning_of_a_line_is_there_for_whoever_does_not_wait() {
        smol::block_on(async {
            let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            let mut lines = Lines::new(smol::Async::new(ours).unwrap(), 80);
            std::io::Write::write_all(&mut theirs, b"last wor").unwrap();
            let late = async {
                smol::Timer::after(Duration::from_millis(50)).await;
                None
            };
            assert!(smol::future::or(async { Some(lines.next().await) }, late).await.is_none());
            assert_eq!(lines.begun().as_deref(), Some("last wor"));
            assert_eq!(lines.begun(), None);
        });
    }
}
