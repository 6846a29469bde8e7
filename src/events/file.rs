//! The history on disk: lines are added, and when it grows too large the older half goes.
//!
//! Written by the active alone. Must not hold what it could not write: that is the caller's. A
//! write is whole or taken back; the smaller file takes the place of the larger one by a rename.

use super::records;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes at the end in which the last number, and a torn line, are looked for.
const END_BYTES: u64 = 64 << 10;

/// The history, open for adding.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl EventFile {
    /// Opens it, or makes it, and cuts a line that a crash left without its end. With it, the
    /// highest number in it; 0 where there is none.
    ///
    /// # Errors
    /// It can't be opened or read, or is no regular file.
    pub fn open(path: &Path) -> io::Result<(EventFile, u64)> {
        let file = open_for_adding(path)?;
        let size = file.metadata()?.size();
        let mut one = EventFile { path: path.to_owned(), file, size };
        let end = read_end(&one.file, size, END_BYTES)?;
        let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = (end.len() - whole) as u64;
        match torn {
            0 => {}
            // No line of ours is so long: it is kept, and ended.
            END_BYTES.. => one.add(b"\n")?,
            _ => {
                one.file.set_len(size - torn)?;
                one.size = size - torn;
            }
        }
        let last = records(&end).map(|record| record.seq).max().unwrap_or(0);
        Ok((one, last))
    }

    /// Adds whole lines.
    ///
    /// # Errors
    /// They could not be written; nothing of them is in the file then.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if !crate::output::leads_to(&self.path, &self.file).unwrap_or(false) {
            // Somebody removed or moved it.
            *self = EventFile::open(&self.path)?.0;
        }
        self.add(lines)
    }

    /// Keeps the newer half when more than `max` bytes are there.
    ///
    /// # Errors
    /// The smaller file could not be made; the larger one stays.
    pub fn shrink(&mut self, max: u64) -> io::Result<()> {
        if self.size <= max { Ok(()) } else { self.keep_newer(max / 2) }
    }

    fn add(&mut self, lines: &[u8]) -> io::Result<()> {
        let before = self.file.metadata()?.size();
        match self.file.write(lines) {
            Ok(written) if written == lines.len() => {
                self.size = before.saturating_add(written as u64);
                Ok(())
            }
            Ok(_) => {
                self.file.set_len(before)?;
                Err(io::ErrorKind::StorageFull.into())
            }
            Err(error) => Err(error),
        }
    }

    fn keep_newer(&mut self, bytes: u64) -> io::Result<()> {
        let end = read_end(&self.file, self.size, bytes)?;
        // The first line is a part of one.
        let whole = end.iter().position(|byte| *byte == b'\n').map_or(end.len(), |at| at + 1);
        let new = self.path.with_extension("jsonl.new");
        let _ = std::fs::remove_file(&new);
        let mut file = open_for_adding(&new)?;
        file.write_all(end.get(whole..).unwrap_or_default())?;
        std::fs::rename(&new, &self.path)?;
        self.size = file.metadata()?.size();
        self.file = file;
        Ok(())
    }
}

fn open_for_adding(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o640);
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// The last bytes of a file.
fn read_end(file: &File, size: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let start = size.saturating_sub(bytes);
    let mut end = vec![0; usize::try_from(size - start).map_err(io::Error::other)?];
    file.read_exact_at(&mut end, start)?;
    Ok(end)
}

/// The last `bytes` of a history, for [`records`]; nothing where there is none.
///
/// # Errors
/// It is there but can't be read.
pub fn read(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let size = file.metadata()?.size();
    read_end(&file, size, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Draft, Kind, Record};
    use crate::output::test_dir::TestDir;
    use std::fs;

    fn line(seq: u64) -> String {
        Record::new(seq, "2026-11-21T19:44:01.123Z".into(), Draft::new(Kind::Takeover, "x")).line()
    }

    #[test]
    fn a_torn_last_line_is_cut_and_numbers_go_on_behind_the_last_whole_one() {
        let dir = TestDir::new();
        let path = dir.path("events.jsonl");
        fs::write(&path, format!("{}{}{{\"seq\":3,\"ti", line(1), line(2))).unwrap();
        let (mut file, last) = EventFile::open(&path).unwrap();
        assert_eq!(last, 2);
        file.append(line(3).as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), line(1) + &line(2) + &line(3));
    }

    #[test]
    fn what_grows_too_large_keeps_its_newer_half() {
        let dir = TestDir::new();
        let path = dir.path("events.jsonl");
        let (mut file, _) = EventFile::open(&path).unwrap();
        for seq in 1..=500 {
            file.append(line(seq).as_bytes()).unwrap();
            file.shrink(8 << 10).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= 8 << 10);
        }
        let kept: Vec<u64> = records(&read(&path, 1 << 20).unwrap()).map(|one| one.seq).collect();
        let expected: Vec<u64> = (kept[0]..=500).collect();
        assert_eq!(kept, expected);
        assert!(kept.len() > 30, "{}", kept.len());
        assert_eq!(EventFile::open(&path).unwrap().1, 500);
    }

    #[test]
    fn a_history_that_was_removed_is_made_again() {
        let dir = TestDir::new();
        let path = dir.path("events.jsonl");
        let (mut file, _) = EventFile::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file.append(line(9).as_bytes()).unwrap();
        assert_eq!(records(&read(&path, 1 << 20).unwrap()).count(), 1);
    }

    #[test]
    fn rubbish_without_a_line_end_does_not_keep_events_out() {
        let dir = TestDir::new();
        let path = dir.path("events.jsonl");
        fs::write(&path, vec![b'x'; 100 << 10]).unwrap();
        let (mut file, last) = EventFile::open(&path).unwrap();
        file.append(line(last + 1).as_bytes()).unwrap();
        assert_eq!(records(&read(&path, 1 << 20).unwrap()).count(), 1);
    }
}
