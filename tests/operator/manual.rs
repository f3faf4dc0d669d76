//! The manual says what the code does: keys, commands, alarms and examples are compared.

use std::fmt::Write;

use argh::SubCommands;
use twobox::config::keys::{BOARD_SECTIONS, SITE_SECTIONS, Section};
use twobox::console::alarm::{CATALOGUE, NO_BELT, PEER_NO_QUORUM, blocker_in_words, hold_in_words};
use twobox::console::command::{Command, below};
use twobox::console::parse::parse;
use twobox::node::status::{Blocker, Hold, PeerBlocked};

use super::fields;
use super::messages::{self, cell, path};

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
        let nested = below(command.name);
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
    let of_the_peer = PeerBlocked::ALL.into_iter().map(PeerBlocked::name);
    let blockers = Blocker::ALL.iter().map(|blocker| blocker_in_words(*blocker)).chain(of_the_peer);
    let blockers = blockers.chain([PEER_NO_QUORUM, NO_BELT]);
    let blockers = blockers.map(|text| format!("- {text}\n"));
    assert_part("refusals", &messages::refusals());
    assert_part("words", &messages::own_words());
    assert_part("starts", &messages::starts());
    assert_part("keys", &messages::keys());
    assert_part("warnings", &messages::warnings());
    assert_part("boot", &boot());
    assert_part("fields", &fields::tables());
    assert_part("waits", &waits());
    assert_part("measured", &measured());
    assert_part("measured boxes", &measured_boxes());
    assert_part("blockers", &format!("\n{}\n", blockers.collect::<String>()));
}

/// The steps of the boot and what the failure of each means.
fn boot() -> String {
    use twobox::init::boot::{STEPS, Then};
    let mut text = String::from("\n| step | if it fails | the box |\n| ---- | ----------- | ------- |\n");
    for step in STEPS {
        let then = match step.then {
            Then::GoOn => "goes on",
            Then::Hold => "held",
            Then::Wait => "waits",
        };
        let _ = writeln!(text, "| {} | {} | {then} |", step.name, cell(step.meaning));
    }
    text + "\n"
}

/// C of each profile with each belt, for the board file's default watchdog and the site file's default time-outs.
fn waits() -> String {
    use std::time::Duration;
    use twobox::config::timing::{Belt, Firing, Plan, Profile};
    let shown = |time: Duration| match time.as_micros().div_ceil(1000) {
        ms @ ..1000 => format!("{ms} ms"),
        // Up: a wait is never told shorter than it is.
        ms => format!("{}.{} s", ms.div_ceil(100) / 10, ms.div_ceil(100) % 10),
    };
    let mut text = String::from(
        "\n| profile | L | C with the gate | C with a 2 s watchdog | C with the addresses' lifetime only |\n",
    );
    text.push_str("| ------- | - | --------------- | --------------------- | ----------------------------------- |\n");
    for (name, profile) in [("default", Profile::Default), ("fast", Profile::Fast), ("fastest", Profile::Fastest)] {
        let watchdog = Firing { timeout: Duration::from_secs(2), percent: 110, reset_time: Duration::from_millis(100) };
        let plan = Plan {
            timing: profile.timing(),
            boot_wait: Duration::from_secs(60),
            watchdog: Some(watchdog),
            longest_watchdog_bound: Duration::from_secs(9),
            null_modem_baud: None,
        };
        let wait = |belt| shown(plan.claim_wait(belt).unwrap());
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} |",
            shown(plan.timing.lease),
            wait(Belt::Gate),
            wait(Belt::Watchdog),
            wait(Belt::AddressLease)
        );
    }
    text + "\n"
}

/// Cells of the rows of a table that `tests/bench` has recorded.
fn recorded(command: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path("docs/performance.md")).unwrap();
    let (_, rest) = text.split_once(&format!("<!-- {command} -->")).expect("the command's mark");
    let rows = rest.split("<!-- end -->").next().unwrap().lines().filter(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

/// Outages by profile, as the benchmark of hand-overs has recorded them.
fn measured() -> String {
    let rows = recorded("tests/bench failover");
    let mut text = String::from("\n| profile | planned hand-over | power of the active box |\n");
    text.push_str("| ------- | ----------------- | ----------------------- |\n");
    for profile in ["default", "fast", "fastest"] {
        let name = format!("twobox {profile}");
        let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no row {name}"));
        let _ = writeln!(text, "| {profile} | {} ms | {} ms |", row[1], row[2]);
    }
    text + "\n"
}

/// Outages of two boxes that boot from their images.
fn measured_boxes() -> String {
    let rows = recorded("tests/bench appliance");
    let mut text = String::from("\n| what fails | median | most |\n| ---------- | ------ | ---- |\n");
    let outages = rows.iter().filter_map(|row| Some((row[0].strip_suffix(": outage, s")?, row)));
    let before = text.len();
    for (what, row) in outages {
        let _ = writeln!(text, "| {what} | {} s | {} s |", row[1], row[3]);
    }
    assert!(text.len() > before, "no outage is recorded");
    text + "\n"
}

/// The code blocks of a document that begin with this line; a block in a list is indented, and so are its marks.
fn blocks(text: &str, fence: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (inside, line.trim_start()) {
            (false, start) if start == fence => {
                inside = true;
                blocks.push(String::new());
            }
            (true, "```") => inside = false,
            (true, _) => {
                let block = blocks.last_mut().expect("one was begun");
                block.push_str(line);
                block.push('\n');
            }
            (false, _) => {}
        }
    }
    blocks
}

