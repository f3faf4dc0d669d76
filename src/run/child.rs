//! A child of the appliance that belongs to no service: the operator's console. Kept alive, with a pause that grows.

use std::rc::Rc;

use smol::Timer;

use crate::clock;
use crate::config::Config;
use crate::service::Reaper;
use crate::service::spawn::{Start, spawn};
use crate::time::Duration;

/// Pauses between an end and the next start: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Having run this long, a child gets the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// The console's command line, if the board has a console port.
pub fn console(config: &Config) -> Option<Vec<String>> {
    let port = config.board.console.as_ref()?;
    let mut words = ["/proc/self/exe", "console", "--device"].map(str::to_owned).to_vec();
    words.push(port.device.display().to_string());
    words.extend(["--baud".to_owned(), port.baud.to_string()]);
    if let Some(file) = &config.site.console.password_file {
        words.extend(["--password-file".to_owned(), file.display().to_string()]);
    }
    let idle = config.site.console.idle_timeout.map_or(0, |idle| idle.as_secs());
    words.extend(["--idle".to_owned(), idle.to_string()]);
    Some(words)
}

/// Starts the program again whenever it ends, for as long as the daemon lives. Its troubles are no reason to hand over.
pub async fn keep(reaper: Rc<Reaper>, words: Vec<String>) {
    let mut pause = PAUSES.0;
    loop {
        let started = clock::now();
        let child = Start { words: &words, root: None, mark: ("TWOBOX_CHILD", "console"), cgroup: None, output: None };
        match spawn(child) {
            Ok(child) => {
                let end = reaper.end_of(child.id()).recv().await;
                log::warn!("{} {} ended: {end:?}", words[0], words[1]);
            }
            Err(error) => log::warn!("{} {}: {error}", words[0], words[1]),
        }
        if clock::now().since(started) >= STEADY {
            pause = PAUSES.0;
        }
        Timer::after(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}
