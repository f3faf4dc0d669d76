//! Ends that are busy for longer than a dead link is silent: the link lives, so the cycle goes on.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::thread;

use twobox::mirror::channel::{Channel, Incoming, Outgoing, QUIET, RECORD, SILENCE, is_broken, link_key};
use twobox::mirror::index::Lookup;
use twobox::mirror::refresh::refresh;
use twobox::mirror::stage;
use twobox::time::Duration;

use crate::basic::noise;
use crate::compare::assert_equal;
use crate::rig::{Pair, TERM_1, Way};

/// Longer than an end may be silent that lives.
const BUSY: Duration = SILENCE.saturating_add(Duration::from_secs(5));

/// Two ends of one connection: that of the sender, which knows the generation, and that of the standby.
fn connected() -> [Channel; 2] {
    let key = link_key(b"test");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let standby = thread::spawn(move || Channel::accept(listener.accept().unwrap().0, &key).unwrap());
    let sender = Channel::connect(address, &key, Duration::from_secs(5)).unwrap();
    [sender, standby.join().unwrap()]
}

fn put(outgoing: &mut Outgoing, bytes: &[u8]) {
    outgoing.put(1, |to| to.extend_from_slice(bytes)).unwrap();
    outgoing.flush().unwrap();
}

fn take(incoming: &mut Incoming) -> usize {
    incoming.next(4 * BUSY).unwrap().1.len()
}

/// It looks at a large tree, or hashes a large file of which nothing is new: no record comes meanwhile.
#[test]
fn a_sender_that_reads_for_long_is_waited_for() {
    let pair = Pair::new();
    fs::write(pair.a().join("large"), noise(1 << 20, 1)).unwrap();
    let mut waited = false;
    pair.cycle("a", "b", &Way::default(), &mut |progress| {
        if progress.bytes > 0 && !std::mem::replace(&mut waited, true) {
            thread::sleep(BUSY);
        }
    })
    .unwrap();
    assert!(waited);
    assert_equal(&pair.a(), &pair.b());
}

/// It copies a large file of which little has changed, or its disk is slow: it takes no record meanwhile.
#[test]
fn a_standby_that_copies_for_long_is_waited_for() {
    let [sender, standby] = connected();
    let (mut out, mut back) = sender.start(Some(TERM_1), None).unwrap();
    let (mut answers, mut incoming) = standby.start(None, None).unwrap();
    let records = 64; // more than the buffers on the way hold
    let sending = thread::spawn(move || {
        (0..records).for_each(|_| put(&mut out, &vec![7; RECORD]));
        assert_eq!(take(&mut back), 4);
    });
    assert_eq!(take(&mut incoming), RECORD);
    thread::sleep(SILENCE + BUSY); // a write that has begun takes as long again
    for _ in 1..records {
        assert_eq!(take(&mut incoming), RECORD);
    }
    put(&mut answers, b"done");
    sending.join().unwrap();
}

/// What goes out at once takes longer than that at the lowest limit that can be set.
#[test]
fn a_link_with_a_low_limit_is_not_silent() {
    let [sender, standby] = connected();
    let (mut out, _back) = sender.start(Some(TERM_1), Some(10_000)).unwrap();
    let (_answers, mut incoming) = standby.start(None, None).unwrap();
    put(&mut out, &vec![7; 250_000]);
    assert_eq!(take(&mut incoming), 250_000);
}

/// A sender that has nothing to do yet has said nothing: the standby does not know its generation, and names none.
#[test]
fn a_standby_that_has_heard_nothing_yet_names_no_generation() {
    let [sender, standby] = connected();
    let (mut answers, mut incoming) = standby.start(None, None).unwrap();
    thread::sleep(QUIET + Duration::from_secs(1));
    let (mut out, mut back) = sender.start(Some(TERM_1), None).unwrap();
    put(&mut out, b"first");
    assert_eq!(take(&mut incoming), 5);
    assert_eq!(incoming.generation(), TERM_1);
    put(&mut answers, b"answer");
    assert_eq!(take(&mut back), 6);
}

/// A box that is to serve does not finish its look at a large tree first, nor its copy of a large file.
#[test]
fn work_for_a_connection_that_was_broken_off_ends() {
    let [sender, standby] = connected();
    let breaker = standby.breaker().unwrap();
    let (_out, _back) = sender.start(Some(TERM_1), None).unwrap();
    let (_answers, incoming) = standby.start(None, None).unwrap();
    let pair = Pair::new();
    fs::write(pair.b().join("file"), noise(1 << 20, 1)).unwrap();
    let side = pair.side("b");
    assert_eq!(refresh(&side, true, incoming.stop()).unwrap().changed, 2);
    breaker.break_off();
    fs::write(pair.b().join("file"), noise(1 << 20, 2)).unwrap();
    let before = side.index.reader().unwrap().cut().unwrap();
    assert!(is_broken(&refresh(&side, true, incoming.stop()).unwrap_err()));
    assert_eq!(side.index.reader().unwrap().cut().unwrap(), before);
    let [from, to] = ["file", "copy"].map(|name| {
        fs::File::options().read(true).write(true).create(true).truncate(false).open(pair.b().join(name)).unwrap()
    });
    let copied = stage::copy((from.as_fd(), 0), (to.as_fd(), 0), 1 << 20, incoming.stop());
    assert!(is_broken(&copied.unwrap_err()));
}
