//! The second mark of a server's processes: standard output or error is the server's FIFO.
//!
//! A program that shows its state in its title (redis, postgres) writes over its environment, and
//! the mark in it is gone. Must not be taken for more than it is: which start of the server such a
//! process belongs to can't be known.

use super::mark::Owner;
use super::pidfd;
use super::process::{self, Survivor, known};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What the kernel adds to the name of a file that was removed.
const REMOVED: &str = " (deleted)";

/// All living processes that belong to a server of the pair: by the mark in their environment,
/// else by their output. `fifos`: each server's name and FIFO; one that is not there is skipped.
/// Where only the output tells, the start number is 0.
///
/// # Errors
/// What keeps from telling (EMFILE, an unreadable /proc): there may be survivors.
pub fn survivors(owner: &Owner, fifos: &[(String, PathBuf)]) -> io::Result<Vec<Survivor>> {
    let mut found = process::survivors(owner)?;
    let fifos = Fifos::new(fifos);
    let own = std::fs::metadata("/proc/self/exe")?;
    for pid in process::pids()? {
        if found.iter().any(|one| one.identity.pid == pid) || fifos.written_by(pid).is_none() {
            continue;
        }
        let Some(fd) = process::open_living(pid)? else { continue };
        // Read again behind the pidfd: the number can have changed hands in between.
        let (Some(name), Some(session_leader)) =
            (fifos.written_by(pid), known(process::leads_session(pid))?)
        else {
            continue;
        };
        // A child that waits at its gate is no server yet, and ends with its parent.
        let program = std::fs::metadata(format!("/proc/{pid}/exe")).ok();
        if program.is_some_and(|program| is_same(&program, &own)) {
            continue;
        }
        let Some(identity) = known(pidfd::identify(pid, &fd))? else { continue };
        if !pidfd::is_dead(&fd) {
            let name = name.to_owned();
            found.push(Survivor { name, start_number: 0, identity, session_leader });
        }
    }
    Ok(found)
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The servers' names by what tells their FIFOs.
struct Fifos<'a> {
    by_inode: HashMap<(u64, u64), &'a str>,
    /// A FIFO that was removed under its server, by its device and former path.
    by_path: HashMap<(u64, PathBuf), &'a str>,
}

impl<'a> Fifos<'a> {
    fn new(fifos: &'a [(String, PathBuf)]) -> Fifos<'a> {
        let mut new = Fifos { by_inode: HashMap::new(), by_path: HashMap::new() };
        for (name, path) in fifos {
            if let Ok(file) = path.symlink_metadata()
                && file.file_type().is_fifo()
            {
                new.by_inode.insert((file.dev(), file.ino()), name);
            }
            if let Some((dev, path)) = removed(path) {
                new.by_path.insert((dev, path), name);
            }
        }
        new
    }

    /// The server whose FIFO is standard output or error of the process.
    fn written_by(&self, pid: i32) -> Option<&'a str> {
        [1, 2].iter().find_map(|number| {
            let link = format!("/proc/{pid}/fd/{number}");
            let file = std::fs::metadata(&link).ok().filter(|file| file.file_type().is_fifo())?;
            self.by_inode.get(&(file.dev(), file.ino())).copied().or_else(|| {
                let path = std::fs::read_link(&link).ok()?;
                self.by_path.get(&(file.dev(), path)).copied()
            })
        })
    }
}

/// What /proc shows of a descriptor whose file was removed from this path.
fn removed(path: &Path) -> Option<(u64, PathBuf)> {
    let dir = path.parent()?.canonicalize().ok()?;
    let name = format!("{}{REMOVED}", path.file_name()?.to_str()?);
    Some((dir.metadata().ok()?.dev(), dir.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fifo::{make_fifo, open_fifo};
    use crate::sys::testing::{Scratch, wait_until};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn writer(path: &Path) -> Process {
        let fifo = open_fifo(path).unwrap();
        let mut command = Command::new("sleep");
        command.arg("60").stdout(Stdio::from(fifo)).stderr(Stdio::null()).process_group(0);
        Process(command.env_remove(crate::sys::mark::SERVER).spawn().unwrap())
    }

    #[test]
    fn a_process_without_a_mark_is_found_by_the_fifo_it_writes_into_also_a_removed_one() {
        let scratch = Scratch::new();
        let fifos: Vec<_> =
            ["web", "db"].iter().map(|name| (name.to_string(), scratch.path(name))).collect();
        fifos.iter().for_each(|(_, path)| make_fifo(path, 0o600).unwrap());
        let mut process = writer(&fifos[1].1);
        let pid = process.0.id() as i32;
        let look = || survivors(&Owner::default(), &fifos).unwrap();
        wait_until("exec", || look().len() == 1);
        for _ in 0..2 {
            let found = look();
            assert_eq!((found[0].name.as_str(), found[0].start_number), ("db", 0));
            assert_eq!((found[0].identity.pid, found[0].session_leader), (pid, false));
            // The same again, with another FIFO at its place.
            std::fs::remove_file(&fifos[1].1).unwrap();
            make_fifo(&fifos[1].1, 0o600).unwrap();
        }
        process.0.kill().unwrap();
        process.0.wait().unwrap();
        assert_eq!(look(), []);
    }
}
