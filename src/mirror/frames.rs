//! The two threads of a connection: batches of the stream become encrypted frames, and frames batches.
//!
//! Content is most of what passes here, and every copy of it costs about as much as to encrypt it. So a frame's header is
//! written into the batch itself, in front of the frame's bytes, over bytes that have gone already; and a frame is
//! decrypted at its place in the batch.
#![allow(clippy::disallowed_methods)] // as in `channel`

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::thread;

use snow::StatelessTransportState;

use super::channel::{Counters, QUIET, SharedGeneration, refused};
use super::control::Generation;
use super::rate::Bucket;
use crate::clock;

/// Largest Noise message (Noise specification, section 3).
pub(super) const FRAME: usize = 65_535;
/// AES-GCM's tag.
const TAG: usize = 16;
/// The generation in front of every frame's bytes.
pub(super) const HEADER: usize = 16;
/// Bytes of the stream in one frame.
pub(super) const BODY: usize = FRAME - TAG - HEADER;

/// Bytes that are handed between threads at once, and room for a header.
pub(super) const BATCH: usize = HEADER + FRAMES * BODY;
/// Full frames in a batch.
const FRAMES: usize = 4;
/// A frame and its length on the link.
const ON_LINK: usize = 2 + FRAME;

/// What is sent.
pub(super) struct Writing {
    pub(super) stream: TcpStream,
    pub(super) noise: Arc<StatelessTransportState>,
    pub(super) generation: Arc<SharedGeneration>,
    pub(super) counters: Arc<Counters>,
    pub(super) bucket: Option<Bucket>,
}

