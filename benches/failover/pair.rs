//! This pair, as the program under test.

use std::fs;
use std::thread::sleep;

use twobox::config;
use twobox::config::timing::Belt;
use twobox::console::control::Request;
use twobox::console::status::Handover;
use twobox::time::Duration;

use crate::judge::System;
use crate::power::{self, Dies};
use crate::rig::{self, Rig};

/// Two daemons of one profile.
pub struct Pair {
    profile: &'static str,
    pub rig: Rig,
    powerless: bool,
    /// Times that a box held itself after three self-fences and had to be released.
    released: u32,
}

impl Pair {
    /// Starts both and waits until they are a pair.
    pub fn new(profile: &'static str) -> Pair {
        let timing = format!("profile = \"{profile}\"\nhold-down = \"1s\"");
        let mut rig = Rig::new(profile, &timing);
        for node in ["a", "b"] {
            // The service of both systems runs before the load, so that the pair is measured and not python.
            let site = rig::site(&rig.dir, &timing).replace("[\"/usr", "[\"/usr/bin/chrt\", \"-f\", \"5\", \"/usr");
            fs::write(rig.dir.join(format!("site-{node}.toml")), site).unwrap();
        }
        rig.start_both();
        Pair { profile, rig, powerless: false, released: 0 }
    }

    /// The claim wait and the fence bound that stand now.
    fn bounds(&self) -> (Duration, u64, &'static str) {
        let options = self.rig.options("a");
        let plan = config::load(&options.site, &options.board).unwrap().plan;
        let fence = self.rig.status(self.rig.active().unwrap()).unwrap().fence;
        let belt = Belt::ALL.into_iter().find(|belt| belt.word() == fence.bound_by.word()).unwrap();
        (plan.claim_wait(belt).unwrap_or_default(), fence.bound_ms.unwrap_or(u64::MAX), belt.word())
    }
}

impl System for Pair {
    fn name(&self) -> String {
        format!("twobox {}", self.profile)
    }

    fn rig(&self) -> &Rig {
        &self.rig
    }

    fn settle(&mut self) -> &'static str {
        let mut released = 0;
        rig::wait("a pair in touch", || {
            // On a machine that stalls for longer than a lease the boxes fence themselves, and hold after the third time.
            for node in ["a", "b"] {
                let strikes = |held: &String| held.contains("three self-fences");
                if self.rig.status(node).is_some_and(|s| s.held_by.iter().any(strikes)) {
                    released += u32::from(self.rig.order(node, &Request::Release).is_ok());
                }
            }
            self.rig.in_touch() && self.rig.active().is_some()
        });
        self.released += released;
        sleep(Duration::from_millis(500));
        self.rig.active().unwrap_or("a")
    }

    fn hand_over(&mut self, active: &'static str) {
        self.rig.order(active, &Request::Switchover { lose_changes: false }).unwrap();
    }

    fn lose_power(&mut self, active: &'static str) {
        power::cut(&self.rig, active, Dies::Process(self.rig.pid(active)));
        self.rig.end_of(active);
        self.powerless = true;
    }

    fn restore(&mut self, stopped: &'static str) {
        if core::mem::take(&mut self.powerless) {
            power::mend(&self.rig, stopped);
            self.rig.launch(stopped);
        }
    }

    fn account(&self, owner: &'static str) -> Option<Handover> {
        self.rig.status(owner)?.last_handover
    }

    fn remark(&self) -> String {
        let (wait, bound, belt) = self.bounds();
        let released = if self.released == 0 { String::new() } else { format!(", {} x released", self.released) };
        format!("C {:.1} ms, F {bound} ms by {belt}{released}", wait.as_secs_f64() * 1e3)
    }
}
