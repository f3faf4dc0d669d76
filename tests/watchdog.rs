//! The watchdog room against a real driver: a guest in QEMU with an i6300esb, Debian's kernel, and `tests/guest/watchdog.rs` as
//! its /init. Judged from outside: by the guest's lines on its serial console, stamped as they arrive, and by its resets.
//!
//! Needs qemu-system-x86_64, apt-get and dpkg (for the kernel package), and the target x86_64-unknown-linux-musl; says SKIPPED
//! and which is missing otherwise. The guest is emulated: times are checked with generous limits, and printed.

#![allow(clippy::disallowed_methods)] // a test starts programs, sleeps and reads the clock

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use twobox::clock;
use twobox::time::{Duration, Instant};

/// One guest at a time: emulation needs a core of its own.
static ONE: Mutex<()> = Mutex::new(());

/// Longest wait for a line: an emulated boot on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);
const TIMEOUT: Duration = Duration::from_secs(2);
/// Two firings of a watchdog of 2 s (2.01 s measured), and the lateness of an emulated machine.
const TWICE: Duration = Duration::from_millis(2 * 2_010 + 1_500);

fn output(command: &mut Command) -> Result<String, String> {
    let name = format!("{command:?}");
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Debian's kernel, unpacked; fetched once.
fn kernel() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel");
    if !root.join("complete").exists() {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).map_err(|e| e.to_string())?;
        let depends = output(Command::new("apt-cache").args(["depends", "linux-image-amd64"]))?;
        let package = depends
            .split_whitespace()
            .find(|w| w.starts_with("linux-image-") && w.ends_with("-amd64") && *w != "linux-image-amd64");
        let package = package.ok_or("linux-image-amd64 depends on no kernel package")?;
        output(Command::new("apt-get").args(["-q", "download", package]).current_dir(&root))?;
        let archive = find(&root, |name| name.ends_with(".deb")).ok_or("apt-get left no package")?;
        output(Command::new("dpkg").arg("-x").arg(&archive).arg(&root))?;
        fs::remove_file(archive).map_err(|e| e.to_string())?;
        fs::write(root.join("complete"), "").map_err(|e| e.to_string())?;
    }
    Ok(root)
}

/// The first file below `root` whose name fits.
fn find(root: &Path, fits: impl Fn(&str) -> bool + Copy) -> Option<PathBuf> {
    let entries = fs::read_dir(root).ok()?;
    entries.flatten().map(|e| e.path()).find_map(|path| {
        let name = path.file_name()?.to_str()?;
        if path.is_dir() && !path.is_symlink() { find(&path, fits) } else { fits(name).then(|| path.clone()) }
    })
}

/// The guest's program, static. Does not come back if it does not compile.
fn guest_program() -> Result<PathBuf, String> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", "watchdog-guest", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target).current_dir(env!("CARGO_MANIFEST_DIR"));
    match output(&mut cargo) {
        Err(said) if said.contains("target may not be installed") => {
            Err(format!("the target {TARGET} is not installed"))
        }
        Err(said) => panic!("{said}"),
        Ok(_) => Ok(target.join(TARGET).join("debug/examples/watchdog-guest")),
    }
}

