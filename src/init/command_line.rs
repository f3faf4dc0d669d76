//! The kernel's command line: what the boot loader says to this program (`twobox.KEY=VALUE`).

/// What the boot loader said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `twobox.node=`: which box of the pair this is.
    pub node: Option<String>,
    /// `twobox.image=`: digest of the image that was booted, written by flash.sh.
    pub image: Option<String>,
    /// Words that begin with `twobox.` and mean nothing.
    pub unknown: Vec<String>,
}

impl CommandLine {
    /// Parses the text of `/proc/cmdline`. The last of several equal keys counts, as the kernel does it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for word in text.split_ascii_whitespace() {
            let Some(own) = word.strip_prefix("twobox.") else { continue };
            match own.split_once('=') {
                Some(("node", value)) => parsed.node = Some(value.to_owned()),
                Some(("image", value)) => parsed.image = Some(value.to_owned()),
                _ => parsed.unknown.push(word.to_owned()),
            }
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_words_are_taken_and_others_left() {
        let parsed = CommandLine::parse(
            "console=ttyS1 twobox.node=a quiet twobox.image=12ab twobox.node=b twobox.nod=a root=twobox.node=c\n",
        );
        assert_eq!(parsed.node.as_deref(), Some("b"));
        assert_eq!(parsed.image.as_deref(), Some("12ab"));
        assert_eq!(parsed.unknown, ["twobox.nod=a"]);
        assert_eq!(CommandLine::parse(""), CommandLine::default());
    }
}
