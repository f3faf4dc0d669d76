//! The null modem over pseudo terminals.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use twobox::link::Sent;
use twobox::link::serial::{Port, Serial};
use twobox::wire::serial::{Decoder, FRAME_MAX, Piece, encode};

use crate::allocations;
use crate::lab::wait;

/// The far end of the cable, held by the test.
fn cable() -> (PtyMaster, Serial) {
    let far = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK).unwrap();
    grantpt(&far).unwrap();
    unlockpt(&far).unwrap();
    let port = Serial::open(&ptsname_r(&far).unwrap(), 115_200).unwrap();
    (far, port)
}

fn framed(payload: &[u8]) -> Vec<u8> {
    encode(payload, &mut [0; FRAME_MAX]).unwrap().to_vec()
}

/// Reads from `port` until `frames` came; all of them, and the noise.
fn frames(port: &mut Serial, count: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut decoder, mut frames, mut noise) = (Decoder::new(), vec![], vec![]);
    let mut buffer = [0; 100];
    wait("frames", || {
        while let Some(length) = port.recv(&mut buffer).unwrap() {
            decoder.feed(&buffer[..length], |piece| match piece {
                Piece::Frame(frame) => frames.push(frame.to_vec()),
                Piece::Noise(bytes) => noise.extend(bytes),
            });
        }
        (frames.len() >= count).then_some(())
    });
    (frames, noise)
}

#[test]
fn every_byte_passes_both_ways_unchanged() {
    let (mut far, mut port) = cable();
    let every: Vec<u8> = (0..=255).collect();
    far.write_all(&every).unwrap();
    let (mut came, mut buffer): (Vec<u8>, _) = (vec![], [0; 64]);
    wait("all bytes", || {
        while let Some(length) = port.recv(&mut buffer).unwrap() {
            came.extend(&buffer[..length]);
        }
        (came.len() == 256).then_some(())
    });
    assert_eq!(came, every);
    let line = framed(&every[..224]);
    assert_eq!(port.send(&line).unwrap(), Sent::Queued);
    let mut back = vec![0; line.len()];
    wait("the frame", || far.read(&mut back).ok());
    assert_eq!(back, line);
    assert_eq!((port.counters().bytes_in, port.counters().frames_out), (256, 1));
}

#[test]
fn frames_come_through_noise_text_and_pieces() {
    let (mut far, mut port) = cable();
    far.write_all(&[0x00, 0xfe, 0x80, 0xff, 0x03, 0x11]).unwrap();
    far.write_all(&framed(b"2b one")).unwrap();
    far.write_all(b"[    1.234567] Kernel panic - not syncing: no\r\n").unwrap();
    let two = framed(b"2b two");
    far.write_all(&two[..5]).unwrap();
    assert_eq!(frames(&mut port, 1).0, [b"2b one"]);
    // The rest of a frame whose beginning was read by somebody else is noise, and the next one is whole.
    far.write_all(&two[5..]).unwrap();
    far.write_all(&framed(b"2b three")).unwrap();
    let (came, noise) = frames(&mut port, 1);
    assert_eq!(came, [b"2b three"]);
    assert!(!noise.is_empty());
}

#[test]
fn a_peer_that_does_not_read_costs_frames_and_no_time() {
    let (mut far, mut port) = cable();
    let line = framed(&[0x33; 200]);
    // A terminal takes some kilobytes; everything after is dropped, at once.
    let sent = (0..1_000).filter(|_| port.send(&line).unwrap() == Sent::Queued).count();
    let counters = port.counters();
    assert!(sent < 1_000);
    assert_eq!((counters.frames_out, counters.dropped), (sent as u64, 1_000 - sent as u64));
    // What was accepted arrives whole, also the last, of which the terminal took only a part.
    let (mut decoder, mut came, mut buffer) = (Decoder::new(), 0, [0; 4096]);
    wait("all that was accepted", || {
        port.flush().unwrap();
        while let Ok(length) = far.read(&mut buffer) {
            decoder.feed(&buffer[..length], |piece| match piece {
                Piece::Frame(frame) => {
                    assert_eq!(frame, [0x33; 200]);
                    came += 1;
                }
                Piece::Noise(noise) => panic!("{noise:?}"),
            });
        }
        (came == sent).then_some(())
    });
    assert_eq!(port.send(&line).unwrap(), Sent::Queued);
}

#[test]
fn a_writer_that_floods_is_read_in_bounded_pieces() {
    let (mut far, mut port) = cable();
    let flood = [b'x'; 4096];
    let mut written = 0;
    while let Ok(length) = far.write(&flood) {
        written += length;
    }
    let mut buffer = [0; 256];
    assert!(port.recv(&mut buffer).unwrap().is_some_and(|length| length <= 256));
    let mut read = 0;
    wait("all of the flood", || {
        while let Some(length) = port.recv(&mut buffer).unwrap() {
            read += length;
        }
        (read + 256 >= written).then_some(())
    });
    far.write_all(&framed(b"2b beat")).unwrap();
    assert_eq!(frames(&mut port, 1).0, [b"2b beat"]);
}

#[test]
fn a_port_that_is_unplugged_says_so_once_and_can_be_opened_again() {
    let (far, mut port) = cable();
    drop(far);
    let error = wait("the end", || port.recv(&mut [0; 16]).err());
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(!port.is_open() && port.fd().is_none());
    assert_eq!(port.recv(&mut [0; 16]).unwrap(), None);
    assert_eq!(port.send(b"x").unwrap(), Sent::Dropped);
    assert!(port.unplugged().is_some() && port.unplugged().is_none(), "it is there to be closed");
    let (mut far, mut near) = cable();
    let port_again = near.unplugged();
    assert!(port_again.is_none(), "nobody has unplugged it");
    drop(near);
    port.plug_in(Port::open(&ptsname_r(&far).unwrap(), 115_200).unwrap());
    far.write_all(&framed(b"2b again")).unwrap();
    assert_eq!(frames(&mut port, 1).0, [b"2b again"]);
}

#[test]
fn nobody_else_may_use_the_port() {
    let (far, port) = cable();
    assert!(Serial::open(&ptsname_r(&far).unwrap(), 115_200).is_err());
    assert_eq!(port.line_errors(), None, "a pseudo terminal has no UART");
    let flags = fcntl(port.fd().unwrap().as_fd(), FcntlArg::F_GETFL).unwrap();
    assert!(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
}

#[test]
fn nothing_is_allocated_once_it_is_open() {
    let (mut far, mut port) = cable();
    let line = framed(b"2b beat");
    let mut buffer = [0; 256];
    let allocated = allocations(|| {
        for _ in 0..100 {
            port.send(&line).unwrap();
            let length = far.read(&mut buffer).unwrap_or(0);
            far.write_all(&buffer[..length]).unwrap();
            while port.recv(&mut buffer).unwrap().is_some() {}
            assert_eq!(port.line_errors(), None);
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
fn no_such_port_is_an_error() {
    assert!(Serial::open("/dev/tty-no-such-port", 115_200).is_err());
    assert!(File::open("/dev/null").is_ok() && Serial::open("/dev/null", 115_200).is_err());
}
