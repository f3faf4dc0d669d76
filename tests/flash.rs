//! flash.sh where it could do harm: what it writes to, what it refuses, and that it looks before it makes anything.
#![allow(clippy::disallowed_methods)] // runs flash.sh

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "appliance/rig/ruin.rs"]
#[allow(dead_code)] // of its programs, one: a static one is needed, and twobox takes minutes to build
mod ruin;

fn flash(words: &[&str], answer: &str) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("flash.sh");
    let mut child = Command::new(script)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("flash.sh runs");
    // It may have refused before it asked.
    let _ = child.stdin.take().expect("its input").write_all(answer.as_bytes());
    let done = child.wait_with_output().expect("flash.sh");
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (done.status.success(), said)
}

/// lsblk to which every disk is free.
const BLIND: &str = "#!/bin/sh\ncase \"$*\" in -dno*) echo disk ;; *TYPE*) echo 'x disk' ;; *) echo x ;; esac\n";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("twobox-flash-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A command that stands before the real one of that name, in `bin`.
    fn command(&self, name: &str, script: &str) {
        fs::create_dir_all(self.0.join("bin")).unwrap();
        let path = self.0.join("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// What flash.sh takes for the image of a disk.
    fn image(&self, bytes: Vec<u8>) -> String {
        let mut bytes = bytes;
        bytes[512..520].copy_from_slice(b"EFI PART");
        self.file("image", &bytes)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_disk_is_written_only_when_its_name_is_typed_and_is_read_back() {
    let folder = Folder::new("write");
    let source = folder.image((0..3_000_000u32).map(|n| (n % 251) as u8).collect());
    let image = fs::read(&source).unwrap();
    let disk = folder.file("disk", &vec![0; 4_000_000]);
    for answer in ["", "yes\n", "/dev/sda\n"] {
        let (done, said) = flash(&["write", &source, &disk], answer);
        assert!(!done && said.contains("nothing was written"), "{said}");
        assert!(fs::read(&disk).unwrap().iter().all(|byte| *byte == 0));
    }
    let (done, said) = flash(&["write", &source, &disk], &format!("{disk}\n"));
    assert!(done && said.contains(&format!("{disk} holds {source}")), "{said}");
    let written = fs::read(&disk).unwrap();
    assert!(written.len() == 4_000_000 && written.starts_with(&image));
    assert!(flash(&["verify", &source, &disk], "").0);
    let mut damaged = written;
    damaged[2_999_999] ^= 1;
    fs::write(&disk, damaged).unwrap();
    let (done, said) = flash(&["verify", &source, &disk], "");
    assert!(!done && said.contains("does not hold"), "{said}");
}

/// A limit on the size of files stands for a stick that is pulled out, or a ctrl-C.
#[test]
fn a_disk_that_was_written_half_starts_nowhere() {
    let folder = Folder::new("half");
    let source = folder.image(vec![0xee; 3 << 20]);
    let disk = folder.file("disk", &vec![0xdd; 4 << 20]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("flash.sh");
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -f 4096; exec \"$0\" \"$@\""]) // blocks of 512 bytes
        .arg(script)
        .args(["write", &source, &disk])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{disk}\n").as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("is not written whole and starts nowhere"), "{said}");
    let left = fs::read(&disk).unwrap();
    assert!(left[..1 << 20].iter().all(|byte| *byte == 0), "its partition table is there");
    assert_eq!((left[(1 << 20) + 1], left[(3 << 20) - 1]), (0xee, 0xdd), "half of it was written");
    assert!(flash(&["write", &source, &disk], &format!("{disk}\n")).0, "and it can be written again");
}

/// A disk that lsblk takes for free and the kernel does not, as one of several that make a file system. Here lsblk is not the
/// real one.
#[test]
fn a_disk_that_the_kernel_holds_is_refused_whatever_lsblk_says() {
    let folder = Folder::new("held");
    let source = folder.image(vec![0xee; 2 << 20]);
    fs::create_dir_all(folder.0.join("mounted")).unwrap();
    folder.command("lsblk", BLIND);
    // A mount name space of its own: what is mounted in it, and its loop device, go with it.
    let words = "cd \"$1\" && truncate -s 16M disk && mkfs.ext4 -q disk && device=$(losetup -rfP --show disk) || exit 77\n\
                 mount -o ro \"$device\" mounted || { losetup -d \"$device\"; exit 77; }\n\
                 losetup -d \"$device\" # as soon as it is not mounted any more\n\
                 PATH=$1/bin:$PATH; echo \"$device\" | \"$2\" write \"$3\" \"$device\"";
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("flash.sh");
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-c", words, "sh"]).arg(&folder.0).arg(script).arg(&source);
    shell.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
    let done = shell.output().unwrap();
    let said = [&done.stdout[..], &done.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    if done.status.code() == Some(77) || said.contains("unshare failed") {
        return eprintln!("SKIPPED: nothing can be mounted here: {said}");
    }
    assert!(!done.status.success() && said.contains("is in use") && !said.contains("Type"), "{said}");
}

const SITE: &str = "[pair]\nname = \"spaces\"\nkey-file = \"/etc/twobox/pair.key\"\n[node.a]\nlan = \"192.0.2.2/24\"\n\
                    [node.b]\nlan = \"192.0.2.3/24\"\n[[witness]]\nip = \"192.0.2.1\"\n";

/// Everything that a pair's disks are made of, below a folder with spaces in its name.
struct Ingredients(Folder);

impl Ingredients {
    fn new(name: &str) -> Ingredients {
        let all = Ingredients(Folder::new(&format!("with some spaces {name}")));
        for name in ["a board", "a kernel/boot", "a kernel/lib/modules/6.1/kernel", "data of mine", "work here"] {
            fs::create_dir_all(all.place(name)).unwrap();
        }
        all.put("a kernel/boot/vmlinuz-6.1", &[1; 100_000]);
        all.put("a kernel/lib/modules/6.1/modules.builtin", b"");
        all.put("data of mine/a letter", b"text");
        all.put("a program", &ruin::quitter());
        fs::set_permissions(all.place("a program"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let board = "name = \"spaces\"\nkernel-command-line = \"panic=1\"\n[interface.lan]\nposition = 1\n\
                     [storage]\nstate = \"PARTLABEL=twobox-state\"\n";
        all.put("a board/board.toml", board.as_bytes());
        all.put("the site.toml", SITE.as_bytes());
        all
    }

    fn place(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.place(name), bytes).unwrap();
    }

    /// `flash.sh pair` of all that; `change` may say it otherwise. `None`: a package cannot be fetched here.
    fn pair(&self, change: impl FnOnce(&mut Command)) -> Option<(bool, String)> {
        let mut flash = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("flash.sh"));
        flash.args(["pair", "--data-size", "8"]);
        for (option, name) in [
            ("--program", "a program"),
            ("--board", "a board"),
            ("--kernel", "a kernel"),
            ("--site", "the site.toml"),
            ("--data", "data of mine"),
            ("--output", "the disks"),
        ] {
            flash.arg(option).arg(self.place(name));
        }
        flash.env("TMPDIR", self.place("work here")).env("TWOBOX_PACKER", env!("CARGO_BIN_EXE_pack-initramfs"));
        change(&mut flash);
        let done = flash.output().unwrap();
        let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        if said.contains("cannot fetch systemd-boot-efi") {
            eprintln!("SKIPPED: {said}");
            return None;
        }
        Some((done.status.success(), said))
    }
}

/// The whole way to a pair's disks, with spaces in every path that somebody may choose.
#[test]
fn the_disks_of_a_pair_are_made_where_paths_have_spaces() {
    let all = Ingredients::new("all");
    let Some((done, said)) = all.pair(|_| {}) else { return };
    assert!(done, "{said}");
    let names: Vec<_> = fs::read_dir(all.place("the disks")).unwrap().map(|e| e.unwrap().file_name()).collect();
    for name in ["a.img", "b.img", "update.efi"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    assert_eq!(fs::read_dir(all.place("work here")).unwrap().count(), 0, "nothing is left, the key least of all");
}

/// A key that is there and good on this machine is on no box.
#[test]
fn a_site_whose_key_is_not_where_a_box_has_it_is_refused() {
    let all = Ingredients::new("key");
    let key = all.place("own & other|.key");
    all.put("own & other|.key", format!("{}\n", "5a".repeat(32)).as_bytes());
    all.put("the site.toml", SITE.replace("/etc/twobox/pair.key", key.to_str().unwrap()).as_bytes());
    let Some((done, said)) = all.pair(|_| {}) else { return };
    let told =
        format!("the site.toml:3: pair.key-file: {} is on no appliance; allowed: /etc/twobox/pair.key", key.display());
    assert!(!done && said.contains(&told), "{said}");
    assert!(!all.place("the disks").exists());
    // And the right one in another form of TOML.
    all.put(
        "the site.toml",
        SITE.replace("key-file = \"/etc/twobox/pair.key\"", "'key-file'='/etc/twobox/pair.key'").as_bytes(),
    );
    let (done, said) = all.pair(|_| {}).unwrap();
    assert!(done, "{said}");
}

/// A kernel package of Debian 13: modules under usr/lib, each compressed by xz.
#[test]
fn a_kernel_under_usr_with_compressed_modules_is_taken() {
    let all = Ingredients::new("usr");
    fs::create_dir(all.place("a kernel/usr")).unwrap();
    fs::rename(all.place("a kernel/lib"), all.place("a kernel/usr/lib")).unwrap();
    fs::write(all.place("a module.c"), "__attribute__((section(\".modinfo\"))) char info[] = \"alias=pci:v1\";")
        .unwrap();
    let words =
        "cc -c -o letters.ko 'a module.c' && xz letters.ko && mv letters.ko.xz 'a kernel/usr/lib/modules/6.1/kernel'";
    assert!(Command::new("sh").args(["-c", words]).current_dir(&all.0.0).status().unwrap().success());
    let board = fs::read_to_string(all.place("a board/board.toml")).unwrap();
    all.put("a board/board.toml", board.replace("[interface", "modules = [\"letters\"]\n[interface").as_bytes());
    let Some((done, said)) = all.pair(|_| {}) else { return };
    assert!(done && said.contains("lib/modules/letters.ko\n"), "{said}");
}

#[test]
fn data_that_does_not_fit_is_told() {
    let all = Ingredients::new("full");
    all.put("data of mine/a film", &vec![1; 9 << 20]);
    let Some((done, said)) = all.pair(|_| {}) else { return };
    let told = format!(
        "{} could not be put on the data partition: does it fit in --data-size 8?\n",
        all.place("data of mine").display()
    );
    assert!(!done && said.ends_with(&told), "{said}");
    assert!(!all.place("the disks").exists());
}

#[test]
fn a_program_that_needs_libraries_is_refused() {
    let all = Ingredients::new("dynamic");
    fs::copy(env!("CARGO_BIN_EXE_twobox"), all.place("a program")).unwrap();
    let Some((done, said)) = all.pair(|_| {}) else { return };
    assert!(
        !done && said.contains("no static program") && said.contains("--target x86_64-unknown-linux-musl"),
        "{said}"
    );
    assert!(!all.place("the disks").exists());
}

/// apt-cache speaks the language of whoever asks it.
#[test]
fn the_kernel_s_package_is_found_in_any_language() {
    let folder = Folder::new("language");
    let package = format!("linux-image-0.0.0-test{}-amd64", std::process::id());
    let word = "if [ \"${LC_ALL:-$LANG}\" = C ]; then word=Depends; else word='Hängt ab von'; fi";
    folder
        .command("apt-cache", &format!("#!/bin/sh\n{word}\nprintf 'linux-image-amd64\n  %s: {package}\n' \"$word\"\n"));
    folder.command("apt-get", "#!/bin/sh\nexit 100\n"); // nothing is fetched for this test
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = format!("{}:{}", folder.0.join("bin").display(), std::env::var("PATH").unwrap());
    let mut flash = Command::new(root.join("flash.sh"));
    let done = flash.arg("kernel").env("PATH", path).env("LANG", "de_DE.UTF-8").env_remove("LC_ALL").output().unwrap();
    let left = fs::read_dir(root.join("target/appliance")).unwrap().filter_map(Result::ok);
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&package)).count(), 0);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains(&format!("cannot fetch {package}")), "{said}");
}

/// Every box has an image to go back to from its first day.
#[test]
fn a_disk_has_its_image_twice() {
    let all = Ingredients::new("twice");
    let Some((done, said)) = all.pair(|_| {}) else { return };
    assert!(done, "{said}");
    let image = fs::read(all.place("the disks/update.efi")).unwrap();
    for slot in ["twobox-1.efi", "twobox-2.efi"] {
        let disk = format!("{}@@1M", all.place("the disks/a.img").display());
        let (name, copy) = (format!("::/EFI/Linux/{slot}"), all.place(slot));
        assert!(Command::new("mcopy").args(["-i", &disk, &name]).arg(&copy).status().unwrap().success());
        assert!(fs::read(copy).unwrap() == image, "{slot}");
    }
}

/// Tests do that, and whoever makes images of two pairs at a time.
#[test]
fn several_may_fetch_the_same_package_at_once() {
    let folder = Folder::new("fetch");
    let package = format!("linux-image-0.0.0-fetch{}-amd64", std::process::id());
    folder.command("apt-cache", &format!("#!/bin/sh\necho '  Depends: {package}'\n"));
    folder.command("apt-get", "#!/bin/sh\nsleep \"$DELAY\"\n: >its.deb\n");
    folder.command("dpkg", "#!/bin/sh\nmkdir -p lib/modules/0.0.0/kernel boot\n: >boot/vmlinuz-0.0.0\n");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = format!("{}:{}", folder.0.join("bin").display(), std::env::var("PATH").unwrap());
    let start = |delay: &str| {
        let mut flash = Command::new(root.join("flash.sh"));
        flash.arg("kernel").env("PATH", &path).env("DELAY", delay).stdout(Stdio::piped()).stderr(Stdio::piped());
        flash.spawn().unwrap()
    };
    let all = ["1.5", "0.5", "1"].map(start).map(|started| started.wait_with_output().unwrap());
    let fetched = root.join("target/appliance").join(&package);
    let is_whole = fetched.join("boot/vmlinuz-0.0.0").exists();
    fs::remove_dir_all(&fetched).unwrap();
    for done in all {
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), fetched.to_str().unwrap());
    }
    assert!(is_whole);
}

