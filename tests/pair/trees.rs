//! The mirror's place in the pair: a box that dies in the middle of a cycle.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use twobox::console::control::{MirrorRequest, Reply, Request};
use twobox::console::status::TreeState;
use twobox::time::Duration;

use crate::WHOLE;
use crate::rig::{self, Rig, must, other, wait};

/// Every file in the directory with its content; one that is being replaced may be missing.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if let Ok(content) = fs::read(&path) {
            files.insert(path.file_name().unwrap().to_string_lossy().into_owned(), content);
        }
    }
    files
}

/// Content that no compression and no common chunk makes short.
fn noise(mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < 400_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(seed ^ (seed >> 29)).to_le_bytes());
    }
    bytes
}

#[test]
fn a_failover_in_the_middle_of_a_cycle_serves_the_last_whole_cut_and_loses_nothing() {
    let mut rig = Rig::new("cycle", crate::DEFAULT);
    for node in ["a", "b"] {
        fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let mirror = "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1s\"\n\
                      [mirror-link]\ncrossover-limit = \"2MB/s\"\n";
        let mirror = mirror.replace("DIR", rig.dir.to_str().unwrap());
        fs::write(rig.dir.join(format!("site-{node}.toml")), rig::site(&rig.dir, crate::DEFAULT) + &mirror).unwrap();
    }
    let old = rig.start_both();
    let new = other(old);
    let (of_old, of_new) = (rig.path(old, "data").join("mail"), rig.path(new, "data").join("mail"));
    for n in 0..10 {
        fs::write(of_old.join(format!("mail{n}")), format!("first version of {n}")).unwrap();
    }
    wait("the first cut", || files(&of_new) == files(&of_old));
    let cut = files(&of_new);

    // The copy cannot begin a cycle, and says who can.
    for (command, request) in [
        ("sync", MirrorRequest::Sync { tree: None, confirm_delete: false }),
        ("verify", MirrorRequest::Verify { tree: None }),
    ] {
        let replies = rig.ask(new, &Request::Mirror(request));
        let [Reply::Refused { remedy, .. }] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!(*remedy, format!("on box {old}, if it serves: `twobox mirror {command}`"));
    }

    // Ten seconds' worth of changes; the box dies two seconds after they have begun to move.
    for n in 0..50 {
        fs::write(of_old.join(format!("mail{n}")), noise(n)).unwrap();
    }
    let moving = |rig: &Rig| rig.status(new).is_some_and(|s| s.mirror[0].state == TreeState::Running);
    wait("the cycle runs", || moving(&rig));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(moving(&rig), "it was over before the box died");
    rig.power_off(old);
    rig.client.await_answer_from(new);
    assert_eq!(files(&of_new), cut, "a mixture is served");
    fs::write(of_new.join("mail3"), "written by the new active").unwrap();

    // The old one comes back: what it never sent is set aside, and the copy is exact.
    rig.null_modem.set(WHOLE);
    rig.ip(old, "link set lan up");
    rig.ip(old, "link set cross up");
    rig.launch(old);
    wait("the old box is a copy", || files(&of_old) == files(&of_new));
    rig.await_touch();
    let sets = rig.ask(old, &Request::Mirror(MirrorRequest::DivergedList));
    let [Reply::Line { text }, Reply::Done { .. }] = sets.as_slice() else { panic!("{sets:?}") };
    assert!(text.contains(" 50 files"), "{text}");
    let name = text.split_whitespace().next().unwrap().to_owned();
    assert_eq!(rig.status(old).unwrap().mirror[0].diverged, 1);

    // Put back by command where it serves again, and then on both.
    rig.order(new, &Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from(old);
    let path = Some("mail42".to_owned());
    rig.order(old, &Request::Mirror(MirrorRequest::DivergedRestore { name: name.clone(), path })).unwrap();
    assert_eq!(fs::read(of_old.join("mail42")).unwrap(), noise(42));
    wait("it is on both", || fs::read(of_new.join("mail42")).is_ok_and(|bytes| bytes == noise(42)));
    assert_eq!(fs::read(of_old.join("mail3")).unwrap(), b"written by the new active");
    rig.order(old, &Request::Mirror(MirrorRequest::DivergedDrop { name })).unwrap();
    wait("it is dropped", || rig.status(old).is_some_and(|s| s.mirror[0].diverged == 0));
}

/// What a script sees of a comparison: equal, then a copy that somebody has damaged, then equal again.
fn compare_and_heal(rig: &Rig, active: &str, copy: &Path) {
    let verify = || {
        let socket = rig.path(active, "socket");
        let output = std::process::Command::new(rig::program())
            .arg("--socket")
            .arg(socket)
            .args(["mirror", "verify", "--json"])
            .output()
            .unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        (output.status.code(), value)
    };
    let (code, value) = verify();
    assert_eq!((code, &value["different"], &value["files_compared"]), (Some(0), &0.into(), &1.into()), "{value}");
    fs::write(copy, "DEAR").unwrap();
    let (code, value) = verify();
    assert_eq!((code, &value["different"], &value["healed"]), (Some(3), &1.into(), &true.into()), "{value}");
    assert_eq!(value["trees"][0]["verdict"]["differences"][0]["path"], "letter", "{value}");
    assert_eq!(fs::read_to_string(copy).unwrap(), "dear");
    let (code, value) = verify();
    assert_eq!((code, &value["done"]), (Some(0), &true.into()), "{value}");
}

/// Nobody took a cut of what a box wrote while it was alone, and yet it is the newer of the two trees.
#[test]
fn what_a_box_wrote_while_it_served_alone_is_newer_when_both_come_back() {
    let mut rig = Rig::new("newer", crate::DEFAULT);
    for node in ["a", "b"] {
        fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let mirror = "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1s\"\n";
        let mirror = mirror.replace("DIR", rig.dir.to_str().unwrap());
        fs::write(rig.dir.join(format!("site-{node}.toml")), rig::site(&rig.dir, crate::DEFAULT) + &mirror).unwrap();
    }
    if rig.start_both() == "b" {
        rig.order("b", &Request::Switchover { lose_changes: false }).unwrap();
        rig.client.await_answer_from("a");
    }
    // Of two that are equally good, a serves: b must have something better.
    let (old, new) = ("a", "b");
    let tree = |rig: &Rig, node: &str| rig.path(node, "data").join("mail");
    fs::write(tree(&rig, old).join("mail"), "of both").unwrap();
    wait("the first cut", || files(&tree(&rig, new)) == files(&tree(&rig, old)));
    rig.power_off(old);
    rig.client.await_answer_from(new);
    fs::write(tree(&rig, new).join("mail"), "of one alone").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2)); // what it served is on its disk
    rig.power_off(new);

    rig.null_modem.set(WHOLE);
    for node in [new, old] {
        rig.ip(node, "link set lan up");
        rig.ip(node, "link set cross up");
        rig.launch(node);
        // Its mirror has told what the tree is, before the two compare; it would serve alone only after the boot wait.
        wait("the tree is looked at", || {
            rig.status(node).is_some_and(|s| s.mirror.iter().all(|tree| tree.state != TreeState::Starting))
        });
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    wait("both are equal again", || rig.active().is_some() && files(&tree(&rig, old)) == files(&tree(&rig, new)));
    let [old, new] = [old, new].map(|node| fs::read_to_string(tree(&rig, node).join("mail")).unwrap());
    assert_eq!((old.as_str(), new.as_str()), ("of one alone", "of one alone"));
}

