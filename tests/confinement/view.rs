//! The view of the mounts that a confined process has, where mounts are shared: what it cannot change, and what it hears of.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use twobox::confine::{harden, mount_table, mounts};
use twobox::mirror::bounds::Ground;
use twobox::update::child::{Order, Own, Source};
use twobox::update::{bounds, esp};

use crate::scene::{Mounts, Scene, denied, in_a_process};

const NONE: Option<&str> = None;

/// Landlock knows no right to any of this.
#[track_caller]
fn metadata_of_the_key_cannot_be_changed(home: &Path) {
    let key = home.join("etc/pair.key");
    denied(fs::set_permissions(&key, fs::Permissions::from_mode(0o666)));
    denied(chown(&key, Some(1234), None));
    let now = TimeSpec::UTIME_NOW;
    denied(utimensat(AT_FDCWD, &key, &now, &now, UtimensatFlags::NoFollowSymlink).map_err(io::Error::from));
    denied(set_attribute(&key));
}

fn set_attribute(path: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    #[allow(unsafe_code)]
    // SAFETY: the name, the path and the value live until the call returns.
    let outcome = unsafe { libc::setxattr(path.as_ptr(), c"trusted.twobox-test".as_ptr(), c"x".as_ptr().cast(), 1, 0) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the mirror does all the time, also on the way from its store into the tree.
fn work(home: &Path) {
    let (tree, store) = (home.join("data/tree"), home.join("data/.twobox"));
    fs::write(store.join("staged"), "new").unwrap();
    fs::rename(store.join("staged"), tree.join("file")).unwrap();
    fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    chown(tree.join("file"), Some(1234), None).unwrap();
    set_attribute(&tree.join("file")).unwrap();
}

fn mount_memory(at: &Path) {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
}

#[test]
fn neither_a_mode_nor_an_owner_nor_a_time_is_changed_on_other_file_systems() {
    let scene = Scene::on(Mounts::Shared, "elsewhere");
    let key = scene.home.join("etc/pair.key");
    let before = fs::metadata(&key).unwrap();
    scene.confined(|home, confinement| {
        assert!(confinement.elsewhere && confinement.devices, "{confinement}");
        metadata_of_the_key_cannot_be_changed(home);
        denied(fs::write(&key, "another"));
        denied(fs::write("/tmp/twobox-confined", "x"));
        work(home);
    });
    let after = fs::metadata(&key).unwrap();
    assert_eq!((before.mode(), before.uid(), before.ctime_nsec()), (after.mode(), after.uid(), after.ctime_nsec()));
}

/// One of many file systems at a place, and it is the one that is meant.
#[test]
fn a_tree_below_and_above_other_mounts_can_be_changed() {
    let scene = Scene::on(Mounts::Shared, "stacked");
    in_a_process(|| {
        scene.mount();
        let data = scene.home.join("data");
        mount_memory(&data); // what lies below is hidden from now on, and is none of its business
        fs::create_dir_all(data.join("tree/below")).unwrap();
        mount_memory(&data.join("tree/below"));
        harden().unwrap();
        let (_, confinement) = Ground::confine(&scene.settings()).unwrap();
        assert!(confinement.elsewhere, "{confinement}");
        work(&scene.home);
        denied(fs::write(data.join("tree/below/file"), "of another file system"));
        metadata_of_the_key_cannot_be_changed(&scene.home);
    });
}

/// Runs `inside` in a process that is confined to the scene's tree; when that calls its argument, `outside` runs where the mounts are
/// those of the machine, and has ended when the call returns.
fn beside(
    scene: &Scene,
    prepare: impl FnOnce(),
    outside: impl FnOnce() + Send + 'static,
    inside: impl FnOnce(Ground, twobox::confine::Confinement, &dyn Fn()),
) {
    in_a_process(|| {
        scene.mount();
        prepare();
        let (hear, say) = nix::unistd::pipe().unwrap();
        let (wait, go) = nix::unistd::pipe().unwrap();
        let outside = std::thread::spawn(move || {
            assert_eq!(nix::unistd::read(&hear, &mut [0]), Ok(1));
            outside();
            nix::unistd::write(&go, b"x").unwrap();
        });
        in_a_process(|| {
            let (ground, confinement) = Ground::confine(&scene.settings()).unwrap();
            inside(ground, confinement, &|| {
                nix::unistd::write(&say, b"x").unwrap();
                assert_eq!(nix::unistd::read(&wait, &mut [0]), Ok(1));
            });
        });
        outside.join().unwrap();
    });
}

#[test]
fn a_file_system_that_is_unmounted_outside_is_gone_inside() {
    let scene = Scene::on(Mounts::Shared, "unmount");
    let data = scene.home.join("data");
    let unmount = move || umount2(&data, MntFlags::empty()).unwrap(); // refused where anybody else had it
    beside(
        &scene,
        || (),
        unmount,
        |ground, confinement, outside| {
            assert!(confinement.devices && confinement.elsewhere && !ground.has_moved());
            outside();
            assert!(ground.has_moved(), "the process still has the file system");
        },
    );
}

/// It comes as it is outside, with devices.
#[test]
fn a_file_system_that_is_mounted_anew_is_another_ground() {
    let scene = Scene::on(Mounts::Shared, "remount");
    let (data, spare) = (scene.home.join("data"), scene.home.join("spare"));
    fs::create_dir_all(&spare).unwrap();
    let prepare = {
        let (data, spare) = (data.clone(), spare.clone());
        move || mount(Some(&data), &spare, NONE, MsFlags::MS_BIND, NONE).unwrap()
    };
    let again = move || {
        umount2(&data, MntFlags::empty()).unwrap();
        mount(Some(&spare), &data, NONE, MsFlags::MS_BIND, NONE).unwrap();
    };
    beside(&scene, prepare, again, |ground, _, outside| {
        assert!(!ground.has_moved());
        outside();
        assert!(ground.has_moved(), "the same directory by another mount");
    });
}

/// A copy of the mount would stay read-only for ever.
#[test]
fn a_tree_that_is_made_writable_outside_is_writable_inside() {
    let scene = Scene::on(Mounts::Shared, "writable");
    let data = scene.home.join("data");
    let remount = |data: PathBuf, flags| move || mount(NONE, &data, NONE, MsFlags::MS_REMOUNT | flags, NONE).unwrap();
    let read_only = remount(data.clone(), MsFlags::MS_RDONLY);
    beside(&scene, read_only, remount(data.clone(), MsFlags::empty()), |ground, confinement, outside| {
        assert!(!confinement.elsewhere && !confinement.devices, "{confinement}");
        denied(fs::write(data.join("tree/file"), "x"));
        outside();
        fs::write(data.join("tree/file"), "x").unwrap();
        assert!(!ground.has_moved());
    });
}

/// Whoever makes a mount private tells nobody of the end of what is on it: a copy would keep a disk busy that was unmounted.
#[test]
fn mounts_of_whose_end_nobody_tells_are_left_behind() {
    let scene = Scene::on(Mounts::Shared, "private");
    let private = scene.home.join("private");
    fs::create_dir_all(&private).unwrap();
    in_a_process(|| {
        scene.mount();
        mount_memory(&private);
        mount(NONE, &private, NONE, MsFlags::MS_PRIVATE, NONE).unwrap();
        for inner in ["one", "two"] {
            fs::create_dir_all(private.join(inner)).unwrap();
            mount_memory(&private.join(inner));
        }
        in_a_process(|| {
            let view = mounts::narrow(&[scene.home.join("data/tree")]).unwrap();
            assert!(view.devices && view.elsewhere, "{view:?}");
            let table = mount_table::Table::read().unwrap();
            let left: Vec<&PathBuf> =
                table.iter().map(|mount| &mount.at).filter(|at| at.starts_with(&private)).collect();
            assert_eq!(left, [&private], "the private one itself is on a shared one");
        });
        let table = mount_table::Table::read().unwrap();
        let outside = table.iter().filter(|mount| mount.at.starts_with(&private)).count();
        assert_eq!(outside, 3, "nothing changes for others");
    });
}

#[test]
fn a_private_mount_gives_no_view_and_is_told() {
    let scene = Scene::on(Mounts::Private, "no-view");
    scene.confined(|_, confinement| assert!(!confinement.elsewhere, "{confinement}"));
}

/// The partition with the slots is mounted in a view of its own, in which all else is read-only.
#[test]
fn whoever_takes_over_the_update_changes_no_mode_and_no_owner_elsewhere() {
    let scene = Scene::on(Mounts::Private, "slots");
    let home = scene.home.clone();
    in_a_process(|| {
        scene.mount();
        harden().unwrap();
        esp::leave_all_else().unwrap();
        let slots = home.join("data/tree");
        mount_memory(&slots);
        let wanted = Own { board: "box".into(), running: "hash".into(), anew: false };
        let order = Order::Install { source: Source::File(home.join("image")), esp: home.join("esp"), wanted };
        let confinement = bounds::confine_for(&order, Some(&slots)).unwrap();
        assert!(confinement.elsewhere, "{confinement}");
        metadata_of_the_key_cannot_be_changed(&home);
        fs::write(slots.join("twobox-2.new"), "draft").unwrap();
    });
}
