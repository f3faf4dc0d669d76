//! The rig: one process that owns both boxes and every cable, and judges from outside.

mod accelerator;
pub mod fetcher;
pub mod hub;
pub mod images;
pub mod keeper;
pub mod machine;
pub mod ruin;
pub mod serial;
pub mod station;
pub mod timeline;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fetcher::Fetcher;
use hub::{Fault, Hub};
use images::Images;
use keeper::Keeper;
use machine::{Cables, Machine, Model};
use serial::NullModem;
use station::{Client, Judge, Reign, Seen, Witness};
use timeline::Timeline;

/// The service address of the tests' site file.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Its witness.
pub const WITNESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A cable between the boxes, or between a box and the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// One box's cable to the LAN.
    Lan(usize),
    /// The Ethernet cable between the boxes.
    Crossover,
    /// The serial one.
    NullModem,
}

/// Both boxes and all around them.
pub struct Rig {
    /// Everything seen.
    pub timeline: Timeline,
    /// The boxes.
    pub machines: [Machine; 2],
    lan: Hub,
    crossover: Hub,
    null_modem: NullModem,
    witness_is_dead: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    fetched: Arc<Mutex<Seen>>,
    reigns: Arc<Mutex<Vec<Reign>>>,
    /// The disks as they came from flash.sh.
    pub first_disks: [std::path::PathBuf; 2],
    /// Length of the packed initramfs in bytes.
    pub image_size: u64,
    asked: AtomicU32,
    /// QEMU's name of what runs the boxes' code: `kvm` or `tcg`.
    pub accelerator: &'static str,
    /// Cables that are pulled now.
    cut: Vec<Cable>,
    /// Removes the folder, last of all.
    _keeper: Keeper,
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The machine of a board.
pub fn model(board: &'static str, images: &Images) -> Model {
    let path = |path: &Path| path.display().to_string();
    match board {
        "qemu-pc" => Model {
            options: ["-M", "pc", "-m", "192", "-kernel", &path(&images.vmlinux), "-initrd", &path(&images.initramfs)]
                .map(str::to_owned)
                .to_vec(),
            // A card that tells its speed, as real ones do: the gate's bound needs it.
            card: "virtio-net-pci,speed=1000,duplex=full",
            disk: "virtio-blk-pci,drive=disk",
            slots: [4, 5],
            null_modem: 1,
            command_line: Some(images.command_line.clone()),
            firmware: None,
            kernel_time: Duration::from_secs(60),
            longest_wait: Duration::from_secs(16),
        },
        // Other cards, which nobody named: found by their places. They tell no speed, so the bound is the watchdog's.
        "generic-x86_64" => Model {
            options: ["-M", "pc", "-m", "256", "-kernel", &path(&images.vmlinux), "-initrd", &path(&images.initramfs)]
                .map(str::to_owned)
                .to_vec(),
            card: "virtio-net-pci",
            disk: "virtio-blk-pci,drive=disk",
            slots: [6, 9],
            null_modem: 1,
            command_line: Some(format!("{} {}", images.command_line, images.slot)),
            firmware: None,
            kernel_time: Duration::from_secs(60),
            longest_wait: Duration::from_secs(30),
        },
        "qemu-q35-uefi" => Model {
            // OVMF unpacks the unified kernel image into memory beside itself: 192 MiB are not enough.
            options: ["-M", "q35", "-m", "512"].map(str::to_owned).to_vec(),
            card: "e1000e",
            disk: "ide-hd,bus=ide.0,drive=disk,bootindex=1",
            slots: [4, 5],
            // The firmware takes what comes in on the first two for key strokes: its own text and the heartbeats of the
            // other box would lead it into its setup.
            null_modem: 2,
            command_line: None,
            firmware: Some("/usr/share/OVMF"),
            kernel_time: Duration::from_secs(180),
            longest_wait: Duration::from_secs(16),
        },
        _ => panic!("no machine for the board {board}"),
    }
}

impl Rig {
    /// Lays all cables; both boxes are off. The machines get copies of the images' disks.
    pub fn new(board: &'static str, images: &Images, print: bool) -> Rig {
        let timeline = Timeline::start(print);
        let directory = std::env::temp_dir().join(format!("twobox-rig-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a folder for the rig");
        let keeper = Keeper::start("rm -rf -- \"$1\"", &directory.display().to_string());
        let (seen, fetched) = (Arc::new(Mutex::new(Seen::default())), Arc::new(Mutex::new(Seen::default())));
        let reigns = Arc::new(Mutex::new(Vec::new()));
        let witness_is_dead = Arc::new(AtomicBool::new(false));
        let boxes = [machine::mac(0, 0), machine::mac(1, 0)];
        let lan = Hub::start(
            &directory,
            "lan",
            vec![
                Box::new(Judge::new(SERVICE, timeline.clone(), reigns.clone())),
                Box::new(Witness::new(WITNESS, witness_is_dead.clone())),
                Box::new(Client::new(SERVICE, boxes, timeline.clone(), seen.clone())),
                Box::new(Fetcher::new(SERVICE, images.page.clone(), boxes, timeline.clone(), fetched.clone())),
            ],
        )
        .expect("the LAN");
        let crossover = Hub::start(&directory, "crossover", Vec::new()).expect("the crossover");
        let null_modem = NullModem::start(&directory, timeline.clone()).expect("the null modem");
        let machines = [0, 1].map(|index| {
            let disk = directory.join(format!("{}.img", ["a", "b"][index]));
            match model(board, images).firmware {
                // The whole way of a real box: its disk is written by flash.sh.
                Some(_) => write_disk(&images.disks[index], &disk),
                None => copy_sparse(&images.disks[index], &disk),
            }
            Machine::new(index, model(board, images), &directory, disk, &timeline)
        });
        let accelerator = accelerator::choose(images, &timeline);
        Rig {
            timeline,
            machines,
            lan,
            crossover,
            null_modem,
            witness_is_dead,
            seen,
            fetched,
            reigns,
            accelerator,
            first_disks: images.disks.clone(),
            image_size: std::fs::metadata(&images.initramfs).map_or(0, |image| image.len()),
            asked: AtomicU32::new(1),
            cut: Vec::new(),
            _keeper: keeper,
        }
    }

    /// Switches a box on.
    pub fn power_on(&mut self, index: usize) {
        self.lan.forget_box(index);
        self.crossover.forget_box(index);
        let cables = Cables {
            netdevs: [self.lan.netdev("net0", index), self.crossover.netdev("net1", index)],
            null_modem: self.null_modem.paths[index].clone(),
        };
        self.machines[index].power_on(index, &cables, self.accelerator);
        // A new machine takes every cable for plugged in.
        for (card, cable) in [(0, Cable::Lan(index)), (1, Cable::Crossover)] {
            if self.cut.contains(&cable) {
                self.machines[index].set_carrier(card, false);
            }
        }
    }

    /// Pulls a cable, or plugs it in again; the carrier goes with it.
    pub fn set_cut(&mut self, cable: Cable, cut: bool) {
        self.timeline.add("rig", format!("{} {cable:?}", if cut { "cuts" } else { "mends" }));
        let fault = Fault { cut_from: cut, cut_to: cut, ..Fault::default() };
        self.cut.retain(|other| *other != cable);
        if cut {
            self.cut.push(cable);
        }
        match cable {
            Cable::Lan(index) => {
                self.lan.set(index, fault);
                self.machines[index].set_carrier(0, !cut);
            }
            Cable::Crossover => {
                for index in [0, 1] {
                    self.crossover.set(index, fault);
                    self.machines[index].set_carrier(1, !cut);
                }
            }
            Cable::NullModem => self.null_modem.set_cut(cut),
        }
    }

    /// Plugs in every cable that is pulled.
    pub fn mend_all(&mut self) {
        for cable in self.cut.clone() {
            self.set_cut(cable, false);
        }
    }

    /// Makes the LAN port of a box lossy or slow.
    pub fn disturb_lan(&mut self, index: usize, fault: Fault) {
        self.timeline.add("rig", format!("LAN of {} is now {fault:?}", ["a", "b"][index]));
        self.lan.set(index, fault);
    }

    /// A box hears a break on its null modem, as of a peer whose power fails, and then a byte.
    pub fn break_null_modem(&mut self, index: usize, then: u8) {
        self.timeline.add("rig", format!("a break and {:?} for {}", char::from(then), ["a", "b"][index]));
        self.machines[index].order("chardev-send-break", &serde_json::json!({ "id": "null-modem" }));
        self.pass(Duration::from_millis(300));
        self.null_modem.disturb(index, &[then]);
        self.pass(Duration::from_millis(700));
    }

    /// Switches the witness off or on.
    pub fn set_witness(&self, alive: bool) {
        self.timeline.add("rig", format!("the witness is {}", if alive { "on" } else { "off" }));
        self.witness_is_dead.store(!alive, Ordering::Relaxed);
    }

    /// What the client that fetches the page has seen so far.
    pub fn fetched(&self) -> Seen {
        self.fetched.lock().unwrap().clone()
    }

    /// What the client that pings has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// The longest silence that the client that pings saw since `start`.
    pub fn outage_since(&self, start: Duration) -> Duration {
        let outages = self.seen().outages;
        let lengths = outages.iter().filter(|(at, length)| *at + *length >= start).map(|(_, length)| *length);
        lengths.max().unwrap_or_default()
    }

    /// Who has sent as holder of the service address so far.
    pub fn reigns(&self) -> Vec<Reign> {
        self.reigns.lock().unwrap().clone()
    }

    /// Waits until the client is answered by one of `boxes`, freshly; returns which one.
    #[allow(clippy::disallowed_methods)] // the rig measures real machines
    pub fn wait_served(&self, boxes: &[usize], limit: Duration) -> Option<usize> {
        const FRESH: Duration = Duration::from_millis(200);
        let start = self.timeline.now();
        loop {
            let (seen, now) = (self.seen(), self.timeline.now());
            let served = seen.served_by.filter(|index| boxes.contains(index));
            if served.is_some() && seen.last >= start && now.saturating_sub(seen.last) < FRESH {
                return served;
            }
            if now - start > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lets time pass.
    #[allow(clippy::disallowed_methods)] // the rig measures real machines
    pub fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// The status of a box, asked inside it; `None` when it does not answer in time.
    pub fn status(&self, index: usize, limit: Duration) -> Option<serde_json::Value> {
        let (said, _) = self.ask(index, "/init status --json", limit)?;
        serde_json::from_str(said.lines().find(|line| line.starts_with('{'))?).ok()
    }

    /// Has a command run inside a box; what it printed, and whether it succeeded. `None` when it does not end in time.
    pub fn ask(&self, index: usize, command: &str, limit: Duration) -> Option<(String, bool)> {
        let machine = &self.machines[index];
        if !self.agent_is_ready(index, limit) {
            return None;
        }
        let mark = self.timeline.mark();
        // A number of its own: the end of an earlier command may come first.
        let end = format!("end {} ", self.asked.fetch_add(1, Ordering::Relaxed));
        machine.agent.send(&format!("{command}; echo \"{end}$?\""));
        let who = format!("{}$", machine.name);
        let ended = self.timeline.wait(mark, limit, |event| event.who == who && event.text.starts_with(&end))?;
        Some((self.timeline.said(mark, &who, &end), ended.text[end.len()..] == *"0"))
    }

    /// The shell in the box has begun since the box did: what is typed earlier is cut off or lost.
    fn agent_is_ready(&self, index: usize, limit: Duration) -> bool {
        let name = self.machines[index].name;
        let until = self.timeline.now() + limit;
        loop {
            let ready = self.timeline.newest(|event| match event.who.strip_prefix(name) {
                Some("$") => (event.text == "agent ready").then_some(true),
                Some("") => (event.text == "power on" || event.text.starts_with("RESET")).then_some(false),
                _ => None,
            });
            if ready == Some(true) || self.timeline.now() > until {
                return ready == Some(true);
            }
            self.pass(Duration::from_millis(50));
        }
    }

    /// The newest status that came by a box's console.
    pub fn last_status(&self, who: &str) -> Option<serde_json::Value> {
        let text = self.timeline.text(0);
        let lines = text.lines().rev().filter(|line| line.get(11..).is_some_and(|rest| rest.starts_with(who)));
        lines.filter_map(|line| serde_json::from_str(line.get(line.find('{')?..)?).ok()).next()
    }

    /// Waits until a box has this role.
    pub fn wait_role(&self, index: usize, role: &str, limit: Duration) -> bool {
        let until = self.timeline.now() + limit;
        while self.timeline.now() < until {
            let status = self.status(index, Duration::from_secs(3));
            if status.is_some_and(|status| status["role"] == role) {
                return true;
            }
            self.pass(Duration::from_millis(300));
        }
        false
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            machine.power_cut();
        }
    }
}

/// Has flash.sh write an image to a disk that is a little larger.
#[allow(clippy::disallowed_methods)] // runs flash.sh
fn write_disk(image: &Path, disk: &Path) {
    use std::io::Write;
    let length = std::fs::metadata(image).expect("an image").len();
    std::fs::File::create(disk).and_then(|file| file.set_len(length + (4 << 20))).expect("a disk");
    let mut flash = Command::new(root().join("flash.sh"))
        .arg("write")
        .args([image, disk])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("flash.sh runs");
    writeln!(flash.stdin.take().expect("its input"), "{}", disk.display()).expect("its answer");
    let done = flash.wait_with_output().expect("flash.sh");
    assert!(done.status.success(), "flash.sh write: {}", String::from_utf8_lossy(&done.stderr));
}

/// Copies a disk.
#[allow(clippy::disallowed_methods)] // runs cp
pub fn copy_sparse(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("--sparse=always").args([from, to]).status().expect("cp");
    assert!(done.success(), "cp {} {}", from.display(), to.display());
}
