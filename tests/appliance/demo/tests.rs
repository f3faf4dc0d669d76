//! The screen as text snapshots, and the client's judgement of pages.

use std::path::Path;
use std::time::Duration;

use twobox::console::screen::Screen;

use super::model::{CROSSOVER, LAN, Model, WITNESS};
use super::rig::fetcher::{Outcome, judge};
use super::rig::station::Seen;
use super::rig::timeline::Event;
use super::screen::draw;

const STATUS: &str = include_str!("../../operator/snapshots/status.json");

fn say(model: &mut Model, at: u64, who: &str, text: &str) {
    model.see(&Event { at: Duration::from_secs(at), who: who.into(), text: text.into() });
}

fn pass(model: &mut Model, to: u64, last: u64, served_by: usize, outages: &[(u64, u64)]) {
    let outages = outages.iter().map(|(at, ms)| (Duration::from_secs(*at), Duration::from_millis(*ms))).collect();
    let last = Duration::from_secs(last);
    let client = Seen { answers: 1234, served_by: Some(served_by), last, outages, wrong: 0 };
    for second in model.now.as_secs() + 1..=to {
        model.pass(Duration::from_secs(second), client.clone());
    }
}

fn status(role: &str) -> String {
    let status: String = STATUS.lines().map(str::trim).collect();
    status.replacen("\"active\"", &format!("\"{role}\""), 1).replace("277000000", "61000")
}

/// Both boxes up, a serves.
fn peace() -> Model {
    let mut model = Model { emulated: true, ..Model::default() };
    say(&mut model, 1, "a", "power on");
    say(&mut model, 1, "b", "power on");
    say(&mut model, 10, "a$", "agent ready");
    say(&mut model, 10, "b$", "agent ready");
    pass(&mut model, 20, 0, 0, &[]);
    pass(&mut model, 71, 71, 0, &[]);
    say(&mut model, 70, "a$", &status("active"));
    say(&mut model, 70, "b$", &status("standby"));
    model
}

/// a has lost its power, crossover and witness are out, b serves and has something to say.
fn trouble() -> Model {
    let mut model = peace();
    model.chosen = 1;
    say(&mut model, 72, "a", "POWER CUT");
    pass(&mut model, 75, 72, 0, &[]);
    pass(&mut model, 90, 90, 1, &[(72, 2610)]);
    model.cut[CROSSOVER] = Some(Duration::from_secs(80));
    model.cut[WITNESS] = Some(Duration::from_secs(81));
    model.cut[LAN] = Some(Duration::from_secs(85));
    let alarm = r#""alarms": [{"since_ms": 5000, "text": "the peer is silent on every link; power it on or pull it out, and look at the null modem"},
        {"since_ms": 1, "text": "witness 192.0.2.1 does not answer"}]"#;
    let alone = status("active").replacen("\"node\": \"a\"", "\"node\": \"b\"", 1).replace("\"alarms\": []", alarm);
    say(&mut model, 89, "b$", &alone);
    model
}

/// Nobody serves: a hangs, b boots.
fn dark() -> Model {
    let mut model = peace();
    say(&mut model, 72, "rig", "hangs a");
    say(&mut model, 73, "b", "RESET by \"guest-reset\"");
    pass(&mut model, 78, 72, 0, &[(20, 14_200), (40, 640)]);
    model
}

#[test]
fn pictures_of_three_states() {
    for (name, model) in [("peace", peace()), ("trouble", trouble()), ("dark", dark())] {
        for (width, height) in [(80, 24), (132, 43)] {
            let mut screen = Screen::new(width, height);
            draw(&model, &mut screen);
            assert_snapshot(&format!("{name}-{width}x{height}.txt"), &screen.text());
        }
    }
}

#[test]
fn every_size_is_drawn_without_harm() {
    for model in [Model::default(), peace(), trouble(), dark()] {
        for (width, height) in [(1, 1), (20, 5), (79, 23), (80, 24), (81, 30), (300, 100)] {
            draw(&model, &mut Screen::new(width, height));
        }
    }
}

#[test]
fn a_page_is_right_only_when_it_is_whole() {
    let page = b"the page";
    let cases: [(&[u8], Outcome); 7] = [
        (b"", Outcome::Open),
        (b"HTTP/1.1 2", Outcome::Open),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nthe p", Outcome::Open),
        (b"HTTP/1.1 200 OK\r\n\r\nthe page", Outcome::Right),
        (b"HTTP/1.1 200 OK\r\n\r\nthe pagf", Outcome::Wrong),
        (b"HTTP/1.1 200 OK\r\n\r\nthe page and more", Outcome::Wrong),
        (b"HTTP/1.1 404 ", Outcome::Wrong),
    ];
    for (answer, outcome) in cases {
        assert_eq!(judge(answer, page), outcome, "{}", String::from_utf8_lossy(answer));
    }
}

fn assert_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/appliance/demo/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("make the directory");
        std::fs::write(&path, text).expect("write the snapshot");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{name} differs from its snapshot; now it is\n{text}\nand was\n{kept}");
}
