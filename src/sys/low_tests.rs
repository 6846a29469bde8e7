//! Children that share their parent's table of descriptors until their first act.

use super::*;
use crate::core::Exit;
use crate::sys::spawn::{Gated, News, ServerSpec, open_gate, spawn_server};
use crate::sys::testing::{Server, end, reaped, runs, shell_spec, wait_until};
use crate::sys::{pidfd, room};
use nix::fcntl::FdFlag;

fn free() -> usize {
    room::sweep();
    LOW.with_borrow(|low| low.free.len())
}

fn spawned(spec: ServerSpec) -> Server {
    let Gated { pid, pidfd, gate } = spawn_server(spec).unwrap();
    Server { pid, pidfd, gate }
}

#[test]
fn more_children_than_places_all_run_and_all_places_are_there_again() {
    reserve();
    let places = free();
    let children: Vec<Server> =
        (0..3 * PLACES).map(|n| spawned(shell_spec(&format!("exit {}", n % 100)))).collect();
    for child in &children {
        assert_eq!(child.news(), News::Ready);
    }
    assert_eq!(free(), places, "who waits at the gate has left the table");
    for (n, child) in children.iter().enumerate() {
        open_gate(&child.gate).unwrap();
        assert_eq!(child.news(), News::Closed, "its end of the gate is nobody's copy");
        assert_eq!(reaped(&child.pidfd), Exit::Code((n % 100) as i32));
    }
}

#[test]
fn a_child_has_nothing_of_its_parents_and_closes_nothing_of_its_parents() {
    reserve();
    let open: Vec<OwnedFd> =
        (0..300).map(|_| nix::unistd::dup(std::io::stderr()).unwrap()).collect();
    let server = Server::shell("exec sleep 60");
    wait_until("sleep runs", || runs(server.pid, "sleep"));
    let numbers = std::fs::read_dir(format!("/proc/{}/fd", server.pid)).unwrap().count();
    assert_eq!(numbers, 3);
    for fd in &open {
        assert_eq!(fcntl(fd, FcntlArg::F_GETFD), Ok(FdFlag::empty().bits()));
    }
}

#[test]
fn a_child_that_dies_or_fails_on_its_way_gives_its_place_back() {
    reserve();
    let places = free();
    let unprepared = ServerSpec { is_unprepared: true, ..shell_spec("exit 0") };
    let children = [spawned(shell_spec("exit 0")), spawned(unprepared)];
    end(&children[0].pidfd);
    for child in &children {
        wait_until("it is dead", || pidfd::is_dead(&child.pidfd));
    }
    assert_eq!(free(), places);
}

/// Waits for its turn, and tells by its exit code whether its gate is still there.
struct Late {
    may_look: Arc<AtomicBool>,
    gate: RawFd,
    file: (u64, u64),
}

impl room::Plan for Late {
    fn run(&mut self) -> std::convert::Infallible {
        while !self.may_look.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        raw::exit(if raw::file_of(self.gate) == Ok(self.file) { 40 } else { 41 })
    }
}

#[test]
fn the_end_of_its_parents_thread_takes_no_gate_from_a_child_on_its_way() {
    let may_look = Arc::new(AtomicBool::new(false));
    let flag = may_look.clone();
    let started = std::thread::spawn(move || {
        reserve();
        let (gate, _other) = nix::unistd::pipe().unwrap();
        let place = take(&gate)?;
        let number = place.number();
        let late = Late { may_look: flag, gate: number, file: raw::file_of(number).unwrap() };
        Some(room::start(late, true, Some(place)).unwrap())
    });
    let Some((_, child)) = started.join().unwrap() else { return println!("skipped: no number") };
    may_look.store(true, Ordering::Release);
    assert_eq!(reaped(&child), Exit::Code(40));
}

#[test]
fn a_number_is_kept_until_its_child_has_left_and_nothing_else_gets_it_meanwhile() {
    reserve();
    let (gate, _other) = nix::unistd::pipe().unwrap();
    let Some(place) = take(&gate) else { return println!("skipped: no low number is free") };
    let (number, way) = (place.number(), place.way());
    assert!(number < NUMBER_MAX && number.unsigned_abs() < way.bound);
    assert!(!place.is_left());
    way.has_left.store(true, Ordering::Release);
    assert!(place.is_left());
    let before = free();
    drop(place);
    assert_eq!(free(), before + 1);
    let at = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
    assert_eq!(at.to_str(), Some("/dev/null"));
}
