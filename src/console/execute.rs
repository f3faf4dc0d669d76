//! From a command's words to what the operator sees: the same for the command line and the serial console.

use std::path::Path;
use std::time::Duration;

use super::check;
use super::client::{Conversation, Failure};
use super::command::{Command, Diverged, KeyCommand, Mirror, MirrorCommand, Peer, PeerCommand, Sync, Update, Verify};
use super::control::{Event, MirrorRequest, PeerRequest, Progress, Reply, Request, validate};
use super::exit::Exit;
use super::face::{Face, Wake};
use super::outcome::{Deletions, Summary, TreeOutcome};
use super::password;
use super::printable::{printable, printable_lines};
use super::report::{self, bytes, span};
use super::status::{Role, Status};
use super::utc;
use crate::config::key_file;

/// No reply and no sign of life for this long: the daemon hangs.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// A peer heard within this time is not silent, whatever the lease is: the daemon would refuse a force.
const PEER_LIVES_MS: u64 = 100;

/// Does what a command asks. `run` and `console` are other programs' faces and not known here.
///
/// # Panics
///
/// On `run` and `console`: whoever parses the words has taken them out.
pub fn execute(command: Command, socket: &Path, face: &mut dyn Face) -> Exit {
    match command {
        Command::Status(how) | Command::Peer(Peer { command: PeerCommand::Status(how) }) if how.watch && how.json => {
            misuse(face, "status takes --json or --watch, not both")
        }
        Command::Status(how) if how.watch => face.watch(socket, Duration::from_millis(500)),
        Command::Status(how) => show_status(&Request::Status { every_ms: None }, how.json, socket, face),
        Command::Watch(how) => {
            let interval = Duration::try_from_secs_f32(how.interval).unwrap_or(Duration::from_millis(500));
            face.watch(socket, interval)
        }
        Command::Switchover(how) => ask(&Request::Switchover { lose_changes: how.lose_changes }, socket, face),
        Command::Hold(hold) => ask(&Request::Hold { reason: reason(&hold.reason) }, socket, face),
        Command::Release(_) => ask(&Request::Release, socket, face),
        Command::Activate(how) => activate(how.force, socket, face),
        Command::Drill(_) => ask(&Request::Drill, socket, face),
        Command::History(how) => ask(&Request::History { count: how.count }, socket, face),
        Command::Log(how) => ask(&Request::Log { lines: how.lines, follow: how.follow }, socket, face),
        Command::Peer(Peer { command }) => peer(command, socket, face),
        Command::Mirror(Mirror { command }) => mirror(command, socket, face),
        Command::Update(update) => install(&update, socket, face),
        Command::Reboot(_) => ask(&Request::Reboot, socket, face),
        Command::Poweroff(_) => ask(&Request::Poweroff, socket, face),
        Command::Check(check) => check::run(&check, face),
        Command::Key(key) => match key.command {
            KeyCommand::New(new) => make_key(&new.file, face),
            KeyCommand::Password(new) => make_password(&new.file, face),
        },
        Command::Version(_) => {
            face.say(&version());
            Exit::Done
        }
        Command::Run(_) | Command::Console(_) => unreachable!("taken out by whoever parsed the words"),
    }
}

/// Name and version of this program.
#[must_use]
pub fn version() -> String {
    format!("twobox {} ({})", env!("CARGO_PKG_VERSION"), env!("TWOBOX_COMMIT"))
}

fn reason(words: &[String]) -> Option<String> {
    if words.is_empty() { None } else { Some(words.join(" ")) }
}

fn refuse(face: &mut dyn Face, why: &str) -> Exit {
    face.complain(&format!("twobox: {why}"));
    Exit::Refused
}

fn misuse(face: &mut dyn Face, why: &str) -> Exit {
    face.complain(&format!("twobox: {why}"));
    Exit::WrongUse
}

