//! A client that fetches the service's page all the time, each time over a new TCP connection, and compares what it got
//! byte by byte. TCP is smoltcp's; the neighbour entry is kept here, as Linux keeps one: every ARP packet of its owner
//! changes it.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::hub::Station;
use super::station::{IPV4, Mac, Notebook, Said, Seen, arp, ethernet, parse};
use super::timeline::Timeline;

/// Between the end of one fetch and the start of the next.
const PERIOD: Duration = Duration::from_millis(100);
/// A connection that is not there by then is tried anew: TCP's own second try would come too late to time an outage.
const CONNECT: Duration = Duration::from_millis(400);
/// A page that is not whole by then is tried anew.
const WHOLE: Duration = Duration::from_secs(3);
/// Between two questions for a neighbour that does not answer.
const ASK: Duration = Duration::from_millis(200);
/// A pause between two whole pages that counts as an outage.
const OUTAGE: Duration = Duration::from_millis(600);

/// IP packets on their way into the stack and out of it.
#[derive(Default)]
struct Packets {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

struct Incoming(Vec<u8>);
struct Outgoing<'q>(&'q mut VecDeque<Vec<u8>>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Packets {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Incoming, Outgoing<'_>)> {
        Some((Incoming(self.incoming.pop_front()?), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

/// What has come of one fetch.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// More is to come.
    Open,
    /// The page, whole and right.
    Right,
    /// Something that is not the page.
    Wrong,
}

/// Judges the bytes of an answer so far.
pub fn judge(answer: &[u8], page: &[u8]) -> Outcome {
    const STATUS: &[u8] = b"HTTP/1.1 200 ";
    const END: &[u8] = b"\r\n\r\n";
    if !answer.starts_with(&STATUS[..answer.len().min(STATUS.len())]) {
        return Outcome::Wrong;
    }
    let Some(head) = answer.windows(END.len()).position(|window| window == END) else { return Outcome::Open };
    let body = &answer[head + END.len()..];
    if !page.starts_with(body) {
        Outcome::Wrong
    } else if body.len() < page.len() {
        Outcome::Open
    } else {
        Outcome::Right
    }
}

/// One fetch under way.
struct Fetch {
    since: Instant,
    asked: bool,
    answer: Vec<u8>,
}

/// The client.
pub struct Fetcher {
    own: (Mac, Ipv4Addr),
    service: Ipv4Addr,
    page: Vec<u8>,
    neighbour: Option<Mac>,
    asked_at: Option<Instant>,
    heard_at: Option<Instant>,
    packets: Packets,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    fetch: Option<Fetch>,
    next: Option<Instant>,
    port: u16,
    /// Hardware address that the last packet of the service came from.
    server: Mac,
    notebook: Notebook,
    started: Timeline,
}

impl Fetcher {
    /// A client that expects `page` from `service`; the boxes are told apart by their hardware addresses.
    pub fn new(
        service: Ipv4Addr,
        page: Vec<u8>,
        boxes: [Mac; 2],
        timeline: Timeline,
        seen: Arc<Mutex<Seen>>,
    ) -> Fetcher {
        let own = ([0x52, 0x54, 0, 0xff, 0, 201], Ipv4Addr::new(192, 0, 2, 201));
        let mut packets = Packets::default();
        let mut interface =
            Interface::new(Config::new(HardwareAddress::Ip), &mut packets, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(own.1.into(), 24)).expect("room for one address");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 16_384]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Fetcher {
            own,
            service,
            page,
            neighbour: None,
            asked_at: None,
            heard_at: None,
            packets,
            interface,
            sockets,
            socket,
            fetch: None,
            next: None,
            port: 0,
            server: [0; 6],
            notebook: Notebook::new("fetch", OUTAGE, boxes, timeline.clone(), seen),
            started: timeline,
        }
    }

    fn poll(&mut self) {
        let now = i64::try_from(self.started.now().as_micros()).expect("a time");
        self.interface.poll(smoltcp::time::Instant::from_micros(now), &mut self.packets, &mut self.sockets);
    }

    /// Ends a fetch, whatever came of it.
    fn end(&mut self, next: Instant) {
        self.sockets.get_mut::<tcp::Socket<'_>>(self.socket).abort();
        self.poll(); // sends the reset
        self.fetch = None;
        self.next = Some(next);
    }

    fn begin(&mut self, now: Instant) {
        const FIRST_PORT: u16 = 49_152;
        self.port = (self.port + 1) % 16_000;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        socket.set_ack_delay(None);
        socket
            .connect(self.interface.context(), (self.service, 80), FIRST_PORT + self.port)
            .expect("a socket that is closed, and a route");
        self.fetch = Some(Fetch { since: now, asked: false, answer: Vec::new() });
    }

    /// Does what a fetch needs next.
    fn go_on(&mut self, now: Instant) {
        let Some(fetch) = self.fetch.as_mut() else {
            if self.neighbour.is_some() && self.next.is_none_or(|next| now >= next) {
                self.begin(now);
            }
            return;
        };
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        if !fetch.asked && socket.can_send() {
            let request = format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", self.service);
            fetch.asked = socket.send_slice(request.as_bytes()).is_ok();
        }
        while socket.can_recv() {
            let taken = socket.recv(|bytes| {
                fetch.answer.extend_from_slice(bytes);
                (bytes.len(), ())
            });
            if taken.is_err() {
                break;
            }
        }
        let refused = !socket.is_open();
        let late = now - fetch.since > if fetch.asked { WHOLE } else { CONNECT };
        match judge(&fetch.answer, &self.page) {
            Outcome::Right => {
                self.notebook.answered(self.server);
                self.end(now + PERIOD);
            }
            Outcome::Wrong => {
                let start = String::from_utf8_lossy(&fetch.answer[..fetch.answer.len().min(60)]).into_owned();
                self.notebook.wrong(&start);
                self.end(now + PERIOD);
            }
            // A service that was killed in the middle has sent no wrong page, but none.
            Outcome::Open if refused || late || !socket.may_recv() && fetch.asked => self.end(now + PERIOD / 4),
            Outcome::Open => {}
        }
    }

    /// Sends what the stack wants to send, and looks after the neighbour entry.
    fn flush(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        let silent = self.heard_at.is_none_or(|at| now - at > WHOLE / 2);
        if silent && self.asked_at.is_none_or(|at| now - at > ASK) {
            self.asked_at = Some(now);
            send(arp(1, self.own, ([0; 6], self.service)));
        }
        for packet in self.packets.outgoing.drain(..) {
            if let Some(mac) = self.neighbour {
                send(ethernet(mac, self.own.0, IPV4, &packet));
            }
        }
    }
}

impl Station for Fetcher {
    fn hear(&mut self, now: Instant, _: Option<usize>, frame: &[u8], send: &mut dyn FnMut(Vec<u8>)) {
        match parse(frame) {
            Some(Said::Arp { operation, mac, sender, target }) => {
                if sender == self.service && self.neighbour != Some(mac) {
                    self.neighbour = Some(mac);
                    // Another box serves: what was begun with the former one is lost.
                    self.end(now);
                }
                if operation == 1 && target == self.own.1 {
                    send(arp(2, self.own, (mac, sender)));
                }
            }
            Some(Said::Other { from, to, packet }) if from == self.service && to == self.own.1 => {
                self.server = frame[6..12].try_into().expect("six bytes");
                self.heard_at = Some(now);
                self.packets.incoming.push_back(packet.to_vec());
                self.poll();
                self.go_on(now);
                self.poll();
            }
            _ => return,
        }
        self.flush(now, send);
    }

    fn tick(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        self.go_on(now);
        self.poll();
        self.flush(now, send);
    }
}
