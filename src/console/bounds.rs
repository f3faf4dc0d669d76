//! What the process on the box's console port keeps: the port, the control socket, and the password's hash. Whoever takes
//! it over by what he types can say what an operator can say, and nothing else. See [`crate::confine`].

use std::io;
use std::path::Path;

use crate::confine::{Bounds, Confinement, Group, confine};

/// No file is written, no socket opened but on this machine.
const CALLS: &[Group] = &[Group::Base, Group::Read, Group::Local, Group::Terminal];

/// Confines this process, which has opened its terminal. A terminal that goes away cannot be opened again.
///
/// # Errors
///
/// As [`confine`].
pub fn confine_to(password_file: Option<&Path>) -> io::Result<Confinement> {
    let readable = password_file.map(Path::to_path_buf).into_iter().collect();
    confine(&Bounds { capabilities: &[], whole: Vec::new(), readable, calls: CALLS })
}
