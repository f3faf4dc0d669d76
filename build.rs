//! Tells the program which commit it was made from, and the linker how the shipped one is laid out.

#![allow(clippy::disallowed_methods)] // a build script runs programs

use std::path::Path;
use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Leaves 0.3 MB out and sets 0.4 MB apart, all of which the daemon would lock in memory.
const LAYOUT: &str = ".cargo/layout.ld";

fn main() {
    println!("cargo:rerun-if-env-changed=TWOBOX_COMMIT");
    for path in ["build.rs", "src", "Cargo.toml", "Cargo.lock", LAYOUT] {
        println!("cargo:rerun-if-changed={path}");
    }
    // The log of HEAD changes with every commit and every checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo:rerun-if-changed={log}");
    }
    // A development build would be compiled anew after every commit for the sake of this word.
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if release && variable("CARGO_CFG_TARGET_ENV") == "musl" {
        println!("cargo:rustc-link-arg-bins=-T{}/{LAYOUT}", variable("CARGO_MANIFEST_DIR"));
    }
    let described = || git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    let commit = match std::env::var("TWOBOX_COMMIT") {
        Ok(commit) => Some(commit),
        Err(_) if release => described(),
        Err(_) => Some("development build".to_owned()),
    };
    println!("cargo:rustc-env=TWOBOX_COMMIT={}", commit.as_deref().unwrap_or("unknown commit"));
}
