//! A peer that knows the key and means harm: records of every sort, whole and broken, with lengths, places and names at
//! their limits and beyond. The receiver must not leave its root, must not grow, must not fall.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::thread;

use twobox::mirror::channel::{Channel, Outgoing, link_key};
use twobox::mirror::entry::{Chunk, Entry, Kind, Stamp};
use twobox::mirror::message::{Message, stage_name};
use twobox::mirror::{publish, receiver, refresh};
use twobox::time::Duration;

use crate::basic::noise;
use crate::compare::{assert_equal, describe};
use crate::mutate::Random;
use crate::rig::{Pair, TERM_1};

const EDGES: [u64; 14] = [
    0,
    1,
    2,
    4095,
    4096,
    65_536,
    262_144,
    262_145,
    1 << 32,
    (1 << 53) + 1,
    i64::MAX as u64 - 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

fn number(r: &mut Random) -> u64 {
    if r.below(3) == 0 { r.next() >> r.below(64) } else { EDGES[r.below(EDGES.len())] }
}

/// Names that exist, names that do not, names that must never be taken for some.
fn key(r: &mut Random) -> Vec<u8> {
    match r.below(20) {
        0 => b"..\0outside".to_vec(),
        1 => b"d\0..\0..\0outside".to_vec(),
        2 => b"../../outside/canary".to_vec(),
        3 => b"/etc/passwd".to_vec(),
        4 => vec![b'x'; 1 + r.below(300)],
        5 => vec![b'y'; 33_000],
        6 => [b"a\0".as_slice(); 16_000].concat()[..31_999].to_vec(), // 16,000 directories deep
        7 => b".twobox".to_vec(),
        8 => b".twobox\0trees\0x".to_vec(),
        9 => Vec::new(),
        10 => b"link\0canary".to_vec(),
        11 => b"link".to_vec(),
        12 => (0..r.below(40)).map(|_| r.next() as u8).collect(),
        13 | 14 => format!("d\0n{}", r.below(4)).into_bytes(),
        15 => b"d".to_vec(),
        n => format!("f{}", n + r.below(6)).into_bytes(),
    }
}

fn entry(r: &mut Random) -> Entry {
    let kind = match r.below(9) {
        0..=3 => Kind::File { size: number(r), content: [r.next() as u8; 32] },
        4 => Kind::Directory,
        5 => Kind::Symlink([b"/etc/passwd".to_vec(), b"../../outside".to_vec(), vec![b't'; 4096]][r.below(3)].clone()),
        6 => [Kind::Fifo, Kind::Socket][r.below(2)].clone(),
        7 => Kind::Device { block: r.below(2) == 0, number: number(r) },
        _ => Kind::Link { first: key(r) },
    };
    let xattrs = match r.below(6) {
        0 => vec![(b"user.x".to_vec(), vec![7; 60_000])],
        1 => vec![(b"security.capability".to_vec(), vec![0xff; 20])],
        2 => vec![(b"system.posix_acl_access".to_vec(), noise(44, r.next() | 1))],
        _ => Vec::new(),
    };
    let mtime = Stamp { seconds: number(r) as i64, nanos: r.below(1_000_000_000) as u32 };
    Entry { kind, mode: r.next() as u32 & 0o7777, uid: r.next() as u32, gid: r.below(5) as u32, mtime, xattrs }
}

/// A record of a random sort; some as no encoder would write it.
fn record(r: &mut Random) -> (u8, Vec<u8>) {
    let (name, other, data) = (key(r), key(r), noise(r.below(5000), r.next() | 1));
    let hash = [r.next() as u8; 32];
    let message = match r.below(18) {
        0 => Message::Gone { key: &name },
        1..=5 => Message::Put { key: &name, entry: entry(r), same: (r.below(3) == 0).then_some(other.as_slice()) },
        6 | 7 => Message::Chunk { data: &data },
        8 => Message::Run { key: &name, number: number(r), count: number(r), offset: number(r) },
        9 => {
            let name = stage_name(&name);
            Message::Staged { old: r.below(2) == 0, name, offset: number(r), len: number(r), hash }
        }
        10 => Message::Patch { hash, len: number(r), literal: &data[..data.len().min(64)], data: &data },
        11 => Message::Hole { len: number(r) },
        12 => Message::End { content: hash },
        13 => Message::Abandon,
        14 => {
            let stretches = (0..r.below(2000)).map(|_| (number(r), number(r))).collect();
            Message::AskSums { key: &name, stretches }
        }
        15 => Message::Fetch { after: &name, last: &other },
        16 => Message::Ranges,
        _ => Message::Block { chunks: vec![Chunk { len: number(r) >> 1, hash: Some(hash) }] },
    };
    let (mut kind, mut payload) = (message.kind(), Vec::new());
    message.encode(&mut payload);
    match r.below(12) {
        0 => payload.truncate(r.below(payload.len() + 1)),
        1 if !payload.is_empty() => {
            let at = r.below(payload.len());
            payload[at] ^= 1 << r.below(8);
        }
        2 => kind = r.next() as u8,
        _ => {}
    }
    (kind, payload)
}

fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// One connection of the hostile peer. What the receiver made of it.
fn attack(pair: &Pair, r: &mut Random) -> io::Result<receiver::Received> {
    say(pair, |out| {
        // Most streams are sound up to a point: what is never decoded tests nothing.
        for _ in 0..1 + r.below(12) {
            if r.below(2) == 0 {
                let (kind, payload) = record(r);
                out.put(kind, |to| to.extend_from_slice(&payload))?;
            } else {
                let (content, name) = (noise(1 + r.below(9000), r.next() | 1), format!("f{}", r.below(25)));
                let chunk = Chunk { len: content.len() as u64, hash: Some(*blake3::hash(&content).as_bytes()) };
                let mut list = Vec::new();
                chunk.encode(&mut list);
                let hash = *blake3::hash(&list).as_bytes();
                let mut entry = entry(r);
                entry.xattrs.clear();
                entry.kind = Kind::File { size: chunk.len, content: hash };
                Message::Put { key: name.as_bytes(), entry, same: None }.put(out)?;
                Message::Chunk { data: &content }.put(out)?;
                Message::End { content: hash }.put(out)?;
            }
        }
        Message::Commit { cut: [r.next() as u8 | 1; 16] }.put(out)
    })
}

/// A connection on which the sender says this in one cycle. What the receiver made of it.
fn say(pair: &Pair, what: impl FnOnce(&mut Outgoing) -> io::Result<()>) -> io::Result<receiver::Received> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let key = link_key(b"test");
    let side = pair.side("b");
    let receiver = thread::spawn(move || {
        publish::replay(&side, 0)?;
        refresh::refresh(&side, false, &twobox::mirror::stop::Stop::default())?;
        let (mut out, mut incoming) = Channel::accept(listener.accept()?.0, &key)?.start(None, None)?;
        let (kind, payload) = incoming.next(Duration::from_secs(20))?;
        assert!(matches!(Message::decode(kind, payload)?, Message::Begin { .. }));
        receiver::cycle(&side, TERM_1, &mut incoming, &mut out, 0)
    });
    let (mut out, mut incoming) = Channel::connect(address, &key, Duration::from_secs(5))?.start(Some(TERM_1), None)?;
    Message::Begin { tree: b"x", single: false, verify: false }.put(&mut out)?;
    let listening = thread::spawn(move || while incoming.next(Duration::from_secs(20)).is_ok() {});
    let _ = what(&mut out).and_then(|()| out.flush()); // the receiver may have hung up
    drop(out);
    // What is waited for is the receiver's end; the stream's end ends it if nothing else does.
    thread::sleep(std::time::Duration::from_millis(1));
    let received = receiver.join().expect("the receiver fell");
    listening.join().unwrap();
    received
}

