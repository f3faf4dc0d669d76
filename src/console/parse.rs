//! From a line, or the words after the program's name, to a command, or to what is wrong with them.

use argh::FromArgs;

use super::command::CommandLine;
use super::{help, option, slip};

/// The words that a line was cut into, or why it could not be. Quotes group words, a backslash takes the next character
/// as it is.
///
/// # Errors
///
/// A quote that is not closed, a backslash at the end.
pub fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(c),
            (_, '\\') => {
                word.get_or_insert_default().push(characters.next().ok_or("a backslash at the end of the line")?);
            }
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// The text to show instead of a command: help that was asked for, or what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The text, with its newlines; help as for 80 columns.
    pub text: String,
    /// It is help that was asked for.
    pub asked: bool,
}

impl Explanation {
    /// The help, for a terminal of so many columns.
    #[must_use]
    pub fn folded(&self, columns: usize) -> String {
        help::fold(&self.text, columns)
    }
}

/// Parses the words after the program's name. Never exits. `--socket` may stand anywhere before a `--`.
///
/// # Errors
///
/// Help, or what is wrong with the words: for a program with a name one line that begins with it and ends with where the
/// help is, for the prompt only what is wrong.
pub fn parse(program: &str, arguments: &[&str]) -> Result<CommandLine, Explanation> {
    let wrong = |what: String, arguments: &[&str]| {
        let text =
            if program.is_empty() { what } else { format!("{program}: {what}; {}\n", slip::help(program, arguments)) };
        Explanation { text, asked: false }
    };
    let (socket, mut words) = option::lift_socket(arguments).map_err(|what| wrong(what.to_owned(), arguments))?;
    if words == ["--version"] || words == ["-V"] {
        words = vec!["version"];
    }
    // As of every other program; argh knows the long word only.
    if let [path @ .., "-h"] = &words[..]
        && slip::are_commands(path)
    {
        words = [path, &["--help"]].concat();
    }
    match CommandLine::from_args(&[program], &words) {
        Ok(line) => Ok(CommandLine { socket, ..line }),
        Err(early) if early.status.is_ok() => Err(Explanation { text: early.output, asked: true }),
        Err(early) => Err(wrong(slip::explain(&early.output, &words), &words)),
    }
}

#[cfg(test)]
mod tests {
    use argh::SubCommands;

    use super::super::command::{Command, Hold, Version, below};
    use super::*;

    fn command(line: &str) -> Result<Command, Explanation> {
        let words = words(line).unwrap();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        parse("twobox", &words).map(|line| line.command)
    }

    #[test]
    fn every_line_of_the_contract_is_understood() {
        for line in [
            "run --board /b --site /s --node a",
            "run --board /b --site /s --node b --state /var/lib/x",
            "check --board /b --site /s",
            "check --board /b --site /s --measure 5",
            "key new /k",
            "status",
            "status --json",
            "status --watch",
            "switchover",
            "hold",
            "hold changing the disk",
            "release",
            "activate --force",
            "drill",
            "mirror status",
            "mirror sync",
            "mirror sync /data --confirm-delete --json",
            "mirror verify /data",
            "mirror diverged",
            "mirror diverged restore 7-1 mail/x",
            "log",
            "log -n 5 -f",
            "peer status",
            "peer hold why",
            "peer release",
            "peer log -n 3",
            "peer reboot",
            "watch",
            "history",
            "console",
            "update --pair /i",
            "update /i",
            "reboot",
            "poweroff",
            "version",
            "--socket /s status",
        ] {
            assert!(command(line).is_ok(), "{line}: {:?}", command(line));
        }
    }

    #[test]
    fn wrong_words_are_explained_and_help_is_no_error() {
        assert!(!command("frobnicate").unwrap_err().asked);
        assert!(!command("run --board /b --site /s --node c").unwrap_err().asked);
        for seconds in ["0", "3601", "x"] {
            assert!(!command(&format!("check --board /b --site /s --measure {seconds}")).unwrap_err().asked);
        }
        assert!(!command("peer switchover").unwrap_err().asked);
        assert!(!command("").unwrap_err().asked);
        assert!(command("--help").unwrap_err().asked);
        assert!(command("hold --help").unwrap_err().asked);
    }

