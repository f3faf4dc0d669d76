//! All links of this box behind one call each: send this heartbeat, drain what has come.

use std::cell::Cell;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::clock;
use crate::config::Config;
use crate::link::ethernet::Ethernet;
use crate::link::reflected::{self, Arrival, Reflected};
use crate::link::serial::{Port, Serial};
use crate::link::{Binder, Carrier, Counters, Sent};
use crate::node::settings::{CROSSOVER, FIRST_REFLECTED, LAN, NULL_MODEM, PATHS, WITNESSES};
use crate::time::Instant;
use crate::wire::heartbeat::{self, Heartbeat, MAX_SIZE, Reject, Seal};
use crate::wire::line::{Finding, Observer};
use crate::wire::pair::{BootId, Side};
use crate::wire::panic_text::Matcher;
use crate::wire::serial::{self as framing, Decoder, Piece};
use crate::wire::{Mac, side};

use super::neighbor::Neighbor;
use super::sources::{Ready, Source};
use super::tally::Tally;

/// Frames taken from one socket in one turn: more than its receive buffer holds, so that everything that had come before
/// the turn began is taken, and a flood cannot hold the loop for ever.
const DRAIN_MAX: usize = 4096;
/// Bytes read from the line in one call: all that the kernel keeps for a reader (N_TTY_BUF_SIZE, drivers/tty/n_tty.c).
const CHUNK: usize = 4096;
/// Calls in one turn when more than that has come, which is a third of a second at 115,200 baud: the driver's own buffers hold
/// ten times as much as this.
const CHUNKS: usize = 16;
/// Ports on an interface: the crossover, the LAN, the witnesses.
pub(super) const PORTS: usize = 3;

/// Something that came by a link.
pub(super) enum Received<'a> {
    /// An authentic heartbeat.
    Heartbeat { path: u8, heartbeat: &'a Heartbeat },
    /// A witness's answer.
    Pong { witness: u8, round: u32 },
    /// A fragment of the side channel, not yet looked at.
    Fragment(&'a [u8]),
    /// The peer's kernel has panicked, and its other processors are stopped.
    PanicText { began: Instant },
}

/// What the status shows of a link besides the node's own account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Frames that were no heartbeats, by reason.
    pub rejected: [u32; Reject::ALL.len()],
    /// The port's own counters.
    pub counters: Counters,
    /// What seems to be wrong, in words.
    pub finding: Option<&'static str>,
}

struct NullModem {
    port: Serial,
    decoder: Decoder,
    observer: Observer,
    matcher: Matcher,
    line_errors: u32,
}

/// All links.
pub(super) struct Links {
    null_modem: Option<NullModem>,
    crossover: Option<Ethernet>,
    /// The board names it, and its card is not there.
    crossover_is_missing: bool,
    lan: Option<Ethernet>,
    witnesses: Option<Reflected>,
    /// The peer on the LAN.
    neighbor: Neighbor,
    rejected: [[u32; Reject::ALL.len()]; PATHS],
    tallies: [Tally; WITNESSES],
    last_serial_beat: Instant,
}

