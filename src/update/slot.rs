//! The slots: files of the boot loader's folder, their state in their names.

use core::fmt;

/// One image beside others: `twobox-NUMBER.efi`, with `+LEFT` or `+LEFT-DONE` before the dot while its tries are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The higher one is the newer one.
    pub number: u32,
    /// `None`: confirmed.
    pub tries: Option<Tries>,
}

/// Boots of an image that is not confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How often the boot loader may still take it.
    pub left: u32,
    /// How often it has.
    pub done: u32,
}

impl Slot {
    /// Understands a file's name. `None`: the file is no slot of ours. FAT does not keep the case of short names.
    #[must_use]
    pub fn parse(name: &str) -> Option<Slot> {
        let name = name.to_ascii_lowercase();
        let rest = name.strip_prefix("twobox-")?.strip_suffix(".efi")?;
        let (number, counters) =
            rest.split_once('+').map_or((rest, None), |(number, counters)| (number, Some(counters)));
        let tries = match counters {
            None => None,
            Some(counters) => {
                let (left, done) = counters.split_once('-').unwrap_or((counters, "0"));
                Some(Tries { left: digits(left)?, done: digits(done)? })
            }
        };
        Some(Slot { number: digits(number)?, tries })
    }

    /// The name while its content is being written: no slot for anybody.
    #[must_use]
    pub fn draft(self) -> String {
        format!("twobox-{}.new", self.number)
    }

    /// It has been booted and nobody has confirmed it.
    #[must_use]
    pub fn is_on_trial(self) -> bool {
        self.tries.is_some()
    }

    /// This boot was its only try, so the next one is the former image's. One that was booted more often than it had tries is
    /// the only one there is, and one with tries left is not counted by its boot loader: a reset would bring either back, for
    /// ever.
    #[must_use]
    pub fn has_way_back(self) -> bool {
        self.tries.is_some_and(|tries| tries == Tries { left: 0, done: 1 })
    }

    /// The same slot, put behind all others, and not as one that is just being tried.
    #[must_use]
    pub fn retired(self) -> Slot {
        Slot { tries: Some(Tries { left: 0, done: 2 }), ..self }
    }

    /// It was put behind all others, or is booted again and again because there is no other.
    #[must_use]
    pub fn is_retired(self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0 && tries.done > 1)
    }

    /// It had its tries and was not confirmed: the boot loader takes it only when there is no other.
    #[must_use]
    pub fn is_bad(self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }
}

fn digits(text: &str) -> Option<u32> {
    // parse() alone would take a sign.
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl fmt::Display for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "twobox-{}", self.number)?;
        match self.tries {
            None => {}
            Some(Tries { left, done: 0 }) => write!(out, "+{left}")?,
            Some(Tries { left, done }) => write!(out, "+{left}-{done}")?,
        }
        out.write_str(".efi")
    }
}

/// The steps of an installation, in their order: remove, write the draft, look at it, give it its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Everything but the way back.
    pub remove: Vec<Slot>,
    /// The name that makes it bootable.
    pub slot: Slot,
}

/// Plans an installation beside `way_back`. `None` when no number is left.
#[must_use]
pub fn plan(slots: &[Slot], way_back: Slot) -> Option<Installation> {
    let newest = slots.iter().map(|slot| slot.number).max().unwrap_or(way_back.number);
    let number = newest.max(way_back.number).checked_add(1)?;
    Some(Installation {
        remove: slots.iter().copied().filter(|slot| *slot != way_back).collect(),
        slot: Slot { number, tries: Some(Tries { left: 1, done: 0 }) },
    })
}

/// A slot, and what its file is found to be: `Err` says what is wrong with it.
pub type Looked = (Slot, Result<(), String>);

/// The image to go back to while another one is installed and tried: the one that runs, which has shown that it does. If its file is
/// damaged, the newest confirmed one that is whole, and `running` where there is none.
#[must_use]
pub fn way_back(slots: &[Looked], running: Slot) -> Slot {
    let is_whole = slots.iter().any(|(slot, found)| *slot == running && found.is_ok());
    if is_whole { running } else { newest_good(slots).unwrap_or(running) }
}

/// The newest image that is confirmed and whole.
fn newest_good(slots: &[Looked]) -> Option<Slot> {
    let good = slots.iter().filter(|(slot, found)| !slot.is_on_trial() && found.is_ok());
    good.map(|(slot, _)| *slot).max_by_key(|slot| slot.number)
}

