//! Follows the history through its being made smaller, removed and made again.
//!
//! Must not wait. A smaller history is another file with the same newer half: what was shown is
//! known by its number.

use crate::events::{LINE_MAX, Record, records};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// How far the history was shown.
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of the file up to here are whole lines that were read.
    read: u64,
    last: u64,
}

/// All that is there, and what goes on from its end.
///
/// # Errors
/// It is there but can't be read.
pub fn begin(path: &Path, max: u64) -> io::Result<(Follower, Vec<Record>)> {
    let mut follower = Follower { path: path.to_owned(), file: open(path)?, read: 0, last: 0 };
    let size = follower.size()?;
    follower.read = size.saturating_sub(max);
    let mut records = Vec::new();
    while follower.read < size {
        let before = follower.read;
        records.extend(follower.read_on()?);
        if follower.read == before {
            break;
        }
    }
    Ok((follower, records))
}

impl Follower {
    /// What is new.
    ///
    /// # Errors
    /// It can't be read.
    pub fn look(&mut self) -> io::Result<Vec<Record>> {
        if self.size()? < self.read {
            // Somebody cut it.
            self.read = 0;
        }
        let records = self.read_on()?;
        let is_same = match &self.file {
            Some(file) => crate::output::leads_to(&self.path, file)?,
            None => false,
        };
        if is_same || !records.is_empty() {
            return Ok(records);
        }
        let Some(file) = open(&self.path)? else { return Ok(records) };
        (self.file, self.read) = (Some(file), 0);
        let last = self.last;
        let (_, records) = begin(&self.path, self.size()?)?;
        if records.iter().all(|record| record.seq < last) {
            // It is another history, which begins anew.
            self.last = 0;
        }
        Ok(Vec::new())
    }

    fn size(&self) -> io::Result<u64> {
        self.file.as_ref().map_or(Ok(0), |file| Ok(file.metadata()?.size()))
    }

    /// The whole lines behind what was read.
    fn read_on(&mut self) -> io::Result<Vec<Record>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let room = file.metadata()?.size().saturating_sub(self.read).min(CHUNK_BYTES);
        let mut bytes = vec![0; usize::try_from(room).unwrap_or_default()];
        let length = file.read_at(&mut bytes, self.read)?;
        let bytes = bytes.get(..length).unwrap_or_default();
        let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            // No line of a history is so long.
            None if length > 16 * LINE_MAX => length,
            None => 0,
        };
        self.read += whole as u64;
        let mut records: Vec<Record> = records(bytes.get(..whole).unwrap_or_default()).collect();
        records.retain(|record| record.seq > self.last);
        self.last = records.iter().map(|record| record.seq).max().unwrap_or(self.last);
        Ok(records)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::file::EventFile;
    use crate::events::{Draft, Kind};
    use crate::output::test_dir::TestDir;

    #[test]
    fn a_history_is_followed_through_its_being_made_smaller_and_made_anew() {
        let dir = TestDir::new();
        let path = dir.path("events.jsonl");
        let (mut follower, records) = begin(&path, 1 << 20).unwrap();
        assert_eq!(records, []);
        let (mut file, _) = EventFile::open(&path).unwrap();
        let line = |seq| Record::new(seq, "t".into(), Draft::new(Kind::Takeover, "x")).line();
        let mut seen = Vec::new();
        let look = |follower: &mut Follower, seen: &mut Vec<u64>| {
            for _ in 0..3 {
                seen.extend(follower.look().unwrap().iter().map(|one| one.seq));
            }
        };
        for seq in 1..=300 {
            file.append(line(seq).as_bytes()).unwrap();
            file.shrink(2 << 10).unwrap();
            if seq % 7 == 0 {
                look(&mut follower, &mut seen);
            }
        }
        look(&mut follower, &mut seen);
        assert_eq!(seen, (1..=300).collect::<Vec<u64>>());
        std::fs::remove_file(&path).unwrap();
        file.append(line(1).as_bytes()).unwrap();
        look(&mut follower, &mut seen);
        assert_eq!(seen.last(), Some(&1));
    }
}
