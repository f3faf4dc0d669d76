//! The demonstration, `./flash.sh demo`: both boxes under QEMU on this machine, every cable in one hand, and a client
//! that fetches from the service address all the time.
//!
//! ```text
//! demo                         one screen; keys cut cables, hang boxes, and so on
//! demo --script [FILE|WORDS]   plays a script without a terminal, prints what happens and a verdict; exit 0 or 1
//! demo --figures RUNS          measures every fault that many times and prints a table: `tests/bench appliance`
//! ```
//!
//! `script`, `model`, `screen` and `verdict` are pure; `stage` gives orders to the rig of the appliance tests, `run` is the
//! two loops, and `figures` measures. Nothing of it is in the shipped program.

#[allow(dead_code)] // the tests of the appliance use the rest
#[path = "../rig/mod.rs"]
mod rig;

mod figures;
mod model;
mod run;
mod screen;
mod script;
mod stage;
#[cfg(test)]
mod tests;
mod verdict;

use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use rig::keeper::Keeper;
use rig::{Rig, images, root};
use stage::Stage;

const USAGE: &str = "usage: ./flash.sh demo [--script [FILE|WORDS]]";

/// What to do.
enum Way {
    Keys,
    Script(Vec<script::Act>),
    Figures(usize),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let way = match way(&arguments) {
        Ok(way) => way,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    // Before the first thread, so that all of them leave the signals to this one. Children begin with none blocked.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
    signals.thread_block().expect("signals can be blocked");
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).expect("a descriptor for signals");
    let _terminal = matches!(way, Way::Keys).then(keep_terminal).flatten();
    eprintln!("making the disks of the pair");
    let images = images::make(root(), "qemu-pc", &root().join("tests/appliance/site.toml"));
    let mut stage = Stage::new(Rig::new("qemu-pc", &images, false));
    let done = match way {
        Way::Keys => {
            let ended = run::interactive(&mut stage, &signals);
            print!("{}", verdict::told(&stage.rig.reigns()));
            ended.map(|()| true).map_err(|error| format!("{error}; without a terminal: ./flash.sh demo --script"))
        }
        Way::Script(acts) => run::script(&mut stage, &acts, &signals),
        Way::Figures(runs) => figures::measure(&mut stage, &images, runs).map(|figures| {
            print!("{}", figures.table());
            true
        }),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

fn way(arguments: &[String]) -> Result<Way, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => Ok(Way::Keys),
        ["--script", words @ ..] => read_script(words).map(Way::Script),
        ["--figures", runs] => Ok(Way::Figures(runs.parse().map_err(|_| format!("{runs} is no number of runs"))?)),
        _ => Err(format!("{USAGE}\n\nWords of a script, acts separated by semicolons:\n{}", script::WORDS)),
    }
}

/// A script from a file, from words, or the one that shows every fault.
fn read_script(words: &[&str]) -> Result<Vec<script::Act>, String> {
    match words {
        [] => script::parse(script::DEFAULT),
        [path] if std::path::Path::new(path).is_file() => {
            script::parse(&std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?)
        }
        words => script::parse(&words.join(" ")),
    }
}

/// Restores the terminal even after an abort, when nothing of this process runs any more.
#[allow(clippy::disallowed_methods)] // runs stty
fn keep_terminal() -> Option<Keeper> {
    let said = Command::new("stty").arg("-g").stdin(Stdio::inherit()).output().ok()?;
    let modes = String::from_utf8(said.stdout).ok()?;
    said.status.success().then(|| Keeper::start("stty \"$1\" </dev/tty", modes.trim()))
}
