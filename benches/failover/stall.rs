//! An independent witness of the machine itself: how long nothing ran on a processor, not even at real-time priority.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use twobox::clock;
use twobox::time::Duration;

use crate::rig::wire::prefer_this_thread;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// One thread on each processor, at real-time priority, that only sleeps and looks at the clock.
pub struct Stalls {
    stop: Arc<AtomicBool>,
    worst: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Stalls {
    /// Starts looking.
    pub fn watch() -> Stalls {
        let (stop, worst) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let count = thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..count)
            .map(|processor| {
                let (stop, worst) = (stop.clone(), worst.clone());
                thread::spawn(move || look(processor, &stop, &worst))
            })
            .collect();
        Stalls { stop, worst, threads }
    }

    /// Stops looking: the longest time by which one of them woke too late.
    pub fn worst(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        Duration::from_nanos(self.worst.load(Ordering::Relaxed))
    }
}

fn look(processor: usize, stop: &AtomicBool, worst: &AtomicU64) {
    let mut only = CpuSet::new();
    let _ = only.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
    prefer_this_thread();
    while !stop.load(Ordering::Relaxed) {
        let due = clock::now() + PAUSE;
        thread::sleep(PAUSE);
        let late = u64::try_from(clock::now().since(due).as_nanos()).unwrap_or(u64::MAX);
        worst.fetch_max(late, Ordering::Relaxed);
    }
}
