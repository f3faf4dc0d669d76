//! What a box runs out of: descriptors, processes, memory, room on the disk. Each is survived, or told and safe.

use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;

use twobox::console::control::Request;
use twobox::console::status::{Role, ServiceState};
use twobox::time::Duration;

use crate::rig::{Rig, must, other, wait};
use crate::services::{kill_responder, processes};
use crate::{DEFAULT, LEASE};

fn descriptors(rig: &Rig, node: &str) -> usize {
    fs::read_dir(format!("/proc/{}/fd", rig.pid(node))).unwrap().count()
}

fn limit_descriptors(rig: &Rig, node: &str, soft: usize) {
    must(&format!("prlimit --pid {} --nofile={soft}:", rig.pid(node)));
}

/// Somebody holds every descriptor that the daemon may have. The loop has all of its own, so the pair goes on; what needs a new
/// one waits, and is served afterwards.
#[test]
fn a_box_without_a_free_descriptor_stays_in_the_pair_and_recovers() {
    let mut rig = Rig::new("files", DEFAULT);
    rig.start_both();
    for node in ["a", "b"] {
        let open = descriptors(&rig, node);
        limit_descriptors(&rig, node, open + 8);
        let socket = rig.path(node, "socket");
        let held: Vec<UnixStream> = (0..64).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
        sleep(LEASE * 6);
        let peer = rig.status(other(node)).unwrap();
        assert!(peer.peer.heard_ms_ago.is_some_and(|ms| ms < 500), "{node} is silent");
        limit_descriptors(&rig, node, 4096);
        drop(held);
        wait(&format!("{node} answers again"), || rig.status(node).is_some());
    }
    // A gate that cannot be looked at does not count, so the service moves at most once away from each box.
    let owners = rig.capture.owners();
    assert!(owners.len() <= 3, "{owners:?}");
    wait("one serves, and the other would take over", || {
        rig.active().is_some_and(|node| rig.status(node).is_some_and(|s| s.takeover.ready))
    });
    let holder = rig.active().unwrap();
    rig.client.await_answer_from(holder);
    rig.kill(holder);
    rig.client.await_answer_from(other(holder));
}

/// A control group that lets the daemon have no more processes and threads than it has; `None` where there is none to be had.
struct NoFork(PathBuf);

impl NoFork {
    fn around(rig: &Rig, node: &str) -> Option<NoFork> {
        let folder = PathBuf::from("/sys/fs/cgroup/pids").join(format!("{}-{node}", rig.name));
        fs::create_dir(&folder).ok()?;
        let group = NoFork(folder);
        group.write("cgroup.procs", &rig.pid(node).to_string());
        let threads = fs::read_to_string(group.0.join("pids.current")).unwrap();
        group.write("pids.max", threads.trim());
        Some(group)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }

