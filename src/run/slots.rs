//! The images on the disk, read again once a day: one that rots is found while the box runs, and not by the boot that it would end.
//!
//! The boot loader takes the newest name and never another one when its content does not load. So a damaged image gives way to a whole
//! one as soon as it is found. Where there is none, the operator is told in time.

use std::rc::Rc;

use smol::Timer;

use super::helper::Helper;
use super::operator::Refusal;
use crate::time::Duration;
use crate::update::child::Order as Work;
use crate::update::esp::Booted;
use crate::update::rot::{Damaged, Damages};

/// From the start to the first look: the box has better things to do.
const FIRST: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Looks for as long as the daemon lives, on a box that boots from slots.
pub(super) async fn watch(helper: Rc<Helper>) {
    let Some(booted) = helper.booted().cloned() else { return };
    let mut pause = FIRST;
    loop {
        Timer::after(pause).await;
        // On trial it may be the former image that is damaged: nothing is put last before it is known which one stays.
        pause = if helper.is_on_trial() || helper.updates() { FIRST } else { PAUSE };
        if pause == PAUSE {
            helper.look_at_slots(&booted).await;
        }
    }
}

impl Helper {
    /// Number and damage of each slot that is not whole, as the last look found it.
    pub(super) fn damaged_images(&self) -> Vec<(u32, String)> {
        self.update.damaged.borrow().iter().map(|damaged| (damaged.slot, damaged.why.clone())).collect()
    }

    async fn look_at_slots(&self, booted: &Booted) {
        let Damages { damaged, is_in_the_way } = match self.damages(booted).await {
            Ok(found) => found,
            Err(why) => Damages { damaged: vec![Damaged { slot: booted.slot.number, why }], is_in_the_way: false },
        };
        for Damaged { slot, why } in &damaged {
            log::error!("the image in slot {slot} is damaged: {why}");
        }
        *self.update.damaged.borrow_mut() = damaged;
        if !is_in_the_way {
            return;
        }
        match self.work(Work::Retire { esp: booted.device.clone() }, None).await {
            Ok(retired) if retired.is_empty() => log::warn!("read once more, the images are whole"),
            Ok(retired) => log::warn!("slot {retired} is put last: the next boot is a whole image"),
            Err(Refusal { reason, .. }) => log::error!("a damaged image cannot be put last: {reason}"),
        }
    }

    async fn damages(&self, booted: &Booted) -> Result<Damages, String> {
        let said =
            self.work(Work::Look { esp: booted.device.clone() }, None).await.map_err(|refusal| refusal.reason)?;
        serde_json::from_str(&said).map_err(|error| error.to_string())
    }
}
