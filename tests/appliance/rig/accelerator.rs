//! KVM where it is seen to work, else emulation. That /dev/kvm opens says little: inside some virtual machines it runs a
//! boot sector and no kernel.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::images::Images;
use super::timeline::Timeline;

/// QEMU's name of the accelerator to use.
pub fn choose(images: &Images, timeline: &Timeline) -> &'static str {
    let (name, why) = if !Path::new("/dev/kvm").exists() {
        ("tcg", "no /dev/kvm")
    } else if !runs_a_boot_sector() {
        ("tcg", "KVM does not run a guest here")
    } else if !reaches_init(images) {
        ("tcg", "KVM does not run a kernel here")
    } else {
        ("kvm", "seen to work")
    };
    let shown = if name == "kvm" { "KVM" } else { "none, emulating" };
    timeline.add("rig", format!("accelerator: {shown} ({why})"));
    name
}

/// Tells within two seconds where KVM is broken altogether.
#[allow(clippy::disallowed_methods)] // runs QEMU
fn runs_a_boot_sector() -> bool {
    // It tells QEMU to end: mov dx, 0xf4; mov al, 0; out dx, al; hlt.
    const CODE: &[u8] = &[0xba, 0xf4, 0x00, 0xb0, 0x00, 0xee, 0xf4];
    let mut sector = CODE.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let path = std::env::temp_dir().join(format!("twobox-kvm-{}", std::process::id()));
    std::fs::write(&path, sector).expect("a boot sector");
    let tried = Command::new("timeout")
        .args(["2", "qemu-system-x86_64", "-accel", "kvm", "-nodefaults", "-display", "none", "-m", "16"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-drive"])
        .arg(format!("file={},format=raw,if=ide", path.display()))
        .output();
    let _ = std::fs::remove_file(&path);
    // isa-debug-exit ends QEMU with 2 * value + 1.
    tried.is_ok_and(|tried| tried.status.code() == Some(1) && tried.stderr.is_empty())
}

/// Whether the boxes' own kernel comes so far that /init says something on the console. With working KVM that is a
/// second; what takes longer than the limit is no faster than emulation.
#[allow(clippy::disallowed_methods)] // runs QEMU
fn reaches_init(images: &Images) -> bool {
    const LIMIT: Duration = Duration::from_secs(6);
    let mut qemu = Command::new("timeout");
    qemu.args([&LIMIT.as_secs().to_string(), "qemu-system-x86_64", "-accel", "kvm", "-nodefaults", "-no-user-config"]);
    qemu.args(["-display", "none", "-M", "pc", "-m", "192", "-serial", "stdio", "-serial", "null", "-no-reboot"]);
    qemu.arg("-kernel").arg(&images.vmlinux).arg("-initrd").arg(&images.initramfs);
    qemu.args(["-append", &images.command_line]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut qemu) = qemu.spawn() else { return false };
    let mut first = [0];
    let said = qemu.stdout.take().is_some_and(|mut console| console.read_exact(&mut first).is_ok());
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(qemu.id()).expect("a process id")),
        nix::sys::signal::Signal::SIGTERM, // `timeout` hands it on
    );
    let _ = qemu.wait();
    said
}
