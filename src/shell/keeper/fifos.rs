//! The FIFOs of the servers, held open by the keeper: one that nobody holds forgets what is in it. A
//! server holds its own, but may end while both twins are dead.
//!
//! Must not read from them, nor keep more of each than a descriptor: a thousand paths, spread over a heap
//! that a configuration was read into, keep megabytes of it from going back.

use crate::config::{Config, ServerConfig};
use crate::sys::fifo;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Device and number of the file.
type Id = (u64, u64);

/// One that is open.
#[derive(Debug)]
struct Held {
    id: Id,
    /// Open until it is dropped.
    _fifo: OwnedFd,
    /// A server of the present configuration has it.
    is_wanted: bool,
}

/// Those that are open, in the order of their `id`, and those that are still to be opened.
#[derive(Debug, Default)]
pub(super) struct HeldFifos {
    held: Vec<Held>,
    unheld: Vec<PathBuf>,
}

impl HeldFifos {
    /// From now on those of this configuration are held: a path may be that of another FIFO than before.
    pub fn want(&mut self, config: &Config) {
        let piped = config.all_servers().flat_map(ServerConfig::piped);
        self.want_these(piped.map(|stream| stream.fifo_path(&config.node.run_dir)));
    }

    fn want_these(&mut self, paths: impl Iterator<Item = PathBuf>) {
        self.unheld = paths.collect();
        self.held.iter_mut().for_each(|one| one.is_wanted = false);
    }

    /// Opens what is not open yet; one that is not there is left for the next time. Says whether the last
    /// one was opened now: then those that nobody wants any more are closed.
    pub fn hold(&mut self) -> bool {
        if self.unheld.is_empty() {
            return false;
        }
        for path in std::mem::take(&mut self.unheld) {
            if self.hold_one(&path).is_err() {
                self.unheld.push(path);
            }
        }
        let are_all_held = self.unheld.is_empty();
        if are_all_held {
            self.held.retain(|one| one.is_wanted);
            self.held.shrink_to_fit();
        }
        are_all_held
    }

    fn hold_one(&mut self, path: &Path) -> io::Result<()> {
        let there = nix::sys::stat::lstat(path)?;
        let id = (there.st_dev, there.st_ino);
        match self.held.binary_search_by_key(&id, |one| one.id) {
            Ok(place) => self.held[place].is_wanted = true,
            Err(_) => {
                let fifo = fifo::open_fifo(path)?;
                // The name may have come to another one meanwhile.
                let opened = nix::sys::stat::fstat(&fifo)?;
                let id = (opened.st_dev, opened.st_ino);
                if let Err(place) = self.held.binary_search_by_key(&id, |one| one.id) {
                    self.held.insert(place, Held { id, _fifo: fifo, is_wanted: true });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::test_dir::{TestDir, wait_for};
    use std::fs;
    use std::io::Write;

    fn make(dir: &TestDir, name: &str) -> PathBuf {
        let path = dir.path(name);
        drop(fifo::open(&path, 0o600).unwrap());
        path
    }

    /// Somebody has it open for reading, or this would fail.
    fn can_write(path: &Path) -> bool {
        let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
        let opened = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty());
        opened.is_ok_and(|fd| fs::File::from(fd).write_all(b"x").is_ok())
    }

    /// Children that other tests start have a copy of it until their exec.
    fn wait_for_nobody(path: &Path) {
        wait_for("nobody to have it open", || !can_write(path));
    }

    #[test]
    fn one_that_is_not_there_yet_is_held_when_it_is() {
        let dir = TestDir::new();
        let (first, second) = (make(&dir, "a"), dir.path("b"));
        let mut fifos = HeldFifos::default();
        fifos.want_these([first.clone(), second.clone()].into_iter());
        assert!(!fifos.hold(), "one is missing");
        assert!(can_write(&first));
        make(&dir, "b");
        assert!(fifos.hold(), "this was the last one");
        assert!(can_write(&second));
        assert!(!fifos.hold(), "there is nothing to do any more");
    }

    #[test]
    fn those_of_removed_servers_are_let_go_when_all_others_are_held() {
        let dir = TestDir::new();
        let (stays, goes, comes) = (make(&dir, "stays"), make(&dir, "goes"), dir.path("comes"));
        let mut fifos = HeldFifos::default();
        fifos.want_these([stays.clone(), goes.clone()].into_iter());
        fifos.hold();
        fifos.want_these([stays.clone(), comes.clone()].into_iter());
        assert!(!fifos.hold());
        assert!(can_write(&goes), "nothing is let go before all are held");
        make(&dir, "comes");
        assert!(fifos.hold());
        assert!(can_write(&stays) && can_write(&comes));
        wait_for_nobody(&goes);
        assert_eq!(fifos.held.len(), 2);
    }

    #[test]
    fn one_that_was_made_anew_under_the_same_name_is_held_too() {
        let dir = TestDir::new();
        let path = make(&dir, "a");
        let mut fifos = HeldFifos::default();
        fifos.want_these([path.clone()].into_iter());
        fifos.hold();
        fs::remove_file(&path).unwrap();
        make(&dir, "a");
        wait_for_nobody(&path);
        fifos.want_these([path.clone()].into_iter());
        assert!(fifos.hold() && can_write(&path));
        assert_eq!(fifos.held.len(), 1, "the old one is of no use");
    }
}
