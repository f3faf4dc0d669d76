//! What a daemon leaves for its next life, and what it says when it goes.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use twobox::console::control::Request;
use twobox::console::status::{ResetCause, Role};
use twobox::state::{Directory, Found};

use crate::DEFAULT;
use crate::rig::{Rig, other, wait};
use crate::services::processes;

fn held_because(rig: &Rig, node: &str) -> String {
    rig.status(node).map_or(String::new(), |status| status.held_by.join("; "))
}

#[test]
fn the_reason_of_a_hold_is_known_after_a_restart_until_it_is_released() {
    let mut rig = Rig::new("reason", DEFAULT);
    let standby = other(rig.start_both());
    rig.order(standby, &Request::Hold { reason: Some("the fan is on order".into()) }).unwrap();
    wait("held", || rig.role(standby) == Some(Role::Held));
    for _ in 0..2 {
        assert!(held_because(&rig, standby).contains("by the operator (`release` ends it): the fan is on order"));
        rig.kill(standby);
        rig.launch(standby);
        wait("held again", || rig.role(standby) == Some(Role::Held));
    }
    rig.order(standby, &Request::Release).unwrap();
    wait("released", || rig.role(standby) == Some(Role::Standby));
    rig.order(standby, &Request::Hold { reason: None }).unwrap();
    rig.kill(standby);
    rig.launch(standby);
    wait("held once more", || rig.role(standby) == Some(Role::Held));
    assert!(!held_because(&rig, standby).contains("fan"), "that reason is over");
}

#[test]
fn leaving_is_told_when_it_begins_with_its_longest_time_and_when_it_is_done() {
    let mut rig = Rig::new("goodbye", DEFAULT);
    let active = rig.start_both();
    rig.signal(active, Signal::SIGTERM);
    assert_eq!(rig.end_of(active).code(), Some(0));
    let log = rig.log(active);
    let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("no {words:?} in {log}"));
    let begun = at("SIGTERM: leaving in order, which may take up to ");
    let (role, done) = (at("active -> yielding"), at("left in order: nothing of the pair runs on this box"));
    assert!(begun < role && role < done, "{log}");
    // No service: twice the 5 s for the gate and the farewell, five leases, 5 s.
    let longest = log[begun..].lines().next().unwrap().rsplit(' ').next().unwrap();
    let longest: f64 = longest.trim_end_matches('s').parse().unwrap_or_else(|_| panic!("{longest}"));
    assert!((7.5..60.0).contains(&longest), "{longest}");
    // The other signal of a person at a terminal says its own name.
    let standby = other(active);
    rig.signal(standby, Signal::SIGINT);
    assert_eq!(rig.end_of(standby).code(), Some(0));
    assert!(rig.log(standby).contains("SIGINT: leaving in order"), "{}", rig.log(standby));
}

/// Others read their files anew then, and it is sent by habit.
#[test]
fn a_hangup_moves_nothing_and_is_told() {
    let mut rig = Rig::new("hangup", DEFAULT);
    let active = rig.start_both();
    rig.signal(active, Signal::SIGHUP);
    wait("told", || rig.log(active).contains("SIGHUP: the files are read at the start only"));
    assert_eq!(rig.role(active), Some(Role::Active));
    rig.client.await_answer_from(active);
    assert_eq!(rig.capture.owners(), [active]);
}

/// A line of the history is for what stood; the log has all of it.
#[test]
fn an_alarm_that_passes_within_a_second_is_in_the_log_and_not_in_the_history() {
    let mut rig = Rig::new("moment", DEFAULT);
    let active = rig.start_both();
    let standby = other(active);
    let silent = "the peer is not heard on any link";
    let remembered = |rig: &Rig| rig.ask(active, &Request::History { count: 100 }).len() > 1;
    // Out of touch for longer than a lease, back before the second is over.
    rig.signal(standby, Signal::SIGSTOP);
    wait("it is missed", || rig.alarmed(active, "peer-silent"));
    rig.signal(standby, Signal::SIGCONT);
    wait("it is heard", || !rig.alarmed(active, "peer-silent"));
    let alarm_and_end = [format!("alarm: {silent}"), format!("alarm over: {silent}")];
    wait("the log has it", || alarm_and_end.iter().all(|line| rig.log(active).contains(line)));
    let lasted = lasted(&rig.log(active), &alarm_and_end);
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    if lasted < 0.9 {
        assert!(!remembered(&rig), "{:?}", rig.ask(active, &Request::History { count: 100 }));
    } else {
        println!("skipped: this machine took {lasted} s between two looks");
    }
    rig.signal(standby, Signal::SIGSTOP);
    wait("what stands is remembered", || remembered(&rig));
    rig.signal(standby, Signal::SIGCONT);
}

