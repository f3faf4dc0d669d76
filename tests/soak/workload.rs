//! Files that change all the time, in the tree that the pair mirrors.

use std::fs;
use std::path::PathBuf;

use twobox::console::control::{MirrorRequest, Request};
use twobox::console::status::Role;

use crate::compare;
use crate::dice::Dice;
use crate::rig::{Rig, wait};

/// Names that files have.
const NAMES: u64 = 40;
/// Longest file.
const LONGEST: u64 = 200_000;

/// Sections for the site file of a rig of this name.
pub fn sections(name: &str) -> String {
    let dir = std::env::temp_dir().join(format!("tbpr{}-{name}/data", std::process::id()));
    let dir = dir.display();
    format!("[[mirror]]\ntree = \"{dir}/mail\"\nstore = \"{dir}\"\nevery = \"1s\"\nmax-delete = \"100%\"\n")
}

fn tree(rig: &Rig, node: &str) -> PathBuf {
    rig.path(node, "data").join("mail")
}

/// Empty trees on both boxes.
pub fn make_trees(rig: &Rig) {
    for node in ["a", "b"] {
        fs::create_dir_all(tree(rig, node)).unwrap();
    }
}

/// Some files of the serving box come, change and go.
pub fn change(rig: &Rig, dice: &mut Dice) {
    let Some(active) = rig.active() else { return };
    for _ in 0..10 {
        let path = tree(rig, active).join(format!("{}/{}", dice.roll(5), dice.roll(NAMES)));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if dice.roll(4) == 0 {
            let _ = fs::remove_file(&path);
        } else {
            let byte = dice.roll(256) as u8;
            fs::write(&path, vec![byte; dice.roll(LONGEST) as usize]).unwrap();
        }
    }
}

/// Asks for a copy, and compares both trees word by word.
pub fn compare(rig: &Rig) {
    let sync = Request::Mirror(MirrorRequest::Sync { tree: None, confirm_delete: false });
    let mut said = String::new();
    wait("the copy is whole", || {
        let Some(active) = ["a", "b"].into_iter().find(|node| rig.role(node) == Some(Role::Active)) else {
            return false;
        };
        match rig.order(active, &sync) {
            Ok(_) => true,
            Err(why) => {
                if said != why {
                    println!("  sync: {why}");
                }
                said = why;
                false
            }
        }
    });
    compare::assert_equal(&tree(rig, "a"), &tree(rig, "b"));
}
