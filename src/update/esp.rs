//! The EFI system partition: mounted only while something is done to it, and written so that a power cut at any moment
//! leaves a box that boots.
//!
//! FAT has no journal. What protects the running image is that its file is never touched, and that each step is on disk
//! before the next begins. The steps that count are renames within one folder of a handful of entries, which lie in one
//! sector: the disk writes it whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;

use super::fat;
use super::image::{self, Check, Identity};
use super::slot::{self, Slot};
use crate::confine::mounts;
use crate::time::Duration;

/// Where the partition is mounted meanwhile.
const AT: &str = "/run/twobox-esp";
/// The boot loader's folder of unified kernel images (Boot Loader Specification, type 2).
const FOLDER: &str = "EFI/Linux";
/// Bytes that are moved at once.
const PART: usize = 256 * 1024;
/// What a file system needs besides the image: entries of a folder, and the loader's random seed.
const RESERVE: u64 = 256 * 1024;

/// Mounts the partition on `device`, writable, where this process alone sees it, and until it ends, whichever way that
/// comes. What a power cut has left of its file system is put right before ([`fat`]). The process must have one thread.
///
/// # Errors
///
/// As [`Mounted::mount`].
pub fn mount_for_this_process(device: &Path) -> io::Result<Slots> {
    let named = |error| io::Error::other(format!("{}: {error}", device.display()));
    fat::mend(&File::options().read(true).write(true).open(device).map_err(named)?).map_err(named)?;
    mount_alone(device, true)
}

/// As [`mount_for_this_process`], to be read and not touched.
///
/// # Errors
///
/// As [`Mounted::mount`].
pub fn mount_to_look(device: &Path) -> io::Result<Slots> {
    mount_alone(device, false)
}

fn mount_alone(device: &Path, writable: bool) -> io::Result<Slots> {
    leave_all_else()?;
    let mounted = std::mem::ManuallyDrop::new(Mounted::mount(device, writable)?);
    Ok(Slots::of(mounted.slots.folder.clone()))
}

/// Takes a view of the mounts for this process in which nothing can be changed, but on what is mounted in it from then on.
///
/// # Errors
///
/// What unshare(2) and mount(2) say.
pub fn leave_all_else() -> io::Result<()> {
    fs::create_dir_all(AT)?;
    mounts::copy()?;
    let _ = mounts::freeze(); // before Linux 5.12 the kernel has no such call: the confinement says what is in force
    Ok(())
}

/// The mounted partition; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    /// Its slots.
    pub slots: Slots,
}

impl Mounted {
    /// Mounts the partition on `device`.
    ///
    /// # Errors
    ///
    /// What mount(2) said: no FAT, or the kernel lacks its module.
    pub fn mount(device: &Path, writable: bool) -> io::Result<Mounted> {
        fs::create_dir_all(AT)?;
        let always = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        let flags = if writable { always } else { always | MsFlags::MS_RDONLY };
        // The tables of Debian's kernel that the boards carry; an error makes it read-only and so is noticed.
        let options = "errors=remount-ro,codepage=437,iocharset=ascii,shortname=mixed,umask=0077";
        mount(Some(device), AT, Some("vfat"), flags, Some(options))
            .map_err(|errno| io::Error::other(format!("{} at {AT}: {errno}", device.display())))?;
        Ok(Mounted { slots: Slots::of(Path::new(AT).join(FOLDER)) })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(errno) = umount2(AT, MntFlags::empty()) {
            log::warn!("{AT}: {errno}");
        }
    }
}

/// What a boot finds out about the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booted {
    /// The partition with the slots.
    pub device: PathBuf,
    /// The one that runs.
    pub slot: Slot,
    /// What its image is called.
    pub hash: String,
    /// A newer image that was tried and not confirmed.
    pub rolled_back: Option<Slot>,
}

/// Looks for the image `hash`, which runs.
///
/// # Errors
///
/// What the system said; that no slot holds it.
pub fn look(device: &Path, hash: &str) -> io::Result<Booted> {
    let mounted = Mounted::mount(device, false)?;
    let slot = mounted.slots.running(hash)?;
    let rolled_back = slot::rolled_back(&mounted.slots.list()?, slot);
    Ok(Booted { device: device.to_owned(), slot, hash: hash.to_owned(), rolled_back })
}

