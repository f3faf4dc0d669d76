//! The console: a prompt on a serial port or a terminal, with the words of the command line.
//!
//! It runs as a process of its own and speaks to the daemon by the control socket only. A terminal that hangs, floods,
//! breaks or goes away costs this process time and nothing else.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use super::alarm;
use super::bounds::confine_to;
use super::client::{Conversation, Failure};
use super::command::Command;
use super::complete::{ELSEWHERE, OF_FILES, commands, complete};
use super::control::{Reply, Request};
use super::desk::Desk;
use super::editor::{Editor, Event};
use super::execute::execute;
use super::exit::Exit;
use super::face::Face;
use super::parse;
use super::password::Stored;
use super::report::wrap;
use super::status::Status;
use super::terminal::Terminal;
use crate::clock;
use crate::time::Instant;

/// How the console is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A serial port and its speed; `None`: standard input and output.
    pub port: Option<(PathBuf, u32)>,
    /// The daemon's control socket.
    pub socket: PathBuf,
    /// The file with the hash of the password that is asked for.
    pub password_file: Option<PathBuf>,
    /// With a password: silence that logs out.
    pub idle: Option<Duration>,
    /// The daemon runs it: it gives up what it does not need, says on standard output what that is, and ends when the
    /// port goes away.
    pub is_child: bool,
}

/// How often the prompt looks after things when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// How often the status is heard for prompt and alarms.
const STATUS_MS: u64 = 1_000;
/// After so many wrong lines without a pause nobody reads what is answered: it is noise, or another machine's login
/// prompt that would answer to the answers for ever.
const WRONG_LIMIT: u32 = 5;
/// A pause that makes it a person again.
const PAUSE: Duration = Duration::from_secs(3);
/// Longest delay after a wrong password.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// Runs the console: on a port for ever, on a terminal until the operator leaves. A port that cannot be opened at the
/// beginning is an error; one that goes away later is waited for.
#[must_use]
pub fn run(settings: &Settings, face: &mut dyn Face) -> Exit {
    let mut opened = false;
    loop {
        let terminal = match &settings.port {
            None => Terminal::standard(),
            Some((path, baud)) => Terminal::port(path, *baud),
        };
        match (terminal, &settings.port) {
            (Ok(terminal), port) => {
                opened = true;
                if settings.is_child
                    && let Err(error) = confined(settings, face)
                {
                    face.complain(&format!("the console's process could not be confined: {error}"));
                    return Exit::Refused;
                }
                Session::new(&terminal, settings).run();
                if settings.is_child {
                    face.complain("the port has gone");
                    return Exit::Refused;
                }
                if port.is_none() {
                    return Exit::Done;
                }
            }
            (Err(_), None) => {
                face.complain("twobox: the console needs a terminal; name a serial port with --device");
                return Exit::Refused;
            }
            (Err(error), Some(_)) if opened => log::debug!("console port: {error}"),
            (Err(error), Some((_, baud))) if error.kind() == io::ErrorKind::InvalidInput => {
                face.complain(&format!(
                    "twobox: --baud {baud} is no speed of a serial port; 115200 and 9600 are usual"
                ));
                return Exit::WrongUse;
            }
            (Err(error), Some((path, _))) => {
                face.complain(&format!(
                    "twobox: the console's port {}: {error}; name a serial port that is there and free",
                    path.display()
                ));
                return Exit::Refused;
            }
        }
        pause();
    }
}

fn confined(settings: &Settings, face: &mut dyn Face) -> io::Result<()> {
    let confinement = confine_to(settings.password_file.as_deref())?;
    face.say(&format!("{CONFINED}{confinement}"));
    Ok(())
}

/// Begins the line in which a confined console tells what is in force.
pub const CONFINED: &str = "confined: ";

/// The port went away (a USB converter was pulled out): wait before it is opened again.
#[allow(clippy::disallowed_methods)] // a process of its own, with nothing else to do
fn pause() {
    std::thread::sleep(TICK);
}

/// One operator at one terminal.
struct Session<'t> {
    desk: Desk<'t>,
    settings: &'t Settings,
    editor: Editor,
    feed: Option<Conversation>,
    next_try: Instant,
    status: Option<Box<Status>>,
    /// Alarms that were shown.
    known: BTreeSet<String>,
    prompt: String,
    wrong: u32,
    leave: bool,
}

impl<'t> Session<'t> {
    fn new(terminal: &'t Terminal, settings: &'t Settings) -> Self {
        // A port is not asked for its size here: a login prompt at the other end would answer.
        let width = terminal.known_size().map_or(80, |(width, _)| width.clamp(40, 300));
        let desk = Desk::new(terminal, width);
        Self {
            desk,
            settings,
            editor: Editor::default(),
            feed: None,
            next_try: Instant::BOOT,
            status: None,
            known: BTreeSet::new(),
            prompt: "no daemon> ".to_owned(),
            wrong: 0,
            leave: false,
        }
    }

    fn run(&mut self) {
        while !self.desk.gone && !self.leave {
            if !self.log_in() {
                continue;
            }
            self.hear();
            self.redraw();
            self.serve();
        }
        self.desk.write(b"\r\n");
    }

