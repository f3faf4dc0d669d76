//! The mirror's own process: scan, watch, chunk, index, send, receive, apply, schedule.

pub mod channel;
pub mod chunk;
pub mod codec;
pub mod control;
pub mod diverged;
pub mod entry;
pub mod fault;
pub mod filter;
pub mod guard;
pub mod index;
pub mod message;
pub mod name;
pub mod publish;
pub mod read;
pub mod receiver;
pub mod redo;
pub mod refresh;
pub mod scan;
pub mod sender;
pub mod side;
pub mod stage;
pub mod store;
pub mod tree;
