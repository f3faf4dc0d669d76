//! The operator's update: of this box, or of both in turn. The work is a child's ([`crate::update::child`]); this asks
//! whether it may be done and says how far it is. When the new image is kept decides [`super::trial`].
//!
//! ```text
//! update --pair, on the box that serves:       the standby:
//!   check the image                              fetch it into a slot, read it back, start it
//!   offer it to the peer            ------->     healthy: confirm      (else: the former image)
//!   wait until the peer runs it, confirmed and in sync
//!   write it into a slot here
//!   switch over, start it
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;

use smol::channel::{Receiver, Sender, bounded, unbounded};
use smol::future;
use smol::io::{AsyncWriteExt, BufReader};
use smol::lock::Mutex;
use smol::{Async, Timer};
use zeroize::Zeroizing;

use super::child_stderr::Words;
use super::disk::ToDisk;
use super::helper::{Helper, within};
use super::letters::{Order, ToLoop};
use super::operator::{Outcome, Refusal, hangs, refuse, step};
use super::snapshot::Snapshot;
use super::voice::Voice;
use super::{child, child_lines, interface, mirror};
use crate::clock;
use crate::console::control::{Progress, Reply, Request};
use crate::console::status::{self, Status};
use crate::mirror::control::{LINE, Link, LinkKey};
use crate::node::status::PeerBlocked;
use crate::time::{Duration, Instant};
use crate::update::child::{Order as Work, Own, Report, Source};
use crate::update::demand::Equipment;
use crate::update::esp::Booted;
use crate::update::rot::Damaged;
use crate::update::transfer;
use crate::wire::pair::Role;

/// How long the peer may take to come back with the new image: firmware of big servers tests itself for minutes.
const PEER_PATIENCE: Duration = Duration::from_secs(900);
/// Pause between two looks at the peer.
const LOOK: Duration = Duration::from_secs(1);
/// A box that is starting does not answer; the operator hears how long that takes.
const ANSWER: Duration = Duration::from_secs(4);
/// From the last word to the operator to the restart.
const FAREWELL: Duration = Duration::from_millis(500);

/// How far an update of this box is. The box that ordered it reads it in our status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    None,
    Writing,
    Failed(String),
    Restarting,
}

/// The helper's part of an update.
pub(super) struct Update {
    /// What worked under the former image before this one was installed.
    pub demand: Equipment,
    /// Images on the disk that are damaged, as the last look found them.
    pub damaged: RefCell<Vec<Damaged>>,
    /// One process at a time has the partition with the slots: a second one would find it mounted.
    slots: Mutex<()>,
    phase: RefCell<Phase>,
    /// An order for both boxes is under way, of which much of the time is the peer's.
    both: Cell<bool>,
    /// The running image has been confirmed in this life.
    pub confirmed: RefCell<bool>,
    /// How the process that does the work is confined; it says so each time, and the last word stays.
    pub confinement: RefCell<Option<String>>,
    voice: Voice,
}

impl Update {
    /// None is under way.
    pub(super) fn of(demand: Equipment) -> Self {
        Update {
            demand,
            damaged: RefCell::default(),
            slots: Mutex::default(),
            phase: RefCell::default(),
            both: Cell::default(),
            confirmed: RefCell::default(),
            confinement: RefCell::default(),
            voice: Voice::of("update"),
        }
    }
}

/// What decides whether an update may begin.
#[derive(Clone, Copy, Debug)]
struct View {
    appliance: bool,
    /// It boots from a slot; whether that is on trial.
    slot: Option<bool>,
    busy: bool,
    role: Role,
    peer_heard: bool,
    peer_ready: bool,
}

/// Why not, and what to do.
fn obstacle(view: &View, pair: bool) -> Option<(&'static str, &'static str)> {
    let serves = matches!(view.role, Role::Active | Role::Yielding | Role::Claiming);
    Some(match *view {
        View { appliance: false, .. } => ("this box is no appliance", "update its packages"),
        View { slot: None, .. } => {
            ("this box does not boot from a slot of its own disk", "give its boot loader the new kernel and image")
        }
        View { busy: true, .. } => ("an update is under way", "see `status`"),
        View { slot: Some(true), .. } => ("the image that runs is on trial", "wait until `status` says confirmed"),
        View { peer_heard: false, .. } if serves => {
            ("this box serves and its peer is not there", "bring the peer back first")
        }
        View { peer_heard: false, .. } => ("the peer is not there", "an image is confirmed by a healthy pair only"),
        _ if pair && view.role != Role::Active => {
            ("this box does not serve", "order it on the box that serves, and have the image there")
        }
        _ if pair && !view.peer_ready => ("the peer could not take over now", "see `status`"),
        _ if pair => return None,
        _ if serves => ("this box serves", "order it on the standby, or `update --pair` here"),
        View { role: Role::Standby, .. } => return None,
        _ => ("this box is no healthy standby", "see `status`"),
    })
}

