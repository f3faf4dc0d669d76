//! From the configuration to what each room is told. Pure.

use crate::config::Config;
use crate::config::site::Site;
use crate::fence::gate::nft;
use crate::node::planted::Planted;
use crate::node::settings::{CROSSOVER, FIRST_REFLECTED, LAN, NULL_MODEM, StaleData};
use crate::node::{self, timing};
use crate::service;
use crate::takeover::{self, ServiceAddress, SettingsAddress};
use crate::time::Duration;
use crate::wire::pair::{BootId, Side};

/// How often a watchdog's time-out is divided for feeding: a feed may be late by most of it.
const FEEDS: u32 = 5;
/// Terms reserved on disk ahead: one write for about four hand-overs.
const TERMS_AHEAD: u8 = 8;
/// What a surrender needs besides the services' own stop time-outs: killing, addresses, the last cut.
const STOP_RESERVE: Duration = Duration::from_secs(5);

/// What the node is told. `fence` is our bound as the belts stand now.
#[must_use]
pub fn of_node(
    config: &Config,
    side: Side,
    boot: BootId,
    fence: Option<Duration>,
    clock_is_slewed: bool,
) -> node::Settings {
    let site = &config.site;
    let timing = &site.timing;
    let mut intervals = [None; FIRST_REFLECTED as usize];
    intervals[NULL_MODEM as usize] = config.board.null_modem.as_ref().map(|_| timing.serial_heartbeat);
    intervals[CROSSOVER as usize] = config.board.interface("crossover").map(|_| timing.heartbeat);
    intervals[LAN as usize] = config.board.interface("lan").map(|_| timing.heartbeat);
    let drift_ppm = if clock_is_slewed { timing::DRIFT_PPM_SLEWED } else { timing::DRIFT_PPM };
    let longest_bound = Some(config.plan.longest_bound());
    let longest_wait = timing::claim_wait(timing.lease, longest_bound, drift_ppm, timing.margin);
    let longest_wait = longest_wait.expect("a bound of minutes has a claim wait");
    node::Settings {
        node: side,
        boot,
        lease: timing.lease,
        fence,
        drift_ppm,
        margin: timing.margin,
        intervals,
        witnesses: u8::try_from(site.witnesses.len()).expect("the site file has at most 8 witnesses"),
        round: timing.witness,
        round_idle: timing.witness_idle,
        require_reflection: site.pair.require_reflection,
        settle: timing.settle,
        hold_down: timing.hold_down,
        boot_wait: site.pair.boot_wait,
        longest_wait,
        prefer: site.pair.prefer,
        stale_data: if site.pair.serve_stale_data { StaleData::Serve } else { StaleData::Hold },
        mirrored: !site.trees.is_empty(),
        panic_text: site.pair.panic_text,
        feed: site.watchdog.timeout / FEEDS,
        stop_timeout: stop_timeout(site),
        terms_ahead: TERMS_AHEAD,
        digest: config.digest,
        planted: Planted::NONE,
    }
}

/// How long an orderly surrender may take.
#[must_use]
pub fn stop_timeout(site: &Site) -> Duration {
    let services = site.services.iter().filter(|service| !service.warm).map(|service| service.stop_timeout);
    services.max().unwrap_or_default() + STOP_RESERVE
}

/// How long the services that still run when the node has left may take to end: those that are kept warm.
#[must_use]
pub fn end_timeout(site: &Site) -> Duration {
    let services = site.services.iter().map(|service| service.stop_timeout);
    services.max().unwrap_or_default() + STOP_RESERVE
}

/// What the takeover is told; `interface` gives the kernel's name for a role of the board.
#[must_use]
pub fn of_takeover(site: &Site, mut interface: impl FnMut(&str) -> String) -> takeover::Settings {
    let address = |address: &crate::config::site::ServiceAddress| SettingsAddress {
        address: ServiceAddress { ip: address.prefix.ip, prefix: address.prefix.length },
        interface: interface(&address.interface),
        virtual_mac: address.virtual_mac,
    };
    takeover::Settings {
        pair: site.pair.name.clone(),
        addresses: site.addresses.iter().map(address).collect(),
        lifetime: site.timing.address_lifetime,
        lease: site.timing.lease,
        mark: nft::MARK,
    }
}

/// What the services' room is told.
#[must_use]
pub fn of_services(site: &Site) -> Vec<service::Settings> {
    let service = |s: &crate::config::site::Service| service::Settings {
        name: s.name.clone(),
        root: s.root.clone(),
        start: s.start.clone(),
        check: s.check.clone(),
        check_interval: s.check_interval,
        check_timeout: s.check_timeout,
        start_timeout: s.start_timeout,
        stop_timeout: s.stop_timeout,
        stop_signal: s.stop_signal,
        run: if s.warm { service::Run::Both } else { service::Run::Active },
    };
    site.services.iter().map(service).collect()
}
