//! Wall clocks that jump by years, and the time zone: they are shown and nothing else.
//!
//! A namespace has no wall clock of its own, so a small library stands before the C library's and adds what the test says.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use twobox::console::control::{Reply, Request};
use twobox::time::Duration;

use crate::rig::{Rig, must, other, wait};
use crate::{DEFAULT, LEASE};

const SHIFTED: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
static volatile long *shift;
static int (*of_libc)(clockid_t, struct timespec *);
__attribute__((constructor)) static void start(void) {
    const char *path = getenv("SHIFT");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    of_libc = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (file < 0) return;
    void *page = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) shift = page;
    close(file);
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = of_libc(clock, time);
    if (!result && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += *shift;
    return result;
}
"#;

const YEAR: i64 = 365 * 86_400;

/// The newest line of the box's log.
fn newest_line(rig: &Rig, node: &str) -> String {
    let replies = rig.ask(node, &Request::Log { lines: 1, follow: false });
    replies.into_iter().find_map(|reply| if let Reply::Line { text } = reply { Some(text) } else { None }).unwrap()
}

fn year(rig: &Rig, node: &str) -> i64 {
    newest_line(rig, node).split('-').next().and_then(|year| year.parse().ok()).unwrap_or(0)
}

fn same(one: &Path, two: &Path) -> bool {
    fs::read(one).ok().is_some_and(|content| fs::read(two).is_ok_and(|other| other == content))
}

#[test]
fn wall_clocks_that_jump_by_years_move_nothing_and_stop_no_copy() {
    let mut rig = Rig::new("years", DEFAULT);
    let (source, library) = (rig.dir.join("shifted.c"), rig.dir.join("shifted.so"));
    fs::write(&source, SHIFTED).unwrap();
    must(&format!("cc -shared -fPIC -O1 -o {} {}", library.display(), source.display()));
    let shift = rig.dir.join("shift");
    let set = |seconds: i64| {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&shift).unwrap();
        file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    };
    set(0);
    for node in ["a", "b"] {
        fs::create_dir_all(rig.path(node, "data").join("mail")).unwrap();
        let mirror = "[[mirror]]\ntree = \"DIR/data/mail\"\nstore = \"DIR/data\"\nevery = \"1s\"\n";
        let mirror = mirror.replace("DIR", rig.dir.to_str().unwrap());
        fs::write(rig.dir.join(format!("site-{node}.toml")), crate::rig::site(&rig.dir, DEFAULT) + &mirror).unwrap();
    }
    rig.started_by = vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("SHIFT={}", shift.display()),
        "TZ=Pacific/Kiritimati".to_owned(),
    ];
    let active = rig.start_both();
    let standby = other(active);
    let now = year(&rig, active);
    assert!(now >= 2024, "{}", newest_line(&rig, active));
    let term = rig.status(active).unwrap().term;
    let copied = |rig: &Rig, name: &str| {
        let file = |node: &str| rig.path(node, "data").join("mail").join(name);
        fs::write(file(active), name).unwrap();
        wait(name, || same(&file(active), &file(standby)));
    };
    copied(&rig, "before");
    for (years, name) in [(30, "long after"), (-20, "long before"), (0, "now")] {
        set(years * YEAR);
        if years >= 0 {
            wait("the log shows it", || (year(&rig, active) - now - years).abs() <= 1);
        }
        copied(&rig, name);
        std::thread::sleep(LEASE * 4);
        let status = rig.status(active).unwrap();
        assert_eq!((rig.active(), status.term), (Some(active), term));
        assert!(status.peer.heard_ms_ago.is_some_and(|ms| ms < 500), "{status:?}");
        wait("a takeover would work", || rig.status(active).is_some_and(|s| s.takeover.ready && s.mirror[0].current));
    }
    // In a takeover too: from the claim to the service the clock is another one.
    set(-20 * YEAR);
    rig.kill(active);
    std::thread::sleep(Duration::from_millis(100));
    set(30 * YEAR);
    rig.client.await_answer_from(standby);
    let outage = rig.status(standby).unwrap().last_handover.unwrap().total_ms;
    assert!(outage < 30_000, "{outage} ms");
    assert_eq!(rig.capture.owners(), [active, standby]);
}
