//! The face of the mirror's process: started by the daemon with a socket as standard input, or alone for tests and
//! benchmarks.
//!
//! ```text
//! twobox mirror-child                      the daemon's: orders on standard input, see `control`
//! twobox mirror-child --role send|receive --generation TERM:BOOT --key FILE --config FILE (--connect|--listen) ADDRESS
//!                     [--once] [--abort-at STEP]
//! ```
//!
//! Alone, `--config` names a JSON file with [`Settings`] (without a key), reports go to standard output, and `--once`
//! ends the sender after one cycle of every tree.
#![allow(clippy::disallowed_methods)] // starts the threads that read orders and wait for events

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroizing;

use super::bounds::Ground;
use super::channel::link_key;
use super::control::{self, Generation, Link, LinkKey, Order, Report, Role, Settings};
use super::current::Current;
use super::fault;
use super::report::Reporter;
use super::run::{Event, Mirror};
use super::watch::Watch;
use crate::confine::harden;
use crate::time::Duration;

/// The request that `--once` makes.
const ONCE: u64 = 1;

/// Runs the process. Returns its exit status: 0 done, 1 failed, 2 wrong use.
#[must_use]
pub fn main(arguments: &[&str]) -> u8 {
    if let Err(e) = harden() {
        let _ = writeln!(io::stderr(), "twobox mirror-child: {e}");
        return 1;
    }
    let outcome = if arguments.is_empty() { for_daemon() } else { alone(arguments) };
    match outcome {
        Ok(()) => 0,
        Err(e) => {
            let _ = writeln!(io::stderr(), "twobox mirror-child: {e}");
            if e.kind() == io::ErrorKind::InvalidInput { 2 } else { 1 }
        }
    }
}

/// Lowers the process's claims on the machine: the services and the heartbeats come first.
fn give_way() {
    let limit = 65_536;
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit, limit);
    super::priority::give_way();
}

/// The log of this process: standard error, which it has from the daemon.
struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = writeln!(io::stderr(), "{}: {}", record.level(), record.args()); // nobody may be listening
        }
    }

    fn flush(&self) {}
}

/// Confines this process to its trees, and starts what it needs. Nothing that comes from the peer has been read, and no
/// other thread runs.
fn start(to: Box<dyn Write + Send>, settings: &Settings) -> io::Result<(Mirror, Sender<Event>, Reporter, Current)> {
    give_way();
    let (ground, confinement) = Ground::confine(&settings.trees)?;
    if log::set_logger(&Log).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    let (sender, events) = channel();
    let reporter = Reporter::start(to)?;
    let current = Current::default();
    reporter.say(&Report::Confined { by: confinement.to_string() });
    let mirror = Mirror::new(events, sender.clone(), reporter.clone(), current.clone(), follow, ground);
    Ok((mirror, sender, reporter, current))
}

fn for_daemon() -> io::Result<()> {
    let socket = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    control::write(&mut &socket, &Report::Ready)?;
    let mut lines = BufReader::new(socket.try_clone()?);
    let Some(Order::Configure { settings }) = control::read(&mut lines)? else {
        return Err(wrong("the first order must be to configure"));
    };
    let (mut mirror, sender, _, current) = start(Box::new(socket), &settings)?;
    sender.send(Event::Order(Order::Configure { settings })).map_err(io::Error::other)?;
    thread::Builder::new().name("mirror-orders".into()).stack_size(128 * 1024).spawn(move || {
        while let Ok(Some(order)) = control::read::<Order>(&mut lines) {
            if matches!(order, Order::Role { .. }) {
                current.begin_change(); // a cycle of the former role ends here and now
            }
            if sender.send(Event::Order(order)).is_err() {
                return;
            }
        }
        current.begin_change();
        let _ = sender.send(Event::Gone); // the loop has ended before
    })?;
    mirror.run();
    Ok(())
}

