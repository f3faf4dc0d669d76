//! A payload with a seal: magic, format version, length and a BLAKE3 checksum over all of it.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "twoboxst"
//!      8     2  format version, little endian
//!     10     2  payload length n, little endian
//!     12     n  payload
//!   12+n    32  BLAKE3 of the bytes before it
//! ```
//!
//! Nothing but the exact file opens: a missing byte, a byte too many and a flipped bit each have a [`Damage`] of their
//! own, because the reader must never take an older or half-written promise for the newest one.

use core::fmt;

/// Format version written and the only one read.
pub const VERSION: u16 = 1;

/// Largest payload, in bytes: with its seal it fits a disk sector many times over and stays one write.
pub const PAYLOAD_MAX: usize = 1024;

const MAGIC: &[u8; 8] = b"twoboxst";
const HEADER: usize = 12;
const CHECKSUM: usize = blake3::OUT_LEN;

/// Why a file does not open. What it held is unknown then, and must not be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Shorter than its own header or the length in it.
    Truncated,
    /// Longer than the length in its header.
    Overlong,
    /// Does not begin with the magic: something else stands in its place.
    Foreign,
    /// Written by a format version that this program does not know.
    Version(u16),
    /// The checksum does not match.
    Checksum,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Truncated => f.write_str("it ends too early"),
            Damage::Overlong => f.write_str("bytes follow its end"),
            Damage::Foreign => f.write_str("it is no state file"),
            Damage::Version(v) => write!(f, "its format version is {v}, this program knows {VERSION}"),
            Damage::Checksum => f.write_str("its checksum does not match"),
        }
    }
}

impl std::error::Error for Damage {}

/// `payload` with its seal.
///
/// # Panics
///
/// If `payload` is longer than [`PAYLOAD_MAX`]: its size is fixed when the program is written.
#[must_use]
pub fn seal(payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= PAYLOAD_MAX, "state payload of {} bytes", payload.len());
    let mut bytes = Vec::with_capacity(HEADER + payload.len() + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    #[allow(clippy::cast_possible_truncation)] // asserted above
    bytes.extend_from_slice(&(payload.len() as u16).to_le_bytes());
    bytes.extend_from_slice(payload);
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

/// The payload of a sealed file.
///
/// # Errors
///
/// [`Damage`] for everything but the exact bytes that [`seal`] made.
pub fn open(bytes: &[u8]) -> Result<&[u8], Damage> {
    let (header, rest) = bytes.split_at_checked(HEADER).ok_or(Damage::Truncated)?;
    if &header[..8] != MAGIC {
        return Err(Damage::Foreign);
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    let length = usize::from(u16::from_le_bytes([header[10], header[11]]));
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    let (payload, checksum) = rest.split_at_checked(length).ok_or(Damage::Truncated)?;
    match checksum.len() {
        n if n < CHECKSUM => return Err(Damage::Truncated),
        n if n > CHECKSUM => return Err(Damage::Overlong),
        _ => {}
    }
    if blake3::hash(&bytes[..HEADER + length]).as_bytes() != checksum {
        return Err(Damage::Checksum);
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        seal(&(0..200u8).collect::<Vec<_>>())
    }

    #[test]
    fn what_was_sealed_opens_to_the_same_bytes() {
        for n in [0, 1, 199, PAYLOAD_MAX] {
            let payload: Vec<u8> = (0..n).map(|i| u8::try_from(i % 251).unwrap()).collect();
            assert_eq!(open(&seal(&payload)).unwrap(), payload);
        }
    }

    #[test]
    fn a_write_torn_at_any_byte_is_recognised() {
        let whole = sample();
        for end in 0..whole.len() {
            assert_eq!(open(&whole[..end]), Err(Damage::Truncated), "cut at {end}");
        }
        let mut longer = whole;
        longer.push(0);
        assert_eq!(open(&longer), Err(Damage::Overlong));
    }

    #[test]
    fn any_flipped_bit_is_recognised() {
        let whole = sample();
        for bit in 0..whole.len() * 8 {
            let mut bent = whole.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bent).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_new_head_on_an_old_tail_is_recognised() {
        // What a disk leaves that wrote some sectors of the new version and kept the rest of the old one.
        let (old, new) = (seal(&[1; 200]), seal(&[2; 200]));
        for cut in HEADER + 1..new.len() {
            let mixed = [&new[..cut], &old[cut..]].concat();
            assert_eq!(open(&mixed), Err(Damage::Checksum), "mixed at {cut}");
        }
    }
}
