//! Sockets and ports that carry heartbeats: bytes in, bytes out, `io::Error`; decides nothing.
