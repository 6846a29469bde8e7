//! What the keeper sees: the pulse of the twins, and the orphans that land here.
//!
//! Must not judge (its core does). An orphan's status is reported before the zombie is reaped, so
//! that none is lost in between.

use super::{KeeperShell, TWINS, lock_path};
use crate::core::keeper::{Event, TwinRole, TwinSeen};
use crate::core::{Exit, Identity, Ms};
use crate::shell::guard::encode_report;
use crate::sys::lock::{Attempt, Lock};
use crate::sys::pidfd::{self, Verified};
use crate::sys::pulse::{Role, Seen, Slot};
use crate::sys::{self, process};
use log::warn;
use mio::Interest;
use mio::unix::SourceFd;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use std::os::fd::AsRawFd;

/// Orphans reaped in one turn.
const REAPS_PER_TURN: usize = 256;

impl KeeperShell {
    pub(super) fn look(&mut self, _now: Ms) {
        self.pulse.beat(Slot::Keeper);
        self.keep_lock();
        let seen = [self.pulse.read(Slot::TwinA), self.pulse.read(Slot::TwinB)];
        let twins = [self.twin(0, seen[0]), self.twin(1, seen[1])];
        let begins = !self.has_served && twins.iter().any(|twin| twin.role == TwinRole::Serving);
        self.has_served |= begins;
        let are_held_now = self.has_served && self.fifos.hold();
        if are_held_now || begins {
            // The servers' definitions, and their paths, are some megabytes with a thousand.
            self.memory.give_back();
        }
        self.init.see(seen, self.pulse.end_asked().is_some());
        self.tell(Event::Look(twins));
    }

    /// The run directory can vanish: then a second keeper could start. The active rebuilds it; the
    /// lock in the new one is taken at once.
    fn keep_lock(&mut self) {
        let path = lock_path(&self.config);
        if !self.lock.still_at(&path)
            && let Ok(Attempt::Taken(lock)) = Lock::try_take(&path)
        {
            warn!(target: "0026", "the keeper's lock was removed, and is taken again");
            self.lock = lock;
            // The FIFOs went with it, and are made anew.
            if let Ok(config) = self.packed.unpack() {
                self.fifos.want(&config);
            }
        }
    }

    /// What a slot says, and whether the process that wrote it lives.
    pub(super) fn twin(&mut self, index: usize, seen: Seen) -> TwinSeen {
        let is_known = self.twins[index].as_ref().is_some_and(|(process, _)| {
            process.pid == seen.pid && process.start_ticks == seen.start_ticks
        });
        if !is_known {
            if let Some((_, fd)) = self.twins[index].take() {
                let raw = fd.as_raw_fd();
                let _ = self.poll.registry().deregister(&mut SourceFd(&raw));
            }
            let process = Identity { pid: seen.pid, start_ticks: seen.start_ticks, inode: 0 };
            if seen.pid > 0
                && let Ok(Verified::Alive(fd)) = pidfd::open_verified(&process)
            {
                let raw = fd.as_raw_fd();
                let _ =
                    self.poll.registry().register(&mut SourceFd(&raw), TWINS, Interest::READABLE);
                self.twins[index] = Some((process, fd));
            }
        }
        let alive = self.twins[index].as_ref().is_some_and(|(_, fd)| !pidfd::is_dead(fd));
        TwinSeen { role: twin_role(seen.role), counter: seen.counter, alive }
    }

    /// Reaps what ended, and reports it first: WNOWAIT leaves the zombie until the report is on
    /// its way, so that no status is lost in between.
    pub(super) fn reap(&mut self) {
        // What can't be reported or reaped now waits as a zombie, and is tried again.
        self.is_full = true;
        for _ in 0..REAPS_PER_TURN {
            let (pid, exit) = match sys::waitid_any_nowait() {
                Ok(Some(ended)) => ended,
                Ok(None) => {
                    self.is_full = false;
                    return;
                }
                Err(_) => return,
            };
            let ticks = match process::start_ticks(pid) {
                Ok(ticks) => ticks,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(_) => return,
            };
            if let Some((_, write)) = &self.reports {
                let report = encode_report(pid, ticks, exit);
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                match send(write.as_raw_fd(), &report, flags) {
                    // Nobody will ever read it.
                    Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ECONNREFUSED) => {}
                    Err(_) => return,
                }
            }
            if sys::reap_pid(pid).is_err() {
                return;
            }
            if let Some(index) = self.started.iter().position(|started| *started == pid) {
                self.started.swap_remove(index);
                self.on_started_exited(exit);
            }
        }
    }

    fn on_started_exited(&mut self, exit: Exit) {
        let code = match exit {
            Exit::Code(code) => u8::try_from(code).unwrap_or(1),
            Exit::Signal(_) | Exit::Unknown => 1,
        };
        self.look(process::monotonic_ms());
        self.tell(Event::StartedExited { code });
    }
}

fn twin_role(role: Role) -> TwinRole {
    match role {
        Role::None | Role::Keeper | Role::Joined => TwinRole::None,
        Role::Starting => TwinRole::Starting,
        Role::Serving => TwinRole::Serving,
        Role::Standby => TwinRole::Standby,
        Role::Promoting => TwinRole::Promoting,
        Role::Ended => TwinRole::Ended,
        Role::EndedForFailure => TwinRole::EndedForFailure,
    }
}
