//! The node's record as bytes, and back. Pure; [`crate::state`] seals and writes them.
//!
//! ```text
//! served 8 | reserved 8 | voted 8 | newest term 8, boot 8 | own term 8, boot 8 | proven digest 8 |
//! flags 1 (farewell 2, held 4) | proven 1 | strikes 1
//! ```
//!
//! Little endian. A record of another length is none: the format changes with the version of the seal.

use crate::node::Record;
use crate::wire::pair::Generation;

/// Bytes of a record.
pub const SIZE: usize = 8 * 8 + 3;

const FAREWELL: u8 = 2;
const HELD: u8 = 4;

/// The record as bytes.
#[must_use]
pub fn encode(record: &Record) -> [u8; SIZE] {
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let numbers = [
        record.served,
        record.reserved,
        record.voted,
        record.newest.term,
        record.newest.boot,
        record.own.term,
        record.own.boot,
        record.proven_digest,
    ];
    let mut bytes = [0; SIZE];
    for (chunk, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        chunk.copy_from_slice(&number.to_le_bytes());
    }
    bytes[64] = flag(record.farewell, FAREWELL) | flag(record.held, HELD);
    bytes[65] = record.proven;
    bytes[66] = record.strikes;
    bytes
}

/// The record in `bytes`; `None` for anything that [`encode`] does not make.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Record> {
    let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
    let (numbers, _) = bytes.as_chunks::<8>();
    let number = |at: usize| u64::from_le_bytes(numbers[at]);
    let flags = bytes[64];
    if flags & !(FAREWELL | HELD) != 0 {
        return None;
    }
    Some(Record {
        served: number(0),
        reserved: number(1),
        voted: number(2),
        newest: Generation { term: number(3), boot: number(4) },
        own: Generation { term: number(5), boot: number(6) },
        proven_digest: number(7),
        farewell: flags & FAREWELL != 0,
        held: flags & HELD != 0,
        proven: bytes[65],
        strikes: bytes[66],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        Record {
            served: 1,
            reserved: 3,
            voted: 1 << 40,
            newest: Generation { term: 5, boot: 6 },
            own: Generation { term: 7, boot: u64::MAX },
            farewell: false,
            held: true,
            proven: 0b101,
            proven_digest: 9,
            strikes: 2,
        }
    }

    #[test]
    fn a_record_survives_its_bytes() {
        assert_eq!(decode(&encode(&sample())), Some(sample()));
        let farewell = Record { farewell: true, ..Record::default() };
        assert_eq!(decode(&encode(&farewell)), Some(farewell));
    }

    #[test]
    fn what_no_record_can_be_is_none() {
        let bytes = encode(&sample());
        for end in 0..SIZE {
            assert_eq!(decode(&bytes[..end]), None);
        }
        let mut unknown = bytes;
        unknown[64] |= 8;
        assert_eq!(decode(&unknown), None);
    }
}
