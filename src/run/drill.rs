//! `drill`: over to the peer and back again, refused with every reason before anything moves.

use smol::channel::{Sender, bounded, unbounded};
use smol::{Timer, future};

use super::helper::Helper;
use super::operator::{Outcome, Refusal, hangs, refuse, step};
use super::report;
use super::update::pass_on;
use crate::clock;
use crate::console::control::{Reply, Request};
use crate::console::drill_ready::obstacles;
use crate::node::Answer;
use crate::time::Duration;
use crate::wire::pair::Role;

/// Pause between two attempts at the way back: each is a line in the peer's log.
const PAUSE: Duration = Duration::from_secs(1);

impl Helper {
    /// To the peer and back again. Goes on to its end when whoever ordered it has hung up: he may have been logged in by the
    /// service address, and a rehearsal leaves the pair as it was.
    pub(super) async fn drill(&self, replies: &Sender<Reply>) -> Outcome {
        let (telling, told) = unbounded();
        let work = async {
            let outcome = self.drill_telling(&telling).await;
            telling.close();
            outcome
        };
        future::zip(work, pass_on(&told, replies)).await.0
    }

    async fn drill_telling(&self, replies: &Sender<Reply>) -> Outcome {
        let before = self.snapshot().await.ok_or_else(hangs)?;
        if before.node.role != Role::Active {
            return match before.node.peer_role {
                // A boxed future: the peer's drill asks us back, and types must end.
                Some(Role::Active) => Box::pin(self.ask_peer(&Request::Drill, replies)).await,
                _ => Err(self.refused(Answer::NotActive).await),
            };
        }
        let mut reasons = obstacles(&report::status(self, &before));
        if reasons.is_empty() {
            reasons = self.obstacles_of_peer().await?;
        }
        if !reasons.is_empty() {
            let reason = format!("not everything is green: {}", reasons.join("; "));
            return Err(refuse(reason, "see `status` and `peer status`, repair that, then drill"));
        }
        let there = self.switch_over(false, replies).await?;
        let began = clock::now();
        let until = began + self.handover_patience().max(self.candidacy_patience() * 2);
        // The peer's own switchover waits for it, in its own words, which come at its end.
        let longest = self.candidacy_patience().as_secs_f64();
        step(
            replies,
            began,
            &format!("back again; for up to {longest:.1} s nobody votes for who has just surrendered"),
        )
        .await?;
        let back = loop {
            match self.ask_peer(&Request::Switchover { lose_changes: false }, replies).await {
                Ok(text) => break text,
                // Something else than our surrender is in the way: our services are perhaps still ending.
                Err(_) if clock::now() < until => Timer::after(PAUSE).await,
                Err(Refusal { reason, .. }) => {
                    let reason = format!("{there}, but not back: {reason}");
                    return Err(refuse(reason, "the pair serves; see `status` of both boxes"));
                }
            };
        };
        self.await_surrender(|s| s.node.role == Role::Active).await?;
        Ok(format!("there: {there}; back: {back}"))
    }

    /// The peer's own view, which alone knows its side of the witnesses and its services.
    async fn obstacles_of_peer(&self) -> Result<Vec<String>, Refusal> {
        let (sender, replies) = bounded(8);
        self.ask_peer(&Request::Status { every_ms: None }, &sender).await?;
        let Ok(Reply::Status { status }) = replies.try_recv() else {
            return Err(refuse("the peer does not tell its status", "give both boxes the same version"));
        };
        let node = &status.node;
        Ok(obstacles(&status).into_iter().map(|reason| format!("{node}: {reason}")).collect())
    }
}
