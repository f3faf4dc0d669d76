//! Two sides of one tree on one machine, and a link between them over loopback.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use twobox::mirror::channel::{Channel, link_key};
use twobox::mirror::control::{Generation, MaxDelete, TreeSettings, When};
use twobox::mirror::message::Message;
use twobox::mirror::outcome::{Deletions, Verdict};
use twobox::mirror::sender::{self, Order, Progress, Sent};
use twobox::mirror::side::Side;
use twobox::mirror::stop::Stop;
use twobox::mirror::watch::Dirty;
use twobox::mirror::{publish, receiver, refresh};
use twobox::time::Duration;

static NUMBER: AtomicU64 = AtomicU64::new(0);

pub const TERM_1: Generation = Generation { term: 1, boot: 0xa };

/// A directory of its own for one test, removed at the end.
pub struct Pair {
    pub home: PathBuf,
    pub max_delete: MaxDelete,
    pub exclude: Vec<String>,
    /// Trees below `tree` that have an entry of their own.
    pub nested: Vec<String>,
    /// Where side b lies, if not beside side a.
    elsewhere: Option<PathBuf>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        crate::disk::unmount_below(&self.home);
        if let Err(e) = std::fs::remove_dir_all(&self.home)
            && !thread::panicking()
        {
            panic!("{} is left over: {e}", self.home.display());
        }
    }
}

/// A way to `to` over which so many bytes come, and then nothing more.
fn break_after(bytes: u64, to: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || -> io::Result<()> {
        let (near, far) = (listener.accept()?.0, TcpStream::connect(to)?);
        let (mut back_from, mut back_to) = (far.try_clone()?, near.try_clone()?);
        thread::spawn(move || io::copy(&mut back_from, &mut back_to));
        io::copy(&mut io::Read::take(&near, bytes), &mut &far)?;
        near.shutdown(Shutdown::Both)?;
        far.shutdown(Shutdown::Both)
    });
    Ok(address)
}

fn unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// How a cycle of a test goes.
pub struct Way<'a> {
    pub generation: Generation,
    pub confirmed: bool,
    pub events: Option<&'a Dirty>,
    /// Breaks the connection when so many bytes have gone.
    pub break_at: Option<u64>,
    /// Both sides read everything and compare.
    pub verify: bool,
    /// What was listed before it was, or would have been, deleted.
    pub deletions: &'a dyn Fn(&Deletions),
}

impl Default for Way<'_> {
    fn default() -> Self {
        Way { generation: TERM_1, confirmed: false, events: None, break_at: None, verify: false, deletions: &|_| {} }
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
        Pair { home, max_delete: MaxDelete::Percent(100), exclude: Vec::new(), nested: Vec::new(), elsewhere: None }
    }

    /// With side b in another place.
    pub fn with_b_in(mut self, base: &Path) -> Self {
        let b = base.join("b");
        std::fs::create_dir_all(b.join("tree")).unwrap();
        self.elsewhere = Some(b);
        self
    }

    /// The directory that holds a side's tree and store.
    pub fn place(&self, side: &str) -> PathBuf {
        self.elsewhere.clone().filter(|_| side == "b").unwrap_or_else(|| self.home.join(side))
    }

    pub fn tree(&self, side: &str) -> PathBuf {
        self.place(side).join("tree")
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
            store: Some(self.place(side)),
        }
    }

    pub fn side(&self, side: &str) -> Side {
        self.try_side(side).unwrap()
    }

    fn try_side(&self, side: &str) -> io::Result<Side> {
        let own = self.settings(side);
        let nested = self.nested.iter().map(|below| TreeSettings { tree: own.tree.join(below), ..own.clone() });
        let all: Vec<TreeSettings> = nested.chain([own.clone()]).collect();
        Side::open(&own, &all, Some(false))
    }

    /// One cycle from `from` to `to`, and the bytes that it put on the link.
    pub fn cycle(
        &self,
        from: &str,
        to: &str,
        way: &Way<'_>,
        report: &mut dyn FnMut(&Progress),
    ) -> io::Result<(Sent, u64)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let key = link_key(b"test");
        let verify = way.verify;
        let (sending, receiving) = (self.try_side(from)?, self.try_side(to)?);
        let receiver = thread::spawn(move || -> io::Result<()> {
            publish::replay(&receiving, 0)?;
            refresh::refresh(&receiving, verify, &Stop::default())?;
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
                match receiver::cycle(&receiving, generation, &mut incoming, &mut out, unix_s()) {
                    // The sender went, perhaps before its word that it gives up had left.
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    other => other?,
                };
            }
        });
        let address = way.break_at.map_or(Ok(address), |bytes| break_after(bytes, address))?;
        let channel = Channel::connect(address, &key, Duration::from_secs(5))?;
        let (mut out, mut incoming) = channel.start(Some(way.generation), None)?;
        let order = Order {
            events: way.events,
            confirmed: way.confirmed,
            verify,
            generation: way.generation,
            unix_s: unix_s(),
            deletions: way.deletions,
        };
        let sent = sender::cycle(&sending, &order, &mut incoming, &mut out, report);
        let bytes = out.counters().sent.load(Ordering::Relaxed);
        drop((out, incoming));
        let received = receiver.join().unwrap();
        if way.break_at.is_some() {
            assert!(sent.is_err(), "it was done before the connection broke");
            return Ok((Sent::default(), bytes));
        }
        let sent = sent.map_err(|e| io::Error::other(format!("{e}; receiver: {received:?}")))?;
        received?;
        Ok((sent, bytes))
    }

    pub fn try_sync(&self, from: &str, to: &str, generation: Generation, confirmed: bool) -> io::Result<(Sent, u64)> {
        self.cycle(from, to, &Way { generation, confirmed, ..Way::default() }, &mut |_| {})
    }

    #[track_caller]
    pub fn sync(&self) -> (Sent, u64) {
        let (sent, bytes) = self.try_sync("a", "b", TERM_1, false).unwrap();
        assert_eq!(sent.blocked, None);
        (sent, bytes)
    }

    /// A cycle of which the sender knows what may have changed.
    pub fn sync_by(&self, events: Option<&Dirty>) -> Sent {
        let way = Way { events, ..Way::default() };
        let (sent, _) = self.cycle("a", "b", &way, &mut |_| {}).unwrap();
        assert_eq!(sent.blocked, None);
        sent
    }

    /// Both sides are compared, and healed.
    pub fn verify(&self) -> Verdict {
        let (sent, _) = self.cycle("a", "b", &Way { verify: true, ..Way::default() }, &mut |_| {}).unwrap();
        assert_eq!(sent.blocked, None);
        sent.verdict.expect("a verdict")
    }

    /// A cycle whose connection breaks when so many bytes have gone: how many it was.
    pub fn sync_until(&self, bytes: u64) -> u64 {
        let way = Way { break_at: Some(bytes), ..Way::default() };
        self.cycle("a", "b", &way, &mut |_| {}).unwrap().1
    }
}
