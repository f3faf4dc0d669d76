//! Sockets and ports that carry heartbeats: bytes in, bytes out, `io::Error`; decides nothing.
//!
//! | link | by | payload |
//! |---|---|---|
//! | [`ethernet`] | raw frames on one interface, crossover or LAN | any of ours |
//! | [`serial`] | a null modem | a stream: `wire::serial` makes and finds the frames in it |
//! | [`reflected`] | a ping through a witness | any of ours, and the rounds' own pings |
//!
//! Every port is opened at the start (opening a packet socket takes 10 ms, measured), never waits and allocates nothing
//! afterwards. What cannot be sent at once is dropped and counted: a heartbeat that is late is worth nothing.

pub mod ethernet;
mod filter;
mod packet;
pub mod reflected;
pub mod serial;

pub use packet::{Binder, Carrier};

/// What became of something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has it.
    Queued,
    /// There was no room or no way for it; it is counted.
    Dropped,
}

/// What a link has seen since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received; on a serial line reads.
    pub frames_in: u64,
    /// Bytes received, headers of the link left out.
    pub bytes_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Bytes sent, headers of the link left out.
    pub bytes_out: u64,
    /// Frames that could not be sent at once.
    pub dropped: u64,
    /// Frames lost on the way in because nobody took them in time.
    pub overrun: u64,
    /// Errors of the port, and frames in that were not of its format.
    pub errors: u64,
}
