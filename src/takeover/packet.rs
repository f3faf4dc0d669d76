//! The raw sockets of the takeover: one to send by any interface, and per interface those that hear who claims what.
//!
//! All are opened at the start: opening an AF_PACKET socket waits for the kernel's grace periods (10 ms measured). The
//! listeners hear nothing but frames that name a service address as their sender's, by a filter in the kernel, so that a LAN
//! full of ARP costs the loop nothing. They stand before the host's firewall.

#![allow(unsafe_code)] // packet(7) addresses and the classic BPF filter of socket(7), which nix does not carry

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::wire::{arp, neighbor};

/// Largest number of instructions: three to look for whom it is, five at the kind, three for each address, one to end.
const FILTER_MAX: usize = 3 + 5 + 3 * super::address::ADDRESSES + 1;
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;

/// Sends frames by any interface. Hears nothing.
pub struct Sender {
    fd: OwnedFd,
}

impl Sender {
    /// Opens the socket. Its frames carry `mark` (SO_MARK), by which a belt against foreign raw senders knows them.
    ///
    /// # Errors
    ///
    /// What socket(2) and setsockopt(2) say; it needs CAP_NET_RAW, and CAP_NET_ADMIN for a mark other than 0.
    pub fn open(mark: u32) -> io::Result<Sender> {
        let fd = open(0)?;
        if mark != 0 {
            set(&fd, libc::SO_MARK, &mark)?;
        }
        Ok(Sender { fd })
    }

    /// Sends a whole frame, beginning with its destination address, by interface `index`. Never waits.
    ///
    /// # Errors
    ///
    /// What sendto(2) says: the interface is down, or its queue is full, or the egress gate is closed (ENOBUFS).
    pub fn send(&self, index: u32, frame: &[u8]) -> io::Result<()> {
        let address = link_layer(0, index);
        // SAFETY: both pointers are to values that live through the call, with their sizes.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Hears the ARP frames, or the neighbour advertisements, of one interface that claim a service address.
pub struct Listener {
    fd: OwnedFd,
    index: u32,
    ether_type: u16,
}

impl Listener {
    /// Hears frames of the family of `addresses` on interface `index`. All of `addresses` are IPv4, or all are IPv6.
    ///
    /// # Errors
    ///
    /// What socket(2), bind(2) and setsockopt(2) say.
    pub fn open(index: u32, addresses: &[IpAddr]) -> io::Result<Listener> {
        let v4 = addresses.iter().all(IpAddr::is_ipv4);
        // Protocol 0 until the filter is there: not one frame may slip in before it.
        let fd = open(0)?;
        let program = if v4 { arp_filter(addresses) } else { neighbor_filter(addresses) };
        attach(&fd, &program)?;
        let mut listener = Listener { fd, index, ether_type: if v4 { arp::ETHER_TYPE } else { neighbor::ETHER_TYPE } };
        listener.rebind(index)?;
        Ok(listener)
    }

    /// Hears on interface `index` from now on.
    ///
    /// # Errors
    ///
    /// What bind(2) says.
    pub fn rebind(&mut self, index: u32) -> io::Result<()> {
        let address = link_layer(self.ether_type, index);
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointer is to a value that lives through the call, with its size.
        let bound = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), size) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        self.index = index;
        Ok(())
    }

    /// The interface that it hears on.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// That interface is gone, whether or not there is one of its index again: nothing is heard any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        bound_to(self.fd.as_fd()) != Some(self.index)
    }

    /// The next frame that was heard, if any, cut to `buffer`.
    ///
    /// # Errors
    ///
    /// What recv(2) says; ENETDOWN once after the interface went down.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        // SAFETY: pointer and length are of one buffer.
        let length =
            unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                e => Err(e),
            },
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Tells one interface from another that has its index later.
pub struct Presence(Listener);

impl Presence {
    /// Of interface `index`.
    ///
    /// # Errors
    ///
    /// What socket(2) and bind(2) say.
    pub fn of(index: u32) -> io::Result<Presence> {
        let mut listener = Listener { fd: open(0)?, index, ether_type: 0 };
        listener.rebind(index)?;
        Ok(Presence(listener))
    }

    /// It is still there.
    #[must_use]
    pub fn lasts(&self) -> bool {
        !self.0.is_lost()
    }
}

fn open(protocol: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes no pointers.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol.to_be())) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket(2) just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
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

fn link_layer(protocol: u16, index: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn attach(fd: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    // The kernel copies the instructions, which outlive the call.
    set(
        fd,
        libc::SO_ATTACH_FILTER,
        &libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() },
    )
}

fn set<T>(fd: &OwnedFd, option: i32, value: &T) -> io::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer is to a value that lives through the call, with its size; every option used here takes a T.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const *value).cast(), size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

type Program = heapless::Vec<libc::sock_filter, FILTER_MAX>;

fn load(program: &mut Program, size: u32, offset: u32) {
    push(program, (libc::BPF_LD | size | libc::BPF_ABS) as u16, 0, 0, offset);
}

/// Goes on `equal` or `other` instructions further, by whether what was loaded is `value`.
fn jump(program: &mut Program, value: u32, equal: u8, other: u8) {
    push(program, (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, equal, other, value);
}

/// Ends with this many bytes of the frame; 0 drops it.
fn end(program: &mut Program, bytes: u32) {
    push(program, (libc::BPF_RET | libc::BPF_K) as u16, 0, 0, bytes);
}

fn push(program: &mut Program, code: u16, jt: u8, jf: u8, k: u32) {
    let room = program.push(libc::sock_filter { code, jt, jf, k });
    assert!(room.is_ok(), "the filter has room for {} addresses", super::address::ADDRESSES);
}

/// Drops what is not for this box. So the kernel calls frames of a VLAN for which it has no interface, after it has taken off their
/// tags (`__netif_receive_skb_core`, net/core/dev.c): the same address in another VLAN is another address.
fn for_this_box() -> Program {
    let mut program = Program::new();
    load(&mut program, libc::BPF_W, PACKET_TYPE);
    push(&mut program, (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16, 0, 1, u32::from(libc::PACKET_OTHERHOST));
    end(&mut program, 0);
    program
}

/// ARP whose sender address is one of `addresses`. (EtherType is the socket's own choice.)
fn arp_filter(addresses: &[IpAddr]) -> Program {
    let mut program = for_this_box();
    load(&mut program, libc::BPF_W, 28);
    for address in addresses {
        if let IpAddr::V4(v4) = address {
            jump(&mut program, v4.to_bits(), 0, 1);
            end(&mut program, u32::MAX);
        }
    }
    end(&mut program, 0);
    program
}

/// Neighbour advertisements whose target is one of `addresses`.
fn neighbor_filter(addresses: &[IpAddr]) -> Program {
    let mut program = for_this_box();
    load(&mut program, libc::BPF_B, 20);
    jump(&mut program, u32::from(neighbor::NEXT_HEADER), 0, 2);
    load(&mut program, libc::BPF_B, 54);
    jump(&mut program, u32::from(neighbor::ADVERTISEMENT), 1, 0);
    end(&mut program, 0);
    for address in addresses {
        if let IpAddr::V6(v6) = address {
            // The last four bytes tell nearly all apart; who reads the frame compares the whole.
            load(&mut program, libc::BPF_W, 62 + 12);
            jump(&mut program, v6.to_bits() as u32, 0, 1);
            end(&mut program, u32::MAX);
        }
    }
    end(&mut program, 0);
    program
}
