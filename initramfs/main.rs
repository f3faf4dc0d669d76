//! Packs the image that the kernel boots: `pack-initramfs --board board/NAME --program FILE --modules DIR --output DIR`.
//!
//! Writes `initramfs`, `command-line` and `board-name` into the output folder and prints what is inside with its sizes.
//! The same inputs give the same bytes: owner, time, order and compression are fixed.
//!
//! `pack-initramfs check SITE BOARD` says what is wrong with both files for an appliance.
//!
//! `pack-initramfs seal FILE` puts the seal at the end of a finished image, by which a box knows that it is whole.

mod contents;
mod cpio;
mod elf;
mod modules;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use argh::FromArgs;

use contents::Plan;
use cpio::{Entry, Kind};
use twobox::config;
use twobox::update::image;

/// Packs the image that the kernel boots.
#[derive(FromArgs)]
struct Arguments {
    /// the board's folder, with board.toml in it
    #[argh(option)]
    board: PathBuf,
    /// the static twobox binary
    #[argh(option)]
    program: PathBuf,
    /// the kernel's modules, .../lib/modules/VERSION
    #[argh(option)]
    modules: PathBuf,
    /// a site file to carry in the image
    #[argh(option)]
    site: Option<PathBuf>,
    /// another file to carry, as PATH-IN-IMAGE=FILE (for tests)
    #[argh(option, from_str_fn(parse_extra))]
    extra: Vec<(String, PathBuf)>,
    /// leave the image uncompressed
    #[argh(switch)]
    plain: bool,
    /// folder to write `initramfs` and `command-line` to
    #[argh(option)]
    output: PathBuf,
}

