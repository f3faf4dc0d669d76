//! The site file's text to its values.

use std::net::IpAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::board::Board;
use super::keys;
use super::reader::{Section, Source, integer, string};
use super::site::{
    ADDRESS_LIMIT, Console, MaxDelete, MirrorLink, Observe, OwnAddress, Pair, SERVICE_LIMIT, Schedule, Service,
    ServiceAddress, Site, TREE_LIMIT, Tree, WITNESS_LIMIT, Watchdog,
};
use super::timing::{Profile, Timing, longest_watchdog_bound};
use super::value::{self, End};
use crate::fence::address_lease;
use crate::wire::pair::Side;

const SECTIONS: &[&str] = &[
    "pair",
    "timing",
    "node",
    "address",
    "witness",
    "service",
    "mirror",
    "mirror-link",
    "watchdog",
    "console",
    "observe",
    "log",
];

/// Two sections of the file, for headers such as `[node.a]`.
const NODES: &[keys::Key] = &[
    keys::Key { name: "a", default: "", allowed: "a section [node.a]", meaning: "" },
    keys::Key { name: "b", default: "", allowed: "a section [node.b]", meaning: "" },
];

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads the whole file; problems are in `source` afterwards, and then the value is not to be used.
pub(super) fn read<'i>(source: &Source<'i>, tree: &toml::Spanned<toml::de::DeTable<'i>>, board: &Board) -> Site {
    let top = Section::top(source, tree, &[], SECTIONS);
    top.missing("pair");
    top.missing_of("node", "allowed: sections [node.a] and [node.b]");
    let mut owners = Owners::default();
    let nodes = nodes(&top, board, &mut owners);
    let site = Site {
        pair: pair(top.child("pair", keys::PAIR.keys).as_ref()),
        timing: timing(top.child("timing", keys::TIMING.keys).as_ref()),
        addresses: addresses(&top, board, &nodes, &mut owners),
        witnesses: witnesses(&top, &nodes, &mut owners),
        services: services(&top),
        trees: trees(&top),
        mirror_link: mirror_link(top.child("mirror-link", keys::MIRROR_LINK.keys).as_ref()),
        watchdog: watchdog(top.child("watchdog", keys::SITE_WATCHDOG.keys).as_ref()),
        console: console(top.child("console", keys::CONSOLE.keys).as_ref()),
        observe: observe(top.child("observe", keys::OBSERVE.keys).as_ref(), &nodes),
        nodes,
        log: levels(top.child("log", keys::LOG.keys).as_ref()),
    };
    refuse_timing(&top, &site, board);
    site
}

fn pair(section: Option<&Section>) -> Pair {
    Pair {
        name: section.and_then(|s| s.required("name", value::name)).unwrap_or_default(),
        key_file: section.and_then(|s| s.required("key-file", value::path)).unwrap_or_default(),
        prefer: section.and_then(|s| s.word("prefer", &[("a", Side::A), ("b", Side::B)])),
        boot_wait: section.and_then(|s| s.duration("boot-wait", SECOND..=HOUR)).unwrap_or(MINUTE),
        serve_stale_data: section
            .and_then(|s| s.word("stale-data", &[("serve", true), ("hold", false)]))
            .unwrap_or(true),
        require_reflection: section.and_then(|s| s.flag("require-reflection")).unwrap_or(true),
        panic_text: section.and_then(|s| s.flag("panic-text")).unwrap_or(true),
    }
}

fn timing(section: Option<&Section>) -> Timing {
    const PROFILES: [(&str, Profile); 3] =
        [("default", Profile::Default), ("fast", Profile::Fast), ("fastest", Profile::Fastest)];
    let Some(section) = section else { return Profile::Default.timing() };
    let profile = section.word("profile", &PROFILES).unwrap_or(Profile::Default).timing();
    let own = |key, range| section.duration(key, range);
    let lease = own("lease", 10 * MS..=MINUTE);
    // A round for a changed lease keeps the default's proportion: a twentieth.
    let witness = lease.map_or(profile.witness, |lease| lease / 20);
    let lasting = address_lease::lifetime(lease.unwrap_or(profile.lease));
    Timing {
        heartbeat: own("heartbeat", MS..=10 * SECOND).unwrap_or(profile.heartbeat),
        lease: lease.unwrap_or(profile.lease),
        witness: own("witness", MS / 2..=3 * SECOND).unwrap_or(witness),
        witness_idle: own("witness-idle", MS / 2..=10 * SECOND).unwrap_or(profile.witness_idle),
        serial_heartbeat: own("serial-heartbeat", 10 * MS..=10 * SECOND).unwrap_or(profile.serial_heartbeat),
        margin: own("margin", MS..=10 * SECOND).unwrap_or(profile.margin),
        settle: own("settle", 100 * MS..=10 * MINUTE).unwrap_or(profile.settle),
        hold_down: own("hold-down", SECOND..=HOUR).unwrap_or(profile.hold_down),
        address_lifetime: section.seconds("address-lifetime", SECOND..=MINUTE).unwrap_or(lasting),
    }
}

