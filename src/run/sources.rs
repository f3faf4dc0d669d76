//! What the loop waits on, and which of it has something: one call to the kernel in place of one for each source that is
//! empty, and most are in most turns.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Events taken at once: more than there are descriptors.
const EVENTS: usize = 64;

/// Where something may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The node's next deadline.
    Timer,
    /// Letters from the other threads.
    ToLoop,
    /// The helper's words for the peer.
    ToPeer,
    /// Frames that claim a service address.
    Claims,
    /// The line to the peer.
    NullModem,
    /// Frames of the crossover.
    Crossover,
    /// Frames of the LAN.
    Lan,
    /// What witnesses answer and carry.
    Witnesses,
}

/// The sources that had something when they were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready(u16);

impl Ready {
    /// Whatever is there, it is asked itself.
    pub(super) const ALL: Ready = Ready(u16::MAX);
    const NONE: Ready = Ready(0);

    pub(super) fn has(self, source: Source) -> bool {
        self.0 & 1 << source as u16 != 0
    }

    fn with(self, bit: u64) -> Ready {
        Ready(self.0 | 1u16.checked_shl(bit as u32).unwrap_or(0))
    }
}

/// All descriptors of the loop.
pub(super) struct Sources {
    epoll: Epoll,
    /// Asked themselves in every look: their descriptors could not be added.
    unwatched: Ready,
}

impl Sources {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, unwatched: Ready::NONE })
    }

    /// Waits on this descriptor too. One that is closed leaves by itself. After an error the source is asked in every look.
    pub(super) fn add(&mut self, descriptor: impl AsFd, source: Source) -> io::Result<()> {
        let added = self.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, source as u64));
        if added.is_err() {
            self.unwatched = self.unwatched.with(source as u64);
        }
        Ok(added?)
    }

    /// Sleeps until something has come.
    pub(super) fn wait(&self) -> io::Result<()> {
        match self.epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Everything that has something now. What [`Sources::wait`] was woken by is no answer to that: who is stopped between
    /// the two hears too little.
    pub(super) fn look(&self) -> Ready {
        let mut events = [EpollEvent::empty(); EVENTS];
        match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) if count < EVENTS => events[..count].iter().fold(self.unwatched, |ready, e| ready.with(e.data())),
            // Somebody may have found no room; or a signal came, and nothing is known.
            _ => Ready::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::{EfdFlags, EventFd};

    fn bell() -> EventFd {
        EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap()
    }

    #[test]
    fn who_has_something_is_told_until_it_was_taken() {
        let (lan, letters) = (bell(), bell());
        let mut sources = Sources::new().unwrap();
        sources.add(&lan, Source::Lan).unwrap();
        sources.add(&letters, Source::ToLoop).unwrap();
        assert_eq!(sources.look(), Ready::NONE);
        lan.write(1).unwrap();
        for _ in 0..2 {
            sources.wait().unwrap();
            let ready = sources.look();
            assert!(ready.has(Source::Lan) && !ready.has(Source::ToLoop), "{ready:?}");
        }
        letters.write(1).unwrap();
        assert!(sources.look().has(Source::Lan) && sources.look().has(Source::ToLoop), "one does not hide the other");
        lan.read().unwrap();
        assert!(!sources.look().has(Source::Lan));
    }

    #[test]
    fn a_source_that_cannot_be_waited_on_is_asked_in_every_look() {
        let mut sources = Sources::new().unwrap();
        // epoll takes no regular file (EPERM, epoll_ctl(2)).
        sources.add(std::fs::File::open("/proc/self/exe").unwrap(), Source::NullModem).unwrap_err();
        assert!(sources.look().has(Source::NullModem) && !sources.look().has(Source::Lan));
    }

    #[test]
    fn more_events_than_room_ask_everybody() {
        let bells: Vec<EventFd> = (0..EVENTS).map(|_| bell()).collect();
        let mut sources = Sources::new().unwrap();
        for bell in &bells {
            sources.add(bell, Source::Claims).unwrap();
            bell.write(1).unwrap();
        }
        assert_eq!(sources.look(), Ready::ALL);
    }
}
