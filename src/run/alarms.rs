//! Alarms, from their beginning to their end: the node tells of its own, everything else is looked for once a second.
//!
//! Each goes to the status, the history and the syslog server, once when it begins and (not to the history) when it ends.

use std::rc::Rc;

use smol::Timer;

use super::helper::Helper;
use super::history;
use super::letters::Order;
use super::snapshot::Snapshot;
use crate::clock;
use crate::console::alarm;
use crate::console::status::{self, Cause, Direction, Tree, TreeState};
use crate::fence::bound::BoundBy;
use crate::journal;
use crate::node::settings::{FIRST_REFLECTED, LAN, NULL_MODEM};
use crate::observe::control::Event;
use crate::realtime;
use crate::takeover::own::Stands;
use crate::time::{Duration, Instant};
use crate::wire::heartbeat::Reject;
use crate::wire::line::Finding;
use crate::wire::pair::Role;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How long something that happened in an instant is shown.
const SHOWN: Duration = Duration::from_secs(60);

/// So many frames with a bad tag between two looks are more than bits that were lost on a line.
const BAD_TAGS: u64 = 3;

/// An alarm that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its name in the catalogue.
    pub name: &'static str,
    /// What it is about, where several things may have it: a tree, an address.
    about: String,
    /// What more there is to say.
    detail: String,
    /// Since when.
    since: Instant,
}

impl Standing {
    /// In words.
    fn text(&self) -> String {
        let text = alarm::find(self.name).map_or(self.name, |entry| entry.text);
        let parts = [text, &self.about, &self.detail];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    }

    /// For the status.
    pub(super) fn shown(&self, now: Instant) -> status::Alarm {
        let since_ms = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        status::Alarm { since_ms, text: self.text(), name: self.name.to_owned() }
    }
}

/// What one look found, as far as alarms go.
#[derive(Clone, Debug, Default)]
struct Look {
    /// Service address, hardware address of a foreign claim.
    conflicts: Vec<(String, String)>,
    /// Likewise of own addresses.
    own_conflicts: Vec<(String, String)>,
    /// Nothing but the lifetime of the addresses stops this box if it hangs; the node says so where there is not even that.
    unfenced: bool,
    gate_lost: bool,
    gate_touched: bool,
    watchdog_late: bool,
    /// The board names one, and it could not be armed.
    watchdog_missing: bool,
    not_realtime: bool,
    clock_slewed: bool,
    same_node: bool,
    /// As `same_node`, on a cable of its own: no recording of a former life that somebody plays on the LAN.
    twin: bool,
    wrong_key: bool,
    newer_version: bool,
    /// Witnesses that answer some pings only.
    limits: Vec<String>,
    /// Links on which our own frames come back.
    loops: Vec<&'static str>,
    log_lost: bool,
    mirror_fell: bool,
    update_failed: bool,
    /// Slots whose images are damaged, and how.
    damaged_images: Vec<(u32, String)>,
    trees: Vec<Tree>,
}

impl Look {
    /// Every alarm that this look calls for: name, about, detail. Pure.
    fn alarms(&self) -> Vec<(&'static str, String, String)> {
        let mut found = Vec::new();
        let mut add = |name, about: &str, detail: &str| found.push((name, about.to_owned(), detail.to_owned()));
        for (ip, mac) in &self.conflicts {
            add("address-conflict", ip, mac);
        }
        for (ip, mac) in &self.own_conflicts {
            add("own-address-conflict", ip, mac);
        }
        for (name, on) in [
            ("unfenced", self.unfenced),
            ("gate-lost", self.gate_lost),
            ("gate-touched", self.gate_touched),
            ("watchdog-late", self.watchdog_late),
            ("watchdog-missing", self.watchdog_missing),
            ("not-realtime", self.not_realtime),
            ("clock-slewed", self.clock_slewed),
            ("same-node", self.same_node),
            ("wrong-key", self.wrong_key),
            ("newer-version", self.newer_version),
            ("log-lost", self.log_lost),
            ("mirror-down", self.mirror_fell),
            ("update-failed", self.update_failed),
        ] {
            if on {
                add(name, "", "");
            }
        }
        for (slot, why) in &self.damaged_images {
            add("image-damaged", &format!("slot {slot}"), why);
        }
        for link in &self.loops {
            add("loop-plug", link, "");
        }
        for witness in &self.limits {
            add("witness-limits", witness, "");
        }
        for tree in &self.trees {
            if tree.state == TreeState::Blocked {
                let name = match tree.cause {
                    Some(Cause::Missing) => "mirror-missing",
                    Some(Cause::Failed) => "mirror-failed",
                    Some(Cause::Guard) | None => "mirror-blocked",
                };
                add(name, &tree.tree, tree.reason.as_deref().unwrap_or_default());
            } else if tree.last_cut_ms_ago.is_some() && !tree.current && lacks(tree) {
                add("mirror-late", &tree.tree, "");
            }
            if tree.diverged > 0 {
                add("mirror-diverged", &tree.tree, "");
            }
        }
        found
    }
}

