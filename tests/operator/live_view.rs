//! The live view: six states of a pair on two sizes of screen, and what a change costs on a slow line.

use super::states;
use twobox::console::live;
use twobox::console::screen::Screen;

#[test]
fn pictures_of_six_states() {
    for (width, height) in [(80, 24), (132, 43)] {
        for (name, status) in states::all() {
            let mut screen = Screen::new(width, height);
            live::draw(&status, &mut screen);
            states::assert_snapshot(&format!("live-{name}-{width}x{height}.txt"), &screen.text());
        }
    }
}

/// A narrow window or an old terminal: no picture, but both boxes and every cable with its age.
#[test]
fn a_narrow_screen_tells_it_line_by_line() {
    let status = states::peace();
    for (width, height) in [(40, 24), (60, 24), (71, 24), (30, 40)] {
        let mut screen = Screen::new(width, height);
        live::draw(&status, &mut screen);
        let text = screen.text();
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut parts = vec!["a (here): ACTIVE".to_owned(), "b: STANDBY, heard".to_owned()];
        for link in status.links.iter().filter(|link| !link.name.starts_with("reflected")) {
            let age = twobox::console::report::span(link.heard_ms_ago.unwrap());
            parts.push(format!("{} {age}", link.name));
        }
        for part in parts {
            assert!(flat.contains(&part), "{part:?} is missing at {width}x{height}:\n{text}");
        }
    }
}

/// At 9600 baud a line carries 960 bytes a second; two looks a second must fit with room to spare.
#[test]
fn ages_that_move_on_fit_a_line_of_9600_baud() {
    let mut status = states::peace();
    let mut screen = Screen::new(80, 24);
    live::draw(&status, &mut screen);
    screen.update();
    let mut most = 0;
    for step in 1..100 {
        status.since_ms += 500;
        status.right.remaining_ms = Some(400 + step * 37 % 100);
        for link in &mut status.links {
            link.heard_ms_ago = Some(step * 53 % 97);
        }
        status.peer.heard_ms_ago = Some(step * 41 % 50);
        for tree in &mut status.mirror {
            tree.last_cut_ms_ago = Some(tree.last_cut_ms_ago.unwrap_or(0) + 500);
        }
        status.witnesses[0].rtt_us = Some(300 + step * 71 % 600);
        live::draw(&status, &mut screen);
        most = most.max(screen.update().len());
    }
    assert!(most < 300, "{most} bytes for one look");
}

#[test]
fn any_size_and_any_state_is_drawn() {
    for (_, status) in states::all() {
        for width in [1, 2, 10, 47, 48, 49, 80, 300] {
            for height in [1, 3, 10, 24, 120] {
                live::draw(&status, &mut Screen::new(width, height));
                live::draw_trouble("no daemon answers on /run/twobox.sock", &mut Screen::new(width, height));
            }
        }
    }
}
