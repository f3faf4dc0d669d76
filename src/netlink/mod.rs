//! The kernel's routing socket: one request, one answer, no heap after [`Socket::open`] (rtnetlink(7)).
//!
//! Messages are built and read by hand in two buffers that are made at the start. The crate neli was looked at first: its
//! `send` makes a `Vec` for every message, and its attributes own their payloads, so each renewal of an address would
//! allocate, which the cluster loop must not do.
//!
//! The kernel works on a request inside sendmsg(2) and has queued the answer when that returns (af_netlink.c,
//! `netlink_unicast_kernel`; a dump goes on inside recvmsg(2)). So no call here waits for another process, and "nothing to
//! read" is an error and not a reason to sleep.

#![allow(unsafe_code)] // socket(2) options and recv(2) with MSG_TRUNC, which nix does not carry for netlink

mod message;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use message::HEADER;
pub use message::{Attributes, Request, attribute, outcome, split};

/// The kernel never makes a dump part larger than this (af_netlink.c caps `max_recvmsg_len` at 32 KiB).
const RECEIVE_MAX: usize = 32 * 1024;
/// A dump that changed under the reader is started again this often before it is an error.
const DUMP_ATTEMPTS: usize = 8;

/// `nlmsghdr` flag: the table changed while it was read (linux/netlink.h).
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A routing socket of our own. Not for sharing between threads: one request is under way at a time.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    received: Box<[u8; RECEIVE_MAX]>,
}

impl Socket {
    /// Opens the socket in the calling thread's network namespace and makes its buffers.
    ///
    /// # Errors
    ///
    /// What socket(2) says.
    pub fn open() -> io::Result<Socket> {
        Self::open_protocol(libc::NETLINK_ROUTE)
    }

    /// The same for generic netlink, whose families have a number each that the kernel tells.
    ///
    /// # Errors
    ///
    /// What socket(2) says.
    pub fn open_generic() -> io::Result<Socket> {
        Self::open_protocol(libc::NETLINK_GENERIC)
    }

    fn open_protocol(protocol: libc::c_int) -> io::Result<Socket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket(2) takes no pointers.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: socket(2) just made this descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let socket = Socket { fd, sequence: 0, received: Box::new([0; RECEIVE_MAX]) };
        // Errors need not repeat the request; dumps honour the interface in the request (strict checking, 4.20).
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            let on: libc::c_int = 1;
            // SAFETY: the pointer is to a c_int that lives through the call, and its size is given. An old kernel that
            // refuses an option only answers more than was asked; readers filter for themselves.
            unsafe {
                libc::setsockopt(
                    socket.fd.as_raw_fd(),
                    libc::SOL_NETLINK,
                    option,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                );
            }
        }
        Ok(socket)
    }

    /// Sends `request` and waits for the kernel's yes or no.
    ///
    /// # Errors
    ///
    /// The kernel's errno; `InvalidData` for an answer that is none.
    pub fn change(&mut self, request: &mut Request) -> io::Result<()> {
        let sequence = self.send(request, libc::NLM_F_ACK as u16)?;
        loop {
            let length = self.receive()?;
            let mut rest = &self.received[..length];
            while let Some((header, payload, next)) = message::split(rest) {
                rest = next;
                if header.sequence == sequence && i32::from(header.kind) == libc::NLMSG_ERROR {
                    return message::outcome(payload);
                }
            }
        }
    }

    /// Sends the dump `request` and hands the type and the payload of every message of the answer to `each`. When the table
    /// changes meanwhile the dump starts again, after `restart`: what `each` collected until then must be thrown away.
    ///
    /// # Errors
    ///
    /// The kernel's errno; `Interrupted` when the table would not hold still; `InvalidData` for an answer that is none.
    pub fn dump<C>(
        &mut self,
        request: &mut Request,
        collected: &mut C,
        restart: impl Fn(&mut C),
        mut each: impl FnMut(&mut C, u16, &[u8]),
    ) -> io::Result<()> {
        for _ in 0..DUMP_ATTEMPTS {
            restart(collected);
            if self.exchange(request, libc::NLM_F_DUMP, collected, &mut each)? {
                return Ok(());
            }
        }
        Err(io::Error::from(io::ErrorKind::Interrupted))
    }

    /// Sends `request`, which is about one thing, and hands the type and the payload of the answer to `each`.
    ///
    /// # Errors
    ///
    /// The kernel's errno; `InvalidData` for an answer that is none.
    pub fn get<C>(
        &mut self,
        request: &mut Request,
        collected: &mut C,
        mut each: impl FnMut(&mut C, u16, &[u8]),
    ) -> io::Result<()> {
        self.exchange(request, libc::NLM_F_ACK, collected, &mut each).map(|_| ())
    }

    /// False: the table changed while it was read.
    fn exchange<C>(
        &mut self,
        request: &mut Request,
        flags: libc::c_int,
        collected: &mut C,
        each: &mut impl FnMut(&mut C, u16, &[u8]),
    ) -> io::Result<bool> {
        let sequence = self.send(request, flags as u16)?;
        let mut consistent = true;
        loop {
            let length = self.receive()?;
            let mut rest = &self.received[..length];
            while let Some((header, payload, next)) = message::split(rest) {
                rest = next;
                if header.sequence != sequence {
                    continue;
                }
                consistent &= header.flags & NLM_F_DUMP_INTR == 0;
                match i32::from(header.kind) {
                    libc::NLMSG_DONE => {
                        // The payload is the dump's own result (0, or a negative errno).
                        message::outcome(payload)?;
                        return Ok(consistent);
                    }
                    libc::NLMSG_ERROR => {
                        message::outcome(payload)?;
                        return Ok(consistent);
                    }
                    _ => each(collected, header.kind, payload),
                }
            }
        }
    }

    fn send(&mut self, request: &mut Request, flags: u16) -> io::Result<u32> {
        // What an earlier, failed exchange left behind is not ours.
        while self.receive().is_ok() {}
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(flags, self.sequence)?;
        // SAFETY: pointer and length are of one slice; an unconnected netlink socket sends to the kernel (port 0).
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(self.sequence)
    }

    fn receive(&mut self) -> io::Result<usize> {
        // SAFETY: pointer and length are of one buffer. MSG_TRUNC makes the result the true length.
        let length =
            unsafe { libc::recv(self.fd.as_raw_fd(), self.received.as_mut_ptr().cast(), RECEIVE_MAX, libc::MSG_TRUNC) };
        let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
        if !(HEADER..=RECEIVE_MAX).contains(&length) {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        Ok(length)
    }
}

