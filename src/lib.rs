//! Twobox: two boxes, exactly one serves, the other takes over, and never both.
//!
//! ```text
//! bytes -> link -> wire -> Input -> node.handle(now, input) -> Action -> run -> link / fence / takeover / service
//! ```
//!
//! What decides is pure, what touches the system decides nothing. Time, storage and randomness are arguments.
//!
//! Who imports whom. `tests/layering.rs` reads this table: a room uses what stands here, neither more nor less.
//!
//! | room | is | uses |
//! |---|---|---|
//! | [`time`] | our instant | nothing |
//! | [`clock`] | what the time is; what decides does not ask | time |
//! | [`journal`] | the log | time, clock |
//! | [`oom`] | whom a shortage of memory ends | nothing |
//! | [`realtime`] | priority and locked memory | nothing |
//! | [`netlink`] | the kernel's routing socket | nothing |
//! | [`confine`] | what our own children must do without | oom |
//! | [`wire`] | bytes and values, pure | time |
//! | [`node`] | the decisions, pure and without a heap | time, wire |
//! | [`link`] | a driver: sockets and ports that carry heartbeats | time, wire |
//! | [`fence`] | a driver: the belts, and the bound they promise | time, clock, netlink |
//! | [`takeover`] | a driver: service addresses | time, wire, netlink |
//! | [`service`] | a driver: the served programs | time, clock, oom |
//! | [`state`] | a driver: the record on disk | nothing |
//! | [`mirror`] | the file trees, its own process | time, clock, confine |
//! | [`update`] | another image beside the running one, its own process | time, clock, confine, mirror |
//! | [`config`] | site and board file, checked | wire, fence |
//! | [`console`] | the operator: words, status, alarms, and a process for a terminal | time, clock, realtime, confine, wire, node, mirror, config |
//! | [`observe`] | watching from outside, its own process | confine, console |
//! | [`init`] | PID 1 | time, clock, journal, wire, fence, update, config |
//! | [`run`] | the loop, and what starts threads and children; makes each room's `Settings` of the configuration | all |

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
