//! The loop: the one room that knows all sides.
//!
//! ```text
//!            frames                        Actions
//!   links ----------> +---------------+ -----------> links, takeover, belts
//!   takeover -------> | cluster loop  |
//!                     | one thread    | --ToDisk--> disk thread (record, fsync) --+
//!        +----------> | real-time     | <--Persisted-----------------------------+
//!        |            +---------------+ --ToHelper--> helper thread (smol LocalExecutor):
//!        +--------ToLoop--------------------------------- services, control socket, log, signals
//! ```
//!
//! A turn of the loop drains every input, each with the time after its receipt, then reads the clock, hands over
//! [`crate::node::Input::Turn`], and carries out what the node wants. Nothing on that thread allocates, waits for a disk, or
//! takes a lock that another thread holds for long.

mod alarms;
mod belts;
mod child;
mod child_lines;
mod child_stderr;
mod claims;
mod cluster;
mod copy_first;
mod disk;
mod drill;
mod entropy;
mod feeder;
mod figures;
mod gatekeeper;
mod handover;
mod helper;
mod history;
mod interface;
mod lateness;
mod letters;
mod life;
mod lines;
mod links;
mod mailbox;
mod mirror;
mod neighbor;
mod network;
mod null_modem;
mod observe;
mod open;
mod operator;
mod outage;
mod own_address;
mod peer;
mod quiet;
mod ready;
pub mod record;
mod replies;
mod report;
mod route;
pub mod settings;
mod side;
mod single_instance;
mod slots;
mod snapshot;
mod sources;
mod steps;
mod tally;
mod trial;
mod update;
mod voice;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::clock;
use crate::config::{self, Config};
use crate::console::exit::Exit;
use crate::journal::{self, Levels, Sink};
use crate::oom;
use crate::realtime;
use crate::wire::pair::Side;
use letters::ToHelper;
use open::{Opened, open};

/// How often is looked whether what still runs has ended: well below every time-out of a watchdog.
const ENDING: crate::time::Duration = crate::time::Duration::from_millis(50);

/// Stack of the disk's thread: what it needs several times over, and little to lock in memory.
const STACK: usize = 256 * 1024;

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The board file.
    pub board: PathBuf,
    /// The site file.
    pub site: PathBuf,
    /// Which box this is.
    pub node: Side,
    /// State directory.
    pub state: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Levels of the log; the site file's when absent.
    pub levels: Option<Levels>,
    /// The machine is ours: log to the kernel, run the console, reset the box when the addresses will not come down.
    pub appliance: Option<Appliance>,
}

/// What PID 1 tells the daemon about the machine, and the daemon tells PID 1.
#[derive(Clone, Debug)]
pub struct Appliance {
    /// Lines about the boot, for the log.
    pub report: Vec<String>,
    /// Why this box must come up held.
    pub hold: Option<String>,
    /// The panic that ended the former boot.
    pub panic: Option<String>,
    /// The slot that was booted; `None` where there are none.
    pub image: Option<crate::update::esp::Booted>,
    /// When the kernel started PID 1.
    pub began: crate::time::Instant,
    /// Set when the box shall stay off after it has left; otherwise it is reset.
    pub power_off: Arc<AtomicBool>,
}

/// Why the daemon does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the operator: what is wrong and what to do.
    pub text: String,
    /// How the program ends.
    pub exit: Exit,
}

impl Failure {
    /// As it stands on standard error. What is wrong with a file begins with the file's name and line.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.exit == Exit::Refused { format!("twobox: {}", self.text) } else { self.text.clone() }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, exit: Exit::Refused }
    }
}

/// Runs the pair on this box until it has left in order.
///
/// # Errors
///
/// What is wrong and what to do. Nothing serves then, and the addresses are down.
pub fn run(options: &Options) -> Result<(), Failure> {
    // The pair's key will be in this process: no core dump and no debugger but root's shows it.
    nix::sys::prctl::set_dumpable(false).map_err(|e| format!("prctl: {e}"))?;
    let config = aside(|| config::load(&options.site, &options.board)).map_err(|problems| Failure {
        text: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        exit: Exit::WrongUse,
    })?;
    let done = serve(options, config);
    journal::drain();
    Ok(done?)
}

