//! Netlink messages for nf_tables: a transaction is one datagram of many messages, longer than [`crate::netlink`] has room
//! for, which is made for the loop's small routing requests.
//!
//! Formats: netlink(7); Linux include/uapi/linux/netlink.h.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, sockopt};
use nix::sys::time::TimeVal;

/// The receiver answers with its error, or zero.
const ACK: u16 = 0x04;
/// All objects, not one.
pub const DUMP: u16 = 0x300;
/// Make it.
pub const CREATE: u16 = 0x400;
/// At the end of the list (nf_tables rules).
pub const APPEND: u16 = 0x800;

const REQUEST: u16 = 0x01;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;

/// One request under construction.
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of `kind` with the fixed part `head` of its family.
    #[must_use]
    pub fn new(kind: u16, flags: u16, head: &[u8]) -> Message {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // sequence and port, set when it is sent
        bytes.extend_from_slice(head);
        Message { bytes }
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Message {
        let length = u16::try_from(4 + value.len()).expect("attributes here are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a text with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Message {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Adds an attribute made of the attributes that `fill` adds.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) -> &mut Message {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("attributes here are short");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Asks for an answer even to success.
    pub fn acknowledged(&mut self) {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | ACK;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    fn seal(&mut self, sequence: u32) {
        let length = u32::try_from(self.bytes.len()).expect("messages here are short");
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// A netlink socket. Its owner waits for each answer; the kernel makes them at once.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens one to nf_tables.
    ///
    /// # Errors
    /// EPROTONOSUPPORT where the kernel does not have nfnetlink.
    pub fn open() -> io::Result<Socket> {
        let protocol = SockProtocol::NetlinkNetFilter;
        let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        socket::setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// Sends a dump request; calls `each` with kind and body (family head and attributes) of every object.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn dump(&mut self, message: Message, each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.collect(vec![message], each)
    }

    /// Sends all in one datagram, as an nf_tables transaction wants it, and waits until the last one that asks for an
    /// acknowledgement has it. The first error is the result of all.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn batch(&mut self, messages: Vec<Message>) -> io::Result<()> {
        self.collect(messages, |_, _| {})
    }

    fn collect(&mut self, messages: Vec<Message>, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        let mut awaited = self.sequence;
        for mut message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.seal(self.sequence);
            let flags = u16::from_ne_bytes([message.bytes[6], message.bytes[7]]);
            if flags & (ACK | DUMP) != 0 {
                awaited = self.sequence;
            }
            datagram.extend_from_slice(&message.bytes);
        }
        socket::send(self.fd.as_raw_fd(), &datagram, MsgFlags::empty())?;

        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = socket::recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some((header, body, next)) = split(rest) {
                rest = next;
                if header.sequence.wrapping_sub(first) > self.sequence.wrapping_sub(first) {
                    continue; // the rest of an answer that nobody waits for any more
                }
                match header.kind {
                    KIND_ERROR | KIND_DONE => {
                        let code = body.get(..4).map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
                        if code != 0 {
                            return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
                        }
                        if header.sequence == awaited {
                            return Ok(());
                        }
                    }
                    kind => each(kind, body),
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    sequence: u32,
}

/// The first message of `bytes`: its header, its body, what follows.
fn split(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let head = bytes.get(..HEADER)?;
    let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let body = bytes.get(HEADER..length)?;
    let header = Header {
        kind: u16::from_ne_bytes([head[4], head[5]]),
        sequence: u32::from_ne_bytes([head[8], head[9], head[10], head[11]]),
    };
    Some((header, body, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
}

/// The attributes in `bytes`: kind without its flags, and value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The value of the first attribute of `kind`.
#[must_use]
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|&(k, _)| k == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_can_be_taken_apart() {
        let mut message = Message::new(44, CREATE, &[7; 20]);
        message.text(1, "bpf").nest(2, |m| {
            m.attribute(6, &5u32.to_ne_bytes()).attribute(9, &[1]);
        });
        message.seal(77);
        let (header, body, rest) = split(&message.bytes).unwrap();
        assert_eq!((header.kind, header.sequence, rest.len()), (44, 77, 0));
        assert_eq!(body[..20], [7; 20]);
        assert_eq!(find(&body[20..], 1), Some(&b"bpf\0"[..]));
        let nested = find(&body[20..], 2).unwrap();
        assert_eq!(find(nested, 6), Some(&5u32.to_ne_bytes()[..]));
        assert_eq!(find(nested, 9), Some(&[1][..]));
        assert_eq!(find(nested, 10), None);
    }

    #[test]
    fn cut_or_lying_lengths_end_the_reading() {
        assert!(split(&[0; 15]).is_none());
        assert!(split(&[255; 16]).is_none());
        let mut short = [0; 16];
        short[0] = 3;
        assert!(split(&short).is_none());
        assert_eq!(attributes(&[3, 0, 1, 0, 9, 9]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 9, 9]).count(), 0);
    }
}
