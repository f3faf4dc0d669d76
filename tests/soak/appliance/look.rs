//! Waits until the pair is whole again, then looks at everything.

use std::time::Duration;

use twobox::console::status::{BoundBy, Role, ServiceState, Status};

use super::judge::{Evidence, Figures, Judge, Seen, name};
use super::rig::timeline::Event;
use super::rig::{Rig, SERVICE};
use super::trees;
use crate::audit::{is_whole, waits_for_release};
use crate::totals;

/// An answer of an emulated box that has much else to do.
pub const ANSWER: Duration = Duration::from_secs(30);
/// One question for a status.
const STATUS: Duration = Duration::from_secs(6);
/// A box that was struck is reset by then: the watchdog's time-out is 5 s, and a service may take 8 s to end.
const STRUCK: Duration = Duration::from_secs(90);
/// A pair is whole by then: two boots under emulation, the boot wait of 25 s, a hold-down of 10 s, and a box that held itself.
const RECOVERY: Duration = Duration::from_secs(240);
/// The client was answered within that time before a look.
const FRESH: Duration = Duration::from_secs(1);

/// Behind the end of a box's life for which there was no order.
pub const UNASKED: &str = " of a box that nobody struck";

/// A pair that is whole.
pub struct Whole {
    pub active: usize,
    pub status: [Status; 2],
    pub released: u64,
}

/// Every box that was struck has ended the life that it had at `mark`.
pub fn went_down(rig: &Rig, mark: usize, struck: &[usize]) -> Result<(), String> {
    for index in struck {
        let ended = |event: &Event| event.who == name(*index) && (is_reset(event) || event.text == "POWER CUT");
        rig.timeline.wait(mark, STRUCK, ended).ok_or_else(|| format!("{} was struck and goes on", name(*index)))?;
    }
    Ok(())
}

fn is_reset(event: &Event) -> bool {
    event.text.starts_with("RESET")
}

/// Both boxes are on, and the pair is whole.
pub fn recovered(rig: &mut Rig) -> Result<Whole, String> {
    let until = rig.timeline.now() + RECOVERY;
    let mut released = 0;
    loop {
        for index in [0, 1] {
            if !rig.machines[index].is_on() {
                rig.power_on(index);
            }
        }
        let status = [0, 1].map(|index| status(rig, index));
        for (index, status) in status.iter().enumerate() {
            // As an operator would after a look; every other reason has to end by itself.
            if let Some(status) = status.as_ref().filter(|status| waits_for_release(status)) {
                println!("  {} is held: {}", name(index), status.held_by.join(", "));
                released += u64::from(rig.ask(index, "/init release", ANSWER).is_some_and(|(_, done)| done));
            }
        }
        if let [Some(a), Some(b)] = status
            && is_well(&a)
            && is_well(&b)
            && let Some(active) = [&a, &b].iter().position(|status| status.role == Role::Active)
            && is_answered(rig, active)
        {
            return Ok(Whole { active, status: [a, b], released });
        }
        if rig.timeline.now() > until {
            return Err("the pair does not become whole".to_owned());
        }
        rig.pass(Duration::from_millis(500));
    }
}

/// As [`recovered`], and both have been what they are for long enough for a claim in silence: no box claims before the longest
/// wait of a claim has passed since its boot.
pub fn rested(rig: &mut Rig) -> Result<Whole, String> {
    let whole = recovered(rig)?;
    let longest = rig.machines[0].longest_wait();
    let least = whole.status.iter().map(|status| Duration::from_millis(status.since_ms)).min().unwrap_or_default();
    rig.pass(longest.saturating_sub(least));
    let now = recovered(rig)?;
    Ok(Whole { released: whole.released + now.released, ..now })
}

fn status(rig: &Rig, index: usize) -> Option<Status> {
    serde_json::from_value(rig.status(index, STATUS)?).ok()
}

/// As in the namespaces; the web service runs on the active alone, and the gate's bound counts.
fn is_well(status: &Status) -> bool {
    let runs = |state: ServiceState| match status.role {
        Role::Active => state == ServiceState::Running,
        _ => state != ServiceState::Failed,
    };
    is_whole(status)
        && status.fence.bound_by == BoundBy::Gate
        && status.services.iter().all(|service| runs(service.state))
}

