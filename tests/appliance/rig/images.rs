//! What the boxes boot: made by flash.sh once, and again when something it is made of has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../pair/shipped.rs"]
mod shipped;

/// A pair's disks and what a machine needs that loads the kernel itself.
pub struct Images {
    /// Disks of a and b, never booted: each rig works on copies.
    pub disks: [PathBuf; 2],
    /// Folder of the unpacked kernel package.
    pub kernel: PathBuf,
    /// Uncompressed kernel.
    pub vmlinux: PathBuf,
    /// The image with /init.
    pub initramfs: PathBuf,
    /// The board's kernel command line.
    pub command_line: String,
    /// What the boot loader would say of the image in the first slot.
    pub slot: String,
    /// The page that the service serves.
    pub page: Vec<u8>,
}

/// The program whose box is tested, and the packer, from TWOBOX_PROGRAM and TWOBOX_PACKER or from the usual place.
pub fn programs(root: &Path) -> [(&'static str, PathBuf); 2] {
    let built = shipped::folder(root);
    [("TWOBOX_PROGRAM", "twobox"), ("TWOBOX_PACKER", "pack-initramfs")]
        .map(|(variable, name)| (variable, std::env::var_os(variable).map_or_else(|| built.join(name), PathBuf::from)))
}

/// Builds both, unless both are given.
fn build(root: &Path) {
    if programs(root).iter().any(|(variable, _)| std::env::var_os(variable).is_none()) {
        shipped::build(root);
    }
}

/// Makes the images of `board`, or takes those that are there and still right.
#[allow(clippy::disallowed_methods)] // runs flash.sh
pub fn make(root: &Path, board: &str, site: &Path) -> Images {
    let cache = root.join("target/appliance");
    let output = cache.join(format!("pair-{board}"));
    build(root);
    let [(_, program), (variable, packer)] = programs(root);
    for (variable, file) in programs(root) {
        assert!(file.exists(), "{} is missing: unset {variable}, and it is built", file.display());
    }
    let kernel = fetch_kernel(root);
    let mut data = furnish_data(root, &cache, &kernel);
    if board == "qemu-q35-uefi" {
        data = add_updates(root, &cache, &data, board, &program, &packer);
    }
    let inputs = [program.clone(), packer.clone(), site.to_owned(), root.join("flash.sh")];
    let of_data =
        ["web/var/www/index.html", "bin/spin", "bin/spin-a-while", "bin/oops.ko", "bin/agent.sh", "mail/letter"]
            .map(|name| data.join(name));
    let board_file = root.join("board").join(board).join("board.toml");
    let inputs = inputs.into_iter().chain(of_data).chain([board_file]);
    // Not only newer files but others: a program that was given may be older than the images, and another one.
    let look = |path: PathBuf| {
        let data = fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        format!("{} {} {:?}\n", path.display(), data.len(), data.modified().expect("a file system with times"))
    };
    let made_of: String = inputs.map(look).collect();
    let stamp = output.join("made-of");
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&made_of) {
        let _ = fs::remove_dir_all(&output);
        let made = Command::new(root.join("flash.sh"))
            .args(["pair", "--board", board, "--data-size", "96", "--site"])
            .arg(site)
            .arg("--program")
            .arg(&program)
            .arg("--output")
            .arg(&output)
            .arg("--data")
            .arg(&data)
            .env(variable, &packer)
            .output()
            .expect("flash.sh runs");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "flash.sh pair: {said}{}", String::from_utf8_lossy(&made.stdout));
        fs::write(&stamp, &made_of).expect("a note of what the images are made of");
    }
    Images {
        disks: ["a.img", "b.img"].map(|name| output.join(name)),
        vmlinux: unpack_kernel(&kernel, &cache),
        kernel,
        initramfs: output.join("initramfs"),
        command_line: fs::read_to_string(output.join("command-line")).expect("the command line").trim().to_owned(),
        slot: word_of(&fs::read(output.join("update.efi")).expect("the image"), b"twobox.image="),
        page: fs::read(data.join("web/var/www/index.html")).expect("the page"),
    }
}

