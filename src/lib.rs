//! Twobox: two boxes, exactly one serves, the other takes over, and never both.
//!
//! ```text
//! bytes -> link -> wire -> Input -> node.handle(now, input) -> Action -> run -> link / fence / takeover / service
//! ```
//!
//! What decides is pure, what touches the system decides nothing. Time, storage and randomness are arguments.
//!
//! Who may import whom (held by `tests/layering.rs`):
//!
//! | room | is | may use |
//! |---|---|---|
//! | [`time`] | our instant | nothing |
//! | [`clock`], [`journal`] | what the time is; the log | time; the deciding rooms use neither |
//! | [`confine`] | what our own children must do without | oom |
//! | [`netlink`], [`realtime`], [`oom`] | the kernel's routing socket; priority and locked memory; whom a shortage of memory ends | nothing |
//! | [`wire`] | bytes and values | time |
//! | [`node`] | the decisions | time, wire |
//! | [`link`], [`fence`], [`takeover`], [`service`], [`state`] | drivers | time, wire, netlink |
//! | [`mirror`] | its own process | time, wire, confine |
//! | [`update`] | another image beside the running one, its own process | time, the mirror's link, confine |
//! | [`config`] | files to settings | every room's `Settings` |
//! | [`console`] | the operator | time, wire, node's status values, config |
//! | [`observe`] | watching from outside, its own process | console's status and words, confine |
//! | [`init`] | PID 1 | time, config, drivers |
//! | `run` | the loop | all |

pub mod clock;
pub mod config;
pub mod confine;
pub mod console;
pub mod fence;
pub mod init;
pub mod journal;
pub mod link;
pub mod mirror;
pub mod netlink;
pub mod node;
pub mod observe;
pub mod oom;
pub mod realtime;
pub mod run;
pub mod service;
pub mod state;
pub mod takeover;
pub mod time;
pub mod update;
pub mod wire;
