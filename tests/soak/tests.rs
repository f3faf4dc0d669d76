//! The parts of the long run that decide: what a step does, what an audit accepts, how totals add up. The run itself takes hours;
//! these run with all other tests.

#![allow(dead_code)] // the run uses the rest

mod arguments;
mod dice;
#[path = "appliance/judge.rs"]
mod judge;
#[path = "appliance/plan.rs"]
mod plan;
mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use twobox::console::status::Role;

use arguments::parse;
use dice::Dice;
use judge::{Evidence, Figures, Judge, Seen, Verdict};
use plan::{KINDS, Plan};
use totals::Totals;

const SEED: u64 = 7;

fn plans(steps: u64) -> impl Iterator<Item = Plan> {
    (0..steps).map(|step| Plan::draw(&mut Dice::of_step(SEED, step)))
}

#[test]
fn a_step_is_decided_by_the_seed_and_its_number() {
    let draw = |seed, step| format!("{:?}", Plan::draw(&mut Dice::of_step(seed, step)));
    let steps = 0..100;
    assert!(steps.clone().all(|step| draw(SEED, step) == draw(SEED, step)));
    // Now and then two are equal by chance.
    assert!(steps.clone().filter(|step| draw(SEED, *step) != draw(SEED + 1, *step)).count() > 90);
    assert!(steps.filter(|step| draw(SEED, *step) != draw(SEED, *step + 1)).count() > 90);
}

#[test]
fn every_fault_hits_each_box_alone_and_beside_others() {
    let (mut alone, mut beside) = (BTreeSet::new(), BTreeSet::new());
    for plan in plans(4000) {
        for fault in &plan.faults {
            let found = if plan.faults.len() == 1 { &mut alone } else { &mut beside };
            found.insert(format!("{:?} {}", fault.kind, fault.hits_active));
        }
    }
    assert_eq!(alone.len(), 2 * KINDS.len());
    assert_eq!(beside.len(), 2 * KINDS.len());
}

#[test]
fn no_box_is_struck_twice_in_a_step() {
    for plan in plans(4000) {
        for side in [0, 1] {
            let struck = plan.faults.iter().filter(|fault| fault.strikes()[side]).count();
            assert!(struck <= 1, "{plan:?}");
        }
        assert!((1..=2).contains(&plan.faults.len()) && plan.lasts <= Duration::from_secs(12), "{plan:?}");
    }
}

#[test]
fn a_name_means_one_fault_and_a_step_without_rest_has_one_more() {
    let mut meanings: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for plan in plans(4000) {
        assert_eq!(plan.names().len(), plan.faults.len() + usize::from(!plan.rested));
        for fault in &plan.faults {
            meanings.entry(fault.name()).or_default().insert(format!("{:?}", fault.kind));
        }
    }
    assert!(meanings.values().all(|kinds| kinds.len() == 1), "{meanings:?}");
}

fn seen(role: Role, term: u64) -> Seen {
    let peer_role = if role == Role::Active { Role::Standby } else { Role::Active };
    Seen {
        role,
        peer_role,
        term,
        has_address: role == Role::Active,
        figures: Figures { memory: 4000, descriptors: 30, processes: 10 },
        new_life: false,
        tree: vec![". 41ed".to_owned(), "./letter 81a4".to_owned()],
    }
}

/// a serves in term 5, and has since before.
fn quiet() -> Evidence {
    Evidence {
        reigns: vec![(0, Duration::ZERO)],
        served_by: Some(0),
        wrong_pages: 0,
        boxes: [seen(Role::Active, 5), seen(Role::Standby, 5)],
    }
}

/// b has taken over.
fn handed_over() -> Evidence {
    Evidence {
        reigns: vec![(0, Duration::ZERO), (1, Duration::from_secs(9))],
        served_by: Some(1),
        wrong_pages: 0,
        boxes: [seen(Role::Standby, 6), seen(Role::Active, 6)],
    }
}

fn after_quiet(evidence: &Evidence) -> Result<Verdict, Vec<String>> {
    let mut judge = Judge::default();
    judge.judge(&quiet()).expect("nothing is wrong with a pair at rest");
    judge.judge(evidence)
}

#[test]
fn a_pair_at_rest_and_a_hand_over_are_right() {
    assert_eq!(after_quiet(&quiet()), Ok(Verdict { owner_changes: 0, terms: 0 }));
    assert_eq!(after_quiet(&handed_over()), Ok(Verdict { owner_changes: 1, terms: 1 }));
}

