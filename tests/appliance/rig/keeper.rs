//! Clears up after the rig, however it ends: a shell that waits for the end of a pipe which only this process holds.
//! The kernel closes it after an abort or a SIGKILL just as it does after a return from `main`.

use std::process::{Child, Command, Stdio};

/// A shell script that runs once when this process has ended, or when this value is dropped.
pub struct Keeper(Child);

impl Keeper {
    /// Keeps `script` ready; its `$1` is `argument`. It has a process group of its own: a ctrl-C does not reach it.
    #[allow(clippy::disallowed_methods)] // starts a shell
    pub fn start(script: &str, argument: &str) -> Keeper {
        use std::os::unix::process::CommandExt;
        let script = format!("trap '' INT TERM HUP TTOU; cat >/dev/null; {script}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "keeper", argument]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        Keeper(shell.spawn().expect("a shell"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
