//! What every decoder that meets bytes from outside must keep, whatever the bytes are. Plain functions: the fuzzer calls them
//! (`tests/fuzz/run`), and a test replays the corpus through them (`cargo test --test fuzz`).

use twobox::config;
use twobox::confine::mount_table::Table;
use twobox::console::control::{self, Reply, Request};
use twobox::console::live;
use twobox::console::report::{self, Style};
use twobox::console::screen::Screen;
use twobox::console::status::Status;
use twobox::fence::gate::nfnetlink;
use twobox::init::{last_reset, partition};
use twobox::mirror::codec::Reader;
use twobox::mirror::entry::{Chunk, Entry, Local};
use twobox::mirror::message::Message;
use twobox::mirror::redo;
use twobox::mirror::watch;
use twobox::netlink::{self, Attributes, InterfaceBody};
use twobox::node::planted::Planted;
use twobox::node::settings::{Settings, StaleData};
use twobox::node::{Action, Input, Memory, Node, Order};
use twobox::observe::exposition::Dialect;
use twobox::observe::{http, metrics};
use twobox::run::record;
use twobox::state::sealed;
use twobox::takeover::address::Assigned;
use twobox::takeover::clients;
use twobox::takeover::interface::Interface;
use twobox::time::{Duration, Instant};
use twobox::update::slot::Slot;
use twobox::update::{fat, image, loader};
use twobox::wire::heartbeat::{MAGIC, Reject, SIZE, Seal, TAG_SIZE};
use twobox::wire::pair::{BootId, Data, Generation, Side};
use twobox::wire::side::{self, Channel};
use twobox::wire::{arp, icmp, known_clients, line, neighbor, panic_text, serial};

/// Name and function of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 18] = [
    ("heartbeat", heartbeat),
    ("node", node),
    ("serial", serial_line),
    ("frames", frames),
    ("side", side_channel),
    ("mirror_message", mirror_message),
    ("mirror_index", mirror_index),
    ("mirror_redo", mirror_redo),
    ("control", control_line),
    ("child", child_line),
    ("http", http_request),
    ("config", config_files),
    ("state", state_file),
    ("status", shown_status),
    ("image", image_file),
    ("kernel", kernel_words),
    ("disk", boot_partition),
    ("boot", boot_words),
];

const SECRET: [u8; 32] = [9; 32];

fn boot(n: u64) -> BootId {
    BootId::new(n).expect("not zero")
}

fn seal(node: Side, life: u64) -> Seal {
    Seal::new(node, boot(life), "office", &SECRET)
}

/// `body` as a heartbeat with a good tag: what is behind the tag is fuzzed too.
fn tagged(body: &[u8]) -> [u8; SIZE] {
    let ours = seal(Side::B, 2);
    let mut frame = [0; SIZE];
    let length = body.len().min(SIZE - TAG_SIZE);
    frame[..length].copy_from_slice(&body[..length]);
    frame[..2].copy_from_slice(&MAGIC);
    frame[4..12].copy_from_slice(&ours.pair.to_le_bytes());
    let tag = blake3::keyed_hash(&ours.key, &frame[..SIZE - TAG_SIZE]);
    frame[SIZE - TAG_SIZE..].copy_from_slice(&tag.as_bytes()[..TAG_SIZE]);
    frame
}

/// A frame without the key is never believed; one with it is refused with a reason, or encodes to the same bytes again.
fn heartbeat(bytes: &[u8]) {
    let ours = seal(Side::B, 2);
    assert!(ours.decode(bytes).is_err(), "nobody knows the key");
    let frame = tagged(bytes);
    match ours.decode(&frame) {
        Ok(read) => {
            let mut again = [0; SIZE];
            assert_eq!(seal(read.node, read.boot.get()).encode(&read, &mut again), frame);
        }
        Err(reason) => assert!(!matches!(reason, Reject::BadTag | Reject::ForeignPair | Reject::NotOurs)),
    }
}

