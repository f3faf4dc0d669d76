//! What is asked of the loop: how things stand, and an answer to an order.

use std::io;

use smol::Async;

use super::super::letters::{Order, ToLoop};
use super::super::snapshot::Snapshot;
use super::{Bell, Helper, within};
use crate::node;
use crate::time::Duration;

/// How long the loop may take to answer before an operator is told that it does not.
const LOOP_PATIENCE: Duration = Duration::from_secs(2);

impl Helper {
    /// How things stand now. `None`: the loop does not answer.
    pub(in crate::run) async fn snapshot(&self) -> Option<Snapshot> {
        let (sender, receiver) = smol::channel::bounded(1);
        self.waiting.borrow_mut().push(sender);
        self.tell_loop(ToLoop::Snapshot);
        within(LOOP_PATIENCE, async { receiver.recv().await.ok() }).await.flatten()?;
        let newest = self.snapshot.newest()?;
        self.worst_lateness.set(self.worst_lateness.get().max(newest.worst_lateness));
        Some(newest)
    }

    pub(super) async fn hear_snapshots(&self) -> io::Result<()> {
        let bell = Async::new(Bell(self.snapshot.clone()))?;
        loop {
            bell.readable().await?;
            self.snapshot.hush();
            for waiting in self.waiting.borrow_mut().drain(..) {
                let _ = waiting.try_send(()); // gave up
            }
        }
    }

    /// Gives the node an order and waits for its answer. `None`: the loop does not answer.
    pub(in crate::run) async fn order(&self, order: Order) -> Option<node::Answer> {
        let (sender, receiver) = smol::channel::bounded(1);
        self.asked.borrow_mut().push_back((order, sender));
        self.tell_loop(ToLoop::Order(order));
        within(LOOP_PATIENCE, async { receiver.recv().await.ok() }).await.flatten()
    }

    pub(super) fn answered(&self, order: node::Order, answer: node::Answer) {
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
