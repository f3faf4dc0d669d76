//! The services: what the loop orders goes to their supervisor, and what becomes of them to the loop.

use std::rc::Rc;

use smol::channel::Receiver;
use smol::future;

use super::super::letters::ToLoop;
use super::super::settings;
use super::{Helper, LEAVE_PATIENCE};
use crate::service::{self, Report, State, Supervisor};
use crate::time::Duration;

/// After this time a box whose trees are no whole cuts counts as one whose services fail: a disk hangs, and the peer has its own.
const SETTLE_PATIENCE: Duration = Duration::from_secs(60);

impl Helper {
    /// Orders to the services, in their order. Nothing starts before the mirror's trees are whole cuts of this node.
    pub(super) async fn pass_orders(self: Rc<Self>, orders: &Receiver<(service::Order, u32)>, supervisor: &Supervisor) {
        while let Ok((order, surrender)) = orders.recv().await {
            if order == service::Order::Serve && !self.settled(orders).await {
                continue; // another order has come
            }
            let surrender = (order == service::Order::Stop).then_some(surrender);
            *self.surrender.borrow_mut() = surrender;
            if surrender.is_some() {
                *self.no_last_cut.borrow_mut() = None; // that of a former one
            }
            supervisor.order(order);
            self.clone().tell_stopped();
        }
    }

    /// Waits until the mirror's trees are whole cuts of this node. False: another order came before.
    async fn settled(&self, orders: &Receiver<(service::Order, u32)>) -> bool {
        let Some(mirror) = &self.mirror else { return true };
        let settled = async {
            mirror.settle().await;
            true
        };
        let overtaken = async {
            while orders.is_empty() {
                smol::Timer::after(Duration::from_millis(1)).await;
            }
            false
        };
        let late = async {
            smol::Timer::after(SETTLE_PATIENCE).await;
            log::error!("no service starts: what is mirrored is no whole cut after {SETTLE_PATIENCE:?}");
            self.unsettled.set(true);
            self.tell_health();
            future::pending().await
        };
        let is_settled = future::or(future::or(settled, overtaken), late).await;
        self.unsettled.set(false);
        self.tell_health();
        is_settled
    }

    fn tell_health(&self) {
        let healthy = !self.unsettled.get() && !self.failing.borrow().contains(&true);
        if self.told_healthy.get() != Some(healthy) && self.tell_loop(ToLoop::Services { healthy }) {
            self.told_healthy.set(Some(healthy));
        }
    }

    pub(super) fn service_changed(self: Rc<Self>, report: Report) {
        self.services.borrow_mut()[report.index] = report;
        self.clone().tell_stopped();
        match report.state {
            State::Failed => self.failing.borrow_mut()[report.index] = true,
            State::Running | State::Stopped => self.failing.borrow_mut()[report.index] = false,
            State::Starting | State::Stopping => {}
        }
        self.tell_health();
    }

    /// Tells the loop when a surrender has no service left to wait for, after the last cut of what is mirrored.
    fn tell_stopped(self: Rc<Self>) {
        let Some(surrender) = *self.surrender.borrow() else { return };
        let runs = |report: &Report| self.config.site.services[report.index].warm || report.state == State::Stopped;
        if self.services.borrow().iter().all(runs) {
            self.surrender.borrow_mut().take();
            let helper = self.clone();
            let last_cut = async move {
                if let Some(mirror) = &helper.mirror {
                    *helper.no_last_cut.borrow_mut() = mirror.drain().await.err();
                }
                helper.tell_loop(ToLoop::ServicesStopped { surrender });
            };
            self.executor.spawn(last_cut).detach();
        }
    }

    pub(super) async fn end_services(&self, supervisor: &Supervisor) {
        supervisor.order(service::Order::Leave);
        let ended = async {
            while self.services.borrow().iter().any(|service| service.state != State::Stopped) {
                smol::Timer::after(Duration::from_millis(5)).await;
            }
        };
        let late = async {
            smol::Timer::after(settings::end_timeout(&self.config.site) + LEAVE_PATIENCE).await;
            log::error!("services are still running");
        };
        future::or(ended, late).await;
    }
}
