//! The secret, authenticated stream between the two mirrors: TCP, Noise `NNpsk0` with a key derived from the pair's,
//! AES-GCM. Two threads a connection move the bytes, so that reading, hashing and the link work at the same time.
//!
//! ```text
//! frame   = length (u16, big-endian) ciphertext
//! plain   = term (u64) boot (u64) bytes of the stream          integers little-endian
//! stream  = record*      record = kind (u8) length (u32) payload
//! ```
//!
//! Every frame carries the generation: a stream goes on only while both ends are of one mind about it.
#![allow(clippy::disallowed_methods)] // one room of the mirror's process that has threads and waits: the link

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, StatelessTransportState};

use super::control::Generation;
use super::frames::{BATCH, BODY, Batch, FRAME, HEADER, Reading, Writing};
use super::rate::Bucket;
use super::stop::Stop;
use crate::clock;
use crate::time::{Duration, Instant};

/// The Noise protocol; ring has no BLAKE2, so SHA-256 is its hash.
const PROTOCOL: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";

/// What the protocol is made of: ring's, but for the Diffie-Hellman, which it gives to nobody for more than one use. Nothing
/// else is offered: `Builder::new` would bring every cipher and hash of two libraries into the program.
struct Primitives;

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        RingResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        if *choice == HashChoice::SHA256 { RingResolver.resolve_hash(&HashChoice::SHA256) } else { None }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        if *choice == CipherChoice::AESGCM { RingResolver.resolve_cipher(&CipherChoice::AESGCM) } else { None }
    }
}

/// Bound to the handshake: another version of the stream does not connect.
const PROLOGUE: &[u8] = b"twobox mirror 1";

/// Batches that may wait in one direction: what is in memory is bounded by it.
const WAITING: usize = 3;

/// Longest record. The longest are a chunk and an entry with all its attributes.
pub const RECORD: usize = 1 << 20;

/// A peer that says nothing for so long is gone. Both ends send something every [`QUIET`].
pub const SILENCE: Duration = Duration::from_secs(20);
/// Records may be longer in coming: the other end looks at a large tree, copies a large file or waits for its disk. That it
/// lives is told by its frames, and by nothing else ([`SILENCE`]).
pub const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// After so long without a record an empty one goes out.
pub const QUIET: Duration = Duration::from_secs(5);
/// A handshake is over by then.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The key of the link, from the pair's key.
#[must_use]
pub fn link_key(pair_key: &[u8]) -> [u8; 32] {
    blake3::derive_key("twobox 2026 mirror link noise psk", pair_key)
}

pub(super) fn refused(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("mirror link: {what}"))
}

/// The connection is what failed, and no tree: it was cut, or nothing came for too long.
#[must_use]
pub fn is_broken(e: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable, NotConnected,
        TimedOut, UnexpectedEof, WouldBlock,
    };
    matches!(
        e.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | NotConnected
            | TimedOut
            | UnexpectedEof
            | WouldBlock
    )
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    noise: Arc<StatelessTransportState>,
    stop: Stop,
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let len = u16::try_from(frame.len()).map_err(refused)?;
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes)
}

/// Reads until a moment: whoever sends a byte now and then does not put it off.
struct Until<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.until(clock::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

fn read_frame<'a>(stream: &mut impl Read, buffer: &'a mut [u8; FRAME]) -> io::Result<&'a [u8]> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let frame = &mut buffer[..usize::from(u16::from_be_bytes(len))];
    stream.read_exact(frame)?;
    Ok(frame)
}

impl Channel {
    /// Connects and shakes hands.
    ///
    /// # Errors
    ///
    /// What the network says; `PermissionDenied` for a peer that has another key.
    pub fn connect(address: SocketAddr, key: &[u8; 32], timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        Self::shake(stream, key, true)
    }

    /// Shakes hands on a connection that came in.
    ///
    /// # Errors
    ///
    /// As [`Channel::connect`].
    pub fn accept(stream: TcpStream, key: &[u8; 32]) -> io::Result<Self> {
        Self::shake(stream, key, false)
    }

    fn shake(stream: TcpStream, key: &[u8; 32], initiator: bool) -> io::Result<Self> {
        Self::try_shake(stream, key, initiator).map_err(|e| match e.kind() {
            // Whoever does not understand the first word hangs up.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                refused("the other end hung up in the handshake: it ended, or has another key or another version")
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => refused("the other end is silent in the handshake"),
            _ => e,
        })
    }

