//! The word that the daemon is in its place.

use std::io;

use crate::journal;

/// Says `ready` on standard error, and to the service manager that started us (sd_notify(3)).
pub(super) fn say() {
    journal::drain();
    eprintln!("ready");
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = notify(&path) {
        log::warn!("NOTIFY_SOCKET {}: {error}", path.display());
    }
}

fn notify(path: &std::ffi::OsStr) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    // A leading @ stands for the abstract name space.
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(|_| ())
}
