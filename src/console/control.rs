//! The control socket's language: one request line, then reply lines until the last one.
//!
//! Every line is one JSON value and ends with a newline, so that `socat` and a few lines of script can speak it. A
//! connection carries one request, `{"request":"status"}`; the key of a reply is its kind, `{"done":{"text":""}}`: read
//! like that, a status is not kept in memory twice, and the code for it is not in the program twice. Replies come as they
//! happen (the steps of a switchover, a mirror's progress, log lines) and the last one is [`Reply::Done`] or
//! [`Reply::Refused`]. Sizes are bounded on both sides: an endless line is an error, never memory.
//!
//! The socket has mode 0600: whoever may open it may command the pair (unix(7), "Pathname socket ownership and
//! permissions").

use serde::{Deserialize, Serialize};

use super::outcome::{Deletions, TreeOutcome};
use super::status::{Handover, Status};

/// Longest request line in bytes, newline included: `hold` with its longest reason and an `update` path fit.
pub const REQUEST_LIMIT: usize = 8 * 1024;

/// Longest reply line in bytes, newline included: a status with 64 trees of the longest paths fits.
pub const REPLY_LIMIT: usize = 1024 * 1024;

/// Longest reason of a `hold`, in bytes: it travels to the peer inside one fragment.
pub const REASON_LIMIT: usize = 120;

/// What an operator asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// The state of the pair; with `every_ms` again and again until the client hangs up.
    Status {
        /// Interval of a live view.
        #[serde(default)]
        every_ms: Option<u64>,
    },
    /// Planned hand-over to the peer.
    Switchover {
        /// Also when the last changes cannot be copied to it before.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lose_changes: bool,
    },
    /// Stay up and never take over.
    Hold {
        /// Why, for the log and the other operator.
        #[serde(default)]
        reason: Option<String>,
    },
    /// End of `hold`.
    Release,
    /// Serve although the peer is silent and there is no quorum. The client has had it confirmed.
    Activate {
        /// The node that the operator typed; it must be the one that answers.
        node: String,
    },
    /// Switch over and back, refuse when not safe.
    Drill,
    /// Hand-overs and alarms, kept across reboots.
    History {
        /// How many of the newest.
        count: u32,
    },
    /// Lines of the log.
    Log {
        /// How many of the newest.
        lines: u32,
        /// Go on with what comes.
        #[serde(default)]
        follow: bool,
    },
    /// The mirror's commands.
    Mirror(MirrorRequest),
    /// A command for the other box, over any live link.
    Peer(PeerRequest),
    /// A/B update of this box, or of both in turn.
    Update {
        /// Absolute path of the image.
        image: String,
        /// Both boxes in turn.
        pair: bool,
    },
    /// Take the image that the peer offers, and start it; only the peer asks this.
    Install,
    /// Surrender, say farewell, start anew.
    Reboot,
    /// Surrender, say farewell, switch off.
    Poweroff,
}

impl Request {
    /// The command's words, as an operator types them.
    #[must_use]
    pub fn in_words(&self) -> String {
        let held = |reason: &Option<String>| reason.as_ref().map_or(String::new(), |reason| format!(" {reason}"));
        match self {
            Request::Status { .. } => "status".into(),
            Request::Switchover { lose_changes: false } => "switchover".into(),
            Request::Switchover { lose_changes: true } => "switchover --lose-changes".into(),
            Request::Hold { reason } => format!("hold{}", held(reason)),
            Request::Release => "release".into(),
            Request::Activate { node } => format!("activate {node}"),
            Request::Drill => "drill".into(),
            Request::History { count } => format!("history -n {count}"),
            Request::Log { lines, .. } => format!("log -n {lines}"),
            Request::Mirror(_) => "mirror".into(),
            Request::Peer(_) => "peer".into(),
            Request::Update { image, .. } => format!("update {image}"),
            Request::Install => "install".into(),
            Request::Reboot => "reboot".into(),
            Request::Poweroff => "poweroff".into(),
        }
    }
}

/// What an operator asks of the mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mirror", rename_all = "kebab-case")]
pub enum MirrorRequest {
    /// A cycle now; answers when the standby is equal.
    Sync {
        /// Only this tree.
        tree: Option<String>,
        /// Release a deletion that `max-delete` blocked.
        confirm_delete: bool,
    },
    /// Compare both sides by hash.
    Verify {
        /// Only this tree.
        tree: Option<String>,
    },
    /// What was set aside.
    DivergedList,
    /// One set of changes, in detail.
    DivergedShow {
        /// Its name in the list.
        name: String,
    },
    /// Put files of it back.
    DivergedRestore {
        /// Its name in the list.
        name: String,
        /// Only this path.
        path: Option<String>,
    },
    /// Delete it.
    DivergedDrop {
        /// Its name in the list.
        name: String,
    },
}

