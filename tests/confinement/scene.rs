//! Where a confined process is, and what is none of its business.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, fork};
use twobox::confine::{Confinement, harden};
use twobox::mirror::bounds::Ground;
use twobox::mirror::control::{MaxDelete, TreeSettings, When};

/// A place with a tree, its store, and things that are none of the child's business.
pub struct Scene {
    pub home: PathBuf,
    mounts: Mounts,
}

/// How the tree's file system is mounted.
#[derive(Clone, Copy, PartialEq)]
pub enum Mounts {
    /// Nobody else hears of what is mounted and unmounted.
    Private,
    /// As on a machine with systemd.
    Shared,
    /// As the appliance's data.
    NoDevices,
}

impl Scene {
    pub fn new(name: &str) -> Self {
        Self::on(Mounts::Private, name)
    }

    pub fn on(mounts: Mounts, name: &str) -> Self {
        let home = std::env::temp_dir().join(format!("twobox-confined-{name}-{}", std::process::id()));
        fs::create_dir_all(home.join("data")).unwrap();
        fs::create_dir_all(home.join("etc")).unwrap();
        fs::write(home.join("etc/pair.key"), "secret").unwrap();
        // The watchdog's number (Documentation/admin-guide/devices.txt); a device that is not there cannot be fed.
        mknod(
            &home.join("etc/watchdog"),
            SFlag::S_IFCHR,
            Mode::S_IRUSR | Mode::S_IWUSR,
            nix::sys::stat::makedev(10, 130),
        )
        .unwrap();
        Scene { home, mounts }
    }

    /// Mounts the tree's file system where no other process sees it.
    pub fn mount(&self) {
        let nothing = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(nothing, "/", nothing, MsFlags::MS_PRIVATE | MsFlags::MS_REC, nothing).unwrap(); // hides it from outside
        let flags = if self.mounts == Mounts::NoDevices { MsFlags::MS_NODEV } else { MsFlags::empty() };
        let data = self.home.join("data");
        if self.mounts == Mounts::Shared {
            mount(nothing, "/", nothing, MsFlags::MS_SHARED | MsFlags::MS_REC, nothing).unwrap();
        }
        mount(Some("tmpfs"), &data, Some("tmpfs"), flags, nothing).unwrap();
        fs::create_dir_all(data.join("tree/below")).unwrap();
        fs::write(data.join("tree/file"), "of the tree").unwrap();
    }

    pub fn settings(&self) -> Vec<TreeSettings> {
        vec![TreeSettings {
            tree: self.home.join("data/tree"),
            when: When::EveryMs(1000),
            exclude: Vec::new(),
            max_delete: MaxDelete::Percent(25),
            store: Some(self.home.join("data")),
        }]
    }

    /// Runs `what` in a process of its own that is confined to this scene's tree. Fails if it panics or is killed.
    pub fn confined(&self, what: impl FnOnce(&Path, Confinement)) {
        in_a_process(|| {
            self.mount();
            harden().unwrap();
            assert!(!nix::sys::prctl::get_dumpable().unwrap(), "no core dump shows its memory");
            let (_, confinement) = Ground::confine(&self.settings()).unwrap();
            what(&self.home, confinement);
        });
    }
}

/// Runs `what` in a process of its own. Fails if it panics or is killed.
pub fn in_a_process(what: impl FnOnce()) {
    #[allow(unsafe_code)]
    // SAFETY: the child has one thread; the locks of the allocator, which another may have held, are safe across fork(2)
    // in glibc and musl.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            let end = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(end, WaitStatus::Exited(child, 0), "see above for what could be done");
        }
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
            std::process::exit(i32::from(outcome.is_err()));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

#[track_caller]
pub fn denied<T>(result: io::Result<T>) {
    let number = errno(result);
    assert!(matches!(number, Some(libc::EACCES | libc::EPERM | libc::EXDEV | libc::EROFS)), "{number:?}");
}
