//! When a new image is kept. Pure.

use crate::time::Duration;

/// The pair must have been healthy for so long without a break.
pub const STEADY: Duration = Duration::from_secs(5);
/// A box that has not got there so long after it has come to the pair goes back.
pub const LIMIT: Duration = Duration::from_secs(300);
/// And so long, if it lacks what does not come by itself.
pub const LACKING: Duration = Duration::from_secs(60);

/// How a box on trial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Time since its daemon started: a boot may wait ten minutes for a disk, and that is no fault of the image.
    pub up: Duration,
    /// It serves now.
    pub serves: bool,
    /// A reset brings the former image.
    pub has_way_back: bool,
    /// For how long it has been Standby or Active and has heard its peer, with the gate and the links that worked under the former
    /// image.
    pub healthy_for: Option<Duration>,
    /// It has a lesser watchdog than the former image, or none.
    pub lacks_watchdog: bool,
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
/// all the same, as long as the pair has not been healthy. What the former image had is demanded for as long as it is there to go
/// back to: a watchdog that has died meanwhile must not keep a box from updates for ever.
#[must_use]
pub fn judge(view: View) -> Verdict {
    let lacks_watchdog = view.lacks_watchdog && view.has_way_back;
    let may_go_back = view.has_way_back && !view.serves;
    match view.healthy_for {
        Some(healthy) if healthy >= STEADY && !lacks_watchdog => Verdict::Confirm,
        _ if lacks_watchdog && view.up >= LACKING && may_go_back => Verdict::GoBack,
        None if view.up >= LIMIT && may_go_back => Verdict::GoBack,
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
            let view = View { up, serves, healthy_for, has_way_back: true, lacks_watchdog: false };
            assert_eq!(judge(view), verdict, "{up:?} {serves} {healthy_for:?}");
            // Without a former image a reset would only begin it all anew.
            let verdict = if verdict == Verdict::GoBack { Verdict::Wait } else { verdict };
            assert_eq!(judge(View { has_way_back: false, ..view }), verdict, "{up:?} {serves} {healthy_for:?}");
        }
    }
    #[test]
    fn an_image_without_the_watchdog_that_the_former_one_had_is_not_kept() {
        let s = Duration::from_secs;
        let view = View { up: s(10), serves: false, has_way_back: true, healthy_for: Some(s(9)), lacks_watchdog: true };
        assert_eq!(judge(view), Verdict::Wait);
        assert_eq!(judge(View { up: s(60), ..view }), Verdict::GoBack, "the pair looks healthy all the time");
        assert_eq!(judge(View { up: s(60), healthy_for: None, ..view }), Verdict::GoBack);
        assert_eq!(judge(View { up: s(600), serves: true, ..view }), Verdict::Wait);
        assert_eq!(judge(View { has_way_back: false, ..view }), Verdict::Confirm, "there is nothing better");
    }
}