/// What an installation wants of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The board of this box.
    pub board: String,
    /// The image that runs.
    pub running: String,
    /// An image on the disk is damaged: the one that runs may be installed anew.
    pub anew: bool,
}

/// The folder with the slots.
#[derive(Debug)]
pub struct Slots {
    folder: PathBuf,
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::other(why.into())
}

impl Slots {
    /// Those in `folder`.
    #[must_use]
    pub fn of(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// All slots.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn list(&self) -> io::Result<Vec<Slot>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            found.extend(entry?.file_name().to_str().and_then(Slot::parse));
        }
        found.sort_by_key(|slot| slot.number);
        Ok(found)
    }

    /// Who the image in a slot is; `None` when it cannot be understood.
    #[must_use]
    pub fn identity(&self, slot: Slot) -> Option<Identity> {
        image::identify(&File::open(self.path(slot)).ok()?).ok()
    }

    /// The slot that holds the image `hash`. Of two that do, the newer one: it would have been booted. Unless it was put behind the
    /// other one.
    ///
    /// # Errors
    ///
    /// What the system said; that there is none.
    pub fn running(&self, hash: &str) -> io::Result<Slot> {
        let holds = |slot: &Slot| self.identity(*slot).is_some_and(|found| found.hash == hash);
        let found = self.list()?.into_iter().filter(holds).max_by_key(|slot| (!slot.is_retired(), slot.number));
        found.ok_or_else(|| refused("the image that runs is in no slot of this disk"))
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, slot: Slot) -> PathBuf {
        self.folder.join(slot.to_string())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    /// Writes the image of `length` bytes that `source` gives into a slot beside the running one, reads it back, and makes
    /// it the next boot. `tell` hears how many bytes are written.
    ///
    /// # Errors
    ///
    /// Why not, for the operator. The next boot is the running image then.
    pub fn install(
        &self,
        source: &mut impl Read,
        length: u64,
        wanted: &Wanted,
        mut tell: impl FnMut(u64),
    ) -> io::Result<Slot> {
        let looked = self.look_at_all(Duration::ZERO)?;
        let damaged = looked.iter().rev().find(|(_, found)| found.is_err()).map(|(slot, _)| *slot);
        // A file whose head is damaged does not say any more what it is called.
        let running = self.running(&wanted.running).or_else(|error| damaged.ok_or(error))?;
        let way_back = slot::way_back(&looked, running);
        let is_whole = looked.iter().any(|(slot, found)| *slot == running && found.is_ok());
        // One that was put last because it is damaged looks as if it were.
        if running.is_on_trial() && is_whole {
            return Err(refused("the image that runs is on trial itself"));
        }
        let wanted = &Wanted { anew: damaged.is_some(), ..wanted.clone() };
        let plan = slot::plan(&self.list()?, way_back).ok_or_else(|| refused("the slots' numbers are used up"))?;
        self.remove_drafts()?;
        for slot in &plan.remove {
            fs::remove_file(self.path(*slot))?;
        }
        self.sync()?;
        self.look_for_room(length)?;
        let draft = self.folder.join(plan.slot.draft());
        let written = self
            .write(&draft, source, length, &mut tell)
            .and_then(|()| accept(&mut File::open(&draft)?, length, wanted));
        if let Err(error) = written {
            let _ = fs::remove_file(&draft); // it is no slot; the next installation tries again
            let _ = self.sync();
            return Err(error);
        }
        self.rename(&draft, &self.path(plan.slot))?;
        Ok(plan.slot)
    }

    /// Drafts of installations that were cut off.
    fn remove_drafts(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
            if name.starts_with("twobox-") && name.ends_with(".new") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn look_for_room(&self, length: u64) -> io::Result<()> {
        let room = statvfs(&self.folder)?;
        #[allow(clippy::useless_conversion)] // u32 or u64 by the C library
        let room = u64::from(room.blocks_available()) * u64::from(room.fragment_size());
        let room = room.saturating_sub(RESERVE);
        if length > room {
            return Err(refused(format!("the image has {length} bytes and its slot room for {room}")));
        }
        Ok(())
    }

    fn write(&self, to: &Path, from: &mut impl Read, length: u64, tell: &mut impl FnMut(u64)) -> io::Result<()> {
        let mut file = File::create(to)?;
        let mut part = vec![0; PART];
        let mut done = 0;
        while done < length {
            let most = usize::try_from(length - done).unwrap_or(PART).min(PART);
            let got = from.read(&mut part[..most])?;
            if got == 0 {
                return Err(refused("the image ended before its end"));
            }
            file.write_all(&part[..got])?;
            done += got as u64;
            tell(done);
        }
        file.sync_all()?;
        self.sync()?;
        // So that the look at it is one at the disk.
        posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(io::Error::from)
    }

    /// Makes the running image the one that boots from now on. Returns whether there was anything to do.
    ///
    /// # Errors
    ///
    /// What the system said. The next boot is the former image then.
    pub fn confirm(&self, hash: &str) -> io::Result<bool> {
        let running = self.running(hash)?;
        if !running.is_on_trial() {
            return Ok(false);
        }
        self.rename(&self.path(running), &self.path(Slot { tries: None, ..running }))?;
        Ok(true)
    }

    /// Gives a file another name, durably. The new entry is that of an empty file until the file itself is written back
    /// (`vfat_rename` in fs/fat/namei_vfat.c), and the old one is gone by then: synced is the file first, and with it the
    /// sector that holds both.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        File::open(to)?.sync_all()?;
        self.sync()
    }
}

