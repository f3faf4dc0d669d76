//! The status as metrics. Pure.
//!
//! Times are seconds, sizes bytes; a state is one sample for each word, 1 for the present one and 0 for the others; what was
//! never there (a peer never heard, a board without a watchdog) has no sample; a time without end is `+Inf`.

use super::exposition::{Dialect, Exposition, Kind};
use crate::console::alarm::CATALOGUE;
use crate::console::status::{
    BoundBy, Gate, Handover, RightKind, Role, ServiceState, Status, Tree, TreeState, Witness,
};

const ROLES: [Role; 7] =
    [Role::Joining, Role::Standby, Role::Claiming, Role::Active, Role::Yielding, Role::Held, Role::Unknown];
const RIGHTS: [RightKind; 5] =
    [RightKind::Lease, RightKind::Quorum, RightKind::Farewell, RightKind::Forced, RightKind::None];
const GATES: [Gate; 3] = [Gate::Closed, Gate::Open, Gate::Absent];
const SERVICES: [ServiceState; 3] = [ServiceState::Running, ServiceState::Stopped, ServiceState::Failed];

/// The whole answer to `GET /metrics`.
#[must_use]
pub fn text(status: &Status, dialect: Dialect) -> String {
    let mut out = Exposition::new(dialect);
    this_box(&mut out, status);
    fence(&mut out, status);
    peer(&mut out, status);
    links(&mut out, status);
    witnesses(&mut out, &status.witnesses);
    served(&mut out, status);
    trees(&mut out, &status.mirror);
    handovers(&mut out, status);
    alarms(&mut out, status);
    out.end()
}

fn seconds(ms: u64) -> f64 {
    micros(ms.saturating_mul(1000))
}

