//! Words to orders, pure. A line is one act: its orders, separated by commas, are given one after the other, and then the
//! service must answer again. Lines end with the line or with a semicolon; `#` begins a comment.

use std::time::Duration;

/// A box, by its name or by what it does when the order is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Box a.
    A,
    /// Box b.
    B,
    /// The one that serves.
    Active,
    /// The other one.
    Standby,
}

/// Something that can be unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cord {
    /// The serial cable between the boxes.
    NullModem,
    /// The Ethernet cable between the boxes.
    Crossover,
    /// A box's cable to the LAN.
    Lan(Which),
    /// The witness as a whole.
    Witness,
}

/// What can be done to the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Unplug.
    Cut(Cord),
    /// Plug in again.
    Mend(Cord),
    /// Plug in all that is unplugged.
    MendAll,
    /// Pull the plug of a box.
    PowerCut(Which),
    /// Switch on the boxes that are off.
    PowerOn,
    /// Nothing but interrupts runs on the box any more.
    Hang(Which),
    /// The box's kernel panics.
    Panic(Which),
    /// Planned hand-over, ordered at the box that serves.
    Switchover,
    /// Maintenance: the box never takes over.
    Hold(Which),
    /// And back.
    Release(Which),
    /// Let time pass.
    Wait(Duration),
    /// Wait until one box serves and the other stands by, ready.
    Healthy,
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// As it was written.
    pub text: String,
    /// What to do, in this order.
    pub orders: Vec<Order>,
}

/// What runs when no script is given: each fault that the pair is made for, and what must follow.
pub const DEFAULT: &str = "\
healthy
switchover
cut null-modem, wait 5s, mend null-modem
cut crossover, wait 5s, mend crossover
healthy, wait 10s
power-cut active
power-on, healthy, wait 16s
panic active
healthy, wait 16s
hang active
healthy, wait 16s
cut lan active, wait 5s, mend all
healthy
";

/// Every word that a script may hold, for the help text.
pub const WORDS: &str = "\
cut|mend null-modem|crossover|witness|lan BOX, mend all, power-cut BOX, power-on, hang BOX,
panic BOX, switchover, hold BOX, release BOX, wait 5s, healthy; BOX is a, b, active or standby";

/// Reads a script.
///
/// # Errors
///
/// The first order that is none, with the words that are.
pub fn parse(text: &str) -> Result<Vec<Act>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default()).flat_map(|line| line.split(';'));
    let mut acts = Vec::new();
    for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
        let orders = line.split(',').map(order).collect::<Result<_, _>>()?;
        acts.push(Act { text: line.to_owned(), orders });
    }
    if acts.is_empty() { Err("the script is empty".into()) } else { Ok(acts) }
}

fn order(text: &str) -> Result<Order, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let found = match words.as_slice() {
        ["cut", cord @ ..] => self::cord(cord).map(Order::Cut),
        ["mend", "all"] => Some(Order::MendAll),
        ["mend", cord @ ..] => self::cord(cord).map(Order::Mend),
        ["power-cut", which] => self::which(which).map(Order::PowerCut),
        ["power-on"] => Some(Order::PowerOn),
        ["hang", which] => self::which(which).map(Order::Hang),
        ["panic", which] => self::which(which).map(Order::Panic),
        ["switchover"] => Some(Order::Switchover),
        ["hold", which] => self::which(which).map(Order::Hold),
        ["release", which] => self::which(which).map(Order::Release),
        ["wait", time] => seconds(time).map(Order::Wait),
        ["healthy"] => Some(Order::Healthy),
        _ => None,
    };
    found.ok_or_else(|| format!("\"{}\" is no order; known are: {}", text.trim(), WORDS.replace('\n', " ")))
}

fn which(word: &str) -> Option<Which> {
    match word {
        "a" => Some(Which::A),
        "b" => Some(Which::B),
        "active" => Some(Which::Active),
        "standby" => Some(Which::Standby),
        _ => None,
    }
}

fn cord(words: &[&str]) -> Option<Cord> {
    match words {
        ["null-modem"] => Some(Cord::NullModem),
        ["crossover"] => Some(Cord::Crossover),
        ["witness"] => Some(Cord::Witness),
        ["lan", which] => self::which(which).map(Cord::Lan),
        _ => None,
    }
}

/// `5s` or `5`, up to an hour.
fn seconds(word: &str) -> Option<Duration> {
    let seconds = word.strip_suffix('s').unwrap_or(word).parse().ok()?;
    (seconds <= 3600).then_some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_semicolons_and_comments_make_acts() {
        let acts = parse("cut null-modem, wait 5s # a comment; hang b\n\n; panic active;switchover").unwrap();
        let orders: Vec<_> = acts.iter().map(|act| act.orders.clone()).collect();
        assert_eq!(
            orders,
            [
                vec![Order::Cut(Cord::NullModem), Order::Wait(Duration::from_secs(5))],
                vec![Order::Panic(Which::Active)],
                vec![Order::Switchover],
            ]
        );
        assert_eq!(acts[0].text, "cut null-modem, wait 5s");
    }

    #[test]
    fn every_kind_of_order_is_read() {
        for (text, order) in [
            ("cut lan a", Order::Cut(Cord::Lan(Which::A))),
            ("cut witness", Order::Cut(Cord::Witness)),
            ("mend crossover", Order::Mend(Cord::Crossover)),
            ("mend all", Order::MendAll),
            ("power-cut standby", Order::PowerCut(Which::Standby)),
            ("power-on", Order::PowerOn),
            ("hang b", Order::Hang(Which::B)),
            ("hold a", Order::Hold(Which::A)),
            ("release a", Order::Release(Which::A)),
            ("wait 90", Order::Wait(Duration::from_secs(90))),
            ("healthy", Order::Healthy),
        ] {
            assert_eq!(super::order(text), Ok(order), "{text}");
        }
    }

    #[test]
    fn what_is_no_order_is_named_with_those_that_are() {
        for wrong in
            ["cut", "cut lan", "mend lan c", "wait", "wait -1s", "wait 9999s", "explode", "switchover a", "hang"]
        {
            let said = parse(wrong).unwrap_err();
            assert!(said.starts_with(&format!("\"{wrong}\" is no order")) && said.contains("power-cut BOX"), "{said}");
        }
        assert!(parse(" # nothing\n;").is_err());
        assert!(parse("healthy,").is_err());
    }

    #[test]
    fn the_default_script_is_one() {
        assert_eq!(parse(DEFAULT).unwrap().len(), DEFAULT.lines().count());
    }
}
