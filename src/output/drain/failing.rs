//! While a log can't be written: output waits, and is discarded when it waited too long; then the
//! log goes on with a whole line, and what is missing is told.
//!
//! Must not discard anything that is not on record before. Must not lose count.

use super::{Drain, Lost, MIN_OVERSIZE, PIPE_BYTES, Pumped, Trouble};
use crate::sys::fifo::waiting_bytes;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Time between two tries while the log can't be written.
pub(super) const RETRY_MS: u64 = 200;
/// The same while syslog's socket is full: its reader is at work.
const BUSY_RETRY_MS: u64 = 10;
/// A socket that is full for so long is trouble that has to be told.
const BUSY_TOLD_MS: u64 = 1_000;
/// How long bytes wait in the FIFO (and the server with them, once it is full) while the log
/// can't be written, before the oldest are discarded.
pub(super) const PATIENCE_MS: u64 = 5_000;
/// A FIFO that was full, and was emptied, is looked at again then: its writer may be quick.
const DISCARD_AGAIN_MS: u64 = 10;
/// More than the last block of a file has room for.
const PROBE_BYTES: i64 = 2 * 64 * 1024;

#[derive(Debug)]
pub(super) struct Failing {
    since_ms: u64,
    pub(super) next_try_ms: u64,
    text: String,
    is_told: bool,
}

impl Drain {
    /// The log can be written: says what is missing in it.
    pub(super) fn works_again(&mut self, pumped: &mut Pumped) {
        self.failing = None;
        if let (bytes @ 1.., ended_lines) = self.loss.untold() {
            let size = self.file().and_then(File::metadata).map(|status| status.size());
            pumped.lost = Some(Lost { bytes, ended_lines, before_byte: size.ok() });
        }
    }

    /// The FIFO is empty. A loss is told also when nothing follows it, once there is room again:
    /// blocks behind the log's end, that the next bytes will need.
    pub(super) fn probe(&mut self, pumped: &mut Pumped) -> io::Result<()> {
        if self.loss.untold().0 == 0 || pumped.lost.is_some() {
            return Ok(());
        }
        if let Some(syslog) = &mut self.syslog {
            syslog.connect()?;
            self.works_again(pumped);
            return Ok(());
        }
        let file = self.file()?;
        let size = i64::try_from(file.metadata()?.size()).unwrap_or(0);
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, size, PROBE_BYTES) {
            Ok(()) => self.works_again(pumped),
            // Not every file system can be asked: there it is told with the next bytes.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPERM) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// After a loss the log goes on with a line: the rest of one whose beginning is gone goes too,
    /// and one that was cut in the log gets its end. False: the line's rest has not come yet.
    pub(super) fn close_gap(&mut self, size: u64) -> io::Result<bool> {
        if !self.skip_rest_of_line()? {
            return Ok(false);
        }
        let mut last = *b"\n";
        let has_last = size > 0 && self.file()?.read_at(&mut last, size.saturating_sub(1))? == 1;
        let is_cut = has_last && last != *b"\n";
        if is_cut && self.file()?.write_at(b"\n", size)? != 1 {
            return Err(Errno::ENOSPC.into());
        }
        self.loss.close_gap(is_cut);
        self.skipped = 0;
        Ok(true)
    }

    /// Discards what belongs to a line whose beginning is gone. False: its end has not come yet.
    pub(super) fn skip_rest_of_line(&mut self) -> io::Result<bool> {
        while self.loss.is_mid_line() && self.skipped < MIN_OVERSIZE {
            let mut bytes = self.look_ahead(PIPE_BYTES)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            bytes.truncate(newline.map_or(bytes.len(), |at| at.saturating_add(1)));
            self.skipped = self.skipped.saturating_add(bytes.len() as u64);
            self.discard(&mut bytes)?;
        }
        Ok(true)
    }

    /// Takes these bytes, the FIFO's first, out of it for good.
    pub(super) fn discard(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.loss.intend(bytes);
        // This process alone reads the FIFO, so what was seen is what is taken out.
        (&self.fifo).read_exact(bytes)?;
        self.loss.gone(bytes);
        Ok(())
    }

    pub(super) fn fail(
        &mut self,
        now_ms: u64,
        left: usize,
        error: &io::Error,
        pumped: &mut Pumped,
    ) {
        let path = self.path.display();
        let verb = if self.syslog.is_some() { "send to syslog at" } else { "write" };
        let text = format!(
            "cannot {verb} {path}: {error}; the output waits in its FIFO, and is discarded when \
             that stays full for {} s: make room, or correct the path",
            PATIENCE_MS / 1000
        );
        let is_busy = self.syslog.is_some() && error.kind() == io::ErrorKind::WouldBlock;
        let before = self.failing.as_ref();
        let since_ms = before.map_or(now_ms, |failing| failing.since_ms);
        let was_told = before.is_some_and(|failing| failing.is_told);
        let is_told = was_told || !is_busy || now_ms.saturating_sub(since_ms) >= BUSY_TOLD_MS;
        let is_new = is_told && !was_told;
        let retry_ms = if is_busy { BUSY_RETRY_MS } else { RETRY_MS };
        let next_try_ms = now_ms.saturating_add(retry_ms);
        self.failing = Some(Failing { since_ms, next_try_ms, text, is_told });
        self.wait_or_discard(now_ms, left, is_new, pumped);
    }

    /// While the log can't be written: says so, and once patience is at its end discards what waits
    /// in a FIFO that is full. What its writer adds meanwhile is newer, and stays: who is as quick
    /// as this would else lose all up to its last line.
    pub(super) fn wait_or_discard(
        &mut self,
        now_ms: u64,
        left: usize,
        is_new: bool,
        pumped: &mut Pumped,
    ) {
        let Some(failing) = &self.failing else { return };
        let mut retry_ms = failing.next_try_ms.saturating_sub(now_ms);
        let text = failing.text.clone();
        let is_impatient = now_ms.saturating_sub(failing.since_ms) >= PATIENCE_MS;
        if is_impatient && self.is_full() {
            self.discard_waiting(left);
            retry_ms = retry_ms.min(DISCARD_AGAIN_MS);
        }
        let retry_after_ms = Some(retry_ms);
        pumped.trouble = Some(Trouble { text, retry_after_ms, is_new });
    }

    /// Discards what is in the FIFO by now, up to so many bytes.
    fn discard_waiting(&mut self, left: usize) {
        let mut left = waiting_bytes(self.fifo.as_fd()).unwrap_or(PIPE_BYTES).min(left);
        while left > 0 {
            match self.discard_some(left) {
                Ok(0) | Err(_) => return,
                Ok(gone) => left = left.saturating_sub(gone),
            }
        }
    }

    /// Discards what is in the FIFO, up to what one look shows. 0: it is empty.
    pub(super) fn discard_some(&mut self, most: usize) -> io::Result<usize> {
        match self.look_ahead(most) {
            Ok(mut bytes) => self.discard(&mut bytes).map(|()| bytes.len()),
            // Without a look (no descriptor is left) nothing is on record before it goes.
            Err(_) => {
                let mut bytes = vec![0; most.min(PIPE_BYTES)];
                let gone = none_if_again((&self.fifo).read(&mut bytes))?;
                self.loss.gone(bytes.get(..gone).unwrap_or_default());
                Ok(gone)
            }
        }
    }

    /// Whether a writer would have to wait: the FIFO is open for writing here too, so poll tells.
    pub(super) fn is_full(&self) -> bool {
        let mut fds = [PollFd::new(self.fifo.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|writable| writable == 0)
    }
}

fn none_if_again(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
