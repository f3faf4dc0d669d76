//! Finding the peer's mirror: a listening socket bound to one interface, a beacon that tells its link-local address, and
//! the search for that beacon. No address needs to be configured; whoever answers must know the key.
#![allow(unsafe_code)] // SIOCGIFINDEX has no wrapper
#![allow(clippy::disallowed_methods)] // threads of their own accept and shake hands, so that nobody waits for a stranger

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{BindToDevice, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, listen, setsockopt, socket};

use super::channel::Channel;
use super::control::Link;
use super::trouble::explain;
use crate::clock;
use crate::time::Duration;

/// A beacon goes out so often.
const BEACON: Duration = Duration::from_millis(500);
/// The sender looks for one so long before it tries the next link.
const SEARCH: Duration = Duration::from_millis(1200);
/// A connection attempt is given up after so long.
const CONNECT: Duration = Duration::from_secs(2);
/// All nodes on the link (RFC 4291, section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What a beacon says: that a mirror of this pair listens here.
fn beacon(key: &[u8; 32]) -> [u8; 32] {
    *blake3::keyed_hash(key, b"twobox mirror beacon").as_bytes()
}

/// The interface's number, asked through a socket that is there: the process may be unable to make another of the sort
/// that C libraries use for it.
fn index_of(socket: &UdpSocket, interface: &str) -> io::Result<u32> {
    let name = interface.as_bytes();
    // SAFETY: all zeroes are a value of this structure of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the kernel reads the name, which ends in zeroes, and writes the number into the structure.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: that is the field that this request fills in (netdevice(7)).
    u32::try_from(unsafe { request.ifr_ifru.ifru_ifindex }).map_err(io::Error::other)
}

/// A socket of this type on one interface.
fn on_interface(kind: SockType, interface: &str, port: u16) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Inet6, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, ReuseAddr, &true)?;
    setsockopt(&fd, Ipv6V6Only, &true)?;
    setsockopt(&fd, BindToDevice, &interface.into())?;
    let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    bind(fd.as_raw_fd(), &SockaddrIn6::from(address))?;
    Ok(fd)
}

/// Listens on a link.
///
/// # Errors
///
/// What the kernel says: `ENODEV` for an interface that is not there.
fn listener(link: &Link, port: u16) -> io::Result<TcpListener> {
    match link {
        Link::Address(address) => TcpListener::bind(address),
        Link::Interface(interface) => {
            let fd = on_interface(SockType::Stream, interface, port)?;
            listen(&fd, Backlog::new(4)?)?;
            Ok(TcpListener::from(fd))
        }
    }
}

/// A listening socket that its owner can close under the thread that waits on it.
#[derive(Debug, Default)]
struct Door(Mutex<Passage>);

#[derive(Debug, Default)]
struct Passage {
    listener: Option<Arc<TcpListener>>,
    is_over: bool,
}

impl Door {
    fn lock(&self) -> std::sync::MutexGuard<'_, Passage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens, unless it is over.
    fn open(&self, link: &Link, port: u16) -> io::Result<Option<Arc<TcpListener>>> {
        let mut passage = self.lock();
        if passage.is_over {
            return Ok(None);
        }
        passage.listener = None; // one that has failed still has the address
        let listener = Arc::new(listener(link, port)?);
        listener.set_nonblocking(true)?;
        passage.listener = Some(Arc::clone(&listener));
        Ok(Some(listener))
    }

    /// Listens no more, now: the thread closes its descriptor a little later, and until then a socket that still listened
    /// would keep the address from the next one.
    fn close(&self) {
        let mut passage = self.lock();
        passage.is_over = true;
        if let Some(listener) = passage.listener.take() {
            // shutdown(2) takes a TCP socket out of the listening state; connections that nobody has accepted are reset.
            let _ = nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        }
    }

    fn is_over(&self) -> bool {
        self.lock().is_over
    }
}

/// Handshakes that go on at once on a link. The peer's takes a moment; whoever takes longer makes room for the next.
const HANDSHAKES: usize = 8;

/// Connections that have come and whose handshake is not over: each has a thread of its own, so that the peer waits for no
/// stranger.
#[derive(Debug, Default)]
struct Shaking(VecDeque<(TcpStream, Weak<()>)>);

impl Shaking {
    /// Forgets those that are over.
    fn forget(&mut self) {
        self.0.retain(|(_, going_on)| going_on.strong_count() > 0);
    }

    /// Shakes hands in a thread, and hands on whoever knows the key.
    fn begin(
        &mut self,
        stream: TcpStream,
        key: [u8; 32],
        each: impl Fn(io::Result<Channel>) + Send + 'static,
    ) -> io::Result<()> {
        self.forget();
        if self.0.len() >= HANDSHAKES
            && let Some((longest, _)) = self.0.pop_front()
        {
            let _ = longest.shutdown(Shutdown::Both); // it may have hung up
        }
        let going_on = Arc::new(());
        self.0.push_back((stream.try_clone()?, Arc::downgrade(&going_on)));
        thread::Builder::new().name("mirror-shake".into()).stack_size(256 * 1024).spawn(move || {
            let channel = stream.set_nonblocking(false).and_then(|()| Channel::accept(stream, &key));
            drop(going_on);
            each(channel);
        })?;
        Ok(())
    }
}