impl Links {
    /// Opens every port of the board. A null modem that cannot be opened is waited for; an interface must exist, on the
    /// appliance the crossover need not. `own_is_ours`: no appliance, the own addresses are on their interfaces already; else see
    /// [`Links::take_own`].
    pub(super) fn open(
        config: &Config,
        side: Side,
        neighbor: Neighbor,
        own_is_ours: bool,
        interface: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, String> {
        let ethernet = |role: &str| -> Result<Option<Ethernet>, String> {
            if config.board.interface(role).is_none() {
                return Ok(None);
            }
            let name = interface(role)?;
            Ethernet::open(&name)
                .map(Some)
                .map_err(|e| format!("interface {name} ({role}): {e}; run this as root, or give it CAP_NET_RAW"))
        };
        let null_modem = match &config.board.null_modem {
            None => None,
            Some(port) => {
                let path = port.device.display().to_string();
                let port = Serial::open(&path, port.baud).unwrap_or_else(|error| {
                    log::error!("null modem {path}: {error}; tried again every second");
                    Serial::default()
                });
                Some(NullModem::new(port))
            }
        };
        let crossover = match ethernet("crossover") {
            // A card that died is no reason for a box of ours to leave the pair: the boot has told, the status shows it.
            Err(error) if !own_is_ours => {
                log::error!("{error}; the pair runs without the crossover");
                None
            }
            other => other?,
        };
        Ok(Self {
            null_modem,
            crossover_is_missing: crossover.is_none() && config.board.interface("crossover").is_some(),
            crossover,
            lan: ethernet("lan")?,
            witnesses: witnesses(config, side, own_is_ours, interface)?,
            neighbor,
            rejected: [[0; Reject::ALL.len()]; PATHS],
            tallies: [Tally::default(); WITNESSES],
            last_serial_beat: Instant::BOOT,
        })
    }

    /// For whoever looks after the interfaces of the ports.
    pub(super) fn binders(&self) -> std::io::Result<[Option<Binder>; PORTS]> {
        let of = |port: &Option<Ethernet>| port.as_ref().map(Ethernet::binder).transpose();
        Ok([of(&self.crossover)?, of(&self.lan)?, self.witnesses.as_ref().map(Reflected::binder).transpose()?])
    }

    /// The ports whose sockets have been bound to other interfaces, of this index and hardware address.
    pub(super) fn bound(&mut self, bound: [Option<(u32, Mac)>; PORTS]) {
        let [crossover, lan, witnesses] = bound;
        for (port, bound) in [(&mut self.crossover, crossover), (&mut self.lan, lan)] {
            if let (Some(port), Some((index, mac))) = (port, bound) {
                port.bound(index, mac);
            }
        }
        if let (Some(port), Some((index, mac))) = (&mut self.witnesses, witnesses) {
            port.bound(index, mac);
        }
    }

    /// Descriptors to wait on; the same set until a port is plugged in again.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>)> {
        use std::os::fd::AsFd;
        let line = self.null_modem.as_ref().and_then(|line| line.port.fd());
        let descriptors = [
            (Source::NullModem, line),
            (Source::Crossover, self.crossover.as_ref().map(Ethernet::as_fd)),
            (Source::Lan, self.lan.as_ref().map(Ethernet::as_fd)),
            (Source::Witnesses, self.witnesses.as_ref().map(Reflected::as_fd)),
        ];
        descriptors.into_iter().filter_map(|(source, descriptor)| Some((source, descriptor?)))
    }

    /// Sends a heartbeat on its path. What does not fit is dropped and counted by the port.
    pub(super) fn send(&mut self, now: Instant, seal: &Seal, heartbeat: &Heartbeat) {
        if heartbeat.path == NULL_MODEM {
            self.last_serial_beat = now;
        }
        let mut bytes = [0; heartbeat::SIZE];
        self.send_bytes(heartbeat.path, seal.encode(heartbeat, &mut bytes));
    }

    /// When the last heartbeat went out on the null modem: between two of them is room for a fragment.
    pub(super) fn last_serial_beat(&self) -> Instant {
        self.last_serial_beat
    }

    /// Sends a frame of ours on a path.
    pub(super) fn send_bytes(&mut self, path: u8, payload: &[u8]) {
        let sent = match path {
            NULL_MODEM => self.null_modem.as_mut().map(|line| {
                let mut frame = [0; framing::FRAME_MAX];
                match framing::encode(payload, &mut frame) {
                    Some(frame) => line.port.send(frame),
                    None => Err(std::io::ErrorKind::InvalidInput.into()),
                }
            }),
            CROSSOVER => self.crossover.as_mut().map(|port| port.send(payload)),
            LAN => self.lan.as_mut().map(|port| port.send(payload)),
            path => self.witnesses.as_mut().map(|port| port.reflect(path - FIRST_REFLECTED, payload)),
        };
        if let Some(Err(error)) = sent {
            log::debug!("path {path}: {error}");
        }
    }

