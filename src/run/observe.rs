//! The daemon's side of the watching process: started, told what happens, answered, and started again when it ends.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;

use smol::channel::{Receiver, Sender, bounded};
use smol::io::{AsyncWriteExt, BufReader};
use smol::{Async, Timer, future};

use super::child_stderr::Words;
use super::helper::Helper;
use super::voice::Voice;
use super::{child, child_lines, history, report};
use crate::clock;
use crate::config::site::Site;
use crate::observe::control::{Event, Said, Settings, Told};
use crate::service::{Backoff, Reaper};
use crate::time::{Duration, Instant};
use crate::wire::pair::Side;

/// Pauses between an end and the next start: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The loop is not asked more often than that, however many ask.
const SHORTEST: Duration = Duration::from_millis(100);
/// Events that may wait.
const EVENTS: usize = 64;
/// Longest line that the child may say.
const LINE: usize = 4096;

/// The watching process as the helper sees it.
pub(super) struct Observe {
    settings: Settings,
    lines: (Sender<Told>, Receiver<Told>),
    /// How its process is confined.
    confinement: RefCell<Option<String>>,
    voice: Voice,
}

impl Observe {
    /// `None` when nobody watches.
    pub(super) fn new(site: &Site, side: Side) -> Option<Rc<Self>> {
        let settings = settings(site, side);
        if settings.listen.is_empty() && settings.syslog.is_none() {
            return None;
        }
        let voice = Voice::of("observe");
        Some(Rc::new(Self { settings, lines: bounded(EVENTS), confinement: RefCell::default(), voice }))
    }

    /// Something for the syslog server. What a slow process does not take is lost.
    pub(super) fn tell(&self, event: Event) {
        if self.settings.syslog.is_some() {
            let boot_ms = clock::now().as_nanos() / 1_000_000;
            let _ = self.lines.0.try_send(Told::Event { event, unix_us: history::wall_clock_us(), boot_ms });
        }
    }

    /// Keeps the process running for as long as the daemon lives. Its troubles are no reason to hand over.
    pub(super) async fn keep(self: Rc<Self>, helper: Rc<Helper>, reaper: Rc<Reaper>) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let started = clock::now();
            let ended = self.live(&helper, &reaper).await;
            let pause = backoff.after_failure(clock::now().since(started));
            log::warn!("the watching process ended: {ended:?}; started again in {pause:?}");
            Timer::after(pause).await;
        }
    }

    /// One life of the process.
    async fn live(&self, helper: &Helper, reaper: &Reaper) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        #[allow(clippy::disallowed_methods)] // the one place that starts it
        let mut child = Command::new("/proc/self/exe")
            .arg("observe-child")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut words = Words::of(&self.voice, &mut child)?;
        let end = reaper.end_of(child.id());
        let stream = Async::new(ours)?;
        let writing = async {
            write(&stream, &Told::Start { settings: self.settings.clone() }).await?;
            while let Ok(told) = self.lines.1.recv().await {
                write(&stream, &told).await?;
            }
            Ok(())
        };
        let reading = async {
            let mut lines = BufReader::with_capacity(1024, &stream);
            let mut line = Vec::new();
            let mut next = Instant::BOOT;
            loop {
                match child_lines::next(&mut lines, &mut line, LINE).await? {
                    Said::Ask => {
                        Timer::after(next.since(clock::now())).await;
                        next = clock::now() + SHORTEST;
                        let snapshot = helper.snapshot().await;
                        let status = snapshot.map(|snapshot| Box::new(report::status(helper, &snapshot)));
                        let _ = self.lines.0.send(Told::Status { status }).await; // never closed
                    }
                    Said::Confined { by } => {
                        if self.voice.admits() {
                            log::info!("the watching process is confined: {by}");
                        }
                        *self.confinement.borrow_mut() = Some(by);
                    }
                    Said::Log { text } if self.voice.admits() => log::warn!("{text}"),
                    Said::Log { .. } => {}
                }
            }
        };
        let result = future::or(future::or(writing, reading), words.copy()).await;
        *self.confinement.borrow_mut() = None;
        drop(stream); // end of file ends it
        child::see_off(child.id(), &end).await;
        words.copy_rest().await;
        result
    }
}

impl Helper {
    /// How the watching process is confined; `None` while it has not said so, or where nobody watches.
    pub(super) fn observe_confinement(&self) -> Option<String> {
        self.observe.as_ref().and_then(|observe| observe.confinement.borrow().clone())
    }
}

async fn write(stream: &Async<UnixStream>, told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    let mut stream = stream;
    stream.write_all(&line).await
}

/// Which of the configured addresses are this box's.
fn settings(site: &Site, side: Side) -> Settings {
    let own = &site.nodes[side as usize];
    let mut listen = Vec::new();
    for (ip, port) in &site.observe.listen {
        let here = own.iter().map(|own| own.prefix.ip).filter(|own| ip.is_none_or(|ip| ip == *own));
        for address in here.map(|ip| SocketAddr::new(ip, *port)) {
            if !listen.contains(&address) {
                listen.push(address);
            }
        }
    }
    let from = |to: IpAddr| {
        let near = own.iter().find(|own| own.prefix.contains(to));
        let family = || own.iter().find(|own| own.prefix.ip.is_ipv4() == to.is_ipv4());
        near.or_else(family).map(|own| SocketAddr::new(own.prefix.ip, 0))
    };
    let syslog = site.observe.syslog.and_then(|to| Some((to, from(to.ip())?)));
    Settings { listen, syslog, pair: site.pair.name.clone(), node: side.name().to_owned() }
}
