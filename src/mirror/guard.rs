//! What keeps an empty, unmounted, replaced or emptied source from wiping the copy. Pure.

use super::control::MaxDelete;

/// Fewer deletions than this are never stopped by a percentage: of three files, two may go.
const FEW: u64 = 10;

/// What is known before a cut is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Names in the standby's cut.
    pub before: u64,
    /// Names that would be deleted from it.
    pub gone: u64,
    /// Of these, names that the standby itself made: they are set aside, not deleted.
    pub set_aside: u64,
    /// Names that were found in the tree.
    pub found: u64,
    /// The root is the same directory of the same file system as at the last cut, or there was none.
    pub same_root: bool,
    /// No cut of this source has been taken yet.
    pub first: bool,
}

/// Why a cycle must not go on without the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The root is another directory than at the last cut.
    RootReplaced,
    /// Nothing is left in the tree, but the copy has something.
    RootEmptied {
        /// What the copy has.
        names: u64,
    },
    /// More would be deleted than is allowed.
    TooManyDeletions {
        /// So many.
        gone: u64,
        /// Of so many.
        before: u64,
    },
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Block::RootReplaced => f.write_str("the tree's root is another directory than at the last cut"),
            Block::RootEmptied { names } => write!(f, "the tree is empty, but the copy has {names} names"),
            Block::TooManyDeletions { gone, before } => {
                write!(f, "{gone} of {before} names would be deleted, more than max-delete allows")
            }
        }
    }
}

/// May the cycle go on?
///
/// # Errors
///
/// What stops it; `confirmed` by the operator, nothing does.
pub fn check(plan: &Plan, max_delete: MaxDelete, confirmed: bool) -> Result<(), Block> {
    if confirmed || plan.before == 0 {
        return Ok(());
    }
    if !plan.same_root {
        return Err(Block::RootReplaced);
    }
    let gone = plan.gone.saturating_sub(plan.set_aside);
    // An empty source that nobody has seen otherwise is more likely a disk that is not mounted than what is meant.
    if plan.found == 0 && plan.gone > 0 && (gone > 0 || plan.first) {
        return Err(Block::RootEmptied { names: plan.before });
    }
    let too_many = match max_delete {
        MaxDelete::Percent(percent) => {
            gone > FEW && gone.saturating_mul(100) > plan.before.saturating_mul(u64::from(percent))
        }
        MaxDelete::Entries(most) => gone > most,
    };
    if too_many { Err(Block::TooManyDeletions { gone, before: plan.before }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY: Plan = Plan { before: 1000, gone: 10, set_aside: 0, found: 990, same_root: true, first: false };

    #[test]
    fn what_is_stopped_and_what_is_not() {
        let quarter = MaxDelete::Percent(25);
        assert_eq!(check(&ORDINARY, quarter, false), Ok(()));
        let emptied = Plan { gone: 1000, found: 0, ..ORDINARY };
        assert_eq!(check(&emptied, quarter, false), Err(Block::RootEmptied { names: 1000 }));
        assert_eq!(check(&emptied, MaxDelete::Percent(100), false), Err(Block::RootEmptied { names: 1000 }));
        assert_eq!(check(&emptied, quarter, true), Ok(()));
        let replaced = Plan { same_root: false, ..ORDINARY };
        assert_eq!(check(&replaced, quarter, false), Err(Block::RootReplaced));
        let many = Plan { gone: 251, ..ORDINARY };
        assert_eq!(check(&many, quarter, false), Err(Block::TooManyDeletions { gone: 251, before: 1000 }));
        assert_eq!(check(&Plan { gone: 250, ..ORDINARY }, quarter, false), Ok(()));
        assert_eq!(check(&many, MaxDelete::Entries(251), false), Ok(()));
        assert_eq!(check(&Plan { set_aside: 200, ..many }, quarter, false), Ok(()));
    }

    #[test]
    fn small_trees_may_change_freely_but_not_vanish() {
        let small = Plan { before: 3, gone: 2, set_aside: 0, found: 1, same_root: true, first: false };
        assert_eq!(check(&small, MaxDelete::Percent(25), false), Ok(()));
        let gone = Plan { gone: 3, found: 0, ..small };
        assert_eq!(check(&gone, MaxDelete::Percent(25), false), Err(Block::RootEmptied { names: 3 }));
    }

    #[test]
    fn the_first_copy_is_free() {
        assert_eq!(check(&Plan::default(), MaxDelete::Entries(0), false), Ok(()));
    }
}