/// Modules of one and the kernel of another make a box without drivers.
#[test]
fn a_folder_of_several_kernels_is_refused() {
    let all = Ingredients::new("kernels");
    all.put("a kernel/boot/vmlinuz-6.2", &[1; 100_000]);
    let Some((done, said)) = all.pair(|_| {}) else { return };
    assert!(done, "modules are of one version, so its kernel is taken: {said}");
    fs::rename(all.place("the disks"), all.place("the former disks")).unwrap();
    fs::create_dir_all(all.place("a kernel/usr/lib/modules/6.2/kernel")).unwrap();
    let (done, said) = all.pair(|_| {}).unwrap();
    assert!(!done && said.contains("one kernel, please, not several: 6.1 6.2"), "{said}");
    fs::remove_dir_all(all.place("a kernel/lib")).unwrap();
    fs::remove_file(all.place("a kernel/boot/vmlinuz-6.2")).unwrap();
    let (done, said) = all.pair(|_| {}).unwrap();
    assert!(!done && said.contains("vmlinuz-6.2 is missing"), "{said}");
    assert!(!all.place("the disks").exists());
}

/// The stubs of newer versions of systemd have their image base above 4 GiB, where Debian 12's has it at zero.
#[test]
fn the_image_loads_whatever_the_image_base_of_its_stub() {
    let all = Ingredients::new("base");
    let Some((done, said)) = all.pair(|_| {}) else { return };
    assert!(done, "{said}");
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/appliance/systemd-boot-efi/usr/lib/systemd/boot/efi");
    fs::create_dir(all.place("another stub")).unwrap();
    for name in ["linuxx64.efi.stub", "systemd-bootx64.efi"] {
        let mut program = fs::read(ours.join(name)).unwrap();
        // Addresses in the headers are relative to the base, so it alone says where the sections lie.
        let pe = u32::from_le_bytes(program[0x3c..0x40].try_into().unwrap()) as usize;
        program[pe + 24 + 24..][..8].copy_from_slice(&0x1_4df9_0000u64.to_le_bytes());
        fs::write(all.place("another stub").join(name), program).unwrap();
    }
    fs::rename(all.place("the disks"), all.place("the former disks")).unwrap();
    let (done, said) = all.pair(|flash| _ = flash.env("TWOBOX_BOOT_LOADER", all.place("another stub"))).unwrap();
    assert!(done, "{said}");
    let looks = |disks: &str| {
        let listed = Command::new("objdump").arg("-h").arg(all.place(disks).join("update.efi")).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
        let lines = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut sections: Vec<(u64, u64, String)> = lines
            .filter(|words| words.len() == 7 && words[1].starts_with('.'))
            .map(|words| (hex(words[3]), hex(words[2]), words[1].to_owned()))
            .collect();
        sections.sort();
        sections
    };
    for (disks, base) in [("the former disks", 0), ("the disks", 0x1_4df9_0000)] {
        let sections = looks(disks);
        for name in [".text", ".osrel", ".cmdline", ".initrd", ".linux"] {
            assert_eq!(sections.iter().filter(|section| section.2 == name).count(), 1, "{name}: {sections:x?}");
        }
        assert!(sections[0].0 > base, "{sections:x?}");
        assert!(sections.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0), "{sections:x?}");
        let linux = sections.iter().find(|section| section.2 == ".linux").unwrap();
        assert_eq!(linux.0 % 4096, 0, "{sections:x?}");
        let last = sections.last().unwrap();
        assert!(last.0 + last.1 < base + (64 << 20), "{sections:x?}");
    }
}

