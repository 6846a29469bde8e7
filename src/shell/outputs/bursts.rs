//! FIFOs that are written to in small pieces, again and again: looked at by time.
//!
//! Being woken for each line costs the node manager some microseconds, and its writer as much,
//! which has to wake it. While lines come this quickly the FIFO is not watched, but looked at every
//! `LOOK_EVERY`; what came meanwhile is moved together. Must not be used without the mover's lock.

use super::{Entry, Outputs};
use crate::core::Ms;
use crate::output::PACED_BYTES;
use crate::shell::ctx::Ctx;
use crate::shell::token::Source;
use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Short beside what anybody sees. A pipe that is half full by then gets more room.
pub const LOOK_EVERY: Duration = Duration::from_micros(400);
/// Less than this is a small piece.
const SMALL_BYTES: u64 = 4096;
/// So many small pieces within a millisecond are a burst.
const SMALL_IN_A_MS: u32 = 4;
/// It is over when nothing was found so often, one after the other.
const EMPTY_LOOKS: u32 = 20;

/// How one FIFO is written to.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The millisecond that is counted in.
    at: Ms,
    small: u32,
    empty: u32,
    /// It fills between two looks, and got more room.
    is_wide: bool,
}

/// What is to be done with a FIFO.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    LookByTime,
    Widen,
    Watch,
}

impl Pace {
    /// It was woken for, or looked at, and so many bytes were moved.
    fn note(&mut self, now: Ms, moved: u64, by_time: bool) -> Change {
        // What fills a pipe at once, or half of it between two looks, makes its writer wait again
        // and again.
        let much = if by_time { PACED_BYTES } else { 2 * PACED_BYTES };
        if moved >= much as u64 && !std::mem::replace(&mut self.is_wide, true) {
            return Change::Widen;
        }
        if by_time {
            self.empty = if moved == 0 { self.empty.saturating_add(1) } else { 0 };
            return if self.empty >= EMPTY_LOOKS { Change::Watch } else { Change::Nothing };
        }
        if self.at != now {
            (self.at, self.small) = (now, 0);
        }
        self.small = self.small.saturating_add(u32::from(moved > 0 && moved < SMALL_BYTES));
        if self.small >= SMALL_IN_A_MS { Change::LookByTime } else { Change::Nothing }
    }
}

impl Outputs {
    /// How long the loop may wait, while there is a burst.
    pub fn look_every(&self) -> Option<Duration> {
        (self.lock.is_some() && !self.by_time.is_empty()).then_some(LOOK_EVERY)
    }

    pub(super) fn look_at_bursts(&mut self) {
        self.ready.extend(&self.by_time);
    }

    /// A FIFO was looked at: is it to be watched from now on, or looked at by time?
    pub(super) fn pace(&mut self, ctx: &Ctx, number: usize, now: Ms, moved: u64) {
        let Some(entry) = self.drains.get_mut(number) else { return };
        let is_by_time = self.by_time.contains(&number);
        match entry.pace.note(now, moved, is_by_time) {
            Change::Nothing => {}
            Change::Widen => entry.drain.widen(),
            Change::LookByTime => {
                ctx.unwatch(&entry.drain.fifo_fd().as_raw_fd());
                entry.drain.set_paced(true);
                self.by_time.insert(number);
                entry.pace = Pace::default();
            }
            Change::Watch => watch_again(ctx, number, entry, &mut self.by_time),
        }
    }
}

/// Says at once whether something came since the last look. Where it can't be watched it is looked
/// at by time on.
fn watch_again(ctx: &Ctx, number: usize, entry: &mut Entry, by_time: &mut BTreeSet<usize>) {
    entry.pace = Pace::default();
    if ctx.watch(&entry.drain.fifo_fd().as_raw_fd(), Source::Output(number)).is_ok() {
        entry.drain.set_paced(false);
        by_time.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_within_a_millisecond_are_a_burst_until_nothing_comes() {
        let mut pace = Pace::default();
        for at in 1..10 {
            assert_eq!(pace.note(Ms(at), 100, false), Change::Nothing, "slow");
            assert_eq!(pace.note(Ms(at), 60_000, false), Change::Nothing, "large");
            assert_eq!(pace.note(Ms(at), 0, false), Change::Nothing, "nothing");
        }
        let changes = [(); 4].map(|()| pace.note(Ms(10), 100, false));
        assert_eq!(changes[3], Change::LookByTime);
        assert!(changes[..3].iter().all(|change| *change == Change::Nothing));
        pace = Pace::default();
        for _ in 0..3 {
            for _ in 1..EMPTY_LOOKS {
                assert_eq!(pace.note(Ms(11), 0, true), Change::Nothing);
            }
            assert_eq!(pace.note(Ms(11), 100, true), Change::Nothing, "it goes on");
        }
        assert_eq!(pace.note(Ms(11), 40_000, true), Change::Widen, "half of a pipe");
        assert_eq!(pace.note(Ms(11), 200_000, true), Change::Nothing, "once is enough");
        assert_eq!(Pace::default().note(Ms(11), 65_536, false), Change::Widen, "a whole pipe");
        let looks = (0..EMPTY_LOOKS).map(|_| pace.note(Ms(12), 0, true));
        assert_eq!(looks.last(), Some(Change::Watch));
    }
}
