//! The takeover on a real LAN: a bridge, two boxes and a client, each in a network namespace of its own. Needs root.
//!
//! What counts is what the client sees and what the kernel says when asked by another way than ours (`ip`).

#![allow(clippy::disallowed_methods)] // a test starts `ip`, sleeps and reads the clock

#[path = "takeover/claims.rs"]
mod claims;
#[path = "takeover/clients.rs"]
mod clients;
#[path = "takeover/lan.rs"]
mod lan;
#[path = "takeover/lifetime.rs"]
mod lifetime;
#[path = "takeover/placement.rs"]
mod placement;

use std::net::UdpSocket;

use lan::{Lan, must};
use twobox::fence::queue;
use twobox::netlink::Socket;
use twobox::time::Duration;

#[test]
fn the_queue_behind_the_gate_is_read_and_made_short() {
    let lan = Lan::new("queue");
    lan.inside("a", || {
        let mut socket = Socket::open().unwrap();
        let index = nix::net::if_::if_nametoindex("lan").unwrap();
        let read = |socket: &mut Socket| queue::read(socket, index, 1000).unwrap();
        let bare = read(&mut socket);
        assert_eq!(bare.kind, "noqueue");
        assert!(bare.drained());
        assert_eq!(bare.longest_stay(None), Some(Duration::ZERO));

        queue::shorten(&mut socket, index).unwrap();
        let short = read(&mut socket);
        assert_eq!((short.kind.as_str(), short.capacity), ("bfifo", Some(256 * 1024)));
        queue::restore(&mut socket, index).unwrap();
        assert_eq!(read(&mut socket).kind, "noqueue");

        // A queue that holds back on purpose has no bound, and what waits in it is seen.
        must(&format!("tc -n {} qdisc add dev lan root tbf rate 64kbit burst 2000 limit 100000", lan.namespace("a")));
        let socket_out = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert!(lan.ping("a", "192.0.2.77"));
        for _ in 0..20 {
            socket_out.send_to(&[0; 1000], "192.0.2.77:7000").unwrap();
        }
        let slow = read(&mut socket);
        assert_eq!((slow.kind.as_str(), slow.capacity), ("tbf", None));
        assert!(!slow.drained() && slow.packets > 0 && slow.bytes >= 1000, "{slow:?}");
    });
}