/// What the peer lacks for a hand-over that loses nothing.
fn out_of_sync(blocked: Option<PeerBlocked>, role: Option<Role>, trees: &[status::Tree]) -> Option<String> {
    let tree =
        || trees.iter().find(|tree| !tree.current).map(|tree| format!("the copy of {} is not current", tree.tree));
    let standby = || (role != Some(Role::Standby)).then(|| "it is no standby".to_owned());
    blocked.map(|why| why.name().to_owned()).or_else(standby).or_else(tree)
}

/// Kills a child that nobody waits for any more.
struct Child(Option<u32>);

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Helper {
    pub(super) fn booted(&self) -> Option<&Booted> {
        self.options.appliance.as_ref()?.image.as_ref()
    }

    pub(super) fn is_on_trial(&self) -> bool {
        self.booted().is_some_and(|booted| booted.slot.is_on_trial()) && !*self.update.confirmed.borrow()
    }

    /// An update is under way.
    pub(super) fn updates(&self) -> bool {
        self.update.both.get() || matches!(*self.update.phase.borrow(), Phase::Writing | Phase::Restarting)
    }

    /// For the status.
    pub(super) fn image(&self) -> Option<status::Image> {
        let booted = self.booted()?;
        let (update, failure) = match &*self.update.phase.borrow() {
            Phase::None => (status::UpdateState::None, None),
            Phase::Writing => (status::UpdateState::Writing, None),
            Phase::Restarting => (status::UpdateState::Restarting, None),
            Phase::Failed(why) => (status::UpdateState::Failed, Some(why.clone())),
        };
        Some(status::Image {
            slot: booted.slot.number,
            hash: booted.hash.clone(),
            confirmed: !self.is_on_trial(),
            rolled_back: booted.rolled_back.map(|slot| slot.number),
            update,
            failure,
        })
    }

    /// A newer image was tried and not confirmed.
    pub(super) fn was_rolled_back(&self) -> bool {
        self.booted().is_some_and(|booted| booted.rolled_back.is_some())
    }

    /// Whether an update may begin, and what this box is and runs.
    async fn may_update(&self, pair: bool) -> Result<(Own, Booted), Refusal> {
        let s = self.snapshot().await.ok_or_else(hangs)?;
        if let Some((reason, remedy)) = obstacle(&self.view(&s, self.updates()), pair) {
            return Err(refuse(reason, remedy));
        }
        let booted = self.booted().ok_or_else(|| refuse("this box boots from no slot", ""))?.clone();
        let anew = !self.update.damaged.borrow().is_empty();
        let own = Own { board: self.config.board.name.clone(), running: booted.hash.clone(), anew };
        Ok((own, booted))
    }

    fn view(&self, s: &Snapshot, busy: bool) -> View {
        View {
            appliance: self.options.appliance.is_some(),
            slot: self.booted().map(|_| self.is_on_trial()),
            busy,
            role: s.node.role,
            peer_heard: self.hears_peer(s),
            peer_ready: s.node.peer_eligible,
        }
    }

    pub(super) fn hears_peer(&self, s: &Snapshot) -> bool {
        let lease = self.config.site.timing.lease;
        s.node.peer_heard_at.is_some_and(|at| s.at.since(at) <= lease)
    }

    /// `update IMAGE` and `update --pair IMAGE`. Goes on to its end when whoever ordered it has hung up: half an update is
    /// none, and nobody would know of it.
    pub(super) async fn install(&self, image: String, pair: bool, replies: &Sender<Reply>) -> Outcome {
        let (telling, told) = unbounded();
        let work = async {
            let outcome = self.install_telling(image, pair, &telling).await;
            telling.close();
            outcome
        };
        future::zip(work, pass_on(&told, replies)).await.0
    }

    async fn install_telling(&self, image: String, pair: bool, replies: &Sender<Reply>) -> Outcome {
        let (own, booted) = self.may_update(pair).await?;
        let began = clock::now();
        let file = std::path::PathBuf::from(image);
        let hash = self.work(Work::Check { image: file.clone(), wanted: own.clone() }, None).await?;
        step(replies, began, "the image is whole, and made for this board").await?;
        if !pair {
            let slot = self.write(Source::File(file), own, &booted, Some(replies)).await?;
            step(replies, began, &format!("written to {slot}, read back")).await?;
            self.start_standby_anew(&slot).await?;
            return Ok(format!(
                "this box starts {slot} now; it keeps it if the pair is healthy then, or comes back as before"
            ));
        }
        self.update.both.set(true);
        let outcome = self.install_both(file, &hash, own, &booted, began, replies).await;
        self.update.both.set(false);
        outcome
    }

    /// The peer first, then this box.
    async fn install_both(
        &self,
        file: std::path::PathBuf,
        hash: &str,
        own: Own,
        booted: &Booted,
        began: Instant,
        replies: &Sender<Reply>,
    ) -> Outcome {
        let peer = self.options.node.peer().name();
        self.update_peer(&file, hash, began, replies).await?;
        self.await_in_sync(began, replies).await?;
        let slot = self.write(Source::File(file), own, booted, Some(replies)).await?;
        step(replies, began, &format!("written to {slot} here, read back")).await?;
        // Again: the writing took its time, and what the peer lacks would be lost with the hand-over.
        let switched = match self.await_in_sync(began, replies).await {
            Ok(()) => self.switch_over(false, replies).await,
            Err(refusal) => Err(refusal),
        };
        let switched = match switched {
            Ok(text) => text,
            Err(Refusal { reason, remedy }) => {
                let reason = format!("{peer} runs the new image, this box does not yet: {reason}");
                // It does not restart: the next order is not "under way" for ever.
                *self.update.phase.borrow_mut() = Phase::Failed(reason.clone());
                return Err(refuse(reason, format!("it tries {slot} at its next boot; {remedy}")));
            }
        };
        self.start_anew();
        Ok(format!("{switched}, with the new image; this box starts it now, and keeps it if the pair is healthy then"))
    }

    /// The peer's order to take the image that it offers. Answered at once; how it goes is in the status.
    pub(super) async fn install_offered(self: Rc<Self>) -> Outcome {
        let (own, booted) = self.may_update(false).await?;
        let source = Source::Peer { links: self.update_links(false), key: self.update_key() };
        *self.update.phase.borrow_mut() = Phase::Writing;
        let helper = self.clone();
        let work = async move {
            let written = async {
                let slot = helper.write(source, own, &booted, None).await?;
                log::info!("update: written to {slot}");
                helper.start_standby_anew(&slot).await
            };
            if let Err(Refusal { reason, .. }) = written.await {
                log::error!("update: {reason}");
            }
        };
        self.executor.spawn(work).detach();
        Ok("fetching the image".into())
    }

    /// Writes an image into the other slot; returns that slot in words.
    async fn write(&self, source: Source, own: Own, booted: &Booted, replies: Option<&Sender<Reply>>) -> Outcome {
        *self.update.phase.borrow_mut() = Phase::Writing;
        if let Some(s) = self.snapshot().await
            && self.to_disk.send(ToDisk::Demand(self.works(&s))).is_err()
        {
            log::warn!("the disk hangs: the new image will not know what works under this one");
        }
        let order = Work::Install { source, esp: booted.device.clone(), wanted: own };
        let outcome = self.work(order, replies).await;
        *self.update.phase.borrow_mut() = match &outcome {
            Ok(_) => Phase::Restarting,
            Err(Refusal { reason, .. }) => Phase::Failed(reason.clone()),
        };
        outcome
    }

    /// Leaves and comes back, unless the pair needs this box by now: writing took minutes, and the peer may have died meanwhile.
    async fn start_standby_anew(&self, slot: &str) -> Result<(), Refusal> {
        let s = self.snapshot().await.ok_or_else(hangs)?;
        let Some((reason, remedy)) = obstacle(&self.view(&s, false), false) else {
            self.start_anew();
            return Ok(());
        };
        *self.update.phase.borrow_mut() = Phase::Failed(reason.to_owned());
        Err(refuse(reason, format!("{remedy}; it tries {slot} at its next boot")))
    }

    /// Leaves and comes back, after the operator has been told.
    fn start_anew(&self) {
        let to_loop = self.to_loop.clone();
        let leave = async move {
            Timer::after(FAREWELL).await;
            if to_loop.send(ToLoop::Order(Order::Leave)).is_err() {
                log::error!("the loop hangs: the new image starts at the next boot");
            }
        };
        self.executor.spawn(leave).detach();
    }

    /// Brings the peer to the image in `file`.
    async fn update_peer(
        &self,
        file: &std::path::Path,
        hash: &str,
        began: Instant,
        replies: &Sender<Reply>,
    ) -> Result<(), Refusal> {
        let peer = self.options.node.peer().name();
        let runs = |status: &Status| status.image.as_ref().is_some_and(|image| image.hash == hash && image.confirmed);
        if self.peer_status().await.is_some_and(|status| runs(&status)) {
            return step(replies, began, &format!("{peer} runs it already")).await;
        }
        let work = Work::Offer { image: file.to_owned(), links: self.update_links(true), key: self.update_key() };
        let offering = async { self.work(work, Some(replies)).await.map(drop) };
        // The fetching end looks for the listening one for a while.
        let asking = async { self.ask_peer(&Request::Install, replies).await.map(drop) };
        unless_refused(asking, offering).await?;
        step(replies, began, &format!("{peer} has the image")).await?;
        self.await_peer(hash, began, replies).await
    }

    async fn await_peer(&self, hash: &str, began: Instant, replies: &Sender<Reply>) -> Result<(), Refusal> {
        let peer = self.options.node.peer().name();
        let until = clock::now() + PEER_PATIENCE;
        let mut silent = false;
        loop {
            let status = self.peer_status().await;
            match status.as_ref().and_then(|status| status.image.as_ref()) {
                Some(image) if image.hash == hash && image.confirmed => break,
                Some(image) if image.hash == hash => step(replies, began, &format!("{peer} tries it")).await?,
                Some(status::Image { failure: Some(why), .. }) => {
                    return Err(refuse(format!("{peer}: {why}"), "nothing has moved"));
                }
                Some(image) if silent && image.update == status::UpdateState::None => {
                    let reason = format!("{peer} came back with its former image");
                    return Err(refuse(
                        reason,
                        format!("nothing has moved; look at `peer log` and at {peer}'s console"),
                    ));
                }
                Some(_) => step(replies, began, &format!("{peer} writes it, and starts it")).await?,
                None => {
                    silent = true;
                    step(replies, began, &format!("{peer} is starting")).await?;
                }
            }
            if clock::now() > until {
                return Err(refuse(format!("{peer} has not come back"), format!("look at {peer}'s console")));
            }
            Timer::after(LOOK).await;
        }
        step(replies, began, &format!("{peer} runs it, and has confirmed it")).await
    }

    /// Waits until the peer could take over now without losing anything.
    async fn await_in_sync(&self, began: Instant, replies: &Sender<Reply>) -> Result<(), Refusal> {
        let peer = self.options.node.peer().name();
        let until = clock::now() + PEER_PATIENCE;
        loop {
            let s = self.snapshot().await.ok_or_else(hangs)?;
            let trees = self.mirror.as_ref().map(|mirror| mirror.trees(s.at)).unwrap_or_default();
            let Some(why) = out_of_sync(s.node.peer_blocked, s.node.peer_role, &trees) else {
                return step(replies, began, &format!("{peer} is in sync")).await;
            };
            if clock::now() > until {
                return Err(refuse(format!("{peer} does not get in sync: {why}"), "see `status`"));
            }
            step(replies, began, &format!("waits until {peer} is in sync: {why}")).await?;
            Timer::after(LOOK * 2).await;
        }
    }

    /// What the peer says of itself; `None` when it does not answer soon.
    async fn peer_status(&self) -> Option<Status> {
        let (sender, receiver) = bounded(4);
        within(ANSWER, self.ask_peer(&Request::Status { every_ms: None }, &sender)).await?.ok()?;
        match receiver.try_recv() {
            Ok(Reply::Status { status }) => Some(*status),
            _ => None,
        }
    }

    /// Ways for an image, best first: to listen on, or to look for the peer on.
    fn update_links(&self, listen: bool) -> Vec<Link> {
        let crossover = self.config.board.interface("crossover").and_then(|wanted| interface::find(wanted).ok());
        let whose = if listen { self.options.node } else { self.options.node.peer() };
        let lan = mirror::lan_address(&self.config.site, whose);
        let lan = lan.map(|ip| Link::Address(std::net::SocketAddr::new(ip, transfer::PORT)));
        crossover.map(Link::Interface).into_iter().chain(lan).collect()
    }

    fn update_key(&self) -> LinkKey {
        LinkKey(transfer::link_key(self.config.key.bytes()))
    }

    /// Has the child do its work; its progress goes to `replies`. What it says in the end.
    pub(super) async fn work(&self, order: Work, replies: Option<&Sender<Reply>>) -> Outcome {
        let _alone = match &order {
            Work::Check { .. } | Work::Offer { .. } => None,
            Work::Install { .. } | Work::Confirm { .. } | Work::Look { .. } | Work::Retire { .. } => {
                Some(self.update.slots.lock().await)
            }
        };
        match self.have_done(&order, replies).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(reason)) => Err(refuse(reason, "the running image stays")),
            Err(error) => Err(refuse(format!("the updating process: {error}"), "see `log`; the running image stays")),
        }
    }

    async fn have_done(&self, order: &Work, replies: Option<&Sender<Reply>>) -> io::Result<Result<String, String>> {
        let (ours, theirs) = UnixStream::pair()?;
        #[allow(clippy::disallowed_methods)] // the one place that starts it
        let mut process = Command::new("/proc/self/exe")
            .arg("update-child")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut running = Child(Some(process.id()));
        let mut words = Words::of(&self.update.voice, &mut process)?;
        let end = self.reaper.end_of(process.id());
        let stream = Async::new(ours)?;
        let mut line = Zeroizing::new(serde_json::to_vec(order)?);
        line.push(b'\n');
        (&stream).write_all(&line).await?;
        drop(line);
        let outcome = future::or(self.hear_of_work(&stream, replies), words.copy()).await;
        drop(stream);
        if outcome.is_ok() {
            child::see_off(process.id(), &end).await;
            running.0 = None;
        }
        words.copy_rest().await;
        outcome
    }

    /// What the child says of its work, up to its last word.
    async fn hear_of_work(
        &self,
        stream: &Async<UnixStream>,
        replies: Option<&Sender<Reply>>,
    ) -> io::Result<Result<String, String>> {
        let (began, mut line) = (clock::now(), Vec::new());
        let mut lines = BufReader::with_capacity(1024, stream);
        loop {
            match child_lines::next(&mut lines, &mut line, LINE).await? {
                Report::Confined { by } => {
                    if self.update.voice.admits() {
                        log::info!("the updating process is confined: {by}");
                    }
                    *self.update.confinement.borrow_mut() = Some(by);
                }
                Report::Progress { done, total } => {
                    if let Some(replies) = replies {
                        let _ = replies.try_send(Reply::Progress(Progress {
                            elapsed_us: u64::try_from(clock::now().since(began).as_micros()).unwrap_or(u64::MAX),
                            done: Some(done),
                            total: Some(total),
                            unit: "bytes".into(),
                            ..Progress::default()
                        })); // a client that does not read misses steps
                    }
                }
                Report::Done { text } => return Ok(Ok(text)),
                Report::Refused { reason } => return Ok(Err(reason)),
            }
        }
    }
}

/// What comes of `offering`, unless `asking` is refused before: its answer may be lost, the image that the peer has is not.
async fn unless_refused<E>(
    asking: impl Future<Output = Result<(), E>>,
    offering: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let refused = async {
        match asking.await {
            Ok(()) => future::pending().await,
            refused => refused,
        }
    };
    future::or(refused, offering).await
}

/// Passes on what is told, for as long as anybody listens.
pub(super) async fn pass_on(told: &Receiver<Reply>, replies: &Sender<Reply>) {
    while let Ok(reply) = told.recv().await {
        let _ = replies.send(reply).await; // hung up: the work goes on
    }
}

#[cfg(test)]
mod tests;
