//! The pair's own log: one line an event.
//!
//! An error while writing (full disk, closed pipe) ends nothing: the lost lines are counted, and a
//! line says how many once writing works again. Must not log, panic, or wait for a reader.
//!
//! Callers name the message's code as the target: `log::info!(target: "0101", "starting")`. A
//! target that is no four-digit code (a library's module path) is shown as code 0000.

mod line;

pub use line::Format;

use self::line::Stamp;
use super::{Access, Limits, leads_to, open_log, rotate, zone};
use crate::sys::journald;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// In a burst of lines (a takeover has some for every server) the path is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// So many bytes of lines wait at most.
const HELD_MAX_BYTES: usize = 64 << 10;
/// A journald that is gone is looked for so often.
const CONNECT_EVERY: Duration = Duration::from_secs(1);
/// Code of the line that tells how many lines were lost.
pub const LINES_LOST_CODE: &str = "0010";

/// What a process's log is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name, shown in each line.
    pub name: String,
    pub target: Target,
    pub format: Format,
    /// The least severe level that is written.
    pub level: log::LevelFilter,
    /// Bytes; a line that reaches it is the file's last one. 0: never rotated.
    pub max_size: u64,
    /// Rotated files kept beside the current one.
    pub max_files: u32,
    /// A file that can't be opened now is no error: its lines are lost, and told, until it can be.
    pub may_wait: bool,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    File(PathBuf),
    Stderr,
    /// A stream of journald, whose socket is there.
    Journal(PathBuf),
}

/// Reaches the log after it was set up.
#[derive(Clone, Debug)]
pub struct LogHandle(Arc<Mutex<Sink>>);

/// Makes the log described by `settings` the one that `log`'s macros write to.
///
/// # Errors
/// The file can't be opened (unless that may wait), or a log was set up before.
pub fn init(settings: &Settings) -> io::Result<LogHandle> {
    let (logger, handle) = build(settings)?;
    log::set_boxed_logger(Box::new(logger)).map_err(io::Error::other)?;
    log::set_max_level(settings.level);
    Ok(handle)
}

fn build(settings: &Settings) -> io::Result<(env_logger::Logger, LogHandle)> {
    let (mut file, mut stream) = (None, None);
    let opened = match &settings.target {
        Target::File(path) => open_log(path, Access::Append).map(|opened| file = Some(opened)),
        Target::Journal(path) => {
            journald::connect_log(path, &settings.name).map(|opened| stream = Some(opened))
        }
        Target::Stderr => Ok(()),
    };
    if !settings.may_wait {
        opened?;
    }
    // Looked up once: a line must not cost a look at /etc/localtime.
    let stamp = Stamp {
        name: settings.name.clone(),
        zone: zone::local(),
        format: settings.format,
        is_journal: matches!(settings.target, Target::Journal(_)),
    };
    let sink = Sink {
        stamp: stamp.clone(),
        target: settings.target.clone(),
        file,
        stream,
        limits: Limits {
            max_size: settings.max_size,
            max_files: settings.max_files,
            max_age_ms: 0,
        },
        rotate_at: 0,
        size: 0,
        looked_at: None,
        lost: 0,
        torn: false,
        held: None,
    };
    let handle = LogHandle(Arc::new(Mutex::new(sink)));
    let logger = env_logger::Builder::new()
        .filter_level(settings.level)
        .write_style(env_logger::WriteStyle::Never)
        .target(env_logger::Target::Pipe(Box::new(handle.clone())))
        .format(move |line, record| {
            let text = record.args().to_string();
            let now = SystemTime::now();
            line.write_all(stamp.line(now, record.level(), record.target(), &text).as_bytes())
        })
        .build();
    Ok((logger, handle))
}

impl LogHandle {
    /// Goes on in the file at `path`: a standby that takes over writes the active's log. Only for a
    /// log that is a file.
    ///
    /// # Errors
    /// It can't be opened now. The lines go to the old file until it can be.
    pub fn switch_to(&self, path: &Path) -> io::Result<()> {
        let mut sink = self.sink();
        // What was said before belongs to the file before.
        sink.write_held();
        sink.target = Target::File(path.to_owned());
        sink.open()
    }

    /// Opens the file's path again. Nothing to do for standard error.
    ///
    /// # Errors
    /// It can't be opened now. The lines go to the old file until it can be.
    pub fn reopen(&self) -> io::Result<()> {
        self.sink().open()
    }

    /// From here on lines of a file are kept together until `release`: a takeover has some for every
    /// server, and a system call for each is dear. Who dies meanwhile takes them along.
    pub fn hold(&self) {
        let mut sink = self.sink();
        if let Target::File(_) = sink.target {
            sink.held.get_or_insert_default();
        }
    }

