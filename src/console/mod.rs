//! The operator's words to commands, status to text and JSON, control socket, live view.

pub mod client;
pub mod control;
pub mod server;
pub mod status;
