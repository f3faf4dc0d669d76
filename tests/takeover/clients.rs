//! What makes clients follow: announcements, and a hardware address that moves.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use twobox::clock;
use twobox::netlink::Socket;
use twobox::takeover::clients::Clients;
use twobox::takeover::packet::Listener;
use twobox::takeover::{Takeover, virtual_mac};
use twobox::time::{Duration, Instant};

use crate::lan::{BOTH, Lan, MS, SERVICE_V4, SERVICE_V6, ip, run};

/// Takes the service addresses from a to b while the client sends to `service` every millisecond; the time from b's
/// `take_up` to the first datagram that b gets.
fn move_under_traffic(lan: &Lan, service: &str, a: &mut Takeover, b: &mut Takeover) -> Duration {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            lan.inside("client", || {
                let any = if ip(service).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let _ = socket.send_to(b"?", (ip(service), 7_000));
                    thread::sleep(MS(1));
                }
            });
        });
        let outage = lan.inside("b", || {
            let any = if ip(service).is_ipv4() { "0.0.0.0:7000" } else { "[::]:7000" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(MS(2_000))).unwrap();
            thread::sleep(MS(30));
            a.take_down().unwrap();
            let begin = clock::now();
            b.take_up(begin, || true).unwrap();
            b.announce(clock::now());
            socket.recv_from(&mut [0; 8]).unwrap();
            clock::now().since(begin)
        });
        stop.store(true, Ordering::Relaxed);
        outage
    })
}

#[test]
fn an_announcement_moves_clients_of_any_cache_age() {
    let lan = Lan::new("arp");
    let mut a = lan.open("a", BOTH, false);
    let mut b = lan.open("b", BOTH, false);
    for (service, age) in [(SERVICE_V4, 0), (SERVICE_V4, 1_500), (SERVICE_V6, 0), (SERVICE_V6, 1_500)] {
        lan.ip("client", "neigh flush all");
        b.take_down().unwrap();
        a.take_up(clock::now(), || true).unwrap();
        assert!(lan.ping("client", service));
        assert_eq!(lan.cached(service), Some(lan.mac("a")));
        thread::sleep(MS(age));
        a.take_up(clock::now(), || true).unwrap();
        let outage = move_under_traffic(&lan, service, &mut a, &mut b);
        println!("{service}, entry {age} ms old: first client frame after {} us", outage.as_micros());
        assert!(outage < MS(1_000), "{service}: {outage:?}");
        assert_eq!(lan.cached(service), Some(lan.mac("b")), "{service}, entry {age} ms old");
    }
}

#[test]
fn known_clients_are_told_one_by_one() {
    let lan = Lan::new("unicast");
    let mut a = lan.open("a", BOTH, false);
    assert!(lan.ping("a", "192.0.2.77") && lan.ping("a", "2001:db8::77"));
    let mut known = Clients::default();
    lan.inside("a", || {
        let mut socket = Socket::open().unwrap();
        let placement = a.placement().unwrap();
        placement.parents().iter().for_each(|parent| known.read_neighbors(&mut socket, *parent).unwrap());
    });
    a.know_clients(known.all());
    for client in ["192.0.2.77", "2001:db8::77"] {
        assert!(a.clients(0).any(|c| c.ip == ip(client) && c.mac == lan.mac("client")), "{client}");
    }
    // The client is deaf to the broadcast: its bridge port passes unicast only.
    lan.ip("lan", "link set port-client type bridge_slave bcast_flood off mcast_flood off");
    let stale = "02:00:00:00:00:99";
    for service in [SERVICE_V4, SERVICE_V6] {
        lan.ip("client", &format!("neigh replace {service} lladdr {stale} dev lan nud stale"));
    }
    a.take_up(clock::now(), || true).unwrap();
    a.announce(clock::now());
    for service in [SERVICE_V4, SERVICE_V6] {
        assert_eq!(lan.cached(service), Some(lan.mac("a")), "{service}");
    }
}

#[test]
fn a_virtual_mac_moves_without_the_client_noticing() {
    let lan = Lan::new("virtual");
    let (probe, said) = run(&format!("ip -n {} link add link lan name probe type macvlan", lan.namespace("a")));
    if !probe {
        println!("SKIPPED: this kernel makes no macvlan: {said}");
        return;
    }
    let mut a = lan.open("a", BOTH, true);
    let mut b = lan.open("b", BOTH, true);
    let expected = [SERVICE_V4, SERVICE_V6].map(|service| virtual_mac::virtual_mac("office", ip(service)));
    assert_eq!([a.mac(0), a.mac(1)], expected.map(Some));
    for end in ["a", "b"] {
        for name in ["twobox-0", "twobox-1"] {
            let link = lan.ip(end, &format!("-d -o link show {name}"));
            assert!(link.contains("addrgenmode none") && link.contains("state DOWN"), "{link}");
        }
    }
    a.take_up(clock::now(), || true).unwrap();
    a.announce(clock::now());
    let link = lan.ip("a", "-o addr show dev twobox-0");
    assert!(!link.contains("fe80"), "no address of its own: {link}");
    for (service, expected) in [SERVICE_V4, SERVICE_V6].into_iter().zip(expected) {
        assert!(lan.ping("client", service), "{service}");
        assert_eq!(lan.cached(service), Some(expected), "{service}");
    }
    for (service, expected) in [SERVICE_V4, SERVICE_V6].into_iter().zip(expected) {
        // A pinned entry cannot be changed by any announcement: only the switch has to learn.
        let text = expected.map(|b| format!("{b:02x}")).join(":");
        lan.ip("client", &format!("neigh replace {service} lladdr {text} dev lan nud permanent"));
        let outage = move_under_traffic(&lan, service, &mut a, &mut b);
        println!("{service}, virtual MAC: first client frame after {} us", outage.as_micros());
        assert!(lan.ping("client", service), "{service}");
        b.take_down().unwrap();
        a.take_up(clock::now(), || true).unwrap();
        a.announce(clock::now());
        assert!(lan.ping("client", service), "{service}");
    }
    a.take_down().unwrap();
    for (end, mut takeover) in [("a", a), ("b", b)] {
        let placement = takeover.placement().unwrap();
        lan.inside(end, || placement.close(takeover.netlink()).unwrap());
        assert!(!lan.ip(end, "-o link show").contains("twobox-"));
    }
}

/// Time goes on: the clock that the daemon uses is the one that these tests measure with.
#[test]
fn the_schedule_is_kept_on_the_wire() {
    let lan = Lan::new("schedule");
    let mut a = lan.open("a", &[(SERVICE_V4, 24)], false);
    let index = lan.inside("b", || nix::net::if_::if_nametoindex("lan").unwrap());
    let listener = lan.inside("b", || Listener::open(index, &[ip(SERVICE_V4)]).unwrap());
    let begin = clock::now();
    a.take_up(begin, || true).unwrap();
    let mut heard: Vec<Instant> = Vec::new();
    // A machine that stands still is late, and never early; the next one is due after 5 s.
    while heard.len() < 4 && clock::now().since(begin) < MS(4_000) {
        a.announce(clock::now());
        while listener.receive(&mut [0; 128]).unwrap().is_some() {
            heard.push(clock::now());
        }
        thread::sleep(MS(1));
    }
    let times: Vec<u128> = heard.iter().map(|at| at.since(begin).as_millis()).collect();
    println!("announced after {times:?} ms");
    assert_eq!(times.len(), 4, "{times:?}");
    for (time, due) in times.iter().zip([0, 50, 200, 1_000]) {
        assert!((due..due + 2_000).contains(time), "{times:?}");
    }
}
