//! Every format that one version writes and another one reads: on the links, in the state, in the mirror. What stands in
//! tests/golden was written by version 1 and must be read for ever; what this version writes must be those very bytes until the
//! format's version changes, and then a new file comes beside the old one.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --test golden` writes files that are not there yet, never over one that is.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use twobox::console::control::Request;
use twobox::console::status::Status;
use twobox::mirror::control::Generation as Cut;
use twobox::mirror::entry::{Chunk, Entry, Kind, Stamp};
use twobox::mirror::message::{Message, Standing};
use twobox::mirror::redo::{self, Log, Source, Step};
use twobox::node::Record;
use twobox::run::record;
use twobox::state::sealed;
use twobox::time::Instant;
use twobox::wire::pair::{BootId, Generation, Side};
use twobox::wire::side::{Channel, FRAGMENT_MAX, Kind as About, MESSAGE_MAX};
use twobox::wire::{heartbeat, known_clients, serial};

/// Lines of hexadecimal digits.
fn hex(all: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for bytes in all {
        bytes.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

/// The bytes that version 1 wrote, after comparing them with what is written now.
fn golden(name: &str, now: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() && !path.exists() {
        std::fs::write(&path, hex(now)).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(hex(now), text, "{name}: what is written now is not what version 1 wrote");
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    text.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

fn boot(n: u64) -> BootId {
    BootId::new(n).unwrap()
}

#[test]
fn a_box_reads_its_own_promises_of_version_1() {
    let full = Record {
        served: 1,
        reserved: 3,
        voted: 1 << 40,
        newest: Generation { term: 5, boot: 6 },
        own: Generation { term: 7, boot: u64::MAX },
        farewell: false,
        held: true,
        proven: 0b101,
        proven_digest: 9,
        strikes: 2,
    };
    let records = [Record::default(), Record { farewell: true, ..full }, full];
    let written: Vec<Vec<u8>> = records.iter().map(|record| sealed::seal(&record::encode(record))).collect();
    for (bytes, expected) in golden("record-1.hex", &written).iter().zip(&records) {
        assert_eq!(record::decode(sealed::open(bytes).unwrap()).as_ref(), Some(expected));
    }
}

#[test]
fn a_frame_on_the_null_modem() {
    // Zeroes, the delimiter's own byte, everything.
    let payloads = [vec![0; 3], (0..=255).take(heartbeat::MAX_SIZE).collect::<Vec<u8>>(), vec![0xc0, 0, 1]];
    let mut out = [0; serial::FRAME_MAX];
    let written: Vec<Vec<u8>> =
        payloads.iter().map(|payload| serial::encode(payload, &mut out).unwrap().to_vec()).collect();
    for (bytes, expected) in golden("serial-1.hex", &written).iter().zip(&payloads) {
        let mut found = Vec::new();
        serial::Decoder::new().feed(bytes, |piece| {
            if let serial::Piece::Frame(payload) = piece {
                found.push(payload.to_vec());
            }
        });
        assert_eq!(found, std::slice::from_ref(expected));
    }
}

#[test]
fn a_message_between_the_beats() {
    let text: Vec<u8> = b"status of the peer, please ".repeat(10);
    let channel = |node, own, peer| {
        let mut channel = Channel::new(node, boot(own), 77, &[7; 32]);
        channel.set_peer(Some(boot(peer)));
        channel
    };
    let (mut a, mut b) = (channel(Side::A, 5, 6), channel(Side::B, 6, 5));
    a.offer(Instant::BOOT, About::Words, &text).unwrap();
    let mut out = [0; FRAGMENT_MAX];
    let mut written = Vec::new();
    while let Some(fragment) = a.next(Instant::BOOT, &mut out) {
        written.push(fragment.to_vec());
    }
    let mut come = None;
    for fragment in golden("side-1.hex", &written) {
        if let Some(message) = b.receive(Instant::BOOT, &fragment).unwrap() {
            come = Some((message.kind, message.bytes.to_vec()));
        }
    }
    assert_eq!(come, Some((About::Words, text)));
}

#[test]
fn the_clients_that_a_box_knows() {
    let clients = [(Ipv4Addr::new(10, 0, 0, 1), [1, 2, 3, 4, 5, 6]), (Ipv4Addr::new(192, 168, 7, 254), [0xff; 6])];
    let written = vec![known_clients::encode(clients.into_iter(), &mut [0; MESSAGE_MAX]).to_vec()];
    let read = golden("clients-1.hex", &written);
    assert!(known_clients::decode(&read[0]).unwrap().eq(clients));
}

fn entries() -> Vec<Entry> {
    let entry = |kind| Entry {
        kind,
        mode: 0o4755,
        uid: 1000,
        gid: 100_000,
        mtime: Stamp { seconds: -1, nanos: 999_999_999 },
        xattrs: vec![(b"user.colour".to_vec(), b"green".to_vec())],
    };
    let mut all: Vec<Entry> = [
        Kind::File { size: 1 << 40, content: [3; 32] },
        Kind::Directory,
        Kind::Symlink(b"../elsewhere".to_vec()),
        Kind::Fifo,
        Kind::Socket,
        Kind::Device { block: true, number: 0x0102_0304 },
        Kind::Device { block: false, number: 0x0103 },
    ]
    .into_iter()
    .map(entry)
    .collect();
    all.push(Entry::link(b"mail\0first".to_vec()));
    all
}

fn chunks() -> Vec<Chunk> {
    vec![Chunk { len: 65_536, hash: Some([4; 32]) }, Chunk { len: 1 << 30, hash: None }]
}

#[test]
fn a_record_of_the_mirrors_stream() {
    let key: &[u8] = b"mail\0box";
    let (name, hash) = ([9; 16], [5; 32]);
    let mut messages = vec![
        Message::Begin { tree: b"/data", single: true, verify: false },
        Message::Ranges,
        Message::Fetch { after: b"a", last: b"" },
        Message::Gone { key },
        Message::Chunk { data: b"literally" },
        Message::Run { key, number: 1, count: 300, offset: 70_000 },
        Message::Staged { old: true, name, offset: 5, len: 6, hash },
        Message::Patch { hash, len: 4096, literal: &[1], data: b"page" },
        Message::Hole { len: 1 << 40 },
        Message::End { content: hash },
        Message::Abandon,
        Message::AskSums { key, stretches: vec![(0, 4096), (1 << 20, 65_536)] },
        Message::Commit { cut: [8; 16] },
        Message::Cancel,
        Message::State(Standing { cut: [8; 16], generation: Cut { term: 7, boot: 6 }, names: 9, unsent: 1 }),
        Message::Range { last: b"z", digest: hash },
        Message::RangesEnd,
        Message::Block { chunks: chunks() },
        Message::RowsEnd,
        Message::Have { name, offset: 0, chunks: chunks() },
        Message::Sums { sums: &[1, 2, 3, 4, 5, 6, 7, 8] },
        Message::Resend { key },
        Message::Again,
        Message::Published { cut: [8; 16] },
        Message::Refused { reason: b"no room" },
    ];
    messages.extend(entries().into_iter().map(|entry| Message::Put { key, entry, same: None }));
    messages.extend(entries().into_iter().take(1).map(|entry| Message::Put { key, entry, same: Some(b"other") }));
    messages.extend(entries().into_iter().map(|entry| Message::Row { key, entry }));
    let encode = |message: &Message<'_>| {
        let mut bytes = vec![message.kind()];
        message.encode(&mut bytes);
        bytes
    };
    let written: Vec<Vec<u8>> = messages.iter().map(encode).collect();
    for (bytes, expected) in golden("mirror-1.hex", &written).iter().zip(&messages) {
        assert_eq!(Message::decode(bytes[0], &bytes[1..]).as_ref(), Ok(expected));
    }
}

/// A box that lost power while it published is updated and must finish what the older program began.
#[test]
fn the_log_of_a_cut_that_is_being_published() {
    let mut steps = vec![Step::Head { cut: [8; 16], generation: Cut { term: 7, boot: 6 } }];
    let sources = [
        Source::Staged,
        Source::Keep,
        Source::Move { from: b"mail\0old".to_vec(), inode: 1 << 33 },
        Source::Directory,
        Source::Link,
    ];
    for (number, (source, entry)) in sources.into_iter().zip(entries()).enumerate() {
        let key = format!("mail\0{number}").into_bytes();
        let list_of = (number == 1).then(|| b"mail\0twin".to_vec());
        steps.push(Step::Put { key, entry, source, list_of, list: (number != 1).then(chunks) });
    }
    steps.push(Step::Block { chunks: chunks() });
    steps.push(Step::Gone { key: b"mail\0gone".to_vec() });

    let path = std::env::temp_dir().join(format!("twobox-golden-{}", std::process::id()));
    let mut log = Log::create(&path).unwrap();
    steps.iter().for_each(|step| log.add(step).unwrap());
    log.seal().unwrap();
    let read = golden("redo-1.hex", &[std::fs::read(&path).unwrap()]);

    std::fs::write(&path, &read[0]).unwrap();
    assert!(redo::is_whole(&path).unwrap());
    let mut found = Vec::new();
    redo::each(&path, |step| {
        found.push(step);
        Ok(())
    })
    .unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(found, steps);
}

/// What the boxes ask each other, and outside programs ask a box.
#[test]
fn requests_between_the_boxes() {
    let requests = [
        Request::Status { every_ms: None },
        Request::Hold { reason: Some("new disk".into()) },
        Request::Release,
        Request::Log { lines: 20, follow: false },
        Request::History { count: 5 },
        Request::Switchover { lose_changes: false },
        Request::Install,
        Request::Reboot,
        Request::Poweroff,
    ];
    let written: Vec<Vec<u8>> = requests.iter().map(|request| serde_json::to_vec(request).unwrap()).collect();
    for (bytes, expected) in golden("requests-1.hex", &written).iter().zip(&requests) {
        assert_eq!(serde_json::from_slice::<Request>(bytes).unwrap(), *expected);
    }
}

/// Fields come and none goes: what version 1 answered is understood, and so is an answer with more in it, because a box that
/// updates the pair asks one of another version.
#[test]
fn a_status_of_another_version() {
    let text = include_str!("golden/status-1.json");
    let former: Status = serde_json::from_str(text).unwrap();
    assert_eq!((former.node.as_str(), former.links.is_empty()), ("a", false));
    let mut newer: serde_json::Value = serde_json::from_str(text).unwrap();
    newer["of_the_next_version"] = serde_json::json!({ "more": [1] });
    newer["links"][0]["of_the_next_version"] = true.into();
    assert_eq!(serde_json::from_value::<Status>(newer).unwrap(), former);
    // What is written now has every field that version 1 wrote.
    let now = serde_json::to_value(&former).unwrap();
    let then: serde_json::Value = serde_json::from_str(text).unwrap();
    for name in then.as_object().unwrap().keys() {
        assert!(now.get(name).is_some(), "{name} has gone");
    }
}
