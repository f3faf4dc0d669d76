//! Values as bytes: numbers of variable length (LEB128) and counted byte strings. Every read is bounded by what is there.

/// What arrived is no value of ours: cut off, too long, or out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("malformed record")
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for std::io::Error {
    fn from(e: Malformed) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, e)
    }
}

/// Appends `n`, seven bits a byte, lowest first.
pub fn put_number(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push((n as u8) | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

/// Appends a signed number with its sign in the lowest bit.
pub fn put_signed(to: &mut Vec<u8>, n: i64) {
    put_number(to, ((n << 1) ^ (n >> 63)) as u64);
}

/// Appends a byte string behind its length.
pub fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// Takes values off the front of a byte string.
#[derive(Clone, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Exactly `n` bytes.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// At the end.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    /// As many bytes as an array holds.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// What [`put_number`] wrote.
    ///
    /// # Errors
    ///
    /// When it is cut off or does not fit 64 bits.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(Malformed)
    }

    /// What [`put_number`] wrote, if it fits 32 bits.
    ///
    /// # Errors
    ///
    /// As [`Reader::number`].
    pub fn number32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed)
    }

    /// What [`put_signed`] wrote.
    ///
    /// # Errors
    ///
    /// As [`Reader::number`].
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let n = self.number()?;
        Ok(((n >> 1) as i64) ^ -((n & 1) as i64))
    }

    /// What [`put_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// When it is cut off.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        self.take(n)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    ///
    /// When something is.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_return(n: u64, s: i64, b: Vec<u8>) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, n);
            put_signed(&mut bytes, s);
            put_bytes(&mut bytes, &b);
            let mut r = Reader(&bytes);
            prop_assert_eq!((r.number().unwrap(), r.signed().unwrap(), r.bytes().unwrap()), (n, s, &b[..]));
            prop_assert!(r.end().is_ok());
        }

        #[test]
        fn any_bytes_are_read_without_panic(b: Vec<u8>) {
            let mut r = Reader(&b);
            while r.number().is_ok() && r.bytes().is_ok() {}
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_malformed() {
        assert_eq!(Reader(&[0xff; 9].iter().copied().chain([0x02]).collect::<Vec<_>>()).number(), Err(Malformed));
    }
}
