//! The word that all servers of a life were stopped while no pair ran: the next start begins a new
//! life, as after a `shutdown --stop-servers` of a pair.
//!
//! Must not touch the journal, which is the pair's. Belongs to the record that was the journal's last
//! one then: a pair that has written another one since knows nothing of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("stopped")
}

/// All servers of the journal whose last record has this number are stopped.
///
/// # Errors
/// It can't be written.
pub fn write(run_dir: &Path, last: u64) -> io::Result<()> {
    let new = path(run_dir).with_extension("new");
    fs::write(&new, format!("{last}\n"))?;
    fs::rename(new, path(run_dir))
}

/// Was that said of the journal whose last record has this number?
pub fn is_so(run_dir: &Path, last: u64) -> bool {
    let text = fs::read_to_string(path(run_dir)).unwrap_or_default();
    text.strip_suffix('\n').and_then(|text| text.parse().ok()) == Some(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::test_dir::TestDir;

    #[test]
    fn it_is_believed_for_the_journal_that_it_was_said_of_and_for_no_other() {
        let dir = TestDir::new();
        assert!(!is_so(&dir.path(""), 0));
        write(&dir.path(""), 41).unwrap();
        assert!(is_so(&dir.path(""), 41) && !is_so(&dir.path(""), 42));
        fs::write(dir.path("stopped"), "4").unwrap();
        assert!(!is_so(&dir.path(""), 4), "a torn word");
    }
}
