//! The status as the operator gets it: the loop's snapshot, the services' reports and the configuration in one value.

use super::helper::Helper;
use super::null_modem::NO_PORT;
use super::snapshot::Snapshot;
use crate::config::Config;
use crate::console::alarm;
use crate::console::status::{
    Address, Alarm, BoundBy, ClusterLoop, Fence, Gate, Handover, HandoverKind, Link, LinkKind, Peer, Right, RightKind,
    Role, Service, ServiceState, Status, Step, Takeover, Watchdog, Witness,
};
use crate::fence::bound;
use crate::fence::gate::Counters;
use crate::fence::gate::layout::Direction;
use crate::node::settings::{CROSSOVER, FIRST_REFLECTED, LAN, NULL_MODEM};
use crate::node::status::{self as node, Blocker, PeerBlocked};
use crate::service::State;
use crate::time::{Duration, Instant};
use crate::wire::pair::{self, Side};

/// The pair's status now.
pub(super) fn status(helper: &Helper, s: &Snapshot) -> Status {
    let site = &helper.config.site;
    let side = helper.options.node;
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pair: site.pair.name.clone(),
        node: side.name().into(),
        role: role(s.node.role),
        since_ms: ms(s.at.since(s.node.since)),
        held_by: held_by(helper, s),
        term: s.node.top,
        right: right(s),
        fence: fence(helper, s),
        peer: Peer {
            node: side.peer().name().into(),
            role: s.node.peer_role.map_or(Role::Unknown, role),
            heard_ms_ago: s.node.peer_heard_at.map(|at| ms(s.at.since(at))),
            config_matches: s.node.peer_role.map(|_| s.node.config_matches),
        },
        links: links(helper, s),
        witnesses: witnesses(helper, s),
        addresses: addresses(helper, s),
        services: services(helper),
        mirror: helper.mirror.as_ref().map_or_else(Vec::new, |mirror| mirror.trees(s.at)),
        last_reset: helper.last_reset,
        mirror_confinement: helper.mirror.as_ref().and_then(|mirror| mirror.confinement()),
        quorum: s.node.quorum,
        observe_confinement: helper.observe_confinement(),
        update_confinement: helper.update.confinement.borrow().clone(),
        console_confinement: helper.console_confinement.borrow().clone(),
        takeover: takeover(helper, s),
        last_handover: last_handover(helper, s),
        handovers: *helper.handovers.borrow(),
        alarms: alarms(helper, s),
        image: helper.image(),
        last_panic: helper.options.appliance.as_ref().and_then(|appliance| appliance.panic.clone()),
        cluster_loop: ClusterLoop { turns: s.turns, worst_lateness_us: us(helper.worst_lateness.take()) },
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn role(role: pair::Role) -> Role {
    match role {
        pair::Role::Joining => Role::Joining,
        pair::Role::Standby => Role::Standby,
        pair::Role::Held => Role::Held,
        pair::Role::Claiming => Role::Claiming,
        pair::Role::Active => Role::Active,
        pair::Role::Yielding => Role::Yielding,
    }
}

/// Why this box is held, with the operator's own words.
fn held_by(helper: &Helper, s: &Snapshot) -> Vec<String> {
    let in_words = |hold| match (&*helper.hold_reason.borrow(), hold) {
        (Some(reason), node::Hold::Operator) => format!("{}: {reason}", alarm::hold_in_words(hold)),
        _ => alarm::hold_in_words(hold).to_owned(),
    };
    s.node.holds.iter().map(in_words).collect()
}

fn right(s: &Snapshot) -> Right {
    let Some(right) = s.node.right else { return Right { kind: RightKind::None, remaining_ms: Some(0) } };
    let kind = match right.kind {
        node::RightKind::Lease => RightKind::Lease,
        node::RightKind::Quorum => RightKind::Quorum,
        node::RightKind::Farewell => RightKind::Farewell,
        node::RightKind::Forced => RightKind::Forced,
    };
    Right { kind, remaining_ms: (right.until != Instant::NEVER).then(|| ms(right.until.until(s.at))) }
}

fn fence(helper: &Helper, s: &Snapshot) -> Fence {
    let (bound, by) = s.bound;
    Fence {
        watchdog: s.watchdog.map(|dog| Watchdog {
            device: helper.config.board.watchdog.as_ref().map_or(String::new(), |w| w.device.display().to_string()),
            identity: helper.watchdog.clone(),
            timeout_ms: ms(dog.timeout),
            last_reset: helper.last_reset,
        }),
        egress_gate: match s.gate_expiry {
            None => Gate::Absent,
            Some(expiry) if expiry > s.at => Gate::Open,
            Some(_) => Gate::Closed,
        },
        bound_ms: bound.map(|bound| u64::try_from(bound.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)),
        bound_by: match by {
            bound::BoundBy::Gate => BoundBy::Gate,
            bound::BoundBy::Watchdog => BoundBy::Watchdog,
            bound::BoundBy::AddressLease => BoundBy::AddressLease,
            bound::BoundBy::None => BoundBy::None,
        },
        fenced: by.fenced(),
        gate_repairs: helper.gate.borrow().repairs,
        raw_belt: helper.gate.borrow().raw_belt,
        last_pass_ms_ago: last_pass(helper).map(|at| ms(s.at.since(at))),
    }
}

/// What the gate has let pass and dropped in one direction.
fn counters(helper: &Helper, direction: Direction) -> Option<Counters> {
    helper.gate.borrow().gate.as_ref().map(|gate| gate.counters(direction))
}

/// When a frame from a service address last left.
fn last_pass(helper: &Helper) -> Option<Instant> {
    counters(helper, Direction::Egress).filter(|counters| counters.passes > 0).map(|counters| counters.last_pass)
}

fn links(helper: &Helper, s: &Snapshot) -> Vec<Link> {
    let board = &helper.config.board;
    let direct = [
        (NULL_MODEM, "null-modem", LinkKind::Serial, board.null_modem.is_some()),
        (CROSSOVER, "crossover", LinkKind::Ethernet, board.interface("crossover").is_some()),
        (LAN, "lan", LinkKind::Ethernet, board.interface("lan").is_some()),
    ];
    let direct = direct
        .into_iter()
        .filter(|(.., exists)| *exists)
        .map(|(path, name, kind, _)| link(helper, s, path, name.into(), kind));
    let reflected = (FIRST_REFLECTED..)
        .zip(&helper.config.site.witnesses)
        .map(|(path, ip)| link(helper, s, path, format!("reflected:{ip}"), LinkKind::Reflected));
    direct.chain(reflected).collect()
}

/// Whether the peer is heard by this path.
pub(super) fn is_up(config: &Config, s: &Snapshot, path: u8) -> bool {
    let timing = &config.site.timing;
    let interval = match path {
        NULL_MODEM => timing.serial_heartbeat,
        CROSSOVER | LAN => timing.heartbeat,
        _ => timing.witness_idle,
    };
    s.paths[path as usize].heard_at.is_some_and(|at| s.at.since(at) <= interval * 3 + timing.lease)
}

fn link(helper: &Helper, s: &Snapshot, path: u8, name: String, kind: LinkKind) -> Link {
    let judged = &s.paths[path as usize];
    let seen = &s.links[path as usize];
    let heard = judged.heard_at.map(|at| s.at.since(at));
    let up = is_up(&helper.config, s, path);
    Link {
        name,
        kind,
        up,
        heard_ms_ago: heard.map(ms),
        lost: judged.lost,
        late: judged.late,
        rejected: judged.rejected.iter().chain(&seen.rejected).map(|count| u64::from(*count)).sum(),
        heard: judged.heard,
        sent: seen.counters.frames_out,
        dropped: seen.counters.dropped,
        // The kernel tells of a carrier up to a second late; a link that is heard has one.
        finding: seen.finding.filter(|_| !up || kind == LinkKind::Serial).map(|finding| found(helper, finding)),
    }
}

/// What seems to be wrong with a link; of a port that is not there, by which name it is looked for.
fn found(helper: &Helper, finding: &str) -> String {
    let port = helper.config.board.null_modem.as_ref().filter(|_| finding == NO_PORT);
    port.map_or(finding.to_owned(), |port| format!("{finding}: {}", port.device.display()))
}

fn witnesses(helper: &Helper, s: &Snapshot) -> Vec<Witness> {
    let witness = |(index, ip): (usize, &std::net::IpAddr)| Witness {
        ip: ip.to_string(),
        reachable: s.node.reached & (1 << index) != 0,
        reflects: s.node.proven & (1 << index) != 0,
        rtt_us: (s.rtt[index] > Duration::ZERO).then(|| us(s.rtt[index])),
        limits: s.witness_limits & (1 << index) != 0,
    };
    helper.config.site.witnesses.iter().enumerate().map(witness).collect()
}

fn addresses(helper: &Helper, s: &Snapshot) -> Vec<Address> {
    let conflict = |index: usize| s.conflicts[index].map(|conflict| hex(&conflict.mac));
    let [out, into] = Direction::ALL.map(|direction| counters(helper, direction).map_or_else(Vec::new, |c| c.drops));
    let address = |(index, a): (usize, &crate::config::site::ServiceAddress)| Address {
        ip: a.prefix.to_string(),
        held: s.held[index],
        conflict: conflict(index),
        dropped_out: out.get(index).copied().unwrap_or(0),
        dropped_in: into.get(index).copied().unwrap_or(0),
    };
    helper.config.site.addresses.iter().enumerate().map(address).collect()
}

/// A hardware address as everybody writes it.
pub(super) fn hex(mac: &crate::wire::Mac) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn services(helper: &Helper) -> Vec<Service> {
    let (reports, failing) = (helper.services.borrow(), helper.failing.borrow());
    let service = |(settings, report): (&crate::config::site::Service, &crate::service::Report)| Service {
        name: settings.name.clone(),
        state: match report.state {
            State::Starting if failing[report.index] => ServiceState::Failed,
            State::Running => ServiceState::Running,
            State::Stopped | State::Stopping | State::Starting => ServiceState::Stopped,
            State::Failed => ServiceState::Failed,
        },
        restarts: report.restarts,
    };
    helper.config.site.services.iter().zip(reports.iter()).map(service).collect()
}

/// Seen from the active box: could the peer take over? From the other: could this box, if the peer died now?
fn takeover(helper: &Helper, s: &Snapshot) -> Takeover {
    let blocked_by: Vec<String> = if matches!(s.node.role, pair::Role::Active | pair::Role::Yielding) {
        match (s.node.peer_blocked, s.node.peer_role) {
            // Of the second nobody votes for it yet: a switchover waits. In silence it takes over all the same.
            (None | Some(PeerBlocked::JustSurrendered), _) => {
                in_silence(!helper.config.site.witnesses.is_empty(), &s.node).into_iter().map(str::to_owned).collect()
            }
            // Only the peer knows why.
            (Some(why), Some(pair::Role::Held)) if !s.node.alarms.has(node::Alarm::PeerSilent) => {
                vec![format!("{}; `peer status` says why", why.name())]
            }
            (Some(why), _) => vec![why.name().to_owned()],
        }
    } else {
        // That the peer serves is no obstacle: it is what the takeover is for. What holds it says more than "held".
        let held = !s.node.holds.is_empty();
        let said = |blocker: &Blocker| *blocker != Blocker::PeerServes && !(held && *blocker == Blocker::Held);
        let blockers = s.node.blockers.iter().filter(said);
        let blockers = blockers.map(|blocker| alarm::blocker_in_words(blocker).to_owned());
        blockers.chain(held_by(helper, s)).collect()
    };
    Takeover { ready: blocked_by.is_empty(), blocked_by }
}

/// What stops the peer from taking over should this box die now, as far as this box knows: a planned hand-over needs none of it.
fn in_silence(has_witness: bool, node: &node::Status) -> Vec<&'static str> {
    let obstacles = [
        (alarm::blocker_in_words(Blocker::NoWitness), !has_witness),
        (alarm::PEER_NO_QUORUM, has_witness && node.peer_quorum == Some(false)),
        (alarm::NO_BELT, node.fence.is_none()),
        (alarm::blocker_in_words(Blocker::Timings), node.alarms.has(node::Alarm::TimingsBreak)),
    ];
    obstacles.into_iter().filter(|(_, stands)| *stands).map(|(words, _)| words).collect()
}

