//! A bridge, two boxes and a client, each in a network namespace of its own, and what the boxes take over with.

use std::net::IpAddr;
use std::process::Command;
use std::thread;

use twobox::clock;
use twobox::takeover::address::ServiceAddress;
use twobox::takeover::{Settings, SettingsAddress, Takeover};
use twobox::time::Duration;
use twobox::wire::Mac;

pub const MS: fn(u64) -> Duration = Duration::from_millis;
pub const LEASE: Duration = Duration::from_millis(500);
pub const SERVICE_V4: &str = "192.0.2.10";
pub const SERVICE_V6: &str = "2001:db8::10";

pub fn run(command: &str) -> (bool, String) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("{command}: {e}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

pub fn must(command: &str) -> String {
    let (ok, text) = run(command);
    assert!(ok, "{command}: {text}");
    text
}

/// Namespaces `tbto-NAME-{lan,a,b,client}`; in the last three an interface `lan` on the bridge in the first.
pub struct Lan {
    name: &'static str,
}

pub const BOXES: [(&str, &str); 3] = [("a", "2"), ("b", "3"), ("client", "77")];

impl Lan {
    pub fn new(name: &'static str) -> Lan {
        let lan = Lan { name };
        lan.delete();
        for end in ["lan", "a", "b", "client"] {
            must(&format!("ip netns add {}", lan.namespace(end)));
            must(&format!("ip -n {} link set lo up", lan.namespace(end)));
        }
        let bridge = lan.namespace("lan");
        must(&format!("ip -n {bridge} link add bridge type bridge"));
        must(&format!("ip -n {bridge} link set bridge up"));
        for (end, host) in BOXES {
            let namespace = lan.namespace(end);
            // Or the kernel says nothing for its first second, while it looks for duplicates of its link-local address.
            must(&format!("ip netns exec {namespace} sysctl -q -w net.ipv6.conf.default.accept_dad=0"));
            must(&format!("ip -n {bridge} link add name port-{end} type veth peer name lan netns {namespace}"));
            must(&format!("ip -n {bridge} link set port-{end} master bridge up"));
            must(&format!("ip -n {namespace} link set lan up"));
            must(&format!("ip -n {namespace} addr add 192.0.2.{host}/24 dev lan"));
            must(&format!("ip -n {namespace} addr add 2001:db8::{host}/64 dev lan nodad"));
        }
        lan
    }

    pub fn namespace(&self, end: &str) -> String {
        format!("tbto-{}-{end}", self.name)
    }

    pub fn delete(&self) {
        for end in ["lan", "a", "b", "client"] {
            run(&format!("ip netns delete {}", self.namespace(end)));
        }
    }

    pub fn ip(&self, end: &str, command: &str) -> String {
        must(&format!("ip -n {} {command}", self.namespace(end)))
    }

    /// Runs `inside` on a thread whose network is that of `end`.
    pub fn inside<T: Send>(&self, end: &str, inside: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(end));
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let file = std::fs::File::open(path).unwrap();
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                inside()
            });
            entered.join().unwrap()
        })
    }

    pub fn open(&self, end: &str, addresses: &[(&str, u8)], virtual_mac: bool) -> Takeover {
        self.inside(end, || Takeover::open(&settings(addresses, virtual_mac)).unwrap().0)
    }

    pub fn mac(&self, end: &str) -> Mac {
        let text = self.ip(end, "-o link show lan");
        parse_mac(text.split("link/ether ").nth(1).unwrap())
    }

    /// The hardware address that the client has for `ip`.
    pub fn cached(&self, ip: &str) -> Option<Mac> {
        self.ip("client", &format!("neigh show {ip}")).split("lladdr ").nth(1).map(parse_mac)
    }

    pub fn ping(&self, from: &str, to: &str) -> bool {
        run(&format!("ip netns exec {} ping -c 1 -W 1 {to}", self.namespace(from))).0
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.delete();
    }
}

pub fn parse_mac(text: &str) -> Mac {
    let mut mac = [0; 6];
    for (byte, word) in mac.iter_mut().zip(text.split_whitespace().next().unwrap().split(':')) {
        *byte = u8::from_str_radix(word, 16).unwrap();
    }
    mac
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn settings(addresses: &[(&str, u8)], virtual_mac: bool) -> Settings {
    let addresses = addresses
        .iter()
        .map(|&(text, prefix)| SettingsAddress {
            address: ServiceAddress { ip: ip(text), prefix },
            interface: "lan".into(),
            virtual_mac,
        })
        .collect();
    // Long: most tests are slower than a real lifetime and do not renew.
    Settings { pair: "office".into(), addresses, lifetime: MS(60_000), lease: LEASE, mark: 0x3262_6f78 }
}

pub const BOTH: &[(&str, u8)] = &[(SERVICE_V4, 24), (SERVICE_V6, 64)];

/// Everything that is heard within `time`.
pub fn listen(takeover: &mut Takeover, peer: Option<Mac>, time: Duration) -> Vec<twobox::takeover::Heard> {
    let end = clock::now() + time;
    let mut heard = Vec::new();
    while clock::now() < end {
        while let Some(frame) = takeover.receive(clock::now(), peer) {
            heard.extend(frame);
        }
        thread::sleep(MS(1));
    }
    heard
}

pub fn announce_all(takeover: &mut Takeover, time: Duration) {
    let end = clock::now() + time;
    while clock::now() < end {
        takeover.announce(clock::now());
        thread::sleep(MS(1));
    }
}
