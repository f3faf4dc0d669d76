//! The operator's words to commands, status to text and JSON, control socket, live view.
