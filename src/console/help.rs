//! Help as argh makes it for 80 columns, set anew for a terminal of any width.

use super::report::wrap;

/// Where argh begins what it says about a word; its continued lines begin there too.
const COLUMN: usize = 20;
/// Where that begins if the words would otherwise take more than half of the line.
const NARROW: usize = 8;
/// A usage line that does not fit goes on here.
const USAGE: usize = 4;

/// The help in lines of less than `width` columns: the last one stays free, for terminals that go on by themselves.
pub(super) fn fold(help: &str, width: usize) -> String {
    let room = width.saturating_sub(1);
    let mut text = String::new();
    for paragraph in paragraphs(help) {
        let (head, said) = match paragraph.char_indices().nth(COLUMN) {
            Some((at, _)) if paragraph.starts_with(' ') && paragraph[..at].ends_with(' ') => paragraph.split_at(at),
            _ => ("", paragraph.as_str()),
        };
        let below = COLUMN > width / 2;
        let indent = match head {
            "" if paragraph.starts_with("Usage: ") => USAGE,
            "" => 0,
            _ if below => NARROW,
            _ => COLUMN,
        };
        let first =
            if below && !head.is_empty() { format!("{}\n{:indent$}", head.trim_end(), "") } else { head.into() };
        let lines = wrap(said, room.saturating_sub(indent).max(1));
        text.push_str(&first);
        text.push_str(&lines.join(&format!("\n{:indent$}", "")));
        text.push('\n');
    }
    text
}

/// Lines, each with those that continue it.
fn paragraphs(help: &str) -> Vec<String> {
    let mut paragraphs: Vec<String> = Vec::new();
    for line in help.lines() {
        match (line.strip_prefix(&" ".repeat(COLUMN)), paragraphs.last_mut()) {
            (Some(rest), Some(begun)) => {
                begun.push(' ');
                begun.push_str(rest.trim());
            }
            _ => paragraphs.push(line.to_owned()),
        }
    }
    paragraphs
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "\
Usage: twobox x [--long-option <value>] [--] <file>

what it does

Options:
  --long-option     said in more words than
                    fit
  --help, help      display usage information
";

    #[test]
    fn what_is_said_of_a_word_stays_beside_it() {
        assert_eq!(
            fold(HELP, 40),
            "\
Usage: twobox x [--long-option
    <value>] [--] <file>

what it does

Options:
  --long-option     said in more words
                    than fit
  --help, help      display usage
                    information
"
        );
    }

    #[test]
    fn a_wide_terminal_has_it_in_one_line_and_a_narrow_one_below() {
        assert!(fold(HELP, 120).contains("\n  --long-option     said in more words than fit\n"));
        assert!(fold(HELP, 24).contains("\n  --long-option\n        said in more\n        words than fit\n"));
        for width in 0..100 {
            let words = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            let folded = fold(HELP, width);
            assert_eq!(words(&folded), words(HELP), "{width}");
            let longest = folded.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(width < 24 || longest < width, "{width}: {longest}");
        }
    }
}
