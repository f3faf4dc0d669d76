//! The words of the command line, and of the serial console, which takes the same without the program's name.

use std::path::PathBuf;

use argh::{CommandInfo, FromArgs, SubCommands};

/// Two boxes: exactly one serves, the other takes over, and never both.
#[derive(Debug, PartialEq, FromArgs)]
pub struct CommandLine {
    /// control socket of the daemon (default: $TWOBOX_SOCKET, else /run/twobox.sock)
    #[argh(option, arg_name = "path")]
    pub socket: Option<PathBuf>,
    /// what to do
    #[argh(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand)]
#[allow(missing_docs)] // each has its own
pub enum Command {
    Status(Status),
    Watch(Watch),
    Switchover(Switchover),
    Hold(Hold),
    Release(Release),
    Activate(Activate),
    Drill(Drill),
    History(History),
    Log(Log),
    Peer(Peer),
    Mirror(Mirror),
    Update(Update),
    Reboot(Reboot),
    Poweroff(Poweroff),
    Run(Run),
    Check(Check),
    Key(Key),
    Console(Console),
    Version(Version),
}

/// The commands that may follow a first word; after most of them there are none.
#[must_use]
pub fn below(first: &str) -> &'static [&'static CommandInfo] {
    match first {
        "key" => KeyCommand::COMMANDS,
        "mirror" => MirrorCommand::COMMANDS,
        "peer" => PeerCommand::COMMANDS,
        _ => &[],
    }
}

/// show who serves, why, and what would stop a takeover
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "status")]
pub struct Status {
    /// one JSON value, for programs
    #[argh(switch)]
    pub json: bool,
    /// the live view
    #[argh(switch)]
    pub watch: bool,
}

/// live view of both boxes; q or ctrl-C leaves it
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "watch")]
pub struct Watch {
    /// seconds between two looks, 0.1 to 3600 (default: 0.5; 2 for a slow line)
    #[argh(option, default = "0.5", from_str_fn(interval))]
    pub interval: f32,
}

/// hand the service over to the peer, step by step
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "switchover")]
pub struct Switchover {
    /// also when what the standby lacks cannot be copied before: it is set aside on the box that serves now
    #[argh(switch)]
    pub lose_changes: bool,
}

/// maintenance: stay up and never take over, until released
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "hold")]
pub struct Hold {
    /// why, for the log and for the next operator
    #[argh(positional, arg_name = "reason")]
    pub reason: Vec<String>,
}

/// end a hold
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "release")]
pub struct Release {}

/// serve although the peer is silent; asks back
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "activate")]
pub struct Activate {
    /// needed: only a person at the box can know that the peer is off
    #[argh(switch)]
    pub force: bool,
}

/// rehearse: switch over and back, report both outages
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "drill")]
pub struct Drill {}

/// past hand-overs and alarms, kept across reboots
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "history")]
pub struct History {
    /// how many of the newest (default: 50)
    #[argh(option, short = 'n', default = "50", from_str_fn(whole), arg_name = "count")]
    pub count: u32,
}

/// the daemon's log
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "log")]
pub struct Log {
    /// how many of the newest lines (default: 50)
    #[argh(option, short = 'n', default = "50", from_str_fn(whole), arg_name = "lines")]
    pub lines: u32,
    /// go on with what comes
    #[argh(switch, short = 'f')]
    pub follow: bool,
}

/// command the other box, over any live link
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "peer")]
pub struct Peer {
    /// what to do there
    #[argh(subcommand)]
    pub command: PeerCommand,
}

/// What the peer may be asked.
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand)]
#[allow(missing_docs)] // each has its own
pub enum PeerCommand {
    Status(Status),
    Hold(Hold),
    Release(Release),
    Log(PeerLog),
    Reboot(Reboot),
}

/// its newest log lines
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "log")]
pub struct PeerLog {
    /// how many (default: 20)
    #[argh(option, short = 'n', default = "20", from_str_fn(whole), arg_name = "lines")]
    pub lines: u32,
}

/// the copies of the mirrored trees
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "mirror")]
pub struct Mirror {
    /// what to do
    #[argh(subcommand)]
    pub command: MirrorCommand,
}

/// The mirror's commands.
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand)]
#[allow(missing_docs)] // each has its own
pub enum MirrorCommand {
    Status(MirrorStatus),
    Sync(Sync),
    Verify(Verify),
    Diverged(Diverged),
}

/// every tree with the age of its last cut
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "status")]
pub struct MirrorStatus {
    /// one JSON value, for programs
    #[argh(switch)]
    pub json: bool,
}