fn settings() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        node: Side::B,
        boot: boot(2),
        lease: ms(500),
        fence: Some(ms(1)),
        drift_ppm: 1_000,
        margin: ms(50),
        intervals: [Some(ms(100)), Some(ms(50)), Some(ms(50))],
        witnesses: 2,
        round: ms(25),
        round_idle: ms(250),
        require_reflection: false,
        settle: ms(2000),
        hold_down: ms(3000),
        boot_wait: ms(10_000),
        longest_wait: ms(6_000),
        prefer: None,
        stale_data: StaleData::Hold,
        mirrored: true,
        panic_text: true,
        feed: ms(400),
        stop_timeout: ms(5000),
        terms_ahead: 8,
        digest: 1,
        planted: Planted::NONE,
    }
}

/// A peer with the right key may say anything at any time, and so may everything else: a bug over there brings nobody down
/// here. (An assertion that fails is a fence; two boxes that fence each other are an outage.) And whatever it says, this
/// node is fed, renewed and active only by a right.
fn node(bytes: &[u8]) {
    let ours = seal(Side::B, 2);
    let mut now = Instant::BOOT + Duration::from_secs(100);
    let mut node = Node::new(settings(), now, Memory::Fresh, false);
    let mut orders = 0;
    let mut ticket = None;
    let mut round = 0;
    let mut rest = bytes;
    while let Some((&[what, time], tail)) = rest.split_first_chunk() {
        rest = tail;
        now = now + Duration::from_millis(u64::from(time));
        match what % 14 {
            0..=3 => {
                let length = rest.len().min(SIZE - TAG_SIZE);
                let (body, tail) = rest.split_at(length);
                rest = tail;
                if let Ok(heartbeat) = ours.decode(&tagged(body)) {
                    node.handle(now, Input::Heartbeat { path: heartbeat.path, heartbeat: &heartbeat });
                }
            }
            4 => node.handle(now, Input::Pong { witness: time & 1, round }),
            5 => node.handle(now, Input::Services { healthy: time & 1 == 0 }),
            6 => node.handle(now, Input::Carriers(time)),
            7 => node.handle(now, Input::FenceBound((time & 1 == 0).then(|| Duration::from_millis(u64::from(time))))),
            8 => node.handle(now, Input::Down { order: orders }),
            9 => {
                if let Some(ticket) = ticket.take() {
                    node.handle(now, Input::Persisted { ticket, durable: time & 3 != 0 });
                }
            }
            10 => {
                let term = node.known_term();
                let order =
                    [Order::Switchover { term }, Order::Hold { term }, Order::Release, Order::Force, Order::Leave]
                        [usize::from(time % 5)];
                node.handle(now, Input::Order(order));
            }
            11 => node.handle(now, Input::PanicText { began: now }),
            12 => node.handle(now, Input::Conflict),
            _ => {
                let generation = Generation { term: u64::from(time), boot: 3 };
                let data = Data { generation, lag_s: 0, stale_trees: time & 1 };
                node.handle(now, Input::Data { data, newest: generation.term });
            }
        }
        node.handle(now, Input::Turn);
        while let Some(action) = node.next_action() {
            match action {
                Action::Yield { order } | Action::Fence { order } => orders = order,
                Action::Activate { until, .. } | Action::Renew { until } => {
                    assert!(until > now && node.status(now).right.is_some(), "only a right opens");
                }
                Action::Persist { ticket: number, .. } => ticket = Some(number),
                Action::Ping { round: number, .. } => round = number,
                _ => {}
            }
        }
        assert!(node.next_deadline() >= now);
    }
}

