//! The manual says what the code does: keys, commands, alarms and examples are compared.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use argh::SubCommands;
use twobox::config::keys::{BOARD_SECTIONS, SITE_SECTIONS, Section};
use twobox::console::alarm::{CATALOGUE, blocker_in_words, hold_in_words};
use twobox::console::command::{Command, KeyCommand, MirrorCommand, PeerCommand, parse};
use twobox::node::status::{Blocker, Hold};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn manual() -> String {
    std::fs::read_to_string(path("docs/manual.md")).unwrap()
}

/// The part of the manual between two marks must be this text; with UPDATE_SNAPSHOTS set, it becomes so.
fn assert_part(name: &str, text: &str) {
    let manual = manual();
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let start = manual.find(&begin).unwrap_or_else(|| panic!("no mark {begin}")) + begin.len();
    let stop = manual.find(&end).unwrap_or_else(|| panic!("no mark {end}"));
    if &manual[start..stop] != text && std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let changed = format!("{}{text}{}", &manual[..start], &manual[stop..]);
        std::fs::write(path("docs/manual.md"), changed).unwrap();
        return;
    }
    assert_eq!(&manual[start..stop], text, "docs/manual.md, {name}");
}

/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn sections(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        let _ = writeln!(text, "\n**`{}`** {}\n", section.header, section.meaning);
        text.push_str("| key | default | allowed | meaning |\n| --- | ------- | ------- | ------- |\n");
        for key in section.keys {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                key.name,
                cell(key.default),
                cell(key.allowed),
                cell(key.meaning)
            );
        }
    }
    text + "\n"
}

#[test]
fn every_key_stands_in_the_manual_with_default_range_and_meaning() {
    // One after the other: they write the same file when it is brought up to date.
    assert_part("site keys", &sections(SITE_SECTIONS));
    assert_part("board keys", &sections(BOARD_SECTIONS));
    let mut text = String::from("\n| command | what it does |\n| ------- | ------------ |\n");
    for command in Command::COMMANDS {
        let nested: &[&argh::CommandInfo] = match command.name {
            "key" => KeyCommand::COMMANDS,
            "mirror" => MirrorCommand::COMMANDS,
            "peer" => PeerCommand::COMMANDS,
            _ => &[],
        };
        let mut row = |words: &[&str], description: &str| {
            let help = parse("twobox", &[words, &["--help"]].concat()).unwrap_err().text;
            let usage: Vec<&str> = help.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
            let usage = usage.join(" ").replace("Usage: twobox ", "");
            let _ = writeln!(text, "| `{}` | {} |", cell(&usage), cell(description));
        };
        if nested.is_empty() {
            row(&[command.name], command.description);
        }
        for second in nested {
            row(&[command.name, second.name], second.description);
        }
    }
    assert_part("commands", &(text + "\n"));
    let rows = CATALOGUE.iter().map(|e| format!("| `{}` | {} | {} |\n", e.name, cell(e.text), cell(e.remedy)));
    let head = "\n| name | what is wrong | what to do |\n| ---- | ------------- | ---------- |\n";
    assert_part("alarms", &format!("{head}{}\n", rows.collect::<String>()));
    let holds = Hold::ALL.iter().map(|hold| format!("- {}\n", hold_in_words(*hold)));
    assert_part("holds", &format!("\n{}\n", holds.collect::<String>()));
    let blockers = Blocker::ALL.iter().map(|blocker| format!("- {}\n", blocker_in_words(*blocker)));
    assert_part("blockers", &format!("\n{}\n", blockers.collect::<String>()));
}

/// The code blocks of a document that begin with this line.
fn blocks(text: &str, fence: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(&format!("{fence}\n")) {
        let body = &rest[at + fence.len() + 1..];
        let end = body.find("\n```").unwrap() + 1;
        blocks.push(body[..end].to_owned());
        rest = &body[end..];
    }
    blocks
}

#[test]
fn the_examples_are_files_that_work() {
    let manual = manual();
    let (sites, boards) = (blocks(&manual, "```toml site"), blocks(&manual, "```toml board"));
    assert!(!sites.is_empty() && !boards.is_empty());
    for site in &sites {
        for board in &boards {
            let (_, problems) = twobox::config::parse(("site", site), ("board", board));
            assert_eq!(problems, [], "{problems:#?}");
        }
    }
}

#[test]
fn every_board_of_the_repository_is_a_good_board_file() {
    let manual = manual();
    let site = &blocks(&manual, "```toml site")[0];
    let mut count = 0;
    for entry in std::fs::read_dir(path("board")).unwrap() {
        let file = entry.unwrap().path().join("board.toml");
        if let Ok(board) = std::fs::read_to_string(&file) {
            let (_, problems) = twobox::config::parse(("site", site), (file.to_str().unwrap(), &board));
            assert_eq!(problems, [], "{problems:#?}");
            count += 1;
        }
    }
    assert!(count > 0, "no board was found");
}
