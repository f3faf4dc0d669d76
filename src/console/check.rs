//! `twobox check`: what the two files mean, and whether this machine keeps up with it.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::command;
use super::exit::Exit;
use super::face::Face;
use super::report::wrap;
use crate::clock;
use crate::config::site::OwnAddress;
use crate::config::timing::Belt;
use crate::config::value::show;
use crate::config::{self, Config};
use crate::realtime;

/// Programs that have others run what they are told.
const ASK_ANOTHER: [&str; 6] = ["systemctl", "service", "rc-service", "initctl", "docker", "podman"];

/// Runs the command.
pub fn run(check: &command::Check, face: &mut dyn Face) -> Exit {
    let config = match config::load(&check.site, &check.board) {
        Ok(config) => config,
        Err(problems) => {
            let count: usize = problems.iter().map(|problem| problem.stands_for).sum();
            for problem in &problems {
                face.complain(&problem.to_string());
            }
            let errors = if count == 1 { "1 error".to_owned() } else { format!("{count} errors") };
            face.complain(&format!("twobox: {errors}; nothing of this would be used"));
            return Exit::WrongUse;
        }
    };
    let width = face.style().width;
    face.say(&explain(&config, width));
    for warning in warnings(&config) {
        for (index, line) in wrap(&warning, width.saturating_sub(9).max(20)).into_iter().enumerate() {
            face.say(&format!("{}{line}", if index == 0 { "warning: " } else { "         " }));
        }
    }
    match check.measure {
        Some(seconds) => measure(&config, Duration::from_secs(u64::from(seconds)), face),
        None => Exit::Done,
    }
}

/// Times that follow from the configuration, with what the letters stand for wrapped at `width` columns.
#[must_use]
pub fn explain(config: &Config, width: usize) -> String {
    let (site, board, plan) = (&config.site, &config.board, &config.plan);
    let timing = &plan.timing;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<36} {value}");
    };
    line("pair, board", format!("{}, {}", site.pair.name, board.name));
    line("configuration digest", format!("{:016x} (the same on both boxes)", config.digest));
    line("heartbeat h, lease L", format!("{}, {}", show(timing.heartbeat), show(timing.lease)));
    if let Some(round_trip) = plan.null_modem_round_trip() {
        let carries =
            if plan.null_modem_carries_lease() == Some(true) { "carries a lease" } else { "carries no lease" };
        line("null modem, there and back", format!("{} ({carries})", show(round_trip)));
    }
    let pings = plan.pings_per_second();
    line("witness round p", format!("{} ({pings} pings a second in trouble)", show(timing.witness)));
    line("the standby notices silence after", show(plan.detection()));
    line("it asks witnesses at full rate after", show(plan.alert()));
    for belt in Belt::ALL {
        let name = format!("with {}", belt.word());
        line(
            &name,
            match (plan.fence_bound(belt), plan.claim_wait(belt), plan.worst_failover(belt)) {
                (Some(bound), Some(wait), Some(worst)) => {
                    format!("F {}, C {}, failover at most {}", show(bound), show(wait), show(worst))
                }
                _ if belt == Belt::None => "never in silence, only by vote or force".to_owned(),
                _ => "not on this board".to_owned(),
            },
        );
    }
    line("alone after boot", show(plan.boot_wait));
    if let Some(places) = watched(config) {
        line("metrics and status", places);
    }
    let letters = format!(
        "F: from the end of the right to serve until nothing more is sent. C = (L + F) x 1.001 + margin of {}: \
         the wait before a claim in silence, with a quorum seen at full rate. At most: that alert, C, and a turn of \
         the loop as late as the margin; the write of the term and the first announcement come on top.",
        show(timing.margin)
    );
    text.push_str(&wrap(&letters, width.saturating_sub(1).max(20)).join("\n"));
    text
}

/// Where each box is watched from outside.
fn watched(config: &Config) -> Option<String> {
    let site = &config.site;
    if site.observe.listen.is_empty() {
        return None;
    }
    let of_box = |(node, own): (&str, &Vec<crate::config::site::OwnAddress>)| {
        let here = site.observe.listen.iter().flat_map(|(ip, port)| {
            let own = own.iter().map(|own| own.prefix.ip).filter(move |own| ip.is_none_or(|ip| ip == *own));
            own.map(|own| SocketAddr::new(own, *port).to_string())
        });
        let here: Vec<String> = here.collect();
        format!("{node}: {}", if here.is_empty() { "nowhere".to_owned() } else { here.join(", ") })
    };
    let boxes: Vec<String> = ["a", "b"].into_iter().zip(&site.nodes).map(of_box).collect();
    Some(boxes.join("; "))
}

