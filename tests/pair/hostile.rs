//! An attacker with a port on the LAN. It may deny the LAN; it may not take the role away, bring up a second owner, or hold a
//! takeover up. What it can do all the same is said in docs/safety.md.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};

use twobox::clock;
use twobox::console::status::{Role, Status};
use twobox::link::ethernet::ETHER_TYPE;
use twobox::time::Duration;
use twobox::wire::heartbeat::Seal;
use twobox::wire::icmp;
use twobox::wire::pair::{BootId, Side};
use twobox::wire::{Mac, arp};

use crate::rig::wire::{Port, enter};
use crate::rig::{Rig, SERVICE, other, site, wait};
use crate::{DEFAULT, LEASE};

/// The attacker's namespace and the host part of its address.
const GUEST: (&str, &str) = ("guest", "66");
const A: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const WITNESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const EVERYBODY: Mac = [0xff; 6];

/// Sends frames again and again out of the attacker's port.
struct Attack {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Attack {
    /// All of `frames`, then a pause, and so on.
    fn start(rig: &Rig, frames: Vec<Vec<u8>>, pause: Duration) -> Attack {
        let stop = Arc::new(AtomicBool::new(false));
        let (name, ending) = (rig.name.clone(), stop.clone());
        let thread = thread::spawn(move || {
            enter(&name, GUEST.0);
            let port = Port::open("lan");
            let mut sent = 0;
            while !ending.load(Ordering::Relaxed) {
                sent += frames.iter().filter(|frame| port.send(frame)).count() as u64;
                sleep(pause);
            }
            sent
        });
        Attack { stop, thread }
    }

    /// Ends it: frames sent.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Every frame that comes to the attacker within this time and is wanted.
fn overhear(rig: &Rig, span: Duration, wanted: fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    rig.inside(GUEST.0, || {
        let port = Port::open("lan");
        let until = clock::now() + span;
        let mut heard = Vec::new();
        while clock::now() < until {
            heard.extend(port.receive().filter(|frame| wanted(frame)));
        }
        heard
    })
}

fn is_heartbeat(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ETHER_TYPE.to_be_bytes()[..])
}

/// The same frames from another hardware address.
fn from(mac: Mac, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| [&frame[..6], &mac, &frame[12..]].concat()).collect()
}

