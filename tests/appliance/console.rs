//! A session at the console ports: what an operator types into a serial cable, and what must be shown.

use std::time::Duration;

use crate::rig::Rig;
use crate::scenario::{LEASE, NAMES, STALL, handed_over, healthy, unmoved};

/// Emulated boxes that share the CPU answer slowly.
const LIMIT: Duration = Duration::from_secs(30);

/// The operator's terminal at one box.
struct Desk {
    index: usize,
    /// Bytes of the port's transcript that were looked at.
    read: usize,
    /// All that was shown and not yet expected, without what clears a line.
    seen: String,
}

impl Desk {
    /// Gives up the line that may stand there, and waits for a prompt that shows this role.
    fn sit_down(rig: &Rig, index: usize, role: &str) -> Result<Desk, String> {
        let mut desk = Desk { index, read: rig.machines[index].console.shown(0).0, seen: String::new() };
        desk.send(rig, b"\x03");
        desk.expect(rig, "^C\n")?;
        desk.expect(rig, &prompt(index, role))?;
        Ok(desk)
    }

    fn send(&self, rig: &Rig, bytes: &[u8]) {
        rig.machines[self.index].console.send_bytes(bytes);
    }

    /// Waits until the text is shown, forgets all up to its end and returns that.
    fn expect(&mut self, rig: &Rig, text: &str) -> Result<String, String> {
        let until = rig.timeline.now() + LIMIT;
        loop {
            let (end, new) = rig.machines[self.index].console.shown(self.read);
            self.read = end;
            self.seen.push_str(&String::from_utf8_lossy(&new));
            self.seen = self.seen.replace("\x1b[K", "").replace('\r', "");
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            if rig.timeline.now() > until {
                return Err(format!("{text:?} was not shown, but {:?}", self.seen));
            }
            rig.pass(Duration::from_millis(20));
        }
    }

    /// Types a line and returns what is shown until the prompt of this role.
    fn ask(&mut self, rig: &Rig, line: &str, role: &str) -> Result<String, String> {
        self.send(rig, format!("{line}\r").as_bytes());
        self.expect(rig, "\n")?;
        self.expect(rig, &prompt(self.index, role))
    }
}

fn prompt(index: usize, role: &str) -> String {
    format!("{} {role}> ", NAMES[index])
}

/// Holds if `answer` says `text`.
fn says(answer: &str, text: &str) -> Result<(), String> {
    if answer.contains(text) { Ok(()) } else { Err(format!("no {text:?} in {answer:?}")) }
}

/// The console of a box answers.
pub fn answers(rig: &Rig, index: usize, role: &str) -> Result<(), String> {
    let mut desk = Desk::sit_down(rig, index, role)?;
    says(&desk.ask(rig, "version", role)?, "twobox 0.")
}

/// The main commands, completion, the live view, and a flood that nobody else may feel.
pub fn session(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    let (before, start) = (rig.reigns(), rig.timeline.now());
    let mut desk = Desk::sit_down(rig, standby, "standby")?;
    let help = desk.ask(rig, "help", "standby")?;
    says(&help, "switchover")?;
    if let Some(long) = help.lines().find(|line| line.chars().count() > 80) {
        return Err(format!("wider than 80 columns: {long}"));
    }
    says(&desk.ask(rig, "status", "standby")?, &format!("{} serves.", NAMES[active]))?;
    says(&desk.ask(rig, "staus", "standby")?, "see `help`")?;
    // Completion, held and released.
    desk.send(rig, b"hol\t");
    desk.expect(rig, "hold ")?;
    desk.ask(rig, "at the console", "held")?;
    let held = rig.status(standby, STALL * 2).ok_or("the box that is held does not answer")?;
    says(&held["held_by"].to_string(), "at the console")?;
    desk.ask(rig, "rel\t", "standby")?;
    // The live view, and ctrl-C out of it.
    desk.send(rig, b"watch\r");
    desk.expect(rig, &format!("+-- {} (here)", NAMES[standby]))?;
    desk.send(rig, b"\x03");
    desk.expect(rig, &prompt(standby, "standby"))?;
    flood(rig, &mut desk)?;
    unmoved(rig, &before, start)?;
    // A hand-over from the console of the box that serves.
    let mut desk = Desk::sit_down(rig, active, "active")?;
    let shown = desk.ask(rig, "switchover", "standby")?;
    says(&shown, &format!("{} serves", NAMES[standby]))?;
    rig.wait_served(&[standby], LIMIT).ok_or("the peer does not take over")?;
    handed_over(rig, &before, standby)?;
    healthy(rig)?;
    Ok("help, status, completion, hold, release, watch, a flood, switchover".into())
}

