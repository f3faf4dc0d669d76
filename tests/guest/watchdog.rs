//! The /init of the guest of `tests/watchdog.rs`: arms a real watchdog driver and says what it sees, line by line.
//!
//! Which part it plays comes from the kernel command line (`guest.part=`), from the watchdog's boot status, and from a word
//! on the console. The test outside watches the lines and the resets; nothing is judged here.

#![allow(clippy::disallowed_methods)] // a test program: it sleeps and starts a process of its own

use std::ffi::CString;
use std::fs::{self, File};
use std::thread::sleep;

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, fork};
use twobox::clock;
use twobox::fence::reset::Reset;
use twobox::fence::watchdog::{Settings, Watchdog};
use twobox::netlink::Socket;
use twobox::takeover::address::{self, ServiceAddress};
use twobox::takeover::interface;
use twobox::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);
const FEED: Duration = Duration::from_millis(500);

fn main() {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(at).expect("the initramfs can be written");
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>).expect("the kernel has this file system");
    }
    let line = fs::read_to_string("/proc/cmdline").expect("/proc is mounted");
    let part = line.split_whitespace().find_map(|w| w.strip_prefix("guest.part="));
    let modules: &[&str] = match part {
        Some("minute") => &["watchdog", "ib700wdt"],
        Some("chipset") => &["watchdog", "lpc_ich", "iTCO_vendor_support", "intel_pmc_bxt", "iTCO_wdt"],
        _ => &["watchdog", "i6300esb"],
    };
    for module in modules {
        let file = File::open(format!("/{module}.ko")).expect("the module is in the initramfs");
        finit_module(file, &CString::default(), ModuleInitFlags::empty()).expect("the module fits the kernel");
    }
    match part {
        Some("starve") => starve(),
        Some("late") => late(),
        Some("minute") => minute(),
        Some("chipset") => chipset(),
        part => println!("guest: no such part: {part:?}"),
    }
    idle();
}

fn arm(nowayout: bool) -> Watchdog {
    let device = "/dev/watchdog0".into();
    let watchdog = Watchdog::arm(&Settings { device, timeout: TIMEOUT, nowayout }, clock::now()).expect("it arms");
    say_armed(&watchdog);
    watchdog
}

fn say_armed(watchdog: &Watchdog) {
    println!(
        "guest: armed {:?} timeout {} ms, reset by watchdog: {}, weakness: {:?}",
        watchdog.identity(),
        watchdog.timeout().as_millis(),
        watchdog.reset_by_watchdog(),
        watchdog.weakness()
    );
}

/// The daemon's way to arm one that may know no such time-out.
fn chipset() {
    let settings = Settings { device: "/dev/watchdog0".into(), timeout: TIMEOUT, nowayout: false };
    let mut watchdog = Watchdog::arm_at_least(&settings, clock::now()).expect("it arms");
    say_armed(&watchdog);
    feed(&mut watchdog);
}

/// The boot's own way to arm it.
fn minute() {
    let mut watchdog = twobox::init::boot::arm("/dev/watchdog".as_ref()).expect("it arms");
    say_armed(&watchdog);
    feed(&mut watchdog);
}

fn feed(watchdog: &mut Watchdog) {
    let fed = watchdog.feed(clock::now()).expect("the driver feeds");
    println!("guest: fed after {} ms, late: {}", fed.after.as_millis(), fed.late);
}

/// First boot: feed, then starve. Second boot, after the watchdog's reset: an ordered reset. Third: disarm and live.
fn starve() {
    // Opening it arms it; a watchdog that did the last reset says so.
    let mut watchdog = arm(false);
    if watchdog.reset_by_watchdog() {
        println!("guest: ordering a reset");
        let error = Reset::arm().now().expect_err("a reset does not return");
        println!("guest: still here: {error}");
        return;
    }
    for _ in 0..8 {
        sleep(FEED);
        feed(&mut watchdog);
    }
    println!("guest: last feed");
    // The outside counts the boots: only it knows whether this is the first or the third.
    match ask_outside().as_str() {
        "disarm" => {
            watchdog.disarm().expect("it may be disarmed");
            sleep(TIMEOUT * 2);
            late_renewals();
            println!("guest: alive after disarming");
        }
        _ => idle(),
    }
}

/// One line from the serial console.
fn ask_outside() -> String {
    let mut line = String::new();
    println!("guest: what next?");
    std::io::stdin().read_line(&mut line).map_or_else(|e| e.to_string(), |_| line.trim().to_owned())
}

/// A process that has the right looks, is stopped between look and feed, and goes on when the right is long over.
fn late() {
    // SAFETY: this program has one thread.
    #[allow(unsafe_code)]
    let forked = unsafe { fork() }.expect("a process can be made");
    match forked {
        ForkResult::Child => {
            let mut watchdog = arm(true);
            feed(&mut watchdog);
            // The failpoint: the right was looked at and was valid; now the process is stopped.
            println!("guest: looked");
            raise(Signal::SIGSTOP).expect("a process can stop itself");
            feed(&mut watchdog);
            println!("guest: the right is over, no more feeding");
            idle();
        }
        ForkResult::Parent { child } => {
            waitpid(child, Some(WaitPidFlag::WUNTRACED)).expect("the child stops");
            sleep(TIMEOUT * 4 / 5);
            kill(child, Signal::SIGCONT).expect("the child is there");
        }
    }
}

/// This kernel, too, refuses to renew an address that is not there.
fn late_renewals() {
    let mut socket = Socket::open().expect("a routing socket");
    let index = interface::find(&mut socket, "lo").expect("a loopback").index;
    interface::set_up(&mut socket, index, true).expect("it comes up");
    for (text, prefix) in [("192.0.2.10", 24), ("2001:db8::10", 64)] {
        let service = ServiceAddress { ip: text.parse().expect("an address"), prefix };
        let refused = address::renew(&mut socket, index, service, true, TIMEOUT).map_err(|e| e.kind());
        let absent = address::assigned(&mut socket, &[service]).expect("a dump").is_empty();
        let added = address::add(&mut socket, index, service, true, TIMEOUT).is_ok();
        let renewed = address::renew(&mut socket, index, service, true, TIMEOUT * 4).is_ok();
        let valid = address::assigned(&mut socket, &[service]).expect("a dump")[0].valid;
        println!("guest: renewal of {text}: {refused:?} {absent} {added} {renewed} {valid:?}");
    }
}

fn idle() -> ! {
    loop {
        sleep(Duration::from_secs(1));
    }
}