/// One member of a cpio archive of format "newc".
fn member(archive: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
    let (length, name_length) = (content.len(), name.len() + 1);
    let (major, minor) = device;
    let header = format!(
        "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{length:08x}{:08x}{:08x}{major:08x}{minor:08x}{name_length:08x}{:08x}",
        0, 0, 0, 1, 0, 0, 0, 0
    );
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fn initramfs(kernel: &Path) -> Result<Vec<u8>, String> {
    let mut archive = Vec::new();
    member(&mut archive, "dev", 0o040_755, (0, 0), &[]);
    member(&mut archive, "dev/console", 0o020_600, (5, 1), &[]);
    member(&mut archive, "dev/null", 0o020_666, (1, 3), &[]);
    member(&mut archive, "init", 0o100_755, (0, 0), &fs::read(guest_program()?).map_err(|e| e.to_string())?);
    for module in [
        "watchdog.ko",
        "i6300esb.ko",
        "ib700wdt.ko",
        "lpc_ich.ko",
        "iTCO_vendor_support.ko",
        "intel_pmc_bxt.ko",
        "iTCO_wdt.ko",
    ] {
        let path = find(kernel, |name| name == module).ok_or(format!("the kernel package has no {module}"))?;
        member(&mut archive, module, 0o100_644, (0, 0), &fs::read(path).map_err(|e| e.to_string())?);
    }
    member(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
    Ok(archive)
}

/// A running guest. Ends with the test.
struct Guest {
    qemu: Child,
    console: ChildStdin,
    lines: Receiver<(Instant, String)>,
    seen: Vec<String>,
}

impl Guest {
    fn boot(part: &str) -> Result<Guest, String> {
        let kernel = kernel()?;
        let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("watchdog-{part}.cpio"));
        fs::write(&image, initramfs(&kernel)?).map_err(|e| e.to_string())?;
        let vmlinuz = find(&kernel, |name| name.starts_with("vmlinuz-")).ok_or("the kernel package has no kernel")?;
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-M",
            "q35,graphics=off",
            "-accel",
            "tcg",
            "-m",
            "256",
            "-display",
            "none",
            "-nodefaults",
            "-serial",
            "stdio",
        ]);
        match part {
            "minute" => qemu.args(["-device", "ib700"]),
            // That of the chip set, which a strap may forbid to reset.
            "chipset" => qemu.args(["-global", "ICH9-LPC.noreboot=false"]),
            _ => qemu.args(["-device", "i6300esb"]),
        };
        qemu.args(["-action", "watchdog=reset", "-kernel"]).arg(vmlinuz);
        qemu.arg("-initrd").arg(image).arg("-append");
        qemu.arg(format!("console=ttyS0 loglevel=3 panic=1 tsc=unstable guest.part={part}"));
        let mut qemu = qemu
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("qemu-system-x86_64: {e}"))?;
        let console = qemu.stdin.take().expect("it was piped");
        let from = BufReader::new(qemu.stdout.take().expect("it was piped"));
        let (to, lines) = channel();
        thread::spawn(move || {
            for line in from.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                if to.send((clock::now(), line)).is_err() {
                    break;
                }
            }
        });
        Ok(Guest { qemu, console, lines, seen: Vec::new() })
    }

    /// Waits for the next line of the guest that holds `text`.
    fn wait(&mut self, text: &str) -> (Instant, String) {
        let end = clock::now() + PATIENCE;
        while let Ok((at, line)) = self.lines.recv_timeout(end.until(clock::now())) {
            self.seen.push(line.clone());
            if line.contains("guest: ") && line.contains(text) {
                return (at, line);
            }
        }
        panic!("no {text:?} from the guest; it said: {:#?}", self.seen);
    }

    fn say(&mut self, word: &str) {
        writeln!(self.console, "{word}").expect("the guest's console is open");
    }

    /// Waits until the machine starts again: the firmware speaks first.
    fn reset(&mut self) -> Instant {
        let end = clock::now() + PATIENCE;
        while let Ok((at, line)) = self.lines.recv_timeout(end.until(clock::now())) {
            self.seen.push(line.clone());
            if line.contains("SeaBIOS") {
                return at;
            }
        }
        panic!("no reset; the guest said: {:#?}", self.seen);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

#[test]
fn a_starved_watchdog_resets_the_box_and_the_next_boot_knows() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match Guest::boot("starve") {
        Ok(guest) => guest,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    // Armed, read back, no reset of its own before, a real one.
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("i6300ESB timer") && armed.contains("timeout 2000 ms"), "{armed}");
    assert!(armed.contains("reset by watchdog: false, weakness: None"), "{armed}");
    // Fed for four seconds, twice the timeout, it does nothing.
    let (last_feed, _) = guest.wait("last feed");
    // Starved, it resets.
    guest.wait("what next");
    guest.say("starve");
    let reset = guest.reset();
    let starved = reset.since(last_feed);
    println!("reset {} ms after the last feed, timeout {} ms", starved.as_millis(), TIMEOUT.as_millis());
    assert!(starved >= TIMEOUT - Duration::from_millis(100) && starved < TWICE, "{starved:?}");
    // The next boot knows why; an ordered reset is told apart from it.
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("reset by watchdog: true"), "{armed}");
    let (ordered, _) = guest.wait("ordering a reset");
    println!("ordered reset after {} ms", guest.reset().since(ordered).as_millis());
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("reset by watchdog: false"), "{armed}");
    // Disarmed on purpose, it lets the box live; and this older kernel refuses late renewals of addresses, too.
    guest.wait("what next");
    guest.say("disarm");
    for address in ["192.0.2.10", "2001:db8::10"] {
        let (_, renewal) = guest.wait(address);
        assert!(renewal.contains("Err(NotFound) true true true Some(8)"), "{renewal}");
    }
    guest.wait("alive after disarming");
}

/// ib700wdt knows at most 30 s. A boot that gave up its minute would leave it armed, unfed, and the box in a loop of resets.
#[test]
fn a_driver_that_knows_no_minute_is_armed_with_less_while_booting() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match Guest::boot("minute") {
        Ok(guest) => guest,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("IB700") && armed.contains("timeout 30000 ms"), "{armed}");
    guest.wait("fed");
}

/// iTCO_wdt, the watchdog of most Intel boards, refuses the two seconds that are the default. A daemon that gave it up would
/// leave it armed by the boot, and unfed: a reset every minute.
#[test]
fn a_driver_that_refuses_the_time_out_is_armed_with_more_and_is_no_belt() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match Guest::boot("chipset") {
        Ok(guest) => guest,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("iTCO_wdt") && armed.contains("timeout 3000 ms"), "{armed}");
    assert!(armed.contains("weakness: Some(Slower)"), "{armed}");
    guest.wait("fed");
}

#[test]
fn a_stop_between_look_and_feed_delays_the_reset_by_less_than_one_timeout() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match Guest::boot("late") {
        Ok(guest) => guest,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    // The right ends right after the look, at the worst.
    let (looked, _) = guest.wait("looked");
    let (_, fed) = guest.wait("fed after");
    assert!(fed.contains("late: true"), "four fifths of the timeout is late: {fed}");
    guest.wait("the right is over");
    let reset = guest.reset().since(looked);
    println!("reset {} ms after the look", reset.as_millis());
    assert!(reset > TIMEOUT && reset < TWICE, "{reset:?}");
}
