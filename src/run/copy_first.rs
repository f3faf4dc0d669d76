//! What the standby lacks is copied before a planned hand-over begins, while this box still serves.
//!
//! The cut after the services' end then has little left to copy, and a copy that cannot be made is known before anything
//! has moved: a planned hand-over loses nothing, or does not happen.

use smol::Timer;
use smol::channel::Sender;

use super::helper::{Helper, within};
use super::mirror::Mirror;
use super::operator::{Outcome, Refusal, hangs, refuse};
use crate::console::control::{MirrorRequest, Reply};
use crate::time::Duration;
use crate::wire::pair::Role;

/// For so long the operator waits for the copy; it goes on afterwards.
pub(super) const COPY_PATIENCE: Duration = Duration::from_secs(60);
/// How often a mirror that is starting is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What to do about a copy that cannot be made, when the service has to move all the same.
const ANYWAY: &str = "`switchover --lose-changes` moves all the same: what only this box has is set aside on it";

impl Helper {
    /// Copies what the standby lacks. Without trees, or on a box that does not serve, there is nothing to do.
    pub(super) async fn copy_before_hand_over(&self, replies: &Sender<Reply>) -> Result<(), Refusal> {
        let Some(mirror) = &self.mirror else { return Ok(()) };
        if self.snapshot().await.ok_or_else(hangs)?.node.role != Role::Active {
            return Ok(());
        }
        match within(COPY_PATIENCE, copy(mirror, replies)).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(Refusal { reason, remedy })) => {
                Err(refuse(format!("the standby lacks changes: {reason}"), format!("{remedy}; {ANYWAY}")))
            }
            None => Err(refuse(
                format!("the standby lacks changes: not all copied after {COPY_PATIENCE:?}"),
                format!("order it again when `mirror sync` has come to its end; {ANYWAY}"),
            )),
        }
    }
}

async fn copy(mirror: &Mirror, replies: &Sender<Reply>) -> Outcome {
    while !mirror.is_source() {
        Timer::after(LOOK).await;
    }
    mirror.request(MirrorRequest::Sync { tree: None, confirm_delete: false }, replies).await
}
