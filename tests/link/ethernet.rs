//! Raw frames over a cable.
#![allow(unsafe_code)] // a raw packet socket has no safe form

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use twobox::link::ethernet::{ETHER_TYPE, Ethernet, GROUP};
use twobox::link::{Binder, Carrier, Sent};
use twobox::netlink::Socket;
use twobox::takeover::interface;

use crate::allocations;
use crate::lab::{Namespace, quiet, wait};

struct Cable {
    a: Ethernet,
    b: Ethernet,
    at_a: Namespace,
    at_b: Namespace,
}

fn cable() -> Cable {
    let (at_a, at_b) = (Namespace::new(), Namespace::new());
    at_a.cable("x0", &at_b, "x0");
    let open = || Ethernet::open("x0").unwrap();
    let (a, b) = (at_a.inside(open), at_b.inside(open));
    wait("carrier", || (a.carrier() == Carrier::Present && b.carrier() == Carrier::Present).then_some(()));
    Cable { a, b, at_a, at_b }
}

fn heard(link: &mut Ethernet) -> Vec<u8> {
    let mut buffer = [0; 224];
    let length = wait("a frame", || link.recv(&mut buffer).unwrap());
    buffer[..length].to_vec()
}

/// Any frame from A's side, made by hand.
fn raw(at: &Namespace) -> OwnedFd {
    at.inside(|| {
        // SAFETY: socket(2) takes no pointers; bind(2) gets one to a value that lives through the call, with its size.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0);
            let mut to: libc::sockaddr_ll = std::mem::zeroed();
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_ifindex = nix::net::if_::if_nametoindex("x0").unwrap() as i32;
            assert_eq!(libc::bind(fd, (&raw const to).cast(), size_of_val(&to) as u32), 0);
            OwnedFd::from_raw_fd(fd)
        }
    })
}

fn frame(to: [u8; 6], ether_type: u16, length: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 7]);
    frame.extend(ether_type.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend(payload);
    frame
}

