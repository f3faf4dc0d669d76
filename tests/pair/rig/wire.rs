//! Everything that leaves as holder of the service address, seen on the bridge's ports: the judge of "never both".
#![allow(unsafe_code)] // packet(7) sockets

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};
use twobox::clock;
use twobox::time::Instant;

/// A second service address, where a test configures it.
pub const SERVICE6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x10);
/// PACKET_QDISC_BYPASS (linux/if_packet.h).
const QDISC_BYPASS: i32 = 20;

/// How a frame says that its sender is the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The source of an IP packet.
    Source,
    /// The sender of an ARP frame (RFC 826).
    Arp,
    /// An ARP request about the sender's own address (RFC 5227).
    Announcement,
    /// The target of a neighbour advertisement (RFC 4861) with these flags: 0x20 is override, 0x40 solicited.
    Advertisement { flags: u8 },
}

/// One frame as holder.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub at: Instant,
    /// `a` or `b`, by the port it came in.
    pub from: &'static str,
    pub claim: Claim,
}

/// A thread that records.
pub struct Capture {
    pub frames: Arc<Mutex<Vec<Frame>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Enters a namespace for good: for a thread that was made for it.
pub fn enter(name: &str, namespace: &str) {
    let file = File::open(format!("/run/netns/{name}-{namespace}")).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

/// Real-time priority for a thread that measures, below the daemon's: it shall see what happens, not its own waiting.
/// Without the permission it is an ordinary thread.
pub fn prefer_this_thread() {
    let parameter = libc::sched_param { sched_priority: 10 };
    // SAFETY: `parameter` lives until the call returns.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
}

impl Capture {
    pub fn start(name: &str, service: Ipv4Addr) -> Capture {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (name, seen, ending) = (name.to_owned(), frames.clone(), stop.clone());
        let (opened, wait) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            enter(&name, "lan");
            prefer_this_thread();
            let socket = open(0).unwrap();
            let index = |port: &str| nix::net::if_::if_nametoindex(port).unwrap_or(0);
            let ports = || [(index("a"), "a"), (index("b"), "b")];
            let mut known = ports();
            opened.send(()).unwrap();
            let mut buffer = [0; 2048];
            while !ending.load(Ordering::Relaxed) {
                let Some((length, port)) = receive(&socket, &mut buffer) else { continue };
                let Some(claim) = claim(&buffer[..length], service) else { continue };
                let find = |ports: &[(u32, &'static str)]| ports.iter().find(|(index, _)| *index == port).copied();
                if find(&known).is_none() {
                    known = ports(); // a cable was taken out and put in again
                }
                if let Some((_, from)) = find(&known) {
                    seen.lock().unwrap().push(Frame { at: clock::now(), from, claim });
                }
            }
        });
        wait.recv().unwrap();
        Capture { frames, stop, thread: Some(thread) }
    }

    /// All frames so far.
    pub fn frames(&self) -> Vec<Frame> {
        self.frames.lock().unwrap().clone()
    }

    /// Who was the holder, one after the other.
    pub fn owners(&self) -> Vec<&'static str> {
        let mut owners: Vec<&'static str> = self.frames().iter().map(|frame| frame.from).collect();
        owners.dedup();
        owners
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether the frame says that its sender has a service address, and how.
fn claim(frame: &[u8], service: Ipv4Addr) -> Option<Claim> {
    let v4 = |from: usize| frame.get(from..from + 4) == Some(&service.octets()[..]);
    let v6 = |from: usize| frame.get(from..from + 16) == Some(&SERVICE6.octets()[..]);
    match frame.get(12..14)? {
        [0x08, 0x00] => v4(26).then_some(Claim::Source),
        [0x08, 0x06] if v4(28) => {
            Some(if v4(38) && frame.get(21) == Some(&1) { Claim::Announcement } else { Claim::Arp })
        }
        [0x86, 0xdd] if v6(62) && frame.get(20) == Some(&58) && frame.get(54) == Some(&136) => {
            Some(Claim::Advertisement { flags: *frame.get(58)? })
        }
        [0x86, 0xdd] => v6(22).then_some(Claim::Source),
        _ => None,
    }
}

/// An interface in the hands of any program with a packet socket: whole frames, beginning with the destination.
pub struct Port {
    socket: OwnedFd,
    index: u32,
}

impl Port {
    /// Of the namespace that this thread is in.
    pub fn open(interface: &str) -> Port {
        Port { socket: open(0).unwrap(), index: nix::net::if_::if_nametoindex(interface).unwrap() }
    }

    /// Frames from now on pass by the queueing layer (PACKET_QDISC_BYPASS).
    pub fn bypass(&self) {
        let on = 1i32;
        let size = size_of::<i32>() as libc::socklen_t;
        // SAFETY: the option's value lives until the call returns.
        let done = unsafe {
            libc::setsockopt(self.socket.as_raw_fd(), libc::SOL_PACKET, QDISC_BYPASS, (&raw const on).cast(), size)
        };
        assert_eq!(done, 0);
    }

    /// False: it was dropped on the way, or the queue was full.
    pub fn send(&self, frame: &[u8]) -> bool {
        // SAFETY: all-zero is a value of sockaddr_ll; every pointer is to a live value of the size told.
        let sent = unsafe {
            let mut to: libc::sockaddr_ll = core::mem::zeroed();
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_ifindex = self.index.cast_signed();
            let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            libc::sendto(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), size)
        };
        usize::try_from(sent).is_ok_and(|sent| sent == frame.len())
    }

    /// A frame that came in, waiting for a moment.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        let (length, index) = receive(&self.socket, &mut buffer)?;
        (index == self.index).then(|| buffer[..length].to_vec())
    }
}

/// Sends a frame by `interface` of a namespace; `bypass`: past the queueing layer. What is dropped on the way is no error.
pub fn send_raw(name: &str, namespace: &str, interface: &str, frame: &[u8], bypass: bool) {
    thread::scope(|scope| {
        scope.spawn(|| {
            enter(name, namespace);
            let port = Port::open(interface);
            if bypass {
                port.bypass();
            }
            port.send(frame);
        });
    });
}

/// A socket that sees every frame of this EtherType (0: of any) in the namespace it is opened in.
pub fn open(ether_type: u16) -> io::Result<OwnedFd> {
    let ether_type = if ether_type == 0 { libc::ETH_P_ALL as u16 } else { ether_type };
    // SAFETY: socket(2) takes numbers; the descriptor is ours alone.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(ether_type.to_be()));
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let timeout = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    // SAFETY: the option's value lives until the call returns.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const timeout).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        );
    }
    Ok(socket)
}

/// A frame that came in (not one that goes out) and the index of its port.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, u32)> {
    // SAFETY: sockaddr_ll is a plain C structure of numbers, for which all zeroes is a value.
    let mut from: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: buffer and address live until the call returns, with their true sizes.
    let length = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut from).cast(),
            &raw mut size,
        )
    };
    let length = usize::try_from(length).ok()?;
    (from.sll_pkttype != libc::PACKET_OUTGOING).then_some((length, u32::try_from(from.sll_ifindex).ok()?))
}
