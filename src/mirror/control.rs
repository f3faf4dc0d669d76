//! What the daemon and the mirror's process say to each other.
//!
//! The daemon starts `twobox mirror-child` with one end of a `socketpair(2)` (stream) as standard input; both sides
//! write one JSON value a line on it. The child begins with [`Report::Ready`]; the daemon answers with
//! [`Order::Configure`], then [`Order::Role`] whenever the role or the generation changes. End of file on the socket
//! ends the child; a child that has ended is started again by the daemon and told the same again: everything that must
//! survive is on disk.
//!
//! ```text
//! daemon                                child
//!   | <------------------------ Ready     |
//!   | Configure ------------------------> |
//!   | Role { send, generation, links } -> |  connects, scans, cycles by itself
//!   | <------------------- Trees (1/s)    |
//!   | Sync { request: 7 } --------------> |
//!   | <--------- Progress { request: 7 }  |
//!   | <------------- Done { request: 7 }  |
//! ```
//!
//! Requests carry a number of the daemon's choice; every request ends with exactly one [`Report::Done`] or
//! [`Report::Refused`] of that number.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

use super::outcome::{Deletions, TreeOutcome};

/// Longest line either side accepts, in bytes.
pub const LINE: usize = 1 << 20;

/// A lineage of the data: the term that was served and the boot that served it. Ordered by term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Number of the period of service.
    pub term: u64,
    /// Boot id of the node that served in it.
    pub boot: u64,
}

/// Which way the trees are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Neither: nothing is sent and nobody is listened to.
    #[default]
    Idle,
    /// From here to the peer: the Active node.
    Send,
    /// From the peer to here: every other role.
    Receive,
}

/// A way to the peer, best first in [`Order::Role`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// The peer is found on this interface by multicast and spoken to over IPv6 link-local: no addresses to configure.
    Interface(String),
    /// The peer's address (the sender's use) or our own (the receiver's use).
    Address(SocketAddr),
}

/// When a tree is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Every so many milliseconds.
    EveryMs(u64),
    /// After a change, once nothing has changed for so many milliseconds.
    OnChangeMs(u64),
}

/// How much of a tree one cycle may delete without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaxDelete {
    /// So many percent of the entries of the last cut.
    Percent(u8),
    /// So many entries.
    Entries(u64),
}

/// One `[[mirror]]` entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSettings {
    /// Absolute path of a directory or of one file.
    pub tree: PathBuf,
    /// When it is copied.
    pub when: When,
    /// Names (without `/`) or paths below the tree (with `/`) that are left out; `*`, `?` and `[...]` as in glob(7).
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How much one cycle may delete.
    pub max_delete: MaxDelete,
    /// The directory that holds `.twobox`; absent: the root of the file system that holds the tree. It must lie on the
    /// same mount as the tree.
    #[serde(default)]
    pub store: Option<PathBuf>,
}

/// The key of the link between the two mirrors. Wiped when dropped, never shown; as text 64 hexadecimal digits.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LinkKey(pub [u8; 32]);

impl Drop for LinkKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKey(secret)")
    }
}

impl Serialize for LinkKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Zeroizing::new(String::with_capacity(64));
        for byte in self.0 {
            text.extend([byte >> 4, byte & 15].into_iter().filter_map(|n| char::from_digit(n.into(), 16)));
        }
        serializer.serialize_str(&text)
    }
}

impl TryFrom<String> for LinkKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = Zeroizing::new(text);
        let mut key = LinkKey::default();
        if text.len() != 64 || !text.is_ascii() {
            return Err("a key has 64 hexadecimal digits".into());
        }
        for (at, byte) in key.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|e| e.to_string())?;
        }
        Ok(key)
    }
}

/// What the child needs to know once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The link's key: derived from the pair's, which the child never sees.
    #[serde(default)]
    pub key: LinkKey,
    /// Port of the mirror's TCP connection, on both boxes.
    pub port: u16,
    /// Every tree.
    pub trees: Vec<TreeSettings>,
    /// Most bytes a second on the crossover; absent: as fast as it goes.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
    /// Most bytes a second on the detour over the LAN, which others use too.
    #[serde(default)]
    pub lan_bytes_per_second: Option<u64>,
}

