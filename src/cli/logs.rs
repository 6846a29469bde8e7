//! The `logs` command: prints the end of log files and follows them. It reads the files itself, so
//! it works without a running pair.
//!
//! Must not write to the logs. It may block: it is no part of the pair's loop.

pub mod choose;
mod follow;
mod json;
pub mod since;

pub use crate::output::tail::last_lines;

use crate::output::tail::{Newest, Piece, last_of, last_pieces, open_newest};
use follow::Follower;
use jiff::Timestamp;
use json::JsonLines;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Lines shown when no number is asked for.
const DEFAULT_LINES: usize = 10;
/// Time between two looks at a log that is followed, in milliseconds.
const LOOK_EVERY_MS: u8 = 100;
/// Of labels, in turn: cyan, green, yellow, magenta, blue, red.
const COLOURS: [u8; 6] = [36, 32, 33, 35, 34, 31];

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct LogsOptions {
    /// Go on with what is written from now on, until the reader goes away.
    pub follow: bool,
    /// Lines from each log's end to start with; where nothing is said all with `since`, else 10.
    pub lines: Option<usize>,
    /// Nothing from before.
    pub since: Option<Timestamp>,
    /// With more than one, each line starts with `[label] `.
    pub files: Vec<LogFile>,
    /// Each line is a JSON object, which says what it is of; there are no labels then.
    pub json: bool,
    /// Labels have colours.
    pub has_colours: bool,
}

/// A log and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// In front of its lines.
    pub label: String,
    pub path: PathBuf,
    pub of: Origin,
}

/// Whose lines are in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A server's output; stamped by the node manager, or as it came.
    Server { name: String, is_stderr: bool, is_stamped: bool },
    /// The pair's own log.
    Pair { node: String, is_standby: bool },
}

/// Shows the logs on `out`, which is standard output or leads there. A reader that goes away ends
/// it without an error.
///
/// # Errors
/// A log that can't be read, or an `out` that can't be written.
pub fn run(options: &LogsOptions, out: &mut dyn Write) -> io::Result<()> {
    match show(options, out) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn show(options: &LogsOptions, out: &mut dyn Write) -> io::Result<()> {
    let labelled = options.files.len() > 1 && !options.json;
    let json = options.json.then(|| JsonLines::new(&options.files));
    let has_colours = options.has_colours;
    let mut printer = Printer { out, labelled, has_colours, open_line_of: None, json };
    let mut followers = Vec::new();
    for LogFile { label, path, .. } in &options.files {
        let newest = open_newest(path)?;
        let mut pieces = first_pieces(options, path, &newest)?;
        if newest.file.is_none() && pieces.is_empty() && !options.follow {
            let _ = writeln!(io::stderr(), "{label}: no output yet ({})", path.display());
        }
        let last = if newest.file.is_some() { pieces.pop() } else { None };
        let index = followers.len();
        let mut follower = Follower::new(index, label, path, newest.older_up_to);
        for piece in pieces {
            follower.show_piece(piece, true, &mut printer)?;
        }
        if let Some(piece) = last {
            follower.show_piece(piece, !options.follow, &mut printer)?;
        }
        followers.push(follower);
    }
    printer.out.flush()?;
    while options.follow && !reader_is_gone() {
        for follower in &mut followers {
            while follower.look(&mut printer)? {}
        }
        printer.out.flush()?;
    }
    printer.end_line()
}

/// What is shown before anything is followed.
fn first_pieces(options: &LogsOptions, path: &Path, newest: &Newest) -> io::Result<Vec<Piece>> {
    match (options.since, options.lines) {
        (None, lines) => last_pieces(path, newest, lines.unwrap_or(DEFAULT_LINES)),
        (Some(since), None) => since::pieces(path, newest, since),
        (Some(since), Some(lines)) => last_of(since::pieces(path, newest, since)?, lines),
    }
}

/// Waits until the next look. True when nobody reads standard output any more, which otherwise
/// only the next write would show.
pub(super) fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::from(LOOK_EVERY_MS)).is_ok_and(|events| events > 0)
}

/// Puts labels in front of lines, and keeps the lines of several logs apart.
struct Printer<'a> {
    out: &'a mut dyn Write,
    labelled: bool,
    has_colours: bool,
    /// The log whose unfinished line was written last.
    open_line_of: Option<usize>,
    json: Option<JsonLines<'a>>,
}

impl Printer<'_> {
    fn write(&mut self, index: usize, label: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some(json) = &mut self.json {
            return json.write(index, bytes, self.out);
        }
        if !self.labelled {
            return self.out.write_all(bytes);
        }
        if self.open_line_of != Some(index) {
            self.end_line()?;
        }
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            if self.open_line_of.is_none() {
                self.write_label(index, label)?;
            }
            self.out.write_all(part)?;
            self.open_line_of = if part.ends_with(b"\n") { None } else { Some(index) };
        }
        Ok(())
    }

    fn write_label(&mut self, index: usize, label: &str) -> io::Result<()> {
        if !self.has_colours {
            return write!(self.out, "[{label}] ");
        }
        let colour = COLOURS.get(index % COLOURS.len()).copied().unwrap_or_default();
        write!(self.out, "\x1b[{colour}m[{label}]\x1b[0m ")
    }

    /// Ends an unfinished line, where another log or the end follows.
    fn end_line(&mut self) -> io::Result<()> {
        if let Some(json) = &mut self.json {
            json.end(self.out)?;
        }
        if self.open_line_of.take().is_some() {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