/// What may be asked of the other box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "peer", rename_all = "kebab-case")]
pub enum PeerRequest {
    /// Its status.
    Status,
    /// Hold it.
    Hold {
        /// Why.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Release it.
    Release,
    /// Its newest log lines.
    Log {
        /// How many.
        lines: u32,
    },
    /// Reboot it.
    Reboot,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The state of the pair.
    Status {
        /// The value that `status --json` prints.
        status: Box<Status>,
    },
    /// A step that is done, or how far a long one is.
    Progress(Progress),
    /// A line for the operator as it stands: of the log, of a list.
    Line {
        /// Without its newline.
        text: String,
    },
    /// An entry of the history.
    Event(Event),
    /// What a cycle deletes from the copy, before it does; or what it would delete, before it is refused.
    Deletions(Deletions),
    /// A tree whose cycle has ended.
    Tree(Box<TreeOutcome>),
    /// The last line: done.
    Done {
        /// What was achieved, in words, with its figures; empty when the lines before say it all.
        text: String,
    },
    /// The last line: refused or failed.
    Refused {
        /// Why.
        reason: String,
        /// What the operator can do about it.
        remedy: String,
    },
}

impl Reply {
    /// No reply follows it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Reply::Done { .. } | Reply::Refused { .. })
    }
}

/// How far a long command is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Since the command was taken up, in microseconds.
    pub elapsed_us: u64,
    /// What was done or is going on.
    pub text: String,
    /// Work done, in the unit of `unit`; `null` for a plain step.
    #[serde(default)]
    pub done: Option<u64>,
    /// Work in all, if known.
    #[serde(default)]
    pub total: Option<u64>,
    /// Files finished, of a mirror cycle.
    #[serde(default)]
    pub files: Option<u64>,
    /// Files in all.
    #[serde(default)]
    pub files_total: Option<u64>,
    /// Units a second, where it is not what `done` and `elapsed_us` say.
    #[serde(default)]
    pub rate: Option<u64>,
    /// `bytes`, `files`; empty for a plain step.
    #[serde(default)]
    pub unit: String,
}

/// An entry of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Wall time in seconds since 1970, if the box knew it then.
    pub unix_s: Option<u64>,
    /// Time since that boot in milliseconds.
    pub boot_ms: u64,
    /// How many starts of the daemon ago, 0 for this one.
    pub boots_ago: u32,
    /// A hand-over; otherwise an alarm.
    pub handover: Option<Handover>,
    /// The alarm's text.
    pub alarm: Option<String>,
}

/// A request as it reaches the loop, with the way back.
///
/// The handler answers with [`smol::channel::Sender::try_send`]: a client that does not read fills its own channel and
/// is dropped, the loop never waits for it. Dropping the sender without a last reply tells the client that the daemon
/// gave up.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the replies go; closed when the client has gone.
    pub replies: smol::channel::Sender<Reply>,
}

/// Writes a value as one line.
///
/// # Errors
///
/// None for this module's own values; `serde_json` reports maps with keys that are no strings.
pub fn to_line<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Checks what serde cannot: lengths and characters that would travel further.
///
/// # Errors
///
/// What is wrong and what is allowed, in words.
pub fn validate(request: &Request) -> Result<(), String> {
    let reason = match request {
        Request::Hold { reason } | Request::Peer(PeerRequest::Hold { reason }) => reason.as_deref(),
        _ => None,
    };
    match reason {
        Some(text) if text.len() > REASON_LIMIT => {
            Err(format!("the reason is {} bytes long; at most {REASON_LIMIT}", text.len()))
        }
        Some(text) if text.chars().any(char::is_control) => {
            Err("the reason has control characters; plain text only".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(request: Request) {
        let line = to_line(&request).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<Request>(&line).unwrap(), request);
    }

    #[test]
    fn every_kind_of_request_survives_its_line() {
        round_trip(Request::Status { every_ms: Some(250) });
        round_trip(Request::Hold { reason: Some("disk swap\nat three".into()) });
        round_trip(Request::Mirror(MirrorRequest::Sync { tree: Some("/data".into()), confirm_delete: true }));
        round_trip(Request::Peer(PeerRequest::Log { lines: 7 }));
        round_trip(Request::Activate { node: "b".into() });
    }

    #[test]
    fn requests_are_easy_to_write_by_hand() {
        let parse = |text| serde_json::from_str::<Request>(text).unwrap();
        assert_eq!(parse(r#"{"request":"status"}"#), Request::Status { every_ms: None });
        assert_eq!(parse(r#"{"request":"peer","peer":"release"}"#), Request::Peer(PeerRequest::Release));
    }

    #[test]
    fn a_long_or_unprintable_reason_is_refused() {
        let hold = |text: String| validate(&Request::Hold { reason: Some(text) });
        assert!(hold("x".repeat(REASON_LIMIT)).is_ok());
        assert!(hold("x".repeat(REASON_LIMIT + 1)).is_err());
        assert!(hold("bell\u{7}".into()).is_err());
    }
}
