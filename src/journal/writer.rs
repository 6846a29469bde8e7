//! The order of writes that keeps the journal whole, whatever is killed and whenever.
//!
//! Must not touch a file but through `Slots`, so that every order of steps can be tested.

use super::files::{Newest, Slots};
use super::format::{Chain, FREE_AT, HEADER_LEN, Header, Key, RECORD_HEAD};
use super::{Appended, End, MAX_FILE, MIN_FILE, Origin, Slot};
use std::io;

/// A snapshot is written in pieces of about this many bytes.
const PIECE: usize = 256 << 10;
/// How often one write that signals interrupt is tried again.
const INTERRUPTS: u32 = 16;

/// Writes the records of one journal.
pub(super) struct Writer<S: Slots> {
    slots: S,
    origin: Origin,
    /// The wanted size of both files.
    capacity: u64,
    current: Slot,
    key: Key,
    /// Where the next record goes; the end mark is there now.
    offset: u64,
    /// What the next record follows.
    chain: Chain,
    /// What the last append that found no room needs.
    short_of: u64,
    /// A header may be whole although its write failed: readers may follow the other file.
    unsure: bool,
    warning: Option<String>,
}

impl<S: Slots> Writer<S> {
    /// Writes nothing: the first `compact` begins the new generation, in the file that does
    /// not count now.
    pub fn new(slots: S, origin: Origin, capacity: u64, newest: Newest) -> Writer<S> {
        let (current, key) = newest.unwrap_or((Slot::B, Key { generation: 0, salt: 0 }));
        Writer {
            slots,
            origin,
            capacity: capacity.clamp(MIN_FILE, MAX_FILE),
            current,
            key,
            offset: 0,
            chain: Chain::begin(key),
            short_of: 0,
            unsure: false,
            warning: None,
        }
    }

    /// Writes nothing: the next record goes behind `end`.
    pub fn behind(slots: S, origin: Origin, capacity: u64, end: End) -> Writer<S> {
        let End { slot, key, offset, chain } = end;
        let capacity = capacity.max(slots.reserved(slot));
        Writer { offset, chain, ..Writer::new(slots, origin, capacity, Some((slot, key))) }
    }

    pub fn generation(&self) -> u64 {
        self.key.generation
    }

    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    pub fn slots(&self) -> &S {
        &self.slots
    }

    #[cfg(test)]
    pub fn slots_mut(&mut self) -> &mut S {
        &mut self.slots
    }

    /// See `Journal::append`.
    pub fn append(&mut self, payload: &[u8]) -> io::Result<Appended> {
        if self.unsure {
            let text = "cannot append to the journal: a header could not be written; compact first";
            return Err(io::Error::other(text));
        }
        let mut bytes = Vec::with_capacity(payload.len().saturating_add(2 * RECORD_HEAD));
        let mut chain = self.chain;
        chain.push_record(payload, &mut bytes)?;
        let next = self.offset + bytes.len() as u64;
        chain.push_end(&mut bytes);
        if next + RECORD_HEAD as u64 > self.slots.reserved(self.current) {
            self.short_of = bytes.len() as u64;
            return Ok(Appended::Full);
        }
        // The head comes last and takes the place of the end mark: a write that fails, is killed
        // or is seen half-way by a reader leaves the old end.
        let (head, rest) = bytes.split_at_checked(RECORD_HEAD).unwrap_or_default();
        self.write(self.current, self.offset + RECORD_HEAD as u64, rest)?;
        self.write(self.current, self.offset, head)?;
        (self.offset, self.chain) = (next, chain);
        Ok(Appended::Written)
    }

