//! Scenarios by name, hand-written, on the simulated pair. Safety is judged throughout; each says what happens to service.

mod boards;
mod copies;
mod differing;
mod disk;
mod lies;
mod operator;
mod partition;
#[path = "../simulation/plain.rs"]
mod plain;
mod power;
#[path = "../simulation/seed/mod.rs"]
mod seed;
#[path = "../simulation/situation/mod.rs"]
mod situation;
mod stage;
mod stopped;
mod terms;
mod witness;
#[path = "../simulation/world/mod.rs"]
mod world;
