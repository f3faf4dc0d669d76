//! One turn of a box's loop: hand everything over, decide, do it.

use super::clock::{MS, NEVER, Time};
use super::machine::Waiting;
use super::{Event, World};
use twobox::node::{Action, Answer, Input, Node, Order};
use twobox::time::Instant;
use twobox::wire::pair::Role;

impl World {
    /// One turn of a box's loop: hand everything over, decide, do it.
    pub(super) fn turn(&mut self, i: usize) {
        let m = &mut self.boxes[i];
        m.wake = NEVER;
        if !m.runs(self.now) {
            return;
        }
        let life = m.life;
        if !m.unfinished.is_empty() {
            let unfinished = std::mem::take(&mut m.unfinished);
            for action in unfinished {
                if self.boxes[i].life == life {
                    self.act(i, action);
                }
            }
            if self.boxes[i].life != life || self.judge.violation.is_some() {
                return;
            }
            let again = std::mem::take(&mut self.boxes[i].stop_again);
            if again > 0 {
                self.boxes[i].stopped_until = self.now + again;
                self.after(again, Event::Resume { side: i });
                return;
            }
        }
        let m = &mut self.boxes[i];
        let now = m.clock.local(self.now);
        let mut waiting = std::mem::take(&mut m.waiting);
        m.frames_waiting = 0;
        let mut node = m.program.take().expect("it runs");
        let mut steady = false;
        for what in waiting.drain(..) {
            steady |= matches!(what, Waiting::Bound);
            self.hand_over(i, &mut node, now, what);
        }
        self.handle(i, &mut node, now, Input::Turn);
        let deadline = node.next_deadline();
        let m = &mut self.boxes[i];
        m.program = Some(node);
        m.waiting = waiting;
        let mut actions = std::mem::take(&mut self.actions);
        // A belt that is lost while the program stops in the same turn would be two failures at once.
        let stop = self.boxes[i].stop_in_turn.take_if(|_| !steady);
        let until = stop.map_or(actions.len(), |_| self.random.below(actions.len() as u64 + 1) as usize);
        for (n, action) in actions.drain(..).enumerate() {
            if self.boxes[i].life != life {
                break;
            }
            if n < until {
                self.act(i, action);
            } else {
                self.boxes[i].unfinished.push(action);
            }
        }
        self.actions = actions;
        if self.boxes[i].life != life {
            return;
        }
        if let Some(length) = stop {
            self.say(|_| format!("{} is stopped after {until} actions of its turn", Self::name(i)));
            self.boxes[i].stopped_until = self.boxes[i].stopped_until.max(self.now + length);
            self.after(length, Event::Resume { side: i });
            return;
        }
        let late = self.random.between(MS / 100, MS / 10) + self.lateness(i);
        let m = &mut self.boxes[i];
        if m.runs(self.now) {
            m.wake = m.wake.min(m.clock.world(deadline).max(self.now) + late);
        }
    }

    pub(super) fn handle(&mut self, i: usize, node: &mut Node, now: Instant, input: Input<'_>) {
        node.handle(now, input);
        while let Some(action) = node.next_action() {
            self.actions.push(action);
        }
        let _ = i;
    }

    pub(super) fn hand_over(&mut self, i: usize, node: &mut Node, now: Instant, what: Waiting) {
        match what {
            Waiting::Frame { path, frame } => {
                let h = self.frames[frame as usize];
                self.free.push(frame);
                self.handle(i, node, now, Input::Heartbeat { path, heartbeat: &h });
                let status = node.status(now);
                if status.peer_boot == Some(h.boot) {
                    let heard = &mut self.boxes[i].heard_of;
                    let serves = h.role == Role::Active;
                    *heard = if serves { h.data.generation } else { (*heard).max(h.data.generation) };
                }
            }
            Waiting::Pong { witness, round } => self.handle(i, node, now, Input::Pong { witness, round }),
            Waiting::Down { order } => self.handle(i, node, now, Input::Down { order }),
            Waiting::NotDown => self.handle(i, node, now, Input::NotDown),
            Waiting::ServicesStopped { order } => self.take_down(i, order),
            Waiting::Written { ticket, durable } => self.handle(i, node, now, Input::Persisted { ticket, durable }),
            Waiting::Order(order) => {
                let before = node.status(now);
                self.handle(i, node, now, Input::Order(order));
                let answer = self.actions.iter().rev().find_map(|a| match a {
                    Action::Answer(o, answer) if *o == order => Some(*answer),
                    _ => None,
                });
                let answer = answer.expect("every order is answered at once");
                self.say(|_| format!("{} hears {order:?}: {answer:?}", Self::name(i)));
                self.answers.push((i, order, answer));
                if let (Order::Switchover { term } | Order::Hold { term }, Answer::Accepted, Role::Active) =
                    (order, answer, before.role)
                    && term < before.served
                {
                    let text = format!("{} serves {} and obeys {order:?}", Self::name(i), before.served);
                    self.judge.found(self.now, text);
                }
            }
            Waiting::TextBegins => self.boxes[i].text_began = Some(now),
            Waiting::TextEnds => {
                if let Some(began) = self.boxes[i].text_began.take() {
                    self.say(|_| format!("{} reads the panic text", Self::name(i)));
                    self.handle(i, node, now, Input::PanicText { began });
                }
            }
            Waiting::Carriers => {
                let bits = self.boxes[i].carriers(self.now);
                self.handle(i, node, now, Input::Carriers(bits));
            }
            Waiting::Services => {
                let healthy = self.now >= self.boxes[i].services_fail_until;
                self.handle(i, node, now, Input::Services { healthy });
            }
            Waiting::Data => {
                let data = self.data(i, node.status(now).role);
                self.handle(i, node, now, Input::Data { data, newest: data.generation.term });
            }
            Waiting::Bound => {
                let bound = self.refresh_belts(i);
                self.say(|_| format!("{}'s fence bound is {bound:?}", Self::name(i)));
                self.handle(i, node, now, Input::FenceBound(bound));
            }
            Waiting::Conflict => {
                self.say(|_| format!("{}'s probe is answered by the peer", Self::name(i)));
                self.handle(i, node, now, Input::Conflict);
            }
        }
    }

    pub(super) fn lateness(&mut self, side: usize) -> Time {
        let (by, until) = self.boxes[side].late;
        if self.now < until { self.random.below(by) } else { 0 }
    }
}
