//! The images in the slots, read again: what rots on a disk is found before it is needed.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::{Deserialize, Serialize};

use super::esp::{Slots, check};
use super::slot::{self, Looked, Slot};
use crate::time::Duration;

/// Pause between two parts where nobody waits for the end: others want the disk too.
const PAUSE: Duration = Duration::from_millis(10);

/// What a look at all slots finds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damages {
    /// Each slot that is not what its seal says.
    pub damaged: Vec<Damaged>,
    /// One of them would be booted, although another image is whole.
    pub is_in_the_way: bool,
}

/// A slot that is not what its seal says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Its number.
    pub slot: u32,
    /// What is wrong.
    pub why: String,
}

impl Slots {
    /// Reads every slot whole, a part at a time with `pause` between two, and says of each what is wrong with it.
    ///
    /// # Errors
    ///
    /// That the folder cannot be read. What cannot be read of a file is that file's fault.
    pub fn look_at_all(&self, pause: Duration) -> io::Result<Vec<Looked>> {
        Ok(self.list()?.into_iter().map(|slot| (slot, self.look_at(slot, pause))).collect())
    }

    fn look_at(&self, slot: Slot, pause: Duration) -> Result<(), String> {
        let read = || -> io::Result<Result<(), &'static str>> {
            let mut file = File::open(self.path(slot))?;
            // Read before, it is in memory, and the disk is what counts.
            posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
            let length = file.metadata()?.len();
            check(&mut file, length, pause)
        };
        match read() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(why.to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Looks at all slots, and puts those behind all others that are damaged and would be booted although another one is whole. Returns
    /// those.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn retire_damaged(&self) -> io::Result<Vec<Slot>> {
        let retired = slot::in_the_way(&self.look_at_all(PAUSE)?);
        for slot in &retired {
            self.rename(&self.path(*slot), &self.path(slot.retired()))?;
        }
        Ok(retired)
    }

    /// What a quiet look finds wrong: a line for each damaged slot; and whether one of them would be booted although another one is
    /// whole.
    ///
    /// # Errors
    ///
    /// That the folder cannot be read.
    pub fn damages(&self) -> io::Result<Damages> {
        let looked = self.look_at_all(PAUSE)?;
        let is_in_the_way = !slot::in_the_way(&looked).is_empty();
        let damaged =
            looked.into_iter().filter_map(|(slot, found)| Some(Damaged { slot: slot.number, why: found.err()? }));
        Ok(Damages { damaged: damaged.collect(), is_in_the_way })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::esp::Wanted;
    use super::super::esp::tests::{Folder, image};
    use super::super::image::SEAL;
    use super::*;

    /// Turns a bit of the content of a slot, as a disk does in ten years.
    fn rot(folder: &Folder, name: &str) {
        let mut bytes = fs::read(folder.0.join(name)).unwrap();
        let middle = bytes.len() - SEAL - 1;
        bytes[middle] ^= 1;
        folder.put(name, &bytes);
    }

    #[test]
    fn an_image_that_rots_is_found_and_gives_way_to_a_whole_one() {
        let folder = Folder::new("rot");
        folder.put("twobox-2.efi", &image("box", "new", b"2"));
        let slots = Slots::of(folder.0.clone());
        assert_eq!(slots.damages().unwrap(), Damages::default());
        assert_eq!(slots.retire_damaged().unwrap(), []);
        rot(&folder, "twobox-2.efi");
        let why = "damaged: its content is not what its seal says".to_owned();
        let damaged = vec![Damaged { slot: 2, why }];
        assert_eq!(slots.damages().unwrap(), Damages { damaged: damaged.clone(), is_in_the_way: true });
        assert_eq!(folder.names(), ["twobox-1.efi", "twobox-2.efi"], "a look changes nothing");
        assert_eq!(slots.retire_damaged().unwrap().len(), 1);
        assert_eq!(folder.names(), ["twobox-1.efi", "twobox-2+0-2.efi"]);
        // It is told until it is gone, and once it is out of the way there is nothing more to do.
        assert_eq!(slots.damages().unwrap(), Damages { damaged, is_in_the_way: false });
        assert_eq!(slots.retire_damaged().unwrap(), []);
        fs::write(folder.0.join("twobox-1.efi"), b"no image").unwrap();
        assert_eq!(slots.damages().unwrap().damaged.len(), 2);
    }

    /// A disk that is new has its image twice.
    #[test]
    fn of_two_slots_with_one_image_the_one_that_boots_is_meant() {
        let folder = Folder::new("twice");
        let old = image("box", "old", b"1");
        folder.put("twobox-2.efi", &old);
        let slots = Slots::of(folder.0.clone());
        assert_eq!(slots.running("old").unwrap().number, 2);
        rot(&folder, "twobox-2.efi");
        slots.retire_damaged().unwrap();
        let running = slots.running("old").unwrap();
        assert!(running.number == 1 && !running.is_on_trial(), "{running}");
        assert!(!slots.confirm("old").unwrap(), "the damaged one does not come back");
        // Installed anew it is on trial, and is the one that runs after the next boot.
        assert_eq!(folder.install(&old).unwrap().number, 3);
        fs::rename(folder.0.join("twobox-3+1.efi"), folder.0.join("twobox-3+0-1.efi")).unwrap();
        assert!(slots.running("old").unwrap().is_on_trial());
        assert!(slots.confirm("old").unwrap());
        assert_eq!(folder.names(), ["twobox-1.efi", "twobox-3.efi"]);
    }

    #[test]
    fn a_damaged_image_is_no_way_back_and_may_be_installed_anew() {
        let wanted = Wanted { board: "box".into(), running: "new".into(), anew: false };
        let install = |folder: &Folder, bytes: &[u8]| {
            let mut source = bytes;
            Slots::of(folder.0.clone())
                .install(&mut source, bytes.len() as u64, &wanted, |_| {})
                .map_err(|error| error.to_string())
        };
        let (new, newer) = (image("box", "new", b"2"), image("box", "newer", b"3"));
        for (bytes, retire) in [(&new, false), (&newer, false), (&new, true)] {
            let folder = Folder::new("anew");
            folder.put("twobox-2.efi", &new);
            assert_eq!(install(&folder, &new).unwrap_err(), "the image runs here already");
            folder.put("twobox-1.efi", &image("box", "old", b"1"));
            rot(&folder, "twobox-2.efi");
            if retire {
                assert_eq!(Slots::of(folder.0.clone()).retire_damaged().unwrap().len(), 1);
            }
            assert_eq!(install(&folder, bytes).unwrap().to_string(), "twobox-3+1.efi");
            assert_eq!(folder.names(), ["twobox-1.efi", "twobox-3+1.efi"], "the whole one stays");
        }
        // Where there is no other, the damaged one is better than none.
        let folder = Folder::new("last");
        fs::remove_file(folder.0.join("twobox-1.efi")).unwrap();
        folder.put("twobox-2.efi", &new);
        rot(&folder, "twobox-2.efi");
        assert_eq!(install(&folder, &newer).unwrap().number, 3);
        assert_eq!(folder.names(), ["twobox-2.efi", "twobox-3+1.efi"]);
    }
}
