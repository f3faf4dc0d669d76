//! The programs on the LAN: a witness that answers pings, a client that pings the service address all the time, and a
//! judge that writes down who sends as its holder.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::hub::Station;
use super::timeline::Timeline;

/// A hardware address.
pub type Mac = [u8; 6];

const ARP: u16 = 0x0806;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const BROADCAST: Mac = [0xff; 6];

/// What a frame says, as far as these programs care.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'f> {
    /// ARP: operation, sender, target.
    Arp { operation: u16, mac: Mac, sender: Ipv4Addr, target: Ipv4Addr },
    /// ICMP echo: its kind and everything behind the kind and the checksum.
    Echo { kind: u8, from: Ipv4Addr, to: Ipv4Addr, rest: &'f [u8] },
    /// Other IPv4: the whole packet.
    Other { from: Ipv4Addr, to: Ipv4Addr, packet: &'f [u8] },
}

/// Reads a frame; `None` for what is neither ARP nor IPv4.
pub fn parse(frame: &[u8]) -> Option<Said<'_>> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    match u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]) {
        ARP => Some(Said::Arp {
            operation: u16::from_be_bytes([*frame.get(20)?, *frame.get(21)?]),
            mac: frame.get(22..28)?.try_into().ok()?,
            sender: address(28)?,
            target: address(38)?,
        }),
        IPV4 => {
            let header = usize::from(frame.get(14)? & 15) * 4;
            let length = usize::from(u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?]));
            let (from, to) = (address(26)?, address(30)?);
            let body = frame.get(14 + header..14 + length)?;
            match (frame.get(23)?, body.first()?) {
                (&ICMP, &kind @ (ECHO_REQUEST | ECHO_REPLY)) => {
                    Some(Said::Echo { kind, from, to, rest: body.get(4..)? })
                }
                _ => Some(Said::Other { from, to, packet: frame.get(14..14 + length)? }),
            }
        }
        _ => None,
    }
}

