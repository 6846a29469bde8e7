//! `logs --json`: one object for each line, with what is known of it.
//!
//! Must not change a line, but for the time stamp that the node manager itself put in front of it.

use super::since::time_of;
use super::{LogFile, Origin};
use serde::Serialize;
use std::io::{self, Write};

/// A longer line comes in pieces, as when it is shown without JSON.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// What is printed of a line; absent is what is not known.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    /// RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    /// Of a server `stdout` or `stderr`, of a node `active` or `standby`.
    stream: &'static str,
    line: &'a str,
    /// It has no end: that comes in the next object of this stream, or is not written yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// The lines of several logs, each held back until it is whole.
pub(super) struct JsonLines<'a> {
    logs: Vec<Log<'a>>,
}

struct Log<'a> {
    of: &'a Origin,
    pending: Vec<u8>,
    /// A piece of the line was printed already.
    is_continued: bool,
}

impl<'a> JsonLines<'a> {
    pub(super) fn new(files: &'a [LogFile]) -> Self {
        let log =
            |file: &'a LogFile| Log { of: &file.of, pending: Vec::new(), is_continued: false };
        JsonLines { logs: files.iter().map(log).collect() }
    }

    /// Takes bytes of the log with that index, and prints the lines that are whole now.
    pub(super) fn write(
        &mut self,
        index: usize,
        bytes: &[u8],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let Some(log) = self.logs.get_mut(index) else { return Ok(()) };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            log.pending.extend_from_slice(text);
            if is_whole {
                log.print(true, out)?;
            } else if log.pending.len() >= MAX_LINE_BYTES {
                // A character is not cut in two.
                let last = log.pending.utf8_chunks().last();
                let cut = last.map_or(0, |chunk| chunk.invalid().len());
                let rest = log.pending.split_off(log.pending.len().saturating_sub(cut));
                log.print(false, out)?;
                log.pending = rest;
            }
        }
        Ok(())
    }

    /// Prints what has no end yet: nothing follows.
    pub(super) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let unfinished = self.logs.iter_mut().filter(|log| !log.pending.is_empty());
        unfinished.into_iter().try_for_each(|log| log.print(false, out))
    }
}

impl Log<'_> {
    fn print(&mut self, is_whole: bool, out: &mut dyn Write) -> io::Result<()> {
        let text = String::from_utf8_lossy(&self.pending);
        // A stamp is at the beginning of a line.
        let stamp = match self.is_continued {
            true => None,
            false => time_of(text.as_bytes()).map(|time| time.to_string()),
        };
        let partial = !is_whole;
        let line = match self.of {
            Origin::Server { name, is_stderr, is_stamped } => {
                let time = stamp.filter(|_| *is_stamped);
                let rest = text.split_once(' ').filter(|_| time.is_some());
                let line = rest.map_or(text.as_ref(), |(_, rest)| rest);
                let stream = if *is_stderr { "stderr" } else { "stdout" };
                Line { time, server: Some(name), stream, line, partial, ..Line::default() }
            }
            Origin::Pair { node, is_standby } => {
                let stream = if *is_standby { "standby" } else { "active" };
                let (time, node) = (stamp, Some(node.as_str()));
                Line { time, node, stream, line: &text, partial, ..Line::default() }
            }
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
        self.pending.clear();
        self.is_continued = !is_whole;
        Ok(())
    }
}
