//! A child that belongs to no service: the operator's console. Kept alive, with a pause that grows.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use smol::{Async, Timer, future};

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
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        let started = clock::now();
        if let Err(error) = live(&reaper, &words, &confinement).await {
            log::warn!("the console does not run: {error}");
        }
        confinement.take();
        Timer::after(backoff.after_failure(clock::now().since(started))).await;
    }
}

/// One life of the child.
async fn live(reaper: &Reaper, words: &[String], confinement: &RefCell<Option<String>>) -> io::Result<()> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let mark = ("TWOBOX_CHILD", "console");
    let child = spawn(Start { words, root: None, mark, cgroup: None, output: Some(write) })?;
    let exit = reaper.end_of(child.id());
    let hearing = async {
        hear(read, confinement).await?;
        future::pending().await // it may close its output and live on
    };
    let ending = async {
        let status = exit.recv().await.map_err(io::Error::other)?;
        log::warn!("the console's process ended: {status}");
        Ok(())
    };
    future::or(hearing, ending).await
}

/// What it prints: what confines it, and why it ends.
async fn hear(pipe: OwnedFd, confinement: &RefCell<Option<String>>) -> io::Result<()> {
    let mut lines = Lines::new(Async::new(File::from(pipe))?, LINE);
    while let Some(line) = lines.next().await? {
        match line.strip_prefix(CONFINED) {
            Some(by) => {
                log::info!("the console's process is confined: {by}");
                *confinement.borrow_mut() = Some(by.to_owned());
            }
            None => log::warn!("console: {line}"),
        }
    }
    Ok(())
}
