//! What a child of the daemon says to it: one JSON value a line. Whoever has taken the child over may say anything, of any
//! length and without end, and must neither fill the daemon's memory nor keep its helper from what else it has to do.

use std::io;

use serde::de::DeserializeOwned;
use smol::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The next value. `line` is room that is used again.
///
/// # Errors
///
/// `UnexpectedEof` at the end of the stream and behind a line of more than `longest` bytes; what the stream says; that it
/// is no such value.
pub(super) async fn next<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    longest: usize,
) -> io::Result<T> {
    // Lines that are there already are read without a wait: another program's turn.
    smol::future::yield_now().await;
    line.clear();
    let most = u64::try_from(longest).unwrap_or(u64::MAX);
    from.take(most).read_until(b'\n', line).await?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(line)?)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use smol::LocalExecutor;
    use smol::io::{BufReader, repeat};

    use super::*;

    #[test]
    fn values_come_one_by_one_and_half_of_one_is_none() {
        smol::block_on(async {
            let (mut from, mut line) = (&b"1\n 2\n3"[..], Vec::new());
            assert_eq!(next::<u8>(&mut from, &mut line, 8).await.unwrap(), 1);
            assert_eq!(next::<u8>(&mut from, &mut line, 8).await.unwrap(), 2);
            assert_eq!(next::<u8>(&mut from, &mut line, 8).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            let mut other = &b"\"1\"\n"[..];
            assert!(next::<u8>(&mut other, &mut line, 8).await.is_err());
        });
    }

    #[test]
    fn a_line_without_end_is_no_memory() {
        let (mut endless, mut line) = (BufReader::new(repeat(b' ')), Vec::new());
        let read = next::<u8>(&mut endless, &mut line, 4096);
        assert_eq!(smol::block_on(read).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(line.len() == 4096 && line.capacity() < 65_536);
        let mut exact = &b"77\n"[..];
        assert_eq!(smol::block_on(next::<u8>(&mut exact, &mut line, 3)).unwrap(), 77);
    }

    #[test]
    fn values_without_end_let_others_run() {
        let (flood, turns) = (b"1\n".repeat(10_000), Cell::new(0));
        let executor = LocalExecutor::new();
        let other = executor.spawn(async {
            loop {
                turns.set(turns.get() + 1);
                smol::future::yield_now().await;
            }
        });
        let reading = async {
            let (mut from, mut line) = (&flood[..], Vec::new());
            while next::<u8>(&mut from, &mut line, 8).await.is_ok() {}
        };
        let reading = executor.spawn(reading);
        smol::block_on(executor.run(reading));
        assert!(turns.get() > 1000, "{} turns of another program during 10,000 lines", turns.get());
        drop(other);
    }
}
