//! What works on a box under the former image: a new one under which it does not is not kept. Pure.
//!
//! A kernel without the watchdog's driver, without BPF, or without that of the crossover's card makes a pair that looks healthy for
//! years, until a box hangs or a cable breaks. So what works is written to the state directory before a new image is installed, and the
//! new one reads it on trial.

/// The watchdog, by what it is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watchdog {
    /// None is armed.
    #[default]
    None,
    /// It is armed and no belt: the kernel's own timer, one that stops when it is closed, or one that is too slow.
    Weak,
    /// It counts.
    Belt,
}

/// What works on a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Equipment {
    /// Its watchdog.
    pub watchdog: Watchdog,
    /// The egress gate gives the bound.
    pub gate: bool,
    /// The peer is heard: by null modem, crossover, LAN.
    pub links: [bool; 3],
}

const WATCHDOGS: [(Watchdog, &str); 3] =
    [(Watchdog::None, "no-watchdog"), (Watchdog::Weak, "weak-watchdog"), (Watchdog::Belt, "watchdog")];
const GATE: &str = "gate";
const LINKS: [&str; 3] = ["null-modem", "crossover", "lan"];

impl Equipment {
    /// For the file: words, so that the next version may add some.
    #[must_use]
    pub fn encode(self) -> String {
        let (_, watchdog) = WATCHDOGS[self.watchdog as usize];
        let rest = [(GATE, self.gate)].into_iter().chain(LINKS.into_iter().zip(self.links));
        let words: Vec<&str> = rest.filter(|(_, works)| *works).map(|(word, _)| word).collect();
        format!("{watchdog} {}\n", words.join(" "))
    }

    /// From the file. What is not understood demands nothing: it is of another version, or damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Equipment {
        let words: Vec<&str> = str::from_utf8(bytes).unwrap_or_default().split_ascii_whitespace().collect();
        let watchdog = WATCHDOGS.iter().filter(|(_, name)| words.contains(name)).map(|(watchdog, _)| *watchdog).max();
        Equipment {
            watchdog: watchdog.unwrap_or_default(),
            gate: words.contains(&GATE),
            links: LINKS.map(|link| words.contains(&link)),
        }
    }

    /// There is no such watchdog under the new image. It will not come by itself: it is armed at the start or never.
    #[must_use]
    pub fn lacks_watchdog(self, new: Equipment) -> bool {
        new.watchdog < self.watchdog
    }

    /// What else is missing, and may take its time: the gate wants to know the speed of its interface, and a link wants two boxes.
    #[must_use]
    pub fn lacks(self, new: Equipment) -> Option<&'static str> {
        let links = LINKS.into_iter().zip(self.links.into_iter().zip(new.links));
        let mut all = [(GATE, (self.gate, new.gate))].into_iter().chain(links);
        all.find(|(_, (worked, works))| *worked && !*works).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Equipment = Equipment { watchdog: Watchdog::Belt, gate: true, links: [true; 3] };

    #[test]
    fn it_survives_its_file_and_what_is_none_demands_nothing() {
        for (watchdog, _) in WATCHDOGS {
            for bits in 0..16 {
                let links = [bits & 1 > 0, bits & 2 > 0, bits & 4 > 0];
                let one = Equipment { watchdog, gate: bits & 8 > 0, links };
                assert_eq!(Equipment::decode(one.encode().as_bytes()), one);
            }
        }
        for text in ["", "watchdo", "\0\0", "of another version"] {
            assert_eq!(Equipment::decode(text.as_bytes()), Equipment::default(), "{text:?}");
        }
        let later = Equipment::decode(b"lan gate moat watchdog null-modem crossover\n");
        assert_eq!(later, ALL, "a word more takes none away");
    }

    #[test]
    fn less_than_before_is_lacking_and_more_is_not() {
        let with = |watchdog| Equipment { watchdog, ..ALL };
        assert!(with(Watchdog::Belt).lacks_watchdog(with(Watchdog::Weak)));
        assert!(with(Watchdog::Weak).lacks_watchdog(with(Watchdog::None)));
        assert!(!with(Watchdog::Weak).lacks_watchdog(with(Watchdog::Belt)));
        assert_eq!(ALL.lacks(ALL), None);
        assert_eq!(ALL.lacks(Equipment { gate: false, ..ALL }), Some("gate"));
        assert_eq!(ALL.lacks(Equipment { links: [true, false, true], ..ALL }), Some("crossover"));
        // A cable that was out before is not asked for.
        let without = Equipment { links: [true, false, true], ..ALL };
        assert_eq!((without.lacks(without), without.lacks(ALL)), (None, None));
        assert_eq!(Equipment::default().lacks(Equipment::default()), None);
    }
}
