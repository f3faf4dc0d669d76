//! The figures that the mirror's process reports, as the node, the status and the operator have them.

use std::io;

use crate::console::status;
use crate::mirror::control::{Role, State, TreeFigures, TreeSettings};
use crate::time::Duration;
use crate::wire::pair::{self, Data, Term};

/// A tree counts as current up to this age, or two of its periods if that is longer.
const CURRENT: Duration = Duration::from_secs(10);

/// Up to this term every copy is believed: no pair gets there by hand-overs.
const PLAUSIBLE: Term = 1 << 40;
/// And up to so many above that of the data that this box has been told of.
const AHEAD: Term = 1 << 16;
/// Longest reason that is shown, in characters.
const REASON: usize = 1000;

/// What the process may say of `trees`, where `known` is the term of this box's data. It may lie about the copies, but whoever
/// has taken it over shall not use up the terms of the pair: the highest one that it names counts as served, on both boxes and
/// for ever.
///
/// # Errors
///
/// It speaks of other trees, or of terms that no pair reaches.
pub(super) fn believed(told: Vec<TreeFigures>, trees: &[TreeSettings], known: Term) -> io::Result<Vec<TreeFigures>> {
    let impossible = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let same = told.iter().map(|tree| &tree.tree).eq(trees.iter().map(|tree| &tree.tree));
    if !same {
        return Err(impossible("it speaks of other trees than those that are mirrored".to_owned()));
    }
    let most = PLAUSIBLE.max(known.saturating_add(AHEAD));
    if let Some(tree) = told.iter().find(|tree| tree.generation.term > most) {
        return Err(impossible(format!("it speaks of term {}, which no pair reaches", tree.generation.term)));
    }
    let shortened = |reason: String| reason.chars().take(REASON).collect();
    Ok(told.into_iter().map(|tree| TreeFigures { reason: tree.reason.map(shortened), ..tree }).collect())
}

/// A tree as the status shows it, told `since` milliseconds ago, in the `role` that was ordered last: the process tells of
/// its new one a moment later.
pub(super) fn shown(tree: &TreeFigures, since: u64, role: Option<Role>) -> status::Tree {
    let last_cut_ms_ago = tree.cut_age_ms.map(|age| age.saturating_add(since));
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
    use crate::mirror::control::{Generation, MaxDelete, When};

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

    fn of(tree: &str, term: Term) -> TreeFigures {
        TreeFigures { tree: tree.into(), generation: Generation { term, boot: 1 }, ..TreeFigures::default() }
    }

    fn configured(tree: &str) -> TreeSettings {
        let (when, max_delete) = (When::EveryMs(1), MaxDelete::Percent(1));
        TreeSettings { tree: tree.into(), when, exclude: Vec::new(), max_delete, store: None }
    }

    #[test]
    fn no_number_of_a_process_that_was_taken_over_ends_the_daemon() {
        let most = u64::MAX;
        for role in [None, Some(Role::Idle), Some(Role::Send), Some(Role::Receive)] {
            let worst = TreeFigures {
                cut_age_ms: Some(most),
                lag_ms: Some(most),
                period_ms: most,
                files: most,
                diverged: most,
                ..of("/a", 7)
            };
            let data = of_trees(std::slice::from_ref(&worst));
            assert_eq!((data.generation.term, data.lag_s), (7, u32::MAX));
            assert_eq!(shown(&worst, most, role).last_cut_ms_ago, Some(most));
        }
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let trees = [configured("/a"), configured("/b")];
        let told = |a, b| believed(vec![of("/a", a), of("/b", b)], &trees, 9);
        assert_eq!(told(9, 1 << 40).unwrap().len(), 2); // the record of the box was lost
        assert!(told(9, (1 << 40) + 1).is_err() && told(u64::MAX, 9).is_err());
        let far = (1 << 40) + 5;
        assert!(believed(vec![of("/a", far + 2)], &trees[..1], far).is_ok(), "its lies came this far: it goes on");
        assert!(believed(vec![of("/a", far + (1 << 17))], &trees[..1], far).is_err());
        for wrong in [vec![], vec![of("/a", 1)], vec![of("/b", 1), of("/a", 1)]] {
            assert!(believed(wrong, &trees, 9).is_err());
        }
        let endless = TreeFigures { reason: Some("x".repeat(1 << 20)), ..of("/a", 1) };
        let told = believed(vec![endless], &trees[..1], 9).unwrap();
        assert_eq!(told[0].reason.as_ref().map(String::len), Some(REASON));
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
