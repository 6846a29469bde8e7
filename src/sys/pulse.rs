//! The pulse: one page of memory that keeper, active and standby share.
//!
//! Each writes its own slot and reads the others'. Whatever is in the page is data of another
//! process: a wrong value must not do harm, so no value is trusted.

use crate::core::EndAsked;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tries to read an identity that is just being written.
const TRIES: usize = 4;

/// What a process of the pair is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nobody, or an unknown value.
    None,
    Starting,
    Serving,
    Standby,
    Promoting,
    Ended,
    Keeper,
    /// A keeper that joined a pair it did not start.
    Joined,
    EndedForFailure,
}

const ROLES: [Role; 9] = [
    Role::None,
    Role::Starting,
    Role::Serving,
    Role::Standby,
    Role::Promoting,
    Role::Ended,
    Role::Keeper,
    Role::Joined,
    Role::EndedForFailure,
];

/// Whose part of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Keeper,
    TwinA,
    TwinB,
}

/// What was in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The process that writes the slot; 0 for none.
    pub pid: i32,
    /// When that process was started, in clock ticks since the boot.
    pub start_ticks: u64,
    pub role: Role,
    /// Rises with each beat.
    pub counter: u64,
}

/// One slot, on a cache line of its own.
#[repr(C, align(64))]
struct Cell {
    pid: AtomicU64,
    start_ticks: AtomicU64,
    role: AtomicU64,
    counter: AtomicU64,
}

/// The word of the pair's end, on a line of its own.
#[repr(C, align(64))]
struct End {
    asked: AtomicU64,
}

#[repr(C)]
struct Page {
    cells: [Cell; 3],
    end: End,
}

/// What `end_asked` is in the page; any other number says nothing.
const SERVERS_STAY: u64 = 0x656e_642d_7374_6179;
const SERVERS_STOP: u64 = 0x656e_642d_7374_6f70;

const PAGE_BYTES: NonZeroUsize = NonZeroUsize::new(size_of::<Page>()).unwrap();

/// The page, mapped into this process.
#[derive(Debug)]
pub struct Pulse {
    fd: OwnedFd,
    page: NonNull<Page>,
}

