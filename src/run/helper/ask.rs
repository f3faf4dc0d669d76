//! What is asked of the loop: how things stand, and an answer to an order. A loop that takes no letters is not waited for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use smol::Async;
use smol::channel::{Sender, bounded};

use super::super::letters::{Order, ToLoop};
use super::super::mailbox::Mailbox;
use super::super::snapshot::{Shared, Snapshot};
use super::{Bell, Helper, within};
use crate::node;
use crate::time::Duration;

/// How long the loop may take to answer before an operator is told that it does not.
const LOOP_PATIENCE: Duration = Duration::from_secs(2);

/// The questions under way.
pub(super) struct Asking {
    to_loop: Arc<Mailbox<ToLoop>>,
    snapshot: Arc<Shared>,
    /// Who waits for a snapshot; one letter is under way for all of them.
    waiting: RefCell<Vec<Sender<()>>>,
    /// Who waits for the answer to an order, in the order of asking.
    asked: RefCell<VecDeque<(Order, Sender<node::Answer>)>>,
}

impl Asking {
    pub(super) fn new(to_loop: Arc<Mailbox<ToLoop>>, snapshot: Arc<Shared>) -> Self {
        Self { to_loop, snapshot, waiting: RefCell::default(), asked: RefCell::default() }
    }

    /// Returns whether the loop takes it.
    fn tell(&self, letter: ToLoop) -> bool {
        let is_taken = self.to_loop.send(letter).is_ok();
        if !is_taken {
            log::error!("the loop hangs: {letter:?} is lost");
        }
        is_taken
    }

    async fn snapshot(&self) -> Option<Snapshot> {
        let (sender, receiver) = bounded(1);
        self.waiting.borrow_mut().retain(|waiting| !waiting.is_closed());
        if self.waiting.borrow().is_empty() && !self.tell(ToLoop::Snapshot) {
            return None;
        }
        self.waiting.borrow_mut().push(sender);
        within(LOOP_PATIENCE, receiver.recv()).await?.ok()?;
        self.snapshot.newest()
    }

    async fn hear_snapshots(&self) -> io::Result<()> {
        let bell = Async::new(Bell(self.snapshot.clone()))?;
        loop {
            bell.readable().await?;
            self.snapshot.hush();
            for waiting in self.waiting.borrow_mut().drain(..) {
                let _ = waiting.try_send(()); // gave up
            }
        }
    }

    async fn order(&self, order: Order) -> Option<node::Answer> {
        let (sender, receiver) = bounded(1);
        // Answers come in the order of the letters: who waits for that of a lost one would take the next one's.
        if !self.tell(ToLoop::Order(order)) {
            return None;
        }
        self.asked.borrow_mut().push_back((order, sender));
        within(LOOP_PATIENCE, receiver.recv()).await?.ok()
    }

    fn answered(&self, order: node::Order, answer: node::Answer) {
        let order = match order {
            node::Order::Switchover { .. } => Order::Switchover,
            node::Order::Hold { .. } => Order::Hold,
            node::Order::Release => Order::Release,
            node::Order::Force => Order::Force,
            node::Order::Leave => Order::Leave,
        };
        let mut asked = self.asked.borrow_mut();
        if let Some(at) = asked.iter().position(|(what, _)| *what == order)
            && let Some((_, sender)) = asked.remove(at)
        {
            let _ = sender.try_send(answer); // gave up
        }
    }
}

impl Helper {
    /// Returns whether the loop takes it.
    pub(in crate::run) fn tell_loop(&self, letter: ToLoop) -> bool {
        self.asking.tell(letter)
    }

    /// How things stand now. `None`: the loop does not answer.
    pub(in crate::run) async fn snapshot(&self) -> Option<Snapshot> {
        let newest = self.asking.snapshot().await?;
        self.worst_lateness.set(self.worst_lateness.get().max(newest.worst_lateness));
        Some(newest)
    }

    pub(super) async fn hear_snapshots(&self) -> io::Result<()> {
        self.asking.hear_snapshots().await
    }

    /// Gives the node an order and waits for its answer. `None`: the loop does not answer.
    pub(in crate::run) async fn order(&self, order: Order) -> Option<node::Answer> {
        self.asking.order(order).await
    }

    pub(super) fn answered(&self, order: node::Order, answer: node::Answer) {
        self.asking.answered(order, answer);
    }
}

#[cfg(test)]
mod tests {
    use smol::future;

    use super::*;

    fn asking() -> (Asking, Arc<Mailbox<ToLoop>>) {
        let to_loop = Arc::new(Mailbox::new().unwrap());
        (Asking::new(to_loop.clone(), Arc::new(Shared::new().unwrap())), to_loop)
    }

    fn orders(to_loop: &Mailbox<ToLoop>) -> usize {
        core::iter::from_fn(|| to_loop.receive()).filter(|letter| matches!(letter, ToLoop::Order(_))).count()
    }

    #[test]
    fn an_order_that_was_lost_takes_no_answer_from_the_next() {
        let (asking, to_loop) = asking();
        while to_loop.send(ToLoop::Snapshot).is_ok() {} // the loop stands
        assert_eq!(smol::block_on(asking.order(Order::Hold)), None);
        assert_eq!(orders(&to_loop), 0);
        let answering = async {
            assert_eq!(orders(&to_loop), 1);
            asking.answered(node::Order::Hold { term: 1 }, node::Answer::Accepted);
            future::pending().await
        };
        let answer = smol::block_on(future::or(asking.order(Order::Hold), answering));
        assert_eq!(answer, Some(node::Answer::Accepted));
    }

    #[test]
    fn many_who_ask_at_once_cost_the_loop_one_letter() {
        let (asking, to_loop) = asking();
        let mut asked: Vec<_> = (0..300).map(|_| Box::pin(asking.snapshot())).collect();
        for one in &mut asked {
            assert!(smol::block_on(future::poll_once(one.as_mut())).is_none());
        }
        let letters = core::iter::from_fn(|| to_loop.receive()).count();
        assert_eq!((letters, asking.waiting.borrow().len()), (1, 300));
        drop(asked);
        assert!(smol::block_on(future::poll_once(asking.snapshot())).is_none());
        assert_eq!((core::iter::from_fn(|| to_loop.receive()).count(), asking.waiting.borrow().len()), (1, 1));
    }
}
