//! The pair on real packets: two daemons in network namespaces, faults made from outside, judged by a client and by every
//! frame on the wire. Needs root.

#![allow(clippy::disallowed_methods)] // a test starts programs, sleeps and reads the clock

mod accounts;
mod addresses;
mod allocation;
mod belts;
mod bulk;
mod busy_kernel;
mod cables;
mod card;
mod clocks;
mod copy_first;
mod fencing;
mod flood;
mod hostile;
mod life;
#[path = "../gate/map.rs"]
mod map;
mod memory;
mod neighbor;
mod operator;
mod resources;
mod rig;
mod secrets;
mod services;
mod session;
mod shipped;
mod trees;
mod versions;
mod watchdog;

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};

use flood::Flood;
use nix::sys::signal::Signal;
use rig::counting::Counting;
use rig::null_modem::Line;
use rig::{PORT, Rig, SERVICE, other, wait, wire};
use twobox::clock;
use twobox::console::client::Conversation;
use twobox::console::control::{PeerRequest, Reply, Request};
use twobox::console::status::{HandoverKind, RightKind, Role};
use twobox::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The default profile's lease.
const LEASE: Duration = Duration::from_millis(500);
const DEFAULT: &str = "profile = \"default\"";

const WHOLE: Line = |_| true;
const CUT: Line = |_| false;
const WRONG_BAUD: Line = |bytes| {
    bytes.iter_mut().for_each(|byte| *byte = byte.rotate_left(3) ^ 0x8d);
    true
};

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// As `ip` shows it.
fn has_service_address(rig: &Rig, node: &str) -> bool {
    rig.ip(node, "-4 addr show dev lan").contains(SERVICE)
}

/// When this box last sent as holder of the service address.
fn last_as_holder(rig: &Rig, node: &str) -> Instant {
    rig.capture.frames().iter().rev().find(|frame| frame.from == node).expect("it was holder").at
}

fn fence_bound(rig: &Rig, node: &str) -> Duration {
    Duration::from_millis(rig.status(node).unwrap().fence.bound_ms.expect("a fence bound"))
}