/// Accepts on all links until dropped. When that returns nobody listens any more.
#[derive(Debug)]
pub struct Acceptor {
    doors: Vec<Arc<Door>>,
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.doors.iter().for_each(|door| door.close());
    }
}

impl Acceptor {
    /// Starts. `each` gets every connection whose peer knows the key.
    ///
    /// # Errors
    ///
    /// When no thread can be started. Links that cannot be listened on are tried again.
    pub fn start(
        links: Vec<Link>,
        port: u16,
        key: [u8; 32],
        each: impl Fn(Channel) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut acceptor = Acceptor { doors: Vec::new() };
        for link in links {
            let (door, each) = (Arc::new(Door::default()), each.clone());
            acceptor.doors.push(Arc::clone(&door));
            let mut ready = Some(door.open(&link, port)); // when this returns, a peer can connect
            thread::Builder::new().name("mirror-accept".into()).stack_size(256 * 1024).spawn(move || {
                let mut said = None;
                while !door.is_over() {
                    let opened = ready.take().unwrap_or_else(|| door.open(&link, port));
                    let Err(e) = opened.and_then(|listener| match listener {
                        Some(listener) => serve(&link, &listener, port, &key, &door, &each),
                        None => Ok(()),
                    }) else {
                        continue;
                    };
                    if door.is_over() {
                        return; // closed under the call
                    }
                    // An interface or an address may be long in coming: that is said once.
                    let why = explain(&e);
                    if said.as_ref() != Some(&why) {
                        log::warn!("mirror: nobody can connect over {}: {why}", shown(&link));
                        said = Some(why);
                    }
                    thread::sleep(BEACON);
                }
            })?;
        }
        Ok(acceptor)
    }
}

/// A link as an operator calls it.
fn shown(link: &Link) -> String {
    match link {
        Link::Interface(name) => name.clone(),
        Link::Address(address) => address.to_string(),
    }
}

fn serve(
    link: &Link,
    listener: &TcpListener,
    port: u16,
    key: &[u8; 32],
    door: &Arc<Door>,
    each: &(impl Fn(Channel) + Clone + Send + 'static),
) -> io::Result<()> {
    let teller = match link {
        Link::Address(_) => None,
        Link::Interface(interface) => {
            let socket = UdpSocket::from(on_interface(SockType::Datagram, interface, 0)?);
            let index = index_of(&socket, interface)?;
            Some((socket, SocketAddrV6::new(ALL_NODES, port, 0, index)))
        }
    };
    let mut next = clock::now();
    let mut shaking = Shaking::default();
    while !door.is_over() {
        shaking.forget();
        if clock::now() >= next {
            next = clock::now() + BEACON;
            if let Some((socket, to)) = &teller {
                let _ = socket.send_to(&beacon(key), to); // no carrier, no address yet: the next one may get through
            }
        }
        // Somebody comes, the door is closed, or the next beacon is due.
        let wait =
            PollTimeout::try_from(next.until(clock::now()) + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], wait); // accept says what was wrong
        match listener.accept() {
            Ok((stream, from)) => {
                let (door, each) = (Arc::clone(door), each.clone());
                shaking.begin(stream, *key, move |channel| match channel {
                    Ok(channel) if !door.is_over() => each(channel),
                    Ok(_) => {} // it was closed meanwhile
                    Err(e) => log::warn!("mirror: {from}: {}", explain(&e)),
                })?;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Connects to the peer over the first link that works, and says which.
///
/// # Errors
///
/// What the last link said.
pub fn connect<'a>(links: &'a [Link], port: u16, key: &[u8; 32]) -> io::Result<(Channel, &'a Link)> {
    let mut last = io::Error::new(io::ErrorKind::NotConnected, "no link to the peer is configured");
    for link in links {
        let address = match link {
            Link::Address(address) => Ok(*address),
            Link::Interface(interface) => search(interface, port, key),
        };
        match address.and_then(|address| Channel::connect(address, key, CONNECT)) {
            Ok(channel) => return Ok((channel, link)),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Waits for the peer's beacon on an interface.
fn search(interface: &str, port: u16, key: &[u8; 32]) -> io::Result<SocketAddr> {
    let socket = UdpSocket::from(on_interface(SockType::Datagram, interface, port)?);
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let index = index_of(&socket, interface)?;
    let begin = clock::now();
    while clock::now().since(begin) < SEARCH {
        let mut text = [0; 64];
        let Ok((n, SocketAddr::V6(from))) = socket.recv_from(&mut text) else { continue };
        if text[..n] == beacon(key) && from.ip().is_unicast_link_local() {
            return Ok(SocketAddrV6::new(*from.ip(), port, 0, index).into());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{interface}: no mirror answers")))
}
