//! keepalived as Debian ships it, on the same cables: two instances of VRRP without preemption.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use twobox::console::status::Handover;
use twobox::time::Duration;

use crate::judge::{System, end};
use crate::power::{self, Dies};
use crate::rig::client::{Answer, Client};
use crate::rig::{Rig, SERVICE, index, wait};

/// A new instance is a backup after so long, with every interval measured here.
const START: Duration = Duration::from_millis(1500);

/// Two instances and what answers for them.
pub struct Keepalived {
    name: String,
    advert: &'static str,
    real_time: bool,
    running: [Option<Child>; 2],
    responders: Vec<Child>,
    rig: Rig,
}

/// As the table names it.
pub fn name(advert: &str, real_time: bool) -> String {
    let ms = advert.parse::<f64>().unwrap() * 1e3;
    format!("keepalived {ms} ms{}", if real_time { ", real-time" } else { "" })
}

impl Keepalived {
    /// Starts both. `advert`: seconds between advertisements; `real_time`: with a priority like our loop's.
    pub fn new(name: String, advert: &'static str, real_time: bool) -> Keepalived {
        install();
        let rig = Rig::new("keep", "profile = \"fast\"");
        let mut keepalived = Keepalived { name, advert, real_time, running: [None, None], responders: Vec::new(), rig };
        for node in ["a", "b"] {
            let mut responder = keepalived.enter(node);
            responder.args(["chrt", "-f", "5", "python3"]).arg(keepalived.rig.dir.join("responder.py"));
            keepalived.responders.push(responder.spawn().unwrap());
            keepalived.start(node);
        }
        wait("keepalived serves", || keepalived.rig.client.newest().is_some());
        keepalived
    }

    fn enter(&self, node: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}-{node}", self.rig.name));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&mut self, node: &str) {
        // Version 2 knows whole seconds only.
        let priority = if node == "a" { 100 } else { 90 };
        let scheduling = if self.real_time { " vrrp_rt_priority 40\n vrrp_no_swap\n" } else { "" };
        let text = format!(
            "global_defs {{\n router_id {node}\n vrrp_version 3\n{scheduling}}}\nvrrp_instance service {{\n state BACKUP\n nopreempt\n \
             interface lan\n virtual_router_id 51\n priority {priority}\n advert_int {}\n virtual_ipaddress {{\n  \
             {SERVICE}/24\n }}\n}}\n",
            self.advert
        );
        let file = self.rig.path(node, "keepalived.conf");
        fs::write(&file, text).unwrap();
        let mut command = self.enter(node);
        command.args(["keepalived", "-n", "-l", "-P", "-f"]).arg(&file);
        command.arg("-p").arg(self.rig.path(node, "keepalived.pid"));
        command.arg("-r").arg(self.rig.path(node, "vrrp.pid"));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.rig.path(node, "log")).unwrap();
        command.stderr(log.try_clone().unwrap()).stdout(log);
        self.running[index(node)] = Some(command.process_group(0).spawn().unwrap());
    }

    fn pid(&self, node: &str) -> Pid {
        let child = self.running[index(node)].as_ref().expect("a started instance");
        Pid::from_raw(i32::try_from(child.id()).unwrap())
    }
}

impl System for Keepalived {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn rig(&self) -> &Rig {
        &self.rig
    }

    fn settle(&mut self) -> &'static str {
        sleep(START);
        self.rig.client.newest().unwrap().from
    }

    fn hand_over(&mut self, active: &'static str) {
        kill(self.pid(active), Signal::SIGTERM).unwrap();
    }

    fn lose_power(&mut self, active: &'static str) {
        power::cut(&self.rig, active, Dies::Group(self.pid(active)));
    }

    fn restore(&mut self, stopped: &'static str) {
        let mut child = self.running[index(stopped)].take().expect("a started instance");
        let _ = child.wait();
        // After a power loss nothing is left of the address, nor of who once ran.
        for file in ["keepalived.pid", "vrrp.pid"] {
            let _ = fs::remove_file(self.rig.path(stopped, file)); // gone after an orderly end
        }
        self.rig.ip(stopped, &format!("addr flush dev lan to {SERVICE}"));
        power::mend(&self.rig, stopped);
        self.start(stopped);
    }

    fn account(&self, _: &'static str) -> Option<Handover> {
        None
    }

    fn remark(&self) -> String {
        "unfenced".into()
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        for child in self.running.iter_mut().filter_map(Option::take) {
            let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
            end(child);
        }
        self.responders.drain(..).for_each(end);
    }
}

/// Debian's package, installed if it is missing: as root, and said.
fn install() {
    let there = || Command::new("keepalived").arg("--version").stderr(Stdio::null()).status().is_ok();
    if there() {
        return;
    }
    eprintln!("keepalived is missing, the measure to compare with: apt-get install keepalived");
    let installed = Command::new("apt-get")
        .args(["install", "-qy", "--no-install-recommends", "keepalived"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status();
    assert!(installed.is_ok_and(|status| status.success()) && there(), "keepalived cannot be installed");
}

impl Client {
    /// The newest answer.
    pub fn newest(&self) -> Option<Answer> {
        self.answers.lock().unwrap().last().copied()
    }
}
