//! Every key of the two files as data: name, default, what is allowed, what it means.
//!
//! The reader refuses what is not listed here, error messages quote `allowed`, and docs/manual.md shows the same rows (a
//! test compares them).

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is absent, as it would be written; `required`, or `-` for none.
    pub default: &'static str,
    /// Unit and range.
    pub allowed: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// A section and its keys.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// As it is written, brackets included; `NAME` stands for any name.
    pub header: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

const fn key(name: &'static str, default: &'static str, allowed: &'static str, meaning: &'static str) -> Key {
    Key { name, default, allowed, meaning }
}

/// `[pair]`
pub const PAIR: Section = Section {
    header: "[pair]",
    meaning: "The pair as a whole.",
    keys: &[
        key("name", "required", "1 to 32 of a-z, 0-9 and -", "The pair's name, shown everywhere."),
        key("key-file", "required", "an absolute path", "The pair's secret, the same on both boxes: `twobox key new`."),
        key(
            "prefer",
            "-",
            "\"a\" or \"b\"",
            "The box that should serve when both are fit, in sync and configured alike. Absent: no failback.",
        ),
        key(
            "boot-wait",
            "60s",
            "a duration from 1s to 1h",
            "Silence at boot before a box that never met its peer serves.",
        ),
        key(
            "stale-data",
            "serve",
            "\"serve\" or \"hold\"",
            "What a box alone does whose data may be old: serve with an alarm, or wait.",
        ),
        key(
            "require-reflection",
            "true",
            "true or false",
            "A witness counts for the quorum only while reflection through it is proven. With `false` you vouch for it, as long as \
             the boxes' configurations are the same: after a change the boxes must have met.",
        ),
        key("panic-text", "true", "true or false", "The peer's kernel panic on the null modem counts as its death."),
    ],
};

/// `[timing]`
pub const TIMING: Section = Section {
    header: "[timing]",
    meaning: "How fast. The profile sets all of them, the other keys override it.",
    keys: &[
        key("profile", "default", "\"default\", \"fast\" or \"fastest\"", "The set of values to start from."),
        key(
            "heartbeat",
            "50ms, 10ms, 5ms by profile",
            "a duration from 1ms to 10s",
            "Interval of heartbeats on ethernet (h). At most a third of the lease.",
        ),
        key(
            "lease",
            "500ms, 60ms, 20ms by profile",
            "a duration from 10ms to 1m",
            "How long a heartbeat of the peer lets a box serve (L).",
        ),
        key(
            "witness",
            "25ms, 3ms, 1250us by profile, a twentieth of a changed lease",
            "a duration from 500us to 3s",
            "Interval of witness rounds at full rate (p). From a thirty-second to a sixteenth of the lease.",
        ),
        key("witness-idle", "250ms", "a duration from 500us to 10s", "Interval of witness rounds while all is well."),
        key("serial-heartbeat", "100ms", "a duration from 10ms to 10s", "Interval of heartbeats on the null modem."),
        key(
            "margin",
            "50ms, 5ms, 5ms by profile",
            "a duration from 1ms to 10s",
            "Added to every wait for the peer's fence; at least the worst lateness of the loop (`twobox check --measure`).",
        ),
        key(
            "settle",
            "2s",
            "a duration from 100ms to 10m",
            "How long the standby must be the better box before the service moves.",
        ),
        key(
            "hold-down",
            "30s",
            "a duration from 1s to 1h",
            "How long a fault must be gone before a box may serve again; the pause between two moves.",
        ),
        key(
            "address-lifetime",
            "1.5 x lease, in whole seconds, at least 1s",
            "a duration of whole seconds from 1s to 60s, at least the lease",
            "Kernel lifetime of the service addresses; renewed while the right to serve is valid.",
        ),
    ],
};

/// `[node.a]` and `[node.b]`
pub const NODE: Section = Section {
    header: "[node.a] and [node.b]",
    meaning: "Own addresses of each box. One key for each interface of the board.",
    keys: &[key(
        "INTERFACE",
        "required for `lan`",
        "an address with its prefix length, v4 or v6, or a list of up to 4",
        "The box's own addresses on that interface. They stay with the box. The appliance puts them on itself, once nobody else has them.",
    )],
};

/// `[[address]]`
pub const ADDRESS: Section = Section {
    header: "[[address]]",
    meaning: "A service address, held by the box that serves. At most 16.",
    keys: &[
        key("ip", "required", "an address with its prefix length, v4 or v6", "The address that clients use."),
        key("interface", "lan", "the name of an interface of the board", "Where it is held."),
        key(
            "mac",
            "node",
            "\"node\" or \"virtual\"",
            "The hardware address it answers with: the box's own, or one that moves with it.",
        ),
    ],
};

