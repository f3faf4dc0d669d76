//! The decisions, pure: no heap, no clock, no randomness, no I/O.
