//! Making the sender's index what the standby has, when their cuts are called differently: digests over ranges of rows
//! find where they differ, and the rows of those ranges are fetched.

use std::io;

use super::channel::{Incoming, Outgoing};
use super::codec::put_bytes;
use super::entry::{Chunk, Entry, Hash, Kind, Local};
use super::index::{Reader, each_chunk};
use super::index_writer::Writer;
use super::message::Message;
use super::read::Listing;
use super::row::{BLOCK, Row};
use super::sender::{next, unexpected};
use super::side::Side;

/// Rows under one digest.
const RANGE: usize = 512;

/// Names of ranges that differ, in bytes: millions of files.
const DIFFER_BYTES: usize = 8 << 20;

/// Blocks of one row's chunk list that are held: a file of 16 GiB.
const BLOCKS: usize = 1024;

/// Makes the index what the standby has. What is the same keeps what is known of it here.
pub(super) fn reconcile(
    side: &Side,
    writer: &mut Writer<'_>,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
) -> io::Result<()> {
    let base = side.index.reader()?;
    Message::Ranges.put(outgoing)?;
    outgoing.flush()?;
    let mut after: Option<Vec<u8>> = None;
    let (mut differ, mut bytes) = (Vec::new(), 0);
    loop {
        match next(incoming)? {
            Message::Range { last, digest: theirs } => {
                if digest(&base, after.as_deref(), last)? != theirs {
                    bytes += last.len();
                    if bytes > DIFFER_BYTES {
                        return Err(io::Error::other("the standby names more ranges than are plausible"));
                    }
                    differ.push((after.clone(), last.to_vec()));
                }
                after = Some(last.to_vec());
            }
            Message::RangesEnd => break,
            _ => return Err(unexpected()),
        }
    }
    for (after, last) in differ {
        Message::Fetch { after: after.as_deref().unwrap_or_default(), last: &last }.put(outgoing)?;
        outgoing.flush()?;
        adopt(&base, after.as_deref(), &last, writer, incoming)?;
    }
    Ok(())
}

/// Takes the rows of one range as they come.
fn adopt(
    base: &Reader,
    after: Option<&[u8]>,
    last: &[u8],
    writer: &mut Writer<'_>,
    incoming: &mut Incoming,
) -> io::Result<()> {
    let mut ours = rows_between(base, after, last)?.peekable();
    // The blocks of a row come before it: they wait here. A row of more chunks than this is read anew instead.
    let (mut blocks, mut too_long) = (Vec::<Vec<Chunk>>::new(), false);
    loop {
        match next(incoming)? {
            Message::Block { .. } if blocks.len() == BLOCKS => too_long = true,
            Message::Block { chunks } => blocks.push(chunks),
            Message::Row { key, entry } => {
                let mut same = None;
                while let Some((at, row)) = next_if(&mut ours, |at| at <= key)? {
                    if at == key && row.entry == entry {
                        same = Some(row);
                    } else {
                        writer.remove(&at)?;
                    }
                }
                if too_long && same.is_none() {
                    put_row(writer, key, &of_unknown_content(entry), &[])?;
                } else if same.is_none() {
                    put_row(writer, key, &entry, &blocks)?;
                }
                blocks.clear();
                too_long = false;
            }
            Message::RowsEnd => break,
            _ => return Err(unexpected()),
        }
    }
    while let Some((at, _)) = next_if(&mut ours, |_| true)? {
        writer.remove(&at)?;
    }
    Ok(())
}

/// The name is there, but no file has this content: it is sent anew if it is here too, and deleted if it is not.
fn of_unknown_content(mut entry: Entry) -> Entry {
    if let Kind::File { content, .. } = &mut entry.kind {
        *content = [0xff; 32];
    }
    entry
}

fn next_if<I: Iterator<Item = io::Result<(Vec<u8>, Row)>>>(
    rows: &mut std::iter::Peekable<I>,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<(Vec<u8>, Row)>> {
    rows.next_if(|row| row.as_ref().map_or(true, |(key, _)| wanted(key))).transpose()
}

fn put_row(writer: &mut Writer<'_>, key: &[u8], entry: &Entry, blocks: &[Vec<Chunk>]) -> io::Result<()> {
    let mut listing = Listing::default();
    for chunk in blocks.iter().flatten() {
        listing.add(*chunk, |n, at, chunks| writer.put_block(key, n, at, chunks))?;
    }
    let (_, short) = listing.finish(|n, at, chunks| writer.put_block(key, n, at, chunks))?;
    writer.put(key, entry, Local::default(), short.as_deref())
}
/// What a row adds to the digest of its range: what both boxes see of it.
fn digest_row(hasher: &mut blake3::Hasher, key: &[u8], entry: &Entry) {
    let mut bytes = Vec::with_capacity(128);
    put_bytes(&mut bytes, key);
    entry.encode(&mut bytes);
    hasher.update(&bytes);
}

/// Digest of the rows after `after` up to and including `last` (empty: to the end).
///
/// # Errors
///
/// What the index says.
fn digest(base: &Reader, after: Option<&[u8]>, last: &[u8]) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    for row in rows_between(base, after, last)? {
        let (key, row) = row?;
        digest_row(&mut hasher, &key, &row.entry);
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The rows after `after` up to and including `last` (empty: to the end).
///
/// # Errors
///
/// What the index says.
fn rows_between<'a>(
    base: &Reader,
    after: Option<&'a [u8]>,
    last: &'a [u8],
) -> io::Result<impl Iterator<Item = io::Result<(Vec<u8>, Row)>> + use<'a>> {
    let rows = base.rows(after.unwrap_or_default())?;
    let skipped = rows.skip_while(move |row| row.as_ref().is_ok_and(|(key, _)| Some(key.as_slice()) == after));
    Ok(skipped.take_while(move |row| row.as_ref().map_or(true, |(key, _)| last.is_empty() || key.as_slice() <= last)))
}

/// Says the digests of all rows.
///
/// # Errors
///
/// What the index or the link says.
pub(super) fn tell_ranges(base: &Reader, outgoing: &mut Outgoing) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let (mut rows, mut last) = (0, Vec::new());
    for row in base.rows(b"")? {
        let (key, row) = row?;
        if rows == RANGE {
            Message::Range { last: &last, digest: *hasher.finalize().as_bytes() }.put(outgoing)?;
            hasher.reset();
            rows = 0;
        }
        digest_row(&mut hasher, &key, &row.entry);
        rows += 1;
        last = key;
    }
    Message::Range { last: b"", digest: *hasher.finalize().as_bytes() }.put(outgoing)?;
    Message::RangesEnd.put(outgoing)?;
    outgoing.flush()
}

/// Sends the rows after `after` up to and including `last`.
///
/// # Errors
///
/// What the index or the link says.
pub(super) fn tell_rows(base: &Reader, after: &[u8], last: &[u8], outgoing: &mut Outgoing) -> io::Result<()> {
    let after = if after.is_empty() { None } else { Some(after) };
    for row in rows_between(base, after, last)? {
        let (key, row) = row?;
        let mut chunks = Vec::new();
        each_chunk(base, &key, &row, |_, chunk| {
            chunks.push(chunk);
            if chunks.len() == BLOCK {
                Message::Block { chunks: std::mem::take(&mut chunks) }.put(outgoing)?;
            }
            Ok(())
        })?;
        if !chunks.is_empty() {
            Message::Block { chunks }.put(outgoing)?;
        }
        Message::Row { key: &key, entry: row.entry }.put(outgoing)?;
    }
    Message::RowsEnd.put(outgoing)?;
    outgoing.flush()
}
