//! What is done to the pair.

use std::thread;

use nix::sys::signal::Signal;
use twobox::console::control::Request;
use twobox::console::status::Role;
use twobox::fence::gate::bpf;
use twobox::fence::gate::layout::Direction;
use twobox::time::Duration;

use crate::dice::Dice;
use crate::rig::wire;
use crate::rig::{Rig, must, other};

/// A fault or an order, and the box that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    /// The box that serves, or the other one.
    hits_active: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PowerLoss,
    Kill,
    Stop,
    Leave,
    NullModemCut,
    NullModemNoise,
    CrossoverCut,
    LanCut,
    LanDeaf,
    LanMute,
    LanLossy,
    AllLinksCut,
    WitnessDown,
    GateStolen,
    ServiceKilled,
    Switchover,
    Hold,
    Drill,
}

const KINDS: [Kind; 18] = [
    Kind::PowerLoss,
    Kind::Kill,
    Kind::Stop,
    Kind::Leave,
    Kind::NullModemCut,
    Kind::NullModemNoise,
    Kind::CrossoverCut,
    Kind::LanCut,
    Kind::LanDeaf,
    Kind::LanMute,
    Kind::LanLossy,
    Kind::AllLinksCut,
    Kind::WitnessDown,
    Kind::GateStolen,
    Kind::ServiceKilled,
    Kind::Switchover,
    Kind::Hold,
    Kind::Drill,
];

impl Fault {
    /// One fault, now and then two at once.
    pub fn draw(dice: &mut Dice) -> Vec<Fault> {
        let mut one = || Fault { kind: KINDS[dice.roll(KINDS.len() as u64) as usize], hits_active: dice.roll(2) == 0 };
        let first = one();
        let second = one();
        let both = dice.roll(4) == 0 && second.kind != first.kind;
        if both { vec![first, second] } else { vec![first] }
    }

