//! Six states of a pair, for the snapshots of everything that shows a status.

use std::path::Path;

use twobox::console::status::*;

fn link(name: &str, kind: LinkKind, heard: Option<u64>) -> Link {
    Link {
        name: name.into(),
        kind,
        up: heard.is_some_and(|age| age < 1_000),
        heard_ms_ago: heard,
        lost: 0,
        late: 0,
        rejected: 0,
        heard: 0,
        sent: 0,
        dropped: 0,
        finding: None,
    }
}

fn address(ip: &str, dropped_in: u64) -> Address {
    Address { ip: ip.into(), held: true, conflict: None, dropped_out: 0, dropped_in }
}

fn tree(path: &str, cut: u64) -> Tree {
    Tree {
        tree: path.into(),
        direction: Direction::Send,
        last_cut_ms_ago: Some(cut),
        lag_ms: Some(cut),
        state: TreeState::Idle,
        files: 48_211,
        bytes_sent: 1_284_000,
        diverged: 0,
        current: true,
        reason: None,
        cause: None,
    }
}

fn alarm(name: &str, since_ms: u64) -> Alarm {
    let text = twobox::console::alarm::find(name).expect("an alarm of the catalogue").text;
    Alarm { since_ms, text: text.into(), name: name.into() }
}

/// All is well, seen from the box that serves.
pub fn peace() -> Status {
    Status {
        version: "0.1.0".into(),
        pair: "office".into(),
        node: "a".into(),
        role: Role::Active,
        since_ms: 277_000_000,
        held_by: vec![],
        term: 7,
        right: Right { kind: RightKind::Lease, remaining_ms: Some(412) },
        fence: Fence {
            watchdog: Some(Watchdog {
                device: "/dev/watchdog0".into(),
                identity: "i6300ESB timer".into(),
                timeout_ms: 2_000,
                last_reset: ResetCause::Power,
            }),
            egress_gate: Gate::Open,
            bound_ms: Some(1),
            bound_by: BoundBy::Gate,
            fenced: true,
            gate_repairs: 0,
            raw_belt: true,
            last_pass_ms_ago: Some(3),
        },
        peer: Peer { node: "b".into(), role: Role::Standby, heard_ms_ago: Some(23), config_matches: Some(true) },
        links: vec![
            link("null-modem", LinkKind::Serial, Some(80)),
            link("crossover", LinkKind::Ethernet, Some(23)),
            link("lan", LinkKind::Ethernet, Some(24)),
            link("reflected:192.0.2.1", LinkKind::Reflected, Some(131)),
        ],
        witnesses: vec![Witness {
            ip: "192.0.2.1".into(),
            reachable: true,
            reflects: true,
            rtt_us: Some(412),
            limits: false,
        }],
        addresses: vec![address("192.0.2.10/24", 312), address("2001:db8::10/64", 0)],
        services: vec![Service { name: "web".into(), state: ServiceState::Running, restarts: 0 }],
        mirror: vec![tree("/data/mail", 12_400), tree("/data", 1_860_000)],
        quorum: true,
        takeover: Takeover { ready: true, blocked_by: vec![] },
        last_handover: Some(Handover {
            kind: HandoverKind::Switchover,
            reason: "ordered by the operator".into(),
            detect_ms: 0,
            fence_wait_ms: 0,
            total_ms: 4,
            ago_ms: Some(277_000_000),
            term: 7,
            to: "a".into(),
            steps: vec![],
        }),
        handovers: Handovers::default(),
        alarms: vec![],
        image: None,
        last_panic: None,
        last_reset: ResetCause::Power,
        mirror_confinement: Some("capabilities, files (landlock 7), calls; without devices".into()),
        observe_confinement: Some("capabilities, files (landlock 7), calls".into()),
        update_confinement: None,
        console_confinement: Some("capabilities, files (landlock 7), calls; without devices".into()),
        cluster_loop: ClusterLoop::default(),
    }
}

/// All is well, seen from the spare.
pub fn standby() -> Status {
    let mut status = peace();
    status.node = "b".into();
    status.role = Role::Standby;
    status.right = Right { kind: RightKind::None, remaining_ms: None };
    status.fence.egress_gate = Gate::Closed;
    status.peer = Peer { node: "a".into(), role: Role::Active, heard_ms_ago: Some(23), config_matches: Some(true) };
    status.addresses.iter_mut().for_each(|address| address.held = false);
    status.services[0].state = ServiceState::Stopped;
    status.mirror.iter_mut().for_each(|tree| tree.direction = Direction::Receive);
    status
}