/// The payload's leading `T`, and the attributes that follow it.
#[must_use]
pub fn body<T: zerocopy::FromBytes>(payload: &[u8]) -> Option<(T, Attributes<'_>)> {
    let (value, _) = T::read_from_prefix(payload).ok()?;
    let rest = payload.get(message::align(size_of::<T>())..).unwrap_or(&[]);
    Some((value, Attributes::new(rest)))
}

/// `struct ifinfomsg` (linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct InterfaceBody {
    /// AF_UNSPEC.
    pub family: u8,
    /// Padding.
    pub pad: u8,
    /// ARPHRD_*.
    pub hardware: u16,
    /// Interface index.
    pub index: i32,
    /// IFF_*.
    pub flags: u32,
    /// Which flags to change.
    pub change: u32,
}

/// `struct ifaddrmsg` (linux/if_addr.h).
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct AddressBody {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// Prefix length in bits.
    pub prefix: u8,
    /// IFA_F_*, the low eight.
    pub flags: u8,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// Interface index.
    pub index: u32,
}

/// `struct ifa_cacheinfo` (linux/if_addr.h).
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct AddressLifetime {
    /// Seconds until the address is deprecated.
    pub preferred: u32,
    /// Seconds until the kernel removes the address; u32::MAX is never.
    pub valid: u32,
    /// When it was made, in hundredths of seconds.
    pub created: u32,
    /// When it was changed last, in hundredths of seconds.
    pub updated: u32,
}

/// `struct ndmsg` (linux/neighbour.h).
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct NeighborBody {
    /// AF_INET, AF_INET6, or AF_UNSPEC for all.
    pub family: u8,
    /// Padding.
    pub pad: [u8; 3],
    /// Interface index.
    pub index: i32,
    /// NUD_*.
    pub state: u16,
    /// NTF_*.
    pub flags: u8,
    /// RTN_*.
    pub kind: u8,
}

/// `struct rtmsg` (linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct RouteBody {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// Prefix length of the destination, in bits.
    pub destination_length: u8,
    /// Prefix length of the source, in bits.
    pub source_length: u8,
    /// Type of service.
    pub service: u8,
    /// RT_TABLE_*.
    pub table: u8,
    /// RTPROT_*.
    pub protocol: u8,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// RTN_*.
    pub kind: u8,
    /// RTM_F_*.
    pub flags: u32,
}

/// `struct tcmsg` (linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct QueueBody {
    /// AF_UNSPEC.
    pub family: u8,
    /// Padding.
    pub pad: [u8; 3],
    /// Interface index.
    pub index: i32,
    /// Handle of the queueing discipline.
    pub handle: u32,
    /// TC_H_ROOT for the root.
    pub parent: u32,
    /// Kind-dependent.
    pub info: u32,
}

/// `struct genlmsghdr` (linux/genetlink.h).
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct GenericBody {
    /// What the family is asked for.
    pub command: u8,
    /// 1.
    pub version: u8,
    /// Zero.
    pub reserved: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_dumped_and_a_bad_change_is_refused() {
        let mut socket = Socket::open().unwrap();
        let mut request = Request::new(libc::RTM_GETLINK, 0, &InterfaceBody::default());
        let mut names = Vec::new();
        socket
            .dump(&mut request, &mut names, Vec::clear, |names, _, payload| {
                let (_, attributes) = body::<InterfaceBody>(payload).unwrap();
                names.push(attributes.get(libc::IFLA_IFNAME).unwrap().to_vec());
            })
            .unwrap();
        assert!(names.iter().any(|n| n == b"lo\0"), "{names:?}");

        let nowhere = InterfaceBody { index: i32::MAX, ..InterfaceBody::default() };
        let error = socket.change(&mut Request::new(libc::RTM_DELLINK, 0, &nowhere)).unwrap_err();
        // Without root the kernel does not even look.
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
    }
}