/// `[[witness]]`
pub const WITNESS: Section = Section {
    header: "[[witness]]",
    meaning: "A third device on the LAN that answers ping. At most 8; the first one decides a tie.",
    keys: &[key("ip", "required", "an address, v4 or v6", "Its address.")],
};

/// `[[service]]`
pub const SERVICE: Section = Section {
    header: "[[service]]",
    meaning: "A program that serves. At most 32; all are started together and ended together: one that needs another waits for it.",
    keys: &[
        key("name", "required", "1 to 32 of a-z, 0-9 and -", "Its name in status and log."),
        key("root", "-", "an absolute path", "A root file system to run it in."),
        key(
            "start",
            "required",
            "a list of strings, the first an absolute path",
            "The program and its arguments. It stays in the foreground.",
        ),
        key(
            "check",
            "-",
            "a list of strings, the first an absolute path",
            "A program that exits 0 while the service is well. Absent: it is well while it runs.",
        ),
        key("check-interval", "2s", "a duration from 100ms to 1h", "How often it is checked."),
        key("check-timeout", "5s", "a duration from 100ms to 5m", "A check that takes longer has failed."),
        key("start-timeout", "30s", "a duration from 100ms to 10m", "How long it may take until its first good check."),
        key(
            "stop-timeout",
            "5s",
            "a duration from 0ms to 10m",
            "How long it may take to stop before its whole group is killed.",
        ),
        key(
            "stop-signal",
            "SIGTERM",
            "\"SIGTERM\", \"SIGINT\", \"SIGQUIT\", \"SIGHUP\", \"SIGUSR1\", \"SIGUSR2\" or \"SIGWINCH\"",
            "What all of its processes are sent to stop: SIGINT is PostgreSQL's fast stop.",
        ),
        key("run", "active", "\"active\" or \"both\"", "On the box that serves, or kept warm on the standby too."),
    ],
};

/// `[[mirror]]`
pub const MIRROR: Section = Section {
    header: "[[mirror]]",
    meaning: "A tree that the standby keeps a copy of. At most 64; of nested entries the most specific one rules its part.",
    keys: &[
        key("tree", "required", "an absolute path", "A directory or one file."),
        key("every", "1m unless on-change", "a duration from 1s to 7d", "How often a cut is taken."),
        key("on-change", "false", "true or false", "A cut soon after every change, instead of `every`."),
        key("settle", "1s", "a duration from 10ms to 1h", "With on-change: how long it must be quiet before the cut."),
        key("exclude", "none", "a list of up to 64 patterns", "Names that are not copied: `*.tmp`, `cache/`."),
        key(
            "max-delete",
            "25%",
            "a percentage from 0% to 100%, or a whole number of entries",
            "A cycle that would delete more waits for `twobox mirror sync --confirm-delete`.",
        ),
        key(
            "store",
            "root of its file system",
            "an absolute path",
            "The directory that holds `.twobox`, the mirror's own state. On the same mount as the tree.",
        ),
    ],
};

/// `[mirror-link]`
pub const MIRROR_LINK: Section = Section {
    header: "[mirror-link]",
    meaning: "The way that mirrored data take.",
    keys: &[
        key("port", "7420", "a port from 1 to 65535", "TCP port of the mirror on both boxes."),
        key("over-lan", "false", "true or false", "Use the LAN while the crossover is down."),
        key("crossover-limit", "none", "a rate from 10kB/s to 10GB/s, or \"none\"", "Bytes a second on the crossover."),
        key("lan-limit", "10MB/s", "a rate from 10kB/s to 10GB/s, or \"none\"", "Bytes a second on the LAN."),
    ],
};

/// `[watchdog]` of the site file
pub const SITE_WATCHDOG: Section = Section {
    header: "[watchdog]",
    meaning: "The hardware watchdog that the board file names.",
    keys: &[
        key(
            "timeout",
            "2s",
            "a duration of whole seconds from 1s to 60s",
            "Without a feed for this long the box is reset (W).",
        ),
        key(
            "longest-bound",
            "4 x timeout and 1s",
            "a duration from 1s to 10m",
            "The longest fence bound of the watchdogs of both boxes: 2 x firing time + reset time, by their board files. A box waits for it where its peer may have lost the gate unheard.",
        ),
        key(
            "nowayout",
            "false",
            "true or false",
            "On an existing Linux: the watchdog goes on when the daemon ends in order. An appliance always does that.",
        ),
    ],
};

/// `[console]`
pub const CONSOLE: Section = Section {
    header: "[console]",
    meaning: "The prompt on the console port.",
    keys: &[
        key(
            "password-file",
            "-",
            "an absolute path",
            "Ask for the password whose hash is in this file (`twobox key password FILE`). Absent: no login.",
        ),
        key(
            "idle-timeout",
            "10m",
            "a duration from 10s to 1d, or \"none\"",
            "With a password: log out after this much silence.",
        ),
    ],
};

