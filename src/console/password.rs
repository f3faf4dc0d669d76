//! The console's password: only its Argon2id hash is kept (RFC 9106), in the PHC string format.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

/// Memory of one hash in KiB. Small boxes have 128 MiB in all; more passes make up for less memory.
const MEMORY_KIB: u32 = 8 * 1024;
const PASSES: u32 = 4;

/// Longest password in bytes: a line of the console.
const LENGTH_LIMIT: usize = 512;

fn hasher() -> io::Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(io::Error::other)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Writes the hash of a password, mode 0600. Never overwrites.
///
/// # Errors
///
/// `InvalidInput` for an empty or endless password, `AlreadyExists`, or what the system calls say.
pub fn create(path: &Path, password: &str) -> io::Result<()> {
    if password.is_empty() || password.len() > LENGTH_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a password has 1 to 512 bytes"));
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)?;
    let salt = SaltString::encode_b64(&salt).map_err(io::Error::other)?;
    let hash = hasher()?.hash_password(password.as_bytes(), &salt).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{hash}\n").as_bytes())?;
    file.sync_all()
}

/// A hash that passwords are compared with.
#[derive(Clone)]
pub struct Stored(String);

impl std::fmt::Debug for Stored {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Stored(hash)")
    }
}

impl Stored {
    /// Reads the file that [`create`] made.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn load(path: &Path) -> Result<Self, String> {
        let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
        if metadata.mode() & 0o022 != 0 {
            return Err(format!("mode {:04o}: others may replace it; `chmod 0600` it", metadata.mode() & 0o7777));
        }
        if !metadata.is_file() || metadata.len() > 1024 {
            return Err("holds no password hash; make it with `twobox key password`".into());
        }
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let text = text.trim_end().to_owned();
        match PasswordHash::new(&text) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err("holds no password hash; make it with `twobox key password`".into()),
        }
    }

    /// The password is the one that was hashed. Takes a few tens of milliseconds, on purpose.
    #[must_use]
    pub fn matches(&self, password: &str) -> bool {
        let (Ok(hasher), Ok(hash)) = (hasher(), PasswordHash::new(&self.0)) else { return false };
        password.len() <= LENGTH_LIMIT && hasher.verify_password(password.as_bytes(), &hash).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_itself_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("twobox-password-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        create(&path, "open sesame").unwrap();
        assert_eq!(create(&path, "other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("sesame"));
        let stored = Stored::load(&path).unwrap();
        assert!(stored.matches("open sesame"));
        assert!(!stored.matches("open Sesame") && !stored.matches("") && !stored.matches(&"x".repeat(9_999)));
        std::fs::write(&path, "open sesame").unwrap();
        assert!(Stored::load(&path).unwrap_err().contains("twobox key password"));
        std::fs::remove_file(&path).unwrap();
        assert!(create(&path, "").is_err());
    }
}