/// Any noise on the null modem: no panic, and a frame that follows it is found.
fn serial_line(bytes: &[u8]) {
    let at = Instant::BOOT + Duration::from_secs(1);
    let (mut decoder, mut matcher, mut observer) =
        (serial::Decoder::new(), panic_text::Matcher::new(), line::Observer::new());
    let cut = bytes.first().map_or(0, |b| usize::from(*b)).min(bytes.len());
    for part in [&bytes[..cut], &bytes[cut..]] {
        decoder.feed(part, |piece| {
            if let serial::Piece::Noise(noise) = piece {
                observer.noise(at, noise);
                matcher.feed(at, noise);
            }
        });
    }
    let _ = observer.finding(at);
    let mut room = [0; serial::FRAME_MAX];
    let payload = &bytes[..bytes.len().min(200)];
    let Some(frame) = serial::encode(payload, &mut room) else { return };
    let mut found = false;
    // Twice: the first may be taken for the end of a frame that the noise began.
    for _ in 0..2 {
        decoder.feed(frame, |piece| found |= matches!(piece, serial::Piece::Frame(read) if read == payload));
    }
    assert!(found, "the frame behind the noise is lost");
}

/// Whatever the LAN sends.
fn frames(bytes: &[u8]) {
    if let Some(read) = arp::parse(bytes) {
        assert_eq!(bytes[12..14], arp::ETHER_TYPE.to_be_bytes());
        assert!(bytes.len() >= arp::FRAME, "{read:?} of {} bytes", bytes.len());
    }
    let _ = neighbor::parse(bytes);
    if let Some(echo) = icmp::parse(bytes) {
        assert!(echo.payload.len() <= bytes.len());
    }
    if let Some(clients) = known_clients::decode(bytes) {
        let read: Vec<_> = clients.collect();
        let mut room = [0; side::MESSAGE_MAX];
        let again = known_clients::encode(read.iter().copied(), &mut room);
        assert_eq!(known_clients::decode(again).map(Iterator::collect::<Vec<_>>), Some(read));
    }
}

/// Fragments with a good tag but any header.
fn side_channel(bytes: &[u8]) {
    const LENGTH: usize = 40;
    let ours = seal(Side::B, 2);
    let mut channel = Channel::new(Side::B, boot(2), ours.pair, &SECRET);
    channel.set_peer(Some(boot(1)));
    let now = Instant::BOOT + Duration::from_secs(1);
    assert!(channel.receive(now, bytes).is_err(), "nobody knows the key");
    let key = blake3::derive_key("twobox 2026 side channel tag", &SECRET);
    for part in bytes.chunks(side::FRAGMENT_MAX - TAG_SIZE) {
        let mut frame = [0; side::FRAGMENT_MAX];
        let length = part.len().max(LENGTH);
        frame[..part.len()].copy_from_slice(part);
        frame[..2].copy_from_slice(&side::MAGIC);
        (frame[2], frame[3]) = (side::VERSION, Side::A as u8);
        for (at, number) in [(4, ours.pair), (12, 1), (20, 2)] {
            frame[at..at + 8].copy_from_slice(&u64::to_le_bytes(number));
        }
        let tag = blake3::keyed_hash(&key, &frame[..length]);
        frame[length..length + TAG_SIZE].copy_from_slice(&tag.as_bytes()[..TAG_SIZE]);
        match channel.receive(now, &frame[..length + TAG_SIZE]) {
            Ok(Some(message)) => assert!(message.bytes.len() <= side::MESSAGE_MAX),
            Ok(None) => {}
            Err(reason) => assert!(matches!(reason, Reject::Malformed | Reject::Replay), "{reason:?}"),
        }
        let mut room = [0; side::FRAGMENT_MAX];
        let _ = channel.next(now, &mut room);
    }
}

/// A record of the mirror: refused, or it encodes to what decodes to the same.
fn mirror_message(bytes: &[u8]) {
    let Some((&kind, payload)) = bytes.split_first() else { return };
    let Ok(message) = Message::decode(kind, payload) else { return };
    let mut again = Vec::new();
    message.encode(&mut again);
    assert_eq!(message.kind(), kind);
    assert_eq!(Message::decode(kind, &again), Ok(message));
}

