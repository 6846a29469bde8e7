//! Moves one server's bytes from its FIFO to its log file, and rotates that file at a line's end.
//!
//! Only `splice` takes bytes out of the FIFO: the kernel puts them into the file before it takes
//! them from the pipe, within one call that a kill does not cut, so a mover that is killed at any
//! instant loses and doubles nothing. Must not read and write instead where there is splice, must
//! not block, and must not read a clock (the time is handed in). At most one process may move a
//! FIFO's bytes: the caller holds the lock that says so.

mod age;
mod failing;
mod sending;
mod stamped;

use self::failing::Failing;
use super::loss::Loss;
use super::stamp::LineStamp;
use super::syslog::Syslog;
use super::{Access, leads_to, open_log, rotate};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice, tee};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// A server that writes single bytes must not keep `pump` busy for as many rounds as its budget
/// has bytes.
const MAX_ROUNDS: u32 = 64;
/// The default size of a pipe: as much as one look ahead, or one discarding read, can take.
const PIPE_BYTES: usize = 64 * 1024;
/// A round that moved less than this, half of a pipe, has moved what waited.
pub const PACED_BYTES: usize = PIPE_BYTES / 2;
/// What a pipe can hold whose writer would else wait for its reader again and again.
const WIDE_BYTES: i32 = 256 * 1024;
/// A line that does not end is cut when the file is longer than its limit by half of that, but
/// by no less than this.
const MIN_OVERSIZE: u64 = 1024 * 1024;

/// When a log file is rotated, and how many rotated ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; reached, the file is rotated at the next line's end. 0: never.
    pub max_size: u64,
    /// Rotated files kept beside the current one.
    pub max_files: u32,
    /// Milliseconds; a file that began longer ago is rotated at the next line's end. 0: none is.
    pub max_age_ms: u64,
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Of any clock that only rises.
    pub mono_ms: u64,
    /// Of the wall clock, since 1970.
    pub wall_ms: u64,
}

/// What one call of [`Drain::pump`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    /// Bytes moved to the log.
    pub moved: u64,
    /// So many at a time as one call takes.
    pub pieces: u32,
    /// There may be more: call again without waiting for an event.
    pub more: bool,
    /// A file was rotated.
    pub rotated: bool,
    /// Why bytes stay in the FIFO, or why the file was not rotated.
    pub trouble: Option<Trouble>,
    /// What was discarded while the log could not be written: told when it can be again, until
    /// the caller says that it was heard ([`Drain::loss_is_told`]).
    pub lost: Option<Lost>,
}

/// Output that is in no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Bytes that were discarded: whole lines, and the rest of a line that a full disk had cut.
    pub bytes: u64,
    /// Newlines that were added behind such a cut line, so that the log goes on with a line.
    pub ended_lines: u32,
    /// How long the log is now: what is missing was in front of this byte. `None`: no log.
    pub before_byte: Option<u64>,
}

/// Something that the caller should log and, where a time is given, try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What could not be done and why.
    pub text: String,
    /// Call `pump` again after this time, also without an event.
    pub retry_after_ms: Option<u64>,
    /// False while the same trouble goes on: it needs no second log line.
    pub is_new: bool,
}

/// The way of one server's output from its FIFO to its log file.
#[derive(Debug)]
pub struct Drain {
    fifo: File,
    path: PathBuf,
    limits: Limits,
    file: Option<File>,
    /// Size from which the file is rotated: `max_size`, or more after a rotation that failed.
    rotate_at: u64,
    paused: bool,
    /// It is looked at again soon, whatever is left: see `set_paced`.
    paced: bool,
    room: usize,
    failing: Option<Failing>,
    loss: Loss,
    /// Bytes without a line's end that were discarded to come to the beginning of a line.
    skipped: u64,
    /// When the open file began, once that was looked at.
    began_ms: Option<u64>,
    /// The open file is to be rotated because of its age: `rotate_at` says from where.
    is_old: bool,
    stamp: Option<LineStamp>,
    /// Lines go there, and there is no log.
    syslog: Option<Syslog>,
}

impl Drain {
    /// Joins `fifo` (opened as `sys::fifo::open` does) with the log at `path`, and goes on at
    /// that file's end. A log that can't be opened now is as one that can't be written: `pump`
    /// says why, and tries again.
    pub fn new(fifo: OwnedFd, path: PathBuf, limits: Limits) -> Drain {
        let file = open_log(&path, Access::Splice).ok();
        let rotate_at = first_limit(limits);
        let fifo = File::from(fifo);
        let loss = Loss::default();
        let (paused, paced, failing, skipped) = (false, false, None, 0);
        let (began_ms, is_old, stamp, syslog) = (None, false, None, None);
        Drain {
            fifo,
            path,
            limits,
            file,
            rotate_at,
            paused,
            paced,
            room: PIPE_BYTES,
            failing,
            loss,
            skipped,
            began_ms,
            is_old,
            stamp,
            syslog,
        }
    }