    /// Asks for the password until it is right. False: the terminal has gone, or the operator does not answer.
    fn log_in(&mut self) -> bool {
        let Some(path) = &self.settings.password_file else { return true };
        let mut delay = TICK;
        loop {
            let typed = self.desk.ask("password: ", false);
            if self.desk.gone {
                return false;
            }
            let Some(typed) = typed else {
                self.wait_for_life();
                continue;
            };
            match Stored::load(path) {
                Ok(stored) if stored.matches(&typed) => return true,
                Ok(_) => self.desk.say("wrong"),
                // Without a hash nobody may in: a missing file must not open the door.
                Err(why) => self.desk.complain(&format!("{}: {why}", path.display())),
            }
            self.lock(delay);
            delay = (delay * 2).min(LOCK_LIMIT);
        }
    }

    /// Hears nothing for a while, so that guessing is slow.
    fn lock(&mut self, time: Duration) {
        let end = clock::now() + time;
        while clock::now() < end && !self.desk.gone {
            if let Ok((true, _)) = self.desk.terminal.wait(None, end.until(clock::now())) {
                self.desk.read();
                self.desk.typed.clear();
            }
        }
    }

    /// Waits for a key.
    fn wait_for_life(&mut self) {
        while !self.desk.gone && self.desk.typed.is_empty() {
            match self.desk.terminal.wait(None, TICK) {
                Ok((true, _)) => self.desk.read(),
                Ok(_) => {}
                Err(_) => self.desk.gone = true,
            }
        }
        self.desk.typed.clear();
    }

    /// Serves until the operator leaves, is logged out or is gone.
    fn serve(&mut self) {
        self.desk.last_key = clock::now();
        while !self.desk.gone {
            while let Some(byte) = self.desk.typed.pop_front() {
                if self.key(byte) {
                    return;
                }
            }
            let echo = self.editor.echo(&self.prompt, self.desk.width);
            self.desk.write(&echo);
            self.connect();
            let feed = self.feed.as_ref().map(AsFd::as_fd);
            match self.desk.terminal.wait(feed, TICK) {
                Ok((typed, told)) => {
                    if typed {
                        self.after_pause();
                        self.desk.read();
                    }
                    if told {
                        self.hear();
                    }
                }
                Err(_) => self.desk.gone = true,
            }
            if self.is_idle(self.desk.last_key) {
                self.desk.say("logged out: no key for a while");
                return;
            }
        }
    }

    fn is_idle(&self, since: Instant) -> bool {
        let limit = self.settings.idle.filter(|_| self.settings.password_file.is_some());
        limit.is_some_and(|limit| clock::now().since(since) > limit)
    }

    /// Forgives wrong lines after a pause.
    fn after_pause(&mut self) {
        if clock::now().since(self.desk.last_key) >= PAUSE && self.wrong > 0 {
            if self.wrong > WRONG_LIMIT {
                let ignored = self.wrong - WRONG_LIMIT;
                self.desk.say(&format!("({ignored} wrong lines in a row were not answered)"));
                self.redraw();
            }
            self.wrong = 0;
        }
    }

    /// Takes a key; true ends the session.
    fn key(&mut self, byte: u8) -> bool {
        match self.editor.feed(byte) {
            None => {}
            Some(Event::Line(line)) => {
                self.desk.write(b"\r\n");
                if self.line(&line) {
                    return true;
                }
                self.redraw();
            }
            Some(Event::Interrupt) => {
                self.desk.write(b"^C\r\n");
                self.redraw();
            }
            Some(Event::End) => return self.log_out(),
            Some(Event::Complete(before)) => {
                let completion = complete(&before, self.status.as_deref(), self.settings.is_child);
                if completion.candidates.is_empty() {
                    self.editor.insert_text(&completion.insert);
                } else {
                    let words = wrap(&completion.candidates.join("  "), self.desk.width - 1).join("\n");
                    self.desk.say(&words);
                    self.redraw();
                }
            }
        }
        false
    }

    fn log_out(&mut self) -> bool {
        if self.settings.port.is_none() {
            self.leave = true;
            return true;
        }
        if self.settings.password_file.is_some() {
            return true;
        }
        self.desk.say("this port has no login to go back to");
        self.redraw();
        false
    }