    fn try_shake(mut stream: TcpStream, key: &[u8; 32], initiator: bool) -> io::Result<Self> {
        let until = clock::now() + HANDSHAKE;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(HANDSHAKE))?;
        let builder = Builder::with_resolver(PROTOCOL.parse().map_err(refused)?, Box::new(Primitives))
            .psk(0, key)
            .and_then(|b| b.prologue(PROLOGUE))
            .map_err(refused)?;
        let mut noise =
            if initiator { builder.build_initiator() } else { builder.build_responder() }.map_err(refused)?;
        let (mut sent, mut received, mut nothing) = ([0; 128], [0; FRAME], [0; 128]);
        while !noise.is_handshake_finished() {
            if noise.is_my_turn() {
                let n = noise.write_message(&[], &mut sent).map_err(refused)?;
                write_frame(&mut stream, &sent[..n])?;
            } else {
                let frame = read_frame(&mut Until { stream: &stream, until }, &mut received)?;
                let read = noise.read_message(frame, &mut nothing);
                read.map_err(|e| refused(format!("the other end has another key or another version ({e})")))?;
            }
        }
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let noise = Arc::new(noise.into_stateless_transport_mode().map_err(refused)?);
        Ok(Channel { stream, noise, stop: Stop::default() })
    }

    /// A way to end the connection from another thread.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be shared.
    pub fn breaker(&self) -> io::Result<Breaker> {
        Ok(Breaker(self.stream.try_clone()?, self.stop.clone()))
    }

    /// Who is at the other end.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Starts the two threads. The generation goes out with every frame and is demanded of every frame that comes in;
    /// `None` demands nothing of the first frame and takes it for the generation of the rest.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be shared or no thread started.
    pub fn start(self, generation: Option<Generation>, limit: Option<u64>) -> io::Result<(Outgoing, Incoming)> {
        let Channel { stream, noise, stop } = self;
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(SharedGeneration::default());
        if let Some(generation) = generation {
            shared.set(generation);
        }
        let out = stream.try_clone()?;
        let (to_link, from_writer) = sync_channel::<Vec<u8>>(WAITING);
        let (used, recycled) = sync_channel::<Vec<u8>>(WAITING + 1);
        let writer = Writing {
            stream: out,
            noise: Arc::clone(&noise),
            generation: Arc::clone(&shared),
            counters: Arc::clone(&counters),
            bucket: limit.map(|rate| Bucket::new(rate, clock::now())),
        };
        thread::Builder::new().name("mirror-out".into()).stack_size(128 * 1024).spawn(move || {
            let error = writer.run(&from_writer, &used).err();
            let _ = writer.stream.shutdown(if error.is_some() { Shutdown::Both } else { Shutdown::Write });
        })?;
        let (to_reader, from_link) = sync_channel::<io::Result<Batch>>(WAITING);
        let (back, again) = sync_channel::<Batch>(WAITING + 1);
        let input = stream.try_clone()?;
        let reader = Reading { stream: input, noise, generation: Arc::clone(&shared), counters: Arc::clone(&counters) };
        thread::Builder::new().name("mirror-in".into()).stack_size(256 * 1024).spawn(move || {
            if let Err(e) = reader.run(&to_reader, &again) {
                let _ = to_reader.send(Err(e));
            }
        })?;
        let outgoing = Outgoing { batch: blank(Vec::new()), to_link, recycled, counters: Arc::clone(&counters) };
        let incoming = Incoming {
            stream,
            from_link,
            back,
            batch: Batch::default(),
            at: 0,
            across: Vec::new(),
            is_spent: false,
            generation: shared,
            counters,
            stop,
        };
        Ok((outgoing, incoming))
    }
}

/// Ends a connection from another thread: whoever waits on it gets an error.
#[derive(Debug)]
pub struct Breaker(TcpStream, Stop);

impl Breaker {
    /// Now.
    pub fn break_off(&self) {
        self.1.set();
        let _ = self.0.shutdown(Shutdown::Both); // it may be over already
    }
}

/// The generation both threads hold each frame against; not known until the first frame on the receiver's side.
#[derive(Debug, Default)]
pub(super) struct SharedGeneration {
    term: AtomicU64,
    boot: AtomicU64,
}

impl SharedGeneration {
    pub(super) fn set(&self, generation: Generation) {
        self.boot.store(generation.boot, Ordering::SeqCst);
        self.term.store(generation.term, Ordering::SeqCst);
    }