/// Pings and fetches are answered, by this box.
fn is_answered(rig: &Rig, active: usize) -> bool {
    let now = rig.timeline.now();
    [rig.seen(), rig.fetched()]
        .iter()
        .all(|seen| seen.served_by == Some(active) && now.saturating_sub(seen.last) < FRESH)
}

/// What is remembered from one step to the next.
#[derive(Default)]
pub struct Audit {
    judge: Judge,
    /// Reigns and lines of the timeline that were looked at.
    reigns: usize,
    mark: usize,
}

impl Audit {
    /// A copy is asked for; then everything since the last audit is judged. `struck` are the boxes that had to end a life.
    pub fn after(&mut self, rig: &mut Rig, whole: &Whole, struck: &[usize]) -> Result<totals::Seen, String> {
        let meanwhile = trees::sync(rig, whole.active)?;
        let (now, boxes, reigns) = loop {
            let reigns = rig.reigns();
            let now = recovered(rig)?;
            let boxes = [look(rig, 0, &now, self.mark)?, look(rig, 1, &now, self.mark)?];
            // What is judged together has to be of one moment.
            if rig.reigns().len() == reigns.len() {
                break (now, boxes, reigns);
            }
        };
        let figures = boxes.clone().map(|seen| seen.figures);
        let evidence = Evidence {
            // From the one on that was the last before.
            reigns: reigns[self.reigns.saturating_sub(1)..].iter().map(|reign| (reign.port, reign.first)).collect(),
            served_by: rig.seen().served_by,
            wrong_pages: rig.fetched().wrong,
            boxes,
        };
        let verdict = self.judge.judge(&evidence).map_err(|wrong| wrong.join("\n"))?;
        let exits = ends(rig, self.mark, struck);
        (self.reigns, self.mark) = (reigns.len(), rig.timeline.mark());
        Ok(totals::Seen {
            outage: Duration::ZERO,
            owner_changes: verdict.owner_changes,
            terms: verdict.terms,
            released: whole.released + meanwhile + now.released,
            exits,
            memory: figures.iter().map(|figures| figures.memory).max().unwrap_or_default(),
            descriptors: figures.iter().map(|figures| figures.descriptors).max().unwrap_or_default(),
            diverged: now.status.iter().flat_map(|status| &status.mirror).map(|tree| tree.diverged).sum(),
        })
    }
}

/// One box, as it says and as it is found inside.
fn look(rig: &Rig, index: usize, whole: &Whole, mark: usize) -> Result<Seen, String> {
    let command = format!(
        "bb grep VmRSS /proc/1/status; bb ls /proc/1/fd | bb wc -l; bb ps -o args | bb grep -vc '^\\['; \
         bb ip -4 addr show | bb grep -c 'inet {SERVICE}/'; true"
    );
    let (said, _) = rig.ask(index, &command, ANSWER).ok_or("no answer")?;
    let numbers: Vec<u64> = said
        .lines()
        .filter_map(|line| line.trim_start_matches("VmRSS:").split_whitespace().next()?.parse().ok())
        .collect();
    let [memory, descriptors, processes, addresses] = numbers[..] else {
        return Err(format!("no figures of {} in {said:?}", name(index)));
    };
    let begins = |event: &Event| event.who == name(index) && (is_reset(event) || event.text == "power on");
    let status = &whole.status[index];
    Ok(Seen {
        role: status.role,
        peer_role: status.peer.role,
        term: status.term,
        has_address: addresses > 0,
        figures: Figures { memory, descriptors, processes },
        new_life: rig.timeline.since(mark).iter().any(begins),
        tree: trees::describe(rig, index)?,
    })
}

/// How boxes ended since `mark`; of those that nobody struck it is said.
fn ends(rig: &Rig, mark: usize, struck: &[usize]) -> Vec<String> {
    let mut ends = Vec::new();
    for event in rig.timeline.since(mark) {
        let ended = is_reset(&event) || event.text == "POWER CUT" || event.text == "WATCHDOG";
        let Some(index) = [0, 1].into_iter().find(|index| event.who == name(*index)).filter(|_| ended) else {
            continue;
        };
        let unasked = if struck.contains(&index) { "" } else { UNASKED };
        ends.push(format!("{}{unasked}", event.text.replace('"', "")));
    }
    ends
}
