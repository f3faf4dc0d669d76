//! How long an address lives: while it is renewed, and never longer than its belt promises.

use std::thread;

use twobox::clock;
use twobox::fence::address_lease;
use twobox::netlink::Socket;
use twobox::takeover::address::{self, ServiceAddress};
use twobox::takeover::{Settings, Takeover};
use twobox::time::{Duration, Instant};

use crate::lan::{BOTH, LEASE, Lan, MS, SERVICE_V4, SERVICE_V6, ip, run, settings};

/// As the network's thread does it.
fn renew(socket: &mut Socket, takeover: &Takeover) -> std::io::Result<()> {
    takeover.renewal().carry_out(socket, || true).map(|allowed| assert!(allowed))
}

#[test]
fn an_address_lives_while_it_is_renewed_and_cannot_be_brought_back_late() {
    let lan = Lan::new("life");
    let short = Settings { lifetime: address_lease::lifetime(LEASE), ..settings(BOTH, false) };
    let mut a = lan.inside("a", || Takeover::open(&short).unwrap().0);
    let mut socket = lan.inside("a", || Socket::open().unwrap());
    assert!(a.down().unwrap());
    a.take_up(clock::now(), || true).unwrap();
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
        renew(&mut socket, &a).unwrap();
    }
    assert!(lan.ping("client", SERVICE_V4) && lan.ping("client", SERVICE_V6));
    let lived = until_down(&mut a, renewed_at);
    println!("removed by the kernel {} ms after the last renewal of 1 s", lived.as_millis());
    assert!(lived >= MS(1_000) - MS(5), "removed early");

    // A renewal that comes now is refused, in both families, and adds nothing.
    assert_eq!(renew(&mut socket, &a).unwrap_err().kind(), std::io::ErrorKind::NotFound);
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

/// The kernel may let the first address wait until the right is over: the others stay down then, and what comes later is
/// announced, although something is still missing.
#[test]
fn no_address_goes_up_after_the_right_and_one_that_comes_later_is_announced() {
    let lan = Lan::new("right");
    let mut a = lan.open("a", BOTH, false);
    let once = || {
        let mut left = 1;
        move || core::mem::replace(&mut left, 0) == 1
    };
    a.take_up(clock::now(), || false).unwrap();
    assert!(a.down().unwrap());
    let said = clock::now() + MS(60_000); // all of the schedule is over
    a.announce(said);
    assert_eq!(a.next_deadline(), None);
    assert!(!a.complete(said, once()), "one is still missing");
    assert_eq!([0, 1].map(|address| a.held(address)), [true, false]);
    let shown = lan.ip("a", "-o addr show dev lan");
    assert!(shown.contains(SERVICE_V4) && !shown.contains(SERVICE_V6), "{shown}");
    assert_eq!(a.next_deadline(), Some(said), "the one that came is announced");
    assert!(a.complete(said, once()) && !a.complete(said, once()));
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
        let mut socket = lan.inside("a", || Socket::open().unwrap());
        a.take_up(clock::now(), || true).unwrap();
        let renewed_at = clock::now();
        renew(&mut socket, &a).unwrap();
        thread::sleep(MS(900));
        lan.ip("a", &format!("addr add {other} dev lan nodad"));
        let lived = until_down(&mut a, renewed_at);
        println!("{service} was removed {} ms after the last renewal of 1 s", lived.as_millis());
        lan.ip("a", &format!("addr delete {other} dev lan"));
    }
}

/// Who was stopped between his look at the right and the call renews an address whose lifetime is over, as long as the kernel is
/// late with its removal; and it may be late once more. The bound reckons with both.
#[test]
fn the_bound_holds_for_a_renewal_that_finds_the_kernel_late() {
    let lan = Lan::new("twice");
    let lifetime = MS(1_000);
    let short = Settings { lifetime, ..settings(&[(SERVICE_V4, 32)], false) };
    let mut a = lan.inside("a", || Takeover::open(&short).unwrap().0);
    let mut socket = lan.inside("a", || Socket::open().unwrap());
    // Another address just before the end of the lifetime makes the kernel late.
    let push = |host: u8, slept: Duration| {
        thread::sleep(slept);
        lan.ip("a", &format!("addr add 192.0.2.{host}/24 dev lan"));
    };
    for attempt in 0..10 {
        let hosts = [90 + 2 * attempt, 91 + 2 * attempt];
        a.take_up(clock::now(), || true).unwrap();
        let renewed_at = clock::now();
        push(hosts[0], MS(900));
        thread::sleep(MS(200).max(lifetime.saturating_sub(clock::now().since(renewed_at)) + MS(50)));
        if renew(&mut socket, &a).is_err() {
            continue; // a busy machine: the kernel came first
        }
        push(hosts[1], MS(900));
        while !a.down().unwrap() {
            assert!(clock::now().since(renewed_at) < address_lease::bound(lifetime), "it is still there");
            thread::sleep(MS(2));
        }
        let lived = clock::now().since(renewed_at);
        println!("renewed after its lifetime, the address lived for {} ms", lived.as_millis());
        assert!(lived > lifetime * 2, "renewed late, and gone before its time");
        return;
    }
    panic!("the kernel was never late");
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

/// Whatever way somebody has put it on: as one end of a point-to-point link, and twice.
#[test]
fn an_address_that_somebody_has_put_on_in_another_way_comes_down() {
    let lan = Lan::new("odd");
    let mut a = lan.open("a", BOTH, false);
    for odd in [
        format!("{SERVICE_V4} peer 192.0.2.99"),
        format!("{SERVICE_V4}/16"),
        format!("{SERVICE_V6} peer 2001:db8::99 nodad"),
    ] {
        lan.ip("a", &format!("addr add {odd} dev lan"));
    }
    lan.ip("a", &format!("addr add {SERVICE_V4}/32 dev lo"));
    assert_eq!(a.take_down().unwrap(), 4);
    let shown = lan.ip("a", "-o addr show");
    assert!(
        shown.contains("192.0.2.2/24") && shown.contains("2001:db8::2/64") && !shown.contains(SERVICE_V4),
        "{shown}"
    );
}

#[test]
fn a_service_address_of_another_network_brings_its_route_and_takes_it_away() {
    let lan = Lan::new("net");
    let other = settings(&[("198.51.100.10", 24), ("2001:db8:1::10", 64)], false);
    let mut a = lan.inside("a", || Takeover::open(&Settings { lifetime: MS(1_000), ..other }).unwrap().0);
    let mut socket = lan.inside("a", || Socket::open().unwrap());
    a.take_up(clock::now(), || true).unwrap();
    let reached = |to: &str| run(&format!("ip -n {} route get {to}", lan.namespace("a"))).0;
    assert!(reached("198.51.100.77") && reached("2001:db8:1::77"));
    renew(&mut socket, &a).unwrap();
    assert_eq!(a.take_down().unwrap(), 2);
    assert!(!reached("198.51.100.77"));
    // The kernel leaves an IPv6 route to its own lifetime, which is the address's.
    thread::sleep(MS(1_100));
    assert!(!reached("2001:db8:1::77"));
}