impl Writing {
    /// Sends batches, each with room for a header at its begin, until nobody makes any more.
    pub(super) fn run(&self, batches: &Receiver<Vec<u8>>, used: &SyncSender<Vec<u8>>) -> io::Result<()> {
        let mut bucket = self.bucket;
        let mut nonce = 0;
        let mut out = vec![0; ON_LINK * (FRAMES + 1)];
        loop {
            let mut batch = match batches.recv_timeout(QUIET) {
                Ok(batch) => batch,
                // The sender has said nothing yet: what it serves is not known, and a frame must name it.
                Err(RecvTimeoutError::Timeout) if self.generation.get() == Generation::default() => continue,
                Err(RecvTimeoutError::Timeout) => vec![0; HEADER], // an empty frame: we are still here
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let (mut at, mut filled) = (0, 0);
            loop {
                let end = (at + HEADER + BODY).min(batch.len());
                let generation = self.generation.get();
                batch[at..at + 8].copy_from_slice(&generation.term.to_le_bytes());
                batch[at + 8..at + HEADER].copy_from_slice(&generation.boot.to_le_bytes());
                let n = self.noise.write_message(nonce, &batch[at..end], &mut out[filled + 2..]).map_err(refused)?;
                nonce += 1;
                out[filled..filled + 2].copy_from_slice(&u16::try_from(n).map_err(refused)?.to_be_bytes());
                filled += 2 + n;
                let is_last = end == batch.len();
                // With a limit frame by frame: several at once may take longer than the other end waits for one.
                if is_last || bucket.is_some() || out.len() - filled < ON_LINK {
                    if let Some(bucket) = &mut bucket {
                        thread::sleep(bucket.take(filled as u64, clock::now()));
                    }
                    self.write(&out[..filled])?;
                    self.counters.sent.fetch_add(filled as u64, Ordering::Relaxed);
                    filled = 0;
                }
                if is_last {
                    break;
                }
                at = end - HEADER; // these bytes are in the frame that is done
            }
            let _ = used.try_send(batch); // full: one too many, it is freed
        }
    }

    /// Writes all of it. An end that takes nothing for [`super::channel::SILENCE`] is busy as long as it is heard, and gone
    /// when it is not.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let heard = || self.counters.received.load(Ordering::Relaxed);
        let mut stream = &self.stream;
        let mut before = heard();
        while !bytes.is_empty() {
            match stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    let now = heard();
                    if now == before {
                        return Err(e);
                    }
                    before = now;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Bytes of the stream as they have come, behind room for a header.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    end: usize,
}

impl Batch {
    /// Room for as many bytes as are handed on at once, and for the last frame's tag.
    fn new() -> Self {
        Batch { bytes: vec![0; BATCH + TAG], end: HEADER }
    }

    /// To be filled again.
    fn again(self) -> Self {
        if self.bytes.is_empty() { Self::new() } else { Batch { end: HEADER, ..self } }
    }

    /// What of the stream is behind its first `taken` bytes.
    pub(super) fn rest(&self, taken: usize) -> &[u8] {
        self.bytes.get(HEADER + taken..self.end).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.end == HEADER
    }

    /// No further frame has room.
    fn is_full(&self) -> bool {
        self.end + BODY + TAG > self.bytes.len()
    }

    /// Decrypts a frame behind what is there: its header comes to lie over the last bytes, which are put back.
    fn take(&mut self, noise: &StatelessTransportState, nonce: u64, frame: &[u8]) -> io::Result<[u8; HEADER]> {
        let begin = self.end - HEADER;
        let mut kept = [0; HEADER];
        kept.copy_from_slice(&self.bytes[begin..self.end]);
        let n = noise.read_message(nonce, frame, &mut self.bytes[begin..]).map_err(refused)?;
        if n < HEADER {
            return Err(refused("short frame"));
        }
        let mut header = [0; HEADER];
        header.copy_from_slice(&self.bytes[begin..self.end]);
        self.bytes[begin..self.end].copy_from_slice(&kept);
        self.end = begin + n;
        Ok(header)
    }
}

/// Frames as they come from the socket, several at once.
struct Arriving {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Arriving {
    fn new() -> Self {
        Arriving { bytes: vec![0; FRAMES * ON_LINK], begin: 0, end: 0 }
    }

    /// The frame in front, if it is all there: where it is.
    fn frame(&self) -> Option<std::ops::Range<usize>> {
        let there = &self.bytes[self.begin..self.end];
        let len = usize::from(u16::from_be_bytes(*there.first_chunk()?));
        (there.len() >= 2 + len).then_some(self.begin + 2..self.begin + 2 + len)
    }

    /// Reads until a frame is all there.
    fn fill(&mut self, stream: &mut impl Read) -> io::Result<std::ops::Range<usize>> {
        loop {
            if let Some(frame) = self.frame() {
                return Ok(frame);
            }
            if self.bytes.len() - self.begin < ON_LINK {
                self.bytes.copy_within(self.begin..self.end, 0);
                self.end -= self.begin;
                self.begin = 0;
            }
            match stream.read(&mut self.bytes[self.end..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The frame in front has been used.
    fn pass(&mut self, frame: &std::ops::Range<usize>) {
        self.begin = frame.end;
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
    }
}

/// What is received.
pub(super) struct Reading {
    pub(super) stream: TcpStream,
    pub(super) noise: Arc<StatelessTransportState>,
    pub(super) generation: Arc<SharedGeneration>,
    pub(super) counters: Arc<Counters>,
}

impl Reading {
    /// Hands batches on until the link ends.
    pub(super) fn run(&self, batches: &SyncSender<io::Result<Batch>>, again: &Receiver<Batch>) -> io::Result<()> {
        let mut stream = &self.stream;
        let mut arriving = Arriving::new();
        let mut nonce = 0;
        let mut batch = Batch::new();
        loop {
            let frame = arriving.fill(&mut stream)?;
            self.counters.received.fetch_add(2 + frame.len() as u64, Ordering::Relaxed);
            let header = batch.take(&self.noise, nonce, &arriving.bytes[frame.clone()])?;
            arriving.pass(&frame);
            nonce += 1;
            self.check(&header)?;
            // Whole batches while more is there, at once when nothing follows: neither late nor in crumbs.
            if !batch.is_empty() && (batch.is_full() || arriving.end - arriving.begin < 2) {
                if batches.send(Ok(batch)).is_err() {
                    return Ok(());
                }
                batch = match again.try_recv() {
                    Ok(batch) => batch.again(),
                    Err(TryRecvError::Empty) => Batch::new(),
                    Err(TryRecvError::Disconnected) => return Ok(()),
                };
            }
        }
    }

    fn check(&self, header: &[u8; HEADER]) -> io::Result<()> {
        let number = |at: usize| header[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or(0);
        let theirs = Generation { term: number(0), boot: number(8) };
        let ours = self.generation.get();
        if ours == Generation::default() {
            self.generation.set(theirs);
        } else if ours != theirs {
            return Err(refused(format!("a frame of generation {}:{:x}", theirs.term, theirs.boot)));
        }
        Ok(())
    }
}
