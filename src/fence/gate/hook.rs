//! Where a program sits on an interface: on tcx, or as a filter of a clsact discipline. tcx runs first.

use std::io;

use super::bpf::{self, Program};
use super::classifier::{self, Filter};
use super::layout::Direction;

/// Which of the kernel's two ways is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// tcx, since 6.6.
    Tcx,
    /// clsact and cls_bpf.
    Classifier,
}

#[derive(Clone, Copy)]
enum Place {
    Tcx,
    Filter(Filter),
}

/// Something that runs on a hook.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The program's number; none if it is a filter of another kind.
    pub program: Option<u32>,
    place: Place,
}

/// Attaches `program` before all others of its way.
///
/// # Errors
/// Those of the kernel; EINVAL for [`Hook::Tcx`] on an older one.
pub fn attach_first(hook: Hook, index: u32, direction: Direction, program: &Program) -> io::Result<()> {
    match hook {
        Hook::Tcx => bpf::attach_first(index, direction, program),
        Hook::Classifier => classifier::attach_first(index, direction, program),
    }
}

/// All that runs on interface `index`, in order.
///
/// # Errors
/// Those of the kernel.
pub fn entries(index: u32, direction: Direction) -> io::Result<Vec<Entry>> {
    let tcx = bpf::attached(index, direction)?;
    let filters = classifier::attached(index, direction)?;
    let tcx = tcx.into_iter().map(|id| Entry { program: Some(id), place: Place::Tcx });
    let filters = filters.into_iter().map(|filter| Entry { program: filter.program, place: Place::Filter(filter) });
    Ok(tcx.chain(filters).collect())
}

/// Takes off what a former instance, or this one, left there: every program with our name, except `keep`.
///
/// # Errors
/// Those of the kernel.
pub fn sweep(index: u32, direction: Direction, keep: Option<u32>) -> io::Result<()> {
    for entry in entries(index, direction)? {
        let Some(id) = entry.program.filter(|&id| Some(id) != keep) else { continue };
        // It may be gone since it was listed.
        let Ok(program) = Program::open(id) else { continue };
        if program.describe()?.name != direction.program_name() {
            continue;
        }
        match entry.place {
            Place::Tcx => bpf::detach(index, direction, &program)?,
            Place::Filter(filter) => classifier::detach(index, direction, filter)?,
        }
    }
    Ok(())
}