/// Reads an image whole, with `pause` between its parts, and says what is wrong with it.
pub(super) fn check(file: &mut File, length: u64, pause: Duration) -> io::Result<Result<(), &'static str>> {
    let mut check = match Check::new(length) {
        Ok(check) => check,
        Err(why) => return Ok(Err(why)),
    };
    let mut part = vec![0; PART];
    loop {
        match file.read(&mut part)? {
            0 => break,
            got => check.add(&part[..got]),
        }
        if pause > Duration::ZERO {
            #[allow(clippy::disallowed_methods)] // a process of its own, which does nothing else
            std::thread::sleep(pause);
        }
    }
    Ok(check.end().and(image::loads(&image::head(file)?)))
}

/// Reads an image whole and says whether this box may boot it; returns what it is called.
///
/// # Errors
///
/// Why not, for the operator.
pub fn accept(file: &mut File, length: u64, wanted: &Wanted) -> io::Result<String> {
    if length < image::SEAL as u64 {
        return Err(refused("too short for an image"));
    }
    check(file, length, Duration::ZERO)?.map_err(|why| refused(format!("the image is {why}")))?;
    let found = image::identify(file)?;
    if found.board != wanted.board {
        return Err(refused(format!("the image is for the board {}, and this box is a {}", found.board, wanted.board)));
    }
    if found.hash == wanted.running && !wanted.anew {
        return Err(refused("the image runs here already"));
    }
    Ok(found.hash)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An image of ours: headers as objcopy(1) lays them out, a description, some content, the seal.
    pub fn image(board: &str, hash: &str, content: &[u8]) -> Vec<u8> {
        let text = format!("ID=twobox\nIMAGE_HASH={hash}\nIMAGE_BOARD={board}\n");
        let mut file = vec![0; 0x200];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x40;
        file[0x40..0x44].copy_from_slice(b"PE\0\0");
        file[0x46] = 1;
        file[0x54] = 0x40; // the optional header's size
        file[0x40 + 24 + 57] = 0x10; // 4 KiB in memory
        let section = 0x40 + 24 + 0x40;
        file[section..section + 6].copy_from_slice(b".osrel");
        for (at, number) in [(8, text.len()), (16, 512), (20, 0x200)] {
            file[section + at..section + at + 4].copy_from_slice(&(number as u32).to_le_bytes());
        }
        file.extend_from_slice(text.as_bytes());
        file.extend_from_slice(content);
        let mut hash = blake3::Hasher::new();
        hash.update(&file);
        file.extend_from_slice(&image::seal(&hash));
        file
    }

    pub struct Folder(pub PathBuf);

    impl Folder {
        pub fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("twobox-esp-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            let folder = Folder(path);
            folder.put("twobox-1.efi", &image("box", "old", b"1"));
            folder
        }

        pub fn put(&self, name: &str, bytes: &[u8]) {
            fs::write(self.0.join(name), bytes).unwrap();
        }

        pub fn names(&self) -> Vec<String> {
            let mut names: Vec<String> =
                fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        pub fn install(&self, bytes: &[u8]) -> Result<Slot, String> {
            let wanted = Wanted { board: "box".into(), running: "old".into(), anew: false };
            let mut source = bytes;
            Slots::of(self.0.clone())
                .install(&mut source, bytes.len() as u64, &wanted, |_| {})
                .map_err(|error| error.to_string())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_image_is_installed_beside_the_running_one_and_confirmed() {
        let folder = Folder::new("good");
        let new = image("box", "new", &[9; 600_000]);
        assert_eq!(folder.install(&new).unwrap().to_string(), "twobox-2+1.efi");
        assert_eq!(folder.names(), ["twobox-1.efi", "twobox-2+1.efi"]);
        assert_eq!(fs::read(folder.0.join("twobox-2+1.efi")).unwrap(), new);
        // What the boot loader does.
        fs::rename(folder.0.join("twobox-2+1.efi"), folder.0.join("twobox-2+0-1.efi")).unwrap();
        let slots = Slots::of(folder.0.clone());
        assert!(slots.running("new").unwrap().is_on_trial());
        assert!(slots.confirm("new").unwrap());
        assert!(!slots.confirm("new").unwrap());
        assert_eq!(folder.names(), ["twobox-1.efi", "twobox-2.efi"]);
    }

    #[test]
    fn what_is_left_of_former_updates_makes_room() {
        let folder = Folder::new("left");
        for name in ["twobox-2+0-1.efi", "twobox-3.new", "Linux.efi"] {
            folder.put(name, b"left");
        }
        assert_eq!(folder.install(&image("box", "new", b"2")).unwrap().number, 3);
        assert_eq!(folder.names(), ["Linux.efi", "twobox-1.efi", "twobox-3+1.efi"]);
    }

    #[test]
    fn what_must_not_be_booted_is_refused_and_leaves_nothing() {
        let folder = Folder::new("bad");
        let mut damaged = image("box", "new", b"2");
        *damaged.last_mut().unwrap() ^= 1;
        // As objcopy(1) makes one, and says no more than a warning, of a stub with a high image base.
        let mut below_base = image("box", "new", b"2");
        below_base.truncate(below_base.len() - image::SEAL);
        below_base[0x40 + 24 + 0x40 + 12..][..4].copy_from_slice(&0xb209_0000u32.to_le_bytes());
        let mut hash = blake3::Hasher::new();
        hash.update(&below_base);
        below_base.extend_from_slice(&image::seal(&hash));
        let too_large = vec![0; 8];
        for (bytes, why) in [
            (image("other", "new", b"2"), "the image is for the board other, and this box is a box"),
            (image("box", "old", b"2"), "the image runs here already"),
            (damaged, "the image is damaged: its content is not what its seal says"),
            (b"#!/bin/sh\n".to_vec(), "too short for an image"),
            (too_large, "too short for an image"),
            (below_base, "the image is no image that firmware can load: a section lies outside of it"),
            (vec![0; 100_000], "the image is no image of twobox: its seal is missing"),
        ] {
            assert_eq!(folder.install(&bytes).unwrap_err(), why);
            assert_eq!(folder.names(), ["twobox-1.efi"]);
        }
        let whole = image("box", "new", b"2");
        let wanted = Wanted { board: "box".into(), running: "old".into(), anew: false };
        let mut cut = &whole[..whole.len() - 1];
        let slots = Slots::of(folder.0.clone());
        let error = slots.install(&mut cut, whole.len() as u64, &wanted, |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "the image ended before its end");
        let error = slots.install(&mut io::repeat(0), u64::MAX, &wanted, |_| {}).unwrap_err();
        assert!(error.to_string().starts_with("the image has 18446744073709551615 bytes"), "{error}");
        assert_eq!(folder.names(), ["twobox-1.efi"]);
    }

    #[test]
    fn a_box_on_trial_or_unknown_installs_nothing() {
        let folder = Folder::new("trial");
        fs::rename(folder.0.join("twobox-1.efi"), folder.0.join("twobox-1+0-1.efi")).unwrap();
        let new = image("box", "new", b"2");
        assert_eq!(folder.install(&new).unwrap_err(), "the image that runs is on trial itself");
        fs::remove_file(folder.0.join("twobox-1+0-1.efi")).unwrap();
        assert_eq!(folder.install(&new).unwrap_err(), "the image that runs is in no slot of this disk");
    }
}
