//! What is known of the boxes, the cables and the client, as the screen shows it. Pure: everything that is seen comes in
//! with its time.

use std::collections::VecDeque;
use std::time::Duration;

use twobox::console::status::{Role, Status};

use crate::rig::station::Seen;
use crate::rig::timeline::Event;

/// Names of the boxes.
pub const NAMES: [&str; 2] = ["a", "b"];

/// A box that has not answered for this long is shown as silent.
const SILENT: Duration = Duration::from_secs(4);

/// Seconds of the client's view that are kept: more than the widest screen shows.
const SECONDS: usize = 400;

/// Lines of the log that are kept.
const LINES: usize = 50;

/// The cables, and the witness, in the order of [`Model::cut`].
pub const CORDS: [&str; 5] = ["null modem", "crossover", "LAN of a", "LAN of b", "witness"];
/// Their places.
pub const NULL_MODEM: usize = 0;
/// Place of the crossover.
pub const CROSSOVER: usize = 1;
/// Place of a's LAN cable; b's is the next one.
pub const LAN: usize = 2;
/// Place of the witness.
pub const WITNESS: usize = 4;

/// One box.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// When it was switched on; `None`: it is off.
    pub on_since: Option<Duration>,
    /// Its newest status and when it came, if it came since the box was switched on or reset.
    pub status: Option<(Duration, Status)>,
    /// The rig's hand inside it takes orders.
    pub is_ready: bool,
}

/// What a box does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Switched off.
    Off,
    /// On, and has said nothing yet.
    Booting,
    /// Said something once and does not answer.
    Silent(Duration),
    /// Answers.
    In(Role),
}

impl Node {
    /// What it does now.
    pub fn state(&self, now: Duration) -> State {
        match (&self.on_since, &self.status) {
            (None, _) => State::Off,
            (Some(_), None) => State::Booting,
            (Some(_), Some((at, status))) => {
                let age = now.saturating_sub(*at);
                if age > SILENT { State::Silent(age) } else { State::In(status.role) }
            }
        }
    }

    /// Its status, if it is fresh.
    pub fn fresh(&self, now: Duration) -> Option<&Status> {
        let (_, status) = self.status.as_ref()?;
        matches!(self.state(now), State::In(_)).then_some(status)
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Since the rig was started.
    pub now: Duration,
    /// No KVM: everything is slower.
    pub emulated: bool,
    /// The boxes.
    pub boxes: [Node; 2],
    /// The box that the keys mean.
    pub chosen: usize,
    /// What is unplugged, since when.
    pub cut: [Option<Duration>; 5],
    /// What the client has seen.
    pub client: Seen,
    /// Who served in each second: `a`, `b` or `-`.
    pub seconds: VecDeque<char>,
    /// The newest lines of the log, oldest first.
    pub log: VecDeque<String>,
}

impl Model {
    /// Takes a line of the rig's timeline. Returns the line as it is to be shown, if it is worth that.
    pub fn see(&mut self, event: &Event) -> Option<String> {
        let (index, agent) = match event.who.as_str() {
            "a" => (0, false),
            "b" => (1, false),
            "a$" => (0, true),
            "b$" => (1, true),
            _ => return self.note(event.at, &event.who, &event.text),
        };
        if agent {
            return self.hear_agent(index, event);
        }
        // The prompt clears its line before it says something.
        let text = event.text.trim_start_matches("[K");
        if text == "power on" {
            self.boxes[index] = Node { on_since: Some(event.at), ..Node::default() };
        } else if text == "POWER CUT" {
            self.boxes[index] = Node::default();
        } else if text.starts_with("RESET") {
            self.boxes[index].status = None;
            self.boxes[index].is_ready = false;
        }
        is_worth_telling(text).then(|| self.note(event.at, NAMES[index], text)).flatten()
    }

