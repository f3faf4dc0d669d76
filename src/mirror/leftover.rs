//! What a broken cycle left staged serves the next one: its chunks are not sent again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::channel::Outgoing;
use super::chunk::{Chunker, NoFormer};
use super::message::Message;
use super::row::BLOCK;
use super::stage;
use super::stop::Stop;
use super::system;
use super::tree;

/// What a broken cycle staged goes where this one may take chunks from it.
///
/// # Errors
///
/// What the file system says.
pub(super) fn keep_staged(stage: BorrowedFd<'_>, old: BorrowedFd<'_>) -> io::Result<()> {
    stage::drain(stage, |name| {
        if stage::parse_file_name(name.to_bytes()).is_none() {
            return stage::remove(stage, name);
        }
        Ok(nix::fcntl::renameat(stage, name.as_c_str(), old, name.as_c_str())?)
    })
}

/// Says which chunks a broken cycle left, if it left any.
///
/// # Errors
///
/// What the file system or the link says.
pub(super) fn tell_held(old: BorrowedFd<'_>, outgoing: &mut Outgoing, stop: &Stop) -> io::Result<bool> {
    let mut names = Vec::new();
    system::list(old, |name| {
        names.extend(stage::parse_file_name(name));
        Ok(())
    })?;
    if names.is_empty() {
        return Ok(false);
    }
    let mut chunker = Chunker::default();
    for name in names {
        let Ok(file) = stage::open(old, &stage::file_name("", name)) else { continue }; // a link, a pipe
        let stat = nix::sys::stat::fstat(&file)?;
        if tree::format(&stat) != libc::S_IFREG {
            continue;
        }
        let (mut chunks, mut begin, mut end) = (Vec::new(), 0, 0);
        let sparse = super::read::is_sparse(&stat);
        chunker.cut(file.as_fd(), stat.st_size as u64, sparse, &mut NoFormer, &mut |piece| {
            stop.check()?;
            chunks.push(piece.chunk);
            end += piece.chunk.len;
            if chunks.len() == BLOCK {
                let chunks = std::mem::take(&mut chunks);
                Message::Have { name, offset: begin, chunks }.put(outgoing)?;
                begin = end;
            }
            Ok(())
        })?;
        Message::Have { name, offset: begin, chunks }.put(outgoing)?;
    }
    Ok(true)
}
