//! The null modem's port and what is told apart of the bytes that come by it: heartbeats, noise, the kernel's last words.

use super::links::Received;
use crate::clock;
use crate::link::serial::Serial;
use crate::node::settings::NULL_MODEM;
use crate::time::Instant;
use crate::wire::heartbeat::Reject;
use crate::wire::line::{Finding, Observer};
use crate::wire::panic_text::Matcher;
use crate::wire::serial::{Decoder, Piece};

/// Bytes read from the line in one call: all that the kernel keeps for a reader (N_TTY_BUF_SIZE, drivers/tty/n_tty.c).
const CHUNK: usize = 4096;
/// Calls in one turn when more than that has come, which is a third of a second at 115,200 baud: the driver's own buffers hold
/// ten times as much as this.
const CHUNKS: usize = 16;

/// What is found when the port's device is not there: a USB converter was pulled out, or was never plugged in.
pub(super) const NO_PORT: &str = "its port is not there";

/// The line between the boxes.
pub(super) struct NullModem {
    pub(super) port: Serial,
    decoder: Decoder,
    pub(super) observer: Observer,
    matcher: Matcher,
    pub(super) line_errors: u32,
}

/// What is to be done with what came.
pub(super) type Take<'a> = dyn FnMut(Instant, Received<'_>) + 'a;
/// Looks at a payload of a path and takes it, or says why not. True: it is the peer's; of a fragment nobody knows that yet.
pub(super) type Judge<'a> = dyn FnMut(u8, &[u8], &mut Take<'_>) -> Result<bool, Reject> + 'a;

impl NullModem {
    pub(super) fn new(port: Serial) -> Self {
        Self { port, decoder: Decoder::new(), observer: Observer::new(), matcher: Matcher::new(), line_errors: 0 }
    }

    /// One call takes everything there is. Another one that finds nothing would wait for the kernel's worker that carries
    /// bytes from the driver to the reader (tty_buffer_flush_work in n_tty_read), an ordinary thread, which gets no
    /// processor as long as real-time threads have them all. Only when more than one call's worth has come, as after a stop,
    /// is it waited for: what is old is not to be taken for new in the next turn.
    pub(super) fn drain(&mut self, judge: &mut Judge<'_>, take: &mut Take<'_>) {
        let Self { port, decoder, observer, matcher, .. } = self;
        let mut chunk = [0; CHUNK];
        let mut behind = false;
        for _ in 0..CHUNKS {
            let length = match port.recv(&mut chunk) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
                    log::warn!("null modem: {NO_PORT} any more; waiting for it to come back");
                    break;
                }
                Err(error) => {
                    log::warn!("null modem: {error}");
                    break;
                }
            };
            decoder.feed(&chunk[..length], |piece| match piece {
                Piece::Frame(payload) => match judge(NULL_MODEM, payload, take) {
                    Ok(true) => observer.peer(clock::now()),
                    Err(Reject::OwnFrame) => observer.own(clock::now()),
                    Err(Reject::ForeignPair | Reject::BadTag | Reject::SameNode) => observer.stranger(clock::now()),
                    Ok(false) | Err(_) => {}
                },
                Piece::Noise(bytes) => {
                    let now = clock::now(); // not before that of the frames in front of it
                    observer.noise(now, bytes);
                    if let Some(death) = matcher.feed(now, bytes) {
                        take(now, Received::PanicText { began: death.began });
                    }
                }
            });
            behind |= length == CHUNK;
            if !behind {
                break;
            }
        }
    }

    pub(super) fn count_errors(&mut self, now: Instant) {
        if let Some(errors) = self.port.line_errors() {
            let more = errors.framing.wrapping_sub(self.line_errors);
            self.line_errors = errors.framing;
            self.observer.framing_errors(now, more);
        }
    }

    pub(super) fn finding(&self, now: Instant) -> Option<&'static str> {
        match self.observer.finding(now) {
            _ if !self.port.is_open() => Some(NO_PORT),
            Finding::Peer => None,
            other => Some(other.name()),
        }
    }
}
