//! Service addresses on and off, announcements, virtual MAC, conflict probe; own addresses of the appliance.
//!
//! [`Takeover`] holds what an interface with service addresses needs: the netlink socket, the raw sockets, the macvlans of
//! virtual MACs, the schedule of the announcements, the memory of conflicts. It decides nothing: the node's actions say when
//! to put the addresses up, renew them, take them down, or probe for them.

pub mod address;
mod announcer;
pub mod clients;
pub mod conflict;
pub mod interface;
pub mod own;
pub mod packet;
pub mod placement;
pub mod renewal;
mod sysctl;
pub mod virtual_mac;

mod driver;

pub use address::{ADDRESSES, ServiceAddress};
pub use clients::{CLIENTS, Client};
pub use conflict::{Conflict, Finding};
pub use driver::{Heard, Leftovers, Settings, SettingsAddress, Takeover};
pub use placement::{Placement, Settled};
pub use renewal::Renewal;
