//! The lock that proves that there is one active: a classic fcntl write lock.
//!
//! Classic, because a forked child does not get it (flock and OFD locks live on in a child until
//! its exec). It belongs to the table of descriptors: a child that shares the table (`low`) keeps the
//! lock of a dead parent until its first act, and who takes over asks for it again. Its price: a process loses the lock when it closes *any* descriptor of the file.
//! So the holder must not open the file again in any way: it calls `try_take` once, and never
//! `holder`.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// As much of /proc/locks as is read.
const LOCKS_MAX_BYTES: u64 = 1 << 20;
/// Tries before a lock that changes hands all the time is called busy.
const TRIES: usize = 8;

/// The lock, held until this value or the process ends.
#[derive(Debug)]
pub struct Lock {
    /// Held open only: closing it ends the lock.
    file: File,
    device: u64,
    inode: u64,
}

/// The result of trying to get the lock.
#[derive(Debug)]
pub enum Attempt {
    Taken(Lock),
    /// The number of the process that has it; 0 when that is in another PID namespace.
    HeldBy(i32),
}

impl Lock {
    /// Takes the lock on the file `path`, made with mode 0600 if it is not there.
    ///
    /// Never call it in a process that has the lock: dropping the second value drops both.
    ///
    /// # Errors
    /// Those of open(2) and fcntl(2), ELOOP for a symbolic link; WouldBlock when the file was
    /// replaced, or the lock changed hands, at each of several tries.
    pub fn try_take(path: &Path) -> io::Result<Attempt> {
        for _ in 0..TRIES {
            let file = open(path, OpenOptions::new().read(true).write(true).create(true))?;
            match fcntl(&file, FcntlArg::F_SETLK(&whole_file())) {
                Ok(_) => {
                    let metadata = file.metadata()?;
                    let (device, inode) = (metadata.dev(), metadata.ino());
                    let lock = Lock { file, device, inode };
                    // A lock on a file that nobody else can find proves nothing.
                    if lock.still_at(path) {
                        return Ok(Attempt::Taken(lock));
                    }
                }
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    if let Some(pid) = holder_of(&file)? {
                        return Ok(Attempt::HeldBy(pid));
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The lock of the program that this process ran before: an exec keeps it (fcntl_locking(2)) as
    /// long as the descriptor stays open.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn inherited(fd: OwnedFd) -> io::Result<Lock> {
        let file = File::from(fd);
        let metadata = file.metadata()?;
        Ok(Lock { file, device: metadata.dev(), inode: metadata.ino() })
    }

    /// What must stay open.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The inode of the locked file.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The file behind `path` is still the locked one. Does not open it, so it is safe here.
    pub fn still_at(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode)
    }
}

/// Who has the lock on the file `path`; `None` when nobody has it or there is no such file.
///
/// Never call it in the process that has the lock: it opens and closes the file, and closing
/// any descriptor of it drops the lock.
///
/// # Errors
/// Those of open(2) and fcntl(2).
pub fn holder(path: &Path) -> io::Result<Option<i32>> {
    match open(path, OpenOptions::new().read(true)) {
        Ok(file) => holder_of(&file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Who has the flock(2) on the file of this device and inode, as /proc/locks tells; `None` when
/// nobody is to be seen (it is in another PID namespace, or the lock is on another machine).
///
/// The number is of the process that took it, which may be dead while a child of it still has the
/// descriptor.
pub fn flock_holder(device: u64, inode: u64) -> Option<i32> {
    let mut table = String::new();
    File::open("/proc/locks").ok()?.take(LOCKS_MAX_BYTES).read_to_string(&mut table).ok()?;
    flock_holder_in(&table, device, inode)
}

/// Of each line: number, kind, mode, access, PID, file, range; behind the number `->` of one who
/// waits. Some file systems (overlayfs, btrfs) show files a device that is not the table's.
fn flock_holder_in(table: &str, device: u64, inode: u64) -> Option<i32> {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let same_inode = format!(":{inode}");
    let holders = table.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, pid, file) = (words.next()?, words.nth(2)?, words.next()?);
        (kind == "FLOCK").then(|| Some((file, pid.parse::<i32>().ok()?))).flatten()
    });
    let holders: Vec<(&str, i32)> = holders.collect();
    let exact = holders.iter().find(|(found, _)| *found == file);
    let mut alike = holders.iter().filter(|(found, _)| found.ends_with(&same_inode));
    let found = exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))?;
    Some(found.1).filter(|pid| *pid > 0)
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // O_NONBLOCK: a FIFO in the lock's place must not make the opening wait. std adds O_CLOEXEC.
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn holder_of(file: &File) -> io::Result<Option<i32>> {
    let mut lock = whole_file();
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    let free = i32::from(lock.l_type) == libc::F_UNLCK;
    Ok((!free).then_some(lock.l_pid))
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{Scratch, end, pidfd_of, probe, wait_until};

    fn taken(path: &Path) -> Lock {
        match Lock::try_take(path).unwrap() {
            Attempt::Taken(lock) => lock,
            Attempt::HeldBy(pid) => panic!("held by {pid}"),
        }
    }

    fn free(path: &Path) -> bool {
        holder(path).unwrap().is_none()
    }

    #[test]
    fn another_process_does_not_get_the_lock_and_learns_who_has_it() {
        let scratch = Scratch::new();
        let path = scratch.path("lock");
        let probe = &mut probe("lock", path.to_str().unwrap());
        assert_eq!(probe.line(), "taken");
        assert!(
            matches!(Lock::try_take(&path).unwrap(), Attempt::HeldBy(pid) if pid == probe.pid())
        );
        assert_eq!(holder(&path).unwrap(), Some(probe.pid()));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        probe.kill();
        wait_until("the dead holder's lock is free", || free(&path));
    }

    #[test]
    fn the_lock_ends_with_its_process_although_a_child_has_the_same_description_open() {
        let scratch = Scratch::new();
        let path = scratch.path("lock");
        let probe = &mut probe("lock-and-child", path.to_str().unwrap());
        let child = pidfd_of(probe.line().parse().unwrap());
        assert_eq!(holder(&path).unwrap(), Some(probe.pid()));
        probe.kill();
        wait_until("the lock is free", || free(&path));
        assert!(!crate::sys::pidfd::is_dead(&child));
        end(&child);
    }

    #[test]
    fn a_lock_file_that_was_removed_or_replaced_is_noticed() {
        let scratch = Scratch::new();
        let path = scratch.path("lock");
        let lock = taken(&path);
        assert!(lock.still_at(&path) && lock.inode() == path.metadata().unwrap().ino());
        std::fs::remove_file(&path).unwrap();
        assert!(!lock.still_at(&path));
        std::fs::write(&path, "").unwrap();
        assert!(!lock.still_at(&path));
    }

    #[test]
    fn a_symbolic_link_in_the_place_of_the_lock_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.path("lock");
        std::os::unix::fs::symlink(scratch.path("elsewhere"), &path).unwrap();
        assert_eq!(Lock::try_take(&path).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert!(!scratch.path("elsewhere").exists());
    }

    #[test]
    fn the_holder_of_a_flock_is_told_from_those_who_wait_and_from_other_locks() {
        let table = "1: POSIX  ADVISORY  WRITE 7 08:01:55 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 412 08:01:55 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 413 08:01:55 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 00:2a:55 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 00:2a:56 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 10 00:2a:57 0 EOF\n6: what?\n";
        let device = |major, minor| nix::sys::stat::makedev(major, minor);
        assert_eq!(flock_holder_in(table, device(8, 1), 55), Some(412));
        assert_eq!(flock_holder_in(table, device(0, 0x2a), 55), Some(9));
        assert_eq!(flock_holder_in(table, device(9, 9), 57), Some(10), "the inode alone tells");
        assert_eq!(flock_holder_in(table, device(9, 9), 55), None, "the inode alone is not clear");
        assert_eq!(flock_holder_in(table, device(0, 0x2a), 56), None, "of another PID namespace");
        assert_eq!(flock_holder_in(table, device(8, 1), 5), None);
    }

    #[test]
    fn a_lock_that_does_not_exist_has_no_holder() {
        assert_eq!(holder(&Scratch::new().path("none")).unwrap(), None);
    }
}
