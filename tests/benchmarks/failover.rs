//! How long clients go without an answer: this pair and keepalived, one after the other on the same machine.
//!
//! Twenty power losses, twenty planned hand-overs, and a minute without any fault under four busy processes, for each.
//! Judged by a client that asks every millisecond, and by every frame that leaves as holder of the service address.

#![allow(clippy::disallowed_methods)] // a benchmark starts programs, sleeps and reads the clock

#[path = "../pair/client.rs"]
mod client;
#[path = "../pair/null_modem.rs"]
mod null_modem;
#[path = "../pair/rig.rs"]
mod rig;
#[path = "../pair/wire.rs"]
mod wire;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::{Rig, SERVICE, other, wait};
use twobox::clock;
use twobox::console::control::Request;
use twobox::time::{Duration, Instant};

const FAULTS: usize = 20;
const QUIET: Duration = Duration::from_secs(60);
const BUSY: usize = 4;
const FAST: &str = "profile = \"fast\"\nhold-down = \"1s\"";

/// What one system did.
struct Figures {
    name: String,
    planned: Vec<Duration>,
    lost: Vec<Duration>,
    /// Owner changes in the minute without a fault.
    changes: usize,
    /// Times that a box sent as holder after the other one had begun to.
    double: usize,
    remark: String,
}

fn main() {
    println!("{:28} {:>22} {:>22} {:>8} {:>7}", "", "planned ms", "power loss ms", "changes", "double");
    println!("{:28} {:>22} {:>22} {:>8} {:>7}", "", "min / med / max", "min / med / max", "in 60 s", "owners");
    print(&twobox_pair());
    for advert in ["0.01", "0.1"] {
        print(&keepalived(advert));
    }
}

fn print(figures: &Figures) {
    let row = |times: &[Duration]| {
        let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        format!("{:.1} / {:.1} / {:.1}", ms[0], ms[ms.len() / 2], ms[ms.len() - 1])
    };
    let (planned, lost) = (row(&figures.planned), row(&figures.lost));
    let Figures { name, changes, double, remark, .. } = figures;
    println!("{name:28} {planned:>22} {lost:>22} {changes:>8} {double:>7}   {remark}");
}

/// Programs that only burn time.
fn busy() -> Vec<Child> {
    let burn = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    (0..BUSY).map(|_| burn()).collect()
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Owner changes on the wire in a minute under load, during which nobody does anything.
fn quiet_minute(rig: &Rig) -> usize {
    let began = clock::now();
    let load = busy();
    sleep(QUIET);
    load.into_iter().for_each(end);
    let frames = rig.capture.frames();
    frames.windows(2).filter(|pair| pair[1].at > began && pair[0].from != pair[1].from).count()
}

/// The outage around something that is done at `since`, once the new owner answers.
fn outage(rig: &Rig, since: Instant, new: &str) -> Duration {
    rig.client.await_answer_from(new);
    sleep(Duration::from_millis(300));
    rig.client.longest_outage(since)
}

fn twobox_pair() -> Figures {
    let mut rig = Rig::new("bench", FAST);
    let mut active = rig.start_both();
    let bound = rig.status(active).unwrap().fence.bound_ms.unwrap_or(u64::MAX);
    let mut planned = Vec::new();
    let mut owners = 1;
    for _ in 0..FAULTS {
        sleep(Duration::from_secs(1));
        rig.await_touch();
        let since = clock::now();
        rig.order(active, &Request::Switchover).unwrap();
        active = other(active);
        planned.push(outage(&rig, since, active));
        owners += 1;
    }
    let mut lost = Vec::new();
    for _ in 0..FAULTS {
        sleep(Duration::from_secs(1));
        rig.await_touch();
        let since = rig.power_off(active);
        let dead = active;
        active = other(active);
        lost.push(outage(&rig, since, active));
        owners += 1;
        rig.null_modem.set(|_| true);
        rig.ip(dead, "link set lan up");
        rig.ip(dead, "link set cross up");
        rig.launch(dead);
    }
    rig.await_touch();
    let double = rig.capture.owners().len() - owners;
    let changes = quiet_minute(&rig);
    let status = rig.status(active).unwrap();
    let remark = format!(
        "F {bound} ms by {}; worst turn {} us",
        status.fence.bound_by.word(),
        status.cluster_loop.worst_lateness_us
    );
    Figures { name: "twobox, fast".into(), planned, lost, changes, double, remark }
}

fn keepalived(advert: &str) -> Figures {
    let rig = Rig::new("keep", FAST);
    let enter = |node: &str| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}-{node}", rig.name)).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let responder = |node: &str| enter(node).arg("python3").arg(rig.dir.join("responder.py")).spawn().unwrap();
    let responders = [responder("a"), responder("b")];
    let start = |node: &str| {
        let priority = if node == "a" { 100 } else { 90 };
        let file = rig.path(node, "keepalived.conf");
        let text = format!(
            "global_defs {{\n router_id {node}\n}}\nvrrp_instance service {{\n state BACKUP\n nopreempt\n interface lan\n \
             virtual_router_id 51\n priority {priority}\n advert_int {advert}\n virtual_ipaddress {{\n  {SERVICE}/24\n }}\n}}\n"
        );
        fs::write(&file, text).unwrap();
        let (pid, vrrp) = (rig.path(node, "keepalived.pid"), rig.path(node, "vrrp.pid"));
        enter(node)
            .args(["keepalived", "-n", "-P", "-f"])
            .arg(&file)
            .arg("-p")
            .arg(pid)
            .arg("-r")
            .arg(vrrp)
            .spawn()
            .unwrap()
    };
    let mut running = [start("a"), start("b")];
    wait("keepalived serves", || !rig.client.answers().is_empty());
    let newest = |rig: &Rig| rig.client.answers().last().unwrap().from;
    sleep(Duration::from_secs(3));
    let mut active = newest(&rig);
    let mut owners = rig.capture.owners().len();
    let mut planned = Vec::new();
    for _ in 0..FAULTS {
        sleep(Duration::from_secs(2));
        let since = clock::now();
        let child = &mut running[rig::index(active)];
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let former = active;
        active = other(active);
        planned.push(outage(&rig, since, active));
        let _ = child.wait();
        owners += 1;
        *child = start(former);
    }
    let mut lost = Vec::new();
    for _ in 0..FAULTS {
        sleep(Duration::from_secs(2));
        let since = clock::now();
        rig.ip(active, "link set lan down");
        let former = active;
        active = other(active);
        lost.push(outage(&rig, since, active));
        owners += 1;
        rig.ip(former, "link set lan up");
    }
    sleep(Duration::from_secs(2));
    let double = rig.capture.owners().len().saturating_sub(owners);
    let changes = quiet_minute(&rig);
    running.into_iter().chain(responders).for_each(end);
    Figures {
        name: format!("keepalived, adverts {advert} s"),
        planned,
        lost,
        changes,
        double,
        remark: "unfenced".into(),
    }
}