/// Shows everything but the key.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("port", &self.port).field("trees", &self.trees).finish_non_exhaustive()
    }
}

/// From the daemon to the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// First of all, once.
    Configure {
        /// What to copy and how.
        settings: Settings,
    },
    /// The role or the generation has changed. Takes effect at once: a cycle of the former role is broken off.
    Role {
        /// Which way.
        role: Role,
        /// `Send`: the generation that this node serves in. `Receive`: the oldest that it accepts.
        generation: Generation,
        /// Ways to the peer, best first.
        links: Vec<Link>,
    },
    /// A cycle now. Done when the standby's cut is as new as the request.
    Sync {
        /// Number of the request.
        request: u64,
        /// Only this tree.
        tree: Option<PathBuf>,
        /// Release what `max-delete` or the guard of the root has blocked.
        confirm_delete: bool,
    },
    /// The last cut before a planned hand-over, of every tree; services are stopped already. Done or refused.
    Drain {
        /// Number of the request.
        request: u64,
    },
    /// Compare both sides by hash.
    Verify {
        /// Number of the request.
        request: u64,
        /// Only this tree.
        tree: Option<PathBuf>,
    },
    /// The sets of changes that were set aside: answered by one [`Report::Line`] each, then done.
    DivergedList {
        /// Number of the request.
        request: u64,
    },
    /// What is in one of them.
    DivergedShow {
        /// Number of the request.
        request: u64,
        /// Its name in the list.
        name: String,
    },
    /// Put it back into its tree.
    DivergedRestore {
        /// Number of the request.
        request: u64,
        /// Its name in the list.
        name: String,
        /// Only this path below the tree.
        path: Option<String>,
    },
    /// Delete it.
    DivergedDrop {
        /// Number of the request.
        request: u64,
        /// Its name in the list.
        name: String,
    },
}

/// What a tree is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its next cycle.
    #[default]
    Idle,
    /// A cycle is running.
    Running,
    /// Its cycles do not get through; `cause` and `reason` say why.
    Blocked,
}

/// Why a tree is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The cycle would do harm to the copy: too many deletions, another root, an empty tree.
    Guard,
    /// The tree is not there.
    Missing,
    /// The cycle could not be carried out.
    Failed,
}

/// How a tree stands. Times are ages in milliseconds, reckoned on CLOCK_BOOTTIME of the box that reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFigures {
    /// Its path.
    pub tree: PathBuf,
    /// What is going on.
    pub state: State,
    /// Which way it is copied.
    pub role: Role,
    /// Age of the standby's cut: a failover now loses what changed since. Absent: none yet.
    pub cut_age_ms: Option<u64>,
    /// Generation of what is in the tree: that of the cut, or the one in which this box served last.
    pub generation: Generation,
    /// Age of the oldest change that the standby lacks; 0: it lacks none that we know of.
    pub lag_ms: Option<u64>,
    /// The tree's period, from which the age that still counts as current follows.
    pub period_ms: u64,
    /// Names of the last cut that are no directories.
    pub files: u64,
    /// Bytes that the last cycle put on the link, headers included.
    pub bytes_sent: u64,
    /// What the last cycle took, in milliseconds.
    pub cycle_ms: u64,
    /// Changes that the last cycle learned from the kernel's events.
    pub found_by_events: u64,
    /// Changes that the last cycle learned by scanning.
    pub found_by_scan: u64,
    /// Files that would not hold still and keep their former version on the standby.
    pub unsettled: u64,
    /// Sets of changes that were set aside.
    pub diverged: u64,
    /// Why it is blocked, or what the last cycle could not do.
    pub reason: Option<String>,
    /// The kind of that.
    #[serde(default)]
    pub cause: Option<Cause>,
}

