//! Rotation by age: a log is as old as its first byte, and the file system's birth time says when
//! that came, also to the next mover after a takeover.
//!
//! Where a file system has no birth times, the age counts from when this process first saw the
//! file. Must not rotate within a line: it only says from which size on a rotation is due.

use super::{Drain, Now};
use crate::output::leads_to;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::time::UNIX_EPOCH;

/// An empty file may be so much older than its first byte: a tenth of its life, but not more.
const MAX_EMPTY_MS: u64 = 60_000;

impl Drain {
    /// To be called before bytes are moved; gives the log's size, which is `size` unless the file
    /// was made anew.
    pub(super) fn look_at_age(&mut self, now: Now, size: u64) -> io::Result<u64> {
        let max_age_ms = self.limits.max_age_ms;
        if max_age_ms == 0 {
            return Ok(size);
        }
        let began_ms = match self.began_ms {
            Some(began_ms) => began_ms,
            None => *self.began_ms.insert(birth_ms(self.file()?).unwrap_or(now.wall_ms)),
        };
        let age_ms = now.wall_ms.saturating_sub(began_ms);
        if size == 0 {
            let empty_ms = (max_age_ms / 10).min(MAX_EMPTY_MS);
            if age_ms > empty_ms && self.has_bytes() && leads_to(&self.path, self.file()?)? {
                // The first byte comes now, and the birth of its file is to say so.
                fs::remove_file(&self.path)?;
                self.reopen()?;
            }
            return Ok(0);
        }
        if age_ms >= max_age_ms && !self.is_old {
            self.is_old = true;
            self.rotate_at = self.rotate_at.min(size);
        }
        Ok(size)
    }

    fn has_bytes(&self) -> bool {
        let mut fds = [PollFd::new(self.fifo.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|readable| readable > 0)
    }
}

fn birth_ms(file: &File) -> Option<u64> {
    let born = file.metadata().ok()?.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(born.as_millis()).ok()
}
