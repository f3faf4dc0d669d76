//! One service's life: wanted, started, ready, failed, tried again, stopped.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use smol::channel::{Receiver, Sender, unbounded};
use smol::future::{self, FutureExt};
use smol::{Async, LocalExecutor, Timer};

use super::backoff::Backoff;
use super::group::{Group, MARK};
use super::lines::Lines;
use super::spawn::{Start, spawn};
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
    Exit(ExitStatus),
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
                Ok(exit) => self.watch(&exit).await,
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
            Order::Serve => {
                if !self.wanted.replace(true) {
                    self.restarts.set(0);
                }
            }
            Order::Stop | Order::Kill => self.wanted.set(self.settings.run == Run::Both),
            Order::Leave => self.wanted.set(false),
        }
    }

    /// `None`: the daemon is leaving.
    async fn next_order(&self) -> Option<Order> {
        self.orders.recv().await.ok()
    }

    fn say(&self, state: State) {
        (self.report)(state, self.restarts.get());
    }

    fn launch(&self) -> io::Result<Receiver<ExitStatus>> {
        self.say(State::Starting);
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let child = spawn(self.start(&self.settings.start, Some(write)))?;
        let exit = self.reaper.end_of(child.id());
        self.group.started(child.id());
        log::info!("service {}: started as process {}", self.settings.name, child.id());
        let name = self.settings.name.clone();
        let copy = self.executor.spawn(async move {
            if let Err(error) = copy_output(&name, read).await {
                log::warn!("service {name}: its output cannot be read: {error}");
            }
        });
        *self.output.borrow_mut() = Some(copy);
        Ok(exit)
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
    async fn watch(&self, exit: &Receiver<ExitStatus>) -> End {
        let began = clock::now();
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
                Met::Exit(status) => return End::Failed(format!("it ended: {status}")),
                Met::Order(order) => {
                    self.obey(order);
                    if !self.wanted.get() {
                        return End::Unwanted(order);
                    }
                }
                Met::Checked(Ok(())) => {
                    failures = 0;
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

    async fn meet(&self, exit: &Receiver<ExitStatus>, pause: Duration, ready: bool) -> Met {
        // A closed channel: the daemon is leaving.
        let order = async { Met::Order(self.next_order().await.unwrap_or(Order::Leave)) };
        let ended = async {
            match exit.recv().await {
                Ok(status) => Met::Exit(status),
                Err(_) => future::pending().await, // already told
            }
        };
        let checked = async {
            let Some(words) = &self.settings.check else {
                if ready {
                    return future::pending().await;
                }
                Timer::after(UNCHECKED).await;
                return Met::Checked(Ok(()));
            };
            Timer::after(pause).await;
            Met::Checked(self.check(words).await)
        };
        order.or(ended).or(checked).await
    }

    /// One run of the check command. `Err` says what was wrong.
    async fn check(&self, words: &[String]) -> Result<(), String> {
        let child = spawn(self.start(words, None)).map_err(|error| format!("its check does not start: {error}"))?;
        let exit = self.reaper.end_of(child.id());
        let ended = async { exit.recv().await.ok() };
        let late = async {
            Timer::after(self.settings.check_timeout).await;
            None
        };
        match ended.or(late).await {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("its check fails: {status}")),
            None => {
                // Not reaped yet (the reaper runs on this thread), so the number is still its own.
                let session = Pid::from_raw(-child.id().cast_signed());
                let _ = kill(session, Signal::SIGKILL); // ESRCH: it ended at this moment
                Err(format!("its check takes longer than {:?}", self.settings.check_timeout))
            }
        }
    }

    /// Ends all of it: in order with a time-out, or at once. A kill that comes meanwhile shortens the wait.
    async fn end(&self, order: Order) {
        let began = clock::now();
        if order != Order::Kill {
            self.group.terminate();
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

    /// A daemon that was killed leaves its services to PID 1: end them before anything is started twice.
    async fn end_leftovers(&self) {
        let began = clock::now();
        while !self.group.is_empty() {
            if clock::now().since(began) > LEFTOVERS_PATIENCE {
                log::error!("service {}: leftovers of a former run cannot be killed", self.settings.name);
                return;
            }
            self.group.kill();
            Timer::after(LOOK).await;
        }
    }
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
    let (mut began, mut shown, mut left_out) = (clock::now(), 0_u32, 0_u64);
    loop {
        let line = async { Some(lines.next().await) };
        let quiet = async {
            if left_out == 0 {
                return future::pending().await;
            }
            Timer::after((began + OUTPUT_PERIOD).until(clock::now())).await;
            None
        };
        let came = line.or(quiet).await.transpose()?;
        if clock::now().since(began) >= OUTPUT_PERIOD {
            if left_out > 0 {
                log::warn!("{name}: {left_out} more lines in {OUTPUT_PERIOD:?} are not shown");
            }
            (began, shown, left_out) = (clock::now(), 0, 0);
        }
        match came {
            None => {}
            Some(None) => break,
            Some(Some(line)) if shown < OUTPUT_LINES => {
                shown += 1;
                log::info!("{name}: {line}");
            }
            Some(Some(_)) => left_out += 1,
        }
    }
    if left_out > 0 {
        log::warn!("{name}: {left_out} more lines are not shown");
    }
    Ok(())
}
