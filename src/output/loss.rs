//! How many bytes of a server's output were dropped and not told yet, on record in a small file,
//! so that the count outlives whoever dropped them.
//!
//! What is about to be dropped is on record with its checksum before it goes: a successor that
//! still finds these bytes in the FIFO knows that they were not dropped. Must not need room on a
//! disk that is full: the file has its size from the beginning, and is written in place. It is
//! worth nothing after a reboot, as the FIFOs are, so nothing is synced. Where it can't be had,
//! the counts live in memory alone.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

/// Bytes of one server's record: far from crossing a page, so that no kill tears it.
const SLOT: usize = 32;
/// More is not read: records of 32,768 servers.
const FILE_MAX: u64 = 1 << 20;
/// Bytes were dropped since the last one that is in the log.
const GAP: u32 = 1;
/// What follows in the FIFO is the rest of a line whose beginning was dropped.
const MID_LINE: u32 = 2;

/// What one server lost since it was last told.
#[derive(Debug, Default)]
pub struct Loss {
    /// The record's file and the place in it.
    file: Option<(Rc<File>, u64)>,
    key: u64,
    dropped: u64,
    /// Bytes that may just have been dropped, and their checksum.
    pending: u32,
    pending_crc: u32,
    /// Newlines that were added behind lines that a full disk had cut.
    ended_lines: u32,
    flags: u32,
}

/// Opens the records of these servers in the file at `path`; makes it where it is missing or is of
/// other servers (what it says of those that are still there is kept).
///
/// # Errors
/// It can't be opened, or has no room.
pub fn open(path: &Path, names: &[&str]) -> io::Result<Vec<Loss>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let size = file.metadata()?.len().min(FILE_MAX);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let length = read_all(&file, &mut bytes)?;
    let slots = bytes.get(..length).unwrap_or_default().chunks_exact(SLOT);
    let old: Vec<Loss> = slots.filter_map(Loss::decode).collect();
    let keys: Vec<u64> = names.iter().map(|name| key_of(name)).collect();
    let is_same = length == names.len().saturating_mul(SLOT)
        && old.iter().map(|loss| loss.key).eq(keys.iter().copied());
    let mut by_key: HashMap<u64, Loss> = old.into_iter().map(|loss| (loss.key, loss)).collect();
    let mut new: Vec<Loss> = keys
        .iter()
        .map(|key| by_key.remove(key).unwrap_or(Loss { key: *key, ..Loss::default() }))
        .collect();
    if !is_same {
        let bytes: Vec<u8> = new.iter().flat_map(Loss::encode).collect();
        file.write_all_at(&bytes, 0)?;
        file.set_len(bytes.len() as u64)?;
    }
    let file = Rc::new(file);
    for (number, loss) in new.iter_mut().enumerate() {
        loss.file = Some((file.clone(), number.saturating_mul(SLOT) as u64));
    }
    Ok(new)
}

