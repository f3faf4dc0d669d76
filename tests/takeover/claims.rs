//! Who claims an address: probes, foreign claims, and boxes that must keep still.

use std::net::{IpAddr, UdpSocket};
use std::thread;

use twobox::clock;
use twobox::takeover::Finding;
use twobox::takeover::own::{Own, PAUSE};
use twobox::takeover::packet::{Listener, Sender};
use twobox::wire::{arp, neighbor};

use crate::lan::{BOTH, LEASE, Lan, MS, SERVICE_V4, SERVICE_V6, announce_all, ip, listen, must, run};

#[test]
fn own_addresses_are_taken_unless_somebody_has_them() {
    let lan = Lan::new("own");
    let ours: [IpAddr; 2] = ["192.0.2.44".parse().unwrap(), "2001:db8::44".parse().unwrap()];
    let of_a: [IpAddr; 2] = ["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
    let place = |ip: IpAddr| ("lan".to_owned(), ip, if ip.is_ipv4() { 24 } else { 64 });
    let wanted: Vec<_> = ours.iter().chain(&of_a).copied().map(place).collect();
    lan.ip("b", "addr flush dev lan scope global");
    let stands: Vec<_> = lan.inside("b", || {
        let mut own = Own::open(&wanted).unwrap();
        while !own.turn(clock::now()) {
            thread::sleep(PAUSE / 4);
        }
        own.stands().collect()
    });
    for one in stands {
        assert_eq!(one.ours, ours.contains(&one.ip), "{one:?}");
        assert_eq!(one.other.map(|(mac, _)| mac), of_a.contains(&one.ip).then(|| lan.mac("a")), "{one:?}");
    }
    let there = lan.ip("b", "-o addr show dev lan scope global");
    for ip in ours {
        assert!(there.contains(&format!(" {ip}/")) && !there.contains("tentative"), "{there}");
        must(&format!("ip netns exec {} ping -c 1 -W 5 {ip}", lan.namespace("client")));
    }
    assert!(of_a.iter().all(|ip| !there.contains(&format!(" {ip}/"))), "{there}");
}

#[test]
fn a_probe_is_answered_by_a_holder_and_by_nobody_else() {
    let lan = Lan::new("probe");
    let mut a = lan.open("a", BOTH, false);
    let mut b = lan.open("b", BOTH, false);
    let peer = lan.mac("a");
    b.probe(clock::now());
    assert_eq!(listen(&mut b, Some(peer), MS(100)), []);
    a.take_up(clock::now(), || true).unwrap();
    // The kernel joins the group of a new IPv6 address by a worker of its own, a moment later.
    thread::sleep(MS(50));
    // Where the peer is not known, whoever answers may be the peer.
    for peer_known in [Some(peer), None] {
        b.probe(clock::now());
        let heard = listen(&mut b, peer_known, MS(200));
        for address in 0..BOTH.len() {
            let answer = heard.iter().find(|h| h.address == address).unwrap_or_else(|| panic!("{address}: {heard:?}"));
            assert_eq!((answer.finding, answer.mac), (Finding::PeerAnswered, peer));
        }
        assert_eq!(b.conflict(clock::now(), 0, LEASE), None, "the peer is no third party");
    }
    // The same answers, the sender not being the peer: a stranger has the address.
    b.probe(clock::now());
    let heard = listen(&mut b, Some(lan.mac("client")), MS(200));
    assert!(heard.iter().all(|h| h.finding == Finding::StrangerAnswered) && heard.len() >= 2, "{heard:?}");
    assert!(b.conflict(clock::now(), 0, LEASE).is_some());
    // A probe claims nothing: the client's entry stays with the holder.
    assert!(lan.ping("client", SERVICE_V4));
    b.probe(clock::now());
    thread::sleep(MS(20));
    assert_eq!(lan.cached(SERVICE_V4), Some(peer));
    // Without a probe, the holder's announcements are nothing unusual.
    thread::sleep(LEASE);
    a.take_up(clock::now(), || true).unwrap();
    announce_all(&mut a, MS(60));
    assert_eq!(listen(&mut b, Some(peer), MS(50)), []);
}

#[test]
fn a_foreign_claim_is_answered_once_and_reported() {
    let lan = Lan::new("defend");
    let mut a = lan.open("a", BOTH, false);
    a.take_up(clock::now(), || true).unwrap();
    announce_all(&mut a, MS(10));
    let foreign = lan.mac("b");
    let claim = || {
        lan.inside("b", || {
            let sender = Sender::open(0).unwrap();
            let index = nix::net::if_::if_nametoindex("lan").unwrap();
            let IpAddr::V4(v4) = ip(SERVICE_V4) else { unreachable!() };
            let IpAddr::V6(v6) = ip(SERVICE_V6) else { unreachable!() };
            sender.send(index, &arp::announcement(foreign, v4)).unwrap();
            sender.send(index, &neighbor::announcement(foreign, v6)).unwrap();
        });
    };
    assert!(lan.ping("client", SERVICE_V4) && lan.ping("client", SERVICE_V6));
    claim();
    for service in [SERVICE_V4, SERVICE_V6] {
        assert_eq!(lan.cached(service), Some(foreign), "{service}: the claim reached the client");
    }
    let heard = listen(&mut a, None, MS(20));
    let mut found: Vec<_> = heard.iter().map(|h| (h.address, h.mac, h.finding)).collect();
    found.sort_by_key(|f| f.0);
    assert_eq!(found, [(0, foreign, Finding::Defend), (1, foreign, Finding::Defend)]);
    a.announce(clock::now());
    for service in [SERVICE_V4, SERVICE_V6] {
        assert_eq!(lan.cached(service), Some(lan.mac("a")), "{service} was defended");
    }
    claim();
    let heard = listen(&mut a, None, MS(20));
    assert!(heard.len() == 2 && heard.iter().all(|h| h.finding == Finding::Contested), "{heard:?}");
    assert_eq!(a.conflict(clock::now(), 0, LEASE).unwrap().count, 2);
}

#[test]
fn a_standby_neither_answers_for_a_service_address_nor_takes_its_packets() {
    let lan = Lan::new("standby");
    let mut b = lan.open("b", BOTH, false);
    let asks = |expected: bool| {
        let namespace = lan.namespace("client");
        let (answered, said) = run(&format!("ip netns exec {namespace} arping -c 1 -w 1 -I lan {SERVICE_V4}"));
        assert_eq!(answered, expected, "{said}");
    };
    asks(false);
    let mac = lan.mac("b").map(|b| format!("{b:02x}")).join(":");
    for service in [SERVICE_V4, SERVICE_V6] {
        lan.ip("client", &format!("neigh replace {service} lladdr {mac} dev lan nud permanent"));
    }
    let sent_and_received = || {
        lan.inside("b", || {
            let sockets = ["0.0.0.0:7000", "[::]:7001"].map(|any| UdpSocket::bind(any).unwrap());
            lan.inside("client", || {
                UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", (ip(SERVICE_V4), 7_000)).unwrap();
                UdpSocket::bind("[::]:0").unwrap().send_to(b"?", (ip(SERVICE_V6), 7_001)).unwrap();
            });
            sockets.map(|socket| {
                socket.set_read_timeout(Some(MS(100))).unwrap();
                socket.recv_from(&mut [0; 8]).is_ok()
            })
        })
    };
    assert_eq!(sent_and_received(), [false, false]);
    // The test sees a difference: the same as holder.
    b.take_up(clock::now(), || true).unwrap();
    asks(true);
    assert_eq!(sent_and_received(), [true, true]);
    b.take_down().unwrap();
    assert_eq!(sent_and_received(), [false, false]);
    // Even with the address on another interface of the box it does not answer, and it is not called down.
    lan.ip("b", &format!("addr add {SERVICE_V4}/32 dev lo"));
    asks(false);
    assert!(!b.down().unwrap());
    // The settings that make it so are put back at the end.
    let read = || must(&format!("ip netns exec {} sysctl -n net.ipv4.conf.lan.arp_ignore", lan.namespace("b")));
    assert_eq!(read().trim(), "1");
    let placement = b.placement().unwrap();
    lan.inside("b", || placement.close(b.netlink()).unwrap());
    assert_eq!(read().trim(), "0");
}

/// A standby hears announcements that are nothing unusual, and whoever floods the LAN with such must not hold its loop.
#[test]
fn claims_that_mean_nothing_are_read_one_by_one() {
    const FRAMES: usize = 50;
    let lan = Lan::new("flood");
    let mut b = lan.open("b", BOTH, false);
    lan.inside("client", || {
        let sender = Sender::open(0).unwrap();
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        let IpAddr::V4(v4) = ip(SERVICE_V4) else { unreachable!() };
        let IpAddr::V6(v6) = ip(SERVICE_V6) else { unreachable!() };
        for _ in 0..FRAMES {
            sender.send(index, &arp::announcement([2, 0, 0, 0, 0, 9], v4)).unwrap();
        }
        sender.send(index, &neighbor::announcement([2, 0, 0, 0, 0, 9], v6)).unwrap();
    });
    thread::sleep(MS(100));
    // The other socket gets its turn after one frame of the first.
    let waiting = |b: &twobox::takeover::Takeover| -> Vec<bool> {
        b.descriptors()
            .map(|descriptor| {
                let mut one = [nix::poll::PollFd::new(descriptor, nix::poll::PollFlags::POLLIN)];
                nix::poll::poll(&mut one, nix::poll::PollTimeout::ZERO).unwrap() > 0
            })
            .collect()
    };
    assert_eq!(waiting(&b), [true, true]);
    for _ in 0..2 {
        assert_eq!(b.receive(clock::now(), None), Some(None));
    }
    assert_eq!(waiting(&b), [true, false]);
    for _ in 1..FRAMES {
        assert_eq!(b.receive(clock::now(), None), Some(None));
    }
    assert_eq!(b.receive(clock::now(), None), None);
}

#[test]
fn a_listener_hears_only_claims_of_its_addresses() {
    let lan = Lan::new("filter");
    let index = |end: &str| lan.inside(end, || nix::net::if_::if_nametoindex("lan").unwrap());
    let (b, client) = (index("b"), index("client"));
    let v4 = lan.inside("b", || Listener::open(b, &[ip(SERVICE_V4), ip("192.0.2.11")]).unwrap());
    let v6 = lan.inside("b", || Listener::open(b, &[ip(SERVICE_V6), ip("2001:db8::11")]).unwrap());
    let sender = lan.inside("client", || Sender::open(0).unwrap());
    let mac = lan.mac("client");
    for last in 1..=20u8 {
        sender.send(client, &arp::announcement(mac, [192, 0, 2, last].into())).unwrap();
        let target = ip("2001:db8::1").to_string().replace("::1", &format!("::{last:x}"));
        let IpAddr::V6(target) = ip(&target) else { unreachable!() };
        sender.send(client, &neighbor::announcement(mac, target)).unwrap();
        sender.send(client, &neighbor::probe(mac, target)).unwrap();
    }
    let mut buffer = [0; 128];
    let mut heard = Vec::new();
    while let Some(frame) = v4.receive(&mut buffer).unwrap() {
        heard.push(arp::parse(frame).unwrap().sender_ip.octets()[3]);
    }
    assert_eq!(heard, [10, 11]);
    heard.clear();
    while let Some(frame) = v6.receive(&mut buffer).unwrap() {
        let read = neighbor::parse(frame).unwrap();
        assert_eq!(read.kind, neighbor::ADVERTISEMENT);
        heard.push(read.target.octets()[15]);
    }
    assert_eq!(heard, [0x10, 0x11]);
}

/// The same private address in another VLAN of the cable is no business of this LAN's; a tag that has a priority only is.
#[test]
fn a_claim_in_another_vlan_is_not_heard() {
    let lan = Lan::new("vlan");
    let mut a = lan.open("a", BOTH, false);
    a.take_up(clock::now(), || true).unwrap();
    let foreign = lan.mac("b");
    let claims = [
        arp::announcement(foreign, SERVICE_V4.parse().unwrap()).to_vec(),
        neighbor::announcement(foreign, SERVICE_V6.parse().unwrap()).to_vec(),
    ];
    let say = |vlan: u8| {
        lan.inside("b", || {
            let index = nix::net::if_::if_nametoindex("lan").unwrap();
            for claim in &claims {
                let tagged = [&claim[..12], &[0x81, 0, 0x60, vlan], &claim[12..]].concat();
                Sender::open(0).unwrap().send(index, &tagged).unwrap();
            }
        });
    };
    say(7);
    assert_eq!(listen(&mut a, None, MS(100)), []);
    say(0);
    assert_eq!(listen(&mut a, None, MS(100)).len(), 2);
}

/// A card that is taken out and put in again gets its address again, and one with another hardware address tells it.
#[test]
fn an_own_address_follows_its_interface() {
    let lan = Lan::new("ownnew");
    let ours: IpAddr = "192.0.2.44".parse().unwrap();
    lan.ip("b", "addr flush dev lan scope global");
    let mut own = lan.inside("b", || Own::open(&[("lan".to_owned(), ours, 24)]).unwrap());
    let mut settle = || {
        for _ in 0..40 {
            own.turn(clock::now());
            thread::sleep(PAUSE / 4);
        }
        own.stands().all(|stands| stands.ours)
    };
    assert!(settle());
    let reached = |lan: &Lan| run(&format!("ip netns exec {} ping -c 1 -W 5 {ours}", lan.namespace("client"))).0;
    assert!(reached(&lan));
    lan.ip("b", "link set lan address 02:00:00:00:00:66");
    assert!(settle());
    assert_eq!(lan.cached("192.0.2.44"), Some([2, 0, 0, 0, 0, 0x66]));
    lan.ip("b", "link del lan");
    settle();
    let bridge = lan.namespace("lan");
    must(&format!("ip -n {bridge} link add name port-b type veth peer name lan netns {}", lan.namespace("b")));
    must(&format!("ip -n {bridge} link set port-b master bridge up"));
    assert!(settle());
    assert!(reached(&lan), "{}", lan.ip("b", "addr show dev lan"));
}
