//! The operator's orders: what becomes of each.

use super::planted::Fault;
use super::{Action, Answer, Node, Order};
use crate::time::Instant;
use crate::wire::pair::Role;

impl Node {
    pub(super) fn take_order(&mut self, now: Instant, order: Order) {
        let answer = self.order(now, order);
        self.push(Action::Answer(order, answer));
    }

    pub(super) fn order(&mut self, now: Instant, order: Order) -> Answer {
        let given_in = match order {
            Order::Switchover { term } | Order::Hold { term } => Some(term),
            Order::Release | Order::Force | Order::Leave => None,
        };
        if let Some(term) = given_in
            && self.s.planted.has(Fault::OrderWithoutTerm)
            && self.role == Role::Active
        {
            // Carried out whatever has become of the pair since, without looking at the peer.
            let _ = term;
            self.surrender = Some("ordered");
            return Answer::Accepted;
        }
        if given_in.is_some_and(|term| term != self.known_term()) {
            return Answer::OtherTerm;
        }
        match order {
            Order::Switchover { .. } if self.role != Role::Active => Answer::NotActive,
            Order::Switchover { .. } => self.surrender_if_possible(now, "switchover ordered"),
            Order::Hold { .. } if self.role == Role::Active => {
                let answer = self.surrender_if_possible(now, "hold ordered");
                self.hold_after_yield |= answer == Answer::Accepted;
                answer
            }
            Order::Hold { .. } if self.role == Role::Yielding => {
                self.hold_after_yield = true;
                Answer::Accepted
            }
            Order::Hold { .. } => {
                self.want.held = true;
                Answer::Accepted
            }
            Order::Release => {
                self.want.held = false;
                self.hold_after_yield = false;
                self.want.strikes = 0;
                self.memory_damaged = false;
                self.two_active = false;
                self.service_failed_at = None;
                self.carrier_failed_at = None;
                Answer::Accepted
            }
            Order::Force if matches!(self.role, Role::Active | Role::Yielding) => Answer::Serving,
            Order::Force if !self.down || !self.disk_works(now) || self.leaving || self.copies_unread => {
                Answer::NotReady
            }
            Order::Force if self.peer.any_at().is_some_and(|at| now.since(at) <= self.s.lease) => Answer::PeerNotSilent,
            Order::Force => {
                self.force_wanted = true;
                self.fail_claim();
                Answer::Accepted
            }
            Order::Leave => {
                self.leaving = true;
                self.force_wanted = false;
                self.fail_claim();
                if self.role == Role::Active {
                    self.surrender = Some("leaving");
                }
                Answer::Accepted
            }
        }
    }

    /// The claim under way is not wanted any more.
    pub(super) fn fail_claim(&mut self) {
        if let Some(claim) = &mut self.claim {
            claim.failed = true;
        }
    }

    pub(super) fn surrender_if_possible(&mut self, now: Instant, why: &'static str) -> Answer {
        if self.peer_eligible(now) && self.lease > now {
            self.surrender = Some(why);
            Answer::Accepted
        } else {
            Answer::PeerNotEligible
        }
    }
}
