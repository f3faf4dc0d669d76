use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::pty::openpty;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ttyname, write};

use super::super::sources::Sources;
use super::*;
use crate::realtime::{self, Thread};
use crate::time::Duration;

fn of(null_modem: NullModem) -> Links {
    Links {
        null_modem: Some(null_modem),
        crossover: None,
        crossover_is_missing: false,
        lan: None,
        witnesses: None,
        neighbor: Neighbor::new(None, Instant::BOOT),
        rejected: [[0; Reject::ALL.len()]; PATHS],
        tallies: [Tally::default(); WITNESSES],
        outage: Outage::default(),
        lan_is_back: false,
        last_serial_beat: Instant::BOOT,
    }
}

fn seal() -> Seal {
    Seal::new(Side::A, BootId::new(1).unwrap(), "pair", &[1; 32])
}

/// A promise counts from the receipt: a time from before the drain would end it too early.
#[test]
fn what_came_has_a_time_that_is_not_earlier_than_its_receipt() {
    let pty = openpty(None, None).unwrap();
    let path = ttyname(&pty.slave).unwrap();
    let mut links = of(NullModem::new(Serial::open(path.to_str().unwrap(), 115_200).unwrap()));
    let seal = seal();
    let mut payload = [0; 40];
    payload[..side::MAGIC.len()].copy_from_slice(&side::MAGIC);
    let mut frame = [0; framing::FRAME_MAX];
    write(&pty.master, framing::encode(&payload, &mut frame).unwrap()).unwrap();
    let sent = clock::now();
    let mut times = Vec::new();
    while times.is_empty() {
        links.drain(Ready::ALL, &seal, |at, _| times.push(at));
        assert!(clock::now().since(sent) < Duration::from_secs(10), "the fragment does not come");
    }
    assert!(times.iter().all(|at| *at >= sent), "{times:?} is earlier than {sent:?}");
}

/// The cable of another pair, in a rack with several: whatever comes by it, it is not the peer's.
#[test]
fn a_box_of_another_pair_at_the_other_end_is_named() {
    let pty = openpty(None, None).unwrap();
    let path = ttyname(&pty.slave).unwrap();
    let mut links = of(NullModem::new(Serial::open(path.to_str().unwrap(), 115_200).unwrap()));
    let seal = seal();
    let mut say = |magic: [u8; 2], frames: usize| {
        let mut payload = [0; heartbeat::SIZE];
        payload[..2].copy_from_slice(&magic);
        payload[2] = heartbeat::VERSION;
        let mut frame = [0; framing::FRAME_MAX];
        let frame = framing::encode(&payload, &mut frame).unwrap();
        write(&pty.master, frame).unwrap();
        let began = clock::now();
        let came = |links: &mut Links| links.null_modem.as_ref().unwrap().port.counters().bytes_in;
        while came(&mut links) < (frames * frame.len()) as u64 {
            links.drain(Ready::ALL, &seal, |_, _| ());
            assert!(clock::now().since(began) < Duration::from_secs(10), "the frame does not come");
        }
        let now = clock::now();
        (links.look_after(now), links.seen(now, NULL_MODEM).finding)
    };
    assert_eq!(say(side::MAGIC, 1), (0, Some("silence")), "anybody may send a fragment");
    assert_eq!(say(heartbeat::MAGIC, 2), (0, Some("frames of another pair, or with another key")));
}

/// Bytes are carried from the driver to the reader by an ordinary thread of the kernel. While real-time threads have all
/// processors, that one gets none, and the loop has its other links to look after.
#[test]
fn a_line_whose_bytes_are_still_under_way_is_not_waited_for() {
    let pty = openpty(None, None).unwrap();
    let path = ttyname(&pty.slave).unwrap();
    let mut links = of(NullModem::new(Serial::open(path.to_str().unwrap(), 115_200).unwrap()));
    let mut sources = Sources::new().unwrap();
    for (source, descriptor) in links.descriptors() {
        sources.add(descriptor, source).unwrap();
    }
    let hogs = Hogs::new();
    let reader = || {
        let priority = realtime::prioritize(Thread::Loop);
        hogs.let_loose();
        priority.ok()?;
        let mut heard = 0;
        let mut rounds_beside_hogs = 0;
        let mut turn = |links: &mut Links| {
            links.drain(sources.look(), &seal(), |_, _| ());
            heard = links.null_modem.as_ref().unwrap().port.counters().bytes_in;
            heard
        };
        for _ in 0..20 {
            write(&pty.master, b"garbage").unwrap();
            turn(&mut links);
            rounds_beside_hogs += u32::from(hogs.all_at_it());
        }
        hogs.end();
        let ended = clock::now();
        while turn(&mut links) < 20 * 7 {
            assert!(clock::now().since(ended) < Duration::from_secs(10), "what was under way has never come");
        }
        Some(rounds_beside_hogs)
    };
    match hogs.beside(reader) {
        None => eprintln!("skipped: no permission for real-time threads"),
        Some(rounds) => assert_eq!(rounds, 20, "the loop waited until the processors were free"),
    }
}

/// Real-time threads that take all processors for a while, below the loop's priority.
struct Hogs {
    all: usize,
    start: Barrier,
    at_it: AtomicUsize,
    over: AtomicBool,
}

impl Hogs {
    /// Of processor time: long enough for who does not wait, and shorter than the kernel lets them (sched(7)).
    const LONG: Duration = Duration::from_millis(500);

    fn new() -> Hogs {
        let all = std::thread::available_parallelism().unwrap().get();
        Hogs { all, start: Barrier::new(all + 1), at_it: AtomicUsize::new(0), over: AtomicBool::new(false) }
    }

    fn all_at_it(&self) -> bool {
        self.at_it.load(Ordering::SeqCst) == self.all && !self.over.load(Ordering::SeqCst)
    }

    /// Starts them. Whoever calls this has a higher priority, or may not come back before they are over.
    fn let_loose(&self) {
        self.start.wait();
        while !self.all_at_it() {
            assert!(!self.over.load(Ordering::SeqCst), "they never ran all together");
            #[allow(clippy::disallowed_methods)] // they have to get a processor first
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    fn beside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            for _ in 0..self.all {
                scope.spawn(|| {
                    self.start.wait();
                    let _ = realtime::prioritize(Thread::Disk);
                    self.at_it.fetch_add(1, Ordering::SeqCst);
                    while processor_time() < Self::LONG && !self.over.load(Ordering::SeqCst) {
                        core::hint::spin_loop();
                    }
                    self.end();
                });
            }
            let worked = scope.spawn(work).join();
            self.end();
            worked.unwrap()
        })
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}
