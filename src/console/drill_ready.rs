//! Whether everything is green: what a drill asks before it moves a service that nobody needs to move.

use super::status::{RightKind, Role, ServiceState, Status, TreeState};

/// Alarms about how the box is built. They say what a hang or a busy machine would do, not that a hand-over by vote could
/// go wrong; a pair that lives with them may rehearse.
const OF_THE_BUILD: [&str; 5] = ["unfenced", "peer-unfenced", "watchdog-missing", "not-realtime", "clock-slewed"];

/// Everything that is not as it should be, seen from this box, in words. Empty: a drill may begin.
#[must_use]
pub fn obstacles(status: &Status) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |text: String| {
        if !found.contains(&text) {
            found.push(text);
        }
    };
    if !matches!(status.role, Role::Active | Role::Standby) {
        add(format!("{} is {}", status.node, status.role.word()));
    }
    status.takeover.blocked_by.iter().for_each(|reason| add(reason.clone()));
    status.held_by.iter().for_each(|reason| add(reason.clone()));
    if status.role == Role::Active && status.right.kind != RightKind::Lease {
        add(format!("{} serves by {}, not by its peer's lease", status.node, status.right.kind.word()));
    }
    if status.peer.config_matches == Some(false) {
        add("the site files of the two boxes differ".to_owned());
    }
    for link in status.links.iter().filter(|link| !link.up) {
        let finding = link.finding.as_deref().map_or(String::new(), |finding| format!(": {finding}"));
        add(format!("{} is down{finding}", link.name));
    }
    for witness in &status.witnesses {
        match (witness.reachable, witness.reflects) {
            (true, true) => {}
            (true, false) => add(format!("the witness {} does not reflect", witness.ip)),
            (false, _) => add(format!("the witness {} does not answer", witness.ip)),
        }
    }
    for service in status.services.iter().filter(|service| service.state == ServiceState::Failed) {
        add(format!("the service {} fails", service.name));
    }
    for tree in &status.mirror {
        match (tree.state, tree.current, tree.diverged) {
            (TreeState::Blocked, ..) => add(format!("the mirror of {} is blocked", tree.tree)),
            (TreeState::Starting, ..) => add(format!("the mirror of {} is starting", tree.tree)),
            (_, false, _) => add(format!("the copy of {} is not current", tree.tree)),
            (.., diverged) if diverged > 0 => add(format!("changes of {} were set aside", tree.tree)),
            _ => {}
        }
    }
    for alarm in status.alarms.iter().filter(|alarm| !OF_THE_BUILD.contains(&alarm.name.as_str())) {
        add(alarm.text.clone());
    }
    found
}
