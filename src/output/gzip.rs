//! Rotated logs as gzip files: `web.out.5` becomes `web.out.5.gz`.
//!
//! A killed compressor loses and doubles nothing: it writes to `web.out.5.gz.tmp`, renames that and
//! removes the original last. While both are there the original counts; what is unfinished is
//! removed and done again. Must not be called in the pair's loop, except where nothing is opened:
//! a large file takes seconds.

use super::rotate::{self, gzipped, plain, rotated_files};
use super::{Access, open_log};
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// In the gzip header: our field's two letters and its length (RFC 1952, section 2.3.1.1), then
/// device and inode of the file that was compressed, for who follows it.
const FIELD: [u8; 4] = [b'N', b'M', 16, 0];
/// More than this is not read from a compressed log: it would be no log.
const MAX_BYTES: u64 = 64 << 30;
const CHUNK_BYTES: usize = 256 * 1024;

/// What came of one log's rotated files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressed {
    All,
    /// Some are too young, or were still written to: they are to be tried again.
    NotYet,
}

/// Compresses the rotated files of the log at `path` that were last written at least `min_age` ago,
/// oldest first, and keeps `max_files` of them. Only one process may do so at a time.
///
/// # Errors
/// A file can't be read or written (no room): the text names it. What was compressed stays.
pub fn compress_rotated(path: &Path, max_files: u32, min_age: Duration) -> io::Result<Compressed> {
    let mut result = Compressed::All;
    for (number, rotated) in rotated_files(path) {
        // Left by who was killed.
        let _ = fs::remove_file(temporary(path, number));
        if rotated != plain(path, number) {
            continue;
        }
        let done = compress(path, number, min_age).map_err(|cause| {
            let _ = fs::remove_file(temporary(path, number));
            let text = format!("cannot compress {}: {cause}", rotated.display());
            io::Error::new(cause.kind(), text)
        })?;
        if !done {
            result = Compressed::NotYet;
        }
    }
    rotate::prune(path, max_files);
    Ok(result)
}

fn temporary(path: &Path, number: u64) -> PathBuf {
    let mut name = OsString::from(gzipped(path, number));
    name.push(".tmp");
    PathBuf::from(name)
}

/// False: it is too young, or somebody writes to it.
fn compress(path: &Path, number: u64, min_age: Duration) -> io::Result<bool> {
    let (from, to, new) = (plain(path, number), gzipped(path, number), temporary(path, number));
    let mut source = match open_log(&from, Access::Read) {
        // It was the oldest, and a rotation removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    let before = source.metadata()?;
    let modified = before.modified()?;
    if SystemTime::now().duration_since(modified).unwrap_or_default() < min_age {
        return Ok(false);
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(before.mode() & 0o777);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(&new)?;
    let seconds = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut extra = FIELD.to_vec();
    extra.extend_from_slice(&before.dev().to_le_bytes());
    extra.extend_from_slice(&before.ino().to_le_bytes());
    let builder = GzBuilder::new().extra(extra).mtime(u32::try_from(seconds).unwrap_or(0));
    let mut writer = builder.write(file, Compression::default());
    let mut copied = 0u64;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        writer.write_all(buffer.get(..count).unwrap_or_default())?;
        copied = copied.saturating_add(count as u64);
    }
    let file = writer.finish()?;
    // `logs --since` goes by it.
    file.set_modified(modified)?;
    if source.metadata()?.len() != copied {
        fs::remove_file(&new)?;
        return Ok(false);
    }
    fs::rename(&new, &to)?;
    match fs::remove_file(&from) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

/// Whether the gzip file at `path` was made of `file`, which is still open here.
pub fn is_made_of(path: &Path, file: &File) -> bool {
    let (Ok(gzip), Ok(status)) = (open_log(path, Access::Read), file.metadata()) else {
        return false;
    };
    let decoder = GzDecoder::new(gzip);
    let wanted = [status.dev(), status.ino()].into_iter().flat_map(u64::to_le_bytes);
    let found = decoder.header().and_then(|header| header.extra());
    found.is_some_and(|extra| extra.iter().copied().eq(FIELD.into_iter().chain(wanted)))
}

/// What is in the gzip file, as a file without a name, last written when that was. One that is cut
/// gives what is there.
///
/// # Errors
/// No room for it, or it is no gzip file.
pub fn unpacked(gzip: File) -> io::Result<File> {
    let mut file = nameless()?;
    let modified = gzip.metadata()?.modified()?;
    let mut decoder = GzDecoder::new(gzip).take(MAX_BYTES);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => file.write_all(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    file.set_modified(modified)?;
    Ok(file)
}

fn nameless() -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
    match options.open(std::env::temp_dir()) {
        Ok(file) => Ok(file),
        // Not every file system can.
        Err(_) => Ok(File::from(memfd_create(c"nodemanager-log", MFdFlags::MFD_CLOEXEC)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::test_dir::TestDir;

    fn text_of(path: &Path) -> String {
        let mut file = unpacked(File::open(path).unwrap()).unwrap();
        let mut text = String::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    fn compress_all(log: &Path, max_files: u32) -> Compressed {
        compress_rotated(log, max_files, Duration::ZERO).unwrap()
    }

    #[test]
    fn rotated_files_become_gzip_files_with_time_and_content() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        for number in 1..=4 {
            fs::write(plain(&log, number), format!("{number}\n").repeat(1_000)).unwrap();
        }
        let time = fs::metadata(plain(&log, 2)).unwrap().modified().unwrap();
        fs::write(&log, "now\n").unwrap();
        assert_eq!(compress_all(&log, 3), Compressed::All);
        let names: Vec<_> = rotated_files(&log).into_iter().map(|(_, path)| path).collect();
        assert_eq!(names, [2, 3, 4].map(|number| gzipped(&log, number)));
        assert_eq!(text_of(&names[0]), "2\n".repeat(1_000));
        assert_eq!(fs::metadata(&names[0]).unwrap().modified().unwrap(), time);
        assert_eq!(fs::read_to_string(&log).unwrap(), "now\n");
    }

    #[test]
    fn what_a_killed_compressor_left_is_done_again() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        fs::write(plain(&log, 1), "one\n").unwrap();
        fs::write(gzipped(&log, 1), "cut").unwrap();
        fs::write(temporary(&log, 1), "half").unwrap();
        // While both are there, the original counts, once.
        assert_eq!(rotated_files(&log), [(1, plain(&log, 1))]);
        assert_eq!(compress_all(&log, 9), Compressed::All);
        assert_eq!(text_of(&gzipped(&log, 1)), "one\n");
        assert_eq!(fs::read_dir(dir.path("")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_too_young_waits() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        fs::write(plain(&log, 1), "one\n").unwrap();
        let result = compress_rotated(&log, 9, Duration::from_secs(3_600)).unwrap();
        assert_eq!((result, plain(&log, 1).exists()), (Compressed::NotYet, true));
    }

    #[test]
    fn a_gzip_file_is_known_as_the_file_that_it_was_made_of() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        fs::write(plain(&log, 1), "one\n").unwrap();
        fs::write(plain(&log, 2), "one\n").unwrap();
        let open = [1, 2].map(|number| File::open(plain(&log, number)).unwrap());
        compress_all(&log, 9);
        assert!(is_made_of(&gzipped(&log, 1), &open[0]));
        assert!(!is_made_of(&gzipped(&log, 2), &open[0]));
        fs::write(gzipped(&log, 3), "no gzip file").unwrap();
        assert!(!is_made_of(&gzipped(&log, 3), &open[1]));
        unpacked(File::open(gzipped(&log, 3)).unwrap()).unwrap_err();
    }
}