/// The standby lacks something, or cannot know: changes wait at the source, or nobody brings any.
fn lacks(tree: &Tree) -> bool {
    tree.direction == Direction::Receive || tree.lag_ms.is_some_and(|lag| lag > 0)
}

/// Brings what stands up to date. Returns what has begun and what has ended.
fn compare(
    standing: &mut Vec<Standing>,
    found: Vec<(&'static str, String, String)>,
    now: Instant,
) -> (Vec<Standing>, Vec<Standing>) {
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    standing.retain(|one| {
        let stays = found.iter().any(|(name, about, _)| *name == one.name && *about == one.about);
        if !stays {
            ended.push(one.clone());
        }
        stays
    });
    for (name, about, detail) in found {
        match standing.iter_mut().find(|one| one.name == name && one.about == about) {
            Some(one) => one.detail = detail,
            None => {
                let one = Standing { name, about, detail, since: now };
                begun.push(one.clone());
                standing.push(one);
            }
        }
    }
    (begun, ended)
}

/// A counter whose growth is an event.
#[derive(Default)]
struct Growth {
    last: u64,
    at: Option<Instant>,
}

impl Growth {
    /// It grew a moment ago.
    fn seen(&mut self, now: Instant, count: u64) -> bool {
        self.seen_by(now, count, 1)
    }

    /// It grew by `least` or more between two looks, a moment ago.
    fn seen_by(&mut self, now: Instant, count: u64, least: u64) -> bool {
        if count >= self.last + least {
            self.at = Some(now);
        }
        self.last = count;
        self.at.is_some_and(|at| now.since(at) <= SHOWN)
    }
}

/// Whether this box must be held because another one bears its name. Neither hears a peer then, and each would serve when
/// its boot wait is over. A box that serves already goes on: it cannot know which of the two is the wrong one, and the
/// other one is held. Pure.
fn holds_for_twin(twin: bool, role: Role) -> bool {
    twin && matches!(role, Role::Joining | Role::Standby | Role::Claiming)
}

/// Counters of the former looks.
#[derive(Default)]
struct Memory {
    same_node: Growth,
    twin: Growth,
    bad_tags: Growth,
    newer: Growth,
    own_frames: [Growth; FIRST_REFLECTED as usize],
    log_lost: Growth,
}

/// Looks for as long as the daemon lives.
pub(super) async fn watch(helper: Rc<Helper>) {
    let mut memory = Memory::default();
    loop {
        if let Some(snapshot) = helper.snapshot().await {
            if let Some(mirror) = &helper.mirror {
                mirror.correct_role(snapshot.node.role, snapshot.node.data.generation);
            }
            let look = look(&helper, &snapshot, &mut memory);
            if holds_for_twin(look.twin, snapshot.node.role) {
                helper.hold_for_twin().await;
            }
            let found = look.alarms();
            let (begun, ended) = compare(&mut helper.standing.borrow_mut(), found, snapshot.at);
            for one in begun {
                log::warn!("alarm: {}", one.text());
                helper.raised(one.name, one.text());
            }
            for one in ended {
                log::info!("alarm over: {}", one.text());
                helper.cleared(one.name, one.text());
            }
        }
        Timer::after(LOOK).await;
    }
}

fn look(helper: &Helper, s: &Snapshot, memory: &mut Memory) -> Look {
    let rejected = |path: usize, reason: Reject| {
        u64::from(s.links[path].rejected[reason as usize] + s.paths[path].rejected[reason as usize])
    };
    let direct = 0..usize::from(FIRST_REFLECTED);
    let same_node = direct.clone().map(|path| rejected(path, Reject::SameNode)).sum();
    let board = &helper.config.board;
    let has_cable = board.null_modem.is_some() || board.interface("crossover").is_some();
    let cables = direct.clone().filter(|path| !has_cable || *path != usize::from(LAN));
    let on_cables = cables.map(|path| rejected(path, Reject::SameNode)).sum();
    let bad_tags = direct.clone().map(|path| rejected(path, Reject::BadTag)).sum();
    let newer = direct.clone().map(|path| rejected(path, Reject::VersionAhead)).sum();
    let names = ["null-modem", "crossover", "lan"];
    let loops = direct.filter(|path| {
        let grew = memory.own_frames[*path].seen(s.at, rejected(*path, Reject::OwnFrame));
        if *path == usize::from(NULL_MODEM) { s.links[*path].finding == Some(Finding::LoopPlug.name()) } else { grew }
    });
    let gate = helper.gate.borrow();
    let witnesses = helper.config.site.witnesses.iter().enumerate();
    let witnesses = witnesses.filter(|(index, _)| s.witness_limits & (1 << index) != 0);
    let addresses = helper.config.site.addresses.iter().zip(&s.conflicts);
    Look {
        conflicts: addresses
            .filter_map(|(address, conflict)| {
                Some((address.prefix.to_string(), super::report::hex(&conflict.as_ref()?.mac)))
            })
            .collect(),
        own_conflicts: own_conflicts(&helper.own_addresses.borrow(), s.at),
        unfenced: s.bound.1 == BoundBy::AddressLease,
        // A gate that holds but has a long queue behind it gives no bound either.
        gate_lost: gate.lost || (s.gate_expiry.is_some() && s.bound.1 != BoundBy::Gate),
        gate_touched: gate.repaired_at.is_some_and(|at| s.at.since(at) <= SHOWN),
        watchdog_late: s.watchdog.and_then(|dog| dog.late_at).is_some_and(|at| s.at.since(at) <= SHOWN),
        watchdog_missing: s.watchdog.is_none() && board.watchdog.is_some(),
        not_realtime: !realtime::loop_has_priority(),
        clock_slewed: realtime::clock_tick().is_some_and(realtime::is_slewed),
        loops: loops.map(|path| names[path]).collect(),
        same_node: memory.same_node.seen(s.at, same_node),
        twin: memory.twin.seen(s.at, on_cables),
        wrong_key: memory.bad_tags.seen_by(s.at, bad_tags, BAD_TAGS),
        newer_version: memory.newer.seen(s.at, newer),
        limits: witnesses.map(|(_, ip)| ip.to_string()).collect(),
        log_lost: memory.log_lost.seen(s.at, journal::lost()),
        mirror_fell: helper.mirror.as_ref().is_some_and(|mirror| mirror.fell_within(s.at, SHOWN)),
        update_failed: helper.was_rolled_back(),
        damaged_images: helper.damaged_images(),
        trees: helper.mirror.as_ref().map_or_else(Vec::new, |mirror| mirror.trees(s.at)),
    }
}

/// Own addresses that somebody else has, or claimed a moment ago.
fn own_conflicts(stands: &[Stands], now: Instant) -> Vec<(String, String)> {
    let claimed = |stands: &Stands| {
        let (mac, at) = stands.other?;
        (!stands.ours || now.since(at) <= SHOWN).then(|| (stands.ip.to_string(), super::report::hex(&mac)))
    };
    stands.iter().filter_map(claimed).collect()
}

impl Helper {
    /// An alarm has begun: for the history and whoever watches.
    pub(super) fn raised(&self, name: &str, text: String) {
        let now = clock::now();
        if self.lately.borrow_mut().admits(&text, now) {
            self.remember(history::of_alarm(self.present, now, history::wall_clock(), &text));
        }
        self.tell_observer(Event::Raised { name: name.to_owned(), text });
    }

    async fn hold_for_twin(&self) {
        let reason = format!("another box says that it is {} too", self.options.node.name());
        log::error!("held: {reason}");
        self.keep_hold_reason(Some(reason));
        if self.order(Order::Hold).await.is_none() {
            log::error!("the loop does not take the hold; tried again in {LOOK:?}");
        }
    }

    /// An alarm has ended.
    pub(super) fn cleared(&self, name: &str, text: String) {
        self.tell_observer(Event::Cleared { name: name.to_owned(), text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str) -> Tree {
        Tree {
            tree: path.into(),
            direction: Direction::Receive,
            last_cut_ms_ago: Some(1),
            lag_ms: None,
            state: TreeState::Idle,
            files: 0,
            bytes_sent: 0,
            diverged: 0,
            current: true,
            reason: None,
            cause: None,
        }
    }

    fn names(look: &Look) -> Vec<&'static str> {
        look.alarms().into_iter().map(|(name, ..)| name).collect()
    }

    #[test]
    fn a_look_at_a_healthy_pair_finds_nothing() {
        assert_eq!(names(&Look { trees: vec![tree("/data")], ..Look::default() }), [""; 0]);
    }

    #[test]
    fn an_old_copy_is_told_on_both_boxes_where_it_lacks_something() {
        let old = |direction, lag_ms| Tree { direction, lag_ms, current: false, ..tree("/data") };
        let found = |tree: Tree| names(&Look { trees: vec![tree], ..Look::default() });
        assert_eq!(found(old(Direction::Receive, Some(60_000))), ["mirror-late"]);
        assert_eq!(found(old(Direction::Send, Some(60_000))), ["mirror-late"]);
        // No change waits: the copy is old, and equal.
        assert_eq!(found(old(Direction::Send, Some(0))), [""; 0]);
        assert_eq!(found(Tree { current: true, ..old(Direction::Send, Some(500)) }), [""; 0]);
    }

    #[test]
    fn everything_that_can_be_found_is_in_the_catalogue() {
        let look = Look {
            conflicts: vec![("192.0.2.10/24".into(), "02:00:5e:00:53:01".into())],
            own_conflicts: vec![("192.0.2.2".into(), "02:00:5e:00:53:02".into())],
            unfenced: true,
            gate_lost: true,
            gate_touched: true,
            watchdog_late: true,
            watchdog_missing: true,
            not_realtime: true,
            clock_slewed: true,
            same_node: true,
            twin: true,
            wrong_key: true,
            newer_version: true,
            limits: vec!["192.0.2.1".into()],
            loops: vec!["lan"],
            log_lost: true,
            mirror_fell: true,
            update_failed: true,
            damaged_images: vec![(2, "not whole".into())],
            trees: vec![
                Tree { state: TreeState::Blocked, reason: Some("too many".into()), ..tree("/a") },
                Tree { current: false, diverged: 2, ..tree("/b") },
                Tree { state: TreeState::Blocked, cause: Some(Cause::Missing), ..tree("/c") },
                Tree { state: TreeState::Blocked, cause: Some(Cause::Failed), ..tree("/d") },
                Tree { state: TreeState::Starting, current: false, last_cut_ms_ago: None, ..tree("/e") },
            ],
        };
        let found = names(&look);
        assert_eq!(found.len(), 23);
        assert!(found.iter().all(|name| alarm::find(name).is_some()), "{found:?}");
        // And everything in the catalogue is found by a look or told by the node.
        let told = crate::node::status::Alarm::ALL.iter().map(|alarm| alarm::name_of(*alarm));
        let known: Vec<&str> = told.chain(found).collect();
        for entry in alarm::CATALOGUE {
            assert!(known.contains(&entry.name), "nothing raises {}", entry.name);
        }
    }

    #[test]
    fn a_box_whose_name_another_one_bears_is_held_before_it_serves() {
        for role in [Role::Joining, Role::Standby, Role::Claiming] {
            assert!(holds_for_twin(true, role) && !holds_for_twin(false, role));
        }
        for role in [Role::Active, Role::Yielding, Role::Held] {
            assert!(!holds_for_twin(true, role));
        }
    }

    #[test]
    fn an_own_address_that_another_one_has_is_shown_for_as_long_as_he_has_it() {
        let at = |seconds| Instant::BOOT + Duration::from_secs(seconds);
        let stands = |ours, other| Stands { ip: [192, 0, 2, 2].into(), ours, other };
        let mac = [2, 0, 0x5e, 0, 0x53, 2];
        assert!(own_conflicts(&[stands(true, None), stands(false, None)], at(1)).is_empty());
        assert_eq!(own_conflicts(&[stands(false, Some((mac, at(1))))], at(900)).len(), 1);
        assert_eq!(own_conflicts(&[stands(true, Some((mac, at(1))))], at(61)).len(), 1);
        assert!(own_conflicts(&[stands(true, Some((mac, at(1))))], at(62)).is_empty());
    }

    #[test]
    fn an_alarm_begins_once_and_ends_once() {
        let at = Instant::from_nanos;
        let mut standing = Vec::new();
        let found = |detail: &str| vec![("mirror-blocked", "/a".to_owned(), detail.to_owned())];
        let (begun, ended) = compare(&mut standing, found("x"), at(1));
        assert_eq!((begun.len(), ended.len()), (1, 0));
        let (begun, ended) = compare(&mut standing, found("y"), at(2));
        assert_eq!((begun.len(), ended.len()), (0, 0));
        assert!(standing[0].text().ends_with(": /a: y"), "{}", standing[0].text());
        assert_eq!(standing[0].shown(at(3_000_001)).since_ms, 3);
        let (begun, ended) = compare(&mut standing, vec![], at(3));
        assert_eq!((begun.len(), ended.len(), standing.len()), (0, 1, 0));
    }

    #[test]
    fn growth_is_shown_for_a_while() {
        let mut growth = Growth::default();
        let at = |seconds| Instant::BOOT + Duration::from_secs(seconds);
        assert!(!growth.seen(at(1), 0));
        assert!(growth.seen(at(2), 1));
        assert!(growth.seen(at(62), 1));
        assert!(!growth.seen(at(63), 1));
    }
}
