//! Frames on a serial line that other things speak on too: a kernel that panics, a login prompt, noise.
//!
//! ```text
//! 00 | FE | COBS of ( payload with every top bit flipped | CRC-16 ) | 00
//! ```
//!
//! Consistent overhead byte stuffing (Cheshire and Baker 1999) leaves no zero inside a frame, and kernel text has none, so
//! a zero always starts afresh: an intact frame is found whatever came before it. `FE` is in no text, so what does not
//! begin so after a zero is handed out at once and not kept until the next zero, which a kernel that died never sends. The
//! top bits are flipped so that text carried in a frame (the peer's log, say) never looks like text on the line, not even
//! when the frame is damaged.

use super::heartbeat;

/// Longest payload: nothing that the pair sends is longer than a heartbeat.
pub const PAYLOAD_MAX: usize = heartbeat::MAX_SIZE;
/// Longest frame on the line, both delimiters included.
pub const FRAME_MAX: usize = 3 + STUFFED_MAX;

const DELIMITER: u8 = 0;
const START: u8 = 0xfe;
const FLIP: u8 = 0x80;
const CRC: usize = 2;
/// One code byte for every 254 bytes begun.
const STUFFED_MAX: usize = PAYLOAD_MAX + CRC + 1 + (PAYLOAD_MAX + CRC) / 254;
/// A frame ends with a zero and the next begins with one: more zeros in a row are not ours.
const ZEROS: u8 = 2;

/// Puts `payload` into a frame for the line; `None` if it is longer than [`PAYLOAD_MAX`].
#[must_use]
pub fn encode<'a>(payload: &[u8], out: &'a mut [u8; FRAME_MAX]) -> Option<&'a [u8]> {
    if payload.len() > PAYLOAD_MAX {
        return None;
    }
    let crc = crc16(payload).to_be_bytes();
    out[..2].copy_from_slice(&[DELIMITER, START]);
    let (mut code_at, mut at) = (2, 3);
    let mut run = 1;
    for byte in payload.iter().chain(&crc).map(|b| b ^ FLIP) {
        if byte != 0 {
            out[at] = byte;
            at += 1;
            run += 1;
        }
        if byte == 0 || run == 0xff {
            out[code_at] = run;
            (code_at, at, run) = (at, at + 1, 1);
        }
    }
    out[code_at] = run;
    out[at] = DELIMITER;
    Some(&out[..=at])
}