/// `[observe]`
pub const OBSERVE: Section = Section {
    header: "[observe]",
    meaning: "Watching from outside. Read-only.",
    keys: &[
        key(
            "listen",
            "-",
            "a port, or an own address of a box with a port such as \"192.0.2.2:9140\", or a list of up to 8",
            "Where `GET /metrics` and `GET /status` are answered: a port alone means all own addresses of each box, never a service address. Absent: nowhere.",
        ),
        key(
            "syslog",
            "-",
            "an address with a port",
            "Where role changes, hand-overs and alarms are told by UDP (RFC 5424), from the box's own address. Absent: nowhere.",
        ),
    ],
};

/// `[log]`
pub const LOG: Section = Section {
    header: "[log]",
    meaning: "What is logged.",
    keys: &[key(
        "level",
        "info",
        "\"error\", \"warn\", \"info\", \"debug\" or \"trace\", or a list of \"room=level\"",
        "The least important lines that are kept, for all rooms or for some.",
    )],
};

/// Top level of the board file
pub const BOARD: Section = Section {
    header: "top level",
    meaning: "The board as a whole.",
    keys: &[
        key("name", "required", "1 to 32 of a-z, 0-9, - and _", "The board's name."),
        key(
            "modules",
            "none",
            "a list of up to 64 module names",
            "Kernel modules to load at boot, in this order. Appliance only.",
        ),
        key(
            "hardware-modules",
            "none",
            "a list of up to 64 module names",
            "Kernel modules to load at boot if a device is there that they drive. Appliance only.",
        ),
        key(
            "kernel-command-line",
            "-",
            "a string of up to 1024 bytes",
            "What the boot loader hands to the kernel. Appliance only.",
        ),
    ],
};

/// `[interface.NAME]`
pub const INTERFACE: Section = Section {
    header: "[interface.NAME]",
    meaning: "A network interface by its role: `lan` must be there, `crossover` should be. It is found by the keys given; at least one.",
    keys: &[
        key("path", "-", "a bus path such as \"pci-0000:00:02.0\"", "Where it is plugged in."),
        key("mac", "-", "six pairs of hexadecimal digits with colons", "Its hardware address."),
        key("name", "-", "1 to 15 bytes, no slash or space", "The kernel's name for it."),
        key("position", "-", "1 to 16", "Its place among all interfaces, counted by bus path. Appliance only."),
    ],
};

/// `[serial.console]` and `[serial.null-modem]`
pub const SERIAL: Section = Section {
    header: "[serial.console] and [serial.null-modem]",
    meaning: "A serial port: the operator's prompt, the cable to the peer.",
    keys: &[
        key("device", "required", "an absolute path", "Its device file."),
        key(
            "baud",
            "115200",
            "300, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1000000, 1500000, 3000000 or 4000000",
            "Its speed in bits a second, 8 data bits, no parity, one stop bit.",
        ),
    ],
};

/// `[watchdog]` of the board file
pub const BOARD_WATCHDOG: Section = Section {
    header: "[watchdog]",
    meaning: "The hardware watchdog. Absent: the pair runs UNFENCED.",
    keys: &[
        key("device", "required", "an absolute path", "Its device file."),
        key(
            "firing",
            "110%",
            "a percentage from 100% to 300%",
            "When it fires, measured from the last feed, in percent of the time-out that was set.",
        ),
        key(
            "reset-time",
            "100ms",
            "a duration from 0ms to 1m",
            "From its firing to the moment when the box is surely silent.",
        ),
    ],
};

/// `[storage]`
pub const STORAGE: Section = Section {
    header: "[storage]",
    meaning: "Partitions of the appliance.",
    keys: &[
        key(
            "data",
            "-",
            "an absolute path, or PARTLABEL=, LABEL=, PARTUUID= or UUID= with a name",
            "What is mounted as /data.",
        ),
        key(
            "state",
            "-",
            "an absolute path, or PARTLABEL=, LABEL=, PARTUUID= or UUID= with a name",
            "Where term, generation, site file and key live.",
        ),
        key(
            "esp",
            "-",
            "an absolute path, or PARTLABEL=, LABEL=, PARTUUID= or UUID= with a name",
            "The EFI system partition with the image's slots, for `update`.",
        ),
    ],
};

/// Sections of the site file, in the order of the manual.
pub const SITE_SECTIONS: &[Section] =
    &[PAIR, TIMING, NODE, ADDRESS, WITNESS, SERVICE, MIRROR, MIRROR_LINK, SITE_WATCHDOG, CONSOLE, OBSERVE, LOG];

/// Sections of the board file, in the order of the manual.
pub const BOARD_SECTIONS: &[Section] = &[BOARD, INTERFACE, SERIAL, BOARD_WATCHDOG, STORAGE];
