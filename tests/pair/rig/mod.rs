//! Two boxes, a client and a witness in network namespaces: a bridge, a crossover, a null modem of pseudo terminals.
//!
//! ```text
//!   client   witness
//!      |        |
//!    ============== bridge (namespace "lan", where every frame is seen)
//!      |        |
//!      a ------ b       crossover (veth) and null modem (ptys behind a relay)
//! ```

pub mod client;
pub mod counting;
pub mod null_modem;
pub mod wire;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use twobox::clock;
use twobox::console::client::Conversation;
use twobox::console::control::{Reply, Request};
use twobox::console::status::{Role, Status};
use twobox::time::{Duration, Instant};
use twobox::wire::pair::Side;

use client::Client;
use null_modem::NullModem;
use wire::{Capture, enter};

/// Generous: two noisy cores.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The address that clients use.
pub const SERVICE: &str = "10.77.0.10";
/// A port of the responder, UDP and TCP.
pub const PORT: u16 = 7077;
/// Every namespace but the bridge's, with the host part of its address.
const HOSTS: [(&str, &str); 4] = [("a", "2"), ("b", "3"), ("client", "50"), ("witness", "1")];

/// Further namespaces that a test may put on the LAN.
const GUESTS: [&str; 3] = ["guest", "c", "d"];

/// Two pairs at once would disturb each other's times.
static ONE: Mutex<()> = Mutex::new(());

/// Answers on the service address with the name of the box it runs on.
const RESPONDER: &str = r#"
import os, socket, threading
here = os.stat("/proc/self/ns/net").st_ino
node = next(n for n in "ab" if os.stat("/run/netns/NAME-" + n).st_ino == here).encode()
def service(kind):
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND: the address may come later
    s.bind(("SERVICE", PORT))
    return s
def talk(c):
    while True:
        data = c.recv(100)
        if not data:
            return
        c.sendall(node + data)
def tcp():
    s = service(socket.SOCK_STREAM)
    s.listen(64)
    while True:
        c, _ = s.accept()
        threading.Thread(target=talk, args=(c,), daemon=True).start()
threading.Thread(target=tcp, daemon=True).start()
u = service(socket.SOCK_DGRAM)
while True:
    data, who = u.recvfrom(100)
    try:
        u.sendto(node + data, who)
    except OSError:
        pass
"#;

/// A pair under test.
pub struct Rig {
    pub name: String,
    pub dir: PathBuf,
    pub null_modem: NullModem,
    pub capture: Capture,
    pub client: Client,
    /// What the daemons are started by: a program that takes something away from them.
    pub started_by: Vec<String>,
    /// Which program each box runs.
    pub programs: [PathBuf; 2],
    pub daemons: [Option<Child>; 2],
    _one: MutexGuard<'static, ()>,
}

/// Which box.
pub fn index(node: &str) -> usize {
    usize::from(node == "b")
}

/// The other box.
pub fn other(node: &str) -> &'static str {
    if node == "a" { "b" } else { "a" }
}

/// The program under test: the one that cargo built, or the one that `TWOBOX_BINARY` names.
pub fn program() -> PathBuf {
    std::env::var_os("TWOBOX_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_twobox").into()).into()
}

/// Runs a command that must succeed.
pub fn must(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("{command}: {e}"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command}: {text}");
    text
}

/// Waits until `true`, at most [`PATIENCE`].
pub fn wait(what: &str, reached: impl FnMut() -> bool) {
    wait_for(PATIENCE, what, reached);
}

