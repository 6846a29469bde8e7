//! Children that share this process's memory.

use super::*;
use crate::core::Exit;
use crate::sys::pidfd;
use crate::sys::testing::{Server, reaped, wait_until};
use nix::sys::resource::Resource;
use std::cell::Cell;
use std::rc::Rc;

/// Waits until it may end, and ends with this code; says when its memory is freed.
struct Waiter {
    may_end: *const AtomicI32,
    code: i32,
    freed: Rc<Cell<usize>>,
}

impl Plan for Waiter {
    fn run(&mut self) -> Infallible {
        // SAFETY: the test keeps it until the child has ended.
        while unsafe { &*self.may_end }.load(Ordering::Acquire) == 0 {
            std::hint::spin_loop();
        }
        // An error number of its own: nothing of it is seen outside.
        assert_eq!(raw::flock(-1, libc::LOCK_EX), Err(libc::EBADF));
        raw::exit(self.code)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.freed.set(self.freed.get() + 1);
    }
}

fn taken() -> usize {
    sweep();
    ROOMS.with_borrow(|rooms| rooms.taken.len())
}

#[test]
fn a_childs_memory_stays_until_it_has_left_and_is_used_again_then() {
    if !is_possible() {
        return println!("skipped: children do not share memory here");
    }
    let freed = Rc::new(Cell::new(0));
    let may_end: Vec<AtomicI32> = (0..5).map(|_| AtomicI32::new(0)).collect();
    let children: Vec<_> = (0..5)
        .map(|n| {
            let plan = Waiter {
                may_end: &raw const may_end[n],
                code: 40 + n as i32,
                freed: freed.clone(),
            };
            share(plan, &mut None).map_err(|(errno, _)| errno).unwrap()
        })
        .collect();
    assert_eq!(taken(), 5);
    Errno::EAGAIN.set();
    for (n, (_, child)) in children.iter().enumerate() {
        assert_eq!((taken(), freed.get()), (5 - n, n), "before child {n} ended");
        may_end[n].store(1, Ordering::Release);
        assert_eq!(reaped(child), Exit::Code(40 + n as i32));
    }
    wait_until("all rooms are clear", || taken() == 0);
    assert_eq!(freed.get(), 5);
    let free = || ROOMS.with_borrow(|rooms| rooms.free.len());
    assert_eq!(free(), FREE_MAX);
    let plan = Waiter { may_end: &raw const may_end[0], code: 1, freed };
    let (_, child) = share(plan, &mut None).map_err(|(errno, _)| errno).unwrap();
    assert_eq!(free(), FREE_MAX - 1, "a stack is used again");
    reaped(&child);
}

#[test]
fn a_child_that_has_become_its_program_needs_no_room() {
    let server = Server::shell("exec sleep 60");
    assert_eq!(ROOMS.with_borrow(|rooms| rooms.taken.len()), 0);
    drop(server);
}

#[test]
fn a_childs_failures_leave_the_parents_error_number_and_signal_mask_alone() {
    if !is_possible() {
        return println!("skipped: children do not share memory here");
    }
    struct Failing;
    impl Plan for Failing {
        fn run(&mut self) -> Infallible {
            for _ in 0..10_000 {
                raw::close(-1);
                assert!(raw::chdir(c"/nonexistent").is_err());
            }
            raw::exit(0)
        }
    }
    let mask = SigSet::thread_get_mask().unwrap();
    let (_, child) = share(Failing, &mut None).map_err(|(errno, _)| errno).unwrap();
    assert_eq!(SigSet::thread_get_mask().unwrap(), mask);
    let mut rounds = 0;
    while !pidfd::is_dead(&child) || rounds == 0 {
        Errno::EMLINK.set();
        (0..1000).for_each(|_| assert_eq!(Errno::last(), Errno::EMLINK));
        rounds += 1;
    }
    assert_eq!(reaped(&child), Exit::Code(0));
}

#[test]
fn a_child_that_runs_into_its_stacks_end_ends_alone() {
    if !is_possible() {
        return println!("skipped: children do not share memory here");
    }
    struct Deep;
    impl Plan for Deep {
        fn run(&mut self) -> Infallible {
            // No core file of this.
            assert_eq!(raw::set_limit(Resource::RLIMIT_CORE as u32, 0, 0), Ok(()));
            let here = std::hint::black_box(0_u8);
            let mut at = &raw const here as *mut u8;
            loop {
                // SAFETY: none is needed for this stack's own pages; below them is the guard, and
                // that the kernel ends this child there is what is tested.
                unsafe {
                    at = at.wrapping_sub(1024);
                    at.write_volatile(1);
                }
            }
        }
    }
    let (_, child) = share(Deep, &mut None).map_err(|(errno, _)| errno).unwrap();
    assert_eq!(reaped(&child), Exit::Signal(libc::SIGSEGV));
}

#[test]
fn a_version_of_linux_is_read_from_its_release() {
    assert_eq!(version("6.18.44-fc-v445"), Some((6, 18)));
    assert_eq!(version("5.10.0-28-amd64"), Some((5, 10)));
    assert_eq!(version("6.1"), Some((6, 1)));
    assert_eq!(version("6.1+"), Some((6, 1)));
    assert_eq!(version("unknown"), None);
    assert!((5, 15) < KERNEL && (5, 16) >= KERNEL && (6, 1) > KERNEL);
}
