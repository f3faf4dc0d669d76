//! The operator's requests, each a small program: what it asks of the loop, and how it tells what came of it.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use smol::Timer;
use smol::channel::Sender;

use super::helper::{Helper, within};
use super::letters::Order;
use super::snapshot::Snapshot;
use super::{history, report};
use crate::clock;
use crate::console::control::{Call, PeerRequest, Progress, Reply, Request};
use crate::console::utc;
use crate::journal;
use crate::node::status::PeerBlocked;
use crate::node::{Answer, INTENT_LEASES};
use crate::time::{Duration, Instant};
use crate::wire::pair::Role;

/// How often a hand-over under way is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How often is looked whether the peer is a candidate again.
const CANDIDACY_LOOK: Duration = Duration::from_millis(20);
/// How long after the end of its own time-outs a hand-over counts as failed.
const SWITCHOVER_PATIENCE: Duration = Duration::from_secs(10);
/// How long the disk may take to write down a hold, and to give the history.
const DISK_PATIENCE: Duration = Duration::from_secs(5);
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

pub(super) fn refuse(reason: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), remedy: remedy.into() }
}

/// The client has hung up: there is nobody to answer.
fn gone() -> Refusal {
    refuse("the client has gone", "")
}

pub(super) fn hangs() -> Refusal {
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
    async fn request(self: &Rc<Self>, request: Request, replies: &Sender<Reply>) -> Outcome {
        match request {
            Request::Status { every_ms } => self.show_status(every_ms, replies).await,
            Request::Switchover { lose_changes } => self.switch_over(lose_changes, replies).await,
            Request::Hold { reason } => self.hold(reason, replies).await,
            Request::Release => self.release().await,
            Request::Activate { node } => self.force(&node).await,
            Request::Drill => self.drill(replies).await,
            Request::History { count } => self.show_history(count, replies).await,
            Request::Log { lines, follow } => Self::show_log(lines, follow, replies).await,
            Request::Mirror(request) => match &self.mirror {
                Some(mirror) => mirror.request(request, replies).await,
                None => Err(refuse("nothing is mirrored", "add a [[mirror]] section to the site file")),
            },
            Request::Peer(peer) => self.ask_peer(&of_peer(peer), replies).await,
            Request::Update { image, pair } => self.install(image, pair, replies).await,
            Request::Install => self.clone().install_offered().await,
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
                replies.send(Reply::Line { text: with_wall_time(&line) }).await.map_err(|_| gone())?;
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
        let (state, present) = (self.options.state.clone(), self.present);
        // A disk that hangs may take for ever, and all that this thread looks after would wait with it.
        let reading =
            smol::unblock(move || history::read(&state, present, usize::try_from(count).unwrap_or(usize::MAX)));
        let events = within(DISK_PATIENCE, reading).await;
        let events = events.ok_or_else(|| refuse("the disk does not answer", "see the alarms in `status`"))?;
        if events.is_empty() && count > 0 {
            return Ok("no hand-over and no alarm yet".to_owned());
        }
        for event in events {
            replies.send(Reply::Event(event)).await.map_err(|_| gone())?;
        }
        Ok(String::new())
    }

    /// An order whose answer is all there is to tell.
    async fn obey(&self, order: Order, done: &str) -> Outcome {
        let answer = self.order(order).await.ok_or_else(hangs)?;
        match answer {
            Answer::Accepted => Ok(done.to_owned()),
            refused => Err(self.refused(refused).await),
        }
    }

    pub(super) async fn refused(&self, answer: Answer) -> Refusal {
        match answer {
            Answer::Accepted => refuse("accepted", ""),
            Answer::OtherTerm => refuse("the pair has moved meanwhile", "look at `status` and order again"),
            Answer::NotActive => refuse("this box does not serve", "order it on the active box"),
            Answer::PeerNotEligible => {
                let why = self.snapshot().await.and_then(|s| s.node.peer_blocked);
                refuse(why.map_or("the peer cannot take over", PeerBlocked::name), what_to_do(why))
            }
            Answer::PeerNotSilent => refuse("the peer is not silent", "use `switchover`"),
            Answer::Serving => refuse("this box serves already", "nothing is to be done"),
            Answer::NotReady => refuse(
                "the service addresses are not confirmed down, the disk fails, or the mirror has not read its copies",
                "see `status`",
            ),
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
    async fn hold(&self, reason: Option<String>, replies: &Sender<Reply>) -> Outcome {
        self.copy_before_hand_over(replies).await?;
        self.await_candidate(replies).await?;
        let before = self.snapshot().await.ok_or_else(hangs)?;
        // The reason first: where the hold is on disk, its reason is.
        let said = reason.clone().unwrap_or_else(|| "no reason given".to_owned());
        let former = self.keep_hold_reason(reason);
        let answer = self.order(Order::Hold).await;
        if answer != Some(Answer::Accepted) {
            self.keep_hold_reason(former);
            return Err(match answer {
                Some(refused) => self.refused(refused).await,
                None => hangs(),
            });
        }
        log::warn!("held by the operator: {said}");
        if matches!(before.node.role, Role::Active | Role::Yielding) {
            self.await_surrender(|s| s.node.role == Role::Held).await?;
        }
        let kept = self.await_hold_on_disk().await?;
        let lost = self.without_last_cut().map(|lost| format!("; {lost}")).unwrap_or_default();
        Ok(format!("held: this box stays up and never takes over until `release`{kept}{lost}"))
    }

    /// What to tell of a surrender that could not make its last cut: the crossover died just then.
    fn without_last_cut(&self) -> Option<String> {
        let why = self.no_last_cut.borrow_mut().take()?;
        Some(format!("NO LAST CUT: {why}; what only this box has is set aside on it, see `mirror diverged list`"))
    }

    async fn release(&self) -> Outcome {
        let done = self.obey(Order::Release, "released").await?;
        self.keep_hold_reason(None);
        Ok(done + self.await_hold_on_disk().await?)
    }

    /// What the operator is told holds after a crash too. What to add to that, where the disk does not write.
    async fn await_hold_on_disk(&self) -> Result<&'static str, Refusal> {
        let until = clock::now() + DISK_PATIENCE;
        while !self.snapshot().await.ok_or_else(hangs)?.node.hold_is_durable {
            if clock::now() > until {
                return Ok(", but the disk does not write: a restart forgets it, see the alarms in `status`");
            }
            Timer::after(LOOK).await;
        }
        Ok("")
    }

    /// How long a hand-over may take, services included.
    pub(super) fn handover_patience(&self) -> Duration {
        super::settings::stop_timeout(&self.config.site) + SWITCHOVER_PATIENCE
    }

    /// For how long a box that has just surrendered is no candidate, and a lease more until that is heard.
    pub(super) fn candidacy_patience(&self) -> Duration {
        self.config.site.timing.lease * (INTENT_LEASES + 1)
    }

    /// A peer that has just surrendered is a candidate again before long: that is waited for, and told once.
    async fn await_candidate(&self, replies: &Sender<Reply>) -> Result<(), Refusal> {
        let began = clock::now();
        let patience = self.candidacy_patience();
        let mut told = false;
        loop {
            let now = self.snapshot().await.ok_or_else(hangs)?;
            let waits = now.node.role == Role::Active && now.node.peer_blocked == Some(PeerBlocked::JustSurrendered);
            if !waits || clock::now().since(began) > patience {
                return Ok(());
            }
            if !std::mem::replace(&mut told, true) {
                let longest = patience.as_secs_f64();
                let why = PeerBlocked::JustSurrendered.name();
                step(replies, began, &format!("waiting up to {longest:.1} s: {why}")).await?;
            }
            Timer::after(CANDIDACY_LOOK).await;
        }
    }

    pub(super) async fn await_surrender(&self, done: impl Fn(&Snapshot) -> bool) -> Result<Snapshot, Refusal> {
        let patience = self.handover_patience();
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
    pub(super) async fn switch_over(&self, lose_changes: bool, replies: &Sender<Reply>) -> Outcome {
        let before = self.snapshot().await.ok_or_else(hangs)?;
        if before.node.role != Role::Active && before.node.peer_role == Some(Role::Active) {
            return self.ask_peer(&Request::Switchover { lose_changes }, replies).await;
        }
        if !lose_changes {
            self.copy_before_hand_over(replies).await?;
        }
        self.await_candidate(replies).await?;
        let began = clock::now();
        let answer = self.order(Order::Switchover).await.ok_or_else(hangs)?;
        if answer != Answer::Accepted {
            return Err(self.refused(answer).await);
        }
        let begun_after = clock::now().since(began);
        step_at(replies, begun_after, "surrender begun").await?;
        let surrendered = self.await_surrender(|s| !matches!(s.node.role, Role::Active | Role::Yielding)).await?;
        // The loop's instant is that of its turn, which may have begun before the order came.
        let down_after = surrendered.node.since.since(began).max(begun_after);
        step_at(replies, down_after, "services stopped, addresses down, the peer has our vote").await?;
        if let Some(lost) = self.without_last_cut() {
            step_at(replies, down_after, &lost).await?;
        }
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
        let outage = heard.since(began).max(down_after);
        step_at(replies, outage, &format!("{peer} serves")).await?;
        Ok(format!("{peer} serves after {:.1} ms", outage.as_secs_f64() * 1e3))
    }

    fn config_peer(&self) -> &'static str {
        self.options.node.peer().name()
    }
}

/// What makes the peer a candidate again.
fn what_to_do(blocked: Option<PeerBlocked>) -> &'static str {
    match blocked {
        // Over which cable would it answer?
        Some(PeerBlocked::NeverHeard | PeerBlocked::NotHeard) => {
            "look at its power and its cables: `status` shows each link"
        }
        Some(PeerBlocked::NotReady) => "`peer status` says why",
        Some(PeerBlocked::Serves | PeerBlocked::JustSurrendered) | None => "see `status` and `peer status`",
    }
}

/// A line of the log, with the wall time before the time since boot once the box knows it.
fn with_wall_time(line: &journal::Line) -> String {
    let now = clock::now();
    history::wall_clock_us()
        .map_or_else(|| line.to_string(), |wall_us| format!("{} {line}", utc::time(second_of(line.at, now, wall_us))))
}

/// The second of the wall clock in which `at` was, when it shows `wall_us` microseconds at `now`. Reckoned in whole seconds, the
/// same line would be told with another one from look to look.
fn second_of(at: Instant, now: Instant, wall_us: u64) -> u64 {
    let age = u64::try_from(now.since(at).as_micros()).unwrap_or(u64::MAX);
    wall_us.saturating_sub(age) / 1_000_000
}

/// The longest that leaving in order takes: services end, the farewell is said and heard, what is left of them ends.
pub(super) fn leave_patience(site: &crate::config::site::Site) -> Duration {
    let farewell = (site.timing.lease * INTENT_LEASES).max(Duration::from_secs(1));
    super::settings::stop_timeout(site) + super::settings::end_timeout(site) + farewell + super::helper::LEAVE_PATIENCE
}

/// The request as it would be given on the peer itself.
pub(super) fn of_peer(request: PeerRequest) -> Request {
    match request {
        PeerRequest::Status => Request::Status { every_ms: None },
        PeerRequest::Hold { reason } => Request::Hold { reason },
        PeerRequest::Release => Request::Release,
        PeerRequest::Log { lines } => Request::Log { lines, follow: false },
        PeerRequest::Reboot => Request::Reboot,
    }
}

pub(super) async fn step(replies: &Sender<Reply>, began: Instant, text: &str) -> Result<(), Refusal> {
    step_at(replies, clock::now().since(began), text).await
}

async fn step_at(replies: &Sender<Reply>, elapsed: Duration, text: &str) -> Result<(), Refusal> {
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let progress = Progress { elapsed_us, text: text.to_owned(), ..Progress::default() };
    replies.send(Reply::Progress(progress)).await.map_err(|_| gone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_one_second_whenever_it_is_looked_at() {
        let at = Instant::from_nanos(5_900_000_000);
        // The wall clock shows 100.2 s more than the time since boot.
        let looks = (6_000..9_000).map(|ms| (Instant::from_nanos(ms * 1_000_000), (ms + 100_200) * 1_000));
        let told: Vec<u64> = looks.map(|(now, wall_us)| second_of(at, now, wall_us)).collect();
        assert!(told.iter().all(|second| *second == 106), "{told:?}");
    }
}