impl Pulse {
    /// A new page, all zeroes, that can't be made smaller (Linux 3.17).
    ///
    /// # Errors
    /// Those of memfd_create(2), ftruncate(2), fcntl(2) and mmap(2).
    pub fn create() -> io::Result<Pulse> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create(c"nodemanager-pulse", flags)?;
        ftruncate(&fd, libc::off_t::try_from(PAGE_BYTES.get()).map_err(|_| Errno::EFBIG)?)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        Pulse::from_fd(fd)
    }

    /// Maps the page that another process created.
    ///
    /// # Errors
    /// InvalidData when it is too small or not sealed: it could shrink, and touching it would
    /// then end this process by SIGBUS.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Pulse> {
        let wrong = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS)
            .map_err(|_| wrong("cannot use the pulse: its descriptor is no memfd"))?;
        if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(wrong("cannot use the pulse: it is not sealed against shrinking"));
        }
        let file = File::from(fd);
        if file.metadata()?.len() < PAGE_BYTES.get() as u64 {
            return Err(wrong("cannot use the pulse: it is too small"));
        }
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; it touches no memory
        // that is in use. The file is long enough and sealed, so every byte of it stays mapped.
        let page = unsafe { mmap(None, PAGE_BYTES, protection, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Pulse { fd: file.into(), page: page.cast() })
    }

    /// The descriptor to hand to another process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes a slot over for this process; its role is `None` until `set_role`.
    pub fn write_identity(&self, slot: Slot, pid: i32, start_ticks: u64) {
        let cell = self.cell(slot);
        cell.role.store(0, Ordering::SeqCst);
        // No number stands there while the rest changes, so readers can tell a half-written one.
        cell.pid.store(0, Ordering::SeqCst);
        cell.start_ticks.store(start_ticks, Ordering::SeqCst);
        cell.pid.store(u64::try_from(pid).unwrap_or(0), Ordering::SeqCst);
    }

    /// Puts a child into its slot, which was emptied before the fork. The child does the same for
    /// itself and may have been first: then its number, and the role that it has by now, stay.
    pub fn claim_for_child(&self, slot: Slot, pid: i32, start_ticks: u64) {
        let cell = self.cell(slot);
        cell.start_ticks.store(start_ticks, Ordering::SeqCst);
        let pid = u64::try_from(pid).unwrap_or(0);
        let _ = cell.pid.compare_exchange(0, pid, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Says what this process is doing.
    pub fn set_role(&self, slot: Slot, role: Role) {
        let number = ROLES.iter().position(|known| *known == role).unwrap_or(0);
        self.cell(slot).role.store(number as u64, Ordering::SeqCst);
    }

    /// Says that this process's loop runs.
    pub fn beat(&self, slot: Slot) {
        self.cell(slot).counter.fetch_add(1, Ordering::SeqCst);
    }

    /// What is in a slot; number 0 while its owner is being written.
    pub fn read(&self, slot: Slot) -> Seen {
        let cell = self.cell(slot);
        let mut seen = Seen { pid: 0, start_ticks: 0, role: Role::None, counter: 0 };
        for _ in 0..TRIES {
            let pid = cell.pid.load(Ordering::SeqCst);
            seen.start_ticks = cell.start_ticks.load(Ordering::SeqCst);
            let role = usize::try_from(cell.role.load(Ordering::SeqCst)).unwrap_or(usize::MAX);
            seen.role = ROLES.get(role).copied().unwrap_or(Role::None);
            seen.counter = cell.counter.load(Ordering::SeqCst);
            if cell.pid.load(Ordering::SeqCst) == pid {
                seen.pid = i32::try_from(pid).unwrap_or(0);
                break;
            }
        }
        seen
    }

    /// Says that the pair is to end. Nobody takes it back: the page is as old as the keeper's
    /// pair, and who starts the pair again later makes a new one.
    pub fn set_end_asked(&self, asked: EndAsked) {
        let number = match asked {
            EndAsked::ServersStay => SERVERS_STAY,
            EndAsked::ServersStop => SERVERS_STOP,
        };
        self.page().end.asked.store(number, Ordering::SeqCst);
    }

    /// Somebody asked for the end of this pair.
    pub fn end_asked(&self) -> Option<EndAsked> {
        match self.page().end.asked.load(Ordering::SeqCst) {
            SERVERS_STAY => Some(EndAsked::ServersStay),
            SERVERS_STOP => Some(EndAsked::ServersStop),
            _ => None,
        }
    }

    fn page(&self) -> &Page {
        // SAFETY: `page` points to a mapping of at least the size of Page that lives as long as
        // `self`, is aligned to a memory page, and holds only atomics, for which every bit
        // pattern is valid and writes by other processes are allowed.
        unsafe { self.page.as_ref() }
    }

    fn cell(&self, slot: Slot) -> &Cell {
        let page = self.page();
        match slot {
            Slot::Keeper => &page.cells[0],
            Slot::TwinA => &page.cells[1],
            Slot::TwinB => &page.cells[2],
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping, with this size, and no reference into it can
        // outlive the value.
        let _ = unsafe { munmap(self.page.cast(), PAGE_BYTES.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second_mapping(pulse: &Pulse) -> Pulse {
        Pulse::from_fd(pulse.fd().try_clone_to_owned().unwrap()).unwrap()
    }

    #[test]
    fn what_one_mapping_writes_another_reads_in_the_same_slot_only() {
        let pulse = Pulse::create().unwrap();
        let other = second_mapping(&pulse);
        pulse.write_identity(Slot::TwinB, 4711, 99);
        pulse.set_role(Slot::TwinB, Role::Serving);
        pulse.beat(Slot::TwinB);
        pulse.beat(Slot::TwinB);
        let seen = Seen { pid: 4711, start_ticks: 99, role: Role::Serving, counter: 2 };
        assert_eq!(other.read(Slot::TwinB), seen);
        let empty = Seen { pid: 0, start_ticks: 0, role: Role::None, counter: 0 };
        assert_eq!((other.read(Slot::TwinA), other.read(Slot::Keeper)), (empty, empty));
    }

    #[test]
    fn every_role_is_read_as_it_was_written() {
        let pulse = Pulse::create().unwrap();
        for role in ROLES {
            pulse.set_role(Slot::Keeper, role);
            assert_eq!(pulse.read(Slot::Keeper).role, role);
        }
    }

    #[test]
    fn the_end_that_was_asked_for_outlives_the_owners_of_the_slots() {
        let pulse = Pulse::create().unwrap();
        assert_eq!(pulse.end_asked(), None);
        for asked in [EndAsked::ServersStay, EndAsked::ServersStop] {
            second_mapping(&pulse).set_end_asked(asked);
            pulse.write_identity(Slot::TwinA, 0, 0);
            assert_eq!(pulse.end_asked(), Some(asked));
        }
    }

    #[test]
    fn garbage_in_the_page_reads_as_nobody_and_no_role() {
        let pulse = Pulse::create().unwrap();
        let garbage = [0xff_u8; size_of::<Page>()];
        nix::sys::uio::pwrite(pulse.fd(), &garbage, 0).unwrap();
        let seen = pulse.read(Slot::TwinA);
        assert_eq!((seen.pid, seen.role, pulse.end_asked()), (0, Role::None, None));
        pulse.beat(Slot::TwinA);
        assert_eq!(pulse.read(Slot::TwinA).counter, 0);
    }

    #[test]
    fn a_new_owner_of_a_slot_does_not_inherit_the_role_of_the_one_before() {
        let pulse = Pulse::create().unwrap();
        pulse.write_identity(Slot::TwinA, 1, 1);
        pulse.set_role(Slot::TwinA, Role::Serving);
        pulse.write_identity(Slot::TwinA, 2, 2);
        assert_eq!(pulse.read(Slot::TwinA).role, Role::None);
    }

    #[test]
    fn a_child_that_was_quicker_than_its_parent_keeps_the_role_that_it_wrote() {
        let pulse = Pulse::create().unwrap();
        pulse.write_identity(Slot::TwinB, 0, 0);
        pulse.write_identity(Slot::TwinB, 4711, 99);
        pulse.set_role(Slot::TwinB, Role::Standby);
        pulse.claim_for_child(Slot::TwinB, 4711, 99);
        let seen = pulse.read(Slot::TwinB);
        assert_eq!((seen.pid, seen.start_ticks, seen.role), (4711, 99, Role::Standby));
        pulse.write_identity(Slot::TwinA, 0, 0);
        pulse.claim_for_child(Slot::TwinA, 4712, 98);
        assert_eq!((pulse.read(Slot::TwinA).pid, pulse.read(Slot::TwinA).start_ticks), (4712, 98));
    }

    #[test]
    fn a_page_that_is_too_small_or_could_shrink_is_refused() {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let small = memfd_create(c"small", flags).unwrap();
        fcntl(&small, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        let open = memfd_create(c"open", flags).unwrap();
        ftruncate(&open, 4096).unwrap();
        for fd in [small, open, File::open("/dev/null").unwrap().into()] {
            assert_eq!(Pulse::from_fd(fd).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(ftruncate(Pulse::create().unwrap().fd(), 0), Err(Errno::EPERM));
    }
}