/// What was served last counts, also where the other box had served a higher term before: neither knew of the other's.
#[test]
fn what_was_served_last_is_what_both_have_though_its_term_was_lower() {
    let mut rig = Rig::new("latest", crate::DEFAULT);
    for node in ["a", "b"] {
        fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let mirror = "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1s\"\n";
        let mirror = mirror.replace("DIR", rig.dir.to_str().unwrap());
        fs::write(rig.dir.join(format!("site-{node}.toml")), rig::site(&rig.dir, crate::DEFAULT) + &mirror).unwrap();
    }
    let tree = |rig: &Rig, node: &str| rig.path(node, "data").join("mail");
    let active = rig.start_both();
    fs::write(tree(&rig, active).join("mail"), "of both").unwrap();
    wait("the first cut", || files(&tree(&rig, "b")) == files(&tree(&rig, "a")));
    let pause = || std::thread::sleep(std::time::Duration::from_secs(2)); // the record is on disk
    pause();
    // Every boot alone takes a term above all that the life before had reserved: two of them, then one.
    rig.power_off("b");
    let mut terms = Vec::new();
    for node in ["a", "a", "b"] {
        rig.power_off(if terms.is_empty() { "a" } else { rig.active().unwrap() });
        rig.ip(node, "link set lan up");
        rig.ip(node, "link set cross up");
        rig.launch(node);
        wait("it serves alone", || rig.active() == Some(node));
        fs::write(tree(&rig, node).join("mail"), format!("of {node} alone")).unwrap();
        pause();
        terms.push(rig.status(node).unwrap().term);
    }
    assert!(terms[2] < terms[1], "{terms:?}");

    rig.null_modem.set(WHOLE);
    rig.ip("a", "link set lan up");
    rig.ip("a", "link set cross up");
    rig.launch("a");
    let letter = |rig: &Rig, node: &str| fs::read_to_string(tree(rig, node).join("mail")).unwrap();
    wait("the later data are on both", || letter(&rig, "a") == "of b alone");
    assert_eq!((rig.active(), letter(&rig, "b").as_str()), (Some("b"), "of b alone"));
    assert!(rig.status("b").unwrap().term > terms[1]);
    wait("what a had is set aside", || rig.status("a").is_some_and(|s| s.mirror[0].diverged == 1));
    // A move brings nothing of it back.
    rig.await_touch();
    rig.order("b", &Request::Switchover { lose_changes: false }).unwrap();
    rig.client.await_answer_from("a");
    assert_eq!(letter(&rig, "a"), "of b alone");
}

