//! Start, check, stop and kill the served programs.
