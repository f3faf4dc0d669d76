//! Kernel modules of the image: found by name below `lib/modules/VERSION`, with what they depend on, in loading order.
//!
//! Debian's package carries no `modules.dep` (depmod writes it on the installed machine), so the dependencies are read
//! where depmod reads them: from each module's `.modinfo` section (kernel include/linux/module.h).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::elf::section;

/// One module to pack.
pub struct Module {
    /// Name with underscores, as the kernel shows it.
    pub name: String,
    /// The file's bytes.
    pub content: Vec<u8>,
    /// Patterns of the devices it drives (`alias=`).
    pub aliases: Vec<String>,
}

/// A kernel's modules.
pub struct Tree {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Tree {
    /// Reads the names below `directory` (`.../lib/modules/VERSION`).
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        let mut directories = vec![directory.join("kernel")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else if let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.split_once(".ko")) {
                    files.insert(normal(name.0), path.clone());
                }
            }
        }
        let built_in = fs::read_to_string(directory.join("modules.builtin"))?
            .lines()
            .filter_map(|line| Path::new(line).file_stem()?.to_str().map(normal))
            .collect();
        Ok(Self { files, built_in })
    }

    /// `wanted` and all they depend on: each module after those it needs, each once. What is built in is left out.
    ///
    /// # Errors
    ///
    /// A module that the kernel does not have, or one that cannot be read or unpacked.
    pub fn in_order(&self, wanted: &[String]) -> io::Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.add(&normal(name), &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn add(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<Module>) -> io::Result<()> {
        if !seen.insert(name.to_owned()) || (self.built_in.contains(name) && !self.files.contains_key(name)) {
            return Ok(());
        }
        let path = self
            .files
            .get(name)
            .ok_or_else(|| io::Error::other(format!("module {name}: this kernel has none of that name")))?;
        let content = read(path).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?;
        let info = section(&content, ".modinfo")
            .ok_or_else(|| io::Error::other(format!("{}: no .modinfo section", path.display())))?;
        let lines: Vec<&str> = info.split(|&b| b == 0).filter_map(|line| str::from_utf8(line).ok()).collect();
        let values = |key: &str| -> Vec<String> {
            lines.iter().filter_map(|line| line.strip_prefix(key)).map(str::to_owned).collect()
        };
        let needed = values("depends=").into_iter().chain(values("softdep=pre: "));
        for needed in needed.flat_map(|list| list.split([',', ' ']).map(normal).collect::<Vec<_>>()) {
            // A soft dependency names what may be missing from this kernel or live under another name.
            let known = self.files.contains_key(&needed) || self.built_in.contains(&needed);
            if !needed.is_empty() && known {
                self.add(&needed, seen, order)?;
            }
        }
        let aliases = values("alias=");
        let content = without_signature(&content).to_vec();
        order.push(Module { name: name.to_owned(), content, aliases });
        Ok(())
    }
}

/// The module in the file, unpacked: the image is compressed as a whole, and the kernel need not know how its distribution
/// compressed the module.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let (unpacker, package) = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return fs::read(path),
        Some("xz") => ("xz", "xz-utils"),
        Some("zst") => ("zstd", "zstd"),
        Some("gz") => ("gzip", "gzip"),
        _ => return Err(io::Error::other("compressed in a way that is not known here")),
    };
    #[allow(clippy::disallowed_methods)] // a build program: starts the unpacker
    let unpacked = Command::new(unpacker)
        .arg("-dc")
        .stdin(fs::File::open(path)?)
        .output()
        .map_err(|e| io::Error::other(format!("{unpacker}: {e}; install Debian's package {package}")))?;
    if unpacked.status.success() {
        return Ok(unpacked.stdout);
    }
    Err(io::Error::other(String::from_utf8_lossy(&unpacked.stderr).trim().to_owned()))
}