    /// See `Journal::compact`. The header comes last: until it is whole, the other file counts.
    pub fn compact(&mut self, snapshot: &mut dyn Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let target = self.current.other();
        let salt = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let key = Key { generation: self.key.generation.saturating_add(1), salt };
        let payload_start = HEADER_LEN as u64;
        let former = self.key.salt;
        let header = Header { key, former, origin: self.origin.clone(), payload_start };
        let header = header.encode()?;
        self.warning = None;
        self.prefer(target, self.capacity);
        self.need(target, payload_start)?;
        self.disuse(target, self.key)?;
        let mut chain = Chain::begin(key);
        let offset = self.write_records(target, &mut chain, payload_start, snapshot)?;
        let full = (offset + RECORD_HEAD as u64).saturating_add(self.short_of);
        self.prefer(target, self.size_for(full.saturating_mul(2)));
        // The next compaction must fit as well when the disk is full by then; and while a
        // header is sound, a file without its first block is one that somebody cut.
        self.capacity = self.capacity.max(self.slots.reserved(target));
        self.prefer(self.current, self.capacity);
        if self.key.generation == 0 {
            // Beside a sound header, a blank one counts as lost. Where this fails, readers look
            // for survivors without need.
            let _ = self.disuse(self.current, key);
        }
        if let Err(error) = self.write(target, 0, &header) {
            self.unsure = self.disuse(target, self.key).is_err();
            return Err(error);
        }
        self.unsure = false;
        (self.current, self.key, self.short_of) = (target, key, 0);
        (self.offset, self.chain) = (offset, chain);
        if self.slots.is_sparse() {
            let text = "the file system of the run directory cannot reserve space; a full disk \
                        would stop the journal";
            self.warning = Some(text.to_string());
        }
        Ok(())
    }

    /// Takes the checksum out of a file's header: from then on the file is unused, and the one with
    /// this key counts.
    fn disuse(&mut self, slot: Slot, counts: Key) -> io::Result<()> {
        self.write(slot, FREE_AT as u64, &counts.free_mark())
    }

    /// Writes the snapshot and the end mark; returns where the end mark is.
    fn write_records(
        &mut self,
        target: Slot,
        chain: &mut Chain,
        start: u64,
        snapshot: &mut dyn Iterator<Item = Vec<u8>>,
    ) -> io::Result<u64> {
        let mut offset = start;
        let mut piece = Vec::new();
        for payload in snapshot {
            chain.push_record(&payload, &mut piece)?;
            if piece.len() >= PIECE {
                self.need(target, offset + piece.len() as u64)?;
                self.write(target, offset, &piece)?;
                offset += piece.len() as u64;
                piece.clear();
            }
        }
        let end = offset + piece.len() as u64;
        chain.push_end(&mut piece);
        self.need(target, offset + piece.len() as u64)?;
        self.write(target, offset, &piece)?;
        Ok(end)
    }

    /// The capacity, doubled until it has so many bytes.
    fn size_for(&self, bytes: u64) -> u64 {
        let mut size = self.capacity;
        while size < bytes && size < MAX_FILE {
            size = size.saturating_mul(2).min(MAX_FILE);
        }
        size
    }

    /// Makes sure of so many bytes: the wanted size, or just enough, or an error.
    fn need(&mut self, slot: Slot, bytes: u64) -> io::Result<()> {
        if bytes <= self.slots.reserved(slot) {
            return Ok(());
        }
        if bytes > MAX_FILE {
            let text = format!("cannot compact the journal: it would need more than {MAX_FILE} B");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        self.slots.reserve(slot, self.size_for(bytes)).or_else(|_| self.slots.reserve(slot, bytes))
    }

    /// Asks for so many bytes, and goes on with a warning when they can't be had.
    fn prefer(&mut self, slot: Slot, bytes: u64) {
        if let Err(error) = self.slots.reserve(slot, bytes) {
            self.warning = Some(error.to_string());
        }
    }

    /// Writes all of it; a short write is gone on with where it stopped.
    fn write(&mut self, slot: Slot, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        let mut interrupts = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.slots.write_at(slot, offset + done as u64, rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error)
                    if error.kind() == io::ErrorKind::Interrupted && interrupts < INTERRUPTS =>
                {
                    interrupts += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
