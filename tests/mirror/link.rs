//! What a link that breaks or is not there means to the box that sends: no harm to a tree, and few words.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;

use twobox::mirror::channel::{Channel, link_key};
use twobox::mirror::control::{
    self, Cause, Generation, Link, LinkKey, MaxDelete, Order, Report, Role, Settings, State, TreeSettings, When,
};
use twobox::mirror::links::Acceptor;
use twobox::mirror::message::Message;
use twobox::time::Duration;

use crate::crash::{Children, free_port};
use crate::rig::Pair;

#[test]
fn a_link_that_breaks_in_mid_cycle_blocks_no_tree() {
    let pair = Pair::new();
    fs::write(pair.a().join("file"), b"content").unwrap();
    let children = Children::new(&pair);
    let key = link_key(fs::read_to_string(pair.home.join("key")).unwrap().trim().as_bytes());
    let listener = TcpListener::bind(children.address).unwrap();
    let mut sender = children.start("a", "send", &[]);
    let accept = || Channel::accept(listener.accept().unwrap().0, &key).unwrap();
    for _ in 0..2 {
        let (out, mut incoming) = accept().start(None, None).unwrap();
        let (kind, payload) = incoming.next(Duration::from_secs(20)).unwrap();
        assert!(matches!(Message::decode(kind, payload).unwrap(), Message::Begin { .. }));
        drop((out, incoming));
    }
    drop(accept()); // it has come again, so it has seen that the link broke
    sender.kill().unwrap();
    let reports = sender.wait_with_output().unwrap().stdout;
    let mut broken = 0;
    for line in String::from_utf8(reports).unwrap().lines() {
        match serde_json::from_str(line) {
            Ok(Report::Connected { peer: None }) => broken += 1,
            Ok(Report::Trees { trees }) => assert!(trees.iter().all(|tree| tree.state != State::Blocked), "{line}"),
            Ok(Report::Alarm { text: Some(text), .. }) => panic!("an alarm: {text}"),
            _ => {} // the last line may be cut
        }
    }
    // What it made of the last connection, which was dropped as well, it may have said before it was killed.
    assert!((2..=3).contains(&broken), "{broken}");
}

