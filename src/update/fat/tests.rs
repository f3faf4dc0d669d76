//! What a power cut leaves, made by hand and judged by mtools and fsck.vfat.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

const RUNNING: &str = "EFI/Linux/twobox-1.efi";
const TRIED: &str = "EFI/Linux/twobox-2+0-1.efi";
const DRAFT: &str = "EFI/Linux/twobox-3.new";
const CONTENT: &[u8] = &[0x5a; 9 * 512 + 7];

/// mtools and fsck.vfat are the judges.
#[allow(clippy::disallowed_methods)]
fn run(words: &[&str]) -> (String, bool) {
    let done = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("{}: {e}", words[0]));
    (String::from_utf8_lossy(&done.stdout).into_owned(), done.status.success())
}

struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Disk {
    /// A partition as flash.sh makes it, only smaller, with a file in three states.
    fn new(name: &str) -> Disk {
        static CONTENT_FILE: LazyLock<PathBuf> = LazyLock::new(|| {
            let path = std::env::temp_dir().join(format!("twobox-fat-{}-content", std::process::id()));
            std::fs::write(&path, CONTENT).unwrap();
            path
        });
        let path = std::env::temp_dir().join(format!("twobox-fat-{}-{name}", std::process::id()));
        let disk = Disk(path);
        File::create(&disk.0).unwrap().set_len(34 << 20).unwrap();
        let image = disk.0.to_str().unwrap();
        assert!(run(&["mkfs.vfat", "-F", "32", "-s", "1", image]).1);
        assert!(run(&["mmd", "-i", image, "::/EFI", "::/EFI/Linux"]).1);
        for file in [RUNNING, TRIED, DRAFT] {
            assert!(run(&["mcopy", "-i", image, CONTENT_FILE.to_str().unwrap(), &format!("::/{file}")]).1, "{file}");
        }
        disk
    }

    fn open(&self) -> File {
        File::options().read(true).write(true).open(&self.0).unwrap()
    }

    fn mend(&self) -> io::Result<Mended> {
        mend(&self.open())
    }

    /// What fsck.vfat finds fault with.
    fn faults(&self) -> Option<String> {
        let (said, is_well) = run(&["fsck.vfat", "-n", self.0.to_str().unwrap()]);
        (!is_well).then_some(said)
    }

    /// `None`: mtools does not find it.
    fn read(&self, file: &str) -> Option<Vec<u8>> {
        let out = self.0.with_extension("out");
        let _ = std::fs::remove_file(&out);
        run(&["mcopy", "-n", "-i", self.0.to_str().unwrap(), &format!("::/{file}"), out.to_str().unwrap()]);
        let bytes = std::fs::read(&out).ok();
        let _ = std::fs::remove_file(&out);
        bytes
    }

    fn shape(&self) -> Shape {
        let mut block = [0; 512];
        self.open().read_exact_at(&mut block, 0).unwrap();
        Shape::of(&block).unwrap()
    }

    /// Start and entry of each file, by the last letters of its short name: they differ.
    fn entries(&self) -> BTreeMap<String, Entry> {
        let file = self.open();
        let mut volume = Volume::read(&file, self.shape()).unwrap();
        let (mut found, mut folders) = (BTreeMap::new(), vec![volume.shape.root]);
        while let Some(folder) = folders.pop() {
            let chain = volume.claim(folder, usize::MAX).chain;
            for entry in volume.list(&chain).unwrap() {
                if entry.is_folder() {
                    folders.push(entry.start());
                } else {
                    found.insert(String::from_utf8_lossy(&entry.bytes[..11]).into_owned(), entry);
                }
            }
        }
        found
    }

    fn draft(&self) -> Entry {
        self.entries().into_values().find(Entry::is_draft).unwrap()
    }

    /// Writes one value of the table, as a cut may leave it.
    fn set(&self, cluster: u32, value: u32) {
        let shape = self.shape();
        for number in 0..shape.tables {
            let place = shape.table_at + number * shape.table_length + u64::from(cluster) * 4;
            self.open().write_all_at(&value.to_le_bytes(), place).unwrap();
        }
    }

    fn put(&self, entry: &Entry) {
        self.open().write_all_at(&entry.bytes, entry.at).unwrap();
    }
}

#[test]
fn what_is_whole_stays_as_it_is() {
    let disk = Disk::new("whole");
    assert_eq!(disk.faults(), None, "the judge");
    let before = std::fs::read(&disk.0).unwrap();
    assert_eq!(disk.mend().unwrap(), Mended::default());
    assert!(std::fs::read(&disk.0).unwrap() == before, "something was written");
    // No FAT32 is not ours to judge.
    disk.open().write_all_at(&[0; 2], 510).unwrap();
    assert_eq!(disk.mend().unwrap(), Mended::default());
}