    fn lift(&self) {
        self.write("pids.max", "max");
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        let root = PathBuf::from("/sys/fs/cgroup/pids/cgroup.procs");
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(&root, pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// A service dies and cannot be started again: the other box serves, and this one is well again when it may.
#[test]
fn a_box_that_cannot_start_a_process_hands_over_and_recovers() {
    let mut rig = Rig::new("fork", "profile = \"default\"\nsettle = \"500ms\"\nhold-down = \"1s\"");
    let active = rig.start_both();
    let standby = other(active);
    let Some(group) = NoFork::around(&rig, active) else {
        println!("skipped: no control group that limits processes");
        return;
    };
    kill_responder(&rig, active);
    wait("it is told", || rig.alarmed(active, "service"));
    wait("the other one serves", || rig.role(standby) == Some(Role::Active));
    rig.client.await_answer_from(standby);
    group.lift();
    wait("the service runs again", || rig.status(active).unwrap().services[0].state == ServiceState::Running);
    rig.await_touch();
    assert_eq!(rig.capture.owners(), [active, standby]);
}

/// A control group that gives a box so much memory and no more.
struct Memory(PathBuf);

impl Memory {
    const LIMIT: &str = "64M";

    /// `None` where there is none to be had.
    fn new(rig: &Rig) -> Option<Memory> {
        let folder = PathBuf::from("/sys/fs/cgroup/memory").join(&rig.name);
        fs::create_dir(&folder).ok()?;
        let group = Memory(folder);
        fs::write(group.0.join("memory.limit_in_bytes"), Self::LIMIT).ok()?;
        Some(group)
    }

    fn procs(&self) -> String {
        self.0.join("cgroup.procs").display().to_string()
    }

    fn lift(&self) {
        fs::write(self.0.join("memory.limit_in_bytes"), "-1").unwrap();
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let root = PathBuf::from("/sys/fs/cgroup/memory/cgroup.procs");
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(&root, pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Fills the group's memory with pages that belong to no process, so that the kernel chooses among all that are in it. Ends as
/// soon as the process that is told has. What that one leaves may not be enough: then this one is next, and not the daemon.
const HOG: &str = r#"
import os, sys, time
open(sys.argv[1], "w").write("0")
open("/proc/self/oom_score_adj", "w").write("100")
ballast = b"x" * (8 << 20)
file, victim = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY), sys.argv[3]
os.unlink(sys.argv[2])
def lives():
    try:
        return open("/proc/%s/stat" % victim).read().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False
for _ in range(400):
    os.write(file, b"x" * 262144)
    if not lives():
        sys.exit(0)
    time.sleep(0.002)
sys.exit(1)
"#;

/// The kernel ends the mirror's process and not the daemon, which holds more; the pair does not notice, and the mirror is back.
#[test]
#[allow(clippy::disallowed_methods)] // the hog
fn a_shortage_of_memory_ends_the_mirror_and_never_the_daemon() {
    let mut rig = Rig::new("oom", DEFAULT);
    let Some(memory) = Memory::new(&rig) else {
        println!("skipped: no control group that limits memory");
        return;
    };
    for node in ["a", "b"] {
        fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let mirror = "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1s\"\n";
        let mirror = mirror.replace("DIR", rig.dir.to_str().unwrap());
        fs::write(rig.dir.join(format!("site-{node}.toml")), crate::rig::site(&rig.dir, DEFAULT) + &mirror).unwrap();
    }
    rig.launch("b");
    let enter = format!("echo 0 >{} && exec \"$@\"", memory.procs());
    rig.started_by = vec!["sh".into(), "-c".into(), enter, "sh".into()];
    rig.launch("a");
    wait("one of two active", || rig.active().is_some());
    rig.await_touch();
    let active = rig.active().unwrap();
    let daemon = rig.pid("a");
    let mirrors = |rig: &Rig| processes(rig, "a", "mirror-child");
    wait("the mirror is confined", || rig.status("a").is_some_and(|s| s.mirror_confinement.is_some()));
    let score = |folder: &PathBuf| fs::read_to_string(folder.join("oom_score_adj")).unwrap().trim().to_owned();
    let [mirror] = mirrors(&rig).try_into().unwrap();
    assert_eq!(score(&mirror), "500");
    for service in processes(&rig, "a", "responder.py") {
        assert_eq!(score(&service), "0");
    }
    let victim = mirror.file_name().unwrap().to_str().unwrap().to_owned();
    let hog = Command::new("python3")
        .args(["-c", HOG, &memory.procs(), &format!("/dev/shm/{}", rig.name), &victim])
        .stdin(Stdio::null())
        .status()
        .unwrap();
    memory.lift();
    assert!(hog.success() || hog.signal() == Some(9), "there was no shortage: {hog}");
    assert!(!mirrors(&rig).contains(&mirror), "the mirror lives on: {hog}");
    wait("it is told", || rig.alarmed("a", "mirror-down"));
    wait("another one runs", || rig.status("a").is_some_and(|s| s.mirror_confinement.is_some()));
    assert!(mirrors(&rig).iter().all(|other| *other != mirror));
    assert_eq!((rig.pid("a"), rig.active()), (daemon, Some(active)), "the daemon lives, and nothing has moved");
    assert_eq!(rig.capture.owners(), [active]);
}

/// A small file system for the state of a box.
struct Partition(PathBuf);

impl Partition {
    fn mount(rig: &Rig, node: &str) -> Partition {
        let path = rig.path(node, "state");
        fs::create_dir_all(&path).unwrap();
        must(&format!("mount -t tmpfs -o size=256k tmpfs {}", path.display()));
        Partition(path)
    }

    /// Leaves no room at all.
    fn fill(&self) {
        let filler = self.0.join("filler");
        assert!(fs::write(&filler, vec![0; 1 << 20]).is_err(), "larger than it should be");
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }

    fn remount(&self, how: &str) {
        must(&format!("mount -o remount,{how} {}", self.0.display()));
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        must(&format!("umount --lazy {}", self.0.display()));
    }
}

/// A term that is not on disk is never served: of those that are, reserved ahead, none is begun by a box that knows that
/// its disk takes nothing. It says why, and serves as soon as there is room.
#[test]
fn a_box_whose_state_cannot_be_written_never_serves_a_new_term_and_says_why() {
    let mut rig = Rig::new("full", DEFAULT);
    let partitions = ["a", "b"].map(|node| Partition::mount(&rig, node));
    let active = rig.start_both();
    let standby = other(active);
    let partition = &partitions[usize::from(standby == "b")];
    partition.fill();
    wait("it is told", || rig.alarmed(standby, "disk")); // what it has learned of its witness and its peer is written, once
    rig.kill(active);
    for _ in 0..30 {
        sleep(Duration::from_millis(100));
        assert_ne!(rig.role(standby), Some(Role::Active));
    }
    assert_eq!(rig.capture.owners(), [active]);
    partition.empty();
    rig.client.await_answer_from(standby);
    wait("the alarm is over", || !rig.alarmed(standby, "disk"));
    assert_eq!(rig.capture.owners(), [active, standby]);
    rig.launch(active);
    rig.await_touch();
    // Read-only under the box that serves: it goes on serving what it has on disk, and hands over.
    partition.remount("ro");
    sleep(LEASE * 4);
    assert_eq!(rig.role(standby), Some(Role::Active));
    rig.kill(standby);
    rig.client.await_answer_from(active);
    partition.remount("rw");
    assert_eq!(rig.capture.owners(), [active, standby, active]);
}

/// A disk for the state of a box that can be made to hang: whoever writes waits until it goes on.
struct Disk(PathBuf);

impl Disk {
    fn mount(rig: &Rig, node: &str) -> Disk {
        let (image, path) = (rig.path(node, "image"), rig.path(node, "state"));
        fs::create_dir_all(&path).unwrap();
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        must(&format!("mkfs.ext4 -q -F {}", image.display()));
        must(&format!("mount -o loop {} {}", image.display(), path.display()));
        Disk(path)
    }

    fn hang(&self) {
        must(&format!("fsfreeze --freeze {}", self.0.display()));
    }

    fn go_on(&self) {
        must(&format!("fsfreeze --unfreeze {}", self.0.display()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Frozen or not: nothing may be left that waits for it.
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).stderr(Stdio::null()).status();
        must(&format!("umount --lazy {}", self.0.display()));
    }
}

/// A write that does not come back is no better than one that fails. When it has come back after all, it counts.
#[test]
fn a_box_whose_disk_hangs_is_held_and_serves_as_soon_as_it_goes_on() {
    let mut rig = Rig::new("hung", DEFAULT);
    let disks = ["a", "b"].map(|node| Disk::mount(&rig, node));
    let active = rig.start_both();
    let standby = other(active);
    let disk = &disks[usize::from(standby == "b")];
    disk.hang();
    wait("it is told", || rig.alarmed(standby, "disk")); // as above
    assert_eq!(rig.role(standby), Some(Role::Held));
    rig.kill(active);
    for _ in 0..30 {
        sleep(Duration::from_millis(100));
        assert_ne!(rig.role(standby), Some(Role::Active));
    }
    disk.go_on();
    rig.client.await_answer_from(standby);
    wait("the alarm is over", || !rig.alarmed(standby, "disk"));
    assert_eq!(rig.capture.owners(), [active, standby]);
}

/// Whoever asks for what a hanging disk has keeps nobody else from an answer. To open a pipe that nobody writes to takes for ever.
#[test]
fn a_history_that_the_disk_does_not_give_holds_up_nothing() {
    let mut rig = Rig::new("past", DEFAULT);
    let active = rig.start_both();
    let history = rig.path(active, "state").join("history");
    let _ = fs::remove_file(&history); // nothing has been remembered yet
    nix::unistd::mkfifo(&history, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    let told = rig.order(active, &Request::History { count: 9 });
    assert!(told.is_ok() || told.as_ref().is_err_and(|why| why.contains("the disk does not answer")), "{told:?}");
    assert_eq!(rig.role(active), Some(Role::Active));
}
