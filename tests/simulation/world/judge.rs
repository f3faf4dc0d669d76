//! What must hold. Safety is judged by what leaves the boxes, at every instant.

use super::clock::{SECOND, Time};
use std::collections::{BTreeMap, HashSet};
use twobox::wire::pair::Term;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub at: Time,
    pub what: String,
}

/// Keeps the first violation and what is worth counting.
#[derive(Default)]
pub struct Judge {
    pub violation: Option<Violation>,
    /// Terms in which a box went up, in either life of either box.
    served: HashSet<Term>,
    pub highest: Term,
    /// From then on nothing happens that may move or interrupt the service.
    pub steady_from: Option<Time>,
    pub takeovers: BTreeMap<&'static str, u64>,
    /// The operator has forced a box and answers for what the other one does.
    pub operator_answers: bool,
}

impl Judge {
    pub fn new() -> Judge {
        Judge::default()
    }

    pub fn found(&mut self, at: Time, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { at, what });
        }
    }

    /// A box orders its addresses up in `term`.
    pub fn activated(&mut self, at: Time, who: &str, term: Term, why: &'static str, memory_was_lost: bool) {
        *self.takeovers.entry(why).or_default() += 1;
        self.names(at, who, term, memory_was_lost);
        if self.steady_from.is_some_and(|from| at >= from) {
            self.found(at, format!("{who} takes over ({why}), although nothing happens but noise and recorded frames"));
        }
    }

    /// What a box serves bears the name of `term`.
    pub fn names(&mut self, at: Time, who: &str, term: Term, memory_was_lost: bool) {
        if !self.served.insert(term) && !memory_was_lost {
            self.found(at, format!("term {term} is served a second time, now by {who}"));
        }
        self.highest = self.highest.max(term);
    }
}

/// A bound in words.
pub fn seconds(t: Time) -> String {
    format!("{}.{:03} s", t / SECOND, t % SECOND / 1_000_000)
}
