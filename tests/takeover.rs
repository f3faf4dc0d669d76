//! The takeover on a real LAN: a bridge, two boxes and a client, each in a network namespace of its own. Needs root.
//!
//! What counts is what the client sees and what the kernel says when asked by another way than ours (`ip`).

#![allow(clippy::disallowed_methods)] // a test starts `ip`, sleeps and reads the clock

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use twobox::clock;
use twobox::fence::{address_lease, queue};
use twobox::netlink::Socket;
use twobox::takeover::address::{self, ServiceAddress};
use twobox::takeover::own::{Own, PAUSE};
use twobox::takeover::packet::{Listener, Sender};
use twobox::takeover::{Finding, Settings, SettingsAddress, Takeover, virtual_mac};
use twobox::time::{Duration, Instant};
use twobox::wire::{Mac, arp, neighbor};

const MS: fn(u64) -> Duration = Duration::from_millis;
const LEASE: Duration = Duration::from_millis(500);
const SERVICE_V4: &str = "192.0.2.10";
const SERVICE_V6: &str = "2001:db8::10";

fn run(command: &str) -> (bool, String) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("{command}: {e}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn must(command: &str) -> String {
    let (ok, text) = run(command);
    assert!(ok, "{command}: {text}");
    text
}

/// Namespaces `tbto-NAME-{lan,a,b,client}`; in the last three an interface `lan` on the bridge in the first.
struct Lan {
    name: &'static str,
}

const BOXES: [(&str, &str); 3] = [("a", "2"), ("b", "3"), ("client", "77")];

impl Lan {
    fn new(name: &'static str) -> Lan {
        let lan = Lan { name };
        lan.delete();
        for end in ["lan", "a", "b", "client"] {
            must(&format!("ip netns add {}", lan.namespace(end)));
            must(&format!("ip -n {} link set lo up", lan.namespace(end)));
        }
        let bridge = lan.namespace("lan");
        must(&format!("ip -n {bridge} link add bridge type bridge"));
        must(&format!("ip -n {bridge} link set bridge up"));
        for (end, host) in BOXES {
            let namespace = lan.namespace(end);
            // Or the kernel says nothing for its first second, while it looks for duplicates of its link-local address.
            must(&format!("ip netns exec {namespace} sysctl -q -w net.ipv6.conf.default.accept_dad=0"));
            must(&format!("ip -n {bridge} link add name port-{end} type veth peer name lan netns {namespace}"));
            must(&format!("ip -n {bridge} link set port-{end} master bridge up"));
            must(&format!("ip -n {namespace} link set lan up"));
            must(&format!("ip -n {namespace} addr add 192.0.2.{host}/24 dev lan"));
            must(&format!("ip -n {namespace} addr add 2001:db8::{host}/64 dev lan nodad"));
        }
        lan
    }

    fn namespace(&self, end: &str) -> String {
        format!("tbto-{}-{end}", self.name)
    }

    fn delete(&self) {
        for end in ["lan", "a", "b", "client"] {
            run(&format!("ip netns delete {}", self.namespace(end)));
        }
    }

    fn ip(&self, end: &str, command: &str) -> String {
        must(&format!("ip -n {} {command}", self.namespace(end)))
    }

    /// Runs `inside` on a thread whose network is that of `end`.
    fn inside<T: Send>(&self, end: &str, inside: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(end));
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let file = std::fs::File::open(path).unwrap();
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                inside()
            });
            entered.join().unwrap()
        })
    }

    fn open(&self, end: &str, addresses: &[(&str, u8)], virtual_mac: bool) -> Takeover {
        self.inside(end, || Takeover::open(&settings(addresses, virtual_mac)).unwrap().0)
    }

    fn mac(&self, end: &str) -> Mac {
        let text = self.ip(end, "-o link show lan");
        parse_mac(text.split("link/ether ").nth(1).unwrap())
    }

    /// The hardware address that the client has for `ip`.
    fn cached(&self, ip: &str) -> Option<Mac> {
        self.ip("client", &format!("neigh show {ip}")).split("lladdr ").nth(1).map(parse_mac)
    }

    fn ping(&self, from: &str, to: &str) -> bool {
        run(&format!("ip netns exec {} ping -c 1 -W 1 {to}", self.namespace(from))).0
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.delete();
    }
}

