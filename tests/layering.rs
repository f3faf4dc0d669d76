//! Who imports whom is what the table in `src/lib.rs` says; what decides is pure, and knows nothing of what touches the system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const MAP: &str = include_str!("../src/lib.rs");

/// The rows of the map: a room, and what it uses; `None` for all.
fn map() -> Vec<(String, Option<BTreeSet<String>>)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("//! | [`")?.trim_end_matches(" |").split(" | ").collect();
        let [room, _, uses] = cells[..] else { panic!("a row has three cells: {line}") };
        let uses = match uses {
            "all" => None,
            "nothing" => Some(BTreeSet::new()),
            rooms => Some(rooms.split(", ").map(str::to_owned).collect()),
        };
        Some((room.trim_end_matches("`]").to_owned(), uses))
    };
    MAP.lines().filter_map(row).collect()
}

/// What the pure rooms may not touch: clocks, threads, files, sockets, the heap where it is named.
const PURE: &[(&str, &[&str])] = &[
    ("time", &["std::", "libc::", "nix::"]),
    (
        "wire",
        &[
            "std::fs",
            "std::net::Tcp",
            "std::net::Udp",
            "std::time",
            "std::thread",
            "libc::",
            "nix::",
            "vec!",
            "String",
            "Box<",
        ],
    ),
    (
        "node",
        &[
            "std::",
            "libc::",
            "nix::",
            "vec!",
            "Vec::new",
            ".to_vec()",
            ".collect()",
            "format!",
            "String",
            "Box<",
            "unsafe",
        ],
    ),
];

fn sources(room: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let file = src.join(format!("{room}.rs"));
    let mut found = vec![];
    if file.is_file() {
        found.push(file);
    }
    let mut folders = vec![src.join(room)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "the room {room} has no files: the map is out of date");
    found
}

/// The code of a file, without comments and without its tests, which may use anything; so may a file of tests alone.
fn code(path: &Path) -> String {
    if path.file_name().is_some_and(|name| name == "tests.rs") {
        return String::new();
    }
    let text = std::fs::read_to_string(path).expect("a readable source file");
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// First path segments after every `crate::`, also inside `use crate::{a::b, c}`.
fn imported_rooms(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            rooms.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && c.is_alphanumeric() => {
                    rooms.insert(word(&list[i..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    rooms.remove("");
    rooms
}

#[test]
fn the_map_has_every_room_once() {
    let rooms: Vec<String> = map().into_iter().map(|(room, _)| room).collect();
    let declared = MAP.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let (mut rooms, mut declared) = (rooms, declared.map(str::to_owned).collect::<Vec<_>>());
    rooms.sort();
    declared.sort();
    assert_eq!(rooms, declared);
}

#[test]
fn rooms_import_what_the_map_says() {
    let mut wrong = vec![];
    for (room, allowed) in map() {
        let Some(allowed) = allowed else { continue };
        let mut unused = allowed.clone();
        for path in sources(&room) {
            for used in imported_rooms(&code(&path)) {
                unused.remove(&used);
                if used != room && !allowed.contains(&used) {
                    wrong.push(format!("{}: uses {used}", path.display()));
                }
            }
        }
        wrong.extend(unused.iter().map(|unused| format!("{room} does not use {unused}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_rooms_touch_nothing() {
    let mut wrong = vec![];
    for (room, forbidden) in PURE {
        for path in sources(room) {
            if path.ends_with("node/canonical.rs") {
                continue; // compiled for the model checker only
            }
            let code = code(&path);
            wrong.extend(
                forbidden.iter().filter(|word| code.contains(**word)).map(|word| format!("{}: {word}", path.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_loop_knows_all_sides() {
    let all = map().into_iter().filter(|(_, uses)| uses.as_ref().is_none_or(|uses| uses.contains("run")));
    assert_eq!(all.map(|(room, _)| room).collect::<Vec<_>>(), ["run"]);
}

#[test]
fn imports_are_found_in_every_form() {
    let found =
        imported_rooms("use crate::time::Instant; use crate::{wire::{pair, arp}, node};\nlet x = crate::link::open();");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["link", "node", "time", "wire"]);
}
