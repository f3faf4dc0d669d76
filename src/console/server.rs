//! The daemon's side of the control socket: smol tasks on the helper thread, never on the cluster loop's.
//!
//! Each connection carries one request. The task turns the line into a [`Call`], hands it to the loop by a channel and
//! copies replies back. A client that does not read, sends rubbish or never finishes its line costs one task and a
//! bounded buffer, and only for a while.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor, Timer, future};

use super::client::connect_within;
use super::control::{Call, REPLY_LIMIT, REQUEST_LIMIT, Reply, Request, to_line, validate};

/// Connections served at the same time: two consoles, two live views, scripts. More wait in the kernel's queue.
pub const CONNECTION_LIMIT: usize = 16;

/// Replies that wait for a slow client before it is dropped.
const REPLY_QUEUE: usize = 64;

/// Whoever listens on the socket takes a connection within this time, or hangs.
const LISTENS: Duration = Duration::from_secs(1);

/// A client writes its whole request within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A client takes each line within this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// An empty line goes out after this much silence, so that a waiting client knows that the daemon lives.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Makes the socket, mode 0600. A socket file that nobody listens on is a leftover and is replaced.
///
/// Call it before any other thread is started: the mode comes from the process-wide umask, which leaves no moment in
/// which another user could connect.
///
/// # Errors
///
/// `AddrInUse` when another daemon answers there, `AlreadyExists` when the path is something other than a socket, and
/// whatever bind(2) says.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "exists and is no socket"));
        }
        // Also one that hangs, whose queue is full, is there.
        if connect_within(LISTENS, path).map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another twobox daemon listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let former = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(former);
    listener
}

/// Accepts connections for ever and sends what they ask to `calls`; ends when the receiver of `calls` is gone.
///
/// Run it on the helper thread's executor: `executor.spawn(serve(executor.clone(), Async::new(listener)?, calls))`.
pub async fn serve(executor: Rc<LocalExecutor<'static>>, listener: Async<UnixListener>, calls: Sender<Call>) {
    let permits = std::sync::Arc::new(smol::lock::Semaphore::new(CONNECTION_LIMIT));
    while !calls.is_closed() {
        let permit = permits.acquire_arc().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let calls = calls.clone();
                executor
                    .spawn(async move {
                        // Whatever goes wrong with one client is that client's matter.
                        if let Err(error) = connection(stream, calls).await {
                            log::debug!("control socket: {error}");
                        }
                        drop(permit);
                    })
                    .detach();
            }
            Err(error) => {
                log::warn!("control socket: accept: {error}");
                // Out of descriptors or memory: accept(2) would fail again at once.
                Timer::after(Duration::from_millis(200)).await;
            }
        }
    }
}

/// One client from its request to the last reply.
async fn connection(mut stream: Async<UnixStream>, calls: Sender<Call>) -> io::Result<()> {
    let request = match within(REQUEST_TIMEOUT, read_request(&mut stream)).await {
        Ok(request) => request,
        Err(error) => {
            let refused = Reply::Refused { reason: error.to_string(), remedy: "see `twobox help`".into() };
            return write_reply(&mut stream, &refused).await;
        }
    };
    let (sender, replies) = bounded(REPLY_QUEUE);
    if calls.send(Call { request, replies: sender }).await.is_err() {
        let reason = "the daemon is shutting down".into();
        let remedy = "wait until it is up again".into();
        return write_reply(&mut stream, &Reply::Refused { reason, remedy }).await;
    }
    relay(&mut stream, &replies).await
}

/// Copies replies to the client until the last one, or until either side has gone.
///
/// A client that only closed its sending side (a pipe into `socat`) still gets its answer; one that is gone is found
/// out by the next write, at the latest by the next empty line.
async fn relay(stream: &mut Async<UnixStream>, replies: &Receiver<Reply>) -> io::Result<()> {
    loop {
        let reply = async { Some(replies.recv().await) };
        let silence = async {
            Timer::after(KEEP_ALIVE).await;
            None
        };
        match future::or(reply, silence).await {
            None => write_all(stream, b"\n").await?,
            Some(Err(_)) => return Ok(()),
            Some(Ok(reply)) => {
                write_reply(stream, &reply).await?;
                if reply.is_last() {
                    return Ok(());
                }
            }
        }
    }
}

/// Reads one request line.
async fn read_request(stream: &mut Async<UnixStream>) -> io::Result<Request> {
    let mut line = Vec::with_capacity(512);
    let mut chunk = [0; 512];
    let end = loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the request ended before its newline"));
        }
        let start = line.len();
        line.extend_from_slice(&chunk[..count]);
        if let Some(at) = line[start..].iter().position(|byte| *byte == b'\n') {
            break start + at;
        }
        if line.len() > REQUEST_LIMIT {
            let text = format!("the request is longer than {REQUEST_LIMIT} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    };
    let request = serde_json::from_slice(&line[..end])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("not a request: {error}")))?;
    validate(&request).map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text))?;
    Ok(request)
}

/// Writes one reply, cut down to an error if it is longer than any client would take.
async fn write_reply(stream: &mut Async<UnixStream>, reply: &Reply) -> io::Result<()> {
    let mut line = to_line(reply)?;
    if line.len() > REPLY_LIMIT {
        let reason = format!("the answer has {} bytes, more than {REPLY_LIMIT}", line.len());
        line = to_line(&Reply::Refused { reason, remedy: "ask for fewer lines".into() })?;
    }
    write_all(stream, &line).await
}

/// Writes bytes, and gives up on a client that takes none.
async fn write_all(stream: &mut Async<UnixStream>, bytes: &[u8]) -> io::Result<()> {
    within(WRITE_TIMEOUT, stream.write_all(bytes)).await
}

/// The result of `work`, or `TimedOut`.
async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let expired = async {
        Timer::after(limit).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "the client was too slow"))
    };
    future::or(work, expired).await
}
