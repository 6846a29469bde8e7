//! The end of a log across its rotated files, which together are one stream of bytes.
//!
//! Reads backwards in chunks, never a whole file. Must not follow a log that grows. `last_lines`,
//! which the loop calls, must not open a compressed file.

use super::rotate::{gzipped, plain, rotated_files};
use super::{Access, gzip, leads_to, open_log, visible};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 64 * 1024;

/// A log's newest file, open, and what is known of the rotated ones.
#[derive(Debug)]
pub struct Newest {
    /// The file at the log's path; none where there is none (yet, or in the middle of a rotation).
    pub file: Option<File>,
    /// Every rotated file with this number or a lower one is older than `file`.
    pub older_up_to: u64,
}

/// Opens a log's newest file.
///
/// # Errors
/// It is there but can't be read.
pub fn open_newest(path: &Path) -> io::Result<Newest> {
    let file = open_if_there(path)?;
    let rotated = rotated_files(path);
    let own = file.as_ref().and_then(|file| number_in(&rotated, file));
    let highest = rotated.last().map_or(0, |(number, _)| *number);
    Ok(Newest { file, older_up_to: own.unwrap_or(highest) })
}

/// Opens a log file for reading; `None` where there is none.
///
/// # Errors
/// It is there but can't be read.
pub fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match open_log(path, Access::Read) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens a log's rotated file with this number for reading, unpacked where it is compressed;
/// `None` where there is none any more.
///
/// # Errors
/// It is there but can't be read.
pub fn open_rotated(path: &Path, number: u64) -> io::Result<Option<File>> {
    // In this order: the original goes only when its gzip file is there.
    if let Some(file) = open_if_there(&plain(path, number))? {
        return Ok(Some(file));
    }
    match open_if_there(&gzipped(path, number))? {
        Some(file) => gzip::unpacked(file).map(Some),
        None => Ok(None),
    }
}

/// The number that `file` has among `rotated`, when it was rotated (and compressed) since it was
/// opened.
pub fn number_in(rotated: &[(u64, PathBuf)], file: &File) -> Option<u64> {
    // The original is removed when its gzip file is there.
    let is_gone = file.metadata().is_ok_and(|status| status.nlink() == 0);
    let find = |(_, path): &&(u64, PathBuf)| match is_gzip(path) {
        true => is_gone && gzip::is_made_of(path, file),
        false => leads_to(path, file).unwrap_or(false),
    };
    rotated.iter().rev().find(find).map(|(number, _)| *number)
}

fn is_gzip(rotated: &Path) -> bool {
    rotated.extension().is_some_and(|ending| ending == "gz")
}

/// A log file and the bytes of it that are meant.
#[derive(Debug)]
pub struct Piece {
    /// Open for reading.
    pub file: File,
    /// First byte.
    pub start: u64,
    /// Byte after the last: the size when it was looked at.
    pub end: u64,
}

/// The pieces, oldest first, that hold the last `lines` lines of the log whose newest file is
/// `newest`. Where that file is open, the last piece is of it, even if it is empty.
///
/// # Errors
/// A file that can't be read.
pub fn last_pieces(path: &Path, newest: &Newest, lines: usize) -> io::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    // Newlines to pass before the one that stands in front of the wanted lines.
    let mut newlines = None;
    each_from_newest(path, newest, true, |file, size| {
        if size == 0 || lines == 0 {
            pieces.push(Piece { file, start: size, end: size });
            return Ok(lines > 0);
        }
        let mut pass = match newlines {
            Some(left) => left,
            None if ends_with_newline(&file, size)? => lines,
            None => lines.saturating_sub(1),
        };
        let start = start_of_lines(&file, 0, size, &mut pass)?;
        newlines = Some(pass);
        pieces.push(Piece { file, start: start.unwrap_or(0), end: size });
        Ok(start.is_none())
    })?;
    pieces.reverse();
    Ok(pieces)
}

