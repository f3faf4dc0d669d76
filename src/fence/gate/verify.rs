//! Is the gate still there, is it still the first, is it still ours, does it still drop?

use std::io;
use std::sync::atomic::Ordering;

use super::Gate;
use super::bpf::Program;
use super::hook;
use super::layout::{self, Direction};
use super::program::{DROP, NEXT, probe_frame};
use crate::clock;

/// Why the gate cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its program is not on the interface: taken away, or the interface is a new one.
    Missing {
        /// Index of the interface.
        interface: u32,
        /// Which hook.
        direction: Direction,
    },
    /// Something else runs before it and may let frames by.
    Preceded {
        /// Index of the interface.
        interface: u32,
        /// Which hook.
        direction: Direction,
        /// Number of that program; none for a filter without one.
        by: Option<u32>,
    },
    /// The live program does not work on the map that this process has mapped.
    Map(Direction),
    /// The expiry is not what was written last: somebody else writes.
    Expiry {
        /// Nanoseconds since boot, as written last.
        written: u64,
        /// As found.
        found: u64,
    },
    /// The probe's verdict was not what the expiry says.
    Probe {
        /// Which program.
        direction: Direction,
        /// The gate was open.
        open: bool,
    },
    /// The state could not be read.
    Unreadable(String),
}

/// How often a check that the loop's renewals disturbed is repeated.
const ATTEMPTS: usize = 5;

impl Gate {
    /// Reads back attachment, order, program and map, and runs a probe through the live programs. The gate holds if the
    /// answer is empty. Some ten system calls; does not disturb traffic, may run in another thread than the renewals.
    #[must_use]
    pub fn verify(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut note = |result: io::Result<Option<Fault>>| match result {
            Ok(fault) => faults.extend(fault),
            Err(e) => faults.push(Fault::Unreadable(e.to_string())),
        };
        let place = self.place();
        for &interface in &place.interfaces {
            for direction in Direction::ALL {
                note(check_place(place.program(direction), interface, direction));
            }
        }
        for direction in Direction::ALL {
            note(self.check_map(place.program(direction), direction));
            note(self.check_probe(place.program(direction), direction));
        }
        note(Ok(self.check_expiry()));
        faults
    }

    fn check_map(&self, program: &Program, direction: Direction) -> io::Result<Option<Fault>> {
        let described = program.describe()?;
        let ours = described.maps == [self.map.id()] && described.name == direction.program_name();
        Ok(if ours { None } else { Some(Fault::Map(direction)) })
    }

    pub(super) fn check_expiry(&self) -> Option<Fault> {
        let mut fault = None;
        for _ in 0..ATTEMPTS {
            let before = self.written.load(Ordering::SeqCst);
            let found = self.map.read(layout::EXPIRY);
            let after = self.written.load(Ordering::SeqCst);
            if found == before || found == after {
                return None;
            }
            fault = Some(Fault::Expiry { written: after, found });
        }
        fault
    }

    fn check_probe(&self, program: &Program, direction: Direction) -> io::Result<Option<Fault>> {
        let frame = probe_frame(direction);
        for _ in 0..ATTEMPTS {
            let (expiry, before) = (self.expiry(), clock::now());
            let (verdict, _) = program.test(&frame, 1)?;
            let after = clock::now();
            if self.expiry() != expiry {
                continue;
            }
            if before >= expiry && verdict != DROP {
                return Ok(Some(Fault::Probe { direction, open: false }));
            }
            if after < expiry && verdict != NEXT {
                return Ok(Some(Fault::Probe { direction, open: true }));
            }
            return Ok(None);
        }
        Ok(None)
    }
}

fn check_place(program: &Program, interface: u32, direction: Direction) -> io::Result<Option<Fault>> {
    let entries = match hook::entries(interface, direction) {
        Ok(entries) => entries,
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Vec::new(),
        Err(e) => return Err(e),
    };
    let ours = Some(program.id());
    Ok(match entries.iter().position(|entry| entry.program == ours) {
        None => Some(Fault::Missing { interface, direction }),
        Some(0) => None,
        Some(_) => Some(Fault::Preceded { interface, direction, by: entries[0].program }),
    })
}