/// What the index on disk is made of.
fn mirror_index(bytes: &[u8]) {
    let mut from = Reader(bytes);
    if let Ok(entry) = Entry::decode(&mut from) {
        let mut again = Vec::new();
        entry.encode(&mut again);
        assert_eq!(Entry::decode(&mut Reader(&again)), Ok(entry));
    }
    let _ = Local::decode(&mut from);
    if let Ok(chunks) = Chunk::decode_all(Reader(bytes)) {
        let mut again = Vec::new();
        chunks.iter().for_each(|chunk| chunk.encode(&mut again));
        assert_eq!(Chunk::decode_all(Reader(&again)), Ok(chunks));
    }
}

/// A redo log: what is not whole is known as such, and is never carried out.
fn mirror_redo(bytes: &[u8]) {
    let path = std::path::PathBuf::from(format!("/dev/shm/twobox-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("room in /dev/shm");
    let whole = redo::is_whole(&path).expect("damage is no error");
    let read = redo::each(&path, |_| Ok(()));
    let _ = std::fs::remove_file(&path);
    assert!(!whole || read.is_ok(), "a whole log can be read: {read:?}");
}

/// What somebody says on the control socket.
fn control_line(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let _ = control::validate(&request);
        let again = control::to_line(&request).expect("a request is a line");
        assert_eq!(serde_json::from_slice::<Request>(&again).expect("our own line"), request);
    }
    let _ = serde_json::from_slice::<Reply>(bytes);
}

/// What its children, which may have been taken over, tell the daemon.
fn child_line(bytes: &[u8]) {
    let _ = serde_json::from_slice::<twobox::observe::control::Said>(bytes);
    let _ = serde_json::from_slice::<twobox::update::child::Report>(bytes);
    let _ = serde_json::from_slice::<twobox::mirror::control::Report>(bytes);
    let _ = serde_json::from_slice::<twobox::mirror::control::Order>(bytes);
}

/// A request of whoever reaches `[observe]`.
fn http_request(bytes: &[u8]) {
    let all = http::read(bytes);
    // What is understood is understood as soon as it is there, however it was cut up.
    for end in 0..bytes.len().min(64) {
        if let Ok(Some(asked)) = http::read(&bytes[..end]) {
            assert_eq!(all, Ok(Some(asked)));
        }
    }
}

/// Site and board file, divided by the first zero: every error has a place, and none is a panic.
fn config_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (site, board) = text.split_once('\0').unwrap_or((&text, "name = \"board\""));
    let (_, problems) = config::parse(("site.toml", site), ("board.toml", board));
    for problem in problems {
        assert!(!problem.to_string().contains('\n'), "one line each: {problem}");
    }
}

/// The record on disk.
fn state_file(bytes: &[u8]) {
    if let Ok(payload) = sealed::open(bytes) {
        assert_eq!(sealed::seal(payload), bytes);
    }
    let payload = &bytes[..bytes.len().min(sealed::PAYLOAD_MAX)];
    assert_eq!(sealed::open(&sealed::seal(payload)), Ok(payload));
    if let Some(read) = record::decode(bytes) {
        assert_eq!(record::encode(&read)[..], *bytes);
    }
}

/// A status, most of which others say: the mirror's process, a kernel that has died, the peer. Whatever its words and numbers
/// are, it is shown, and none of its words commands a terminal.
fn shown_status(bytes: &[u8]) {
    let Ok(status) = serde_json::from_slice::<Status>(bytes) else { return };
    let plain = |text: String| assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
    for width in [20, 80, 200] {
        plain(report::full(&status, Style { width, colour: false }));
        plain(report::mirror(&status, Style { width, colour: false }));
    }
    for (width, height) in [(20, 5), (80, 24), (132, 43)] {
        let mut screen = Screen::new(width, height);
        live::draw(&status, &mut screen);
    }
    for dialect in [Dialect::OpenMetrics, Dialect::Text] {
        let text = metrics::text(&status, dialect);
        assert!(text.ends_with("\n# EOF\n") && text.lines().all(|line| !line.is_empty()), "{text}");
    }
    let again = serde_json::to_vec(&status).expect("a status is a line");
    assert!(serde_json::from_slice::<Status>(&again).is_ok());
}

