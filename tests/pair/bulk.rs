//! Heartbeats beside bulk: the largest transfer there is, on a processor that both boxes have to share.
#![allow(unsafe_code)] // SIOCGSTAMPNS has no wrapper

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use twobox::clock;
use twobox::link::ethernet::ETHER_TYPE;
use twobox::time::Duration;

use crate::rig::wire;
use crate::rig::{self, Rig, other};

/// What is copied: bytes in one file.
const BULK: usize = 256 << 20;
/// Heartbeats on ethernet in the default profile.
const INTERVAL: Duration = Duration::from_millis(50);
/// A heartbeat is late after one and a half intervals, as the node counts.
const LATE: Duration = Duration::from_millis(75);
/// For a copy on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Records when the kernel received each heartbeat on one end of the crossover.
struct Listener {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Listener {
    fn start(rig: &Rig, node: &'static str) -> Self {
        let (name, stop) = (rig.name.clone(), Arc::new(AtomicBool::new(false)));
        let ending = stop.clone();
        let thread = thread::spawn(move || {
            wire::enter(&name, node);
            let socket = wire::open(ETHER_TYPE).unwrap(); // the bulk beside them would flow over
            let crossover = nix::net::if_::if_nametoindex("cross").unwrap();
            let (mut times, mut buffer) = (Vec::new(), [0; 2048]);
            while !ending.load(Ordering::Relaxed) {
                let Some((length, port)) = wire::receive(&socket, &mut buffer) else { continue };
                if port == crossover && length > 14 {
                    times.push(received_at(&socket).unwrap());
                }
            }
            times
        });
        Listener { stop, thread }
    }

    /// The pauses between one heartbeat and the next.
    fn pauses(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let times = self.thread.join().unwrap();
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
    }
}

/// When the kernel received the frame that [`wire::receive`] returned last, since 1970 (SIOCGSTAMPNS in
/// socket(7)): however late this program came to look at it.
fn received_at(socket: &OwnedFd) -> io::Result<Duration> {
    const SIOCGSTAMPNS: libc::Ioctl = 0x8907;
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a timespec, which lives until the call returns.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, &raw mut at) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(at.tv_sec as u64, at.tv_nsec as u32))
}

fn write_noise(path: &Path, bytes: usize) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut seed = 1u64;
    let mut block = Vec::with_capacity(1 << 20);
    for _ in 0..bytes >> 20 {
        block.clear();
        while block.len() < 1 << 20 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            block.extend_from_slice(&(seed ^ (seed >> 29)).to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(())
}

#[test]
fn no_heartbeat_is_late_while_the_largest_transfer_fills_the_processor() {
    let timing = crate::DEFAULT;
    let mut rig = Rig::new("bulk", timing);
    for node in ["a", "b"] {
        fs::create_dir_all(rig.path(node, "data").join("bulk")).unwrap();
        let mirror = "[[mirror]]\ntree = \"DIR/data/bulk\"\nstore = \"DIR/data\"\nevery = \"1s\"\n";
        let mirror = mirror.replace("DIR", rig.dir.to_str().unwrap());
        fs::write(rig.dir.join(format!("site-{node}.toml")), rig::site(&rig.dir, timing) + &mirror).unwrap();
    }
    // Both boxes and all that they start have the first processor that we may use, and nothing else.
    let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let first = (0..CpuSet::count()).find(|&n| own.is_set(n).unwrap_or(false)).unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    let active = rig.start_both();
    sched_setaffinity(Pid::from_raw(0), &own).unwrap();
    let standby = other(active);

    let source = rig.path(active, "data").join("new");
    write_noise(&source, BULK).unwrap();
    let listeners = [Listener::start(&rig, active), Listener::start(&rig, standby)];
    fs::rename(&source, rig.path(active, "data").join("bulk/large")).unwrap();
    let (begin, copy) = (clock::now(), rig.path(standby, "data").join("bulk/large"));
    while fs::metadata(&copy).map_or(0, |metadata| metadata.len()) != BULK as u64 {
        assert!(clock::now().since(begin) < PATIENCE, "the copy does not come");
        thread::sleep(std::time::Duration::from_millis(10));
    }
    let took = clock::now().since(begin);
    for (listener, from) in listeners.into_iter().zip([standby, active]) {
        let pauses = listener.pauses();
        let late = pauses.iter().filter(|&&pause| pause > LATE).count();
        let worst = pauses.iter().max().copied().unwrap_or_default();
        println!("{} heartbeats of {from} in {took:?}, {late} late, longest pause {worst:?}", pauses.len() + 1);
        assert!(pauses.len() as u32 >= (took.as_nanos() / INTERVAL.as_nanos() / 2) as u32, "hardly any heartbeats");
        assert_eq!(late, 0, "of {from}, longest pause {worst:?}");
    }
    assert_eq!(rig.capture.owners(), [active]);
}
