//! Tests of `lifeline`: what who watches sees of a process that ends, and of one that does not.

use super::*;
use crate::core::Identity;
use crate::sys::testing::*;
use crate::sys::{pidfd, process};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};

/// `sleep`, with its end of the line as standard input.
fn watched(end: OwnedFd) -> (Child, Identity) {
    let child = Command::new("sleep").arg("60").stdin(Stdio::from(end)).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let identity = pidfd::identify(pid, &pidfd_of(pid)).unwrap();
    (child, identity)
}

fn is_broken(line: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap();
    fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

#[test]
fn a_process_that_is_killed_breaks_it_and_is_exiting_then() {
    let (line, end) = make(100).unwrap();
    let (mut child, identity) = watched(end);
    assert!(!is_broken(&line) && process::exits_on(&identity).is_none());
    child.kill().unwrap();
    wait_until("it is broken", || is_broken(&line));
    assert!(process::exits_on(&identity).is_some());
    let successor = Identity { start_ticks: identity.start_ticks + 1, ..identity };
    assert!(process::exits_on(&successor).is_none(), "another process with its number");
    child.wait().unwrap();
    assert!(process::exits_on(&identity).is_none(), "nothing is told of who is reaped");
}

#[test]
fn a_process_that_lives_and_closes_its_end_is_not_exiting() {
    let (line, end) = make(100).unwrap();
    let closes = "exec sleep 60 </dev/null";
    let mut child =
        Command::new("sh").args(["-c", closes]).stdin(Stdio::from(end)).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let identity = pidfd::identify(pid, &pidfd_of(pid)).unwrap();
    wait_until("it is broken", || is_broken(&line));
    assert!(process::exits_on(&identity).is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn its_end_has_a_high_number_where_that_is_allowed_and_else_any() {
    let (_line, end) = make(700).unwrap();
    assert!(end.as_raw_fd() >= 700);
    let (line, end) = make(RawFd::MAX).unwrap();
    assert!(!is_broken(&line));
    drop(end);
    assert!(is_broken(&line));
}
