//! The face of the process that does the work: one order on standard input, reports on standard output, one JSON value a
//! line each. It ends after the last report, and with the daemon.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::esp::{self, Mounted, Wanted};
use super::transfer;
use crate::clock;
use crate::mirror::control::{self, Link};
use crate::mirror::priority;
use crate::time::Duration;

/// Pause between two reports of progress.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// How long the box that offers an image is looked for: it is asked before it listens.
const SEARCH: Duration = Duration::from_secs(20);
/// How long an image is offered.
const OFFER: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Look whether this box may boot an image, without touching anything; done with what it is called.
    Check {
        /// The file.
        image: PathBuf,
        /// What this box is and runs.
        wanted: Own,
    },
    /// Put an image into a slot and make it the next boot.
    Install {
        /// Where the image comes from.
        source: Source,
        /// The partition with the slots.
        esp: PathBuf,
        /// What this box is and runs.
        wanted: Own,
    },
    /// Give an image to the peer.
    Offer {
        /// The file.
        image: PathBuf,
        /// Where to listen.
        links: Vec<Link>,
        /// The pair's key, 64 hexadecimal digits.
        key: String,
    },
    /// Keep the running image.
    Confirm {
        /// The partition with the slots.
        esp: PathBuf,
        /// What the running image is called.
        running: String,
    },
}

/// What this box is and runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Own {
    /// Its board.
    pub board: String,
    /// What the running image is called.
    pub running: String,
}

impl From<Own> for Wanted {
    fn from(Own { board, running }: Own) -> Self {
        Self { board, running }
    }
}

/// Where an image comes from.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A file of this box.
    File(PathBuf),
    /// The peer, which offers it.
    Peer {
        /// Where to look for it.
        links: Vec<Link>,
        /// The pair's key, 64 hexadecimal digits.
        key: String,
    },
}

/// How it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// Bytes written or sent so far, of how many.
    Progress {
        /// So far.
        done: u64,
        /// In all.
        total: u64,
    },
    /// The last line: done.
    Done {
        /// In words.
        text: String,
    },
    /// The last line: not done, and nothing is changed.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Runs the process. Returns its exit status: 0 done, 1 refused, 2 no order.
#[must_use]
pub fn main() -> u8 {
    // It may hold the pair's key.
    if crate::confine::harden().is_err() {
        return 2;
    }
    priority::give_way();
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned().map(|fd: OwnedFd| File::from(fd)) else { return 2 };
    let Ok(mut out) = socket.try_clone() else { return 2 };
    let Ok(Some(order)) = control::read::<Order>(&mut BufReader::new(socket)) else { return 2 };
    let (report, code) = match obey(order, &mut out) {
        Ok(text) => (Report::Done { text }, 0),
        Err(error) => (Report::Refused { reason: error.to_string() }, 1),
    };
    if control::write(&mut out, &report).is_ok() { code } else { 2 }
}

fn obey(order: Order, out: &mut impl Write) -> io::Result<String> {
    match order {
        Order::Check { image, wanted } => {
            let length = named(&image, std::fs::metadata(&image))?.len();
            esp::accept(&image, length, &wanted.into())
        }
        Order::Install { source, esp, wanted } => {
            let mounted = Mounted::mount(&esp, true)?;
            let slot = match source {
                Source::File(image) => {
                    let mut file = named(&image, File::open(&image))?;
                    let length = file.metadata()?.len();
                    mounted.slots.install(&mut file, length, &wanted.into(), teller(out, length))?
                }
                Source::Peer { links, key } => {
                    let mut image = transfer::fetch(&links, &transfer::link_key(&decode(&key)?), SEARCH)?;
                    let length = image.length;
                    mounted.slots.install(&mut image, length, &wanted.into(), teller(out, length))?
                }
            };
            Ok(format!("slot {}", slot.number))
        }
        Order::Offer { image, links, key } => {
            let mut file = named(&image, File::open(&image))?;
            let length = file.metadata()?.len();
            transfer::offer(&mut file, links, transfer::link_key(&decode(&key)?), OFFER, teller(out, length))?;
            Ok(String::new())
        }
        Order::Confirm { esp, running } => {
            let mounted = Mounted::mount(&esp, true)?;
            let changed = mounted.slots.confirm(&running)?;
            Ok(if changed { "confirmed".into() } else { "it was confirmed already".into() })
        }
    }
}

fn named<T>(path: &std::path::Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// Tells the daemon how far it is, now and then. A daemon that has gone is noticed at the end.
fn teller<W: Write>(out: &mut W, total: u64) -> impl FnMut(u64) {
    let mut next = clock::now();
    move |done| {
        if clock::now() >= next || done == total {
            next = clock::now() + TELL_EVERY;
            let _ = control::write(out, &Report::Progress { done, total });
        }
    }
}

fn decode(key: &str) -> io::Result<[u8; 32]> {
    let wrong = || io::Error::other("no key");
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(key.as_bytes().chunks(2)) {
        *byte = str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(wrong)?;
    }
    if key.len() == 64 { Ok(bytes) } else { Err(wrong()) }
}