fn micros(us: u64) -> f64 {
    core::time::Duration::from_micros(us).as_secs_f64()
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

/// Exact up to 2^53: a counter that got further has counted for centuries.
#[allow(clippy::cast_precision_loss)]
fn count(n: u64) -> f64 {
    n as f64
}

/// One sample for each word, 1 for the one that holds.
fn states<T: Copy + PartialEq>(
    out: &mut Exposition,
    labels: &[(&str, &str)],
    label: &str,
    all: &[(T, &'static str)],
    now: T,
) {
    for (state, word) in all {
        out.sample(&[labels, &[(label, *word)]].concat(), flag(*state == now));
    }
}

fn words<T: Copy, const N: usize>(all: [T; N], word: impl Fn(T) -> &'static str) -> [(T, &'static str); N] {
    all.map(|one| (one, word(one)))
}

fn this_box(out: &mut Exposition, status: &Status) {
    out.family("twobox", Kind::Info, "The program, the pair and this box.");
    out.sample(&[("version", &status.version), ("pair", &status.pair), ("node", &status.node)], 1.0);
    out.family("twobox_role", Kind::Gauge, "What this box does: 1 for its role, 0 for the others.");
    states(out, &[], "role", &words(ROLES, Role::word), status.role);
    out.gauge("twobox_role_age_seconds", "For how long it has had this role.", seconds(status.since_ms));
    out.gauge("twobox_term", "The highest term, served or voted for.", count(status.term));
    out.family("twobox_right", Kind::Gauge, "What lets it serve at this instant: 1 for that, 0 for the others.");
    states(out, &[], "kind", &words(RIGHTS, RightKind::word), status.right.kind);
    let left = match (status.right.kind, status.right.remaining_ms) {
        (RightKind::None, _) => 0.0,
        (_, Some(ms)) => seconds(ms),
        (_, None) => f64::INFINITY,
    };
    out.gauge("twobox_right_remaining_seconds", "How long its right lasts if nothing renews it.", left);
    out.family("twobox_loop_turns", Kind::Counter, "Turns of the cluster loop.");
    out.sample(&[], count(status.cluster_loop.turns));
    out.gauge(
        "twobox_loop_lateness_seconds",
        "Longest time by which the cluster loop woke up too late, since anybody last looked.",
        micros(status.cluster_loop.worst_lateness_us),
    );
}

fn fence(out: &mut Exposition, status: &Status) {
    let fence = &status.fence;
    out.gauge("twobox_fenced", "A gate or a watchdog stops this box if it hangs.", flag(fence.fenced));
    out.family(
        "twobox_fence_bound_seconds",
        Kind::Gauge,
        "From the end of its right until nothing more is sent, by the belt that gives the bound.",
    );
    let bound = match (fence.bound_by, fence.bound_ms) {
        (BoundBy::None, _) | (_, None) => f64::INFINITY,
        (_, Some(ms)) => seconds(ms),
    };
    out.sample(&[("by", fence.bound_by.word())], bound);
    out.family("twobox_egress_gate", Kind::Gauge, "The gate before the service addresses: 1 for its state.");
    states(out, &[], "state", &words(GATES, Gate::word), fence.egress_gate);
    if let Some(dog) = &fence.watchdog {
        out.gauge("twobox_watchdog_timeout_seconds", "Time-out of the hardware watchdog.", seconds(dog.timeout_ms));
    }
}

fn peer(out: &mut Exposition, status: &Status) {
    let peer = &status.peer;
    out.family("twobox_peer_role", Kind::Gauge, "What the other box said last that it does: 1 for its role.");
    states(out, &[("peer", &peer.node)], "role", &words(ROLES, Role::word), peer.role);
    if let Some(ms) = peer.heard_ms_ago {
        out.gauge("twobox_peer_heard_age_seconds", "Age of its newest heartbeat.", seconds(ms));
    }
    if let Some(same) = peer.config_matches {
        out.gauge("twobox_peer_config_matches", "Both boxes have the same site file.", flag(same));
    }
    out.gauge("twobox_takeover_ready", "A takeover by the standby would work now.", flag(status.takeover.ready));
}

fn links(out: &mut Exposition, status: &Status) {
    let links = &status.links;
    let mut each = |name: &str, kind, help: &str, value: &dyn Fn(&crate::console::status::Link) -> Option<f64>| {
        out.family(name, kind, help);
        for link in links {
            if let Some(value) = value(link) {
                out.sample(&[("link", &link.name)], value);
            }
        }
    };
    each("twobox_link_up", Kind::Gauge, "The peer is heard on this link.", &|link| Some(flag(link.up)));
    each("twobox_link_heard_age_seconds", Kind::Gauge, "Age of the newest heartbeat on this link.", &|link| {
        link.heard_ms_ago.map(seconds)
    });
    each("twobox_heartbeats_received", Kind::Counter, "Good heartbeats that came.", &|link| Some(count(link.heard)));
    each("twobox_heartbeats_lost", Kind::Counter, "Heartbeats that never came.", &|link| Some(count(link.lost)));
    each("twobox_heartbeats_late", Kind::Counter, "Heartbeats that came more than half an interval late.", &|link| {
        Some(count(link.late))
    });
    each("twobox_frames_sent", Kind::Counter, "Frames sent.", &|link| Some(count(link.sent)));
    each("twobox_frames_dropped", Kind::Counter, "Frames that could not be sent at once.", &|link| {
        Some(count(link.dropped))
    });
    each("twobox_frames_rejected", Kind::Counter, "Frames refused, whatever the reason.", &|link| {
        Some(count(link.rejected))
    });
}

fn witnesses(out: &mut Exposition, witnesses: &[Witness]) {
    if witnesses.is_empty() {
        return;
    }
    let mut each = |name: &str, help: &str, value: &dyn Fn(&Witness) -> Option<f64>| {
        out.family(name, Kind::Gauge, help);
        for witness in witnesses {
            if let Some(value) = value(witness) {
                out.sample(&[("witness", &witness.ip)], value);
            }
        }
    };
    each("twobox_witness_reachable", "It answers pings.", &|witness| Some(flag(witness.reachable)));
    each("twobox_witness_reflects", "The boxes hear each other through it.", &|witness| Some(flag(witness.reflects)));
    each("twobox_witness_round_trip_seconds", "Its last round trip.", &|witness| witness.rtt_us.map(micros));
}

fn served(out: &mut Exposition, status: &Status) {
    if !status.addresses.is_empty() {
        out.family("twobox_address_held", Kind::Gauge, "This box holds the service address.");
        for address in &status.addresses {
            out.sample(&[("address", &address.ip)], flag(address.held));
        }
        out.family("twobox_address_conflict", Kind::Gauge, "Another device claims the service address.");
        for address in &status.addresses {
            out.sample(&[("address", &address.ip)], flag(address.conflict.is_some()));
        }
        out.family("twobox_gate_dropped", Kind::Counter, "Frames of the service address that the egress gate dropped.");
        for address in &status.addresses {
            for (direction, frames) in [("out", address.dropped_out), ("in", address.dropped_in)] {
                out.sample(&[("address", &address.ip), ("direction", direction)], count(frames));
            }
        }
    }
    if !status.services.is_empty() {
        out.family("twobox_service_state", Kind::Gauge, "What the service does here: 1 for its state.");
        for service in &status.services {
            let state = words(SERVICES, ServiceState::word);
            states(out, &[("service", &service.name)], "state", &state, service.state);
        }
        out.family("twobox_service_restarts", Kind::Counter, "Starts again since the box became active.");
        for service in &status.services {
            out.sample(&[("service", &service.name)], f64::from(service.restarts));
        }
    }
}

fn trees(out: &mut Exposition, trees: &[Tree]) {
    if trees.is_empty() {
        return;
    }
    let mut each = |name: &str, help: &str, value: &dyn Fn(&Tree) -> Option<f64>| {
        out.family(name, Kind::Gauge, help);
        for tree in trees {
            if let Some(value) = value(tree) {
                out.sample(&[("tree", &tree.tree)], value);
            }
        }
    };
    each("twobox_mirror_cut_age_seconds", "Age of the last cut that the standby has whole.", &|tree| {
        tree.last_cut_ms_ago.map(seconds)
    });
    each("twobox_mirror_lag_seconds", "Age of the oldest change that the standby lacks.", &|tree| {
        tree.lag_ms.map(seconds)
    });
    each("twobox_mirror_current", "The standby's cut is young enough to serve.", &|tree| Some(flag(tree.current)));
    each("twobox_mirror_blocked", "A guard stopped the tree's cycle.", &|tree| {
        Some(flag(tree.state == TreeState::Blocked))
    });
    each("twobox_mirror_files", "Names of the last cut that are no directories.", &|tree| Some(count(tree.files)));
    each("twobox_mirror_cycle_bytes", "What the last cycle sent.", &|tree| Some(count(tree.bytes_sent)));
    each("twobox_mirror_diverged", "Sets of changes that were set aside.", &|tree| Some(count(tree.diverged)));
}

fn handovers(out: &mut Exposition, status: &Status) {
    let counts = status.handovers;
    let both = [("switchover", counts.switchovers), ("failover", counts.failovers)];
    out.family(
        "twobox_handovers",
        Kind::Counter,
        "Outages since the daemon started that this box ended: hand-overs to it, and its own returns.",
    );
    for (kind, counted) in both {
        out.sample(&[("kind", kind)], count(counted.count));
    }
    out.family("twobox_outage_seconds", Kind::Counter, "Length of those outages together.");
    for (kind, counted) in both {
        out.sample(&[("kind", kind)], seconds(counted.outage_ms));
    }
    let Some(last) = &status.last_handover else { return };
    let Handover { detect_ms, fence_wait_ms, total_ms, .. } = *last;
    out.family("twobox_last_handover_seconds", Kind::Gauge, "What the last hand-over took.");
    for (phase, ms) in [("detect", detect_ms), ("fence_wait", fence_wait_ms), ("total", total_ms)] {
        out.sample(&[("phase", phase)], seconds(ms));
    }
    if let Some(ms) = last.ago_ms {
        out.gauge("twobox_last_handover_age_seconds", "How long ago it was.", seconds(ms));
    }
}

fn alarms(out: &mut Exposition, status: &Status) {
    out.family("twobox_alarm", Kind::Gauge, "1 while the alarm stands; the names are those of the manual.");
    for entry in CATALOGUE {
        let stands = status.alarms.iter().any(|alarm| alarm.name == entry.name);
        out.sample(&[("alarm", entry.name)], flag(stands));
    }
    out.gauge("twobox_alarms", "How many alarms stand.", count(status.alarms.len() as u64));
}
