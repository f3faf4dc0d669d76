//! What one input costs the node, and one heartbeat on the wire: `cargo bench --bench handle`.

use twobox::node::planted::Planted;
use twobox::node::settings::{CROSSOVER, Settings, StaleData};
use twobox::node::{Action, Input, Memory, Node};
use twobox::time::{Duration, Instant};
use twobox::wire::heartbeat::{Heartbeat, SIZE, Seal};
use twobox::wire::pair::{BootId, Side};

const MS: Duration = Duration::from_millis(1);

fn settings(node: Side) -> Settings {
    Settings {
        node,
        boot: BootId::new(node as u64 + 1).expect("not zero"),
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
        mirrored: false,
        panic_text: true,
        feed: MS * 400,
        stop_timeout: MS * 5000,
        terms_ahead: 8,
        digest: 1,
        planted: Planted::NONE,
    }
}

/// Everything that a node wants done, of which only the newest heartbeat on the crossover is kept.
fn newest_frame(node: &mut Node) -> Option<Heartbeat> {
    let mut newest = None;
    while let Some(action) = node.next_action() {
        if let Action::Send(h) = action
            && h.path == CROSSOVER
        {
            newest = Some(h);
        }
    }
    newest
}

/// A node in touch with its peer, and the peer's newest heartbeat.
fn node_and_frame() -> (Node, Heartbeat, Instant) {
    let mut now = Instant::BOOT + Duration::from_secs(1);
    let mut a = Node::new(settings(Side::A), now, Memory::Fresh, false);
    let mut b = Node::new(settings(Side::B), now, Memory::Fresh, false);
    a.handle(now, Input::Down { order: 0 });
    b.handle(now, Input::Down { order: 0 });
    let mut newest = None;
    for _ in 0..5 {
        now = now + MS * 50;
        a.handle(now, Input::Turn);
        if let Some(frame) = newest_frame(&mut a) {
            b.handle(now, Input::Heartbeat { path: CROSSOVER, heartbeat: &frame });
        }
        b.handle(now, Input::Turn);
        if let Some(frame) = newest_frame(&mut b) {
            a.handle(now, Input::Heartbeat { path: CROSSOVER, heartbeat: &frame });
            newest = Some(frame);
        }
    }
    assert!(a.status(now).in_touch, "what is measured is the way of an accepted frame");
    (a, newest.expect("a node that may speak sends on every path"), now)
}

#[divan::bench]
fn handle_heartbeat(bencher: divan::Bencher<'_, '_>) {
    let (mut node, mut frame, now) = node_and_frame();
    bencher.bench_local(|| {
        frame.path_sequence += 1;
        frame.content_sequence += 1;
        node.handle(now, Input::Heartbeat { path: CROSSOVER, heartbeat: divan::black_box(&frame) });
        while let Some(action) = node.next_action() {
            divan::black_box(action);
        }
    });
}

#[divan::bench]
fn handle_turn_with_nothing_due(bencher: divan::Bencher<'_, '_>) {
    let (mut node, _, now) = node_and_frame();
    bencher.bench_local(|| {
        node.handle(now, Input::Turn);
        while let Some(action) = node.next_action() {
            divan::black_box(action);
        }
    });
}

#[divan::bench]
fn encode(bencher: divan::Bencher<'_, '_>) {
    let (_, frame, _) = node_and_frame();
    let seal = Seal::new(Side::B, frame.boot, "office", &[7; 32]);
    let mut out = [0; SIZE];
    bencher.bench_local(|| divan::black_box(seal.encode(divan::black_box(&frame), &mut out)).len());
}

#[divan::bench]
fn decode(bencher: divan::Bencher<'_, '_>) {
    let (_, frame, _) = node_and_frame();
    let mut out = [0; SIZE];
    Seal::new(Side::B, frame.boot, "office", &[7; 32]).encode(&frame, &mut out);
    let receiver = Seal::new(Side::A, BootId::new(99).expect("not zero"), "office", &[7; 32]);
    bencher.bench_local(|| receiver.decode(divan::black_box(&out)));
}

fn main() {
    divan::main();
}
