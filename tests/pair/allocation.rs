//! The loop's thread must not allocate once it is ready.

use std::thread::sleep;

use nix::sys::signal::Signal;
use twobox::console::control::Request;

use crate::rig::counting::{self, count};
use crate::rig::{Rig, other, wait};
use crate::{DEFAULT, LEASE};

/// The daemon of the test below: this program, started again.
#[test]
#[ignore = "runs where the_loop_allocates_nothing_once_it_is_ready starts it"]
fn the_daemon_that_counts() {
    counting::daemon();
}

#[test]
fn the_loop_allocates_nothing_once_it_is_ready() {
    let mut rig = Rig::new("alloc", DEFAULT);
    rig.launch("b");
    wait("b waits", || rig.role("b").is_some());
    let count = count(&mut rig, "a", "allocation::the_daemon_that_counts --exact --ignored --nocapture");
    rig.launch("a");
    wait("one of two active", || rig.active().is_some());
    rig.await_touch();
    let turns = |rig: &Rig| rig.status("a").unwrap().cluster_loop.turns;
    let (before, counted) = (turns(&rig), count.so_far());
    assert!(counted > 0, "the start is counted, or nothing is");
    sleep(LEASE * 6);
    let made = turns(&rig) - before;
    assert_eq!(count.so_far() - counted, 0, "allocations in {made} turns of peace");
    assert!(made > 100);
    // To the other box and back: surrender, vote, claim, takeover.
    for node in [rig.active().unwrap(), other(rig.active().unwrap())] {
        rig.await_touch();
        rig.order(node, &Request::Switchover { lose_changes: false }).unwrap();
        rig.client.await_answer_from(other(node));
    }
    assert_eq!(count.so_far() - counted, 0, "allocations in two hand-overs");
    // Cables and ports go and come.
    rig.await_touch();
    let finding = |rig: &Rig, name: &str| {
        let status = rig.status("a")?;
        status.links.into_iter().find(|link| link.name == name)?.finding
    };
    rig.null_modem.unplug("a");
    rig.ip("a", "link del cross");
    wait("both are missed", || {
        finding(&rig, "null-modem").is_some_and(|found| found.starts_with("its port is not there"))
            && finding(&rig, "crossover") == Some("the interface is gone".into())
    });
    sleep(LEASE * 4);
    rig.null_modem.plug("a");
    rig.ip("a", "link add cross type veth peer name cross netns NAME-b".replace("NAME", &rig.name).as_str());
    for node in ["a", "b"] {
        rig.ip(node, "link set cross up");
    }
    wait("both are used again", || {
        ["null-modem", "crossover"]
            .iter()
            .all(|name| rig.status("a").is_some_and(|s| s.links.iter().any(|l| l.name == *name && l.up)))
    });
    assert_eq!(count.so_far() - counted, 0, "allocations while they went and came");
    rig.signal("a", Signal::SIGTERM);
    assert!(rig.end_of("a").success());
}
