//! The operator's words to commands, status to text and JSON, control socket, live view.

pub mod alarm;
pub mod client;
pub mod command;
pub mod control;
pub mod exit;
pub mod report;
pub mod server;
pub mod status;
