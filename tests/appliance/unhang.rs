//! A hang that ends by itself: longer than the lease, shorter than the watchdog. The peer has taken over meanwhile, and what
//! wakes up must not know it better.

use std::time::Duration;

use crate::rig::timeline::Event;
use crate::rig::{Rig, ruin};
use crate::scenario::{LEASE, NAMES, STALL, TAKEOVER, gate_counts, handed_over, healthy, rested};

/// Longer than the lease and the takeover, shorter than the watchdog's time-out of 5 s.
const STOP: Duration = Duration::from_millis(3500);
/// From the word of the hand inside the box until it hangs, and the gate's bound.
const SLACK: Duration = Duration::from_millis(500);

/// A real-time program leaves nothing to others for a while: the kernel goes on to answer for the service address, but for the
/// gate.
pub fn spins(rig: &mut Rig) -> Result<String, String> {
    unhangs(rig, |rig, active| {
        let mark = rig.timeline.mark();
        rig.machines[active].agent.send(ruin::HANG_AND_UNHANG);
        let hangs = |event: &Event| event.who.starts_with(NAMES[active]) && event.text == "hangs";
        rig.timeline.wait(mark, STALL, hangs).map(|event| event.at).ok_or_else(|| "it does not hang".to_owned())
    })
}

/// The whole box stands still, as with its interrupts off.
pub fn stops(rig: &mut Rig) -> Result<String, String> {
    unhangs(rig, |rig, active| {
        let at = rig.timeline.now();
        rig.machines[active].stop(true);
        rig.pass(STOP);
        rig.machines[active].stop(false);
        Ok(at)
    })
}

/// Does `hang` to the box that serves, which returns when it began; the box comes to again, has sent nothing as the service
/// address after its right, and stands by without a reset. Whoever has taken over goes on.
fn unhangs(rig: &mut Rig, hang: impl Fn(&mut Rig, usize) -> Result<Duration, String>) -> Result<String, String> {
    rested(rig)?;
    gate_counts(rig)?;
    let active = healthy(rig)?;
    let (before, mark, start) = (rig.reigns(), rig.timeline.mark(), rig.timeline.now());
    let dropped = dropped_in(&rig.status(active, STALL * 2).ok_or("the active does not answer")?);
    rig.timeline.add("rig", format!("hangs {} for a while", NAMES[active]));
    let hung_at = hang(rig, active)?;
    rig.wait_served(&[1 - active], TAKEOVER).ok_or("the peer does not take over")?;
    let (took, taken_at) = (rig.outage_since(start), rig.timeline.now());
    let asked_at = rig.timeline.now();
    let status = rig.status(active, TAKEOVER).ok_or("the box does not come to again")?;
    healthy(rig)?;
    handed_over(rig, &before, 1 - active)?;
    let (looked_at, owner) =
        (rig.timeline.now(), rig.status(1 - active, STALL * 2).ok_or("the new owner does not answer")?);
    if owner["since_ms"].as_u64().map(Duration::from_millis) < Some(looked_at.saturating_sub(taken_at)) {
        return Err(format!("the new owner gave the service up again: {}", owner["last_handover"]["reason"]));
    }
    let reset = |event: &Event| event.who == NAMES[active] && event.text.starts_with("RESET");
    if rig.timeline.wait(mark, Duration::ZERO, reset).is_some() {
        return Err("the box was reset: it hung for longer than was meant".into());
    }
    // The gate's own account: the last frame left before the right had ended, and there was something to drop afterwards.
    let silent =
        status["fence"]["last_pass_ms_ago"].as_u64().map(Duration::from_millis).ok_or("no frame ever passed")?;
    let least = asked_at.saturating_sub(hung_at + LEASE + SLACK);
    let dropped = dropped_in(&status) - dropped;
    if silent < least || dropped == 0 {
        return Err(format!("silent for {silent:?} of at least {least:?}, {dropped} frames dropped"));
    }
    Ok(format!(
        "outage {:.2} s; its last frame {:.2} s after the hang began, {dropped} frames dropped; back as standby",
        took.as_secs_f64(),
        (asked_at.saturating_sub(hung_at)).saturating_sub(silent).as_secs_f64()
    ))
}

fn dropped_in(status: &serde_json::Value) -> u64 {
    let addresses = status["addresses"].as_array().map_or(&[][..], Vec::as_slice);
    addresses.iter().filter_map(|address| address["dropped_in"].as_u64()).sum()
}
