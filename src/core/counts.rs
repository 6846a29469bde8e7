//! Counts on record that only metrics show: how a server's processes ended, how long takeovers took.
//!
//! Must decide nothing, and nothing may be decided by them.

use super::rare::Blank;
use super::record::Exit;
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};

/// The ends of a server's processes since the life began. None of the numbers ever gets smaller
/// within a life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExitCounts {
    /// It returned 0.
    pub success: u64,
    /// It returned another number.
    pub code: u64,
    /// A signal ended it.
    pub signal: u64,
    /// Nobody who knows could be asked.
    pub unknown: u64,
    /// How the last one ended may still become known: until the next end it is in none of these.
    pub is_open: bool,
}

impl Blank for ExitCounts {
    const BLANK: &'static ExitCounts =
        &ExitCounts { success: 0, code: 0, signal: 0, unknown: 0, is_open: false };
}

impl ExitCounts {
    /// One more has ended.
    pub fn note(&mut self, exit: Exit) {
        if std::mem::take(&mut self.is_open) {
            self.unknown = self.unknown.saturating_add(1);
        }
        self.settle(exit);
    }

    /// How the last one ended is known now.
    pub fn learn(&mut self, exit: Exit) {
        if std::mem::take(&mut self.is_open) {
            self.settle(exit);
        }
    }

    fn settle(&mut self, exit: Exit) {
        let count = match exit {
            Exit::Code(0) => &mut self.success,
            Exit::Code(_) => &mut self.code,
            Exit::Signal(_) => &mut self.signal,
            Exit::Unknown => return self.is_open = true,
        };
        *count = count.saturating_add(1);
    }
}

/// Equal ones have equal hashes, and so have all others: a search of states takes those that differ
/// in nothing but counts as one.
impl Hash for ExitCounts {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The upper bounds of all buckets but the last, which has none, in milliseconds.
pub const DURATION_BOUNDS_MS: [u64; 13] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// How long takeovers took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Durations {
    /// How many are in each bucket alone; what is missing at the end is 0.
    pub buckets: Vec<u64>,
    pub sum_ms: u64,
}

impl Durations {
    pub fn note(&mut self, took_ms: u64) {
        let is_within = |bound: &u64| took_ms <= *bound;
        let at = DURATION_BOUNDS_MS.iter().position(is_within).unwrap_or(DURATION_BOUNDS_MS.len());
        if self.buckets.len() <= DURATION_BOUNDS_MS.len() {
            self.buckets.resize(DURATION_BOUNDS_MS.len() + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(at) {
            *count = count.saturating_add(1);
        }
        self.sum_ms = self.sum_ms.saturating_add(took_ms);
    }
}

/// See [`ExitCounts`].
impl Hash for Durations {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_counted_once_also_when_it_becomes_known_late_or_never() {
        let mut counts = ExitCounts::default();
        counts.note(Exit::Code(0));
        counts.note(Exit::Code(3));
        counts.note(Exit::Unknown);
        assert_eq!((counts.success, counts.code, counts.unknown), (1, 1, 0));
        counts.learn(Exit::Signal(9));
        counts.learn(Exit::Signal(9));
        assert_eq!((counts.signal, counts.unknown), (1, 0));
        counts.note(Exit::Unknown);
        counts.note(Exit::Signal(15));
        let all = (counts.success, counts.code, counts.signal, counts.unknown, counts.is_open);
        assert_eq!(all, (1, 1, 2, 1, false));
    }

    #[test]
    fn a_takeover_is_in_the_first_bucket_that_is_large_enough() {
        let mut durations = Durations::default();
        for took_ms in [0, 1, 2, 3, 10_000, 10_001] {
            durations.note(took_ms);
        }
        assert_eq!(durations.buckets, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(durations.sum_ms, 20_007);
    }

    #[test]
    fn a_record_without_counts_has_none() {
        let counts: ExitCounts = serde_json::from_str("{}").unwrap();
        assert_eq!(counts, ExitCounts::default());
    }
}