/// A frame, as long as a frame must be.
pub fn ethernet(to: Mac, from: Mac, kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &kind.to_be_bytes(), body].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An ARP question (`operation` 1) or answer (2).
pub fn arp(operation: u16, own: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    let (target_mac, frame_to) = if operation == 1 { ([0; 6], BROADCAST) } else { (to.0, to.0) };
    let body = [&head[..], &operation.to_be_bytes(), &own.0, &own.1.octets(), &target_mac, &to.1.octets()].concat();
    ethernet(frame_to, own.0, ARP, &body)
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

fn echo(kind: u8, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), rest: &[u8]) -> Vec<u8> {
    let mut icmp = [&[kind, 0, 0, 0], rest].concat();
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let length = u16::try_from(20 + icmp.len()).unwrap();
    let mut ip = [&[0x45, 0][..], &length.to_be_bytes(), &[0, 0, 0, 0, 64, ICMP, 0, 0]].concat();
    ip.extend_from_slice(&from.1.octets());
    ip.extend_from_slice(&to.1.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    ip.extend_from_slice(&icmp);
    ethernet(to.0, from.0, IPV4, &ip)
}

/// A third device: answers ARP and ping, resolves addresses by ARP, and runs nothing of ours.
pub struct Witness {
    own: (Mac, Ipv4Addr),
    neighbours: HashMap<Ipv4Addr, Mac>,
    /// Answers that wait for the address of the one who asked.
    waiting: Vec<(Ipv4Addr, Vec<u8>)>,
    /// Switched off: neither hears nor speaks.
    dead: Arc<std::sync::atomic::AtomicBool>,
}

impl Witness {
    /// A device with this address; `dead` switches it off.
    pub fn new(ip: Ipv4Addr, dead: Arc<std::sync::atomic::AtomicBool>) -> Self {
        let own = ([0x52, 0x54, 0, 0xff, 0, ip.octets()[3]], ip);
        Self { own, neighbours: HashMap::new(), waiting: Vec::new(), dead }
    }
}

impl Station for Witness {
    fn hear(&mut self, _: Instant, _: Option<usize>, frame: &[u8], send: &mut dyn FnMut(Vec<u8>)) {
        if self.dead.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        match parse(frame) {
            Some(Said::Arp { operation, mac, sender, target }) => {
                self.neighbours.insert(sender, mac);
                if operation == 1 && target == self.own.1 {
                    send(arp(2, self.own, (mac, sender)));
                }
                let own = self.own;
                self.waiting.retain(|(to, rest)| {
                    if *to == sender {
                        send(echo(ECHO_REPLY, own, (mac, sender), rest));
                    }
                    *to != sender
                });
            }
            Some(Said::Echo { kind: ECHO_REQUEST, from, to, rest }) if to == self.own.1 => {
                if let Some(mac) = self.neighbours.get(&from) {
                    send(echo(ECHO_REPLY, self.own, (*mac, from), rest));
                } else {
                    self.waiting.truncate(15);
                    self.waiting.push((from, rest.to_vec()));
                    send(arp(1, self.own, ([0; 6], from)));
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, _: Instant, _: &mut dyn FnMut(Vec<u8>)) {}
}

/// What the client has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Answers so far.
    pub answers: u64,
    /// Box whose hardware address the service address has now.
    pub served_by: Option<usize>,
    /// Time of the last answer, since the rig's start.
    pub last: Duration,
    /// Every silence that counts as an outage: its start and its length.
    pub outages: Vec<(Duration, Duration)>,
    /// Answers with a content that is not the service's.
    pub wrong: u64,
}

/// Where a client writes down what it sees.
pub struct Notebook {
    who: &'static str,
    outage: Duration,
    boxes: [Mac; 2],
    timeline: Timeline,
    seen: Arc<Mutex<Seen>>,
}

impl Notebook {
    /// An empty one. A pause of more than `outage` between two answers is an outage.
    pub fn new(
        who: &'static str,
        outage: Duration,
        boxes: [Mac; 2],
        timeline: Timeline,
        seen: Arc<Mutex<Seen>>,
    ) -> Self {
        Self { who, outage, boxes, timeline, seen }
    }

    /// A right answer came from this hardware address.
    pub fn answered(&self, from: Mac) {
        let now = self.timeline.now();
        let mut seen = self.seen.lock().unwrap();
        let server = self.boxes.iter().position(|mac| *mac == from);
        let silence = now - seen.last;
        if seen.answers > 0 && silence > self.outage {
            let start = seen.last;
            seen.outages.push((start, silence));
            self.timeline.add(self.who, format!("answered again after {:.3} s", silence.as_secs_f64()));
        }
        if server != seen.served_by {
            let name = server.map_or("an unknown box", |index| ["a", "b"][index]);
            self.timeline.add(self.who, format!("is served by {name}"));
            seen.served_by = server;
        }
        seen.last = now;
        seen.answers += 1;
    }

    /// An answer came that is not the service's; `start` is how it begins.
    pub fn wrong(&self, start: &str) {
        self.timeline.add(self.who, format!("got a WRONG answer: {start:?}"));
        self.seen.lock().unwrap().wrong += 1;
    }
}

/// A pause between two answers to pings that counts as an outage.
const OUTAGE: Duration = Duration::from_millis(150);

/// A client with a neighbour cache like Linux's: an entry changes with every ARP packet of its owner.
pub struct Client {
    own: (Mac, Ipv4Addr),
    service: Ipv4Addr,
    mac: Option<Mac>,
    next: Option<Instant>,
    sequence: u16,
    unanswered: u32,
    notebook: Notebook,
}

impl Client {
    /// A client that pings `service`; the boxes are told apart by their hardware addresses.
    pub fn new(service: Ipv4Addr, boxes: [Mac; 2], timeline: Timeline, seen: Arc<Mutex<Seen>>) -> Self {
        let own = ([0x52, 0x54, 0, 0xff, 0, 200], Ipv4Addr::new(192, 0, 2, 200));
        let notebook = Notebook::new("client", OUTAGE, boxes, timeline, seen);
        Self { own, service, mac: None, next: None, sequence: 0, unanswered: 0, notebook }
    }
}

impl Station for Client {
    fn hear(&mut self, _: Instant, _: Option<usize>, frame: &[u8], send: &mut dyn FnMut(Vec<u8>)) {
        match parse(frame) {
            Some(Said::Arp { operation, mac, sender, target }) => {
                if sender == self.service && self.mac != Some(mac) {
                    self.mac = Some(mac);
                    self.next = None;
                }
                if operation == 1 && target == self.own.1 {
                    send(arp(2, self.own, (mac, sender)));
                }
            }
            Some(Said::Echo { kind: ECHO_REPLY, from, to, .. }) if from == self.service && to == self.own.1 => {
                self.unanswered = 0;
                self.notebook.answered(frame[6..12].try_into().unwrap());
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        const PERIOD: Duration = Duration::from_millis(20);
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + PERIOD);
        self.unanswered += 1;
        self.sequence = self.sequence.wrapping_add(1);
        match self.mac {
            Some(mac) => {
                let rest = [&[0x2b, 0x0c][..], &self.sequence.to_be_bytes(), b"twobox client"].concat();
                send(echo(ECHO_REQUEST, self.own, (mac, self.service), &rest));
                // As Linux does when an entry stops answering: ask again, first the owner, then everybody.
                if self.unanswered.is_multiple_of(50) {
                    send(arp(1, self.own, ([0; 6], self.service)));
                }
            }
            None if self.unanswered % 10 == 1 => send(arp(1, self.own, ([0; 6], self.service))),
            None => {}
        }
    }
}

/// A stretch of time in which one box sent as holder of the service address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// The box.
    pub port: usize,
    /// Its first frame as holder, since the rig's start.
    pub first: Duration,
    /// Its last one so far.
    pub last: Duration,
}

/// Writes down which box sends as holder of the service address: IPv4 source or ARP sender. The sequence of reigns is
/// the proof: a box that comes back into it without a hand-over in between has sent beside the other.
pub struct Judge {
    service: Ipv4Addr,
    timeline: Timeline,
    reigns: Arc<Mutex<Vec<Reign>>>,
}

impl Judge {
    /// Judges the frames of `service`.
    pub fn new(service: Ipv4Addr, timeline: Timeline, reigns: Arc<Mutex<Vec<Reign>>>) -> Self {
        Self { service, timeline, reigns }
    }
}

impl Station for Judge {
    fn hear(&mut self, _: Instant, port: Option<usize>, frame: &[u8], _: &mut dyn FnMut(Vec<u8>)) {
        let holder = match parse(frame) {
            Some(Said::Arp { sender, .. }) => sender,
            Some(Said::Echo { from, .. } | Said::Other { from, .. }) => from,
            None => return,
        };
        let Some(port) = port.filter(|_| holder == self.service) else { return };
        let now = self.timeline.now();
        let mut reigns = self.reigns.lock().unwrap();
        match reigns.last_mut() {
            Some(reign) if reign.port == port => reign.last = now,
            _ => {
                self.timeline.add("hub", format!("{} sends as holder of {}", ["a", "b"][port], self.service));
                reigns.push(Reign { port, first: now, last: now });
            }
        }
    }

    fn tick(&mut self, _: Instant, _: &mut dyn FnMut(Vec<u8>)) {}
}
