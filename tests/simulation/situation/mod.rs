//! Situations: schedules that make likely what random faults hardly ever meet. Each was drawn up so that one rule at least is
//! all that stands between the two boxes; tests/planted.rs undoes that rule there. Everything in them still varies by seed.

mod apart;
mod crash;
mod data;
mod recorded;
mod words;

use super::seed::{dwell, fasten, rounds_in_a_lease};
use super::world::Setup;
use super::world::clock::{MS, SECOND, Time, ns};
use super::world::fault::Fault;
use super::world::machine::Belts;
use super::world::network::Witness;
use super::world::random::Random;
use twobox::time::Duration;

/// What is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Situation {
    /// Two boxes meet for a moment while both boot, and one is voted for and stands still.
    Glimpse,
    /// Legs to the witness go up and down in turn, now fast, now slowly, with slow disks and boxes that stand still.
    Seesaw,
    /// One box does not hear and still speaks.
    Deaf,
    /// A box loses its gate, in touch and out of touch, and stands still.
    Growth,
    /// A box stands still for longer than any wait, and wakes up.
    Wake,
    /// Orders are under way while roles change.
    Orders,
    /// Held and released again and again while votes are under way.
    Crossing,
    /// The program is killed and starts at once, while its addresses are still up.
    Restart,
    /// A box without its peer loses power while it claims.
    Alone,
    /// Clocks drift at the bound, and a box is silent for as long as its watchdog allows.
    Drift,
    /// A tape of a former life is played, at its pace or faster, to a box that does not know that life.
    Playback,
    /// The active dies, and a tape of its present life is played.
    Tape,
    /// The data of the standby get old, and then it is alone.
    Copies,
    /// A text is read on the null modem while its sender stands still.
    Text,
    /// Addresses do not come down, and neither does the box.
    Stuck,
    /// A forced or a left box comes back, and is cut off again.
    Return,
    /// The active's program is killed, and its next life takes long to take down what was left up.
    Orphan,
    /// State directories are lost and the data are kept.
    Reinstalled,
    /// A hand-over waits for its disk until the voter serves again and the legs to the witness have changed places.
    Swap,
    /// A disk takes what is to be written and does not answer.
    Stalled,
}

impl Situation {
    pub const ALL: [Situation; 20] = [
        Situation::Glimpse,
        Situation::Seesaw,
        Situation::Deaf,
        Situation::Growth,
        Situation::Wake,
        Situation::Orders,
        Situation::Crossing,
        Situation::Restart,
        Situation::Alone,
        Situation::Drift,
        Situation::Playback,
        Situation::Tape,
        Situation::Copies,
        Situation::Text,
        Situation::Stuck,
        Situation::Return,
        Situation::Orphan,
        Situation::Reinstalled,
        Situation::Swap,
        Situation::Stalled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Situation::Glimpse => "glimpse",
            Situation::Seesaw => "seesaw",
            Situation::Deaf => "deaf",
            Situation::Growth => "growth",
            Situation::Wake => "wake",
            Situation::Orders => "orders",
            Situation::Crossing => "crossing",
            Situation::Restart => "restart",
            Situation::Alone => "alone",
            Situation::Drift => "drift",
            Situation::Playback => "playback",
            Situation::Tape => "tape",
            Situation::Copies => "copies",
            Situation::Text => "text",
            Situation::Stuck => "stuck",
            Situation::Return => "return",
            Situation::Orphan => "orphan",
            Situation::Reinstalled => "reinstalled",
            Situation::Swap => "swap",
            Situation::Stalled => "stalled",
        }
    }

    /// Changes `setup` to what the situation needs and returns its faults in order, and when everything heals.
    pub fn stage(self, setup: &mut Setup, random: &mut Random) -> (Vec<(Time, Fault)>, Time) {
        let mut draft = Draft { rounds: rounds_in_a_lease(setup.seed), setup, random, faults: Vec::new(), end: 0 };
        draft.plain();
        match self {
            Situation::Glimpse => draft.glimpse(),
            Situation::Seesaw => draft.seesaw(),
            Situation::Deaf => draft.deaf(),
            Situation::Growth => draft.growth(),
            Situation::Wake => draft.wake(),
            Situation::Orders => draft.orders(),
            Situation::Crossing => draft.crossing(),
            Situation::Restart => draft.restart(),
            Situation::Alone => draft.alone(),
            Situation::Drift => draft.drift(),
            Situation::Playback => draft.playback(),
            Situation::Tape => draft.tape(),
            Situation::Copies => draft.copies(),
            Situation::Text => draft.text(),
            Situation::Stuck => draft.stuck(),
            Situation::Return => draft.comes_back(),
            Situation::Orphan => draft.orphan(),
            Situation::Reinstalled => draft.reinstalled(),
            Situation::Swap => draft.swap(),
            Situation::Stalled => draft.stalled(),
        }
        let (mut faults, end) = (draft.faults, draft.end);
        faults.sort_by_key(|f| f.0);
        (faults, end)
    }
}

