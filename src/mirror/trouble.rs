//! What went wrong, in words that an operator can act on: the kernel's and the library's own words say neither whose file
//! or cable it was nor what to do.

use std::io::{self, ErrorKind};

use super::channel::is_broken;

/// What was wrong with the other end or the way to it, in words; `None`: it was something else.
fn of_link(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::ConnectionRefused => {
            "the peer's mirror takes no connection: its daemon is not up yet, or serves too"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            "there is no way to the peer's mirror"
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "the peer's mirror has fallen silent",
        ErrorKind::AddrNotAvailable => "this box has not got the address that the mirror uses",
        _ => "the connection to the peer's mirror broke",
    })
}

/// The error in words, without the kernel's number.
#[must_use]
pub fn explain(e: &io::Error) -> String {
    // What has words of its own was made by us, with a name in it.
    let is_ours = e.get_ref().is_some();
    let link = matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::AddrNotAvailable) || is_broken(e);
    if link
        && !is_ours
        && let Some(text) = of_link(e.kind())
    {
        return text.to_owned();
    }
    without_number(&e.to_string())
}

/// `No space left on device (os error 28)` without what is in brackets.
fn without_number(text: &str) -> String {
    let mut rest = text;
    let mut words = String::new();
    while let Some((before, after)) = rest.split_once(" (os error ") {
        words.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    words + rest
}

/// What can be done about it.
#[must_use]
pub fn remedy(e: &io::Error) -> &'static str {
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room there; the next cycle goes on where this one ended"
        }
        ErrorKind::ReadOnlyFilesystem => "look in the kernel's log why it is read-only, and mount it for writing",
        ErrorKind::NotFound => "mount its file system, or make the directory",
        _ if is_broken(e) => {
            "look at the crossover and at the peer's `status`; the next cycle goes on where this one ended"
        }
        _ => "it is tried again by itself; `mirror status` and `log` of both boxes tell more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_raw_wording_reaches_the_operator() {
        let eof = io::Read::read_exact(&mut io::empty(), &mut [0]).unwrap_err();
        assert_eq!(eof.to_string(), "failed to fill whole buffer");
        for e in [
            eof,
            ErrorKind::UnexpectedEof.into(),
            ErrorKind::WouldBlock.into(),
            ErrorKind::BrokenPipe.into(),
            io::Error::from_raw_os_error(nix::libc::EAGAIN),
            io::Error::from_raw_os_error(nix::libc::ECONNREFUSED),
            io::Error::from_raw_os_error(nix::libc::ECONNRESET),
            io::Error::from_raw_os_error(nix::libc::ENETUNREACH),
        ] {
            let text = explain(&e);
            assert!(text.contains("the peer's mirror"), "{e}: {text}");
            assert!(!text.contains("os error"), "{text}");
        }
    }

    #[test]
    fn what_is_said_of_a_file_stays_but_for_the_number() {
        let full = io::Error::from_raw_os_error(nix::libc::ENOSPC);
        assert_eq!(explain(&full), "No space left on device");
        let named = io::Error::new(full.kind(), format!("cur/x: {full}"));
        assert_eq!(explain(&named), "cur/x: No space left on device");
        assert_eq!(without_number("a (os error 2); b (os error 5)!"), "a; b!");
        let search = io::Error::new(ErrorKind::TimedOut, "eth1: no mirror answers");
        assert_eq!(explain(&search), "eth1: no mirror answers");
    }
}
