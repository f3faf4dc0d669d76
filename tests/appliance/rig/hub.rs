//! An Ethernet hub between the boxes: each port is a pair of datagram sockets that QEMU's `-netdev dgram` speaks to, one
//! frame a datagram. Every port can be cut, made lossy or slow, each direction for itself.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What a port does to frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    /// Nothing that the box sends arrives.
    pub cut_from: bool,
    /// Nothing arrives at the box.
    pub cut_to: bool,
    /// Per cent of the frames that get lost, both ways.
    pub loss: u8,
    /// Time that every frame takes, both ways.
    pub delay: Duration,
}

/// A program on the hub: hears every frame, and may send some.
pub trait Station: Send {
    /// A frame was on the wire; `port` is the box that sent it, `None` for another station.
    fn hear(&mut self, now: Instant, port: Option<usize>, frame: &[u8], send: &mut dyn FnMut(Vec<u8>));
    /// Called every few milliseconds.
    fn tick(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>));
}

/// A running hub.
pub struct Hub {
    faults: Arc<Mutex<Vec<Fault>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    paths: Vec<(PathBuf, PathBuf)>,
}

struct Port {
    socket: UnixDatagram,
    box_side: PathBuf,
}

/// A frame on its way to one port.
struct Late {
    due: Instant,
    port: usize,
    frame: Vec<u8>,
}

impl Hub {
    /// Starts a hub with one port for each of the two boxes; its sockets are named after `name`.
    #[allow(clippy::disallowed_methods)] // the rig's own thread
    pub fn start(directory: &Path, name: &str, stations: Vec<Box<dyn Station>>) -> std::io::Result<Hub> {
        let mut ports = Vec::new();
        let mut paths = Vec::new();
        for node in ["a", "b"] {
            let hub_side = directory.join(format!("{name}-{node}.hub"));
            let box_side = directory.join(format!("{name}-{node}.box"));
            let socket = UnixDatagram::bind(&hub_side)?;
            socket.set_nonblocking(true)?;
            ports.push(Port { socket, box_side: box_side.clone() });
            paths.push((box_side, hub_side));
        }
        let faults = Arc::new(Mutex::new(vec![Fault::default(); ports.len()]));
        let stop = Arc::new(AtomicBool::new(false));
        let wire = Wire { ports, stations, faults: faults.clone(), late: VecDeque::new(), dice: 1 };
        let stopped = stop.clone();
        let thread = Some(std::thread::spawn(move || wire.run(&stopped)));
        Ok(Hub { faults, stop, thread, paths })
    }

    /// QEMU's option for the network card of box `port`.
    pub fn netdev(&self, id: &str, port: usize) -> String {
        let (local, remote) = &self.paths[port];
        format!(
            "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
            local.display(),
            remote.display()
        )
    }

    /// QEMU binds its end anew at every start and finds the old name in its way.
    pub fn forget_box(&self, port: usize) {
        let _ = std::fs::remove_file(&self.paths[port].0);
    }

    /// Changes what a port does.
    pub fn set(&self, port: usize, fault: Fault) {
        self.faults.lock().unwrap()[port] = fault;
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Wire {
    ports: Vec<Port>,
    stations: Vec<Box<dyn Station>>,
    faults: Arc<Mutex<Vec<Fault>>>,
    late: VecDeque<Late>,
    dice: u64,
}

impl Wire {
    #[allow(clippy::disallowed_methods)] // the rig measures real machines
    fn run(mut self, stop: &AtomicBool) {
        const TURN: u8 = 2; // milliseconds
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let mut fds: Vec<PollFd> =
                self.ports.iter().map(|port| PollFd::new(port.socket.as_fd(), PollFlags::POLLIN)).collect();
            let _ = poll(&mut fds, PollTimeout::from(TURN));
            for index in 0..self.ports.len() {
                loop {
                    match self.ports[index].socket.recv(&mut buffer) {
                        Ok(length) => self.carry(Some(index), buffer[..length].to_vec()),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("hub: {error}"),
                    }
                }
            }
            self.on_stations(|station, send| station.tick(Instant::now(), send));
            let now = Instant::now();
            while self.late.front().is_some_and(|late| late.due <= now) {
                let late = self.late.pop_front().unwrap();
                self.hand_over(late.port, &late.frame);
            }
        }
    }

    /// A frame from a box (or from a station) goes to all others.
    #[allow(clippy::disallowed_methods)] // the rig measures real machines
    fn carry(&mut self, from: Option<usize>, frame: Vec<u8>) {
        let faults = self.faults.lock().unwrap().clone();
        if let Some(index) = from
            && (faults[index].cut_from || self.is_lost(faults[index].loss))
        {
            return;
        }
        for (index, fault) in faults.iter().enumerate() {
            if Some(index) == from || fault.cut_to || self.is_lost(fault.loss) {
                continue;
            }
            let delay = fault.delay + from.map_or(Duration::ZERO, |from| faults[from].delay);
            if delay.is_zero() {
                self.hand_over(index, &frame);
            } else {
                let late = Late { due: Instant::now() + delay, port: index, frame: frame.clone() };
                let place = self.late.partition_point(|other| other.due <= late.due);
                self.late.insert(place, late);
            }
        }
        if from.is_some() {
            self.on_stations(|station, send| station.hear(Instant::now(), from, &frame, send));
        }
    }

    /// Lets every station act; what one sends, the boxes and the other stations hear.
    #[allow(clippy::disallowed_methods)] // the rig measures real machines
    fn on_stations(&mut self, mut act: impl FnMut(&mut Box<dyn Station>, &mut dyn FnMut(Vec<u8>))) {
        let mut sent: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
        for (index, station) in self.stations.iter_mut().enumerate() {
            act(station, &mut |frame| sent.push_back((index, frame)));
        }
        while let Some((from, frame)) = sent.pop_front() {
            for (index, station) in self.stations.iter_mut().enumerate().filter(|(index, _)| *index != from) {
                station.hear(Instant::now(), None, &frame, &mut |answer| sent.push_back((index, answer)));
            }
            self.carry(None, frame);
        }
    }

    fn hand_over(&self, port: usize, frame: &[u8]) {
        // A box that is off has no socket, and one that does not read loses frames, as a card without buffers does.
        let port = &self.ports[port];
        let _ = port.socket.send_to(frame, &port.box_side);
    }

    /// xorshift64: the loss of one run need not be that of the next, but no library is needed for it.
    fn is_lost(&mut self, percent: u8) -> bool {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        percent > 0 && self.dice % 100 < u64::from(percent)
    }
}