fn mac(rig: &Rig, namespace: &str) -> Mac {
    let text = rig.mac(namespace, "lan");
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Looks again and again for a while that nothing has moved.
fn nothing_moves(rig: &Rig, active: &str, before: &Status, span: Duration) {
    let until = clock::now() + span;
    while clock::now() < until {
        let (holder, spare) = (rig.status(active).unwrap(), rig.status(other(active)).unwrap());
        assert_eq!((holder.role, holder.term), (Role::Active, before.term));
        assert_eq!(spare.role, Role::Standby);
        for status in [holder, spare] {
            assert!(status.peer.heard_ms_ago.is_some_and(|ms| ms < 500), "{} is late", status.peer.node);
        }
        sleep(Duration::from_millis(50));
    }
    assert_eq!(rig.capture.owners(), [active]);
}

/// Recordings of both boxes, played while a life of the standby ends and the next begins, and while the active box dies. From
/// the attacker's own hardware address: a flood from theirs denies them the LAN, as any would.
#[test]
fn recorded_heartbeats_move_nothing_teach_nothing_and_hold_up_no_takeover() {
    let mut rig = Rig::new("replay", DEFAULT);
    rig.join(GUEST.0, GUEST.1);
    let active = rig.start_both();
    let standby = other(active);
    let before = rig.status(active).unwrap();
    let recorded = overhear(&rig, Duration::from_secs(1), is_heartbeat);
    assert!(recorded.len() > 20, "{} heartbeats", recorded.len());
    let attack = Attack::start(&rig, from(mac(&rig, GUEST.0), &recorded), Duration::from_millis(5));
    nothing_moves(&rig, active, &before, LEASE * 4);
    // What it knows of the peer on the LAN is the peer's.
    for node in ["a", "b"] {
        let known = std::fs::read(rig.path(node, "state").join("neighbor")).unwrap();
        let has = |mac: Mac| known.windows(6).any(|six| six == mac);
        assert!(
            has(mac(&rig, other(node))) && !has(mac(&rig, GUEST.0)),
            "{node} took the attacker for its peer: {known:?}"
        );
    }
    rig.kill(standby);
    rig.launch(standby);
    rig.await_touch();
    nothing_moves(&rig, active, &before, LEASE * 4);
    rig.power_off(active);
    rig.client.await_answer_from(standby);
    let taken = rig.status(standby).unwrap();
    sleep(LEASE * 6);
    let status = rig.status(standby).unwrap();
    assert_eq!((status.role, status.term), (Role::Active, taken.term));
    assert!(attack.end() > 1_000);
    assert_eq!(rig.capture.owners(), [active, standby]);
}

/// The attacker says that it has the service address, the witness's, and both boxes'.
#[test]
fn forged_arp_moves_nothing_and_is_told() {
    let mut rig = Rig::new("arp", DEFAULT);
    rig.join(GUEST.0, GUEST.1);
    let active = rig.start_both();
    let before = rig.status(active).unwrap();
    let own = mac(&rig, GUEST.0);
    let service: Ipv4Addr = SERVICE.parse().unwrap();
    let claims = [service, WITNESS, A, B].into_iter().flat_map(|ip| {
        let answer = |to| arp::answer_for(EVERYBODY, own, (own, ip), to).to_vec();
        [arp::announcement(own, ip).to_vec(), answer(A), answer(B)]
    });
    let attack = Attack::start(&rig, claims.collect(), Duration::from_millis(10));
    nothing_moves(&rig, active, &before, LEASE * 8);
    wait("it is told", || rig.alarmed(active, "address-conflict"));
    assert!(rig.status(active).unwrap().addresses[0].conflict.is_some());
    assert!(attack.end() > 100);
    rig.await_touch();
    rig.client.await_answer_from(active);
    nothing_moves(&rig, active, &before, LEASE);
}

/// A device that takes the witness's place: it answers pings and carries nothing. It can forbid a takeover in silence, and
/// no more.
#[test]
fn a_rogue_witness_takes_no_role_and_makes_no_second_owner() {
    let mut rig = Rig::new("rogue", DEFAULT);
    rig.join(GUEST.0, GUEST.1);
    let active = rig.start_both();
    let standby = other(active);
    let before = rig.status(active).unwrap();
    rig.ip(GUEST.0, "addr add 10.77.0.1/32 dev lan");
    // What is sent in another's name comes from the one box and names the other: no answer.
    rig.run_in(GUEST.0, "nft add table ip rogue");
    rig.run_in(GUEST.0, "nft add chain ip rogue c { type filter hook input priority 0 ; }");
    for (port, ip) in [("a", B), ("b", A)] {
        let from = rig.mac(port, "lan");
        rig.run_in(GUEST.0, &format!("nft add rule ip rogue c ether saddr {from} ip saddr {ip} drop"));
    }
    let own = mac(&rig, GUEST.0);
    let claims = [A, B].map(|to| arp::answer_for(EVERYBODY, own, (own, WITNESS), to).to_vec());
    let attack = Attack::start(&rig, claims.into(), Duration::from_millis(5));
    wait("the boxes see that it carries nothing", || {
        ["a", "b"].iter().all(|node| rig.status(node).is_some_and(|s| !s.witnesses[0].reflects))
    });
    nothing_moves(&rig, active, &before, LEASE * 4);
    rig.power_off(active);
    sleep(LEASE * 6);
    assert_ne!(rig.role(standby), Some(Role::Active), "a witness that proves nothing makes no quorum");
    assert!(!rig.status(standby).unwrap().takeover.blocked_by.is_empty());
    assert_eq!(rig.capture.owners(), [active]);
    attack.end();
}

/// Whoever hears the heartbeats knows this life's number. It must not be enough to answer pings in a witness's name.
#[test]
fn answers_to_pings_cannot_be_forged_by_who_hears_only_heartbeats() {
    let mut rig = Rig::new("pong", DEFAULT);
    rig.join(GUEST.0, GUEST.1);
    let active = rig.start_both();
    let standby = other(active);
    let frame = overhear(&rig, Duration::from_secs(1), is_heartbeat);
    let life = life_of(&rig, standby, &frame);
    // The witness dies; the attacker answers for it. Rounds are counted from the start on.
    rig.ip("lan", "link set dev witness down");
    wait("no quorum", || rig.alarmed(standby, "no-quorum"));
    let answers = (0..4_000u32).map(|round| pong(mac(&rig, standby), address(standby), life, round)).collect();
    let attack = Attack::start(&rig, answers, Duration::ZERO);
    rig.power_off(active);
    for _ in 0..60 {
        sleep(Duration::from_millis(100));
        let status = rig.status(standby).unwrap();
        assert_ne!(status.role, Role::Active);
        assert!(!status.witnesses[0].reachable, "a forged answer was taken");
    }
    assert!(attack.end() > 4_000);
    assert_eq!(rig.capture.owners(), [active]);
}

fn address(node: &str) -> Ipv4Addr {
    if node == "a" { A } else { B }
}

/// The number of this box's life as its heartbeats tell it to everybody.
fn life_of(rig: &Rig, node: &str, frames: &[Vec<u8>]) -> u64 {
    let side = if node == "a" { Side::B } else { Side::A };
    let key = twobox::config::key_file::load(&rig.dir.join("pair.key")).unwrap();
    let seal = Seal::new(side, BootId::new(1).unwrap(), "test", key.bytes());
    let from = mac(rig, node);
    let told = frames.iter().filter(|frame| frame[6..12] == from).find_map(|frame| {
        let length = usize::from(u16::from_be_bytes([frame[14], frame[15]]));
        seal.decode(&frame[16..16 + length]).ok()
    });
    told.expect("a heartbeat").boot.get()
}

/// Heartbeats of a format that comes after ours, by somebody who has the key: a peer that was updated too far.
#[test]
fn heartbeats_of_a_newer_version_move_nothing_and_are_told() {
    let mut rig = Rig::new("newer", DEFAULT);
    rig.join(GUEST.0, GUEST.1);
    let active = rig.start_both();
    let standby = other(active);
    let before = rig.status(active).unwrap();
    assert!(!rig.alarmed(active, "newer-version"));
    let of_standby = mac(&rig, standby);
    let heard = overhear(&rig, Duration::from_secs(1), is_heartbeat);
    let key = twobox::config::key_file::load(&rig.dir.join("pair.key")).unwrap();
    let seal = Seal::new(Side::A, BootId::new(1).unwrap(), "test", key.bytes());
    let newer = |frame: &Vec<u8>| {
        let mut frame = frame.clone();
        let end = 16 + usize::from(u16::from_be_bytes([frame[14], frame[15]]));
        let tag = end - twobox::wire::heartbeat::TAG_SIZE;
        frame[16 + 2] = twobox::wire::heartbeat::VERSION + 1;
        let sum = blake3::keyed_hash(&seal.key, &frame[16..tag]);
        frame[tag..end].copy_from_slice(&sum.as_bytes()[..end - tag]);
        frame
    };
    let frames: Vec<Vec<u8>> = heard.iter().filter(|frame| frame[6..12] == of_standby).map(newer).collect();
    assert!(!frames.is_empty());
    let attack = Attack::start(&rig, from(mac(&rig, GUEST.0), &frames), Duration::from_millis(50));
    wait("it is told", || rig.alarmed(active, "newer-version"));
    nothing_moves(&rig, active, &before, LEASE * 4);
    attack.end();
}

/// What the witness would answer to the ping of a round, if the ping carried the life's number.
fn pong(to: Mac, destination: Ipv4Addr, life: u64, round: u32) -> Vec<u8> {
    let mut payload = [0; twobox::wire::heartbeat::SIZE];
    payload[..2].copy_from_slice(b"2p");
    payload[4..8].copy_from_slice(&round.to_le_bytes());
    payload[8..16].copy_from_slice(&life.to_le_bytes());
    let request = icmp::Request {
        to,
        from: [2, 0, 0, 0, 0, 6],
        source: WITNESS.into(),
        destination: destination.into(),
        identifier: u16::from_be_bytes(twobox::wire::heartbeat::MAGIC),
        sequence: round as u16,
        payload: &payload,
    };
    let mut frame = request.write(&mut [0; icmp::FRAME_MAX]).unwrap().to_vec();
    // Type 8, a request, becomes 0, an answer; the checksum changes by as much (RFC 1624).
    let at = 14 + 20;
    frame[at] = 0;
    let sum = u32::from(u16::from_be_bytes([frame[at + 2], frame[at + 3]])) + 0x0800;
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[at + 2..at + 4].copy_from_slice(&(sum as u16).to_be_bytes());
    frame
}

/// Another pair, on the same LAN by mistake, with the same service address. It is nobody's attacker: it defends as we do.
#[test]
fn a_second_pair_with_the_same_address_takes_no_role_and_is_told() {
    let mut rig = Rig::new("second", DEFAULT);
    let active = rig.start_both();
    let before = rig.status(active).unwrap();
    let strangers = Strangers::start(&rig);
    wait("it is told", || rig.alarmed(active, "address-conflict"));
    nothing_moves(&rig, active, &before, LEASE * 6);
    drop(strangers);
    // Their kernels give the address up by themselves; the client looks anew.
    sleep(Duration::from_secs(5));
    rig.ip("client", "neigh flush all");
    rig.client.await_answer_from(active);
    nothing_moves(&rig, active, &before, LEASE);
}

/// Two more daemons.
struct Strangers(Vec<Child>);

impl Strangers {
    fn start(rig: &Rig) -> Strangers {
        let path = |name: &str| rig.dir.join(name);
        twobox::config::key_file::create(&path("second.key")).unwrap();
        let (_, rest) =
            site(&rig.dir, DEFAULT).split_once("[timing]").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let (rest, _) = rest.split_once("[[service]]").unwrap();
        let rest = rest.replace("10.77.0.2/", "10.77.0.4/").replace("10.77.0.3/", "10.77.0.5/");
        let pair = format!("[pair]\nname = \"second\"\nkey-file = \"{}\"\n", path("second.key").display());
        std::fs::write(path("second.site"), format!("{pair}[timing]{rest}")).unwrap();
        std::fs::write(path("second.board"), "name = \"netns\"\n[interface.lan]\nname = \"lan\"\n").unwrap();
        let start = |(namespace, number, node): (&str, &str, &str)| {
            rig.join(namespace, number);
            Command::new("nsenter")
                .arg(format!("--net=/run/netns/{}-{namespace}", rig.name))
                .arg(env!("CARGO_BIN_EXE_twobox"))
                .arg("--socket")
                .arg(path(&format!("{namespace}.socket")))
                .args(["run", "--node", node, "--board"])
                .arg(path("second.board"))
                .arg("--site")
                .arg(path("second.site"))
                .arg("--state")
                .arg(path(&format!("{namespace}.state")))
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(path(&format!("{namespace}.log"))).unwrap())
                .spawn()
                .unwrap()
        };
        Strangers([("c", "4", "a"), ("d", "5", "b")].into_iter().map(start).collect())
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