/// From the child to the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// The child runs and waits for [`Order::Configure`].
    Ready,
    /// The order [`Order::Role`] has been taken and every tree is a whole cut: a cut that was being published when the
    /// order came is complete. Services must not start before.
    Settled {
        /// The role that was ordered.
        role: Role,
        /// The generation that was ordered.
        generation: Generation,
    },
    /// How the child is confined, in words; said once, before it reads the first byte of the peer's.
    Confined {
        /// See [`crate::confine::Confinement`].
        by: String,
    },
    /// Whether the link to the peer's mirror is up, and over which address.
    Connected {
        /// The peer's address; absent: no connection.
        peer: Option<String>,
    },
    /// How every tree stands: once a second, and at the end of every cycle.
    Trees {
        /// All of them, in the order of the settings.
        trees: Vec<TreeFigures>,
    },
    /// How far a request is.
    Progress {
        /// Number of the request.
        request: u64,
        /// The tree that is being copied.
        tree: PathBuf,
        /// Files done.
        files: u64,
        /// Files in all.
        files_total: u64,
        /// Bytes of file content done.
        bytes: u64,
        /// Bytes of file content in all.
        bytes_total: u64,
        /// Content bytes a second, over the cycle so far.
        rate: u64,
        /// At this rate, until the end.
        left_ms: Option<u64>,
    },
    /// What a cycle that was asked for deletes from the copy, before it does; or what it would delete, when a guard stops it.
    Deletions {
        /// Number of the request.
        request: u64,
        /// See there.
        deletions: Deletions,
    },
    /// What a cycle that was asked for has achieved, when it has ended.
    Outcome {
        /// Number of the request.
        request: u64,
        /// See there.
        outcome: TreeOutcome,
    },
    /// A line of an answer.
    Line {
        /// Number of the request.
        request: u64,
        /// Without its newline.
        text: String,
    },
    /// The request has been carried out.
    Done {
        /// Number of the request.
        request: u64,
        /// What was achieved, with its figures.
        text: String,
    },
    /// The request has been refused or has failed.
    Refused {
        /// Number of the request.
        request: u64,
        /// Why.
        reason: String,
        /// What can be done about it.
        remedy: String,
    },
    /// Something that needs the operator. `None` as text: no longer.
    Alarm {
        /// The tree.
        tree: PathBuf,
        /// What is wrong.
        text: Option<String>,
    },
}

/// Writes a value as one line.
///
/// # Errors
///
/// What the socket says.
pub fn write<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let mut line = Zeroizing::new(serde_json::to_vec(value)?);
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads one line; `None` at the end of the stream.
///
/// # Errors
///
/// What the socket says; `InvalidData` for a line that is no such value or is longer than [`LINE`].
pub fn read<T: for<'a> Deserialize<'a>>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Zeroizing::new(Vec::new());
    io::Read::take(&mut *from, LINE as u64).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => serde_json::from_slice(&line).map(Some).map_err(io::Error::from),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a line was cut off or is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_cut_line_is_an_error() {
        let order = Order::Role {
            role: Role::Send,
            generation: Generation { term: 7, boot: 9 },
            links: vec![Link::Interface("eth1".into()), Link::Address("[fe80::1%2]:7414".parse().unwrap())],
        };
        let mut bytes = Vec::new();
        write(&mut bytes, &order).unwrap();
        assert_eq!(read::<Order>(&mut &bytes[..]).unwrap(), Some(order));
        assert_eq!(read::<Order>(&mut &b""[..]).unwrap(), None);
        assert!(read::<Order>(&mut &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn the_key_is_not_shown() {
        let settings = Settings {
            key: LinkKey([0x5e; 32]),
            port: 1,
            trees: Vec::new(),
            bytes_per_second: None,
            lan_bytes_per_second: Some(1),
        };
        assert!(!format!("{settings:?} {:?}", settings.key).contains("5e5e"));
        let text = serde_json::to_string(&settings).unwrap();
        assert!(text.contains(&"5e".repeat(32)), "{text}");
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
    }
}
