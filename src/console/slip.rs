//! What is wrong with an operator's words: one line that names the word, the one that was probably meant, and the help.

use argh::{CommandInfo, FromArgs, SubCommands};

use super::command::{Command, CommandLine, below};
use crate::config::problem::nearest;

/// One line about words that argh did not take. Pure.
pub(super) fn explain(said: &str, arguments: &[&str]) -> String {
    let mut lines = said.lines();
    let first = lines.next().unwrap_or_default().trim().trim_end_matches('.');
    let rest: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    let level = Level::of(arguments);
    if first == "Unrecognized argument:" {
        let at: String = level.path.join(" ");
        let what = if level.commands.is_empty() { "one word too many" } else { "no command" };
        let at = if at.is_empty() { at } else { format!("`{at}`: ") };
        return format!("{at}an empty word is {what}");
    }
    if let Some(word) = first.strip_prefix("Unrecognized argument: ") {
        let word = word.trim_matches('"');
        let known = level.words();
        let meant = nearest(word, known.iter().map(String::as_str));
        let meant = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
        let kind = if word.starts_with('-') { "option" } else { "command" };
        return match level.path.as_slice() {
            path if level.commands.is_empty() && kind == "command" => {
                format!("`{}`: `{word}` is one word too many", path.join(" "))
            }
            [] => format!("there is no {kind} `{word}`{meant}"),
            path => format!("`{}` knows no {kind} `{word}`{meant}", path.join(" ")),
        };
    }
    if let Some((option, (value, why))) = first
        .strip_prefix("Error parsing option '")
        .and_then(|rest| rest.split_once("' with value '"))
        .and_then(|(option, rest)| Some((option, rest.split_once("': ")?)))
    {
        return format!("{option} {value}: {why}");
    }
    if let Some(option) = first.strip_prefix("No value provided for option '") {
        return format!("{} needs a value", option.trim_end_matches('\''));
    }
    if first.starts_with("Required") {
        let needed: Vec<&str> = rest.into_iter().filter(|line| !line.starts_with("Required")).collect();
        return format!("`{}` needs {}", level.path.join(" "), needed.join(", "));
    }
    if first.starts_with("One of the following subcommands") {
        let which = level.path.iter().map(|word| format!("{word} ")).collect::<String>();
        let known: Vec<&str> = level.commands.iter().map(|command| command.name).collect();
        return format!("{which}WHAT? One of {}", known.join(", "));
    }
    first.to_owned()
}

/// Where the help for these words is.
pub(super) fn help(program: &str, arguments: &[&str]) -> String {
    let words = [&[program], Level::of(arguments).path.as_slice(), &["--help"]].concat();
    format!("see `{}`", words.join(" "))
}

/// Every word is a command, or one below it.
pub(super) fn are_commands(words: &[&str]) -> bool {
    Level::of(words).path.len() == words.len()
}

/// How far the words were understood.
struct Level<'w> {
    /// The command, and the one below it.
    path: Vec<&'w str>,
    /// What may follow.
    commands: &'static [&'static CommandInfo],
}

impl<'w> Level<'w> {
    fn of(arguments: &[&'w str]) -> Self {
        let mut level = Level { path: Vec::new(), commands: Command::COMMANDS };
        for word in arguments {
            if level.commands.iter().all(|command| command.name != *word) {
                break;
            }
            level.commands = if level.path.is_empty() { below(word) } else { &[] };
            level.path.push(word);
        }
        level
    }

    /// Commands and options known here, the options out of the help itself.
    fn words(&self) -> Vec<String> {
        let asking = [self.path.as_slice(), &["--help"]].concat();
        let help = CommandLine::from_args(&["twobox"], &asking).err().map(|early| early.output).unwrap_or_default();
        let words = help.split(|c: char| !(c.is_alphanumeric() || c == '-')).filter(|word| word.starts_with("--"));
        let commands = self.commands.iter().map(|command| command.name);
        let words = words.filter(|word| word.len() > 2).chain(commands).chain(["--help"]);
        words.map(str::to_owned).collect()
    }
}
