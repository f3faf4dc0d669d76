//! Another lifetime for the addresses that are held, by whoever has a socket and the time to wait for the kernel.

use std::io;

use super::address::{self, ADDRESSES, ServiceAddress};
use crate::netlink::Socket;
use crate::time::Duration;

/// One address that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Up {
    /// The interface that has it.
    pub index: u32,
    /// Address and network.
    pub address: ServiceAddress,
    /// As it was put on ([`address::covered`]).
    pub covered: bool,
}

/// What is to be renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// The addresses.
    pub up: heapless::Vec<Up, ADDRESSES>,
    /// Their lifetime from then on.
    pub lifetime: Duration,
}

impl Renewal {
    /// Renews one address after the other, each only if `may` says so in the moment before. Late or early, that never brings
    /// one back that is gone. False: it was not allowed, at least not for all of them.
    ///
    /// # Errors
    ///
    /// `NotFound`: an address is gone, because it expired or because somebody removed it. Other errors are the kernel's. The
    /// others were renewed all the same.
    pub fn carry_out(&self, socket: &mut Socket, mut may: impl FnMut() -> bool) -> io::Result<bool> {
        let mut result = Ok(true);
        for up in &self.up {
            if !may() {
                return result.map(|_| false);
            }
            let done = address::renew(socket, up.index, up.address, up.covered, self.lifetime);
            result = result.and(done.map(|()| true));
        }
        result
    }
}