#[test]
fn a_standby_that_is_not_there_is_told_once() {
    let pair = Pair::new();
    let children = Children::new(&pair);
    let mut sender = children.command("a", "send", &[]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    thread::sleep(std::time::Duration::from_millis(4500)); // it tries once a second
    sender.kill().unwrap();
    let mut words = String::new();
    sender.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    sender.wait().unwrap();
    assert_eq!(words.lines().filter(|line| line.contains("takes no connection")).count(), 1, "{words}");
}

/// A box that takes a role anew listens at once: the socket of its former role is not in the way.
#[test]
fn a_listener_makes_room_for_the_next_one_at_once() {
    let key = link_key(b"test");
    let address = free_port();
    for round in 0..10 {
        let (sender, came) = std::sync::mpsc::channel();
        let acceptor =
            Acceptor::start(vec![Link::Address(address)], 0, key, move |_| sender.send(()).unwrap()).unwrap();
        let connected = Channel::connect(address, &key, Duration::from_secs(5));
        assert!(connected.is_ok(), "round {round}: {connected:?}");
        came.recv_timeout(Duration::from_secs(10)).unwrap();
        drop(acceptor);
        assert!(Channel::connect(address, &key, Duration::from_secs(5)).is_err(), "somebody still listens");
    }
}

/// Whoever is on the network may connect: to say nothing, or a word that never ends.
#[test]
fn a_peer_waits_for_no_stranger() {
    let key = link_key(b"test");
    let address = free_port();
    let (sender, came) = std::sync::mpsc::channel();
    let _acceptor = Acceptor::start(vec![Link::Address(address)], 0, key, move |_| sender.send(()).unwrap()).unwrap();
    for strangers in [3, 40] {
        let strangers: Vec<_> = (0..strangers).map(|_| TcpStream::connect(address).unwrap()).collect();
        let connected = Channel::connect(address, &key, Duration::from_secs(5));
        assert!(connected.is_ok(), "beside {} strangers: {connected:?}", strangers.len());
        came.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    // A word of 60,000 bytes, one of them a second.
    let mut slow = TcpStream::connect(address).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    slow.write_all(&60_000u16.to_be_bytes()).unwrap();
    let hung_up = (0..30).any(|_| {
        let _ = slow.write_all(b"x");
        !slow.read(&mut [0]).is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    });
    assert!(hung_up, "it is listened to for ever");
}

/// A child as the daemon starts it: orders on its standard input, reports and words to be read.
struct Ordered {
    child: std::process::Child,
    orders: std::os::unix::net::UnixStream,
    reports: std::io::BufReader<std::os::unix::net::UnixStream>,
}

impl Ordered {
    fn start(settings: &Settings) -> Self {
        let (orders, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        orders.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_twobox"))
            .arg("mirror-child")
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let reports = std::io::BufReader::new(orders.try_clone().unwrap());
        let mut ordered = Ordered { child, orders, reports };
        ordered.await_report(|report| matches!(report, Report::Ready));
        ordered.order(&Order::Configure { settings: settings.clone() });
        ordered
    }

    fn order(&mut self, order: &Order) {
        control::write(&mut self.orders, order).unwrap();
    }

    fn await_report(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        loop {
            let report = control::read::<Report>(&mut self.reports).unwrap().expect("the child has ended");
            if wanted(&report) {
                return report;
            }
        }
    }

    /// What it has logged.
    fn end(mut self) -> String {
        self.child.kill().unwrap();
        let mut words = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        self.child.wait().unwrap();
        words
    }
}

fn settings(pair: &Pair, tree: &str) -> Settings {
    Settings {
        key: LinkKey(link_key(b"test")),
        port: 0,
        trees: vec![TreeSettings {
            tree: pair.home.join(tree),
            when: When::EveryMs(1000),
            exclude: Vec::new(),
            max_delete: MaxDelete::Percent(25),
            store: Some(pair.home.join("a")),
        }],
        bytes_per_second: None,
        lan_bytes_per_second: None,
    }
}

#[test]
fn a_change_of_role_needs_no_second_try_to_listen() {
    let pair = Pair::new();
    let mut child = Ordered::start(&settings(&pair, "a/tree"));
    let links = vec![Link::Address(free_port())];
    for term in 1..8 {
        let generation = Generation { term, boot: 1 };
        child.order(&Order::Role { role: Role::Receive, generation, links: links.clone() });
        child.await_report(|report| matches!(report, Report::Settled { generation: of, .. } if *of == generation));
    }
    let words = child.end();
    assert!(!words.contains("connect over"), "{words}");
}

#[test]
fn a_tree_that_is_missing_is_told_as_missing_and_not_as_harm() {
    let pair = Pair::new();
    let of_tree = |report: Report| match report {
        Report::Trees { mut trees } => trees.remove(0),
        other => panic!("{other:?}"),
    };
    let role = |role, term| Order::Role {
        role,
        generation: Generation { term, boot: 1 },
        links: vec![Link::Address(free_port())],
    };
    let settled = |report: &Report| matches!(report, Report::Settled { .. });
    let trees = |report: &Report| matches!(report, Report::Trees { .. });
    let mut child = Ordered::start(&settings(&pair, "a/nowhere"));
    // Its first cycle makes a copy: there is nothing to be done.
    child.order(&role(Role::Receive, 1));
    child.await_report(settled);
    let figures = of_tree(child.await_report(trees));
    assert_eq!((figures.state, figures.cause, figures.reason), (State::Idle, None, None));
    // A source has nobody who makes it.
    child.order(&role(Role::Send, 2));
    child.await_report(settled);
    let figures = of_tree(child.await_report(trees));
    assert_eq!((figures.state, figures.cause), (State::Blocked, Some(Cause::Missing)));
    let reason = figures.reason.unwrap();
    assert!(reason.ends_with("a/nowhere is not there"), "{reason}");
    child.end();
}

#[test]
fn a_sync_without_a_standby_says_what_to_do_in_plain_words() {
    let pair = Pair::new();
    let address = free_port();
    let mut child = Ordered::start(&settings(&pair, "a/tree"));
    let links = vec![Link::Address(address)];
    child.order(&Order::Role { role: Role::Send, generation: Generation { term: 1, boot: 1 }, links });
    let mut ask = |request| {
        child.order(&Order::Sync { request, tree: None, confirm_delete: false });
        match child.await_report(|report| matches!(report, Report::Refused { .. } | Report::Done { .. })) {
            Report::Refused { reason, remedy, .. } => (reason, remedy),
            other => panic!("{other:?}"),
        }
    };
    let plain = |(reason, remedy): &(String, String)| {
        assert!(!reason.contains("os error") && !reason.contains("buffer"), "{reason}");
        assert!(remedy.contains("crossover"), "{remedy}");
    };
    let refused = ask(1);
    assert!(refused.0.contains("cannot be reached: the peer's mirror takes no connection"), "{}", refused.0);
    plain(&refused);
    // Somebody listens who hangs up at the first word.
    let listener = TcpListener::bind(address).unwrap();
    let hang_up = |listener: TcpListener| {
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                drop(stream);
            }
        })
    };
    hang_up(listener);
    let refused = ask(2);
    assert!(refused.0.contains("hung up in the handshake"), "{}", refused.0);
    plain(&refused);
    child.end();
}