    /// Does what a line says; true ends the session.
    fn line(&mut self, line: &str) -> bool {
        let words = match parse::words(line) {
            Ok(words) => words,
            Err(what) => {
                self.answer_wrong(what);
                return false;
            }
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // As it is typed on a command line, or copied from the manual.
        match words.strip_prefix(&["twobox"]).unwrap_or(&words) {
            [] => {}
            ["exit" | "logout" | "quit"] => return self.log_out(),
            ["help" | "?"] => self.help(),
            ["help" | "?", of @ ..] => self.parse_and_do(&[of, &["--help"]].concat()),
            words => {
                let began = clock::now();
                self.parse_and_do(words);
                if self.is_idle(began) {
                    self.desk.say("logged out: that took long");
                    return true;
                }
            }
        }
        false
    }

    fn parse_and_do(&mut self, words: &[&str]) {
        let is_socket = |word: &&&str| **word == "--socket" || word.starts_with("--socket=");
        let foreign = ELSEWHERE.contains(&words[0]).then_some(words[0]);
        if let Some(word) = foreign.or_else(|| words.iter().find(is_socket).map(|_| "--socket")) {
            self.answer_wrong(&format!("{word} is not for this prompt; see `help`"));
            return;
        }
        if self.settings.is_child && OF_FILES.contains(&words[0]) {
            self.desk.complain(&format!(
                "{}: the console of a box can open no files; use it where the box's files are made",
                words[0]
            ));
            return;
        }
        match parse::parse("", words) {
            Ok(line) => {
                self.wrong = 0;
                // The feed would fill up while nobody reads it.
                self.feed = None;
                let watched = matches!(line.command, Command::Watch(_));
                execute(line.command, &self.settings.socket, &mut self.desk);
                if watched {
                    self.next_try = Instant::BOOT;
                }
                self.hear();
            }
            Err(explanation) if explanation.asked => {
                self.desk.say(explanation.folded(self.desk.width).trim_start_matches("Usage: ").trim());
            }
            Err(explanation) => {
                let text = explanation.text.trim().lines().next().unwrap_or("not understood").to_owned();
                self.answer_wrong(&format!("{text}; see `help`"));
            }
        }
    }

    fn answer_wrong(&mut self, what: &str) {
        self.wrong = self.wrong.saturating_add(1);
        if self.wrong <= WRONG_LIMIT {
            self.desk.complain(what);
        }
    }

    /// All commands on one screen of 80x24.
    fn help(&mut self) {
        let mut text = String::from("commands; `help WORD` tells more\n");
        for (name, description) in commands(self.settings.is_child) {
            let line: String = format!("  {name:<11} {description}").chars().take(self.desk.width - 1).collect();
            text.push_str(&line);
            text.push('\n');
        }
        if self.settings.is_child {
            text.push_str("not here, for this console can open no files: ");
            text.push_str(&OF_FILES.join(", "));
            text.push('\n');
        }
        text.push_str("keys: tab completes, up and down go through the history, ctrl-C cancels\n");
        self.desk.say(&text);
    }

    /// Prompt and line again, on a line of their own.
    fn redraw(&mut self) {
        let bytes = self.editor.draw(&self.prompt, self.desk.width);
        self.desk.write(&bytes);
    }

    fn connect(&mut self) {
        let now = clock::now();
        if self.feed.is_some() || now < self.next_try {
            return;
        }
        self.next_try = now + TICK;
        match Conversation::start(&self.settings.socket, &Request::Status { every_ms: Some(STATUS_MS) }) {
            Ok(feed) => self.feed = Some(feed),
            Err(_) => self.without_daemon(),
        }
    }

    fn without_daemon(&mut self) {
        self.feed = None;
        self.status = None;
        self.set_prompt("no daemon> ".to_owned());
    }

    /// Takes what the daemon has told: prompt and alarms. Waits for the first status of a fresh connection.
    fn hear(&mut self) {
        self.connect();
        let Some(feed) = &mut self.feed else { return };
        // A daemon that hangs must not take the prompt with it.
        if !matches!(self.desk.terminal.wait(Some(feed.as_fd()), TICK / 2), Ok((_, true))) {
            return;
        }
        let newest = feed.fill().and_then(|()| {
            let mut newest = None;
            while let Some(reply) = feed.buffered_reply()? {
                match reply {
                    Reply::Status { status } => newest = Some(status),
                    reply if reply.is_last() => return Err(Failure::Died),
                    _ => {}
                }
            }
            Ok(newest)
        });
        match newest {
            Ok(Some(status)) => self.take(status),
            Ok(None) => {}
            Err(_) => self.without_daemon(),
        }
    }

    fn take(&mut self, status: Box<Status>) {
        let mut said = String::new();
        let mut known = BTreeSet::new();
        for alarm in &status.alarms {
            let id = format!("{} {}", alarm.name, alarm.text);
            if !self.known.contains(&id) {
                said.push_str(&wrap(&format!("ALARM {}", alarm.text), self.desk.width - 1).join("\n"));
                said.push('\n');
                if let Some(entry) = alarm::find(&alarm.name) {
                    let remedy = wrap(entry.remedy, self.desk.width.saturating_sub(7)).join("\n      ");
                    said.push_str(&format!("   -> {remedy}"));
                    said.push('\n');
                }
            }
            known.insert(id);
        }
        self.known = known;
        let prompt = format!("{} {}> ", status.node, status.role.word());
        self.status = Some(status);
        if !said.is_empty() {
            self.prompt = prompt;
            self.desk.say(&said);
            self.redraw();
        } else {
            self.set_prompt(prompt);
        }
    }

    fn set_prompt(&mut self, prompt: String) {
        if self.prompt != prompt {
            self.prompt = prompt;
            self.redraw();
        }
    }
}
