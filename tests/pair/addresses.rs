//! Service addresses as the LAN sees them: foreign owners, lost announcements, virtual MACs, IPv6.

use std::process::Command;

use twobox::clock;
use twobox::console::control::Request;
use twobox::console::status::Role;
use twobox::time::Duration;
use twobox::wire::arp;

use crate::DEFAULT;
use crate::rig::wire::{Claim, SERVICE6, send_raw};
use crate::rig::{Rig, SERVICE, other, wait};

fn bytes(mac: &str) -> [u8; 6] {
    let mut bytes = [0; 6];
    for (byte, word) in bytes.iter_mut().zip(mac.split(':')) {
        *byte = u8::from_str_radix(word, 16).unwrap();
    }
    bytes
}

/// A device that claims the address again and again: defended once, kept, told (RFC 5227 section 2.4).
#[test]
fn a_foreign_owner_is_answered_once_and_told_and_the_address_is_kept() {
    let mut rig = Rig::new("foreign", DEFAULT);
    let active = rig.start_both();
    let announcements =
        |rig: &Rig| rig.capture.frames().iter().filter(|f| f.from == active && f.claim == Claim::Announcement).count();
    // The takeover's own five are over after five seconds.
    wait("its own announcements are over", || announcements(&rig) >= 5);
    std::thread::sleep(Duration::from_millis(200));
    let before = announcements(&rig);
    let foreign = rig.mac("witness", "lan");
    let claim = arp::announcement(bytes(&foreign), SERVICE.parse().unwrap());
    for _ in 0..10 {
        send_raw(&rig.name, "witness", "lan", &claim, false);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(announcements(&rig) - before, 1, "a storm of two that both defend must not be");
    wait("it is told", || rig.alarmed(active, "address-conflict"));
    let status = rig.status(active).unwrap();
    assert_eq!(status.role, Role::Active);
    assert_eq!((status.addresses[0].held, status.addresses[0].conflict.as_ref()), (true, Some(&foreign)));
    let alarm = status.alarms.iter().find(|alarm| alarm.name == "address-conflict").unwrap();
    assert!(alarm.text.contains(SERVICE) && alarm.text.contains(&foreign), "{}", alarm.text);
    assert_eq!(rig.capture.owners(), [active]);
}

/// A switch starts anew, and its ports have a carrier all the while: nobody has heard what was said meanwhile.
#[test]
fn a_lan_that_is_whole_again_is_told_who_serves() {
    let mut rig = Rig::new("healed", DEFAULT);
    let active = rig.start_both();
    let announcements =
        |rig: &Rig| rig.capture.frames().iter().filter(|f| f.from == active && f.claim == Claim::Announcement).count();
    wait("the first announcements are over", || announcements(&rig) >= 5);
    let before = announcements(&rig);
    for node in ["a", "b"] {
        rig.drop_frames("lan", "ingress", node, "");
    }
    std::thread::sleep(Duration::from_secs(4));
    for node in ["a", "b"] {
        rig.pass_frames("lan", "ingress", node);
    }
    wait("they are repeated", || announcements(&rig) >= before + 4);
    assert_eq!(rig.capture.owners(), [active]);
}

/// The hardware address of a bridge is the lowest of its ports, that of a bond may be the port's in use.
#[test]
fn a_lan_that_gets_another_hardware_address_is_used_on() {
    let mut rig = Rig::new("newmac", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let [first, second] = ["02:00:00:00:00:66", "02:00:00:00:00:67"];
    rig.ip(standby, &format!("link set lan address {first}"));
    std::thread::sleep(Duration::from_secs(3));
    wait("the witness answers", || rig.status(standby).is_some_and(|s| s.witnesses.iter().all(|w| w.reachable)));
    rig.await_touch();
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(standby);
    assert_eq!(rig.cached(SERVICE).as_deref(), Some(first));
    // Beneath the address that it serves.
    rig.ip(standby, &format!("link set lan address {second}"));
    wait("the client is told", || rig.cached(SERVICE).as_deref() == Some(second));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(rig.role(standby), Some(Role::Active));
    assert_eq!(rig.capture.owners(), [active, standby]);
}

/// Whatever the new holder says first is lost: the repetitions reach the client.
#[test]
fn lost_announcements_are_made_up_for() {
    let mut rig = Rig::new("lost", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    rig.drop_frames("lan", "ingress", standby, "ether type arp");
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    wait("the standby serves", || rig.role(standby) == Some(Role::Active));
    std::thread::sleep(Duration::from_millis(400));
    assert!(rig.client.answers().iter().all(|answer| answer.from == active), "the client cannot know yet");
    rig.pass_frames("lan", "ingress", standby);
    let from = clock::now();
    rig.client.await_answer_from(standby);
    println!("the client followed {:?} after the LAN was whole", clock::now().since(from));
}

#[test]
fn a_virtual_mac_moves_with_the_address_and_the_client_keeps_its_entry() {
    let mut rig = Rig::new("vmac", DEFAULT);
    rig.edit_sites("interface = \"lan\"\n", "interface = \"lan\"\nmac = \"virtual\"\n");
    if !macvlan_works(&rig) {
        println!("skipped: this kernel has no macvlan");
        return;
    }
    let active = rig.start_both();
    let standby = other(active);
    let entry = rig.cached(SERVICE).expect("an entry of the client");
    for node in ["a", "b"] {
        assert_ne!(entry, rig.mac(node, "lan"));
    }
    // What the entry says it says for ever: no announcement changes it.
    rig.ip("client", &format!("neigh replace {SERVICE} lladdr {entry} dev lan nud permanent"));
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(standby);
    rig.await_touch();
    rig.kill(standby);
    rig.client.await_answer_from(active);
    assert_eq!(rig.cached(SERVICE), Some(entry));
    assert_eq!(rig.capture.owners(), [active, standby, active]);
}

#[allow(clippy::disallowed_methods)] // asks the kernel by ip(8)
fn macvlan_works(rig: &Rig) -> bool {
    let namespace = format!("{}-client", rig.name);
    let made = Command::new("ip")
        .args(["-n", &namespace, "link", "add", "link", "lan", "name", "probe", "type", "macvlan"])
        .status()
        .unwrap()
        .success();
    if made {
        rig.ip("client", "link del probe");
    }
    made
}

#[test]
fn an_ipv6_service_address_moves_by_an_override_and_own_addresses_stay() {
    let mut rig = Rig::new("v6", DEFAULT);
    for (host, number) in [("a", "2"), ("b", "3"), ("client", "50")] {
        rig.ip(host, &format!("addr add fd77::{number}/64 dev lan nodad"));
    }
    rig.edit_sites("\"10.77.0.2/24\"", "[\"10.77.0.2/24\", \"fd77::2/64\"]");
    rig.edit_sites("\"10.77.0.3/24\"", "[\"10.77.0.3/24\", \"fd77::3/64\"]");
    rig.edit_sites("[[witness]]", &format!("[[address]]\nip = \"{SERVICE6}/64\"\ninterface = \"lan\"\n[[witness]]"));
    let active = rig.start_both();
    let standby = other(active);
    let service = SERVICE6.to_string();
    let answers = |rig: &Rig| ping(rig, &service);
    wait("the client reaches it", || answers(&rig));
    assert_eq!(rig.cached(&service), Some(rig.mac(active, "lan")));
    let moved = clock::now();
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(standby);
    wait("the client's entry names the new holder", || rig.cached(&service) == Some(rig.mac(standby, "lan")));
    wait("the client reaches it there", || answers(&rig));
    let told = |f: &crate::rig::wire::Frame| {
        f.at > moved && f.from == standby && matches!(f.claim, Claim::Advertisement { flags } if flags & 0x60 == 0x20)
    };
    assert!(rig.capture.frames().iter().any(told), "unsolicited, with override");
    for (node, number) in [("a", "2"), ("b", "3")] {
        let shown = rig.ip(node, "-6 addr show dev lan");
        assert!(shown.contains(&format!("fd77::{number}/64")) && shown.contains("fe80::"), "{node}: {shown}");
        assert_eq!(shown.contains(&service), node == standby, "{node}: {shown}");
    }
    assert_eq!(rig.capture.owners(), [active, standby]);
    rig.await_touch();
    rig.kill(standby);
    rig.client.await_answer_from(active);
    wait("the client reaches it again", || answers(&rig));
    assert_eq!(rig.capture.owners(), [active, standby, active]);
}

#[allow(clippy::disallowed_methods)] // the client's own ping(8)
fn ping(rig: &Rig, to: &str) -> bool {
    let namespace = format!("--net=/run/netns/{}-client", rig.name);
    let output = Command::new("nsenter").args([&namespace, "ping", "-c", "1", "-W", "1", to]).output().unwrap();
    output.status.success()
}
