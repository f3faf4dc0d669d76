//! Interfaces that go and come while the program runs.

use twobox::clock;
use twobox::takeover::packet::Sender;
use twobox::takeover::{Takeover, interface};
use twobox::wire::arp;

use crate::lan::{BOTH, Lan, MS, SERVICE_V4, SERVICE_V6, announce_all, listen, must, run};

/// Somebody deletes the macvlan of the box that serves: it is made again, and gets its address back.
#[test]
fn a_macvlan_that_somebody_deletes_is_made_again() {
    let lan = Lan::new("again");
    let (probe, said) = run(&format!("ip -n {} link add link lan name probe type macvlan", lan.namespace("a")));
    if !probe {
        println!("SKIPPED: this kernel makes no macvlan: {said}");
        return;
    }
    let mut a = lan.open("a", BOTH, true);
    let mut placement = a.placement().unwrap();
    let mut follow = |a: &mut Takeover| {
        let mut changed = heapless::Vec::new();
        lan.inside("a", || {
            let all = interface::list(a.netlink()).unwrap();
            placement.follow(a.netlink(), &all, &[], &mut changed).unwrap();
        });
        changed.iter().for_each(|at| a.settle(clock::now(), *at).unwrap());
        changed.len()
    };
    a.take_up(clock::now(), || true).unwrap();
    assert_eq!(follow(&mut a), 0, "nothing has changed");
    lan.ip("a", "link del twobox-1");
    assert_eq!(follow(&mut a), 1);
    assert_eq!([0, 1].map(|address| a.held(address)), [true, false]);
    assert!(a.complete(clock::now(), || true));
    a.announce(clock::now());
    for service in [SERVICE_V4, SERVICE_V6] {
        assert!(lan.ping("client", service), "{service}");
    }
    a.take_down().unwrap();
    assert!(a.down().unwrap());
}

/// The card is taken out and another one put in: addresses go there when the gate is there.
#[test]
fn a_new_interface_is_followed_when_it_may_be() {
    let lan = Lan::new("card");
    let mut a = lan.open("a", BOTH, false);
    let mut placement = a.placement().unwrap();
    let mut follow = |a: &mut Takeover, gated: &[u32]| {
        let mut changed = heapless::Vec::new();
        let all = interface::list(a.netlink()).unwrap();
        placement.follow(a.netlink(), &all, gated, &mut changed).map(|()| {
            changed.iter().for_each(|at| a.settle(clock::now(), *at).unwrap());
            changed.len()
        })
    };
    a.take_up(clock::now(), || true).unwrap();
    lan.ip("a", "link del lan");
    let index = || lan.inside("a", || nix::net::if_::if_nametoindex("lan").unwrap());
    let bridge = lan.namespace("lan");
    let put_in = || {
        must(&format!("ip -n {bridge} link add name port-a type veth peer name lan netns {}", lan.namespace("a")));
        must(&format!("ip -n {bridge} link set port-a master bridge up"));
        lan.ip("a", "link set lan up");
        lan.ip("a", "addr add 192.0.2.2/24 dev lan");
        lan.ip("a", "addr add 2001:db8::2/64 dev lan nodad");
    };
    put_in();
    assert_eq!(follow(&mut a, &[]).unwrap(), 0, "the gate is not there yet");
    let first = index();
    // It is there, and then a third one comes, before the addresses have gone to the second one.
    lan.ip("a", "link del lan");
    assert_eq!(follow(&mut a, &[first]).unwrap(), 0, "there is none");
    put_in();
    assert_eq!(follow(&mut a, &[first]).unwrap(), 0, "the gate is on the one that has gone");
    let second = index();
    assert_eq!(lan.inside("a", || follow(&mut a, &[second])).unwrap(), 2);
    assert!(a.complete(clock::now(), || true));
    a.announce(clock::now());
    for service in [SERVICE_V4, SERVICE_V6] {
        assert!(lan.ping("client", service), "{service}");
    }
    let heard = |a: &mut Takeover| listen(a, None, MS(200)).len();
    heard(&mut a);
    let foreign = lan.mac("b");
    lan.inside("b", || {
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        let claim = arp::announcement(foreign, SERVICE_V4.parse().unwrap());
        Sender::open(0).unwrap().send(index, &claim).unwrap();
    });
    assert_eq!(heard(&mut a), 1, "claims are heard there");
    assert_eq!(a.take_down().unwrap(), 2);
}

/// A bridge takes the lowest hardware address of its ports, a bond with `fail_over_mac` that of the port in use: clients are told the
/// one that answers.
#[test]
fn another_hardware_address_is_told_to_the_clients() {
    let lan = Lan::new("mac");
    let mut a = lan.open("a", BOTH, false);
    let mut placement = a.placement().unwrap();
    a.take_up(clock::now(), || true).unwrap();
    a.announce(clock::now());
    for service in [SERVICE_V4, SERVICE_V6] {
        assert!(lan.ping("client", service), "{service}");
        assert_eq!(lan.cached(service), Some(lan.mac("a")));
    }
    lan.ip("a", "link set lan address 02:00:00:00:00:66");
    let mut changed = heapless::Vec::new();
    let all = interface::list(a.netlink()).unwrap();
    placement.follow(a.netlink(), &all, &[], &mut changed).unwrap();
    changed.iter().for_each(|at| a.settle(clock::now(), *at).unwrap());
    a.announce(clock::now());
    for (address, service) in [SERVICE_V4, SERVICE_V6].into_iter().enumerate() {
        assert_eq!(lan.cached(service), Some([2, 0, 0, 0, 0, 0x66]), "{service}");
        assert!(lan.ping("client", service), "{service}");
        assert_eq!(a.mac(address), Some([2, 0, 0, 0, 0, 0x66]));
        assert!(a.held(address));
    }
    // Its own words are no stranger's.
    assert_eq!(listen(&mut a, None, MS(50)), []);
}

