//! Fingerprints by which the boxes notice that they are configured differently.
//!
//! Only what both boxes must agree on goes in, and of that only what differs from its default: a newer version with a
//! new key still has the same digest, so that a pair can be updated box by box.

use super::site::{MaxDelete, Schedule, Site};
use super::timing::{Profile, Timing};

/// Digest of everything that both boxes must share, the timings included. Travels in every heartbeat.
#[must_use]
pub fn of_site(site: &Site) -> u64 {
    let mut hash = blake3::Hasher::new_derive_key("twobox 2026 configuration digest v1");
    put(&mut hash, "pair.name", &site.pair.name);
    put(&mut hash, "pair.prefer", &format!("{:?}", site.pair.prefer.map(|side| side.name())));
    unless(&mut hash, "pair.stale-data", &site.pair.serve_stale_data, &true);
    unless(&mut hash, "pair.require-reflection", &site.pair.require_reflection, &true);
    unless(&mut hash, "pair.panic-text", &site.pair.panic_text, &true);
    unless(&mut hash, "pair.boot-wait", &site.pair.boot_wait, &std::time::Duration::from_secs(60));
    unless(&mut hash, "watchdog.timeout", &site.watchdog.timeout, &std::time::Duration::from_secs(2));
    for (node, own) in ["a", "b"].into_iter().zip(&site.nodes) {
        for address in own {
            put(&mut hash, "node", &format!("{node} {} {}", address.interface, address.prefix));
        }
    }
    for address in &site.addresses {
        put(&mut hash, "address", &format!("{} {} {}", address.prefix, address.interface, address.virtual_mac));
    }
    for witness in &site.witnesses {
        put(&mut hash, "witness", &witness.to_string());
    }
    for service in &site.services {
        put(&mut hash, "service", &service.name);
        put(&mut hash, "service.start", &format!("{:?} {:?}", service.root, service.start));
        unless(&mut hash, "service.check", &service.check, &None);
        unless(&mut hash, "service.run", &service.warm, &false);
    }
    for tree in &site.trees {
        put(&mut hash, "mirror", &format!("{:?}", tree.path));
        match tree.schedule {
            Schedule::Every(period) => put(&mut hash, "mirror.every", &format!("{}", period.as_nanos())),
            Schedule::OnChange(settle) => put(&mut hash, "mirror.settle", &format!("{}", settle.as_nanos())),
        }
        unless(&mut hash, "mirror.exclude", &tree.exclude, &Vec::new());
        unless(&mut hash, "mirror.max-delete", &tree.max_delete, &MaxDelete::Percent(25));
    }
    unless(&mut hash, "mirror-link.port", &site.mirror_link.port, &7420);
    unless(&mut hash, "mirror-link.over-lan", &site.mirror_link.over_lan, &false);
    put_timing(&mut hash, &site.timing);
    short(&hash)
}

/// Digest of the timings alone: while these differ, no inequality was checked for the pair as a whole.
#[must_use]
pub fn of_timing(timing: &Timing) -> u64 {
    let mut hash = blake3::Hasher::new_derive_key("twobox 2026 timing digest v1");
    put_timing(&mut hash, timing);
    short(&hash)
}

fn put_timing(hash: &mut blake3::Hasher, timing: &Timing) {
    let default = Profile::Default.timing();
    unless(hash, "timing.heartbeat", &timing.heartbeat, &default.heartbeat);
    unless(hash, "timing.lease", &timing.lease, &default.lease);
    unless(hash, "timing.witness", &timing.witness, &default.witness);
    unless(hash, "timing.witness-idle", &timing.witness_idle, &default.witness_idle);
    unless(hash, "timing.serial-heartbeat", &timing.serial_heartbeat, &default.serial_heartbeat);
    unless(hash, "timing.margin", &timing.margin, &default.margin);
    unless(hash, "timing.settle", &timing.settle, &default.settle);
    unless(hash, "timing.hold-down", &timing.hold_down, &default.hold_down);
    unless(hash, "timing.address-lifetime", &timing.address_lifetime, &default.address_lifetime);
}

fn unless<T: PartialEq + std::fmt::Debug>(hash: &mut blake3::Hasher, key: &str, value: &T, default: &T) {
    if value != default {
        put(hash, key, &format!("{value:?}"));
    }
}

/// Lengths in front, so that no two lists of pairs give the same bytes.
fn put(hash: &mut blake3::Hasher, key: &str, value: &str) {
    for part in [key, value] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
}

fn short(hash: &blake3::Hasher) -> u64 {
    let mut bytes = [0; 8];
    hash.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