/// The last `lines` lines of a log, of at most `max_bytes` together, for messages: lossy UTF-8,
/// control characters made visible. What can't be read is left out.
pub fn last_lines(path: &Path, lines: usize, max_bytes: usize) -> Vec<String> {
    let mut bytes = Vec::new();
    let Ok(newest) = open_newest(path) else { return Vec::new() };
    let _ = each_from_newest(path, &newest, false, |file, size| {
        let room = max_bytes.saturating_sub(bytes.len());
        let want = usize::try_from(size).map_or(room, |size| size.min(room));
        let mut part = vec![0; want];
        file.read_exact_at(&mut part, size.saturating_sub(want as u64))?;
        part.append(&mut bytes);
        bytes = part;
        let newlines = bytes.iter().filter(|b| **b == b'\n').count();
        Ok(bytes.len() < max_bytes && newlines <= lines)
    });
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut last: Vec<String> = bytes
        .rsplit(|b| *b == b'\n')
        .take(lines)
        .map(|line| visible(&String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line))))
        .collect();
    last.reverse();
    last
}

/// Of these pieces what holds the last `lines` lines.
///
/// # Errors
/// A file that can't be read.
pub fn last_of(mut pieces: Vec<Piece>, lines: usize) -> io::Result<Vec<Piece>> {
    let mut newlines = None;
    for at in (0..pieces.len()).rev() {
        let Some(piece) = pieces.get_mut(at).filter(|piece| piece.end > piece.start) else {
            continue;
        };
        let mut pass = match newlines {
            Some(left) => left,
            None if lines == 0 => {
                pieces.iter_mut().for_each(|piece| piece.start = piece.end);
                return Ok(pieces);
            }
            None if ends_with_newline(&piece.file, piece.end)? => lines,
            None => lines.saturating_sub(1),
        };
        if let Some(start) = start_of_lines(&piece.file, piece.start, piece.end, &mut pass)? {
            piece.start = start;
            return Ok(pieces.split_off(at));
        }
        newlines = Some(pass);
    }
    Ok(pieces)
}

/// Hands the log's files and their sizes to `visit`, newest first, until it says false. Only as
/// many are open as `visit` keeps. Stops at a compressed file unless it `unpacks`.
pub fn each_from_newest(
    path: &Path,
    newest: &Newest,
    unpacks: bool,
    mut visit: impl FnMut(File, u64) -> io::Result<bool>,
) -> io::Result<()> {
    if let Some(file) = &newest.file {
        let file = file.try_clone()?;
        let size = file.metadata()?.size();
        if !visit(file, size)? {
            return Ok(());
        }
    }
    let rotated = rotated_files(path);
    let own = newest.file.as_ref().and_then(|file| number_in(&rotated, file));
    for (number, rotated) in rotated.into_iter().rev() {
        if is_gzip(&rotated) && !unpacks {
            return Ok(());
        }
        if number > newest.older_up_to || Some(number) == own {
            continue;
        }
        // One that was removed meanwhile was the oldest: the rest is gone as well.
        let opened = match unpacks {
            true => open_rotated(path, number)?,
            false => open_if_there(&plain(path, number))?,
        };
        let Some(file) = opened else { return Ok(()) };
        let size = file.metadata()?.size();
        if !visit(file, size)? {
            return Ok(());
        }
    }
    Ok(())
}

fn ends_with_newline(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [0];
    Ok(file.read_at(&mut last, size.saturating_sub(1))? == 1 && last == *b"\n")
}

