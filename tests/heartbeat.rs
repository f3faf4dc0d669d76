//! The heartbeat's wire format: golden bytes, every reason to refuse a frame, and that nothing gets past the tag.

use proptest::prelude::*;
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{Echo, Heartbeat, MAX_SIZE, Reject, SIZE, Seal, TAG_SIZE, VERSION, Vote};
use twobox::wire::pair::{BootId, Data, Generation, Role, Score, Side};

const SECRET: [u8; 32] = [7; 32];

fn boot(n: u64) -> BootId {
    BootId::new(n).expect("not zero")
}

fn seal(node: Side, boot_id: u64) -> Seal {
    Seal::new(node, boot(boot_id), "office", &SECRET)
}

fn example() -> Heartbeat {
    Heartbeat {
        node: Side::A,
        boot: boot(0x0102_0304_0506_0708),
        path: 1,
        path_sequence: 9,
        content_sequence: 27,
        sent_at: Instant::from_nanos(1_500_000_000),
        role: Role::Active,
        quorum: true,
        intent: false,
        eligible: false,
        farewell: false,
        lease: Duration::from_millis(500),
        fence: Some(Duration::from_millis(4000)),
        interval: Duration::from_millis(50),
        served: 7,
        top: 8,
        vote: None,
        echo: Some(Echo { boot: boot(42), sent_at: Instant::from_nanos(77) }),
        reached: 0b11,
        heard: 0b01,
        score: Score { services: 1, witnesses: 2, carriers: 3 },
        data: Data { generation: Generation { term: 7, boot: 0x0102_0304_0506_0708 }, lag_s: 0, stale_trees: 0 },
        digest: 0xfeed,
    }
}

fn encoded(heartbeat: &Heartbeat) -> [u8; SIZE] {
    let mut out = [0; SIZE];
    assert_eq!(seal(heartbeat.node, heartbeat.boot.get()).encode(heartbeat, &mut out).len(), SIZE);
    out
}

/// Format version 1 never changes: a pair is updated one box at a time.
#[test]
fn golden_bytes_of_version_1() {
    let bytes = encoded(&example());
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, include_str!("golden/heartbeat-1.hex").trim());
    assert_eq!(seal(Side::B, 42).decode(&bytes), Ok(example()));
}

#[test]
fn every_reason_to_refuse() {
    let good = encoded(&example());
    let b = seal(Side::B, 42);
    assert_eq!(b.decode(&[]), Err(Reject::Truncated));
    assert_eq!(b.decode(&good[..SIZE - 1]), Err(Reject::Truncated));
    let mut long = good.to_vec();
    long.push(0);
    assert_eq!(b.decode(&long), Err(Reject::Oversized));
    assert_eq!(b.decode(&[0; MAX_SIZE + 1]), Err(Reject::Oversized));
    let mut other = good;
    other[0] ^= 1;
    assert_eq!(b.decode(&other), Err(Reject::NotOurs));
    let lab = Seal::new(Side::B, boot(42), "lab", &SECRET);
    assert_eq!(lab.decode(&good), Err(Reject::ForeignPair));
    let foreign = Seal::new(Side::B, boot(42), "office", &[8; 32]);
    assert_eq!(foreign.decode(&good), Err(Reject::BadTag));
    assert_eq!(seal(Side::A, example().boot.get()).decode(&good), Err(Reject::OwnFrame));
    assert_eq!(seal(Side::A, 99).decode(&good), Err(Reject::SameNode));
}

/// A newer program's frame is told from noise by its tag, whatever its length.
#[test]
fn a_newer_version_is_believed_only_with_the_key() {
    let a = seal(Side::A, 1);
    let mut newer = encoded(&example())[..SIZE - TAG_SIZE].to_vec();
    newer[2] = VERSION + 1;
    newer.extend_from_slice(&[1, 2, 3]);
    let tag = blake3::keyed_hash(&a.key, &newer);
    newer.extend_from_slice(&tag.as_bytes()[..TAG_SIZE]);
    assert_eq!(seal(Side::B, 42).decode(&newer), Err(Reject::VersionAhead));
    *newer.last_mut().expect("not empty") ^= 1;
    assert_eq!(seal(Side::B, 42).decode(&newer), Err(Reject::BadTag));
}

