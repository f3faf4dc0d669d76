//! Which face: PID 1, a daemon on a host, or a command. Parses and hands over.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use twobox::console::client::socket_path;
use twobox::console::command::{Command, Run};
use twobox::console::execute::execute;
use twobox::console::exit::Exit;
use twobox::console::face::{Face, Standard};
use twobox::console::{parse, prompt};
use twobox::init::power::{End, leave};
use twobox::init::wait::{until_it_can_run, wait};

fn main() -> Exit {
    if std::process::id() == 1 {
        appliance();
    }
    let mut face = Standard::default();
    let arguments: Vec<String> = match std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect() {
        Ok(arguments) => arguments,
        Err(argument) => {
            face.complain(&format!("twobox: {} is not UTF-8", argument.display()));
            return Exit::WrongUse;
        }
    };
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(exit) = child(&arguments) {
        return exit;
    }
    // The console on a box's port: the same words, in a process that is confined.
    let is_console_child = arguments.first() == Some(&"console-child");
    if is_console_child {
        arguments[0] = "console";
        if let Err(error) = twobox::confine::harden() {
            face.complain(&format!("twobox console-child: {error}"));
            return Exit::Refused;
        }
    }
    let line = match parse::parse("twobox", &arguments) {
        Ok(line) => line,
        Err(explanation) if explanation.asked => {
            face.say(&explanation.folded(face.style().width));
            return face.end(Exit::Done);
        }
        Err(explanation) => {
            face.complain(&explanation.text);
            return Exit::WrongUse;
        }
    };
    let socket = socket_path(line.socket.as_deref());
    match line.command {
        Command::Run(run) => daemon(run, socket, &mut face),
        Command::Console(console) => {
            let settings = prompt::Settings {
                port: console.device.map(|path| (path, console.baud)),
                socket,
                password_file: console.password_file,
                idle: if console.idle == 0 { None } else { Some(Duration::from_secs(console.idle.into())) },
                is_child: is_console_child,
            };
            prompt::run(&settings, &mut face)
        }
        command => {
            let exit = execute(command, &socket, &mut face);
            face.end(exit)
        }
    }
}

/// A process that the daemon starts for itself, if the words are those of one.
fn child(words: &[&str]) -> Option<Exit> {
    let status = match words {
        ["mirror-child", rest @ ..] => twobox::mirror::child::main(rest),
        ["observe-child"] => twobox::observe::child::main(),
        ["update-child"] => twobox::update::child::main(),
        _ => return None,
    };
    Some(match status {
        0 => Exit::Done,
        1 => Exit::Refused,
        _ => Exit::WrongUse,
    })
}

fn daemon(run: Run, socket: PathBuf, face: &mut Standard) -> Exit {
    let options = twobox::run::Options {
        board: run.board,
        site: run.site,
        node: run.node,
        state: run.state,
        socket,
        levels: None,
        appliance: None,
    };
    match twobox::run::run(&options) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            face.complain(&failure.shown());
            failure.exit
        }
    }
}

/// PID 1 on the appliance: boots, runs the pair, and ends the box when the pair has left. Never returns.
fn appliance() -> ! {
    let mut boot = until_it_can_run(twobox::init::start());
    let options = match (boot.obstacle(), boot.side, &boot.site) {
        (None, Some(node), Some(site)) => twobox::run::Options {
            board: twobox::init::boot::BOARD.into(),
            site: site.clone(),
            node,
            state: twobox::init::volume::STATE.into(),
            socket: socket_path(None),
            levels: None,
            appliance: Some(twobox::run::Appliance {
                report: std::mem::take(&mut boot.report),
                hold: boot.hold_reason().map(str::to_owned),
                panic: boot.last_reset.panic_text().map(str::to_owned),
                image: boot.image.clone(),
                began: boot.began,
                power_off: Arc::default(),
            }),
        },
        (obstacle, ..) => {
            let reason = obstacle.unwrap_or("the boot did not find out what to run").to_owned();
            wait(boot, &reason);
        }
    };
    // The daemon opens both anew: the console with its own settings, the watchdog with the site's time-out. Nobody
    // stops the watchdog by closing it.
    drop((boot.terminal.take(), boot.watchdog.take()));
    match twobox::run::run(&options) {
        Ok(()) => {
            let off = options.appliance.is_some_and(|appliance| appliance.power_off.load(Ordering::Relaxed));
            // The daemon has closed the watchdog, which goes on: fed again, until everything is written.
            boot.reopen();
            leave(if off { End::PowerOff } else { End::Reboot }, boot.watchdog.take());
        }
        Err(failure) => {
            boot.reopen();
            wait(boot, &failure.text);
        }
    }
}