#[test]
fn what_is_no_free_disk_is_refused() {
    let folder = Folder::new("refused");
    let source = folder.image(vec![1; 2_000_000]);
    let small = folder.file("small", &[0; 1_999_999]);
    for (device, why) in [
        (small.as_str(), "1999999 bytes"),
        ("/dev/null", "neither a disk nor a file"),
        ("/dev/none", "no such device"),
        (folder.0.to_str().unwrap(), "neither a disk nor a file"),
    ] {
        // The name is typed, as if nobody had looked.
        let (done, said) = flash(&["write", &source, device], &format!("{device}\n"));
        assert!(!done && said.contains(why), "{device}: {said}");
    }
    assert!(fs::read(&small).unwrap().iter().all(|byte| *byte == 0));
}

/// With the name typed, as if nobody had looked.
fn write(source: &str, device: &str) -> (bool, String) {
    flash(&["write", source, device], &format!("{device}\n"))
}

#[test]
fn an_image_is_not_written_over_itself() {
    let folder = Folder::new("itself");
    let source = folder.image(vec![7; 2 << 20]);
    let before = fs::read(&source).unwrap();
    for name in ["soft", "hard"] {
        let there = folder.0.join(name);
        if name == "soft" { std::os::unix::fs::symlink(&source, &there) } else { fs::hard_link(&source, &there) }
            .unwrap();
        let linked = folder.0.join(name).to_str().unwrap().to_owned();
        for (image, device) in [(&source, &source), (&source, &linked), (&linked, &source)] {
            let (done, said) = write(image, device);
            assert!(!done && said.contains("is the image itself") && !said.contains("Type"), "{said}");
            assert_eq!(fs::read(&source).unwrap(), before);
        }
    }
}