    /// An own address is on the LAN now: witnesses may be asked from it.
    pub(super) fn take_own(&mut self, ip: IpAddr) {
        if let Some(port) = &mut self.witnesses {
            port.take(ip);
        }
    }

    /// Pings a witness, which has to be told where a silent peer is.
    pub(super) fn ping(&mut self, now: Instant, witness: u8, round: u32) {
        let Some(port) = &mut self.witnesses else { return };
        let told = self.neighbor.silent(now).map_or(Ok(()), |mac| port.vouch(now, witness, mac));
        match told.and_then(|()| port.ping(now, witness, round)) {
            Ok(Sent::Queued) => self.tallies[usize::from(witness)].sent(),
            Ok(Sent::Dropped) => {}
            Err(error) => log::debug!("witness {witness}: {error}"),
        }
    }

    /// Hardware address of the peer on the LAN, once known.
    pub(super) fn peer_mac(&self) -> Option<Mac> {
        self.neighbor.mac()
    }

    /// The peer's present life: frames of another one do not tell where it is.
    pub(super) fn set_peer(&mut self, boot: Option<BootId>) {
        self.neighbor.set_peer(boot);
    }

    /// Takes everything that has come by what is ready, each with a time that is not earlier than its receipt. What is no
    /// heartbeat is counted by its reason.
    pub(super) fn drain(&mut self, ready: Ready, seal: &Seal, mut take: impl FnMut(Instant, Received<'_>)) {
        let rejected = &mut self.rejected;
        let said = Cell::new(None);
        let mut judge = |path: u8, payload: &[u8], take: &mut Take<'_>| match seal.decode(payload) {
            Err(Reject::NotOurs) if payload.starts_with(&side::MAGIC) => {
                take(clock::now(), Received::Fragment(payload));
                None
            }
            Ok(heartbeat) => {
                said.set(Some((heartbeat.boot, heartbeat.path, heartbeat.path_sequence)));
                take(clock::now(), Received::Heartbeat { path, heartbeat: &heartbeat });
                None
            }
            Err(reason) => {
                let count = &mut rejected[path as usize][reason as usize];
                *count = count.saturating_add(1);
                Some(reason)
            }
        };
        if let Some(line) = self.null_modem.as_mut().filter(|_| ready.has(Source::NullModem)) {
            line.drain(&mut judge, &mut take);
        }
        let mut buffer = [0; MAX_SIZE];
        let ports = [(CROSSOVER, Source::Crossover, &mut self.crossover), (LAN, Source::Lan, &mut self.lan)];
        for (path, source, port) in ports {
            let Some(port) = port.as_mut().filter(|_| ready.has(source)) else { continue };
            for _ in 0..DRAIN_MAX {
                match port.recv(&mut buffer) {
                    Ok(Some(length)) => {
                        let payload = &buffer[..length];
                        judge(path, payload, &mut take);
                        if let Some((boot, LAN, sequence)) = said.take().filter(|_| path == LAN) {
                            self.neighbor.heard(clock::now(), port.source(), boot, sequence);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        log::debug!("path {path}: {error}");
                        break;
                    }
                }
            }
        }
        let Some(port) = self.witnesses.as_mut().filter(|_| ready.has(Source::Witnesses)) else { return };
        for _ in 0..DRAIN_MAX {
            match port.recv(clock::now()) {
                Ok(Some(Arrival::Pong { witness, round })) => {
                    self.tallies[usize::from(witness)].answered();
                    take(clock::now(), Received::Pong { witness, round });
                }
                Ok(Some(Arrival::Reflected { witness, payload, .. })) => {
                    judge(FIRST_REFLECTED + witness, payload, &mut take);
                }
                Ok(None) => break,
                Err(error) => {
                    log::debug!("witnesses: {error}");
                    break;
                }
            }
        }
    }

    /// Which direct paths have carrier, one bit each. Once a second.
    pub(super) fn look_after(&mut self, now: Instant) -> u8 {
        self.tallies.iter_mut().for_each(Tally::second);
        let mut carriers = 0;
        if let Some(line) = &mut self.null_modem {
            line.count_errors(now);
            carriers |= u8::from(line.observer.finding(now) == Finding::Peer) << NULL_MODEM;
        }
        for (path, port) in [(CROSSOVER, &self.crossover), (LAN, &self.lan)] {
            let is_there = port.as_ref().is_some_and(|port| port.carrier() == Carrier::Present);
            carriers |= u8::from(is_there) << path;
        }
        carriers
    }

    /// The null modem's port is not there: [`Links::plug_in`] is waited for.
    pub(super) fn lacks_port(&self) -> bool {
        self.null_modem.as_ref().is_some_and(|line| !line.port.is_open())
    }

    /// The port that was unplugged, if it was not taken yet: closing it may take long.
    pub(super) fn unplugged(&mut self) -> Option<Port> {
        self.null_modem.as_mut()?.port.unplugged()
    }

    /// The null modem has a port again: somebody has to wait on it.
    pub(super) fn plug_in(&mut self, port: Port) -> Option<BorrowedFd<'_>> {
        let line = self.null_modem.as_mut()?;
        line.port.plug_in(port);
        // Another port counts from its own beginning.
        line.line_errors = line.port.line_errors().unwrap_or_default().framing;
        log::info!("null modem: the port is back");
        line.port.fd()
    }