/// Sends a request and hands every reply on until the last one; says what went wrong.
fn converse(request: &Request, socket: &Path, face: &mut dyn Face, mut each: impl FnMut(Reply, &mut dyn Face)) -> Exit {
    if let Err(why) = validate(request) {
        return misuse(face, &why);
    }
    let mut talk = match Conversation::start(socket, request) {
        Ok(talk) => talk,
        Err(failure) => return refuse(face, &failure.to_string()),
    };
    let goes_on = matches!(request, Request::Log { follow: true, .. });
    loop {
        match talk.buffered_reply() {
            Ok(Some(Reply::Refused { reason, remedy })) => {
                let why = if remedy.is_empty() { reason.clone() } else { format!("{reason}; {remedy}") };
                each(Reply::Refused { reason, remedy }, face);
                return refuse(face, &printable(&why));
            }
            Ok(Some(reply)) => {
                let last = reply.is_last();
                each(reply, face);
                if last {
                    return Exit::Done;
                }
                continue;
            }
            Ok(None) => {}
            Err(failure) => return refuse(face, &failure.to_string()),
        }
        let wake = face.wait(std::os::fd::AsFd::as_fd(&talk), SILENCE_LIMIT);
        let failure = match wake {
            // What goes on for ever ends with its reader, and not only with the next line; or when he has seen enough.
            Wake::Ready if goes_on && face.is_abandoned() => return Exit::Done,
            Wake::Interrupted if goes_on => return Exit::Done,
            Wake::Ready => talk.fill().err(),
            Wake::TimedOut => Some(Failure::Silent),
            Wake::Interrupted => {
                return refuse(face, "interrupted; the daemon finishes what it has begun, `status` shows it");
            }
        };
        if let Some(failure) = failure {
            return refuse(face, &failure.to_string());
        }
    }
}

/// Sends a request and shows every reply.
fn ask(request: &Request, socket: &Path, face: &mut dyn Face) -> Exit {
    converse(request, socket, face, show)
}

/// Shows a reply as a person wants to read it.
fn show(reply: Reply, face: &mut dyn Face) {
    match reply {
        Reply::Status { status } => face.say(&report::full(&status, face.style())),
        Reply::Progress(progress) if progress.done.is_some() => face.progress(&bar(&progress)),
        Reply::Progress(progress) => face.say(&step(&progress)),
        Reply::Line { text } => face.say(&printable(&text)),
        Reply::Event(event) => face.say(&entry(&event)),
        Reply::Deletions(deletions) => face.say(&printable_lines(&deletions.text())),
        Reply::Tree(tree) => face.say(&printable_lines(&tree.text())),
        Reply::Done { text } => {
            if !text.is_empty() {
                face.say(&printable(&text));
            }
        }
        Reply::Refused { .. } => {} // who talks with the daemon complains
    }
}

/// A step that is done: its time since the beginning, and what.
fn step(progress: &Progress) -> String {
    let us = progress.elapsed_us;
    format!("{:>6}.{:01} ms  {}", us / 1_000, us % 1_000 / 100, printable(&progress.text))
}

/// How far a long work is: `[#####.....] 42 %  1.2 GB of 2.8 GB  98 MB/s  16 s left`
fn bar(progress: &Progress) -> String {
    const WIDTH: u64 = 20;
    let done = progress.done.unwrap_or(0);
    let amount = |count: u64| match progress.unit.as_str() {
        "bytes" => bytes(count),
        unit => format!("{count} {}", printable(unit)),
    };
    let whole = u128::from(done) * 1_000_000 / u128::from(progress.elapsed_us.max(1));
    let rate = progress.rate.unwrap_or_else(|| u64::try_from(whole).unwrap_or(u64::MAX));
    if progress.files_total == Some(0) {
        return format!("looking for changes  {}  {}", span(progress.elapsed_us / 1000), printable(&progress.text));
    }
    let mut text = match progress.total.filter(|total| *total > 0) {
        Some(total) => {
            let part = done.min(total);
            let share = |of: u64| u128::from(part) * u128::from(of) / u128::from(total);
            let filled = usize::try_from(share(WIDTH)).unwrap_or(0);
            let empty = usize::try_from(WIDTH).unwrap_or(0) - filled;
            let left = (total - part).saturating_mul(1_000).checked_div(rate);
            format!(
                "[{}{}] {:>3} %  {} of {}  {}/s{}",
                "#".repeat(filled),
                ".".repeat(empty),
                share(100),
                amount(done),
                amount(total),
                amount(rate),
                left.map_or(String::new(), |left| format!("  {} left", span(left))),
            )
        }
        None => format!("{}  {}/s", amount(done), amount(rate)),
    };
    if let Some(files) = progress.files {
        let of = progress.files_total.map_or(String::new(), |total| format!(" of {total}"));
        text.push_str(&format!("  {files}{of} files"));
    }
    if !progress.text.is_empty() {
        text.push_str(&format!("  {}", printable(&progress.text)));
    }
    text
}