fn parse_mac(text: &str) -> Mac {
    let mut mac = [0; 6];
    for (byte, word) in mac.iter_mut().zip(text.split_whitespace().next().unwrap().split(':')) {
        *byte = u8::from_str_radix(word, 16).unwrap();
    }
    mac
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings(addresses: &[(&str, u8)], virtual_mac: bool) -> Settings {
    let addresses = addresses
        .iter()
        .map(|&(text, prefix)| SettingsAddress {
            address: ServiceAddress { ip: ip(text), prefix },
            interface: "lan".into(),
            virtual_mac,
        })
        .collect();
    // Long: most tests are slower than a real lifetime and do not renew.
    Settings { pair: "office".into(), addresses, lifetime: MS(60_000), lease: LEASE, mark: 0x3262_6f78 }
}

const BOTH: &[(&str, u8)] = &[(SERVICE_V4, 24), (SERVICE_V6, 64)];

/// Everything that is heard within `time`.
fn listen(takeover: &mut Takeover, peer: Option<Mac>, time: Duration) -> Vec<twobox::takeover::Heard> {
    let end = clock::now() + time;
    let mut heard = Vec::new();
    while clock::now() < end {
        heard.extend(takeover.receive(clock::now(), peer));
        thread::sleep(MS(1));
    }
    heard
}

fn announce_all(takeover: &mut Takeover, time: Duration) {
    let end = clock::now() + time;
    while clock::now() < end {
        takeover.announce(clock::now());
        thread::sleep(MS(1));
    }
}

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
fn an_address_lives_while_it_is_renewed_and_cannot_be_brought_back_late() {
    let lan = Lan::new("life");
    let short = Settings { lifetime: address_lease::lifetime(LEASE), ..settings(BOTH, false) };
    let mut a = lan.inside("a", || Takeover::open(&short).unwrap().0);
    assert!(a.down().unwrap());
    a.take_up(clock::now()).unwrap();
    assert!(!a.down().unwrap());
    let shown = lan.ip("a", "-o addr show dev lan");
    // Host prefixes beside the own addresses, with a lifetime; the IPv6 one usable at once and no source of our own.
    assert!(shown.contains("inet 192.0.2.10/32"), "{shown}");
    let v6 = shown.lines().find(|l| l.contains("2001:db8::10/128")).unwrap();
    assert!(v6.contains("deprecated") && !v6.contains("tentative"), "{v6}");
    assert!(lan.ping("client", SERVICE_V4) && lan.ping("client", SERVICE_V6));

    // Renewed four times a second, it outlives its one second.
    let mut renewed_at = clock::now();
    for _ in 0..10 {
        thread::sleep(MS(250));
        renewed_at = clock::now();
        a.renew().unwrap();
    }
    assert!(lan.ping("client", SERVICE_V4) && lan.ping("client", SERVICE_V6));
    let lived = until_down(&mut a, renewed_at);
    println!("removed by the kernel {} ms after the last renewal of 1 s", lived.as_millis());
    assert!(lived >= MS(1_000) - MS(5), "removed early");

    // A renewal that comes now is refused, in both families, and adds nothing.
    assert_eq!(a.renew().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert!(a.down().unwrap());
    let shown = lan.ip("a", "-o addr show dev lan");
    assert!(!shown.contains(SERVICE_V4) && !shown.contains(SERVICE_V6), "{shown}");
    assert!(shown.contains("192.0.2.2/24") && shown.contains("2001:db8::2/64"), "own addresses: {shown}");

    // Why the renewal needs its flag: without it the kernel adds the address, NLM_F_CREATE or not.
    for address in ["192.0.2.10/32", "2001:db8::10/128"] {
        lan.ip("a", &format!("addr change {address} dev lan valid_lft 1 preferred_lft 1"));
    }
    assert!(!a.down().unwrap());
    assert_eq!(a.take_down().unwrap(), 2);
}

/// The kernel looks for expired addresses at most once a second, and also whenever any address is put on: one that is put on
/// just before the end of a lifetime moves the next look by a second (net/ipv4/devinet.c and net/ipv6/addrconf.c,
/// ADDRCONF_TIMER_FUZZ_MAX). The belt's bound must hold for a box on which a container or a DHCP client does that.
#[test]
fn the_bound_of_a_lifetime_holds_when_another_address_is_put_on_just_before_its_end() {
    let lan = Lan::new("push");
    for (service, prefix, other) in [(SERVICE_V4, 32, "192.0.2.90/24"), (SERVICE_V6, 128, "2001:db8::90/64")] {
        let short = Settings { lifetime: MS(1_000), ..settings(&[(service, prefix)], false) };
        let mut a = lan.inside("a", || Takeover::open(&short).unwrap().0);
        a.take_up(clock::now()).unwrap();
        let renewed_at = clock::now();
        a.renew().unwrap();
        thread::sleep(MS(900));
        lan.ip("a", &format!("addr add {other} dev lan nodad"));
        let lived = until_down(&mut a, renewed_at);
        println!("{service} was removed {} ms after the last renewal of 1 s", lived.as_millis());
        lan.ip("a", &format!("addr delete {other} dev lan"));
    }
}

/// How long after `renewed_at` the last address was there.
fn until_down(a: &mut Takeover, renewed_at: Instant) -> Duration {
    loop {
        let looked_at = clock::now(); // before the look: what it finds may be told late on a busy machine
        if a.down().unwrap() {
            return clock::now().since(renewed_at);
        }
        let lived = looked_at.since(renewed_at);
        assert!(lived < MS(1_000) + address_lease::KERNEL_DELAY, "still there after {} ms", lived.as_millis());
        thread::sleep(MS(2));
    }
}

#[test]
fn each_family_alone_refuses_a_late_renewal() {
    let lan = Lan::new("late");
    lan.inside("a", || {
        let mut socket = Socket::open().unwrap();
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        for (text, prefix) in BOTH {
            for covered in [true, false] {
                let service = ServiceAddress { ip: ip(text), prefix: *prefix };
                let refused = address::renew(&mut socket, index, service, covered, MS(1_000)).unwrap_err();
                assert_eq!(refused.kind(), std::io::ErrorKind::NotFound, "{text} {covered}");
                assert!(address::assigned(&mut socket, &[service]).unwrap().is_empty(), "{text} {covered}");
                address::add(&mut socket, index, service, covered, MS(5_000)).unwrap();
                address::renew(&mut socket, index, service, covered, MS(3_000)).unwrap();
                let there = address::assigned(&mut socket, &[service]).unwrap();
                assert_eq!(there.len(), 1, "{there:?}");
                assert_eq!(there[0].valid, Some(3), "{text} {covered}");
                assert_eq!(
                    there[0].prefix,
                    if covered { if service.ip.is_ipv4() { 32 } else { 128 } } else { *prefix }
                );
                address::remove(&mut socket, there[0]).unwrap();
                address::remove(&mut socket, there[0]).unwrap();
            }
        }
    });
    let routes = lan.ip("a", "route show") + &lan.ip("a", "-6 route show");
    assert!(routes.contains("192.0.2.0/24 dev lan") && routes.contains("2001:db8::/64 dev lan"), "{routes}");
}

#[test]
fn leftovers_of_a_killed_instance_are_removed_and_nothing_else() {
    let lan = Lan::new("left");
    lan.ip("a", &format!("addr add {SERVICE_V4}/24 dev lan"));
    lan.ip("a", &format!("addr add {SERVICE_V6}/128 dev lo"));
    for name in ["twobox-0", "twobox-9", "other"] {
        lan.ip("a", &format!("link add link lan name {name} type macvlan mode bridge"));
    }
    let (takeover, leftovers) = lan.inside("a", || Takeover::open(&settings(BOTH, false)).unwrap());
    assert_eq!((leftovers.addresses, leftovers.macvlans), (2, 2));
    let shown = lan.ip("a", "-o addr show") + &lan.ip("a", "-o link show");
    assert!(!shown.contains(SERVICE_V4) && !shown.contains(SERVICE_V6) && !shown.contains("twobox-"), "{shown}");
    assert!(shown.contains("192.0.2.2/24") && shown.contains("2001:db8::2/64") && shown.contains("other@"), "{shown}");
    drop(takeover);
}

#[test]
fn a_service_address_of_another_network_brings_its_route_and_takes_it_away() {
    let lan = Lan::new("net");
    let other = settings(&[("198.51.100.10", 24), ("2001:db8:1::10", 64)], false);
    let mut a = lan.inside("a", || Takeover::open(&Settings { lifetime: MS(1_000), ..other }).unwrap().0);
    a.take_up(clock::now()).unwrap();
    let reached = |to: &str| run(&format!("ip -n {} route get {to}", lan.namespace("a"))).0;
    assert!(reached("198.51.100.77") && reached("2001:db8:1::77"));
    a.renew().unwrap();
    assert_eq!(a.take_down().unwrap(), 2);
    assert!(!reached("198.51.100.77"));
    // The kernel leaves an IPv6 route to its own lifetime, which is the address's.
    thread::sleep(MS(1_100));
    assert!(!reached("2001:db8:1::77"));
}

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
            b.take_up(begin).unwrap();
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
        a.take_up(clock::now()).unwrap();
        assert!(lan.ping("client", service));
        assert_eq!(lan.cached(service), Some(lan.mac("a")));
        thread::sleep(MS(age));
        a.take_up(clock::now()).unwrap();
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
    a.learn_clients().unwrap();
    for client in ["192.0.2.77", "2001:db8::77"] {
        assert!(a.clients().iter().any(|c| c.ip == ip(client) && c.mac == lan.mac("client")), "{client}");
    }
    // The client is deaf to the broadcast: its bridge port passes unicast only.
    lan.ip("lan", "link set port-client type bridge_slave bcast_flood off mcast_flood off");
    let stale = "02:00:00:00:00:99";
    for service in [SERVICE_V4, SERVICE_V6] {
        lan.ip("client", &format!("neigh replace {service} lladdr {stale} dev lan nud stale"));
    }
    a.take_up(clock::now()).unwrap();
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
    a.take_up(clock::now()).unwrap();
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
        a.take_up(clock::now()).unwrap();
        a.announce(clock::now());
        assert!(lan.ping("client", service), "{service}");
    }
    a.take_down().unwrap();
    for (end, takeover) in [("a", a), ("b", b)] {
        lan.inside(end, || takeover.close().unwrap());
        assert!(!lan.ip(end, "-o link show").contains("twobox-"));
    }
}

