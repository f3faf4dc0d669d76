//! When a new image is kept. Pure.

use crate::time::Duration;

/// The pair must have been healthy for so long without a break.
pub const STEADY: Duration = Duration::from_secs(5);
/// A box that has not got there so long after its boot goes back.
pub const LIMIT: Duration = Duration::from_secs(300);

/// How a box on trial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Time since its boot.
    pub up: Duration,
    /// It serves now.
    pub serves: bool,
    /// A reset brings the former image.
    pub has_way_back: bool,
    /// For how long it has been Standby or Active and has heard its peer.
    pub healthy_for: Option<Duration>,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Look again.
    Wait,
    /// The image is good: make it the one that boots.
    Confirm,
    /// Start anew: the boot loader takes the former image.
    GoBack,
}

/// Judges. A box that serves never goes back by itself: its clients have nobody else. Its next boot is the former image
/// all the same, as long as the pair has not been healthy.
#[must_use]
pub fn judge(view: View) -> Verdict {
    match view.healthy_for {
        Some(healthy) if healthy >= STEADY => Verdict::Confirm,
        None if view.up >= LIMIT && !view.serves && view.has_way_back => Verdict::GoBack,
        _ => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_one_of_a_table() {
        let s = Duration::from_secs;
        for (up, serves, healthy_for, verdict) in [
            (s(10), false, None, Verdict::Wait),
            (s(10), false, Some(s(4)), Verdict::Wait),
            (s(10), false, Some(s(5)), Verdict::Confirm),
            (s(10), true, Some(s(5)), Verdict::Confirm),
            (s(299), false, None, Verdict::Wait),
            (s(300), false, None, Verdict::GoBack),
            (s(300), true, None, Verdict::Wait),
            (s(300), false, Some(s(1)), Verdict::Wait),
            (s(900), false, Some(s(5)), Verdict::Confirm),
        ] {
            let view = View { up, serves, healthy_for, has_way_back: true };
            assert_eq!(judge(view), verdict, "{up:?} {serves} {healthy_for:?}");
            // Without a former image a reset would only begin it all anew.
            let verdict = if verdict == Verdict::GoBack { Verdict::Wait } else { verdict };
            assert_eq!(judge(View { has_way_back: false, ..view }), verdict, "{up:?} {serves} {healthy_for:?}");
        }
    }
}
