//! The operator's words to the other box, over any live link, and the answers to the peer's.
//!
//! A request and its replies are the control socket's own, so that every command works from either box. Replies travel in
//! parts of one side channel message each: the next goes when the peer has the one before.
//!
//! ```text
//! words:  number 4 | request as JSON
//! answer: number 4 | part 2 | last 1 | a share of the replies, one JSON line each
//! ```

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use smol::Async;
use smol::channel::{Receiver, Sender, bounded, unbounded};

use super::copy_first::COPY_PATIENCE;
use super::helper::{Bell, Helper, within};
use super::operator::{self, Outcome, Refusal};
use super::side::{Letter, Letters};
use crate::console::control::{Call, Reply, Request, to_line, validate};
use crate::console::status::Handover;
use crate::node::status::Alarm;
use crate::time::Duration;
use crate::wire::side::{Kind, MESSAGE_MAX};

/// Bytes before a part's share of the replies.
const HEADER: usize = 7;
/// Most that is told in one answer: a status with every list full, or a few hundred lines of the log.
const ANSWER_MAX: usize = 256 * 1024;
/// Without another part for this long the peer is given up; over a null modem alone a part of 4 KiB takes 3 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// A hand-over's account that the peer did not take for so long is told again.
const ACCOUNT_PATIENCE: Duration = Duration::from_secs(5);

/// How long the peer may take before the first part of its answer: what it does before it knows all of it.
fn patience(helper: &Helper, request: &Request) -> Duration {
    let handover = helper.handover_patience() + helper.candidacy_patience();
    match request {
        Request::Switchover { .. } | Request::Hold { .. } => PATIENCE + COPY_PATIENCE + handover,
        Request::Drill => PATIENCE + (COPY_PATIENCE + handover) * 3,
        _ => PATIENCE,
    }
}

/// The helper's end of the side channel.
pub(super) struct Peer {
    to_loop: Arc<Letters>,
    /// Our request under way: its number, and where the parts of its answer go.
    asked: RefCell<Option<(u32, Sender<Vec<u8>>)>>,
    next_number: RefCell<u32>,
    /// Hears when the peer has a part of our answer whole.
    told: (Sender<()>, Receiver<()>),
    /// Hears when the peer has our account of a hand-over whole.
    told_handover: (Sender<()>, Receiver<()>),
}

impl Peer {
    pub(super) fn new(to_loop: Arc<Letters>) -> Self {
        Self {
            to_loop,
            asked: RefCell::default(),
            next_number: RefCell::new(1),
            told: unbounded(),
            told_handover: unbounded(),
        }
    }

    /// The peer has the part of our answer that was under way, or our account of a hand-over.
    pub(super) fn told(&self, kind: Kind) {
        let _ = match kind {
            Kind::Answer => self.told.0.try_send(()), // unbounded, never closed
            Kind::Handover => self.told_handover.0.try_send(()),
            Kind::Words | Kind::Clients | Kind::Figures => Ok(()),
        };
    }

    /// Tells the peer how the service came here. True if it has it.
    pub(super) async fn tell_handover(&self, account: &Handover) -> bool {
        while self.told_handover.1.try_recv().is_ok() {} // of an account that was given up
        let Ok(bytes) = serde_json::to_vec(account) else { return false };
        self.send(Kind::Handover, &bytes) && within(ACCOUNT_PATIENCE, self.told_handover.1.recv()).await.is_some()
    }

    fn send(&self, kind: Kind, bytes: &[u8]) -> bool {
        let Ok(bytes) = heapless::Vec::from_slice(bytes) else { return false };
        self.to_loop.send(Letter { kind, bytes }).is_ok()
    }
}

/// Hands what the peer says to whom it concerns, for as long as the daemon lives.
pub(super) async fn listen(
    helper: Rc<Helper>,
    executor: Rc<smol::LocalExecutor<'static>>,
    letters: Arc<Letters>,
) -> io::Result<()> {
    let bell = Async::new(Bell(letters.clone()))?;
    loop {
        letters.hush();
        while let Some(letter) = letters.receive() {
            match letter.kind {
                Kind::Words => executor.spawn(obey(helper.clone(), letter.bytes.to_vec())).detach(),
                Kind::Answer => take_part(&helper.peer, &letter.bytes),
                Kind::Handover => match serde_json::from_slice(&letter.bytes) {
                    Ok(account) => helper.learn(account),
                    Err(error) => log::warn!("the peer's account of a hand-over is not understood: {error}"),
                },
                Kind::Clients | Kind::Figures => {}
            }
        }
        bell.readable().await?;
    }
}

fn take_part(peer: &Peer, bytes: &[u8]) {
    let Some((number, _)) = bytes.split_first_chunk() else { return };
    if let Some((asked, parts)) = &*peer.asked.borrow()
        && *asked == u32::from_le_bytes(*number)
    {
        let _ = parts.try_send(bytes.to_vec()); // gave up
    }
}

/// What one box asks of the other. Nobody here reads answers without end; an order to force, and the path of an image, are for the
/// box on which they are typed.
fn is_for_a_peer(request: &Request) -> bool {
    match request {
        Request::Status { every_ms: None }
        | Request::Switchover { .. }
        | Request::Hold { .. }
        | Request::Release
        | Request::Drill
        | Request::Log { follow: false, .. }
        | Request::Install
        | Request::Reboot => true,
        // No words about words: the two boxes would ask each other for ever.
        Request::Peer(_)
        | Request::Status { every_ms: Some(_) }
        | Request::Log { follow: true, .. }
        | Request::Activate { .. }
        | Request::History { .. }
        | Request::Mirror(_)
        | Request::Update { .. }
        | Request::Poweroff => false,
    }
}

