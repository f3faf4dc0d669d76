//! Which face: PID 1, a daemon on a host, or a command. Parses and hands over.

fn main() {}
