//! Situations: schedules that make likely what random faults hardly ever meet. Each was drawn up so that one rule at least is
//! all that stands between the two boxes; tests/planted.rs undoes that rule there. Everything in them still varies by seed.

use super::seed::{clock_runs, fasten};
use super::world::Setup;
use super::world::clock::{MS, SECOND, Time, ns};
use super::world::fault::{DiskFault, Fault, Word};
use super::world::machine::Belts;
use super::world::network::Witness;
use super::world::random::Random;
use twobox::node::settings::StaleData;
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
}

impl Situation {
    pub const ALL: [Situation; 19] = [
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
        }
    }

    /// Changes `setup` to what the situation needs and returns its faults in order, and when everything heals.
    pub fn stage(self, setup: &mut Setup, random: &mut Random) -> (Vec<(Time, Fault)>, Time) {
        let mut draft = Draft { setup, random, faults: Vec::new(), end: 0 };
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
            s.round = lease / 20;
            s.prefer = None;
            s.mirrored = false;
            s.panic_text = true;
            s.hold_down = Duration::from_secs(3);
            s.require_reflection = true;
        }
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

    fn glimpse(&mut self) {
        let belts = self.watchdog_only();
        self.fasten_both(belts);
        for s in &mut self.setup.settings {
            // Nobody has been in touch yet, so nothing is proven; but it does reflect.
            s.require_reflection = false;
        }
        let patience = ns(self.setup.settings[A].boot_wait) - self.claim_wait();
        let meet = SECOND + self.claim_wait() + self.between(100 * MS, patience);
        let length = self.between(60, 250) * MS;
        self.cut_all(0, BOTH, meet);
        self.cut_leg(0, A, EVER);
        // What A says comes late, so that B goes on at full rate and its quorum counts through; and soon it comes no more.
        for path in 0..3 {
            self.add(meet, Fault::Loss { path, ways: 1, permille: 850, length });
            self.add(meet, Fault::Delay { path, ways: 1, up_to: self.lease() * 9 / 10, length });
        }
        self.cut_all(meet + length, 1, 30 * SECOND);
        let serves = self.between(self.lease() / 2, self.lease() * 3 / 2);
        self.stand_still(meet + serves, A, EVER);
        self.end = meet + 25 * SECOND;
    }

    /// What may happen between the look before the write of a term and the one after it does so only where there is a write.
    fn nothing_is_reserved_ahead(&mut self) {
        for s in &mut self.setup.settings {
            s.terms_ahead = 0;
        }
    }

    fn seesaw(&mut self) {
        self.nothing_is_reserved_ahead();
        let (lease, wait, round) = (self.lease(), self.claim_wait(), ns(self.setup.settings[A].round));
        let quick = self.random.chance(400);
        let start = SETTLED + self.between(0, SECOND);
        if !quick && self.random.chance(500) {
            let delay = self.between(0, 200 * MS);
            self.add(start.saturating_sub(delay), Fault::Order { side: A, word: Word::Switchover, delay: 0 });
        }
        let mut at = start;
        let mut up = self.random.below(2) as usize;
        let steps = if quick { 80 } else { 12 };
        for _ in 0..steps {
            let length = match self.random.below(5) {
                _ if quick => self.random.pick(&[2, 2, 3]) * round,
                0 => self.between(3, 12) * round,
                1 => lease / 2 + self.between(0, lease),
                2 => self.between(wait, 2 * wait),
                _ => wait + self.between(4 * round, lease),
            };
            self.cut_leg(at, 1 - up, length);
            if !quick && self.random.chance(350) {
                let before = self.between(0, 4 * round);
                self.stand_still(at - before, 1 - up, 3 * wait);
            }
            at += length;
            up = 1 - up;
        }
        self.cut_all(start, BOTH, at - start);
        if !quick {
            for side in [A, B] {
                if self.random.chance(600) {
                    let by = self.random.pick(&[lease, wait, 2 * wait, 4 * wait]);
                    self.add(start - SECOND, Fault::Disk { side, fault: DiskFault::Slow(by), length: at - start });
                }
            }
        }
        self.end = at + SECOND;
    }

    fn swap(&mut self) {
        self.nothing_is_reserved_ahead();
        let (lease, wait, round) = (self.lease(), self.claim_wait(), ns(self.setup.settings[A].round));
        let start = SETTLED + self.between(0, SECOND);
        let apart = start + self.between(100 * MS, 300 * MS);
        // A waits until B, which claims by its vote, would be fenced.
        let swap = apart + wait + self.between(0, lease);
        let written = swap + self.between(2 * round, lease / 2);
        let hangs = Fault::Disk { side: B, fault: DiskFault::Hangs, length: written - start };
        self.add(start, hangs);
        self.add(start, Fault::Order { side: A, word: Word::Switchover, delay: 0 });
        self.cut_all(apart, BOTH, EVER);
        self.cut_leg(apart, B, swap - apart);
        self.cut_leg(swap, A, EVER);
        self.end = swap + 5 * SECOND;
    }

    fn deaf(&mut self) {
        let (deaf, speaking) = if self.random.chance(700) { (B, A) } else { (A, B) };
        let start = SETTLED + self.between(0, SECOND);
        // From the one that still hears, nothing arrives.
        let towards_deaf = if deaf == B { 1 } else { 2 };
        match self.random.below(3) {
            0 => {
                self.cut_all(start, towards_deaf, EVER);
                self.cut_leg(start, deaf, EVER);
            }
            1 => {
                // A witness that relays one way only, and counts because the operator said so.
                for s in &mut self.setup.settings {
                    s.require_reflection = false;
                }
                self.setup.network.witnesses[0].reflects[speaking] = false;
                self.cut_all(start, BOTH, EVER);
            }
            _ => {
                self.cut_all(start, towards_deaf, EVER);
                let ways = self.random.pick(&[1, 2, 3]);
                self.add(start, Fault::LegCut { side: deaf, witness: 0, ways, length: EVER });
            }
        }
        self.end = start + 55 * SECOND;
    }

    fn growth(&mut self) {
        let belts = Belts { gate: true, ..self.watchdog_only() };
        self.fasten_both(belts);
        let start = SETTLED + self.between(0, SECOND);
        let lost = Fault::BeltLoss { side: A, length: EVER };
        if self.random.chance(500) {
            // In touch until a moment before.
            self.cut_all(start, BOTH, EVER);
            self.cut_leg(start, A, EVER);
            let later = self.between(MS, 100 * MS);
            self.add(start + later, lost);
            let still = later + self.between(10 * MS, 400 * MS);
            self.add(start + still, Fault::Stop { side: A, length: EVER });
        } else {
            // Out of touch, and serving again with the longer bound when its leg goes.
            self.cut_all(start, BOTH, EVER);
            let later = self.between(SECOND, 2 * SECOND);
            self.add(start + later, lost);
            let swap = later + ns(self.setup.settings[A].boot_wait) + self.between(2 * SECOND, 4 * SECOND);
            self.cut_leg(start + SECOND / 2, B, swap - SECOND / 2);
            let still = start + swap - self.between(0, 60 * MS);
            self.stand_still(still, A, EVER);
            self.cut_leg(start + swap, A, EVER);
            self.end += swap;
        }
        self.end += start + 20 * SECOND;
    }

    fn wake(&mut self) {
        self.nothing_is_reserved_ahead();
        if self.random.chance(700) {
            // No watchdog: a box may stand still for longer than the other one waits, and wake up.
            self.fasten_both(Belts { gate: true, watchdog: None, lifetime: None });
        }
        let start = SETTLED + self.between(0, SECOND);
        let wait = self.claim_wait();
        self.cut_all(start, BOTH, EVER);
        let mut at = start;
        for _ in 0..4 {
            at += self.between(SECOND, 3 * SECOND);
            let length = self.between(wait, 3 * wait);
            let side = self.random.pick(&[A, B, B]);
            let fault =
                if self.random.chance(600) { Fault::KernelHang { side, length } } else { Fault::Stop { side, length } };
            self.add(at, fault);
            at += length;
            if self.random.chance(800) {
                // The other one stands still at that moment.
                let before = self.between(0, 25 * MS);
                self.stand_still(at - before, 1 - side, 2 * wait);
                at += 3 * wait;
            }
        }
        self.end = at + 4 * SECOND;
    }

    fn orders(&mut self) {
        let mut at = SETTLED;
        for _ in 0..3 {
            for _ in 0..6 {
                let side = self.random.below(2) as usize;
                let word = self.random.pick(&[Word::Switchover, Word::Switchover, Word::Hold, Word::Release]);
                let delay = self.random.pick(&[0, 0, 500, 1000, 2000, 4000]) * MS;
                let wait = self.between(0, SECOND);
                self.add(at + wait, Fault::Order { side, word, delay });
                at += SECOND / 2;
            }
            for side in [A, B] {
                self.add(at + 6 * SECOND, Fault::Order { side, word: Word::Release, delay: 0 });
            }
            at += 7 * SECOND;
        }
        self.end = at + SECOND;
    }

    fn crossing(&mut self) {
        // Only through the witness, and slowly: what either knows of the other is old.
        for s in &mut self.setup.settings {
            s.lease = Duration::from_millis(500);
            s.round = Duration::from_millis(25);
        }
        let belts = self.belts();
        self.fasten_both(belts);
        let by = self.between(20 * MS, 60 * MS);
        for side in [A, B] {
            self.add(SETTLED, Fault::LegDelay { side, witness: 0, ways: BOTH, by, length: EVER });
        }
        self.cut_all(SETTLED, BOTH, EVER);
        let mut at = SETTLED + SECOND;
        for _ in 0..4 {
            self.add(at, Fault::Order { side: B, word: Word::Hold, delay: 0 });
            self.add(at + 300 * MS, Fault::Kill { side: A, restart: 5 * MS });
            at += 320 * MS;
            for _ in 0..40 {
                let side = self.random.below(2) as usize;
                let word = if self.random.chance(500) { Word::Hold } else { Word::Release };
                self.add(at, Fault::Order { side, word, delay: 0 });
                at += self.between(2 * MS, 120 * MS);
            }
            for side in [A, B] {
                self.add(at, Fault::Order { side, word: Word::Release, delay: 0 });
            }
            at += 5 * SECOND;
        }
        self.end = at;
    }

    fn restart(&mut self) {
        let belts = self.watchdog_only();
        self.fasten_both(belts);
        let mut at = SETTLED;
        for _ in 0..4 {
            let side = self.random.below(2) as usize;
            if self.random.chance(500) {
                self.add(at - 10 * MS, Fault::Stuck { side, length: self.setup.boot_time.1 * 2 });
            }
            self.add(at, Fault::Kill { side, restart: 5 * MS });
            if self.random.chance(300) {
                let later = self.between(5 * MS, 300 * MS);
                self.cut_all(at + later, BOTH, 3 * SECOND);
            }
            at += self.between(3 * SECOND, 7 * SECOND);
        }
        self.end = at;
    }

    fn alone(&mut self) {
        let start = SETTLED;
        let by = self.random.pick(&[300, 1000, 3000]) * MS;
        self.add(start, Fault::Disk { side: A, fault: DiskFault::Slow(by), length: EVER });
        let boots = SECOND + self.between(0, 400 * MS);
        let claims = ns(self.setup.settings[A].boot_wait);
        let mut at = start + SECOND;
        if self.random.chance(500) {
            self.add(start, Fault::PowerLoss { side: B, length: EVER });
            for _ in 0..4 {
                self.add(at, Fault::PowerLoss { side: A, length: 10 * MS });
                let later = self.between(0, 2 * by);
                at += boots + claims + later;
            }
        } else {
            // The peer is back when it has just claimed; then its program dies.
            for _ in 0..3 {
                self.add(at, Fault::PowerLoss { side: A, length: 10 * MS });
                let back = claims + self.between(0, by);
                self.add(at, Fault::PowerLoss { side: B, length: back });
                let dies = back + 1_300 * MS + self.between(0, by);
                self.add(at + dies, Fault::Kill { side: A, restart: 5 * MS });
                at += dies + 3 * SECOND;
            }
        }
        self.end = at + SECOND;
    }

    fn drift(&mut self) {
        let fire = 120 * SECOND;
        self.fasten_both(Belts { gate: false, watchdog: Some((fire, 0)), lifetime: None });
        for s in &mut self.setup.settings {
            s.margin = Duration::from_millis(20);
            // Feeds come with every turn, so that the last one can be as late as a right allows.
            s.feed = Duration::from_millis(10);
        }
        self.setup.drift = clock_runs(self.random.pick(&[0, 0, 2, 2, 1]));
        let start = SETTLED + self.between(0, SECOND);
        self.cut_all(start, BOTH, EVER);
        self.cut_leg(start, A, EVER);
        let late = self.lease() - self.between(5 * MS, 60 * MS);
        let length = fire - 40 * MS + self.between(0, 25 * MS);
        self.add(start + late, Fault::StopTwice { side: A, length, again: 2 * fire });
        self.end = start + 2 * fire + 10 * SECOND;
    }

    /// Nothing may move any more when the tape begins.
    fn playback(&mut self) {
        let to = self.random.below(2) as usize;
        // So fast that hardly anything else is heard, or beside what the present life says.
        let pace = self.random.pick(&[1, 4, 16]);
        for side in [A, B] {
            let at = self.between(9 * SECOND, 11 * SECOND);
            self.add(at, Fault::Kill { side, restart: 5 * MS });
        }
        self.add(SETTLED + 12 * SECOND, Fault::Playback { to, length: 10 * SECOND, pace });
        self.end = SETTLED + 26 * SECOND;
    }

    fn tape(&mut self) {
        let start = SETTLED + self.between(0, SECOND);
        self.add(start, Fault::PowerLoss { side: A, length: EVER });
        self.add(start + 10 * MS, Fault::Playback { to: B, length: EVER, pace: 1 });
        self.end = start + 50 * SECOND;
    }

    fn copies(&mut self) {
        for s in &mut self.setup.settings {
            s.mirrored = true;
            s.stale_data = StaleData::Hold;
        }
        let start = SETTLED + self.between(0, SECOND);
        for path in 1..3 {
            self.add(start, Fault::Cut { path, ways: BOTH, length: EVER });
        }
        let mut at = start + SECOND;
        for _ in 0..3 {
            let side = self.random.pick(&[A, A, B]);
            self.add(at, Fault::Kill { side, restart: 5 * MS });
            at += self.between(SECOND, 4 * SECOND);
        }
        let side = self.random.below(2) as usize;
        self.add(at, Fault::PowerLoss { side, length: EVER });
        self.end = at + 15 * SECOND;
    }

    fn text(&mut self) {
        let belts = self.watchdog_only();
        self.fasten_both(belts);
        let mut at = SETTLED;
        for _ in 0..3 {
            let side = self.random.below(2) as usize;
            self.add(at, Fault::Stop { side, length: 5 * SECOND });
            let later = self.between(1_150 * MS, 2 * SECOND);
            self.add(at + later, Fault::OldPanicText { side });
            at += self.between(9 * SECOND, 12 * SECOND);
        }
        self.end = at;
    }

    fn stuck(&mut self) {
        let belts = self.watchdog_only();
        self.fasten_both(belts);
        self.setup.reset_works = false;
        let start = SETTLED + self.between(0, SECOND);
        self.add(start, Fault::Stuck { side: A, length: EVER });
        let later = self.between(0, SECOND);
        self.cut_all(start + later, BOTH, EVER);
        self.cut_leg(start + later, A, EVER);
        self.end = start + 20 * SECOND;
    }

    fn comes_back(&mut self) {
        let start = SETTLED + self.between(0, SECOND);
        // B serves without a quorum: by force, or it is A that serves by B's farewell.
        if self.random.chance(500) {
            self.cut_leg(start, B, 9 * SECOND);
            self.add(start, Fault::PowerLoss { side: A, length: 8 * SECOND });
            self.add(start + 3 * SECOND, Fault::Force { side: B, stays_off: false });
            let apart = start + 14 * SECOND + self.between(0, 3 * SECOND);
            self.cut_all(apart, BOTH, EVER);
            self.cut_leg(apart, B, EVER);
            self.end = apart + 20 * SECOND;
        } else {
            self.add(start, Fault::Leave { side: B, length: 3 * SECOND });
            let apart = start + self.between(SECOND, 8 * SECOND);
            self.cut_all(apart, BOTH, EVER);
            self.cut_leg(apart, A, EVER);
            self.end = apart + 25 * SECOND;
        }
    }

    fn orphan(&mut self) {
        let belts = Belts { gate: true, ..self.watchdog_only() };
        self.fasten_both(belts);
        // Still faster than any watchdog: it is not fed before.
        self.setup.clean_time = 900 * MS;
        let mut at = SETTLED;
        for _ in 0..3 {
            let side = self.random.below(2) as usize;
            self.add(at, Fault::Kill { side, restart: 5 * MS });
            if self.random.chance(700) {
                self.cut_all(at, BOTH, 4 * SECOND);
            }
            let later = self.between(6 * MS, SECOND);
            self.add(at + later, Fault::BeltLoss { side, length: 3 * SECOND });
            at += self.between(9 * SECOND, 14 * SECOND);
        }
        self.end = at;
    }

    fn reinstalled(&mut self) {
        let knows_witness = self.random.chance(500);
        for s in &mut self.setup.settings {
            s.mirrored = true;
            // The proof that the witness reflects goes with the record.
            s.require_reflection = !knows_witness;
        }
        let mut at = SETTLED;
        for n in 0..self.random.between(0, 3) {
            let side = n as usize % 2;
            self.add(at, Fault::Order { side, word: Word::Switchover, delay: 0 });
            at += 6 * SECOND;
        }
        let boots = self.setup.boot_time.1;
        let alone = ns(self.setup.settings[A].boot_wait) + boots + 2 * SECOND;
        match self.random.below(3) {
            // Neither knows anything, and their mirrors are still reading when they meet.
            0 => {
                for side in [A, B] {
                    let length = self.between(MS, SECOND);
                    self.add(at, Fault::StateLoss { side, length });
                }
            }
            // Nobody is there who could tell.
            1 => {
                let side = self.random.below(2) as usize;
                self.add(at, Fault::PowerLoss { side: 1 - side, length: EVER });
                self.add(at, Fault::StateLoss { side, length: 10 * MS });
            }
            // Whoever is there was not when the last terms were served.
            _ => {
                let side = self.random.below(2) as usize;
                let lives = self.random.between(1, 3);
                let off = lives * alone + SECOND;
                self.add(at, Fault::PowerLoss { side: 1 - side, length: off });
                for n in 0..lives {
                    self.add(at + n * alone, Fault::PowerLoss { side, length: 10 * MS });
                }
                let back = self.between(MS, boots);
                self.add(at + lives * alone, Fault::StateLoss { side, length: SECOND + back });
                at += off;
            }
        }
        self.end = at + alone + 10 * SECOND;
    }
}
