//! Completion of words and names at the console's prompt. Pure.

use argh::SubCommands;

use super::command::{Command, below};
use super::status::Status;

/// Words of the command line that make no sense at a prompt: they are programs of their own.
pub const ELSEWHERE: [&str; 2] = ["run", "console"];

/// Commands that open files, which a confined console cannot.
pub const OF_FILES: [&str; 2] = ["check", "key"];

/// The commands of the prompt with a line about each; of a confined console's prompt, if it is one.
pub fn commands(is_confined: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let known = Command::COMMANDS
        .iter()
        .filter(move |command| !(ELSEWHERE.contains(&command.name) || is_confined && OF_FILES.contains(&command.name)));
    known.map(|command| (command.name, command.description))
}

/// What may follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Text to put in at the cursor.
    pub insert: String,
    /// Words that fit, when there are several and nothing can be put in.
    pub candidates: Vec<String>,
}

/// Completes the last word of `before`, the text before the cursor.
#[must_use]
pub fn complete(before: &str, status: Option<&Status>, is_confined: bool) -> Completion {
    let start = before.rfind(' ').map_or(0, |at| at + 1);
    let (done, word) = before.split_at(start);
    let done: Vec<&str> = done.split_whitespace().collect();
    let mut fitting: Vec<String> =
        known(&done, status, is_confined).into_iter().filter(|known| known.starts_with(word)).collect();
    fitting.sort();
    fitting.dedup();
    let common = common_start(&fitting);
    let mut insert = common.get(word.len()..).unwrap_or("").to_owned();
    if fitting.len() == 1 {
        insert.push(' ');
    }
    let candidates = if insert.is_empty() && fitting.len() > 1 { fitting } else { Vec::new() };
    Completion { insert, candidates }
}

/// The words that may stand after `done`.
fn known(done: &[&str], status: Option<&Status>, is_confined: bool) -> Vec<String> {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let names = |commands: &[&argh::CommandInfo]| commands.iter().map(|command| command.name.to_owned()).collect();
    let trees = || status.map_or_else(Vec::new, |status| status.mirror.iter().map(|tree| tree.tree.clone()).collect());
    match done {
        [] => commands(is_confined).map(|(name, _)| name.to_owned()).chain(owned(&["help", "exit"])).collect(),
        ["help"] => commands(is_confined).map(|(name, _)| name.to_owned()).collect(),
        [first @ ("key" | "mirror" | "peer")] | ["help", first] => names(below(first)),
        ["mirror", "sync"] => [trees(), owned(&["--confirm-delete", "--json"])].concat(),
        ["mirror", "verify"] => [trees(), owned(&["--json"])].concat(),
        ["mirror", "diverged"] => owned(&["list", "show", "restore", "drop"]),
        ["status"] => owned(&["--json", "--watch"]),
        ["peer", "status"] | ["mirror", "status"] => owned(&["--json"]),
        ["activate"] => owned(&["--force"]),
        ["switchover"] => owned(&["--lose-changes"]),
        ["log"] => owned(&["-f", "-n"]),
        ["history"] | ["peer", "log"] => owned(&["-n"]),
        ["update"] => owned(&["--pair"]),
        _ => Vec::new(),
    }
}

/// The longest text with which all of them begin.
fn common_start(words: &[String]) -> &str {
    let Some(first) = words.first() else { return "" };
    let mut length = first.len();
    for word in &words[1..] {
        length = length.min(first.bytes().zip(word.bytes()).take_while(|(a, b)| a == b).count());
    }
    while !first.is_char_boundary(length) {
        length -= 1;
    }
    &first[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inserted(before: &str) -> String {
        complete(before, None, false).insert
    }

    #[test]
    fn words_are_completed_as_far_as_they_are_clear() {
        assert_eq!(inserted("statu"), "s ");
        assert_eq!(inserted("sw"), "itchover ");
        assert_eq!(inserted("re"), "");
        assert_eq!(complete("re", None, false).candidates, ["reboot", "release"]);
        assert_eq!(inserted("mirror di"), "verged ");
        assert_eq!(inserted("peer l"), "og ");
        assert_eq!(inserted("help act"), "ivate ");
        assert_eq!(inserted("xyz"), "");
        assert_eq!(inserted("hold re"), "");
    }

    #[test]
    fn names_come_from_the_status() {
        let mut status: Status =
            serde_json::from_str(include_str!("../../tests/operator/snapshots/status.json")).unwrap();
        assert_eq!(complete("mirror sync /data/m", Some(&status), false).insert, "ail ");
        status.mirror[1].tree = "/data/m\u{e4}r".into();
        assert_eq!(complete("mirror sync /da", Some(&status), false).insert, "ta/m");
    }

    #[test]
    fn programs_of_their_own_are_not_offered() {
        assert!(commands(false).all(|(name, _)| name != "run" && name != "console"));
    }

    #[test]
    fn a_confined_console_offers_nothing_that_opens_files() {
        assert_eq!(inserted("che"), "ck ");
        for before in ["che", "help che", "ke"] {
            assert_eq!(complete(before, None, true), Completion::default(), "{before}");
        }
        assert_eq!(commands(false).count(), commands(true).count() + OF_FILES.len());
    }
}