/// The last hand-over that this box knows of: the node's own account of one to this box, unless a newer one was noted.
fn last_handover(helper: &Helper, s: &Snapshot) -> Option<Handover> {
    let noted = helper.last_handover.borrow();
    let of_node = s.node.handover.map(|handover| handover.at);
    match &*noted {
        Some((at, handover)) if *at >= of_node => {
            Some(Handover { ago_ms: at.map(|at| ms(s.at.since(at))), ..handover.clone() })
        }
        _ => to_this_box(helper, s),
    }
}

/// The last hand-over from the peer to this box, in this life.
pub(super) fn to_this_box(helper: &Helper, s: &Snapshot) -> Option<Handover> {
    let h = s.node.handover?;
    let step = |name: &str, took: Duration| Step { name: name.into(), us: us(took) };
    let surrender = h.planned.then(|| step("surrender", h.surrender));
    let mut steps: Vec<Step> = surrender.into_iter().collect();
    steps.extend([step("detect", h.detect), step("wait", h.wait), step("claim", h.persist)]);
    let carried_out = carried_out(s, h.at, &mut steps);
    Some(Handover {
        kind: if h.planned { HandoverKind::Switchover } else { HandoverKind::Failover },
        reason: h.why.into(),
        detect_ms: ms(h.detect),
        fence_wait_ms: ms(h.wait),
        total_ms: ms(h.surrender + h.detect + h.wait + h.persist + carried_out),
        ago_ms: Some(ms(s.at.since(h.at))),
        term: s.node.served,
        to: helper.options.node.name().into(),
        steps,
    })
}

