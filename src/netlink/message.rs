//! Netlink messages in a fixed buffer: header, body, attributes; each padded to four bytes (netlink(7)).

use std::io;

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Length of `struct nlmsghdr`.
pub const HEADER: usize = size_of::<Header>();
const ATTRIBUTE: usize = size_of::<AttributeHeader>();
/// Room for the largest request that is made: a link with nested attributes, well below this.
const REQUEST_MAX: usize = 512;
/// The flags "nested" and "network byte order" in an attribute's type (linux/netlink.h NLA_TYPE_MASK).
const TYPE_MASK: u16 = 0x3fff;

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Header {
    pub length: u32,
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub port: u32,
}

/// `struct nlattr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct AttributeHeader {
    length: u16,
    kind: u16,
}

/// The next multiple of four.
pub const fn align(n: usize) -> usize {
    (n + 3) & !3
}

/// A request under construction. What does not fit makes [`super::Socket::change`] fail, and is a bug of the caller.
pub struct Request {
    buffer: [u8; REQUEST_MAX],
    length: usize,
    kind: u16,
    flags: u16,
    fits: bool,
}

/// An open nested attribute, to be given back to [`Request::close`].
#[must_use]
pub struct Nest {
    start: usize,
}

impl Request {
    /// A request of type `kind` (RTM_*) with `flags` (NLM_F_*; NLM_F_REQUEST is always there) and `body`.
    #[must_use]
    pub fn new<B: IntoBytes + Immutable>(kind: u16, flags: libc::c_int, body: &B) -> Request {
        let mut request = Request { buffer: [0; REQUEST_MAX], length: HEADER, kind, flags: flags as u16, fits: true };
        request.push(body.as_bytes());
        request
    }

    /// Adds one attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Request {
        let header = AttributeHeader { length: (ATTRIBUTE + value.len()) as u16, kind };
        self.push(header.as_bytes());
        self.push(value);
        self
    }

    /// Adds one attribute that holds a text with its final zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Request {
        let header = AttributeHeader { length: (ATTRIBUTE + value.len() + 1) as u16, kind };
        self.push(header.as_bytes());
        let start = self.length;
        self.push(value.as_bytes());
        // The padding is zero; a text that fills its last word needs one more.
        self.length = align(start + value.len() + 1);
        self.fits &= self.length <= REQUEST_MAX;
        self
    }

    /// Opens a nested attribute: what is added until [`Request::close`] belongs to it.
    pub fn open(&mut self, kind: u16) -> Nest {
        let start = self.length;
        self.attribute(kind, &[]);
        Nest { start }
    }

    /// Ends a nested attribute.
    pub fn close(&mut self, nest: Nest) -> &mut Request {
        if self.fits {
            let length = (self.length - nest.start) as u16;
            self.buffer[nest.start..nest.start + 2].copy_from_slice(&length.to_ne_bytes());
        }
        self
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        match self.buffer.get_mut(self.length..end) {
            Some(room) if self.fits => {
                room.copy_from_slice(bytes);
                self.length = align(end);
                self.fits = self.length <= REQUEST_MAX;
            }
            _ => self.fits = false,
        }
    }

    /// The bytes to send.
    pub(super) fn finish(&mut self, flags: u16, sequence: u32) -> io::Result<&[u8]> {
        if !self.fits {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let header = Header {
            length: self.length as u32,
            kind: self.kind,
            flags: self.flags | flags | libc::NLM_F_REQUEST as u16,
            sequence,
            port: 0,
        };
        self.buffer[..HEADER].copy_from_slice(header.as_bytes());
        Ok(&self.buffer[..self.length])
    }
}

/// The first message of `bytes`: header, payload, and what follows it. `None` at the end, and at bytes that are no message.
pub fn split(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let (header, _) = Header::read_from_prefix(bytes).ok()?;
    let length = header.length as usize;
    let payload = bytes.get(HEADER..length)?;
    Some((header, payload, bytes.get(align(length)..).unwrap_or(&[])))
}

/// The result in an error, acknowledgement or end-of-dump message.
pub fn outcome(payload: &[u8]) -> io::Result<()> {
    let (code, _) = i32::read_from_prefix(payload).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) }
}

/// The attributes of a message, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes in `bytes`; also for the payload of a nested one.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Attributes<'a> {
        Attributes { rest: bytes }
    }

    /// The payload of the first attribute of this type.
    #[must_use]
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find_map(|(k, value)| (k == kind).then_some(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let (header, _) = AttributeHeader::read_from_prefix(self.rest).ok()?;
        let length = header.length as usize;
        let value = self.rest.get(ATTRIBUTE..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or(&[]);
        Some((header.kind & TYPE_MASK, value))
    }
}

/// The attribute's payload as a fixed-size value in host order.
#[must_use]
pub fn attribute<T: FromBytes>(value: Option<&[u8]>) -> Option<T> {
    T::read_from_prefix(value?).ok().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back_with_its_nesting() {
        let mut request = Request::new(16, 0, &[1u8, 2, 3, 4]);
        request.text(3, "abc");
        let nest = request.open(18);
        request.text(1, "macvlan").attribute(2, &[9]);
        request.close(nest);
        let bytes = request.finish(4, 7).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let (header, payload, rest) = split(bytes).unwrap();
        assert_eq!((header.kind, header.flags, header.sequence), (16, 5, 7));
        assert!(rest.is_empty());
        let outer = Attributes::new(&payload[4..]);
        assert_eq!(outer.get(3), Some(&b"abc\0"[..]));
        let inner = Attributes::new(outer.get(18).unwrap());
        assert_eq!(inner.get(1), Some(&b"macvlan\0"[..]));
        assert_eq!(inner.get(2), Some(&[9][..]));
        assert_eq!(inner.get(5), None);
    }

    #[test]
    fn a_request_that_is_too_long_is_refused_and_not_cut() {
        let mut request = Request::new(16, 0, &[0u8; 4]);
        request.attribute(1, &[0; REQUEST_MAX]);
        request.attribute(1, &[0; 4]);
        assert_eq!(request.finish(0, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        let mut bytes = [0u8; 20];
        for length in [0u32, 3, 15, 21, u32::MAX] {
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(split(&bytes).is_none(), "{length}");
        }
        for length in [0u16, 3, 9, u16::MAX] {
            let mut attribute = [0u8; 8];
            attribute[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Attributes::new(&attribute).count(), 0, "{length}");
        }
        assert!(outcome(&[0, 0]).is_err());
        assert_eq!(outcome(&(-libc::ENODEV).to_ne_bytes()).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