/// Waits until `true`, at most as long as told.
pub fn wait_for(patience: Duration, what: &str, mut reached: impl FnMut() -> bool) {
    let until = clock::now() + patience;
    while !reached() {
        assert!(clock::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Rig {
    /// Makes the namespaces and the files. `timing` is the site file's section, `warm`: the service runs on both.
    pub fn new(name: &str, timing: &str) -> Rig {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        // Two runs of the tests on one machine do not meet.
        let name = format!("tbpr{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        delete_namespaces(&name);
        fs::create_dir_all(&dir).unwrap();
        make_namespaces(&name);
        let null_modem = NullModem::new(&dir);
        write_files(&name, &dir, timing);
        let capture = Capture::start(&name, SERVICE.parse().unwrap());
        let client = Client::start(&name, SERVICE.parse().unwrap(), PORT);
        Rig {
            name,
            dir,
            null_modem,
            capture,
            client,
            started_by: Vec::new(),
            programs: [program(), program()],
            daemons: [None, None],
            _one: one,
        }
    }

    /// Starts one daemon.
    pub fn launch(&mut self, node: &str) {
        self.launch_as(node, node);
    }

    /// Starts the daemon of one box, which takes itself for `called`.
    pub fn launch_as(&mut self, node: &str, called: &str) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path(node, "log")).unwrap();
        let options = self.options(node);
        // Not `ip netns exec`: it hides the host's cgroup and bpf file systems.
        // Each box sees its own folder at `data`. Mounts are shared, as on a machine with systemd and on the appliance.
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}-{node}", self.name))
            .args(["unshare", "--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount --make-rshared / && mount --bind \"$0\" \"$1\" && shift && exec \"$@\"")
            .arg(self.path(node, "data"))
            .arg(self.dir.join("data"))
            .args(&self.started_by)
            .arg(&self.programs[index(node)])
            .arg("--socket")
            .arg(options.socket)
            .args(["run", "--node", called, "--board"])
            .arg(options.board)
            .arg("--site")
            .arg(options.site)
            .arg("--state")
            .arg(options.state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemons[index(node)] = Some(child);
    }

    /// What a daemon of this box is started with.
    pub fn options(&self, node: &str) -> twobox::run::Options {
        twobox::run::Options {
            board: self.path(node, "board.toml"),
            site: self.dir.join(format!("site-{node}.toml")),
            node: if node == "a" { Side::A } else { Side::B },
            state: self.path(node, "state"),
            socket: self.path(node, "socket"),
            levels: None,
            appliance: None,
        }
    }

    /// Both daemons, one of them active, all links heard both ways, the client served. The name of the active one.
    pub fn start_both(&mut self) -> &'static str {
        self.launch("a");
        self.launch("b");
        wait("one of two active", || self.active().is_some());
        let active = self.active().unwrap();
        self.await_touch();
        self.client.await_answer_from(active);
        active
    }

    /// Waits until both boxes hear each other on every link and a takeover would work.
    pub fn await_touch(&self) {
        wait("all links up and a takeover possible", || self.in_touch());
    }

    /// Both boxes hear each other on every link, have a quorum, and a takeover would work.
    pub fn in_touch(&self) -> bool {
        ["a", "b"].iter().all(|node| {
            self.status(node).is_some_and(|s| {
                s.links.iter().all(|link| link.up)
                    && s.takeover.ready
                    && s.witnesses.iter().all(|w| w.reachable && w.reflects)
                    && s.quorum
            })
        })
    }

    /// A path of this box in the test's folder.
    pub fn path(&self, node: &str, what: &str) -> PathBuf {
        self.dir.join(format!("{node}.{what}"))
    }

    /// The daemon's process.
    pub fn pid(&self, node: &str) -> Pid {
        let child = self.daemons[index(node)].as_ref().expect("a started daemon");
        Pid::from_raw(i32::try_from(child.id()).unwrap())
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, node: &str, signal: Signal) {
        kill(self.pid(node), signal).unwrap();
    }

    /// Waits for the daemon's end.
    pub fn end_of(&mut self, node: &str) -> ExitStatus {
        let mut child = self.daemons[index(node)].take().expect("a started daemon");
        let mut status = None;
        wait(&format!("end of {node}"), || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// kill -9.
    pub fn kill(&mut self, node: &str) {
        self.signal(node, Signal::SIGKILL);
        assert_eq!(self.end_of(node).signal(), Some(9));
    }

    /// Power loss: every cable of the box is dead in the same moment, and so is the program.
    pub fn power_off(&mut self, node: &str) -> Instant {
        self.null_modem.set(|_| false);
        let at = clock::now();
        let batch = self.dir.join("batch");
        fs::write(&batch, "link set lan down\nlink set cross down\n").unwrap();
        self.signal(node, Signal::SIGSTOP);
        must(&format!("ip -n {}-{node} -batch {}", self.name, batch.display()));
        self.kill(node);
        at
    }

    /// `ip` in one of the namespaces.
    pub fn ip(&self, namespace: &str, words: &str) -> String {
        must(&format!("ip -n {}-{namespace} {words}", self.name))
    }

    /// Puts one of [`GUESTS`] on the LAN, with this host part of its address.
    pub fn join(&self, guest: &str, number: &str) {
        assert!(GUESTS.contains(&guest));
        must(&format!("ip netns add {}-{guest}", self.name));
        self.ip(guest, "link set lo up");
        cable(&self.name, guest, number);
    }

    /// Replaces text in the site files of both boxes. Before they start.
    pub fn edit_sites(&self, from: &str, to: &str) {
        for node in ["a", "b"] {
            self.edit_site(node, from, to);
        }
    }

    /// Replaces text in one box's site file. Before it starts.
    pub fn edit_site(&self, node: &str, from: &str, to: &str) {
        let path = self.dir.join(format!("site-{node}.toml"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// A command in one of the namespaces, which must succeed.
    pub fn run_in(&self, namespace: &str, command: &str) -> String {
        must(&format!("nsenter --net=/run/netns/{}-{namespace} {command}", self.name))
    }

    /// Does something inside a namespace.
    pub fn inside<T: Send>(&self, namespace: &str, work: impl FnOnce() -> T + Send) -> T {
        let name = self.name.clone();
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                enter(&name, namespace);
                work()
            });
            inside.join().unwrap()
        })
    }

    /// Has whatever matches `rule` of nftables dropped: what comes in by `device` of a namespace, or with `hook` egress what
    /// leaves by it. Packet sockets that hear everything still hear what comes in.
    pub fn drop_frames(&self, namespace: &str, hook: &str, device: &str, rule: &str) {
        let nft = |words: &str| self.run_in(namespace, &format!("nft {words}"));
        let table = format!("drop_{hook}_{device}");
        nft(&format!("add table netdev {table}"));
        nft(&format!("add chain netdev {table} c {{ type filter hook {hook} device {device} priority 0 ; }}"));
        nft(&format!("add rule netdev {table} c {rule} counter drop"));
    }

    /// The end of [`Rig::drop_frames`].
    pub fn pass_frames(&self, namespace: &str, hook: &str, device: &str) {
        self.run_in(namespace, &format!("nft delete table netdev drop_{hook}_{device}"));
    }

    /// Hardware address of an interface.
    pub fn mac(&self, namespace: &str, interface: &str) -> String {
        let text = self.ip(namespace, &format!("-o link show {interface}"));
        text.split("link/ether ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    /// The hardware address that the client has for `ip`.
    pub fn cached(&self, ip: &str) -> Option<String> {
        let text = self.ip("client", &format!("neigh show {ip}"));
        text.split("lladdr ").nth(1)?.split_whitespace().next().map(str::to_owned)
    }

    /// Whether the box has this alarm.
    pub fn alarmed(&self, node: &str, name: &str) -> bool {
        self.status(node).is_some_and(|s| s.alarms.iter().any(|alarm| alarm.name == name))
    }

    /// A request's replies up to the last one.
    pub fn ask(&self, node: &str, request: &Request) -> Vec<Reply> {
        let mut replies = Vec::new();
        let Ok(mut conversation) = Conversation::start(&self.path(node, "socket"), request) else { return replies };
        while let Ok(reply) = conversation.next_reply() {
            let last = reply.is_last();
            replies.push(reply);
            if last {
                break;
            }
        }
        replies
    }

    /// The last reply's text if it was done.
    pub fn order(&self, node: &str, request: &Request) -> Result<String, String> {
        match self.ask(node, request).pop() {
            Some(Reply::Done { text }) => Ok(text),
            other => Err(format!("{other:?}")),
        }
    }

    /// The box's status; `None` while it does not answer.
    pub fn status(&self, node: &str) -> Option<Status> {
        match self.ask(node, &Request::Status { every_ms: None }).into_iter().next() {
            Some(Reply::Status { status }) => Some(*status),
            _ => None,
        }
    }

    /// The box's role.
    pub fn role(&self, node: &str) -> Option<Role> {
        self.status(node).map(|status| status.role)
    }

    /// The box that serves; a panic if both say so.
    pub fn active(&self) -> Option<&'static str> {
        let active: Vec<&'static str> =
            ["a", "b"].into_iter().filter(|node| self.role(node) == Some(Role::Active)).collect();
        assert!(active.len() < 2, "both are active");
        active.first().copied()
    }

    /// What the box said.
    pub fn log(&self, node: &str) -> String {
        fs::read_to_string(self.path(node, "log")).unwrap_or_default()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if thread::panicking() {
            for node in ["a", "b"] {
                eprintln!("--- log of {node}\n{}", self.log(node));
                if let Some(status) = self.status(node) {
                    eprintln!("--- status of {node}\n{}", serde_json::to_string(&status).unwrap());
                }
            }
            eprintln!("--- holders on the wire: {:?}", self.capture.owners());
        }
        for child in self.daemons.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.client.stop();
        self.capture.stop();
        self.null_modem.stop();
        delete_namespaces(&self.name);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn make_namespaces(name: &str) {
    let ip = |namespace: &str, words: &str| must(&format!("ip -n {name}-{namespace} {words}"));
    for namespace in ["lan", "a", "b", "client", "witness"] {
        must(&format!("ip netns add {name}-{namespace}"));
        ip(namespace, "link set lo up");
    }
    ip("lan", "link add bridge type bridge");
    ip("lan", "link set bridge up");
    for (host, _) in HOSTS {
        plug_in(name, host);
    }
    must(&format!("ip link add cross netns {name}-a type veth peer name cross netns {name}-b"));
    ip("a", "link set cross up");
    ip("b", "link set cross up");
}

/// The cable from a host's interface `lan` to the bridge.
pub fn plug_in(name: &str, host: &str) {
    let (_, number) = HOSTS.iter().find(|(known, _)| *known == host).unwrap();
    cable(name, host, number);
}

fn cable(name: &str, host: &str, number: &str) {
    let ip = |namespace: &str, words: &str| must(&format!("ip -n {name}-{namespace} {words}"));
    must(&format!("ip link add lan netns {name}-{host} type veth peer name {host} netns {name}-lan"));
    ip("lan", &format!("link set dev {host} master bridge up"));
    ip(host, &format!("addr add 10.77.0.{number}/24 dev lan"));
    ip(host, "link set lan up");
}

/// Whatever a former run left goes too: deleting a namespace deletes its interfaces once nobody is in it any more, so whatever
/// runs there (the services of a killed daemon) is killed first.
fn delete_namespaces(name: &str) {
    for namespace in ["lan", "a", "b", "client", "witness"].into_iter().chain(GUESTS) {
        let netns = |what: &str| {
            let mut command = Command::new("ip");
            command.args(["netns", what, &format!("{name}-{namespace}")]).stderr(Stdio::null());
            command
        };
        let inside = netns("pids").output().map(|output| output.stdout).unwrap_or_default();
        let own = std::process::id();
        for pid in String::from_utf8_lossy(&inside).lines().filter_map(|line| line.parse().ok()) {
            if u32::try_from(pid).is_ok_and(|pid| pid != own) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let _ = netns("delete").status();
    }
}

fn write_files(name: &str, dir: &Path, timing: &str) {
    let responder = RESPONDER.replace("NAME", name).replace("SERVICE", SERVICE).replace("PORT", &PORT.to_string());
    fs::write(dir.join("responder.py"), responder).unwrap();
    let key = dir.join("pair.key");
    twobox::config::key_file::create(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(dir.join("data")).unwrap();
    for node in ["a", "b"] {
        fs::create_dir_all(dir.join(format!("{node}.data"))).unwrap();
        let board = format!(
            "name = \"netns\"\n[interface.lan]\nname = \"lan\"\n[interface.crossover]\nname = \"cross\"\n\
             [serial.null-modem]\ndevice = \"{}\"\nbaud = 115200\n",
            dir.join(format!("{node}.tty")).display()
        );
        fs::write(dir.join(format!("{node}.board.toml")), board).unwrap();
        fs::write(dir.join(format!("site-{node}.toml")), site(dir, timing)).unwrap();
    }
}

/// The site file of both boxes.
pub fn site(dir: &Path, timing: &str) -> String {
    format!(
        "[pair]\nname = \"test\"\nkey-file = \"{0}/pair.key\"\nboot-wait = \"10s\"\n[timing]\n{timing}\n\
         [node.a]\nlan = \"10.77.0.2/24\"\n[node.b]\nlan = \"10.77.0.3/24\"\n\
         [[address]]\nip = \"{SERVICE}/24\"\ninterface = \"lan\"\n[[witness]]\nip = \"10.77.0.1\"\n\
         [[service]]\nname = \"responder\"\nstart = [\"/usr/bin/python3\", \"{0}/responder.py\"]\nrun = \"both\"\n",
        dir.display()
    )
}
