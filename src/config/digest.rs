//! Fingerprints by which the boxes notice that they are configured differently.
//!
//! What they are made of is part of the format between versions: every value goes in as text of our own making.
//! Only what both boxes must agree on goes in, and of that only what differs from its default: a newer version with a
//! new key still has the same digest, so that a pair can be updated box by box.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::site::{MaxDelete, Schedule, Site};
use super::timing::{Profile, Timing, longest_watchdog_bound};
use crate::fence::address_lease;

/// Digest of everything that both boxes must share, the timings included. Travels in every heartbeat.
#[must_use]
pub fn of_site(site: &Site) -> u64 {
    let mut hash = blake3::Hasher::new_derive_key("twobox 2026 configuration digest v1");
    put(&mut hash, "pair.name", &site.pair.name);
    put(&mut hash, "pair.prefer", site.pair.prefer.map_or("", |side| side.name()));
    unless(&mut hash, "pair.stale-data", &site.pair.serve_stale_data, &true);
    unless(&mut hash, "pair.require-reflection", &site.pair.require_reflection, &true);
    unless(&mut hash, "pair.panic-text", &site.pair.panic_text, &true);
    unless_time(&mut hash, "pair.boot-wait", site.pair.boot_wait, Duration::from_secs(60));
    unless_time(&mut hash, "watchdog.timeout", site.watchdog.timeout, Duration::from_secs(2));
    let usual_bound = longest_watchdog_bound(site.watchdog.timeout);
    unless_time(&mut hash, "watchdog.longest-bound", site.watchdog.longest_bound, usual_bound);
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
        put(&mut hash, "service.root", &service.root.as_ref().map_or(String::new(), |root| root.display().to_string()));
        put_list(&mut hash, "service.start", &service.start);
        put_list(&mut hash, "service.check", service.check.as_deref().unwrap_or_default());
        unless(&mut hash, "service.stop-signal", &service.stop_signal, &Signal::SIGTERM);
        unless(&mut hash, "service.run", &service.warm, &false);
    }
    for tree in &site.trees {
        put(&mut hash, "mirror", &tree.path.display().to_string());
        match tree.schedule {
            Schedule::Every(period) => put(&mut hash, "mirror.every", &format!("{}", period.as_nanos())),
            Schedule::OnChange(settle) => put(&mut hash, "mirror.settle", &format!("{}", settle.as_nanos())),
        }
        put_list(&mut hash, "mirror.exclude", &tree.exclude);
        match tree.max_delete {
            MaxDelete::Percent(25) => {}
            MaxDelete::Percent(percent) => put(&mut hash, "mirror.max-delete", &format!("{percent}%")),
            MaxDelete::Entries(count) => put(&mut hash, "mirror.max-delete", &count.to_string()),
        }
    }
    unless(&mut hash, "mirror-link.port", &site.mirror_link.port, &7420);
    unless(&mut hash, "mirror-link.over-lan", &site.mirror_link.over_lan, &false);
    put_timing(&mut hash, &site.timing);
    short(&hash)
}

fn put_timing(hash: &mut blake3::Hasher, timing: &Timing) {
    let default = Profile::Default.timing();
    unless_time(hash, "timing.heartbeat", timing.heartbeat, default.heartbeat);
    unless_time(hash, "timing.lease", timing.lease, default.lease);
    unless_time(hash, "timing.witness", timing.witness, default.witness);
    unless_time(hash, "timing.witness-idle", timing.witness_idle, default.witness_idle);
    unless_time(hash, "timing.serial-heartbeat", timing.serial_heartbeat, default.serial_heartbeat);
    unless_time(hash, "timing.margin", timing.margin, default.margin);
    unless_time(hash, "timing.settle", timing.settle, default.settle);
    unless_time(hash, "timing.hold-down", timing.hold_down, default.hold_down);
    unless_time(hash, "timing.address-lifetime", timing.address_lifetime, address_lease::lifetime(timing.lease));
}

fn unless<T: PartialEq + std::fmt::Display>(hash: &mut blake3::Hasher, key: &str, value: &T, default: &T) {
    if value != default {
        put(hash, key, &value.to_string());
    }
}

fn unless_time(hash: &mut blake3::Hasher, key: &str, value: Duration, default: Duration) {
    unless(hash, key, &value.as_nanos(), &default.as_nanos());
}

fn put_list(hash: &mut blake3::Hasher, key: &str, values: &[String]) {
    for value in values {
        put(hash, key, value);
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