    /// What it is called in the totals.
    pub fn name(&self) -> &'static str {
        match (self.kind, self.hits_active) {
            (Kind::PowerLoss, true) => "power loss of the active",
            (Kind::PowerLoss, false) => "power loss of the standby",
            (Kind::Kill, true) => "active killed",
            (Kind::Kill, false) => "standby killed",
            (Kind::Stop, true) => "active stopped and resumed",
            (Kind::Stop, false) => "standby stopped and resumed",
            (Kind::Leave, true) => "active leaves in order",
            (Kind::Leave, false) => "standby leaves in order",
            (Kind::NullModemCut, _) => "null modem cut",
            (Kind::NullModemNoise, _) => "noise on the null modem",
            (Kind::CrossoverCut, _) => "crossover cut",
            (Kind::LanCut, true) => "LAN of the active cut",
            (Kind::LanCut, false) => "LAN of the standby cut",
            (Kind::LanDeaf, true) => "active deaf on the LAN",
            (Kind::LanDeaf, false) => "standby deaf on the LAN",
            (Kind::LanMute, true) => "active mute on the LAN",
            (Kind::LanMute, false) => "standby mute on the LAN",
            (Kind::LanLossy, _) => "a third lost on the LAN",
            (Kind::AllLinksCut, true) => "all cables of the active cut",
            (Kind::AllLinksCut, false) => "all cables of the standby cut",
            (Kind::WitnessDown, _) => "witness down",
            (Kind::GateStolen, true) => "gate of the active taken away",
            (Kind::GateStolen, false) => "gate of the standby taken away",
            (Kind::ServiceKilled, true) => "service of the active killed",
            (Kind::ServiceKilled, false) => "service of the standby killed",
            (Kind::Switchover, _) => "switchover ordered",
            (Kind::Hold, true) => "active held and released",
            (Kind::Hold, false) => "standby held and released",
            (Kind::Drill, _) => "drill ordered",
        }
    }

    /// The box that it hits; `a` stands for the active one while nobody serves.
    fn node(self, rig: &Rig) -> &'static str {
        let active = ["a", "b"].into_iter().find(|node| rig.role(node) == Some(Role::Active)).unwrap_or("a");
        if self.hits_active { active } else { other(active) }
    }

    /// Does it. What an order answers is not judged: it may be refused for good reasons.
    pub fn inject(self, rig: &mut Rig, dice: &mut Dice) {
        let node = self.node(rig);
        match self.kind {
            Kind::PowerLoss if rig.runs(node) => drop(rig.power_off(node)),
            Kind::Kill if rig.runs(node) => rig.kill(node),
            Kind::Leave if rig.runs(node) => rig.signal(node, Signal::SIGTERM),
            Kind::Stop if rig.runs(node) => {
                // From a tenth of the lease of the default profile to six of them.
                rig.signal(node, Signal::SIGSTOP);
                thread::sleep(Duration::from_millis(50 * (1 + dice.roll(60))));
                rig.signal(node, Signal::SIGCONT);
            }
            Kind::PowerLoss | Kind::Kill | Kind::Leave | Kind::Stop => {}
            Kind::NullModemCut => rig.null_modem.set(|_| false),
            Kind::NullModemNoise => rig.null_modem.set(|bytes| {
                bytes.iter_mut().for_each(|byte| *byte = byte.rotate_left(3) ^ 0x8d);
                true
            }),
            Kind::CrossoverCut => drop(rig.ip("a", "link set cross down")),
            Kind::LanCut => drop(rig.ip("lan", &format!("link set dev {node} down"))),
            Kind::LanDeaf => filter(rig, &format!("oifname {node} drop")),
            Kind::LanMute => filter(rig, &format!("iifname {node} drop")),
            Kind::LanLossy => filter(rig, "numgen random mod 100 < 33 drop"),
            Kind::AllLinksCut => {
                rig.null_modem.set(|_| false);
                rig.ip("a", "link set cross down");
                rig.ip("lan", &format!("link set dev {node} down"));
            }
            Kind::WitnessDown => drop(rig.ip("lan", "link set dev witness down")),
            Kind::GateStolen => steal_gate(rig, node),
            Kind::ServiceKilled => rig.kill_service(node),
            Kind::Switchover => drop(rig.order(node, &Request::Switchover { lose_changes: false })),
            Kind::Hold => drop(rig.order(node, &Request::Hold { reason: Some("soak".to_owned()) })),
            Kind::Drill => drop(rig.order(node, &Request::Drill)),
        }
    }

    /// Every cable is whole again, whatever else was done in the same step. Boxes are started by the audit.
    pub fn heal(rig: &Rig) {
        rig.null_modem.set(|_| true);
        for node in ["a", "b"] {
            rig.ip("lan", &format!("link set dev {node} up"));
            rig.ip(node, "link set lan up");
            rig.ip(node, "link set cross up");
        }
        rig.ip("lan", "link set dev witness up");
        let _ = nft(rig, "delete table bridge fault");
    }
}

fn nft(rig: &Rig, words: &str) -> std::process::ExitStatus {
    let net = format!("--net=/run/netns/{}-lan", rig.name);
    let mut command = std::process::Command::new("nsenter");
    command.args([&net, "nft", words]).stderr(std::process::Stdio::null());
    command.status().expect("nft")
}

/// A rule for what the bridge forwards.
fn filter(rig: &Rig, rule: &str) {
    let _ = nft(rig, "delete table bridge fault");
    let hook = "type filter hook forward priority 0;";
    assert!(nft(rig, &format!("table bridge fault {{ chain forward {{ {hook} {rule}; }}; }}")).success(), "{rule}");
}

/// Somebody removes the gate's program from the LAN.
fn steal_gate(rig: &Rig, node: &'static str) {
    let name = rig.name.clone();
    let thieve = move || {
        wire::enter(&name, node);
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        for id in bpf::attached(index, Direction::Egress).unwrap_or_default() {
            if let Ok(program) = bpf::Program::open(id) {
                let _ = bpf::detach(index, Direction::Egress, &program);
            }
        }
    };
    thread::spawn(thieve).join().unwrap();
}

/// For faults that hit a process of a box by its command line.
impl Rig {
    /// Kills the service's process.
    fn kill_service(&self, node: &str) {
        for pid in must(&format!("ip netns pids {}-{node}", self.name)).lines() {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains("responder.py") {
                let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            }
        }
    }
}