    /// A status, the answer to another order, or the end of either.
    fn hear_agent(&mut self, index: usize, event: &Event) -> Option<String> {
        if event.text == "agent ready" {
            self.boxes[index].is_ready = self.boxes[index].on_since.is_some();
            return None;
        }
        // What was typed before a reset comes to the next life as half a word.
        let half = !self.boxes[index].is_ready || event.text.starts_with("/data/bin/agent.sh:");
        if half || event.text.starts_with("done ") {
            return None;
        }
        let Ok(status) = serde_json::from_str::<Status>(&event.text) else {
            // Half a status, cut off by a reset, is no answer.
            let broken = event.text.contains("\":");
            return if broken { None } else { self.note(event.at, NAMES[index], event.text.trim()) };
        };
        let former = self.boxes[index].status.as_ref().map(|(_, status)| status.role);
        let role = status.role;
        if self.boxes[index].on_since.is_some() {
            self.boxes[index].status = Some((event.at, status));
        }
        if former == Some(role) { None } else { self.note(event.at, NAMES[index], &format!("says: {}", role.word())) }
    }

    fn note(&mut self, at: Duration, who: &str, text: &str) -> Option<String> {
        // The pinging client is the rig's finer clock; the demonstration shows the one that fetches pages.
        if who == "client" {
            return None;
        }
        let who = if who == "fetch" { "client" } else { who };
        let line = format!("{:8.2}  {who:<6}  {text}", at.as_secs_f64());
        if self.log.len() == LINES {
            self.log.pop_front();
        }
        self.log.push_back(line.clone());
        Some(line)
    }

    /// Brings time and client up to date, and the seconds with them.
    pub fn pass(&mut self, now: Duration, client: Seen) {
        let passed = now.as_secs().saturating_sub(self.now.as_secs());
        // A second is served if a page came in it; the last page tells of the second that ends now.
        let served = self.served_by(now, &client);
        for _ in 0..passed {
            if self.seconds.len() == SECONDS {
                self.seconds.pop_front();
            }
            self.seconds.push_back(served.map_or('-', |index| ['a', 'b'][index]));
        }
        (self.now, self.client) = (now, client);
    }

    /// Who served within the last second.
    fn served_by(&self, now: Duration, client: &Seen) -> Option<usize> {
        let fresh = client.answers > 0 && now.saturating_sub(client.last) < Duration::from_secs(1);
        client.served_by.filter(|_| fresh)
    }

    /// Who serves now, as the client sees it.
    pub fn server(&self) -> Option<usize> {
        self.served_by(self.now, &self.client)
    }

    /// The box that serves; when none does, the one that served last or says that it is active.
    pub fn active(&self) -> usize {
        let says = |index: &usize| self.boxes[*index].fresh(self.now).is_some_and(|status| status.role == Role::Active);
        self.server().or_else(|| [0, 1].into_iter().find(says)).or(self.client.served_by).unwrap_or(0)
    }

    /// How long the client has been without a page by now, if that is an outage.
    pub fn current_outage(&self) -> Option<Duration> {
        (self.client.answers > 0 && self.server().is_none()).then(|| self.now.saturating_sub(self.client.last))
    }

    /// One box serves, the other stands by, and nothing would stop it from taking over: as both have said after `since`.
    pub fn is_healthy(&self, since: Duration) -> bool {
        let Some(active) = self.server() else { return false };
        let said = |node: &Node| node.status.as_ref().is_some_and(|(at, _)| *at > since);
        if !self.boxes.iter().all(said) {
            return false;
        }
        let role = |index: usize| self.boxes[index].fresh(self.now).map(|status| status.role);
        let ready = self.boxes[active].fresh(self.now).is_some_and(|status| status.takeover.ready);
        role(active) == Some(Role::Active) && role(1 - active) == Some(Role::Standby) && ready
    }
}

/// Whether a line of a box's console is told: not the prompt, not each step of a boot.
fn is_worth_telling(text: &str) -> bool {
    const WORDS: [&str; 9] = [
        "power on",
        "POWER CUT",
        "RESET",
        "WATCHDOG",
        "booted in",
        "null modem: ",
        "FAILED",
        "was ordered by",
        "ALARM",
    ];
    WORDS.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, who: &str, text: &str) -> Event {
        Event { at: Duration::from_secs(at), who: who.into(), text: text.into() }
    }

    fn status(role: &str) -> String {
        let snapshot = include_str!("../../operator/snapshots/status.json");
        let status = snapshot.replacen("\"active\"", &format!("\"{role}\""), 1);
        status.lines().map(str::trim).collect()
    }

