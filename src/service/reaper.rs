//! Every child's end, and every orphan's: as PID 1 (or as a subreaper, prctl(2)) all of them are ours.
//!
//! One reader of SIGCHLD for the whole process: a wait for "any child" elsewhere would steal another's status, and
//! waiting for known children alone would let orphans pile up as zombies.
#![allow(unsafe_code)] // one waitpid(2)

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use async_signal::{Signal, Signals};
use nix::errno::Errno;
use nix::sys::prctl;
use smol::channel::{Receiver, Sender, bounded};
use smol::stream::StreamExt;

/// Who waits for whom.
pub struct Reaper {
    ended: RefCell<Option<Signals>>,
    waiting: RefCell<HashMap<i32, Sender<ExitStatus>>>,
}

impl Reaper {
    /// Listens to SIGCHLD and adopts the orphans of our offspring.
    ///
    /// # Errors
    ///
    /// What sigaction(2) or prctl(2) said.
    pub fn new() -> io::Result<Self> {
        prctl::set_child_subreaper(true)?;
        let ended = Signals::new([Signal::Child])?;
        Ok(Self { ended: RefCell::new(Some(ended)), waiting: RefCell::default() })
    }

    /// The end of child `pid`, once. Ask before the executor runs again after the spawn: then it cannot be missed.
    #[must_use]
    pub fn end_of(&self, pid: u32) -> Receiver<ExitStatus> {
        let (sender, receiver) = bounded(1);
        let pid = i32::try_from(pid).expect("a process number of the kernel");
        self.waiting.borrow_mut().insert(pid, sender);
        receiver
    }

    /// Reaps for as long as the daemon lives. Run it on the helper's executor.
    ///
    /// # Errors
    ///
    /// What waitid(2) or the signal's descriptor said.
    pub async fn run(&self) -> io::Result<()> {
        let Some(mut ended) = self.ended.borrow_mut().take() else {
            return Err(io::Error::other("the reaper runs already"));
        };
        loop {
            // Several ends may have become one signal: each turn reaps all there is.
            while self.reap_one()? {}
            ended.next().await.transpose()?;
        }
    }

    /// Reaps one ended child, if there is one.
    fn reap_one(&self) -> io::Result<bool> {
        let mut status = 0;
        // SAFETY: `status` is a valid int and outlives the call. (nix's waitpid fails on real-time signals, after the
        // child is already reaped.)
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match pid {
            0 => Ok(false),
            1.. => {
                match self.waiting.borrow_mut().remove(&pid) {
                    // Full or closed: nobody waits any more.
                    Some(waiter) => drop(waiter.try_send(ExitStatus::from_raw(status))),
                    None => log::debug!("reaped orphan {pid}"),
                }
                Ok(true)
            }
            _ => match Errno::last() {
                Errno::ECHILD => Ok(false),
                Errno::EINTR => Ok(true),
                errno => Err(errno.into()),
            },
        }
    }
}
