//! Whether a witness answers all pings, or limits them. Pure.
//!
//! A limit shows only at the full rate: in peace a few pings a second come below it. So the judgement of the last busy seconds
//! stands until a busy second says otherwise.

/// Fewer pings in a second say nothing.
const BUSY: u32 = 20;
/// So many busy seconds in a row with answers to some pings only are more than a moment's loss.
const SECONDS: u8 = 2;

/// One witness's pings and answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    sent: u32,
    answered: u32,
    partly: u8,
    limits: bool,
}

impl Tally {
    /// A ping has left.
    pub(super) fn sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }

    /// One was answered.
    pub(super) fn answered(&mut self) {
        self.answered = self.answered.saturating_add(1);
    }

    /// A second is over. Whether it has answered, if it was asked.
    pub(super) fn second(&mut self) -> Option<bool> {
        let (sent, answered) = (core::mem::take(&mut self.sent), core::mem::take(&mut self.answered));
        self.judge(sent, answered);
        (sent > 0 || answered > 0).then_some(answered > 0)
    }

    fn judge(&mut self, sent: u32, answered: u32) {
        if sent < BUSY {
            return;
        }
        if answered > 0 && answered < sent - sent / 4 {
            self.partly = self.partly.saturating_add(1);
            self.limits |= self.partly >= SECONDS;
        } else {
            // All are answered, or none: a witness that is off limits nothing.
            self.partly = 0;
            self.limits &= answered == 0;
        }
    }

    /// It answers only some.
    pub(super) fn limits(&self) -> bool {
        self.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(tally: &mut Tally, sent: u32, answered: u32) -> bool {
        (0..sent).for_each(|_| tally.sent());
        (0..answered).for_each(|_| tally.answered());
        tally.second();
        tally.limits()
    }

    #[test]
    fn a_limit_shows_at_the_full_rate_and_is_remembered_in_peace() {
        let mut tally = Tally::default();
        assert!(!second(&mut tally, 4, 1), "a few pings say nothing");
        assert!(!second(&mut tally, 40, 10));
        assert!(second(&mut tally, 40, 10));
        assert!(second(&mut tally, 4, 4));
        assert!(second(&mut tally, 40, 0), "off is not healed");
        assert!(!second(&mut tally, 40, 39));
    }

    #[test]
    fn a_moment_of_loss_is_no_limit() {
        let mut tally = Tally::default();
        assert!(!second(&mut tally, 40, 20));
        assert!(!second(&mut tally, 40, 40));
        assert!(!second(&mut tally, 40, 20));
    }
}
