//! Looks after the egress gate once a second, on the helper's thread: verifying allocates and makes system calls, so the
//! loop cannot do it. What it finds changes the fence bound at once, in the safe direction.

use std::sync::Arc;

use smol::Timer;

use super::ToLoop;
use super::mailbox::Mailbox;
use crate::fence::gate::Gate;
use crate::time::Duration;

/// How often the gate is verified: whoever takes it away is noticed within this time.
const LOOK: Duration = Duration::from_secs(1);

/// Verifies `gate` for as long as the daemon runs, and tells the loop whenever the answer changes.
pub(super) async fn watch(gate: Arc<Gate>, to_loop: Arc<Mailbox<ToLoop>>) {
    let mut told = true;
    loop {
        Timer::after(LOOK).await;
        let faults = gate.verify();
        let holds = faults.is_empty();
        if holds == told {
            continue;
        }
        if holds {
            log::info!("the egress gate holds again");
        } else {
            log::error!(
                "the egress gate does not hold ({faults:?}): the fence bound falls back to the next belt; find who changed \
                 the interface's filters, then restart the daemon on the standby"
            );
        }
        // A loop that takes no letters is stuck; the gate's own clock and the watchdog are there for that. Told again in a
        // second.
        if to_loop.send(ToLoop::Gate { holds }).is_ok() {
            told = holds;
        }
    }
}
