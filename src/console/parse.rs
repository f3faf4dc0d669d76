//! From a line, or the words after the program's name, to a command, or to what is wrong with them.

use argh::FromArgs;

use super::command::CommandLine;
use super::option;
use super::report::wrap;
use super::slip;

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
    /// The text, with its newlines.
    pub text: String,
    /// It is help that was asked for.
    pub asked: bool,
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
    if words == ["--version"] {
        words = vec!["version"];
    }
    match CommandLine::from_args(&[program], &words) {
        Ok(line) => Ok(CommandLine { socket, ..line }),
        Err(early) if early.status.is_ok() => Err(Explanation { text: fold(&early.output), asked: true }),
        Err(early) => Err(wrong(slip::explain(&early.output, &words), &words)),
    }
}

/// argh folds what it says about words at 80 columns, but not the usage line.
fn fold(text: &str) -> String {
    const WIDTH: usize = 79;
    let fold_line = |line: &str| {
        if line.chars().count() <= WIDTH { line.to_owned() } else { wrap(line, WIDTH - 4).join("\n    ") }
    };
    text.lines().map(|line| fold_line(line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, Hold, Version};
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
        assert_eq!(parse("", &["statsu"]).unwrap_err().text, "there is no command `statsu`; did you mean `status`?");
    }

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        for line in ["--help", "run --help", "console --help", "mirror sync --help", "peer --help", "update --help"] {
            let text = command(line).unwrap_err().text;
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{line}:\n{text}");
            assert!(text.lines().count() <= 30, "{line}:\n{text}");
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