/// The example with other bytes at `place`, under a good tag.
fn resealed(place: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = encoded(&example()).to_vec();
    frame[place..place + bytes.len()].copy_from_slice(bytes);
    sealed(&frame[..SIZE - TAG_SIZE])
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let tag = blake3::keyed_hash(&seal(Side::A, 1).key, body);
    [body, &tag.as_bytes()[..TAG_SIZE]].concat()
}

/// Whoever has the key and sends this has a bug, or is older than the first version.
#[test]
fn a_field_without_a_meaning_is_malformed() {
    let none: [(&str, usize, &[u8]); 14] = [
        ("version 0", 2, &[0]),
        ("a third node", 3, &[2]),
        ("no boot", 12, &[0; 8]),
        ("a seventh role", 21, &[6]),
        ("a fifth flag", 22, &[16]),
        ("reserved", 23, &[1]),
        ("reserved", 118, &[1]),
        ("reserved", 119, &[1]),
        ("no lease", 48, &[0; 4]),
        ("an endless lease", 48, &[0xff; 4]),
        ("an endless interval", 56, &[0xff; 4]),
        ("more served than used", 64, &[9]),
        ("a vote for nobody", 80, &[1]),
        ("a vote for no term", 88, &[1]),
    ];
    let b = seal(Side::B, 42);
    for (what, place, bytes) in none {
        assert_eq!(b.decode(&resealed(place, bytes)), Err(Reject::Malformed), "{what}");
    }
    assert_eq!(b.decode(&resealed(96, &[0; 8])), Err(Reject::Malformed), "an echo of nobody");
    // The highest term used was served: nothing is wrong with that.
    assert_eq!(b.decode(&resealed(64, &[8])), Ok(Heartbeat { served: 8, ..example() }));
    assert_eq!(b.decode(&resealed(52, &[0xff; 4])), Ok(Heartbeat { fence: None, ..example() }));
}

/// Changes of a tag that cancel each other out are changes.
#[test]
fn every_byte_of_the_tag_counts() {
    let b = seal(Side::B, 42);
    for (one, other) in (0..TAG_SIZE).flat_map(|one| (0..TAG_SIZE).map(move |other| (one, other))) {
        let mut frame = encoded(&example());
        frame[SIZE - TAG_SIZE + one] ^= 0x80;
        if one != other {
            frame[SIZE - TAG_SIZE + other] ^= 0x80;
        }
        assert_eq!(b.decode(&frame), Err(Reject::BadTag), "bytes {one} and {other}");
    }
}

/// What every version keeps: the start up to the pair's tag, the tag at the end, and the greatest size.
#[test]
fn a_newer_version_may_have_any_size_between_the_shortest_and_the_longest() {
    let b = seal(Side::B, 42);
    for (size, expected) in [
        (12 + TAG_SIZE - 1, Reject::Truncated),
        (12 + TAG_SIZE, Reject::VersionAhead),
        (SIZE, Reject::VersionAhead),
        (MAX_SIZE, Reject::VersionAhead),
        (MAX_SIZE + 1, Reject::Oversized),
    ] {
        let mut body = encoded(&example()).to_vec();
        body.resize(MAX_SIZE + 1, 0);
        body[2] = VERSION + 1;
        assert_eq!(b.decode(&sealed(&body[..size - TAG_SIZE])), Err(expected), "{size} bytes");
    }
}

/// Bounds that the peer waits for are rounded up to the wire's microsecond.
#[test]
fn bounds_are_never_told_too_short() {
    let sent = Heartbeat { fence: Some(Duration::from_nanos(1_001)), ..example() };
    let heard = seal(Side::B, 42).decode(&encoded(&sent)).expect("good");
    assert_eq!(heard.fence, Some(Duration::from_micros(2)));
    // The longest that the wire can tell stands for all that are longer, and is not taken for none.
    for longer in [Duration::from_micros(u32::MAX.into()), Duration::from_secs(100_000), Duration::MAX] {
        let sent = Heartbeat { fence: Some(longer), ..example() };
        let heard = seal(Side::B, 42).decode(&encoded(&sent)).expect("good");
        assert_eq!(heard.fence, Some(Duration::from_micros(u64::from(u32::MAX) - 1)));
    }
}

