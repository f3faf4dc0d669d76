//! Taking from a process of our own what it does not need, so that whoever takes it over by what it reads has nothing.
//!
//! The daemon's children parse what comes from outside: the peer's mirror stream, an operator's terminal. Each calls
//! [`confine`] before it reads the first byte of that and before it starts a thread. From then on, for good:
//!
//! - no program gives it more rights (`PR_SET_NO_NEW_PRIVS`), and no core dump or debugger shows its memory;
//! - of root's capabilities it has those that it named ([`capability`]);
//! - device nodes can be made but not opened ([`mounts`]), or, where that cannot be had, harmless ones alone be made;
//! - nothing can be changed, not even a mode or an owner, on file systems that hold none of the directories that it named
//!   ([`mounts`]); on those that do, they can be changed everywhere, for landlock knows no right to it;
//! - files can be opened, made, renamed and removed only below these directories ([`files`], landlock);
//! - of the kernel's calls it has those of the groups that it named ([`calls`], seccomp): no program can be started, no
//!   process signalled or looked into, no socket opened but of the families named, no file system mounted.
//!
//! What the kernel lacks is left out, and [`Confinement`] says so. The daemon's own memory, the watchdog and addresses
//! are out of reach by each of the last three alone.
//!
//! ```text
//! harden -> open what is needed -> confine -> threads -> bytes from outside
//! ```

pub mod calls;
pub mod capability;
pub mod files;
pub mod mount_table;
pub mod mounts;

use std::io;
use std::path::PathBuf;

pub use calls::Group;
pub use capability::Capability;

/// What a process keeps.
#[derive(Clone, Debug, Default)]
pub struct Bounds<'a> {
    /// Of root's capabilities.
    pub capabilities: &'a [Capability],
    /// Below these it may do everything with files but execute them.
    pub whole: Vec<PathBuf>,
    /// Below these it may read files and directories.
    pub readable: Vec<PathBuf>,
    /// Calls to the kernel.
    pub calls: &'a [Group],
}

impl Bounds<'_> {
    /// No call is left that changes a file. Opening one for writing is a call of reading, which landlock refuses.
    fn change_nothing(&self, has_landlock: bool) -> bool {
        let has = |group| self.calls.contains(&group);
        !has(Group::Write) && (!has(Group::Read) || has_landlock && self.whole.is_empty())
    }
}

/// What is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The capabilities are reduced.
    pub capabilities: bool,
    /// Files are confined by landlock of this version.
    pub files: Option<u32>,
    /// Calls are filtered.
    pub calls: bool,
    /// No device node can be opened.
    pub devices: bool,
    /// Nothing can be changed on file systems that hold none of its directories.
    pub elsewhere: bool,
}

impl std::fmt::Display for Confinement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut in_force, mut missing) = (Vec::new(), Vec::new());
        let mut sort = |there: bool, name: String| if there { in_force.push(name) } else { missing.push(name) };
        sort(self.capabilities, "capabilities".into());
        sort(self.files.is_some(), self.files.map_or("files".into(), |version| format!("files (landlock {version})")));
        sort(self.calls, "calls".into());
        sort(self.devices, "devices".into());
        sort(self.elsewhere, "other file systems".into());
        match (in_force.is_empty(), missing.is_empty()) {
            (false, true) => write!(f, "{}", in_force.join(", ")),
            (true, _) => f.write_str("none"),
            (false, false) => write!(f, "{}; without {}", in_force.join(", "), missing.join(", ")),
        }
    }
}

/// First of all: a shortage of memory ends this process before the daemon and its services, nobody looks into it, and it has
/// no descriptor of its parent's but standard input, output and error.
///
/// # Errors
///
/// What prctl(2) says.
pub fn harden() -> io::Result<()> {
    let _ = crate::oom::expose(); // without /proc it stands as its parent does
    nix::sys::prctl::set_dumpable(false)?;
    files::close_all_from(3);
    Ok(())
}

/// Confines the calling thread and all that it starts. There is no way back.
///
/// # Errors
///
/// What the kernel says to a measure that it has; then the process must end.
pub fn confine(bounds: &Bounds<'_>) -> io::Result<Confinement> {
    nix::sys::prctl::set_no_new_privs()?;
    let view = mounts::narrow(&bounds.whole)?; // first: what follows forbids it
    let files = files::confine(&bounds.whole, &bounds.readable)?;
    let capabilities = capability::keep(bounds.capabilities)?;
    let calls = calls::filter(bounds.calls, view.devices)?; // last: it forbids what the others do
    let elsewhere = view.elsewhere || calls && bounds.change_nothing(files.is_some());
    Ok(Confinement { capabilities, files, calls, devices: view.devices, elsewhere })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        let all = Confinement { capabilities: true, files: Some(7), calls: true, devices: true, elsewhere: true };
        assert_eq!(all.to_string(), "capabilities, files (landlock 7), calls, devices, other file systems");
        let old = Confinement { files: None, devices: false, ..all };
        assert_eq!(old.to_string(), "capabilities, calls, other file systems; without files, devices");
        assert_eq!(Confinement::default().to_string(), "none");
    }
    #[test]
    fn who_opens_files_can_write_to_them_where_landlock_is_missing() {
        let bounds = |calls| Bounds { calls, ..Bounds::default() };
        let nothing = |calls, landlock| bounds(calls).change_nothing(landlock);
        assert!(nothing(&[Group::Base, Group::Internet], false));
        assert!(nothing(&[Group::Base, Group::Read], true) && !nothing(&[Group::Base, Group::Read], false));
        assert!(!nothing(&[Group::Base, Group::Write], true));
        let whole = vec!["/data".into()];
        assert!(!Bounds { whole, ..bounds(&[Group::Base, Group::Read]) }.change_nothing(true));
    }
}