/// The other files that `pair` makes beside the disks.
#[test]
fn what_is_no_image_of_a_disk_is_not_written() {
    let folder = Folder::new("no image");
    let disk = folder.file("disk", &vec![0; 4 << 20]);
    let table_of_4k = [&vec![0; 4096][..], b"EFI PART", &vec![0; 2 << 20]].concat();
    for bytes in [b"MZ".repeat(1 << 20), table_of_4k, Vec::new(), b"EFI PART".to_vec()] {
        let (done, said) = write(&folder.file("update.efi", &bytes), &disk);
        assert!(!done && said.contains("no image of a disk") && !said.contains("Type"), "{said}");
    }
    let (done, said) = write(&folder.image(vec![0; 1 << 20]), &disk);
    assert!(!done && said.contains("too small for a disk"), "{said}");
    assert!(fs::read(&disk).unwrap().iter().all(|byte| *byte == 0));
}

/// Some block device that nobody is asked to write: lsblk and blockdev are not the real ones.
fn block_device() -> Option<String> {
    use std::os::unix::fs::FileTypeExt;
    let all = fs::read_dir("/dev").ok()?.flatten();
    let mut all = all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device()));
    let found = all.next()?.path().to_str()?.to_owned();
    Some(found)
}

#[test]
fn a_disk_whose_sectors_are_not_those_of_the_image_is_refused() {
    let folder = Folder::new("sectors");
    let source = folder.image(vec![7; 2 << 20]);
    let Some(device) = block_device() else { return eprintln!("SKIPPED: there is no block device here") };
    folder.command("lsblk", BLIND);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("flash.sh");
    // Busy in any case: so nothing is ever written here.
    let disk_of =
        "#!/bin/sh\ncase $1 in --getss) echo SIZE ;; --getsize64) echo 9000000 ;; *) echo Busy; exit 1 ;; esac\n";
    for (size, why) in [("4096", "has sectors of 4096 bytes"), ("512", "is in use: Busy")] {
        folder.command("blockdev", &disk_of.replace("SIZE", size));
        let path = format!("{}:{}", folder.0.join("bin").display(), std::env::var("PATH").unwrap());
        let done = Command::new(&script)
            .args(["write", &source, &device])
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(!done.status.success() && said.contains(why) && !said.contains("Type"), "{said}");
    }
}