fn write(fd: &OwnedFd, frame: &[u8]) {
    // SAFETY: pointer and length are of one buffer.
    let sent = unsafe { libc::send(fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    assert_eq!(sent, frame.len() as isize);
}

#[test]
fn what_one_sends_the_other_hears_and_the_sender_does_not() {
    let mut c = cable();
    for payload in [&b"2b"[..], b"2s short", &[b"2b", &[0x55; 222][..]].concat()] {
        assert_eq!(c.a.send(payload).unwrap(), Sent::Queued);
        assert_eq!(heard(&mut c.b), payload);
    }
    assert!(quiet(c.a.as_fd()), "it hears itself");
    assert_eq!((c.a.counters().frames_out, c.a.counters().bytes_out), (3, 234));
    assert_eq!((c.b.counters().frames_in, c.b.counters().bytes_in), (3, 234));
}

#[test]
fn a_flood_of_foreign_frames_wakes_nobody() {
    let mut c = cable();
    let foreign = raw(&c.at_a);
    let kinds = [
        frame(GROUP, 0x0800, 4, b"2bxx"),
        frame(GROUP, ETHER_TYPE + 1, 4, b"2bxx"),
        frame(GROUP, ETHER_TYPE, 4, b"3bxx"),
        frame([2, 0, 0, 0, 0, 99], ETHER_TYPE, 4, b"2bxx"),
        frame([1, 0, 0x5e, 0, 0, 1], ETHER_TYPE, 4, b"2bxx"),
        frame(GROUP, ETHER_TYPE, 4, b""),
    ];
    for _ in 0..5_000 {
        kinds.iter().for_each(|kind| write(&foreign, kind));
    }
    assert!(quiet(c.b.as_fd()));
    c.a.send(b"2b beat").unwrap();
    assert_eq!(heard(&mut c.b), b"2b beat");
    assert_eq!(c.b.counters().overrun, 0);
}

#[test]
fn a_flood_that_looks_like_ours_is_lost_where_there_is_no_room_and_counted() {
    let mut c = cable();
    let foreign = raw(&c.at_a);
    for _ in 0..20_000 {
        write(&foreign, &frame(GROUP, ETHER_TYPE, 4, b"2bxx"));
    }
    let mut buffer = [0; 224];
    let mut taken = 0;
    while c.b.recv(&mut buffer).unwrap().is_some() {
        taken += 1;
    }
    let counters = c.b.counters();
    assert!(taken >= 1_000, "room for {taken} only");
    assert_eq!(taken + counters.overrun, 20_000);
    c.a.send(b"2b beat").unwrap();
    assert_eq!(heard(&mut c.b), b"2b beat");
}

#[test]
fn a_frame_that_lies_about_its_length_is_an_error_and_hides_nothing() {
    let mut c = cable();
    let foreign = raw(&c.at_a);
    write(&foreign, &frame(GROUP, ETHER_TYPE, 5, b"2bxx"));
    write(&foreign, &frame(GROUP, ETHER_TYPE, 1000, &[&b"2b"[..], &[0; 998]].concat()));
    c.a.send(b"2b beat").unwrap();
    assert_eq!(heard(&mut c.b), b"2b beat");
    assert_eq!(c.b.counters().errors, 2);
}

#[test]
fn an_interface_that_goes_down_and_comes_up_is_used_again() {
    let mut c = cable();
    c.at_a.ip("link set x0 down");
    assert_eq!(c.a.carrier(), Carrier::Down);
    wait("the other end notices", || (c.b.carrier() == Carrier::Absent).then_some(()));
    assert_eq!(c.a.send(b"2b").unwrap(), Sent::Dropped);
    assert_eq!(c.a.recv(&mut [0; 224]).unwrap(), None);
    assert!(quiet(c.a.as_fd()), "the error was taken");
    c.at_a.ip("link set x0 up");
    wait("carrier", || (c.a.carrier() == Carrier::Present && c.b.carrier() == Carrier::Present).then_some(()));
    c.a.send(b"2b there").unwrap();
    assert_eq!(heard(&mut c.b), b"2b there");
    c.b.send(b"2b back").unwrap();
    assert_eq!(heard(&mut c.a), b"2b back");
}

#[test]
fn an_interface_that_is_gone_is_reported_and_taken_again_when_it_is_back() {
    let mut c = cable();
    let mut binders = [&c.a, &c.b].map(|end| end.binder().unwrap());
    c.at_a.ip("link del x0");
    assert_eq!(c.a.carrier(), Carrier::Gone);
    assert_eq!(c.a.send(b"2b").unwrap(), Sent::Dropped);
    assert_eq!(c.a.recv(&mut [0; 224]).unwrap(), None);
    c.at_a.cable("x0", &c.at_b, "x0");
    assert_eq!(c.a.carrier(), Carrier::Gone, "another interface of the same name");
    let take = |at: &Namespace, port: &mut Ethernet, binder: &mut Binder| {
        let new = at.inside(|| interface::find(&mut Socket::open().unwrap(), "x0").unwrap());
        assert_eq!(binder.name(), "x0");
        assert_ne!(binder.index(), new.index);
        assert!(binder.bind(u32::MAX / 2, new.mac).is_err());
        binder.bind(new.index, new.mac).unwrap();
        port.bound(new.index, new.mac);
        assert_eq!((binder.index(), port.mac()), (new.index, new.mac));
    };
    take(&c.at_a, &mut c.a, &mut binders[0]);
    take(&c.at_b, &mut c.b, &mut binders[1]);
    wait("carrier", || (c.a.carrier() == Carrier::Present && c.b.carrier() == Carrier::Present).then_some(()));
    c.a.send(b"2b again").unwrap();
    assert_eq!(heard(&mut c.b), b"2b again");
}

/// As a card does that is moved into another network namespace and back: the kernel unbinds the socket for good, and the index that is
/// there again is no sign of it.
#[test]
fn an_interface_that_is_back_with_the_same_index_is_taken_again() {
    let mut c = cable();
    let mut binder = c.a.binder().unwrap();
    let index = binder.index();
    assert!(!binder.is_lost());
    c.at_a.ip("link del x0");
    assert!(binder.is_lost());
    c.at_a.ip(&format!("link add x0 index {index} type veth peer name x0 netns {}", c.at_b.name));
    for at in [&c.at_a, &c.at_b] {
        at.ip("link set x0 up");
    }
    wait("carrier", || (c.a.carrier() == Carrier::Present).then_some(()));
    let mut b = c.at_b.inside(|| Ethernet::open("x0").unwrap());
    assert_eq!(c.a.recv(&mut [0; 224]).unwrap(), None, "it went down, and that is all there is");
    b.send(b"2b unheard").unwrap();
    assert!(quiet(c.a.as_fd()), "deaf");
    assert!(binder.is_lost(), "whatever its index");
    let mac = binder.mac();
    binder.bind(index, mac).unwrap();
    assert!(!binder.is_lost());
    b.send(b"2b heard").unwrap();
    assert_eq!(heard(&mut c.a), b"2b heard");
    c.at_a.ip("link set x0 down");
    c.at_a.ip("link set x0 name x9");
    assert!(!binder.is_lost(), "one with another name is the same one");
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: i32) {
    CALLS.fetch_add(1, Ordering::SeqCst);
}

/// From now on each call of `ioctl` with this request counts in this thread, and does nothing.
fn count_ioctls(request: u64) {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };
    let is = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request).unwrap();
    let rules = [(libc::SYS_ioctl, vec![SeccompRule::new(vec![is]).unwrap()])].into_iter().collect();
    let here = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trap, here).unwrap();
    // SAFETY: the handler only adds to an atomic number.
    let former = unsafe { libc::signal(libc::SIGSYS, count as extern "C" fn(i32) as libc::sighandler_t) };
    assert_ne!(former, libc::SIG_ERR);
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// For a name that nobody has the kernel starts a program that loads a module, and waits for its end (`dev_load` in
/// net/core/dev_ioctl.c): no work for the loop. So nobody is looked for by his name once everything is open.
#[test]
fn an_interface_that_is_gone_is_not_looked_for_by_its_name() {
    let mut c = cable();
    c.at_a.ip("link del x0");
    thread::scope(|scope| {
        let looks = scope.spawn(|| {
            count_ioctls(libc::SIOCGIFINDEX);
            assert_eq!(c.a.carrier(), Carrier::Gone);
            assert_eq!(c.a.send(b"2b").unwrap(), Sent::Dropped);
            c.a.counters();
        });
        looks.join().unwrap();
    });
    assert_eq!(CALLS.load(Ordering::SeqCst), 0);
}

#[test]
fn nothing_is_allocated_once_it_is_open() {
    let mut c = cable();
    let mut buffer = [0; 224];
    let allocated = allocations(|| {
        for _ in 0..100 {
            c.a.send(b"2b beat").unwrap();
            while c.b.recv(&mut buffer).unwrap().is_some() {}
            assert_eq!(c.a.carrier(), Carrier::Present);
            c.b.counters();
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
fn no_such_interface_is_an_error() {
    for name in ["tblk-none", "", "a name that is far too long"] {
        assert!(Ethernet::open(name).is_err());
    }
}
