//! A file that somebody writes to while it is read: never torn, and copied as soon as there is a moment between two writes.
#![allow(unsafe_code)] // userfaultfd(2), which stops a write in its middle

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use twobox::mirror::chunk::read_at;
use twobox::mirror::entry::Hash;
use twobox::mirror::read::{Found, Manner, read};
use twobox::mirror::still::Grain;
use twobox::mirror::tree::Tree;

use crate::basic::noise;
use crate::compare::assert_equal;
use crate::rig::{Pair, TERM_1};

/// Bytes of one write.
const WRITE: usize = 4 << 20;

/// The content as a reading saw it, and what the reading says of it.
fn look(tree: &mut Tree, name: &str, manner: Manner) -> (Found, Vec<u8>) {
    let mut seen = Vec::new();
    let found = read(tree, name.as_bytes(), manner, |file, entry, _| {
        seen.resize(entry.size() as usize, 0);
        let n = read_at(file, &mut seen, 0)?;
        if n < seen.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Hash::default())
    });
    (found.unwrap(), seen)
}

fn is_uniform(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == bytes[0])
}

/// Memory whose second half is not there until [`Stopped::go_on`]: a write(2) out of it stops halfway, in the kernel.
struct Stopped {
    faults: OwnedFd,
    at: usize,
}

impl Stopped {
    /// Filled with this byte.
    fn new(byte: u8) -> Self {
        const API: libc::c_ulong = 0xc018_aa3f; // UFFDIO_API
        const REGISTER: libc::c_ulong = 0xc020_aa00; // UFFDIO_REGISTER
        // SAFETY: plain system calls on memory of our own; the structures are those of linux/userfaultfd.h.
        unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC);
            assert!(fd >= 0, "userfaultfd: {}", io::Error::last_os_error());
            let faults = OwnedFd::from_raw_fd(fd as i32);
            let mut api = [0xaau64, 0, 0];
            assert_eq!(libc::ioctl(fd as i32, API as _, &raw mut api), 0);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(std::ptr::null_mut(), WRITE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            std::slice::from_raw_parts_mut(at.cast::<u8>(), WRITE / 2).fill(byte);
            let mut register = [at as u64 + WRITE as u64 / 2, WRITE as u64 / 2, 1, 0]; // MODE_MISSING
            assert_eq!(libc::ioctl(fd as i32, REGISTER as _, &raw mut register), 0);
            Stopped { faults, at: at as usize }
        }
    }

    fn write(&self, file: &File) {
        // SAFETY: the memory is mapped for WRITE bytes; whoever touches the missing half waits.
        let bytes = unsafe { std::slice::from_raw_parts(self.at as *const u8, WRITE) };
        // SAFETY: as above. No reference to the missing half is dereferenced here, the kernel reads it.
        let n = unsafe { libc::pwrite(file.as_raw_fd(), bytes.as_ptr().cast(), WRITE, 0) };
        assert_eq!(n, WRITE as isize);
    }

    fn go_on(&self, byte: u8) {
        const COPY: libc::c_ulong = 0xc028_aa03; // UFFDIO_COPY
        let half = vec![byte; WRITE / 2 + 4096];
        let aligned = (half.as_ptr() as u64).next_multiple_of(4096);
        let mut copy = [self.at as u64 + WRITE as u64 / 2, aligned, WRITE as u64 / 2, 0, 0];
        // SAFETY: source and target are ours and long enough.
        assert_eq!(unsafe { libc::ioctl(self.faults.as_raw_fd(), COPY as _, &raw mut copy) }, 0);
    }
}

#[test]
fn a_write_that_is_stopped_in_its_middle_is_waited_for() {
    let pair = Pair::new();
    let path = pair.a().join("f");
    fs::write(&path, vec![b'o'; WRITE]).unwrap();
    let memory = Arc::new(Stopped::new(b'n'));
    let writer = {
        let (memory, file) = (Arc::clone(&memory), File::options().write(true).open(&path).unwrap());
        thread::spawn(move || memory.write(&file))
    };
    let file = File::open(&path).unwrap();
    let mut byte = [0];
    while byte != *b"n" {
        file.read_exact_at(&mut byte, WRITE as u64 / 2 - 1).unwrap();
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(50)); // the time stamp of the write's beginning is old by now
    let rest = {
        let memory = Arc::clone(&memory);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            memory.go_on(b'n');
        })
    };
    for manner in [Manner::Still, Manner::Framed] {
        let (found, bytes) = look(&mut pair.side("a").tree().unwrap(), "f", manner);
        assert!(matches!(found, Found::Settled(..)), "nobody began a write meanwhile");
        assert!(is_uniform(&bytes), "torn: {} and {}", bytes[0], bytes[WRITE - 1]);
    }
    writer.join().unwrap();
    rest.join().unwrap();
}

