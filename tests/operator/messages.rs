//! All that a user can be told, read from the sources: the manual has to hold it.

use std::path::{Path, PathBuf};

/// A file of the repository.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A cell of a table.
pub fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The next string literal of a source, as it is written, and what follows it.
fn literal(source: &str) -> Option<(&str, &str)> {
    let begin = source.find('"')? + 1;
    let mut escaped = false;
    let end = source[begin..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((&source[begin..begin + end], &source[begin + end + 1..]))
}

/// A format with `...` where a value stands.
fn shown(format: &str) -> String {
    format.split(['{', '}']).enumerate().map(|(index, part)| if index % 2 == 0 { part } else { "..." }).collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Why an order is refused and what to do about it: what the daemon's sources say.
pub fn refusals() -> String {
    let mut rows = std::collections::BTreeSet::new();
    for file in files(&path("src/run")) {
        let source = std::fs::read_to_string(file).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for (at, marker) in
            ["refuse(", "reason: ", "Some(("].into_iter().flat_map(|marker| source.match_indices(marker))
        {
            let (before, rest) = (&source[..at], source[at + marker.len()..].trim_start());
            let told = |text: &str| text.starts_with('"') || text.starts_with("format!(");
            let (reason, after) = match () {
                () if told(rest) => match literal(rest) {
                    Some(found) => found,
                    None => continue,
                },
                // The reason was put together a line before.
                () if rest.starts_with("reason, \"") => match before.rfind("let reason = format!(") {
                    Some(format) if at - format < 200 => (literal(&before[format..]).expect("its text").0, rest),
                    _ => continue,
                },
                () => continue,
            };
            let Some((remedy, _)) = literal(after) else { continue };
            if remedy.is_empty() {
                continue; // nobody is there to read it
            }
            rows.insert(format!("| {} | {} |\n", cell(&shown(reason)), cell(&shown(remedy))));
        }
        // What stops an update is a table of pairs.
        let obstacles = source.split("fn obstacle(").nth(1).and_then(|rest| rest.split("\n}\n").next());
        let mut rest = obstacles.unwrap_or_default();
        while let Some((reason, after)) = literal(rest) {
            let (remedy, after) = literal(after).expect("reasons and remedies come in pairs");
            rows.insert(format!("| {} | {} |\n", cell(reason), cell(remedy)));
            rest = after;
        }
    }
    assert!(rows.len() > 15, "{rows:#?}");
    let rows: String = rows.into_iter().collect();
    format!("\n| why | what to do |\n| --- | ---------- |\n{rows}\n")
}

/// What the command line says without a daemon, or before it asks one.
pub fn own_words() -> String {
    use twobox::console::client::Failure;
    let somewhere = || PathBuf::from("...");
    let mut lines: Vec<String> = [
        Failure::NotRunning(somewhere()),
        Failure::Forbidden(somewhere()),
        Failure::NoSocket(somewhere()),
        Failure::Silent,
        Failure::Died,
        Failure::Garbled("...".to_owned()),
        Failure::Io(std::io::Error::other("...")),
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    for name in ["src/console/execute.rs", "src/console/check.rs", "src/console/prompt.rs"] {
        let source = std::fs::read_to_string(path(name)).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for marker in ["refuse(face,", "misuse(face,", "complain(&format!(", "complain(\""] {
            for (at, _) in source.match_indices(marker) {
                // A text in quotes, or the first one of a format.
                let rest = &source[at + marker.len() - usize::from(marker.ends_with('"'))..];
                let rest = rest.trim_start().trim_start_matches("&format!(").trim_start();
                if let Some((text, _)) = literal(rest).filter(|_| rest.starts_with('"')) {
                    lines.push(told(text).trim_start_matches("twobox: ").to_owned());
                }
            }
        }
    }
    // What is put together elsewhere in the same source.
    lines.extend(in_functions("src/console/execute.rs", &["install", "not_made"]));
    list(lines, 20)
}

/// Why `run` does not start.
pub fn starts() -> String {
    let mut lines = Vec::new();
    for (name, functions) in [
        ("src/run/mod.rs", &["run", "await_random_numbers", "serve", "start_log"][..]),
        ("src/run/open.rs", &["open", "listen", "open_takeover", "not_opened", "mailbox", "interface_of", "ways"]),
        ("src/run/interface.rs", &["find"]),
        ("src/run/links.rs", &["open", "witnesses"]),
        ("src/run/single_instance.rs", &["claim"]),
        ("src/state/directory.rs", &["open"]),
        ("src/console/server.rs", &["bind"]),
    ] {
        lines.extend(in_functions(name, functions));
    }
    // Names, and pieces of a list.
    lines.retain(|line| !line.starts_with("twobox ") && *line != "... at ...");
    list(lines, 20)
}

/// What may be wrong with the pair's key and the console's password.
pub fn keys() -> String {
    let mut lines = in_functions("src/config/key_file.rs", &["load", "refuse_loose_access"]);
    lines.extend(in_functions("src/console/password.rs", &["create", "load"]));
    list(lines, 5)
}

/// What `check` allows, and may still surprise.
pub fn warnings() -> String {
    list(in_functions("src/console/check.rs", &["warnings"]), 10)
}

/// All that these functions of a source can tell an operator, but for what they write to the log.
fn in_functions(name: &str, functions: &[&str]) -> Vec<String> {
    let source = std::fs::read_to_string(path(name)).unwrap();
    let mut lines = Vec::new();
    for function in functions {
        let begin = format!("fn {function}");
        let at = source.match_indices(&begin).find(|(at, _)| source[at + begin.len()..].starts_with(['(', '<']));
        let (at, _) = at.unwrap_or_else(|| panic!("{name} has no function {function}"));
        // To the brace that ends it, which stands as far to the right as the function's own line.
        let line = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let indent = source[line..].len() - source[line..].trim_start().len();
        let body = source[at..].split(&format!("\n{}}}\n", &source[line..line + indent])).next().unwrap();
        let mut rest = body;
        while let Some((text, after)) = literal(rest) {
            let before = rest[..rest.len() - after.len() - text.len() - 2].trim_end();
            let to_others =
                before.ends_with("expect(") || before.rfind("log::").is_some_and(|log| !before[log..].contains(';'));
            let is_told = text.contains(' ') && text.contains(char::is_alphabetic);
            if is_told && !to_others {
                lines.push(told(text));
            }
            rest = after;
        }
    }
    lines
}

/// A literal of a source as it is told, values left out.
fn told(text: &str) -> String {
    let joined: Vec<&str> = text.split("\\\n").map(str::trim_start).collect();
    shown(joined.concat().trim()).replace("\\\"", "\"")
}

/// A list of what may be told; there are at least so many, or the source is not read as it should be.
fn list(mut lines: Vec<String>, least: usize) -> String {
    lines.retain(|line| line.contains(' ') && line.contains(char::is_alphabetic));
    lines.sort();
    lines.dedup();
    assert!(lines.len() >= least, "{lines:#?}");
    let lines: String = lines.iter().map(|line| format!("- {line}\n")).collect();
    format!("\n{lines}\n")
}
