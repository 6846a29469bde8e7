//! One line of the pair's own log, as text or as JSON.
//!
//! Must not read a clock or write anything.

use crate::output::visible;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use log::Level;
use std::time::SystemTime;

/// Longest line with its newline: what a pipe takes in one piece (PIPE_BUF, pipe(7)).
pub(super) const MAX_LINE_BYTES: usize = 4096;
/// Room for what journald puts in front of a line.
const PREFIX_BYTES: usize = "<7>".len();

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    /// One object a line: `time` (RFC 3339), `level`, `node`, `pid`, `code` and `text`.
    Json,
}

/// What makes lines.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub(super) name: String,
    pub(super) zone: TimeZone,
    pub(super) format: Format,
    /// journald knows time, level and name by itself; a line begins with its priority.
    pub(super) is_journal: bool,
}

#[derive(serde::Serialize)]
struct Object<'a> {
    time: String,
    level: &'a str,
    node: &'a str,
    pid: u32,
    code: &'a str,
    text: &'a str,
}

impl Stamp {
    pub(super) fn line(&self, now: SystemTime, level: Level, target: &str, text: &str) -> String {
        let is_code = target.len() == 4 && target.bytes().all(|b| b.is_ascii_digit());
        let code = if is_code { target } else { "0000" };
        let mut line = match self.format {
            Format::Text => cut(self.text(now, level, code, text), MAX_LINE_BYTES - PREFIX_BYTES),
            Format::Json => self.json(now, level, code, text),
        };
        if self.is_journal {
            line.insert_str(0, &format!("<{}>", priority(level)));
        }
        line.push('\n');
        line
    }

    fn text(&self, now: SystemTime, level: Level, code: &str, text: &str) -> String {
        let text = visible(text);
        if self.is_journal {
            return format!("[NodeManager-{code}] {text}");
        }
        let time = self.time(now, "%Y.%m.%d %H:%M:%S%.3f %z");
        format!("[{time}][{level}] [{}] [NodeManager-{code}] {text}", self.name)
    }

    fn json(&self, now: SystemTime, level: Level, code: &str, text: &str) -> String {
        let time = self.time(now, "%Y-%m-%dT%H:%M:%S%.3f%:z");
        let write = |text: &str| {
            let object = Object {
                time: time.clone(),
                level: level.as_str(),
                node: &self.name,
                pid: std::process::id(),
                code,
                text,
            };
            // Strings and a number: it can't fail.
            serde_json::to_string(&object).unwrap_or_default()
        };
        let line = write(text);
        let most = MAX_LINE_BYTES - PREFIX_BYTES - 1;
        if line.len() <= most {
            return line;
        }
        // An escape can be six times as long as its character.
        let room = most.saturating_sub(write("...").len());
        let mut used = 0usize;
        let fits = |letter: &char| {
            let bytes = if letter.is_control() { 6 } else { letter.len_utf8().max(2) };
            used = used.saturating_add(bytes);
            used <= room
        };
        let short: String = text.chars().take_while(fits).collect();
        write(&(short + "..."))
    }

    fn time(&self, now: SystemTime, format: &str) -> String {
        let now = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
        now.to_zoned(self.zone.clone()).strftime(format).to_string()
    }
}

/// Without the newline, so that it fits with it.
fn cut(mut line: String, most: usize) -> String {
    if line.len() >= most {
        let mut end = most.saturating_sub("...\n".len());
        while !line.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        line.truncate(end);
        line.push_str("...");
    }
    line
}

/// As syslog(3) numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