/// Each address belongs to one thing only: two owners of one address are what the pair exists to prevent.
#[derive(Default)]
struct Owners(Vec<(IpAddr, String)>);

impl Owners {
    fn add(&mut self, section: &Section, key: &str, ip: IpAddr, owner: &str) {
        match self.0.iter().find(|(known, _)| *known == ip) {
            Some((_, first)) => section.refuse(key, format!("{ip} is also {first}"), "allowed: every address once"),
            None => self.0.push((ip, owner.to_owned())),
        }
    }
}

fn nodes(top: &Section, board: &Board, owners: &mut Owners) -> [Vec<OwnAddress>; 2] {
    let nodes = top.child("node", NODES);
    ["a", "b"].map(|node| {
        let Some(nodes) = &nodes else { return Vec::new() };
        nodes.missing(node);
        let Some(section) = nodes.child(node, keys::NODE.keys) else { return Vec::new() };
        section.missing("lan");
        let mut own = Vec::new();
        for interface in section.names() {
            known_interface(&section, &interface, &interface, board);
            for prefix in section.one_or_more(&interface, 4, value::prefix).unwrap_or_default() {
                owners.add(&section, &interface, prefix.ip, &format!("an own address of {node}"));
                own.push(OwnAddress { interface: interface.clone(), prefix });
            }
        }
        own
    })
}

fn known_interface(section: &Section, key: &str, name: &str, board: &Board) {
    // A board file with errors of its own may know it.
    if !section.is_unsure() && !board.interfaces.is_empty() && board.interface(name).is_none() {
        let known: Vec<_> = board.interfaces.iter().map(|interface| interface.role.as_str()).collect();
        let known = known.join(", ");
        section.refuse(key, format!("the board has no interface \"{name}\""), format!("the board's are: {known}"));
    }
}

/// The two ends of an own network are no hosts, however long the prefix is that stands behind them, if any (RFC 1122 3.2.1.3).
fn host_of_its_network(section: &Section, ip: IpAddr, nodes: &[Vec<OwnAddress>; 2]) {
    let near = nodes.iter().flatten().filter(|own| own.prefix.contains(ip));
    let Some((own, end)) = near.filter_map(|own| Some((own, own.prefix.end(ip)?))).next() else { return };
    let what = match end {
        End::Network => format!("{ip} is the address of the network of {} itself", own.prefix),
        End::Broadcast => format!("{ip} is the broadcast address of the network of {}", own.prefix),
    };
    section.refuse("ip", what, "allowed: an address that a host can have");
}

fn addresses(top: &Section, board: &Board, nodes: &[Vec<OwnAddress>; 2], owners: &mut Owners) -> Vec<ServiceAddress> {
    let mut addresses = Vec::new();
    for section in top.children("address", ADDRESS_LIMIT, keys::ADDRESS.keys) {
        let interface = section.text("interface", value::name).unwrap_or_else(|| "lan".to_owned());
        known_interface(&section, "interface", &interface, board);
        let virtual_mac = section.word("mac", &[("node", false), ("virtual", true)]).unwrap_or(false);
        if let Some(prefix) = section.required("ip", value::prefix) {
            owners.add(&section, "ip", prefix.ip, "a service address");
            host_of_its_network(&section, prefix.ip, nodes);
            addresses.push(ServiceAddress { prefix, interface, virtual_mac });
        }
    }
    addresses
}

fn witnesses(top: &Section, nodes: &[Vec<OwnAddress>; 2], owners: &mut Owners) -> Vec<IpAddr> {
    let mut witnesses = Vec::new();
    for section in top.children("witness", WITNESS_LIMIT, keys::WITNESS.keys) {
        if let Some(ip) = section.required("ip", value::host) {
            owners.add(&section, "ip", ip, "a witness");
            host_of_its_network(&section, ip, nodes);
            for (node, own) in ["a", "b"].into_iter().zip(nodes) {
                let mut on_lan = own.iter().filter(|own| own.interface == "lan").peekable();
                // One without any is told elsewhere.
                if on_lan.peek().is_some() && on_lan.all(|own| own.prefix.ip.is_ipv4() != ip.is_ipv4()) {
                    let what = format!("{node} has no own address on \"lan\" from which {ip} could be asked");
                    section.refuse(
                        "ip",
                        what,
                        "allowed: a witness of the family, v4 or v6, of an own address of both boxes",
                    );
                }
            }
            witnesses.push(ip);
        }
    }
    witnesses
}