/// A tree that is copied on change and does not change is as good as new; and the configured port is the one that is used.
#[test]
fn a_quiet_tree_stays_current_on_the_port_of_the_site_file() {
    let mut rig = Rig::new("quiet", crate::DEFAULT);
    let store = rig.dir.join("data").display().to_string();
    let more = format!(
        "[[mirror]]\ntree = \"{store}/mail\"\nstore = \"{store}\"\non-change = true\nsettle = \"100ms\"\n\
         [mirror-link]\nport = 7999\n"
    );
    for node in ["a", "b"] {
        fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        fs::write(rig.dir.join(format!("site-{node}.toml")), rig::site(&rig.dir, crate::DEFAULT) + &more).unwrap();
    }
    // The tree is shown from the first answer on.
    rig.launch("a");
    let mut first = None;
    wait("an answer", || {
        first = rig.status("a");
        first.is_some()
    });
    let first = first.unwrap().mirror;
    assert_eq!(first.iter().map(|tree| tree.tree.as_str()).collect::<Vec<_>>(), [format!("{store}/mail")]);
    rig.launch("b");
    wait("one of two active", || rig.active().is_some());
    let active = rig.active().unwrap();
    rig.await_touch();
    fs::write(rig.path(active, "data").join("mail/letter"), "dear").unwrap();
    let copy = rig.path(other(active), "data").join("mail/letter");
    wait("the copy", || copy.exists());
    let listening = must(&format!("nsenter --net=/run/netns/{}-{} ss -Hlnt", rig.name, other(active)));
    assert!(listening.contains(":7999 ") && !listening.contains(":7420 "), "{listening}");
    compare_and_heal(&rig, active, &copy);
    // Longer than a copy of this tree may be old, and a little.
    let until = twobox::clock::now() + Duration::from_secs(25);
    while twobox::clock::now() < until {
        std::thread::sleep(Duration::from_millis(500));
        for node in ["a", "b"] {
            let tree = rig.status(node).unwrap().mirror.remove(0);
            assert!(tree.current, "{node}: {tree:?}");
        }
    }
}
