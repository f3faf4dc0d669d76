//! What a link that breaks or is not there means to the box that sends: no harm to a tree, and few words.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;

use twobox::mirror::channel::{Channel, link_key};
use twobox::mirror::control::{Report, State};
use twobox::mirror::message::Message;
use twobox::time::Duration;

use crate::crash::Children;
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
    assert_eq!(broken, 2);
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
    assert_eq!(words.lines().filter(|line| line.contains("refused")).count(), 1, "{words}");
}
