//! A packet socket (packet(7)) bound to one interface, with a filter in the kernel.

#![allow(unsafe_code)] // packet(7) addresses and options, and netdevice(7) requests, which nix does not carry

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::filter::Program;
use super::{Counters, Sent};
use crate::wire::Mac;

/// Room for frames that wait for us: some 1,300 short ones (the kernel reckons 768 bytes for each), more than come in a late
/// turn of the loop under a flood of 100,000 a second.
const RECEIVE_BUFFER: i32 = 1 << 20;
/// TC_PRIO_INTERACTIVE (linux/pkt_sched.h): the first band of the default queue, before all bulk, and the highest that needs
/// no capability.
const PRIORITY: i32 = 6;

/// State of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Up, and the other end of the cable is there.
    Present,
    /// Up, no signal.
    Absent,
    /// Taken down by somebody.
    Down,
    /// The interface does not exist any more, whether or not another one has taken its name: a [`Binder`] is needed.
    Gone,
}

/// Binds the socket of a port to the interface that has come in the place of its own, on a thread that may wait: for the lock of
/// the network's configuration, and for 10 ms by itself. Knows the hardware address too, which may change on an interface that stays:
/// a bridge takes the lowest of its ports, a bond that of the port in use.
pub struct Binder {
    fd: OwnedFd,
    name: heapless::String<{ libc::IFNAMSIZ - 1 }>,
    index: u32,
    mac: Mac,
    protocol: u16,
    group: Option<Mac>,
}

impl Binder {
    /// Name of the interface that the port wants.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Index of the one that it has.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Hardware address of the one that it has, as the port knows it.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// The interface that the port had is gone, whether or not there is one of its index again: the socket hears nothing any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        bound_to(self.fd.as_fd()) != Some(self.index)
    }

    /// Binds to interface `index` unless it has that one. The port has to be told it, and its hardware address.
    ///
    /// # Errors
    ///
    /// What packet(7) says: there is none.
    pub fn bind(&mut self, index: u32, mac: Mac) -> io::Result<()> {
        if index != self.index || self.is_lost() {
            bind(&self.fd, self.protocol, self.group, index.cast_signed())?;
        }
        (self.index, self.mac) = (index, mac);
        Ok(())
    }
}

pub(super) struct Packet {
    fd: OwnedFd,
    name: heapless::String<{ libc::IFNAMSIZ - 1 }>,
    index: i32,
    mac: Mac,
    protocol: u16,
    group: Option<Mac>,
    pub(super) counters: Counters,
}