/// The peer has died and was taken over.
pub fn alone() -> Status {
    let mut status = standby();
    status.role = Role::Active;
    status.since_ms = 95_000;
    status.term = 8;
    status.right = Right { kind: RightKind::Quorum, remaining_ms: Some(230) };
    status.fence.egress_gate = Gate::Open;
    status.peer.heard_ms_ago = Some(96_000);
    for link in &mut status.links {
        link.up = false;
        link.heard_ms_ago = Some(96_000);
        link.lost = 1_900;
    }
    status.addresses.iter_mut().for_each(|address| address.held = true);
    status.services[0].state = ServiceState::Running;
    for tree in &mut status.mirror {
        tree.direction = Direction::Send;
        tree.current = false;
        tree.last_cut_ms_ago = Some(tree.last_cut_ms_ago.unwrap_or(0) + 95_000);
    }
    status.takeover = Takeover { ready: false, blocked_by: vec!["a is not heard".into()] };
    status.last_handover = Some(Handover {
        kind: HandoverKind::Failover,
        reason: "a fell silent".into(),
        detect_ms: 500,
        fence_wait_ms: 52,
        total_ms: 561,
        ago_ms: Some(95_000),
        term: 8,
        to: "b".into(),
        steps: vec![
            Step { name: "detect".into(), us: 500_120 },
            Step { name: "wait".into(), us: 52_000 },
            Step { name: "claim".into(), us: 8_400 },
            Step { name: "address".into(), us: 61 },
            Step { name: "announce".into(), us: 40 },
        ],
    });
    status.alarms = vec![alarm("peer-silent", 95_500)];
    status
}

/// The spare is held for maintenance.
pub fn held() -> Status {
    let mut status = standby();
    let hold = "held by the operator (`release` ends it)";
    status.role = Role::Held;
    status.since_ms = 5_400_000;
    status.held_by = vec![hold.into()];
    status.takeover = Takeover { ready: false, blocked_by: vec![hold.into()] };
    status
}

/// The spare waits until the silent peer is surely fenced.
pub fn claiming() -> Status {
    let mut status = standby();
    status.role = Role::Claiming;
    status.since_ms = 1_850;
    status.peer.heard_ms_ago = Some(2_350);
    for link in &mut status.links {
        link.up = false;
        link.heard_ms_ago = Some(2_400);
        link.lost = 40;
    }
    status.takeover = Takeover { ready: false, blocked_by: vec!["it waits another 2.2 s for a's fence".into()] };
    status.alarms = vec![alarm("peer-silent", 1_850)];
    status
}

/// Whatever can be wrong at once.
pub fn trouble() -> Status {
    let mut status = peace();
    status.fence = Fence {
        watchdog: None,
        egress_gate: Gate::Absent,
        bound_ms: Some(4_400),
        bound_by: BoundBy::AddressLease,
        fenced: false,
        gate_repairs: 0,
        raw_belt: false,
        last_pass_ms_ago: None,
    };
    status.peer.config_matches = Some(false);
    status.peer.role = Role::Held;
    status.links[0] = Link {
        finding: Some("wrong baud rate".into()),
        rejected: 90_211,
        ..link("null-modem", LinkKind::Serial, None)
    };
    status.links[3].late = 17;
    status.witnesses[0].reflects = false;
    let dead = Witness { ip: "2001:db8::1".into(), reachable: false, reflects: false, rtt_us: None, limits: false };
    status.witnesses.push(dead);
    status.addresses[0].conflict = Some("02:00:5e:00:53:01".into());
    status.services[0] = Service { name: "web".into(), state: ServiceState::Failed, restarts: 12 };
    status.mirror[0].state = TreeState::Blocked;
    status.mirror[0].current = false;
    status.mirror[0].cause = Some(twobox::console::status::Cause::Guard);
    status.mirror[0].reason = Some("47,100 of 48,211 files would be deleted, more than 25 %".into());
    status.mirror[1].diverged = 3;
    status.takeover = Takeover {
        ready: false,
        blocked_by: vec![
            "b: a local service fails, or did a moment ago".into(),
            "/data/mail is not current on b".into(),
            "too few witnesses are proven to reflect".into(),
        ],
    };
    status.alarms = vec![
        alarm("unfenced", 277_000_000),
        alarm("config-differs", 600_000),
        alarm("service", 31_000),
        alarm("address-conflict", 2_400),
        alarm("mirror-blocked", 45_000),
    ];
    status
}

/// All six, with the names of their snapshots.
pub fn all() -> [(&'static str, Status); 6] {
    [
        ("peace", peace()),
        ("standby", standby()),
        ("alone", alone()),
        ("held", held()),
        ("claiming", claiming()),
        ("trouble", trouble()),
    ]
}

/// Compares with the snapshot in tests/operator/snapshots; with UPDATE_SNAPSHOTS set, writes it instead.
pub fn assert_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operator/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("make the directory");
        std::fs::write(&path, text).expect("write the snapshot");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{name} differs from its snapshot; now it is\n{text}\nand was\n{kept}");
}