#[test]
fn a_probe_is_answered_by_a_holder_and_by_nobody_else() {
    let lan = Lan::new("probe");
    let mut a = lan.open("a", BOTH, false);
    let mut b = lan.open("b", BOTH, false);
    let peer = lan.mac("a");
    b.probe(clock::now());
    assert_eq!(listen(&mut b, Some(peer), MS(100)), []);
    a.take_up(clock::now()).unwrap();
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
    a.take_up(clock::now()).unwrap();
    announce_all(&mut a, MS(60));
    assert_eq!(listen(&mut b, Some(peer), MS(50)), []);
}

#[test]
fn a_foreign_claim_is_answered_once_and_reported() {
    let lan = Lan::new("defend");
    let mut a = lan.open("a", BOTH, false);
    a.take_up(clock::now()).unwrap();
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
    b.take_up(clock::now()).unwrap();
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
    lan.inside("b", || b.close().unwrap());
    assert_eq!(read().trim(), "0");
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

#[test]
fn the_queue_behind_the_gate_is_read_and_made_short() {
    let lan = Lan::new("queue");
    lan.inside("a", || {
        let mut socket = Socket::open().unwrap();
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        let read = |socket: &mut Socket| queue::read(socket, index, 1000).unwrap();
        let bare = read(&mut socket);
        assert_eq!(bare.kind, "noqueue");
        assert!(bare.drained());
        assert_eq!(bare.longest_stay(None), Some(Duration::ZERO));

        queue::shorten(&mut socket, index).unwrap();
        let short = read(&mut socket);
        assert_eq!((short.kind.as_str(), short.capacity), ("bfifo", Some(256 * 1024)));
        queue::restore(&mut socket, index).unwrap();
        assert_eq!(read(&mut socket).kind, "noqueue");

        // A queue that holds back on purpose has no bound, and what waits in it is seen.
        must(&format!("tc -n {} qdisc add dev lan root tbf rate 64kbit burst 2000 limit 100000", lan.namespace("a")));
        let socket_out = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert!(lan.ping("a", "192.0.2.77"));
        for _ in 0..20 {
            socket_out.send_to(&[0; 1000], "192.0.2.77:7000").unwrap();
        }
        let slow = read(&mut socket);
        assert_eq!((slow.kind.as_str(), slow.capacity), ("tbf", None));
        assert!(!slow.drained() && slow.packets > 0 && slow.bytes >= 1000, "{slow:?}");
    });
}

/// Time goes on: the clock that the daemon uses is the one that these tests measure with.
#[test]
fn the_schedule_is_kept_on_the_wire() {
    let lan = Lan::new("schedule");
    let mut a = lan.open("a", &[(SERVICE_V4, 24)], false);
    let index = lan.inside("b", || nix::net::if_::if_nametoindex("lan").unwrap());
    let listener = lan.inside("b", || Listener::open(index, &[ip(SERVICE_V4)]).unwrap());
    let begin = clock::now();
    a.take_up(begin).unwrap();
    let mut heard: Vec<Instant> = Vec::new();
    while clock::now().since(begin) < MS(1_300) {
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
        assert!((due..due + 100).contains(time), "{times:?}");
    }
}
