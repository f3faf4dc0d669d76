//! File systems of a test's own: small ones that fill up, ones that can be unmounted, ones of another kind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Runs `what` where mounts are seen by nobody else, and end with it.
pub fn in_own_mounts(what: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        let everything = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, everything, None::<&str>).unwrap();
        what();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Mounts a file system in memory of this size.
pub fn mount_memory(at: &Path, size: &str) {
    std::fs::create_dir_all(at).unwrap();
    let options = format!("size={size},mode=755");
    mount(Some("twobox-test"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
}

/// Gives it another size.
pub fn resize_memory(at: &Path, size: &str) {
    let options = format!("size={size}");
    mount(None::<&str>, at, None::<&str>, MsFlags::MS_REMOUNT, Some(options.as_str())).unwrap();
}

/// Makes the mount at this place read-only, or writable again.
pub fn set_read_only(at: &Path, read_only: bool) {
    let flags = MsFlags::MS_REMOUNT | if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>).unwrap();
}

/// Unmounts, whoever still has something open there.
pub fn unmount(at: &Path) {
    umount2(at, MntFlags::MNT_DETACH).unwrap();
}

/// Unmounts all that this thread sees mounted below this place.
pub fn unmount_below(place: &Path) {
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let points: Vec<&Path> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new).collect();
    for point in points.into_iter().rev().filter(|point| point.starts_with(place)) {
        let _ = umount2(point, MntFlags::MNT_DETACH); // it went with the one that it was in
    }
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A disk in a file, with a file system on it.
pub struct Disk {
    pub image: PathBuf,
    pub mounted: PathBuf,
}

impl Disk {
    pub fn new(home: &Path, name: &str, kind: &str, mebibytes: u64) -> Self {
        let image = home.join(format!("{name}.img"));
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let path = image.to_str().unwrap();
        match kind {
            "ext4" => run("mkfs.ext4", &["-q", "-F", path]),
            _ => run(&format!("mkfs.{kind}"), &["-q", path]),
        };
        let mounted = home.join(name);
        std::fs::create_dir_all(&mounted).unwrap();
        let disk = Disk { image, mounted };
        disk.mount();
        disk
    }

    fn is_mounted(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(4).map(Path::new) == Some(&self.mounted))
    }

    pub fn mount(&self) {
        run("mount", &["-o", "loop", self.image.to_str().unwrap(), self.mounted.to_str().unwrap()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Waits for the loop device to be free again. A program that another test starts at this moment has our files open
        // between its fork and its exec: that passes.
        let unmounted =
            || Command::new("umount").arg(&self.mounted).output().is_ok_and(|output| output.status.success());
        for _ in 0..50 {
            if !self.is_mounted() || unmounted() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

/// A block device that is a file, with a number of its own.
pub struct Loop(pub String);

impl Loop {
    pub fn new(image: &Path) -> Self {
        Loop(run("losetup", &["--find", "--show", image.to_str().unwrap()]))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).output(); // it goes when nothing is mounted from it
    }
}
