//! One service's life: wanted, started, ready, failed, tried again, stopped.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use smol::channel::{Receiver, Sender, unbounded};
use smol::future::{self, FutureExt};
use smol::{Async, LocalExecutor, Timer};

use super::allowance::Allowance;
use super::backoff::Backoff;
use super::group::{self, Group, MARK};
use super::lines::Lines;
use super::spawn::{Start, Started, spawn};
use super::{Order, Reaper, Report, Run, Settings, State};
use crate::clock;

/// Pauses before a failed service is started again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How often an ending service is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How often a starting service is checked.
const START_LOOK: Duration = Duration::from_millis(50);
/// Checks that must fail in a row before the service counts as failed: one may be a matter of load.
const CHECK_FAILURES: u32 = 2;
/// A service without a check that failed before works again when it has run for so long.
const UNCHECKED: Duration = Duration::from_secs(3);
/// How long killed processes may take to be gone before it is said (a process in an uninterruptible wait).
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How often is looked what a service without a check has started, to find it again.
const OFFSPRING_LOOK: Duration = Duration::from_secs(1);
/// How long the leftovers of a former life may take to be gone.
const LEFTOVERS_PATIENCE: Duration = Duration::from_secs(5);
/// Longest line of a service's output that stays whole: with the service's name it fits into one line of the log.
const OUTPUT_LINE: usize = 256;
/// How many of its lines are shown in each such time: a start says a lot at once.
const OUTPUT_LINES: u32 = 200;
const OUTPUT_PERIOD: Duration = Duration::from_secs(5);

/// All services of the box.
pub struct Supervisor {
    orders: Vec<Sender<Order>>,
}

impl Supervisor {
    /// Starts one program per service on `executor`, first ending what a former life of the daemon left running. Every
    /// change goes to `report`. No other daemon on this box may have the same `instance`. Services of `run = both` start at once.
    pub fn start(
        executor: &Rc<LocalExecutor<'static>>,
        reaper: &Rc<Reaper>,
        instance: &str,
        services: Vec<Settings>,
        report: impl Fn(Report) + Clone + 'static,
    ) -> Self {
        let mut orders = Vec::new();
        for (index, settings) in services.into_iter().enumerate() {
            let (sender, receiver) = unbounded();
            let service = Service {
                group: Group::new(instance, &settings.name),
                wanted: Cell::new(settings.run == Run::Both),
                leaving: Cell::new(false),
                settings,
                orders: receiver,
                reaper: reaper.clone(),
                executor: executor.clone(),
                restarts: Cell::new(0),
                report: Box::new({
                    let report = report.clone();
                    move |state, restarts| report(Report { index, state, restarts })
                }),
                output: RefCell::default(),
            };
            executor.spawn(async move { service.live().await }).detach();
            orders.push(sender);
        }
        Self { orders }
    }

    /// Tells every service.
    pub fn order(&self, order: Order) {
        for service in &self.orders {
            let _ = service.try_send(order); // closed: the daemon is leaving, and the service has left already
        }
    }
}

struct Service {
    settings: Settings,
    group: Group,
    wanted: Cell<bool>,
    /// The daemon leaves: nothing is wanted any more, whatever was ordered before and comes late.
    leaving: Cell<bool>,
    orders: Receiver<Order>,
    reaper: Rc<Reaper>,
    executor: Rc<LocalExecutor<'static>>,
    restarts: Cell<u32>,
    report: Box<dyn Fn(State, u32)>,
    output: RefCell<Option<smol::Task<()>>>,
}

/// Why a running service is no longer running.
enum End {
    /// It is not wanted any more: end it like this.
    Unwanted(Order),
    /// It ended, or its check says that it does not work.
    Failed(String),
}

/// How a wait ended.
enum Met {
    Order(Order),
    Begun(io::Result<()>),
    Late,
    Exit(ExitStatus),
    Looked,
    Checked(Result<(), String>),
}