#[test]
fn a_hostile_peer_neither_leads_the_receiver_astray_nor_makes_it_grow() {
    let seed: u64 = std::env::var("TWOBOX_SEED").map_or(1, |seed| seed.parse().unwrap());
    let attacks = std::env::var("TWOBOX_ATTACKS").map_or(300, |n| n.parse().unwrap());
    let pair = Pair::new();
    let outside = pair.home.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), b"untouched").unwrap();
    fs::create_dir(pair.a().join("d")).unwrap();
    for n in 0..20 {
        fs::write(pair.a().join(format!("f{n}")), noise(3000 * n, n as u64 + 1)).unwrap();
    }
    std::os::unix::fs::symlink(&outside, pair.a().join("link")).unwrap();
    pair.sync();
    let canary = describe(&outside);
    let (mut published, mut refused) = (0, 0);
    let mut most = 0;
    for n in 0..attacks {
        let mut r = Random(seed.wrapping_mul(1_000_003).wrapping_add(n));
        match attack(&pair, &mut r) {
            Ok(received) if received.cut.is_some() => published += 1,
            _ => refused += 1,
        }
        assert_eq!(describe(&outside), canary, "seed {seed} attack {n}");
        if n == attacks / 4 {
            most = resident();
        }
        if n % 25 == 24 {
            let healed = pair.try_sync("a", "b", TERM_1, true);
            assert!(healed.is_ok(), "seed {seed} attack {n}: {healed:?}");
            assert_equal(&pair.a(), &pair.b());
        }
    }
    let grown = resident().saturating_sub(most);
    assert!(grown < 48 << 20, "grown by {grown} bytes over three quarters of the attacks");
    assert!(refused > attacks / 3, "{refused} refused, {published} published");
    println!("{attacks} attacks: {refused} refused, {published} published, grown by {grown} bytes");
}

/// A cut that cannot be published must not be decided: a tree between two cuts is not served.
#[test]
fn a_cut_with_a_name_of_a_file_that_it_does_not_hold_is_refused() {
    let pair = Pair::new();
    fs::write(pair.a().join("f"), b"0").unwrap();
    fs::create_dir(pair.a().join("d")).unwrap();
    pair.sync();
    let before = describe(&pair.b());
    for (first, gone) in [(&b"nowhere"[..], false), (b"d", false), (b"f", true)] {
        let received = say(&pair, |out| {
            if gone {
                Message::Gone { key: first }.put(out)?;
            }
            Message::Put { key: b"link", entry: Entry::link(first.to_vec()), same: None }.put(out)?;
            Message::Commit { cut: [7; 16] }.put(out)
        });
        assert!(received.is_err(), "{first:?}: {received:?}");
        assert_eq!(publish::replay(&pair.side("b"), 0).unwrap(), None);
        assert_eq!(describe(&pair.b()), before);
    }
    // A name that is said to be gone and to be there: after a crash the log would be followed in another order.
    let received = say(&pair, |out| {
        Message::Gone { key: b"f" }.put(out)?;
        Message::Put { key: b"f", entry: Entry::link(b"g".to_vec()), same: None }.put(out)?;
        Message::Commit { cut: [8; 16] }.put(out)
    });
    assert!(received.is_err(), "{received:?}");
    assert_eq!(publish::replay(&pair.side("b"), 0).unwrap(), None);
}
