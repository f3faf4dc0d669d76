//! What can wait behind the gate: the queues of the interfaces by which service addresses leave, and of those below them.

use std::io;

use super::belts::Way;
use super::network::OfLines;
use crate::fence::beneath::{Beneath, beneath};
use crate::fence::queue::{self, Queue};
use crate::netlink::Socket;
use crate::takeover::interface;
use crate::time::Duration;

/// A queue that holds a packet longer than this behind the gate is replaced by a short one.
const STAY_MAX: Duration = Duration::from_millis(20);

/// An interface that a frame passes on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the way that it belongs to.
    way: usize,
    /// 0 for the way itself, where the gate is; 1 for what is right below.
    depth: u8,
    pub name: String,
    pub index: u32,
}

/// All interfaces that frames of `ways` pass, and whether that is all. Allocates.
///
/// # Errors
///
/// The kernel's.
pub(super) fn places(netlink: &mut Socket, ways: &[Way]) -> io::Result<(Vec<Place>, bool)> {
    let (mut all, mut known) = (Vec::new(), true);
    for (way, at) in ways.iter().enumerate() {
        all.push(Place { way, depth: 0, name: at.name.clone(), index: at.index });
        let below = beneath(netlink, at.index)?;
        known &= below.is_some();
        let place = |b: Beneath| Place { way, depth: b.depth, name: b.name, index: b.index };
        all.extend(below.into_iter().flatten().map(place));
    }
    Ok((all, known))
}

struct Line {
    at: Place,
    megabits: Option<u32>,
    transmit_queue_length: u32,
    /// As it was read last; `None`: nothing is known.
    queue: Option<Queue>,
}

impl Line {
    fn read(&self, netlink: &mut Socket) -> io::Result<Queue> {
        queue::read(netlink, self.at.index, self.transmit_queue_length)
    }

    fn longest_stay(&self) -> Option<Duration> {
        self.queue.as_ref()?.longest_stay(self.megabits)
    }
}

/// The queues.
pub(super) struct Lines {
    netlink: Socket,
    ways: Vec<Way>,
    /// The ways, and what is below them; without those that have no queue, where there are very many.
    all: Vec<Line>,
    /// That is all there is.
    known: bool,
    /// Interfaces whose queue was made short.
    shortened: Vec<u32>,
}

impl Lines {
    /// Looks at the queues and makes short what is long.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(super) fn open(ways: &[Way]) -> io::Result<Self> {
        let mut lines = Self {
            netlink: Socket::open()?,
            ways: ways.to_vec(),
            all: Vec::new(),
            known: false,
            shortened: Vec::new(),
        };
        lines.look()?;
        Ok(lines)
    }

    /// Follows interfaces that have come in the place of others, above or below. Allocates.
    ///
    /// # Errors
    ///
    /// The kernel's: nothing has changed then.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        for way in &mut self.ways {
            if let Ok(Some(found)) = interface::replacement(&mut self.netlink, &way.name, way.index) {
                way.index = found.index;
            }
        }
        self.look()
    }

    fn look(&mut self) -> io::Result<()> {
        let (places, known) = places(&mut self.netlink, &self.ways)?;
        if !known {
            log::warn!("not every interface below those of the service addresses can be seen: the gate bounds nothing");
        }
        let mut all = Vec::new();
        for at in places {
            let (megabits, transmit_queue_length) = queue::line(&at.name);
            let mut line = Line { at, megabits, transmit_queue_length, queue: None };
            line.queue = line.read(&mut self.netlink).ok();
            let queues = line.queue.as_ref().is_some_and(|queue| queue.kind != "noqueue");
            if queues && line.longest_stay().is_none_or(|stay| stay > STAY_MAX) {
                self.shorten(&mut line);
            }
            all.push(line);
        }
        let most = OfLines::<u32>::new().capacity();
        if all.len() > most {
            // A bridge with many containers, say.
            all.retain(|line| line.at.depth == 0 || line.queue.as_ref().is_none_or(|queue| queue.kind != "noqueue"));
        }
        self.known = known && all.len() <= most;
        self.all = all;
        Ok(())
    }

    fn shorten(&mut self, line: &mut Line) {
        match queue::shorten(&mut self.netlink, line.at.index) {
            Ok(()) => {
                self.shortened.push(line.at.index);
                line.queue = line.read(&mut self.netlink).ok();
            }
            Err(error) => log::warn!("{}: its long queue behind the gate cannot be changed: {error}", line.at.name),
        }
    }

    /// The longest time for which a packet stays behind the gate; `None`: nobody knows. One queue after the other holds it; of
    /// several below the same interface one.
    pub(super) fn longest_stay(&self) -> Option<Duration> {
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

    /// Index and length of the transmit queue of every interface, for who reads the queues.
    pub(super) fn asked(&self) -> OfLines<(u32, u32)> {
        let most = OfLines::<u32>::new().capacity();
        self.all.iter().take(most).map(|line| (line.at.index, line.transmit_queue_length)).collect()
    }

    /// What was read of those. One that has been replaced since is not meant.
    pub(super) fn set_queues(&mut self, queues: &[(u32, Option<Queue>)]) {
        for line in &mut self.all {
            if let Some((_, queue)) = queues.iter().find(|(index, _)| *index == line.at.index) {
                line.queue.clone_from(queue);
            }
        }
    }

    /// The speed of an interface, in megabits a second.
    pub(super) fn set_speed(&mut self, index: u32, megabits: Option<u32>) {
        for line in self.all.iter_mut().filter(|line| line.at.index == index) {
            line.megabits = megabits;
        }
    }

    /// Nothing waits behind the gate.
    ///
    /// # Errors
    ///
    /// The kernel's: nothing is known then.
    pub(super) fn drained(&mut self) -> io::Result<bool> {
        for line in &self.all {
            if !line.read(&mut self.netlink)?.drained() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts the former queues back.
    pub(super) fn restore(&mut self) {
        for index in self.shortened.drain(..) {
            match queue::restore(&mut self.netlink, index) {
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
        let at = Place { way, depth, name: String::new(), index: 0 };
        Line { at, megabits: Some(megabits), transmit_queue_length: 0, queue: Some(queue) }
    }

    #[test]
    fn what_waits_below_the_gate_counts_one_queue_after_the_other() {
        let way = Way { name: String::new(), index: 0 };
        let ways = vec![way.clone(), way];
        let mut lines =
            Lines { netlink: Socket::open().unwrap(), ways, all: Vec::new(), known: true, shortened: Vec::new() };
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
}
