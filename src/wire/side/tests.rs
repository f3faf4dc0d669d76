//! Two channels that talk, lose, repeat and refuse.

use super::*;
use proptest::prelude::*;

const KEY: [u8; 32] = [7; 32];
const AT: fn(u64) -> Instant = |ms| Instant::from_nanos(ms * 1_000_000);

fn boot(n: u64) -> BootId {
    BootId::new(n).unwrap()
}

fn pair() -> (Channel, Channel) {
    let mut a = Channel::new(Side::A, boot(1), 5, &KEY);
    let mut b = Channel::new(Side::B, boot(2), 5, &KEY);
    a.set_peer(Some(boot(2)));
    b.set_peer(Some(boot(1)));
    (a, b)
}

fn next(channel: &mut Channel, now: u64) -> Option<Vec<u8>> {
    channel.next(AT(now), &mut [0; FRAGMENT_MAX]).map(<[u8]>::to_vec)
}

/// Lets the two talk until both are silent; what came, at `b`.
fn talk(a: &mut Channel, b: &mut Channel, now: u64, mut lost: impl FnMut() -> bool) -> Vec<(Kind, Vec<u8>)> {
    let mut came = vec![];
    loop {
        let (there, back) = (next(a, now), next(b, now));
        for fragment in there.iter().filter(|_| !lost()) {
            if let Some(m) = b.receive(AT(now), fragment).unwrap() {
                came.push((m.kind, m.bytes.to_vec()));
            }
        }
        for fragment in back.iter().filter(|_| !lost()) {
            a.receive(AT(now), fragment).unwrap();
        }
        if there.is_none() && back.is_none() {
            return came;
        }
    }
}

#[test]
fn a_fragment_byte_by_byte() {
    let (mut a, _) = pair();
    a.offer(AT(0), Kind::Words, b"hold").unwrap();
    let fragment = next(&mut a, 0).unwrap();
    let head = [
        b'2',
        b's',
        1,
        Side::A as u8,
        5,
        0,
        0,
        0,
        0,
        0,
        0,
        0, // magic, version, node, pair
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        2,
        0,
        0,
        0,
        0,
        0,
        0,
        0, // sender, receiver
        1,
        0,
        0,
        0,
        1,
        0,
        4,
        0,
        b'h',
        b'o',
        b'l',
        b'd', // message, kind, index, length, words
    ];
    assert_eq!(fragment[..40], head);
    let key = blake3::derive_key("twobox 2026 side channel tag", &KEY);
    assert_eq!(fragment[40..], blake3::keyed_hash(&key, &head).as_bytes()[..16]);
}

#[test]
fn a_message_of_every_kind_and_length_comes_once_and_is_acknowledged() {
    for length in [0, 1, SHARE, SHARE + 1, MESSAGE_MAX] {
        let (mut a, mut b) = pair();
        let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
        Kind::ALL.iter().for_each(|&kind| a.offer(AT(0), kind, &bytes).unwrap());
        assert_eq!(talk(&mut a, &mut b, 0, || false), Kind::ALL.map(|kind| (kind, bytes.clone())));
        assert!(Kind::ALL.iter().all(|&kind| !a.pending(kind)));
    }
}

#[test]
fn what_is_too_long_or_for_nobody_is_refused() {
    let (mut a, _) = pair();
    assert_eq!(a.offer(AT(0), Kind::Words, &[0; MESSAGE_MAX + 1]), Err(Refused::TooLong));
    a.set_peer(None);
    assert_eq!(a.offer(AT(0), Kind::Words, b""), Err(Refused::NoPeer));
}

#[test]
fn nothing_of_another_life_is_taken() {
    let (mut a, mut b) = pair();
    a.offer(AT(0), Kind::Words, b"reboot").unwrap();
    let recorded = next(&mut a, 0).unwrap();
    let mut own_next_life = Channel::new(Side::B, boot(3), 5, &KEY);
    own_next_life.set_peer(Some(boot(1)));
    assert_eq!(own_next_life.receive(AT(1), &recorded), Err(Reject::Replay));
    b.set_peer(Some(boot(4)));
    assert_eq!(b.receive(AT(1), &recorded), Err(Reject::UnknownBoot));
    assert_eq!(a.receive(AT(1), &recorded), Err(Reject::OwnFrame));
}