/// What is allowed and may still surprise.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let (site, board, plan) = (&config.site, &config.board, &config.plan);
    let mut warnings = Vec::new();
    let mut warn = |text: String| warnings.push(text);
    match site.witnesses.len() {
        0 => warn(
            "no witness: there is never a quorum, so a box whose peer dies stops serving too, and nothing is taken over \
             in silence; only a planned hand-over, a farewell or `activate --force` moves the service"
                .into(),
        ),
        2 => warn("two witnesses: the first one decides alone; a third would let either of them fail".into()),
        _ => {}
    }
    if board.watchdog.is_none() {
        warn(
            "UNFENCED unless the kernel has the egress gate: without a watchdog a hung box is stopped by nothing but the \
             lifetime of its addresses"
                .into(),
        );
    }
    if board.interface("crossover").is_none() {
        warn("no crossover: heartbeats and the mirror share the LAN".into());
        if !site.trees.is_empty() && !site.mirror_link.over_lan {
            warn(
                "trees are mirrored, but there is no crossover and [mirror-link] over-lan = false: no way to copy"
                    .into(),
            );
        }
    }
    match (plan.line_time(), plan.null_modem_carries_lease()) {
        (None, _) => warn("no null modem: the boxes have no link that is independent of their network cards".into()),
        (Some(line), _) if line > plan.timing.serial_heartbeat => warn(format!(
            "the null modem is too slow: a heartbeat takes {}, so [timing] serial-heartbeat must be longer than that, not {}",
            show(line),
            show(plan.timing.serial_heartbeat)
        )),
        (Some(_), Some(false)) => warn(format!(
            "the null modem's round trip is longer than the lease of {}: it carries no lease and no vote, the pair then \
             rests on the quorum; it still tells a panic and takes `peer` commands",
            show(plan.timing.lease)
        )),
        _ => {}
    }
    if site.addresses.is_empty() {
        warn("no service address: there is nothing to take over".into());
    }
    for address in &site.addresses {
        let on_own_network = site.nodes.iter().all(|own| {
            own.iter().any(|own| own.interface == address.interface && own.prefix.contains(address.prefix.ip))
        });
        if !on_own_network {
            warn(format!(
                "{} lies in no network of both boxes' own addresses on {}",
                address.prefix, address.interface
            ));
        }
    }
    for service in &site.services {
        let program = service.start.first().and_then(|program| Path::new(program).file_name()?.to_str());
        if let Some(program) = program.filter(|program| ASK_ANOTHER.contains(program)) {
            warn(format!(
                "service {}: {program} asks another daemon to run a program, and what that runs is not ended with the service: \
                 start the program itself, in the foreground",
                service.name
            ));
        }
    }
    for witness in &site.witnesses {
        let on_lan = |own: &OwnAddress| own.interface == "lan" && own.prefix.contains(*witness);
        let near = site.nodes.iter().all(|own| own.iter().any(on_lan));
        let link_local = matches!(witness, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !near && !link_local {
            warn(format!(
                "the witness {witness} lies in no network of both boxes' own addresses on lan: it is looked for on that LAN \
                 all the same, not through a router, and will hardly answer"
            ));
        }
    }
    if site.pair.key_file.starts_with("/data") {
        warn("the key lies on the data partition: if that is broken, the box cannot take part".into());
    }
    warnings
}

/// Sleeps as the loop does, with its priority, a millisecond at a time, and compares the worst lateness with the margin.
fn measure(config: &Config, time: Duration, face: &mut dyn Face) -> Exit {
    let (lateness, priority) = match lateness(time, face) {
        Ok(measured) => measured,
        Err(error) => {
            face.complain(&format!("twobox: the timer failed: {error}"));
            return Exit::Refused;
        }
    };
    let worst = lateness.last().copied().unwrap_or_default();
    let at = |part: usize| lateness.get(lateness.len() * part / 1000).copied().unwrap_or_default();
    let priority = if priority { "with" } else { "WITHOUT (give CAP_SYS_NICE)" };
    face.say(&format!(
        "{} wake-ups {priority} real-time priority: late by {} (median), {} (99.9 %), {} (worst)",
        lateness.len(),
        show(at(500)),
        show(at(999)),
        show(worst)
    ));
    let margin = config.plan.timing.margin;
    if worst > margin {
        let why = format!(
            "twobox: the worst is more than [timing] margin = {}; raise it above {}",
            show(margin),
            show(worst)
        );
        face.complain(&why);
        return Exit::Refused;
    }
    Exit::Done
}

/// How late each wake-up was, sorted, and whether the loop's priority could be had. In a thread of its own, which is the
/// only one that gets it.
fn lateness(time: Duration, face: &mut dyn Face) -> std::io::Result<(Vec<Duration>, bool)> {
    let (sender, told) = std::sync::mpsc::channel();
    let measuring = std::thread::Builder::new().name("measure".into()).spawn(move || {
        let priority = realtime::prioritize(realtime::Thread::Loop).is_ok();
        wake_ups(time, |left| {
            let _ = sender.send(left); // nobody listens any more
        })
        .map(|found| (found, priority))
    })?;
    for left in told {
        face.progress(&format!("measuring, {} left", show(left)));
    }
    Ok(measuring.join().expect("it does not panic")?)
}

/// Sleeps and looks; once a second `tell` hears how much time is left.
fn wake_ups(time: Duration, tell: impl Fn(Duration)) -> nix::Result<Vec<Duration>> {
    const PERIOD: Duration = Duration::from_millis(1);
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)?;
    let start = clock::now();
    let end = start + time;
    let mut found = Vec::with_capacity(usize::try_from(time.as_millis()).unwrap_or(0));
    let mut told = start;
    loop {
        let now = clock::now();
        if now >= end {
            break;
        }
        if now.since(told) >= Duration::from_secs(1) {
            told = now;
            tell(Duration::from_secs(end.until(now).as_secs()));
        }
        let due = clock::now() + PERIOD;
        timer.set(Expiration::OneShot(PERIOD.into()), TimerSetTimeFlags::empty())?;
        timer.wait()?;
        found.push(clock::now().since(due));
    }
    found.sort_unstable();
    Ok(found)
}
