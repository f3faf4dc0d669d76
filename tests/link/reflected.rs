//! Heartbeats through a witness, between two nodes that cannot talk to each other: ports of a bridge, isolated.

use std::net::IpAddr;
use std::os::fd::AsFd;

use twobox::link::Sent;
use twobox::link::reflected::{Arrival, Reflected, Settings, Way, Witness};
use twobox::netlink::Socket;
use twobox::takeover::interface;
use twobox::takeover::packet::{Listener, Sender};
use twobox::time::Instant;
use twobox::wire::{arp, icmp, neighbor};

use crate::allocations;
use crate::lab::{Namespace, quiet, wait};

struct Lan {
    a: Reflected,
    b: Reflected,
    at_a: Namespace,
    at_w: Namespace,
    _others: [Namespace; 2],
    /// Milliseconds; every look at it is one later.
    now: u64,
}

const V4: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
const V6: [&str; 3] = ["2001:db8::1", "2001:db8::2", "2001:db8::3"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings(own: usize, peer: usize, secret: u64) -> Settings {
    Settings {
        interface: "lan".into(),
        own: vec![ip(V4[own]), ip(V6[own])],
        peer: vec![ip(V4[peer]), ip(V6[peer])],
        witnesses: [V4[0], V6[0]].map(|w| Witness { ip: ip(w), next_hop: None }).to_vec(),
        secret,
        own_is_ours: true,
    }
}

/// A and B on isolated ports, the witness on a third.
fn lan() -> Lan {
    let (switch, at_w, at_a, at_b) = (Namespace::new(), Namespace::new(), Namespace::new(), Namespace::new());
    switch.ip("link add br0 type bridge");
    switch.ip("link set br0 up");
    for (node, port, host) in [(&at_w, "to-w", 0), (&at_a, "to-a", 1), (&at_b, "to-b", 2)] {
        switch.cable(port, node, "lan");
        switch.ip(&format!("link set {port} master br0"));
        if port != "to-w" {
            switch.ip(&format!("link set {port} type bridge_slave isolated on"));
        }
        node.ip(&format!("addr add {}/24 dev lan", V4[host]));
        node.ip(&format!("addr add {}/64 dev lan nodad", V6[host]));
    }
    let a = at_a.inside(|| Reflected::open(&settings(1, 2, 0xa)).unwrap());
    let b = at_b.inside(|| Reflected::open(&settings(2, 1, 0xb)).unwrap());
    Lan { a, b, at_a, at_w, _others: [switch, at_b], now: 1_000 }
}

impl Lan {
    fn now(&mut self) -> Instant {
        self.now += 1;
        Instant::from_nanos(self.now * 1_000_000)
    }

    /// A pings until the witness has answered the newest ping, so that no answer is under way; its round.
    fn answered(&mut self, witness: u8) -> u32 {
        let mut round = 0;
        wait("a pong", || {
            round += 1;
            self.now += 20;
            let now = self.now();
            self.a.ping(now, witness, round).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
            while let Some(arrival) = self.a.recv(now).unwrap() {
                match arrival {
                    Arrival::Pong { witness: from, round: of } if (from, of) == (witness, round) => return Some(of),
                    Arrival::Pong { .. } => {}
                    other => panic!("A hears {other:?}"),
                }
            }
            None
        })
    }

    /// What B hears next.
    fn carried(&mut self) -> (u8, Way, Vec<u8>) {
        let now = self.now();
        wait("a reflected heartbeat", || match self.b.recv(now).unwrap()? {
            Arrival::Reflected { witness, way, payload } => Some((witness, way, payload.to_vec())),
            Arrival::Pong { .. } => None,
        })
    }
}

#[test]
fn a_witness_answers_rounds_and_carries_heartbeats_of_both_families() {
    let mut l = lan();
    let heartbeat = [&b"2b"[..], &[0x77; 222]].concat();
    for witness in [0, 1] {
        let now = l.now();
        assert_eq!(l.a.ping(now, witness, 0).unwrap(), Sent::Dropped, "its hardware address is not known yet");
        assert!(l.answered(witness) > 0);
        assert!(l.a.resolved(witness).is_some());
        for payload in [&b"2b"[..], b"2s side", &heartbeat] {
            assert_eq!(l.a.reflect(witness, payload).unwrap(), Sent::Queued);
            assert_eq!(l.carried(), (witness, Way::Echo, payload.to_vec()));
        }
    }
    assert!(quiet(l.b.as_fd()), "the witness does not route");
    assert!(quiet(l.a.as_fd()), "A hears its own");
    assert_eq!(l.b.counters().errors, 0);
}

#[test]
fn nothing_is_said_from_an_address_that_is_not_ours_yet() {
    let mut l = lan();
    let settings = Settings { own_is_ours: false, ..settings(1, 2, 0xaa) };
    l.a = l.at_a.inside(|| Reflected::open(&settings).unwrap());
    l.at_w.ip("neigh flush all");
    for round in 1..9 {
        l.now += 1000;
        let now = l.now();
        assert_eq!(l.a.ping(now, 0, round).unwrap(), Sent::Dropped);
        assert_eq!(l.a.reflect(0, b"2b early").unwrap(), Sent::Dropped);
    }
    assert_eq!((l.a.resolved(0), l.a.counters().frames_out), (None, 0), "it asks for nobody either");
    l.a.take(ip(V4[1]));
    assert!(l.answered(0) > 0);
    let now = l.now();
    assert_eq!(l.a.ping(now, 1, 1).unwrap(), Sent::Dropped);
    assert_eq!(l.a.resolved(1), None, "the other family's address is not ours yet");
}

#[test]
fn a_witness_that_routes_carries_both_ways() {
    let mut l = lan();
    l.at_w.set("/proc/sys/net/ipv4/ip_forward", "1");
    l.at_w.set("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    for witness in [0, 1] {
        l.answered(witness);
        l.a.reflect(witness, b"2b both").unwrap();
        let mut ways = [l.carried(), l.carried()];
        ways.sort_by_key(|(_, way, _)| *way == Way::Routed);
        let expected = [Way::Echo, Way::Routed].map(|way| (witness, way, b"2b both".to_vec()));
        assert_eq!(ways, expected);
    }
}

#[test]
fn only_the_routed_way_is_left_when_nobody_may_send_in_anothers_name() {
    let mut l = lan();
    l.at_w.set("/proc/sys/net/ipv4/ip_forward", "1");
    l.answered(0);
    // As IP source guard would, on A's own port.
    let table = "table netdev g { chain c { type filter hook egress device lan priority 0; \
        ip saddr 192.0.2.3 drop; }; }";
    let done = l.at_a.inside(|| std::process::Command::new("nft").arg(table).status().unwrap());
    assert!(done.success());
    l.a.reflect(0, b"2b guarded").unwrap();
    assert_eq!(l.carried(), (0, Way::Routed, b"2b guarded".to_vec()));
}

#[test]
fn answers_to_another_life_are_not_counted() {
    let mut l = lan();
    l.answered(0);
    let mut later = l.at_a.inside(|| Reflected::open(&settings(1, 2, 0xaa)).unwrap());
    let now = l.now();
    l.a.ping(now, 0, 9_999).unwrap();
    let round = wait("the pong", || match l.a.recv(now).unwrap()? {
        Arrival::Pong { witness: 0, round } => Some(round),
        other => panic!("{other:?}"),
    });
    assert_eq!(round, 9_999);
    assert_eq!(later.recv(now).unwrap(), None);
    assert_eq!(later.counters().errors, 1);
}

#[test]
fn a_witness_that_changes_its_hardware_address_is_found_again() {
    let mut l = lan();
    for witness in [0, 1] {
        l.answered(witness);
    }
    l.at_w.ip("link set lan down");
    l.at_w.ip("link set lan address 02:00:00:00:00:77");
    l.at_w.ip("link set lan up");
    l.at_w.ip(&format!("addr replace {}/64 dev lan nodad", V6[0]));
    for witness in [0, 1] {
        l.answered(witness);
        assert_eq!(l.a.resolved(witness), Some([2, 0, 0, 0, 0, 0x77]));
    }
}

#[test]
fn nothing_is_allocated_once_it_is_open() {
    let mut l = lan();
    l.answered(0);
    let now = l.now();
    let allocated = allocations(|| {
        for round in 0..100 {
            l.a.ping(now, 0, round).unwrap();
            l.a.reflect(0, b"2b beat").unwrap();
            while l.a.recv(now).unwrap().is_some() {}
            while l.b.recv(now).unwrap().is_some() {}
            l.a.counters();
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let namespace = Namespace::new();
    let mut no_v6 = settings(1, 2, 1);
    no_v6.own.pop();
    let mut many = settings(1, 2, 1);
    many.witnesses = (1..=9).map(|i| Witness { ip: IpAddr::from([192, 0, 2, i]), next_hop: None }).collect();
    let mut mixed = settings(1, 2, 1);
    mixed.witnesses[0].next_hop = Some(ip(V6[1]));
    for bad in [no_v6, many, mixed] {
        let refused = namespace.inside(|| Reflected::open(&Settings { interface: "lo".into(), ..bad }).err().unwrap());
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    }
}

/// Sends `frame` by the witness's interface.
fn from_witness(l: &Lan, frame: &[u8]) {
    l.at_w.inside(|| {
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        Sender::open(0).unwrap().send(index, frame).unwrap();
    });
}

/// 802.1p: a tag that has a priority and no VLAN says nothing about whose LAN it is.
#[test]
fn a_priority_tag_is_no_vlan() {
    let mut l = lan();
    let to = l.at_a.inside(|| interface::find(&mut Socket::open().unwrap(), "lan").unwrap().mac);
    for (witness, v) in [(0, V4), (1, V6)] {
        let (source, destination) = (ip(v[2]), ip(v[1]));
        let (identifier, sequence, payload) = (0, witness, &b"2b tagged"[..]);
        let mut out = [0; icmp::FRAME_MAX];
        let request =
            icmp::Request { to, from: [2, 0, 0, 0, 0, 9], source, destination, identifier, sequence, payload };
        let mut frame = request.write(&mut out).unwrap().to_vec();
        // A router has passed it on: one hop less, and the header's sum more by as much.
        if source.is_ipv4() {
            frame[22] -= 1;
            let (sum, carry) = u16::from_be_bytes([frame[24], frame[25]]).overflowing_add(0x100);
            frame[24..26].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        } else {
            frame[21] -= 1;
        }
        let tagged = |vlan: u8| [&frame[..12], &[0x81, 0, 0x60, vlan], &frame[12..]].concat();
        from_witness(&l, &tagged(7));
        assert!(quiet(l.a.as_fd()), "another LAN's");
        from_witness(&l, &tagged(0));
        let now = l.now();
        let arrival = wait("the tagged one", || l.a.recv(now).unwrap().map(|arrival| format!("{arrival:?}")));
        let expected = Arrival::Reflected { witness: witness as u8, way: Way::Routed, payload };
        assert_eq!(arrival, format!("{expected:?}"));
    }
}

/// A box that comes back with another card, and does not run the program yet, needs the witness, too.
#[test]
fn a_silent_peer_that_answers_by_another_card_is_not_spoken_for_by_the_former_one() {
    let mut l = lan();
    let former = [2, 0, 0, 0, 0, 0x66];
    let [switch, at_b] = &l._others;
    switch.ip("link set to-b type bridge_slave isolated off");
    let present = at_b.inside(|| interface::find(&mut Socket::open().unwrap(), "lan").unwrap().mac);
    for (witness, v) in [(0, V4), (1, V6)] {
        l.answered(witness);
        let peer = ip(v[2]);
        let said = l.at_w.inside(|| Listener::open(nix::net::if_::if_nametoindex("lan").unwrap(), &[peer]).unwrap());
        let told = |l: &mut Lan, known| {
            l.now += 1_000;
            let now = l.now();
            while l.a.recv(now).unwrap().is_some() {}
            l.a.vouch(now, witness, known).unwrap();
            wait("a word about the peer", || {
                let mut buffer = [0; 128];
                let frame = said.receive(&mut buffer).unwrap()?;
                arp::parse(frame).map(|arp| arp.sender_mac).or_else(|| neighbor::parse(frame).map(|n| n.mac))
            })
        };
        assert_eq!(told(&mut l, former), former);
        // It was asked, and answers.
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(told(&mut l, former), present, "what the witness is told is true");
        // A heartbeat of the peer's is authentic, whatever somebody else answers.
        assert_eq!(told(&mut l, [2, 0, 0, 0, 0, 0x68]), [2, 0, 0, 0, 0, 0x68]);
    }
}
