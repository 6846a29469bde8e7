//! What happened to the pair and its servers: the record of an event, and the names of all kinds.
//!
//! Plain values and their form as lines of JSON. Must not decide what is an event: the loop does.

pub mod file;
mod kind;

pub use kind::Kind;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The name of the history in `stateDir`.
const FILE_NAME: &str = "events.jsonl";
/// Letters of a text that are kept, and of a string among the fields.
const TEXT_MAX: usize = 800;
const FIELD_MAX: usize = 200;
/// A record's line is shorter than this; the fields go where they would make it longer.
pub const LINE_MAX: usize = 4000;

/// Where the history is.
pub fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE_NAME)
}

/// What happened, before it has its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub kind: Kind,
    pub server: Option<String>,
    pub text: String,
    pub fields: Map<String, Value>,
}

impl Draft {
    /// Something about the pair.
    pub fn new(kind: Kind, text: impl Into<String>) -> Draft {
        Draft { kind, server: None, text: text.into(), fields: Map::new() }
    }

    /// It is about this server.
    pub fn of(mut self, server: &str) -> Draft {
        self.server = Some(server.to_owned());
        self
    }

    /// With one field more.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Draft {
        let value = match value.into() {
            Value::String(text) => Value::String(cut(&text, FIELD_MAX)),
            other => other,
        };
        self.fields.insert(name.to_owned(), value);
        self
    }
}

/// One event of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Rises by one with each event, over takeovers and restarts.
    pub seq: u64,
    /// RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// The name of a [`Kind`]; of one that a later version has, too.
    pub kind: String,
    #[serde(default)]
    pub server: Option<String>,
    /// For people, one line.
    pub text: String,
    /// What the kind says; see docs/EVENTS.md.
    #[serde(default)]
    pub fields: Map<String, Value>,
}

impl Record {
    /// The event with its number and time.
    pub fn new(seq: u64, time: String, draft: Draft) -> Record {
        let Draft { kind, server, text, mut fields } = draft;
        if serde_json::to_vec(&fields).map_or(0, |json| json.len()) > LINE_MAX / 2 {
            fields = Map::new();
        }
        let (kind, text) = (kind.name().to_owned(), cut(&text, TEXT_MAX));
        Record { seq, time, kind, server, text, fields }
    }

    /// Its line in the history.
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// A field that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name).and_then(Value::as_u64)
    }

    /// It is of this kind.
    pub fn is(&self, kind: Kind) -> bool {
        self.kind == kind.name()
    }
}

/// What the control socket answers: the newest events that the active has in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub schema: u32,
    /// The highest number that was given.
    pub last: u64,
    /// Oldest first.
    pub events: Vec<Record>,
}

/// The records in the lines of a text; what is none is left out.
pub fn records(text: &[u8]) -> impl Iterator<Item = Record> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.filter_map(record)
}

/// The record in a line.
pub fn record(line: &[u8]) -> Option<Record> {
    serde_json::from_slice(line).ok()
}

/// One line without control characters, and not too long.
fn cut(text: &str, letters: usize) -> String {
    let plain = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut plain: String = plain.take(letters + 1).collect();
    if let Some((at, _)) = plain.char_indices().nth(letters) {
        plain.truncate(at);
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_bounded_length_that_reads_back() {
        let text = "line\n".repeat(10_000);
        let mut draft =
            Draft::new(Kind::ServerFailed, &text).of("web").with("reason", text.as_str());
        for number in 0..1000 {
            draft = draft.with(&format!("field{number}"), number);
        }
        let record = Record::new(7, "2026-11-21T19:44:01.123Z".into(), draft);
        let line = record.line();
        assert!(line.len() < LINE_MAX && line.matches('\n').count() == 1, "{line}");
        assert!(records(line.as_bytes()).eq([record]));
    }

    #[test]
    fn what_is_no_record_is_left_out_and_what_a_later_version_adds_is_kept() {
        let text = "{\"seq\":1,\"time\":\"t\",\"kind\":\"new\",\"text\":\"x\",\"more\":1}\nrubbish\n{\"seq\":2";
        let records: Vec<Record> = records(text.as_bytes()).collect();
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].seq, records[0].kind.as_str()), (1, "new"));
    }

    #[test]
    fn kinds_have_names_that_differ() {
        let names: std::collections::BTreeSet<_> =
            Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(names.iter().all(is_name), "{names:?}");
    }
}
