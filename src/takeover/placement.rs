//! Which interface gets each service address, and what is set there for it: sysctls, and the macvlan of a virtual MAC.
//!
//! Followed while the program runs, because an interface may be taken out and put in again, and anybody may delete a macvlan. That
//! waits for the kernel, allocates, and is no work for the loop.

use std::io;

use super::address::ADDRESSES;
use super::driver::{Settings, SettingsAddress};
use super::interface::{self, Interface, MACVLAN_PREFIX};
use super::packet::Presence;
use super::sysctl::{self, Sysctls};
use super::virtual_mac::virtual_mac;
use crate::netlink::Socket;
use crate::wire::Mac;

/// Where one service address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Number of the service address.
    pub number: usize,
    /// The interface that gets the address: the configured one, or the macvlan on it.
    pub index: u32,
    /// The configured interface.
    pub parent: u32,
    /// Hardware address that clients see.
    pub mac: Mac,
    /// Own hardware address of the configured interface.
    pub parent_mac: Mac,
}

struct Place {
    /// Name of the configured interface.
    interface: String,
    virtual_mac: Option<Mac>,
    at: Settled,
    /// Of the configured interface, when its cable was seen plugged in last.
    carrier_changes: u32,
    /// Of the configured interface.
    presence: Presence,
}

impl Place {
    /// Looks at the configured interface. True if clients have to be told once more: of another hardware address, or because what
    /// was said while the cable was out has reached nobody.
    fn look(&mut self, parent: &Interface) -> bool {
        let mac = self.at.parent_mac != parent.mac;
        self.at.parent_mac = parent.mac;
        self.at.mac = self.virtual_mac.unwrap_or(parent.mac);
        let plugged_in = parent.carrier && self.carrier_changes != parent.carrier_changes;
        if plugged_in {
            self.carrier_changes = parent.carrier_changes;
        }
        mac || plugged_in
    }
}

impl Place {
    /// Goes to `parent`.
    fn settle(&mut self, parent: &Interface, netlink: &mut Socket, sysctls: &mut Sysctls) -> io::Result<()> {
        let presence = Presence::of(parent.index)?;
        self.at = settle(self.at.number, self.virtual_mac, parent, netlink, sysctls)?;
        (self.presence, self.carrier_changes) = (presence, parent.carrier_changes);
        Ok(())
    }
}

/// All places.
pub struct Placement {
    places: Vec<Place>,
    sysctls: Sysctls,
}

impl Placement {
    /// Makes the macvlans and sets the interfaces' sysctls.
    ///
    /// # Errors
    ///
    /// Names the interface or the file that is the reason, and what the kernel said.
    pub(super) fn open(netlink: &mut Socket, settings: &Settings) -> io::Result<Placement> {
        let mut placement = Placement { places: Vec::new(), sysctls: Sysctls::default() };
        for (number, SettingsAddress { address, interface: name, virtual_mac: is_virtual }) in
            settings.addresses.iter().enumerate()
        {
            let parent = interface::find(netlink, name)?;
            let virtual_mac = is_virtual.then(|| virtual_mac(&settings.pair, address.ip));
            let at = settle(number, virtual_mac, &parent, netlink, &mut placement.sysctls)?;
            let carrier_changes = parent.carrier_changes;
            let presence = Presence::of(at.parent)?;
            placement.places.push(Place { interface: name.clone(), virtual_mac, at, carrier_changes, presence });
        }
        Ok(placement)
    }

    /// All of them.
    pub fn settled(&self) -> impl Iterator<Item = Settled> {
        self.places.iter().map(|place| place.at)
    }

    /// The configured interfaces, whose neighbours are the clients.
    #[must_use]
    pub fn parents(&self) -> heapless::Vec<u32, ADDRESSES> {
        let mut parents = heapless::Vec::new();
        for place in &self.places {
            if !parents.contains(&place.at.parent) {
                let _ = parents.push(place.at.parent); // no more than addresses
            }
        }
        parents
    }

    /// Makes macvlans anew that somebody has deleted, and goes to the interfaces that have come in the place of others, if they are
    /// among those that are `gated`. `all`: the interfaces as they are. What has changed is added to `changed`: where an address
    /// goes, by which hardware address, or whether the cable is plugged in again.
    ///
    /// # Errors
    ///
    /// As [`Placement::open`]: of the first; the others were followed all the same.
    pub fn follow(
        &mut self,
        netlink: &mut Socket,
        all: &[Interface],
        gated: &[u32],
        changed: &mut heapless::Vec<Settled, ADDRESSES>,
    ) -> io::Result<()> {
        let mut result = Ok(());
        for place in &mut self.places {
            let is_there = |index: u32| all.iter().find(|interface| interface.index == index);
            let parent = match is_there(place.at.parent).filter(|_| place.presence.lasts()) {
                Some(parent) if is_there(place.at.index).is_none() => Some(parent),
                Some(parent) => {
                    if place.look(parent) {
                        let _ = changed.push(place.at); // no more than addresses
                    }
                    None
                }
                None if place.presence.lasts() => None, // it has come since the interfaces were read
                None => all.iter().find(|new| new.name == place.interface.as_str() && gated.contains(&new.index)),
            };
            let Some(parent) = parent else { continue };
            match place.settle(parent, netlink, &mut self.sysctls) {
                Ok(()) => {
                    let _ = changed.push(place.at); // no more than addresses
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Deletes the macvlans and puts the sysctls back: at the end of the program, addresses being down.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn close(mut self, netlink: &mut Socket) -> io::Result<()> {
        let deleted = interface::delete_leftovers(netlink);
        self.sysctls.restore()?;
        deleted.map(|_| ())
    }
}

/// Makes `parent` the interface of an address.
fn settle(
    number: usize,
    virtual_mac: Option<Mac>,
    parent: &Interface,
    netlink: &mut Socket,
    sysctls: &mut Sysctls,
) -> io::Result<Settled> {
    sysctls.set(&parent.name, sysctl::PARENT)?;
    let (mut index, mut mac) = (parent.index, parent.mac);
    if let Some(virtual_mac) = virtual_mac {
        let name = format!("{MACVLAN_PREFIX}{number}");
        mac = virtual_mac;
        index = interface::create_macvlan(netlink, parent.index, &name, mac).map_err(|e| {
            io::Error::new(e.kind(), format!("{name}: a macvlan on {} for its virtual MAC: {e}", parent.name))
        })?;
        sysctls.set(&name, sysctl::MACVLAN)?;
    }
    Ok(Settled { number, index, parent: parent.index, mac, parent_mac: parent.mac })
}
