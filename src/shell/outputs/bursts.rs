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
const LOOK_EVERY: Duration = Duration::from_micros(400);
/// The same while more comes than a pipe holds for so long. With the 50 us that a timer is late
/// (PR_SET_TIMERSLACK(2const)) it is about as long as a quick writer takes to fill a wide one.
const LOOK_SOON: Duration = Duration::from_micros(5);
/// Less than this is a small piece.
const SMALL_BYTES: u64 = 4096;
/// So many small pieces within a millisecond are a burst.
const SMALL_IN_A_MS: u32 = 4;
/// Who was woken once and then found so many pieces that are no half of a pipe, one after the other,
/// runs after the writer: both wait for the pipe's lock at each page.
const PIECES_OF_A_CHASE: u32 = 8;
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
    /// The last look found it nearly full: it is looked at soon while that finds enough.
    is_quick: bool,
}

/// What a look at a FIFO found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Came {
    /// Bytes.
    pub moved: u64,
    /// In so many at a time.
    pub pieces: u32,
    /// Bytes that the FIFO can hold.
    pub room: u64,
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
    /// It was woken for, or looked at.
    fn note(&mut self, now: Ms, came: Came, by_time: bool) -> Change {
        let Came { moved, pieces, room } = came;
        // What fills a pipe at once, or half of it between two looks, makes its writer wait again
        // and again.
        let much = if by_time { PACED_BYTES } else { 2 * PACED_BYTES };
        if moved >= much as u64 && !std::mem::replace(&mut self.is_wide, true) {
            return Change::Widen;
        }
        if by_time {
            self.is_quick = moved >= if self.is_quick { PACED_BYTES as u64 } else { room / 4 * 3 };
            self.empty = if moved == 0 { self.empty.saturating_add(1) } else { 0 };
            return if self.empty >= EMPTY_LOOKS { Change::Watch } else { Change::Nothing };
        }
        if self.at != now {
            (self.at, self.small) = (now, 0);
        }
        self.small = self.small.saturating_add(u32::from(moved > 0 && moved < SMALL_BYTES));
        let chases = pieces >= PIECES_OF_A_CHASE && moved < u64::from(pieces) * PACED_BYTES as u64;
        let is_burst = self.small >= SMALL_IN_A_MS || chases;
        if is_burst { Change::LookByTime } else { Change::Nothing }
    }
}

impl Outputs {
    /// How long the loop may wait, while there is a burst.
    pub fn look_every(&self) -> Option<Duration> {
        if self.lock.is_none() || self.by_time.is_empty() {
            return None;
        }
        let mut burst = self.by_time.iter().filter_map(|number| self.drains.get(*number));
        let is_quick = burst.any(|entry| entry.pace.is_quick);
        Some(if is_quick { LOOK_SOON } else { LOOK_EVERY })
    }

    pub(super) fn look_at_bursts(&mut self) {
        self.ready.extend(&self.by_time);
    }

    /// A FIFO was looked at: is it to be watched from now on, or looked at by time?
    pub(super) fn pace(&mut self, ctx: &Ctx, number: usize, now: Ms, came: Came) {
        let Some(entry) = self.drains.get_mut(number) else { return };
        let is_by_time = self.by_time.contains(&number);
        match entry.pace.note(now, came, is_by_time) {
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

    fn came(moved: u64, pieces: u32) -> Came {
        Came { moved, pieces, room: 262_144 }
    }

    #[test]
    fn small_pieces_within_a_millisecond_are_a_burst_until_nothing_comes() {
        let mut pace = Pace::default();
        for at in 1..10 {
            assert_eq!(pace.note(Ms(at), came(100, 1), false), Change::Nothing, "slow");
            assert_eq!(pace.note(Ms(at), came(60_000, 1), false), Change::Nothing, "large");
            assert_eq!(pace.note(Ms(at), came(0, 0), false), Change::Nothing, "nothing");
        }
        let changes = [(); 4].map(|()| pace.note(Ms(10), came(100, 1), false));
        assert_eq!(changes[3], Change::LookByTime);
        assert!(changes[..3].iter().all(|change| *change == Change::Nothing));
        pace = Pace::default();
        for _ in 0..3 {
            for _ in 1..EMPTY_LOOKS {
                assert_eq!(pace.note(Ms(11), came(0, 0), true), Change::Nothing);
            }
            assert_eq!(pace.note(Ms(11), came(100, 1), true), Change::Nothing, "it goes on");
        }
        assert_eq!(pace.note(Ms(11), came(40_000, 1), true), Change::Widen, "half of a pipe");
        assert_eq!(pace.note(Ms(11), came(200_000, 1), true), Change::Nothing, "once is enough");
        assert_eq!(
            Pace::default().note(Ms(11), came(65_536, 1), false),
            Change::Widen,
            "a whole pipe"
        );
        let looks = (0..EMPTY_LOOKS).map(|_| pace.note(Ms(12), came(0, 0), true));
        assert_eq!(looks.last(), Some(Change::Watch));
    }
    #[test]
    fn who_runs_after_its_writer_looks_by_time_and_sooner_while_much_comes() {
        let note = |moved, pieces| Pace::default().note(Ms(1), came(moved, pieces), false);
        assert_eq!(note(64_000, 8), Change::LookByTime, "two pages at a time");
        assert_eq!(note(64_000, 7), Change::Nothing, "what came while it was at it");
        let mut pace = Pace { is_wide: true, ..Pace::default() };
        assert_eq!(
            pace.note(Ms(1), came(524_288, 8), false),
            Change::Nothing,
            "a full pipe at a time"
        );
        assert_eq!(pace.note(Ms(1), came(524_288, 64), false), Change::LookByTime);
        let looks =
            [(190_000, false), (200_000, true), (40_000, true), (30_000, false), (90_000, false)];
        for (moved, is_quick) in looks {
            pace.note(Ms(2), came(moved, 1), true);
            assert_eq!(pace.is_quick, is_quick, "{moved} bytes between two looks");
        }
    }
}
