//! Every command with every option, typed at the console's prompt.

use argh::{CommandInfo, SubCommands};
use twobox::console::command::{Command, below};
use twobox::console::parse::parse;

use super::daemon::Daemon;
use super::desk::Desk;
use super::states;

/// What an operator types at the prompt, and what is shown then. FILE, KEY, PASSWORD, BOARD and SITE are files of the test.
const LINES: &[(&str, &str)] = &[
    ("status", "a serves. b would take over at once."),
    ("status --json", "\"takeover\":{\"ready\":true"),
    ("switchover", "b serves; outage 3.4 ms"),
    ("switchover --lose-changes", "b serves; outage 3.4 ms"),
    ("hold -- --disk swap", "did Hold { reason: Some(\"--disk swap\") }"),
    ("release", "did Release"),
    ("activate", "without proof that the peer is off"),
    ("activate --force", "a serves already; nothing is to be done"),
    ("drill", "/data/mail is not current; wait for the mirror"),
    ("history -n 1", "failover to b"),
    ("log -n 3", "standby -> active"),
    ("peer status", "a serves"),
    ("peer status --json", "\"takeover\":{\"ready\":true"),
    ("peer status --watch", "the live view shows both boxes: `watch`"),
    ("peer hold -- it", "did Peer(Hold { reason: Some(\"it\") })"),
    ("peer release", "did Peer(Release)"),
    ("peer log -n 2", "standby -> active"),
    ("peer reboot", "did Peer(Reboot)"),
    ("mirror status", "/data/mail"),
    ("mirror status --json", "[{\"tree\":\"/data/mail\""),
    ("mirror sync --confirm-delete", "the standby is equal"),
    ("mirror sync --json -- /data", "\"done\":true"),
    ("mirror verify -- /rotten", "1 name differed, and is healed"),
    ("mirror verify --json", "\"different\":0"),
    ("mirror diverged", "did Mirror(DivergedList)"),
    ("mirror diverged list", "did Mirror(DivergedList)"),
    ("mirror diverged show 1-ed", "did Mirror(DivergedShow { name: \"1-ed\" })"),
    ("mirror diverged restore 1-ed cur/x", "did Mirror(DivergedRestore { name: \"1-ed\", path: Some(\"cur/x\") })"),
    ("mirror diverged drop -- 1-ed", "did Mirror(DivergedDrop { name: \"1-ed\" })"),
    ("update --pair -- FILE", "did Update { image: \"FILE\", pair: true }"),
    ("reboot", "did Reboot"),
    ("check --board BOARD --site=SITE --measure 1", "late by "),
    ("key new -- KEY", "KEY: a new key, mode 0600"),
    ("version", "twobox 0."),
    ("twobox status", "a serves. b would take over at once."),
    ("status --socket /nowhere", "--socket is not for this prompt"),
    ("status --socket=/nowhere", "--socket is not for this prompt"),
    ("run --board BOARD --site SITE --node a --state /nowhere", "run is not for this prompt"),
    ("console --device /nowhere --baud 1 --idle 1 --password-file /nowhere", "console is not for this prompt"),
];

/// Those that want more than a line, or do not end by themselves: typed by [`every_command_with_every_option_is_typed`] itself.
const OTHERS: &[&str] = &["status --watch", "watch --interval 1", "log -f", "poweroff", "key password -- PASSWORD"];

const SITE: &str = "[pair]\nname = \"office\"\nkey-file = \"KEY\"\n[node.a]\nlan = \"192.0.2.2/24\"\n[node.b]\n\
                    lan = \"192.0.2.3/24\"\n[timing]\nmargin = \"10s\"\n";
const BOARD: &str = "name = \"box\"\n[interface.lan]\nname = \"eth0\"\n";

