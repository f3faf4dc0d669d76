//! One daemon for a network namespace. A second one, with a state directory and a control socket of its own, would take the service
//! addresses from the first as a leftover; on another interface it would still take away its macvlans and its raw belt.

use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials,
};
use nix::unistd::geteuid;
use smol::{Async, Timer};

use crate::clock;
use crate::time::Duration;

/// What every daemon claims.
pub(super) const NAME: &str = "twobox";

/// How long a killed daemon is outlived by a process that it was just starting. That one lets go of everything before it waits for
/// anything (`service/spawn.rs`), but for a moment it has a copy of every descriptor: of locks and of sockets that listen.
const LINGERS: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// Takes what one daemon alone may have, by trying until whatever is left of a killed one has let go of it.
///
/// # Errors
///
/// The last attempt's.
pub(super) fn take<T, E>(mut attempt: impl FnMut() -> Result<T, E>, is_taken: impl Fn(&E) -> bool) -> Result<T, E> {
    let began = clock::now();
    loop {
        match attempt() {
            Err(error) if is_taken(&error) && clock::now().since(began) < LINGERS => {
                #[allow(clippy::disallowed_methods)] // nothing runs yet that could wait in a loop
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Claims the namespace for as long as the socket lives: an abstract one (unix(7)) belongs to it, as the interfaces do, and goes with
/// the process however that ends. `None`: the name is taken by somebody who is no daemon of ours and cannot keep us from running.
///
/// # Errors
///
/// Another daemon has it: what to do.
pub(super) fn claim(name: &str) -> Result<Option<UnixListener>, String> {
    let address = SocketAddr::from_abstract_name(name).map_err(|e| format!("the name {name}: {e}"))?;
    match UnixListener::bind_addr(&address) {
        Ok(socket) => Ok(Some(socket)),
        // Everybody may take such a name; only one of our rank is believed to be a daemon.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_ours(name) => {
            Err("another daemon runs on this box; stop that one, or ask it with --socket".to_owned())
        }
        Err(error) => {
            log::warn!("nothing keeps a second daemon off this box: {error}");
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

/// Whoever listens there has our user number. Who takes no connection is asked no longer: a daemon of ours takes every one, and a
/// stranger must not hold up our start.
fn is_ours(name: &str) -> bool {
    let ask = || {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
        getsockopt(&socket, PeerCredentials)
    };
    ask().is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, bind, listen};

    use super::*;

    #[test]
    fn there_is_one_daemon_until_that_ends() {
        let name = format!("test{}", std::process::id());
        let first = claim(&name).unwrap().expect("nobody has it");
        let refused = claim(&name).unwrap_err();
        assert!(refused.starts_with("another daemon runs on this box; stop that one"), "{refused}");
        assert!(claim(&format!("{name}x")).unwrap().is_some());
        drop(first);
        assert!(claim(&name).unwrap().is_some());
    }

    #[test]
    fn what_is_left_of_a_killed_daemon_is_waited_for() {
        let name = format!("killed{}", std::process::id());
        let mut left = claim(&name).unwrap();
        let mut attempts = 0;
        let attempt = || {
            attempts += 1;
            if attempts == 3 {
                left.take();
            }
            claim(&name)
        };
        assert!(take(attempt, |_| true).unwrap().is_some());
        assert_eq!(take(|| Err::<(), _>("another reason"), |_| false), Err("another reason"));
    }

    #[test]
    fn who_takes_no_connection_holds_up_no_start() {
        let name = format!("full{}", std::process::id());
        let socket = || {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap()
        };
        let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
        let stranger = socket();
        bind(stranger.as_raw_fd(), &address).unwrap();
        listen(&stranger, Backlog::new(0).unwrap()).unwrap();
        let waiting: Vec<_> =
            (0..10).map(|_| socket()).take_while(|socket| connect(socket.as_raw_fd(), &address).is_ok()).collect();
        assert!(waiting.len() < 10, "there is always room");
        assert!(claim(&name).unwrap().is_none());
    }
}
