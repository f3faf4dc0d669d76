//! The operator's requests, each a small program: what it asks of the loop, and how it tells what came of it.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use smol::Timer;
use smol::channel::Sender;

use super::helper::Helper;
use super::snapshot::Snapshot;
use super::{Order, history, report};
use crate::clock;
use crate::console::control::{Call, PeerRequest, Progress, Reply, Request};
use crate::journal;
use crate::node::Answer;
use crate::time::{Duration, Instant};
use crate::wire::pair::Role;

/// How often a hand-over under way is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How long after the end of its own time-outs a hand-over counts as failed.
const SWITCHOVER_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two attempts at the way back of a drill.
const DRILL_PAUSE: Duration = Duration::from_millis(200);
/// How often a follower of the log is served.
const FOLLOW: Duration = Duration::from_millis(100);
/// Shortest interval of a live view.
const VIEW_SHORTEST: Duration = Duration::from_millis(100);

/// Why a request ends without being done.
pub(super) struct Refusal {
    pub reason: String,
    pub remedy: String,
}

pub(super) type Outcome = Result<String, Refusal>;

fn refuse(reason: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), remedy: remedy.into() }
}

/// The client has hung up: there is nobody to answer.
fn gone() -> Refusal {
    refuse("the client has gone", "")
}

fn hangs() -> Refusal {
    refuse("the loop does not answer", "look at the log; if it stays so, restart the daemon: the peer takes over")
}

/// Answers one call.
pub(super) async fn answer(helper: Rc<Helper>, call: Call) {
    let Call { request, replies } = call;
    let outcome = helper.request(request, &replies).await;
    let last = match outcome {
        Ok(text) => Reply::Done { text },
        Err(Refusal { reason, remedy }) => Reply::Refused { reason, remedy },
    };
    let _ = replies.send(last).await; // gone
}

impl Helper {
    async fn request(&self, request: Request, replies: &Sender<Reply>) -> Outcome {
        match request {
            Request::Status { every_ms } => self.show_status(every_ms, replies).await,
            Request::Switchover => self.switch_over(replies).await,
            Request::Hold { reason } => self.hold(reason).await,
            Request::Release => self.obey(Order::Release, "released").await,
            Request::Activate { node } => self.force(&node).await,
            Request::Drill => self.drill(replies).await,
            Request::History { count } => self.show_history(count, replies).await,
            Request::Log { lines, follow } => Self::show_log(lines, follow, replies).await,
            Request::Mirror(request) => match &self.mirror {
                Some(mirror) => mirror.request(request, replies).await,
                None => Err(refuse("nothing is mirrored", "add a [[mirror]] section to the site file")),
            },
            Request::Peer(peer) => self.ask_peer(&of_peer(peer), replies).await,
            Request::Update { .. } => Err(refuse("this box is no appliance", "update its packages")),
            Request::Reboot | Request::Poweroff => {
                let Some(appliance) = &self.options.appliance else {
                    return Err(refuse("this box is no appliance", "stop the daemon, then use the host's own command"));
                };
                appliance.power_off.store(request == Request::Poweroff, Ordering::Relaxed);
                self.obey(Order::Leave, "leaving in order").await
            }
        }
    }

    async fn show_status(&self, every_ms: Option<u64>, replies: &Sender<Reply>) -> Outcome {
        loop {
            let snapshot = self.snapshot().await.ok_or_else(hangs)?;
            let status = Box::new(report::status(self, &snapshot));
            replies.send(Reply::Status { status }).await.map_err(|_| gone())?;
            let Some(every) = every_ms else { return Ok(String::new()) };
            Timer::after(Duration::from_millis(every).max(VIEW_SHORTEST)).await;
        }
    }

    async fn show_log(lines: u32, follow: bool, replies: &Sender<Reply>) -> Outcome {
        let mut next = journal::next_number().saturating_sub(lines.into());
        loop {
            for line in journal::lines(next, journal::LINES) {
                next = line.number + 1;
                replies.send(Reply::Line { text: line.to_string() }).await.map_err(|_| gone())?;
            }
            if !follow {
                return Ok(String::new());
            }
            if replies.is_closed() {
                return Err(gone());
            }
            Timer::after(FOLLOW).await;
        }
    }

    async fn show_history(&self, count: u32, replies: &Sender<Reply>) -> Outcome {
        for event in history::read(&self.options.state, self.boot, usize::try_from(count).unwrap_or(usize::MAX)) {
            replies.send(Reply::Event(event)).await.map_err(|_| gone())?;
        }
        Ok(String::new())
    }

    /// To the peer and back again. Refused before anything moves if either way is not safe now.
    async fn drill(&self, replies: &Sender<Reply>) -> Outcome {
        let before = self.snapshot().await.ok_or_else(hangs)?;
        if before.node.role != Role::Active {
            return match before.node.peer_role {
                // A boxed future: the peer's drill asks us back, and types must end.
                Some(Role::Active) => Box::pin(self.ask_peer(&Request::Drill, replies)).await,
                _ => Err(self.refused(Answer::NotActive).await),
            };
        }
        let there = self.switch_over(replies).await?;
        let until = clock::now() + super::settings::stop_timeout(&self.config.site) + SWITCHOVER_PATIENCE;
        let back = loop {
            match self.ask_peer(&Request::Switchover, replies).await {
                Ok(text) => break text,
                // We have just surrendered: for some leases nobody votes for us.
                Err(_) if clock::now() < until => Timer::after(DRILL_PAUSE).await,
                Err(Refusal { reason, .. }) => {
                    let reason = format!("{there}, but not back: {reason}");
                    return Err(refuse(reason, "the pair serves; see `status` of both boxes"));
                }
            };
        };
        self.await_surrender(|s| s.node.role == Role::Active).await?;
        Ok(format!("there: {there}; back: {back}"))
    }