const A: usize = 0;
const B: usize = 1;
/// Both directions.
const BOTH: u8 = 3;
/// Longer than any situation.
const EVER: Time = 1_000 * SECOND;
/// By then A serves and B follows, whatever the seed.
const SETTLED: Time = 14 * SECOND;

struct Draft<'a> {
    setup: &'a mut Setup,
    random: &'a mut Random,
    /// Rounds in a lease as the seed draws them; situations have the default's unless they ask for these.
    rounds: u32,
    faults: Vec<(Time, Fault)>,
    end: Time,
}

impl Draft<'_> {
    /// A pair like any other: all links, one quick witness, nothing mirrored, A elected.
    fn plain(&mut self) {
        let lease = self.setup.settings[A].lease;
        for s in &mut self.setup.settings {
            s.lease = lease;
            s.intervals = [Some(Duration::from_millis(100)), Some(lease / 10), Some(lease / 10)];
            s.prefer = None;
            s.digest = 1;
            s.mirrored = false;
            s.panic_text = true;
            s.hold_down = Duration::from_secs(3);
            s.require_reflection = true;
        }
        self.round_is(lease / 20);
        for lines in &mut self.setup.network.lines {
            for line in lines {
                line.present = true;
            }
        }
        for line in &mut self.setup.network.lines[0] {
            line.frame_time = 18_750_000;
        }
        self.witnesses(1);
        self.setup.boot_time = (SECOND, 1_300 * MS);
        let belts = self.belts();
        let patience = self.random.between(1, 5) * SECOND;
        fasten(self.setup, [belts; 2], patience);
    }

    fn witnesses(&mut self, n: u8) {
        for s in &mut self.setup.settings {
            s.witnesses = n;
        }
        for witness in &mut self.setup.network.witnesses {
            let latency = self.random.between(MS / 10, 2 * MS);
            *witness = Witness { reflects: [true, true], latency, ..Witness::default() };
        }
    }

    fn belts(&mut self) -> Belts {
        if self.random.chance(500) { self.watchdog_only() } else { Belts { gate: true, ..self.watchdog_only() } }
    }

    fn watchdog_only(&mut self) -> Belts {
        let fire = self.random.pick(&[1100u64, 2000, 3000]) * MS;
        Belts { gate: false, watchdog: Some((fire, 50 * MS)), lifetime: None }
    }

    fn fasten_both(&mut self, belts: Belts) {
        let patience = self.random.between(1, 5) * SECOND;
        fasten(self.setup, [belts; 2], patience);
    }

    fn round_is(&mut self, round: Duration) {
        for s in &mut self.setup.settings {
            s.round = round;
        }
        self.setup.network.dwell = dwell(ns(round));
    }

    fn lease(&self) -> Time {
        ns(self.setup.settings[A].lease)
    }

    fn claim_wait(&self) -> Time {
        let s = &self.setup.settings[A];
        s.claim_wait(s.lease, s.fence).map_or(SECOND, ns)
    }

    fn between(&mut self, low: Time, high: Time) -> Time {
        self.random.between(low, high)
    }

    fn add(&mut self, at: Time, fault: Fault) {
        self.faults.push((at, fault));
    }

    fn cut_all(&mut self, at: Time, ways: u8, length: Time) {
        for path in 0..3 {
            self.add(at, Fault::Cut { path, ways, length });
        }
    }

    fn cut_leg(&mut self, at: Time, side: usize, length: Time) {
        self.add(at, Fault::LegCut { side, witness: 0, ways: BOTH, length });
    }

    /// The box stands still, in one way or the other.
    fn stand_still(&mut self, at: Time, side: usize, length: Time) {
        let fault = match self.random.below(3) {
            0 => Fault::KernelHang { side, length },
            1 => Fault::StopInTurn { side, length },
            _ => Fault::Stop { side, length },
        };
        self.add(at, fault);
    }

    /// What may happen between the look before the write of a term and the one after it does so only where there is a write.
    fn nothing_is_reserved_ahead(&mut self) {
        for s in &mut self.setup.settings {
            s.terms_ahead = 0;
        }
    }
}
