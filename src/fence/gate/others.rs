//! The gate on other interfaces than those that it is on. On those below them: the ports of a bond or a bridge, what a VLAN or a macvlan
//! is on. Whatever comes from above has passed the gate there; what began on one of them has not. And on the box's other cards: a
//! route may lead an answer out by any of them.
//!
//! They come and go with the network's configuration, so whoever looks after the gate names them again and again. One that cannot be
//! guarded is told, and no more.

use std::io;

use super::bpf::Program;
use super::layout::Direction;
use super::program::{self, Guarded};
use super::{Gate, hook, take_off};

/// So many are guarded at the most; a bridge may have the ports of very many containers.
pub const MOST_OTHERS: usize = 32;

/// What became of the other interfaces.
#[derive(Debug, Default)]
pub struct Others {
    /// Those from which somebody had taken the program, or where another had been put before it. It is there again, unless they are
    /// among those that are not guarded, too.
    pub touched: Vec<u32>,
    /// Those that are not guarded, and why.
    pub unguarded: Vec<(u32, io::Error)>,
}

impl Gate {
    /// Guards these interfaces, too, and no others: what leaves by one of them as holder and began on this box passes under a right
    /// only. What the box carries on for others passes always, as the peer's frames do through a bridge. What comes in is not looked at.
    pub fn guard_others(&self, interfaces: &[u32]) -> Others {
        let mut told = Others::default();
        let mut place = self.place();
        let wanted: Vec<u32> =
            interfaces.iter().copied().filter(|index| !place.interfaces.contains(index)).take(MOST_OTHERS).collect();
        let mut known = std::mem::take(&mut place.others);
        known.retain(|(index, _)| {
            let stays = wanted.contains(index);
            // One that the gate itself is on by now has been swept.
            if !stays && !place.interfaces.contains(index) {
                told.note(*index, take_off(*index, Direction::Egress));
            }
            stays
        });
        for index in wanted {
            let former = known.iter().find(|(known, _)| *known == index).map(|(_, program)| *program);
            match self.guard(index, former) {
                Ok(Guard::Stands(program)) => place.others.push((index, program)),
                Ok(Guard::Put(program)) => {
                    place.others.push((index, program));
                    told.touched.extend(former.map(|_| index));
                }
                // It has gone.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => {
                    told.touched.extend(former.map(|_| index));
                    told.unguarded.push((index, error));
                }
            }
        }
        told
    }

    fn guard(&self, index: u32, former: Option<u32>) -> io::Result<Guard> {
        if let Some(program) = former.filter(|program| is_first(index, *program).unwrap_or(false)) {
            return Ok(Guard::Stands(program));
        }
        let guarded = Guarded { addresses: &self.settings.addresses, virtual_macs: &self.settings.virtual_macs };
        let code = program::build_others(guarded, self.map.descriptor())
            .map_err(|e| io::Error::other(format!("the program cannot be assembled: {e:?}")))?;
        let program = Program::load(Direction::Egress.program_name(), &code)?;
        hook::attach_first(self.hook, index, Direction::Egress, &program)?;
        hook::sweep(index, Direction::Egress, Some(program.id()))?;
        if is_first(index, program.id())? {
            Ok(Guard::Put(program.id()))
        } else {
            Err(io::Error::other("another program runs before the gate's"))
        }
    }
}

enum Guard {
    /// The program of this number is there as it was.
    Stands(u32),
    /// It was put there now.
    Put(u32),
}

impl Others {
    fn note(&mut self, index: u32, done: io::Result<()>) {
        self.unguarded.extend(done.err().map(|error| (index, error)));
    }
}

fn is_first(index: u32, program: u32) -> io::Result<bool> {
    let entries = hook::entries(index, Direction::Egress)?;
    Ok(entries.first().is_some_and(|entry| entry.program == Some(program)))
}
