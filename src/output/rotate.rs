//! Rotated log files: `web.out.1`, `web.out.2`, ... with rising numbers, so the highest is the
//! newest and one rename is the whole rotation. A compressed one is `web.out.2.gz`.
//!
//! A chain of renames (2 to 3, 1 to 2, ...) killed half-way would lose a kept file; this does not.
//! Must not open log files. A tool that counts the other way round (logrotate without `dateext`)
//! must not work on the same log.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Longest number that counts, in digits: adding 1 to one can't overflow.
const MAX_DIGITS: usize = 18;

/// Renames `path` to the next free number, then removes the oldest beyond `max_files`.
///
/// A file that can't be removed is tried again at the next rotation; so is one that a kill left.
///
/// # Errors
/// The directory can't be read (no descriptor is left), or the rename failed; nothing has changed.
pub fn rotate(path: &Path, max_files: u32) -> io::Result<()> {
    // Without knowing what is there, the new name could be that of a kept file.
    let all = numbered(path).map_err(|cause| {
        let text = format!("cannot look for rotated files of {}: {cause}", path.display());
        io::Error::new(cause.kind(), text)
    })?;
    let highest = all.last().map_or(0, |found| found.number);
    let to = plain(path, highest.saturating_add(1));
    fs::rename(path, &to).map_err(|cause| {
        let text = format!("cannot rename {} to {}: {cause}", path.display(), to.display());
        io::Error::new(cause.kind(), text)
    })?;
    prune(path, max_files);
    Ok(())
}

/// Removes the oldest rotated files beyond `max_files`.
pub fn prune(path: &Path, max_files: u32) {
    let kept = rotated_files(path);
    let beyond = kept.len().saturating_sub(usize::try_from(max_files).unwrap_or(usize::MAX));
    for (number, oldest) in kept.iter().take(beyond) {
        let _ = fs::remove_file(oldest);
        // One that was just compressed is there twice for a moment.
        let _ = fs::remove_file(gzipped(path, *number));
    }
}

/// The rotated files of `path`, oldest first, with their numbers; the original where a file and its
/// gzip file are both there. None where the directory can't be read.
pub fn rotated_files(path: &Path) -> Vec<(u64, PathBuf)> {
    let mut found = numbered(path).unwrap_or_default();
    found.retain(|found| found.regular);
    found.dedup_by_key(|found| found.number);
    let path_of = |found: Numbered| match found.gzip {
        true => (found.number, gzipped(path, found.number)),
        false => (found.number, plain(path, found.number)),
    };
    found.into_iter().map(path_of).collect()
}

struct Numbered {
    number: u64,
    gzip: bool,
    regular: bool,
}

/// Everything whose name is that of a rotated file, also what is no file: its number is taken.
fn numbered(path: &Path) -> io::Result<Vec<Numbered>> {
    let Some(name) = path.file_name() else { return Ok(Vec::new()) };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if let Some((number, gzip)) = number_of(&entry.file_name(), name) {
            let regular = entry.file_type().is_ok_and(|kind| kind.is_file());
            found.push(Numbered { number, gzip, regular });
        }
    }
    found.sort_unstable_by_key(|found| (found.number, found.gzip));
    Ok(found)
}

/// The number, and whether it is a gzip file.
fn number_of(entry: &OsStr, name: &OsStr) -> Option<(u64, bool)> {
    let rest = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes())?;
    let rest = std::str::from_utf8(rest.strip_prefix(b".")?).ok()?;
    let digits = rest.strip_suffix(".gz");
    let (digits, gzip) = (digits.unwrap_or(rest), digits.is_some());
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if !canonical || digits.len() > MAX_DIGITS {
        return None;
    }
    digits.parse().ok().map(|number| (number, gzip))
}

/// Where the rotated file with this number is.
pub fn plain(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Where its gzip file is.
pub fn gzipped(path: &Path, number: u64) -> PathBuf {
    let mut name = plain(path, number).into_os_string();
    name.push(".gz");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::test_dir::TestDir;

    #[test]
    fn the_newest_has_the_highest_number_and_the_oldest_beyond_the_limit_go() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        for n in 1..=12 {
            fs::write(&log, format!("{n}\n")).unwrap();
            rotate(&log, 3).unwrap();
        }
        let kept = rotated_files(&log);
        assert_eq!(kept.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [10, 11, 12]);
        assert_eq!(fs::read_to_string(&kept[2].1).unwrap(), "12\n");
    }

    #[test]
    fn what_a_killed_rotation_left_goes_with_the_next_one() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        for n in 1..=5 {
            fs::write(plain(&log, n), "").unwrap();
        }
        fs::write(&log, "").unwrap();
        rotate(&log, 2).unwrap();
        assert_eq!(rotated_files(&log).iter().map(|(n, _)| *n).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn other_names_are_left_alone_and_a_taken_number_is_not_used() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        let others = [
            "web.out.gz",
            "web.out.7.gz.tmp",
            "web.out.07",
            "web.out.07.gz",
            "web.out.-1",
            "web.out.9999999999999999999",
            "x",
        ];
        for other in others {
            fs::write(dir.path(other), "").unwrap();
        }
        fs::create_dir(dir.path("web.out.4")).unwrap();
        fs::write(&log, "").unwrap();
        rotate(&log, 1).unwrap();
        assert_eq!(rotated_files(&log), [(5, dir.path("web.out.5"))]);
        assert!(others.iter().all(|other| dir.path(other).exists()));
    }

    #[test]
    fn a_rotation_that_fails_says_what_it_could_not_rename() {
        let dir = TestDir::new();
        let text = rotate(&dir.path("none.out"), 1).unwrap_err().to_string();
        assert!(text.contains("none.out.1") && text.starts_with("cannot rename"), "{text}");
    }
}
