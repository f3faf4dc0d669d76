//! The node's account of a hand-over: when it begins, what kind it is, and that a first start is none.

use twobox::time::Duration;
use twobox::wire::heartbeat::Vote;
use twobox::wire::pair::Role;

use super::script::{MS, Script, settings};

/// The clients' outage begins when the services are told to stop, not with the vote that follows.
#[test]
fn the_account_of_a_planned_hand_over_begins_with_the_first_word_of_the_surrender() {
    let mut s = Script::standby();
    s.peer.frame.role = Role::Yielding;
    s.run(300);
    s.peer.frame.role = Role::Standby;
    s.peer.frame.intent = true;
    s.peer.frame.vote = Some(Vote { term: 2, candidate: settings().boot });
    s.run(50);
    assert_eq!(s.role(), Role::Active);
    let account = s.node.status(s.now).handover.expect("the service came from the peer");
    assert!(account.planned && account.detect == Duration::ZERO);
    assert!((MS * 250..=MS * 350).contains(&account.surrender), "{account:?}");
}

/// A peer that fenced itself votes like one that surrendered; but nobody planned that.
#[test]
fn a_vote_without_a_surrender_is_a_failover() {
    let mut s = Script::standby();
    s.peer.frame.role = Role::Standby;
    s.run(200);
    s.peer.frame.vote = Some(Vote { term: 2, candidate: settings().boot });
    s.run(50);
    assert_eq!(s.role(), Role::Active);
    let account = s.node.status(s.now).handover.expect("the service came from the peer");
    assert!(!account.planned && account.surrender == Duration::ZERO);
    assert!((MS * 200..=MS * 350).contains(&account.detect), "from the last frame of the one who served: {account:?}");
}

#[test]
fn a_first_start_is_no_hand_over() {
    let mut s = Script::new();
    (s.peer.frame.role, s.peer.frame.served, s.peer.frame.top) = (Role::Standby, 0, 0);
    s.run(200);
    s.peer.frame.vote = Some(Vote { term: 2, candidate: settings().boot });
    s.run(50);
    assert_eq!(s.role(), Role::Active);
    assert_eq!(s.node.status(s.now).handover, None);
}
