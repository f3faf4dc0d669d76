//! When a box may be updated, and what is told of it.

use super::super::figures;
use super::*;

type Boxed = std::pin::Pin<Box<dyn Future<Output = Result<(), &'static str>>>>;

const GOOD: View =
    View { appliance: true, slot: Some(false), busy: false, role: Role::Standby, peer_heard: true, peer_ready: true };

fn why(view: View, pair: bool) -> Option<&'static str> {
    obstacle(&view, pair).map(|(reason, _)| reason)
}

#[test]
fn who_hangs_up_does_not_stop_what_he_ordered() {
    let line = |text: &str| Reply::Line { text: text.into() };
    let (telling, told) = unbounded();
    let (replies, heard) = bounded(1);
    drop(heard);
    for text in ["written", "switched over", "starting"] {
        assert!(telling.try_send(line(text)).is_ok());
    }
    telling.close();
    smol::block_on(pass_on(&told, &replies)); // to the end, and without an error for the work
    assert!(told.is_empty());
}

#[test]
fn one_box_is_updated_as_a_healthy_standby_only() {
    assert_eq!(why(GOOD, false), None);
    assert_eq!(why(View { appliance: false, ..GOOD }, false), Some("this box is no appliance"));
    assert_eq!(why(View { slot: None, ..GOOD }, false), Some("this box does not boot from a slot of its own disk"));
    assert_eq!(why(View { slot: Some(true), ..GOOD }, false), Some("the image that runs is on trial"));
    assert_eq!(why(View { busy: true, ..GOOD }, false), Some("an update is under way"));
    assert_eq!(why(View { peer_heard: false, ..GOOD }, false), Some("the peer is not there"));
    for role in [Role::Active, Role::Yielding, Role::Claiming] {
        assert_eq!(why(View { role, ..GOOD }, false), Some("this box serves"));
        let alone = View { role, peer_heard: false, ..GOOD };
        assert_eq!(why(alone, false), Some("this box serves and its peer is not there"));
        assert_eq!(why(alone, true), Some("this box serves and its peer is not there"));
    }
    for role in [Role::Joining, Role::Held] {
        assert_eq!(why(View { role, ..GOOD }, false), Some("this box is no healthy standby"));
    }
}

#[test]
fn a_hand_over_waits_for_all_that_the_peer_lacks() {
    let tree = |current| status::Tree { current, ..figures::starting("/mail".into(), None) };
    let standby = Some(Role::Standby);
    assert_eq!(out_of_sync(None, standby, &[]), None);
    assert_eq!(out_of_sync(None, standby, &[tree(true), tree(true)]), None);
    let why = |blocked, role, trees: &[status::Tree]| out_of_sync(blocked, role, trees).unwrap_or_default();
    assert_eq!(why(None, standby, &[tree(true), tree(false)]), "the copy of /mail is not current");
    assert_eq!(why(None, Some(Role::Joining), &[]), "it is no standby");
    assert_eq!(why(None, None, &[]), "it is no standby");
    let held = Some(PeerBlocked::NotReady);
    assert_eq!(why(held, standby, &[tree(false)]), "the peer is held or not ready");
}

#[test]
fn an_image_that_cannot_be_offered_is_told_and_not_waited_for() {
    let never = future::pending;
    let told = |asking: Boxed, offering: Boxed| smol::block_on(unless_refused(asking, offering));
    assert_eq!(told(Box::pin(never()), Box::pin(async { Err("no such file") })), Err("no such file"));
    assert_eq!(told(Box::pin(async { Err("busy") }), Box::pin(never())), Err("busy"));
    assert_eq!(told(Box::pin(async { Ok(()) }), Box::pin(async { Err("cut") })), Err("cut"));
    assert_eq!(told(Box::pin(never()), Box::pin(async { Ok(()) })), Ok(()));
}

#[test]
fn both_are_updated_from_the_box_that_serves() {
    let active = View { role: Role::Active, ..GOOD };
    assert_eq!(why(active, true), None);
    assert_eq!(why(View { peer_ready: false, ..active }, true), Some("the peer could not take over now"));
    for role in [Role::Standby, Role::Held, Role::Joining, Role::Yielding, Role::Claiming] {
        assert_eq!(why(View { role, ..GOOD }, true), Some("this box does not serve"));
    }
    assert_eq!(why(View { slot: Some(true), ..active }, true), Some("the image that runs is on trial"));
}
