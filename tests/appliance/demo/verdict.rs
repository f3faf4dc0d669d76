//! What a run has shown, from what was seen outside the boxes. Pure.

use std::time::Duration;

use crate::rig::station::Reign;

/// Two hand-overs are never so near to each other: a shorter reign between two of the other box is a box that spoke
/// beside the other one.
const SHORTEST_REIGN: Duration = Duration::from_secs(1);

/// What came of one act of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The act, as it was written.
    pub act: String,
    /// When it began.
    pub at: Duration,
    /// Who serves after it; `None`: nobody, or the act could not be carried out.
    pub served_by: Option<usize>,
    /// Longest time without a page from its begin on.
    pub outage: Duration,
    /// What went wrong.
    pub fault: Option<String>,
}

/// Says where two boxes were seen to send as holder of the service address at once.
pub fn two_owners(reigns: &[Reign]) -> Option<String> {
    reigns.windows(3).find_map(|three| {
        let [before, between, after] = three else { return None };
        let short = between.last.saturating_sub(between.first) < SHORTEST_REIGN;
        (before.port == after.port && short).then(|| {
            format!(
                "{} sent as holder at {:.3} s, while {} served",
                ["a", "b"][between.port],
                between.first.as_secs_f64(),
                ["a", "b"][before.port]
            )
        })
    })
}

/// What [`two_owners`] found, as a line.
pub fn told(reigns: &[Reign]) -> String {
    match two_owners(reigns) {
        Some(owners) => format!("TWO OWNERS: {owners}\n"),
        None => format!("never two owners on the LAN, in {} reigns\n", reigns.len()),
    }
}

/// The table of the acts and the judgement: text, and whether all was well.
pub fn verdict(results: &[Done], reigns: &[Reign], wrong: u64) -> (String, bool) {
    let mut text = String::from("\n     at  act                                       served by  outage\n");
    for result in results {
        let name = result.served_by.map_or("nobody", |index| ["a", "b"][index]);
        let outage = if result.outage.is_zero() { "-".into() } else { seconds(result.outage) };
        text += &format!("{:7.1}  {:<41} {name:<9} {outage:>7}\n", result.at.as_secs_f64(), result.act);
        if let Some(fault) = &result.fault {
            text += &format!("         FAILED: {fault}\n");
        }
    }
    let failed = results.iter().filter(|result| result.fault.is_some()).count();
    let longest = results.iter().max_by_key(|result| result.outage);
    let good = failed == 0 && two_owners(reigns).is_none() && wrong == 0 && !results.is_empty();
    text += "\n";
    text += &told(reigns);
    text += &match failed {
        0 => "served again after every act\n".to_owned(),
        failed => format!("FAILED: {failed} of {} acts\n", results.len()),
    };
    if wrong > 0 {
        text += &format!("WRONG PAGES: {wrong}\n");
    }
    if let Some(longest) = longest.filter(|longest| !longest.outage.is_zero()) {
        text += &format!("longest outage {}: {}\n", seconds(longest.outage), longest.act);
    }
    text += if good { "verdict: good\n" } else { "verdict: BAD\n" };
    (text, good)
}

/// A duration as it is shown everywhere in the demonstration.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reign(port: usize, first: u64, last: u64) -> Reign {
        Reign { port, first: Duration::from_millis(first), last: Duration::from_millis(last) }
    }

    fn result(act: &str, outage: u64, fault: Option<&str>) -> Done {
        let outage = Duration::from_millis(outage);
        Done { act: act.into(), at: Duration::ZERO, served_by: Some(1), outage, fault: fault.map(str::to_owned) }
    }

    #[test]
    fn a_hand_over_and_back_is_none_and_a_word_in_between_is() {
        let proper = [reign(0, 0, 5000), reign(1, 7600, 20_000), reign(0, 20_100, 30_000)];
        assert_eq!(two_owners(&proper), None);
        let late_word = [reign(0, 0, 5000), reign(1, 7600, 8000), reign(0, 8100, 8100), reign(1, 8110, 9000)];
        assert_eq!(two_owners(&late_word).unwrap(), "b sent as holder at 7.600 s, while a served");
        assert!(two_owners(&late_word[1..]).unwrap().contains("a sent as holder at 8.100 s"));
        assert_eq!(two_owners(&[]), None);
    }

    #[test]
    fn one_thing_that_is_not_well_makes_it_bad() {
        let good = [result("panic active", 2610, None), result("switchover", 0, None)];
        let reigns = [reign(0, 0, 5000), reign(1, 7600, 20_000)];
        let (text, is_good) = verdict(&good, &reigns, 0);
        assert!(is_good && text.contains("longest outage 2.61 s: panic active"), "{text}");
        assert!(!verdict(&good, &reigns, 1).1);
        assert!(!verdict(&[result("hang active", 9, Some("nobody serves"))], &reigns, 0).1);
        assert!(!verdict(&good, &[reign(0, 0, 9), reign(1, 10, 10), reign(0, 11, 99)], 0).1);
        assert!(!verdict(&[], &reigns, 0).1);
    }
}
