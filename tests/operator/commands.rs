//! The command line as a script sees it: output, standard error, exit code.

use std::process::{Command, Output};

use super::daemon::{Daemon, program};
use super::states;
use twobox::console::status::{Peer, Status};

#[allow(clippy::disallowed_methods)] // the program under test
fn twobox(daemon: Option<&Daemon>, arguments: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut command = Command::new(program());
    command.env_remove("TWOBOX_SOCKET").args(arguments);
    if let Some(daemon) = daemon {
        command.env("TWOBOX_SOCKET", &daemon.socket);
    }
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let daemon = Daemon::start("codes", states::peace());
    for (arguments, expected) in [
        (&["version"][..], 0),
        (&["--version"], 0),
        (&["check", "--board", "/b", "--site", "/s", "--measure", "0"], 2),
        (&["console", "--device", "/nonexistent/port"], 1),
        (&["console", "--device", "/dev/null", "--baud", "7"], 2),
        (&["console"], 1),
        (&["--help"], 0),
        (&["hold", "--help"], 0),
        (&["status"], 0),
        (&["drill"], 1),
        (&["frobnicate"], 2),
        (&[], 2),
        (&["activate"], 2),
        (&["mirror", "diverged", "eat"], 2),
        (&["run", "--board", "/b", "--site", "/s", "--node", "c"], 2),
        (&["check", "--board", "/nonexistent", "--site", "/nonexistent"], 2),
        (&["watch"], 1),
    ] {
        let output = twobox(Some(&daemon), arguments, "");
        assert_eq!(code(&output), expected, "{arguments:?}: {}{}", out(&output), err(&output));
        assert_eq!(expected != 0, !err(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn version_names_the_release_and_the_commit() {
    let output = twobox(None, &["version"], "");
    let text = out(&output);
    let commit =
        text.strip_prefix(concat!("twobox ", env!("CARGO_PKG_VERSION"), " (")).and_then(|t| t.strip_suffix(")\n"));
    assert!(commit.is_some_and(|commit| !commit.is_empty()), "{text}");
}

#[test]
fn without_a_daemon_every_order_says_how_to_start_one() {
    for arguments in [&["status"][..], &["switchover"], &["hold"], &["log"], &["mirror", "status"], &["peer", "status"]]
    {
        let arguments = [&["--socket", "/nonexistent/twobox.sock"], arguments].concat();
        let output = twobox(None, &arguments, "");
        assert_eq!(code(&output), 1);
        assert!(err(&output).contains("/nonexistent/twobox.sock: start it with `twobox run`"), "{}", err(&output));
        assert_eq!(err(&output).lines().count(), 1);
    }
}

#[test]
fn status_is_plain_text_in_a_pipe_and_json_on_demand() {
    let daemon = Daemon::start("status", states::trouble());
    let text = out(&twobox(Some(&daemon), &["status"], ""));
    assert!(text.starts_with("a serves. A takeover by b would NOT work now:"), "{text}");
    assert!(!text.contains('\x1b'));
    let json = out(&twobox(Some(&daemon), &["status", "--json"], ""));
    assert_eq!(json.lines().count(), 1);
    assert_eq!(serde_json::from_str::<twobox::console::status::Status>(&json).unwrap(), states::trouble());
    let mirror = out(&twobox(Some(&daemon), &["mirror", "status"], ""));
    assert!(mirror.contains("47,100 of 48,211 files would be deleted"), "{mirror}");
}

#[test]
fn long_work_tells_its_steps_with_their_times() {
    let daemon = Daemon::start("steps", states::peace());
    let output = twobox(Some(&daemon), &["switchover"], "");
    let expected =
        "     0.9 ms  services stopped\n     1.7 ms  addresses down\n     4.2 ms  b serves\nb serves; outage 3.4 ms\n";
    assert_eq!(out(&output), expected);
    // No bar in a pipe, one JSON line for programs.
    assert_eq!(
        out(&twobox(Some(&daemon), &["mirror", "sync"], "")),
        "/data/mail: 20 files; 3 names sent, 2 deleted; 1.0 GB read, 1.0 MB sent in 17 chunks, 4.00 s\n\
         the standby is equal\n"
    );
}

/// The one line of JSON that a command prints.
fn json(output: &std::process::Output) -> serde_json::Value {
    let text = out(output);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_copy_and_a_comparison_give_their_figures_to_programs() {
    let daemon = Daemon::start("figures", states::peace());
    let output = twobox(Some(&daemon), &["mirror", "sync", "--json"], "");
    assert_eq!(code(&output), 0);
    let value = json(&output);
    for (pointer, wanted) in [
        ("/done", serde_json::json!(true)),
        ("/files", 20.into()),
        ("/bytes_read", 1_000_000_000.into()),
        ("/bytes_sent", 1_000_123.into()),
        ("/chunks_sent", 17.into()),
        ("/names_sent", 3.into()),
        ("/names_deleted", 2.into()),
        ("/elapsed_us", 4_000_000.into()),
        ("/different", serde_json::Value::Null),
        ("/trees/0/tree", "/data/mail".into()),
        ("/trees/0/found_by", "events".into()),
        ("/text", "the standby is equal".into()),
    ] {
        assert_eq!(value.pointer(pointer), Some(&wanted), "{pointer}");
    }
    let value = json(&twobox(Some(&daemon), &["mirror", "sync", "--confirm-delete", "--json"], ""));
    assert_eq!(value.pointer("/trees/0/deletions/count"), Some(&47_100.into()));
    assert_eq!(value.pointer("/trees/0/deletions/first/99"), Some(&"cur/99".into()));
}

#[test]
fn a_comparison_has_a_verdict_and_an_exit_code_for_it() {
    let daemon = Daemon::start("verify", states::peace());
    let equal = twobox(Some(&daemon), &["mirror", "verify"], "");
    assert_eq!(code(&equal), 0);
    let text = out(&equal);
    assert!(text.starts_with("/data/mail: 10 files, 41.0 MB compared: equal; 4.00 s\n/data: 10 files"), "{text}");
    assert!(text.ends_with("both sides are equal\n"), "{text}");

    let different = twobox(Some(&daemon), &["mirror", "verify", "/rotten"], "");
    assert_eq!(code(&different), 3, "{}", err(&different));
    let text = out(&different);
    assert!(text.contains("/rotten: 10 files, 41.0 MB compared: 1 name differed, healed; 4.00 s\n"), "{text}");
    assert!(text.contains("\n  content       a/?[2Jb\n"), "{text:?}");

    let different = twobox(Some(&daemon), &["mirror", "verify", "/rotten", "--json"], "");
    assert_eq!(code(&different), 3);
    let value = json(&different);
    for (pointer, wanted) in [
        ("/files_compared", serde_json::json!(20)),
        ("/bytes_compared", 82_000_000.into()),
        ("/different", 1.into()),
        ("/healed", true.into()),
        ("/trees/1/verdict/differences/0/what", "content".into()),
    ] {
        assert_eq!(value.pointer(pointer), Some(&wanted), "{pointer}");
    }
}

#[test]
fn what_a_guard_stopped_is_listed_before_it_is_refused() {
    let daemon = Daemon::start("blocked", states::peace());
    let output = twobox(Some(&daemon), &["mirror", "sync", "/blocked"], "");
    assert_eq!(code(&output), 1);
    let text = out(&output);
    assert!(text.starts_with("/blocked: 47100 of 48211 names would be deleted from the copy:\n  cur/0\n"), "{text}");
    let last = "  and 47080 more; all of them stand in /data/.twobox/trees/0123/deletions\n";
    assert!(text.ends_with(last), "{text}");
    assert_eq!(err(&output).lines().count(), 1);
    assert!(err(&output).contains("max-delete allows; if it is meant: `mirror sync --confirm-delete`"));
    let output = twobox(Some(&daemon), &["mirror", "sync", "/blocked", "--json"], "");
    assert_eq!(code(&output), 1);
    let value = json(&output);
    assert_eq!(value.pointer("/done"), Some(&false.into()));
    assert_eq!(value.pointer("/blocked/count"), Some(&47_100.into()));
    // Released: the list comes first all the same.
    let text = out(&twobox(Some(&daemon), &["mirror", "sync", "--confirm-delete"], ""));
    assert!(text.starts_with("/data/mail: 47100 of 48211 names are deleted from the copy now:\n"), "{text}");
    assert!(text.ends_with("the standby is equal\n"), "{text}");
}

#[test]
fn a_refusal_is_one_line_with_its_remedy() {
    let daemon = Daemon::start("refusal", states::peace());
    let output = twobox(Some(&daemon), &["drill"], "");
    assert_eq!(err(&output), "twobox: /data/mail is not current; wait for the mirror, see `mirror status`\n");
}

#[test]
fn words_reach_the_daemon_as_they_were_meant() {
    use twobox::console::control::{MirrorRequest, PeerRequest, Request};
    let daemon = Daemon::start("words", states::peace());
    for arguments in [
        &["hold", "disk", "swap"][..],
        &["peer", "release"],
        &["mirror", "sync", "/data/mail", "--confirm-delete"],
        &["mirror", "diverged", "restore", "7-1", "mail/new"],
    ] {
        assert_eq!(code(&twobox(Some(&daemon), arguments, "")), 0, "{arguments:?}");
    }
    let tree = Some("/data/mail".to_owned());
    assert_eq!(
        *daemon.asked.lock().unwrap(),
        [
            Request::Hold { reason: Some("disk swap".into()) },
            Request::Peer(PeerRequest::Release),
            Request::Mirror(MirrorRequest::Sync { tree, confirm_delete: true }),
            Request::Mirror(MirrorRequest::DivergedRestore { name: "7-1".into(), path: Some("mail/new".into()) }),
        ]
    );
    let long = "x".repeat(200);
    assert_eq!(code(&twobox(Some(&daemon), &["hold", &long], "")), 2);
}

#[test]
fn force_wants_its_words_typed() {
    let silent = |status: Status, heard_ms_ago| Status { peer: Peer { heard_ms_ago, ..status.peer }, ..status };
    let strange = Daemon::start("force-strange", silent(states::held(), None));
    let said = out(&twobox(Some(&strange), &["activate", "--force"], ""));
    assert!(said.starts_with("a was never heard. Nothing here proves that it is off.\n"), "{said}");
    let daemon = Daemon::start("force", silent(states::held(), Some(60_000)));
    for wrong in ["", "yes\n", "activate a\n", "activate\n"] {
        let output = twobox(Some(&daemon), &["activate", "--force"], wrong);
        assert_eq!(code(&output), 1, "{wrong:?}");
        assert!(out(&output).contains("Nothing here proves that it is off"));
    }
    assert!(daemon.asked.lock().unwrap().is_empty());
    assert_eq!(code(&twobox(Some(&daemon), &["activate", "--force"], "activate b\n")), 0);
    assert_eq!(daemon.asked.lock().unwrap().len(), 1);
    // What would be refused anyway is refused before anybody types.
    for (status, why) in
        [(states::peace(), "a serves already"), (states::standby(), "the peer is not silent: a was heard")]
    {
        let daemon = Daemon::start("force-in-vain", status);
        let output = twobox(Some(&daemon), &["activate", "--force"], "");
        assert_eq!((code(&output), out(&output)), (1, String::new()));
        assert!(err(&output).starts_with(&format!("twobox: {why}")), "{}", err(&output));
        assert!(daemon.asked.lock().unwrap().is_empty());
    }
}

#[test]
fn a_slip_is_one_line_and_names_the_nearest_word() {
    let output = twobox(None, &["statsu"], "");
    let expected = "twobox: there is no command `statsu`; did you mean `status`?; see `twobox --help`\n";
    assert_eq!((code(&output), err(&output)), (2, expected.to_owned()));
    for (arguments, why) in [
        (&["log", "-n", "-1"][..], "-n -1: no whole number from 0 to 4294967295; see `twobox log --help`"),
        (&["history", "-n", "99999999999"], "-n 99999999999: no whole number from 0 to 4294967295"),
        (&["watch", "--interval", "-1"], "--interval -1: no interval; 0.1 to 3600 seconds"),
        (&["status", "--json", "--watch"], "status takes --json or --watch, not both"),
        (&["peer", "status", "--json", "--watch"], "status takes --json or --watch, not both"),
    ] {
        let output = twobox(None, arguments, "");
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(err(&output).starts_with(&format!("twobox: {why}")), "{}", err(&output));
    }
    let output = twobox(None, &["status", "--socket", "/nonexistent/s"], "");
    assert!(code(&output) == 1 && err(&output).contains("/nonexistent/s: start it"), "{}", err(&output));
}

#[test]
fn a_daemon_that_does_not_start_says_why_and_what_to_do() {
    let files = Files::new("start");
    let key = files.path("pair.key");
    assert_eq!(code(&twobox(None, &["key", "new", &key], "")), 0);
    let board = files.write("board.toml", "name = \"box\"\n[interface.lan]\nname = \"nowhere0\"\n");
    let site = files.write("site.toml", &site(&key, ""));
    let state = files.write("state", "no directory");
    let run =
        |state: &str| twobox(None, &["run", "--board", &board, "--site", &site, "--node", "a", "--state", state], "");
    let output = run(&state);
    let text = err(&output);
    let line = text.lines().last().unwrap_or_default();
    assert_eq!(code(&output), 1, "{text}");
    assert!(line.starts_with("twobox: state directory ") && line.ends_with("with --state"), "{text}");
    let socket = files.path("no/such/socket");
    let arguments = ["--socket", &socket, "run", "--board", &board, "--site", &site, "--node", "a", "--state"];
    let output = twobox(None, &[&arguments[..], &[&files.path("good")]].concat(), "");
    let text = err(&output);
    assert!(
        code(&output) == 1 && text.contains("make its directory first, or name another path with --socket"),
        "{text}"
    );
    let nowhere = files.path("no/such/key");
    for words in [["key", "new"], ["key", "password"]] {
        let output = twobox(None, &[words[0], words[1], &nowhere], "secret\n");
        assert!(code(&output) == 1 && err(&output).contains("its directory is not there; make"), "{}", err(&output));
        let output = twobox(None, &[words[0], words[1], &key], "secret\n");
        assert!(code(&output) == 1 && err(&output).contains("never overwritten; choose"), "{}", err(&output));
    }
}

#[test]
fn log_and_history_are_harmless_to_a_terminal() {
    let daemon = Daemon::start("log", states::alone());
    assert_eq!(out(&twobox(Some(&daemon), &["log"], "")), "[12.3] node: standby -> active ?[2J\n");
    let history = out(&twobox(Some(&daemon), &["history"], ""));
    let expected = "2024-02-29 23:59:59Z (1 start ago)  failover to b, term 8: a fell silent; 561 ms (detect 500 ms, fence 52 ms)\n";
    assert_eq!(history, expected);
}

/// A line of a shell with our program on that daemon's socket in `$TWOBOX`.
fn shell(daemon: &Daemon, line: &str) -> Output {
    let words = format!("{} --socket {}", program().display(), daemon.socket.display());
    #[allow(clippy::disallowed_methods)] // the program under test
    Command::new("sh").args(["-c", line]).env("TWOBOX", words).output().unwrap()
}

#[test]
fn a_reader_that_has_gone_is_no_error_of_ours() {
    let daemon = Daemon::start("pipe", states::peace());
    assert_eq!(err(&shell(&daemon, "$TWOBOX status | true")), "");
    // What would go on for ever ends with its reader. The time is for a machine that is busy.
    let output = shell(&daemon, "{ timeout 30 $TWOBOX log -f; echo $? >&2; } | head -n 1");
    assert_eq!((out(&output), err(&output)), ("[12.3] node: a line of the log\n".to_owned(), "0\n".to_owned()));
}

#[test]
fn what_could_not_be_shown_has_failed() {
    let daemon = Daemon::start("full", states::peace());
    for command in ["status", "status --json", "version", "--help", "switchover", "mirror verify /rotten"] {
        let output = shell(&daemon, &format!("$TWOBOX {command} > /dev/full"));
        assert_eq!(code(&output), 1, "{command}: {}", err(&output));
        assert!(err(&output).starts_with("twobox: not all could be shown: No space left"), "{}", err(&output));
        assert_eq!(err(&output).lines().count(), 1);
    }
}

#[test]
fn a_socket_that_cannot_be_one_is_told_in_words() {
    let long = format!("/{}", "x".repeat(107));
    let output = twobox(None, &["status", "--socket", &long], "");
    assert_eq!(
        (code(&output), err(&output)),
        (1, format!("twobox: {long} is no path of a socket: at most 107 bytes\n"))
    );
    // The longest that can be.
    let output = twobox(None, &["status", "--socket", &long[..107]], "");
    assert!(err(&output).contains("no daemon answers on"), "{}", err(&output));
    // A variable that is empty is none.
    let asked = |empty: bool| {
        let mut command = Command::new(program());
        command.arg("status").env_remove("TWOBOX_SOCKET");
        if empty {
            command.env("TWOBOX_SOCKET", "");
        }
        #[allow(clippy::disallowed_methods)] // the program under test
        let output = command.output().unwrap();
        (code(&output), err(&output))
    };
    assert_eq!(asked(true), asked(false));
}

struct Files(std::path::PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("twobox-commands-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn site(key: &str, more: &str) -> String {
    format!(
        "[pair]\nname = \"office\"\nkey-file = \"{key}\"\n[node.a]\nlan = \"192.0.2.2/24\"\n[node.b]\n\
         lan = \"192.0.2.3/24\"\n[[address]]\nip = \"192.0.2.10/24\"\n{more}"
    )
}

const BOARD: &str = "name = \"box\"\n[interface.lan]\nname = \"eth0\"\n[interface.crossover]\nname = \"eth1\"\n\
                     [serial.null-modem]\ndevice = \"/dev/ttyS1\"\n[watchdog]\ndevice = \"/dev/watchdog0\"\n";

#[test]
fn a_key_is_made_once_and_check_explains_the_configuration() {
    let files = Files::new("check");
    let key = files.path("pair.key");
    assert_eq!(code(&twobox(None, &["key", "new", &key], "")), 0);
    let again = twobox(None, &["key", "new", &key], "");
    assert_eq!(code(&again), 1);
    assert!(err(&again).contains("never overwritten"));

    let board = files.write("board.toml", BOARD);
    let site = files.write("site.toml", &site(&key, "[[witness]]\nip = \"192.0.2.1\"\n"));
    let output = twobox(None, &["check", "--board", &board, "--site", &site], "");
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    for expected in [
        "with gate                            F 1ms, C 551.501ms, failover at most 776.501ms",
        "with watchdog                        F 4.5s, C 5.055s, failover at most 5.28s",
        "with none                            never in silence, only by vote or force",
        "null modem, there and back           240.277ms (carries a lease)",
        "witness round p                      25ms (160 pings a second in trouble)",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("warning"), "{text}");
    // Sentences fit the terminal, of 80 columns where there is none; a row of figures is one line.
    let (rows, sentences) = text.split_at(text.find("F: from").unwrap());
    assert!(rows.lines().all(|line| line.chars().count() <= 90), "{text}");
    assert!(sentences.lines().count() > 2 && sentences.lines().all(|line| line.chars().count() < 80), "{text}");
    let watched = files.write("watched.toml", &self::site(&key, "[observe]\nlisten = [9140, \"192.0.2.3:80\"]\n"));
    let text = out(&twobox(None, &["check", "--board", &board, "--site", &watched], ""));
    assert!(text.contains("a: 192.0.2.2:9140; b: 192.0.2.3:9140, 192.0.2.3:80\n"), "{text}");

    let asks = "[[service]]\nname = \"web\"\nstart = [\"/usr/bin/systemctl\", \"start\", \"--wait\", \"nginx\"]\n";
    let asks = files.write("asks.toml", &self::site(&key, asks));
    let text = out(&twobox(None, &["check", "--board", &board, "--site", &asks], ""));
    assert!(text.contains("warning: service web: systemctl asks another daemon"), "{text}");
    let site = files.write("fast.toml", &self::site(&key, "[timing]\nprofile = \"fast\"\n"));
    let bare = files.write("bare.toml", "name = \"box\"\n[interface.lan]\nname = \"eth0\"\n");
    let text = out(&twobox(None, &["check", "--board", &board, "--site", &site], ""));
    assert!(text.contains("C 66.061ms") && text.contains("warning: no witness"), "{text}");
    assert!(text.contains("carries no lease"), "{text}");
    let text = out(&twobox(None, &["check", "--board", &bare, "--site", &site], ""));
    assert!(text.contains("warning: UNFENCED") && text.contains("warning: no null modem"), "{text}");
}

#[test]
fn check_tells_every_error_of_both_files_and_of_the_key() {
    let files = Files::new("errors");
    let key = files.write("open.key", &"ab".repeat(32));
    let board = files.write("board.toml", &BOARD.replace("eth1", "eth/1"));
    let site = files.write("site.toml", &site(&key, "[timing]\nlaese = \"1s\"\n"));
    let output = twobox(None, &["check", "--board", &board, "--site", &site], "");
    assert_eq!(code(&output), 2);
    let text = err(&output);
    assert!(text.contains(&format!("{board}:5: interface.crossover.name: \"eth/1\" is no interface name")), "{text}");
    assert!(text.contains(&format!("{site}:11: timing.laese: is unknown; did you mean lease?")), "{text}");
    assert!(text.contains(&format!("{site}:3: pair.key-file: {key} has mode 0644")), "{text}");
    assert!(text.contains("3 errors"), "{text}");
}

#[test]
fn every_inequality_and_every_address_that_would_move_is_refused_with_its_line() {
    let files = Files::new("inequalities");
    let key = files.path("pair.key");
    twobox(None, &["key", "new", &key], "");
    let board = files.write("board.toml", BOARD);
    let text = site(&key, "").replace("name = \"office\"\n", "name = \"office\"\nboot-wait = \"1s\"\n");
    let more = "[timing]\nheartbeat = \"20ms\"\nserial-heartbeat = \"20ms\"\nlease = \"50ms\"\nwitness = \"10ms\"\n\
                witness-idle = \"5ms\"\n[observe]\nlisten = \"192.0.2.10:9140\"\n";
    let site = files.write("site.toml", &(text + more));
    let output = twobox(None, &["check", "--board", &board, "--site", &site], "");
    assert_eq!(code(&output), 2);
    let said = err(&output);
    for (line, key) in [
        (3, "pair.boot-wait"),
        (14, "timing.lease"),
        (15, "timing.witness"),
        (16, "timing.witness-idle"),
        (18, "observe.listen"),
    ] {
        let expected = format!("{site}:{line}: {key}: ");
        let found = said.lines().find(|said| said.starts_with(&expected));
        assert!(found.is_some_and(|found| found.contains("; allowed: ")), "{expected}\n{said}");
    }
    assert!(said.ends_with("5 errors; nothing of this would be used\n"), "{said}");
}

#[test]
fn check_measures_this_machine() {
    let files = Files::new("measure");
    let key = files.path("pair.key");
    twobox(None, &["key", "new", &key], "");
    let board = files.write("board.toml", BOARD);
    let site = files.write("site.toml", &site(&key, "[timing]\nmargin = \"10s\"\n"));
    let output = twobox(None, &["check", "--board", &board, "--site", &site, "--measure", "1"], "");
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("real-time priority: late by"), "{}", out(&output));
}
