//! The disk's thread: writes the record, and says when it is durable.
//!
//! A thread of its own, because a disk may hang for seconds: neither the loop nor the services' helper may wait for it.

use std::io;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::mailbox::Mailbox;
use super::record;
use super::{life, neighbor};
use crate::node::Record;
use crate::realtime;
use crate::state::Directory;
use crate::update::demand::Equipment;
use crate::wire::Mac;
use std::os::fd::AsFd;

/// Name of the record's file in the state directory.
pub const RECORD: &str = "node";

/// Name of the file with the operator's reason for a hold.
pub const HOLD_REASON: &str = "hold-reason";

/// Name of the file with what worked under the former image.
pub const DEMAND: &str = "demand";

/// Name of the history's file, and its longest length in bytes: some hundred events.
pub const HISTORY: &str = "history";
const HISTORY_MAX: u64 = 64 * 1024;

/// What is to be written.
pub enum ToDisk {
    /// The record, durably, then an answer with the ticket.
    Write {
        /// The node's number of the request.
        ticket: u32,
        /// What to write.
        record: Record,
    },
    /// Where the peer is on the LAN, for the next life.
    Neighbor(Mac),
    /// Why the operator holds this box; empty when he does not.
    HoldReason(Box<str>),
    /// What works under this image, and has to under the next one.
    Demand(Equipment),
    /// A line for the history.
    Remember(Box<str>),
    /// This life has left in order: what its file says from now on.
    Left(Box<[u8]>),
    /// Nothing more will come.
    End,
}

/// What became of a [`ToDisk::Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// The node's number of the request.
    pub ticket: u32,
    /// It is on disk.
    pub durable: bool,
}

/// The way of the answers: of nobody else, because in a mailbox of several senders a letter waits for those that were begun
/// before it. An ordinary thread that is interrupted while it puts one in would keep the term of a takeover from the loop.
pub type Answers = Mailbox<Persisted, 4>;

/// Starts the thread.
///
/// # Errors
///
/// When the kernel gives no thread.
pub fn start(
    directory: Directory,
    requests: Arc<Mailbox<ToDisk>>,
    answers: Arc<Answers>,
) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("twobox-disk".into()).stack_size(super::STACK).spawn(move || {
        // Without permission it is an ordinary thread; the loop has warned already.
        let _ = realtime::prioritize(realtime::Thread::Disk);
        while write_all(&directory, &requests, &answers) {
            let mut bell = [PollFd::new(requests.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut bell, PollTimeout::NONE); // EINTR: look again
        }
    })
}

/// Writes what waits; false at the end.
fn write_all(directory: &Directory, requests: &Mailbox<ToDisk>, answers: &Answers) -> bool {
    requests.hush();
    while let Some(request) = requests.receive() {
        let (ticket, record) = match request {
            ToDisk::Write { ticket, record } => (ticket, record),
            ToDisk::Remember(line) => {
                if let Err(error) = directory.append(HISTORY, &line, HISTORY_MAX) {
                    log::warn!("{}: the history cannot be written: {error}", directory.path().display());
                }
                continue;
            }
            ToDisk::Neighbor(mac) => {
                if let Err(error) = directory.write(neighbor::FILE, &mac) {
                    log::warn!("{}: where the peer is cannot be written: {error}", directory.path().display());
                }
                continue;
            }
            ToDisk::HoldReason(reason) => {
                if let Err(error) = directory.write(HOLD_REASON, reason.as_bytes()) {
                    log::warn!("{}: why it is held cannot be written: {error}", directory.path().display());
                }
                continue;
            }
            ToDisk::Demand(works) => {
                if let Err(error) = directory.write(DEMAND, works.encode().as_bytes()) {
                    log::warn!(
                        "{}: what works under this image cannot be written: {error}",
                        directory.path().display()
                    );
                }
                continue;
            }
            ToDisk::Left(life) => {
                if let Err(error) = directory.write(life::FILE, &life) {
                    log::warn!("{}: that it left in order cannot be written: {error}", directory.path().display());
                }
                continue;
            }
            ToDisk::End => return false,
        };
        let written = directory.write(RECORD, &record::encode(&record));
        if let Err(error) = &written {
            log::error!("{}: the record cannot be written: {error}", directory.path().display());
        }
        if answers.send(Persisted { ticket, durable: written.is_ok() }).is_err() {
            log::error!("the loop does not take the disk's answer");
        }
    }
    true
}
