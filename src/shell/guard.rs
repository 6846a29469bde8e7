//! What is done with every heartbeat: the pulse, and a look at the ground the pair stands on.
//!
//! Must not judge the other twin (the core does). The run directory can vanish (a cleaner of
//! temporary files, an operator): then a second pair could start beside this one, so the directory
//! is rebuilt at once.

use super::actions::make_run_dirs;
use super::token::Source;
use super::view::KeeperSeen;
use super::{Door, Shell, control, lock_path};
use crate::core::node::Role;
use crate::core::{Event, Exit, Identity};
use crate::sys::lock::{Attempt, Lock};
use crate::sys::memory::Memory;
use crate::sys::pulse::{self, Slot};
use crate::sys::{self, pidfd, process};
use crate::wire::Message;
use log::{error, info, warn};
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Reports of exit statuses read in one turn.
const REPORTS_PER_TURN: usize = 256;
/// PID, kind (0 code, 1 signal), value, unused, start ticks.
pub const REPORT_BYTES: usize = 24;

/// The keeper, as the active sees it.
#[derive(Default)]
pub struct KeeperWatch {
    seen: Option<(KeeperSeen, u64, OwnedFd)>,
}

impl KeeperWatch {
    /// The keeper, while it lives.
    pub fn keeper(&self) -> Option<KeeperSeen> {
        let (seen, _, fd) = self.seen.as_ref()?;
        (!pidfd::is_dead(fd)).then_some(*seen)
    }

    /// Sends it a signal, if it lives.
    pub fn signal(&self, number: i32) {
        if let Some((_, _, fd)) = &self.seen {
            let _ = pidfd::signal(fd, number);
        }
    }

    pub fn start_ticks(&self) -> Option<u64> {
        self.seen.as_ref().map(|(_, ticks, _)| *ticks)
    }
}

/// Between two heartbeats no more events than this: the process is at rest.
const EVENTS_AT_REST: u64 = 16;
/// After so many others memory is given back: the start of a twin, a storm, a takeover.
const EVENTS_OF_WORK: u64 = 256;

/// Whether much was done, and now nothing is.
struct Rest {
    told: u64,
    work: u64,
}

impl Default for Rest {
    /// Its own start was work.
    fn default() -> Rest {
        Rest { told: 0, work: EVENTS_OF_WORK }
    }
}

impl Rest {
    /// With each heartbeat: `told` events so far. Whether it is time to give back memory.
    fn has_come(&mut self, told: u64) -> bool {
        let events = told.saturating_sub(std::mem::replace(&mut self.told, told));
        if events > EVENTS_AT_REST {
            self.work = self.work.saturating_add(events);
            return false;
        }
        let has_come = self.work >= EVENTS_OF_WORK;
        if has_come {
            self.work = 0;
        }
        has_come
    }
}

/// What is kept from one heartbeat to the next: what could not be mended yet and is tried again, and what was
/// done since.
#[derive(Default)]
pub struct Ground {
    /// The control socket was removed, and could not be made again.
    socket_is_lost: bool,
    /// A standby that has to go, and could not be killed.
    outdated: Option<Identity>,
    rest: Rest,
    pub(super) memory: Memory,
}

/// One report as bytes.
pub fn encode_report(pid: i32, start_ticks: u64, exit: Exit) -> [u8; REPORT_BYTES] {
    let (kind, value) = match exit {
        Exit::Code(code) => (0i32, code),
        Exit::Signal(signal) => (1, signal),
        Exit::Unknown => (2, 0),
    };
    let mut bytes = [0; REPORT_BYTES];
    bytes[0..4].copy_from_slice(&pid.to_ne_bytes());
    bytes[4..8].copy_from_slice(&kind.to_ne_bytes());
    bytes[8..12].copy_from_slice(&value.to_ne_bytes());
    bytes[16..24].copy_from_slice(&start_ticks.to_ne_bytes());
    bytes
}