impl Service {
    async fn live(&self) {
        self.end_leftovers().await;
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            while !self.wanted.get() {
                self.say(State::Stopped); // again after every order: whoever orders a stop waits for this word
                let Some(order) = self.next_order().await else { return };
                self.obey(order);
            }
            // Who ordered a stop has seen that nothing runs, and does not wait for what was only wanted before.
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
            if !self.wanted.get() {
                continue;
            }
            let began = clock::now();
            let end = match self.launch() {
                Ok((started, exit)) => self.watch(&started, &exit).await,
                Err(error) => End::Failed(not_started(&self.settings, &error)),
            };
            match end {
                End::Unwanted(order) => {
                    self.say(State::Stopping);
                    self.end(order).await;
                    backoff = Backoff::new(PAUSES.0, PAUSES.1);
                }
                End::Failed(why) => {
                    let pause = backoff.after_failure(clock::now().since(began));
                    self.say(State::Failed);
                    log::warn!("service {}: {why}; next try in {pause:?}", self.settings.name);
                    self.end(Order::Kill).await;
                    self.pause(pause).await;
                    self.restarts.set(self.restarts.get().saturating_add(1));
                }
            }
        }
    }

    /// Applies an order to what is wanted.
    fn obey(&self, order: Order) {
        match order {
            Order::Leave => {
                self.leaving.set(true);
                self.wanted.set(false);
            }
            _ if self.leaving.get() => {}
            Order::Serve => {
                if !self.wanted.replace(true) {
                    self.restarts.set(0);
                }
            }
            Order::Stop | Order::Kill => self.wanted.set(self.settings.run == Run::Both),
        }
    }

    /// `None`: the daemon is leaving.
    async fn next_order(&self) -> Option<Order> {
        self.orders.recv().await.ok()
    }

    fn say(&self, state: State) {
        (self.report)(state, self.restarts.get());
    }

    fn launch(&self) -> io::Result<(Started, Receiver<ExitStatus>)> {
        self.say(State::Starting);
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let child = spawn(self.start(&self.settings.start, Some(write)))?;
        let exit = self.reaper.end_of(child.id());
        self.group.started(child.id());
        let name = self.settings.name.clone();
        let copy = self.executor.spawn(async move {
            if let Err(error) = copy_output(&name, read).await {
                log::warn!("service {name}: its output cannot be read: {error}");
            }
        });
        *self.output.borrow_mut() = Some(copy);
        Ok((child, exit))
    }

    fn start<'a>(&'a self, words: &'a [String], output: Option<OwnedFd>) -> Start<'a> {
        Start {
            words,
            root: self.settings.root.as_deref(),
            mark: (MARK, self.group.mark()),
            cgroup: self.group.procs(),
            output,
        }
    }

    /// From the start to the end: readiness, checks, orders.
    async fn watch(&self, started: &Started, exit: &Receiver<ExitStatus>) -> End {
        let began = clock::now();
        if let Err(end) = self.begin(started, exit).await {
            return end;
        }
        log::info!("service {}: started as process {}", self.settings.name, started.id());
        // Without a check a start is all there is to know; but after a failure it is none of health.
        let mut ready = self.settings.check.is_none() && self.restarts.get() == 0;
        if ready {
            self.say(State::Running);
        }
        let mut failures = 0;
        loop {
            // While it starts, look often: clients wait for it.
            let pause = if ready { self.settings.check_interval } else { self.settings.check_interval.min(START_LOOK) };
            let started_for = clock::now().since(began);
            match self.meet(exit, pause, ready).await {
                Met::Exit(status) => return End::Failed(ended(status)),
                Met::Looked => self.group.look(),
                Met::Begun(_) | Met::Late => {}
                Met::Order(order) => {
                    self.obey(order);
                    if !self.wanted.get() {
                        return End::Unwanted(order);
                    }
                }
                Met::Checked(Ok(())) => {
                    failures = 0;
                    self.group.look();
                    if !ready {
                        ready = true;
                        let took = clock::now().since(began).as_millis();
                        log::info!("service {}: ready after {took} ms", self.settings.name);
                        self.say(State::Running);
                    }
                }
                Met::Checked(Err(why)) => {
                    failures += 1;
                    let patience =
                        if ready { failures < CHECK_FAILURES } else { started_for < self.settings.start_timeout };
                    if !patience {
                        return End::Failed(why);
                    }
                }
            }
        }
    }

    /// Until the program runs, which a disk that hangs may delay for ever.
    async fn begin(&self, started: &Started, exit: &Receiver<ExitStatus>) -> Result<(), End> {
        loop {
            // What stops the exec is said before the process ends.
            let begun = async { Met::Begun(started.runs().await) };
            let late = async {
                Timer::after(self.settings.start_timeout).await;
                Met::Late
            };
            match begun.or(self.ordered()).or(ended_of(exit)).or(late).await {
                Met::Begun(Ok(())) => return Ok(()),
                Met::Begun(Err(error)) => return Err(End::Failed(not_started(&self.settings, &error))),
                Met::Late => {
                    let late = format!("it has not come to run within {:?}", self.settings.start_timeout);
                    return Err(End::Failed(not_started(&self.settings, &io::Error::other(late))));
                }
                Met::Order(order) => {
                    self.obey(order);
                    if !self.wanted.get() {
                        return Err(End::Unwanted(order));
                    }
                }
                Met::Exit(status) => return Err(End::Failed(ended(status))),
                Met::Looked | Met::Checked(_) => {}
            }
        }
    }

    /// A closed channel: the daemon is leaving.
    async fn ordered(&self) -> Met {
        Met::Order(self.next_order().await.unwrap_or(Order::Leave))
    }

    async fn meet(&self, exit: &Receiver<ExitStatus>, pause: Duration, ready: bool) -> Met {
        let checked = async {
            let Some(words) = &self.settings.check else {
                if ready {
                    Timer::after(OFFSPRING_LOOK).await;
                    return Met::Looked;
                }
                Timer::after(UNCHECKED).await;
                return Met::Checked(Ok(()));
            };
            Timer::after(pause).await;
            Met::Checked(self.check(words).await)
        };
        self.ordered().or(ended_of(exit)).or(checked).await
    }

    /// One run of the check command. `Err` says what was wrong.
    async fn check(&self, words: &[String]) -> Result<(), String> {
        let not_started = |error: io::Error| format!("its check does not start: {error}");
        let child = spawn(self.start(words, None)).map_err(not_started)?;
        let exit = self.reaper.end_of(child.id());
        let ended = async {
            match child.runs().await {
                Ok(()) => exit.recv().await.ok().map(Ok),
                Err(error) => Some(Err(error)),
            }
        };
        let late = async {
            Timer::after(self.settings.check_timeout).await;
            None
        };
        match ended.or(late).await {
            Some(Err(error)) => Err(not_started(error)),
            Some(Ok(status)) if status.success() => Ok(()),
            Some(Ok(status)) => Err(format!("its check fails: {status}")),
            None => {
                // Not reaped yet (the reaper runs on this thread), so the number is still its own.
                group::kill_session(child.id());
                Err(format!("its check takes longer than {:?}", self.settings.check_timeout))
            }
        }
    }

    /// Ends all of it: in order with a time-out, or at once. A kill that comes meanwhile shortens the wait.
    async fn end(&self, order: Order) {
        let began = clock::now();
        if order != Order::Kill {
            self.group.signal(self.settings.stop_signal);
            while !self.group.is_empty() && clock::now().since(began) < self.settings.stop_timeout {
                let order = async { self.next_order().await };
                let look = async {
                    Timer::after(LOOK).await;
                    None
                };
                match order.or(look).await {
                    Some(Order::Kill) => {
                        self.obey(Order::Kill);
                        break;
                    }
                    Some(order) => self.obey(order),
                    None => {}
                }
            }
        }
        let mut killed = None;
        let mut told = false;
        while !self.group.is_empty() {
            let since = clock::now().since(*killed.get_or_insert_with(clock::now));
            if !told && since > KILL_PATIENCE {
                told = true;
                log::error!("service {}: killed processes are still there after {since:.0?}", self.settings.name);
            }
            self.group.kill();
            Timer::after(LOOK).await;
        }
        if order == Order::Kill && killed.is_none() {
            return; // it had ended by itself, or never ran
        }
        let how = if killed.is_some() { "killed" } else { "ended" };
        log::info!("service {}: {how} after {:.0?}", self.settings.name, clock::now().since(began));
    }

    async fn pause(&self, pause: Duration) {
        let until = clock::now() + pause;
        while self.wanted.get() && clock::now() < until {
            let order = async { self.next_order().await };
            let time = async {
                Timer::after(until.until(clock::now())).await;
                None
            };
            if let Some(order) = order.or(time).await {
                self.obey(order);
            }
        }
    }

    /// A daemon that was killed leaves its services to PID 1: end them before anything is started twice, however long that
    /// takes.
    async fn end_leftovers(&self) {
        let began = clock::now();
        let mut told = false;
        while !self.group.is_empty() {
            if !told && clock::now().since(began) > LEFTOVERS_PATIENCE {
                told = true;
                log::error!(
                    "service {}: leftovers of a former run do not end; nothing is started beside them",
                    self.settings.name
                );
                self.say(State::Failed); // of this box nobody should expect that it could serve
            }
            self.group.kill();
            Timer::after(LOOK).await;
        }
    }
}