fn read_all(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0usize;
    loop {
        let rest = bytes.get_mut(length..).unwrap_or_default();
        match file.read_at(rest, length as u64) {
            Ok(0) => return Ok(length),
            Ok(more) => length = length.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// FNV-1a, 64 bits: names are few, and stay the same from one version to the next.
fn key_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Loss {
    fn encode(&self) -> [u8; SLOT] {
        let numbers = [self.pending, self.pending_crc, self.ended_lines, self.flags];
        let bytes = [self.key, self.dropped].into_iter().flat_map(u64::to_le_bytes);
        let mut slot = [0; SLOT];
        for (to, from) in
            slot.iter_mut().zip(bytes.chain(numbers.into_iter().flat_map(u32::to_le_bytes)))
        {
            *to = from;
        }
        slot
    }

    fn decode(slot: &[u8]) -> Option<Loss> {
        let long = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(slot.get(at..at + 4)?.try_into().ok()?));
        Some(Loss {
            file: None,
            key: long(0)?,
            dropped: long(8)?,
            pending: short(16)?,
            pending_crc: short(20)?,
            ended_lines: short(24)?,
            flags: short(28)?,
        })
    }

    /// An error leaves the count in memory: there is nowhere to put it.
    fn save(&self) {
        if let Some((file, at)) = &self.file {
            let _ = file.write_all_at(&self.encode(), *at);
        }
    }

    /// Goes on with this record, and adds to it what was counted so far.
    pub fn join(&mut self, record: Loss) {
        let own = std::mem::replace(self, record);
        self.dropped = self.dropped.saturating_add(own.dropped);
        self.ended_lines = self.ended_lines.saturating_add(own.ended_lines);
        self.flags |= own.flags;
        self.save();
    }

    /// Goes on in memory alone.
    pub fn detach(&mut self) {
        self.file = None;
    }

    /// How many bytes a predecessor may or may not have dropped.
    pub fn pending(&self) -> usize {
        self.pending as usize
    }

    /// Decides about them by what is in the FIFO now.
    pub fn settle(&mut self, in_fifo: &[u8]) {
        if self.pending == 0 {
            return;
        }
        let first = in_fifo.get(..self.pending());
        let is_there = first.is_some_and(|bytes| crc32fast::hash(bytes) == self.pending_crc);
        if !is_there {
            self.dropped = self.dropped.saturating_add(self.pending.into());
            // Whether they ended with a line is not known: a line too much goes rather than a
            // part of one.
            self.flags |= GAP | MID_LINE;
        }
        self.pending = 0;
        self.save();
    }

    /// To be called before these bytes are taken out of the FIFO.
    pub fn intend(&mut self, bytes: &[u8]) {
        self.pending = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.pending_crc = crc32fast::hash(bytes);
        self.save();
    }

    /// These bytes are gone.
    pub fn gone(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.pending = 0;
        self.dropped = self.dropped.saturating_add(bytes.len() as u64);
        self.flags = if *last == b'\n' { GAP } else { GAP | MID_LINE };
        self.save();
    }

    /// Bytes are missing behind the last one in the log.
    pub fn has_gap(&self) -> bool {
        self.flags & GAP != 0
    }

    /// The FIFO begins with the rest of a line.
    pub fn is_mid_line(&self) -> bool {
        self.flags & MID_LINE != 0
    }

    /// The log goes on, `ended_line`: behind a newline that was added.
    pub fn close_gap(&mut self, ended_line: bool) {
        self.flags = 0;
        self.ended_lines = self.ended_lines.saturating_add(ended_line.into());
        self.save();
    }

    /// Bytes that were dropped, and newlines that were added, since this was last told.
    pub fn untold(&self) -> (u64, u32) {
        (self.dropped, self.ended_lines)
    }

    /// What is untold was told.
    pub fn told(&mut self) {
        (self.dropped, self.ended_lines) = (0, 0);
        self.save();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::test_dir::TestDir;

    #[test]
    fn a_successor_finds_the_count_also_of_what_was_just_being_dropped() {
        let dir = TestDir::new();
        let path = dir.path("dropped");
        let mut first = open(&path, &["a", "b"]).unwrap();
        first[1].intend(b"one\n");
        first[1].gone(b"one\n");
        first[1].intend(b"two");
        // Still in the FIFO: not dropped.
        let mut next = open(&path, &["a", "b"]).unwrap();
        assert_eq!((next[1].untold(), next[1].pending()), ((4, 0), 3));
        next[1].settle(b"two and more");
        assert_eq!((next[1].untold(), next[1].is_mid_line()), ((4, 0), false));
        // No more in the FIFO: dropped.
        next[1].intend(b"two");
        let mut last = open(&path, &["a", "b"]).unwrap();
        last[1].settle(b"\n");
        assert_eq!((last[1].untold(), last[1].is_mid_line()), ((7, 0), true));
        assert_eq!(last[0].untold(), (0, 0));
        last[1].told();
        assert_eq!(open(&path, &["a", "b"]).unwrap()[1].untold(), (0, 0));
    }

    #[test]
    fn other_servers_and_a_damaged_file_cost_no_count_of_those_that_stay() {
        let dir = TestDir::new();
        let path = dir.path("dropped");
        open(&path, &["a", "b"]).unwrap()[1].gone(b"1234");
        let moved = open(&path, &["b", "c", "d"]).unwrap();
        assert_eq!(moved.iter().map(|loss| loss.untold().0).collect::<Vec<_>>(), [4, 0, 0]);
        std::fs::write(&path, b"xyz").unwrap();
        assert_eq!(open(&path, &["b"]).unwrap()[0].untold(), (0, 0));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SLOT as u64);
    }
}