#[test]
fn whoever_may_not_open_the_disk_is_told_to_be_root() {
    let folder = Folder::new("rights");
    let source = folder.image(vec![7; 2 << 20]);
    let Some(device) = block_device() else { return eprintln!("SKIPPED: there is no block device here") };
    folder.command("lsblk", BLIND);
    // The project's folder may be closed to others.
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("flash.sh"), folder.0.join("flash.sh")).unwrap();
    let as_nobody = |command: &str, device: &str| {
        let words = "PATH=$0/bin:$PATH exec \"$0/flash.sh\" \"$@\"";
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", words]).arg(&folder.0);
        let done = nobody.args([command, &source, device]).stdin(Stdio::null()).output().unwrap();
        [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
    };
    let closed = folder.file("closed", &vec![0; 4 << 20]);
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let kept = folder.file("kept", &vec![0; 4 << 20]);
    for (command, device, why) in [
        ("write", &device, "read"),
        ("verify", &device, "read"),
        ("write", &closed, "read"),
        ("write", &kept, "written"), // as a disk that somebody's group may read
    ] {
        let said = as_nobody(command, device);
        if said.contains("setpriv:") {
            return eprintln!("SKIPPED: only root can become somebody else: {said}");
        }
        assert_eq!(said, format!("flash.sh: {device} cannot be {why} by nobody; run this as root\n"));
    }
}