/// This thread and those that it starts run on one processor, so that a write is preempted in its middle.
fn on_one_processor() {
    let mut set = CpuSet::new();
    set.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Thousands of readings of a file that is overwritten with one long write after the other. How many: TWOBOX_COPIES.
#[test]
fn a_file_of_long_writes_is_never_torn() {
    let copies = std::env::var("TWOBOX_COPIES").map_or(1500, |n| n.parse().unwrap());
    let pair = Pair::new();
    let path = pair.a().join("f");
    fs::write(&path, vec![0; WRITE]).unwrap();
    thread::spawn(move || {
        on_one_processor();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let file = File::options().write(true).open(path).unwrap();
                let mut bytes = vec![0; WRITE];
                for n in 0u64.. {
                    bytes.fill(n as u8);
                    file.write_all_at(&bytes, 0).unwrap();
                    if n.is_multiple_of(4) {
                        thread::sleep(Duration::from_millis(n % 16));
                    }
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            })
        };
        // As on an old kernel, and as on this one.
        let side = pair.side("a");
        let mut trees = [side.tree().unwrap().with_grain(Grain::Coarse), side.tree().unwrap()];
        let (mut settled, mut torn) = (0, 0);
        for n in 0..copies {
            let tree = &mut trees[usize::from(n % 7 != 0)];
            let (found, bytes) = look(tree, "f", if n % 5 == 4 { Manner::Framed } else { Manner::Still });
            if matches!(found, Found::Settled(..)) {
                settled += 1;
                torn += u32::from(!is_uniform(&bytes));
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert_eq!(torn, 0, "of {settled} copies");
        assert!(settled > copies / 50, "only {settled} of {copies} readings found a moment between two writes");
        println!("{settled} copies in {copies} readings, none torn");
    })
    .join()
    .unwrap();
}

#[test]
fn a_log_that_grows_all_the_time_is_copied_up_to_where_it_was() {
    let pair = Pair::new();
    let path = pair.a().join("log");
    fs::write(&path, noise(16 << 20, 5)).unwrap();
    pair.sync();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            let mut file = File::options().append(true).open(path).unwrap();
            for n in 0.. {
                writeln!(file, "line {n}").unwrap();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(Duration::from_micros(100));
            }
        })
    };
    let mut settled = 0;
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(30));
        let before = fs::metadata(&path).unwrap().len();
        let (sent, _) = pair.try_sync("a", "b", TERM_1, false).unwrap();
        if sent.unsettled == 0 {
            settled += 1;
            let copy = fs::read(pair.b().join("log")).unwrap();
            assert!(copy.len() as u64 >= before, "older than the cycle");
            assert!(fs::read(&path).unwrap().starts_with(&copy), "a state that the log never had");
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(settled > 0, "never copied");
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
}

fn sqlite(file: &Path, input: &str) -> String {
    let output = Command::new("sqlite3").arg(file).arg(input).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
}

#[test]
fn a_live_database_arrives_usable() {
    let pair = Pair::new();
    let path = pair.a().join("db");
    // A log that is only appended to: then the database is whole whatever the moments its two files are from.
    sqlite(&path, "PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT);");
    let mut shell = Command::new("sqlite3").arg(&path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"PRAGMA wal_autocheckpoint=0;\n").unwrap();
    let end = Instant::now() + Duration::from_secs(3);
    let writer = thread::spawn(move || {
        while Instant::now() < end {
            input.write_all(b"INSERT INTO t (text) VALUES (hex(randomblob(2000)));\n").unwrap();
            thread::sleep(Duration::from_micros(300));
        }
        input
    });
    let mut rows = Vec::new();
    while Instant::now() < end {
        pair.try_sync("a", "b", TERM_1, false).unwrap();
        let trial = pair.home.join("trial");
        let _ = fs::remove_dir_all(&trial);
        fs::create_dir(&trial).unwrap();
        for name in ["db", "db-wal"] {
            let _ = fs::copy(pair.b().join(name), trial.join(name)); // no log yet
        }
        assert_eq!(sqlite(&trial.join("db"), "PRAGMA integrity_check;"), "ok");
        rows.push(sqlite(&trial.join("db"), "SELECT count(*) FROM t;").parse::<u64>().unwrap());
    }
    // It closes the database when no cycle runs: that moves the log's content into the other file.
    writer.join().unwrap().write_all(b".quit\n").unwrap();
    shell.wait().unwrap();
    assert!(rows.is_sorted() && rows.last() > rows.first(), "{rows:?}");
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
}