/// Damaged images that the boot loader would take before one that is confirmed and whole. It looks at nothing but names, and does not go
/// on to another one when an image does not load.
#[must_use]
pub fn in_the_way(slots: &[Looked]) -> Vec<Slot> {
    let Some(good) = newest_good(slots) else { return Vec::new() };
    let is_taken_before = |slot: &Slot| !slot.is_bad() && slot.number > good.number;
    slots.iter().filter(|(slot, found)| found.is_err() && is_taken_before(slot)).map(|(slot, _)| *slot).collect()
}

/// A newer image than the running one was tried, and nobody confirmed it.
#[must_use]
pub fn rolled_back(slots: &[Slot], running: Slot) -> Option<Slot> {
    slots.iter().copied().find(|slot| slot.number > running.number && slot.is_bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(name: &str) -> Slot {
        Slot::parse(name).unwrap_or_else(|| panic!("{name}"))
    }

    fn slots(names: &str) -> Vec<Slot> {
        names.split_whitespace().map(slot).collect()
    }

    /// What systemd-boot takes (its documentation, "Automatic Boot Assessment"): the highest number; those without a try
    /// left come last. Then it uses up a try.
    fn boot(slots: &mut [Slot]) -> Option<Slot> {
        let chosen = slots.iter_mut().max_by_key(|slot| (!slot.is_bad(), slot.number))?;
        if let Some(tries) = &mut chosen.tries
            && tries.left > 0
        {
            *tries = Tries { left: tries.left - 1, done: tries.done + 1 };
        }
        Some(*chosen)
    }

    #[test]
    fn names_are_those_of_the_boot_loader() {
        assert_eq!(slot("twobox-1.efi"), Slot { number: 1, tries: None });
        assert_eq!(slot("TWOBOX-2.EFI"), Slot { number: 2, tries: None });
        assert_eq!(slot("twobox-12+1.efi"), Slot { number: 12, tries: Some(Tries { left: 1, done: 0 }) });
        assert_eq!(slot("twobox-3+0-1.efi"), Slot { number: 3, tries: Some(Tries { left: 0, done: 1 }) });
        for name in ["twobox-1.efi", "twobox-12+1.efi", "twobox-3+0-1.efi"] {
            assert_eq!(slot(name).to_string(), name);
        }
        for name in ["twobox-1.new", "twobox-.efi", "twobox-+1.efi", "twobox-1+.efi", "twobox-1+1-.x", "linux.efi", ""]
        {
            assert_eq!(Slot::parse(name), None, "{name}");
        }
        assert_eq!(Slot::parse("twobox-99999999999.efi"), None);
        assert_eq!(Slot::parse(&slot("twobox-7+1.efi").draft()), None);
    }

    #[test]
    fn a_good_update_is_kept_and_a_bad_one_is_tried_once() {
        let running = slot("twobox-1.efi");
        let plan = plan(&[running], running).unwrap();
        assert_eq!((plan.slot.to_string().as_str(), plan.remove.len()), ("twobox-2+1.efi", 0));
        let mut there = vec![running, plan.slot];
        let tried = boot(&mut there).unwrap();
        assert_eq!(tried.to_string(), "twobox-2+0-1.efi");
        assert!(tried.is_on_trial());
        assert!(tried.has_way_back());
        // Nobody confirmed it.
        assert_eq!(boot(&mut there), Some(running));
        assert_eq!(boot(&mut there), Some(running));
        assert_eq!(rolled_back(&there, running), Some(tried));
        // Confirmed it stays.
        let confirmed = Slot { tries: None, ..tried };
        there[1] = confirmed;
        assert_eq!(boot(&mut there), Some(confirmed));
        assert_eq!(rolled_back(&there, confirmed), None);
    }

    #[test]
    fn a_box_gives_an_image_up_only_for_another_one() {
        // The former image is gone: the loader takes the one that failed, again and again.
        let mut there = slots("twobox-2+1.efi");
        assert!(boot(&mut there).unwrap().has_way_back());
        for _ in 0..3 {
            let again = boot(&mut there).unwrap();
            there[0].tries = again.tries.map(|tries| Tries { done: tries.done + 1, ..tries });
            assert!(there[0].is_on_trial() && !there[0].has_way_back(), "{}", there[0]);
        }
        // A loader that cannot write counts nothing; a confirmed one needs no way back.
        assert!(!slot("twobox-2+1.efi").has_way_back());
        assert!(!slot("twobox-2.efi").has_way_back());
    }

    #[test]
    fn only_the_running_image_survives_the_next_installation() {
        let there = slots("twobox-3.efi twobox-4.efi twobox-5+0-1.efi");
        let plan = plan(&there, there[1]).unwrap();
        assert_eq!(plan.remove, slots("twobox-3.efi twobox-5+0-1.efi"));
        assert_eq!(plan.slot.number, 6);
        assert_eq!(super::plan(&[], Slot { number: u32::MAX, tries: None }), None);
    }

    #[test]
    fn the_power_may_fail_after_every_step() {
        let running = slot("twobox-4.efi");
        let mut there = slots("twobox-3.efi twobox-4.efi twobox-5+0-1.efi");
        let plan = plan(&there, running).unwrap();
        for gone in &plan.remove {
            there.retain(|slot| slot != gone);
            assert_eq!(boot(&mut there.clone()), Some(running), "without {gone}");
        }
        // The draft is no slot: the loader does not see it.
        assert_eq!(Slot::parse(&plan.slot.draft()), None);
        there.push(plan.slot);
        assert_eq!(boot(&mut there).map(|slot| slot.number), Some(plan.slot.number));
        assert_eq!(boot(&mut there), Some(running));
    }

    /// `!` stands before the name of a damaged one.
    fn looked(names: &str) -> Vec<Looked> {
        let look = |name: &str| match name.strip_prefix('!') {
            Some(name) => (slot(name), Err("damaged".to_owned())),
            None => (slot(name), Ok(())),
        };
        names.split_whitespace().map(look).collect()
    }

    #[test]
    fn a_damaged_image_is_booted_only_if_there_is_no_whole_one() {
        for (names, retired, boots) in [
            ("twobox-1.efi twobox-2.efi", "", "twobox-2.efi"),
            ("twobox-1.efi !twobox-2.efi", "twobox-2.efi", "twobox-1.efi"),
            ("twobox-1.efi !twobox-2.efi !twobox-3+1.efi", "twobox-2.efi twobox-3+1.efi", "twobox-1.efi"),
            ("!twobox-1.efi twobox-2.efi", "", "twobox-2.efi"),
            // A whole one that nobody has confirmed is no way back, and the only image is better than none.
            ("twobox-1+0-1.efi !twobox-2.efi", "", "twobox-2.efi"),
            ("!twobox-1.efi", "", "twobox-1.efi"),
            ("!twobox-1.efi !twobox-2.efi", "", "twobox-2.efi"),
            ("twobox-1.efi !twobox-2+0-1.efi", "", "twobox-1.efi"),
        ] {
            let there = looked(names);
            assert_eq!(in_the_way(&there), slots(retired), "{names}");
            let renamed = there.iter().map(|(slot, _)| *slot);
            let mut after: Vec<Slot> =
                renamed.map(|slot| if in_the_way(&there).contains(&slot) { slot.retired() } else { slot }).collect();
            assert_eq!(boot(&mut after), Some(slot(boots)), "{names}");
        }
        let retired = slot("twobox-2.efi").retired();
        assert!(retired.is_retired() && retired.is_bad() && !retired.has_way_back());
        assert_eq!(Slot::parse(&retired.to_string()), Some(retired));
        assert!(!slot("twobox-2+0-1.efi").is_retired() && !slot("twobox-2.efi").is_retired());
    }

    #[test]
    fn the_way_back_is_whole_if_any_image_is() {
        let running = slot("twobox-2.efi");
        for (names, expected) in [
            ("twobox-1.efi twobox-2.efi", "twobox-2.efi"),
            ("!twobox-1.efi twobox-2.efi", "twobox-2.efi"),
            ("twobox-1.efi !twobox-2.efi", "twobox-1.efi"),
            ("!twobox-1.efi !twobox-2.efi", "twobox-2.efi"),
            ("twobox-1+0-1.efi !twobox-2.efi", "twobox-2.efi"),
        ] {
            assert_eq!(way_back(&looked(names), running), slot(expected), "{names}");
        }
    }

    proptest! {
        #[test]
        fn every_slot_survives_its_name(number: u32, tries: Option<(u32, u32)>) {
            let tries = tries.map(|(left, done)| Tries { left, done });
            let slot = Slot { number, tries };
            prop_assert_eq!(Slot::parse(&slot.to_string()), Some(slot));
        }

        #[test]
        fn any_name_is_understood_or_not_without_panic(name: String) {
            let _ = Slot::parse(&name);
            let _ = Slot::parse(&format!("twobox-{name}.efi"));
        }
    }
}
