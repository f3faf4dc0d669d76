//! Known clients: who would go on sending to the old hardware address. From our neighbour table, and from the peer's.

use std::io;
use std::net::IpAddr;

use crate::netlink::{self, NeighborBody, Request, Socket};

/// At most this many clients are told one by one; the broadcast reaches the others.
pub const CLIENTS: usize = 256;

/// An entry that was confirmed once, so its hardware address is worth something (linux/neighbour.h).
const NUD_KNOWN: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;

/// A neighbour on the LAN that may have a service address in its own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Interface it is reached through.
    pub index: u32,
}

/// The clients to be told. Fixed storage; when it is full the oldest entry gives way.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    known: heapless::Vec<Client, CLIENTS>,
    oldest: usize,
}

impl Clients {
    /// Adds a client, or updates the hardware address of one that is there.
    pub fn insert(&mut self, client: Client) {
        if let Some(same) = self.known.iter_mut().find(|c| c.ip == client.ip && c.index == client.index) {
            same.mac = client.mac;
        } else if self.known.push(client).is_err() {
            self.known[self.oldest] = client;
            self.oldest = (self.oldest + 1) % CLIENTS;
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.known.clear();
        self.oldest = 0;
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Client] {
        &self.known
    }

    /// Adds what the kernel's neighbour tables (IPv4 and IPv6) hold for interface `index`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn read_neighbors(&mut self, socket: &mut Socket, index: u32) -> io::Result<()> {
        let body = NeighborBody { index: index.cast_signed(), ..NeighborBody::default() };
        // Strict checking allows no index in the header; NDA_IFINDEX (8) is the kernel-side filter (neighbour.c).
        let mut request = Request::new(libc::RTM_GETNEIGH, 0, &NeighborBody::default());
        request.attribute(8, &body.index.to_ne_bytes());
        // Inserting twice is harmless, so a restarted dump need not forget.
        socket.dump(
            &mut request,
            self,
            |_| (),
            |clients, kind, payload| {
                if kind == libc::RTM_NEWNEIGH
                    && let Some(client) = read(payload)
                    && client.index == index
                {
                    clients.insert(client);
                }
            },
        )
    }
}

/// Of a message of the kernel's (RTM_NEWNEIGH), whose entries are what others on the LAN have said.
#[must_use]
pub fn read(payload: &[u8]) -> Option<Client> {
    let (body, attributes) = netlink::body::<NeighborBody>(payload)?;
    let bytes = attributes.get(libc::NDA_DST)?;
    let ip = match i32::from(body.family) {
        libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    let mac: [u8; 6] = attributes.get(libc::NDA_LLADDR)?.try_into().ok()?;
    let unicast = mac[0] & 1 == 0 && mac != [0; 6];
    (body.state & NUD_KNOWN != 0 && unicast && !ip.is_multicast()).then_some(Client {
        ip,
        mac,
        index: u32::try_from(body.index).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_forgets_its_oldest_and_a_known_client_moves() {
        let client = |n: u16| Client { ip: IpAddr::from([10, 0, (n >> 8) as u8, n as u8]), mac: [2; 6], index: 1 };
        let mut clients = Clients::default();
        for n in 0..CLIENTS as u16 + 3 {
            clients.insert(client(n));
        }
        assert_eq!(clients.all().len(), CLIENTS);
        assert!(!clients.all().contains(&client(2)) && clients.all().contains(&client(3)));
        clients.insert(Client { mac: [4; 6], ..client(3) });
        assert_eq!(clients.all().iter().filter(|c| c.ip == client(3).ip).count(), 1);
        assert!(clients.all().iter().any(|c| c.ip == client(3).ip && c.mac == [4; 6]));
    }
}
