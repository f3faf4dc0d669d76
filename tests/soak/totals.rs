//! What all runs together have seen.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use twobox::time::Duration;

/// What was seen in one step.
#[derive(Default)]
pub struct Seen {
    pub outage: Duration,
    pub owner_changes: u64,
    pub terms: u64,
    pub released: u64,
    /// How daemons or boxes ended.
    pub exits: Vec<String>,
    pub memory: u64,
    pub descriptors: u64,
    pub diverged: u64,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Totals {
    /// What was run: outages of one rig say nothing of the other.
    #[serde(default = "first_rig")]
    rig: String,
    /// The next step.
    pub steps: u64,
    made: u64,
    seconds: f64,
    faults: BTreeMap<String, Fault>,
    owner_changes: u64,
    terms: u64,
    released: u64,
    exits: BTreeMap<String, u64>,
    most_memory: u64,
    first_memory: u64,
    last_memory: u64,
    most_descriptors: u64,
    most_diverged: u64,
}

/// Of totals that do not say.
fn first_rig() -> String {
    "pair".to_owned()
}

/// Outages in milliseconds, of steps with this fault alone.
#[derive(Default, Serialize, Deserialize)]
struct Fault {
    count: u64,
    alone: Vec<u64>,
}

impl Totals {
    /// Of former runs with this rig; empty if there was none.
    pub fn read(file: Option<&Path>, rig: &str) -> Result<Self, String> {
        let text = file.and_then(|file| fs::read_to_string(file).ok());
        let mut totals = match text {
            Some(text) => serde_json::from_str(&text).map_err(|error| format!("totals: {error}"))?,
            None => Self::default(),
        };
        if totals.made > 0 && totals.rig != rig {
            return Err(format!("these are the totals of another rig ({:?} and not {rig:?})", totals.rig));
        }
        rig.clone_into(&mut totals.rig);
        Ok(totals)
    }

    pub fn write(&self, file: &Path) {
        fs::write(file, serde_json::to_string(self).unwrap()).unwrap();
    }

    pub fn add(&mut self, faults: &[&str], took: Duration, seen: &Seen) {
        self.made += 1;
        self.seconds += took.as_secs_f64();
        for name in faults {
            let fault = self.faults.entry((*name).to_owned()).or_default();
            fault.count += 1;
            if faults.len() == 1 {
                fault.alone.push(u64::try_from(seen.outage.as_millis()).unwrap());
            }
        }
        self.owner_changes += seen.owner_changes;
        self.terms += seen.terms;
        self.released += seen.released;
        for exit in &seen.exits {
            *self.exits.entry(exit.clone()).or_default() += 1;
        }
        if self.first_memory == 0 {
            self.first_memory = seen.memory;
        }
        self.last_memory = seen.memory;
        self.most_memory = self.most_memory.max(seen.memory);
        self.most_descriptors = self.most_descriptors.max(seen.descriptors);
        self.most_diverged = self.most_diverged.max(seen.diverged);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{} steps in {:.0} minutes, no audit failed", self.made, self.seconds / 60.0)?;
        writeln!(f, "{} changes of the owner on the wire, {} terms", self.owner_changes, self.terms)?;
        writeln!(f, "{} releases of a held box; ended: {:?}", self.released, self.exits)?;
        let (first, last, most) = (self.first_memory, self.last_memory, self.most_memory);
        writeln!(f, "memory of a daemon {first} KiB at first, {last} KiB at last, {most} KiB at most")?;
        writeln!(f, "at most {} descriptors and {} diverged sets", self.most_descriptors, self.most_diverged)?;
        writeln!(f, "\n| fault | times | alone | median outage, ms | worst outage, ms |")?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: |")?;
        for (name, fault) in &self.faults {
            let mut outages = fault.alone.clone();
            outages.sort_unstable();
            let shown = |outage: Option<&u64>| outage.map_or_else(|| "-".to_owned(), ToString::to_string);
            let (median, worst) = (shown(outages.get(outages.len() / 2)), shown(outages.last()));
            writeln!(f, "| {name} | {} | {} | {median} | {worst} |", fault.count, outages.len())?;
        }
        Ok(())
    }
}
