//! The small languages inside the files: durations, percentages, rates, addresses, names.
//!
//! Each function says only what is wrong; what is allowed stands in [`super::keys`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Units of durations with their length in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Splits "1.25ms" into 1, 250000000 (billionths) and "ms".
fn number_and_unit(text: &str) -> Option<(u64, u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.pow(9 - u32::try_from(fraction.len()).ok()?);
    Some((whole.parse().ok()?, fraction.parse::<u64>().ok()? * scale, unit))
}

/// A duration with its unit: "500ms", "1.25ms", "1m".
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no duration such as \"500ms\", \"2s\", \"1m\" or \"1h\"");
    let (whole, billionths, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let (_, length) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let nanoseconds =
        u128::from(whole) * u128::from(*length) + u128::from(billionths) * u128::from(*length) / 1_000_000_000;
    u64::try_from(nanoseconds).map(Duration::from_nanos).map_err(|_| format!("\"{text}\" is longer than 584 years"))
}

/// A duration as an operator writes it, in the largest unit that shows it with at most three decimals.
#[must_use]
pub fn show(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let (name, length) = match nanoseconds {
        0 => return "0ms".into(),
        1..1_000_000 => ("us", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    // Times of more than two minutes are settings, and those are whole.
    if nanoseconds >= 120_000_000_000 {
        for (name, length) in UNITS.iter().rev() {
            if nanoseconds.is_multiple_of(u128::from(*length)) {
                return format!("{}{name}", nanoseconds / u128::from(*length));
            }
        }
    }
    let thousandths = nanoseconds * 1_000 / length;
    let text = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A percentage: "25%".
pub(super) fn percent(text: &str) -> Result<u16, String> {
    text.strip_suffix('%')
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| format!("\"{text}\" is no percentage such as \"25%\""))
}

/// A rate in bytes a second, decimal units: "10MB/s".
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is no rate such as \"10MB/s\"");
    let (whole, billionths, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let factor: u64 = match unit {
        "kB/s" => 1_000,
        "MB/s" => 1_000_000,
        "GB/s" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    whole.checked_mul(factor).map(|bytes| bytes + billionths * factor / 1_000_000_000).ok_or_else(wrong)
}

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The host's address.
    pub ip: IpAddr,
    /// Bits of the network: 1 to 32 for v4, 1 to 128 for v6.
    pub length: u8,
}

impl Prefix {
    /// Both addresses lie in this network.
    #[must_use]
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.ip, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX << (32 - u32::from(self.length));
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX << (128 - u32::from(self.length));
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// An address of a network that no host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first one.
    Network,
    /// The last one.
    Broadcast,
}

impl Prefix {
    /// Which end of this network `other`, which lies in it, is. RFC 1122 3.2.1.3: the two ends of a v4 network are no hosts;
    /// RFC 3021: but of a /31 they are.
    #[must_use]
    pub fn end(&self, other: IpAddr) -> Option<End> {
        let IpAddr::V4(v4) = other else { return None };
        let hosts = if self.length < 31 { u32::MAX >> self.length } else { return None };
        match v4.to_bits() & hosts {
            0 => Some(End::Network),
            end if end == hosts => Some(End::Broadcast),
            _ => None,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.ip, self.length)
    }
}

/// An address that a host can have, with its prefix length.
pub(super) fn prefix(text: &str) -> Result<Prefix, String> {
    let (ip, length) = text.split_once('/').ok_or_else(|| format!("\"{text}\" has no prefix length such as /24"))?;
    let ip = host(ip)?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let length = length.parse().ok().filter(|length| (1..=most).contains(length));
    let length = length.ok_or_else(|| format!("\"{text}\" has no prefix length from /1 to /{most}"))?;
    let prefix = Prefix { ip, length };
    match prefix.end(ip) {
        Some(End::Network) => Err(format!("{ip} is the address of the network itself")),
        Some(End::Broadcast) => Err(format!("{ip} is the network's broadcast address")),
        None => Ok(prefix),
    }
}

/// An address that a host can have.
pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| format!("\"{text}\" is no IP address"))?;
    let wrong = if ip.is_unspecified() {
        "the unspecified address"
    } else if ip.is_loopback() {
        "a loopback address"
    } else if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        "a group address"
    } else if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        "a v4 address in v6 clothes"
    } else {
        return Ok(ip);
    };
    Err(format!("{ip} is {wrong}"))
}

/// A port alone (any own address), or an address with a port.
pub(super) fn listen(text: &str) -> Result<(Option<IpAddr>, u16), String> {
    let wrong = || format!("\"{text}\" is neither a port nor an address with a port");
    let (ip, port) = match text.parse::<u16>() {
        Ok(port) => (None, port),
        Err(_) => {
            let address = socket_address(text).map_err(|_| wrong())?;
            (Some(address.ip()), address.port())
        }
    };
    if port == 0 { Err(wrong()) } else { Ok((ip, port)) }
}

