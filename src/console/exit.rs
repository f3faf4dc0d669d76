//! How a command ended, for scripts.

use std::process::{ExitCode, Termination};

/// The exit codes of every command. A contract: scripts test them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is done, or was shown.
    Done = 0,
    /// Refused or failed: one line on standard error says why and what to do.
    Refused = 1,
    /// Wrong use of the command line, or a wrong configuration.
    WrongUse = 2,
    /// `mirror verify` has done its work, and the two sides were not equal; healed or not.
    Different = 3,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}
