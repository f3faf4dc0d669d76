//! One daemon for a LAN interface. A second one, with a state directory and a control socket of its own, would take the service
//! addresses from the first as a leftover, and each would undo the other's gate.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use smol::{Async, Timer};

use crate::time::Duration;

/// Claims `interface` for as long as the socket lives: an abstract one (unix(7)) belongs to the network namespace, as the interface
/// does, and goes with the process however that ends. `None`: the name is taken by somebody who is no daemon of ours and cannot keep
/// us from running.
///
/// # Errors
///
/// Another daemon has it: what to do.
pub(super) fn claim(interface: &str) -> Result<Option<UnixListener>, String> {
    let name = format!("twobox lan {interface}");
    let address = SocketAddr::from_abstract_name(&name).map_err(|e| format!("interface {interface}: {e}"))?;
    match UnixListener::bind_addr(&address) {
        Ok(socket) => Ok(Some(socket)),
        // Everybody may take such a name; only one of our rank is believed to be a daemon.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_ours(&address) => {
            Err(format!("another daemon serves on interface {interface}; stop that one, or ask it with --socket"))
        }
        Err(error) => {
            log::warn!("nothing keeps a second daemon off interface {interface}: {error}");
            Ok(None)
        }
    }
}

/// Holds the claim. Who asks is heard and let go, so that the next one can ask.
pub(super) async fn hold(socket: UnixListener) -> io::Result<()> {
    let socket = Async::new(socket)?;
    loop {
        if socket.accept().await.is_err() {
            Timer::after(Duration::from_secs(1)).await; // out of descriptors: it would fail again at once
        }
    }
}

/// Whoever listens there has our user number.
fn is_ours(address: &SocketAddr) -> bool {
    let peer = UnixStream::connect_addr(address).and_then(|stream| Ok(getsockopt(&stream, PeerCredentials)?));
    peer.is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_one_daemon_until_that_ends() {
        let name = format!("test{}", std::process::id());
        let first = claim(&name).unwrap().expect("nobody has it");
        let refused = claim(&name).unwrap_err();
        assert!(refused.starts_with(&format!("another daemon serves on interface {name}; stop that one")), "{refused}");
        assert!(claim(&format!("{name}x")).unwrap().is_some());
        drop(first);
        assert!(claim(&name).unwrap().is_some());
    }
}