#[test]
fn a_replayed_message_is_not_handed_out_again() {
    let (mut a, mut b) = pair();
    a.offer(AT(0), Kind::Words, b"switchover").unwrap();
    let recorded = next(&mut a, 0).unwrap();
    assert!(b.receive(AT(0), &recorded).unwrap().is_some());
    assert_eq!(b.receive(AT(0), &recorded), Ok(None));
    a.offer(AT(1), Kind::Words, b"release").unwrap();
    let newer = next(&mut a, 1).unwrap();
    assert!(b.receive(AT(1), &newer).unwrap().is_some());
    assert_eq!(b.receive(AT(1), &recorded), Err(Reject::Replay));
}

#[test]
fn strangers_are_refused_by_reason() {
    let (mut a, mut b) = pair();
    a.offer(AT(0), Kind::Words, b"hold").unwrap();
    let good = next(&mut a, 0).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let reason = match at {
            0 | 1 => Reject::NotOurs,
            4..12 => Reject::ForeignPair,
            _ => Reject::BadTag,
        };
        assert_eq!(b.receive(AT(0), &bad), Err(reason), "byte {at}");
        assert!(b.receive(AT(0), &good[..at]).is_err());
    }
    let mut stranger = Channel::new(Side::B, boot(2), 5, &[8; 32]);
    stranger.set_peer(Some(boot(1)));
    assert_eq!(stranger.receive(AT(0), &good), Err(Reject::BadTag));
    assert_eq!(b.receive(AT(0), &[0; FRAGMENT_MAX + 1]), Err(Reject::Oversized));
}

#[test]
fn a_silent_peer_is_asked_again_and_given_up_in_the_end() {
    let (mut a, _) = pair();
    a.offer(AT(0), Kind::Figures, &[1; 2 * SHARE]).unwrap();
    assert!(next(&mut a, 0).is_some() && next(&mut a, 0).is_some());
    assert_eq!(next(&mut a, 299), None);
    assert!(next(&mut a, 300).is_some());
    assert_eq!((a.pending(Kind::Figures), a.given_up()), (true, 0));
    assert_eq!(next(&mut a, 30_001), None);
    assert_eq!((a.pending(Kind::Figures), a.given_up()), (false, 1));
}

#[test]
fn a_new_life_of_the_peer_ends_what_was_meant_for_the_old_one() {
    let (mut a, _) = pair();
    a.offer(AT(0), Kind::Words, b"poweroff").unwrap();
    a.set_peer(Some(boot(9)));
    assert_eq!(next(&mut a, 0), None);
}

proptest! {
    #[test]
    fn messages_come_through_losses(
        losses in proptest::collection::vec(any::<bool>(), 400),
        bytes in proptest::collection::vec(any::<u8>(), 0..=MESSAGE_MAX),
    ) {
        let (mut a, mut b) = pair();
        a.offer(AT(0), Kind::Clients, &bytes).unwrap();
        let (mut losses, mut came) = (losses.into_iter(), vec![]);
        let mut now = 0;
        // The losses end; a pass later all is there.
        while a.pending(Kind::Clients) {
            came.extend(talk(&mut a, &mut b, now, || losses.next().unwrap_or(false)));
            now += 300;
            prop_assert!(now < 300 * 450);
        }
        prop_assert_eq!(came, vec![(Kind::Clients, bytes)]);
    }

    #[test]
    fn any_bytes_are_refused_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), honest: bool) {
        let (_, mut b) = pair();
        // Deeper: what the peer itself would send if it had lost its mind.
        if honest && bytes.len() >= HEADER + TAG_SIZE && bytes.len() <= FRAGMENT_MAX {
            let end = bytes.len() - TAG_SIZE;
            bytes[..4].copy_from_slice(&[b'2', b's', VERSION, Side::A as u8]);
            for (at, word) in [(4, 5u64), (12, 1), (20, 2)] {
                bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            bytes[32] %= 6;
            let tag = tag(&b.key, &bytes[..end]);
            bytes[end..].copy_from_slice(&tag);
        }
        let _ = b.receive(AT(0), &bytes);
    }
}