fn parse_extra(text: &str) -> Result<(String, PathBuf), String> {
    let (path, file) = text.split_once('=').ok_or("expected PATH-IN-IMAGE=FILE")?;
    Ok((path.trim_start_matches('/').to_owned(), PathBuf::from(file)))
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let done = match words.as_slice() {
        [word, file] if word == "seal" => seal(file.as_ref()),
        [word, site, board] if word == "check" => check(site.as_ref(), board.as_ref()),
        _ => pack(argh::from_env()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pack-initramfs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pack(arguments: Arguments) -> io::Result<()> {
    let Arguments { board, program, modules, site, extra, plain, output } = arguments;
    let contents = contents::gather(&Plan { program, board, modules, site, extra })?;
    let archive = cpio::archive(&contents.entries);
    let unpacked = archive.len();
    let image = if plain { archive } else { compress(&archive)? };
    print!("{}", list(&contents.entries));
    println!("{:>9}  unpacked\n{:>9}  image", unpacked, image.len());
    fs::create_dir_all(&output)?;
    fs::write(output.join("initramfs"), image)?;
    fs::write(output.join("board-name"), format!("{}\n", contents.board))?;
    fs::write(output.join("command-line"), format!("{}\n", contents.command_line))
}

fn check(site: &Path, board: &Path) -> io::Result<()> {
    let problems = config::problems_on_appliance(site, board);
    if problems.is_empty() {
        return Ok(());
    }
    Err(io::Error::other(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

fn seal(path: &Path) -> io::Result<()> {
    let body = fs::read(path)?;
    image::loads(&body[..body.len().min(image::HEAD)])
        .map_err(|why| io::Error::other(format!("{}: this is {why}", path.display())))?;
    let mut hash = blake3::Hasher::new();
    hash.update(&body);
    fs::OpenOptions::new().append(true).open(path)?.write_all(&image::seal(&hash))
}

/// One line per entry: size and path.
fn list(entries: &[Entry]) -> String {
    let line = |entry: &Entry| match &entry.kind {
        Kind::Directory => format!("{:>9}  {}/\n", "", entry.path),
        Kind::Device(major, minor) => format!("{:>9}  {}\n", format!("{major}:{minor}"), entry.path),
        Kind::File(content) => format!("{:>9}  {}\n", content.len(), entry.path),
    };
    entries.iter().map(line).collect()
}

/// Compresses by zstd(1). One thread and a fixed level, because both change the bytes.
#[allow(clippy::disallowed_methods)] // a build program: starts zstd(1)
fn compress(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut zstd = Command::new("zstd")
        .args(["-19", "--single-thread", "--check", "--quiet", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| io::Error::other(format!("zstd: {e}; install Debian's package zstd")))?;
    let mut stdin = zstd.stdin.take().ok_or_else(|| io::Error::other("zstd: no standard input"))?;
    let archive = archive.to_vec();
    let writer = std::thread::Builder::new().spawn(move || stdin.write_all(&archive))?;
    let output = zstd.wait_with_output()?;
    writer.join().map_err(|_| io::Error::other("the writer to zstd panicked"))??;
    if output.status.success() { Ok(output.stdout) } else { Err(io::Error::other(format!("zstd: {}", output.status))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel's module tree of one built-in module and none that is loadable, and a board that asks for it.
    fn scratch(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("twobox-pack-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("modules/kernel")).unwrap();
        fs::write(root.join("modules/modules.builtin"), "kernel/fs/ext-4.ko\n").unwrap();
        fs::create_dir_all(root.join("board")).unwrap();
        let board = "name = \"test\"\nmodules = [\"ext-4\"]\nkernel-command-line = \"panic=1\"\n\
                     [interface.lan]\nposition = 1\n";
        fs::write(root.join("board/board.toml"), board).unwrap();
        fs::write(root.join("program"), program(7)).unwrap();
        root
    }

    /// As much of a static program as is looked at.
    fn program(byte: u8) -> Vec<u8> {
        let mut elf = vec![byte; 100_000];
        elf[..64].fill(0);
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf
    }

    fn arguments(root: &Path, output: &str) -> Arguments {
        Arguments {
            board: root.join("board"),
            program: root.join("program"),
            modules: root.join("modules"),
            site: None,
            extra: Vec::new(),
            plain: false,
            output: root.join(output),
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes_whenever_and_wherever() {
        let root = scratch("same");
        pack(arguments(&root, "one")).unwrap();
        // Another time stamp, owner mode and folder of the same inputs.
        let other = scratch("same-elsewhere");
        fs::copy(root.join("program"), other.join("program")).unwrap();
        let file = fs::File::open(other.join("program")).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
        pack(arguments(&other, "two")).unwrap();
        let (one, two) = (root.join("one/initramfs"), other.join("two/initramfs"));
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        assert_eq!(fs::read_to_string(root.join("one/command-line")).unwrap(), "panic=1\n");
        fs::write(other.join("program"), program(8)).unwrap();
        pack(arguments(&other, "two")).unwrap();
        assert_ne!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        fs::remove_dir_all(&root).unwrap();
        fs::remove_dir_all(&other).unwrap();
    }

    #[test]
    fn a_program_that_no_kernel_starts_alone_is_refused() {
        let root = scratch("dynamic");
        fs::copy("/bin/sh", root.join("program")).unwrap();
        let error = pack(arguments(&root, "out")).unwrap_err().to_string();
        assert!(error.contains("/program: no static program"), "{error}");
        assert!(!root.join("out").exists());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_firmware_cannot_load_gets_no_seal() {
        let root = scratch("seal");
        let error = seal(&root.join("program")).unwrap_err().to_string();
        assert!(error.ends_with("this is no image of twobox: its headers are not those of one"), "{error}");
        assert_eq!(fs::read(root.join("program")).unwrap(), program(7));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_module_that_the_kernel_lacks_is_named() {
        let root = scratch("lacks");
        fs::write(
            root.join("board/board.toml"),
            "name = \"t\"\nmodules = [\"no_such\"]\n[interface.lan]\nposition = 1\n",
        )
        .unwrap();
        let error = pack(arguments(&root, "out")).unwrap_err().to_string();
        assert_eq!(error, "module no_such: this kernel has none of that name");
        fs::remove_dir_all(&root).unwrap();
    }
}
