//! Children that share this process's memory until their exec: nothing is copied for them.
//!
//! fork(2) copies the tables of all pages, and each page that the parent writes to afterwards; with
//! a thousand servers that was the longest part of a start. A child made here runs beside its
//! parent on a stack of its own, in a *room*: that stack, and the plan it works from. Both stay as
//! they are until the kernel has said that the child has left this memory (by exec or death).
//!
//! Must not be used for a child that changes what belongs to the memory, which is its parent's too:
//! its user (who could then trace the child, and write here), its oom_score_adj; or that enters a
//! cgroup, whose lack of memory would end all that share the child's (mm/oom_kill.c).

use super::low::Place;
use super::{child, raw};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::utsname::uname;
use std::cell::RefCell;
use std::convert::Infallible;
use std::ffi::{c_int, c_void};
use std::io;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Of which a release build uses some two thousand; pages that nobody touches cost nothing.
const STACK_BYTES: usize = 128 << 10;
/// Below the stack, without any right: who runs into it ends, and writes over nothing.
const GUARD_BYTES: usize = 64 << 10;
/// So many stacks are kept for the next children.
const FREE_MAX: usize = 2;
/// From this version on a core dump ends its own process alone (Linux 5.16, commit 0258b5fd7c71);
/// before it ended all that share the memory.
const KERNEL: (u32, u32) = (5, 16);

/// It was refused once, and will be again.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// What a child does.
pub(super) trait Plan {
    /// Must be async-signal-safe, and make system calls through `raw` alone.
    fn run(&mut self) -> Infallible;
}

/// Whether children can share memory here.
fn is_possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| {
        let release = uname().ok().and_then(|name| version(name.release().to_str()?));
        raw::IS_BARE && release.is_some_and(|version| version >= KERNEL)
    })
}

/// The first two numbers of `6.18.44-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Makes a child that runs the plan, in this memory if `shares` and where that is possible, else in
/// a copy. With a `place` it shares the table of descriptors too, and its plan leaves that first of
/// all. Gives its number and its pidfd.
///
/// # Errors
/// EAGAIN, ENOMEM, EMFILE, ...: there is no child then.
pub(super) fn start<P: Plan + 'static>(
    mut plan: P,
    shares: bool,
    mut place: Option<Place>,
) -> io::Result<(i32, OwnedFd)> {
    if shares && is_possible() && !REFUSED.load(Ordering::Relaxed) {
        match share(plan, &mut place) {
            Ok(child) => return Ok(child),
            // A filter of system calls (a container's) can forbid it; so does musl.
            Err((Errno::ENOSYS | Errno::EPERM | Errno::EINVAL, again)) => {
                REFUSED.store(true, Ordering::Relaxed);
                plan = again;
            }
            Err((errno, _)) => return Err(errno.into()),
        }
    }
    // SAFETY: what a `Plan` does is async-signal-safe.
    unsafe { child::fork(|| plan.run()) }
}

/// A child in this memory; signals are blocked in it until it unblocks them. Takes the place.
///
/// # Errors
/// Those of clone(2) and mmap(2), with the plan; no child is there then.
fn share<P: Plan + 'static>(
    plan: P,
    place: &mut Option<Place>,
) -> Result<(i32, OwnedFd), (Errno, P)> {
    sweep();
    let stack = match Stack::take() {
        Ok(stack) => stack,
        Err(errno) => return Err((errno, plan)),
    };
    let plan = Box::into_raw(Box::new(plan));
    let presence = Box::into_raw(Box::new(AtomicI32::new(1)));
    let files = if place.is_some() { libc::CLONE_FILES } else { 0 };
    match clone(plan, &stack, presence, files) {
        Ok(child) => {
            let forget = |plan: *mut c_void| {
                // SAFETY: it was made by Box::into_raw, as this type, and nobody else frees it.
                drop(unsafe { Box::from_raw(plan.cast::<P>()) });
            };
            let place = place.take().map(ManuallyDrop::new);
            let room = Room { stack, plan: plan.cast(), forget, presence, place };
            ROOMS.with_borrow_mut(|rooms| rooms.taken.push(room));
            Ok(child)
        }
        Err(errno) => {
            stack.give_back();
            // SAFETY: both were made by Box::into_raw above, and there is no child that uses them.
            let (plan, _) = unsafe { (Box::from_raw(plan), Box::from_raw(presence)) };
            Err((errno, *plan))
        }
    }
}