    /// Witnesses that answer only some of the pings, one bit each.
    pub(super) fn witness_limits(&self) -> u8 {
        (0u8..).zip(&self.tallies).fold(0, |bits, (witness, tally)| bits | u8::from(tally.limits()) << witness)
    }

    /// What the status shows of a path.
    pub(super) fn seen(&mut self, now: Instant, path: u8) -> Seen {
        let carrier = |port: &Ethernet| match port.carrier() {
            Carrier::Present => None,
            Carrier::Gone => Some("the interface is gone"),
            _ => Some("no carrier"),
        };
        let (counters, finding) = match path {
            NULL_MODEM => self.null_modem.as_ref().map(|line| (line.port.counters(), line.finding(now))),
            CROSSOVER if self.crossover_is_missing => Some((Counters::default(), Some("its interface is missing"))),
            CROSSOVER => self.crossover.as_mut().map(|port| (port.counters(), carrier(port))),
            LAN => self.lan.as_mut().map(|port| (port.counters(), carrier(port))),
            path => self.witnesses.as_mut().map(|port| {
                let unresolved = port.resolved(path - FIRST_REFLECTED).is_none();
                (port.counters(), unresolved.then_some("its hardware address is not known"))
            }),
        }
        .unwrap_or_default();
        Seen { rejected: self.rejected[path as usize], counters, finding }
    }
}

type Take<'a> = dyn FnMut(Instant, Received<'_>) + 'a;
type Judge<'a> = dyn FnMut(u8, &[u8], &mut Take<'_>) -> Option<Reject> + 'a;

impl NullModem {
    fn new(port: Serial) -> Self {
        Self { port, decoder: Decoder::new(), observer: Observer::new(), matcher: Matcher::new(), line_errors: 0 }
    }

