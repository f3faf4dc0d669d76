//! Power loss: in one moment the LAN is dead and the program with it.

use std::sync::Barrier;
use std::thread;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use twobox::netlink::Socket;
use twobox::takeover::interface;

use crate::rig::Rig;
use crate::rig::wire::enter;

/// What dies.
#[derive(Clone, Copy, Debug)]
pub enum Dies {
    /// One process.
    Process(Pid),
    /// A process group.
    Group(Pid),
}

/// Cuts the box off at the bridge's end, where it takes effect at once, kills its program in the same moment, then takes
/// the crossover down.
pub fn cut(rig: &Rig, node: &str, dies: Dies) {
    rig.null_modem.set(|_| false);
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            enter(&rig.name, "lan");
            let mut socket = Socket::open().unwrap();
            let port = interface::find(&mut socket, node).unwrap();
            ready.wait();
            interface::set_up(&mut socket, port.index, false).unwrap();
        });
        ready.wait();
        match dies {
            Dies::Process(pid) => kill(pid, Signal::SIGKILL),
            Dies::Group(pid) => killpg(pid, Signal::SIGKILL),
        }
        .unwrap();
    });
    rig.ip(node, "link set cross down");
}

/// The cables work again.
pub fn mend(rig: &Rig, node: &str) {
    rig.null_modem.set(|_| true);
    rig.ip("lan", &format!("link set dev {node} up"));
    rig.ip(node, "link set cross up");
}
