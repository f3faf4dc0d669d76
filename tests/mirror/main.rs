//! The mirror, end to end: two sides on one machine, a comparer that shares no code with what it judges.
#![allow(clippy::disallowed_methods)] // tests start threads and processes and wait
#![allow(missing_docs)]

mod basic;
mod compare;
mod crash;
mod decided;
mod disk;
mod events;
mod failing;
mod flushes;
mod hostile;
mod hurt;
mod link;
mod logged;
mod mutate;
mod names;
mod power;
mod rest;
mod resume;
mod rig;
mod slow;
mod still;
mod storage;
mod verify;
