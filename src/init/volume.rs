//! The appliance's two volumes: state (site file, key, term, history) and data (what is served).

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::module;
use super::partition::{self, Condition};
use crate::clock;
use crate::config::board::Volume;
use crate::config::key_file;
use crate::time::Duration;

/// Where the state partition is mounted: the daemon's default `--state`.
pub const STATE: &str = "/var/lib/twobox";

/// Where the data partition is mounted.
pub const DATA: &str = "/data";

/// How long a disk may take to show up: one on USB needs about two seconds, a cold RAID controller ten.
const DISK_WAIT: Duration = Duration::from_secs(15);
/// Between two looks for it: at first and at most. A disk announces itself within milliseconds, or after seconds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Mounts the state partition at `device`. One that can only be read still tells who we are and what the pair is; its failure holds
/// the box.
///
/// # Errors
///
/// It is damaged, or cannot be written.
pub fn mount_state(device: &Path) -> Result<String, String> {
    let failed = match mount(device, Path::new(STATE)) {
        Ok(said) => return probe_write(Path::new(STATE)).map(|()| said),
        Err(why) => why,
    };
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    // Without the replay of the journal: a damaged journal must not keep us from reading.
    let _ = nix::mount::mount(Some(device), STATE, Some("ext4"), flags, Some("noload"));
    Err(failed)
}

/// Mounts the data partition at `device`.
///
/// # Errors
///
/// It is damaged, or cannot be written.
pub fn mount_data(device: &Path) -> Result<String, String> {
    let said = mount(device, Path::new(DATA))?;
    probe_write(Path::new(DATA)).map(|()| said)
}

fn mount(device: &Path, at: &Path) -> Result<String, String> {
    let condition = partition::mount_checked(device, at).map_err(|e| e.to_string())?;
    let replayed = if condition == Condition::NeedsReplay { ", journal replayed" } else { "" };
    Ok(format!("{} at {}{replayed}", device.display(), at.display()))
}

/// A disk that turned read-only lets itself be mounted and refuses the first write.
fn probe_write(directory: &Path) -> Result<(), String> {
    let path = directory.join(".twobox-write-probe");
    let written = fs::File::create(&path).and_then(|file| file.sync_all()).and_then(|()| fs::remove_file(&path));
    match written {
        // Full is the service's matter, and room is made by its operator: the disk itself works.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        Err(error) => Err(format!("{} cannot be written: {error}", directory.display())),
        Ok(()) => Ok(()),
    }
}

/// The partition's device, once the disk is there. `meanwhile` is called again and again.
///
/// # Errors
///
/// It has not come, or there are several of that name.
pub(super) fn wait_for(volume: &Volume, meanwhile: impl FnMut()) -> Result<PathBuf, String> {
    until(DISK_WAIT, meanwhile, |_| partition::find(volume).map_err(|e| e.to_string()))?
        .ok_or_else(|| format!("{} has not shown up within {} s", partition::name(volume), DISK_WAIT.as_secs()))
}

/// Looks until something is found, at the last time with `true`. `None`: nothing was, within `limit`.
///
/// # Errors
///
/// The look's.
pub(super) fn until<T>(
    limit: Duration,
    mut meanwhile: impl FnMut(),
    mut look: impl FnMut(bool) -> Result<Option<T>, String>,
) -> Result<Option<T>, String> {
    let end = clock::now() + limit;
    let mut pause = PAUSE.0;
    loop {
        meanwhile();
        let last = clock::now() >= end;
        let found = look(last)?;
        if found.is_some() || last {
            return Ok(found);
        }
        // A device behind a controller that has just been driven may want a driver of its own.
        let _ = module::load_for_hardware("");
        #[allow(clippy::disallowed_methods)] // before any loop runs
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Puts a link to the key on the state partition where the site file names it: the image carries none.
///
/// # Errors
///
/// What symlink(2) said.
pub fn link_key() -> io::Result<()> {
    match symlink(Path::new(STATE).join("pair.key"), key_file::ON_APPLIANCE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_is_found_and_what_never_comes_is_looked_for_to_the_end() {
        let (mut fed, mut looks) = (0, 0);
        let found = until(
            Duration::from_secs(60),
            || fed += 1,
            |_| {
                looks += 1;
                Ok((looks == 4).then_some(looks))
            },
        );
        assert_eq!((found, fed), (Ok(Some(4)), 4));
        let (began, mut last) = (clock::now(), false);
        let limit = Duration::from_millis(700);
        let never = until(
            limit,
            || fed += 1,
            |is_last| {
                last = is_last;
                Ok(None::<u8>)
            },
        );
        assert_eq!((never, last), (Ok(None), true));
        // Not a thousand looks: each reads all devices.
        assert!(clock::now().since(began) >= limit && fed < 24, "{fed} looks");
    }
}
