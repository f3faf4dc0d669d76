//! What only the conflict probe stands against: a fence that failed, another key, two boxes of the same name.

use nix::sys::signal::Signal;
use twobox::console::status::Role;
use twobox::fence::gate::bpf;
use twobox::fence::gate::layout::Direction;
use twobox::time::Duration;

use crate::rig::{Rig, SERVICE, other, wait};

/// Takes the gate's programs off the box's LAN.
pub fn steal_gate(rig: &Rig, node: &str) {
    rig.inside(node, || {
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        for direction in Direction::ALL {
            for id in bpf::attached(index, direction).unwrap() {
                bpf::detach(index, direction, &bpf::Program::open(id).unwrap()).unwrap();
            }
        }
    });
}

/// The active box dies, its gate is gone, and its kernel goes on answering for the address: nothing else than the answer to
/// the probe says so.
#[test]
fn a_peer_that_goes_on_answering_is_not_replaced_and_that_is_told() {
    // A long lease: the thief has time between the stop and the claim.
    let mut rig = Rig::new("unfenced", "profile = \"default\"\nlease = \"2s\"\naddress-lifetime = \"2s\"");
    rig.edit_sites("boot-wait = \"10s\"", "boot-wait = \"11s\"");
    let active = rig.start_both();
    let standby = other(active);
    rig.signal(active, Signal::SIGSTOP);
    steal_gate(&rig, active);
    rig.ip(active, &format!("addr change {SERVICE}/32 dev lan valid_lft forever preferred_lft forever"));
    rig.kill(active);
    wait("it is told that fencing failed", || rig.alarmed(standby, "fencing-failed"));
    // Several claim waits long: never taken over, and the alarm stands without a gap.
    for _ in 0..70 {
        std::thread::sleep(Duration::from_millis(100));
        let status = rig.status(standby).unwrap();
        assert_ne!(status.role, Role::Active);
        assert!(status.alarms.iter().any(|alarm| alarm.name == "fencing-failed"), "{:?}", status.alarms);
        assert!(!status.takeover.ready && status.takeover.blocked_by.iter().any(|why| why.contains("answers")));
    }
    assert_eq!(rig.capture.owners(), [active]);
    // Somebody switches the dead box off.
    rig.ip(active, &format!("addr del {SERVICE}/32 dev lan"));
    rig.client.await_answer_from(standby);
    wait("the alarm is over", || !rig.alarmed(standby, "fencing-failed"));
    assert_eq!(rig.capture.owners(), [active, standby]);
}

/// Nothing but the probe keeps a box with this from serving alone.
const EAGER: &str = "boot-wait = \"7s\"\nrequire-reflection = false";

/// Boots a second life of the standby that cannot understand its peer, and looks that it never serves beside it.
fn never_beside(rig: &mut Rig, active: &str, alarm: &str, launch: impl FnOnce(&mut Rig)) {
    let standby = other(active);
    rig.kill(standby);
    launch(rig);
    wait("both say what is wrong", || rig.alarmed(active, alarm) && rig.alarmed(standby, alarm));
    // The boot wait, which the longest bound that the peer can have makes 9.6 s, and a claim after it.
    for _ in 0..130 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(rig.role(active), Some(Role::Active));
        assert_ne!(rig.role(standby), Some(Role::Active));
    }
    assert_eq!(rig.capture.owners(), [active]);
}

#[test]
fn another_key_is_told_by_both_and_never_serves_beside() {
    let mut rig = Rig::new("key", crate::DEFAULT);
    rig.edit_sites("boot-wait = \"10s\"", EAGER);
    let active = rig.start_both();
    never_beside(&mut rig, active, "wrong-key", |rig| {
        twobox::config::key_file::create(&rig.dir.join("other.key")).unwrap();
        rig.edit_site(other(active), "pair.key", "other.key");
        // It never understood its peer, so it does not know the peer's hardware address either.
        let _ = std::fs::remove_file(rig.path(other(active), "state").join("neighbor"));
        rig.launch(other(active));
    });
    // It had a quorum and data: what held it back is the answer to its probe.
    assert!(rig.alarmed(other(active), "fencing-failed"));
}

#[test]
fn two_boxes_of_the_same_name_are_told_by_both_and_never_serve_together() {
    let mut rig = Rig::new("same", crate::DEFAULT);
    rig.edit_sites("boot-wait = \"10s\"", EAGER);
    let active = rig.start_both();
    never_beside(&mut rig, active, "same-node", |rig| rig.launch_as(other(active), active));
}
