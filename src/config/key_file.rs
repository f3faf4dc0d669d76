//! The pair's secret: 32 random bytes in a file of 64 hexadecimal digits and a newline.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

/// Where the key is on an appliance: a link to the state partition, which the boot makes.
pub const ON_APPLIANCE: &str = "/etc/twobox/pair.key";

/// The secret that both boxes share. Wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PairKey([u8; 32]);

impl PairKey {
    /// The bytes, for those who derive keys from them.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for PairKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for PairKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PairKey(secret)")
    }
}

/// Makes a new key, mode 0600. Never overwrites: the peer may hold the former one.
///
/// # Errors
///
/// `AlreadyExists`, or what open(2), getrandom(2), write(2) and fsync(2) say.
pub fn create(path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *key).map_err(io::Error::from)?;
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in *key {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text.push('\n');
    // create_new is O_EXCL: no race with another file, no following of a symbolic link.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
        // Half a key is no key. It is ours: it was not there before.
        let _ = std::fs::remove_file(path);
    })
}

/// Reads the key of a pair.
///
/// # Errors
///
/// What is wrong with the file, in words that follow its name: it cannot be read, is no file, belongs to somebody else,
/// may be read by others, or holds no key.
pub fn load(path: &Path) -> Result<PairKey, String> {
    // Neither a pipe that nobody writes to nor a device is waited for.
    let file =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound => {
                    "is not there; make it with `twobox key new` and copy it to both boxes".to_owned()
                }
                _ => format!("cannot be read ({error})"),
            }
        })?;
    refuse_loose_access(&file)?;
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    file.take(256).read_to_end(&mut text).map_err(|error| format!("cannot be read ({error})"))?;
    parse(&text).ok_or_else(|| "holds no key: 64 hexadecimal digits, made by `twobox key new`".to_owned())
}

/// A secret that others may read or replace is none.
fn refuse_loose_access(file: &File) -> Result<(), String> {
    let metadata = file.metadata().map_err(|error| format!("cannot be looked at ({error})"))?;
    let own = nix::unistd::geteuid().as_raw();
    if !metadata.is_file() {
        return Err("is no regular file".to_owned());
    }
    if metadata.uid() != 0 && metadata.uid() != own {
        return Err(format!("belongs to user {}; its owner must be root or who runs this", metadata.uid()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & !0o600 != 0 {
        return Err(format!(
            "has mode {mode:04o}, so others may read it; `chmod 0600` it, and make a new key if they did"
        ));
    }
    Ok(())
}

fn parse(text: &[u8]) -> Option<PairKey> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    if digits.len() != 64 {
        return None;
    }
    let mut key = PairKey([0; 32]);
    for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    // All zero is what a lost disk gives, never getrandom.
    if key.0 == [0; 32] { None } else { Some(key) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("twobox-key-{}-{name}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_new_key_is_private_random_and_readable() {
        let (one, two) = (Scratch::new("one"), Scratch::new("two"));
        create(&one.0).unwrap();
        create(&two.0).unwrap();
        assert_eq!(std::fs::metadata(&one.0).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_ne!(load(&one.0).unwrap(), load(&two.0).unwrap());
        assert_eq!(format!("{:?}", load(&one.0).unwrap()), "PairKey(secret)");
    }

    #[test]
    fn an_old_key_is_never_overwritten() {
        let scratch = Scratch::new("old");
        std::fs::write(&scratch.0, "precious").unwrap();
        assert_eq!(create(&scratch.0).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&scratch.0).unwrap(), b"precious");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let scratch = Scratch::new("loose");
        create(&scratch.0).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o700, 0o4600] {
            std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(load(&scratch.0).unwrap_err().contains("mode"), "{mode:o}");
        }
        std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(load(&scratch.0).is_ok());
    }

    #[test]
    fn a_damaged_key_is_refused() {
        let good = "0123456789abcdef".repeat(4);
        assert!(parse(good.as_bytes()).is_some() && parse(format!("{good}\n").as_bytes()).is_some());
        for wrong in
            [&good[1..], &format!("{good}0"), &good.replace('0', "g"), &"0".repeat(64), "", &good.replace('0', " ")]
        {
            assert!(parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert!(load(Path::new("/nonexistent")).unwrap_err().contains("twobox key new"));
        assert!(load(Path::new("/")).unwrap_err().contains("regular file"));
        let pipe = Scratch::new("pipe");
        nix::unistd::mkfifo(&pipe.0, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(load(&pipe.0).unwrap_err().contains("regular file"));
    }
}
