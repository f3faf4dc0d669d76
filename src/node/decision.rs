//! The decision: a table over a small view. Exactly one row matches every view (a test enumerates all of them).

use crate::wire::pair::Role;

/// Everything that a decision rests on, as yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What we are.
    pub role: Role,
    /// The set of facts, see [`Fact`].
    pub facts: u16,
}

/// One yes-or-no of a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Fact {
    /// An unexpired right.
    Right = 1 << 0,
    /// Service addresses confirmed down, gate closed, queues drained, and nothing ordered up since.
    Down = 1 << 1,
    /// There is a reason to be held.
    Hold = 1 << 2,
    /// A usable vote for us.
    Vote = 1 << 3,
    /// Silence, quorum and serveable data: a claim may begin.
    Silent = 1 << 4,
    /// Joined: in touch, or long enough alone.
    Joined = 1 << 5,
    /// The operator forces us.
    Force = 1 << 6,
    /// The claim under way must be given up.
    Broken = 1 << 7,
    /// Every condition of the claim under way is met.
    Ready = 1 << 8,
    /// The claim's term is being written.
    Writing = 1 << 9,
    /// The claim's term is on disk.
    Written = 1 << 10,
    /// A surrender is wanted and possible.
    Surrender = 1 << 11,
    /// A fresh Active peer of a higher (term, node) is heard.
    Outranked = 1 << 12,
    /// The fence has been ordered.
    Fenced = 1 << 13,
    /// The addresses should have been confirmed down long ago.
    Overdue = 1 << 14,
}

/// Number of facts.
pub const FACTS: u32 = 15;

impl View {
    /// A view without any fact.
    #[must_use]
    pub const fn new(role: Role) -> View {
        View { role, facts: 0 }
    }

    /// The view with `fact` set if `on`.
    #[must_use]
    pub const fn with(self, fact: Fact, on: bool) -> View {
        View { role: self.role, facts: if on { self.facts | fact as u16 } else { self.facts & !(fact as u16) } }
    }
}

/// What to do about a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Stay,
    /// Become Held.
    Hold,
    /// Become Standby.
    StandBy,
    /// Become Claiming with the peer's vote, and reserve its term.
    ClaimByVote,
    /// Become Claiming and wait.
    ClaimInSilence,
    /// Become Claiming by the operator's word, and reserve a term.
    ClaimByForce,
    /// Reserve the claim's term on disk.
    Reserve,
    /// Give the claim up; burn its term if one was reserved.
    Abort,
    /// Become Active.
    Serve,
    /// Begin an orderly surrender.
    Yield,
    /// Begin a fence.
    Fence,
    /// Reset the machine.
    Reset,
}

/// One row: matches if the role is `role` and the facts under `mask` are exactly `value`.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its label, as it stands in the log.
    pub name: &'static str,
    role: Role,
    mask: u16,
    value: u16,
    /// What is done.
    pub decision: Decision,
}

const fn bits(facts: &[Fact]) -> u16 {
    let mut set = 0;
    let mut i = 0;
    while i < facts.len() {
        set |= facts[i] as u16;
        i += 1;
    }
    set
}

const fn row(name: &'static str, role: Role, yes: &[Fact], no: &[Fact], decision: Decision) -> Row {
    assert!(bits(yes) & bits(no) == 0);
    Row { name, role, mask: bits(yes) | bits(no), value: bits(yes), decision }
}

use Decision as D;
use Fact::{
    Broken, Down, Fenced, Force, Hold, Joined, Outranked, Overdue, Ready, Right, Silent, Surrender, Vote, Writing,
    Written,
};
use Role::{Active, Claiming, Held, Joining, Standby, Yielding};

/// The label of the one row by which the service is given up in order.
pub const SURRENDER: &str = "surrender";