    pub(super) fn get(&self) -> Generation {
        Generation { term: self.term.load(Ordering::SeqCst), boot: self.boot.load(Ordering::SeqCst) }
    }
}

/// Bytes on the link, both ways, frames' lengths and tags included.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sent.
    pub sent: AtomicU64,
    /// Received.
    pub received: AtomicU64,
}

/// A batch with nothing in it but the room for the first frame's header.
fn blank(mut used: Vec<u8>) -> Vec<u8> {
    used.clear();
    used.reserve_exact(BATCH);
    used.extend_from_slice(&[0; HEADER]);
    used
}

/// The end that records are put into.
#[derive(Debug)]
pub struct Outgoing {
    /// Begins with room for a header.
    batch: Vec<u8>,
    to_link: SyncSender<Vec<u8>>,
    recycled: Receiver<Vec<u8>>,
    counters: Arc<Counters>,
}

impl Outgoing {
    /// Puts a record; `write` appends its payload. It goes out with the batch, see [`Outgoing::flush`].
    ///
    /// # Errors
    ///
    /// `BrokenPipe` when the connection is gone.
    pub fn put(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let at = self.batch.len();
        self.batch.extend_from_slice(&[kind, 0, 0, 0, 0]);
        write(&mut self.batch);
        let len = self.batch.len() - at - 5;
        if len > RECORD {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "mirror link: a record is too long"));
        }
        self.batch[at + 1..at + 5].copy_from_slice(&(len as u32).to_le_bytes());
        if self.batch.len() >= BATCH - BODY { self.flush() } else { Ok(()) }
    }

    /// Sends what has been put. Waits while the link is behind.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` when the connection is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.batch.len() == HEADER {
            return Ok(());
        }
        let next = blank(self.recycled.try_recv().unwrap_or_default());
        let batch = std::mem::replace(&mut self.batch, next);
        self.to_link.send(batch).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// What went over the link so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// The end that records are taken from.
#[derive(Debug)]
pub struct Incoming {
    stream: TcpStream,
    from_link: Receiver<io::Result<Batch>>,
    back: SyncSender<Batch>,
    batch: Batch,
    /// What of the batch has been taken.
    at: usize,
    /// A record that begins in one batch and ends in another is put together here.
    across: Vec<u8>,
    /// It has been handed out.
    is_spent: bool,
    generation: Arc<SharedGeneration>,
    counters: Arc<Counters>,
    stop: Stop,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both); // wakes both threads
    }
}

/// Length of the record in front, its head included, once the head is there.
fn record(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = bytes.get(1..5) else { return Ok(None) };
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if len > RECORD {
        return Err(refused("a record is too long"));
    }
    Ok(Some(5 + len))
}

impl Incoming {
    /// The next record. Waits for it; `WouldBlock` after `patience`.
    ///
    /// # Errors
    ///
    /// What the link says; `InvalidData` for a record that is too long.
    pub fn next(&mut self, patience: Duration) -> io::Result<(u8, &[u8])> {
        if std::mem::take(&mut self.is_spent) {
            self.across.clear();
        }
        loop {
            let rest = self.batch.rest(self.at);
            if self.across.is_empty() {
                if let Some(len) = record(rest)?.filter(|len| *len <= rest.len()) {
                    let at = self.at;
                    self.at += len;
                    let record = &self.batch.rest(at)[..len];
                    return Ok((record[0], &record[5..]));
                }
                self.across.extend_from_slice(rest);
                self.at += rest.len();
            } else {
                // First the head, which tells how much is to come.
                let whole = record(&self.across)?.unwrap_or(5);
                let taken = rest.len().min(whole - self.across.len());
                self.across.extend_from_slice(&rest[..taken]);
                self.at += taken;
                if record(&self.across)? == Some(self.across.len()) {
                    self.is_spent = true;
                    return Ok((self.across[0], &self.across[5..]));
                }
                if !self.batch.rest(self.at).is_empty() {
                    continue;
                }
            }
            self.refill(patience)?;
        }
    }

    /// Waits for the next batch, when all of this one has been taken.
    fn refill(&mut self, patience: Duration) -> io::Result<()> {
        let batch = match self.from_link.recv_timeout(patience) {
            Ok(batch) => batch?,
            Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let used = std::mem::replace(&mut self.batch, batch);
        let _ = self.back.try_send(used); // full: one too many, it is freed
        self.at = 0;
        Ok(())
    }

    /// Says when the connection has been broken off.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The generation that the frames carry; zero until the first has come.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation.get()
    }

    /// What went over the link so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