/// Seconds between two lines of the log.
fn lasted(log: &str, lines: &[String; 2]) -> f64 {
    let at = |words: &String| -> f64 {
        let line = log.lines().find(|line| line.ends_with(words.as_str())).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    at(&lines[1]) - at(&lines[0])
}

/// Makes the former life one of another boot of the kernel.
fn reboot(rig: &Rig, node: &str) {
    // A killed daemon is outlived for a moment by the service that it was starting.
    let mut open = None;
    wait("the state directory to be free", || {
        open = Directory::open(&rig.path(node, "state")).ok();
        open.is_some()
    });
    let directory = open.unwrap();
    let Found::Payload(life) = directory.read("life").unwrap() else { panic!("no file") };
    let life = String::from_utf8(life).unwrap();
    let (_, rest) = life.split_once('\n').unwrap();
    directory.write("life", format!("another boot\n{rest}").as_bytes()).unwrap();
}

#[test]
fn the_cause_of_the_last_reset_is_told_as_far_as_it_is_known() {
    let mut rig = Rig::new("reset", DEFAULT);
    let standby = other(rig.start_both());
    let told = |rig: &Rig| rig.status(standby).map(|status| status.last_reset);
    assert_eq!(told(&rig), Some(ResetCause::Unknown), "nothing is known of a time before the first start");
    // Left in order, then the box was reset.
    rig.signal(standby, Signal::SIGTERM);
    assert_eq!(rig.end_of(standby).code(), Some(0));
    reboot(&rig, standby);
    rig.launch(standby);
    wait("ordered", || told(&rig) == Some(ResetCause::Ordered));
    // A daemon that dies is no reset, and what was known stays known.
    rig.kill(standby);
    rig.launch(standby);
    wait("ordered still", || told(&rig) == Some(ResetCause::Ordered));
    assert!(rig.log(standby).contains("the former daemon did not leave in order, the box was not reset"));
    // The box was reset under the daemon: without a watchdog nobody knows whether that was power, a panic or a button.
    rig.kill(standby);
    reboot(&rig, standby);
    rig.launch(standby);
    wait("unknown", || told(&rig) == Some(ResetCause::Unknown));
}

/// What a service manager hears, what a box without rights does, and that the key is in no core dump.
#[test]
fn a_daemon_tells_its_manager_when_it_is_ready_and_runs_without_priority_and_leaves_no_core() {
    let mut rig = Rig::new("manager", DEFAULT);
    let manager = std::os::unix::net::UnixDatagram::bind(rig.dir.join("manager")).unwrap();
    manager.set_read_timeout(Some(crate::rig::PATIENCE)).unwrap();
    let by = format!(
        "env NOTIFY_SOCKET={} prlimit --core=unlimited setpriv --bounding-set -sys_nice",
        rig.dir.join("manager").display()
    );
    rig.started_by = by.split(' ').map(str::to_owned).collect();
    rig.launch("a");
    let mut heard = [0; 64];
    let length = manager.recv(&mut heard).unwrap();
    assert_eq!(&heard[..length], b"READY=1");
    assert!(rig.log("a").lines().any(|line| line == "ready"), "{}", rig.log("a"));
    assert!(rig.log("a").contains("no real-time priority"), "{}", rig.log("a"));
    rig.launch("b");
    wait("one of two active", || rig.active().is_some());
    rig.await_touch();
    assert!(rig.alarmed("a", "not-realtime"));
    // What the manager told the daemon is not a service's to answer.
    let services = processes(&rig, "a", "responder.py");
    assert!(!services.is_empty());
    for service in services {
        let environment = std::fs::read_to_string(service.join("environ")).unwrap();
        assert!(environment.contains("TWOBOX_SERVICE") && !environment.contains("NOTIFY_SOCKET"), "{environment}");
    }
    rig.signal("a", Signal::SIGABRT);
    let end = rig.end_of("a");
    assert_eq!((end.signal(), end.core_dumped()), (Some(Signal::SIGABRT as i32), false));
    rig.client.await_answer_from("b");
}

#[test]
fn how_the_children_are_confined_is_told_in_status() {
    let mut rig = Rig::new("confined", DEFAULT);
    for node in ["a", "b"] {
        std::fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let more =
            "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1s\"\n[observe]\nlisten = 9140\n";
        let more = more.replace("DIR", rig.dir.to_str().unwrap());
        std::fs::write(rig.dir.join(format!("site-{node}.toml")), crate::rig::site(&rig.dir, DEFAULT) + &more).unwrap();
    }
    let active = rig.start_both();
    for node in [active, other(active)] {
        wait("both children have said it", || {
            rig.status(node).is_some_and(|s| s.mirror_confinement.is_some() && s.observe_confinement.is_some())
        });
        let text = crate::session::said(&rig, node, "status");
        for name in ["mirror", "observe"] {
            let row = text.lines().find(|line| line.starts_with(&format!("process  {name}")));
            assert!(row.is_some_and(|row| row.contains("confined by: capabilities")), "{text}");
        }
    }
    // What a child says on its own is in `log` like the rest.
    rig.kill(other(active));
    wait("the mirror misses its peer", || {
        let log = crate::session::said(&rig, active, "log -n 200");
        log.lines().any(|line| line.contains(" info  run::child_stderr: mirror: no connection to the standby's mirror"))
    });
}