/// The module without the signature that the distribution appended (kernel include/linux/module_signature.h). The image
/// as a whole is what a boot loader can verify; checking each module again took 0.4 of 0.9 s under emulation.
fn without_signature(module: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"~Module signature appended~\n";
    const INFO: usize = 12; // struct module_signature, the signature's length in its last four bytes, big-endian
    let stripped = module.strip_suffix(MARK).and_then(|rest| {
        let (rest, info) = rest.split_at_checked(rest.len().checked_sub(INFO)?)?;
        let length = u32::from_be_bytes(info[8..].try_into().ok()?);
        rest.get(..rest.len().checked_sub(usize::try_from(length).ok()?)?)
    });
    stripped.unwrap_or(module)
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_taken_off_and_nothing_else() {
        let signed =
            [&b"module"[..], b"sig", &[0, 0, 2, 0, 0, 0, 0, 0], &[0, 0, 0, 3], b"~Module signature appended~\n"];
        assert_eq!(without_signature(&signed.concat()), b"module");
        assert_eq!(without_signature(b"module"), b"module");
        let too_long = [&b"m"[..], &[0; 8], &[0, 0, 9, 9], b"~Module signature appended~\n"].concat();
        assert_eq!(without_signature(&too_long), too_long);
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // runs the compressors
    fn a_module_is_read_however_it_is_compressed() {
        let root = std::env::temp_dir().join(format!("twobox-modules-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("kernel/fs")).unwrap();
        fs::write(root.join("modules.builtin"), "").unwrap();
        let names = ["plain", "by_xz", "by_zstd", "by_gzip"];
        let module = module_with(&["depends=", "alias=pci:v1"]);
        for name in names {
            fs::write(root.join(format!("kernel/fs/{name}.ko")), &module).unwrap();
        }
        for [packer, name] in [["xz", "by_xz"], ["zstd", "by_zstd"], ["gzip", "by_gzip"]] {
            let mut packer = Command::new(packer);
            packer.args(if name == "by_zstd" { &["--rm", "-q"][..] } else { &[] });
            assert!(packer.arg(root.join(format!("kernel/fs/{name}.ko"))).status().unwrap().success());
            assert!(!root.join(format!("kernel/fs/{name}.ko")).exists(), "{name}");
        }
        let read = Tree::open(&root).unwrap().in_order(&names.map(str::to_owned)).unwrap();
        assert_eq!(read.iter().map(|module| module.name.as_str()).collect::<Vec<_>>(), names);
        for found in &read {
            assert_eq!((&found.content, &found.aliases), (&module, &vec!["pci:v1".to_owned()]), "{}", found.name);
        }
        for (name, why) in [("cut.ko.xz", "xz"), ("strange.ko.lz4", "compressed in a way")] {
            fs::write(root.join("kernel/fs").join(name), &module[..40]).unwrap();
            let tree = Tree::open(&root).unwrap();
            let wanted = name.split('.').next().unwrap().to_owned();
            let error = tree.in_order(&[wanted]).err().unwrap().to_string();
            assert!(error.contains(name) && error.contains(why), "{error}");
        }
        fs::remove_dir_all(&root).unwrap();
    }

    /// A file of the sections that a module is told by.
    fn module_with(info: &[&str]) -> Vec<u8> {
        let info: Vec<u8> = info.iter().flat_map(|line| line.bytes().chain([0])).collect();
        let names = b"\0.modinfo\0";
        let (at_info, at_names) = (64, 64 + info.len());
        let headers = at_names + names.len();
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x28..0x30].copy_from_slice(&(headers as u64).to_le_bytes());
        for (at, number) in [(0x3a, 64u16), (0x3c, 2), (0x3e, 1)] {
            elf[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
        elf.extend([&info[..], names].concat());
        for (name, at, length) in [(1u32, at_info, info.len()), (0, at_names, names.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(length as u64).to_le_bytes());
            elf.extend(header);
        }
        elf
    }
}
