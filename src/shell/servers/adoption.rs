//! A new active looks at the processes on record: ours, gone, still at the gate, or unclear.
//!
//! Must not touch them. What can't be told apart is reported as unclear, and the core asks again.

use super::{Child, Servers};
use crate::core::{Event, Found, Identity, ServerId};
use crate::shell::ctx::Ctx;
use crate::shell::token::Source;
use crate::sys::pidfd::{self, Verified};
use crate::sys::{process, spawn};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

/// So many processes are looked at in a turn of the loop: a takeover with thousands of servers
/// answers, and sees deaths, meanwhile.
const LOOKS_PER_TURN: usize = 16;
/// A client that waited for the takeover is taken in in one turn, and answered in the next.
const TURNS_TO_LOOK: u8 = 3;

/// A process on record that is still to be looked at.
pub(super) struct Unseen {
    server: ServerId,
    process: Identity,
    start_number: u64,
    may_be_at_gate: bool,
    /// When all were looked at together. One that dies later is seen as soon as it is watched.
    was_dead: bool,
}

impl Servers {
    /// Looks at the process on record in one of the next turns; from then on it is watched, if it
    /// is ours.
    pub fn verify(
        &mut self,
        server: ServerId,
        process: Identity,
        start_number: u64,
        may_be_at_gate: bool,
    ) {
        if self.unseen.is_empty() {
            self.turns_to_look = TURNS_TO_LOOK;
        }
        let was_dead = false;
        self.unseen.push_back(Unseen { server, process, start_number, may_be_at_gate, was_dead });
        self.dead_come_first = false;
    }

    /// Whether there are processes on record that were not looked at.
    pub fn has_unseen(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// To be called in each turn.
    pub fn look_at_unseen(&mut self, ctx: &mut Ctx) {
        self.turns_to_look = self.turns_to_look.saturating_sub(1);
        if self.unseen.is_empty() || self.turns_to_look > 0 {
            return;
        }
        if !std::mem::replace(&mut self.dead_come_first, true) {
            self.bring_dead_forward();
        }
        for _ in 0..LOOKS_PER_TURN {
            let Some(unseen) = self.unseen.pop_front() else { return };
            self.look_at(ctx, &unseen);
        }
    }

    /// Who asks for something of a server right after a takeover is not told to come again.
    pub fn look_at_asked(&mut self, ctx: &mut Ctx, asked: &[ServerId]) {
        if self.unseen.is_empty() {
            return;
        }
        let asked: BTreeSet<usize> = asked.iter().map(|server| server.0).collect();
        let unseen = std::mem::take(&mut self.unseen).into_iter();
        let (now, later): (Vec<_>, Vec<_>) = unseen.partition(|one| asked.contains(&one.server.0));
        self.unseen = later.into();
        now.iter().for_each(|unseen| self.look_at(ctx, unseen));
    }

    /// Those who need something: they are not to wait for all who do not.
    fn bring_dead_forward(&mut self) {
        let held = |one: &Unseen| self.held.get(one.server).map(|(_, fd)| fd);
        let dead = pidfd::dead_among(self.unseen.iter().map(held));
        let unseen = std::mem::take(&mut self.unseen).into_iter().zip(dead);
        let unseen = unseen.map(|(one, was_dead)| Unseen { was_dead, ..one });
        let (first, rest): (Vec<_>, Vec<_>) = unseen.partition(|one| one.was_dead);
        self.unseen = first.into_iter().chain(rest).collect();
    }

    fn look_at(&mut self, ctx: &mut Ctx, unseen: &Unseen) {
        let Unseen { server, process, start_number, .. } = *unseen;
        // It was reported dead before it was looked at, and has a successor: the next start's, or the
        // main process that it forked. Or it was looked at, and the core had asked again meanwhile.
        let is_over = |child: &Child| {
            child.process == Some(process)
                || (child.process.is_some() && child.start_number >= start_number)
        };
        let name = self.name(server).to_string();
        if self.children.get(server.0).is_some_and(is_over) {
            if self.held.get(server).is_some_and(|(held, _)| *held == process) {
                drop(self.held.take(server));
            }
            return;
        }
        let found = self.look(ctx, &name, unseen);
        let (found, fd) = match found {
            Ok((found, fd)) => (found, fd),
            Err(error) => (Found::Unclear(error.to_string()), None),
        };
        let is_dead = found == Found::Gone;
        if let (Some(fd), Some(child)) = (fd, self.children.get_mut(server.0)) {
            if !is_dead && let Err(error) = ctx.watch(&fd, Source::Leader(server.0)) {
                let found = Found::Unclear(format!("cannot watch it: {error}"));
                return ctx.tell(Event::Verified { server, process, found });
            }
            let (process, pidfd) = (Some(process), Some(fd));
            *child = Child { process, pidfd, start_number, is_dead, ..Child::default() };
        }
        match is_dead {
            // It died while nobody could see it. Its status may be known all the same.
            true => {
                let held = self.children.get(server.0).and_then(|child| child.pidfd.as_ref());
                let exit = held.and_then(pidfd::exit_info);
                self.tell_death(ctx, server, process, exit);
            }
            false => ctx.tell(Event::Verified { server, process, found }),
        }
    }

    /// The keeper said that it is dead before it was looked at: what is held of it reaches its group.
    pub(super) fn take_held(&mut self, server: ServerId, process: Identity) {
        if self.held.get(server).is_none_or(|(held, _)| *held != process) {
            return;
        }
        let Some(child) = self.children.get_mut(server.0) else { return };
        if child.process.is_none()
            && let Some((_, fd)) = self.held.take(server)
        {
            let (process, pidfd) = (Some(process), Some(fd));
            *child = Child { process, pidfd, is_dead: true, ..Child::default() };
        }
    }

    fn look(
        &mut self,
        ctx: &Ctx,
        name: &str,
        unseen: &Unseen,
    ) -> io::Result<(Found, Option<OwnedFd>)> {
        let Unseen { server, process, start_number, may_be_at_gate, was_dead } = *unseen;
        let (fd, is_dead) = match self.held.take(server) {
            Some((held, fd)) if held == process => (fd, was_dead),
            _ => match pidfd::open_verified(&process)? {
                Verified::Alive(fd) => {
                    let is_dead = pidfd::is_dead(&fd);
                    (fd, is_dead)
                }
                Verified::Gone => return Ok((Found::Gone, None)),
            },
        };
        if is_dead {
            // The pidfd is kept: it may know the status, and it reaches the group.
            return Ok((Found::Gone, Some(fd)));
        }
        if may_be_at_gate && is_at_gate(ctx, name, process.pid, start_number)? {
            return Ok((Found::AtGate, Some(fd)));
        }
        Ok((Found::Alive, Some(fd)))
    }
}

/// A child at its gate still runs the node manager's own image, and has no mark yet.
fn is_at_gate(ctx: &Ctx, name: &str, pid: i32, start_number: u64) -> io::Result<bool> {
    let mark = ctx.owner.mark(name, start_number);
    match process::mark_of(pid) {
        Ok(found) if found.as_deref() == Some(mark.as_str()) => return Ok(false),
        // A server of another user, and root without CAP_SYS_PTRACE (a container's).
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(spawn::is_at_gate(&process::comm(pid)?));
        }
        other => other?,
    };
    let theirs = std::fs::metadata(format!("/proc/{pid}/exe"))?;
    let ours = std::fs::metadata("/proc/self/exe")?;
    Ok(theirs.dev() == ours.dev() && theirs.ino() == ours.ino())
}
