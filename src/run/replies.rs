//! Replies to one request on their way from a child to a client that may read slowly, bounded in number and in size: whoever has
//! taken the child over may say as much as he likes, and the daemon's memory is locked.

use std::cell::Cell;
use std::rc::Rc;

use smol::channel::{Receiver, Sender, unbounded};

use crate::console::control::Reply;
use crate::mirror::control::LINE;

/// Most replies that wait.
const NUMBER: usize = 4096;
/// Most bytes of the lines that they came in: the longest one fits.
const BYTES: usize = 2 * LINE;

#[derive(Default)]
struct Count {
    /// Bytes that wait.
    bytes: Cell<usize>,
    /// Replies that found no room.
    left_out: Cell<u64>,
}

/// The end that replies are put into.
pub(super) struct Giving {
    queue: Sender<(Reply, usize)>,
    count: Rc<Count>,
}

/// The end that they are taken from.
pub(super) struct Taking {
    queue: Receiver<(Reply, usize)>,
    count: Rc<Count>,
}

/// A way for the replies to one request.
pub(super) fn way() -> (Giving, Taking) {
    let (sender, receiver) = unbounded();
    let count = Rc::new(Count::default());
    (Giving { queue: sender, count: count.clone() }, Taking { queue: receiver, count })
}

impl Giving {
    /// Hands on a reply that came in a line of `size` bytes. A client that does not read misses steps, and then more.
    pub(super) fn put(&self, reply: Reply, size: usize) {
        let is_step = matches!(reply, Reply::Progress(_));
        let room = if is_step { 1 } else { NUMBER };
        let waiting = self.count.bytes.get().saturating_add(size);
        if self.queue.len() < room && waiting <= BYTES {
            self.count.bytes.set(waiting);
            let _ = self.queue.try_send((reply, size)); // unbounded
        } else if !is_step {
            self.count.left_out.set(self.count.left_out.get() + 1);
        }
    }
}

impl Taking {
    /// The next reply; `None` when everything has been taken and nobody gives more.
    pub(super) async fn next(&self) -> Option<Reply> {
        let (reply, size) = self.queue.recv().await.ok()?;
        self.count.bytes.set(self.count.bytes.get().saturating_sub(size));
        Some(reply)
    }

    /// How many found no room.
    pub(super) fn left_out(&self) -> u64 {
        self.count.left_out.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::control::Progress;

    fn line(size: usize) -> Reply {
        Reply::Line { text: "x".repeat(size) }
    }

    /// Replies that wait, and their bytes.
    fn taken(giving: Giving, taking: &Taking) -> (usize, usize) {
        drop(giving);
        smol::block_on(async {
            let (mut number, mut bytes) = (0, 0);
            while let Some(reply) = taking.next().await {
                number += 1;
                bytes += if let Reply::Line { text } = reply { text.len() } else { 0 };
            }
            (number, bytes)
        })
    }

    #[test]
    fn long_replies_that_nobody_reads_are_no_memory() {
        let (giving, taking) = way();
        for _ in 0..100 {
            giving.put(line(LINE), LINE);
        }
        assert_eq!(taking.left_out(), 98);
        assert_eq!(taken(giving, &taking), (2, 2 * LINE));
    }

    #[test]
    fn short_ones_are_counted_and_what_is_taken_makes_room() {
        let (giving, taking) = way();
        for _ in 0..NUMBER + 3 {
            giving.put(line(1), 30);
        }
        assert_eq!(taking.left_out(), 3);
        for _ in 0..100 {
            assert!(smol::block_on(taking.next()).is_some());
        }
        giving.put(line(LINE), LINE);
        assert_eq!((taken(giving, &taking), taking.left_out()), ((NUMBER - 99, NUMBER - 100 + LINE), 3));
    }

    #[test]
    fn steps_are_missed_and_not_counted() {
        let (giving, taking) = way();
        for _ in 0..10 {
            giving.put(Reply::Progress(Progress::default()), 50);
        }
        assert_eq!((taken(giving, &taking), taking.left_out()), ((1, 0), 0));
    }
}