#[test]
fn a_killed_program_leaves_no_address_and_the_peer_serves() {
    let mut rig = Rig::new("kill", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    assert_eq!(rig.status(active).unwrap().right.kind, RightKind::Lease);
    rig.kill(active);
    rig.client.await_answer_from(standby);
    // The kernel takes the address of the killed program away by itself.
    wait("the address is gone", || !has_service_address(&rig, active));
    assert!(has_service_address(&rig, standby));
    assert_eq!(rig.capture.owners(), [active, standby]);
}

#[test]
fn power_loss_is_followed_by_the_peer_after_the_claim_wait() {
    let mut rig = Rig::new("power", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let off = rig.power_off(active);
    rig.client.await_answer_from(standby);
    let took = rig.client.longest_outage(off);
    assert!(took >= LEASE, "{took:?} is less than the lease: the former holder could still have served");
    let status = rig.status(standby).unwrap();
    assert_eq!(status.right.kind, RightKind::Quorum);
    assert_eq!(rig.capture.owners(), [active, standby]);
    println!("outage {:.1} ms, {:?}", ms(took), status.last_handover);
}

#[test]
fn a_switchover_moves_the_service_and_is_told_step_by_step() {
    let mut rig = Rig::new("switch", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let (name, began) = (rig.name.clone(), clock::now());
    let mut connection = connect(&name);
    assert_eq!(talk(&mut connection), Ok(active.as_bytes()[0]));
    let done = rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    assert!(done.contains(&format!("{standby} serves")), "{done}");
    rig.client.await_answer_from(standby);
    println!("{done}; outage {:.1} ms", ms(rig.client.longest_outage(began)));
    assert_eq!(rig.capture.owners(), [active, standby]);
    // A connection to the former holder does not hang: it is reset by the new one, and a new connection works.
    assert!(talk(&mut connection).is_err());
    assert_eq!(talk(&mut connect(&name)), Ok(standby.as_bytes()[0]));
    assert_eq!(rig.role(active), Some(Role::Standby));
    rig.await_touch();
    // Each has heard the other's announcements: that is no foreign owner.
    for node in ["a", "b"] {
        assert_eq!(rig.status(node).unwrap().addresses[0].conflict, None);
        assert!(!rig.alarmed(node, "address-conflict"));
    }
}

/// A TCP connection of the client.
fn connect(name: &str) -> TcpStream {
    let name = name.to_owned();
    let connecting = std::thread::spawn(move || {
        wire::enter(&name, "client");
        let stream = TcpStream::connect(SocketAddrV4::new(SERVICE.parse().unwrap(), PORT)).unwrap();
        stream.set_read_timeout(Some(rig::PATIENCE)).unwrap();
        stream
    });
    connecting.join().unwrap()
}

/// Who answers on a connection.
fn talk(connection: &mut TcpStream) -> Result<u8, std::io::ErrorKind> {
    connection.write_all(b"?").map_err(|e| e.kind())?;
    let mut answer = [0; 2];
    connection.read_exact(&mut answer).map_err(|e| e.kind())?;
    Ok(answer[0])
}

#[test]
fn leaving_in_order_hands_over_and_ends_with_zero() {
    let mut rig = Rig::new("leave", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    rig.signal(active, Signal::SIGTERM);
    let status = rig.end_of(active);
    assert_eq!(status.code(), Some(0), "{status}");
    rig.client.await_answer_from(standby);
    assert!(!has_service_address(&rig, active));
    wait("the farewell's right", || {
        rig.status(standby).is_some_and(|s| matches!(s.right.kind, RightKind::Farewell | RightKind::Quorum))
    });
    assert_eq!(rig.capture.owners(), [active, standby]);
}

#[test]
fn a_stopped_program_sends_nothing_as_holder_after_its_right_and_the_bound() {
    for share in [1, 2, 10] {
        // Half a lease, a lease, five of them.
        let pause = LEASE * share / 2;
        let mut rig = Rig::new(&format!("stop{share}"), DEFAULT);
        let active = rig.start_both();
        let standby = other(active);
        let bound = fence_bound(&rig, active);
        let stopped = clock::now();
        rig.signal(active, Signal::SIGSTOP);
        std::thread::sleep(pause);
        rig.signal(active, Signal::SIGCONT);
        if share == 10 {
            rig.client.await_answer_from(standby);
            let last = last_as_holder(&rig, active);
            // The right that it had when it was stopped lasts for a lease at most; capture may be late a little.
            let latest = stopped + LEASE + bound + Duration::from_millis(100);
            assert!(last <= latest, "sent as holder {:?} after the bound", last.since(latest));
            wait("the former holder is down", || !has_service_address(&rig, active));
        } else {
            wait("one active", || rig.active().is_some());
        }
        let owners = rig.capture.owners();
        assert!(owners == [active] || owners == [active, standby], "{owners:?}");
    }
}

#[test]
fn every_single_cable_may_fail() {
    let mut rig = Rig::new("cables", DEFAULT);
    let active = rig.start_both();
    let term = rig.status(active).unwrap().term;
    rig.null_modem.set(CUT);
    wait("the null modem down", || rig.status(active).is_some_and(|s| !s.links[0].up));
    rig.null_modem.set(WHOLE);
    wait("the null modem up", || rig.status(active).is_some_and(|s| s.links[0].up));
    rig.ip("a", "link set cross down");
    wait("the crossover down", || rig.status(active).is_some_and(|s| !s.links[1].up));
    rig.ip("a", "link set cross up");
    wait("the crossover up", || rig.status(active).is_some_and(|s| s.links[1].up));
    // The standby's LAN: it hears through the other two.
    rig.ip("lan", &format!("link set dev {} down", other(active)));
    wait("the LAN down", || rig.status(active).is_some_and(|s| !s.links[2].up && s.links[1].up));
    rig.ip("lan", &format!("link set dev {} up", other(active)));
    wait("the LAN up", || rig.status(active).is_some_and(|s| s.links[2].up));
    let status = rig.status(active).unwrap();
    assert_eq!((status.role, status.term), (Role::Active, term));
    assert_eq!(rig.capture.owners(), [active]);
}

#[test]
fn reflection_alone_keeps_the_pair_together_and_a_takeover_possible() {
    let mut rig = Rig::new("reflect", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    for node in ["a", "b"] {
        rig::must(&format!("nsenter --net=/run/netns/{}-lan bridge link set dev {node} isolated on", rig.name));
    }
    rig.ip("a", "link set cross down");
    rig.null_modem.set(CUT);
    let alone = clock::now();
    wait("only reflection is left", || {
        rig.status(active).is_some_and(|s| s.links.iter().all(|l| l.up == l.name.starts_with("reflected")))
    });
    std::thread::sleep(LEASE * 4);
    for node in ["a", "b"] {
        let status = rig.status(node).unwrap();
        assert!(status.peer.heard_ms_ago.is_some_and(|ms| ms < 500), "{node} does not hear its peer");
    }
    assert_eq!(rig.role(active), Some(Role::Active));
    assert!(rig.client.longest_outage(alone) < LEASE);
    rig.kill(active);
    rig.client.await_answer_from(standby);
    assert_eq!(rig.capture.owners(), [active, standby]);
}

#[test]
fn both_started_at_once_and_one_in_a_dirty_namespace_give_one_holder() {
    let mut rig = Rig::new("dirty", DEFAULT);
    rig.ip("b", &format!("addr add {SERVICE}/24 dev lan"));
    let active = rig.start_both();
    assert!(!has_service_address(&rig, other(active)));
    std::thread::sleep(LEASE * 2);
    // What the leftover sent before the daemons started may stand in front.
    let owners = rig.capture.owners();
    assert!(owners.len() <= 2 && owners.last() == Some(&active), "{owners:?}");
    assert_eq!(rig.status(active).unwrap().alarms, []);
}

#[test]
fn different_configurations_are_told_and_stay_safe() {
    let mut rig = Rig::new("drift", DEFAULT);
    std::fs::write(rig.dir.join("site-b.toml"), rig::site(&rig.dir, "profile = \"default\"\nlease = \"600ms\""))
        .unwrap();
    rig.launch("a");
    rig.launch("b");
    wait("one of two active", || rig.active().is_some());
    let active = rig.active().unwrap();
    rig.await_touch();
    for node in ["a", "b"] {
        wait(&format!("{node} tells the difference"), || {
            rig.status(node).is_some_and(|s| {
                s.peer.config_matches == Some(false) && s.alarms.iter().any(|alarm| alarm.name == "config-differs")
            })
        });
    }
    rig.kill(active);
    rig.client.await_answer_from(other(active));
    assert_eq!(rig.capture.owners(), [active, other(active)]);
}

#[test]
fn either_box_may_be_told_from_the_other_also_over_the_null_modem_alone() {
    let mut rig = Rig::new("words", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let status_of_peer = |rig: &Rig, node: &str| {
        rig.ask(node, &Request::Peer(PeerRequest::Status)).into_iter().find_map(|reply| match reply {
            Reply::Status { status } => Some(*status),
            _ => None,
        })
    };
    assert_eq!(status_of_peer(&rig, standby).unwrap().node, active);
    // A hand-over asked for on the standby is made by the active one.
    let done = rig.order(standby, &Request::Switchover { lose_changes: false }).unwrap();
    assert!(done.contains(&format!("{standby} serves")), "{done}");
    rig.client.await_answer_from(standby);
    rig.await_touch();
    rig.ip("a", "link set cross down");
    rig.ip("lan", "link set dev a down");
    wait("only the null modem is left", || {
        rig.status("a").is_some_and(|s| s.links.iter().all(|link| link.up == (link.name == "null-modem")))
    });
    // The box that lost its LAN may be held by now, and perhaps the service has moved: both answer all the same.
    assert_eq!(status_of_peer(&rig, "a").unwrap().node, "b");
    assert_eq!(status_of_peer(&rig, "b").unwrap().node, "a");
    rig.order("b", &Request::Peer(PeerRequest::Hold { reason: Some("disk swap".into()) })).unwrap();
    wait("a is held", || rig.role("a") == Some(Role::Held));
}

/// 100,000 frames a second with a wrong tag, cut off, or noise, on every link at once.
#[test]
fn floods_on_every_link_move_nothing() {
    let mut rig = Rig::new("flood", DEFAULT);
    let active = rig.start_both();
    let term = rig.status(active).unwrap().term;
    let rejected = |rig: &Rig, node: &str| -> u64 {
        rig.status(node).unwrap().links.iter().map(|link| link.rejected + link.dropped).sum()
    };
    let before = ["a", "b"].map(|node| rejected(&rig, node));
    rig.null_modem.set(WRONG_BAUD);
    let (a, b) = ("10.77.0.2".parse().unwrap(), "10.77.0.3".parse().unwrap());
    let began = clock::now();
    let floods = [
        Flood::start(&rig.name, "client", "lan", flood::direct()),
        Flood::start(&rig.name, "a", "cross", flood::direct()),
        Flood::start(&rig.name, "b", "cross", flood::direct()),
        Flood::start(&rig.name, "witness", "lan", flood::reflected(a, b)),
    ];
    let mut latest = Duration::ZERO;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(100));
        for node in ["a", "b"] {
            // How late the loop woke, and how old the peer's newest heartbeat was: both are counted by the box itself.
            let status = rig.status(node).expect("an answer during the flood");
            latest = latest.max(Duration::from_micros(status.cluster_loop.worst_lateness_us));
            let heard = Duration::from_millis(status.peer.heard_ms_ago.unwrap());
            assert!(heard < LEASE / 2, "{node} heard its peer {heard:?} ago");
        }
    }
    let took = clock::now().since(began);
    let rates = floods.map(|flood| flood.stop() as f64 / took.as_secs_f64());
    let after = ["a", "b"].map(|node| rejected(&rig, node));
    println!("frames a second {rates:.0?}; not applied {before:?} -> {after:?}; loop late by {latest:?} at most");
    assert!((0..2).all(|i| after[i] - before[i] > 10_000), "the floods did not come: {before:?} -> {after:?}");
    assert!(latest < LEASE / 4, "the loop was late by {latest:?}");
    let status = rig.status(active).unwrap();
    assert_eq!((status.role, status.term), (Role::Active, term));
    assert_eq!(rig.role(other(active)), Some(Role::Standby));
    assert_eq!(rig.capture.owners(), [active]);
    rig.null_modem.set(WHOLE);
    rig.await_touch();
}

#[test]
fn the_loop_and_the_disk_are_real_time_and_in_memory_and_services_are_not() {
    let mut rig = Rig::new("real", DEFAULT);
    rig.start_both();
    let pid = rig.pid("a");
    let locked = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = locked.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    assert!(kib("VmLck:") >= kib("VmRSS:"), "{locked}");
    // Name, and policy and real-time priority: fields 41 and 40 of proc_pid_stat(5), counted from behind the name.
    let scheduling = |stat: &str| -> (String, u32, u32) {
        let (name, rest) = stat.split_once(" (").unwrap().1.rsplit_once(") ").unwrap();
        let field = |number: usize| rest.split(' ').nth(number - 3).unwrap().parse().unwrap();
        (name.to_owned(), field(41), field(40))
    };
    let mut threads: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|thread| scheduling(&std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap()))
        .filter(|(_, policy, _)| *policy != 0)
        .collect();
    threads.sort();
    let fifo = u32::try_from(libc::SCHED_FIFO).unwrap();
    let expected = [("twobox", 40), ("twobox-disk", 20), ("twobox-network", 30)];
    assert_eq!(threads, expected.map(|(name, priority)| (name.to_owned(), fifo, priority)));
    let responders = rig::must(&format!("ip netns pids {}-a", rig.name));
    let services = responders.lines().filter(|line| line.parse() != Ok(pid.as_raw()));
    let policies: Vec<u32> = services
        .map(|service| scheduling(&std::fs::read_to_string(format!("/proc/{service}/stat")).unwrap()).1)
        .collect();
    assert!(!policies.is_empty() && policies.iter().all(|policy| *policy == 0), "{policies:?}");
}

#[test]
fn a_drill_goes_there_and_back_and_the_history_knows() {
    let mut rig = Rig::new("drill", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    // A drill refuses while any alarm stands, and the young quorum of either box is one.
    let green = |rig: &Rig, node: &str| rig.status(node).is_some_and(|status| status.alarms.is_empty());
    wait("no alarm on either box", || green(&rig, active) && green(&rig, standby));
    let done = rig.order(standby, &Request::Drill).unwrap();
    assert!(done.contains(&format!("{standby} serves")) && done.contains(&format!("{active} serves")), "{done}");
    assert_eq!(rig.role(active), Some(Role::Active));
    rig.client.await_answer_from(active);
    assert_eq!(rig.capture.owners(), [active, standby, active]);
    let handovers = |rig: &Rig, node: &str| {
        let replies = rig.ask(node, &Request::History { count: 100 });
        replies.iter().filter(|reply| matches!(reply, Reply::Event(e) if e.handover.is_some())).count()
    };
    // Both boxes know of both: who gave the service up and who took it over.
    wait("the history is written", || handovers(&rig, active) == 2 && handovers(&rig, standby) == 2);
    let last = rig.status(standby).unwrap().last_handover.unwrap();
    assert_eq!((last.kind, last.to.as_str()), (HandoverKind::Switchover, active));
    rig.kill(standby);
    assert!(rig.order(active, &Request::Drill).is_err(), "not safe without a peer");
    rig.launch(standby);
    rig.await_touch();
    assert_eq!(handovers(&rig, standby), 2, "the history outlives the program");
    let last = rig.status(standby).unwrap().last_handover.unwrap();
    assert_eq!((last.to.as_str(), last.ago_ms), (active, None), "and so does the last hand-over");
    // Not everything is green: nothing moves, and every reason is told.
    rig.null_modem.set(CUT);
    wait("the null modem down", || rig.status(active).is_some_and(|s| !s.links[0].up));
    let refused = rig.order(standby, &Request::Drill).unwrap_err();
    assert!(refused.contains("not everything is green: null-modem is down"), "{refused}");
    assert_eq!(rig.capture.owners(), [active, standby, active]);
}

/// He was logged in by the service address, which the drill itself has moved.
#[test]
fn a_drill_comes_back_without_the_one_who_ordered_it() {
    let mut rig = Rig::new("hungup", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let green = |rig: &Rig, node: &str| rig.status(node).is_some_and(|status| status.alarms.is_empty());
    wait("no alarm on either box", || green(&rig, active) && green(&rig, standby));
    let mut session = Conversation::start(&rig.path(active, "socket"), &Request::Drill).unwrap();
    while !matches!(session.next_reply().unwrap(), Reply::Progress(step) if step.text == "surrender begun") {}
    drop(session);
    wait("there", || rig.capture.owners().contains(&standby));
    wait("and back", || rig.role(active) == Some(Role::Active));
    rig.client.await_answer_from(active);
    assert_eq!(rig.capture.owners(), [active, standby, active]);
}

/// A scraper and a log host on the LAN see a hand-over; the service address does not answer for them.
#[test]
fn a_scraper_and_a_log_host_see_a_hand_over() {
    let mut rig = Rig::new("observe", DEFAULT);
    for node in ["a", "b"] {
        let observe = "[observe]\nlisten = 9140\nsyslog = \"10.77.0.50:5514\"\n";
        std::fs::write(rig.dir.join(format!("site-{node}.toml")), rig::site(&rig.dir, DEFAULT) + observe).unwrap();
    }
    let name = rig.name.clone();
    let entering = name.clone();
    let bound = std::thread::spawn(move || {
        wire::enter(&entering, "client");
        std::net::UdpSocket::bind("10.77.0.50:5514").unwrap()
    });
    let log_host = bound.join().unwrap();
    log_host.set_read_timeout(Some(rig::PATIENCE)).unwrap();
    let active = rig.start_both();
    let standby = other(active);
    let own = |node: &str| if node == "a" { "10.77.0.2:9140" } else { "10.77.0.3:9140" };
    let role = |node: &str, role: &str| {
        let line = format!("twobox_role{{role=\"{role}\"}} 1\n");
        wait(&format!("{node} is scraped as {role}"), || get(&name, own(node), "/metrics").contains(&line));
    };
    role(active, "active");
    role(standby, "standby");
    let status = get(&name, own(active), "/status");
    let status: twobox::console::status::Status =
        serde_json::from_str(status.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((status.node.as_str(), status.role), (active, Role::Active));
    assert_eq!(get(&name, &format!("{SERVICE}:9140"), "/status"), "", "the service address is nobody's own");
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    role(active, "standby");
    role(standby, "active");
    let counted = get(&name, own(standby), "/metrics");
    assert!(counted.contains("twobox_handovers_total{kind=\"switchover\"} 1\n"), "{counted}");
    let mut heard = Vec::new();
    let told = |heard: &[String], node: &str, what: &str| {
        heard.iter().any(|line| line.contains(&format!("test {node}: ")) && line.contains(what))
    };
    wait("the log host hears of it", || {
        let mut datagram = [0; 2048];
        let length = log_host.recv(&mut datagram).unwrap();
        heard.push(String::from_utf8(datagram[..length].to_vec()).unwrap());
        told(&heard, standby, "claiming -> active")
            && told(&heard, standby, &format!("switchover to {standby}"))
            && told(&heard, active, &format!("switchover to {standby}"))
    });
    // The process that answers is killed: it comes again, and the pair has not noticed.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", rig.pid(active))).unwrap_or_default();
    let helpers = std::fs::read_dir(format!("/proc/{}/task", rig.pid(active))).unwrap();
    let all = helpers.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    let observer =
        all.chain([children]).flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let observer: Vec<String> = observer
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("observe-child"))
        })
        .collect();
    let pid = nix::unistd::Pid::from_raw(observer[0].parse().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    role(active, "standby");
    assert_eq!(rig.capture.owners(), [active, standby]);
}

/// The answer to a request from the client; empty when nobody listens there.
fn get(name: &str, address: &str, path: &str) -> String {
    let (name, address, path) = (name.to_owned(), address.to_owned(), path.to_owned());
    let asking = std::thread::spawn(move || {
        wire::enter(&name, "client");
        let mut answer = String::new();
        let timeout = Duration::from_secs(5);
        if let Ok(mut stream) = TcpStream::connect_timeout(&address.parse().unwrap(), timeout) {
            stream.set_read_timeout(Some(timeout)).unwrap();
            let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: box\r\n\r\n").as_bytes());
            let _ = stream.read_to_string(&mut answer); // an empty answer says it
        }
        answer
    });
    asking.join().unwrap()
}

#[test]
fn the_standby_has_the_trees_and_a_hand_over_loses_nothing() {
    let mut rig = Rig::new("mirror", DEFAULT);
    for node in ["a", "b"] {
        std::fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let mirror = "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1s\"\n";
        let mirror = mirror.replace("DIR", rig.dir.to_str().unwrap());
        std::fs::write(rig.dir.join(format!("site-{node}.toml")), rig::site(&rig.dir, DEFAULT) + &mirror).unwrap();
    }
    let active = rig.start_both();
    let standby = other(active);
    let (of_a, of_b) = (rig.path("a", "data").join("mail"), rig.path("b", "data").join("mail"));
    let data = |node: &str| if node == "a" { &of_a } else { &of_b };
    std::fs::write(data(active).join("first"), "one").unwrap();
    wait("the first file is there", || std::fs::read(data(standby).join("first")).is_ok_and(|text| text == b"one"));
    for node in ["a", "b"] {
        let by = rig.status(node).unwrap().mirror_confinement.unwrap();
        assert!(by.contains("other file systems") && !by.contains("without"), "{by}");
    }
    std::fs::write(data(active).join("last"), "written just before").unwrap();
    rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    assert_eq!(std::fs::read(data(standby).join("last")).unwrap(), b"written just before");
    rig.client.await_answer_from(standby);
    // And the other way round.
    rig.await_touch();
    std::fs::write(data(standby).join("back"), "two").unwrap();
    wait("the way back", || std::fs::read(data(active).join("back")).is_ok_and(|text| text == b"two"));
}
