//! The mirror's own process: scan, watch, chunk, index, send, receive, apply, schedule.

pub mod control;