/// copy now; ends when the standby is equal
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "sync")]
pub struct Sync {
    /// only this tree
    #[argh(positional, arg_name = "tree")]
    pub tree: Option<String>,
    /// release a deletion that max-delete has stopped; it is listed first
    #[argh(switch)]
    pub confirm_delete: bool,
    /// one JSON line at the end, for programs
    #[argh(switch)]
    pub json: bool,
}

/// compare both sides by hash
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "verify")]
pub struct Verify {
    /// only this tree
    #[argh(positional, arg_name = "tree")]
    pub tree: Option<String>,
    /// one JSON line at the end, for programs
    #[argh(switch)]
    pub json: bool,
}

/// changes that the peer never received, set aside when this box became a copy
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "diverged")]
pub struct Diverged {
    /// list, show NAME, restore NAME \[PATH\], drop NAME (default: list)
    #[argh(positional, arg_name = "what")]
    pub words: Vec<String>,
}

/// install an image in the other slot and try it
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "update")]
pub struct Update {
    /// both boxes in turn, the service moves once
    #[argh(switch)]
    pub pair: bool,
    /// the image file
    #[argh(positional, arg_name = "image")]
    pub image: PathBuf,
}

/// surrender, say farewell and start anew
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "reboot")]
pub struct Reboot {}

/// surrender, say farewell and switch off
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "poweroff")]
pub struct Poweroff {}

/// run as a daemon on an existing Linux
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "run")]
pub struct Run {
    /// the board file
    #[argh(option, arg_name = "file")]
    pub board: PathBuf,
    /// the site file
    #[argh(option, arg_name = "file")]
    pub site: PathBuf,
    /// which box this is: a or b
    #[argh(option, from_str_fn(side), arg_name = "node")]
    pub node: crate::wire::pair::Side,
    /// directory of term, generation and history (default: /var/lib/twobox)
    #[argh(option, default = "PathBuf::from(\"/var/lib/twobox\")", arg_name = "dir")]
    pub state: PathBuf,
}

/// explain the configuration; exit code 2 on an error
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "check")]
pub struct Check {
    /// the board file
    #[argh(option, arg_name = "file")]
    pub board: PathBuf,
    /// the site file
    #[argh(option, arg_name = "file")]
    pub site: PathBuf,
    /// measure for this many seconds, 1 to 3600, how late the loop wakes on this machine
    #[argh(option, from_str_fn(measured_seconds), arg_name = "seconds")]
    pub measure: Option<u32>,
}

/// the pair's secret, the console's password
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "key")]
pub struct Key {
    /// what to make
    #[argh(subcommand)]
    pub command: KeyCommand,
}

/// What can be made.
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand)]
#[allow(missing_docs)] // each has its own
pub enum KeyCommand {
    New(NewKey),
    Password(NewPassword),
}

/// make the pair's key, mode 0600; never overwrites
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "new")]
pub struct NewKey {
    /// the file to make
    #[argh(positional, arg_name = "file")]
    pub file: PathBuf,
}

/// read a password for the console from standard input, write its hash; never overwrites
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "password")]
pub struct NewPassword {
    /// the file to make
    #[argh(positional, arg_name = "file")]
    pub file: PathBuf,
}

/// the serial console's prompt on this terminal, or on a port
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "console")]
pub struct Console {
    /// a serial port instead of this terminal
    #[argh(option, arg_name = "path")]
    pub device: Option<PathBuf>,
    /// its speed (default: 115200)
    #[argh(option, default = "115_200", from_str_fn(whole))]
    pub baud: u32,
    /// ask for the password whose hash is in this file
    #[argh(option, arg_name = "path")]
    pub password_file: Option<PathBuf>,
    /// with a password: log out after this many seconds of silence (default: 600, 0: never)
    #[argh(option, default = "600", from_str_fn(whole), arg_name = "seconds")]
    pub idle: u32,
}

/// version of this program
#[derive(Debug, PartialEq, FromArgs)]
#[argh(subcommand, name = "version")]
pub struct Version {}

fn side(text: &str) -> Result<crate::wire::pair::Side, String> {
    match text {
        "a" => Ok(crate::wire::pair::Side::A),
        "b" => Ok(crate::wire::pair::Side::B),
        _ => Err("no node; a or b".to_owned()),
    }
}

fn whole(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "no whole number from 0 to 4294967295".to_owned())
}

fn interval(text: &str) -> Result<f32, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "no interval; 0.1 to 3600 seconds".to_owned())
}

fn measured_seconds(text: &str) -> Result<u32, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
    seconds.ok_or_else(|| "no time to measure; 1 to 3600 seconds".to_owned())
}
