//! Low descriptor numbers, kept for the gates of children that share this process's table of
//! descriptors until their first act.
//!
//! A copy of that table costs each child as much as there are servers, and to close the copies costs it
//! as much again. A child that shares the table leaves it by one call that copies the lowest numbers
//! alone; what it needs of its parent's, its gate, must therefore have one of them.
//!
//! Must not give a number away again before the child that found its gate there has left the table.

use super::raw;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::dup3;
use std::cell::RefCell;
use std::ffi::c_uint;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// As many children can be on their way to their first act; more get copies.
const PLACES: usize = 32;
/// Of all descriptors that this process may have, one in so many is kept at most.
const SHARE: usize = 16;
/// The kernel's smallest table but one: what is copied for a child is never more.
const NUMBER_MAX: RawFd = 128;

#[derive(Default)]
struct Low {
    /// What a number that is kept is open for.
    null: Option<File>,
    free: Vec<OwnedFd>,
    /// Above all numbers that are kept.
    bound: c_uint,
}

thread_local! {
    static LOW: RefCell<Low> = RefCell::default();
}

/// Keeps low numbers for the children of this thread. To be called before much is open; without it, or
/// where close_range(2) is refused, children get copies. Where few descriptors are allowed few are kept.
pub fn reserve() {
    // From 1 to 0.
    if raw::close_range(1, 0) != Err(libc::EINVAL) {
        return;
    }
    let Ok(null) = File::open("/dev/null") else { return };
    let allowed = super::nofile().map_or(0, |(soft, _)| usize::try_from(soft).unwrap_or(PLACES));
    let places = PLACES.min(allowed / SHARE);
    LOW.with_borrow_mut(|low| {
        while low.free.len() < places {
            let Ok(number) = fcntl(&null, FcntlArg::F_DUPFD_CLOEXEC(3)) else { break };
            // SAFETY: just made, and owned by nobody else.
            let kept = unsafe { OwnedFd::from_raw_fd(number) };
            if number >= NUMBER_MAX {
                break;
            }
            low.bound = low.bound.max(number.unsigned_abs() + 1);
            low.free.push(kept);
        }
        low.null = Some(null);
    });
}

/// A low number where a child finds its gate. When dropped, the number is kept for another one.
pub(super) struct Place {
    kept: Option<OwnedFd>,
    has_left: Arc<AtomicBool>,
}

/// What the child has of its place.
pub(super) struct Way {
    has_left: Arc<AtomicBool>,
    bound: c_uint,
}

/// A copy of `gate` under a low number; `None`: all are taken, or none are kept.
pub(super) fn take(gate: &OwnedFd) -> Option<Place> {
    let mut kept = LOW.with_borrow_mut(|low| low.free.pop())?;
    // The number stays what it was; if that fails, it is kept no more.
    dup3(gate, &mut kept, OFlag::O_CLOEXEC).ok()?;
    Some(Place { kept: Some(kept), has_left: Arc::default() })
}

impl Place {
    pub(super) fn number(&self) -> RawFd {
        self.kept.as_ref().map_or(-1, |kept| kept.as_raw_fd())
    }

    pub(super) fn way(&self) -> Way {
        let bound = LOW.with_borrow(|low| low.bound);
        Way { has_left: self.has_left.clone(), bound }
    }

    /// The child shares the table no more.
    pub(super) fn is_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(mut kept) = self.kept.take() else { return };
        // At the end of the thread nothing is kept any more.
        let _ = LOW.try_with(|low| {
            let Ok(mut low) = low.try_borrow_mut() else { return };
            let is_kept = low
                .null
                .as_ref()
                .is_some_and(|null| dup3(null.as_fd(), &mut kept, OFlag::O_CLOEXEC).is_ok());
            if is_kept {
                low.free.push(kept);
            }
        });
    }
}

impl Way {
    /// In the child, its first act: until then what it closes is closed for its parent.
    pub(super) fn leave(&self) -> raw::Stepped {
        raw::leave_files(self.bound)?;
        self.has_left.store(true, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
#[path = "low_tests.rs"]
mod tests;
