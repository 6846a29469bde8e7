//! The FIFOs that carry servers' output.
//!
//! Must not read or write them.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Reads of one emptying.
const DISCARDS_MAX: usize = 1_024;

/// Makes a FIFO with `mode` (less the umask); one of ours that is there already is as good. For root
/// that is everybody's: a server's FIFO belongs to the server's user, and only root writes to the
/// directory of them.
///
/// # Errors
/// AlreadyExists when something else, or somebody else's, is there; those of mkfifo(3).
pub fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    match mkfifo(path, Mode::from_bits_truncate(mode)) {
        Err(Errno::EEXIST) => {}
        other => return Ok(other?),
    }
    let found = std::fs::symlink_metadata(path)?;
    if !found.file_type().is_fifo() {
        return Err(in_the_way(path, "something that is no FIFO is there; remove it"));
    }
    if found.uid() != geteuid().as_raw() && !geteuid().is_root() {
        return Err(in_the_way(path, "another user's is there; remove it"));
    }
    Ok(())
}

/// Makes the FIFO if it is not there, and opens it.
///
/// # Errors
/// Those of [`make_fifo`] and [`open_fifo`].
pub fn open(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    make_fifo(path, mode)?;
    open_fifo(path)
}

/// Opens a FIFO for reading and writing, without blocking: it then has a reader and a writer,
/// so nobody else's end ever breaks or sees the end of file.
///
/// # Errors
/// Those of open(2), ELOOP for a symbolic link; InvalidInput for something that is no FIFO.
pub fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = File::from(nix::fcntl::open(path, flags, Mode::empty())?);
    if !file.metadata()?.file_type().is_fifo() {
        let text = format!("cannot open {}: it is no FIFO; remove it", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(file.into())
}

/// How many bytes wait in it now (FIONREAD, pipe(7)).
///
/// # Errors
/// It is no pipe.
pub fn waiting_bytes(fifo: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes an int, which `bytes` is.
    Errno::result(unsafe { libc::ioctl(fifo.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Opens the FIFO that a process still has as this descriptor, although its name was removed or its
/// directory was moved. `None`: what it has there is something else, or a FIFO that still has its
/// name.
///
/// # Errors
/// Those of readlink(2) and open(2): no such process, or it is another user's.
pub fn open_unlinked(pid: i32, fd: i32, name: &Path) -> io::Result<Option<OwnedFd>> {
    let path = format!("/proc/{pid}/fd/{fd}");
    if !has_lost(&std::fs::read_link(&path)?, name) {
        return Ok(None);
    }
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(nix::fcntl::open(path.as_str(), flags, Mode::empty())?);
    Ok(file.metadata()?.file_type().is_fifo().then(|| file.into()))
}

/// Was this, as /proc shows it, made as `name`, and is it elsewhere now? A pipe that a server made
/// for itself has no path.
fn has_lost(shown: &Path, name: &Path) -> bool {
    const DELETED: &[u8] = b" (deleted)";
    let bytes = shown.as_os_str().as_bytes();
    let (path, is_deleted) = match bytes.strip_suffix(DELETED) {
        Some(path) => (Path::new(OsStr::from_bytes(path)), true),
        None => (shown, false),
    };
    // The directory of all FIFOs may have been moved with the one that it is in.
    let place = |path: &Path| {
        let dir = path.parent().and_then(Path::file_name).map(OsStr::to_owned);
        dir.zip(path.file_name().map(OsStr::to_owned))
    };
    place(path).is_some() && place(path) == place(name) && (is_deleted || path != name)
}

/// Copies what is in a FIFO into `buffer` and leaves it there; gives its length. The FIFO must have
/// been opened by [`open_fifo`].
///
/// # Errors
/// Those of pipe2(2), tee(2) and read(2).
pub fn look(fifo: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (out, into) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let flags = nix::fcntl::SpliceFFlags::SPLICE_F_NONBLOCK;
    match nix::fcntl::tee(fifo, &into, buffer.len(), flags) {
        Ok(0) | Err(Errno::EAGAIN) => return Ok(0),
        other => other?,
    };
    Ok(nix::unistd::read(&out, buffer)?)
}

/// Empties a FIFO that was opened by [`open_fifo`].
pub fn discard(fifo: &OwnedFd) {
    let mut buffer = [0; 4_096];
    // A pipe holds 64 KiB unless its owner made it larger.
    for _ in 0..DISCARDS_MAX {
        if !nix::unistd::read(fifo, &mut buffer).is_ok_and(|length| length > 0) {
            return;
        }
    }
}

fn in_the_way(path: &Path, why: &str) -> io::Error {
    let text = format!("cannot make the FIFO {}: {why}", path.display());
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Scratch;

    #[test]
    fn a_fifo_that_is_there_already_is_kept() {
        let scratch = Scratch::new();
        let path = scratch.path("fifo");
        make_fifo(&path, 0o600).unwrap();
        let inode = path.metadata().unwrap().ino();
        make_fifo(&path, 0o600).unwrap();
        assert_eq!(path.metadata().unwrap().ino(), inode);
        open_fifo(&path).unwrap();
    }

    #[test]
    fn a_file_or_a_link_in_the_place_of_a_fifo_is_an_error_and_stays() {
        let scratch = Scratch::new();
        let (file, link) = (scratch.path("file"), scratch.path("link"));
        std::fs::write(&file, "kept").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert_eq!(make_fifo(path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert!(open_fifo(path).is_err());
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn a_fifo_without_its_name_is_found_where_its_directory_was_removed_or_moved() {
        use std::os::fd::AsRawFd;
        let scratch = Scratch::new();
        let name = scratch.path("run/out/w.fifo");
        std::fs::create_dir_all(name.parent().unwrap()).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let held = open(&name, 0o600).unwrap();
        let lost = || open_unlinked(own, held.as_raw_fd(), &name).unwrap().is_some();
        assert!(!lost(), "it has its name");
        std::fs::rename(scratch.path("run"), scratch.path("moved")).unwrap();
        assert!(lost(), "moved");
        std::fs::create_dir_all(name.parent().unwrap()).unwrap();
        let other = open(&name, 0o600).unwrap();
        assert!(lost(), "another one has its name");
        assert!(open_unlinked(own, other.as_raw_fd(), &name).unwrap().is_none());
        std::fs::remove_dir_all(scratch.path("moved")).unwrap();
        assert!(lost(), "removed");
        let (pipe, _into) = nix::unistd::pipe().unwrap();
        assert!(open_unlinked(own, pipe.as_raw_fd(), &name).unwrap().is_none(), "its own pipe");
        assert!(
            open_unlinked(own, held.as_raw_fd(), &scratch.path("run/out/v.fifo"))
                .unwrap()
                .is_none()
        );
    }
}