/// Goes back from `size` to `first` over `pass` newlines; where the next one is, the wanted lines
/// start behind it. `None`: they start in an older file, and `pass` is what is still to pass there.
fn start_of_lines(file: &File, first: u64, size: u64, pass: &mut usize) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut end = size;
    while end > first {
        let begin = end.saturating_sub(CHUNK_BYTES as u64).max(first);
        let length = usize::try_from(end.saturating_sub(begin)).unwrap_or(0);
        let chunk = buffer.get_mut(..length).unwrap_or_default();
        match file.read_exact_at(chunk, begin) {
            Ok(()) => {}
            // Truncated under our eyes: whatever is left is the end of the log.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
            Err(e) => return Err(e),
        }
        for (offset, byte) in chunk.iter().enumerate().rev() {
            if *byte != b'\n' {
                continue;
            }
            if *pass == 0 {
                return Ok(Some(begin.saturating_add(offset as u64).saturating_add(1)));
            }
            *pass = pass.saturating_sub(1);
        }
        end = begin;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::test_dir::TestDir;
    use std::fs;

    /// Lines 1 to 9 over three files, one of them cut within line 5 ("li" "ne 5").
    fn nine_lines(dir: &TestDir) -> PathBuf {
        let log = dir.path("web.out");
        fs::write(dir.path("web.out.9"), "line 1\nline 2\n").unwrap();
        fs::write(dir.path("web.out.10"), "line 3\nline 4\nli").unwrap();
        fs::write(&log, "ne 5\nline 6\nline 7\nline 8\nline 9").unwrap();
        log
    }

    fn expected(lines: usize) -> Vec<String> {
        (10 - lines.min(9)..10).map(|n| format!("line {n}")).collect()
    }

    #[test]
    fn the_last_lines_are_found_across_rotated_files() {
        let dir = TestDir::new();
        let log = nine_lines(&dir);
        for lines in 0..12 {
            assert_eq!(last_lines(&log, lines, 1 << 20), expected(lines));
            let newest = open_newest(&log).unwrap();
            let mut bytes = Vec::new();
            for piece in last_pieces(&log, &newest, lines).unwrap() {
                let mut part = vec![0; (piece.end - piece.start) as usize];
                piece.file.read_exact_at(&mut part, piece.start).unwrap();
                bytes.extend(part);
            }
            assert_eq!(String::from_utf8(bytes).unwrap(), expected(lines).join("\n"));
        }
    }

    #[test]
    fn the_last_lines_are_found_in_compressed_files_too_but_not_by_the_loop() {
        let dir = TestDir::new();
        let log = nine_lines(&dir);
        gzip::compress_rotated(&log, 9, std::time::Duration::ZERO).unwrap();
        let newest = open_newest(&log).unwrap();
        let pieces = last_pieces(&log, &newest, 8).unwrap();
        let sizes: Vec<_> = pieces.iter().map(|piece| piece.end - piece.start).collect();
        assert_eq!(sizes, [7, 16, 32]);
        let of_all = last_of(last_pieces(&log, &newest, 9).unwrap(), 6).unwrap();
        let sizes: Vec<_> = of_all.iter().map(|piece| piece.end - piece.start).collect();
        assert_eq!(sizes, [9, 32]);
        assert_eq!(last_lines(&log, 9, 1 << 20).len(), 5);
    }

    #[test]
    fn a_final_newline_is_the_end_of_a_line_and_not_a_line() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        fs::write(&log, "a\n\nb\n").unwrap();
        assert_eq!(last_lines(&log, 2, 100), ["", "b"]);
        let pieces = last_pieces(&log, &open_newest(&log).unwrap(), 2).unwrap();
        assert_eq!((pieces[0].start, pieces[0].end), (2, 5));
    }

    #[test]
    fn last_lines_are_bounded_and_made_visible() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        fs::write(&log, [vec![b'x'; 1 << 20], b"tail \x1b[1m\xff\r\n".to_vec()].concat()).unwrap();
        assert_eq!(last_lines(&log, 5, 14), ["xxtail \\x1b[1m\u{fffd}"]);
        assert!(last_lines(&dir.path("none.out"), 5, 12).is_empty());
    }

    #[test]
    fn a_newest_file_that_was_rotated_meanwhile_is_not_read_twice() {
        let dir = TestDir::new();
        let log = nine_lines(&dir);
        let newest = open_newest(&log).unwrap();
        crate::output::rotate::rotate(&log, 9).unwrap();
        fs::write(&log, "line 10\n").unwrap();
        let pieces = last_pieces(&log, &newest, 6).unwrap();
        assert_eq!(pieces.iter().map(|p| p.end - p.start).collect::<Vec<_>>(), [9, 32]);
    }
}