/// A report from its bytes; `None` for what no keeper sends.
pub fn decode_report(bytes: &[u8]) -> Option<(i32, u64, Exit)> {
    if bytes.len() != REPORT_BYTES {
        return None;
    }
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(i32::from_ne_bytes);
    let ticks = u64::from_ne_bytes(bytes.get(16..24)?.try_into().ok()?);
    let exit = match (word(4)?, word(8)?) {
        (0, code) => Exit::Code(code),
        (1, signal) => Exit::Signal(signal),
        (2, _) => Exit::Unknown,
        _ => return None,
    };
    Some((word(0)?, ticks, exit))
}

impl Shell {
    /// Shows that the loop turns, and looks at the other's pulse.
    pub(super) fn beat(&mut self) {
        self.send_beat();
        if self.ground.rest.has_come(self.ctx.told) {
            self.ctx.inbox.shrink_to_fit();
            self.ground.memory.give_back();
        }
        let counter = self.ctx.pulse.read(self.ctx.twin.other().slot()).counter;
        self.ctx.tell(Event::Pulse { counter });
        match self.node.role {
            Role::Active => {
                self.open_doors();
                self.look_at_ground();
            }
            Role::Standby if self.says_watching => self.say_watching(),
            Role::Standby | Role::Promoting | Role::Ended => {}
        }
    }

    /// The pulse shows the role, for the keeper.
    pub(super) fn note_role(&mut self, before: Role) {
        if before != self.node.role && self.node.role == Role::Promoting {
            self.ctx.pulse.set_role(self.ctx.twin.slot(), pulse::Role::Promoting);
            let _ = sys::set_name("nm-promoting");
            self.ground.memory.expect_work();
            self.log.hold();
        }
    }

    /// Many events in one turn (a crowd of clients, each with a long status) are work and no hang.
    pub(super) fn beat_in_long_turn(&mut self) {
        let interval_ms = self.ctx.config.node.heartbeat_interval_ms;
        if self.ctx.now().since(self.beat_at) >= interval_ms {
            self.send_beat();
        }
    }

    pub(super) fn send_beat(&mut self) {
        self.beat_at = self.ctx.now();
        self.keep_slot();
        self.ctx.pulse.beat(self.ctx.twin.slot());
        let counter = self.ctx.pulse.read(self.ctx.twin.slot()).counter;
        self.peers.send(&Message::Beat { counter });
        self.peers.flush_main();
    }

    /// The keeper may have taken this slot for a dead twin's: a fresh standby is alive a moment
    /// before its slot says so. The lock ends what the keeper started then; the slot is taken back.
    fn keep_slot(&mut self) {
        let slot = self.ctx.twin.slot();
        let seen = self.ctx.pulse.read(slot);
        let is_own = (seen.pid, seen.start_ticks) == (self.own.pid, self.own.start_ticks);
        let role = match self.node.role {
            Role::Standby => pulse::Role::Standby,
            Role::Active if self.is_serving => pulse::Role::Serving,
            // What begins or ends says so itself, when all that was to be done is done.
            _ if is_own => return,
            Role::Promoting => pulse::Role::Promoting,
            Role::Active | Role::Ended => pulse::Role::None,
        };
        if !is_own {
            self.ctx.pulse.write_identity(slot, self.own.pid, self.own.start_ticks);
        }
        self.ctx.pulse.set_role(slot, role);
    }

    fn look_at_ground(&mut self) {
        if self.keep_run_dir() {
            // All in it was made anew.
        } else if self.store.needs_open() {
            self.store.open(self.node.entries());
        } else if self.is_serving {
            self.look_at_socket();
        }
        self.replace_outdated();
        self.look_at_keeper();
        self.look_at_disabled();
        self.outputs.check_paths(&self.ctx, false);
    }

