//! Two network namespaces with a cable between them: `box_`, which has the gate, and `far`, which sees what really leaves.
#![allow(unsafe_code)] // raw packet sockets and control messages have no safe form

use std::fs::File;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::time::{ClockId, clock_gettime};

use crate::frames::{MAC, ethernet};

pub const OWN: &str = "10.77.0.1";
pub const SERVICE: &str = "10.77.0.100";
pub const OWN6: &str = "fd77::1";
pub const SERVICE6: &str = "fd77::100";
pub const FAR: &str = "10.77.0.2";
pub const FAR6: &str = "fd77::2";
/// MAC of the box's interface.
pub const NEAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
/// MAC of the box's second interface, where a test makes one.
pub const INNER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0c];
pub const VIRTUAL_MAC: [u8; 6] = [0x02, 0, 0x5e, 0x77, 0, 1];

/// Runs a command to its end; its words are split at spaces.
#[allow(clippy::disallowed_methods)] // tests build their network with ip(8)
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[allow(clippy::disallowed_methods)] // tests wait for kernel timers
pub fn wait(time: Duration) {
    thread::sleep(time);
}

/// Sends `frame` into the box's interface and tells whether it came out of the cable's other end.
pub fn arrives(near: &Wire, far: &Wire, frame: &[u8]) -> bool {
    const MARKER: u16 = 0x88b5; // local experimental
    far.drain();
    // The receiving kernel takes the first tag out of the frame.
    let untagged = [&frame[..12], frame.get(16..).unwrap_or(&[])].concat();
    let same = |captured: &Captured| captured.bytes == frame || captured.bytes == untagged;
    near.send(frame);
    near.send(&ethernet([0xff; 6], MAC, MARKER, &[]));
    let (mut found, mut marked) = (false, false);
    for _ in 0..2000 {
        for captured in far.drain() {
            found |= same(&captured);
            marked |= captured.bytes[12..14] == MARKER.to_be_bytes();
        }
        if marked {
            break;
        }
        wait(Duration::from_millis(1));
    }
    assert!(marked, "the cable is dead");
    found || far.drain().iter().any(same)
}

pub struct Lab {
    pub box_: String,
    pub far: String,
    /// Index of the box's interface `a0`.
    pub index: u32,
    home: File,
}

impl Lab {
    /// Builds the network and moves this thread into the box's namespace.
    pub fn new() -> Lab {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tbgt{}-{number}", std::process::id());
        let (box_, far) = (format!("{name}a"), format!("{name}b"));
        for namespace in [&box_, &far] {
            run(&format!("ip netns add {namespace}"));
            run(&format!("ip -n {namespace} link set lo up"));
        }
        let home = File::open("/proc/thread-self/ns/net").unwrap();
        let mut lab = Lab { box_, far, index: 0, home };
        let (a, b) = (&lab.box_, &lab.far);
        run(&format!("ip -n {a} link add a0 type veth peer name b0 netns {b}"));
        for line in [
            format!("ip -n {a} address add {OWN}/24 dev a0"),
            format!("ip -n {a} address add {SERVICE}/24 dev a0"),
            format!("ip -n {a} address add {OWN6}/64 dev a0 nodad"),
            format!("ip -n {a} address add {SERVICE6}/64 dev a0 nodad"),
            format!("ip -n {b} address add {FAR}/24 dev b0"),
            format!("ip -n {b} address add {FAR6}/64 dev b0 nodad"),
            format!("ip -n {a} link set a0 address 02:00:00:00:00:0a up"),
            format!("ip -n {b} link set b0 address 02:00:00:00:00:0b up"),
            // Known for ever: frames must not wait for a resolution that the closed gate prevents.
            format!("ip -n {a} neighbor replace {FAR} lladdr 02:00:00:00:00:0b dev a0 nud permanent"),
            format!("ip -n {a} neighbor replace {FAR6} lladdr 02:00:00:00:00:0b dev a0 nud permanent"),
        ] {
            run(&line);
        }
        lab.enter(&lab.box_.clone());
        lab.index = nix::net::if_::if_nametoindex("a0").unwrap();
        lab
    }

