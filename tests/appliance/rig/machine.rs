//! One box: a QEMU process, its monitor (QMP), its ports and its disk.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::serial::{self, Port};
use super::timeline::Timeline;

/// What a machine is made of, besides its name and its cables.
#[derive(Clone, Debug)]
pub struct Model {
    /// QEMU's options of the machine and how it boots.
    pub options: Vec<String>,
    /// QEMU's name for a network card of this board.
    pub card: &'static str,
    /// QEMU's name for the disk of this board.
    pub disk: &'static str,
    /// PCI slots of LAN and crossover.
    pub slots: [u8; 2],
    /// Number of the null modem's serial port; the console's is 0, the rig's own 3.
    pub null_modem: u8,
    /// The kernel's command line, where QEMU loads the kernel itself.
    pub command_line: Option<String>,
    /// Folder of the UEFI firmware, where the box boots from its disk.
    pub firmware: Option<&'static str>,
    /// Time from power on to /init, at most.
    pub kernel_time: Duration,
    /// The longest wait of a claim in silence by the board's belts, and more: none is claimed earlier after a boot.
    pub longest_wait: Duration,
}

/// One box.
pub struct Machine {
    /// `a` or `b`.
    pub name: &'static str,
    model: Model,
    directory: PathBuf,
    /// Its disk.
    pub disk: PathBuf,
    /// What the boot loader calls the box, where QEMU loads the kernel; else its state partition does.
    pub node: &'static str,
    /// The disk refuses to be written from the next power on.
    pub disk_is_read_only: bool,
    /// The disk is not plugged in at the next power on.
    pub disk_is_late: bool,
    /// Operations a second that the disk does from the next power on.
    pub disk_speed: Option<u32>,
    /// The card of the crossover is dead from the next power on.
    pub crossover_is_dead: bool,
    /// QEMU's options of the watchdog.
    pub watchdog: &'static [&'static str],
    /// Another disk, that can only be read.
    pub second_disk: Option<PathBuf>,
    timeline: Timeline,
    process: Option<Child>,
    monitor: Option<UnixStream>,
    /// The console port.
    pub console: Port,
    /// A shell inside the box, for tests.
    pub agent: Port,
    sequence: u32,
    answers: Arc<Mutex<Vec<serde_json::Value>>>,
}

/// The hardware address of a box's card: `lan` is 0, crossover 1.
pub fn mac(node: usize, card: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, u8::try_from(node).unwrap() + 1, card + 1]
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// The cables of a box.
pub struct Cables {
    /// `-netdev` options of LAN and crossover.
    pub netdevs: [String; 2],
    /// Where the null modem is.
    pub null_modem: PathBuf,
}

impl Machine {
    /// A box that is switched off.
    pub fn new(index: usize, model: Model, directory: &Path, disk: PathBuf, timeline: &Timeline) -> Machine {
        let name = ["a", "b"][index];
        let port = |kind: &str, who: &str| {
            Port::start(directory.join(format!("{kind}-{name}")), who.to_owned(), timeline.clone()).expect("a socket")
        };
        Machine {
            name,
            model,
            directory: directory.to_owned(),
            disk,
            node: name,
            disk_is_read_only: false,
            disk_is_late: false,
            disk_speed: None,
            crossover_is_dead: false,
            watchdog: &["-device", "i6300esb"],
            second_disk: None,
            timeline: timeline.clone(),
            process: None,
            monitor: None,
            console: port("console", name),
            agent: port("agent", &format!("{name}$")),
            sequence: 0,
            answers: Arc::default(),
        }
    }

