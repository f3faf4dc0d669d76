//! Which face: PID 1, a daemon on a host, or a command. Parses and hands over.

use std::path::PathBuf;
use std::time::Duration;

use twobox::console::client::socket_path;
use twobox::console::command::{self, Command};
use twobox::console::execute::execute;
use twobox::console::exit::Exit;
use twobox::console::face::{Face, Standard};
use twobox::console::prompt;

fn main() -> Exit {
    if std::process::id() == 1 {
        let boot = twobox::init::start();
        let reason = boot.obstacle().unwrap_or("the daemon is not part of this program yet").to_owned();
        twobox::init::wait::wait(boot, &reason);
    }
    let mut face = Standard::default();
    let arguments: Vec<String> = match std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect() {
        Ok(arguments) => arguments,
        Err(argument) => {
            face.complain(&format!("twobox: {} is not UTF-8", argument.display()));
            return Exit::WrongUse;
        }
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = match command::parse("twobox", &arguments) {
        Ok(line) => line,
        Err(explanation) if explanation.asked => {
            face.say(&explanation.text);
            return Exit::Done;
        }
        Err(explanation) => {
            face.complain(&explanation.text);
            return Exit::WrongUse;
        }
    };
    let socket = socket_path(line.socket.as_deref());
    match line.command {
        Command::Run(run) => daemon(run, socket, &mut face),
        Command::Console(console) => prompt::run(&prompt::Settings {
            port: console.device.map(|path| (path, console.baud)),
            socket,
            password_file: console.password_file,
            idle: if console.idle == 0 { None } else { Some(Duration::from_secs(console.idle)) },
        }),
        command => execute(command, &socket, &mut face),
    }
}

fn daemon(run: command::Run, socket: PathBuf, face: &mut Standard) -> Exit {
    let options = twobox::run::Options {
        board: run.board,
        site: run.site,
        node: run.node,
        state: run.state,
        socket,
        levels: None,
        appliance: false,
    };
    match twobox::run::run(&options) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            face.complain(&failure.text);
            failure.exit
        }
    }
}