/// Debian's kernel package, unpacked.
#[allow(clippy::disallowed_methods)] // runs flash.sh
fn fetch_kernel(root: &Path) -> PathBuf {
    let done = Command::new(root.join("flash.sh")).arg("kernel").output().expect("flash.sh runs");
    assert!(done.status.success(), "flash.sh kernel: {}", String::from_utf8_lossy(&done.stderr));
    PathBuf::from(String::from_utf8_lossy(&done.stdout).trim())
}

/// The folder of the kernel's modules: below usr/ in packages of Debian 13 and later.
pub fn modules(kernel: &Path) -> PathBuf {
    let version = |folder: &str| fs::read_dir(kernel.join(folder)).ok()?.flatten().next();
    let found = version("lib/modules").or_else(|| version("usr/lib/modules"));
    found.unwrap_or_else(|| panic!("{}: no lib/modules/VERSION in it", kernel.display())).path()
}

/// A module's bytes, which Debian 13 and later compress.
#[allow(clippy::disallowed_methods)] // runs xz
fn read_module(path: &Path) -> Vec<u8> {
    if path.exists() {
        return fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let packed = format!("{}.xz", path.display());
    let done = Command::new("xz").arg("-dc").arg(&packed).output().expect("xz is installed");
    assert!(done.status.success(), "{packed}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// The word of a unified kernel image's command line that begins so.
fn word_of(image: &[u8], begin: &[u8]) -> String {
    let at = image.windows(begin.len()).position(|bytes| bytes == begin).expect("the image's own name");
    let word: Vec<u8> = image[at..].iter().copied().take_while(u8::is_ascii_graphic).collect();
    String::from_utf8(word).expect("ASCII")
}

/// The data partition of the tests: the service's root, and Debian's static busybox as the rig's shell.
#[allow(clippy::disallowed_methods)] // fetches a package
fn furnish_data(root: &Path, cache: &Path, kernel: &Path) -> PathBuf {
    let data = cache.join("data");
    let busybox = data.join("bin/busybox");
    if !busybox.exists() {
        let package = cache.join("busybox-static");
        fs::create_dir_all(&package).expect("a folder");
        let fetch = "apt-get download -qq busybox-static && dpkg -x ./*.deb .";
        let fetched = Command::new("sh").args(["-c", fetch]).current_dir(&package).output().expect("a shell");
        assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
        fs::create_dir_all(data.join("bin")).expect("a folder");
        let unpacked =
            ["bin/busybox", "usr/bin/busybox"].map(|place| package.join(place)).into_iter().find(|file| file.exists());
        fs::copy(unpacked.expect("busybox in its package"), &busybox).expect("busybox");
    }
    write_changed(&data.join("bin/spin"), &super::ruin::spinner());
    write_changed(&data.join("bin/spin-a-while"), &super::ruin::spinner_for_a_while());
    let table = modules(kernel).join("kernel/fs/nls/nls_koi8-r.ko");
    let stumbles = super::ruin::stumbling_module(read_module(&table));
    write_changed(&data.join("bin/oops.ko"), &stumbles);
    write_changed(&data.join("bin/agent.sh"), &fs::read(root.join("tests/appliance/agent.sh")).expect("the agent"));
    fs::create_dir_all(data.join("mail")).expect("a folder");
    write_changed(&data.join("mail/letter"), b"from the factory\n");
    furnish_web_root(root, cache, &data.join("web"));
    for program in ["spin", "spin-a-while", "agent.sh"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(data.join("bin").join(program), mode).expect("a mode");
    }
    data
}

/// Writes a file unless it is so already: its time says when it changed.
fn write_changed(path: &Path, bytes: &[u8]) {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return;
    }
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The same data with images for `twobox update` in it: two that differ in a word of the command line, one whose /init ends
/// at once, one that has no driver for the boot partition, and one that has none for the watchdog.
#[allow(clippy::disallowed_methods)] // runs flash.sh
fn add_updates(root: &Path, cache: &Path, plain: &Path, board: &str, program: &Path, packer: &Path) -> PathBuf {
    let data = cache.join(format!("data-{board}"));
    let _ = fs::remove_dir_all(&data);
    let copied = Command::new("cp").arg("-a").args([plain, &data]).status().expect("cp");
    assert!(copied.success());
    let no_init = cache.join("no-init");
    fs::write(&no_init, super::ruin::quitter()).expect("a program");
    fs::set_permissions(&no_init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let names = [("good", program), ("again", program), ("bad", &no_init), ("blind", program), ("unwatched", program)];
    for (name, program) in names {
        let changed = cache.join(format!("board-{name}"));
        fs::create_dir_all(&changed).expect("a folder");
        let text = fs::read_to_string(root.join("board").join(board).join("board.toml")).expect("the board");
        let text = text.replace("kernel-command-line = \"", &format!("kernel-command-line = \"rig.image={name} "));
        let text = match name {
            "blind" => text.replace("\"vfat\",", ""),
            "unwatched" => text.replace("\"i6300esb\",", ""),
            _ => text,
        };
        fs::write(changed.join("board.toml"), text).expect("a board");
        let made = Command::new(root.join("flash.sh"))
            .arg("update")
            .arg("--board")
            .arg(&changed)
            .arg("--program")
            .arg(program)
            .arg("--output")
            .arg(data.join(format!("{name}.efi")))
            .env("TWOBOX_PACKER", packer)
            .output()
            .expect("flash.sh runs");
        assert!(made.status.success(), "flash.sh update: {}", String::from_utf8_lossy(&made.stderr));
    }
    data
}

/// The service's root with Debian's nginx.
#[allow(clippy::disallowed_methods)] // runs the script that makes it
fn furnish_web_root(root: &Path, cache: &Path, web: &Path) {
    let script = root.join("tests/appliance/make-web-root.sh");
    let made = |path: &Path| fs::metadata(path).and_then(|m| m.modified());
    if made(&web.join("var/www/index.html")).is_ok_and(|at| at > made(&script).expect("the script")) {
        return;
    }
    let done = Command::new(script).arg(web).arg(cache.join("nginx-packages")).output().expect("a shell");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The uncompressed kernel out of Debian's compressed one: QEMU boots it by PVH in half the time. The setup header tells
/// where the payload lies (kernel Documentation/arch/x86/boot.rst, `payload_offset` and `payload_length`).
#[allow(clippy::disallowed_methods)] // runs xz
fn unpack_kernel(kernel: &Path, cache: &Path) -> PathBuf {
    let boot = fs::read_dir(kernel.join("boot")).expect("the kernel's folder");
    let packed = boot.flatten().map(|e| e.path()).find(|p| p.to_string_lossy().contains("vmlinuz-")).expect("a kernel");
    let unpacked = cache.join(packed.file_name().unwrap().to_string_lossy().replace("vmlinuz", "vmlinux"));
    if unpacked.exists() {
        return unpacked;
    }
    let image = fs::read(&packed).expect("the kernel");
    let number = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
    let start = (usize::from(image[0x1f1]) + 1) * 512 + number(0x248);
    let payload = &image[start..start + number(0x24c)];
    let unpacker = match payload {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz -dc --single-stream",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd -dc",
        [0x1f, 0x8b, ..] => "gzip -dc",
        _ => panic!("{}: packed in a way that is not known here", packed.display()),
    };
    // The last four bytes are the unpacked size, which is no part of the stream.
    let raw = cache.join("payload");
    fs::write(&raw, &payload[..payload.len() - 4]).expect("the payload");
    let script = format!("{unpacker} <'{}' >'{}.new'", raw.display(), unpacked.display());
    let done = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    fs::rename(format!("{}.new", unpacked.display()), &unpacked).expect("the kernel");
    fs::remove_file(raw).expect("the payload");
    unpacked
}
