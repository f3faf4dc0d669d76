//! Two sides of one tree on one machine, and a link between them over loopback.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use twobox::mirror::channel::{Channel, link_key};
use twobox::mirror::control::{Generation, MaxDelete, TreeSettings, When};
use twobox::mirror::message::Message;
use twobox::mirror::sender::{self, Order, Sent};
use twobox::mirror::side::Side;
use twobox::mirror::{publish, receiver, refresh};
use twobox::time::Duration;

static NUMBER: AtomicU64 = AtomicU64::new(0);

pub const TERM_1: Generation = Generation { term: 1, boot: 0xa };

/// A directory of its own for one test, removed at the end.
pub struct Pair {
    pub home: PathBuf,
    pub max_delete: MaxDelete,
    pub exclude: Vec<String>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

impl Pair {
    pub fn new() -> Self {
        // In memory by default: a test waits for no other's writes. TWOBOX_TEST_DIR chooses a file system to test.
        let shm = || Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir);
        let base = std::env::var_os("TWOBOX_TEST_DIR").map_or_else(shm, PathBuf::from);
        Self::in_directory(&base)
    }

    pub fn in_directory(base: &Path) -> Self {
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let home = base.join(format!("tbmr-{}-{n}", std::process::id()));
        for side in ["a", "b"] {
            std::fs::create_dir_all(home.join(side).join("tree")).unwrap();
        }
        Pair { home, max_delete: MaxDelete::Percent(100), exclude: Vec::new() }
    }

    pub fn tree(&self, side: &str) -> PathBuf {
        self.home.join(side).join("tree")
    }

    pub fn a(&self) -> PathBuf {
        self.tree("a")
    }

    pub fn b(&self) -> PathBuf {
        self.tree("b")
    }

    pub fn settings(&self, side: &str) -> TreeSettings {
        TreeSettings {
            tree: self.tree(side),
            when: When::EveryMs(1000),
            exclude: self.exclude.clone(),
            max_delete: self.max_delete,
            store: Some(self.home.join(side)),
        }
    }

    pub fn side(&self, side: &str) -> Side {
        Side::open(&self.settings(side), &[], Some(false)).unwrap()
    }

    /// One cycle from `from` to `to`.
    pub fn try_sync(&self, from: &str, to: &str, generation: Generation, confirmed: bool) -> io::Result<(Sent, u64)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let key = link_key(b"test");
        let receiving = self.side(to);
        let receiver = thread::spawn(move || -> io::Result<()> {
            publish::replay(&receiving, 0)?;
            refresh::refresh(&receiving, false)?;
            let channel = Channel::accept(listener.accept()?.0, &key)?;
            let (mut out, mut incoming) = channel.start(None, None)?;
            loop {
                let begin = match incoming.next(Duration::from_secs(20)) {
                    Ok((kind, payload)) => Message::decode(kind, payload)?,
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(e) => return Err(e),
                };
                assert!(matches!(begin, Message::Begin { .. }), "{begin:?}");
                let generation = incoming.generation();
                match receiver::cycle(&receiving, generation, &mut incoming, &mut out, 0) {
                    // The sender went, perhaps before its word that it gives up had left.
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    other => other?,
                };
            }
        });
        let sending = self.side(from);
        let channel = Channel::connect(address, &key, Duration::from_secs(5))?;
        let (mut out, mut incoming) = channel.start(Some(generation), None)?;
        let order = Order { events: None, confirmed, verify: false, generation, unix_s: 0 };
        let sent = sender::cycle(&sending, &order, &mut incoming, &mut out, &mut |_| {});
        let bytes = out.counters().sent.load(Ordering::Relaxed);
        drop((out, incoming));
        let received = receiver.join().unwrap();
        let sent = sent.map_err(|e| io::Error::other(format!("{e}; receiver: {received:?}")))?;
        received?;
        Ok((sent, bytes))
    }

    #[track_caller]
    pub fn sync(&self) -> (Sent, u64) {
        let (sent, bytes) = self.try_sync("a", "b", TERM_1, false).unwrap();
        assert_eq!(sent.blocked, None);
        (sent, bytes)
    }
}
