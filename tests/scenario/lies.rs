//! Every assumption about the hardware is needed: where it does not hold, both boxes serve or nobody does.

use crate::seed::{self, Profile};
use crate::situation::Situation;
use crate::world::Lie;
use crate::world::clock::SECOND;
use twobox::node::planted::Planted;

#[test]
fn each_broken_assumption_is_noticed() {
    for lie in Lie::ALL {
        let profile = match lie {
            // Clocks that run apart hide behind the other waits, unless a bound is long.
            Lie::WildClocks => Some(Profile::In(Situation::Drift)),
            Lie::UnwatchedLoss => Some(Profile::In(Situation::Orphan)),
            _ => None,
        };
        let found = (1..2000).find_map(|seed| {
            let mut plan = seed::plan(seed, profile, Planted::NONE);
            plan.setup.lie = Some(lie);
            let outcome = seed::run(&plan, None);
            let takeovers: u64 = outcome.takeovers.values().sum();
            let run = format!(
                "{} after {} s, {takeovers} takeovers, {} orders",
                plan.profile.name(),
                outcome.simulated / SECOND,
                outcome.orders.1
            );
            outcome.violation.map(|v| format!("{lie:?}: seed {seed}, {run}: {}", v.what))
        });
        println!("{}", found.unwrap_or_else(|| panic!("{lie:?} is not noticed")));
    }
}