/// Does what the peer's operator asks, and sends the replies.
async fn obey(helper: Rc<Helper>, words: Vec<u8>) {
    let Some((number, request)) = words.split_first_chunk::<4>() else { return };
    let request = serde_json::from_slice::<Request>(request).map_err(|e| e.to_string());
    let request = request.and_then(|request| validate(&request).map(|()| request));
    match &request {
        Ok(request) => log::info!("the peer's operator asks for: {}", request.in_words()),
        Err(why) => log::warn!("the peer asks for something that is not understood: {why}"),
    }
    let mut text = Vec::new();
    match request {
        Ok(request) if !is_for_a_peer(&request) => {
            let reason = format!("`{}` is for the box on which it is typed", request.in_words());
            text.extend(to_line(&Reply::Refused { reason, remedy: "log in there".into() }).unwrap_or_default());
        }
        Err(_) => {
            let reason = "the peer does not understand the request".into();
            let remedy = "give both boxes the same version".into();
            text.extend(to_line(&Reply::Refused { reason, remedy }).unwrap_or_default());
        }
        Ok(request) => {
            let (sender, replies) = bounded(64);
            let answering = operator::answer(helper.clone(), Call { request, replies: sender });
            let collecting = async {
                while let Ok(reply) = replies.recv().await {
                    if text.len() < ANSWER_MAX {
                        text.extend(to_line(&reply).unwrap_or_default());
                    }
                }
            };
            smol::future::zip(answering, collecting).await;
        }
    }
    send_parts(&helper.peer, *number, &text).await;
}

async fn send_parts(peer: &Peer, number: [u8; 4], text: &[u8]) {
    while peer.told.1.try_recv().is_ok() {} // of an answer that was given up
    let shares: Vec<&[u8]> = text.chunks(MESSAGE_MAX - HEADER).collect();
    for (part, share) in (0u16..).zip(&shares) {
        let last = usize::from(part) + 1 == shares.len();
        let mut bytes = number.to_vec();
        bytes.extend(part.to_le_bytes());
        bytes.push(u8::from(last));
        bytes.extend_from_slice(share);
        if !peer.send(Kind::Answer, &bytes) {
            return;
        }
        if within(PATIENCE, peer.told.1.recv()).await.is_none() {
            log::warn!("the peer does not take our answer");
            return;
        }
    }
}

impl Helper {
    /// Asks the other box and copies its replies; the last of them decides what is told in the end.
    pub(super) async fn ask_peer(&self, request: &Request, replies: &Sender<Reply>) -> Outcome {
        let unreachable = || Refusal {
            reason: "the peer does not answer on any link".into(),
            remedy: "look at the links in `status`, and at the peer itself".into(),
        };
        let known = self.snapshot().await.ok_or_else(operator::hangs)?.node;
        if known.peer_role.is_none() || known.alarms.has(Alarm::PeerSilent) {
            return Err(Refusal {
                reason: "the peer is not heard on any link".into(),
                remedy: "look at its power and its cables; `status` shows each link".into(),
            });
        }
        let number = self.peer.next_number.replace_with(|n| n.wrapping_add(1));
        let (sender, parts) = bounded(64);
        if self.peer.asked.borrow().as_ref().is_some_and(|(_, former)| !former.is_closed()) {
            return Err(Refusal {
                reason: "another request to the peer is under way".into(),
                remedy: "try again in a moment".into(),
            });
        }
        *self.peer.asked.borrow_mut() = Some((number, sender));
        let mut words = number.to_le_bytes().to_vec();
        words.extend(serde_json::to_vec(request).map_err(|_| unreachable())?);
        if !self.peer.send(Kind::Words, &words) {
            return Err(unreachable());
        }
        let text = collect(&parts, patience(self, request)).await.ok_or_else(unreachable)?;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Reply::Done { text }) => return Ok(text),
                Ok(Reply::Refused { reason, remedy }) => return Err(Refusal { reason, remedy }),
                Ok(reply) => drop(replies.send(reply).await), // the client has gone: the answer is still the peer's
                Err(error) => log::warn!("the peer's answer is not understood: {error}"),
            }
        }
        Err(unreachable())
    }
}

/// All parts of one answer, in their order.
async fn collect(parts: &Receiver<Vec<u8>>, first: Duration) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for part in 0u16.. {
        let patience = if part == 0 { first } else { PATIENCE };
        let bytes = within(patience, parts.recv()).await?.ok()?;
        let (header, share) = bytes.split_at_checked(HEADER)?;
        if header[4..6] != part.to_le_bytes() || text.len() > ANSWER_MAX + MESSAGE_MAX {
            return None;
        }
        text.extend_from_slice(share);
        if header[6] != 0 {
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_asked_for_what_ends_and_for_what_is_not_the_other_operators_affair() {
        let words = ["hold", "release", "reboot"].map(|word| format!(r#"{{"request":"peer","peer":"{word}"}}"#));
        let status = r#"{"request":"peer","peer":"status"}"#.to_owned();
        let log = r#"{"request":"peer","peer":"log","lines":9}"#.to_owned();
        for line in words.into_iter().chain([status, log]) {
            let Ok(Request::Peer(asked)) = serde_json::from_str(&line) else { panic!("{line}") };
            assert!(is_for_a_peer(&operator::of_peer(asked)), "{line}");
        }
        let (switchover, drill) = (Request::Switchover { lose_changes: true }, Request::Drill);
        assert!([switchover, drill, Request::Install].iter().all(is_for_a_peer));
        for request in [
            Request::Status { every_ms: Some(1) },
            Request::Log { lines: 1, follow: true },
            Request::Activate { node: "a".into() },
            Request::Update { image: "/dev/mem".into(), pair: false },
            Request::Poweroff,
        ] {
            assert!(!is_for_a_peer(&request), "{request:?}");
        }
    }
}