    /// An order whose answer is all there is to tell.
    async fn obey(&self, order: Order, done: &str) -> Outcome {
        let answer = self.order(order).await.ok_or_else(hangs)?;
        match answer {
            Answer::Accepted => Ok(done.to_owned()),
            refused => Err(self.refused(refused).await),
        }
    }

    async fn refused(&self, answer: Answer) -> Refusal {
        match answer {
            Answer::Accepted => refuse("accepted", ""),
            Answer::OtherTerm => refuse("the pair has moved meanwhile", "look at `status` and order again"),
            Answer::NotActive => refuse("this box does not serve", "order it on the active box"),
            Answer::PeerNotEligible => {
                let why = self.snapshot().await.map_or("the peer cannot take over", |s| s.node.peer_blocked);
                refuse(why, "see `status` on the peer")
            }
            Answer::PeerNotSilent => refuse("the peer is not silent", "use `switchover`"),
            Answer::Serving => refuse("this box serves already", "nothing is to be done"),
            Answer::NotReady => {
                refuse("the service addresses are not confirmed down, or the disk fails", "see the alarms in `status`")
            }
        }
    }

    async fn force(&self, node: &str) -> Outcome {
        if node != self.options.node.name() {
            let reason = format!("this is node {}, not {node}", self.options.node.name());
            return Err(refuse(reason, "log in on the box that should serve"));
        }
        self.obey(Order::Force, "forced: this box serves until it hears its peer").await
    }

    /// A hold of the Active node is a hand-over first.
    async fn hold(&self, reason: Option<String>) -> Outcome {
        let before = self.snapshot().await.ok_or_else(hangs)?;
        let answer = self.order(Order::Hold).await.ok_or_else(hangs)?;
        if answer != Answer::Accepted {
            return Err(self.refused(answer).await);
        }
        log::warn!("held by the operator: {}", reason.as_deref().unwrap_or("no reason given"));
        if matches!(before.node.role, Role::Active | Role::Yielding) {
            self.await_surrender(|s| s.node.role == Role::Held).await?;
        }
        Ok("held: this box stays up and never takes over until `release`".into())
    }

    async fn await_surrender(&self, done: impl Fn(&Snapshot) -> bool) -> Result<Snapshot, Refusal> {
        let patience = super::settings::stop_timeout(&self.config.site) + SWITCHOVER_PATIENCE;
        let until = clock::now() + patience;
        loop {
            let now = self.snapshot().await.ok_or_else(hangs)?;
            if done(&now) {
                return Ok(now);
            }
            if clock::now() > until {
                let reason = format!("not done after {patience:?}: this box is {}", now.node.role.name());
                return Err(refuse(reason, "see `status` and `log` on both boxes"));
            }
            Timer::after(LOOK).await;
        }
    }

    /// Step by step, each with the time since the order.
    async fn switch_over(&self, replies: &Sender<Reply>) -> Outcome {
        let before = self.snapshot().await.ok_or_else(hangs)?;
        if before.node.role != Role::Active && before.node.peer_role == Some(Role::Active) {
            return self.ask_peer(&Request::Switchover, replies).await;
        }
        let began = clock::now();
        let answer = self.order(Order::Switchover).await.ok_or_else(hangs)?;
        if answer != Answer::Accepted {
            return Err(self.refused(answer).await);
        }
        step(replies, began, "surrender begun").await?;
        let surrendered = self.await_surrender(|s| !matches!(s.node.role, Role::Active | Role::Yielding)).await?;
        let down_after = surrendered.node.since.since(began);
        step_at(replies, down_after, "services stopped, addresses down, the peer has our vote").await?;
        let peer = self.config_peer();
        let served =
            self.await_surrender(|s| s.node.peer_role == Some(Role::Active) || s.node.role == Role::Active).await?;
        if served.node.role == Role::Active {
            return Err(refuse(
                "the peer did not take over, this box serves again",
                "see `status` and `log` of the peer",
            ));
        }
        let heard = served.node.peer_heard_at.unwrap_or(served.at);
        step_at(replies, heard.since(began), &format!("{peer} serves")).await?;
        let outage = heard.since(began).saturating_sub(Duration::ZERO);
        Ok(format!("{peer} serves after {:.1} ms", outage.as_secs_f64() * 1e3))
    }

    fn config_peer(&self) -> &'static str {
        self.options.node.peer().name()
    }
}

/// The request as it would be given on the peer itself.
fn of_peer(request: PeerRequest) -> Request {
    match request {
        PeerRequest::Status => Request::Status { every_ms: None },
        PeerRequest::Hold { reason } => Request::Hold { reason },
        PeerRequest::Release => Request::Release,
        PeerRequest::Log { lines } => Request::Log { lines, follow: false },
        PeerRequest::Reboot => Request::Reboot,
    }
}

async fn step(replies: &Sender<Reply>, began: Instant, text: &str) -> Result<(), Refusal> {
    step_at(replies, clock::now().since(began), text).await
}

async fn step_at(replies: &Sender<Reply>, elapsed: Duration, text: &str) -> Result<(), Refusal> {
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let progress = Progress { elapsed_us, text: text.to_owned(), ..Progress::default() };
    replies.send(Reply::Progress(progress)).await.map_err(|_| gone())
}
