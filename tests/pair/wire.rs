//! Everything that leaves as holder of the service address, seen on the bridge's ports: the judge of "never both".
#![allow(unsafe_code)] // packet(7) sockets

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};
use twobox::clock;
use twobox::time::Instant;

/// One frame as holder.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub at: Instant,
    /// `a` or `b`, by the port it came in.
    pub from: &'static str,
}

/// A thread that records.
pub struct Capture {
    frames: Arc<Mutex<Vec<Frame>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Enters a namespace for good: for a thread that was made for it.
pub fn enter(name: &str, namespace: &str) {
    let file = File::open(format!("/run/netns/{name}-{namespace}")).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

impl Capture {
    pub fn start(name: &str, service: Ipv4Addr) -> Capture {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (name, seen, ending) = (name.to_owned(), frames.clone(), stop.clone());
        let (opened, wait) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            enter(&name, "lan");
            let socket = open().unwrap();
            let index = |port: &str| nix::net::if_::if_nametoindex(port).unwrap();
            let ports = [(index("a"), "a"), (index("b"), "b")];
            opened.send(()).unwrap();
            let mut buffer = [0; 2048];
            while !ending.load(Ordering::Relaxed) {
                let Some((length, port)) = receive(&socket, &mut buffer) else { continue };
                let from = ports.iter().find(|(index, _)| *index == port).map(|(_, name)| *name);
                if let Some(from) = from
                    && holds(&buffer[..length], service)
                {
                    seen.lock().unwrap().push(Frame { at: clock::now(), from });
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

/// The frame says that its sender has the address: as source of IPv4, or as sender of ARP (RFC 826).
fn holds(frame: &[u8], service: Ipv4Addr) -> bool {
    let at = |from: usize| frame.get(from..from + 4) == Some(&service.octets()[..]);
    match frame.get(12..14) {
        Some([0x08, 0x00]) => at(26),
        Some([0x08, 0x06]) => at(28),
        _ => false,
    }
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes numbers; the descriptor is ours alone.
    let socket = unsafe {
        let fd = libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            i32::from((libc::ETH_P_ALL as u16).to_be()),
        );
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
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, u32)> {
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
