//! The operator's words to commands, status to text and JSON, control socket, live view.
//!
//! ```text
//! words -> parse -> execute -> client ~~ control socket ~~ server -> Call -> the loop
//!                        |                                               |
//!                      face (terminal, pipe, console port)  <- Reply, Status -> report, live
//! ```

pub mod alarm;
pub mod bounds;
mod check;
pub mod client;
pub mod command;
mod complete;
pub mod control;
mod desk;
pub mod drill_ready;
mod editor;
pub mod execute;
pub mod exit;
pub mod face;
mod help;
pub mod live;
mod option;
pub mod outcome;
pub mod parse;
pub mod password;
pub mod printable;
pub mod prompt;
pub mod report;
pub mod screen;
pub mod server;
mod slip;
pub mod status;
pub mod terminal;
pub mod utc;
mod watch;