/// A program with its arguments: the first is a path, none holds a NUL, which execve(2) could not take.
fn program(section: &Section, key: &str) -> Option<Vec<String>> {
    let argument = |text: &str| {
        if text.contains('\0') { Err("an argument holds a NUL".to_owned()) } else { Ok(text.to_owned()) }
    };
    let arguments = section.list(key, 64, argument)?;
    match arguments.first().map(|first| value::path(first)) {
        Some(Ok(_)) => Some(arguments),
        Some(Err(what)) => {
            section.wrong(key, what);
            None
        }
        None => {
            section.wrong(key, "is empty");
            None
        }
    }
}

/// Those that programs take for a wish to stop.
const STOP_SIGNALS: [(&str, Signal); 7] = [
    ("SIGTERM", Signal::SIGTERM),
    ("SIGINT", Signal::SIGINT),
    ("SIGQUIT", Signal::SIGQUIT),
    ("SIGHUP", Signal::SIGHUP),
    ("SIGUSR1", Signal::SIGUSR1),
    ("SIGUSR2", Signal::SIGUSR2),
    ("SIGWINCH", Signal::SIGWINCH),
];

fn services(top: &Section) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for section in top.children("service", SERVICE_LIMIT, keys::SERVICE.keys) {
        let name = section.required("name", value::name).unwrap_or_default();
        if !name.is_empty() && services.iter().any(|other| other.name == name) {
            section.refuse("name", format!("there are two services \"{name}\""), "allowed: every name once");
        }
        section.missing("start");
        let own = |key, range, default| section.duration(key, range).unwrap_or(default);
        services.push(Service {
            name,
            root: section.text("root", value::path),
            start: program(&section, "start").unwrap_or_default(),
            check: program(&section, "check"),
            check_interval: own("check-interval", 100 * MS..=HOUR, 2 * SECOND),
            check_timeout: own("check-timeout", 100 * MS..=5 * MINUTE, 5 * SECOND),
            start_timeout: own("start-timeout", 100 * MS..=10 * MINUTE, 30 * SECOND),
            stop_timeout: own("stop-timeout", Duration::ZERO..=10 * MINUTE, 5 * SECOND),
            stop_signal: section.word("stop-signal", &STOP_SIGNALS).unwrap_or(Signal::SIGTERM),
            warm: section.word("run", &[("active", false), ("both", true)]).unwrap_or(false),
        });
    }
    services
}

fn trees(top: &Section) -> Vec<Tree> {
    let mut trees: Vec<Tree> = Vec::new();
    for section in top.children("mirror", TREE_LIMIT, keys::MIRROR.keys) {
        let path = section.required("tree", value::path).unwrap_or_default();
        if trees.iter().any(|other| other.path == path) && section.has("tree") {
            section.refuse("tree", format!("{} is listed twice", path.display()), "allowed: every tree once");
        }
        let every = section.duration("every", SECOND..=7 * DAY);
        let settle = section.duration("settle", 10 * MS..=HOUR);
        let on_change = section.flag("on-change").unwrap_or(false);
        if on_change && section.has("every") {
            section.refuse("every", "stands beside on-change = true", "allowed: one of the two");
        }
        if !on_change && section.has("settle") && !section.is_unread("on-change") {
            section.refuse("settle", "has no meaning without on-change = true", "allowed: beside on-change only");
        }
        let pattern = |text: &str| match text {
            "" => Err("an empty pattern".to_owned()),
            _ if text.contains('\0') || text.len() > 255 => Err("a pattern that no name can match".to_owned()),
            _ => Ok(text.to_owned()),
        };
        let delete = section.value("max-delete", |value| match value.as_integer() {
            Some(_) => integer(value).map(MaxDelete::Entries),
            None => {
                let text = string(value)?;
                let percent = u8::try_from(value::percent(text)?).ok().filter(|percent| *percent <= 100);
                percent.map(MaxDelete::Percent).ok_or_else(|| format!("\"{text}\" is out of range"))
            }
        });
        trees.push(Tree {
            path,
            schedule: if on_change {
                Schedule::OnChange(settle.unwrap_or(SECOND))
            } else {
                Schedule::Every(every.unwrap_or(MINUTE))
            },
            exclude: section.list("exclude", 64, pattern).unwrap_or_default(),
            max_delete: delete.unwrap_or(MaxDelete::Percent(25)),
            store: section.text("store", value::path),
        });
    }
    trees
}