/// An entry of the history.
fn entry(event: &Event) -> String {
    let when = match event.unix_s {
        Some(seconds) => utc::time(seconds),
        None => format!("boot +{}", span(event.boot_ms)),
    };
    let boots = match event.boots_ago {
        0 => String::new(),
        1 => " (1 start ago)".to_owned(),
        count => format!(" ({count} starts ago)"),
    };
    let what = match (&event.handover, &event.alarm) {
        (Some(handover), _) => format!(
            "{} to {}, term {}: {}; {} (detect {}, fence {})",
            handover.kind.word(),
            handover.to,
            handover.term,
            printable(&handover.reason),
            span(handover.total_ms),
            span(handover.detect_ms),
            span(handover.fence_wait_ms),
        ),
        (None, Some(alarm)) => format!("ALARM {}", printable(alarm)),
        (None, None) => "nothing".to_owned(),
    };
    format!("{when}{boots}  {what}")
}

fn show_status(request: &Request, json: bool, socket: &Path, face: &mut dyn Face) -> Exit {
    let mut failed = false;
    let exit = converse(request, socket, face, |reply, face| match reply {
        Reply::Status { status } if json => match serde_json::to_string(&*status) {
            Ok(text) => face.say(&text),
            Err(_) => failed = true,
        },
        Reply::Done { .. } => {}
        reply => show(reply, face),
    });
    if failed { refuse(face, "the status cannot be written as JSON") } else { exit }
}

/// The newest status, without showing it.
fn fetch_status(socket: &Path, face: &mut dyn Face) -> Result<Status, Exit> {
    let mut newest = None;
    let exit = converse(&Request::Status { every_ms: None }, socket, face, |reply, _| {
        if let Reply::Status { status } = reply {
            newest = Some(*status);
        }
    });
    match newest {
        Some(status) if exit == Exit::Done => Ok(status),
        _ => Err(exit),
    }
}

/// The one order that can bring both boxes up, if what the operator believes is wrong: so it says what is known, and
/// wants more than a yes.
fn activate(force: bool, socket: &Path, face: &mut dyn Face) -> Exit {
    if !force {
        return misuse(
            face,
            "activate takes over without proof that the peer is off: `activate --force` if you have looked",
        );
    }
    let status = match fetch_status(socket, face) {
        Ok(status) => status,
        Err(exit) => return exit,
    };
    let (node, peer) = (&status.node, &status.peer.node);
    // What the daemon would refuse is refused before anybody looks for a switch to pull.
    if status.role == Role::Active {
        return refuse(face, &format!("{node} serves already; nothing is to be done"));
    }
    if let Some(age) = status.peer.heard_ms_ago.filter(|age| *age <= PEER_LIVES_MS) {
        let heard = span(age);
        return refuse(face, &format!("the peer is not silent: {peer} was heard {heard} ago; use `switchover`"));
    }
    face.say(&format!(
        "{peer} was {}. Nothing here proves that it is off.\n\
         If it still serves, both boxes will answer for the same addresses.\n\
         Make sure that {peer} is switched off. Then type:  activate {node}",
        match status.peer.heard_ms_ago {
            Some(age) => format!("last heard {} ago", span(age)),
            None => "never heard".to_owned(),
        }
    ));
    match face.ask("> ", true) {
        Some(line) if line.trim() == format!("activate {node}") => {
            ask(&Request::Activate { node: node.clone() }, socket, face)
        }
        _ => refuse(face, &format!("not confirmed: the words are `activate {node}`; nothing was done")),
    }
}