/// An image for an update: what its headers say is looked at before anything else is known of it.
fn image_file(bytes: &[u8]) {
    let _ = image::loads(bytes);
    if let Some((offset, length)) = image::description(bytes) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(length as usize).min(bytes.len());
        let _ = image::identity(&bytes[start..end]);
    }
    if let Some(identity) = image::identity(bytes) {
        assert!(!identity.board.is_empty() && !identity.hash.contains(char::is_control));
    }
    let whole = |step: usize| {
        let mut check = image::Check::new(bytes.len() as u64)?;
        bytes.chunks(step).for_each(|part| check.add(part));
        check.end()
    };
    assert_eq!(whole(7), whole(64));
    if let Some(slot) = str::from_utf8(bytes).ok().and_then(Slot::parse) {
        assert_eq!(Slot::parse(&slot.to_string()), Some(slot));
    }
}

/// What the kernel says of the network and of files, whose names are anybody's.
fn kernel_words(bytes: &[u8]) {
    let mut named = 0;
    watch::parse(bytes, &mut |event| named += event.map_or(0, |event| event.handle.len() + event.name.len()));
    assert!(named <= bytes.len());
    for (_, value) in Attributes::new(bytes) {
        let _ = netlink::attribute::<u32>(Some(value));
        assert!(Attributes::new(value).count() <= value.len());
    }
    let _ = netlink::body::<InterfaceBody>(bytes).map(|(_, attributes)| attributes.count());
    let mut rest = bytes;
    while let Some((_, payload, next)) = netlink::split(rest) {
        assert!(next.len() < rest.len());
        rest = next;
        let _ = netlink::outcome(payload);
        for message in [payload, bytes] {
            if let Some(client) = clients::read(message) {
                assert!(client.mac[0] & 1 == 0 && !client.ip.is_multicast(), "one client alone: {client:?}");
            }
            let _ = (Interface::read(message), Assigned::read(message));
        }
    }
    let nested = nfnetlink::attributes(bytes).map(|(_, value)| nfnetlink::attributes(value).count());
    assert!(nested.sum::<usize>() <= bytes.len());
}

/// The boot partition after whatever has been done to it: it is mended once and for all, or left as it is.
fn boot_partition(bytes: &[u8]) {
    let path = std::path::PathBuf::from(format!("/dev/shm/twobox-fuzz-disk-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("room in /dev/shm");
    let device = std::fs::File::options().read(true).write(true).open(&path).expect("it was just written");
    let first = fat::mend(&device);
    let length = device.metadata().map(|metadata| metadata.len());
    let second = fat::mend(&device);
    let _ = std::fs::remove_file(&path);
    assert_eq!(length.ok(), Some(bytes.len() as u64));
    if first.is_ok() {
        assert_eq!(second.ok(), Some(fat::Mended::default()), "mended twice, after {first:?}");
    }
}

/// What a box reads before it knows anything: a file system's first block, the firmware's variable, the last words of a kernel that
/// died, the mounts.
fn boot_words(bytes: &[u8]) {
    let mut block = [0; 1024];
    let length = bytes.len().min(block.len());
    block[..length].copy_from_slice(&bytes[..length]);
    let _ = (partition::condition(&block), partition::label(&block));
    assert_eq!(partition::uuid(&block).len(), 36);
    if let Some(slot) = loader::slot_of(bytes) {
        assert_eq!(Slot::parse(&slot.to_string()), Some(slot));
    }
    if let Some(why) = last_reset::panic_line(&String::from_utf8_lossy(bytes)) {
        assert!(!why.contains('\n'), "one line: {why:?}");
    }
    let table = Table::parse(bytes);
    assert!(table.untold().count() <= table.iter().count());
    for mount in table.iter() {
        let _ = table.is_told(mount.number);
    }
}
