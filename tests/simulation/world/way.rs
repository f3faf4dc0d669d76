//! What is under way: frames to a box or over a witness, recorded ones among them, and text on the null modem.

use super::clock::{MS, SECOND, Time};
use super::machine::{SOCKET_FRAMES, Waiting};
use super::{Event, Lie, RECENT, RECORDED, World};
use twobox::node::settings::{FIRST_REFLECTED, NULL_MODEM, PATHS};
use twobox::wire::heartbeat::Heartbeat;

impl World {
    pub(super) fn arrive(&mut self, to: usize, path: u8, frame: u32) {
        let m = &mut self.boxes[to];
        // Whoever is no witness of its is not listened to.
        let stranger = path >= FIRST_REFLECTED + m.template.witnesses;
        if self.newer == Some(1 - to)
            || stranger
            || !m.kernel_runs(self.now)
            || m.program.is_none()
            || m.frames_waiting >= SOCKET_FRAMES
        {
            self.free.push(frame);
            return;
        }
        m.frames_waiting += 1;
        self.wait(to, Waiting::Frame { path, frame });
    }

    /// One packet pair reaches a witness: the pong goes back, the heartbeat goes on.
    pub(super) fn at_witness(&mut self, w: u8, from: usize, round: Option<u32>, frame: u32, life: u32) {
        let dwell = self.network.dwell;
        let witness = &mut self.network.witnesses[w as usize];
        if self.now < witness.down_until {
            self.free.push(frame);
            return;
        }
        let latency = witness.latency;
        let back = witness.legs[from][1].pass(self.now, dwell, &mut self.random);
        let reflects = witness.reflects[from] && self.now >= witness.silent_until;
        let selective = self.setup.lie == Some(Lie::UnsharedFate) && self.now % (20 * SECOND) > 10 * SECOND;
        let reflects = reflects && !selective;
        let on = witness.legs[1 - from][1].pass(self.now, dwell, &mut self.random).filter(|_| reflects);
        if let (Some(late), Some(round)) = (back, round) {
            self.after(latency + late, Event::Pong { to: from, witness: w, round, life });
        }
        match on {
            Some(late) => {
                let path = self.frames[frame as usize].path;
                self.after(latency + late, Event::Frame { to: 1 - from, path, frame });
            }
            None => self.free.push(frame),
        }
    }

    pub(super) fn keep(&mut self, h: Heartbeat) -> u32 {
        if let Some(i) = self.free.pop() {
            self.frames[i as usize] = h;
            return i;
        }
        self.frames.push(h);
        u32::try_from(self.frames.len() - 1).expect("few frames are under way")
    }

    pub(super) fn replay(&mut self, to: usize, left: u8, every: Time) {
        let sender = self.setup.settings[1 - to].node;
        for _ in 0..8 {
            if self.recorded.is_empty() {
                break;
            }
            // Half of the time something that has just been said.
            let n = match self.recorded.len() {
                RECORDED if self.random.chance(500) => self.random.below(RECENT as u64) as usize,
                all => self.random.below(all as u64) as usize,
            };
            let h = self.recorded[n];
            if h.node == sender {
                // Now and then by another path than it was recorded on.
                let path = if self.random.chance(100) { self.random.below(PATHS as u64) as u8 } else { h.path };
                let frame = self.keep(h);
                self.arrive(to, path, frame);
                break;
            }
        }
        if left > 0 {
            self.after(every, Event::Replay { to, left: left - 1, every });
        }
    }

    /// One frame of the tape, then the next one after its time divided by the pace; at the end of the tape from the beginning.
    pub(super) fn playback(&mut self, to: usize, next: usize, end: Time, pace: u8) {
        let Some(&(at, h)) = self.tapes[1 - to].get(next) else {
            if next > 0 && self.now < end {
                self.after(MS, Event::Playback { to, next: 0, end, pace });
            }
            return;
        };
        let frame = self.keep(h);
        self.arrive(to, h.path, frame);
        let wait = self.tapes[1 - to].get(next + 1).map_or(MS, |later| later.0 - at);
        if self.now < end {
            self.after(wait / Time::from(pace), Event::Playback { to, next: next + 1, end, pace });
        }
    }

    pub(super) fn text(&mut self, from: usize) {
        let line = self.network.lines[NULL_MODEM as usize][from];
        if line.up(self.now) {
            let begins = self.random.between(25 * MS, 60 * MS);
            let ends = begins + self.random.between(20 * MS, 300 * MS);
            self.after(begins, Event::Text { to: 1 - from, ends: false });
            self.after(ends, Event::Text { to: 1 - from, ends: true });
        }
    }
}
