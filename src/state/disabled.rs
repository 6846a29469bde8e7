//! The list of disabled servers: a text file, one name a line, that people may edit.
//!
//! Must not be written in the loop: the write is synced to the disk. Reading is bounded, and only
//! a regular file is read, so that neither a FIFO nor a huge file of that name holds the loop up.

use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FILE: &str = "disabled";
/// Held by who writes: the saver of an active that died may still be at it.
const LOCK: &str = "disabled.lock";
/// Larger is no list of servers.
const BYTES_MAX: u64 = 1 << 20;
/// Unknown names that a warning shows.
const NAMES_SHOWN: usize = 5;

/// The path of the list.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// A server, and whether it is to be disabled.
pub type Change = (String, bool);

/// What a file looked like when it was read; another look says whether it has changed since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look(Option<(u64, u64, u64, i64, i64)>);

/// Looks at the list without reading it.
pub fn look(state_dir: &Path) -> Look {
    let seen = |one: Metadata| (one.dev(), one.ino(), one.size(), one.mtime(), one.mtime_nsec());
    Look(std::fs::metadata(path(state_dir)).ok().map(seen))
}

/// The names in the list. No file in a directory that is there: none is disabled.
///
/// # Errors
/// It can't be read, is no regular file or too large, or the directory is gone.
pub fn read(state_dir: &Path) -> io::Result<BTreeSet<String>> {
    Ok(parse(&read_text(state_dir)?))
}

fn read_text(state_dir: &Path) -> io::Result<String> {
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path(state_dir));
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && state_dir.is_dir() => {
            return Ok(String::new());
        }
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if found.len() > BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {BYTES_MAX} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    // A damaged line must not cost the others.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in the list's text; `#` begins a comment.
pub fn parse(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(name_in).map(str::to_owned).collect()
}

fn name_in(line: &str) -> Option<&str> {
    let name = line.split('#').next().unwrap_or_default().trim();
    (!name.is_empty()).then_some(name)
}

/// The names in the list that are none of `servers`.
pub fn unknown<'a>(
    names: &BTreeSet<String>,
    servers: impl Iterator<Item = &'a str>,
) -> BTreeSet<String> {
    let servers: BTreeSet<&str> = servers.collect();
    names.iter().filter(|name| !servers.contains(name.as_str())).cloned().collect()
}

/// What is said of names that are no server's.
pub fn warning(state_dir: &Path, unknown: &BTreeSet<String>) -> Option<String> {
    if unknown.is_empty() {
        return None;
    }
    let mut shown: Vec<String> =
        unknown.iter().take(NAMES_SHOWN).map(|name| name.escape_debug().to_string()).collect();
    if let Some(more) = unknown.len().checked_sub(NAMES_SHOWN).filter(|more| *more > 0) {
        shown.push(format!("{more} more"));
    }
    let path = path(state_dir);
    Some(format!("{} names no server of this configuration: {}", path.display(), shown.join(", ")))
}

/// The list's text after `changes`; whatever else somebody wrote into it stays.
pub fn changed(text: &str, changes: &[Change]) -> String {
    let is_enabled = |line: &&str| {
        name_in(line).is_some_and(|name| changes.iter().any(|(one, off)| one == name && !off))
    };
    let kept = text.lines().filter(|line| !is_enabled(line));
    let mut new: String = kept.map(|line| format!("{line}\n")).collect();
    let mut known = parse(&new);
    for (name, _) in changes.iter().filter(|(_, off)| *off) {
        if known.insert(name.clone()) {
            new += name;
            new.push('\n');
        }
    }
    new
}

/// Changes the list. It is written beside the old one, synced, and put in its place: whatever
/// happens in between, one of the two is whole.
///
/// Waits while another process writes, so it is not for the loop.
///
/// # Errors
/// The list can't be read or the directory written; the old list stays.
pub fn change(changes: &[Change], state_dir: &Path) -> io::Result<()> {
    let (path, new) = (path(state_dir), state_dir.join(format!("{FILE}.new")));
    let lock = File::options().create(true).append(true).open(state_dir.join(LOCK))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let old = read_text(state_dir)?;
    let text = changed(&old, changes);
    if text == old {
        return Ok(());
    }
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, &path)?;
    File::open(state_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text).into_iter().collect()
    }

    fn off(name: &str) -> Change {
        (name.to_owned(), true)
    }

    fn on(name: &str) -> Change {
        (name.to_owned(), false)
    }

    #[test]
    fn a_list_is_one_name_a_line_with_comments_and_blanks() {
        assert_eq!(names("# off\n\n web@1 # until Monday\r\nmail\nmail\n#db\n"), ["mail", "web@1"]);
        assert_eq!(names("\0\u{fffd}\n"), ["\0\u{fffd}"]);
        assert!(names("").is_empty());
    }

    #[test]
    fn a_change_keeps_what_somebody_wrote_around_it() {
        let text = "# mine\nweb # broken disk\nstranger\n";
        assert_eq!(changed(text, &[off("web"), off("db")]), format!("{text}db\n"));
        assert_eq!(changed(text, &[on("web"), on("other")]), "# mine\nstranger\n");
        // No line's end at the end of the file: the next name has its own line all the same.
        assert_eq!(changed("web", &[off("db")]), "web\ndb\n");
        assert_eq!(changed("", &[off("a"), on("a")]), "a\n");
    }

    #[test]
    fn only_a_small_regular_file_is_a_list_and_a_list_that_is_none_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("nm-disabled-{}", std::process::id()));
        assert!(read(&dir).is_err(), "without its directory nothing is known");
        std::fs::create_dir_all(&dir).unwrap();
        assert!(read(&dir).unwrap().is_empty());
        let before = look(&dir);
        change(&[off("web")], &dir).unwrap();
        assert_ne!(look(&dir), before);
        assert_eq!(names("web\n"), read(&dir).unwrap().into_iter().collect::<Vec<_>>());
        std::fs::remove_file(path(&dir)).unwrap();
        nix::unistd::mkfifo(&path(&dir), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&dir).is_err() && change(&[off("web")], &dir).is_err());
        std::fs::remove_file(path(&dir)).unwrap();
        let large = File::create(path(&dir)).unwrap();
        large.set_len(BYTES_MAX + 1).unwrap();
        assert!(read(&dir).is_err() && change(&[off("web")], &dir).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
