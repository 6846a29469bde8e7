//! A time stamp in front of each line, and the line itself spliced behind it.
//!
//! Whether a line has its stamp is read from the log's end each time, so a mover that was killed
//! anywhere leaves nothing to guess: behind a newline (or in an empty log) a stamp comes first, behind
//! a whole stamp the text, behind a part of a stamp its rest, and anything else is the middle of a
//! line. Must not write over anything, nor take bytes out of the FIFO by other ways than a plain
//! log.

use super::{Drain, Now, PIPE_BYTES};
use crate::output::stamp::{self, STAMP_BYTES};
use nix::errno::Errno;
use std::io;
use std::os::unix::fs::FileExt;

/// Enough of the log's end to see a stamp and the newline in front of it.
const TAIL_BYTES: usize = STAMP_BYTES + 1;

impl Drain {
    /// Moves lines, up to so many bytes of them. 0: the FIFO is empty.
    pub(super) fn move_stamped(&mut self, now: Now, left: usize) -> io::Result<usize> {
        let bytes = self.look_ahead(left.min(PIPE_BYTES))?;
        let mut moved = 0usize;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let result = self.prepare().and_then(|size| match moved {
                // A rotation is due, which begins the next round.
                1.. if size >= self.rotate_at => Ok(0),
                _ => self.stamp_at(now, size).and_then(|size| self.transfer(size, line.len())),
            });
            match result {
                Ok(count) => moved = moved.saturating_add(count),
                // It comes again with the next round, alone.
                Err(_) if moved > 0 => return Ok(moved),
                Err(error) => return Err(error),
            }
            if result.is_ok_and(|count| count < line.len()) {
                break;
            }
        }
        Ok(moved)
    }

    /// Writes the stamp, or the rest of it, where one is missing at the log's end. Gives the size
    /// of the log then.
    fn stamp_at(&self, now: Now, size: u64) -> io::Result<u64> {
        let Some(stamp) = &self.stamp else { return Ok(size) };
        let mut tail = [0; TAIL_BYTES];
        let want = usize::try_from(size).unwrap_or(TAIL_BYTES).min(TAIL_BYTES);
        let tail = tail.get_mut(..want).unwrap_or_default();
        self.file()?.read_exact_at(tail, size.saturating_sub(want as u64))?;
        let there = match tail.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => tail.get(newline.saturating_add(1)..).unwrap_or_default(),
            None if want < TAIL_BYTES => tail,
            None => return Ok(size),
        };
        if !stamp::is_begun(there) {
            return Ok(size);
        }
        let text = stamp.text(now.wall_ms);
        let rest = text.as_bytes().get(there.len()..).unwrap_or_default();
        if !rest.is_empty() && self.file()?.write_at(rest, size)? < rest.len() {
            return Err(Errno::ENOSPC.into());
        }
        Ok(size.saturating_add(rest.len() as u64))
    }
}