/// What was found on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The payload of an intact frame.
    Frame(&'a [u8]),
    /// Bytes outside of frames, in the order of their arrival and as soon as they are known to be no frame; the zeros that
    /// delimit frames are left out. Never empty.
    Noise(&'a [u8]),
}

/// Takes a line apart, as its bytes come.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// What may yet become a frame, from [`START`] on.
    held: heapless::Vec<u8, { STUFFED_MAX + 1 }>,
    /// The byte before was a delimiter, so a frame may begin.
    fresh: bool,
    /// Delimiters in a row.
    zeros: u8,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// Nothing heard yet.
    #[must_use]
    pub const fn new() -> Decoder {
        Decoder { held: heapless::Vec::new(), fresh: false, zeros: 0 }
    }

    /// Takes the bytes that came and hands out what they complete.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Piece<'_>)) {
        let mut noise_from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let kept_out = self.held.is_empty() && !(byte == DELIMITER || self.fresh && byte == START);
            if kept_out {
                (self.fresh, self.zeros) = (false, 0);
                continue; // noise: goes out with its neighbours
            }
            if noise_from < at {
                found(Piece::Noise(&bytes[noise_from..at]));
            }
            noise_from = at + 1;
            if byte == DELIMITER {
                self.delimiter(&mut found);
            } else {
                (self.fresh, self.zeros) = (false, 0);
                self.hold(byte, &mut found);
            }
        }
        if noise_from < bytes.len() {
            found(Piece::Noise(&bytes[noise_from..]));
        }
    }

    /// The line has been quiet for longer than a sender pauses within a frame: hands out what was kept for a frame that
    /// never ended.
    pub fn idle(&mut self, mut found: impl FnMut(Piece<'_>)) {
        self.give_up(&mut found);
    }

    fn delimiter(&mut self, found: &mut impl FnMut(Piece<'_>)) {
        let mut plain = [0; STUFFED_MAX];
        match self.held.split_first().and_then(|(_, stuffed)| unstuff(stuffed, &mut plain)) {
            Some(payload) => {
                found(Piece::Frame(payload));
                self.held.clear();
            }
            None => self.give_up(found),
        }
        self.fresh = true;
        if self.zeros < ZEROS {
            self.zeros += 1;
        } else {
            found(Piece::Noise(&[DELIMITER]));
        }
    }

    fn hold(&mut self, byte: u8, found: &mut impl FnMut(Piece<'_>)) {
        if self.held.push(byte).is_err() {
            // Longer than any frame.
            self.give_up(found);
            found(Piece::Noise(&[byte]));
        }
    }

    fn give_up(&mut self, found: &mut impl FnMut(Piece<'_>)) {
        if !self.held.is_empty() {
            found(Piece::Noise(&self.held));
            self.held.clear();
        }
    }
}

/// Undoes the stuffing and the flipping, checks the CRC.
fn unstuff<'a>(stuffed: &[u8], plain: &'a mut [u8; STUFFED_MAX]) -> Option<&'a [u8]> {
    let mut length = 0;
    let mut rest = stuffed;
    while let Some((&code, after)) = rest.split_first() {
        let (run, after) = after.split_at_checked(usize::from(code).checked_sub(1)?)?;
        for byte in run {
            *plain.get_mut(length)? = byte ^ FLIP;
            length += 1;
        }
        // A full run stands for itself, every other one for itself and a zero, except at the end.
        if code != 0xff && !after.is_empty() {
            *plain.get_mut(length)? = FLIP;
            length += 1;
        }
        rest = after;
    }
    let (payload, crc) = plain[..length].split_last_chunk::<CRC>()?;
    (payload.len() <= PAYLOAD_MAX && crc16(payload).to_be_bytes() == *crc).then_some(payload)
}

/// CRC-16/IBM-3740 ("CCITT-FALSE" in the RevEng catalogue: polynomial 0x1021, start 0xffff). It only tells frames from
/// noise; what is believed has a tag of its own.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Everything found, noise joined.
    #[derive(Default, Debug, PartialEq)]
    struct Found {
        frames: Vec<Vec<u8>>,
        noise: Vec<u8>,
    }

    impl Found {
        fn take(&mut self, piece: Piece<'_>) {
            match piece {
                Piece::Frame(frame) => self.frames.push(frame.to_vec()),
                Piece::Noise(noise) => {
                    assert!(!noise.is_empty());
                    self.noise.extend(noise);
                }
            }
        }
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        encode(payload, &mut [0; FRAME_MAX]).unwrap().to_vec()
    }

    #[test]
    fn the_crc_is_the_catalogued_one() {
        assert_eq!(crc16(b"123456789"), 0x29b1);
    }

    #[test]
    fn a_frame_byte_by_byte() {
        // Flipped: 0x80 becomes the zero that stuffing replaces by a count.
        assert_eq!(crc16(&[1, 0x80, 2]), 0xc076);
        assert_eq!(framed(&[1, 0x80, 2]), [0, 0xfe, 2, 0x81, 4, 0x82, 0x40, 0xf6, 0]);
    }

    #[test]
    fn text_after_a_frame_is_seen_at_once_and_whole() {
        let (mut decoder, mut found) = (Decoder::new(), Found::default());
        decoder.feed(&framed(b"beat"), |p| found.take(p));
        decoder.feed(b"Kernel panic - not syncing", |p| found.take(p));
        assert_eq!(found, Found { frames: vec![b"beat".to_vec()], noise: b"Kernel panic - not syncing".to_vec() });
    }

    #[test]
    fn text_that_broke_into_a_frame_is_seen_once_it_is_longer_than_a_frame_or_the_line_is_idle() {
        let half = &framed(&[0x11; 60])[..20];
        let (mut decoder, mut found) = (Decoder::new(), Found::default());
        decoder.feed(half, |p| found.take(p));
        decoder.feed(b"Rebooting in 1 seconds..", |p| found.take(p));
        assert_eq!(found, Found::default());
        let mut long = (decoder.clone(), Found::default());
        decoder.idle(|p| found.take(p));
        assert!(found.noise.ends_with(b"Rebooting in 1 seconds.."));
        long.0.feed(&[b'x'; FRAME_MAX], |p| long.1.take(p));
        assert_eq!(long.1.noise.len(), 19 + 24 + FRAME_MAX);
    }

    #[test]
    fn zeros_in_a_row_are_noise() {
        let (mut decoder, mut found) = (Decoder::new(), Found::default());
        decoder.feed(&[0; 10], |p| found.take(p));
        assert_eq!(found.noise.len(), 8);
    }

    #[test]
    fn carried_text_is_not_readable_on_the_line() {
        let line = framed(b"---[ end Kernel panic - not syncing: Fatal exception ]---");
        assert!(!line.windows(4).any(|w| w.iter().all(u8::is_ascii)));
    }

    #[test]
    fn a_flipped_bit_makes_no_other_frame() {
        let payload: Vec<u8> = (0..PAYLOAD_MAX).map(|i| (i * 37 % 256) as u8).collect();
        let line = framed(&payload);
        for bit in 0..line.len() * 8 {
            let mut bad = line.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            bad.push(0);
            let (mut decoder, mut found) = (Decoder::new(), Found::default());
            decoder.feed(&bad, |p| found.take(p));
            // A delimiter that is damaged before or behind the frame does no harm to it.
            assert!(found.frames.is_empty() || found.frames == std::slice::from_ref(&payload), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_payload_comes_back_however_it_is_cut(payload in vec(any::<u8>(), 0..=PAYLOAD_MAX), cut in 1usize..64) {
            let line = framed(&payload);
            prop_assert!(!line[1..line.len() - 1].contains(&0));
            let (mut decoder, mut found) = (Decoder::new(), Found::default());
            line.chunks(cut).for_each(|part| decoder.feed(part, |p| found.take(p)));
            prop_assert_eq!(found, Found { frames: vec![payload], noise: vec![] });
        }

        #[test]
        fn an_intact_frame_is_found_after_any_noise(
            noise in vec(prop_oneof![any::<u8>(), Just(0), Just(START)], 0..600),
            payload in vec(any::<u8>(), 0..=PAYLOAD_MAX),
            cut in 1usize..300,
        ) {
            let mut line = noise.clone();
            line.extend(framed(&payload));
            let (mut decoder, mut found) = (Decoder::new(), Found::default());
            line.chunks(cut).for_each(|part| decoder.feed(part, |p| found.take(p)));
            prop_assert_eq!(found.frames.last(), Some(&payload));
        }

        #[test]
        fn text_is_handed_out_complete_and_in_order(
            parts in vec((vec(1u8..0x80, 0..300), vec(any::<u8>(), 0..100)), 1..5),
            cut in 1usize..300,
        ) {
            let (mut line, mut text): (Vec<u8>, Vec<u8>) = (vec![], vec![]);
            for (words, payload) in &parts {
                line.extend(words);
                text.extend(words);
                line.extend(framed(payload));
            }
            let (mut decoder, mut found) = (Decoder::new(), Found::default());
            line.chunks(cut).for_each(|part| decoder.feed(part, |p| found.take(p)));
            prop_assert_eq!(found.noise, text);
            prop_assert_eq!(found.frames.len(), parts.len());
        }
    }
}