/// This box gave the service up at `at` and took it again, and nobody had it meanwhile: for the clients an outage as any other.
pub(super) fn taken_again(node: Side, s: &Snapshot, kind: HandoverKind, reason: String, at: Instant) -> Handover {
    let mut steps = Vec::new();
    let without = s.node.since.since(at);
    let carried_out = carried_out(s, s.node.since, &mut steps);
    Handover {
        kind,
        reason,
        detect_ms: 0,
        fence_wait_ms: 0,
        total_ms: ms(without + carried_out),
        ago_ms: Some(ms(s.at.since(s.node.since))),
        term: s.node.served,
        to: node.name().into(),
        steps,
    }
}

/// The steps after the node's order of `at`, and what they took up to the first announcement.
fn carried_out(s: &Snapshot, at: Instant, steps: &mut Vec<Step>) -> Duration {
    let step = |name: &str, took: Duration| Step { name: name.into(), us: us(took) };
    let Some(done) = s.steps.filter(|steps| steps.ordered >= at) else { return Duration::ZERO };
    steps.extend([step("address", done.address), step("announce", done.announce)]);
    steps.extend(done.first_frame.map(|first| step("first-frame", first)));
    done.address + done.announce
}

fn alarms(helper: &Helper, s: &Snapshot) -> Vec<Alarm> {
    let since = helper.alarms.borrow();
    let one = |alarm: node::Alarm| {
        let name = alarm::name_of(alarm);
        let at = since.iter().find(|(stands, _)| *stands == alarm).map_or(s.at, |(_, at)| *at);
        Alarm { since_ms: ms(s.at.since(at)), text: alarm::in_words(alarm).to_owned(), name: name.to_owned() }
    };
    let standing = helper.standing.borrow();
    s.node.alarms.iter().map(one).chain(standing.iter().map(|one| one.shown(s.at))).collect()
}