    /// One call takes everything there is. Another one that finds nothing would wait for the kernel's worker that carries
    /// bytes from the driver to the reader (tty_buffer_flush_work in n_tty_read), an ordinary thread, which gets no
    /// processor as long as real-time threads have them all. Only when more than one call's worth has come, as after a stop,
    /// is it waited for: what is old is not to be taken for new in the next turn.
    fn drain(&mut self, judge: &mut Judge<'_>, take: &mut Take<'_>) {
        let Self { port, decoder, observer, matcher, .. } = self;
        let mut chunk = [0; CHUNK];
        let mut behind = false;
        for _ in 0..CHUNKS {
            let length = match port.recv(&mut chunk) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
                    log::warn!("null modem: the port is gone; waiting for it to come back");
                    break;
                }
                Err(error) => {
                    log::warn!("null modem: {error}");
                    break;
                }
            };
            decoder.feed(&chunk[..length], |piece| match piece {
                Piece::Frame(payload) => match judge(NULL_MODEM, payload, take) {
                    None => observer.peer(clock::now()),
                    Some(Reject::OwnFrame) => observer.own(clock::now()),
                    Some(_) => {}
                },
                Piece::Noise(bytes) => {
                    let now = clock::now(); // not before that of the frames in front of it
                    observer.noise(now, bytes);
                    if let Some(death) = matcher.feed(now, bytes) {
                        take(now, Received::PanicText { began: death.began });
                    }
                }
            });
            behind |= length == CHUNK;
            if !behind {
                break;
            }
        }
    }

    fn count_errors(&mut self, now: Instant) {
        if let Some(errors) = self.port.line_errors() {
            let more = errors.framing.wrapping_sub(self.line_errors);
            self.line_errors = errors.framing;
            self.observer.framing_errors(now, more);
        }
    }

    fn finding(&self, now: Instant) -> Option<&'static str> {
        match self.observer.finding(now) {
            _ if !self.port.is_open() => Some("the port is gone"),
            Finding::Peer => None,
            other => Some(other.name()),
        }
    }
}

