//! Watching from outside: the child alone, as its daemon would start it, before real clients: promtool, the reference
//! parser of OpenMetrics, a syslog daemon of Debian, and clients that mean harm.

#![allow(clippy::disallowed_methods)] // a test starts programs, sleeps and reads the clock

mod desk;
#[allow(dead_code)] // the tests of the operator use all of it
#[path = "../operator/states.rs"]
mod states;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use desk::{Desk, PATIENCE};
use twobox::clock;
use twobox::observe::child::CONNECTIONS;
use twobox::observe::control::{Event, Told};
use twobox::observe::exposition::Dialect;
use twobox::observe::metrics;

/// Runs a checker with `text` as its input; what it says must be nothing, and its status 0.
fn checked_by(words: &[&str], text: &str) {
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; `tests/run --install` installs it", words[0]));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{words:?}: {said}\n{text}");
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics_of_six_states() {
    for (name, status) in states::all() {
        println!("{name}");
        checked_by(&["promtool", "check", "metrics"], &metrics::text(&status, Dialect::Text));
    }
}

/// The reference parser (Debian's python3-prometheus-client) checks what OpenMetrics demands: units, order, suffixes, the end.
#[test]
fn the_openmetrics_of_six_states_are_understood() {
    const PARSE: &str = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
        families = list(parse(sys.stdin.read()))\n\
        assert len(families) > 25, families\n\
        names = [f.name for f in families]\n\
        assert len(names) == len(set(names)), names\n\
        assert all(f.documentation for f in families)\n";
    for (name, status) in states::all() {
        println!("{name}");
        checked_by(&["/usr/bin/python3", "-c", PARSE], &metrics::text(&status, Dialect::OpenMetrics));
    }
}

/// Prometheus itself stores them. It wants a time with every sample, which a scrape would add.
#[test]
fn prometheus_stores_the_openmetrics() {
    let folder = std::env::temp_dir().join(format!("twobox-tsdb-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let text = metrics::text(&states::alone(), Dialect::OpenMetrics);
    let timed: String = text
        .lines()
        .map(|line| if line.starts_with('#') { format!("{line}\n") } else { format!("{line} 1700000000\n") })
        .collect();
    let file = folder.join("metrics");
    std::fs::write(&file, timed).unwrap();
    let output = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&file, &folder.join("data")])
        .output()
        .expect("promtool; `tests/run --install` installs it");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success() && said.contains("BLOCK ULID"), "{said}");
}

#[test]
fn states_ages_and_counters_have_the_names_and_values_of_the_manual() {
    let mut status = states::alone();
    status.handovers.add(status.last_handover.as_ref().unwrap());
    let text = metrics::text(&status, Dialect::OpenMetrics);
    for line in [
        "twobox_role{role=\"active\"} 1",
        "twobox_role{role=\"standby\"} 0",
        "twobox_right_remaining_seconds 0.23",
        "twobox_heartbeats_lost_total{link=\"lan\"} 1900",
        "twobox_handovers_total{kind=\"failover\"} 1",
        "twobox_handovers_total{kind=\"switchover\"} 0",
        "twobox_outage_seconds_total{kind=\"failover\"} 0.561",
        "twobox_last_handover_seconds{phase=\"fence_wait\"} 0.052",
        "twobox_mirror_lag_seconds{tree=\"/data/mail\"} 12.4",
        "twobox_alarm{alarm=\"peer-silent\"} 1",
        "twobox_alarm{alarm=\"unfenced\"} 0",
        "twobox_alarms 1",
        "twobox_takeover_ready 0",
        "twobox_witness_round_trip_seconds{witness=\"192.0.2.1\"} 0.000412",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    // A right without end, and a board without belts.
    let mut bare = states::trouble();
    bare.right =
        twobox::console::status::Right { kind: twobox::console::status::RightKind::Forced, remaining_ms: None };
    let text = metrics::text(&bare, Dialect::Text);
    assert!(text.contains("twobox_right_remaining_seconds +Inf\n") && !text.contains("watchdog_timeout"), "{text}");
}

#[test]
fn pages_are_answered_on_the_own_address() {
    let desk = Desk::start("pages", states::peace());
    let status = desk.get("GET /status HTTP/1.1\r\nHost: box\r\n\r\n");
    assert!(status.starts_with("HTTP/1.1 200 OK\r\n") && status.contains("\r\nContent-Type: application/json\r\n"));
    let body = status.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(serde_json::from_str::<twobox::console::status::Status>(body).unwrap(), states::peace());
    let metrics = desk.get("GET /metrics HTTP/1.1\r\n\r\n");
    assert!(metrics.contains("text/plain; version=0.0.4") && metrics.ends_with("# EOF\n"), "{metrics}");
    let open = desk.get("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n");
    assert!(
        open.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{open}"
    );
    let head = desk.get("HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n") && !head.contains("Content-Length: 0\r\n"), "{head}");
    assert!(desk.get("GET / HTTP/1.1\r\n\r\n").contains("/metrics"));
    assert!(desk.get("GET /etc/passwd HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(desk.get("POST /status HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").starts_with("HTTP/1.1 405 "));
    assert!(desk.get("\x16\x03\x01\x02\x00 hello\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = desk.get(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)));
    assert!(long.starts_with("HTTP/1.1 431 "), "{long}");
    // In two pieces, and one byte at a time.
    let mut stream = desk.connect();
    for byte in b"GET / HTTP/1.1\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn many_at_once_are_answered_and_the_daemon_is_asked_seldom() {
    let desk = Desk::start("many", states::peace());
    drop(desk.connect()); // it listens
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let address = desk.address;
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer.ends_with("# EOF\n")
            })
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap()));
    assert!(desk.asked() <= 64, "{} questions for 64 clients", desk.asked());
}

