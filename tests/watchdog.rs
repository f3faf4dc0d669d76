//! The watchdog room against a real driver: a guest in QEMU with an i6300esb, Debian's kernel, and `tests/guest/watchdog.rs` as
//! its /init. Judged from outside: by the guest's lines on its serial console, stamped as they arrive, and by its resets.
//!
//! Says SKIPPED where something is missing that it takes (`tests/guest/boot.rs`). The guest is emulated: times are checked with
//! generous limits, and printed.

#![allow(clippy::disallowed_methods)] // a test starts programs, sleeps and reads the clock

#[path = "guest/boot.rs"]
mod boot;

use std::sync::{Mutex, PoisonError};

use boot::{Guest, Machine};
use twobox::time::Duration;

/// One guest at a time: emulation needs a core of its own.
static ONE: Mutex<()> = Mutex::new(());

const TIMEOUT: Duration = Duration::from_secs(2);
/// Two firings of a watchdog of 2 s (2.01 s measured), and the lateness of an emulated machine.
const TWICE: Duration = Duration::from_millis(2 * 2_010 + 1_500);

fn boot(part: &str) -> Result<Guest, String> {
    let devices: &[&str] = match part {
        "minute" => &["-device", "ib700"],
        // That of the chip set, which a strap may forbid to reset.
        "chipset" => &["-global", "ICH9-LPC.noreboot=false"],
        _ => &["-device", "i6300esb"],
    };
    let modules = &["watchdog", "i6300esb", "ib700wdt", "lpc_ich", "iTCO_vendor_support", "intel_pmc_bxt", "iTCO_wdt"];
    Guest::boot(&Machine { program: "watchdog-guest", modules, devices, part })
}

#[test]
fn a_starved_watchdog_resets_the_box_and_the_next_boot_knows() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match boot("starve") {
        Ok(guest) => guest,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    // Armed, read back, no reset of its own before, a real one.
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("i6300ESB timer") && armed.contains("timeout 2000 ms"), "{armed}");
    assert!(armed.contains("reset by watchdog: false, weakness: None"), "{armed}");
    // Fed for four seconds, twice the timeout, it does nothing.
    let (last_feed, _) = guest.wait("last feed");
    // Starved, it resets.
    guest.wait("what next");
    guest.say("starve");
    let reset = guest.reset();
    let starved = reset.since(last_feed);
    println!("reset {} ms after the last feed, timeout {} ms", starved.as_millis(), TIMEOUT.as_millis());
    assert!(starved >= TIMEOUT - Duration::from_millis(100) && starved < TWICE, "{starved:?}");
    // The next boot knows why; an ordered reset is told apart from it.
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("reset by watchdog: true"), "{armed}");
    let (ordered, _) = guest.wait("ordering a reset");
    println!("ordered reset after {} ms", guest.reset().since(ordered).as_millis());
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("reset by watchdog: false"), "{armed}");
    // Disarmed on purpose, it lets the box live; and this older kernel refuses late renewals of addresses, too.
    guest.wait("what next");
    guest.say("disarm");
    for address in ["192.0.2.10", "2001:db8::10"] {
        let (_, renewal) = guest.wait(address);
        assert!(renewal.contains("Err(NotFound) true true true Some(8)"), "{renewal}");
    }
    guest.wait("alive after disarming");
}

/// ib700wdt knows at most 30 s. A boot that gave up its minute would leave it armed, unfed, and the box in a loop of resets.
#[test]
fn a_driver_that_knows_no_minute_is_armed_with_less_while_booting() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match boot("minute") {
        Ok(guest) => guest,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("IB700") && armed.contains("timeout 30000 ms"), "{armed}");
    guest.wait("fed");
}

/// iTCO_wdt, the watchdog of most Intel boards, refuses the two seconds that are the default. A daemon that gave it up would
/// leave it armed by the boot, and unfed: a reset every minute.
#[test]
fn a_driver_that_refuses_the_time_out_is_armed_with_more_and_is_no_belt() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match boot("chipset") {
        Ok(guest) => guest,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    let (_, armed) = guest.wait("armed");
    assert!(armed.contains("iTCO_wdt") && armed.contains("timeout 3000 ms"), "{armed}");
    assert!(armed.contains("weakness: Some(Slower)"), "{armed}");
    guest.wait("fed");
}

#[test]
fn a_stop_between_look_and_feed_delays_the_reset_by_less_than_one_timeout() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match boot("late") {
        Ok(guest) => guest,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    // The right ends right after the look, at the worst.
    let (looked, _) = guest.wait("looked");
    let (_, fed) = guest.wait("fed after");
    assert!(fed.contains("late: true"), "four fifths of the timeout is late: {fed}");
    guest.wait("the right is over");
    let reset = guest.reset().since(looked);
    println!("reset {} ms after the look", reset.as_millis());
    assert!(reset > TIMEOUT && reset < TWICE, "{reset:?}");
}