fn clone<P: Plan>(
    plan: *mut P,
    stack: &Stack,
    presence: *mut AtomicI32,
    files: c_int,
) -> nix::Result<(i32, OwnedFd)> {
    let flags =
        files | libc::CLONE_VM | libc::CLONE_PIDFD | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    let mut pidfd: RawFd = -1;
    // Its handlers are the parent's, and would run in the parent's memory.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the stack is a mapping that nobody else uses, and like plan and presence it stays
    // until the kernel has set presence to 0, which it does when the child uses this memory no
    // more (CLONE_CHILD_CLEARTID). The plan is the child's alone meanwhile. The C library's memory
    // (error number, locks, allocator) is not touched by the child: that is what `Plan` demands.
    // Without CLONE_SETTLS the thread-local storage argument is not looked at.
    let pid = unsafe {
        libc::clone(
            enter::<P>,
            stack.top(),
            flags,
            plan.cast(),
            &raw mut pidfd,
            std::ptr::null_mut::<c_void>(),
            presence.cast::<c_int>(),
        )
    };
    let errno = Errno::last();
    // Can't fail: the arguments are valid.
    let _ = mask.thread_set_mask();
    match pid {
        // SAFETY: clone succeeded, so it has put a new descriptor, owned by nobody else, into `pidfd`.
        pid if pid > 0 => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
        _ => Err(errno),
    }
}

#[expect(unreachable_code, reason = "a child never returns, and the C library wants a number")]
extern "C" fn enter<P: Plan>(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<P>();
    // SAFETY: `share` gave this pointer to this child alone, and frees it only when it is gone.
    unsafe { (*plan).run() };
    raw::exit(127)
}

/// A child's, from its clone until it has left this memory.
struct Room {
    stack: Stack,
    plan: *mut c_void,
    /// Frees the plan.
    forget: fn(*mut c_void),
    /// The kernel's word: 0 as soon as the child has left.
    presence: *mut AtomicI32,
    /// `None` as soon as the child has a table of descriptors of its own. The end of this thread must
    /// not close it: the child may still have to find its gate there.
    place: Option<ManuallyDrop<Place>>,
}

impl Room {
    fn is_left(&self) -> bool {
        // SAFETY: made by Box::into_raw, and freed in `clear` alone. The kernel writes it whole.
        unsafe { &*self.presence }.load(Ordering::Acquire) == 0
    }

    /// Only for one that is left.
    fn clear(self) -> Stack {
        drop(self.place.map(ManuallyDrop::into_inner));
        (self.forget)(self.plan);
        // SAFETY: as above; the kernel wrote to it for the last time when the child left.
        drop(unsafe { Box::from_raw(self.presence) });
        self.stack
    }
}

#[derive(Default)]
struct Rooms {
    taken: Vec<Room>,
    free: Vec<Stack>,
}

thread_local! {
    /// A thread's children die with it while they are here; its rooms are left as they are then.
    static ROOMS: RefCell<Rooms> = RefCell::default();
}

/// Clears the rooms of children that have left: to be called when one may have.
pub(super) fn sweep() {
    ROOMS.with_borrow_mut(|rooms| {
        let mut at = 0;
        while let Some(room) = rooms.taken.get_mut(at) {
            if !room.is_left() {
                // Also the parent's copy of the gate is closed now: the end of the child's must be
                // seen.
                let left = room.place.take_if(|place| place.is_left());
                drop(left.map(ManuallyDrop::into_inner));
                at += 1;
                continue;
            }
            let stack = rooms.taken.swap_remove(at).clear();
            match rooms.free.len() < FREE_MAX {
                true => rooms.free.push(stack),
                false => stack.unmap(),
            }
        }
        if rooms.taken.is_empty() {
            // Starts of thousands at once are over.
            rooms.taken.shrink_to(FREE_MAX);
        }
    });
}

/// A mapping: its first bytes are the guard. Not unmapped when dropped, as a child may be on it.
struct Stack(NonNull<c_void>);

impl Stack {
    fn take() -> nix::Result<Stack> {
        match ROOMS.with_borrow_mut(|rooms| rooms.free.pop()) {
            Some(stack) => Ok(stack),
            None => Stack::map(),
        }
    }

    fn give_back(self) {
        ROOMS.with_borrow_mut(|rooms| rooms.free.push(self));
    }

    fn map() -> nix::Result<Stack> {
        let bytes = NonZeroUsize::MIN.saturating_add(GUARD_BYTES + STACK_BYTES - 1);
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping, at a place that the kernel chooses, of no file.
        let stack = Stack(unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_NONE, flags) }?);
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the guard ends inside the mapping, which is nobody's yet.
        let protected = unsafe { mprotect(stack.0.byte_add(GUARD_BYTES), STACK_BYTES, rights) };
        match protected {
            Ok(()) => Ok(stack),
            Err(errno) => {
                stack.unmap();
                Err(errno)
            }
        }
    }

    /// Where it begins: it grows downwards. Page-aligned, so aligned for any processor.
    fn top(&self) -> *mut c_void {
        // SAFETY: one behind the end of the mapping.
        unsafe { self.0.byte_add(GUARD_BYTES + STACK_BYTES) }.as_ptr()
    }

    /// Only for one that no child is on.
    fn unmap(self) {
        // SAFETY: the whole mapping, made by `map`, which nobody uses. That it can't be unmapped
        // would mean that it is not there.
        let _ = unsafe { munmap(self.0, GUARD_BYTES + STACK_BYTES) };
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
