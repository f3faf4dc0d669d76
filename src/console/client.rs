//! The command line's side of the control socket: blocking, with time-outs and errors that say what to do.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use super::control::{REPLY_LIMIT, Reply, Request, to_line};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/twobox.sock";

/// The environment variable that tells otherwise.
pub const SOCKET_VARIABLE: &str = "TWOBOX_SOCKET";

/// Longest path of a socket, without the zero byte after it (unix(7)).
pub const PATH_LIMIT: usize = 107;

/// The daemon sends an empty line every two seconds while it works; this much silence means that it hangs.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// The socket to use: `--socket`, else the environment, else the default. A variable that is empty says nothing.
#[must_use]
pub fn socket_path(option: Option<&Path>) -> PathBuf {
    let said = || std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
    option.map(Path::to_path_buf).unwrap_or_else(|| said().map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from))
}

/// Why no answer came.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens on the socket.
    NotRunning(PathBuf),
    /// The socket may not be opened.
    Forbidden(PathBuf),
    /// A path that no socket can have.
    NoSocket(PathBuf),
    /// The daemon took the request and fell silent.
    Silent,
    /// The daemon closed the connection before the last reply.
    Died,
    /// The daemon said something that is no reply: another version, or no daemon of ours.
    Garbled(String),
    /// Any other error of the socket.
    Io(io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::NotRunning(path) => write!(
                out,
                "no daemon answers on {}: start it with `twobox run`, or name its socket with --socket",
                path.display()
            ),
            Failure::Forbidden(path) => write!(out, "{} may not be opened: run this as root", path.display()),
            Failure::NoSocket(path) => {
                write!(out, "{} is no path of a socket: at most {PATH_LIMIT} bytes", path.display())
            }
            Failure::Silent => write!(
                out,
                "the daemon has been silent for {} s: look at its log; a hung daemon is reset by the watchdog",
                SILENCE_LIMIT.as_secs()
            ),
            Failure::Died => write!(out, "the daemon ended before it had answered: ask `twobox status` again"),
            Failure::Garbled(text) => {
                write!(out, "the answer is not understood ({text}): compare `twobox version` with the daemon's")
            }
            Failure::Io(error) => write!(out, "the control socket failed: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Connects; `WouldBlock` when the daemon takes nobody for so long: the queue of one that hangs fills with those who gave up, and
/// then connect(2) waits for ever.
///
/// # Errors
///
/// What socket(2) and connect(2) say; `InvalidInput` for a path that is too long.
pub(super) fn connect_within(limit: Duration, path: &Path) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path).map_err(|_| io::ErrorKind::InvalidInput)?;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(socket.into())
}

/// A request on its way.
#[derive(Debug)]
pub struct Conversation {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were searched for a newline and hold none.
    searched: usize,
}

impl Conversation {
    /// Connects and sends `request`.
    ///
    /// # Errors
    ///
    /// [`Failure`], in words for the operator.
    pub fn start(socket: &Path, request: &Request) -> Result<Self, Failure> {
        let stream = connect_within(SILENCE_LIMIT, socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::NotRunning(socket.to_path_buf()),
            io::ErrorKind::PermissionDenied => Failure::Forbidden(socket.to_path_buf()),
            io::ErrorKind::InvalidInput => Failure::NoSocket(socket.to_path_buf()),
            io::ErrorKind::WouldBlock => Failure::Silent,
            _ => Failure::Io(error),
        })?;
        stream.set_read_timeout(Some(SILENCE_LIMIT)).map_err(Failure::Io)?;
        stream.set_write_timeout(Some(SILENCE_LIMIT)).map_err(Failure::Io)?;
        let line = to_line(request).map_err(|error| Failure::Garbled(error.to_string()))?;
        (&stream).write_all(&line).map_err(Failure::Io)?;
        Ok(Self { stream, buffer: Vec::new(), searched: 0 })
    }

    /// The next reply; waits for it.
    ///
    /// # Errors
    ///
    /// [`Failure`]; after one the conversation is over.
    pub fn next_reply(&mut self) -> Result<Reply, Failure> {
        loop {
            if let Some(reply) = self.buffered_reply()? {
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    /// A reply that has come already, without waiting. For those who poll the descriptor with others.
    ///
    /// # Errors
    ///
    /// [`Failure::Garbled`].
    pub fn buffered_reply(&mut self) -> Result<Option<Reply>, Failure> {
        while let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let end = self.searched + at;
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            self.searched = 0;
            // An empty line only says that the daemon lives.
            if line.len() > 1 {
                let reply = serde_json::from_slice(&line).map_err(|error| Failure::Garbled(error.to_string()))?;
                return Ok(Some(reply));
            }
        }
        self.searched = self.buffer.len();
        if self.buffer.len() > REPLY_LIMIT {
            return Err(Failure::Garbled(format!("a line of more than {REPLY_LIMIT} bytes")));
        }
        Ok(None)
    }

    /// Reads once from the socket; waits at most for the limit of silence.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn fill(&mut self) -> Result<(), Failure> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Failure::Died),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(Failure::Silent)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Failure::Died),
            Err(error) => Err(Failure::Io(error)),
        }
    }
}

impl std::os::fd::AsFd for Conversation {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Each is asked by a script every minute, gives up, and stays in the queue of a daemon that hangs.
    #[test]
    fn a_daemon_whose_queue_is_full_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("twobox-full-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let _hangs = UnixListener::bind(&path).unwrap();
        let limit = Duration::from_secs(1);
        let (told, ended) = std::sync::mpsc::channel();
        let asking = path.clone();
        let thread = std::thread::Builder::new();
        thread
            .spawn(move || {
                let mut kept = Vec::new();
                let refused = loop {
                    match connect_within(limit, &asking) {
                        Ok(stream) => kept.push(stream),
                        Err(error) => break error,
                    }
                };
                let _ = told.send(refused.kind());
            })
            .unwrap();
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(io::ErrorKind::WouldBlock), "it waits");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(connect_within(limit, &path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let long = "x".repeat(PATH_LIMIT + 1);
        assert_eq!(connect_within(limit, Path::new(&long)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