/// The end of the main process, once.
async fn ended_of(exit: &Receiver<ExitStatus>) -> Met {
    match exit.recv().await {
        Ok(status) => Met::Exit(status),
        Err(_) => future::pending().await, // already told
    }
}

/// A program that puts itself into the background ends well, and what it leaves is ended.
fn ended(status: ExitStatus) -> String {
    let hint = if status.success() { "; it has to stay in the foreground" } else { "" };
    format!("it ended: {status}{hint}")
}

/// What is not there: the program, or the root that it should see.
fn not_started(settings: &Settings, error: &io::Error) -> String {
    let program = settings.start.first().map_or("", String::as_str);
    match &settings.root {
        Some(root) => format!("{program} (in {}) does not start: {error}", root.display()),
        None => format!("{program} does not start: {error}"),
    }
}

/// Every line that the service prints becomes a line of the log, but for those of a flood: the log keeps what the box itself
/// has said.
async fn copy_output(name: &str, pipe: OwnedFd) -> io::Result<()> {
    let mut lines = Lines::new(Async::new(File::from(pipe))?, OUTPUT_LINE);
    let mut allowance = Allowance::new(OUTPUT_LINES, OUTPUT_PERIOD);
    loop {
        let due = allowance.due();
        let line = async { Some(lines.next().await) };
        let quiet = async {
            let Some(due) = due else { return future::pending().await };
            Timer::after(due.until(clock::now())).await;
            None
        };
        let came = line.or(quiet).await.transpose()?;
        let left_out = allowance.turn(clock::now());
        if left_out > 0 {
            log::warn!("{name}: {left_out} more lines in {OUTPUT_PERIOD:?} are not shown");
        }
        match came {
            None => {}
            Some(None) => break,
            Some(Some(line)) if allowance.admits() => {
                log::info!("{name}: {line}");
                // What a start says at once is more than the log takes in between two looks at it.
                log::logger().flush();
            }
            Some(Some(_)) => {}
        }
    }
    let left_out = allowance.left_out();
    if left_out > 0 {
        log::warn!("{name}: {left_out} more lines are not shown");
    }
    Ok(())
}