    /// Moves this thread into a namespace.
    pub fn enter(&self, namespace: &str) {
        setns(File::open(format!("/run/netns/{namespace}")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Opens a packet socket on `interface` in `namespace` and comes back to the box's.
    pub fn wire(&self, namespace: &str, interface: &str) -> Wire {
        self.enter(namespace);
        let wire = Wire::open(interface);
        self.enter(&self.box_);
        wire
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = setns(&self.home, CloneFlags::CLONE_NEWNET);
        for namespace in [&self.box_, &self.far] {
            run(&format!("ip netns del {namespace}"));
        }
    }
}

/// A packet socket: sends frames as they are, receives all of them with the kernel's time stamp.
pub struct Wire {
    fd: OwnedFd,
}

/// A frame as captured.
pub struct Captured {
    pub bytes: Vec<u8>,
    /// When it was received, on the boot clock.
    pub at: u64,
    pub outgoing: bool,
}

fn set_option(fd: &OwnedFd, level: i32, option: i32, value: i32) {
    // SAFETY: the option's value is a live int, its size told.
    let done = unsafe {
        let size = size_of::<i32>() as u32;
        libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    assert_eq!(done, 0, "setsockopt {level} {option}: {}", std::io::Error::last_os_error());
}

impl Wire {
    pub fn open(interface: &str) -> Wire {
        Wire::of_kind(interface, libc::SOCK_RAW, libc::ETH_P_ALL)
    }

    /// One that only sends: it receives what nobody speaks.
    pub fn sender(interface: &str) -> Wire {
        Wire::of_kind(interface, libc::SOCK_RAW, 0)
    }

    fn of_kind(interface: &str, kind: i32, protocol: i32) -> Wire {
        let protocol = (protocol as u16).to_be();
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC, protocol.into()) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor that nobody else owns.
        let wire = Wire { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        let at = link_address(index, protocol);
        // SAFETY: a live address of the size told.
        let bound = unsafe {
            let size = size_of::<libc::sockaddr_ll>() as u32;
            libc::bind(wire.fd.as_raw_fd(), (&raw const at).cast(), size)
        };
        assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
        set_option(&wire.fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
        set_option(&wire.fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20);
        wire
    }

    /// From now on what this socket sends bypasses the queueing layer.
    pub fn bypass(self) -> Wire {
        set_option(&self.fd, libc::SOL_PACKET, 20, 1); // PACKET_QDISC_BYPASS
        self
    }

    pub fn mark(self, mark: u32) -> Wire {
        set_option(&self.fd, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed());
        self
    }

    /// Sends a frame; what the gate drops is no error, or ENOBUFS.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: a live buffer with its length.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        let error = std::io::Error::last_os_error();
        assert!(sent >= 0 || error.raw_os_error() == Some(libc::ENOBUFS), "{error}");
    }

    /// Sends by a datagram packet socket that claims `protocol`, whatever the bytes say.
    pub fn send_datagram(interface: &str, protocol: u16, payload: &[u8]) {
        let wire = Wire::of_kind(interface, libc::SOCK_DGRAM, 0);
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        let to = link_address(index, protocol.to_be());
        // SAFETY: a live buffer and a live address with their lengths.
        let sent = unsafe {
            let size = size_of::<libc::sockaddr_ll>() as u32;
            let fd = wire.fd.as_raw_fd();
            libc::sendto(fd, payload.as_ptr().cast(), payload.len(), 0, (&raw const to).cast(), size)
        };
        let error = std::io::Error::last_os_error();
        assert!(sent >= 0 || error.raw_os_error() == Some(libc::ENOBUFS), "{error}");
    }

    /// The next frame that is there already.
    pub fn next(&self) -> Option<Captured> {
        let mut bytes = [0u8; 2048];
        let mut control = [0u64; 32];
        // SAFETY: all-zero is a value of both types.
        let (mut from, mut header): (libc::sockaddr_ll, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        header.msg_name = (&raw mut from).cast();
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as u32;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        // SAFETY: every pointer in the header leads to a live buffer of the length told.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
        let length = usize::try_from(length).ok()?;
        let mut at = 0;
        // SAFETY: the kernel filled the control buffer; the macros walk within the length that it left in the header, and
        // a message of this kind holds a timespec.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(&raw const header);
            while !message.is_null() {
                if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_TIMESTAMPNS {
                    let time: libc::timespec = libc::CMSG_DATA(message).cast::<libc::timespec>().read_unaligned();
                    at = nanos(time.tv_sec, time.tv_nsec);
                }
                message = libc::CMSG_NXTHDR(&raw const header, message);
            }
        }
        let at = at.saturating_sub(wall_offset());
        Some(Captured { bytes: bytes[..length].to_vec(), at, outgoing: from.sll_pkttype == libc::PACKET_OUTGOING })
    }

    /// All incoming frames that are there.
    pub fn drain(&self) -> Vec<Captured> {
        std::iter::from_fn(|| self.next()).filter(|frame| !frame.outgoing).collect()
    }

    /// All incoming frames of the next moments.
    pub fn settle(&self) -> Vec<Captured> {
        wait(Duration::from_millis(30));
        self.drain()
    }
}

fn link_address(index: u32, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all-zero is a value of this type.
    let mut at: libc::sockaddr_ll = unsafe { zeroed() };
    at.sll_family = libc::AF_PACKET as u16;
    at.sll_protocol = protocol;
    at.sll_ifindex = index.cast_signed();
    at.sll_halen = 6;
    at.sll_addr = [0xff; 8];
    at
}

fn nanos(seconds: impl TryInto<u64>, nanos: impl TryInto<u64>) -> u64 {
    seconds.try_into().unwrap_or(0) * 1_000_000_000 + nanos.try_into().unwrap_or(0)
}

/// Wall clock minus boot clock: time stamps of frames are on the wall clock.
fn wall_offset() -> u64 {
    let read = |clock| clock_gettime(clock).map(|t| nanos(t.tv_sec(), t.tv_nsec())).unwrap();
    let mut best = (u64::MAX, 0);
    for _ in 0..3 {
        let before = read(ClockId::CLOCK_BOOTTIME);
        let wall = read(ClockId::CLOCK_REALTIME);
        let after = read(ClockId::CLOCK_BOOTTIME);
        if after - before < best.0 {
            best = (after - before, wall - (before + (after - before) / 2));
        }
    }
    best.1
}
