//! What the operator forces: where it begins, and what ends it.

use twobox::node::settings::LAN;
use twobox::node::{Answer, Input, Order};
use twobox::wire::pair::Role;

use super::script::{MS, Script, TICK};

#[test]
fn a_force_ordered_while_claiming_is_not_kept_for_later() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.run(1000);
    assert_eq!(s.role(), Role::Claiming);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.run(2000);
    assert_eq!(s.role(), Role::Active);
    // The peer comes back and is fit; we hand over, and stay down.
    s.peer.frame.role = Role::Standby;
    s.peer.frame.eligible = true;
    s.peer.speaks = true;
    s.run(4000);
    if s.role() == Role::Active {
        let term = s.node.known_term();
        assert_eq!(s.order(Order::Switchover { term }), Some(Answer::Accepted));
    }
    for _ in 0..100 {
        s.run(TICK);
        assert!(!matches!(s.role(), Role::Claiming), "{}", s.node.status(s.now).why);
    }
}

#[test]
fn a_force_ends_with_a_word_of_the_peer() {
    let mut s = Script::standby();
    s.peer.speaks = false;
    s.run(600);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.now = s.now + MS;
    let f = s.frame(LAN);
    s.deliver(&f);
    s.now = s.now + MS;
    s.input(Input::Turn);
    assert_eq!(s.role(), Role::Standby);
}

/// By what the operator confirmed, nobody else is there: the first word of the peer ends it. Only a word that shows that the
/// peer has heard us grants anything in its place.
#[test]
fn a_forced_right_ends_with_a_word_of_the_peer_and_a_fresh_grant_takes_its_place() {
    for hears_us in [false, true] {
        let mut s = Script::standby();
        s.peer.speaks = false;
        s.witness = false;
        s.run(600);
        assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
        s.run(3000);
        assert_eq!(s.role(), Role::Active);
        s.peer.frame.role = Role::Standby;
        let mut f = s.frame(LAN);
        f.echo = f.echo.filter(|_| hears_us);
        s.deliver(&f);
        s.input(Input::Turn);
        assert_eq!(s.role(), if hears_us { Role::Active } else { Role::Yielding });
    }
}

#[test]
fn leaving_during_a_forced_claim_leaves() {
    let mut s = Script::standby();
    s.disk = None;
    // The peer uses up the terms that are reserved ahead.
    s.peer.frame.top = 100;
    s.run(200);
    s.peer.speaks = false;
    s.run(600);
    assert_eq!(s.order(Order::Force), Some(Answer::Accepted));
    s.run(20);
    assert_eq!(s.role(), Role::Claiming);
    assert_eq!(s.order(Order::Leave), Some(Answer::Accepted));
    s.run(4000);
    assert!(s.left && s.role() == Role::Held);
    assert_eq!(s.order(Order::Force), Some(Answer::NotReady));
}
