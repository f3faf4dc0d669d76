//! A LAN card with a link that can be lost, made of two taps with a thread between them. A pair of veth tells the same speed whatever
//! becomes of its cable; a card with a PHY tells none without a link, and so does this one.
#![allow(unsafe_code)] // ioctl(2)

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, poll};

use crate::rig::Rig;
use crate::rig::wire::prefer_this_thread;

/// TUNSETIFF, TUNSETCARRIER, IFF_TAP and IFF_NO_PI (linux/if_tun.h).
const SET_INTERFACE: u64 = 0x4004_54ca;
const SET_CARRIER: u64 = 0x4004_54e2;
const TAP: u64 = 0x0002;
const NO_HEADER: u64 = 0x1000;
/// SIOCETHTOOL (linux/sockios.h), ETHTOOL_SSET (linux/ethtool.h).
const ETHTOOL: u64 = 0x8946;
const SET_SETTINGS: u32 = 2;

/// The card, and the port of the bridge that it is plugged into.
pub struct Card {
    host: &'static str,
    card: Arc<File>,
    plugged: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    cable: Option<JoinHandle<()>>,
}

impl Card {
    /// In the place of the interface `lan` of `host`, at 1000 Mbit/s.
    pub fn put_in(rig: &Rig, host: &'static str) -> Card {
        let number = if host == "a" { 2 } else { 3 };
        rig.ip(host, "link del lan");
        let card = Arc::new(rig.inside(host, || tap("lan")));
        let port = rig.inside("lan", || tap(host));
        rig.ip("lan", &format!("link set dev {host} master bridge up"));
        rig.ip(host, &format!("addr add 10.77.0.{number}/24 dev lan"));
        rig.ip(host, "link set lan up");
        let (plugged, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (card_end, carries, ending) = (card.clone(), plugged.clone(), stop.clone());
        let cable = thread::spawn(move || {
            prefer_this_thread();
            while !ending.load(Ordering::Relaxed) {
                let mut ends =
                    [PollFd::new(card_end.as_fd(), PollFlags::POLLIN), PollFd::new(port.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut ends, 100u16);
                for (from, to) in [(&*card_end, &port), (&port, &*card_end)] {
                    carry(from, to, carries.load(Ordering::Relaxed));
                }
            }
        });
        let card = Card { host, card, plugged, stop, cable: Some(cable) };
        card.set_speed(rig, 1000);
        card
    }

    /// Pulls the cable out.
    pub fn pull(&self, rig: &Rig) {
        self.plugged.store(false, Ordering::Relaxed);
        self.set_carrier(0);
        self.set_speed(rig, u32::MAX);
    }

    fn set_carrier(&self, carrier: i32) {
        // SAFETY: TUNSETCARRIER reads an int.
        let done = unsafe { libc::ioctl(self.card.as_raw_fd(), SET_CARRIER as _, &raw const carrier) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// u32::MAX: none.
    fn set_speed(&self, rig: &Rig, megabits: u32) {
        // struct ethtool_cmd: the speed is in the lower halves of two of its words.
        let mut settings = [0u32; 11];
        (settings[0], settings[3], settings[7]) = (SET_SETTINGS, megabits & 0xffff, megabits >> 16);
        rig.inside(self.host, || {
            // SAFETY: socket(2) takes no pointers; the descriptor is nobody else's.
            let socket = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)) };
            let mut request = request("lan", settings.as_mut_ptr() as u64);
            // SAFETY: SIOCETHTOOL reads a struct ifreq, which points to a live struct ethtool_cmd.
            let done = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL as _, request.as_mut_ptr()) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        });
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(cable) = self.cable.take() {
            let _ = cable.join();
        }
    }
}

/// All frames that wait there.
fn carry(mut from: &File, mut to: &File, carries: bool) {
    let mut frame = [0; 2048];
    while let Ok(length) = from.read(&mut frame) {
        if carries {
            let _ = to.write(&frame[..length]); // an end that is down takes none
        }
    }
}

fn tap(interface: &str) -> File {
    let tap = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun").unwrap();
    let mut request = request(interface, TAP | NO_HEADER);
    // SAFETY: TUNSETIFF reads and writes a struct ifreq, which is no longer than this.
    let done = unsafe { libc::ioctl(tap.as_raw_fd(), SET_INTERFACE as _, request.as_mut_ptr()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    tap
}

/// `struct ifreq` (linux/if.h): a name, and what the request is about.
fn request(interface: &str, value: u64) -> [u64; 5] {
    let mut name = [0; 16];
    name[..interface.len()].copy_from_slice(interface.as_bytes());
    let half = |from: usize| u64::from_ne_bytes(name[from..from + 8].try_into().unwrap());
    [half(0), half(8), value, 0, 0]
}
