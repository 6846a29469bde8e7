//! Time as the core sees it: a number that is handed in, and the one table of deadlines.
//!
//! Must not read a clock. `Ms` counts from the boot of the machine (CLOCK_MONOTONIC), so that a
//! deadline on record means the same to the process that takes over.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds since the machine was booted, without the time it was suspended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ms(pub u64);

impl Ms {
    /// The moment `ms` milliseconds later.
    pub fn after(self, ms: u64) -> Ms {
        Ms(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 when `earlier` is not earlier.
    pub fn since(self, earlier: Ms) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Deadlines by key. Setting replaces, so a stale deadline can't exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timers<K: Ord + Copy> {
    by_key: BTreeMap<K, Ms>,
    by_time: BTreeSet<(Ms, K)>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Timers { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Arms `key` for `at`, or disarms it with `None`.
    pub fn set(&mut self, key: K, at: Option<Ms>) {
        if self.get(key) == at {
            return;
        }
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_key.insert(key, at);
            self.by_time.insert((at, key));
        }
    }

    /// When `key` is due, if it is armed.
    pub fn get(&self, key: K) -> Option<Ms> {
        self.by_key.get(&key).copied()
    }

    /// The next deadline of all.
    pub fn next(&self) -> Option<Ms> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out one key that is due at `now`, the earliest first.
    pub fn pop_due(&mut self, now: Ms) -> Option<K> {
        let (at, key) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }

    /// The keys that are armed, in their order (for the search, which forgets when they fire).
    pub fn armed(&self) -> impl Iterator<Item = K> + '_ {
        self.by_key.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_timer_again_replaces_the_old_deadline() {
        let mut timers = Timers::default();
        timers.set(1, Some(Ms(10)));
        timers.set(1, Some(Ms(20)));
        assert_eq!(timers.pop_due(Ms(15)), None);
        assert_eq!(timers.pop_due(Ms(20)), Some(1));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn due_timers_come_out_in_the_order_of_their_deadlines() {
        let mut timers = Timers::default();
        timers.set('b', Some(Ms(1)));
        timers.set('a', Some(Ms(2)));
        assert_eq!(timers.pop_due(Ms(5)), Some('b'));
        assert_eq!(timers.pop_due(Ms(5)), Some('a'));
        assert_eq!(timers.pop_due(Ms(5)), None);
    }
}