/// An address with a port.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
        format!("\"{text}\" is no address with a port such as \"192.0.2.9:514\" or \"[2001:db8::9]:514\"")
    })
}

/// A name of ours: it appears in status, in file names and on the wire.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fits = (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(text.to_owned()) } else { Err(format!("\"{text}\" is no name")) }
}

/// The name of a board, which is that of its folder: `generic-x86_64`.
pub(super) fn board_name(text: &str) -> Result<String, String> {
    name(&text.replace('_', "-")).map_err(|_| format!("\"{text}\" is no name")).map(|_| text.to_owned())
}

/// An absolute path without `.`, `..`, empty parts or a NUL.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err(format!("\"{text}\" is not absolute"));
    }
    if text == "/" {
        return Ok(PathBuf::from(text));
    }
    let plain = text.strip_suffix('/').unwrap_or(text);
    // Paths are shown on terminals and in JSON, where a control character does harm or takes six bytes.
    if text.chars().any(char::is_control) || plain[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("\"{}\" has empty parts, \".\", \"..\" or control characters", text.escape_default()));
    }
    if text.len() >= 4096 {
        return Err("it is longer than 4095 bytes".into());
    }
    Ok(PathBuf::from(plain))
}

/// A hardware address.
pub(super) fn mac(text: &str) -> Result<[u8; 6], String> {
    let wrong = || format!("\"{text}\" is no hardware address such as \"52:54:00:12:34:56\"");
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] { Err(wrong()) } else { Ok(bytes) }
}

/// A kernel interface name (dev_valid_name() in net/core/dev.c).
pub(super) fn interface_name(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.bytes().any(|b| b == b'/' || b == b':' || b.is_ascii_whitespace() || b.is_ascii_control());
    if fits { Ok(text.to_owned()) } else { Err(format!("\"{text}\" is no interface name")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.25ms"), Ok(Duration::from_micros(1250)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "5", "ms", "5 ms", "-5ms", ".5s", "5.s", "1h30m", "5e3s", "99999999999999999999s", "600000d"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["500ms", "1.25ms", "25ms", "2s", "4.555s", "60s", "3m", "1h", "7d", "800us", "0ms"] {
            assert_eq!(show(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn addresses_are_those_of_hosts() {
        assert_eq!(prefix("192.0.2.10/24").unwrap().to_string(), "192.0.2.10/24");
        assert_eq!(prefix("2001:db8::10/64").unwrap().to_string(), "2001:db8::10/64");
        assert!(prefix("192.0.2.0/31").is_ok() && prefix("192.0.2.1/32").is_ok());
        for wrong in [
            "192.0.2.10",
            "192.0.2.0/24",
            "192.0.2.255/24",
            "192.0.2.1/33",
            "192.0.2.1/0",
            "0.0.0.0/8",
            "127.0.0.1/8",
            "224.0.0.1/24",
            "255.255.255.255/32",
            "::1/128",
            "ff02::1/64",
            "::/64",
            "::ffff:192.0.2.1/128",
            "lan/24",
        ] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
        let network = prefix("192.0.2.10/24").unwrap();
        assert!(network.contains("192.0.2.200".parse().unwrap()));
        assert!(!network.contains("192.0.3.10".parse().unwrap()));
        assert!(!network.contains("::1".parse().unwrap()));
    }

    #[test]
    fn percentages_rates_and_ports() {
        assert_eq!(percent("25%"), Ok(25));
        assert!(percent("25").is_err() && percent("%").is_err() && percent("-1%").is_err());
        assert_eq!(rate("10MB/s"), Ok(10_000_000));
        assert_eq!(rate("1.5kB/s"), Ok(1_500));
        assert!(rate("10MiB/s").is_err() && rate("10").is_err());
        assert_eq!(listen("9100"), Ok((None, 9100)));
        assert_eq!(listen("192.0.2.2:9100"), Ok((Some("192.0.2.2".parse().unwrap()), 9100)));
        assert!(listen("0").is_err() && listen("192.0.2.2").is_err());
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(path("/data/mail/"), Ok(PathBuf::from("/data/mail")));
        assert_eq!(path("/"), Ok(PathBuf::from("/")));
        for wrong in ["data", "", "/data/../etc", "/data//x", "/./x", "//", "/a\n", "/\0"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hardware_addresses_are_those_of_one_interface() {
        assert_eq!(mac("52:54:00:12:34:56"), Ok([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        for wrong in
            ["52:54:00:12:34", "52:54:00:12:34:56:78", "53:54:00:12:34:56", "00:00:00:00:00:00", "5254.0012.3456"]
        {
            assert!(mac(wrong).is_err(), "{wrong}");
        }
    }
}