/// Status, logs and metrics tell reasons, roles and boxes apart by these.
#[test]
fn no_two_words_are_the_same() {
    let words: Vec<&str> = Reject::ALL
        .iter()
        .map(|reason| reason.name())
        .chain(Role::ALL.iter().map(|role| role.name()))
        .chain([Side::A.name(), Side::B.name()])
        .collect();
    let different: std::collections::BTreeSet<&str> = words.iter().copied().collect();
    assert!(different.len() == words.len() && !different.contains(""), "{words:?}");
}

prop_compose! {
    fn heartbeats()(
        numbers in prop::array::uniform8(1u64..u64::MAX),
        small in prop::array::uniform8(any::<u8>()),
        flags in prop::array::uniform6(any::<bool>()),
        micros in prop::array::uniform3(1u32..u32::MAX - 1),
        terms in (0u64..1 << 40, 0u64..1 << 40),
        role in 0u8..6,
        lag_s in any::<u32>(),
    ) -> Heartbeat {
        let us = |n: u32| Duration::from_micros(n.into());
        Heartbeat {
            node: if flags[0] { Side::A } else { Side::B },
            boot: boot(numbers[0]),
            path: small[0],
            path_sequence: numbers[1],
            content_sequence: numbers[2],
            sent_at: Instant::from_nanos(numbers[3]),
            role: Role::from_number(role).expect("in range"),
            quorum: flags[1],
            intent: flags[2],
            eligible: flags[3],
            farewell: flags[4],
            lease: us(micros[0]),
            fence: flags[5].then(|| us(micros[1])),
            interval: us(micros[2]),
            served: terms.0.min(terms.1),
            top: terms.0.max(terms.1),
            vote: flags[2].then(|| Vote { term: terms.0 + 1, candidate: boot(numbers[4]) }),
            echo: flags[3].then(|| Echo { boot: boot(numbers[5]), sent_at: Instant::from_nanos(numbers[6]) }),
            reached: small[1],
            heard: small[2],
            score: Score { services: small[3], witnesses: small[4], carriers: small[5] },
            data: Data {
                generation: Generation { term: terms.1, boot: numbers[7] },
                lag_s,
                stale_trees: small[6],
            },
            digest: numbers[7],
        }
    }
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_heard(h in heartbeats()) {
        let receiver = Seal::new(h.node.peer(), boot(u64::MAX), "office", &SECRET);
        prop_assert_eq!(receiver.decode(&encoded(&h)), Ok(h));
    }

    /// Any changed bit is noticed, before anything of the frame is believed.
    #[test]
    fn a_changed_bit_is_refused(h in heartbeats(), bit in 0..SIZE * 8) {
        let receiver = Seal::new(h.node.peer(), boot(u64::MAX), "office", &SECRET);
        let mut bytes = encoded(&h);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(receiver.decode(&bytes).is_err());
    }

    #[test]
    fn noise_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(seal(Side::B, 42).decode(&bytes).is_err());
    }

    /// Even with the right tag, nothing that has no meaning is taken for a heartbeat, and nothing panics.
    #[test]
    fn sealed_noise_is_malformed_or_a_heartbeat_that_encodes_to_itself(
        mut bytes in prop::collection::vec(any::<u8>(), SIZE..=SIZE),
    ) {
        let b = seal(Side::B, 42);
        bytes[..2].copy_from_slice(b"2b");
        bytes[2] = VERSION;
        bytes[3] &= 1;
        bytes[4..12].copy_from_slice(&b.pair.to_le_bytes());
        bytes[21] %= 7;
        bytes[22] &= 15;
        bytes[23] = 0;
        bytes[118..120].fill(0);
        let tag = blake3::keyed_hash(&b.key, &bytes[..SIZE - TAG_SIZE]);
        bytes[SIZE - TAG_SIZE..].copy_from_slice(&tag.as_bytes()[..TAG_SIZE]);
        if let Ok(h) = b.decode(&bytes) {
            let mut again = [0; SIZE];
            b.encode(&h, &mut again);
            prop_assert_eq!(&again[..], &bytes[..]);
        }
    }
}