    #[test]
    fn the_socket_may_be_named_before_and_after_the_command() {
        for line in [
            "--socket /s status --json",
            "status --socket /s --json",
            "status --json --socket=/s",
            "run --board /b --socket /s --site /f --node a",
            "run --board=/b --socket=/s --site=/f --node=a --state=/x=y",
            "peer log --socket /s -n 3",
            "hold disk swap --socket /s",
        ] {
            let words = words(line).unwrap();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            assert_eq!(parse("twobox", &words).unwrap().socket, Some("/s".into()), "{line}");
        }
        for verbatim in [&["--socket", "/s"][..], &["--socket=/s"]] {
            let line = parse("twobox", &[&["hold", "--"], verbatim].concat()).unwrap();
            let words = verbatim.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!((line.socket, line.command), (None, Command::Hold(Hold { reason: words })), "words after --");
        }
        for line in ["status --socket", "status --socket=", "--socket /a status --socket /b"] {
            assert!(command(line).unwrap_err().text.contains("--socket"), "{line}");
        }
    }

    #[test]
    fn a_slip_is_one_line_with_the_word_that_was_meant_and_the_help() {
        for (line, expected) in [
            ("statsu", "twobox: there is no command `statsu`; did you mean `status`?; see `twobox --help`\n"),
            (
                "--sokcet /s status",
                "twobox: there is no option `--sokcet`; did you mean `--socket`?; see `twobox --help`\n",
            ),
            (
                "status --jsno",
                "twobox: `status` knows no option `--jsno`; did you mean `--json`?; see `twobox status --help`\n",
            ),
            (
                "peer stauts",
                "twobox: `peer` knows no command `stauts`; did you mean `status`?; see `twobox peer --help`\n",
            ),
            ("status now", "twobox: `status`: `now` is one word too many; see `twobox status --help`\n"),
            ("peer", "twobox: peer WHAT? One of status, hold, release, log, reboot; see `twobox peer --help`\n"),
            ("run --board /b --site /s --node c", "twobox: --node c: no node; a or b; see `twobox run --help`\n"),
            ("check --site /s", "twobox: `check` needs --board; see `twobox check --help`\n"),
            ("''", "twobox: an empty word is no command; see `twobox --help`\n"),
            ("peer ''", "twobox: `peer`: an empty word is no command; see `twobox peer --help`\n"),
            ("status ' '", "twobox: `status`: an empty word is one word too many; see `twobox status --help`\n"),
            ("check --site", "twobox: --site needs a value; see `twobox check --help`\n"),
            ("run --node=c", "twobox: --node c: no node; a or b; see `twobox run --help`\n"),
            (
                "status --jsno=1",
                "twobox: `status` knows no option `--jsno`; did you mean `--json`?; see `twobox status --help`\n",
            ),
        ] {
            assert_eq!(command(line).unwrap_err().text, expected);
        }
        assert_eq!(command("--version"), Ok(Command::Version(Version {})));
        assert_eq!(command("-V"), Ok(Command::Version(Version {})));
        for path in ["", "status", "mirror sync"] {
            assert_eq!(command(&format!("{path} -h")), command(&format!("{path} --help")), "{path}");
        }
        assert!(!command("hold on -h").unwrap_err().asked, "no command before it");
        assert!(matches!(command("hold -- -h"), Ok(Command::Hold(Hold { reason })) if reason == ["-h"]));
        assert_eq!(parse("", &["statsu"]).unwrap_err().text, "there is no command `statsu`; did you mean `status`?");
    }

    /// The words of every command.
    fn commands() -> Vec<Vec<&'static str>> {
        let first = || Command::COMMANDS.iter().map(|command| command.name);
        let second = first().flat_map(|name| below(name).iter().map(move |second| vec![name, second.name]));
        [vec![]].into_iter().chain(first().map(|name| vec![name])).chain(second).collect()
    }

    #[test]
    fn the_help_of_every_command_fits_a_terminal_of_80_columns_and_one_of_40() {
        for path in commands() {
            let help = parse("twobox", &[&path[..], &["--help"]].concat()).unwrap_err();
            for columns in [80, 40] {
                let text = help.folded(columns);
                assert!(text.lines().all(|line| line.chars().count() < columns), "{path:?}:\n{text}");
                assert!(!text.lines().any(|line| line.starts_with('-')), "{path:?}:\n{text}");
            }
            assert!(help.folded(80).lines().count() <= 30, "{path:?}");
        }
    }

    #[test]
    fn words_are_cut_as_a_shell_would() {
        assert_eq!(words("hold  the 'big disk'").unwrap(), ["hold", "the", "big disk"]);
        assert_eq!(words(r#"a\ b "c\"d" '' "#).unwrap(), ["a b", "c\"d", ""]);
        assert!(words("hold \"it").is_err() && words("x\\").is_err());
        assert_eq!(words("   ").unwrap(), [""; 0]);
    }
}
