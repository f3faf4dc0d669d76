//! The process that answers: opens its sockets, gives up root, and serves until the daemon closes the line.

use std::cell::RefCell;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use nix::unistd::{Gid, Uid};
use smol::channel::{Sender, bounded, unbounded};
use smol::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use smol::lock::Semaphore;
use smol::{Async, LocalExecutor, Timer, future};

use super::control::{LINE, Said, Settings, Told};
use super::exposition::Dialect;
use super::http::{self, Asked, HEAD_LIMIT, Page, Wrong};
use super::{metrics, syslog};
use crate::confine::{Bounds, Confinement, Group, confine};
use crate::console::status::Status;

/// Connections at the same time; more wait in the kernel's queue, which is as long.
pub const CONNECTIONS: usize = 8;
/// A request is complete, and an answer is taken, within this time.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The daemon has answered within this time, or it hangs.
const DAEMON_PATIENCE: Duration = Duration::from_secs(4);
/// The user and group that own nothing.
const NOBODY: u32 = 65_534;
/// Descriptors in all.
const DESCRIPTORS: u64 = 64;

const INDEX: &str = "twobox: /metrics for a scraper, /status for a program, both read-only\n";

/// Runs the process on standard input, which is the daemon's line. Returns its exit status.
#[must_use]
pub fn main() -> u8 {
    match run() {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "twobox observe-child: {error}"); // nobody may be listening
            1
        }
    }
}

fn run() -> io::Result<()> {
    crate::confine::harden()?;
    let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let settings = first_line(&line)?;
    let listeners = settings.listen.iter().map(|address| open(*address)).collect::<io::Result<Vec<_>>>()?;
    let syslog = settings.syslog.map(|(to, from)| speak(to, from)).transpose()?;
    let (confinement, still_root) = give_up_root()?;
    let executor = Rc::new(LocalExecutor::new());
    smol::block_on(executor.run(async {
        let desk = Rc::new(Desk::default());
        let by = match still_root {
            None => confinement.to_string(),
            Some(error) => format!("{confinement}; still as root ({error})"),
        };
        let _ = desk.to_daemon.0.try_send(Said::Confined { by }); // unbounded, never closed
        let permits = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
        for listener in listeners {
            let listener = Async::new(listener)?;
            executor.spawn(accept(executor.clone(), listener, desk.clone(), permits.clone())).detach();
        }
        let line = Async::new(line)?;
        let speaker = syslog.map(|socket| Speaker::new(socket, &settings));
        future::or(desk.hear(&line, speaker), desk.say(&line)).await
    }))
}

/// The settings, byte by byte: what follows them belongs to whoever reads on.
fn first_line(line: &UnixStream) -> io::Result<Settings> {
    line.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    io::BufReader::with_capacity(1, line).read_until(b'\n', &mut bytes)?;
    line.set_read_timeout(None)?;
    match serde_json::from_slice(&bytes)? {
        Told::Start { settings } => Ok(settings),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the first line does not say what to do")),
    }
}

/// An address that may not be there yet: the box's own comes with its interface.
fn bound(kind: SockType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    let named = |error: nix::Error| io::Error::other(format!("{address}: {error}"));
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address)).map_err(named)?;
    Ok(socket)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(SockType::Stream, address)?;
    listen(&socket, Backlog::new(i32::try_from(CONNECTIONS).unwrap_or(8))?)?;
    Ok(socket.into())
}

/// Messages come from the box's own address: a service address is behind the gate, and moves.
fn speak(to: SocketAddr, from: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    Ok((bound(SockType::Datagram, from)?.into(), to))
}

/// From here on the process owns nothing and may open little. Where a service manager keeps back what it takes to become another
/// user, that alone is left out, and told.
fn give_up_root() -> io::Result<(Confinement, Option<io::Error>)> {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let still_root = become_nobody().err();
    // No file can be opened, no program started: sockets of the internet families, and what is open already.
    let confinement = confine(&Bounds { calls: &[Group::Base, Group::Internet], ..Bounds::default() })?;
    Ok((confinement, still_root))
}

fn become_nobody() -> io::Result<()> {
    if Uid::effective().is_root() {
        nix::unistd::setgroups(&[])?;
        let (group, user) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        nix::unistd::setresgid(group, group, group)?;
        nix::unistd::setresuid(user, user, user)?;
    }
    Ok(())
}

/// What the connections share: the way to ask the daemon.
struct Desk {
    to_daemon: (Sender<Said>, smol::channel::Receiver<Said>),
    waiting: RefCell<Vec<Sender<Option<Rc<Status>>>>>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { to_daemon: unbounded(), waiting: RefCell::default() }
    }
}

impl Desk {
    /// How things stand now. Those who ask at the same time get the same answer.
    async fn status(&self) -> Option<Rc<Status>> {
        let (sender, answer) = bounded(1);
        self.waiting.borrow_mut().push(sender);
        if self.waiting.borrow().len() == 1 {
            let _ = self.to_daemon.0.try_send(Said::Ask); // unbounded, never closed
        }
        within(DAEMON_PATIENCE, async { answer.recv().await.ok().flatten() }).await.flatten()
    }