    /// Puts a time stamp in front of each line from now on.
    pub fn with_timestamps(mut self) -> Drain {
        self.stamp = Some(LineStamp::local());
        self
    }

    /// Goes on with the record of what was lost so far. To be called by who may move the bytes
    /// from now on.
    pub fn keep_loss_in(&mut self, record: Loss) {
        let looked = match record.pending() {
            0 => Ok(Vec::new()),
            pending => self.look_ahead(pending),
        };
        self.loss.join(record);
        self.loss.settle(&looked.unwrap_or_default());
    }

    /// Another drain has the record from now on.
    pub fn forget_record(&mut self) {
        self.loss.detach();
    }

    /// What [`Pumped::lost`] says was heard.
    pub fn loss_is_told(&mut self) {
        self.loss.told();
    }

    /// The FIFO, to be watched for readability. With edge-triggered events, `pump` until it asks
    /// for nothing more.
    pub fn fifo_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }

    /// While paused, `pump` does nothing: the bytes wait for who moves them next.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// While paced, `pump` does not run after a writer that writes small pieces meanwhile: it stops
    /// when what waited is moved. The caller looks again soon, without an event.
    pub fn set_paced(&mut self, paced: bool) {
        self.paced = paced;
    }

    /// Gives the FIFO room for more, as it fills between two looks.
    pub fn widen(&mut self) {
        // Where its user has too many pages in pipes (pipe(7), pipe-user-pages-soft), it stays.
        if let Ok(bytes) = fcntl(&self.fifo, FcntlArg::F_SETPIPE_SZ(WIDE_BYTES)) {
            self.room = usize::try_from(bytes).unwrap_or(PIPE_BYTES);
        }
    }

    /// Bytes that the FIFO can hold, as far as known: where it was given less or more by somebody
    /// else, what a pipe has by default.
    pub fn room(&self) -> u64 {
        self.room as u64
    }

    /// Takes other limits, for the next round on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.rotate_at = first_limit(limits);
    }

    /// Opens the log's path again. When that fails, the file that is open stays in use.
    ///
    /// # Errors
    /// The log can't be opened, or is something that must not be written to.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let Some(syslog) = &mut self.syslog {
            syslog.disconnect();
            return Ok(());
        }
        self.file = Some(open_log(&self.path, Access::Splice)?);
        self.rotate_at = first_limit(self.limits);
        (self.began_ms, self.is_old) = (None, false);
        Ok(())
    }

    /// Opens the log's path again if it leads to another file by now, or to none (somebody rotated
    /// or removed it); true when it did. To be called now and then.
    ///
    /// # Errors
    /// As [`Drain::reopen`], or the path can't be looked at; the open file stays in use.
    pub fn check_path(&mut self) -> io::Result<bool> {
        if self.syslog.is_some() {
            return Ok(false);
        }
        if let Some(file) = &self.file
            && leads_to(&self.path, file)?
        {
            return Ok(false);
        }
        self.reopen()?;
        Ok(true)
    }

    /// Moves what waits in the FIFO, at most `budget_bytes`.
    ///
    /// A log that can't be written (full disk) neither ends nor stops the server: the bytes wait in
    /// the FIFO and are tried again every 200 ms; when that has failed for 5 s, a full FIFO is
    /// emptied (so the newest bytes are kept), and the loss is counted and told.
    pub fn pump(&mut self, now: Now, budget_bytes: usize) -> Pumped {
        let now_ms = now.mono_ms;
        let mut pumped = Pumped::default();
        if self.paused {
            return pumped;
        }
        if self.failing.as_ref().is_some_and(|failing| now_ms < failing.next_try_ms) {
            self.wait_or_discard(now_ms, budget_bytes, false, &mut pumped);
            return pumped;
        }
        let mut left = budget_bytes;
        for _ in 0..MAX_ROUNDS {
            if left == 0 {
                break;
            }
            match self.round(now, left, &mut pumped) {
                Ok(0) => {
                    if let Err(error) = self.probe(&mut pumped) {
                        self.fail(now_ms, left, &error, &mut pumped);
                    }
                    return pumped;
                }
                Ok(moved) => {
                    left = left.saturating_sub(moved);
                    pumped.moved = pumped.moved.saturating_add(moved as u64);
                    pumped.pieces = pumped.pieces.saturating_add(1);
                    self.works_again(&mut pumped);
                    if self.paced && moved < PACED_BYTES {
                        return pumped;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.fail(now_ms, left, &error, &mut pumped);
                    return pumped;
                }
            }
        }
        pumped.more = true;
        pumped
    }

    /// One splice, with a rotation before it where one is due. 0: the FIFO is empty.
    fn round(&mut self, now: Now, left: usize, pumped: &mut Pumped) -> io::Result<usize> {
        if self.syslog.is_some() {
            return self.send_lines(now, left);
        }
        let mut size = self.prepare()?;
        if self.loss.has_gap() {
            if !self.close_gap(size)? {
                return Ok(0);
            }
            size = self.prepare()?;
        }
        size = self.look_at_age(now, size)?;
        if self.rotation_due(size)? {
            self.rotate(size, pumped)?;
            size = self.prepare()?;
        }
        if self.stamp.is_some() {
            return self.move_stamped(now, left);
        }
        let want = self.bytes_to_cut(size, left)?;
        if want == 0 {
            return Ok(0);
        }
        self.transfer(size, want)
    }

    /// Bytes from the FIFO into the log, whose size is given.
    fn transfer(&self, size: u64, want: usize) -> io::Result<usize> {
        let mut offset = i64::try_from(size).map_err(|_| io::Error::from(Errno::EFBIG))?;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        match splice(&self.fifo, None, self.file()?, Some(&mut offset), want, flags) {
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => self.copy(size, want),
            result => none_if_empty(result),
        }
    }

    /// Where the log's file system knows no splice, or a filter of system calls forbids it. The
    /// bytes are taken out only when they are written: a mover that is killed in between leaves
    /// them to the next one, which writes them again.
    fn copy(&self, offset: u64, want: usize) -> io::Result<usize> {
        let bytes = self.look_ahead(want)?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let written = self.file()?.write_at(&bytes, offset)?;
        let mut taken = vec![0; written];
        // This process alone reads the FIFO, so what was seen is what is taken out.
        (&self.fifo).read_exact(&mut taken)?;
        Ok(written)
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::Error::from(Errno::EBADF))
    }

    /// Sees to it that a file is open that still has a name, and gives its size. Asked before each
    /// splice: at an older offset a file that somebody truncated would become a hole.
    fn prepare(&mut self) -> io::Result<u64> {
        if let Some(file) = &self.file {
            let status = file.metadata()?;
            if status.nlink() > 0 {
                if status.size() < self.limits.max_size && !self.is_old {
                    self.rotate_at = first_limit(self.limits);
                }
                return Ok(status.size());
            }
        }
        self.reopen()?;
        Ok(self.file()?.metadata()?.size())
    }

    /// The size at which the file is rotated also within a line.
    fn hard_limit(&self) -> u64 {
        let oversize = (self.limits.max_size / 2).max(MIN_OVERSIZE);
        self.rotate_at.saturating_add(oversize)
    }

    fn rotation_due(&self, size: u64) -> io::Result<bool> {
        if size < self.rotate_at {
            return Ok(false);
        }
        let mut last = [0];
        let read = self.file()?.read_at(&mut last, size.saturating_sub(1))?;
        Ok(size >= self.hard_limit() || (read == 1 && last == *b"\n"))
    }

    /// Rotates; where that is impossible, the file grows on and the next try comes later.
    fn rotate(&mut self, size: u64, pumped: &mut Pumped) -> io::Result<()> {
        if leads_to(&self.path, self.file()?)?
            && let Err(error) = rotate::rotate(&self.path, self.limits.max_files)
        {
            self.rotate_at = size.saturating_add((self.limits.max_size / 8).max(MIN_OVERSIZE));
            let text = format!("{error}; the file grows on beyond its limit");
            pumped.trouble = Some(Trouble { text, retry_after_ms: None, is_new: true });
            return Ok(());
        }
        self.file = None;
        pumped.rotated = true;
        Ok(())
    }

    /// How many bytes the next splice may move: to the size limit, and beyond it to the end of the
    /// line. 0: the FIFO is empty.
    fn bytes_to_cut(&self, size: u64, left: usize) -> io::Result<usize> {
        let up_to = |limit: u64| {
            usize::try_from(limit.saturating_sub(size)).map_or(left, |room| room.min(left))
        };
        if size < self.rotate_at {
            return Ok(up_to(self.rotate_at));
        }
        let want = up_to(self.hard_limit());
        match self.look_ahead(want) {
            Ok(bytes) => match bytes.iter().position(|b| *b == b'\n') {
                Some(newline) => Ok(newline.saturating_add(1)),
                None => Ok(bytes.len()),
            },
            // No pipe can be had, or a filter of system calls forbids tee: better a line cut at
            // the hard limit than a server that waits.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOSYS | libc::EPERM)
                ) =>
            {
                Ok(want)
            }
            Err(error) => Err(error),
        }
    }

    /// Copies the FIFO's first bytes without taking them out.
    fn look_ahead(&self, want: usize) -> io::Result<Vec<u8>> {
        let (scratch_out, scratch_in) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let want = want.min(PIPE_BYTES);
        let seen =
            none_if_empty(tee(&self.fifo, &scratch_in, want, SpliceFFlags::SPLICE_F_NONBLOCK))?;
        let mut bytes = vec![0; seen];
        File::from(scratch_out).read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn first_limit(limits: Limits) -> u64 {
    if limits.max_size == 0 { u64::MAX } else { limits.max_size }
}

fn none_if_empty(result: nix::Result<usize>) -> io::Result<usize> {
    match result {
        Err(Errno::EAGAIN) => Ok(0),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests;