#[test]
fn clients_that_say_nothing_lock_nobody_out_for_long() {
    let desk = Desk::start("silent", states::peace());
    let silent: Vec<TcpStream> = (0..CONNECTIONS * 2).map(|_| desk.connect()).collect();
    let began = clock::now();
    assert!(desk.get("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK"));
    // Two rounds of silent ones were waited for.
    println!("answered after {:?}", clock::now().since(began));
    let mut answer = String::new();
    (&silent[0]).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn a_daemon_that_hangs_is_told_as_such() {
    let desk = Desk::start("hangs", states::peace());
    desk.fall_silent();
    assert!(desk.get("GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
    assert!(desk.get("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

/// What speaks to the network can do nothing to the box.
#[test]
fn the_process_owns_nothing_and_ends_with_its_daemon() {
    let mut desk = Desk::start("rights", states::peace());
    assert!(desk.get("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", desk.pid())).unwrap();
    let line = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let status = file("status");
    if nix::unistd::Uid::effective().is_root() {
        assert_eq!(line(&status, "Uid:"), ["65534"; 4]);
        assert_eq!(line(&status, "Gid:"), ["65534"; 4]);
        assert!(line(&status, "Groups:").is_empty());
    }
    assert_eq!(line(&status, "CapEff:"), ["0000000000000000"]);
    assert_eq!(line(&status, "NoNewPrivs:"), ["1"]);
    assert_eq!(line(&status, "Seccomp:"), ["2"], "the calls that it makes are filtered");
    assert!(file("limits").lines().any(|line| line.starts_with("Max open files") && line.contains("64")));
    desk.hang_up();
    assert_eq!(desk.end(), Some(0));
}

/// Rubbish in every length: whatever comes, the next one is served.
#[test]
fn noise_is_answered_or_dropped_and_the_next_one_is_served() {
    let desk = Desk::start("noise", states::peace());
    let mut state = 1_u32;
    for length in (1..200).chain([4000, 4096, 5000, 70_000]) {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let mut stream = desk.connect();
        let _ = stream.write_all(&noise); // refused in the middle, perhaps
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(desk.get("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

/// rsyslogd takes every event apart into the fields of RFC 5424.
#[test]
fn a_syslog_daemon_understands_every_event() {
    let folder = std::env::temp_dir().join(format!("twobox-rsyslog-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (out, conf) = (folder.join("out"), folder.join("conf"));
    let text = format!(
        "module(load=\"imudp\")\n\
         template(name=\"json\" type=\"list\") {{ property(name=\"jsonmesg\") constant(value=\"\\n\") }}\n\
         ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{}\" template=\"json\") }}\n\
         input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"all\")\n",
        out.display()
    );
    std::fs::write(&conf, text).unwrap();
    let mut rsyslogd = Command::new("rsyslogd")
        .args(["-n", "-i", "NONE", "-f"])
        .arg(&conf)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("rsyslogd; `tests/run --install` installs it");
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let desk = Desk::with_syslog("syslog", states::peace(), to);
    let handover = states::alone().last_handover.unwrap();
    let events = [
        Event::Started { version: "0.1.0".into() },
        Event::Role { from: "standby".into(), to: "claiming".into(), why: "the peer fell silent".into(), term: 8 },
        Event::Handover { handover },
        Event::Raised { name: "peer-silent".into(), text: "the peer is not heard on any link".into() },
        Event::Cleared { name: "peer-silent".into(), text: "the peer is not heard on any link".into() },
    ];
    let mut lines = Vec::new();
    let until = clock::now() + PATIENCE;
    // The daemon needs a moment until it listens; a datagram before that is lost, as with any syslog server.
    while lines.len() < 2 * events.len() {
        assert!(clock::now() < until, "rsyslogd has written {lines:?}");
        for event in &events {
            desk.tell(Told::Event { event: event.clone(), unix_us: Some(1_709_251_199_000_123), boot_ms: 95_000 });
        }
        std::thread::sleep(Duration::from_millis(200));
        lines = std::fs::read_to_string(&out).unwrap_or_default().lines().map(str::to_owned).collect();
    }
    let _ = rsyslogd.kill();
    let _ = rsyslogd.wait();
    std::fs::remove_dir_all(&folder).unwrap();
    let line = |id: &str| -> serde_json::Value {
        let values = lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        values.into_iter().find(|value| value["msgid"] == id).unwrap_or_else(|| panic!("no {id} in {lines:#?}"))
    };
    for (id, severity, words) in [
        ("START", "5", "office a: twobox 0.1.0 started"),
        ("ROLE", "5", "office a: standby -> claiming, term 8: the peer fell silent"),
        ("HANDOVER", "3", "office a: failover to b, term 8: a fell silent; 561 ms (detect 500 ms, fence 52 ms)"),
        ("ALARM", "4", "office a: ALARM peer-silent: the peer is not heard on any link -> look at its power"),
        ("CLEAR", "6", "office a: over: peer-silent: the peer is not heard on any link"),
    ] {
        let value = line(id);
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (field("programname"), field("app-name"), field("protocol-version")),
            ("twobox".into(), "twobox".into(), "1".into())
        );
        assert_eq!((field("syslogfacility"), field("syslogseverity")), ("3".into(), severity.into()), "{value}");
        assert!(field("timereported").starts_with("2024-02-29T23:59:59.000123"), "{value}");
        assert!(field("structured-data").starts_with("[origin ip=\"127.0.0.1\" software=\"twobox\""), "{value}");
        assert!(field("structured-data").contains("sysUpTime=\"9500\""), "{value}");
        assert!(field("msg").trim_start().starts_with(words), "{value}");
    }
}
