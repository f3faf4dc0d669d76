//! Floods of frames that look like ours until their tag is checked: 100,000 a second where the machine can.
#![allow(unsafe_code)] // packet(7) sockets

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use twobox::clock;
use twobox::link::ethernet::{ETHER_TYPE, GROUP};
use twobox::time::Duration;
use twobox::wire::heartbeat::{MAGIC, SIZE, VERSION};
use twobox::wire::icmp::{FRAME_MAX, Request};
use twobox::wire::side;

use crate::rig::wire::enter;

/// Frames of one burst, every millisecond.
const BURST: usize = 100;
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// A thread that sends until it is stopped.
pub struct Flood {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Flood {
    /// Sends `frames`, again and again, out of an interface of one of the rig's namespaces.
    pub fn start(rig: &str, namespace: &'static str, interface: &'static str, frames: Vec<Vec<u8>>) -> Flood {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (rig, counting, ending) = (rig.to_owned(), sent.clone(), stop.clone());
        let thread = thread::spawn(move || {
            enter(&rig, namespace);
            let socket = open(interface);
            let mut frames = frames.iter().cycle();
            let mut next = clock::now();
            while !ending.load(Ordering::Relaxed) {
                let burst = frames.by_ref().take(BURST).filter(|frame| send(&socket, frame)).count();
                counting.fetch_add(burst as u64, Ordering::Relaxed);
                // What could not be sent in time is not made up for.
                next = (next + Duration::from_millis(1)).max(clock::now());
                thread::sleep(next.since(clock::now()));
            }
        });
        Flood { sent, stop, thread }
    }

    /// Ends it: frames sent.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// Payloads that get as far as possible: whole ones with a wrong tag, such cut off anywhere, words of the side channel, noise.
fn payloads() -> Vec<Vec<u8>> {
    let noise = |seed: usize, length: usize| (0..length).map(move |i| ((i + seed) * 31 % 251) as u8);
    let of = |magic: [u8; 2], seed: usize, length: usize| -> Vec<u8> {
        magic.into_iter().chain([VERSION]).chain(noise(seed, SIZE)).take(length).collect()
    };
    let whole = (0..4).map(|seed| of(MAGIC, seed, SIZE));
    let cut = (2..SIZE).step_by(29).map(|length| of(MAGIC, length, length));
    let words = (0..2).map(|seed| of(side::MAGIC, seed, SIZE));
    whole.chain(cut).chain(words).collect()
}

/// For the crossover or the LAN.
pub fn direct() -> Vec<Vec<u8>> {
    let frame = |payload: Vec<u8>| {
        let header = [&GROUP[..], &FROM, &ETHER_TYPE.to_be_bytes(), &(payload.len() as u16).to_be_bytes()].concat();
        [header, payload].concat()
    };
    payloads().into_iter().map(frame).collect()
}

/// As if the witness had passed them on: from each box to the other one.
pub fn reflected(a: Ipv4Addr, b: Ipv4Addr) -> Vec<Vec<u8>> {
    let frame = |payload: &[u8], source: Ipv4Addr, destination: Ipv4Addr| {
        let (source, destination) = (IpAddr::V4(source), IpAddr::V4(destination));
        let request = Request { to: [0xff; 6], from: FROM, source, destination, identifier: 1, sequence: 1, payload };
        request.write(&mut [0; FRAME_MAX]).unwrap().to_vec()
    };
    payloads().iter().flat_map(|payload| [frame(payload, a, b), frame(payload, b, a)]).collect()
}

fn open(interface: &str) -> OwnedFd {
    // SAFETY: socket(2) takes no pointers; bind(2) gets one to a value that lives through the call, with its size, and all
    // zeroes is a value of it.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0);
        let fd = OwnedFd::from_raw_fd(fd);
        let mut to: libc::sockaddr_ll = core::mem::zeroed();
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = nix::net::if_::if_nametoindex(interface).unwrap().cast_signed();
        assert_eq!(libc::bind(fd.as_raw_fd(), (&raw const to).cast(), size_of_val(&to) as u32), 0);
        fd
    }
}

/// False: the queue was full.
fn send(fd: &OwnedFd, frame: &[u8]) -> bool {
    // SAFETY: pointer and length are of one buffer.
    let sent = unsafe { libc::send(fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    usize::try_from(sent).is_ok_and(|sent| sent == frame.len())
}
