//! Power loss at every flush of the receiver's disk: whatever a disk may keep of what it was not told to flush, the tree
//! is one whole cut.
//!
//! `power` looks at what the file system had sent to its disk when the receiver died. A disk has a cache of its own, and
//! may lose what it has not been told to flush, or keep any part of it. So the disk of this test writes down every write
//! and every flush of a cycle that succeeds (`logged`), and each state that a power loss could have left is mounted, as
//! the box would mount it: the mirror's next start, and then the tree must be cut N or cut N+1, word by word. After the
//! cycle has told the sender that the cut is whole, it must be cut N+1.

use std::fs;
use std::path::{Path, PathBuf};

use crate::compare::{Description, assert_equal, describe, differences};
use crate::crash::Children;
use crate::disk::{Disk, in_own_mounts, run};
use crate::logged::LoggedDisk;
use crate::mutate::{Random, mutate};
use crate::rig::Pair;

/// Small, so that a state is made and looked at in a moment.
const DISK_MIB: u64 = 24;
/// Every so many states a further cycle is made, by a sender that believes its copy to be at the last cut.
const HEALED: u32 = 5;

#[test]
fn whatever_a_disk_keeps_at_a_flush_the_tree_is_a_whole_cut() {
    let wanted = std::env::var("TWOBOX_FLUSHES").map_or(60, |n| n.parse().unwrap());
    let seed = std::env::var("TWOBOX_SEED").map_or(71, |seed| seed.parse().unwrap());
    in_own_mounts(move || {
        let home = PathBuf::from("/dev/shm").join(format!("tbmr-flushes-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let mut seen = Seen::default();
        for round in 0.. {
            if seen.old + seen.new >= wanted {
                break;
            }
            one_round(&home, seed + round, &mut seen);
        }
        fs::remove_dir_all(&home).unwrap();
        let Seen { old, new, healed } = seen;
        assert!(old > 0 && new > 0 && healed > 0, "{old} old, {new} new, {healed} healed");
        println!("{} power losses: {old} times the old cut, {new} times the new one; {healed} healed", old + new);
    });
}

/// Which cut the tree was.
#[derive(Default)]
struct Seen {
    old: u32,
    new: u32,
    /// States from which a whole further cycle was made.
    healed: u32,
}

/// A few cycles on one disk, each looked at in every state that a power loss could leave.
fn one_round(home: &Path, seed: u64, seen: &mut Seen) {
    let mut r = Random(seed);
    let disk = LoggedDisk::serve(&home.join("served"), formatted(home));
    let mounted = Disk { image: disk.file(), mounted: home.join("mounted") };
    fs::create_dir_all(&mounted.mounted).unwrap();
    mounted.mount();
    let pair = Pair::new().with_b_in(&mounted.mounted);
    let children = Children::new(&pair);
    (0..30).for_each(|_| mutate(&pair.a(), &mut r));
    assert!(children.cycle(&[]).1, "seed {seed}");
    for cycle in 0..3 {
        let before = describe(&pair.b());
        (0..1 + r.below(8)).for_each(|_| mutate(&pair.a(), &mut r));
        let after = describe(&pair.a());
        disk.begin();
        assert!(children.cycle(&[]).1, "seed {seed} cycle {cycle}");
        let log = disk.log();
        assert_equal(&pair.a(), &pair.b());
        let flushes = log.flushes();
        for &end in &flushes {
            let is_told = Some(&end) == flushes.last();
            let what = format!("seed {seed} cycle {cycle}, {end} of {} events", log.events.len());
            let cuts = [&before, &after];
            look(home, &pair, &log.after_power_loss(end, None), cuts, is_told, seen, &what);
            look(home, &pair, &log.after_power_loss(end, Some(&mut r)), cuts, is_told, seen, &what);
        }
    }
    drop(mounted);
}

/// Mounts a disk that was left like this, has the mirror start there, and judges the tree.
fn look(home: &Path, pair: &Pair, state: &[u8], cuts: [&Description; 2], told: bool, seen: &mut Seen, what: &str) {
    let image = home.join("state");
    fs::write(&image, state).unwrap();
    let copy = Disk { image, mounted: home.join("copy") };
    fs::create_dir_all(&copy.mounted).unwrap();
    copy.mount();
    let box_b = Children::of_copy(pair, &copy.mounted);
    box_b.restart();
    let tree = copy.mounted.join("b/tree");
    let now = describe(&tree);
    let [old, new] = cuts.map(|cut| differences(cut, &now));
    assert!(old.is_empty() || new.is_empty(), "{what}: a mixture\n{}\n---\n{}", old.join("\n"), new.join("\n"));
    assert!(!told || new.is_empty(), "{what}: the sender was told of a cut that is lost\n{}", new.join("\n"));
    *if new.is_empty() { &mut seen.new } else { &mut seen.old } += 1;
    if (seen.old + seen.new).is_multiple_of(HEALED) {
        assert!(box_b.cycle(&[]).1, "{what}: no cycle afterwards");
        assert_equal(&pair.a(), &tree);
        seen.healed += 1;
    }
}

/// The bytes of a new file system.
fn formatted(home: &Path) -> Vec<u8> {
    let file = home.join("new");
    fs::File::create(&file).unwrap().set_len(DISK_MIB << 20).unwrap();
    run("mkfs.ext4", &["-q", "-F", file.to_str().unwrap()]);
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    bytes
}
