//! What must be true after every step, judged from what was seen outside and from what both boxes say.

use std::time::Duration;

use twobox::console::status::Role;

/// Most descriptors of PID 1, most memory (KiB) and most processes of a box. Above what was ever seen, far below a leak of hours.
const MOST: Figures = Figures { memory: 6 * 1024, descriptors: 96, processes: 24 };
/// By how much they may grow in one life of a box: an active one has a service to look after.
const GROWTH: Figures = Figures { memory: 1024, descriptors: 16, processes: 10 };
/// Half a lease of the rig's site. A box that serves for less and is followed by the one before it was never given the right: the
/// other one sent beside it.
const SHORTEST_REIGN: Duration = Duration::from_secs(1);

/// What a box takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub memory: u64,
    pub descriptors: u64,
    pub processes: u64,
}

impl Figures {
    fn rows(self) -> [(&'static str, u64); 3] {
        [
            ("KiB of memory of PID 1", self.memory),
            ("descriptors of PID 1", self.descriptors),
            ("processes", self.processes),
        ]
    }
}

/// What one box says, and what is found inside it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub role: Role,
    pub peer_role: Role,
    pub term: u64,
    /// The service address stands on one of its interfaces.
    pub has_address: bool,
    pub figures: Figures,
    /// It was switched on or reset since the last look.
    pub new_life: bool,
    /// Every name of its tree, and what belongs to it.
    pub tree: Vec<String>,
}

/// What there is to judge after a step.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Which box sent as holder of the service address, in turn, and when it began: from the owner before the step on.
    pub reigns: Vec<(usize, Duration)>,
    /// The box that answers the client.
    pub served_by: Option<usize>,
    /// Answers that were not the service's page.
    pub wrong_pages: u64,
    pub boxes: [Seen; 2],
}

/// What the step has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub owner_changes: u64,
    pub terms: u64,
}

/// What is remembered from one step to the next.
#[derive(Default)]
pub struct Judge {
    terms: [u64; 2],
    wrong_pages: u64,
    /// What each box took when it was first looked at in its present life.
    first: [Option<Figures>; 2],
}

impl Judge {
    /// Judges; names all that is wrong.
    pub fn judge(&mut self, evidence: &Evidence) -> Result<Verdict, Vec<String>> {
        let mut wrong = Vec::new();
        let verdict = self.owners(evidence, &mut wrong);
        for index in [0, 1] {
            self.resources(index, &evidence.boxes[index], &mut wrong);
        }
        if evidence.wrong_pages > self.wrong_pages {
            wrong.push(format!("{} wrong pages", evidence.wrong_pages - self.wrong_pages));
        }
        self.wrong_pages = evidence.wrong_pages;
        let [a, b] = &evidence.boxes;
        let only_a = a.tree.iter().filter(|line| !b.tree.contains(line)).map(|line| format!("a: {line}"));
        let only_b = b.tree.iter().filter(|line| !a.tree.contains(line)).map(|line| format!("b: {line}"));
        let differ: Vec<String> = only_a.chain(only_b).take(10).collect();
        if !differ.is_empty() {
            wrong.push(format!("the trees differ: {}", differ.join("; ")));
        }
        if wrong.is_empty() { Ok(verdict) } else { Err(wrong) }
    }

    /// One owner at a time, and everybody means the same one.
    fn owners(&mut self, evidence: &Evidence, wrong: &mut Vec<String>) -> Verdict {
        let mut reigns = evidence.reigns.clone();
        reigns.dedup_by_key(|(port, _)| *port);
        for around in reigns.windows(3) {
            let took = around[2].1.saturating_sub(around[1].1);
            if took < SHORTEST_REIGN {
                wrong.push(format!(
                    "two owners at once: {} sends {took:?} after {}",
                    name(around[2].0),
                    name(around[1].0)
                ));
            }
        }
        let roles = [evidence.boxes[0].role, evidence.boxes[1].role];
        let owner = roles.iter().position(|role| *role == Role::Active);
        let spare = roles.iter().position(|role| *role == Role::Standby);
        let (Some(owner), Some(_)) = (owner, spare) else {
            wrong.push(format!("a is {:?} and b is {:?}", roles[0], roles[1]));
            return Verdict::default();
        };
        if evidence.served_by != Some(owner) || reigns.last().map(|(port, _)| *port) != Some(owner) {
            let (served, sends) = (evidence.served_by, reigns.last());
            wrong.push(format!("{} says that it serves, {served:?} answers, {sends:?} holds the address", name(owner)));
        }
        for (index, seen) in evidence.boxes.iter().enumerate() {
            if seen.has_address != (index == owner) {
                let stands = if seen.has_address { "stands" } else { "is missing" };
                wrong.push(format!("the service address {stands} on {}", name(index)));
            }
            if seen.peer_role != roles[1 - index] {
                wrong.push(format!("{} takes its peer for {:?}", name(index), seen.peer_role));
            }
            if seen.term < self.terms[index] {
                wrong.push(format!("the term of {} went from {} to {}", name(index), self.terms[index], seen.term));
            }
        }
        // a serves odd terms, b even ones.
        let term = evidence.boxes[owner].term;
        if term % 2 == owner as u64 {
            wrong.push(format!("{} serves term {term}, which is not its own", name(owner)));
        }
        let before = self.terms.iter().copied().max().unwrap_or_default();
        let verdict =
            Verdict { owner_changes: reigns.len().saturating_sub(1) as u64, terms: term.saturating_sub(before) };
        if verdict.owner_changes > verdict.terms {
            wrong
                .push(format!("{} changes of the owner in {} terms: {reigns:?}", verdict.owner_changes, verdict.terms));
        }
        self.terms = [evidence.boxes[0].term, evidence.boxes[1].term];
        verdict
    }

    fn resources(&mut self, index: usize, seen: &Seen, wrong: &mut Vec<String>) {
        if seen.new_life {
            self.first[index] = None;
        }
        let first = *self.first[index].get_or_insert(seen.figures);
        let then = first.rows();
        let bounds = MOST.rows().into_iter().zip(GROWTH.rows());
        for (((what, now), (_, then)), ((_, most), (_, growth))) in
            seen.figures.rows().into_iter().zip(then).zip(bounds)
        {
            if now > most || now > then + growth {
                wrong.push(format!("{}: {now} {what}, {then} when this life of it was new", name(index)));
            }
        }
    }
}

pub fn name(index: usize) -> &'static str {
    ["a", "b"][index]
}
