//! What the command line asks for.

use std::path::PathBuf;

/// What a plain `cargo test` does of it.
const FEW_MINUTES: u64 = 1;

#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Two boxes in QEMU, not two daemons in namespaces.
    pub appliance: bool,
    pub minutes: u64,
    pub seed: u64,
    pub from: Option<u64>,
    pub steps: u64,
    pub totals: Option<PathBuf>,
    pub profile: String,
    /// Tells what happens on the boxes as it happens.
    pub print: bool,
}

/// Reads the words behind the program's name.
pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments {
        appliance: false,
        minutes: FEW_MINUTES,
        seed: 1,
        from: None,
        steps: u64::MAX,
        totals: None,
        profile: "default".to_owned(),
        print: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match word.as_str() {
            "--appliance" => parsed.appliance = true,
            "--print" => parsed.print = true,
            "--minutes" => parsed.minutes = number(value()?)?,
            "--seed" => parsed.seed = number(value()?)?,
            "--from" => parsed.from = Some(number(value()?)?),
            "--steps" => parsed.steps = number(value()?)?,
            "--totals" => parsed.totals = Some(value()?.into()),
            "--profile" => parsed.profile = value()?,
            _ => return Err(format!("what is {word}?")),
        }
    }
    if parsed.appliance && parsed.profile != "default" {
        return Err("--appliance has the timing of its own site file, and no --profile".to_owned());
    }
    if parsed.print && !parsed.appliance {
        return Err("--print is for --appliance".to_owned());
    }
    Ok(parsed)
}