    async fn say(&self, line: &Async<UnixStream>) -> io::Result<()> {
        while let Ok(said) = self.to_daemon.1.recv().await {
            let mut bytes = serde_json::to_vec(&said)?;
            bytes.push(b'\n');
            let mut line = line;
            line.write_all(&bytes).await?;
        }
        Ok(())
    }

    /// Until the daemon closes the line.
    async fn hear(&self, line: &Async<UnixStream>, mut speaker: Option<Speaker>) -> io::Result<()> {
        let mut lines = BufReader::with_capacity(4096, line);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let length = (&mut lines).take(LINE as u64).read_until(b'\n', &mut bytes).await?;
            if length == 0 {
                return Ok(());
            }
            match serde_json::from_slice(&bytes)? {
                Told::Status { status } => {
                    let status = status.map(|status| Rc::new(*status));
                    for waiting in self.waiting.borrow_mut().drain(..) {
                        let _ = waiting.try_send(status.clone()); // gave up
                    }
                }
                Told::Event { event, unix_us, boot_ms } => {
                    if let Some(speaker) = &mut speaker {
                        speaker.speak(&event, syslog::When { unix_us, boot_ms });
                    }
                }
                Told::Start { .. } => {}
            }
        }
    }
}

/// The way to the syslog server.
struct Speaker {
    socket: UdpSocket,
    to: SocketAddr,
    sender: syslog::Sender,
    sequence: u32,
}

impl Speaker {
    fn new((socket, to): (UdpSocket, SocketAddr), settings: &Settings) -> Self {
        let host =
            nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned());
        let ip = socket.local_addr().map_or_else(|_| IpAddr::from([0, 0, 0, 0]), |address| address.ip()).to_string();
        let sender = syslog::Sender { host, pair: settings.pair.clone(), node: settings.node.clone(), ip };
        Self { socket, to, sender, sequence: 0 }
    }

    /// Nobody answers a datagram: what cannot be sent is lost, and the gap in the numbers shows it.
    fn speak(&mut self, event: &super::control::Event, when: syslog::When) {
        self.sequence = self.sequence.wrapping_add(1);
        let _ = self.socket.send_to(&syslog::datagram(&self.sender, self.sequence, when, event), self.to);
    }
}

async fn accept(
    executor: Rc<LocalExecutor<'static>>,
    listener: Async<TcpListener>,
    desk: Rc<Desk>,
    permits: std::sync::Arc<Semaphore>,
) {
    loop {
        let permit = permits.acquire_arc().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = desk.clone();
                executor
                    .spawn(async move {
                        // Whatever goes wrong with one client is that client's matter.
                        let _ = within(PATIENCE * 3, serve(stream, &desk)).await;
                        drop(permit);
                    })
                    .detach();
            }
            // Out of descriptors or memory: accept(2) would fail again at once.
            Err(_) => drop(Timer::after(Duration::from_millis(200)).await),
        }
    }
}

/// One request, one answer.
async fn serve(mut stream: Async<TcpStream>, desk: &Desk) -> io::Result<()> {
    let answer = match within(PATIENCE, request(&mut stream)).await {
        Some(Ok(Ok(asked))) => answer(asked, desk).await,
        Some(Ok(Err(wrong))) => wrong.answer(),
        Some(Err(error)) => return Err(error),
        None => Wrong::Timeout.answer(),
    };
    let Some(sent) = within(PATIENCE, stream.write_all(&answer)).await else { return Ok(()) };
    sent?;
    stream.get_ref().shutdown(std::net::Shutdown::Write)?;
    // What is still unread would turn the close into a reset, and the answer would be lost with it (RFC 9112, 9.6).
    let rest = async {
        let mut buffer = [0; 1024];
        for _ in 0..64 {
            if stream.read(&mut buffer).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    within(Duration::from_secs(1), rest).await.unwrap_or(Ok(()))
}

async fn request(stream: &mut Async<TcpStream>) -> io::Result<Result<Asked, Wrong>> {
    let mut head = [0; HEAD_LIMIT];
    let mut length = 0;
    loop {
        match http::read(&head[..length]) {
            Ok(Some(asked)) => return Ok(Ok(asked)),
            Ok(None) => {}
            Err(wrong) => return Ok(Err(wrong)),
        }
        let more = stream.read(&mut head[length..]).await?;
        if more == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += more;
    }
}

async fn answer(asked: Asked, desk: &Desk) -> Vec<u8> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    if asked.page == Page::Index {
        return http::answer("200 OK", PLAIN, INDEX, asked.head_only);
    }
    let Some(status) = desk.status().await else {
        return http::answer("503 Service Unavailable", PLAIN, "the daemon does not answer\n", asked.head_only);
    };
    match asked.page {
        Page::Metrics(dialect) => page(dialect, &status, asked.head_only),
        Page::Status | Page::Index => match serde_json::to_string(&*status) {
            Ok(json) => http::answer("200 OK", "application/json", &(json + "\n"), asked.head_only),
            Err(_) => http::answer("500 Internal Server Error", PLAIN, "no JSON\n", asked.head_only),
        },
    }
}

fn page(dialect: Dialect, status: &Status, head_only: bool) -> Vec<u8> {
    http::answer("200 OK", dialect.content_type(), &metrics::text(status, dialect), head_only)
}

/// The result of `work`, or `None` when it takes longer than `limit`.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Timer::after(limit).await;
        None
    };
    future::or(async { Some(work.await) }, late).await
}