impl Packet {
    /// Opens a socket for frames of `protocol` (an EtherType or `ETH_P_ALL`) on `interface` that pass `filter`; joins
    /// `group`.
    pub(super) fn open(interface: &str, protocol: u16, filter: &Program, group: Option<Mac>) -> io::Result<Packet> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{interface}` is no interface name"));
        if interface.is_empty() || interface.contains('\0') {
            return Err(invalid());
        }
        let name = heapless::String::try_from(interface).map_err(|_| invalid())?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0: hears nothing until it is bound, so not one frame slips in before the filter.
        // SAFETY: socket(2) takes no pointers.
        let raw = Errno::result(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: socket(2) just made this descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let code = filter.code();
        let length = u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let program = libc::sock_fprog { len: length, filter: code.as_ptr().cast_mut() };
        set(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32)?;
        // Beyond the system's limit where we may, up to it where not.
        if set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER).is_err() {
            set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER)?;
        }
        set(&fd, libc::SOL_SOCKET, libc::SO_PRIORITY, &PRIORITY)?;
        let mut packet = Packet { fd, name, index: 0, mac: [0; 6], protocol, group, counters: Counters::default() };
        let mut request = Packet::request();
        for (to, from) in request.ifr_name.iter_mut().zip(packet.name.bytes()) {
            *to = from.cast_signed();
        }
        packet.ioctl(libc::SIOCGIFINDEX, &mut request)?;
        // SAFETY: SIOCGIFINDEX has filled this member of the union.
        packet.index = unsafe { request.ifr_ifru.ifru_ifindex };
        packet.ioctl(libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: SIOCGIFHWADDR has filled this member of the union.
        let hardware = unsafe { request.ifr_ifru.ifru_hwaddr };
        for (to, from) in packet.mac.iter_mut().zip(hardware.sa_data) {
            *to = from.cast_unsigned();
        }
        bind(&packet.fd, protocol, group, packet.index)?;
        Ok(packet)
    }

    /// For whoever looks after the interface.
    pub(super) fn binder(&self) -> io::Result<Binder> {
        let (fd, name, index) = (self.fd.try_clone()?, self.name.clone(), self.index.cast_unsigned());
        Ok(Binder { fd, name, index, mac: self.mac, protocol: self.protocol, group: self.group })
    }

    /// The binder has bound the socket to interface `index`, which has this hardware address.
    pub(super) fn bound(&mut self, index: u32, mac: Mac) {
        (self.index, self.mac) = (index.cast_signed(), mac);
    }

    /// Hardware address of the interface.
    pub(super) fn mac(&self) -> Mac {
        self.mac
    }

    pub(super) fn carrier(&self) -> Carrier {
        let Some(mut request) = self.present() else { return Carrier::Gone };
        if self.ioctl(libc::SIOCGIFFLAGS, &mut request).is_err() {
            return Carrier::Gone;
        }
        // SAFETY: SIOCGIFFLAGS has filled this member of the union.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        match (flags & libc::IFF_UP != 0, flags & libc::IFF_RUNNING != 0) {
            (true, true) => Carrier::Present,
            (true, false) => Carrier::Absent,
            (false, _) => Carrier::Down,
        }
    }

    /// One frame into `parts`, cut to their size. `None`: none is there, or the interface went down (which is counted).
    pub(super) fn recv(&mut self, parts: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        match nix::sys::uio::readv(&self.fd, parts) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(Errno::ENETDOWN) => {
                self.counters.errors += 1;
                Ok(None)
            }
            Err(e) => {
                self.counters.errors += 1;
                Err(e.into())
            }
        }
    }

    /// Sends one frame made of `parts`, of which `payload` bytes are counted.
    pub(super) fn send(&mut self, parts: &[IoSlice<'_>], payload: usize) -> io::Result<Sent> {
        match nix::sys::uio::writev(&self.fd, parts) {
            Ok(_) => {
                self.counters.frames_out += 1;
                self.counters.bytes_out += payload as u64;
                Ok(Sent::Queued)
            }
            // No room; or the interface is down or gone, which `carrier` tells.
            Err(
                Errno::EAGAIN
                | Errno::EINTR
                | Errno::ENOBUFS
                | Errno::ENETDOWN
                | Errno::ENXIO
                | Errno::ENODEV
                | Errno::ENETUNREACH,
            ) => {
                self.counters.dropped += 1;
                Ok(Sent::Dropped)
            }
            Err(e) => {
                self.counters.errors += 1;
                Err(e.into())
            }
        }
    }

    /// The counters, with what the kernel had to throw away for want of room.
    pub(super) fn counters(&mut self) -> Counters {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut size = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: both pointers are to values that live through the call; the size is the value's.
        let read = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut size,
            )
        };
        if read == 0 {
            self.counters.overrun += u64::from(statistics.tp_drops); // reading sets it to zero
        }
        self.counters
    }

    /// A request for the interface that the socket is bound to, by the name that it has now; `None` when it has gone. Asked for
    /// by its number: for a name that nobody has the kernel starts a program that loads a module, and waits for its end
    /// (`dev_load`, net/core/dev_ioctl.c).
    fn present(&self) -> Option<libc::ifreq> {
        let mut request = Packet::request();
        request.ifr_ifru.ifru_ifindex = self.index;
        self.ioctl(libc::SIOCGIFNAME, &mut request).ok()?;
        Some(request)
    }

    fn request() -> libc::ifreq {
        // SAFETY: all-zero bytes are a valid ifreq: a name and a union of plain numbers.
        unsafe { core::mem::zeroed() }
    }

    /// The C libraries disagree about the type of a request's number (long, int): the bits count.
    fn ioctl(&self, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: netdevice(7) requests read and write one ifreq, which lives through the call.
        Errno::result(unsafe { libc::ioctl(self.fd.as_raw_fd(), number as _, request) })?;
        Ok(())
    }
}

impl AsFd for Packet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The interface that a packet socket is bound to: none from the moment when that one has gone (`packet_notifier`,
/// net/packet/af_packet.c). An index alone does not tell: a card that was moved into another network namespace comes back with its
/// former one.
fn bound_to(fd: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: all-zero bytes are a valid address of this kind, made of plain numbers.
    let mut address: libc::sockaddr_ll = unsafe { core::mem::zeroed() };
    let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: both pointers are to values that live through the call; the size is the first one's.
    let done = unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut size) };
    u32::try_from(address.sll_ifindex).ok().filter(|index| done == 0 && *index != 0)
}

fn bind(fd: &OwnedFd, protocol: u16, group: Option<Mac>, index: i32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a value that lives through the call, with its size.
    Errno::result(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) })?;
    let Some(group) = group else { return Ok(()) };
    let mut address = [0; 8];
    address[..6].copy_from_slice(&group);
    let membership = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: group.len() as u16,
        mr_address: address,
    };
    set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

fn set<T>(fd: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer is to a value that lives through the call, with its size; every option used here takes a T.
    Errno::result(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const *value).cast(), size) })?;
    Ok(())
}
