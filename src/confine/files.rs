//! Which files a process can reach (landlock(7)), and which descriptors it has.
#![allow(unsafe_code)] // the version of landlock and close_range(2) have no wrappers

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};

/// Version of the kernel's landlock; `None`: it has none, or it is switched off.
fn version() -> Option<u32> {
    const VERSION: libc::c_int = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: this form of the call takes no structure.
    let n = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    u32::try_from(n).ok()
}

/// Confines the calling thread and what it starts to what is below `whole` (everything but execution) and `readable`
/// (reading files and directories). Paths that are not there are passed over. Returns the version of landlock that is in force.
///
/// Version 1 (before Linux 5.19) is not used: it forbids every rename from one directory to another.
///
/// # Errors
///
/// What the kernel says.
pub fn confine(whole: &[PathBuf], readable: &[PathBuf]) -> io::Result<Option<u32>> {
    let Some(version) = version().filter(|&version| version >= 2) else { return Ok(None) };
    let all = AccessFs::from_all(ABI::V5);
    let files = all & !(AccessFs::Execute | AccessFs::IoctlDev);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|ruleset| ruleset.scope(Scope::Signal))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    for path in whole {
        ruleset = allow(ruleset, path, files)?;
    }
    for path in readable {
        ruleset = allow(ruleset, path, AccessFs::ReadFile | AccessFs::ReadDir)?;
    }
    ruleset.restrict_self().map_err(io::Error::other)?;
    Ok(Some(version))
}

fn allow(
    ruleset: landlock::RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> io::Result<landlock::RulesetCreated> {
    let Ok(fd) = PathFd::new(path) else { return Ok(ruleset) };
    // What concerns directories alone must not be allowed of a file.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI::V5) };
    ruleset.add_rule(PathBeneath::new(fd, access)).map_err(io::Error::other)
}

/// Closes every descriptor from this one on.
pub fn close_all_from(first: u32) {
    // SAFETY: whoever calls this owns no descriptor yet. ENOSYS before Linux 5.9: they are close-on-exec anyway.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}
