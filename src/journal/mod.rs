//! The journal on disk: every server's record, in two preallocated files used in turn.
//!
//! Payloads are opaque bytes here. Must not know what they mean, log, sleep, or write anything
//! outside the two files; the layout and its reasons are in docs/JOURNAL.md.

mod files;
mod format;
mod reader;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;

pub use format::Wanted;
pub use reader::{read, read_once, read_wanted};

use files::Files;
use format::{Chain, Key};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use writer::Writer;

/// The largest payload of one record, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// The smallest size of a journal file, in bytes.
pub const MIN_FILE: u64 = 64 << 10;
/// The largest size of a journal file, in bytes.
pub const MAX_FILE: u64 = 1 << 30;
/// The longest node name or boot id, in bytes.
pub const MAX_NAME: usize = 1024;

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    A,
    B,
}

impl Slot {
    const BOTH: [Slot; 2] = [Slot::A, Slot::B];

    fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    fn path(self, run_dir: &Path) -> PathBuf {
        run_dir.join(match self {
            Slot::A => "journal.a",
            Slot::B => "journal.b",
        })
    }
}

/// Where the processes on record live: numbers mean nothing outside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The node's name, at most `MAX_NAME` bytes.
    pub node: String,
    /// /proc/sys/kernel/random/boot_id, at most `MAX_NAME` bytes.
    pub boot_id: String,
    /// The inode of /proc/self/ns/pid.
    pub pid_namespace: u64,
}

/// A place from which on a file can't be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// What was found there.
    pub text: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.file.display(), self.offset, self.text)
    }
}

/// What the journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub origin: Origin,
    /// Rises by one with every compaction.
    pub generation: u64,
    /// The snapshot and what was appended to it, oldest first.
    pub payloads: Vec<Vec<u8>>,
    /// Where the next record belongs; `None` beside damage.
    pub end: Option<End>,
    /// Something is or may be missing: `payloads` are what was before the damage, or those of
    /// the generation before.
    pub damage: Option<Damage>,
}

/// The place behind the last record of a journal that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    slot: Slot,
    key: Key,
    offset: u64,
    chain: Chain,
}

/// Why there are no contents although there is a journal.
#[derive(Debug)]
pub enum ReadError {
    /// A program of another format wrote it; it must be left alone (exit status 78).
    UnknownVersion { file: PathBuf, version: u32 },
    /// No file has a sound header; what was in them is lost.
    Unusable(Damage),
    /// A file can't be opened.
    Io { file: PathBuf, error: io::Error },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::UnknownVersion { file, version } => write!(
                f,
                "cannot read {}: its format version is {version}, and this nodemanager knows {} \
                 only; use the one that wrote it, or stop its servers and remove the file",
                file.display(),
                format::VERSION
            ),
            ReadError::Unusable(damage) => write!(f, "cannot read the journal: {damage}"),
            ReadError::Io { file, error } => write!(f, "cannot open {}: {error}", file.display()),
        }
    }
}

impl std::error::Error for ReadError {}

/// The result of an append that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Appended {
    /// It is in the file.
    Written,
    /// There is no room: nothing was written. `compact`, then append again, once.
    Full,
}

/// The journal of the one active, open for writing. Who holds it holds the pair's lock.
pub struct Journal {
    writer: Writer<Files>,
}

impl Journal {
    /// Starts a new generation that holds this snapshot; what is there stays valid until the
    /// snapshot is complete. `capacity_bytes` is the size of each file, kept within `MIN_FILE`
    /// and `MAX_FILE`; a full disk leaves files that are large enough as they are.
    ///
    /// # Errors
    /// A file can't be opened, holds another format, or has no room for the snapshot; a name
    /// or payload is too long.
    pub fn create(
        run_dir: &Path,
        origin: Origin,
        capacity_bytes: u64,
        snapshot: &mut dyn Iterator<Item = Vec<u8>>,
    ) -> io::Result<Journal> {
        let (files, newest) = Files::open(run_dir)?;
        let mut writer = Writer::new(files, origin, capacity_bytes, newest);
        writer.compact(snapshot)?;
        Ok(Journal { writer })
    }

    /// Goes on in the generation that was read up to `end`, by the only writer since: writes nothing yet.
    ///
    /// # Errors
    /// A file can't be opened, or the one that counts now is another one.
    pub fn go_on(
        run_dir: &Path,
        origin: Origin,
        capacity_bytes: u64,
        end: End,
    ) -> io::Result<Journal> {
        let (files, newest) = Files::open(run_dir)?;
        if newest != Some((end.slot, end.key)) {
            return Err(io::Error::other("the journal is not the one that was read"));
        }
        Ok(Journal { writer: Writer::behind(files, origin, capacity_bytes, end) })
    }

    /// Adds one record behind the last.
    ///
    /// # Errors
    /// The payload is empty or longer than `MAX_PAYLOAD`, or the write failed: then the record
    /// does not count, and the next append takes its place.
    pub fn append(&mut self, payload: &[u8]) -> io::Result<Appended> {
        self.writer.append(payload)
    }

    /// Writes a full snapshot into the other file and goes on there. Both files grow where it
    /// would fill more than half of them.
    ///
    /// # Errors
    /// It could not be written, or has no room; the journal goes on in the file it was in.
    pub fn compact(&mut self, snapshot: &mut dyn Iterator<Item = Vec<u8>>) -> io::Result<()> {
        self.writer.compact(snapshot)
    }

    /// The generation now written to.
    pub fn generation(&self) -> u64 {
        self.writer.generation()
    }

    /// Why a full disk could stop the next appends, if it could; renewed at each compaction.
    pub fn warning(&self) -> Option<&str> {
        self.writer.warning()
    }

    /// Somebody removed, replaced or cut one of the files: `create` makes them anew.
    pub fn is_gone(&self, run_dir: &Path) -> bool {
        self.writer.slots().are_gone(run_dir)
    }
}
