//! Does to the boxes what the plan says.

use super::judge::name;
use super::plan::{Fault, Kind};
use super::rig::hub::Fault as OnLan;
use super::rig::{Cable, Rig, ruin};

/// Does it; returns the boxes whose life ends by it. What an order answers is not judged: it may be refused for good reasons.
pub fn inject(fault: Fault, rig: &mut Rig, active: usize) -> Vec<usize> {
    let hit = if fault.hits_active { active } else { 1 - active };
    let strikes = fault.strikes();
    let struck: Vec<usize> =
        [active, 1 - active].into_iter().zip(strikes).filter(|(_, is)| *is).map(|(index, _)| index).collect();
    rig.timeline.add("rig", format!("{} ({})", fault.name(), name(hit)));
    match fault.kind {
        Kind::PowerCut | Kind::BothOff => struck.iter().for_each(|index| rig.machines[*index].power_cut()),
        Kind::Panic => rig.machines[hit].agent.send(ruin::PANIC),
        Kind::Hang => rig.machines[hit].agent.send(ruin::HANG),
        Kind::Kill => rig.machines[hit].agent.send(ruin::KILL_INIT),
        Kind::Reboot => rig.machines[hit].agent.send("/init reboot"),
        Kind::LanCut => rig.set_cut(Cable::Lan(hit), true),
        Kind::LanLossy => rig.disturb_lan(hit, OnLan { loss: 33, ..OnLan::default() }),
        Kind::CrossoverCut => rig.set_cut(Cable::Crossover, true),
        Kind::NullModemCut => rig.set_cut(Cable::NullModem, true),
        // Of the kernel's magic keys the one that would reset the box.
        Kind::NullModemBreak => rig.break_null_modem(hit, b'b'),
        Kind::AllCutOfOne => cut(rig, &[Cable::NullModem, Cable::Crossover, Cable::Lan(hit)]),
        Kind::AllCut => cut(rig, &[Cable::NullModem, Cable::Crossover, Cable::Lan(0), Cable::Lan(1)]),
        Kind::WitnessOff => rig.set_witness(false),
        Kind::Switchover => rig.machines[active].agent.send("/init switchover"),
    }
    struck
}

fn cut(rig: &mut Rig, cables: &[Cable]) {
    for cable in cables {
        rig.set_cut(*cable, true);
    }
}

/// Every cable is whole again, and the witness is there. Boxes are switched on by whoever waits for them.
pub fn heal(rig: &mut Rig) {
    rig.mend_all();
    for index in [0, 1] {
        rig.disturb_lan(index, OnLan::default());
    }
    rig.set_witness(true);
}
