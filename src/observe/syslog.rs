//! An event as an RFC 5424 message, one UDP datagram (RFC 5426). Pure.
//!
//! ```text
//! <28>1 2026-03-01T03:12:45.120000Z box-a twobox - ALARM [origin software="twobox" ...][meta ...] office a: ALARM ...
//! ```

use std::fmt::Write;

use super::control::Event;
use crate::console::alarm;
use crate::console::report::span;
use crate::console::status::HandoverKind;
use crate::console::utc;

/// Longest message: every receiver takes 480 bytes and should take 2048 (RFC 5424, 6.1).
pub const LONGEST: usize = 1400;

/// Facility 3: system daemons.
const FACILITY: u8 = 3;

/// Severities of RFC 5424, 6.2.1.
#[derive(Clone, Copy)]
enum Severity {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// Who speaks.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The machine's name; what RFC 5424 does not allow in one is replaced.
    pub host: String,
    /// The pair's name.
    pub pair: String,
    /// This box: `a` or `b`.
    pub node: String,
    /// The own address that messages come from.
    pub ip: String,
}

/// When it happened.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Microseconds since 1970, if known.
    pub unix_us: Option<u64>,
    /// Milliseconds since boot.
    pub boot_ms: u64,
}

/// The datagram with this sequence number (1 for the first).
#[must_use]
pub fn datagram(sender: &Sender, sequence: u32, when: When, event: &Event) -> Vec<u8> {
    let (severity, id, text) = said(event);
    let time = when.unix_us.map_or_else(|| "-".to_owned(), utc::rfc3339);
    // sequenceId counts from 1 to 2147483647 and starts again with 1 (RFC 5424, 7.3.1).
    let sequence = (sequence.max(1) - 1) % 0x7fff_ffff + 1;
    let mut message = String::with_capacity(512);
    let _ = write!(
        message,
        "<{}>1 {time} {} twobox - {id} [origin ip=\"{}\" software=\"twobox\" swVersion=\"{}\"]\
         [meta sequenceId=\"{sequence}\" sysUpTime=\"{}\"] {} {}: {}",
        FACILITY * 8 + severity as u8,
        host(&sender.host),
        sender.ip,
        env!("CARGO_PKG_VERSION"),
        when.boot_ms / 10,
        sender.pair,
        sender.node,
        text.replace(char::is_control, " "),
    );
    let mut end = message.len().min(LONGEST);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message.into_bytes()
}

/// Severity, MSGID and words.
fn said(event: &Event) -> (Severity, &'static str, String) {
    match event {
        Event::Started { version } => (Severity::Notice, "START", format!("twobox {version} started")),
        Event::Role { from, to, why, term } => {
            (Severity::Notice, "ROLE", format!("{from} -> {to}, term {term}: {why}"))
        }
        Event::Handover { handover } => {
            let severity = match handover.kind {
                HandoverKind::Switchover => Severity::Notice,
                HandoverKind::Failover => Severity::Error,
            };
            (
                severity,
                "HANDOVER",
                format!(
                    "{} to {}, term {}: {}; {} (detect {}, fence {})",
                    handover.kind.word(),
                    handover.to,
                    handover.term,
                    handover.reason,
                    span(handover.total_ms),
                    span(handover.detect_ms),
                    span(handover.fence_wait_ms),
                ),
            )
        }
        Event::Raised { name, text } => {
            let remedy = alarm::find(name).map_or(String::new(), |entry| format!(" -> {}", entry.remedy));
            (Severity::Warning, "ALARM", format!("ALARM {name}: {text}{remedy}"))
        }
        Event::Cleared { name, text } => (Severity::Info, "CLEAR", format!("over: {name}: {text}")),
    }
}

/// PRINTUSASCII, 1 to 255 characters; a nil value for nothing.
fn host(name: &str) -> String {
    let name: String = name.chars().take(255).map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender() -> Sender {
        Sender { host: "box one".into(), pair: "office".into(), node: "a".into(), ip: "192.0.2.2".into() }
    }

    #[test]
    fn an_alarm_is_a_message_with_its_remedy() {
        let when = When { unix_us: Some(1_709_251_199_000_123), boot_ms: 12_345 };
        let event = Event::Raised { name: "carrier".into(), text: "the LAN interface has no\ncarrier".into() };
        let text = String::from_utf8(datagram(&sender(), 7, when, &event)).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            text,
            format!(
                "<28>1 2024-02-29T23:59:59.000123Z box_one twobox - ALARM [origin ip=\"192.0.2.2\" software=\"twobox\" \
                 swVersion=\"{version}\"][meta sequenceId=\"7\" sysUpTime=\"1234\"] office a: ALARM carrier: the LAN \
                 interface has no carrier -> plug the cable in; look at the switch"
            )
        );
    }

    #[test]
    fn a_box_without_a_clock_says_nil_and_long_texts_are_cut() {
        let when = When { unix_us: None, boot_ms: 0 };
        let event = Event::Cleared { name: "x".into(), text: "é".repeat(2000) };
        let bytes = datagram(&Sender { host: String::new(), ..sender() }, u32::MAX, when, &event);
        assert!(bytes.len() <= LONGEST);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("<30>1 - - twobox - CLEAR ["), "{text}");
        assert!(text.contains("sequenceId=\"1\""), "{text}");
    }
}
