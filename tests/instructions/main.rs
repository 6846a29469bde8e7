//! What the hot paths cost in instructions, held against what is written down in `figures.toml`.
//!
//! Each path runs once under valgrind's callgrind, with 100 and with 1,000 servers; what is counted is the
//! real code of core, journal, link, configuration and status (`paths.rs`), without processes. Must not look
//! at a clock: instructions are the same on a busy machine.
//!
//! A path that costs more than its figure and its tolerance is refused, and so is one that costs less by as
//! much: then the figure is renewed, in `figures.toml` and in docs/PERFORMANCE.md, by
//! `NM_RENEW=1 cargo test --test instructions`. The figures are of the profile that `cargo test`
//! builds (`[profile.test]`, with overflow checks), of x86_64, and of one compiler, C library and kind of processor,
//! which the file names; with others the tolerance is wider. The profiles stay in the test's directory below `target`
//! (a message says where) for `callgrind_annotate`.
//!
//! Without valgrind the comparison is skipped; the paths are run all the same.

#![cfg(target_arch = "x86_64")]

mod callgrind;
mod figures;
mod paths;
mod world;

use callgrind::Counted;
use figures::{Figures, judge};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

const FEW: usize = 100;
const MANY: usize = 1_000;

/// What is not for all servers, and the instructions that each server more may cost. Depths of tables and digits
/// of numbers are some; a look at all servers is more than ten for each.
const FOR_ONE: [(&str, f64); 4] = [
    ("heartbeat", 2.0),
    ("idle turn", 0.0),
    ("restart", 10.0),
    // The keeper's report is looked for among all servers.
    ("restart of an adopted server", 50.0),
];

/// What is for all servers, and how much more it may cost for each of a thousand than for each of a hundred.
const FOR_ALL: [(&str, f64); 5] = [
    ("apply of nothing new", 1.02),
    ("standby", 1.02),
    // The queue of those that wait for a place is copied at each event.
    ("start", 1.15),
    ("status", 1.02),
    ("takeover", 1.02),
];

type Counts = BTreeMap<String, [Counted; 2]>;

/// Instructions of each path, with few servers and with many; `None`: there is no valgrind.
fn counts() -> Option<&'static Counts> {
    static COUNTS: OnceLock<Option<Counts>> = OnceLock::new();
    let count = || {
        if !callgrind::is_there() {
            return None;
        }
        let few = std::thread::spawn(|| callgrind::count(FEW));
        let many = callgrind::count(MANY);
        let few = few.join().expect("the paths with few servers");
        let both = few.into_iter().zip(many);
        Some(both.map(|((name, few), (_, many))| (name, [few, many])).collect())
    };
    COUNTS.get_or_init(count).as_ref()
}

/// Also what runs under valgrind.
#[test]
fn the_paths_do_what_they_are_called() {
    let servers = std::env::var(callgrind::SERVERS).ok().and_then(|text| text.parse().ok());
    paths::walk_all(servers.unwrap_or(FEW));
}

#[test]
fn every_path_costs_the_instructions_that_are_written_down() {
    let Some(counts) = counts() else { return println!("skipped: valgrind is not installed") };
    if std::env::var_os("NM_RENEW").is_some() {
        figures::renew(counts);
    }
    let figures = Figures::read();
    if figures.made_with != figures::made_with() {
        let (then, now) = (&figures.made_with, figures::made_with());
        println!("the figures are of {then}; this is {now}: more is allowed");
    }
    let wrong = figures.differing(counts);
    assert!(wrong.is_empty(), "the paths have changed:\n{}", wrong.join("\n"));
}

#[test]
fn what_is_for_one_server_costs_the_same_beside_a_thousand() {
    let Some(counts) = counts() else { return println!("skipped: valgrind is not installed") };
    let mut wrong = Vec::new();
    for (name, most) in FOR_ONE {
        let [few, many] = &counts[name];
        let more = (many.instructions as f64 - few.instructions as f64) / (MANY - FEW) as f64;
        if more > most {
            let look = many.annotate();
            wrong.push(format!("{name}: {more:.1} for each server more, {most} allowed; {look}"));
        }
    }
    for (name, most) in FOR_ALL {
        let [few, many] = &counts[name];
        let each = |counted: &Counted, servers| counted.instructions as f64 / servers as f64;
        let ratio = each(many, MANY) / each(few, FEW);
        if ratio > most {
            let look = many.annotate();
            wrong
                .push(format!("{name}: {ratio:.3} times as much a server, {most} allowed; {look}"));
        }
    }
    let named = FOR_ONE.len() + FOR_ALL.len();
    assert_eq!(counts.len(), named, "a path is missing here: {:?}", counts.keys());
    assert!(wrong.is_empty(), "with {MANY} servers instead of {FEW}:\n{}", wrong.join("\n"));
}

#[test]
fn the_manual_has_the_figures_that_are_written_down() {
    if std::env::var_os("NM_RENEW").is_none() {
        let text =
            "docs/PERFORMANCE.md: NM_RENEW=1 cargo test --test instructions renews its table";
        assert!(figures::is_in_manual(&Figures::read()), "{text}");
    }
}

#[test]
fn more_instructions_are_refused_and_so_are_fewer() {
    let counted = |instructions| Counted { instructions, profile: PathBuf::from("here.profile") };
    assert_eq!(judge(1_000, &counted(1_030), 3.0), None);
    assert_eq!(judge(1_000, &counted(970), 3.0), None);
    let more = judge(1_000, &counted(1_031), 3.0).unwrap_or_default();
    assert!(more.contains("+3.1 %") && more.contains("callgrind_annotate"), "{more}");
    assert!(more.contains("here.profile"), "{more}");
    let fewer = judge(1_000, &counted(969), 3.0).unwrap_or_default();
    assert!(fewer.contains("-3.1 %") && fewer.contains("NM_RENEW=1"), "{fewer}");
}
