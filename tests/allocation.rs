//! Nothing in `node` and `wire::heartbeat` allocates, over a million inputs of two nodes that live through outages.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use twobox::node::planted::Planted;
use twobox::node::settings::{FIRST_REFLECTED, Settings, StaleData};
use twobox::node::{Action, Input, Memory, Node};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{SIZE, Seal};
use twobox::wire::pair::{BootId, Data, Side};

struct Counting;

thread_local! {
    /// Of this thread: those who run the test have threads of their own, and allocate when they like.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code)] // a global allocator is unsafe by its nature
// SAFETY: hands everything on to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MS: Duration = Duration::from_millis(1);

fn settings(node: Side, boot: u64) -> Settings {
    Settings {
        node,
        boot: BootId::new(boot).expect("not zero"),
        lease: MS * 500,
        fence: Some(MS),
        drift_ppm: 1_000,
        margin: MS * 50,
        intervals: [Some(MS * 100), Some(MS * 50), Some(MS * 50)],
        witnesses: 2,
        round: MS * 25,
        round_idle: MS * 250,
        require_reflection: true,
        settle: MS * 2000,
        hold_down: MS * 30_000,
        boot_wait: MS * 5_000,
        longest_wait: MS * 5_000,
        prefer: None,
        stale_data: StaleData::Serve,
        mirrored: true,
        panic_text: true,
        feed: MS * 400,
        stop_timeout: MS * 5000,
        terms_ahead: 8,
        digest: 1,
        planted: Planted::NONE,
    }
}

struct Pair {
    nodes: [Node; 2],
    seals: [Seal; 2],
    inboxes: [heapless::Vec<(u8, [u8; SIZE]), 64>; 2],
    pongs: [heapless::Vec<(u8, u32), 32>; 2],
    down: [Option<u32>; 2],
    persisted: [Option<u32>; 2],
    inputs: u64,
    takeovers: u64,
}

impl Pair {
    fn give(&mut self, now: Instant, i: usize, input: Input<'_>, cut: bool) {
        self.inputs += 1;
        self.nodes[i].handle(now, input);
        while let Some(action) = self.nodes[i].next_action() {
            match action {
                Action::Send(h) if !cut || h.path > FIRST_REFLECTED => {
                    let mut bytes = [0; SIZE];
                    self.seals[i].encode(&h, &mut bytes);
                    let _ = self.inboxes[1 - i].push((h.path, bytes)); // a full inbox drops, like a socket
                }
                Action::Ping { witness, round } if !cut => {
                    let _ = self.pongs[i].push((witness, round));
                }
                Action::Persist { ticket, .. } => self.persisted[i] = Some(ticket),
                Action::Yield { order } | Action::Fence { order } => self.down[i] = Some(order),
                Action::Activate { .. } => self.takeovers += 1,
                _ => {}
            }
        }
    }

    fn turn(&mut self, now: Instant, i: usize, cut: bool) {
        let inbox = core::mem::take(&mut self.inboxes[i]);
        for (path, bytes) in &inbox {
            if let Ok(heartbeat) = self.seals[i].decode(bytes) {
                self.give(now, i, Input::Heartbeat { path: *path, heartbeat: &heartbeat }, cut);
            }
        }
        for (witness, round) in core::mem::take(&mut self.pongs[i]) {
            self.give(now, i, Input::Pong { witness, round }, cut);
        }
        if let Some(order) = self.down[i].take() {
            self.give(now, i, Input::Down { order }, cut);
        }
        if let Some(ticket) = self.persisted[i].take() {
            self.give(now, i, Input::Persisted { ticket, durable: true }, cut);
        }
        self.give(now, i, Input::Turn, cut);
    }
}

#[test]
fn a_million_inputs_allocate_nothing() {
    let start = Instant::BOOT + Duration::from_secs(1);
    let node = |side, boot| Node::new(settings(side, boot), start, Memory::Fresh, false);
    let seal = |side, boot| Seal::new(side, BootId::new(boot).expect("not zero"), "office", &[7; 32]);
    let mut pair = Pair {
        nodes: [node(Side::A, 1), node(Side::B, 2)],
        seals: [seal(Side::A, 1), seal(Side::B, 2)],
        inboxes: [heapless::Vec::new(), heapless::Vec::new()],
        pongs: [heapless::Vec::new(), heapless::Vec::new()],
        down: [Some(0); 2],
        persisted: [None; 2],
        inputs: 0,
        takeovers: 0,
    };
    drop(std::hint::black_box(Box::new(0)));
    let before = ALLOCATIONS.get();
    assert!(before > 0, "nothing is counted");
    let mut now = start;
    for i in 0..2 {
        // The mirror has read its copies: before, a box without a record claims nothing.
        pair.give(now, i, Input::Data { data: Data::default(), newest: 0 }, false);
    }
    while pair.inputs < 1_000_000 {
        now = now + MS * 5;
        let seconds = now.as_nanos() / 1_000_000_000;
        let cut = seconds % 60 > 50;
        // Every other minute one of the boxes stops for seven seconds, longer than its right and the claim wait.
        let stopped = (seconds % 120 > 110).then_some((seconds / 120 % 2) as usize);
        for i in 0..2 {
            if stopped != Some(i) {
                pair.turn(now, i, cut);
            }
        }
    }
    let allocated = ALLOCATIONS.get() - before;
    assert!(pair.takeovers >= 3, "the test must live through takeovers, not only peace: {}", pair.takeovers);
    assert_eq!(allocated, 0, "node or wire allocated");
}
