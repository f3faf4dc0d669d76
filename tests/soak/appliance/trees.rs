//! Files that change all the time, in the tree that the pair mirrors, through the rig's hand inside the boxes.

use std::time::Duration;

use super::look::{ANSWER, recovered};
use super::rig::Rig;
use crate::dice::Dice;

/// Folders, and names of files in each. A quarter of the files is gone at any time; the mirror's guard stops a cycle that would
/// delete as much at once.
const FOLDERS: u64 = 4;
const NAMES: u64 = 10;
const CHANGES: u64 = 3;
/// A copy that was asked for is whole by then: the standby may still be reading its own tree.
const COPIED: Duration = Duration::from_secs(180);

/// Writes every file once.
pub fn fill(rig: &Rig, active: usize) -> Result<(), String> {
    for folder in 0..FOLDERS {
        let write = format!(
            "bb mkdir -p /data/mail/{folder}; for n in $(bb seq 0 {}); do bb seq {folder} $((90 * (n + 1))) >/data/mail/{folder}/$n; done",
            NAMES - 1
        );
        ask(rig, active, &write)?;
    }
    Ok(())
}

/// Some files of the serving box come, change and go. Nobody waits for the copy.
pub fn change(rig: &Rig, active: usize, dice: &mut Dice) -> Result<(), String> {
    let mut commands = Vec::new();
    for _ in 0..CHANGES {
        let path = format!("/data/mail/{}/{}", dice.roll(FOLDERS), dice.roll(NAMES));
        let (from, lines) = (dice.roll(100_000), dice.roll(1500));
        commands.push(match dice.roll(4) {
            0 => format!("bb rm -f {path}"),
            _ => format!("bb seq {from} {} >{path}", from + lines),
        });
    }
    ask(rig, active, &commands.join("; ")).map(drop)
}

/// Asks for a copy until it is whole; of whoever serves then: on a busy machine an emulated box may stall, and be reset, while it
/// copies. Returns how often a box was released meanwhile.
pub fn sync(rig: &mut Rig, mut active: usize) -> Result<u64, String> {
    let (until, mut released) = (rig.timeline.now() + COPIED, 0);
    loop {
        let said = rig.ask(active, "/init mirror sync", ANSWER);
        match said {
            Some((_, true)) => return Ok(released),
            said if rig.timeline.now() > until => return Err(format!("the copy is not whole: {said:?}")),
            _ => rig.pass(Duration::from_secs(1)),
        }
        let whole = recovered(rig)?;
        (active, released) = (whole.active, released + whole.released);
    }
}

/// Every name with its kind, mode, owner and time, and every file's digest.
pub fn describe(rig: &Rig, index: usize) -> Result<Vec<String>, String> {
    let said = ask(
        rig,
        index,
        "(cd /data/mail && bb find . ! -path '*/.twobox*' | bb sort | bb xargs busybox stat -c '%n %f %u:%g %Y' \
         && bb find . -type f ! -path '*/.twobox*' | bb sort | bb xargs -r busybox md5sum)",
    )?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn ask(rig: &Rig, index: usize, command: &str) -> Result<String, String> {
    match rig.ask(index, command, ANSWER) {
        Some((said, true)) => Ok(said),
        Some((said, false)) => Err(format!("{command}: {said}")),
        None => Err(format!("no answer to {command}")),
    }
}
