//! Output: what servers write, moved from their FIFO to a log file; the pair's own log; and the
//! files of both.
//!
//! Must not read a clock except for the time in the pair's own log lines, must not block the
//! loop, and must not log: it returns what the caller should say.

mod drain;
pub mod gzip;
pub mod logger;
pub mod loss;
pub mod rotate;
mod stamp;
mod syslog;
pub mod tail;
mod zone;

#[cfg(test)]
pub(crate) mod test_dir;

pub use drain::{Drain, Limits, Lost, Now, PACED_BYTES, Pumped, Trouble};
pub use syslog::Syslog;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// How a log file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// For `splice`, which refuses a file opened with O_APPEND (EINVAL).
    Splice,
    /// For `write`, each at the file's end.
    Append,
    /// For reading; nothing is created.
    Read,
}

/// Opens a log file; one that is written is made (0640) where it is missing, and so is its
/// directory (0750), which somebody may have removed.
///
/// The directory may belong to a server's user, who could place something else there: symbolic
/// links, files with a second name and everything but a regular file are refused, and the open
/// can't block on a FIFO.
fn open_log(path: &Path, access: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o640);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    match access {
        Access::Splice => options.write(true).create(true),
        Access::Append => options.append(true).create(true),
        Access::Read => &mut options,
    };
    let opened = match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && access != Access::Read => {
            make_parent(path);
            options.open(path)
        }
        other => other,
    };
    opened.and_then(|file| refuse_strangers(file, access)).map_err(|cause| {
        let hint = match cause.raw_os_error() {
            Some(libc::ELOOP) => "; a symbolic link is not followed: remove it",
            _ => "",
        };
        let text = format!("cannot open {}: {cause}{hint}", path.display());
        io::Error::new(cause.kind(), text)
    })
}

/// Makes the directory of `path`. A failure shows itself at the open that follows.
fn make_parent(path: &Path) {
    if let Some(parent) = path.parent() {
        let _ = DirBuilder::new().mode(0o750).create(parent);
    }
}

fn refuse_strangers(file: File, access: Access) -> io::Result<File> {
    let status = file.metadata()?;
    if !status.is_file() {
        return Err(io::Error::other("it is no regular file; remove it"));
    }
    if status.nlink() > 1 && access != Access::Read {
        return Err(io::Error::other("it has more than one name (hard link); remove one of them"));
    }
    Ok(file)
}

/// Whether `path` still leads to `file`, which somebody may have renamed or removed.
pub(crate) fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(found.dev() == ours.dev() && found.ino() == ours.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// `text` with its control characters written out (`\n`, `\x1b`), so that it stays one line and
/// moves no cursor.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::test_dir::TestDir;
    use super::*;

    #[test]
    fn a_log_path_that_is_a_link_or_has_two_names_or_is_no_file_is_refused() {
        let dir = TestDir::new();
        std::fs::write(dir.path("real"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path("real"), dir.path("link")).unwrap();
        let text = open_log(&dir.path("link"), Access::Splice).unwrap_err().to_string();
        assert!(text.contains("symbolic link"), "{text}");
        open_log(&dir.path("link"), Access::Read).unwrap_err();

        std::fs::hard_link(dir.path("real"), dir.path("second")).unwrap();
        let text = open_log(&dir.path("second"), Access::Append).unwrap_err().to_string();
        assert!(text.contains("more than one name"), "{text}");

        crate::sys::fifo::make_fifo(&dir.path("fifo"), 0o600).unwrap();
        let text = open_log(&dir.path("fifo"), Access::Read).unwrap_err().to_string();
        assert!(text.contains("no regular file"), "{text}");
    }

    #[test]
    fn a_log_directory_that_was_removed_is_made_again() {
        let dir = TestDir::new();
        open_log(&dir.path("logs/web.out"), Access::Splice).unwrap();
        assert!(dir.path("logs/web.out").is_file());
    }

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(visible("a\tb\n\x1b[1m\u{9b}\u{e9}"), "a\\tb\\n\\x1b[1m\\x9b\u{e9}");
    }
}
