//! A witness that is a Linux box looks for the hardware address of whomever it answers. While it looks, its answers wait in
//! one queue, and when that is full it answers nobody: also not the box that lives.

use std::thread::sleep;

use twobox::console::status::Role;
use twobox::time::Duration;

use crate::rig::{self, Rig, other, wait};

/// The fast profile's rounds, which fill that queue; its lease of 60 ms would end whenever a busy machine stands still for that
/// long, which is no matter of the witness's.
const FAST: &str = "profile = \"fast\"\nlease = \"200ms\"\nwitness = \"6250us\"";
/// Several times as long as the witness below takes to forget a neighbour.
const LONG_ENOUGH: Duration = Duration::from_secs(12);

/// Makes the witness forget a neighbour within seconds instead of half a minute.
fn forget_soon(rig: &Rig) {
    for (key, value) in [("base_reachable_time_ms", 1000), ("delay_first_probe_time", 1), ("gc_stale_time", 1)] {
        rig::must(&format!(
            "nsenter --net=/run/netns/{}-witness sysctl -qw net.ipv4.neigh.lan.{key}={value}",
            rig.name
        ));
    }
}

#[test]
fn a_witness_that_looks_for_the_dead_peer_still_answers_the_box_that_serves() {
    let mut rig = Rig::new("neighbor", FAST);
    forget_soon(&rig);
    let active = rig.start_both();
    let survivor = other(active);
    rig.power_off(active);
    rig.client.await_answer_from(survivor);
    let term = rig.status(survivor).unwrap().term;
    sleep(LONG_ENOUGH);
    let status = rig.status(survivor).unwrap();
    assert_eq!((status.role, status.term), (Role::Active, term), "{}", rig.log(survivor));
}

#[test]
fn a_witness_that_never_heard_of_the_peer_answers_the_box_that_boots_alone() {
    let mut rig = Rig::new("alone", FAST);
    let active = rig.start_both();
    // What it will need, the proof of reflection among it, is written now and then.
    wait("where the peer is, on disk", || rig.path(active, "state").join("neighbor").exists());
    sleep(Duration::from_secs(3));
    rig.kill(active);
    rig.kill(other(active));
    // The site's power was cut: the witness has forgotten everybody, and the other box does not come back.
    rig.ip(other(active), "link set lan down");
    rig.ip("witness", "neigh flush all");
    rig.launch(active);
    wait("it serves alone", || rig.role(active) == Some(Role::Active));
    let term = rig.status(active).unwrap().term;
    sleep(LONG_ENOUGH);
    let status = rig.status(active).unwrap();
    assert_eq!((status.role, status.term), (Role::Active, term), "{}", rig.log(active));
}