    /// Switches the box on.
    #[allow(clippy::disallowed_methods)] // starts QEMU
    pub fn power_on(&mut self, index: usize, cables: &Cables, accelerator: &str) {
        assert!(self.process.is_none(), "{} is on", self.name);
        let monitor = self.directory.join(format!("monitor-{}", self.name));
        let _ = fs::remove_file(&monitor);
        let listener = UnixListener::bind(&monitor).expect("a socket");
        // The box dies with the rig, however that ends, but not by a ctrl-C that means the rig.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]).process_group(0);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-accel", accelerator]);
        command.args(&self.model.options);
        command.args(["-name", self.name, "-uuid", &format!("00000000-0000-0000-0000-00000000000{}", index + 1)]);
        command.args(["-chardev", &format!("socket,id=monitor,path={}", monitor.display())]);
        command.args(["-mon", "chardev=monitor,mode=control"]);
        if let Some(line) = &self.model.command_line {
            command.args(["-append", &format!("{line} twobox.node={}", self.node)]);
        }
        if let Some(firmware) = self.model.firmware {
            // The firmware's variables belong to the box, and outlive a power cut.
            let variables = self.directory.join(format!("{}.vars", self.name));
            if !variables.exists() {
                fs::copy(format!("{firmware}/OVMF_VARS_4M.fd"), &variables).expect("OVMF is installed");
            }
            let code = format!("if=pflash,format=raw,unit=0,readonly=on,file={firmware}/OVMF_CODE_4M.fd");
            let variables = format!("if=pflash,format=raw,unit=1,file={}", variables.display());
            command.args(["-drive", &code, "-drive", &variables]);
        }
        let ports = [
            ("console", 0, &self.console.path),
            ("null-modem", self.model.null_modem, &cables.null_modem),
            ("agent", 3, &self.agent.path),
        ];
        for (id, number, path) in ports {
            // Lines of their own: the usual ones are shared by two ports each, which ISA does not do well.
            let line = [4, 3, 5, 7][usize::from(number)];
            command.args(["-chardev", &serial::chardev(id, path)]);
            command.args(["-device", &format!("isa-serial,chardev={id},index={number},irq={line}")]);
        }
        for (card, (netdev, slot)) in (0..).zip(cables.netdevs.iter().zip(self.model.slots)) {
            if card == 1 && self.crossover_is_dead {
                continue;
            }
            command.args(["-netdev", netdev]);
            let device = format!(
                "{},id=card{card},netdev=net{card},mac={},addr={slot},romfile=",
                self.model.card,
                text(mac(index, card))
            );
            command.args(["-device", &device]);
        }
        // `writeback` is the host's cache: a power cut of the box loses nothing that reached QEMU.
        let read_only = if self.disk_is_read_only { "on" } else { "off" };
        let disk = self.disk.display();
        let speed = self.disk_speed.map_or(String::new(), |speed| format!(",throttling.iops-total={speed}"));
        let drive = format!("file={disk},format=raw,if=none,id=disk,cache=writeback,read-only={read_only}{speed}");
        command.args(["-drive", &drive]).args(self.watchdog);
        if !self.disk_is_late {
            command.args(["-device", self.model.disk]);
        }
        if let Some(second) = &self.second_disk {
            let drive = format!("file={},format=raw,if=none,id=second,read-only=on", second.display());
            command.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=second"]);
        }
        let errors = File::create(self.directory.join(format!("qemu-{}.log", self.name))).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        self.process = Some(command.spawn().expect("setpriv starts qemu-system-x86_64"));
        self.timeline.add(self.name, "power on");
        let stream = self.accept(&listener);
        self.watch(stream.try_clone().expect("a descriptor"));
        self.monitor = Some(stream);
        self.order("qmp_capabilities", &serde_json::json!({}));
    }

    /// Takes the LAN's card out of the running box.
    pub fn take_card_out(&mut self) {
        self.timeline.add(self.name, "the LAN's card is taken out");
        self.order("device_del", &serde_json::json!({ "id": "card0" }));
    }