    /// Writes what was kept, and from here on each line at once.
    pub fn release(&self) {
        let mut sink = self.sink();
        sink.write_held();
        sink.held = None;
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes one whole line with each call, and always succeeds.
impl Write for LogHandle {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.sink().take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Sink {
    stamp: Stamp,
    target: Target,
    file: Option<File>,
    stream: Option<UnixStream>,
    limits: Limits,
    /// After a rotation that failed, the size from which it is tried again; else 0.
    rotate_at: u64,
    /// The file's size at the last look, and what was written since.
    size: u64,
    /// When the path was found to lead to the file.
    looked_at: Option<Instant>,
    lost: u64,
    /// The file ends within a line: a disk that was full took only a part.
    torn: bool,
    /// Lines that wait to be written together.
    held: Option<Vec<u8>>,
}

impl Sink {
    fn open(&mut self) -> io::Result<()> {
        // Also where it fails: the next line tries again.
        self.looked_at = None;
        match &self.target {
            Target::File(path) => {
                self.file = Some(open_log(path, Access::Append)?);
                self.rotate_at = 0;
            }
            Target::Journal(path) => {
                self.stream = Some(journald::connect_log(path, &self.stamp.name)?);
            }
            Target::Stderr => return Ok(()),
        }
        self.torn = false;
        Ok(())
    }

    fn take(&mut self, line: &[u8]) {
        let Some(held) = &mut self.held else { return self.write_lines(line) };
        held.extend_from_slice(line);
        if held.len() >= HELD_MAX_BYTES {
            self.write_held();
        }
    }

    fn write_held(&mut self) {
        let lines = self.held.as_mut().map(std::mem::take).unwrap_or_default();
        if !lines.is_empty() {
            self.write_lines(&lines);
        }
    }

    fn write_lines(&mut self, lines: &[u8]) {
        self.look();
        if self.lost > 0 {
            let text = format!("{} log lines were lost: the log could not be written", self.lost);
            let level = log::Level::Error;
            let notice = self.stamp.line(SystemTime::now(), level, LINES_LOST_CODE, &text);
            if self.put(notice.as_bytes()) == notice.len() {
                self.lost = 0;
            }
        }
        let written = if self.lost > 0 { 0 } else { self.put(lines) };
        let rest = lines.get(written..).unwrap_or_default();
        let lost = rest.iter().filter(|byte| **byte == b'\n').count();
        self.lost = self.lost.saturating_add(lost as u64);
        self.rotate_if_due();
    }

    fn look(&mut self) {
        if let Target::Journal(_) = self.target {
            return self.look_at_stream();
        }
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        // Where this fails, the old file is better than none, and the next line tries again.
        if self.path_is_ours() || self.open().is_ok() {
            self.looked_at = Some(Instant::now());
        }
        let status = self.file.as_ref().and_then(|file| file.metadata().ok());
        self.size = status.map_or(0, |status| status.size());
    }

    fn look_at_stream(&mut self) {
        let was_tried = self.looked_at.is_some_and(|at| at.elapsed() < CONNECT_EVERY);
        if self.stream.is_none() && !was_tried {
            let _ = self.open();
            self.looked_at = Some(Instant::now());
        }
    }

    /// False when another process rotated the file, or somebody removed it.
    fn path_is_ours(&self) -> bool {
        match (&self.target, &self.file) {
            (Target::File(path), Some(file)) => leads_to(path, file).unwrap_or(true),
            (Target::File(_), None) => false,
            (Target::Stderr | Target::Journal(_), _) => true,
        }
    }

    /// How many of these bytes were written.
    fn put(&mut self, lines: &[u8]) -> usize {
        let end: &[u8] = if self.torn { b"\n" } else { b"" };
        let whole = [end, lines].concat();
        let mut written = self.write_once(&whole);
        // A short write is no error yet: the second one tells, or completes the line.
        if written > 0 && written < whole.len() {
            written += self.write_once(whole.get(written..).unwrap_or_default());
        }
        self.size = self.size.saturating_add(whole.len() as u64);
        if let Some(last) = written.checked_sub(1).and_then(|last| whole.get(last)) {
            self.torn = *last != b'\n';
        }
        written.saturating_sub(end.len())
    }

    /// Bytes written by one write(2); 0 when it failed, or would have to wait for a reader.
    fn write_once(&mut self, bytes: &[u8]) -> usize {
        match (&self.file, &self.target) {
            (Some(file), _) => {
                let mut file = file;
                file.write(bytes).unwrap_or(0)
            }
            (None, Target::File(_)) => 0,
            (None, Target::Journal(_)) => {
                let Some(stream) = &self.stream else { return 0 };
                match journald::send_now(stream, bytes) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(_) => {
                        // It is gone; one that is there again is found by a next line.
                        self.stream = None;
                        0
                    }
                }
            }
            (None, Target::Stderr) => {
                let stderr = io::stderr();
                let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::ZERO) {
                    Ok(1) => nix::unistd::write(&stderr, bytes).unwrap_or(0),
                    _ => 0,
                }
            }
        }
    }

    fn rotate_if_due(&mut self) {
        let (Target::File(path), Some(file)) = (&self.target, &self.file) else { return };
        let limit = self.limits.max_size.max(self.rotate_at);
        if self.limits.max_size == 0 || self.size < limit || self.torn {
            return;
        }
        let Ok(size) = file.metadata().map(|status| status.size()) else { return };
        if size < limit {
            return;
        }
        if !leads_to(path, file).unwrap_or(false) {
            return;
        }
        match rotate::rotate(path, self.limits.max_files) {
            Ok(()) => {
                let _ = self.open();
            }
            Err(_) => self.rotate_at = size.saturating_add(self.limits.max_size / 8),
        }
    }
}

#[cfg(test)]
mod tests;