#[test]
fn the_examples_are_files_that_work() {
    let text = manual() + &std::fs::read_to_string(path("README.md")).unwrap();
    let (sites, boards) = (blocks(&text, "```toml site"), blocks(&text, "```toml board"));
    assert!(sites.len() >= 2 && boards.len() >= 2);
    // No block of TOML is left out because its kind is not told.
    assert_eq!(text.matches("```toml").count(), sites.len() + boards.len());
    for site in &sites {
        for board in &boards {
            let (_, problems) = twobox::config::parse(("site", site), ("board", board));
            assert_eq!(problems, [], "{problems:#?}");
        }
    }
}

/// What stands in a pair of backquotes, or on a line of a code block, and begins as a command.
fn commands(text: &str) -> Vec<String> {
    // Pairs are counted line by line: a block's marks are no pairs.
    let quoted = text.lines().filter(|line| !line.contains("```"));
    let quoted = quoted.flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned));
    let mut found: Vec<String> = quoted.collect();
    let mut inside = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            found.push(line.to_owned());
        }
    }
    // What follows `#` or two spaces is a remark.
    let bare = |line: String| line.split(" #").next().unwrap_or_default().trim().to_owned();
    let found = found.into_iter().map(bare).filter(|line| line.starts_with("twobox ") && !line.contains('\n'));
    found.filter(|line| !line.contains("...")).collect()
}

/// Words that stand for something in a document, and something that they may stand for.
const PLACEHOLDERS: [(&str, &str); 8] = [
    ("COMMAND", "status"),
    ("[--json | --watch]", ""),
    ("FILE", "/f"),
    ("SECONDS", "5"),
    ("NAME", "x"),
    ("[PATH]", ""),
    ("a|b", "a"),
    ("IMAGE", "/i"),
];

#[test]
fn every_command_in_the_documents_is_understood() {
    let mut count = 0;
    for name in ["README.md", "docs/manual.md", "docs/architecture.md", "docs/appliance.md", "docs/mirror.md"] {
        let text = std::fs::read_to_string(path(name)).unwrap();
        for command in commands(&text) {
            if command.starts_with("twobox mirror-child") {
                continue; // the daemon's own, not an operator's
            }
            let filled = PLACEHOLDERS.iter().fold(command.clone(), |line, (from, to)| line.replace(from, to));
            let words = twobox::console::parse::words(&filled).unwrap();
            let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            if let Err(explanation) = parse("twobox", &words) {
                // A sentence may name a command without what it needs; it may not name one that is none.
                let text = &explanation.text;
                let named = text.contains("` needs ") || text.contains(" needs a value;");
                assert!(explanation.asked || named, "{name}: {command}: {}", explanation.text);
            }
            count += 1;
        }
    }
    assert!(count > 12, "{count} commands were found");
}

#[test]
fn every_file_that_a_document_names_is_there() {
    for name in ["README.md", "docs/manual.md", "docs/architecture.md"] {
        let text = std::fs::read_to_string(path(name)).unwrap();
        let folder = path(name).parent().unwrap().to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            assert!(link.starts_with("http") || file.is_empty() || folder.join(file).exists(), "{name}: {link}");
        }
        let quoted =
            text.lines().filter(|line| !line.contains("```")).flat_map(|line| line.split('`').skip(1).step_by(2));
        let places = ["src/", "tests/", "docs/", "board/", "benches/", "initramfs/"];
        for file in
            quoted.filter(|text| places.iter().any(|place| text.starts_with(place)) && !text.contains([' ', '*', '<']))
        {
            let file = file.split(['#', ':']).next().unwrap();
            assert!(
                file.contains("NAME") || path(file).exists() || path(&format!("{file}.rs")).exists(),
                "{name}: {file}"
            );
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
            let (config, problems) = twobox::config::parse(("site", site), (file.to_str().unwrap(), &board));
            assert_eq!(problems, [], "{problems:#?}");
            let folder = file.parent().unwrap().file_name().unwrap();
            assert_eq!(config.board.name.as_str(), folder, "one name");
            count += 1;
        }
    }
    assert!(count > 0, "no board was found");
}
