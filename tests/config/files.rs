//! Files that cannot be read or are none, and where an appliance has its key.

use twobox::config;

use crate::{BOARD, SITE};

#[test]
fn an_appliance_has_its_key_in_one_place_however_the_site_file_is_written() {
    let dir = std::env::temp_dir().join(format!("twobox-config-appliance-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (site, board) = (dir.join("site.toml"), dir.join("board.toml"));
    std::fs::write(&board, BOARD).unwrap();
    let line = "key-file = \"/etc/twobox/pair.key\"";
    assert!(SITE.contains(line));
    for (written, wrong) in [
        (line, None),
        ("\"key-file\" = '/etc/twobox/pair.key' # that one", None),
        ("key-file = \"/root/a & b|c.key\"", Some("/root/a & b|c.key")),
        ("'key-file'=\"/etc/\\u0074wobox/key\"", Some("/etc/twobox/key")),
    ] {
        std::fs::write(&site, SITE.replace(line, written)).unwrap();
        let problems = config::problems_on_appliance(&site, &board);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let expected = wrong.map(|path| {
            format!(
                "pair.key-file: {path} is on no appliance; allowed: /etc/twobox/pair.key, which is the key on the state"
            )
        });
        assert_eq!(told.len(), usize::from(expected.is_some()), "{written}: {told:?}");
        assert!(expected.iter().zip(&told).all(|(expected, told)| told.contains(expected)), "{told:?}");
    }
    std::fs::write(&site, SITE.replace(line, "")).unwrap();
    let told = config::problems_on_appliance(&site, &board);
    assert!(told.len() == 1 && told[0].to_string().contains("key-file: is missing"), "{told:?}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_hides_nothing_of_the_other_one() {
    let dir = std::env::temp_dir().join(format!("twobox-config-half-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (site, board) = (dir.join("site.toml"), dir.join("board.toml"));
    std::fs::write(&site, SITE.replace("lease", "leas").replace("[pair]\n", "[pair]\nnane = \"x\"\n")).unwrap();
    std::fs::write(&board, BOARD.replace("baud = 115200", "baud = 1")).unwrap();
    let told = |site: &std::path::Path, board: &std::path::Path| -> Vec<String> {
        config::load(site, board).unwrap_err().iter().map(ToString::to_string).collect()
    };
    let nowhere = dir.join("nowhere");
    let problems = told(&site, &nowhere);
    assert!(problems[0].contains("nowhere: cannot be read"), "{problems:#?}");
    assert!(problems[1].contains("pair.nane: is unknown"), "{problems:#?}");
    assert!(problems[2].contains("pair.key-file: /etc/twobox/pair.key"), "{problems:#?}");
    assert_eq!(problems.len(), 3, "what the board would have said is not guessed: {problems:#?}");
    let problems = told(&nowhere, &board);
    assert!(problems[0].contains("1 is no speed of a serial port"), "{problems:#?}");
    assert!(problems[1].contains("nowhere: cannot be read") && problems.len() == 2, "{problems:#?}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_read() {
    let dir = std::env::temp_dir().join(format!("twobox-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (pipe, long) = (dir.join("pipe"), dir.join("long.toml"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::fs::write(&long, vec![b'#'; (1 << 20) + 1]).unwrap();
    let good = dir.join("good.toml");
    std::fs::write(&good, BOARD).unwrap();
    for (path, what) in [
        (std::path::Path::new("/dev/zero"), "is no regular file"),
        (&pipe, "is no regular file"),
        (&dir, "is no regular file"),
        (&long, "is too long"),
    ] {
        let problems = config::load(path, &good).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().contains(what), "{}", problems[0]);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
