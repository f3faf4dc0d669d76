//! The hardware address that moves with a service address: the same on both boxes, without asking each other.

use std::net::IpAddr;

/// The virtual MAC of `address` in the pair called `pair`: 46 bits of a BLAKE3 hash of both, locally administered and
/// unicast (IEEE 802, the two low bits of the first byte). Two pairs on one LAN meet with a chance of 1 in 2^46.
#[must_use]
pub fn virtual_mac(pair: &str, address: IpAddr) -> [u8; 6] {
    let mut hasher = blake3::Hasher::new_derive_key("twobox 2026 virtual MAC of a service address");
    match address {
        IpAddr::V4(v4) => hasher.update(&[4]).update(&v4.octets()),
        IpAddr::V6(v6) => hasher.update(&[6]).update(&v6.octets()),
    };
    hasher.update(pair.as_bytes());
    let mut mac = [0; 6];
    mac.copy_from_slice(&hasher.finalize().as_bytes()[..6]);
    mac[0] = mac[0] & !0b01 | 0b10;
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_on_pair_and_address_alone_and_is_locally_administered_unicast() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let mac = virtual_mac("office", at("192.0.2.10"));
        assert_eq!(mac, virtual_mac("office", at("192.0.2.10")));
        assert_ne!(mac, virtual_mac("office", at("192.0.2.11")));
        assert_ne!(mac, virtual_mac("shop", at("192.0.2.10")));
        for last in 0..=255u8 {
            let mac = virtual_mac("office", IpAddr::from([192, 0, 2, last]));
            assert_eq!(mac[0] & 0b11, 0b10);
        }
        // Both boxes must come to the same address even when they run different versions: this value is for ever.
        assert_eq!(mac, [0x5e, 0x80, 0xba, 0xdb, 0x81, 0xcd]);
    }
}
