//! The egress gate on a bond: a guest in QEMU with Debian's kernel, as not every kernel has bonds, and `tests/guest/gate.rs` as its
//! /init. That kernel has no tcx, so this is also the gate by cls_bpf.
//!
//! Says SKIPPED where something is missing that it takes (`tests/guest/boot.rs`).

#![allow(clippy::disallowed_methods)] // a test starts programs and reads the clock

#[allow(dead_code)] // the test of the watchdog uses the rest
#[path = "guest/boot.rs"]
mod boot;

use boot::{Guest, Machine};

#[test]
fn nothing_leaves_by_a_bond_or_its_ports_without_a_right() {
    let modules = &["tls", "bonding", "veth", "llc", "stp", "garp", "mrp", "8021q", "sch_ingress", "cls_bpf"];
    let machine = Machine { program: "gate-guest", modules, devices: &[], part: "bond" };
    let mut guest = match Guest::boot(&machine) {
        Ok(guest) => guest,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    let (_, hook) = guest.wait("hook");
    assert!(hook.ends_with("Classifier"), "{hook}");
    for (what, closed) in [
        ("on the bond:", false),
        // The gate of the bond alone does not see what begins on a port.
        ("on its port, before:", true),
        ("on the port in use:", false),
        ("on the other port:", false),
        ("on a VLAN:", false),
        ("once more on the bond:", false),
        ("after its port failed:", false),
        ("by a port that joined:", false),
        ("on the port that joined:", false),
        ("address on the VLAN:", false),
        ("on the port below it:", false),
    ] {
        let (_, line) = guest.wait(what);
        assert!(line.ends_with(&format!("closed [{closed}, {closed}], open [true, true]")), "{line}");
        if what == "once more on the bond:" {
            let (_, counted) = guest.wait("counted");
            assert!(counted.ends_with("counted 2 2"), "one frame, one count: {counted}");
        }
    }
    let (_, faults) = guest.wait("faults");
    assert!(faults.ends_with("faults []"), "{faults}");
    for (guarded, claims) in [(false, true), (true, false)] {
        let (_, line) = guest.wait("balance-alb");
        assert!(line.ends_with(&format!("guarded {guarded}: claims {claims}")), "{line}");
    }
    guest.wait("done");
}
