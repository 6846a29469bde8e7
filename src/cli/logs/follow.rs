//! Follows one log through rotation, truncation and removal without losing a line.
//!
//! A rotated file keeps its inode and gets the next number, so the files after the one that is
//! open are known also when several rotations happened since the last look. Must not wait.

use super::Printer;
use crate::output::leads_to;
use crate::output::rotate::rotated_files;
use crate::output::tail::{Piece, number_in, open_if_there, open_rotated};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Most bytes read at once; of a longer line pieces are shown as they come.
const CHUNK_BYTES: usize = 64 * 1024;
/// Rotations that may come between two steps of one look; after that the next look goes on.
const MAX_TRIES: u32 = 10;

/// One log and how far it was shown.
pub(super) struct Follower<'a> {
    index: usize,
    label: &'a str,
    path: &'a Path,
    file: Option<File>,
    /// It had a name when it was opened, so that its number can be found by its inode. What was
    /// unpacked has none, and may have got the inode of a log that was removed.
    has_name: bool,
    shown: u64,
    /// Rotated files up to this number are older than `file`, or were shown.
    seen_up_to: u64,
}

impl<'a> Follower<'a> {
    /// A log of which nothing was shown, but whose rotated files up to `seen_up_to` are not wanted.
    pub(super) fn new(index: usize, label: &'a str, path: &'a Path, seen_up_to: u64) -> Self {
        Follower { index, label, path, file: None, has_name: false, shown: 0, seen_up_to }
    }

    /// Shows a piece of the log and goes on from there. `whole`: also a last line that has no end
    /// yet.
    pub(super) fn show_piece(
        &mut self,
        piece: Piece,
        whole: bool,
        to: &mut Printer,
    ) -> io::Result<()> {
        self.has_name = piece.file.metadata()?.nlink() > 0;
        self.file = Some(piece.file);
        self.shown = piece.start;
        self.copy(piece.end, whole, to)
    }

    /// Shows what is new. True when there is a next file to look at without waiting.
    pub(super) fn look(&mut self, to: &mut Printer) -> io::Result<bool> {
        if let Some(file) = &self.file {
            let size = file.metadata()?.size();
            if size < self.shown {
                self.shown = 0;
            }
            self.copy(size, false, to)?;
        }
        if let Some(file) = &self.file
            && leads_to(self.path, file)?
        {
            return Ok(false);
        }
        let Some((next, has_name, seen_up_to)) = self.next_file()? else { return Ok(false) };
        if let Some(file) = &self.file {
            // Its writer uses the next file by now, so this is its end.
            let size = file.metadata()?.size();
            self.copy(size, true, to)?;
        }
        (self.file, self.has_name) = (Some(next), has_name);
        (self.shown, self.seen_up_to) = (0, seen_up_to);
        Ok(true)
    }

    /// The file after the one that is open, whether its number is still to be found by its inode, and
    /// the number up to which all are older than it.
    fn next_file(&self) -> io::Result<Option<(File, bool, u64)>> {
        for _ in 0..MAX_TRIES {
            let (mut seen, mut next) = self.first_unseen();
            if next.is_some_and(|number| number > seen.saturating_add(1)) {
                // A listing made while files come, or while one is compressed, may show a new one
                // without the one before it; a second listing can't miss what came before
                // something in the first.
                (seen, next) = self.first_unseen();
            }
            if let Some(number) = next {
                match open_rotated(self.path, number)? {
                    Some(file) => return Ok(Some((file, false, number))),
                    None => continue,
                }
            }
            let Some(file) = open_if_there(self.path)? else { return Ok(None) };
            // A rotation between the two steps would hide the file that came in between.
            let rotated = rotated_files(self.path);
            match rotated.iter().find(|(number, _)| *number > seen) {
                // It can be this file itself, which was rotated just now.
                Some((number, _)) if number_in(&rotated, &file) != Some(*number) => {}
                _ => return Ok(Some((file, true, seen))),
            }
        }
        Ok(None)
    }

    /// The number up to which rotated files were shown, and the first one after that.
    fn first_unseen(&self) -> (u64, Option<u64>) {
        let rotated = rotated_files(self.path);
        let named = self.file.as_ref().filter(|_| self.has_name);
        let own = named.and_then(|file| number_in(&rotated, file));
        let seen = own.unwrap_or(0).max(self.seen_up_to);
        (seen, rotated.into_iter().map(|(number, _)| number).find(|number| *number > seen))
    }

    /// Shows the file's bytes up to `until`. With several logs a line is held back until it is
    /// `whole` or long, so that the lines of different logs do not mix.
    fn copy(&mut self, until: u64, whole: bool, to: &mut Printer) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.shown >= until {
            return Ok(());
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        while self.shown < until {
            let want = usize::try_from(until.saturating_sub(self.shown)).unwrap_or(CHUNK_BYTES);
            let room = buffer.get_mut(..want.min(CHUNK_BYTES)).unwrap_or_default();
            let read = file.read_at(room, self.shown)?;
            let chunk = room.get(..read).unwrap_or_default();
            let newline = chunk.iter().rposition(|b| *b == b'\n');
            let shown = match newline {
                _ if whole || !to.labelled => chunk,
                Some(at) => chunk.get(..=at).unwrap_or_default(),
                None if read == CHUNK_BYTES => chunk,
                None => return Ok(()),
            };
            if shown.is_empty() {
                return Ok(());
            }
            to.write(self.index, self.label, shown)?;
            self.shown = self.shown.saturating_add(shown.len() as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::gzip::compress_rotated;
    use crate::output::test_dir::TestDir;
    use std::fs;
    use std::time::Duration;

    /// A file without a name gets the inode of any file that was removed.
    #[test]
    fn what_was_unpacked_is_not_taken_for_the_log_whose_inode_it_got() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        for number in 1..=3 {
            fs::write(dir.path(&format!("web.out.{number}")), format!("{number}\n")).unwrap();
        }
        let third = File::open(dir.path("web.out.3")).unwrap();
        compress_rotated(&log, 10, Duration::ZERO).unwrap();
        assert_eq!(number_in(&rotated_files(&log), &third), Some(3), "it has its inode");
        let mut follower = Follower::new(0, "web", &log, 1);
        follower.file = Some(third);
        assert_eq!(follower.first_unseen(), (1, Some(2)), "it is what was unpacked of the first");
        follower.has_name = true;
        assert_eq!(follower.first_unseen(), (3, None));
    }
}
