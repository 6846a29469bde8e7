//! The link between the twins: messages to bytes and back, checked and limited.
//!
//! Must not do I/O, know the time, or decide anything: who says what and when is the caller's
//! (docs/LINK.md).

#[cfg(test)]
mod tests;

use crate::core::{Entry, Record};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The protocol this program speaks; twins with different numbers refuse each other.
pub const PROTOCOL: u32 = 1;
/// The longest payload of a frame, in bytes.
pub const MAX_FRAME: usize = 1 << 20;
/// The longest payload of a frame before the secret was proven, in bytes.
pub const MAX_HELLO: usize = 4 << 10;
/// The most bytes that may be pushed at once into a decoder whose messages were all taken.
pub const MAX_PUSH: usize = 64 << 10;

/// Length and checksum in front of a payload.
const FRAME_HEAD: usize = 8;

/// How the payload of a record begins; the record's own text follows without its first brace.
const ENTRY_HEAD: &[u8] = b"{\"kind\":\"entry\",";

/// One message of the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[allow(clippy::large_enum_variant, reason = "few of them are there at a time")]
pub enum Message {
    /// Standby: who it is, and the proof that the active started it.
    Hello { protocol: u32, version: String, pid: i32, start_ticks: u64, secret: Secret },
    /// Active: the hello was right; who the active is.
    Welcome { protocol: u32, version: String, pid: i32, start_ticks: u64 },
    /// Active: the hello was not right; the connection ends.
    Refused { reason: String },
    /// Both: the loop turns. The counter rises by one with each.
    Beat { counter: u64 },
    /// Active: one record of the journal, as it was written or is about to be.
    Entry(Entry),
    /// Active: every record up to `seq` was sent; so many servers are on record.
    SnapshotEnd { seq: u64, servers: u64 },
    /// Standby: it has every record up to `seq`.
    Ack { seq: u64 },
    /// Standby: it holds what a takeover needs.
    Watching,
    /// Active: the standby is to end.
    Stop,
    /// Standby: it ends because it was told to.
    Stopping,
    /// Something that a later version says; to be ignored.
    #[serde(other)]
    Unknown,
}

/// What only the two twins know. It does not show in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Compares two secrets in a time that tells nothing but their lengths. Empty ones never match.
pub fn secret_matches(a: &Secret, b: &Secret) -> bool {
    let (a, b) = (a.0.as_bytes(), b.0.as_bytes());
    let differing = a.iter().zip(b).fold(0, |bits, (x, y)| std::hint::black_box(bits | (x ^ y)));
    a.len() == b.len() && !a.is_empty() && differing == 0
}

/// Why bytes are not a message. What follows on the connection can't be read: it must be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A payload is longer than allowed.
    TooLong { bytes: usize, limit: usize },
    /// More was pushed than can be waiting: messages must be taken before the next push.
    Overflow,
    /// The payload does not match its checksum.
    Checksum,
    /// The payload is no message.
    Message(String),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { bytes, limit } => {
                write!(f, "a frame of {bytes} bytes is longer than {limit}")
            }
            FrameError::Overflow => f.write_str("more bytes came than the link may hold"),
            FrameError::Checksum => f.write_str("a frame does not match its checksum"),
            FrameError::Message(cause) => write!(f, "a frame holds no message: {cause}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Adds one frame to `out`, or nothing.
///
/// # Errors
/// The message is longer than `MAX_FRAME`.
pub fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let payload =
        serde_json::to_vec(message).map_err(|error| FrameError::Message(error.to_string()))?;
    frame(&payload, out)
}

fn frame(payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let len = match u32::try_from(payload.len()) {
        Ok(len) if payload.len() <= MAX_FRAME => len,
        _ => return Err(FrameError::TooLong { bytes: payload.len(), limit: MAX_FRAME }),
    };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// Adds the frame of a record to `out`, or nothing. `record`: its text, as it is in the journal.
///
/// # Errors
/// The record is longer than `MAX_FRAME`.
pub fn encode_entry(record: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let rest = record.strip_prefix(b"{").unwrap_or(record);
    frame(&[ENTRY_HEAD, rest].concat(), out)
}

/// Most messages are records. The kind may come anywhere, so that a message is read twice, first as
/// anything; where it comes first and is known, that is saved: half of what a record costs.
fn message(payload: &[u8]) -> serde_json::Result<Message> {
    if !payload.starts_with(ENTRY_HEAD) {
        return serde_json::from_slice(payload);
    }
    let EntryFrame { seq, record, .. } = serde_json::from_slice(payload)?;
    Ok(Message::Entry(Entry { seq, record }))
}

/// A frame whose kind is known.
#[derive(Deserialize)]
struct EntryFrame {
    /// Named, so that a second one is an error as in any other frame.
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    seq: u64,
    record: Record,
}

/// Bytes in, messages out. After an error it gives nothing but that error.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: Vec<u8>,
    /// How much of the buffer was taken.
    taken: usize,
    broken: Option<FrameError>,
}

impl Decoder {
    /// A decoder for frames of at most `limit` bytes (`MAX_HELLO`, then `MAX_FRAME`).
    pub fn new(limit: usize) -> Decoder {
        let limit = limit.min(MAX_FRAME);
        Decoder { limit, buffer: Vec::new(), taken: 0, broken: None }
    }

    /// Changes the limit for the frames that were not taken yet.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_FRAME);
    }

    /// Keeps bytes that came: at most `MAX_PUSH` at once, after `next` said `None`.
    ///
    /// # Errors
    /// `Overflow`, or the error that came before.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.len().saturating_add(bytes.len()) > FRAME_HEAD + self.limit + MAX_PUSH {
            return self.fail(FrameError::Overflow);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole message; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The bytes are no message.
    #[expect(clippy::should_implement_trait, reason = "an iterator would go on after an error")]
    pub fn next(&mut self) -> Result<Option<Message>, FrameError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let waiting = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((head, rest)) = waiting.split_first_chunk::<FRAME_HEAD>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
        let len = u32::from_be_bytes([l0, l1, l2, l3]);
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        if bytes > self.limit {
            return self.fail(FrameError::TooLong { bytes, limit: self.limit });
        }
        let Some(payload) = rest.get(..bytes) else {
            return Ok(None);
        };
        if crc32fast::hash(payload) != u32::from_be_bytes([c0, c1, c2, c3]) {
            return self.fail(FrameError::Checksum);
        }
        match message(payload) {
            Ok(message) => {
                self.taken += FRAME_HEAD + bytes;
                Ok(Some(message))
            }
            Err(error) => self.fail(FrameError::Message(error.to_string())),
        }
    }

    fn fail<T>(&mut self, error: FrameError) -> Result<T, FrameError> {
        self.broken = Some(error.clone());
        self.buffer = Vec::new();
        self.taken = 0;
        Err(error)
    }
}
