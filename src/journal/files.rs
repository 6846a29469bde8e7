//! The two files: opening, reserving space, writing at an offset.
//!
//! Must not know what is written, and must not remove or rename anything.

use super::format::Key;
use super::reader::{choose, read_heads};
use super::{MAX_FILE, Slot};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate, posix_fallocate};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How often a reservation that signals interrupt is tried again.
const INTERRUPTS: u32 = 16;

/// What the writer needs of the disk. Each call is one step that a kill may come after, or into.
pub(super) trait Slots {
    /// Writes once, maybe only the first bytes; returns how many.
    fn write_at(&mut self, slot: Slot, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Makes the first `bytes` of the file writable without new space, keeping what is in them.
    fn reserve(&mut self, slot: Slot, bytes: u64) -> io::Result<()>;
    /// Bytes that were reserved so far.
    fn reserved(&self, slot: Slot) -> u64;
    /// The file system reserves nothing: files are as long as asked, but may lack the space.
    fn is_sparse(&self) -> bool;
}

struct Place {
    file: File,
    path: PathBuf,
    reserved: u64,
}

/// The files in the run directory.
pub(super) struct Files {
    a: Place,
    b: Place,
    sparse: bool,
}

/// The file that counts now, with its generation and salt.
pub(super) type Newest = Option<(Slot, Key)>;

impl Files {
    /// Opens or makes both files, and finds which of them counts.
    pub fn open(run_dir: &Path) -> io::Result<(Files, Newest)> {
        let [a, b] = Slot::BOTH.map(|slot| Place::open(slot.path(run_dir)));
        let mut files = Files { a: a?, b: b?, sparse: false };
        let heads = read_heads(&mut [Some(&files.a.file), Some(&files.b.file)]);
        let choice = choose(&heads, run_dir)
            .map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error.to_string()))?;
        for slot in Slot::BOTH {
            let len = files.place(slot).file.metadata()?.len();
            // Where this fails, nothing is reserved, and the writer will ask for what it needs.
            let _ = files.reserve(slot, len.min(MAX_FILE));
        }
        Ok((files, choice.newest.map(|(slot, header)| (slot, header.key))))
    }

    fn place(&mut self, slot: Slot) -> &mut Place {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }

    /// A path leads to another file than the one that is open, to none, or the file was cut.
    /// What can't be told for another reason is not gone.
    pub fn are_gone(&self, run_dir: &Path) -> bool {
        Slot::BOTH.into_iter().zip([&self.a, &self.b]).any(|(slot, place)| {
            let Ok(mine) = place.file.metadata() else {
                return false;
            };
            match fs::symlink_metadata(slot.path(run_dir)) {
                Ok(there) => {
                    (there.dev(), there.ino()) != (mine.dev(), mine.ino())
                        || mine.len() < place.reserved
                }
                Err(error) => {
                    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                }
            }
        })
    }
}

impl Slots for Files {
    fn write_at(&mut self, slot: Slot, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let place = self.place(slot);
        place.file.write_at(bytes, offset).map_err(|error| place.explain("write", &error))
    }

    fn reserve(&mut self, slot: Slot, bytes: u64) -> io::Result<()> {
        let place = self.place(slot);
        if bytes <= place.reserved {
            return Ok(());
        }
        let allocated = allocate(&place.file, bytes)
            .map_err(|errno| place.explain("reserve space for", &errno.into()))?;
        if !allocated && place.file.metadata()?.len() < bytes {
            place.file.set_len(bytes).map_err(|error| place.explain("extend", &error))?;
        }
        place.reserved = bytes;
        self.sparse |= !allocated;
        Ok(())
    }

    fn reserved(&self, slot: Slot) -> u64 {
        match slot {
            Slot::A => self.a.reserved,
            Slot::B => self.b.reserved,
        }
    }

    fn is_sparse(&self) -> bool {
        self.sparse
    }
}

impl Place {
    fn open(path: PathBuf) -> io::Result<Place> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        // Without O_NONBLOCK a FIFO in the place of the file would block the open.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
        match options.open(&path).and_then(|file| Ok((file.metadata()?.is_file(), file))) {
            Ok((true, file)) => Ok(Place { file, path, reserved: 0 }),
            Ok((false, _)) => Err(io::Error::other(format!(
                "cannot use {} as the journal: not a regular file; remove it",
                path.display()
            ))),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("cannot open {}: {error}", path.display()),
            )),
        }
    }

    fn explain(&self, what: &str, error: &io::Error) -> io::Error {
        let text = format!("cannot {what} {}: {error}", self.path.display());
        io::Error::new(error.kind(), text)
    }
}

/// Reserves the first `bytes` of a file, keeping what is in them; `false` when its file system
/// can't. The kernel's way first: the C library's other way writes every block.
fn allocate(file: &File, bytes: u64) -> Result<bool, Errno> {
    let len = i64::try_from(bytes).map_err(|_| Errno::EFBIG)?;
    let unsupported = |errno| matches!(errno, Errno::EOPNOTSUPP | Errno::ENOSYS);
    match uninterrupted(|| fallocate(file, FallocateFlags::empty(), 0, len)) {
        Err(errno) if unsupported(errno) => {}
        other => return other.map(|()| true),
    }
    match uninterrupted(|| posix_fallocate(file, 0, len)) {
        Err(errno) if unsupported(errno) || errno == Errno::EINVAL => Ok(false),
        other => other.map(|()| true),
    }
}

fn uninterrupted(mut call: impl FnMut() -> nix::Result<()>) -> nix::Result<()> {
    for _ in 0..INTERRUPTS {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
    Err(Errno::EINTR)
}
