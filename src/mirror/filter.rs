//! Which names belong to a tree: all below its root but those excluded and those that another entry rules.

use super::name;

/// What stores are called: those of other trees may lie in this one, where somebody has mounted it elsewhere again.
const STORE: &[u8] = b".twobox";

/// What a tree leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The tree is this one file in its directory.
    pub only: Option<Vec<u8>>,
    /// Keys of what more specific entries rule, and of the mirror's own store.
    pub others: Vec<Vec<u8>>,
    /// Patterns for one name, and patterns for a whole path below the root, as keys.
    pub patterns: Vec<Vec<u8>>,
}

impl Filter {
    /// Understands the patterns of a configuration: with `/` they are for the path below the root, without for any name.
    #[must_use]
    pub fn new(exclude: &[String], only: Option<Vec<u8>>, others: Vec<Vec<u8>>) -> Self {
        let patterns = exclude
            .iter()
            .map(|pattern| match pattern.strip_prefix('/') {
                Some(rooted) => [b"\0", rooted.replace('/', "\0").as_bytes()].concat(),
                None => pattern.replace('/', "\0").into_bytes(),
            })
            .collect();
        Filter { only, others, patterns }
    }

    /// The name is left out, and everything below it.
    #[must_use]
    pub fn leaves_out(&self, key: &[u8]) -> bool {
        let Some((_, last)) = name::split(key) else { return self.only.is_some() };
        if let Some(only) = &self.only {
            return key != only;
        }
        last == STORE
            || self.others.iter().any(|other| other == key)
            || self.patterns.iter().any(|pattern| match pattern.strip_prefix(b"\0") {
                Some(rooted) => matches(rooted, key),
                None if pattern.contains(&0) => matches(pattern, key),
                None => matches(pattern, last),
            })
    }

    /// The name, or a directory that it is in, is left out.
    #[must_use]
    pub fn leaves_out_path(&self, key: &[u8]) -> bool {
        if self.only.is_some() {
            return self.leaves_out(key);
        }
        let ends = key.iter().enumerate().filter(|(_, b)| **b == 0).map(|(at, _)| at);
        ends.chain([key.len()]).any(|end| end > 0 && self.leaves_out(&key[..end]))
    }
}

/// glob(7) without the shell's braces: `*` and `?` do not cross a separator, `[a-z]`, `[!a-z]`, `\` quotes.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(_) => one(&pattern[p..], text[t]),
            None => None,
        };
        match (step, star) {
            (Some(n), _) => {
                p += n;
                t += 1;
            }
            (None, Some((sp, st))) if text[st] != 0 => {
                star = Some((sp, st + 1));
                p = sp + 1;
                t = st + 1;
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// How much of the pattern matches this one byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => (byte != 0).then_some(1),
        [b'\\', quoted, ..] => (*quoted == byte).then_some(2),
        [b'[', rest @ ..] => {
            let negated = rest.first() == Some(&b'!');
            let set = &rest[usize::from(negated)..];
            let Some(end) = set.iter().skip(1).position(|&b| b == b']').map(|n| n + 1) else {
                return (byte == b'[').then_some(1); // never closed: an ordinary character
            };
            let mut at = 0;
            let mut found = false;
            while at < end {
                if at + 2 < end && set[at + 1] == b'-' {
                    found |= (set[at]..=set[at + 2]).contains(&byte);
                    at += 3;
                } else {
                    found |= set[at] == byte;
                    at += 1;
                }
            }
            (found != negated && byte != 0).then_some(2 + usize::from(negated) + end)
        }
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*.tmp", "a.tmp", true),
            ("*.tmp", "a.tmp2", false),
            ("a*b*c", "aXbYbc", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[", "[", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*", "a\0b", false),
            ("a\0*", "a\0b", true),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text:?}");
        }
    }

    #[test]
    fn what_a_tree_leaves_out() {
        let filter = Filter::new(&["*.tmp".into(), "cache/*".into(), "/top".into()], None, vec![b"mail\0new".to_vec()]);
        for out in ["x.tmp", "d\0x.tmp", "cache\0y", "top", "mail\0new"] {
            assert!(filter.leaves_out(out.as_bytes()), "{out:?}");
        }
        for within in ["", "cache", "d\0top", "mail", "mail\0newer"] {
            assert!(!filter.leaves_out(within.as_bytes()), "{within:?}");
        }
        assert!(filter.leaves_out_path(b"mail\0new\0deep") && !filter.leaves_out_path(b"mail\0old"));
        let file = Filter::new(&[], Some(b"passwd".to_vec()), Vec::new());
        assert!(file.leaves_out(b"") && file.leaves_out(b"shadow") && !file.leaves_out(b"passwd"));
    }
}