fn witnesses(
    config: &Config,
    side: Side,
    own_is_ours: bool,
    interface: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Option<Reflected>, String> {
    let site = &config.site;
    if site.witnesses.is_empty() {
        return Ok(None);
    }
    let addresses = |side: Side| -> Vec<IpAddr> {
        site.nodes[side as usize].iter().filter(|own| own.interface == "lan").map(|own| own.prefix.ip).collect()
    };
    let witness = |ip: &IpAddr| reflected::Witness { ip: *ip, next_hop: None };
    let settings = reflected::Settings {
        interface: interface("lan")?,
        own: addresses(side),
        peer: addresses(side.peer()),
        witnesses: site.witnesses.iter().map(witness).collect(),
        secret: getrandom::u64().map_err(|e| format!("no random number for the pings: {e}"))?,
        own_is_ours,
    };
    Reflected::open(&settings).map(Some).map_err(|e| format!("witnesses: {e}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use nix::pty::openpty;
    use nix::time::{ClockId, clock_gettime};
    use nix::unistd::{ttyname, write};

    use super::super::sources::Sources;
    use super::*;
    use crate::realtime::{self, Thread};
    use crate::time::Duration;

    fn of(null_modem: NullModem) -> Links {
        Links {
            null_modem: Some(null_modem),
            crossover: None,
            crossover_is_missing: false,
            lan: None,
            witnesses: None,
            neighbor: Neighbor::new(None, Instant::BOOT),
            rejected: [[0; Reject::ALL.len()]; PATHS],
            tallies: [Tally::default(); WITNESSES],
            last_serial_beat: Instant::BOOT,
        }
    }

    fn seal() -> Seal {
        Seal::new(Side::A, BootId::new(1).unwrap(), "pair", &[1; 32])
    }

    /// A promise counts from the receipt: a time from before the drain would end it too early.
    #[test]
    fn what_came_has_a_time_that_is_not_earlier_than_its_receipt() {
        let pty = openpty(None, None).unwrap();
        let path = ttyname(&pty.slave).unwrap();
        let mut links = of(NullModem::new(Serial::open(path.to_str().unwrap(), 115_200).unwrap()));
        let seal = seal();
        let mut payload = [0; 40];
        payload[..side::MAGIC.len()].copy_from_slice(&side::MAGIC);
        let mut frame = [0; framing::FRAME_MAX];
        write(&pty.master, framing::encode(&payload, &mut frame).unwrap()).unwrap();
        let sent = clock::now();
        let mut times = Vec::new();
        while times.is_empty() {
            links.drain(Ready::ALL, &seal, |at, _| times.push(at));
            assert!(clock::now().since(sent) < Duration::from_secs(10), "the fragment does not come");
        }
        assert!(times.iter().all(|at| *at >= sent), "{times:?} is earlier than {sent:?}");
    }

    /// Bytes are carried from the driver to the reader by an ordinary thread of the kernel. While real-time threads have all
    /// processors, that one gets none, and the loop has its other links to look after.
    #[test]
    fn a_line_whose_bytes_are_still_under_way_is_not_waited_for() {
        let pty = openpty(None, None).unwrap();
        let path = ttyname(&pty.slave).unwrap();
        let mut links = of(NullModem::new(Serial::open(path.to_str().unwrap(), 115_200).unwrap()));
        let mut sources = Sources::new().unwrap();
        for (source, descriptor) in links.descriptors() {
            sources.add(descriptor, source).unwrap();
        }
        let hogs = Hogs::new();
        let reader = || {
            let priority = realtime::prioritize(Thread::Loop);
            hogs.let_loose();
            priority.ok()?;
            let mut heard = 0;
            let mut rounds_beside_hogs = 0;
            let mut turn = |links: &mut Links| {
                links.drain(sources.look(), &seal(), |_, _| ());
                heard = links.null_modem.as_ref().unwrap().port.counters().bytes_in;
                heard
            };
            for _ in 0..20 {
                write(&pty.master, b"garbage").unwrap();
                turn(&mut links);
                rounds_beside_hogs += u32::from(hogs.all_at_it());
            }
            hogs.end();
            let ended = clock::now();
            while turn(&mut links) < 20 * 7 {
                assert!(clock::now().since(ended) < Duration::from_secs(10), "what was under way has never come");
            }
            Some(rounds_beside_hogs)
        };
        match hogs.beside(reader) {
            None => eprintln!("skipped: no permission for real-time threads"),
            Some(rounds) => assert_eq!(rounds, 20, "the loop waited until the processors were free"),
        }
    }

    /// Real-time threads that take all processors for a while, below the loop's priority.
    struct Hogs {
        all: usize,
        start: Barrier,
        at_it: AtomicUsize,
        over: AtomicBool,
    }

    impl Hogs {
        /// Of processor time: long enough for who does not wait, and shorter than the kernel lets them (sched(7)).
        const LONG: Duration = Duration::from_millis(500);

        fn new() -> Hogs {
            let all = std::thread::available_parallelism().unwrap().get();
            Hogs { all, start: Barrier::new(all + 1), at_it: AtomicUsize::new(0), over: AtomicBool::new(false) }
        }

        fn all_at_it(&self) -> bool {
            self.at_it.load(Ordering::SeqCst) == self.all && !self.over.load(Ordering::SeqCst)
        }

        /// Starts them. Whoever calls this has a higher priority, or may not come back before they are over.
        fn let_loose(&self) {
            self.start.wait();
            while !self.all_at_it() {
                assert!(!self.over.load(Ordering::SeqCst), "they never ran all together");
                #[allow(clippy::disallowed_methods)] // they have to get a processor first
                std::thread::sleep(Duration::from_micros(100));
            }
        }

        fn end(&self) {
            self.over.store(true, Ordering::SeqCst);
        }

        fn beside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
            std::thread::scope(|scope| {
                for _ in 0..self.all {
                    scope.spawn(|| {
                        self.start.wait();
                        let _ = realtime::prioritize(Thread::Disk);
                        self.at_it.fetch_add(1, Ordering::SeqCst);
                        while processor_time() < Self::LONG && !self.over.load(Ordering::SeqCst) {
                            core::hint::spin_loop();
                        }
                        self.end();
                    });
                }
                let worked = scope.spawn(work).join();
                self.end();
                worked.unwrap()
            })
        }
    }

    fn processor_time() -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
    }
}
