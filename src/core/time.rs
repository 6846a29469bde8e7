//! Time as the core sees it: a number that is handed in, and the one table of deadlines.
//!
//! Must not read a clock. `Ms` counts from the boot of the machine (CLOCK_MONOTONIC), so that a
//! deadline on record means the same to the process that takes over.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;

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

/// Perhaps a moment, in the room of one: the end of all time, which never comes, stands for none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Moment(u64);

impl Moment {
    /// None.
    pub const NONE: Moment = Moment(u64::MAX);

    /// There is one.
    pub fn is_some(self) -> bool {
        self != Moment::NONE
    }

    /// There is none.
    pub fn is_none(self) -> bool {
        self == Moment::NONE
    }

    /// The moment, if there is one.
    pub fn get(self) -> Option<Ms> {
        self.is_some().then_some(Ms(self.0))
    }
}

impl Default for Moment {
    fn default() -> Moment {
        Moment::NONE
    }
}

impl From<Option<Ms>> for Moment {
    fn from(at: Option<Ms>) -> Moment {
        at.map_or(Moment::NONE, |at| Moment(at.0))
    }
}

impl From<Ms> for Moment {
    fn from(at: Ms) -> Moment {
        Moment(at.0)
    }
}

impl From<Moment> for Option<Ms> {
    fn from(at: Moment) -> Option<Ms> {
        at.get()
    }
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(to)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        Option::deserialize(deserializer).map(Moment::from)
    }
}

/// What a deadline is of.
pub trait Key: Ord + Copy {
    /// Its place in the table: each key has its own, and none is far behind the others.
    fn place(self) -> usize;
}

/// Deadlines by key. Setting replaces, so a stale deadline can't exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timers<K: Key> {
    /// By place, up to the last that is armed. A takeover asks for thousands, most of them unchanged:
    /// in a tree that was a fifth of its instructions.
    by_place: Vec<Moment>,
    by_time: BTreeSet<(Ms, K)>,
}

impl<K: Key> Default for Timers<K> {
    fn default() -> Self {
        Timers { by_place: Vec::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Key> Timers<K> {
    /// Arms `key` for `at`, or disarms it with `None`.
    pub fn set(&mut self, key: K, at: Option<Ms>) {
        let (at, old) = (Moment::from(at).get(), self.get(key));
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.by_time.remove(&(old, key));
        }
        self.put(key.place(), at.into());
        if let Some(at) = at {
            self.by_time.insert((at, key));
        }
    }

    /// The same deadlines make the same table, whatever was armed before.
    fn put(&mut self, place: usize, at: Moment) {
        if place >= self.by_place.len() {
            self.by_place.resize(place + 1, Moment::NONE);
        }
        if let Some(slot) = self.by_place.get_mut(place) {
            *slot = at;
        }
        while let Some(&Moment::NONE) = self.by_place.last() {
            self.by_place.pop();
        }
        // Starts of thousands at once are over: what they needed is given back.
        if self.by_place.capacity() > 64 && self.by_place.len() < self.by_place.capacity() / 8 {
            self.by_place.shrink_to(2 * self.by_place.len());
        }
    }

    /// When `key` is due, if it is armed.
    pub fn get(&self, key: K) -> Option<Ms> {
        self.by_place.get(key.place())?.get()
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
    pub fn armed(&self) -> BTreeSet<K> {
        self.by_time.iter().map(|(_, key)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Key for u8 {
        fn place(self) -> usize {
            usize::from(self)
        }
    }

    #[test]
    fn a_moment_is_written_as_what_it_stands_for() {
        let written = [None, Some(Ms(0)), Some(Ms(7))].map(|at| {
            let text = serde_json::to_string(&Moment::from(at)).unwrap();
            assert_eq!(serde_json::from_str::<Moment>(&text).unwrap().get(), at);
            text
        });
        assert_eq!(written, ["null", "0", "7"]);
    }

    #[test]
    fn what_was_armed_before_leaves_no_trace() {
        let mut timers = Timers::default();
        timers.set(3, Some(Ms(10)));
        timers.set(9, Some(Ms(10)));
        timers.set(9, None);
        let mut other = Timers::default();
        other.set(3, Some(Ms(10)));
        assert_eq!(timers, other);
        timers.set(3, None);
        assert_eq!(timers, Timers::default());
    }

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
        timers.set(b'b', Some(Ms(1)));
        timers.set(b'a', Some(Ms(2)));
        assert_eq!(timers.pop_due(Ms(5)), Some(b'b'));
        assert_eq!(timers.pop_due(Ms(5)), Some(b'a'));
        assert_eq!(timers.pop_due(Ms(5)), None);
    }
}
