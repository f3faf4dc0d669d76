//! A client that asks the service every few milliseconds and notes who answers when.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use twobox::clock;
use twobox::time::{Duration, Instant};

use super::wait;
use super::wire::{enter, prefer_this_thread};

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(1);

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub at: Instant,
    pub from: &'static str,
}

/// Waits for something to read until then. Not by the socket's own time-out, which counts in ticks of 4 ms or more.
fn wait_readable(socket: &UdpSocket, until: Instant) -> bool {
    let now = clock::now();
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    now < until
        && ppoll(&mut waiting, Some(TimeSpec::from_duration(until.since(now))), None).is_ok_and(|ready| ready > 0)
}

/// Who asks.
pub struct Client {
    pub answers: Arc<Mutex<Vec<Answer>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    pub fn start(name: &str, service: Ipv4Addr, port: u16) -> Client {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (name, heard, ending) = (name.to_owned(), answers.clone(), stop.clone());
        let thread = thread::spawn(move || {
            enter(&name, "client");
            prefer_this_thread();
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            let mut buffer = [0; 64];
            while !ending.load(Ordering::Relaxed) {
                // Refused or unreachable while nobody serves: that is what is measured.
                let _ = socket.send_to(b"?", SocketAddrV4::new(service, port));
                let until = clock::now() + PAUSE;
                while wait_readable(&socket, until) {
                    let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
                    let from = if buffer[..length].starts_with(b"a") { "a" } else { "b" };
                    heard.lock().unwrap().push(Answer { at: clock::now(), from });
                }
            }
        });
        Client { answers, stop, thread: Some(thread) }
    }

    /// Everything heard so far, under the lock: the questions wait meanwhile.
    fn look<T>(&self, look: impl FnOnce(&[Answer]) -> T) -> T {
        look(&self.answers.lock().unwrap())
    }

    /// Everything heard so far.
    pub fn answers(&self) -> Vec<Answer> {
        self.look(<[Answer]>::to_vec)
    }

    /// Waits for an answer of this box that comes after now.
    pub fn await_answer_from(&self, node: &str) {
        let now = clock::now();
        wait(&format!("the client is answered by {node}"), || {
            self.look(|answers| answers.iter().rev().take_while(|a| a.at > now).any(|a| a.from == node))
        });
    }

    /// The longest time without any answer, of those that end after `since`.
    pub fn longest_outage(&self, since: Instant) -> Duration {
        self.look(|answers| {
            let ends_after = answers.windows(2).rev().take_while(|w| w[1].at > since);
            ends_after.map(|w| w[1].at.since(w[0].at)).max().unwrap_or_default()
        })
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
