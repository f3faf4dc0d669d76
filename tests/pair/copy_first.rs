//! A planned hand-over loses nothing, or does not happen: what the standby lacks is copied before it begins.

use std::fs;
use std::path::PathBuf;

use twobox::console::control::{MirrorRequest, Reply, Request};
use twobox::console::status::TreeState;

use crate::rig::{self, Rig, other, wait};

const PLANNED: Request = Request::Switchover { lose_changes: false };
const ALL_THE_SAME: Request = Request::Switchover { lose_changes: true };

/// A pair whose tree is copied only once an hour, with two dozen files on both boxes.
fn rig(name: &str) -> (Rig, &'static str) {
    let mut rig = Rig::new(name, crate::DEFAULT);
    for node in ["a", "b"] {
        fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let mirror = "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1h\"\n";
        let mirror = mirror.replace("DIR", rig.dir.to_str().unwrap());
        fs::write(rig.dir.join(format!("site-{node}.toml")), rig::site(&rig.dir, crate::DEFAULT) + &mirror).unwrap();
    }
    let active = rig.start_both();
    for n in 0..24 {
        fs::write(mail(&rig, active, &format!("f{n}")), format!("{n}")).unwrap();
    }
    let sync = Request::Mirror(MirrorRequest::Sync { tree: None, confirm_delete: false });
    wait("the first copy", || rig.order(active, &sync).is_ok());
    assert!(mail(&rig, other(active), "f23").exists());
    (rig, active)
}

fn mail(rig: &Rig, node: &str, file: &str) -> PathBuf {
    rig.path(node, "data").join("mail").join(file)
}

/// Every kind of planned hand-over is refused for this reason, and nothing moves.
fn is_refused(rig: &Rig, active: &str, why: &str) {
    let owners = rig.capture.owners();
    let hold = Request::Hold { reason: None };
    for (node, request) in [(active, &PLANNED), (other(active), &PLANNED), (active, &hold)] {
        let replies = rig.ask(node, request);
        let Some(Reply::Refused { reason, remedy }) = replies.last() else { panic!("{request:?}: {replies:?}") };
        assert!(reason.contains("the standby lacks changes") && reason.contains(why), "{reason}");
        assert!(remedy.contains("`switchover --lose-changes`"), "{remedy}");
    }
    assert_eq!(rig.active(), Some(active));
    assert_eq!(rig.capture.owners(), owners);
}

#[test]
fn a_hand_over_first_copies_what_the_standby_lacks() {
    let (rig, active) = rig("first");
    fs::write(mail(&rig, active, "new"), "not in any copy yet").unwrap();
    let replies = rig.ask(active, &PLANNED);
    assert!(matches!(replies.last(), Some(Reply::Done { .. })), "{replies:?}");
    rig.client.await_answer_from(other(active));
    assert_eq!(fs::read(mail(&rig, other(active), "new")).unwrap(), b"not in any copy yet");
}

#[test]
fn a_hand_over_that_would_lose_what_a_guard_keeps_back_is_refused() {
    let (rig, active) = rig("guarded");
    for n in 0..20 {
        fs::remove_file(mail(&rig, active, &format!("f{n}"))).unwrap();
    }
    fs::write(mail(&rig, active, "important"), "kept").unwrap();
    is_refused(&rig, active, "20 of");
    // It moves when the operator says so, and tells what that means.
    let replies = rig.ask(active, &ALL_THE_SAME);
    let Some(Reply::Done { .. }) = replies.last() else { panic!("{replies:?}") };
    let told = replies.iter().any(|reply| matches!(reply, Reply::Progress(step) if step.text.contains("NO LAST CUT")));
    assert!(told, "{replies:?}");
    rig.client.await_answer_from(other(active));
    let set = |rig: &Rig| rig.status(active).is_some_and(|s| s.mirror[0].diverged == 1);
    wait("what only the former box has is set aside there", || set(&rig));
}

#[test]
fn a_hand_over_without_a_way_for_the_copy_is_refused_until_there_is_one() {
    let (rig, active) = rig("way");
    rig.ip(active, "link set cross down");
    wait("the crossover is down", || {
        rig.status(active).is_some_and(|s| s.links.iter().any(|link| link.name == "crossover" && !link.up))
    });
    fs::write(mail(&rig, active, "late"), "written while the crossover was out").unwrap();
    is_refused(&rig, active, "");
    rig.ip(active, "link set cross up");
    rig.await_touch();
    wait("it goes, with everything", || rig.order(active, &PLANNED).is_ok());
    rig.client.await_answer_from(other(active));
    assert_eq!(fs::read(mail(&rig, other(active), "late")).unwrap(), b"written while the crossover was out");
    wait("a copy again", || rig.status(active).is_some_and(|s| s.mirror[0].state != TreeState::Blocked));
}
