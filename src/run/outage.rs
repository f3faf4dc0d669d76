//! Whether the LAN was away and is back, as the witnesses' answers tell: a switch that starts anew keeps its ports' carriers all the
//! while, and passes nothing for half a minute. Pure.

/// So many looks in a row without an answer are more than a moment's loss.
const LOOKS: u8 = 2;

/// What the looks so far have shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outage {
    silent: u8,
}

impl Outage {
    /// A look is over. `answered`: whether any witness has answered since the last one, if any was asked. True when it is the first
    /// one after an outage.
    pub(super) fn look(&mut self, answered: Option<bool>) -> bool {
        match answered {
            None => false,
            Some(false) => {
                self.silent = self.silent.saturating_add(1);
                false
            }
            Some(true) => core::mem::take(&mut self.silent) >= LOOKS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_ends_with_the_first_answer_and_a_lost_one_is_none() {
        let mut outage = Outage::default();
        let looks = [Some(true), Some(false), Some(true), Some(false), None, Some(false), None, Some(true), Some(true)];
        let ends: Vec<bool> = looks.into_iter().map(|answered| outage.look(answered)).collect();
        assert_eq!(ends, [false, false, false, false, false, false, false, true, false]);
    }
}