/// The disk that this machine runs from. Nothing is typed: a script that did not refuse would ask in vain.
#[test]
fn the_system_disk_is_refused() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts.lines().find_map(|line| line.strip_suffix(" 0 0")?.split_once(" / ").map(|(device, _)| device));
    let Some(device) = root.filter(|device| device.starts_with("/dev/")) else {
        eprintln!("the root file system is on no disk here: nothing to refuse");
        return;
    };
    let folder = Folder::new("system");
    let source = folder.image(vec![1; 2 << 20]);
    let (done, said) = flash(&["write", &source, device], "");
    let refused = ["is in use", "not a whole disk", "no such device"].iter().any(|why| said.contains(why));
    assert!(!done && refused && !said.contains("Type"), "{device}: {said}");
}

/// More than a number of the shell holds.
const TOO_LONG: &str = "18446744073709551624";

#[test]
fn mistakes_are_told_before_anything_is_made() {
    let folder = Folder::new("mistakes");
    let output = folder.0.join("out");
    let out = output.to_str().unwrap();
    for (words, why) in [
        (vec!["image", "--board", "no-such-board", "--output", out], "qemu-pc"),
        (vec!["image", "--output", out], "--board is missing"),
        (vec!["image", "--board", "qemu-pc", "--data-size", "much", "--output", out], "a number of MiB"),
        (
            vec!["image", "--board", "qemu-pc", "--data-size", "010", "--output", out],
            "--data-size 010: a number of MiB",
        ),
        (vec!["image", "--board", "qemu-pc", "--data-size", "08", "--output", out], "--data-size 08: a number of MiB"),
        (vec!["image", "--board", "qemu-pc", "--data-size", TOO_LONG, "--output", out], "a number of MiB"),
        (vec!["image", "--board", "qemu-pc", "--output", "/no/such/folder/x"], "no folder"),
        (vec!["image", "--board", "qemu-pc", "--kernel", "/no/such", "--output", out], "/no/such: no"),
        (vec!["pair", "--board", "qemu-pc", "--output", out], "--site is missing"),
        (vec!["pair", "--board", "qemu-pc", "--site", "/no/such", "--output", out], "cannot be read"),
        (vec!["update", "--output", out], "--board is missing"),
    ] {
        let (done, said) = flash(&words, "");
        assert!(!done && said.contains(why), "{words:?}: {said}");
        assert!(!output.exists());
    }
    let temporary = folder.0.join("no-such-folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("flash.sh");
    let cramped = Command::new(script)
        .args(["image", "--board", "qemu-pc", "--output", out])
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&cramped.stderr).into_owned();
    assert!(!cramped.status.success() && said.contains("no-such-folder cannot be written"), "{said}");
    assert!(!output.exists());
    let (done, said) = flash(&["--help"], "");
    assert!(done && said.contains("./flash.sh write IMAGE DEVICE"), "{said}");
    // Wrong use: first what was wrong, then all that is right.
    for (words, why) in [
        (vec![], "what shall be done?"),
        (vec!["frobnicate"], "there is no command frobnicate"),
        (vec!["write", "only-one-word"], "write needs an image and a device, not 1 words"),
        (vec!["verify"], "verify needs an image and a device, not 0 words"),
        (vec!["image", "--board"], "--board needs a value"),
        (vec!["image", "--bord", "qemu-pc"], "image knows no --bord"),
        (vec!["pair", "--board", "qemu-pc", "extra"], "pair knows no extra"),
        (vec!["image", "--board", "qemu-pc", "--site", "/x"], "image knows no --site"),
        (vec!["update", "--board", "qemu-pc", "--site", "/x"], "update knows no --site"),
        (vec!["update", "--board", "qemu-pc", "--data-size", "8"], "update knows no --data-size"),
        (vec!["kernel", "--board", "qemu-pc"], "kernel knows no --board"),
        (vec!["demo", "--scrip"], "demo knows no --scrip"),
    ] {
        let (done, said) = flash(&words, "");
        assert!(!done && said.starts_with(&format!("flash.sh: {why}\n")), "{words:?}: {said}");
        assert!(said.contains("./flash.sh write IMAGE DEVICE"), "{said}");
    }
}
