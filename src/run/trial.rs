//! The running image on trial: kept when the pair is healthy with it, left for the former one when it is not in time.

use std::rc::Rc;

use smol::Timer;

use super::helper::Helper;
use super::letters::{Order, ToLoop};
use super::operator::Refusal;
use super::report;
use super::snapshot::Snapshot;
use crate::clock;
use crate::fence::bound::BoundBy;
use crate::node::settings::{CROSSOVER, LAN, NULL_MODEM};
use crate::time::{Duration, Instant};
use crate::update::child::Order as Work;
use crate::update::demand::{Equipment, Watchdog};
use crate::update::trial::{Verdict, View, judge};
use crate::wire::pair::Role;

/// Pause between two looks at oneself, and after a confirmation that failed.
const TRIAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// On trial: keeps the image when the pair is healthy and what worked under the former image works, goes back when it is not in time.
pub(super) async fn watch(helper: Rc<Helper>) {
    let began = clock::now();
    let mut healthy_since: Option<Instant> = None;
    while helper.is_on_trial() {
        Timer::after(TRIAL.0).await;
        let Some(s) = helper.snapshot().await else {
            healthy_since = None;
            continue;
        };
        let (demand, works) = (helper.update.demand, helper.works(&s));
        let has_way_back = helper.booted().is_some_and(|booted| booted.slot.has_way_back());
        let lacking = demand.lacks(works).filter(|_| has_way_back);
        let in_its_place = matches!(s.node.role, Role::Standby | Role::Active) && helper.hears_peer(&s);
        let now = clock::now();
        healthy_since = healthy_since.or(Some(now)).filter(|_| in_its_place && lacking.is_none());
        let view = View {
            up: now.since(began),
            serves: s.node.role == Role::Active,
            has_way_back,
            healthy_for: healthy_since.map(|since| now.since(since)),
            lacks_watchdog: demand.lacks_watchdog(works),
        };
        match judge(view) {
            Verdict::Wait => {}
            Verdict::Confirm => helper.confirm().await,
            Verdict::GoBack => {
                let missing = if view.lacks_watchdog { Some("watchdog") } else { lacking };
                match missing {
                    Some(what) => log::error!("{what}: worked under the former image and does not under this one"),
                    None => log::error!("the pair has not become healthy with this image"),
                }
                log::error!("starting the former image");
                helper.tell_loop(ToLoop::Order(Order::Leave));
                return;
            }
        }
    }
}

impl Helper {
    /// What works on this box now.
    pub(super) fn works(&self, s: &Snapshot) -> Equipment {
        let watchdog = match s.watchdog {
            None => Watchdog::None,
            Some(dog) if dog.is_belt => Watchdog::Belt,
            Some(_) => Watchdog::Weak,
        };
        let links = [NULL_MODEM, CROSSOVER, LAN].map(|path| report::is_up(&self.config, s, path));
        Equipment { watchdog, gate: s.bound.1 == BoundBy::Gate, links }
    }

    async fn confirm(&self) {
        let Some(booted) = self.booted() else { return };
        let order = Work::Confirm { esp: booted.device.clone(), running: booted.hash.clone() };
        match self.work(order, None).await {
            Ok(_) => {
                log::info!("update: slot {} is confirmed", booted.slot.number);
                *self.update.confirmed.borrow_mut() = true;
            }
            Err(Refusal { reason, .. }) => {
                log::error!("update: slot {} cannot be confirmed: {reason}", booted.slot.number);
                Timer::after(TRIAL.1).await;
            }
        }
    }
}