/// The table. Rows of one role are disjoint and cover all its views.
pub const TABLE: [Row; 35] = [
    // Joining claims nothing in silence; until the addresses are known to be down it does nothing at all.
    row("starting", Joining, &[], &[Down], D::Stay),
    row("forced by the operator", Joining, &[Down, Force], &[], D::ClaimByForce),
    row("held at start", Joining, &[Down, Hold], &[Force], D::Hold),
    row("voted for at start", Joining, &[Down, Vote], &[Force, Hold], D::ClaimByVote),
    row("joined", Joining, &[Down, Joined], &[Force, Hold, Vote], D::StandBy),
    row("joining", Joining, &[Down], &[Force, Hold, Vote, Joined], D::Stay),
    // Standby.
    row("a service address came up by itself", Standby, &[], &[Down], D::Fence),
    row("forced by the operator", Standby, &[Down, Force], &[], D::ClaimByForce),
    row("a reason to be held", Standby, &[Down, Hold], &[Force], D::Hold),
    row("the peer voted for us", Standby, &[Down, Vote], &[Force, Hold], D::ClaimByVote),
    row("the peer is silent", Standby, &[Down, Silent], &[Force, Hold, Vote], D::ClaimInSilence),
    row("standing by", Standby, &[Down], &[Force, Hold, Vote, Silent], D::Stay),
    // Held.
    row("a service address came up by itself", Held, &[], &[Down], D::Fence),
    row("forced by the operator", Held, &[Down, Force], &[], D::ClaimByForce),
    row("no more reason to be held", Held, &[Down], &[Force, Hold], D::StandBy),
    row("held", Held, &[Down, Hold], &[Force], D::Stay),
    // Claiming. Whatever speaks against the claim comes before what speaks for it.
    row("a service address came up while claiming", Claiming, &[], &[Down], D::Fence),
    row("the claim is void", Claiming, &[Down, Broken], &[], D::Abort),
    row("a reason to be held while claiming", Claiming, &[Down, Hold], &[Broken], D::Abort),
    row("writing the term", Claiming, &[Down, Writing], &[Broken, Hold], D::Stay),
    row("conditions changed while writing", Claiming, &[Down, Written], &[Broken, Hold, Writing, Ready], D::Abort),
    row("no right after writing", Claiming, &[Down, Written, Ready], &[Broken, Hold, Writing, Right], D::Abort),
    row("claimed", Claiming, &[Down, Written, Ready, Right], &[Broken, Hold, Writing], D::Serve),
    row("the wait is over", Claiming, &[Down, Ready], &[Broken, Hold, Writing, Written], D::Reserve),
    row("waiting", Claiming, &[Down], &[Broken, Hold, Writing, Written, Ready], D::Stay),
    // Active.
    row("the right is over", Active, &[], &[Right], D::Fence),
    row("outranked by an active peer", Active, &[Right, Outranked], &[], D::Fence),
    row(SURRENDER, Active, &[Right, Surrender], &[Outranked], D::Yield),
    row("serving", Active, &[Right], &[Outranked, Surrender], D::Stay),
    // Yielding: a yield whose right ends becomes a fence; a fence that does not succeed becomes a reset.
    row("addresses are down", Yielding, &[Down], &[], D::StandBy),
    row("the right ended during the surrender", Yielding, &[], &[Down, Fenced, Right], D::Fence),
    row("the surrender takes too long", Yielding, &[Right, Overdue], &[Down, Fenced], D::Fence),
    row("surrendering", Yielding, &[Right], &[Down, Fenced, Overdue], D::Stay),
    row("addresses will not come down", Yielding, &[Fenced, Overdue], &[Down], D::Reset),
    row("fencing", Yielding, &[Fenced], &[Down, Overdue], D::Stay),
];

/// The one row for `view`.
///
/// # Panics
/// If no row matches: the table is wrong, and a crash is a fence. The test over all views shows that it is not.
#[must_use]
pub fn decide(view: View) -> &'static Row {
    TABLE
        .iter()
        .find(|r| r.role as u8 == view.role as u8 && view.facts & r.mask == r.value)
        .expect("the decision table covers every view")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of role and facts: exactly one row.
    #[test]
    fn every_view_has_exactly_one_row() {
        for role in Role::ALL {
            for facts in 0..1u16 << FACTS {
                let view = View { role, facts };
                let rows = TABLE.iter().filter(|r| r.role == role && view.facts & r.mask == r.value);
                let names: Vec<_> = rows.map(|r| r.name).collect();
                assert_eq!(names.len(), 1, "{role:?} {facts:015b}: {names:?}");
            }
        }
    }
}
