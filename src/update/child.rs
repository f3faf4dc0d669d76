//! The face of the process that does the work: one order on standard input, reports on standard output, one JSON value a
//! line each. It ends after the last report, and with the daemon.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bounds::confine_for;
use super::esp::{self, Slots, Wanted};
use super::transfer;
use crate::clock;
use crate::mirror::control::{self, Link, LinkKey};
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
        /// The link's key: derived from the pair's, which the process never sees.
        key: LinkKey,
    },
    /// Look whether the images in the slots are whole, without touching anything; done with [`super::rot::Damages`] as JSON.
    Look {
        /// The partition with the slots.
        esp: PathBuf,
    },
    /// Put damaged images behind the whole ones.
    Retire {
        /// The partition with the slots.
        esp: PathBuf,
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
    /// An image on its disk is known to be damaged.
    pub anew: bool,
}

impl From<Own> for Wanted {
    fn from(Own { board, running, anew }: Own) -> Self {
        Self { board, running, anew }
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
        /// The link's key: derived from the pair's, which the process never sees.
        key: LinkKey,
    },
}

/// How it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// How the process is confined, in words; said once, before it reads the image or hears the peer.
    Confined {
        /// See [`crate::confine::Confinement`].
        by: String,
    },
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
    // It may hold a key.
    if crate::confine::harden().is_err() {
        return 2;
    }
    priority::give_way();
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned().map(|fd: OwnedFd| File::from(fd)) else { return 2 };
    let Ok(mut out) = socket.try_clone() else { return 2 };
    let Ok(Some(order)) = control::read::<Order>(&mut BufReader::new(socket)) else { return 2 };
    let (report, code) = match confined(&order, &mut out).and_then(|opened| obey(order, opened, &mut out)) {
        Ok(text) => (Report::Done { text }, 0),
        Err(error) => (Report::Refused { reason: error.to_string() }, 1),
    };
    if control::write(&mut out, &report).is_ok() { code } else { 2 }
}

/// What an order needs and what cannot be opened any more once the process is confined.
struct Opened {
    image: Option<File>,
    slots: Option<Slots>,
}

impl Opened {
    fn image(&mut self) -> io::Result<(&mut File, u64)> {
        let file = self.image.as_mut().ok_or_else(|| io::Error::other("no image"))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    fn slots(&self) -> io::Result<&Slots> {
        self.slots.as_ref().ok_or_else(|| io::Error::other("no slots"))
    }
}

/// Opens what the order names, and confines the process to it before it reads a byte of an image or of the peer's.
fn confined(order: &Order, out: &mut impl Write) -> io::Result<Opened> {
    let image = match order {
        Order::Check { image, .. } | Order::Offer { image, .. } => Some(image),
        Order::Install { source: Source::File(image), .. } => Some(image),
        Order::Install { source: Source::Peer { .. }, .. }
        | Order::Confirm { .. }
        | Order::Look { .. }
        | Order::Retire { .. } => None,
    };
    let image = image.map(|image| named(image, File::open(image))).transpose()?;
    let slots = match order {
        Order::Install { esp, .. } | Order::Confirm { esp, .. } | Order::Retire { esp } => {
            Some(esp::mount_for_this_process(esp)?)
        }
        Order::Look { esp } => Some(esp::mount_to_look(esp)?),
        Order::Check { .. } | Order::Offer { .. } => None,
    };
    let confinement = confine_for(order, slots.as_ref().map(Slots::folder))
        .map_err(|error| io::Error::other(format!("it could not be confined: {error}")))?;
    control::write(out, &Report::Confined { by: confinement.to_string() })?;
    Ok(Opened { image, slots })
}

fn obey(order: Order, mut opened: Opened, out: &mut impl Write) -> io::Result<String> {
    match order {
        Order::Check { wanted, .. } => {
            let (file, length) = opened.image()?;
            esp::accept(file, length, &wanted.into())
        }
        Order::Install { source: Source::File(_), wanted, .. } => {
            let (mut file, length) = opened.image().and_then(|(file, length)| Ok((file.try_clone()?, length)))?;
            let slot = opened.slots()?.install(&mut file, length, &wanted.into(), teller(out, length))?;
            Ok(format!("slot {}", slot.number))
        }
        Order::Install { source: Source::Peer { links, key }, wanted, .. } => {
            let mut image = transfer::fetch(&links, &key.0, SEARCH)?;
            let length = image.length;
            let slot = opened.slots()?.install(&mut image, length, &wanted.into(), teller(out, length))?;
            Ok(format!("slot {}", slot.number))
        }
        Order::Offer { links, key, .. } => {
            let (file, length) = opened.image()?;
            transfer::offer(file, links, key.0, OFFER, teller(out, length))?;
            Ok(String::new())
        }
        Order::Look { .. } => serde_json::to_string(&opened.slots()?.damages()?).map_err(io::Error::other),
        Order::Retire { .. } => {
            let retired = opened.slots()?.retire_damaged()?;
            Ok(retired.iter().map(|slot| slot.number.to_string()).collect::<Vec<_>>().join(", "))
        }
        Order::Confirm { running, .. } => {
            let changed = opened.slots()?.confirm(&running)?;
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