fn peer(command: PeerCommand, socket: &Path, face: &mut dyn Face) -> Exit {
    let request = match command {
        PeerCommand::Status(how) if how.watch => return misuse(face, "the live view shows both boxes: `watch`"),
        PeerCommand::Status(how) => {
            return show_status(&Request::Peer(PeerRequest::Status), how.json, socket, face);
        }
        PeerCommand::Hold(hold) => PeerRequest::Hold { reason: reason(&hold.reason) },
        PeerCommand::Release(_) => PeerRequest::Release,
        PeerCommand::Log(log) => PeerRequest::Log { lines: log.lines },
        PeerCommand::Reboot(_) => PeerRequest::Reboot,
    };
    ask(&Request::Peer(request), socket, face)
}

fn mirror(command: MirrorCommand, socket: &Path, face: &mut dyn Face) -> Exit {
    match command {
        MirrorCommand::Status(how) => match fetch_status(socket, face) {
            Ok(status) if how.json => match serde_json::to_string(&status.mirror) {
                Ok(text) => {
                    face.say(&text);
                    Exit::Done
                }
                Err(error) => refuse(face, &error.to_string()),
            },
            Ok(status) => {
                face.say(&report::mirror(&status, face.style()));
                Exit::Done
            }
            Err(exit) => exit,
        },
        MirrorCommand::Sync(Sync { tree, confirm_delete, json }) => {
            mirror_work(MirrorRequest::Sync { tree, confirm_delete }, json, socket, face)
        }
        MirrorCommand::Verify(Verify { tree, json }) => mirror_work(MirrorRequest::Verify { tree }, json, socket, face),
        MirrorCommand::Diverged(diverged) => match diverged_request(diverged) {
            Some(request) => ask(&Request::Mirror(request), socket, face),
            None => misuse(face, "mirror diverged: list, show NAME, restore NAME [PATH] or drop NAME"),
        },
    }
}

fn diverged_request(diverged: Diverged) -> Option<MirrorRequest> {
    let words: Vec<&str> = diverged.words.iter().map(String::as_str).collect();
    let owned = |text: &str| text.to_owned();
    match words[..] {
        [] | ["list"] => Some(MirrorRequest::DivergedList),
        ["show", name] => Some(MirrorRequest::DivergedShow { name: owned(name) }),
        ["restore", name] => Some(MirrorRequest::DivergedRestore { name: owned(name), path: None }),
        ["restore", name, path] => Some(MirrorRequest::DivergedRestore { name: owned(name), path: Some(owned(path)) }),
        ["drop", name] => Some(MirrorRequest::DivergedDrop { name: owned(name) }),
        _ => None,
    }
}

/// A long work of the mirror; with `json` only its result, as one line. A comparison that found something has an exit code
/// of its own.
fn mirror_work(request: MirrorRequest, json: bool, socket: &Path, face: &mut dyn Face) -> Exit {
    let mut summary = Summary::default();
    let mut pending: Vec<Deletions> = Vec::new();
    let exit = converse(&Request::Mirror(request), socket, face, |reply, face| {
        match &reply {
            Reply::Deletions(deletions) => pending.push(deletions.clone()),
            Reply::Tree(tree) => {
                let deletions = pending.iter().position(|listed| listed.tree == tree.tree);
                let deletions = deletions.map(|at| pending.swap_remove(at));
                summary.add(TreeOutcome { deletions, ..TreeOutcome::clone(tree) });
            }
            Reply::Done { text } => {
                summary.done = true;
                summary.text.clone_from(text);
            }
            Reply::Refused { reason, remedy } => {
                summary.text.clone_from(reason);
                summary.remedy = Some(remedy.clone());
            }
            _ => {}
        }
        if !json {
            show(reply, face);
        }
    });
    let exit = if exit == Exit::Done && summary.found_differences() { Exit::Different } else { exit };
    if json && (summary.done || summary.remedy.is_some()) {
        summary.blocked = pending.pop();
        match serde_json::to_string(&summary) {
            Ok(line) => face.say(&line),
            Err(error) => return refuse(face, &error.to_string()),
        }
    }
    exit
}

