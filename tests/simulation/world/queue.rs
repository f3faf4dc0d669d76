//! What is going to happen, in its order.

use super::clock::Time;
use twobox::node::Order;

/// What happens at a moment of the world.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    Frame { to: usize, path: u8, frame: u32 },
    AtWitness { witness: u8, from: usize, round: Option<u32>, frame: u32, life: u32 },
    Pong { to: usize, witness: u8, round: u32, life: u32 },
    Tell { to: usize, life: u32, what: Told },
    Written { to: usize, life: u32, ticket: u32 },
    Text { to: usize, ends: bool },
    Dog { side: usize, epoch: u32 },
    DogReset { side: usize, epoch: u32 },
    PowerOn { side: usize, epoch: u32 },
    Start { side: usize, epoch: u32, life: u32 },
    Resume { side: usize },
    Order { side: usize, order: Order },
    Replay { to: usize, left: u8, every: Time },
    Playback { to: usize, next: usize, end: Time, pace: u8 },
    Mark,
    Second,
}

/// What the drivers of a box tell its loop.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    Down(u32),
    NotDown,
    ServicesStopped(u32),
    Carriers,
    Services,
    Bound,
    Data,
    Conflict,
}

/// An event and its place: by time, then in the order in which they were queued.
pub struct Queued {
    pub at: Time,
    pub number: u64,
    pub event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
