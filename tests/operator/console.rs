//! The console over a pseudo-terminal, as a person, as a hung terminal and as a line full of noise.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::poll::{PollTimeout, poll};
use twobox::clock;
use twobox::console::control::Request;
use twobox::console::status::{Peer, Role, Status};

use super::daemon::{Daemon, program};
use super::desk::{Desk, Pty, resize};
use super::states;

#[test]
fn the_prompt_names_node_and_role_and_follows_them() {
    let daemon = Daemon::start("c-prompt", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    *daemon.status.lock().unwrap() = states::standby();
    desk.expect("b standby> ");
    desk.send("\x04");
    assert_eq!(desk.end(), 0);
}

/// On a terminal the copy is a bar that moves in its place; nothing of it is left in the end.
#[test]
fn a_copy_shows_a_bar_on_a_terminal() {
    let daemon = Daemon::start("bar", states::peace());
    let mut desk = Desk::start(&daemon, &["mirror", "sync", "/slow"], (120, 24));
    desk.raw = true;
    assert_eq!(desk.end_after("the standby is equal\r\n"), 0);
    let seen = std::mem::take(&mut desk.seen);
    let half = "\r\x1b[K[##########..........]  50 %  500 MB of 1.0 GB  250 MB/s  2.0 s left  10 of 20 files";
    let whole = "\r\x1b[K[####################] 100 %  1.0 GB of 1.0 GB  250 MB/s  0 ms left  20 of 20 files";
    let (first, second) = (seen.find(half), seen.find(whole));
    assert!(first.is_some() && first < second, "{}", seen.escape_debug());
    // What comes after takes the bar's place.
    let after = &seen[second.unwrap() + whole.len()..];
    assert!(after.starts_with("\r\x1b[K/data/mail: 20 files"), "{}", after.escape_debug());
    assert!(!seen[..second.unwrap()].contains('\n'), "the bar stays on its line: {}", seen.escape_debug());
    // No line is longer than a narrow terminal is wide.
    let mut desk = Desk::start(&daemon, &["mirror", "sync", "/slow"], (40, 24));
    desk.raw = true;
    desk.end_after("the standby is equal\r\n");
    let bars = desk.seen.split('\r').filter_map(|frame| frame.strip_prefix("\x1b[K[")).collect::<Vec<_>>();
    assert_eq!(bars.len(), 2, "{}", desk.seen.escape_debug());
    assert!(bars.iter().all(|bar| bar.len() < 40), "{bars:?}");
}

#[test]
fn words_that_are_none_are_explained() {
    let daemon = Daemon::start("c-words", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    let shown = desk.ask("switchover");
    assert!(shown.contains("   4.2 ms  b serves\nb serves; outage 3.4 ms\n"), "{shown}");
    assert!(desk.ask("update /nonexistent").contains("No such file"));
    assert!(desk.ask("log").contains("standby -> active ?[2J"), "a control character of a service");
    assert!(desk.ask("staus").contains("see `help`"));
    assert!(desk.ask("hold \"x").contains("a quote is not closed"));
}

#[test]
fn force_asks_back_at_the_prompt_too() {
    let silent = Peer { heard_ms_ago: Some(60_000), ..states::peace().peer };
    let daemon = Daemon::start("c-force", Status { role: Role::Standby, peer: silent, ..states::peace() });
    let mut desk = Desk::start(&daemon, &["console"], (80, 24));
    desk.expect("a standby> ");
    desk.send("activate --force\r");
    desk.expect("\n> ");
    desk.send("activate b\r");
    desk.expect("nothing was done");
    desk.expect("a standby> ");
    desk.send("activate --force\r");
    desk.expect("\n> ");
    desk.send("activate a\r");
    desk.expect("did Activate");
    assert_eq!(*daemon.asked.lock().unwrap(), [Request::Activate { node: "a".into() }]);
}

#[test]
fn help_fits_the_smallest_screen() {
    let daemon = Daemon::start("c-help", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    let words =
        ["", "status", "hold", "peer", "mirror", "mirror sync", "log", "update", "activate", "check", "key new"];
    for word in words {
        let shown = desk.ask(&format!("help {word}"));
        assert!(shown.lines().count() <= 23, "{word}:\n{shown}");
        assert!(shown.lines().all(|line| line.chars().count() < 80), "{word}:\n{shown}");
        assert!(shown.lines().count() >= 3, "{word}:\n{shown}");
    }
}

#[test]
fn lines_are_edited_completed_and_remembered() {
    let daemon = Daemon::start("c-edit", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    desk.send("xhol\x01\x04\x05d\t");
    desk.expect("hold");
    desk.send("why\r");
    desk.expect("did Hold { reason: Some(\"why\") }");
    desk.expect("a active> ");
    desk.send("\x1b[A\r");
    desk.expect("did Hold");
    desk.expect("a active> ");
    desk.send("re\t");
    desk.expect("reboot  release");
    desk.expect("a active> re");
    desk.send("l\t\n");
    desk.expect("did Release");
    desk.expect("a active> ");
    desk.send("mirror sync /data/\t\r\n");
    desk.expect("equal");
    desk.expect("a active> ");
    let asked = daemon.asked.lock().unwrap();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(format!("{:?}", asked[3]).contains("/data/mail"));
}

#[test]
fn every_end_of_line_is_one_and_keys_may_come_in_pieces() {
    let daemon = Daemon::start("c-ends", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    for end in ["\r", "\n", "\r\n", "\r\0"] {
        desk.send(format!("hold it{end}"));
        desk.expect("did Hold");
        desk.expect("a active> ");
    }
    // An end that came in two pieces gives no second prompt, and an arrow that came in three is an arrow.
    desk.calm_down();
    desk.send("release\r");
    desk.expect("did Release");
    desk.send("\n");
    desk.expect("a active> ");
    while desk.read(Duration::from_millis(400)) {}
    assert!(!desk.seen.contains("a active> "), "{}", desk.seen.escape_debug());
    for piece in ["\x1b", "[", "A"] {
        desk.send(piece);
        desk.read(Duration::from_millis(50));
    }
    desk.send("\r");
    desk.expect("did Release");
    assert_eq!(daemon.asked.lock().unwrap().len(), 6);
}

#[test]
fn an_alarm_appears_above_the_line_being_typed() {
    let daemon = Daemon::start("c-alarm", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    desk.send("hold for the cab");
    desk.expect("for the cab");
    daemon.status.lock().unwrap().alarms = states::alone().alarms;
    let shown = desk.expect("a active> hold for the cab");
    assert!(shown.contains("ALARM the peer is not heard on any link\n"), "{shown}");
    assert!(shown.contains("   -> look at its power"), "{shown}");
    desk.send("le\r");
    desk.expect("Some(\"for the cable\")");
    // Told once, not with every status.
    std::thread::yield_now();
    desk.expect("a active> ");
    while desk.read(Duration::from_millis(1500)) {
        assert!(!desk.seen.contains("ALARM"), "{}", desk.seen);
        if desk.seen.len() > 200 {
            break;
        }
    }
}

#[test]
fn ctrl_c_leaves_whatever_runs_and_the_line() {
    let daemon = Daemon::start("c-interrupt", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    desk.send("log -f\r");
    desk.expect("a line of the log");
    desk.send("\x03");
    let left = desk.expect("a active> ");
    assert!(!left.contains("interrupted"), "who has seen enough of the log has interrupted nothing: {left}");
    desk.send("poweroff\r\x03");
    desk.expect("interrupted");
    desk.expect("a active> ");
    desk.send("half a line\x03");
    desk.expect("^C\n");
    assert!(desk.ask("version").contains("twobox 0."));
}

#[test]
fn watch_shows_the_live_view_and_gives_the_prompt_back() {
    let daemon = Daemon::start("c-watch", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    desk.send("watch\r");
    desk.expect("+-- a (here)");
    *daemon.status.lock().unwrap() = states::trouble();
    desk.expect("5 ALARMS");
    desk.send("q");
    desk.expect("\x1b[2J\x1b[H");
    desk.expect("a active> ");
}

#[test]
fn noise_breaks_and_half_sequences_do_not_kill_it() {
    let daemon = Daemon::start("c-noise", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    // A flood of what a wrong baud rate makes of text, in pieces that a pty takes.
    let mut state = 1_u32;
    for _ in 0..400 {
        let noise: Vec<u8> = (0..250)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            // ctrl-D would end it and tab and CR are what they are; the rest is anything.
            .filter(|byte| *byte != 4)
            .collect();
        desk.send(noise);
        while desk.read(Duration::ZERO) {}
        desk.seen.clear();
    }
    desk.send("\x1b[");
    desk.send("\x03\0\0\0");
    while desk.read(Duration::from_millis(3500)) {}
    desk.seen.clear();
    desk.send("\x03version\r");
    desk.expect("twobox 0.");
    desk.expect("a active> ");
    assert!(daemon.asked.lock().unwrap().is_empty(), "noise gave an order");
}

#[test]
fn answers_to_answers_end_by_themselves() {
    // Another machine's login prompt at the other end: whatever it is told, it asks again.
    let daemon = Daemon::start("c-echo", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    for _ in 0..100 {
        desk.send("login incorrect\r\n");
        desk.read(Duration::from_millis(2));
    }
    while desk.read(Duration::from_millis(300)) {}
    let answers = desk.seen.matches("see `help`").count();
    assert!((1..=5).contains(&answers), "{answers} answers");
    // After a pause it is a person again.
    while desk.read(Duration::from_millis(3300)) {}
    desk.send("\r");
    desk.expect("95 wrong lines in a row were not answered");
    desk.calm_down();
    assert!(desk.ask("nonsense").contains("see `help`"));
}

#[test]
fn a_password_lets_in_and_silence_lets_out() {
    let daemon = Daemon::start("c-password", states::peace());
    let file = std::env::temp_dir().join(format!("twobox-console-password-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    twobox::console::password::create(&file, "open sesame").unwrap();
    let mut desk = Desk::console(&daemon, &["--password-file", file.to_str().unwrap(), "--idle", "2"]);
    desk.expect("password: ");
    desk.send("wrong one\r");
    desk.expect("\nwrong\n");
    let began = clock::now();
    desk.expect("password: ");
    assert!(clock::now().since(began) >= Duration::from_millis(900), "guessing is slow");
    desk.send("open sesame\r");
    let shown = desk.expect("a active> ");
    assert!(!shown.contains("sesame"), "{shown}");
    desk.expect("logged out");
    desk.expect("password: ");
    std::fs::remove_file(&file).unwrap();
    // A hash that has gone opens no door.
    desk.send("open sesame\r");
    desk.expect("No such file");
}

#[test]
fn a_daemon_that_comes_and_goes_is_told_by_the_prompt() {
    let daemon = Daemon::start("c-gone", states::peace());
    let socket = daemon.socket.clone();
    let hidden = socket.with_extension("away");
    std::fs::rename(&socket, &hidden).unwrap();
    let mut desk = Desk::start(&daemon, &["console"], (80, 24));
    desk.expect("no daemon> ");
    desk.send("status\r");
    desk.expect("start it with");
    std::fs::rename(&hidden, &socket).unwrap();
    desk.expect("a active> ");
}

#[test]
fn a_terminal_that_hangs_up_ends_it_on_a_terminal() {
    let daemon = Daemon::start("c-hup", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    // The master is closed, as when a terminal program is killed.
    desk.master = std::fs::File::open("/dev/null").unwrap();
    let end = clock::now() + Duration::from_secs(10);
    while desk.child.try_wait().unwrap().is_none() {
        assert!(clock::now() < end, "it lives on without a terminal");
        let _ = poll(&mut [], PollTimeout::from(50_u8));
    }
}

#[test]
fn a_terminal_that_takes_nothing_is_left_alone_and_served_again() {
    let daemon = Daemon::start("c-hung", states::peace());
    let mut desk = Desk::console(&daemon, &[]);
    // Nobody reads: a pty holds some kilobytes, then writes stand still.
    for _ in 0..80 {
        desk.send("help\r");
    }
    let _ = poll(&mut [], PollTimeout::from(5_000_u16));
    desk.calm_down();
    desk.send("\r\x03");
    desk.expect("a active> ");
    desk.calm_down();
    assert!(desk.ask("version").contains("twobox 0."));
}

#[test]
fn the_live_view_restores_the_terminal_and_follows_its_size() {
    let daemon = Daemon::start("c-live", states::peace());
    let mut desk = Desk::start(&daemon, &["status", "--watch"], (80, 24));
    let picture = desk.expect("q leaves");
    assert!(picture.starts_with("\x1b[0m\x1b[2J"), "{}", picture.escape_debug());
    let raw = nix::sys::termios::tcgetattr(&desk.master).unwrap();
    assert!(!raw.local_flags.contains(nix::sys::termios::LocalFlags::ICANON));
    desk.expect("= b");
    resize(&desk.master, (132, 43));
    // The title now ends at the right edge of the wider screen, and the whole is drawn anew.
    desk.expect("\x1b[2J");
    desk.expect("\x1b[4;109H+-- b");
    desk.send("\x03");
    assert_eq!(desk.end(), 0);
    let restored = nix::sys::termios::tcgetattr(&desk.master).unwrap();
    assert!(restored.local_flags.contains(nix::sys::termios::LocalFlags::ICANON));
}

#[test]
fn a_port_is_opened_again_after_it_was_pulled_out() {
    let daemon = Daemon::start("c-port", states::peace());
    let first = Pty::new();
    let link = std::env::temp_dir().join(format!("twobox-console-port-{}", std::process::id()));
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&first.name, &link).unwrap();
    let mut desk = Desk::start(&daemon, &["console", "--device", link.to_str().unwrap(), "--baud", "9600"], (80, 24));
    desk.master = first.master;
    drop(first.slave);
    desk.expect("a active> ");
    // ctrl-D: there is no login to go back to, and the console stays.
    desk.send("\x04");
    desk.expect("no login");
    let second = Pty::new();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&second.name, &link).unwrap();
    desk.master = second.master;
    desk.seen.clear();
    desk.expect("a active> ");
    assert!(desk.child.try_wait().unwrap().is_none());
    std::fs::remove_file(&link).unwrap();
}

/// As the daemon runs it on a box's port: what it tells of itself on standard output, what it can do, and how it ends.
#[test]
#[allow(clippy::disallowed_methods)] // the program under test
fn the_console_of_a_box_is_confined_and_serves_all_the_same() {
    let daemon = Daemon::start("c-child", states::peace());
    let file = std::env::temp_dir().join(format!("twobox-console-child-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    twobox::console::password::create(&file, "open sesame").unwrap();
    let pty = Pty::new();
    let child = Command::new(program())
        .args(["console-child", "--device", &pty.name, "--baud", "115200", "--password-file"])
        .arg(&file)
        .env("TWOBOX_SOCKET", &daemon.socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut desk = Desk { master: pty.master, child, seen: String::new(), raw: false };
    desk.expect("password: ");
    desk.send("sesame\r");
    desk.expect("wrong");
    desk.expect("password: ");
    desk.send("open sesame\r");
    desk.expect("a active> ");
    let shown = desk.ask("status");
    assert!(shown.contains("serves"), "{shown}");
    // What it cannot do is not offered, and that is said.
    let help = desk.ask("help");
    assert!(help.contains("  hold "), "{help}");
    assert!(["check", "key"].iter().all(|word| !help.contains(&format!("\n  {word} "))), "{help}");
    assert!(help.contains("not here, for this console can open no files: check, key"), "{help}");
    assert!(help.lines().count() <= 23 && help.lines().all(|line| line.chars().count() < 80), "{help}");
    for refused in ["key new /tmp/twobox-console-child-key", "check --site x --board y"] {
        let shown = desk.ask(refused);
        assert!(shown.contains("can open no files"), "{shown}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", desk.child.id())).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((line("NoNewPrivs:"), line("CapEff:"), line("Seccomp:")), ("1".into(), "0".repeat(16), "2".into()));
    // The cable is pulled out: what is confined cannot open a port again, so it ends, and the daemon starts another.
    drop(std::mem::replace(&mut desk.master, File::open("/dev/null").unwrap()));
    drop(pty.slave);
    assert_eq!(desk.child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    desk.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.starts_with("confined: capabilities, "), "{said}");
    let mut complaint = String::new();
    desk.child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert!(complaint.contains("the port has gone"), "{complaint}");
    std::fs::remove_file(&file).unwrap();
}
