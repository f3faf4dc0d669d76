//! What can wait behind the gate: the queues of the interfaces by which service addresses leave, and of those below them. Read by
//! the network's thread; the loop has what came of it.

use std::io;

use super::belts::Way;
use crate::fence::beneath::{Beneath, beneath};
use crate::fence::queue::{self, Queue};
use crate::fence::speed::Speeds;
use crate::netlink::Socket;
use crate::takeover::interface::{self, Interface, TRANSMIT_QUEUE_LENGTH};
use crate::time::Duration;

/// A queue that holds a packet longer than this behind the gate is replaced by a short one.
const STAY_MAX: Duration = Duration::from_millis(20);
/// Interfaces with a queue that frames with a service address can pass; more are on no box.
const MOST: usize = 32;

/// What is behind the gate, for the loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// The longest time for which a packet stays there; `None`: nobody knows.
    pub stay: Option<Duration>,
    /// The interfaces whose queues have to be empty before everything has left.
    pub queues: heapless::Vec<u32, MOST>,
}

impl Behind {
    /// Nothing waits there.
    ///
    /// # Errors
    ///
    /// The kernel's: nothing is known then.
    pub(super) fn drained(&self, netlink: &mut Socket) -> io::Result<bool> {
        for index in &self.queues {
            // The length of its transmit queue is no matter of what is in it.
            if !queue::read(netlink, *index, 0)?.drained() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An interface that a frame passes on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Number of the way that it belongs to.
    way: usize,
    /// 0 for the way itself, where the gate is; 1 for what is right below.
    depth: u8,
    name: String,
    index: u32,
}

struct Line {
    at: Place,
    megabits: Option<u32>,
    /// Packets that it may hold, where the queueing discipline does not say.
    transmit_queue_length: u32,
    queue: Queue,
}

impl Line {
    fn read(at: Place, interfaces: &[Interface], netlink: &mut Socket, speeds: &mut Speeds) -> io::Result<Line> {
        let interface = interfaces.iter().find(|interface| interface.index == at.index);
        let transmit_queue_length =
            interface.map_or(TRANSMIT_QUEUE_LENGTH, |interface| interface.transmit_queue_length);
        let queue = queue::read(netlink, at.index, transmit_queue_length)?;
        let mut line = Line { at, megabits: None, transmit_queue_length, queue };
        if line.has_queue() {
            line.megabits = speeds.read(line.at.index)?;
        }
        Ok(line)
    }

    fn longest_stay(&self) -> Option<Duration> {
        self.queue.longest_stay(self.megabits)
    }

    fn has_queue(&self) -> bool {
        self.queue.kind != "noqueue"
    }

    /// A card without a link tells no speed, or one that means nothing. Nothing leaves by it then, so what it told last holds until
    /// the link is there again: that a cable is pulled does not make the bound longer, which would be a fence.
    fn keep_speed(&mut self, former: &[Line], interfaces: &[Interface]) {
        if interfaces.iter().any(|interface| interface.index == self.at.index && !interface.carrier) {
            self.megabits = self.former_speed(former).or(self.megabits);
        }
    }

    fn former_speed(&self, former: &[Line]) -> Option<u32> {
        former.iter().find(|line| line.at.index == self.at.index).and_then(|line| line.megabits)
    }
}

/// The queues.
pub(super) struct Lines {
    ways: Vec<Way>,
    /// The ways, and what is below them.
    all: Vec<Line>,
    /// That is all there is.
    known: bool,
    speeds: Speeds,
    /// Interfaces whose queue was made short.
    shortened: Vec<u32>,
}

impl Lines {
    /// Looks at the queues and makes short what is long.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(super) fn open(netlink: &mut Socket, ways: &[Way]) -> io::Result<Self> {
        let speeds = Speeds::open()?;
        let mut lines = Self { ways: ways.to_vec(), all: Vec::new(), known: true, speeds, shortened: Vec::new() };
        let interfaces = interface::list(netlink)?;
        lines.look(netlink, &interfaces)?;
        Ok(lines)
    }

    /// Reads the queues and the speeds, with the `interfaces` as they are: follows interfaces that have come in the place of
    /// others, above or below, and makes short what is long there.
    ///
    /// # Errors
    ///
    /// The kernel's: nothing has changed then.
    pub(super) fn look(&mut self, netlink: &mut Socket, interfaces: &[Interface]) -> io::Result<()> {
        let (places, known) = self.places(netlink, interfaces)?;
        if self.known && !known {
            log::warn!("not every interface below those of the service addresses can be seen: the gate bounds nothing");
        }
        let same = places.iter().eq(self.all.iter().map(|line| &line.at));
        let mut all = Vec::new();
        for at in places {
            all.push(Line::read(at, interfaces, netlink, &mut self.speeds)?);
        }
        if all.iter().any(|line| line.megabits != line.former_speed(&self.all)) {
            // Whether there is a link is asked after the speed: a cable may be pulled in between.
            let interfaces = interface::list(netlink)?;
            all.iter_mut().for_each(|line| line.keep_speed(&self.all, &interfaces));
        }
        if !same {
            for line in &mut all {
                if line.has_queue() && line.longest_stay().is_none_or(|stay| stay > STAY_MAX) {
                    self.shorten(line, netlink);
                }
            }
        }
        (self.all, self.known) = (all, known);
        Ok(())
    }

    /// All interfaces that frames pass, and whether that is all.
    fn places(&mut self, netlink: &mut Socket, interfaces: &[Interface]) -> io::Result<(Vec<Place>, bool)> {
        let (mut all, mut known) = (Vec::new(), true);
        for (number, way) in self.ways.iter_mut().enumerate() {
            if let Some(new) = interface::replacement(interfaces, &way.name, way.index) {
                way.index = new.index;
            }
            all.push(Place { way: number, depth: 0, name: way.name.clone(), index: way.index });
            let below = beneath(netlink, way.index)?;
            known &= below.is_some();
            let place = |b: Beneath| Place { way: number, depth: b.depth, name: b.name, index: b.index };
            all.extend(below.into_iter().flatten().map(place));
        }
        Ok((all, known))
    }

    fn shorten(&mut self, line: &mut Line, netlink: &mut Socket) {
        match queue::shorten(netlink, line.at.index) {
            Ok(()) => {
                if !self.shortened.contains(&line.at.index) {
                    self.shortened.push(line.at.index);
                }
                if let Ok(short) = queue::read(netlink, line.at.index, line.transmit_queue_length) {
                    line.queue = short;
                }
            }
            Err(error) => log::warn!("{}: its long queue behind the gate cannot be changed: {error}", line.at.name),
        }
    }

    /// What the loop needs of it.
    pub(super) fn behind(&self) -> Behind {
        // Those of the ways themselves, and below them those that have one: a bridge may have many containers.
        let has_to_be_empty = |line: &&Line| line.at.depth == 0 || line.has_queue();
        let queues: Vec<u32> = self.all.iter().filter(has_to_be_empty).map(|line| line.at.index).collect();
        match heapless::Vec::from_slice(&queues) {
            Ok(queues) => Behind { stay: self.longest_stay(), queues },
            Err(_) => Behind { stay: None, queues: queues.iter().copied().take(MOST).collect() },
        }
    }

    /// One queue after the other holds a packet; of several below the same interface one.
    fn longest_stay(&self) -> Option<Duration> {
        let mut longest = Duration::ZERO;
        for way in 0..self.ways.len() {
            let mut stay = Duration::ZERO;
            let of_way = || self.all.iter().filter(move |line| line.at.way == way);
            for depth in 0..=of_way().map(|line| line.at.depth).max().unwrap_or(0) {
                let stays = of_way().filter(|line| line.at.depth == depth).map(Line::longest_stay);
                let here = stays.reduce(|longest, stay| Some(longest?.max(stay?)));
                stay += here.unwrap_or(Some(Duration::ZERO))?;
            }
            longest = longest.max(stay);
        }
        self.known.then_some(longest)
    }

    /// Puts the former queues back.
    pub(super) fn restore(&mut self, netlink: &mut Socket) {
        for index in self.shortened.drain(..) {
            match queue::restore(netlink, index) {
                // Its interface has gone, or somebody else has changed it.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => {}
                Err(error) => log::warn!("the former queue of interface {index} cannot be put back: {error}"),
                Ok(()) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(way: usize, depth: u8, kind: &str, megabits: u32) -> Line {
        let queue = Queue { kind: heapless::String::try_from(kind).unwrap(), capacity: Some(0), ..Queue::default() };
        let at = Place { way, depth, name: String::new(), index: u32::from(depth) };
        Line { at, megabits: Some(megabits), transmit_queue_length: 0, queue }
    }

    fn lines() -> Lines {
        let way = Way { name: String::new(), index: 0 };
        let speeds = Speeds::open().unwrap();
        Lines { ways: vec![way.clone(), way], all: Vec::new(), known: true, speeds, shortened: Vec::new() }
    }

    #[test]
    fn what_waits_below_the_gate_counts_one_queue_after_the_other() {
        let mut lines = lines();
        assert_eq!(lines.longest_stay(), Some(Duration::ZERO));
        let alone = |megabits| line(0, 0, "bfifo", megabits).longest_stay().unwrap();
        // A bond of two cards, the slower of which may have the packet; and a card.
        lines.all = vec![line(0, 0, "noqueue", 0), line(0, 1, "mq", 1000), line(0, 1, "mq", 100)];
        assert_eq!(lines.longest_stay(), Some(alone(100)));
        lines.all.push(line(1, 0, "mq", 10));
        assert_eq!(lines.longest_stay(), Some(alone(10)));
        // One on the other, each with a queue.
        lines.all.push(line(1, 1, "mq", 10));
        assert_eq!(lines.longest_stay(), Some(alone(10) * 2));
        lines.all.push(Line { megabits: None, ..line(0, 2, "mq", 0) });
        assert_eq!(lines.longest_stay(), None);
        lines.all.pop();
        lines.known = false;
        assert_eq!(lines.longest_stay(), None);
    }

    #[test]
    fn a_cable_that_is_pulled_leaves_the_bound_as_it_is() {
        let interface = |carrier| Interface {
            index: 0,
            name: heapless::String::new(),
            mac: [0; 6],
            up: true,
            carrier,
            macvlan: false,
            carrier_changes: 0,
            transmit_queue_length: 0,
        };
        let mut lines = lines();
        let look = |lines: &mut Lines, carrier, megabits| {
            let mut line = Line { megabits, ..line(0, 0, "bfifo", 0) };
            line.keep_speed(&lines.all, &[interface(carrier)]);
            lines.all = vec![line];
            lines.longest_stay()
        };
        let at = |megabits| line(0, 0, "bfifo", megabits).longest_stay();
        assert_eq!(look(&mut lines, false, None), None, "it never had a link");
        assert_eq!(look(&mut lines, true, Some(1000)), at(1000));
        assert_eq!(look(&mut lines, false, None), at(1000));
        assert_eq!(look(&mut lines, false, None), at(1000), "for as long as it takes");
        assert_eq!(look(&mut lines, false, Some(10)), at(1000), "a driver's default is no speed");
        assert_eq!(look(&mut lines, true, Some(100)), at(100), "the link is back, slower");
        assert_eq!(look(&mut lines, true, None), None, "there is a link, and nobody knows its speed");
        assert_eq!(look(&mut lines, false, None), None);
    }

    #[test]
    fn of_very_many_interfaces_those_with_a_queue_count() {
        let mut lines = lines();
        lines.all = vec![line(0, 0, "noqueue", 0)];
        lines.all.extend((0..200).map(|_| line(0, 1, "noqueue", 0)));
        assert_eq!(lines.behind(), Behind { stay: Some(Duration::ZERO), queues: [0].into_iter().collect() });
        lines.all.extend((0..MOST).map(|_| line(0, 2, "mq", 1000)));
        let behind = lines.behind();
        assert_eq!((behind.stay, behind.queues.len()), (None, MOST), "too many to be looked at");
    }
}