/// Every command of `help`, typed once: the line, the role in the prompt after it, and what its first line says. Those without
/// a role end the session and are typed last.
const COMMANDS: &[(&str, &str, Option<&str>, &str)] = &[
    ("status", "status", Some("standby"), " serves."),
    ("hold", "hold every word once", Some("held"), "held: this box stays up"),
    ("release", "release", Some("standby"), "released"),
    ("activate", "activate", Some("standby"), "without proof that the peer is off"),
    ("history", "history -n 1", Some("standby"), ""),
    ("log", "log -n 1", Some("standby"), " run::"),
    ("peer", "peer status", Some("standby"), " serves."),
    ("mirror", "mirror status", Some("standby"), "/data/mail"),
    ("update", "update /data/none.efi", Some("standby"), "/data/none.efi: No such file"),
    ("version", "version", Some("standby"), "twobox 0."),
    ("drill", "drill", Some("standby"), "surrender begun"),
    ("reboot", "reboot", None, "leaving in order"),
    ("poweroff", "poweroff", None, "leaving in order"),
];
/// Typed by [`session`] with what belongs to them.
const ELSEWHERE: &[&str] = &["watch", "switchover"];

/// Types each command that `help` names, and judges the first line of its answer.
pub fn every_command(rig: &mut Rig) -> Result<String, String> {
    let active = healthy(rig)?;
    let standby = 1 - active;
    let before = rig.reigns();
    // For five leases nobody votes for who has just surrendered: a drill right behind a hand-over begins with that wait.
    rig.pass(LEASE * 6);
    let mut desk = Desk::sit_down(rig, standby, "standby")?;
    let help = desk.ask(rig, "help", "standby")?;
    let commands = help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let commands: Vec<String> =
        commands.map(str::to_owned).filter(|name| !ELSEWHERE.contains(&name.as_str())).collect();
    let known: Vec<&str> = COMMANDS.iter().map(|(name, ..)| *name).collect();
    if let Some(new) = commands.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("`help` names {new}, and nobody has typed it here"));
    }
    if let Some(gone) = known.iter().find(|name| !commands.iter().any(|found| found == *name)) {
        return Err(format!("`help` does not name {gone}: {help}"));
    }
    let mut moves = Vec::new();
    for (name, line, role, first) in COMMANDS {
        let answer = match role {
            Some(role) => desk.ask(rig, line, role)?,
            None => {
                let mark = rig.timeline.mark();
                desk.send(rig, format!("{line}\r").as_bytes());
                desk.expect(rig, "\n")?;
                let answer = desk.expect(rig, "\n")?;
                let ended = |event: &crate::rig::timeline::Event| {
                    event.who == NAMES[standby] && (event.text.starts_with("RESET") || event.text == "SHUTDOWN")
                };
                rig.timeline.wait(mark, LIMIT, ended).ok_or_else(|| format!("{name} does not end the box"))?;
                if *name == "poweroff" {
                    rig.machines[standby].power_cut();
                }
                healthy(rig)?;
                desk = Desk::sit_down(rig, standby, "standby")?;
                answer
            }
        };
        let said = answer.lines().next().unwrap_or_default();
        match *name {
            // What the standby lacks is copied first, and told before the steps.
            "drill" if answer.contains(first) => moves = vec![standby, active],
            // On a machine that is too busy for its boxes the drill says so, and moves nothing.
            "drill" if said.contains("not everything is green") => {}
            _ if said.contains(first) => {}
            _ => return Err(format!("{line} says {said:?} and not {first:?}")),
        }
    }
    // A drill goes over and back again, and nothing else moves.
    let after: Vec<usize> = rig.reigns()[before.len()..].iter().map(|reign| reign.port).collect();
    if after != moves {
        return Err(format!("the address went {after:?}"));
    }
    Ok(format!("{} commands, each with its first line", COMMANDS.len()))
}

/// What a wrong baud rate makes of text, as fast as the port takes it: the console lives on.
fn flood(rig: &Rig, desk: &mut Desk) -> Result<(), String> {
    let mut state = 1_u32;
    for _ in 0..100 {
        let noise: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            // ctrl-D would log out.
            .filter(|byte| *byte != 4)
            .collect();
        desk.send(rig, &noise);
        rig.pass(Duration::from_millis(20));
    }
    // A person comes after a pause.
    rig.pass(Duration::from_secs(6));
    desk.seen.clear();
    desk.send(rig, b"\x03version\r");
    desk.expect(rig, "twobox 0.")?;
    desk.expect(rig, &prompt(desk.index, "standby")).map(drop)
}
