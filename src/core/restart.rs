//! The restart policy: what follows the end of a server, and when.
//!
//! Pure functions of the policy and the record; must not know about processes or the pair.

use super::record::Exit;
use super::time::Ms;
use serde::{Deserialize, Serialize};

/// When a server that ended by itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    Always,
    OnFailure,
    Never,
}

/// What follows when the tries of a window are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Go on, `delay_max_ms` apart.
    Slow,
    /// Give up: FAILED.
    Fail,
}

/// The `restart` table of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    pub when: When,
    /// Restarts allowed within the window.
    pub tries: u32,
    pub window_ms: u64,
    /// Before the first restart; doubles with each failure in a row.
    pub delay_ms: u64,
    pub delay_max_ms: u64,
    /// Up for so long, the failures in a row are forgotten.
    pub reset_after_ms: u64,
    pub then: Then,
    /// The delay grows by up to so many percent of itself, so that servers that failed together
    /// don't come back together.
    pub jitter_percent: u32,
    /// Exit codes that are no failure.
    pub success_codes: Vec<i32>,
    /// Exit codes after which a restart is of no use.
    pub no_restart_codes: Vec<i32>,
}

/// What the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Start again at that moment.
    At(Ms),
    /// The tries are used up.
    GiveUp,
}

impl Policy {
    /// Nothing is started again.
    pub fn never() -> Policy {
        Policy {
            when: When::Never,
            tries: 0,
            window_ms: 1,
            delay_ms: 0,
            delay_max_ms: 0,
            reset_after_ms: 0,
            then: Then::Fail,
            jitter_percent: 0,
            success_codes: vec![0],
            no_restart_codes: Vec::new(),
        }
    }

    /// What follows an end depends on how it ended.
    pub fn depends_on_status(&self) -> bool {
        self.when != When::Always || !self.no_restart_codes.is_empty()
    }

    /// It ended, and well.
    pub fn is_success(&self, exit: Exit) -> bool {
        matches!(exit, Exit::Code(code) if self.success_codes.contains(&code))
    }

    /// A restart would be of no use after this end.
    pub fn forbids_restart(&self, exit: Exit) -> bool {
        matches!(exit, Exit::Code(code) if self.no_restart_codes.contains(&code))
    }

    /// Forgets the failures that are older than the window, and counts one more at `now`.
    /// Keeps at most `tries` + 1 of them, enough to know that the tries are used up.
    pub fn count(&self, failures: &mut Vec<Ms>, now: Ms) {
        failures.retain(|at| now.since(*at) < self.window_ms.max(1));
        failures.push(now);
        let keep = self.tries as usize + 1;
        if failures.len() > keep {
            failures.drain(..failures.len() - keep);
        }
    }

    /// When the next try is due, after `failures_in_row` failures of which `in_window` are in
    /// the present window.
    /// `seed`: another one for each start, for the jitter.
    pub fn next_try(&self, now: Ms, in_window: usize, failures_in_row: u32, seed: u64) -> Verdict {
        if in_window > self.tries as usize {
            return match self.then {
                Then::Slow => Verdict::At(now.after(self.jittered(self.delay_max_ms, seed))),
                Then::Fail => Verdict::GiveUp,
            };
        }
        let doublings = failures_in_row.saturating_sub(1).min(32);
        let delay_ms = self.delay_ms.saturating_mul(1u64 << doublings);
        Verdict::At(now.after(self.jittered(delay_ms.min(self.delay_max_ms), seed)))
    }

    /// No chance is needed: a hash of the seed spreads as well, and a replay gives the same.
    fn jittered(&self, delay_ms: u64, seed: u64) -> u64 {
        let most_ms = delay_ms.saturating_mul(u64::from(self.jitter_percent)) / 100;
        // The mixer of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
        let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        delay_ms.saturating_add(mixed % most_ms.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            when: When::OnFailure,
            tries: 3,
            window_ms: 1_000,
            delay_ms: 10,
            delay_max_ms: 50,
            reset_after_ms: 500,
            then: Then::Fail,
            ..Policy::never()
        }
    }

    #[test]
    fn the_delay_doubles_with_each_failure_in_a_row_up_to_its_cap() {
        let delays: Vec<_> = (1..=4).map(|n| policy().next_try(Ms(0), 1, n, 0)).collect();
        assert_eq!(delays, [10, 20, 40, 50].map(|ms| Verdict::At(Ms(ms))));
    }

    #[test]
    fn a_server_that_used_up_its_tries_is_given_up() {
        assert_eq!(policy().next_try(Ms(0), 4, 4, 0), Verdict::GiveUp);
        assert_eq!(policy().next_try(Ms(0), 3, 3, 0), Verdict::At(Ms(40)));
    }

    #[test]
    fn then_slow_goes_on_at_the_greatest_delay_instead_of_giving_up() {
        let slow = Policy { then: Then::Slow, ..policy() };
        assert_eq!(slow.next_try(Ms(7), 4, 1, 0), Verdict::At(Ms(57)));
    }

    #[test]
    fn failures_outside_the_window_do_not_count() {
        let mut failures = vec![Ms(0), Ms(10), Ms(900)];
        policy().count(&mut failures, Ms(1_005));
        assert_eq!(failures, [Ms(10), Ms(900), Ms(1_005)]);
    }

    #[test]
    fn the_list_of_failures_never_grows_beyond_what_the_tries_need() {
        let mut failures = Vec::new();
        for n in 0..100 {
            policy().count(&mut failures, Ms(n));
        }
        assert_eq!(failures.len(), 4);
    }

    #[test]
    fn no_number_of_failures_overflows_the_delay() {
        let verdict = policy().next_try(Ms(u64::MAX - 1), 1, u32::MAX, 0);
        assert_eq!(verdict, Verdict::At(Ms(u64::MAX)));
    }
}