#[test]
fn whatever_is_wrong_is_said() {
    type Spoil = fn(&mut Evidence);
    let cases: [(&str, Spoil); 16] = [
        ("two owners at once", |e| {
            let at = Duration::from_secs(9);
            e.reigns.extend([(0, at + Duration::from_millis(20)), (1, at + Duration::from_millis(40))]);
            e.boxes.iter_mut().for_each(|seen| seen.term = 20);
        }),
        ("2 changes of the owner in 1 terms", |e| {
            e.reigns = vec![(1, Duration::ZERO), (0, Duration::from_secs(9)), (1, Duration::from_secs(20))];
        }),
        ("1 changes of the owner in 0 terms", |e| {
            e.boxes.iter_mut().for_each(|seen| seen.term = 5);
        }),
        ("b says that it serves, Some(0) answers", |e| e.served_by = Some(0)),
        ("b says that it serves, Some(1) answers, Some((0", |e| e.reigns.truncate(1)),
        ("a is Active and b is Active", |e| e.boxes[0].role = Role::Active),
        ("a is Held and b is Active", |e| e.boxes[0].role = Role::Held),
        ("the service address stands on a", |e| e.boxes[0].has_address = true),
        ("the service address is missing on b", |e| e.boxes[1].has_address = false),
        ("a takes its peer for Claiming", |e| e.boxes[0].peer_role = Role::Claiming),
        ("the term of a went from 5 to 4", |e| e.boxes[0].term = 4),
        ("b serves term 7, which is not its own", |e| e.boxes.iter_mut().for_each(|seen| seen.term = 7)),
        ("3 wrong pages", |e| e.wrong_pages = 3),
        ("a: ./letter 81a4; b: ./letter 0000", |e| e.boxes[1].tree[1] = "./letter 0000".to_owned()),
        ("b: 5025 KiB of memory of PID 1, 4000 when", |e| e.boxes[1].figures.memory = 5025),
        ("a: 47 descriptors of PID 1, 30 when", |e| e.boxes[0].figures.descriptors = 47),
    ];
    for (said, spoil) in cases {
        let mut evidence = handed_over();
        spoil(&mut evidence);
        let wrong = after_quiet(&evidence).expect_err(said).join("\n");
        assert!(wrong.contains(said), "{said:?} is not in {wrong:?}");
    }
}

#[test]
fn growth_counts_in_one_life_and_over_all_of_its_steps() {
    let mut judge = Judge::default();
    let with = |processes, new_life| {
        let mut evidence = quiet();
        evidence.boxes[1].figures.processes = processes;
        evidence.boxes[1].new_life = new_life;
        evidence
    };
    for processes in [8, 12, 16, 18] {
        assert!(judge.judge(&with(processes, false)).is_ok(), "{processes}");
    }
    let wrong = judge.judge(&with(19, false)).expect_err("11 more than at first");
    assert_eq!(wrong, ["b: 19 processes, 8 when this life of it was new"]);
    assert!(judge.judge(&with(19, true)).is_ok(), "another life may begin with more");
    assert!(judge.judge(&with(25, true)).is_err(), "and not with so many");
}

#[test]
fn wrong_pages_are_told_once() {
    let mut judge = Judge::default();
    let evidence = Evidence { wrong_pages: 2, ..quiet() };
    assert!(judge.judge(&evidence).is_err());
    assert!(judge.judge(&evidence).is_ok());
}

#[test]
fn totals_add_up_over_runs_and_stay_with_their_rig() {
    let file = std::env::temp_dir().join(format!("twobox-totals-{}", std::process::id()));
    let mut first = Totals::read(None, "appliance").unwrap();
    first.add(
        &["hang"],
        Duration::from_secs(40),
        &totals::Seen { outage: Duration::from_millis(2300), ..Default::default() },
    );
    first.steps = 1;
    first.write(&file);
    let mut second = Totals::read(Some(&file), "appliance").unwrap();
    assert_eq!(second.steps, 1);
    second.add(
        &["hang"],
        Duration::from_secs(80),
        &totals::Seen { outage: Duration::from_millis(900), ..Default::default() },
    );
    second.add(&["hang", "no rest before"], Duration::from_secs(60), &totals::Seen::default());
    let text = second.to_string();
    assert!(text.contains("3 steps in 3 minutes"), "{text}");
    assert!(text.contains("| hang | 3 | 2 | 2300 | 2300 |\n| no rest before | 1 | 0 | - | - |"), "{text}");
    let refused = Totals::read(Some(&file), "pair").err();
    std::fs::remove_file(&file).unwrap();
    assert!(refused.is_some_and(|why| why.contains("another rig")));
}

#[test]
fn the_command_line_is_read_or_refused() {
    let read = |line: &str| parse(line.split_whitespace().map(str::to_owned));
    let plain = read("").unwrap();
    assert!(!plain.appliance && plain.minutes == 1 && plain.from.is_none());
    let long = read("--appliance --minutes 40 --seed 3 --totals /tmp/t --from 9 --steps 1").unwrap();
    assert!(long.appliance && (long.minutes, long.seed, long.from, long.steps) == (40, 3, Some(9), 1));
    for wrong in ["--appliance --profile fast", "--print", "--minutes", "--minutes x", "soak"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
