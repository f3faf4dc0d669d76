//! A daemon whose loop counts its allocations, in a process of its own.
//!
//! The program is the test itself, started again: an allocator can be changed only where a program is linked. Not in the
//! test's own process: a daemon waits for every child there is (waitpid(2) with -1) and would take the ends of the
//! commands that the test runs.
#![allow(unsafe_code)] // a global allocator, and a page that two processes share

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use twobox::console::client::socket_path;
use twobox::console::command::Command;
use twobox::console::parse;

use super::{Rig, index};

/// Allocations and frees of the loop so far, read from outside its process.
pub struct Count(File);

impl Count {
    pub fn so_far(&self) -> u64 {
        let mut count = [0; 8];
        self.0.read_exact_at(&mut count, 0).unwrap();
        u64::from_ne_bytes(count)
    }
}

/// Lets a box run this very program, which has to come to [`daemon`]: `words` on its command line lead there.
pub fn count(rig: &mut Rig, node: &str, words: &str) -> Count {
    let (program, page) = (rig.path(node, "counted"), rig.path(node, "count"));
    let itself = std::env::current_exe().unwrap();
    let script = format!("#!/bin/sh\n{COUNTED}=\"{} $*\" exec {} {words}\n", page.display(), itself.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    rig.programs[index(node)] = program;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(page).unwrap();
    file.set_len(8).unwrap();
    Count(file)
}

/// The page and the words of the daemon that counts.
const COUNTED: &str = "TWOBOX_COUNTED";

/// Runs the daemon that [`count`] told of, if this process is meant to be one. Says whether it was.
pub fn daemon() -> bool {
    let Ok(told) = std::env::var(COUNTED) else { return false };
    let (page, words) = told.split_once(' ').unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    let line = parse::parse("twobox", &words).unwrap();
    let Command::Run(run) = line.command else { panic!("{words:?}") };
    let options = twobox::run::Options {
        board: run.board,
        site: run.site,
        node: run.node,
        state: run.state,
        socket: socket_path(line.socket.as_deref()),
        levels: None,
        appliance: None,
    };
    count_this_thread(Path::new(page));
    twobox::run::run(&options).unwrap();
    true
}

/// From now on the calling thread's allocations count, in this file.
fn count_this_thread(page: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(page).unwrap();
    let (length, access) = (8.try_into().unwrap(), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    // SAFETY: a new mapping, of a place that the kernel chooses; it is never unmapped.
    let page = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &file, 0) }.unwrap();
    COUNT.store(page.cast().as_ptr(), Ordering::Relaxed);
    COUNTED_HERE.set(true);
}

/// The count in the shared page, once there is one.
static COUNT: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    static COUNTED_HERE: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, counting.
pub struct Counting;

fn counted() {
    // A thread that is ending has no such value any more.
    if COUNTED_HERE.try_with(Cell::get).unwrap_or(false) {
        // SAFETY: set before this thread was told to count, to a page that stays: aligned, of eight bytes at least.
        unsafe { &*COUNT.load(Ordering::Relaxed) }.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted();
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        counted();
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted();
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