fn serve(options: &Options, mut config: Config) -> Result<(), String> {
    aside(|| start_log(options, &config))?;
    config.site.watchdog.nowayout |= options.appliance.is_some();
    let ending_patience = settings::end_timeout(&config.site) + helper::LEAVE_PATIENCE * 2;
    await_random_numbers()?;
    if let Err(error) = oom::protect() {
        log::warn!(
            "the kernel may end this daemon when memory is short ({error}): give CAP_SYS_RESOURCE, or OOMScoreAdjust=-1000 where systemd starts it"
        );
    }
    // Before any thread starts: their stacks are then locked as far as they are used, and not whole.
    if let Err(error) = realtime::lock_memory(options.appliance.is_some()) {
        log::warn!("memory is not locked ({error}): the loop may be late when memory is short; give CAP_IPC_LOCK");
    }
    let Opened { mut cluster, helper, disk, to_helper, to_disk, life } = aside(|| open(options, config))?;
    prepare_thread();
    if let Err(error) = cluster.run() {
        // Services, addresses and watchdog are as they were a moment ago: a program that ends in order would leave them so. It
        // ends like any that is broken: on the appliance by the kernel's panic, which the peer hears.
        panic!("the loop: {error}");
    }

    log::info!("left the pair; what still runs of the services ends now");
    let _ = to_disk.send(disk::ToDisk::Left(life.left()));
    let _ = to_disk.send(disk::ToDisk::End);
    let _ = to_helper.send(ToHelper::End);
    // Services that run on both boxes end only now. The addresses are down, so the watchdog is fed meanwhile; whoever takes
    // longer than his own time-out hangs, and is left to it.
    let until = clock::now() + ending_patience;
    while !(disk.is_finished() && helper.is_finished()) {
        cluster.feed_until(until);
        #[allow(clippy::disallowed_methods)] // the loop has ended: nothing is decided any more
        std::thread::sleep(ENDING);
    }
    let _ = disk.join();
    let _ = helper.join();
    cluster.close();
    log::info!("left in order: nothing of the pair runs on this box");
    let _ = std::fs::remove_file(&options.socket); // gone already: somebody tidied up
    Ok(())
}

fn await_random_numbers() -> Result<(), String> {
    let tell = || {
        log::warn!("the kernel has no random numbers yet: waits for them, at most {:?}", entropy::LIMIT);
        journal::drain();
    };
    let ask = || getrandom::u64().map(drop).map_err(std::io::Error::from);
    entropy::wait(entropy::LIMIT, entropy::is_there, tell, ask).map_err(|e| {
        format!("no random numbers: {e}; this kernel gathers no noise: give it a source (a hardware generator's driver) and start this again")
    })
}

/// Does `work` on a stack that is given back afterwards: the loop's stays locked, as deep as it was ever used.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn start_log(options: &Options, config: &Config) -> Result<(), String> {
    let sink =
        if options.appliance.is_some() { Sink::kmsg().unwrap_or_else(|_| Sink::stderr()) } else { Sink::stderr() };
    let levels = options.levels.clone().unwrap_or_else(|| Levels::of_modules(&config.site.log));
    journal::start(levels, sink).map_err(|e| format!("the log: {e}"))?;
    for line in options.appliance.iter().flat_map(|appliance| &appliance.report) {
        log::info!("boot: {line}");
        journal::drain();
    }
    Ok(())
}

/// Makes this thread the loop's. The helper and the disk's thread are running already: they inherit nothing of it.
fn prepare_thread() {
    realtime::touch_stack();
    if let Err(error) = realtime::prioritize(realtime::Thread::Loop) {
        log::warn!("no real-time priority ({error}): the loop is late when the machine is busy; give CAP_SYS_NICE");
    }
}