    /// Puts it in again.
    pub fn put_card_in(&mut self, index: usize) {
        self.timeline.add(self.name, "the LAN's card is put in");
        let mut words = self.model.card.split(',');
        let mut card = serde_json::json!({
            "driver": words.next(),
            "id": "card0",
            "netdev": "net0",
            "mac": text(mac(index, 0)),
            "addr": self.model.slots[0].to_string(),
            "romfile": "",
        });
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            card[key] = value.parse::<u64>().map_or_else(|_| value.into(), Into::into);
        }
        self.order("device_add", &card);
    }

    /// Waits until QEMU takes up its monitor. Ends the rig with QEMU's own words if it does not.
    fn accept(&mut self, listener: &UnixListener) -> UnixStream {
        const SLICE: u8 = 200; // milliseconds
        const SLICES: u16 = 300;
        let mut ended = false;
        for _ in 0..SLICES {
            let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(SLICE)).is_ok_and(|ready| ready > 0) {
                return listener.accept().expect("QEMU's monitor").0;
            }
            ended = self.process.as_mut().is_some_and(|process| !matches!(process.try_wait(), Ok(None)));
            if ended {
                break;
            }
        }
        let said = fs::read_to_string(self.directory.join(format!("qemu-{}.log", self.name))).unwrap_or_default();
        panic!("QEMU of {} {}: {said}", self.name, if ended { "has ended" } else { "does not speak" });
    }

    /// Reads answers and events of the monitor until QEMU ends.
    #[allow(clippy::disallowed_methods)] // the rig's own thread
    fn watch(&self, stream: UnixStream) {
        let (timeline, name, answers) = (self.timeline.clone(), self.name, self.answers.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let Ok(message) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
                match message["event"].as_str() {
                    Some("RESET") => timeline.add(name, format!("RESET by {}", message["data"]["reason"])),
                    Some(event @ ("WATCHDOG" | "SHUTDOWN" | "GUEST_PANICKED")) => timeline.add(name, event),
                    Some(_) => {}
                    None => answers.lock().unwrap().push(message),
                }
            }
        });
    }

    /// Gives the monitor an order and does not wait for its answer.
    pub fn order(&mut self, execute: &str, arguments: &serde_json::Value) {
        self.sequence += 1;
        let order = serde_json::json!({ "execute": execute, "arguments": arguments, "id": self.sequence });
        if let Some(monitor) = self.monitor.as_mut() {
            match writeln!(monitor, "{order}") {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{}'s monitor: {error}", self.name),
                _ => {}
            }
        }
    }

    /// Makes the disk slow: bytes a second that are written, operations a second; nothing of both is as fast as it is.
    pub fn slow_disk(&mut self, written: u32, operations: u32) {
        self.timeline
            .add(self.name, format!("disk: {written} bytes/s written, {operations} operations/s (0: unlimited)"));
        let limits = serde_json::json!({
            "device": "disk", "bps": 0, "bps_rd": 0, "bps_wr": written, "iops": operations, "iops_rd": 0, "iops_wr": 0
        });
        self.order("block_set_io_throttle", &limits);
    }

    /// The disk takes requests and answers none.
    pub fn hang_disk(&mut self) {
        self.timeline.add(self.name, "disk: hangs");
        let limits = serde_json::json!({
            "device": "disk", "bps": 1, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0
        });
        self.order("block_set_io_throttle", &limits);
    }

    /// Plugs the disk in that was not there at the power on.
    pub fn plug_disk_in(&mut self) {
        self.timeline.add(self.name, "disk: plugged in");
        self.order("device_add", &serde_json::json!({ "driver": "virtio-blk-pci", "drive": "disk", "id": "late" }));
    }

    /// Pulls the plug: nothing is written any more, nothing is said.
    pub fn power_cut(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            self.monitor = None;
            self.timeline.add(self.name, "POWER CUT");
        }
    }

    /// Stops the whole box, or lets it go on: no instruction runs and no interrupt comes meanwhile, while its clocks and its
    /// watchdog count on.
    pub fn stop(&self, stopped: bool) {
        let process = self.process.as_ref().expect("the box is on");
        let signal = if stopped { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(process.id().cast_signed()), signal).expect("QEMU is there");
        self.timeline.add(self.name, if stopped { "STOPS" } else { "goes on" });
    }

    /// Somebody at its keyboard presses ctrl-alt-del.
    pub fn press_ctrl_alt_del(&mut self) {
        let key = |name: &str| serde_json::json!({ "type": "qcode", "data": name });
        let keys = ["ctrl", "alt", "delete"].map(key);
        self.order("send-key", &serde_json::json!({ "keys": keys, "hold-time": 200 }));
    }

    /// Whether it is switched on.
    pub fn is_on(&self) -> bool {
        self.process.is_some()
    }

    /// Carrier of a card: `lan` is 0, crossover 1.
    pub fn set_carrier(&mut self, card: u8, up: bool) {
        self.order("set_link", &serde_json::json!({ "name": format!("card{card}"), "up": up }));
    }

    /// How long a box must have been up before it claims in silence.
    pub fn longest_wait(&self) -> Duration {
        self.model.longest_wait
    }

    /// What the box needs from power on to /init at most.
    pub fn kernel_time(&self) -> Duration {
        self.model.kernel_time
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
