//! What outlives a reboot: the remembered wishes of servers with `autoStart = "remember"`.
//!
//! Must not be written in the loop: the write is synced to the disk, and a disk can be slow. A
//! text file, one server a line: `up web`, `down mailer`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

const FILE: &str = "wishes";
/// Larger is no file of ours.
const BYTES_MAX: u64 = 16 << 20;

/// The last wish for each server that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes(BTreeMap<String, bool>);

impl Wishes {
    /// Reads the file; what can't be read is no wish.
    pub fn read(state_dir: &Path) -> Wishes {
        let mut text = String::new();
        let file = File::open(state_dir.join(FILE)).map(|file| file.take(BYTES_MAX));
        if file.and_then(|mut file| file.read_to_string(&mut text)).is_err() {
            return Wishes::default();
        }
        Wishes::parse(&text)
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

    /// Writes the file beside the old one, syncs it, and puts it in its place: whatever happens in
    /// between, one of the two is whole.
    ///
    /// # Errors
    /// The directory can't be written; the old file stays.
    pub fn write(text: &str, state_dir: &Path) -> io::Result<()> {
        let (path, new) = (state_dir.join(FILE), state_dir.join(format!("{FILE}.new")));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
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
}
