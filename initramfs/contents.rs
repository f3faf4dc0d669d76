//! What goes into the image, and nothing else: the program, two device nodes, the board, and the board's modules.

use std::fs;
use std::io;
use std::path::PathBuf;

use twobox::config::parse_board;

use crate::cpio::{Entry, Kind};
use crate::elf;
use crate::modules::Tree;

/// What the image is made of.
pub struct Plan {
    /// The static twobox binary, which is `/init`.
    pub program: PathBuf,
    /// The board's folder, with `board.toml` in it.
    pub board: PathBuf,
    /// The kernel's modules (`.../lib/modules/VERSION`).
    pub modules: PathBuf,
    /// A site file for boxes that have no state partition to read it from.
    pub site: Option<PathBuf>,
    /// Files outside the usual contents, for tests: path in the image, file here.
    pub extra: Vec<(String, PathBuf)>,
}

/// The entries of the image and the board's kernel command line.
pub struct Contents {
    /// What is packed, in this order.
    pub entries: Vec<Entry>,
    /// `kernel-command-line` of the board.
    pub command_line: String,
    /// `name` of the board.
    pub board: String,
}

/// Reads everything that `plan` names.
///
/// # Errors
///
/// A file that cannot be read, a board that is no TOML, a program that the kernel cannot start alone, a module that it does not
/// have.
pub fn gather(plan: &Plan) -> io::Result<Contents> {
    let read = |path: &PathBuf| fs::read(path).map_err(|e| io::Error::other(format!("{}: {e}", path.display())));
    let board_file = plan.board.join("board.toml");
    let board_text = String::from_utf8(read(&board_file)?).map_err(io::Error::other)?;
    let (board, problems) = parse_board(&board_file.display().to_string(), &board_text);
    if !problems.is_empty() {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(io::Error::other(lines.join("\n")));
    }

    let program = read(&plan.program)?;
    if !elf::is_static(&program) {
        let what = "no static program, and the image has no other: build it with --target x86_64-unknown-linux-musl";
        return Err(io::Error::other(format!("{}: {what}", plan.program.display())));
    }

    let tree = Tree::open(&plan.modules)?;
    let order = tree.in_order(&board.modules)?;
    let packed = tree.in_order(&[board.modules.as_slice(), &board.hardware_modules].concat())?;

    let mut entries = Vec::new();
    for path in ["dev", "etc", "etc/twobox", "lib", "lib/modules"] {
        entries.push(Entry { path: path.into(), mode: 0o755, kind: Kind::Directory });
    }
    // Without these two Rust's start code finds its descriptors closed and aborts: devtmpfs is mounted only later.
    entries.push(Entry { path: "dev/console".into(), mode: 0o600, kind: Kind::Device(5, 1) });
    entries.push(Entry { path: "dev/null".into(), mode: 0o666, kind: Kind::Device(1, 3) });

    let mut file = |path: &str, mode: u32, content: Vec<u8>| {
        entries.push(Entry { path: path.into(), mode, kind: Kind::File(content) });
    };
    file("init", 0o755, program);
    file("etc/twobox/board.toml", 0o644, board_text.into_bytes());
    if let Some(site) = &plan.site {
        file("etc/twobox/site.toml", 0o644, read(site)?);
    }
    for (path, from) in &plan.extra {
        file(path, 0o755, read(from)?);
    }
    file("lib/modules/order", 0o644, order.iter().map(|m| format!("{}\n", m.name)).collect::<String>().into_bytes());
    // For the modules that only some machines need: the devices each drives, and what must be loaded before it.
    let (mut aliases, mut needs) = (String::new(), String::new());
    for name in &board.hardware_modules {
        let chain = tree.in_order(std::slice::from_ref(name))?;
        let names: Vec<&str> = chain.iter().map(|m| m.name.as_str()).collect();
        needs += &format!("{name}: {}\n", names.join(" "));
        for alias in chain.last().map_or(&[][..], |module| &module.aliases) {
            aliases += &format!("{alias} {name}\n");
        }
    }
    file("lib/modules/aliases", 0o644, aliases.into_bytes());
    file("lib/modules/needs", 0o644, needs.into_bytes());
    for module in packed {
        file(&format!("lib/modules/{}.ko", module.name), 0o644, module.content);
    }
    Ok(Contents { entries, command_line: board.kernel_command_line, board: board.name })
}