/// Waits for a watch's events and tells the loop, until the watch is dropped by everybody else.
fn follow(number: usize, watch: Arc<Watch>, sender: Sender<Event>) -> io::Result<()> {
    let weak = Arc::downgrade(&watch);
    let events: OwnedFd = watch.descriptor().try_clone_to_owned()?;
    drop(watch);
    thread::Builder::new().name("mirror-watch".into()).stack_size(128 * 1024).spawn(move || {
        loop {
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::from(1000u16));
            let Some(watch) = weak.upgrade() else { return };
            match ready {
                Ok(0) => {}
                Ok(_) => {
                    // One word is enough until it is heard: a cycle may last for hours.
                    let told = watch.drain().unwrap_or(true) && watch.is_to_be_told();
                    if told && sender.send(Event::Changed(number)).is_err() {
                        return;
                    }
                    drop(watch);
                    thread::sleep(Duration::from_millis(10)); // events come in bursts
                }
                Err(_) => return,
            }
        }
    })?;
    Ok(())
}

/// Output that the process's end depends on: a request that is done ends it.
struct Once(io::Stdout);

impl Write for Once {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.0.write(bytes)?;
        self.0.flush()?;
        if let Ok(report) = serde_json::from_slice::<Report>(bytes.trim_ascii_end()) {
            match report {
                Report::Done { request: ONCE, .. } => std::process::exit(0),
                Report::Refused { request: ONCE, .. } => std::process::exit(1),
                _ => {}
            }
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

fn alone(arguments: &[&str]) -> io::Result<()> {
    let (mut role, mut generation, mut link, mut key, mut config, mut once) = (None, None, None, None, None, false);
    let mut rest = arguments.iter();
    while let Some(&argument) = rest.next() {
        if argument == "--once" {
            once = true;
            continue;
        }
        let value = rest.next().ok_or_else(|| wrong(format!("{argument} needs a value")))?;
        match argument {
            "--role" => role = Some(if *value == "send" { Role::Send } else { Role::Receive }),
            "--generation" => generation = Some(parse_generation(value)?),
            "--connect" | "--listen" => {
                link = Some(value.parse().map_or_else(|_| Link::Interface((*value).to_owned()), Link::Address));
            }
            "--key" => key = Some(Zeroizing::new(fs::read_to_string(value)?)),
            "--config" => config = Some(fs::read(value)?),
            "--abort-at" => fault::arm(value.parse().map_err(|_| wrong("--abort-at needs a number"))?),
            other => return Err(wrong(format!("unknown argument {other}"))),
        }
    }
    let missing = || wrong("--role, --generation, --key, --config and --connect or --listen are needed");
    let (role, generation) = (role.ok_or_else(missing)?, generation.ok_or_else(missing)?);
    let mut settings: Settings = serde_json::from_slice(&config.ok_or_else(missing)?)?;
    settings.key = LinkKey(link_key(key.ok_or_else(missing)?.trim().as_bytes()));
    let links = vec![link.ok_or_else(missing)?];
    let to: Box<dyn Write + Send> = if once { Box::new(Once(io::stdout())) } else { Box::new(io::stdout()) };
    let (mut mirror, sender, ..) = start(to, &settings)?;
    let mut orders = vec![Order::Configure { settings }, Order::Role { role, generation, links }];
    if once {
        orders.push(Order::Sync { request: ONCE, tree: None, confirm_delete: false });
    }
    for order in orders {
        sender.send(Event::Order(order)).map_err(io::Error::other)?;
    }
    mirror.run();
    Ok(())
}

fn parse_generation(text: &str) -> io::Result<Generation> {
    let parsed = text.split_once(':').and_then(|(term, boot)| {
        Some(Generation { term: term.parse().ok()?, boot: u64::from_str_radix(boot, 16).ok()? })
    });
    parsed.ok_or_else(|| wrong("--generation is TERM:BOOT, the boot id in hexadecimal"))
}