#[test]
fn a_file_that_vanishes_after_it_would_not_hold_still_vanishes_from_the_copy() {
    let pair = Pair::new();
    let path = pair.a().join("f");
    fs::write(pair.a().join("stays"), "or the root would be empty").unwrap();
    for round in 0..40 {
        fs::write(&path, vec![round; 4 << 20]).unwrap();
        pair.sync();
        let (name, pause) = (path.clone(), Duration::from_micros(500 * u64::from(round)));
        let writer = thread::spawn(move || {
            let file = fs::File::options().write(true).open(&name).unwrap();
            let end = Instant::now() + pause;
            while Instant::now() < end {
                file.write_at(b"not still", 0).unwrap();
            }
            fs::remove_file(&name).unwrap();
        });
        pair.try_sync("a", "b", TERM_1, false).unwrap();
        writer.join().unwrap();
        pair.sync();
        assert_equal(&pair.a(), &pair.b());
    }
}

#[test]
fn a_file_that_shrinks_grows_or_is_replaced_while_it_is_read_is_not_taken() {
    let pair = Pair::new();
    let path = pair.a().join("f");
    let changes: [&dyn Fn(); 4] = [
        &|| File::options().write(true).open(&path).unwrap().set_len(1000).unwrap(),
        &|| File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap(),
        &|| {
            fs::write(pair.a().join("new"), b"other").unwrap();
            fs::rename(pair.a().join("new"), &path).unwrap();
        },
        &|| File::options().write(true).open(&path).unwrap().write_all_at(b"x", 5).unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        fs::write(&path, noise(100_000, 3)).unwrap();
        let mut tree = pair.side("a").tree().unwrap();
        let found = read(&mut tree, b"f", Manner::Still, |file: BorrowedFd<'_>, entry, _| {
            change();
            let mut bytes = vec![0; entry.size() as usize];
            if read_at(file, &mut bytes, 0)? < bytes.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Hash::default())
        });
        assert_eq!(found.unwrap(), Found::Unsettled, "change {number}");
        let whole = pair.sync();
        assert_eq!(whole.0.unsettled, 0);
        assert_equal(&pair.a(), &pair.b());
    }
}

/// What the standby has of a file that is written to all the time goes along when it is renamed.
#[test]
fn a_file_that_is_renamed_while_it_never_holds_still_is_not_lost() {
    let pair = Pair::new();
    let content = vec![1; 8 << 20];
    fs::write(pair.a().join("before"), &content).unwrap();
    fs::write(pair.a().join("deleted"), b"whose inode another file may get").unwrap();
    pair.sync();
    let file = fs::File::options().write(true).open(pair.a().join("before")).unwrap();
    fs::rename(pair.a().join("before"), pair.a().join("after")).unwrap();
    fs::remove_file(pair.a().join("deleted")).unwrap();
    let made = fs::File::create(pair.a().join("made")).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let writer = thread::spawn(move || {
        for n in 0u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            file.write_all_at(&n.to_le_bytes(), n * 4096 % (8 << 20)).unwrap();
            made.write_all_at(&n.to_le_bytes(), n % 64).unwrap();
        }
    });
    let (sent, _) = pair.sync();
    if sent.unsettled > 0 {
        assert_eq!(fs::read(pair.b().join("after")).unwrap().len(), content.len());
    }
    assert!(pair.b().join("after").exists() && !pair.b().join("before").exists());
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    pair.sync();
    assert_equal(&pair.a(), &pair.b());
}
