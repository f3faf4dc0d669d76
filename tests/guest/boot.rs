//! A guest in QEMU: Debian's kernel, some of its modules, and a program of ours as its /init, which says line by line what it sees.
//!
//! Needs qemu-system-x86_64, apt-get and dpkg (for the kernel package), and the target x86_64-unknown-linux-musl; whoever boots is
//! told which is missing otherwise.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use twobox::clock;
use twobox::time::{Duration, Instant};

/// Longest wait for a line: an emulated boot on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// What is booted.
pub struct Machine<'a> {
    /// The example that is its /init.
    pub program: &'a str,
    /// Loaded by it, from its root directory.
    pub modules: &'a [&'a str],
    /// What QEMU is told besides.
    pub devices: &'a [&'a str],
    /// `guest.part=` on the kernel's command line.
    pub part: &'a str,
}

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
fn guest_program(example: &str) -> Result<PathBuf, String> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", example, "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target).current_dir(env!("CARGO_MANIFEST_DIR"));
    match output(&mut cargo) {
        Err(said) if said.contains("target may not be installed") => {
            Err(format!("the target {TARGET} is not installed"))
        }
        Err(said) => panic!("{said}"),
        Ok(_) => Ok(target.join(TARGET).join("debug/examples").join(example)),
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

fn initramfs(kernel: &Path, machine: &Machine) -> Result<Vec<u8>, String> {
    let mut archive = Vec::new();
    member(&mut archive, "dev", 0o040_755, (0, 0), &[]);
    member(&mut archive, "dev/console", 0o020_600, (5, 1), &[]);
    member(&mut archive, "dev/null", 0o020_666, (1, 3), &[]);
    let program = fs::read(guest_program(machine.program)?).map_err(|e| e.to_string())?;
    member(&mut archive, "init", 0o100_755, (0, 0), &program);
    for module in machine.modules {
        let module = format!("{module}.ko");
        let path = find(kernel, |name| name == module).ok_or(format!("the kernel package has no {module}"))?;
        member(&mut archive, &module, 0o100_644, (0, 0), &fs::read(path).map_err(|e| e.to_string())?);
    }
    member(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
    Ok(archive)
}

/// A running guest. Ends with the test.
pub struct Guest {
    qemu: Child,
    console: ChildStdin,
    lines: Receiver<(Instant, String)>,
    seen: Vec<String>,
}

impl Guest {
    pub fn boot(machine: &Machine) -> Result<Guest, String> {
        let kernel = kernel()?;
        let Machine { program, part, .. } = machine;
        let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{program}-{part}.cpio"));
        fs::write(&image, initramfs(&kernel, machine)?).map_err(|e| e.to_string())?;
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
        qemu.args(machine.devices);
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
    pub fn wait(&mut self, text: &str) -> (Instant, String) {
        let end = clock::now() + PATIENCE;
        while let Ok((at, line)) = self.lines.recv_timeout(end.until(clock::now())) {
            self.seen.push(line.clone());
            if line.contains("guest: ") && line.contains(text) {
                return (at, line);
            }
        }
        panic!("no {text:?} from the guest; it said: {:#?}", self.seen);
    }

    pub fn say(&mut self, word: &str) {
        writeln!(self.console, "{word}").expect("the guest's console is open");
    }

    /// Waits until the machine starts again: the firmware speaks first.
    pub fn reset(&mut self) -> Instant {
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