#[test]
fn a_chain_that_runs_into_free_clusters_is_cut_there() {
    let disk = Disk::new("cut");
    let start = disk.draft().start();
    for lost in 4..10 {
        disk.set(start + lost, FREE);
    }
    assert!(disk.faults().is_some(), "the judge");
    assert_eq!(disk.mend().unwrap(), Mended { cut: 1, freed: 0 });
    assert_eq!(disk.faults(), None);
    assert_eq!(disk.read(DRAFT).unwrap(), &CONTENT[..4 * 512]);
    assert_eq!(disk.read(RUNNING).unwrap(), CONTENT);
    assert_eq!(disk.mend().unwrap(), Mended::default());
}

#[test]
fn clusters_of_nobody_are_free_again() {
    let disk = Disk::new("lost");
    // Its data are on the disk, and its entry is not yet.
    let mut draft = disk.draft();
    draft.set_length(0);
    disk.put(&draft);
    assert!(disk.faults().is_some(), "the judge");
    assert_eq!(disk.mend().unwrap(), Mended { cut: 0, freed: 10 });
    assert_eq!((disk.faults(), disk.read(RUNNING).as_deref()), (None, Some(CONTENT)));
}

#[test]
fn an_entry_without_its_clusters_becomes_an_empty_file() {
    let disk = Disk::new("empty");
    let start = disk.draft().start();
    for lost in 0..10 {
        disk.set(start + lost, FREE);
    }
    assert_eq!(disk.mend().unwrap(), Mended { cut: 1, freed: 0 });
    assert_eq!((disk.faults(), disk.read(DRAFT).as_deref()), (None, Some(&[][..])));
}

#[test]
fn a_length_that_was_not_written_yet_frees_what_is_behind() {
    let disk = Disk::new("short");
    let mut draft = disk.draft();
    draft.set_length(3 * 512);
    disk.put(&draft);
    assert_eq!(disk.mend().unwrap(), Mended { cut: 1, freed: 7 });
    assert_eq!((disk.faults(), disk.read(DRAFT).as_deref()), (None, Some(&CONTENT[..3 * 512])));
}

#[test]
fn a_draft_lets_go_of_what_another_file_has() {
    let disk = Disk::new("both");
    // Renamed half: two names of one file. Removing one would free what the other one holds.
    let entries = disk.entries();
    let running = entries.iter().find(|(name, _)| name.starts_with("TWOBOX-1")).unwrap().1;
    let mut draft = disk.draft();
    draft.bytes[20..22].copy_from_slice(&running.bytes[20..22]);
    draft.bytes[26..28].copy_from_slice(&running.bytes[26..28]);
    disk.put(&draft);
    disk.mend().unwrap();
    assert_eq!((disk.faults(), disk.read(DRAFT).as_deref()), (None, Some(&[][..])));
    assert_eq!(disk.read(RUNNING).unwrap(), CONTENT);
}

#[test]
fn two_images_that_share_clusters_are_nobody_s_to_judge() {
    let disk = Disk::new("shared");
    let entries = disk.entries();
    let images: Vec<&Entry> = entries.values().filter(|entry| !entry.is_draft()).collect();
    disk.set(images[0].start() + 2, images[1].start() + 3);
    let before = std::fs::read(&disk.0).unwrap();
    let error = disk.mend().unwrap_err().to_string();
    assert!(error.starts_with("the boot partition is damaged"), "{error}");
    assert!(std::fs::read(&disk.0).unwrap() == before, "something was written");
}

#[test]
fn tables_that_differ_become_equal_and_the_mark_of_a_cut_goes() {
    let disk = Disk::new("tables");
    let shape = disk.shape();
    let start = disk.draft().start();
    let place = shape.table_at + shape.table_length + u64::from(start) * 4;
    disk.open().write_all_at(&0u32.to_le_bytes(), place).unwrap();
    disk.open().write_all_at(&[1], 0x41).unwrap();
    assert!(disk.faults().is_some(), "the judge");
    disk.mend().unwrap();
    assert_eq!((disk.faults(), disk.read(DRAFT).as_deref()), (None, Some(CONTENT)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Whatever a draft has become: the images stay, fsck finds no fault, and once is enough.
    #[test]
    fn no_draft_takes_an_image_along(
        values in proptest::collection::vec((0u32..10, prop_oneof![Just(0u32), 2u32..64, any::<u32>()]), 0..6),
        start in proptest::option::of(0u32..64),
        length in proptest::option::of(prop_oneof![0u32..8192, any::<u32>()]),
    ) {
        let disk = Disk::new("any");
        let mut draft = disk.draft();
        let first = draft.start();
        for (place, value) in values {
            disk.set(first + place, value & MASK);
        }
        if let Some(start) = start {
            draft.bytes[20..22].fill(0);
            draft.bytes[26..28].copy_from_slice(&u16::try_from(start).unwrap().to_le_bytes());
        }
        if let Some(length) = length {
            draft.bytes[28..32].copy_from_slice(&length.to_le_bytes());
        }
        disk.put(&draft);
        disk.mend().unwrap();
        prop_assert_eq!(disk.faults(), None);
        for image in [RUNNING, TRIED] {
            prop_assert_eq!(disk.read(image).unwrap(), CONTENT);
        }
        prop_assert_eq!(disk.mend().unwrap(), Mended::default());
    }
}
