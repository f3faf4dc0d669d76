//! Children that belong to no service: the operator's console, kept alive with a pause that grows; and how the others end.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitStatus;
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use smol::channel::Receiver;
use smol::{Async, Timer, future};

use super::helper::within;
use super::voice::Voice;
use crate::clock;
use crate::config::Config;
use crate::console::prompt::CONFINED;
use crate::service::lines::Lines;
use crate::service::spawn::{Start, spawn};
use crate::service::{Backoff, Reaper};
use crate::time::Duration;

/// Pauses between an end and the next start: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Longest line of a child that stays whole.
const LINE: usize = 1_024;
/// How long a child may take to end once its line is closed: the mirror closes its index.
const GRACE: Duration = Duration::from_secs(5);

/// Waits for the end of a child whose line has been closed. One that has been taken over need not heed that, and in its place
/// none would ever be started: it is ended.
pub(super) async fn see_off(number: u32, end: &Receiver<ExitStatus>) {
    see_off_within(GRACE, number, end).await;
}

async fn see_off_within(grace: Duration, number: u32, end: &Receiver<ExitStatus>) {
    if within(grace, end.recv()).await.is_some() {
        return;
    }
    log::warn!("process {number} does not end by itself: killed");
    // Its number is nobody else's: whoever reaps it tells it in the same turn, on this thread.
    if let Ok(number) = i32::try_from(number) {
        let _ = kill(Pid::from_raw(number), Signal::SIGKILL); // it has just ended
    }
    let _ = end.recv().await;
}

/// The console's command line, if the board has a console port. It asks the daemon on `socket`.
pub fn console(config: &Config, socket: &Path) -> Option<Vec<String>> {
    let port = config.board.console.as_ref()?;
    let mut words = ["/proc/self/exe", "console-child", "--socket"].map(str::to_owned).to_vec();
    words.push(socket.display().to_string());
    words.extend(["--device".to_owned(), port.device.display().to_string()]);
    words.extend(["--baud".to_owned(), port.baud.to_string()]);
    if let Some(file) = &config.site.console.password_file {
        words.extend(["--password-file".to_owned(), file.display().to_string()]);
    }
    let idle = config.site.console.idle_timeout.map_or(0, |idle| idle.as_secs());
    words.extend(["--idle".to_owned(), idle.to_string()]);
    Some(words)
}

/// Starts the program again whenever it ends, for as long as the daemon lives. Its troubles are no reason to hand over.
/// `confinement` is what it says of itself.
pub async fn keep(reaper: Rc<Reaper>, words: Vec<String>, confinement: Rc<RefCell<Option<String>>>) {
    let (mut backoff, voice) = (Backoff::new(PAUSES.0, PAUSES.1), Voice::of("console"));
    loop {
        let started = clock::now();
        if let Err(error) = live(&reaper, &words, &confinement, &voice).await {
            log::warn!("the console does not run: {error}");
        }
        confinement.take();
        Timer::after(backoff.after_failure(clock::now().since(started))).await;
    }
}

/// One life of the child.
async fn live(
    reaper: &Reaper,
    words: &[String],
    confinement: &RefCell<Option<String>>,
    voice: &Voice,
) -> io::Result<()> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let mark = ("TWOBOX_CHILD", "console");
    let child = spawn(Start { words, root: None, mark, cgroup: None, output: Some(write) })?;
    let exit = reaper.end_of(child.id());
    child.runs().await?;
    let hearing = async {
        hear(read, confinement, voice).await?;
        future::pending().await // it may close its output and live on
    };
    let ending = async {
        let status = exit.recv().await.map_err(io::Error::other)?;
        log::warn!("the console's process ended: {status}");
        Ok(())
    };
    let result = future::or(future::or(hearing, ending), voice.account()).await;
    voice.close();
    result
}

/// What it prints: what confines it, and why it ends.
async fn hear(pipe: OwnedFd, confinement: &RefCell<Option<String>>, voice: &Voice) -> io::Result<()> {
    let mut lines = Lines::new(Async::new(File::from(pipe))?, LINE);
    while let Some(line) = lines.next().await? {
        let by = line.strip_prefix(CONFINED);
        if let Some(by) = by {
            *confinement.borrow_mut() = Some(by.to_owned());
        }
        match by {
            _ if !voice.admits() => {}
            Some(by) => log::info!("the console's process is confined: {by}"),
            None => log::warn!("{}: {line}", voice.who()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use smol::channel::bounded;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // the child, and who waits for it
    fn a_child_that_does_not_end_is_ended() {
        for (program, by) in [("sleep", Some(9)), ("true", None)] {
            let mut child = Command::new(program).arg("600").spawn().unwrap();
            let (number, (told, end)) = (child.id(), bounded(1));
            let waiting = std::thread::spawn(move || {
                let status = child.wait().unwrap();
                told.send_blocking(status).unwrap();
                status
            });
            let grace = if by.is_some() { Duration::from_millis(50) } else { Duration::from_secs(600) };
            smol::block_on(see_off_within(grace, number, &end));
            assert_eq!(waiting.join().unwrap().signal(), by);
        }
    }
}
