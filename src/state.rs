//! What outlives a reboot: the remembered wishes of servers with `autoStart = "remember"`, and the
//! list of disabled servers.
//!
//! Must not be written in the loop: the write is synced to the disk, and a disk can be slow. A
//! text file, one server a line: `up web`, `down mailer`.

pub mod disabled;
pub mod stopped;

use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

const FILE: &str = "wishes";
/// Held by who writes: the saver of an active that died may still be at it.
const LOCK: &str = "wishes.lock";
/// Larger is no file of ours.
const BYTES_MAX: u64 = 16 << 20;

/// The last wish for each server that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes(BTreeMap<String, bool>);

impl Wishes {
    /// Reads the file; what can't be read is no wish.
    pub fn read(state_dir: &Path) -> Wishes {
        Wishes::try_read(state_dir).unwrap_or_default()
    }

    /// A file that is not there has no wish; one that can't be read may have many.
    fn try_read(state_dir: &Path) -> io::Result<Wishes> {
        let mut bytes = Vec::new();
        match File::open(state_dir.join(FILE)) {
            Ok(file) => file.take(BYTES_MAX).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        // A damaged line must not cost the others.
        Ok(Wishes::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// The wishes in the file's text; what is none is left out.
    pub fn parse(text: &str) -> Wishes {
        let wish = |line: &str| match line.split_once(' ') {
            // No server is called that, and a name with an end of line in it would be another
            // when it is written and read again.
            Some((_, name)) if name.contains(char::is_control) => None,
            Some(("up", name)) => Some((name.to_string(), true)),
            Some(("down", name)) => Some((name.to_string(), false)),
            _ => None,
        };
        Wishes(text.lines().filter_map(wish).collect())
    }

    /// It was wanted up when it was last asked for. Never asked for: not up.
    pub fn is_up(&self, name: &str) -> bool {
        self.0.get(name).copied().unwrap_or(false)
    }

    /// Remembers a wish.
    pub fn set(&mut self, name: &str, is_up: bool) {
        self.0.insert(name.to_string(), is_up);
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let line =
            |(name, up): (&String, &bool)| format!("{} {name}\n", if *up { "up" } else { "down" });
        self.0.iter().map(line).collect()
    }

    /// Adds the wishes of `text` to the file. It is written beside the old one, synced, and put in
    /// its place: whatever happens in between, one of the two is whole.
    ///
    /// Waits while another process writes, so it is not for the loop.
    ///
    /// # Errors
    /// The file can't be read or the directory written; the old file stays.
    pub fn add(text: &str, state_dir: &Path) -> io::Result<()> {
        let (path, new) = (state_dir.join(FILE), state_dir.join(format!("{FILE}.new")));
        let lock = File::options().create(true).append(true).open(state_dir.join(LOCK))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let mut all = Wishes::try_read(state_dir)?;
        all.0.extend(Wishes::parse(text).0);
        let mut file = File::create(&new)?;
        file.write_all(all.text().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        File::open(state_dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_as_they_were_written_and_garbage_is_no_wish() {
        let mut wishes = Wishes::default();
        wishes.set("web@1", true);
        wishes.set("db", false);
        assert_eq!(Wishes::parse(&wishes.text()), wishes);
        assert!(wishes.is_up("web@1") && !wishes.is_up("db") && !wishes.is_up("other"));
        assert_eq!(Wishes::parse("\0\u{1}garbage\n\nsideways web\n"), Wishes::default());
        // Written and read again, this name would be the empty one.
        assert_eq!(Wishes::parse("up \r"), Wishes::default());
    }

    #[test]
    fn wishes_are_added_to_those_in_the_file_and_an_unreadable_file_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("nm-wishes-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join(FILE);
        Wishes::add("up web\ndown db\n", &dir).unwrap();
        std::fs::write(&file, b"up web\n\xff torn\ndown db\n").unwrap();
        Wishes::add("down web\nup mail\n", &dir).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "down db\nup mail\ndown web\n");
        std::fs::remove_file(&file).unwrap();
        // A directory can be opened, and not read.
        std::fs::create_dir(&file).unwrap();
        assert!(Wishes::add("up web\n", &dir).is_err() && file.is_dir());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