    /// Builds the run directory again when it is not the one whose lock this process holds;
    /// whether it was not.
    pub(super) fn keep_run_dir(&mut self) -> bool {
        let path = lock_path(&self.ctx.config);
        let is_lost = self.lock.as_ref().is_some_and(|lock| !lock.still_at(&path));
        if is_lost {
            self.rebuild_run_dir();
        }
        is_lost
    }

    /// A cleaner of temporary files can take the socket alone: nobody could reach the pair then.
    fn look_at_socket(&mut self) {
        let path = self.ctx.config.node.control_socket();
        let is_there = std::fs::symlink_metadata(&path)
            .map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true);
        if is_there {
            return;
        }
        let is_new = !std::mem::replace(&mut self.ground.socket_is_lost, true);
        match self.try_bind_control() {
            Ok(()) => {
                warn!(target: "0118", "{} was removed, and is made again", path.display());
                self.ground.socket_is_lost = false;
            }
            // Tried again at each heartbeat, and said once.
            Err(error) if is_new => {
                error!(target: "0118", "{} was removed, and cannot be made again: {error}", path.display());
            }
            Err(_) => {}
        }
    }

    fn bind_control(&mut self) {
        if let Err(error) = self.try_bind_control() {
            let path = self.ctx.config.node.control_socket();
            error!(target: "0118", "cannot bind {}: {error}", path.display());
        }
    }

    /// The standby has the old one, and would believe that the new file is its own: it goes before
    /// there is a new file.
    fn try_bind_control(&mut self) -> io::Result<()> {
        let node = &self.ctx.config.node;
        let path = node.control_socket();
        // No longer than the path, whose length is limited.
        let beside = path.with_file_name("control.new");
        let listener = control::bind(&beside, node)?;
        self.try_replace_standby()?;
        std::fs::rename(&beside, &path)?;
        self.control.set_listener(listener);
        self.open_new_door(Door::Control);
        Ok(())
    }

    /// The standby holds what was made anew as it was before: a fresh one gets the new.
    /// Where it can't be killed that is tried again.
    pub(super) fn replace_standby(&mut self) {
        let _ = self.try_replace_standby();
    }

    fn replace_outdated(&mut self) {
        let there = self.other.as_ref().map(|(standby, _)| *standby);
        if self.ground.outdated.is_some() && self.ground.outdated == there {
            self.replace_standby();
        }
    }

    fn try_replace_standby(&mut self) -> io::Result<()> {
        let Some((standby, fd)) = &self.other else { return Ok(()) };
        self.ground.outdated = Some(*standby);
        match pidfd::signal(fd, libc::SIGKILL) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            // Gone, or about to be.
            _ => {
                self.ground.outdated = None;
                Ok(())
            }
        }
    }

    /// Somebody removed the run directory or the lock in it.
    fn rebuild_run_dir(&mut self) {
        let dir = self.ctx.config.node.run_dir.clone();
        warn!(target: "0118", "{} was removed or replaced; it is being rebuilt", dir.display());
        if let Err(error) = make_run_dirs(&self.ctx.config) {
            return error!(target: "0118", "{error}");
        }
        match Lock::try_take(&lock_path(&self.ctx.config)) {
            Ok(Attempt::Taken(lock)) => self.lock = Some(lock),
            Ok(Attempt::HeldBy(pid)) => {
                // Somebody was quicker. There must never be two: this pair goes, and its servers
                // are found by their mark.
                error!(target: "0118", "PID {pid} has locked the new {}; this active ends", dir.display());
                self.exit = Some(75);
                return;
            }
            Err(error) => return error!(target: "0118", "cannot lock the new directory: {error}"),
        }
        self.store.open(self.node.entries());
        self.bind_control();
        self.outputs.renew(&self.ctx);
        self.renew_endpoints();
        self.note_serving();
        self.write_in_force();
        self.replace_standby();
    }

    /// Is there a keeper, and which?
    pub(super) fn look_at_keeper(&mut self) {
        let slot = self.ctx.pulse.read(Slot::Keeper);
        let joined = slot.role == pulse::Role::Joined;
        let known = self.keeper.seen.as_ref();
        let is_same = known.is_some_and(|(seen, ticks, fd)| {
            seen.pid == slot.pid && *ticks == slot.start_ticks && !pidfd::is_dead(fd)
        });
        if is_same || slot.pid == 0 {
            return;
        }
        let opened = pidfd::open(slot.pid).ok().filter(|_| {
            process::start_ticks(slot.pid).is_ok_and(|ticks| ticks == slot.start_ticks)
        });
        let is_alive = opened.as_ref().is_some_and(|fd| !pidfd::is_dead(fd));
        if let (true, Some(fd)) = (is_alive, opened) {
            info!(target: "0119", "the keeper is PID {}{}", slot.pid, if joined { " (joined)" } else { "" });
            let _ = self.ctx.watch(&fd, Source::Keeper);
            let seen = KeeperSeen { pid: slot.pid, joined };
            if let Some((_, _, old)) = self.keeper.seen.replace((seen, slot.start_ticks, fd)) {
                self.ctx.close(old);
            }
            if self.is_serving {
                self.note_serving();
                self.keeper_joined(slot.pid);
            }
        }
    }

    /// The keeper ended: the pair works on without it, and says so.
    pub(super) fn on_keeper(&mut self) {
        let Some((seen, _, fd)) = &self.keeper.seen else { return };
        let died = pidfd::has_died(fd);
        if died.is_err() {
            self.ctx.look_again(Source::Keeper);
        } else if died.is_ok_and(|died| died) {
            warn!(target: "0119", "the keeper (PID {}) is gone; the pair goes on, `nodemanager run` gives it a new one", seen.pid);
            let pid = seen.pid;
            self.keeper_lost(pid);
            if let Some((_, _, fd)) = self.keeper.seen.take() {
                self.ctx.close(fd);
            }
            self.note_serving();
        }
    }

    /// Exit statuses that the keeper saw: looked at, put on record, and only then consumed, so
    /// that who takes over in between finds them still there.
    pub(super) fn read_reports(&mut self) {
        for _ in 0..REPORTS_PER_TURN {
            let Some(reports) = &self.reports else { return };
            let mut bytes = [0; REPORT_BYTES];
            // With MSG_TRUNC the true length comes back, also of what is longer than a report.
            let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            match recv(reports.as_raw_fd(), &mut bytes, look) {
                Ok(0) => {
                    // The keeper's end is closed: it will never say anything again.
                    if let Some(reports) = self.reports.take() {
                        self.ctx.close(reports);
                    }
                    return;
                }
                Ok(count) => {
                    let report = bytes.get(..count).and_then(decode_report);
                    if let Some((pid, start_ticks, exit)) = report {
                        self.servers.on_report(&mut self.ctx, pid, start_ticks, exit);
                        self.empty_inbox();
                    }
                    let Some(reports) = &self.reports else { return };
                    let _ = recv(reports.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT);
                }
                Err(nix::Error::EAGAIN) => return,
                Err(_) => return self.ctx.look_again(Source::Reports),
            }
        }
        // More is waiting, and an edge comes only once.
        if let Some(reports) = &self.reports {
            self.ctx.unwatch(reports);
            let _ = self.ctx.watch(reports, Source::Reports);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_back_from_its_bytes() {
        for exit in [Exit::Code(37), Exit::Signal(9), Exit::Unknown] {
            assert_eq!(decode_report(&encode_report(7, 8, exit)), Some((7, 8, exit)));
        }
        assert_eq!(decode_report(&[0xff; REPORT_BYTES]), None);
        for len in [0, 3, REPORT_BYTES - 1, REPORT_BYTES + 1] {
            assert_eq!(decode_report(&vec![0; len]), None);
        }
    }
}
