//! The clients that a box knows, as the side channel carries them: whoever takes over asks each of them at once, so that
//! their caches name the new owner.

use core::net::Ipv4Addr;

use super::Mac;
use super::side::MESSAGE_MAX;

/// Bytes of one client: address and hardware address.
const SIZE: usize = 10;
/// So many fit a message.
pub const CLIENTS_MAX: usize = MESSAGE_MAX / SIZE;

/// Writes the clients into `out`, the first [`CLIENTS_MAX`] of them.
pub fn encode(clients: impl Iterator<Item = (Ipv4Addr, Mac)>, out: &mut [u8; MESSAGE_MAX]) -> &[u8] {
    let mut length = 0;
    for (slot, (ip, mac)) in out.chunks_exact_mut(SIZE).zip(clients) {
        slot[..4].copy_from_slice(&ip.octets());
        slot[4..].copy_from_slice(&mac);
        length += SIZE;
    }
    &out[..length]
}

/// The clients in a message; `None` if it holds no whole number of them.
pub fn decode(bytes: &[u8]) -> Option<impl Iterator<Item = (Ipv4Addr, Mac)> + '_> {
    let (clients, rest) = bytes.as_chunks::<SIZE>();
    let client = |&[a, b, c, d, ref mac @ ..]: &[u8; SIZE]| (Ipv4Addr::new(a, b, c, d), *mac);
    rest.is_empty().then(|| clients.iter().map(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_back_and_too_many_are_cut() {
        let all = |n: u16| (0..n).map(|i| (Ipv4Addr::from(u32::from(i)), [1, 2, 3, 4, 5, i as u8]));
        let mut out = [0; MESSAGE_MAX];
        assert_eq!(encode(all(1), &mut out), [0, 0, 0, 0, 1, 2, 3, 4, 5, 0]);
        let bytes = encode(all(1000), &mut out);
        assert!(decode(bytes).unwrap().eq(all(CLIENTS_MAX as u16)));
        assert!(decode(&bytes[1..]).is_none());
        assert_eq!(decode(b"").unwrap().count(), 0);
    }
}
