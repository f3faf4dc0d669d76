//! Frames by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const BROADCAST: [u8; 6] = [0xff; 6];

fn v4(text: &str) -> [u8; 4] {
    text.parse::<Ipv4Addr>().unwrap().octets()
}

fn v6(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

pub fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &kind.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An IPv4 header and nothing that anybody answers.
pub fn packet4(source: &str, destination: &str) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 253, 0, 0];
    packet.extend(v4(source));
    packet.extend(v4(destination));
    packet.extend([0; 8]);
    let sum: u32 = packet[..20].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

pub fn ipv4(source: &str, destination: &str) -> Vec<u8> {
    ethernet(BROADCAST, MAC, 0x0800, &packet4(source, destination))
}

/// `operation`: 1 request, 2 reply.
pub fn arp_body(operation: u8, sender: &str, target: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, operation];
    body.extend(MAC);
    body.extend(v4(sender));
    body.extend([0; 6]);
    body.extend(v4(target));
    body
}

pub fn arp(operation: u8, sender: &str, target: &str) -> Vec<u8> {
    ethernet(BROADCAST, MAC, 0x0806, &arp_body(operation, sender, target))
}

/// IPv6 with the headers `before` (each with its kind) in front of `payload` of kind `last`.
pub fn ipv6_chain(source: &str, destination: &str, before: &[(u8, Vec<u8>)], last: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (at, (_, header)) in before.iter().enumerate() {
        let next = before.get(at + 1).map_or(last, |(kind, _)| *kind);
        body.push(next);
        body.extend(&header[1..]);
    }
    body.extend(payload);
    let first = before.first().map_or(last, |(kind, _)| *kind);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    packet.extend([first, 255]);
    packet.extend(v6(source));
    packet.extend(v6(destination));
    packet.extend(body);
    ethernet([0x33, 0x33, 0, 0, 0, 1], MAC, 0x86dd, &packet)
}

pub fn ipv6(source: &str, destination: &str) -> Vec<u8> {
    ipv6_chain(source, destination, &[], 59, &[])
}

/// Neighbour Discovery: 135 solicitation, 136 advertisement. The checksum is left out: nobody here is to believe it.
pub fn neighbour(kind: u8, target: &str) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, 0x20, 0, 0, 0];
    body.extend(v6(target));
    body.extend([2, 1]);
    body.extend(MAC);
    body
}

/// Puts a tag of `kind` after the addresses.
pub fn tagged(frame: &[u8], kind: u16) -> Vec<u8> {
    [&frame[..12], &kind.to_be_bytes(), &[0, 7], &frame[12..]].concat()
}

fn checksum(sum: u32) -> [u8; 2] {
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

fn words(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)]))).sum()
}

/// A ping that the kernel answers.
pub fn echo_request(source: &str, destination: &str) -> Vec<u8> {
    let mut packet = packet4(source, destination);
    packet[9] = 1;
    packet[10..12].fill(0);
    let sum = checksum(words(&packet[..20]));
    packet[10..12].copy_from_slice(&sum);
    packet[20] = 8;
    let sum = checksum(words(&packet[20..28]));
    packet[22..24].copy_from_slice(&sum);
    ethernet(BROADCAST, MAC, 0x0800, &packet)
}

/// A Neighbour Solicitation that the kernel answers.
pub fn solicitation(source: &str, target: &str) -> Vec<u8> {
    let mut body = neighbour(135, target);
    body[4] = 0;
    body[24] = 1; // the option: source link-layer address
    let sum = checksum(words(&v6(source)) + words(&v6(target)) + body.len() as u32 + 58 + words(&body));
    body[2..4].copy_from_slice(&sum);
    ipv6_chain(source, target, &[], 58, &body)
}