fn install(update: &Update, socket: &Path, face: &mut dyn Face) -> Exit {
    // The daemon has another working directory.
    let image = match std::fs::canonicalize(&update.image) {
        Ok(path) => path,
        Err(error) => {
            let why = format!("{}: {error}; name an image that `flash.sh update` has made", update.image.display());
            return refuse(face, &why);
        }
    };
    match image.to_str() {
        Some(image) => ask(&Request::Update { image: image.to_owned(), pair: update.pair }, socket, face),
        None => refuse(face, "the image's path is not UTF-8; rename it"),
    }
}

fn make_key(file: &Path, face: &mut dyn Face) -> Exit {
    match key_file::create(file) {
        Ok(()) => {
            face.say(&format!("{}: a new key, mode 0600; copy it to the other box over a safe way", file.display()));
            Exit::Done
        }
        Err(error) => refuse(face, &not_made(file, &error, "remove it on both boxes")),
    }
}

/// Why a secret's file was not made, and what to do.
fn not_made(file: &Path, error: &std::io::Error, way_out: &str) -> String {
    use std::io::ErrorKind::{AlreadyExists, InvalidInput, NotFound};
    let file = file.display();
    match error.kind() {
        AlreadyExists => {
            format!("{file} is there already and is never overwritten; choose another name, or {way_out}")
        }
        NotFound => format!("{file}: its directory is not there; make that first, or choose another"),
        InvalidInput => format!("{error}; nothing was written"),
        _ => format!("{file}: {error}; choose a place that can be written"),
    }
}

fn make_password(file: &Path, face: &mut dyn Face) -> Exit {
    let Some(first) = face.ask("password: ", false) else {
        return refuse(face, "no password was given; type it, or give it on standard input");
    };
    if face.is_live() && face.ask("again: ", false).as_deref() != Some(&first) {
        return refuse(face, "the two were not equal; nothing was written, try again");
    }
    match password::create(file, &first) {
        Ok(()) => {
            face.say(&format!("{}: the password's hash, mode 0600", file.display()));
            Exit::Done
        }
        Err(error) => refuse(face, &not_made(file, &error, "remove it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_bar_with_rate_and_time_left() {
        let progress = Progress {
            elapsed_us: 10_000_000,
            text: String::new(),
            done: Some(420_000_000),
            total: Some(1_000_000_000),
            files: Some(12),
            unit: "bytes".into(),
            ..Progress::default()
        };
        assert_eq!(bar(&progress), "[########............]  42 %  420 MB of 1.0 GB  42.0 MB/s  13 s left  12 files");
        let told = Progress { rate: Some(58_000_000), files_total: Some(30), ..progress.clone() };
        assert_eq!(bar(&told), "[########............]  42 %  420 MB of 1.0 GB  58.0 MB/s  10 s left  12 of 30 files");
        assert!(
            !bar(&Progress { done: Some(0), rate: Some(0), ..progress.clone() }).contains("left"),
            "nobody knows yet"
        );
        let looking = Progress { files_total: Some(0), text: "/data".into(), ..progress.clone() };
        assert_eq!(bar(&looking), "looking for changes  10 s  /data");
        assert_eq!(bar(&Progress { total: None, files: None, ..progress }), "420 MB  42.0 MB/s");
        assert!(bar(&Progress { done: Some(0), total: Some(0), ..Progress::default() }).contains("0"));
        let most = Some(u64::MAX);
        let unit = "\x1b[2J".into();
        let absurd = bar(&Progress { done: most, total: most, rate: most, unit, ..Progress::default() });
        assert!(absurd.contains(" 100 %") && !absurd.contains('\x1b'), "{absurd}");
    }
}
