//! What is done to the boxes in one step: the dice alone decide it.

use std::time::Duration;

use crate::dice::Dice;

/// A fault or an order, and the box that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// The box that serves, or the other one.
    pub hits_active: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    PowerCut,
    BothOff,
    Panic,
    Hang,
    Kill,
    Reboot,
    LanCut,
    LanLossy,
    CrossoverCut,
    NullModemCut,
    NullModemBreak,
    AllCutOfOne,
    AllCut,
    WitnessOff,
    Switchover,
}

pub const KINDS: [Kind; 15] = [
    Kind::PowerCut,
    Kind::BothOff,
    Kind::Panic,
    Kind::Hang,
    Kind::Kill,
    Kind::Reboot,
    Kind::LanCut,
    Kind::LanLossy,
    Kind::CrossoverCut,
    Kind::NullModemCut,
    Kind::NullModemBreak,
    Kind::AllCutOfOne,
    Kind::AllCut,
    Kind::WitnessOff,
    Kind::Switchover,
];

/// What a step that begins at once is called beside its faults.
const NO_REST: &str = "no rest before";

/// One step.
#[derive(Debug)]
pub struct Plan {
    /// One, now and then two at once. No box is struck twice: the second blow would hit nothing.
    pub faults: Vec<Fault>,
    /// It begins when both boxes have been up for long enough for a claim in silence; else as soon as the pair is well.
    pub rested: bool,
    /// From the faults until every cable is whole and every box is on again.
    pub lasts: Duration,
}

impl Plan {
    pub fn draw(dice: &mut Dice) -> Plan {
        let mut one = || Fault { kind: KINDS[dice.roll(KINDS.len() as u64) as usize], hits_active: dice.roll(2) == 0 };
        let (first, second) = (one(), one());
        let two = dice.roll(4) == 0 && second.kind != first.kind && !first.strikes_with(second);
        let rested = dice.roll(4) != 0;
        // Up to six leases of the rig's site.
        let lasts = Duration::from_millis(250 * (1 + dice.roll(48)));
        Plan { faults: if two { vec![first, second] } else { vec![first] }, rested, lasts }
    }

    /// What it is called in the totals: a step that begins at once is not counted among those with one fault alone.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.faults.iter().map(|fault| fault.name()).collect();
        if !self.rested {
            names.push(NO_REST);
        }
        names
    }
}

impl Fault {
    /// Whether it ends a life of the active, and of the standby.
    pub fn strikes(self) -> [bool; 2] {
        match self.kind {
            Kind::BothOff => [true, true],
            Kind::PowerCut | Kind::Panic | Kind::Hang | Kind::Kill | Kind::Reboot => {
                [self.hits_active, !self.hits_active]
            }
            _ => [false, false],
        }
    }

    fn strikes_with(self, other: Fault) -> bool {
        self.strikes().iter().zip(other.strikes()).any(|(one, two)| *one && two)
    }

    pub fn name(self) -> &'static str {
        match (self.kind, self.hits_active) {
            (Kind::PowerCut, true) => "power cut of the active",
            (Kind::PowerCut, false) => "power cut of the standby",
            (Kind::BothOff, _) => "both off and on",
            (Kind::Panic, true) => "kernel panic of the active",
            (Kind::Panic, false) => "kernel panic of the standby",
            (Kind::Hang, true) => "hang of the active",
            (Kind::Hang, false) => "hang of the standby",
            (Kind::Kill, true) => "PID 1 of the active killed",
            (Kind::Kill, false) => "PID 1 of the standby killed",
            (Kind::Reboot, true) => "active rebooted in order",
            (Kind::Reboot, false) => "standby rebooted in order",
            (Kind::LanCut, true) => "LAN of the active cut",
            (Kind::LanCut, false) => "LAN of the standby cut",
            (Kind::LanLossy, true) => "a third lost on the LAN of the active",
            (Kind::LanLossy, false) => "a third lost on the LAN of the standby",
            (Kind::CrossoverCut, _) => "crossover cut",
            (Kind::NullModemCut, _) => "null modem cut",
            (Kind::NullModemBreak, true) => "break on the null modem, heard by the active",
            (Kind::NullModemBreak, false) => "break on the null modem, heard by the standby",
            (Kind::AllCutOfOne, true) => "all cables of the active cut",
            (Kind::AllCutOfOne, false) => "all cables of the standby cut",
            (Kind::AllCut, _) => "all cables of both cut",
            (Kind::WitnessOff, _) => "witness off",
            (Kind::Switchover, _) => "switchover ordered",
        }
    }
}
