//! Is the other twin silent, and does it hang? Two witnesses: the link and the pulse.
//!
//! Must not act on it. A hang is concluded, so it needs both witnesses for the whole timeout, while
//! this process was on time itself; a silent link beside a moving pulse is a broken link.

use super::time::Ms;

/// What was heard and seen of the other twin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Silence {
    /// When anything came over the link.
    pub heard: Ms,
    pulse: u64,
    /// When the pulse last moved.
    moved: Ms,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Alive,
    LinkIsBroken,
    Hangs,
}

impl Silence {
    /// Nothing was heard yet; the time runs from now.
    pub fn new(now: Ms) -> Silence {
        Silence { heard: now, pulse: 0, moved: now }
    }

    /// Its pulse, looked at with every own heartbeat. `late`: this process was not on time itself,
    /// so silence proves nothing: what is waiting is read first.
    pub fn look(&mut self, now: Ms, counter: u64, late: bool, timeout_ms: u64) -> Verdict {
        if counter != self.pulse || late {
            (self.pulse, self.moved) = (counter, now);
        }
        if late {
            self.heard = now;
        }
        if now.since(self.heard) < timeout_ms {
            Verdict::Alive
        } else if self.moves(now, timeout_ms) {
            Verdict::LinkIsBroken
        } else {
            Verdict::Hangs
        }
    }

    /// Its pulse moved within the timeout.
    pub fn moves(&self, now: Ms, timeout_ms: u64) -> bool {
        now.since(self.moved) < timeout_ms
    }
}
