//! What an operator meets: command line, control socket, status, live view, console, manual.

mod commands;
mod console;
mod control;
mod daemon;
mod desk;
mod fields;
mod live_view;
mod manual;
mod messages;
mod states;
mod status;
mod words;
