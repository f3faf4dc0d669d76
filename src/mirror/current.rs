//! The connection of the moment, for whoever must end it: the thread that reads orders, the one that accepts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::channel::Breaker;

/// The connection of the moment, and whether a change of role is under way: then none is begun.
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    breaker: Option<Breaker>,
    /// Changes of role that the loop has not heard of yet.
    changes: usize,
}

impl Current {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it.
    pub fn break_off(&self) {
        if let Some(breaker) = self.lock().breaker.take() {
            breaker.break_off();
        }
    }

    /// Ends it for a change of role, and every other one that the loop makes before it hears of the change: a connection that
    /// was just being made is not there to be ended yet, and would carry a whole cycle of the former role.
    pub fn begin_change(&self) {
        self.lock().changes += 1;
        self.break_off();
    }

    /// The loop has heard of one change.
    pub(super) fn end_change(&self) {
        let mut state = self.lock();
        state.changes = state.changes.saturating_sub(1);
    }

    /// A change of role is under way.
    pub(super) fn is_changing(&self) -> bool {
        self.lock().changes > 0
    }

    /// Another connection takes its place.
    pub(super) fn set(&self, breaker: Breaker) {
        let mut state = self.lock();
        if state.changes > 0 {
            breaker.break_off();
        } else {
            state.breaker = Some(breaker);
        }
    }
}
