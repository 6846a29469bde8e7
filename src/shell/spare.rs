//! A descriptor kept for the time when no other is left: given up, it makes room for one connection.
//!
//! Must not be used for anything else: without it an active whose limit is reached could not even say
//! so, because a connection that can't be taken can't be answered.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// The spare one. Holds nothing while its place is lent.
#[derive(Debug)]
pub struct Spare(Option<File>);

impl Spare {
    /// One that is there, unless none is left already.
    pub fn new() -> Spare {
        let mut spare = Spare(None);
        spare.refill();
        spare
    }

    /// Takes a place again, if there is one. To be called whenever a descriptor was closed.
    pub fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }

    /// Is it there, and not lent?
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Makes room for one descriptor; whether there is room now.
    pub fn lend(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// A connection waits to be taken. With no descriptor left accept(2) fails also when none does.
pub fn is_waiting(listener: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// No descriptor is left, in this process or in the machine.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_makes_room_once_until_it_is_filled_again() {
        let mut spare = Spare::new();
        assert_eq!([spare.lend(), spare.lend()], [true, false]);
        spare.refill();
        assert!(spare.lend());
    }

    #[test]
    fn only_a_lack_of_descriptors_is_a_shortage() {
        let errors = [libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::ECONNABORTED];
        let is_shortage = errors.map(|number| is_shortage(&io::Error::from_raw_os_error(number)));
        assert_eq!(is_shortage, [true, true, false, false]);
    }
}
