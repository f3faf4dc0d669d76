//! What the updating process keeps: what its one order names, and nothing else. Whoever takes it over by an image that it
//! reads, or by what comes from the other box, can spoil the slots beside the running one, which an installation is checked
//! against at its next boot, and nothing else. See [`crate::confine`].

use std::io;
use std::path::Path;

use super::child::{Order, Source};
use crate::confine::{Bounds, Confinement, Group, confine};

/// Confines this process, which has opened the image and mounted the slots: files below `slots` alone, the internet only if
/// the order has to do with the peer, none of root's capabilities.
///
/// # Errors
///
/// As [`confine`].
pub fn confine_for(order: &Order, slots: Option<&Path>) -> io::Result<Confinement> {
    let calls: &[Group] = match order {
        Order::Check { .. } | Order::Look { .. } => &[Group::Base, Group::Read],
        Order::Offer { .. } => &[Group::Base, Group::Read, Group::Internet],
        Order::Install { source: Source::Peer { .. }, .. } => {
            &[Group::Base, Group::Read, Group::Write, Group::Internet]
        }
        Order::Install { source: Source::File(_), .. } | Order::Confirm { .. } | Order::Retire { .. } => {
            &[Group::Base, Group::Read, Group::Write]
        }
    };
    let slots = slots.map(Path::to_path_buf).into_iter().collect();
    let bounds = match order {
        Order::Look { .. } => Bounds { readable: slots, calls, ..Bounds::default() },
        _ => Bounds { whole: slots, calls, ..Bounds::default() },
    };
    confine(&bounds)
}