/// The connection may have died long before the cycle that finds it dead: the tree is not left for another period.
#[test]
fn a_cycle_that_is_cut_off_does_not_wait_for_its_period() {
    let pair = Pair::new();
    let address = free_port();
    let key = link_key(b"test");
    let listener = TcpListener::bind(address).unwrap();
    let (begun, begins) = std::sync::mpsc::channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let channel = Channel::accept(stream, &key).and_then(|channel| channel.start(None, None));
            if let Ok((_out, mut incoming)) = channel
                && incoming.next(Duration::from_secs(120)).is_ok()
            {
                let _ = begun.send(());
            }
        }
    });
    let mut settings = settings(&pair, "a/tree");
    settings.trees[0].when = When::EveryMs(3_600_000);
    let mut child = Ordered::start(&settings);
    let links = vec![Link::Address(address)];
    child.order(&Order::Role { role: Role::Send, generation: Generation { term: 1, boot: 1 }, links });
    for cycle in 0..3 {
        assert!(begins.recv_timeout(Duration::from_secs(120)).is_ok(), "cycle {cycle} did not begin");
    }
    child.end();
}

/// A connection may have died without a word: who asks for a cycle gets it all the same, on a new one.
#[test]
fn a_cycle_that_is_waited_for_begins_again_on_a_new_connection() {
    let pair = Pair::new();
    let content = vec![7; 100_000];
    fs::write(pair.a().join("file"), &content).unwrap();
    let here = Children::new(&pair);
    let there = Children::new(&pair);
    let mut receiver = there.start("b", "receive", &[]);
    Children::settle(&mut receiver);
    // The handshake and the first words get through, then the cable is cut: twice.
    let (listener, to) = (TcpListener::bind(here.address).unwrap(), there.address);
    thread::spawn(move || {
        for cut_after in [1000, 1000, u64::MAX] {
            let (near, far) = (listener.accept().unwrap().0, TcpStream::connect(to).unwrap());
            let (mut from, mut back) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut back));
            let _ = std::io::copy(&mut Read::take(&near, cut_after), &mut &far); // a connection that is reset ends too
            let _ = (near.shutdown(Shutdown::Both), far.shutdown(Shutdown::Both));
        }
    });
    let sender = here.start("a", "send", &["--once"]).wait_with_output().unwrap();
    crate::crash::end(receiver);
    assert!(sender.status.success(), "{}", String::from_utf8_lossy(&sender.stdout));
    assert_eq!(fs::read(pair.b().join("file")).unwrap(), content);
}

/// The order comes while the connection is being made, when there is none yet that it could end.
#[test]
fn a_change_of_role_ends_the_connection_that_is_being_made() {
    let pair = Pair::new();
    let address = free_port();
    let key = link_key(b"test");
    let listener = TcpListener::bind(address).unwrap();
    let mut child = Ordered::start(&settings(&pair, "a/tree"));
    let role = |role, term| Order::Role {
        role,
        generation: Generation { term, boot: 1 },
        links: vec![Link::Address(address)],
    };
    child.order(&role(Role::Send, 1));
    let (stream, _) = listener.accept().unwrap();
    child.order(&role(Role::Idle, 2));
    thread::sleep(Duration::from_secs(1)); // it has read the order
    let (_out, mut incoming) = Channel::accept(stream, &key).and_then(|channel| channel.start(None, None)).unwrap();
    let heard = incoming.next(Duration::from_secs(20)).map(|(kind, _)| kind);
    assert!(heard.as_ref().is_err_and(|e| e.kind() != ErrorKind::WouldBlock), "a cycle of the former role: {heard:?}");
    child.end();
}

#[test]
fn a_standby_that_goes_in_mid_cycle_is_told_in_plain_words() {
    let pair = Pair::new();
    let address = free_port();
    let key = link_key(b"test");
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let Ok((out, mut incoming)) = Channel::accept(stream, &key).and_then(|channel| channel.start(None, None))
            else {
                continue;
            };
            let _ = incoming.next(Duration::from_secs(20)); // Begin
            drop((out, incoming));
        }
    });
    let mut child = Ordered::start(&settings(&pair, "a/tree"));
    let links = vec![Link::Address(address)];
    child.order(&Order::Role { role: Role::Send, generation: Generation { term: 1, boot: 1 }, links });
    child.order(&Order::Sync { request: 1, tree: None, confirm_delete: false });
    let report = child.await_report(|report| matches!(report, Report::Refused { .. }));
    let Report::Refused { reason, remedy, .. } = report else { panic!() };
    assert!(reason.ends_with("the connection to the peer's mirror broke"), "{reason}");
    assert!(remedy.contains("crossover"), "{remedy}");
    child.end();
}
