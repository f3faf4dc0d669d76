//! The figures that the mirror's process reports, as the node, the status and the operator have them.

use crate::console::status;
use crate::mirror::control::{Role, State, TreeFigures};
use crate::time::Duration;
use crate::wire::pair::{self, Data, Term};

/// A tree counts as current up to this age, or two of its periods if that is longer.
const CURRENT: Duration = Duration::from_secs(10);

/// A tree as the status shows it, told `since` milliseconds ago, in the `role` that was ordered last: the process tells of
/// its new one a moment later.
pub(super) fn shown(tree: &TreeFigures, since: u64, role: Option<Role>) -> status::Tree {
    let last_cut_ms_ago = tree.cut_age_ms.map(|age| age + since);
    let current = last_cut_ms_ago.is_some_and(|age| age <= limit_ms(tree));
    let direction = direction(role.unwrap_or(tree.role));
    status::Tree {
        tree: tree.tree.display().to_string(),
        direction,
        last_cut_ms_ago,
        lag_ms: match direction {
            // The copy does not hear of changes that nobody brings: all since its cut may be lost.
            status::Direction::Receive if !current => last_cut_ms_ago,
            _ => tree.lag_ms,
        },
        state: match tree.state {
            State::Idle => status::TreeState::Idle,
            State::Running => status::TreeState::Running,
            State::Blocked => status::TreeState::Blocked,
        },
        cause: tree.cause,
        files: tree.files,
        bytes_sent: tree.bytes_sent,
        diverged: tree.diverged,
        current,
        reason: tree.reason.clone(),
    }
}

fn direction(role: Role) -> status::Direction {
    match role {
        Role::Send => status::Direction::Send,
        Role::Receive | Role::Idle => status::Direction::Receive,
    }
}

/// Up to this age a cut is current.
fn limit_ms(tree: &TreeFigures) -> u64 {
    let least = u64::try_from(CURRENT.as_millis()).unwrap_or(u64::MAX);
    tree.period_ms.saturating_mul(2).max(least)
}

/// What the node is told of the trees: the oldest lineage among them, the greatest age, and how many are too old.
pub(super) fn of_trees(trees: &[TreeFigures]) -> Data {
    // What has no role yet is a copy of unknown age as well: the peer hears of it before this box stands by.
    let stale = |tree: &&TreeFigures| tree.role != Role::Send && tree.cut_age_ms.is_none_or(|age| age > limit_ms(tree));
    let oldest = trees.iter().map(|tree| tree.generation).min().unwrap_or_default();
    let age = trees.iter().filter_map(|tree| tree.cut_age_ms).max().unwrap_or(0);
    Data {
        generation: pair::Generation { term: oldest.term, boot: oldest.boot },
        lag_s: u32::try_from(age / 1000).unwrap_or(u32::MAX),
        stale_trees: u8::try_from(trees.iter().filter(stale).count()).unwrap_or(u8::MAX),
    }
}

/// Term of the newest lineage among the trees: none that is served later may be lower, or the mirror refuses it.
pub(super) fn newest(trees: &[TreeFigures]) -> Term {
    trees.iter().map(|tree| tree.generation.term).max().unwrap_or_default()
}

/// A tree of which the process has not said anything yet.
pub(super) fn starting(tree: String, role: Option<Role>) -> status::Tree {
    status::Tree {
        tree,
        direction: direction(role.unwrap_or_default()),
        last_cut_ms_ago: None,
        lag_ms: None,
        state: status::TreeState::Starting,
        files: 0,
        bytes_sent: 0,
        diverged: 0,
        current: false,
        reason: None,
        cause: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::control::Generation;

    #[test]
    fn the_role_ordered_last_is_shown_and_a_copy_that_nobody_refreshes_lacks_all_since_its_cut() {
        let tree = TreeFigures {
            role: Role::Send,
            cut_age_ms: Some(9_000),
            lag_ms: Some(0),
            period_ms: 1_000,
            ..TreeFigures::default()
        };
        let of = |since, role| {
            let tree = shown(&tree, since, role);
            (tree.direction, tree.current, tree.lag_ms)
        };
        assert_eq!(of(0, None), (status::Direction::Send, true, Some(0)));
        assert_eq!(of(0, Some(Role::Receive)), (status::Direction::Receive, true, Some(0)));
        assert_eq!(of(1_001, Some(Role::Receive)), (status::Direction::Receive, false, Some(10_001)));
        assert_eq!(of(1_001, Some(Role::Send)), (status::Direction::Send, false, Some(0)));
    }

    #[test]
    fn the_oldest_tree_speaks_for_all() {
        let figures = |term: u64, age: Option<u64>, period: u64| TreeFigures {
            role: Role::Receive,
            generation: Generation { term, boot: 1 },
            cut_age_ms: age,
            period_ms: period,
            ..TreeFigures::default()
        };
        let data = of_trees(&[figures(7, Some(9_000), 1_000), figures(5, Some(61_000), 60_000)]);
        assert_eq!((data.generation.term, data.lag_s, data.stale_trees), (5, 61, 0));
        assert_eq!(newest(&[figures(7, None, 1_000), figures(5, None, 1_000), figures(0, None, 1_000)]), 7);
        assert_eq!(of_trees(&[figures(7, Some(11_000), 1_000), figures(7, None, 1_000)]).stale_trees, 2);
        let starts = TreeFigures { role: Role::Idle, ..figures(7, None, 1_000) };
        assert_eq!(of_trees(&[starts]).stale_trees, 1);
        let sending = TreeFigures { role: Role::Send, ..figures(7, None, 1_000) };
        assert_eq!(of_trees(&[sending]).stale_trees, 0);
    }
}
