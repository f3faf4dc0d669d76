//! The program as it is shipped: static, optimised, laid out as the linker is told.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo puts it.
pub fn folder(root: &Path) -> PathBuf {
    root.join("target/x86_64-unknown-linux-musl/release")
}

/// Builds it and the packer: yesterday's program shows nothing about today's. What is up to date takes cargo a second.
#[allow(clippy::disallowed_methods)] // runs cargo
pub fn build(root: &Path) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--quiet", "--release", "--target", "x86_64-unknown-linux-musl", "--bins"]);
    // What cargo says to a test about its package is said to build scripts too: ring would be built anew each time, and so
    // would the program, under the name of a development build.
    let about_us =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_", "OUT_DIR", "TWOBOX_COMMIT"];
    for (name, _) in std::env::vars_os() {
        if about_us.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let built = cargo.status().expect("cargo runs");
    assert!(built.success(), "{cargo:?}: {built}");
}
