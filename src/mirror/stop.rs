//! Ending what is done for a connection that was broken off. A look at a large tree and a copy of a large file take minutes,
//! and a box that is to serve must not wait for them: its services wait for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by who breaks a connection off, asked by who works for it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// May the work go on?
    ///
    /// # Errors
    ///
    /// `ConnectionAborted` when the connection was broken off.
    pub fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}