/// Whoever takes over while the cable is out speaks to nobody: he speaks again when it is in.
#[test]
fn clients_are_told_when_the_cable_is_plugged_in_again() {
    let lan = Lan::new("plug");
    let mut a = lan.open("a", BOTH, false);
    let mut placement = a.placement().unwrap();
    let mut follow = |a: &mut Takeover| {
        let mut changed = heapless::Vec::new();
        let all = interface::list(a.netlink()).unwrap();
        placement.follow(a.netlink(), &all, &[], &mut changed).unwrap();
        changed.iter().for_each(|at| a.settle(clock::now(), *at).unwrap());
        changed.len()
    };
    let port = |state: &str| must(&format!("ip -n {} link set port-a {state}", lan.namespace("lan")));
    assert_eq!(follow(&mut a), 0, "nothing has happened");
    port("down");
    a.take_up(clock::now(), || true).unwrap();
    announce_all(&mut a, MS(60));
    assert_eq!(follow(&mut a), 0, "nobody can be told");
    let former = lan.mac("b").map(|byte| format!("{byte:02x}")).join(":");
    for service in [SERVICE_V4, SERVICE_V6] {
        lan.ip("client", &format!("neigh replace {service} lladdr {former} dev lan nud reachable"));
    }
    port("up");
    assert_eq!(follow(&mut a), 2);
    announce_all(&mut a, MS(300));
    for service in [SERVICE_V4, SERVICE_V6] {
        assert_eq!(lan.cached(service), Some(lan.mac("a")), "{service}");
    }
    // Out and in again between two looks.
    port("down");
    port("up");
    assert_eq!(follow(&mut a), 2);
    assert_eq!(follow(&mut a), 0, "once is enough");
    // Nobody is told by a box that does not hold the addresses.
    a.take_down().unwrap();
    port("down");
    port("up");
    follow(&mut a);
    assert_eq!(a.next_deadline(), None);
}

/// A box whose own address comes late keeps it when it yields.
#[test]
fn an_own_address_that_came_after_the_service_address_stays() {
    let lan = Lan::new("late");
    must(&format!("ip netns exec {} sysctl -q -w net.ipv4.conf.all.promote_secondaries=0", lan.namespace("a")));
    must(&format!("ip netns exec {} sysctl -q -w net.ipv4.conf.lan.promote_secondaries=0", lan.namespace("a")));
    lan.ip("a", "addr flush dev lan");
    let mut a = lan.open("a", &[(SERVICE_V4, 24)], false);
    a.take_up(clock::now(), || true).unwrap();
    lan.ip("a", "addr add 192.0.2.2/24 dev lan");
    assert!(lan.ip("a", "addr show dev lan").contains("secondary"));
    a.take_down().unwrap();
    assert!(lan.ip("a", "addr show dev lan").contains("192.0.2.2/24"));
    assert!(lan.ping("a", "192.0.2.77"));
}

/// An own address by DHCPv6 or in a cloud has no network; a route says that the LAN is there. It outlives the service address.
#[test]
fn a_route_to_the_lan_stays_as_it_is() {
    let lan = Lan::new("route");
    lan.ip("a", "addr flush dev lan scope global");
    lan.ip("a", "addr add 192.0.2.2/32 dev lan");
    lan.ip("a", "route add 192.0.2.0/24 dev lan");
    lan.ip("a", "addr add 2001:db8::2/128 dev lan nodad");
    lan.ip("a", "-6 route add 2001:db8::/64 dev lan proto ra expires 600");
    let mut a = lan.open("a", BOTH, false);
    let routes = || (lan.ip("a", "route show 192.0.2.0/24"), lan.ip("a", "-6 route show 2001:db8::/64"));
    let lasts = |v6: &str| {
        let seconds = v6.split("expires ").nth(1).and_then(|rest| rest.split("sec").next()?.parse::<u32>().ok());
        v6.contains("proto ra") && seconds.is_some_and(|seconds| seconds > 300)
    };
    for _ in 0..2 {
        a.take_up(clock::now(), || true).unwrap();
        let (v4, v6) = routes();
        assert_eq!((v4.lines().count(), v6.lines().count()), (1, 1), "{v4}{v6}");
        assert!(lasts(&v6), "{v6}");
        for service in [SERVICE_V4, SERVICE_V6] {
            assert!(lan.ping("client", service), "{service}");
        }
    }
    a.take_down().unwrap();
    let (v4, v6) = routes();
    assert!(v4.contains("192.0.2.0/24") && lasts(&v6), "{v4}{v6}");
    assert!(a.down().unwrap());
}
