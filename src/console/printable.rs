//! Text of others on its way to a terminal: names of files, the output of services, words of the peer and of a kernel that has died.

/// A line whose control characters do no harm: each is shown as a question mark.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect()
}

/// The same of several lines.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_others_never_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\td"), "a?[2Jb?c\td");
        assert_eq!(printable_lines("a\x07\nb\r\nc\rd"), "a?\nb\nc?d");
    }
}