    fn seen(last: u64, served_by: usize) -> Seen {
        Seen { answers: 1, last: Duration::from_secs(last), served_by: Some(served_by), ..Seen::default() }
    }

    #[test]
    fn a_box_goes_from_off_over_booting_to_its_role_and_falls_silent() {
        let mut model = Model::default();
        let now = Duration::from_secs;
        assert_eq!(model.boxes[1].state(now(0)), State::Off);
        assert!(model.see(&event(1, "b", "power on")).unwrap().contains("1.00  b       power on"));
        assert_eq!(model.boxes[1].state(now(2)), State::Booting);
        assert_eq!(model.see(&event(2, "b$", "agent ready")), None);
        assert!(model.boxes[1].is_ready);
        assert!(model.see(&event(3, "b$", &status("standby"))).unwrap().ends_with("says: standby"));
        assert_eq!(model.see(&event(4, "b$", &status("standby"))), None);
        assert_eq!(model.boxes[1].state(now(5)), State::In(Role::Standby));
        assert_eq!(model.boxes[1].state(now(14)), State::Silent(now(10)));
        model.see(&event(15, "b", "RESET by \"guest-reset\""));
        assert_eq!(model.boxes[1].state(now(15)), State::Booting);
        model.see(&event(16, "b", "POWER CUT"));
        assert!(!model.boxes[1].is_ready);
        // What it had said just before its end arrives late.
        model.see(&event(16, "b$", &status("standby")));
        assert_eq!(model.boxes[1].state(now(16)), State::Off);
    }

    #[test]
    fn half_a_status_and_the_prompt_are_not_told() {
        let mut model = Model::default();
        assert_eq!(model.see(&event(1, "a$", "n")), None);
        model.see(&event(1, "a", "power on"));
        model.see(&event(1, "a$", "agent ready"));
        assert_eq!(model.see(&event(1, "a$", "/data/bin/agent.sh: eval: line 10: n: not found")), None);
        assert_eq!(model.see(&event(1, "a$", "\"role\":\"act")), None);
        assert_eq!(model.see(&event(1, "a$", "done 0")), None);
        assert_eq!(model.see(&event(1, "a", "a active>")), None);
        assert!(model.see(&event(1, "a", "[KALARM the peer")).unwrap().ends_with("a       ALARM the peer"));
        assert_eq!(model.see(&event(1, "client", "is served by a")), None);
        assert!(model.see(&event(1, "fetch", "is served by a")).unwrap().contains("client  is served"));
        assert!(model.see(&event(1, "a$", "refused: the peer is held")).is_some());
    }

    #[test]
    fn seconds_tell_who_served_and_an_outage_grows() {
        let mut model = Model::default();
        model.pass(Duration::from_millis(1500), seen(1, 0));
        model.pass(Duration::from_millis(2500), seen(2, 0));
        assert_eq!(model.current_outage(), None);
        model.pass(Duration::from_millis(5500), seen(2, 0));
        assert_eq!(model.current_outage(), Some(Duration::from_millis(3500)));
        model.pass(Duration::from_millis(6100), seen(6, 1));
        assert_eq!(model.seconds.iter().collect::<String>(), "aa---b");
        assert_eq!(model.active(), 1);
    }

    #[test]
    fn healthy_is_one_active_one_standby_and_a_page() {
        let mut model = Model::default();
        for (who, role) in [("a", "active"), ("b", "standby")] {
            model.see(&event(1, who, "power on"));
            model.see(&event(1, &format!("{who}$"), "agent ready"));
            model.see(&event(2, &format!("{who}$"), &status(role)));
        }
        model.pass(Duration::from_secs(2), seen(2, 0));
        assert!(model.is_healthy(Duration::from_secs(1)));
        assert!(!model.is_healthy(Duration::from_secs(2)), "said before");
        model.pass(Duration::from_secs(4), seen(2, 0));
        assert!(!model.is_healthy(Duration::ZERO), "no page");
        model.pass(Duration::from_secs(2), seen(2, 1));
        assert!(!model.is_healthy(Duration::ZERO), "the standby serves");
    }
}
