//! Two boxes at rest, for years: a comparison of trees that are equal is no reason to write.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use twobox::mirror::channel::{Channel, link_key};
use twobox::mirror::message::Message;
use twobox::mirror::receiver;
use twobox::mirror::sender::{self, Order};
use twobox::mirror::watch::Dirty;

use crate::rig::{Pair, TERM_1};

/// Every file of a store, with its size and the times of its last change.
fn look(store: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            if stat.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (stat.size(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()));
        }
    }
    found
}

#[test]
fn trees_that_are_equal_are_compared_without_a_write() {
    let pair = Pair::new();
    fs::create_dir(pair.a().join("folder")).unwrap();
    fs::write(pair.a().join("folder/letter"), b"dear").unwrap();
    fs::write(pair.a().join("large"), crate::basic::noise(1 << 20, 5)).unwrap();
    let (sending, receiving) = (pair.side("a"), pair.side("b"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, key) = (listener.local_addr().unwrap(), link_key(b"test"));
    let standby = thread::spawn(move || {
        let channel = Channel::accept(listener.accept().unwrap().0, &key).unwrap();
        let (mut out, mut incoming) = channel.start(None, None).unwrap();
        while let Ok((kind, payload)) = incoming.next(Duration::from_secs(20)) {
            assert!(matches!(Message::decode(kind, payload).unwrap(), Message::Begin { .. }));
            let generation = incoming.generation();
            receiver::cycle(&receiving, generation, &mut incoming, &mut out, 7).unwrap();
        }
    });
    let channel = Channel::connect(address, &link_key(b"test"), Duration::from_secs(5)).unwrap();
    let (mut out, mut incoming) = channel.start(Some(TERM_1), None).unwrap();
    let quiet = Dirty::default();
    let mut looks = Vec::new();
    for round in 0..4 {
        let events = if round == 0 { None } else { Some(&quiet) };
        let order = Order {
            events,
            confirmed: false,
            verify: false,
            generation: TERM_1,
            unix_s: 1000 + round,
            deletions: &|_| {},
        };
        let sent = sender::cycle(&sending, &order, &mut incoming, &mut out, &mut |_| {}).unwrap();
        assert_eq!((sent.blocked, sent.put > 0), (None, round == 0));
        looks.push(["a", "b"].map(|side| look(&pair.place(side).join(".twobox"))));
        thread::sleep(Duration::from_millis(50)); // the file system's clock goes on
    }
    drop((out, incoming));
    standby.join().unwrap();
    assert!(looks[0][0].len() > 3 && looks[0][1].len() > 3, "{looks:?}");
    assert_eq!(looks[1], looks[2]);
    assert_eq!(looks[2], looks[3]);
}
