//! What a node must find again after a reboot.

use super::settings::Settings;
use crate::wire::pair::{Generation, Side, Term};

/// The node's memory on disk. Written whole, each time. A damaged one is no record: the node is then held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// Highest term served.
    pub served: Term,
    /// Highest term reserved for serving, some of them ahead of need. All are burnt at the next boot: perhaps they were
    /// served.
    pub reserved: Term,
    /// Highest term voted for. It need not survive a reboot for safety; keeping it spares a refused claim.
    pub voted: Term,
    /// Newest lineage of data ever heard of, ours or the peer's.
    pub newest: Generation,
    /// Lineage of our own data when last written.
    pub own: Generation,
    /// We left in order: never serve until in touch again.
    pub farewell: bool,
    /// The operator's hold.
    pub held: bool,
    /// Witnesses whose reflection was proven at the last contact.
    pub proven: u8,
    /// Configuration at the last contact, under which that was proven; its complement where the peer's was another one. 0: there was
    /// no contact yet.
    pub proven_digest: u64,
    /// Self-fences and failed starts since the last ten quiet minutes.
    pub strikes: u8,
}

impl Record {
    /// Proven witnesses, if they were proven under this configuration.
    #[must_use]
    pub fn proven_under(&self, settings: &Settings) -> u8 {
        let same = [settings.digest, !settings.digest].contains(&self.proven_digest);
        if same { self.proven & settings.witness_mask() } else { 0 }
    }

    /// The peer has the same configuration, as far as is known. It had another one at the last contact, or this one was changed since:
    /// then it has not.
    #[must_use]
    pub fn alike(&self, settings: &Settings) -> bool {
        [0, settings.digest].contains(&self.proven_digest)
    }
}

/// Smallest term above `floor` that `side` may serve: odd ones for a, even ones for b.
///
/// Saturates: at one takeover a nanosecond the 64 bits last 292 years on each side.
#[must_use]
pub fn next_term(side: Side, floor: Term) -> Term {
    let next = floor.saturating_add(1);
    if next % 2 == parity(side) { next } else { next.saturating_add(1) }
}

/// Whether `term` is one that `side` may serve.
#[must_use]
pub fn owns_term(side: Side, term: Term) -> bool {
    term % 2 == parity(side)
}

/// Whether data of the lineage with `term` have nothing that `side` could lack: it wrote them, or nobody has.
#[must_use]
pub fn is_source(side: Side, term: Term) -> bool {
    term == 0 || owns_term(side, term)
}

fn parity(side: Side) -> Term {
    match side {
        Side::A => 1,
        Side::B => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_of_the_two_sides_never_meet() {
        for floor in 0..100 {
            let a = next_term(Side::A, floor);
            let b = next_term(Side::B, floor);
            assert!(a > floor && b > floor && a != b);
            assert!(a.max(b) == floor + 2 && a.min(b) == floor + 1);
            assert!(owns_term(Side::A, a) && !owns_term(Side::B, a));
            assert!(owns_term(Side::B, b) && !owns_term(Side::A, b));
        }
    }
}
