//! Opens the port of the null modem when it is there again, on a thread that does nothing else: who waits for a converter that does
//! not answer, for seconds, renews no address.

use std::io;
use std::thread::{Builder, JoinHandle};

use super::STACK;
use crate::link::serial::Port;

pub(super) struct Opener {
    /// Path and speed of the port; `None`: the board has none.
    wanted: Option<(String, u32)>,
    opening: Option<JoinHandle<io::Result<Port>>>,
}

impl Opener {
    pub(super) fn new(wanted: Option<(String, u32)>) -> Opener {
        Opener { wanted, opening: None }
    }

    /// The port, if an attempt that was begun in an earlier call has opened it. Begins another one where none is under way.
    pub(super) fn find(&mut self) -> Option<Port> {
        if let Some(opening) = self.opening.take_if(|opening| opening.is_finished())
            && let Ok(Ok(port)) = opening.join()
        {
            return Some(port);
        }
        if self.opening.is_none() {
            let (path, baud) = self.wanted.clone()?;
            let builder = Builder::new().name("twobox-port".into()).stack_size(STACK);
            self.opening = builder.spawn(move || Port::open(&path, baud)).ok();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::fcntl::OFlag;
    use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

    use super::*;
    use crate::clock;
    use crate::link::serial::Serial;
    use crate::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Until the attempt that is under way is over.
    fn attempted(opener: &Opener) {
        let until = clock::now() + PATIENCE;
        while !opener.opening.as_ref().is_some_and(JoinHandle::is_finished) {
            assert!(clock::now() < until, "no attempt ends");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_port_that_cannot_be_opened_is_tried_again_until_it_is_there() {
        let folder = std::env::temp_dir().join(format!("twobox-opener-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tty");
        let mut opener = Opener::new(Some((path.display().to_string(), 115_200)));
        for _ in 0..3 {
            assert!(opener.find().is_none(), "it is not there");
            attempted(&opener);
        }
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        symlink(ptsname_r(&master).unwrap(), &path).unwrap();
        assert!(opener.find().is_none(), "the last attempt came too early");
        attempted(&opener);
        let mut serial = Serial::default();
        serial.plug_in(opener.find().expect("it is there"));
        nix::unistd::write(&master, b"beat").unwrap();
        let mut buffer = [0; 16];
        let until = clock::now() + PATIENCE;
        let length = loop {
            if let Some(length) = serial.recv(&mut buffer).unwrap() {
                break length;
            }
            assert!(clock::now() < until, "nothing comes by it");
        };
        assert_eq!(&buffer[..length], b"beat");
        assert!(opener.opening.is_none(), "nobody opens it a second time");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn where_the_board_has_none_none_is_looked_for() {
        let mut opener = Opener::new(None);
        assert!(opener.find().is_none() && opener.opening.is_none());
    }
}
