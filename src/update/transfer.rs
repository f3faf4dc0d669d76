//! An image from one box to the other: over the same kind of link as the mirror's (found by multicast on the crossover, or
//! by the LAN address; TCP, Noise with a key derived from the pair's), on a port and with a key of its own.
//!
//! ```text
//! offering box (has the file)          fetching box
//!     length, 8 bytes  ------------------->
//!     bytes, in parts  ------------------->  into the slot, as they come
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::channel;

use crate::clock;
use crate::mirror::channel::{Channel, Incoming, Outgoing};
use crate::mirror::control::{Generation, Link};
use crate::mirror::links::{self, Acceptor};
use crate::time::Duration;

/// Port of the connection on the box that offers.
pub const PORT: u16 = 7421;
/// Bytes of a part.
const PART: usize = 64 * 1024;
/// Pause between two looks for the offering box.
const PAUSE: Duration = Duration::from_millis(200);
/// A box that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the frames of this link carry where the mirror's have their generation.
const STREAM: Generation = Generation { term: 1, boot: 0x7570_6461_7465 };

const LENGTH: u8 = 1;
const BYTES: u8 = 2;

/// The key of the link, from the pair's key.
#[must_use]
pub fn link_key(pair_key: &[u8]) -> [u8; 32] {
    blake3::derive_key("twobox 2026 update link noise psk", pair_key)
}

/// Gives the file to the first that asks within `limit` and knows the key. `tell` hears how many bytes have left.
///
/// # Errors
///
/// What the file or the link said; `TimedOut` when nobody came.
pub fn offer(
    file: &mut File,
    links: Vec<Link>,
    key: [u8; 32],
    limit: Duration,
    mut tell: impl FnMut(u64),
) -> io::Result<()> {
    let length = file.metadata()?.len();
    let (sender, came) = channel::<Channel>();
    let acceptor = Acceptor::start(links, PORT, key, move |channel| drop(sender.send(channel)))?;
    let asked =
        came.recv_timeout(limit).map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the peer did not come"))?;
    drop(acceptor);
    let (mut to, mut from) = asked.start(Some(STREAM), None)?;
    to.put(LENGTH, |record| record.extend_from_slice(&length.to_le_bytes()))?;
    let mut part = vec![0; PART];
    let mut done = 0;
    loop {
        let got = file.read(&mut part)?;
        if got == 0 {
            break;
        }
        to.put(BYTES, |record| record.extend_from_slice(&part[..got]))?;
        done += got as u64;
        tell(done);
    }
    to.flush()?;
    drop(to);
    // The other end closes when it has all.
    match from.next(PATIENCE) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("the peer speaks out of turn")),
    }
}

/// An image that comes from the peer.
#[derive(Debug)]
pub struct Fetched {
    /// Closed with the last byte: what follows (the disk, the look at it) is not the other box's affair.
    link: Option<(Outgoing, Incoming)>,
    left: u64,
    rest: Vec<u8>,
    at: usize,
    /// Its length in bytes.
    pub length: u64,
}

/// Asks the peer for the image that it offers, and for so long until it does.
///
/// # Errors
///
/// What the link said.
pub fn fetch(links: &[Link], key: &[u8; 32], search: Duration) -> io::Result<Fetched> {
    let until = clock::now() + search;
    let channel = loop {
        match links::connect(links, PORT, key) {
            Ok((channel, _)) => break channel,
            // It is asked before it listens.
            Err(_) if clock::now() < until => {
                #[allow(clippy::disallowed_methods)] // a process of its own, which does nothing else
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    };
    let (to, mut from) = channel.start(Some(STREAM), None)?;
    let length = match from.next(PATIENCE)? {
        (LENGTH, bytes) => bytes.try_into().map(u64::from_le_bytes).map_err(io::Error::other)?,
        _ => return Err(io::Error::other("the peer's image has no length")),
    };
    Ok(Fetched { link: Some((to, from)), left: length, rest: Vec::new(), at: 0, length })
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            let Some((_, from)) = &mut self.link else { return Ok(0) };
            let (kind, bytes) = from.next(PATIENCE)?;
            if kind != BYTES || bytes.len() as u64 > self.left {
                return Err(io::Error::other("the peer's image is not what it said"));
            }
            self.left -= bytes.len() as u64;
            self.rest.clear();
            self.rest.extend_from_slice(bytes);
            self.at = 0;
            if self.left == 0 {
                self.link = None;
            }
        }
        let length = buffer.len().min(self.rest.len() - self.at);
        buffer[..length].copy_from_slice(&self.rest[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    #[allow(clippy::disallowed_methods)] // the other box is a thread here
    fn an_image_comes_whole_and_only_to_who_knows_the_key() {
        let path = std::env::temp_dir().join(format!("twobox-transfer-{}", std::process::id()));
        let content: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
        File::create(&path).unwrap().write_all(&content).unwrap();
        let key = link_key(&[7; 32]);
        let address = Link::Address(std::net::SocketAddr::from(([127, 0, 0, 1], PORT)));
        let mut file = File::open(&path).unwrap();
        let links = vec![address.clone()];
        let offering = std::thread::spawn(move || offer(&mut file, links, key, Duration::from_secs(60), |_| {}));
        let stranger = fetch(std::slice::from_ref(&address), &link_key(&[8; 32]), Duration::ZERO);
        assert!(stranger.is_err());
        let mut fetched = fetch(std::slice::from_ref(&address), &key, Duration::from_secs(30)).unwrap();
        assert_eq!(fetched.length, content.len() as u64);
        let mut came = vec![0; content.len()];
        fetched.read_exact(&mut came).unwrap();
        assert!(came == content);
        drop(fetched);
        offering.join().unwrap().unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