fn mirror_link(section: Option<&Section>) -> MirrorLink {
    let limit = |key| {
        section.and_then(|s| {
            s.text(key, |text| match text {
                "none" => Ok(None),
                _ => value::rate(text).and_then(|rate| {
                    let range = 10_000..=10_000_000_000;
                    if range.contains(&rate) { Ok(Some(rate)) } else { Err(format!("\"{text}\" is out of range")) }
                }),
            })
        })
    };
    let port = section.and_then(|s| {
        s.value("port", |value| {
            let port = integer(value)?;
            u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| format!("{port} is no port"))
        })
    });
    MirrorLink {
        port: port.unwrap_or(7420),
        over_lan: section.and_then(|s| s.flag("over-lan")).unwrap_or(false),
        crossover_limit: limit("crossover-limit").unwrap_or(None),
        lan_limit: limit("lan-limit").unwrap_or(Some(10_000_000)),
    }
}

fn watchdog(section: Option<&Section>) -> Watchdog {
    let timeout = section.and_then(|s| s.seconds("timeout", SECOND..=MINUTE)).unwrap_or(2 * SECOND);
    let longest_bound = section.and_then(|s| s.duration("longest-bound", SECOND..=10 * MINUTE));
    Watchdog {
        timeout,
        longest_bound: longest_bound.unwrap_or(longest_watchdog_bound(timeout)),
        nowayout: section.and_then(|s| s.flag("nowayout")).unwrap_or(false),
    }
}

fn console(section: Option<&Section>) -> Console {
    let idle = section.and_then(|s| {
        s.text("idle-timeout", |text| match text {
            "none" => Ok(None),
            _ => value::duration(text).and_then(|idle| {
                let range = 10 * SECOND..=DAY;
                if range.contains(&idle) { Ok(Some(idle)) } else { Err(format!("\"{text}\" is out of range")) }
            }),
        })
    });
    Console {
        password_file: section.and_then(|s| s.text("password-file", value::path)),
        idle_timeout: idle.unwrap_or(Some(10 * MINUTE)),
    }
}

fn observe(section: Option<&Section>, nodes: &[Vec<OwnAddress>; 2]) -> Observe {
    let Some(section) = section else { return Observe::default() };
    let listen = section.numbers_or_texts("listen", 8, value::listen).unwrap_or_default();
    for ip in listen.iter().filter_map(|(ip, _)| *ip) {
        if !section.is_unsure() && !nodes.iter().flatten().any(|own| own.prefix.ip == ip) {
            // A service address moves, and answers only where its box has the right to serve.
            let allowed = "allowed: a port alone, or an own address of [node.a] or [node.b] with a port";
            section.refuse("listen", format!("{ip} is no own address of a box"), allowed);
        }
    }
    Observe { listen, syslog: section.text("syslog", value::socket_address) }
}

/// Rooms that log under their own name.
const ROOMS: [&str; 9] = ["config", "console", "fence", "init", "link", "mirror", "node", "service", "takeover"];

fn levels(section: Option<&Section>) -> Vec<(String, log::LevelFilter)> {
    let everything = vec![(String::new(), log::LevelFilter::Info)];
    let Some(section) = section else { return everything };
    let level = |text: &str| match text {
        "error" => Ok(log::LevelFilter::Error),
        "warn" => Ok(log::LevelFilter::Warn),
        "info" => Ok(log::LevelFilter::Info),
        "debug" => Ok(log::LevelFilter::Debug),
        "trace" => Ok(log::LevelFilter::Trace),
        _ => Err(format!("\"{text}\" is no level")),
    };
    let rooms = section.one_or_more("level", ROOMS.len() + 1, |text| match text.split_once('=') {
        Some((room, word)) if ROOMS.contains(&room) => Ok((room.to_owned(), level(word)?)),
        Some((room, _)) => Err(format!("there is no room \"{room}\" (there are {})", ROOMS.join(", "))),
        None => Ok((String::new(), level(text)?)),
    });
    let mut levels = everything;
    for (room, filter) in rooms.unwrap_or_default() {
        match levels.iter_mut().find(|(known, _)| *known == room) {
            Some(entry) => entry.1 = filter,
            None => levels.push((room, filter)),
        }
    }
    levels
}

/// Refuses what breaks an inequality, at the line of the key that breaks it.
fn refuse_timing(top: &Section, site: &Site, board: &Board) {
    if top.is_unsure() {
        return; // a time that was not read has its default
    }
    for refusal in super::plan(site, board).refusals() {
        let (section, key) = refusal.key;
        let keys = match section {
            "pair" => keys::PAIR.keys,
            "watchdog" => keys::SITE_WATCHDOG.keys,
            _ => keys::TIMING.keys,
        };
        match top.child(section, keys) {
            Some(section) => section.refuse(key, refusal.what, refusal.allowed),
            None => top.refuse(&format!("{section}.{key}"), refusal.what, refusal.allowed),
        }
    }
}
