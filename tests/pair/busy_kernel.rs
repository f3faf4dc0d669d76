//! A kernel whose network configuration is locked for long.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use twobox::clock;
use twobox::netlink::{QueueBody, Request, Socket};
use twobox::time::Duration;

use crate::DEFAULT;
use crate::rig::{Rig, must};

/// Bridges that are deleted together: the kernel keeps its lock as long as that takes it, some 17 ms for each.
const MANY: usize = 60;
/// How often.
const ROUNDS: usize = 3;
/// The lock is not worth a test when nobody has to wait for it longer than this.
const LONG: Duration = Duration::from_millis(100);

/// Interfaces in a namespace of their own, deleted at the end.
struct Crowd {
    namespace: String,
    batch: std::path::PathBuf,
}

impl Crowd {
    fn new(rig: &Rig) -> Crowd {
        let crowd = Crowd { namespace: format!("{}-crowd", rig.name), batch: rig.dir.join("crowd") };
        must(&format!("ip netns add {}", crowd.namespace));
        let lines: String = (0..MANY).map(|i| format!("link add d{i} group 77 type bridge\n")).collect();
        fs::write(&crowd.batch, lines).unwrap();
        crowd
    }

    fn come(&self) {
        must(&format!("ip -n {} -batch {}", self.namespace, self.batch.display()));
    }

    fn go(&self) {
        must(&format!("ip -n {} link del group 77", self.namespace));
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        must(&format!("ip netns delete {}", self.namespace));
    }
}

/// Tells the others that whoever has it has come to his end, in whatever way.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Who reads the queues waits for that lock, whatever namespace he is in: the longest wait until `over`.
fn longest_wait(over: &AtomicBool) -> Duration {
    let mut netlink = Socket::open().unwrap();
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::SeqCst) {
        let began = clock::now();
        let mut request = Request::new(libc::RTM_GETQDISC, 0, &QueueBody::default());
        netlink.dump(&mut request, &mut (), |()| (), |(), _, _| ()).unwrap();
        longest = longest.max(clock::now().since(began));
        thread::sleep(Duration::from_millis(2));
    }
    longest
}

#[test]
fn a_locked_network_configuration_delays_no_heartbeat() {
    let mut rig = Rig::new("rtnl", DEFAULT);
    let active = rig.start_both();
    let terms = |rig: &Rig| ["a", "b"].map(|node| rig.status(node).unwrap().term);
    let before = terms(&rig); // reading the status begins its lateness anew
    let crowd = Crowd::new(&rig);
    let over = AtomicBool::new(false);
    let waited = rig.inside("witness", || {
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let _over = AtTheEnd(&over);
                for _ in 0..ROUNDS {
                    crowd.come();
                    crowd.go();
                }
            });
            let longest = longest_wait(&over);
            changing.join().unwrap();
            longest
        })
    });
    for node in ["a", "b"] {
        let status = rig.status(node).unwrap();
        let late = Duration::from_micros(status.cluster_loop.worst_lateness_us);
        println!("{node}: the loop was late by up to {late:?}, others waited for the lock for up to {waited:?}");
        if waited >= LONG {
            assert!(late < waited / 2, "the loop of {node} waited for the lock");
        }
    }
    if waited < LONG {
        println!("skipped: this kernel lets go of its lock too soon");
    }
    assert_eq!(rig.active(), Some(active));
    assert_eq!(terms(&rig), before);
    assert_eq!(rig.capture.owners(), [active]);
}