/// Every command, with the words before its options.
fn commands() -> Vec<Vec<&'static str>> {
    let paths = |command: &&CommandInfo| -> Vec<Vec<&'static str>> {
        match below(command.name) {
            [] => vec![vec![command.name]],
            below => below.iter().map(|second| vec![command.name, second.name]).collect(),
        }
    };
    Command::COMMANDS.iter().flat_map(paths).collect()
}

/// The options in a command's help: what its first line has in brackets or not.
fn options(path: &[&str]) -> Vec<String> {
    let help = parse("twobox", &[path, &["--help"]].concat()).unwrap_err().text;
    let usage: Vec<&str> = help.lines().take_while(|line| !line.is_empty()).collect();
    let usage = usage.join(" ").replace(['[', ']'], " ");
    usage.split_whitespace().filter(|word| word.starts_with('-')).map(str::to_owned).collect()
}

/// What no line of the table types: a command, or an option of one.
#[test]
fn the_table_leaves_out_no_command_and_no_option() {
    let typed: Vec<&str> = LINES.iter().map(|(line, _)| *line).chain(OTHERS.iter().copied()).collect();
    let mut left_out = Vec::new();
    for path in commands() {
        let lines = typed.iter().map(|line| line.split([' ', '=']).collect::<Vec<_>>());
        let lines: Vec<_> = lines.filter(|words| words.starts_with(&path)).collect();
        if lines.is_empty() {
            left_out.push(path.join(" "));
        }
        for option in options(&path) {
            if !lines.iter().any(|words| words.contains(&option.as_str())) {
                left_out.push(format!("{} {option}", path.join(" ")));
            }
        }
    }
    assert!(left_out.is_empty(), "{left_out:#?}");
}

#[test]
fn every_command_with_every_option_is_typed() {
    let status = twobox::console::status::Status { last_handover: states::alone().last_handover, ..states::peace() };
    let daemon = Daemon::start("c-every", status);
    let dir = std::env::temp_dir().join(format!("twobox-words-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    // The key is there when the configuration is looked at.
    twobox::config::key_file::create(&dir.join("pair.key")).unwrap();
    for (name, text) in [("image", ""), ("site", &SITE.replace("KEY", &path("pair.key"))), ("board", BOARD)] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    let files = [
        ("FILE", path("image")),
        ("KEY", path("new.key")),
        ("PASSWORD", path("password")),
        ("BOARD", path("board")),
        ("SITE", path("site")),
    ];
    let filled = |text: &str| files.iter().fold(text.to_owned(), |text, (word, path)| text.replace(word, path));
    let mut desk = Desk::start(&daemon, &["console"], (500, 24)); // no line is wrapped
    desk.expect("a active> ");
    for (line, shown) in LINES {
        let answer = desk.ask(&filled(line));
        assert!(answer.contains(&filled(shown)), "{line}: {answer}");
        // More than five wrong lines in a row would not be answered; a right one is told from them.
        assert!(!answer.contains("see `help`") || shown.contains("not for this prompt"), "{line}: {answer}");
    }
    for line in ["status --watch", "watch --interval 1"] {
        desk.send(format!("{line}\r"));
        desk.expect("+-- a (here)");
        desk.send("\x03");
        desk.expect("a active> ");
    }
    for line in ["log -f", "poweroff"] {
        desk.send(format!("{line}\r"));
        if line == "log -f" {
            desk.expect("a line of the log");
        }
        desk.send("\x03");
        if line == "poweroff" {
            desk.expect("interrupted");
        }
        desk.expect("a active> ");
    }
    desk.send(filled("key password -- PASSWORD\r"));
    desk.expect("password: ");
    desk.send("open sesame\r");
    desk.expect("again: ");
    desk.send("open sesame\r");
    let shown = desk.expect("a active> ");
    assert!(shown.contains("the password's hash, mode 0600") && !shown.contains("sesame"), "{shown}");
    // Leaving, by each word for it.
    for word in ["exit", "logout", "quit"] {
        desk.send(format!("{word}\r"));
        assert_eq!(desk.end(), 0, "{word}");
        desk = Desk::console(&daemon, &[]);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
