//! What is told at the end: acts by kind, takeovers, their times, what was skipped.
//!
//! Must not judge anything.

use crate::say;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a first answer was waited for after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// A WATCHING standby was there, and no other fault.
    Death,
    /// As `Death`, while something else was wrong (disk, descriptors, no standby yet ...).
    DeathInTrouble,
    Hang,
    HangInTrouble,
    /// Both twins were killed: the keeper starts the pair again.
    BothKilled,
    BothHung,
    NewRun,
}

const NAMES: [(After, &str); 7] = [
    (After::Death, "active killed"),
    (After::DeathInTrouble, "active killed, other faults"),
    (After::Hang, "active stopped"),
    (After::HangInTrouble, "active stopped, other faults"),
    (After::BothKilled, "both killed"),
    (After::BothHung, "both stopped, or one and one"),
    (After::NewRun, "all three killed, new run"),
];

/// The counts of a run.
pub struct Report {
    began: Instant,
    acts: BTreeMap<&'static str, u64>,
    times: BTreeMap<After, Vec<Duration>>,
    skipped: BTreeSet<String>,
    notes: BTreeMap<String, u64>,
    pub takeovers: u64,
    pub audits: u64,
    pub chatter_lines: u64,
    pub chatter_lost: u64,
}

impl Report {
    pub fn new() -> Report {
        Report {
            began: Instant::now(),
            acts: BTreeMap::new(),
            times: BTreeMap::new(),
            skipped: BTreeSet::new(),
            notes: BTreeMap::new(),
            takeovers: 0,
            audits: 0,
            chatter_lines: 0,
            chatter_lost: 0,
        }
    }

    pub fn count(&mut self, act: &'static str) {
        *self.acts.entry(act).or_default() += 1;
    }

    /// The time until somebody answered again.
    pub fn time(&mut self, after: After, took: Duration) {
        self.times.entry(after).or_default().push(took);
    }

    /// Something that can't be done on this machine, and why.
    pub fn skip(&mut self, what: &str) {
        self.skipped.insert(what.to_string());
    }

    /// Something worth a count, such as an exit status that was not 0.
    pub fn note(&mut self, what: String) {
        *self.notes.entry(what).or_default() += 1;
    }

    /// The summary.
    pub fn print(&self) {
        let seconds = self.began.elapsed().as_secs();
        let acts: u64 = self.acts.values().sum();
        say(&format!(
            "{acts} acts in {seconds} s, {} audits, {} takeovers; {} chatty lines read, {} lost \
             to a full disk",
            self.audits, self.takeovers, self.chatter_lines, self.chatter_lost
        ));
        self.acts.iter().for_each(|(name, count)| say(&format!("{count:>6}  {name}")));
        if !self.notes.is_empty() {
            say("exit statuses other than 0:");
            self.notes.iter().for_each(|(what, count)| say(&format!("{count:>6}  {what}")));
        }
        say("ms until GET /v1/status was answered by another active:");
        say("     count      p50      p90      p99      max");
        for (after, name) in NAMES {
            let Some(times) = self.times.get(&after) else { continue };
            let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
            ms.sort_by(f64::total_cmp);
            let [p50, p90, p99, max] = [50, 90, 99, 100].map(|part| percentile(&ms, part));
            let count = ms.len();
            say(&format!("{count:>10} {p50:>8.1} {p90:>8.1} {p99:>8.1} {max:>8.1}  {name}"));
        }
        self.skipped.iter().for_each(|what| say(&format!("skipped: {what}")));
    }
}

/// The value that so many of a hundred do not exceed (nearest rank); 0 for none.
fn percentile(sorted: &[f64], part: usize) -> f64 {
    let rank = (sorted.len() * part).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}
