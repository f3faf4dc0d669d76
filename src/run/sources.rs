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
    /// Letters of the helper.
    ToLoop,
    /// Answers of the disk.
    FromDisk,
    /// Answers about the network's configuration.
    Network,
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

    fn without(self, source: Source) -> Ready {
        Ready(self.0 & !(1 << source as u16))
    }

    fn or(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    fn with(self, bit: u64) -> Ready {
        Ready(self.0 | 1u16.checked_shl(bit as u32).unwrap_or(0))
    }
}

/// All descriptors of the loop.
pub(super) struct Sources {
    epoll: Epoll,
    /// Has had something since the last look, and does not say so twice.
    edges: Ready,
    /// Asked themselves in every look: their descriptors could not be added.
    unwatched: Ready,
}

impl Sources {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, edges: Ready::NONE, unwatched: Ready::NONE })
    }

    /// Waits on this descriptor too. One that is closed leaves by itself. After an error the source is asked in every look.
    ///
    /// The null modem tells only that more has come (EPOLLET, epoll(7)): the kernel would have to look whether it still has
    /// something, and to look at a terminal that was read empty is to wait for an ordinary thread of the kernel
    /// (tty_buffer_flush_work in n_tty_poll, drivers/tty/n_tty.c).
    pub(super) fn add(&mut self, descriptor: impl AsFd, source: Source) -> io::Result<()> {
        let edges = if source == Source::NullModem { EpollFlags::EPOLLET } else { EpollFlags::empty() };
        let added = self.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN | edges, source as u64));
        self.unwatched = match added {
            Ok(()) => self.unwatched.without(source),
            Err(_) => self.unwatched.with(source as u64),
        };
        Ok(added?)
    }

    /// Sleeps until something has come.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let mut event = [EpollEvent::empty()];
        match self.epoll.wait(&mut event, EpollTimeout::NONE) {
            Ok(0) | Err(Errno::EINTR) => Ok(()),
            Ok(_) => {
                if event[0].data() == Source::NullModem as u64 {
                    self.edges = self.edges.with(event[0].data());
                }
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Everything that has something now. What [`Sources::wait`] was woken by is no answer to that: who is stopped between
    /// the two hears too little.
    pub(super) fn look(&mut self) -> Ready {
        let mut events = [EpollEvent::empty(); EVENTS];
        let known = self.unwatched.or(core::mem::replace(&mut self.edges, Ready::NONE));
        match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) if count < EVENTS => events[..count].iter().fold(known, |ready, e| ready.with(e.data())),
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
    fn the_null_modem_tells_once_that_more_has_come_and_no_sleep_takes_that_away() {
        let line = bell();
        let mut sources = Sources::new().unwrap();
        sources.add(&line, Source::NullModem).unwrap();
        for _ in 0..2 {
            line.write(1).unwrap();
            sources.wait().unwrap();
            assert!(sources.look().has(Source::NullModem));
            assert_eq!(sources.look(), Ready::NONE, "nothing more has come, whatever is left");
        }
        line.write(1).unwrap();
        assert!(sources.look().has(Source::NullModem), "also without a sleep");
    }

    #[test]
    fn a_source_that_cannot_be_waited_on_is_asked_in_every_look() {
        let mut sources = Sources::new().unwrap();
        // epoll takes no regular file (EPERM, epoll_ctl(2)).
        sources.add(std::fs::File::open("/proc/self/exe").unwrap(), Source::NullModem).unwrap_err();
        assert!(sources.look().has(Source::NullModem) && !sources.look().has(Source::Lan));
        let another = bell();
        sources.add(&another, Source::NullModem).unwrap();
        assert!(!sources.look().has(Source::NullModem), "the one that took its place tells by itself");
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
