//! Signals to servers, and the process groups of dead leaders.
//!
//! Must not signal a bare number: a group is reached through the pidfd of its leader, or member by
//! member. What a pidfd says is alive is alive, never the state letter.

use super::{Child, Servers};
use crate::core::{Event, Identity, Ms, Scope, ServerId};
use crate::shell::ctx::Ctx;
use crate::shell::token::Source;
use crate::sys::{output_mark, pidfd, process};
use log::warn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What is waited for before what is left of a server is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Awaited {
    /// That the keeper reaps the leader: until then its group seems not to be empty, and only a look at all
    /// processes of the machine could tell.
    Reaped,
    /// That those in its cgroup who can't be seen are out of the kernel.
    Unseen,
}

impl Awaited {
    /// How soon, and how often: then the looks tell what they can.
    fn pace(self) -> (u64, u32) {
        match self {
            Awaited::Reaped => (1, 20),
            Awaited::Unseen => (10, 5),
        }
    }
}

/// The next look at what is left of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    at: Ms,
    /// How many there were.
    count: u32,
}

impl Servers {
    /// `cgroup`: the directory of the server's, if it has one.
    pub fn signal(
        &mut self,
        server: ServerId,
        process: Identity,
        signal: i32,
        scope: Scope,
        cgroup: Option<&Path>,
    ) {
        let Some(child) = self.children.get(server.0) else { return };
        if let Some(cgroup) = cgroup {
            self.signal_cgroup(server, process, signal, scope, cgroup);
        }
        let result = match &child.pidfd {
            _ if scope == Scope::LeftGroup => return,
            Some(fd) if child.process == Some(process) => match scope {
                Scope::Leader => pidfd::signal(fd, signal),
                Scope::Group if child.forked.is_some() => {
                    let all = self.signal_members(server, process, signal);
                    pidfd::signal(fd, signal).and(all)
                }
                Scope::Group | Scope::LeftGroup => signal_group(fd, process, signal, child.is_ours),
            },
            // Nobody holds a pidfd of this dead leader: member by member.
            _ => self.signal_members(server, process, signal),
        };
        if let Err(error) = result
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            let (name, pid) = (self.name(server), process.pid);
            warn!(target: "0397", "{name}: cannot send signal {signal} to PID {pid}: {error}");
        }
    }

    fn signal_members(&self, server: ServerId, process: Identity, signal: i32) -> io::Result<()> {
        for (pid, fd) in self.own_members(server, process)? {
            if pid != process.pid {
                pidfd::signal(&fd, signal)?;
            }
        }
        Ok(())
    }

    /// The living members of a dead leader's group. Without a pidfd that was opened in its life,
    /// the group's number alone proves nothing: only members with the server's mark count.
    fn own_members(&self, server: ServerId, process: Identity) -> io::Result<Vec<(i32, OwnedFd)>> {
        if let Some(group) = self.children.get(server.0).and_then(|child| child.forked) {
            return self.forked_members(server, process, group);
        }
        let mut members = process::live_group_members(process.pid)?;
        let is_held = self
            .children
            .get(server.0)
            .is_some_and(|child| child.pidfd.is_some() && child.process == Some(process));
        if !is_held {
            let name = self.name(server);
            members.retain(|(pid, _)| {
                let mark = process::mark_of(*pid).ok().flatten().unwrap_or_default();
                mark.split('/').nth(1) == Some(name)
            });
        }
        Ok(members)
    }

    /// Is anything left of the group of a dead leader?
    pub fn probe_group(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        process: Identity,
        cgroup: Option<&Path>,
    ) {
        self.take_held(server, process);
        if let Some(child) = self.children.get_mut(server.0) {
            child.probed = Some((process, cgroup.map(Path::to_path_buf)).into());
        }
        if self.is_zombie_of_keeper(server, process)
            && self.looks_again(ctx.now(), server, Awaited::Reaped)
        {
            return;
        }
        self.looks.remove(&(server.0, Awaited::Reaped));
        let living = match self.find_member(server, process) {
            Ok(None) => match cgroup {
                Some(cgroup) => return self.probe_cgroup(ctx, server, process, cgroup),
                None => None,
            },
            Ok(Some((pid, fd))) => {
                self.watch_witness(ctx, server, fd);
                Some(pid)
            }
            // It can't be told, so it is not empty; the core asks again.
            Err(error) => {
                warn!(target: "0397", "{}: cannot look at its group: {error}", self.name(server));
                Some(0)
            }
        };
        ctx.tell(Event::Group { server, process, living });
    }

    /// Its leader is dead, was not forked by this process, and has not been reaped.
    fn is_zombie_of_keeper(&self, server: ServerId, process: Identity) -> bool {
        let Some(child) = self.children.get(server.0) else { return false };
        let is_anothers = !child.is_ours && child.forked.is_none();
        let fd = child.pidfd.as_ref().filter(|_| is_anothers && child.process == Some(process));
        // A signal reaches a zombie until it is reaped.
        fd.is_some_and(|fd| pidfd::is_dead(fd) && pidfd::signal(fd, 0).is_ok())
    }

    pub(super) fn looks_again(&mut self, now: Ms, server: ServerId, awaited: Awaited) -> bool {
        let (every_ms, looks_max) = awaited.pace();
        let key = (server.0, awaited);
        let count = self.looks.get(&key).map_or(1, |look| look.count.saturating_add(1));
        self.looks.insert(key, Look { at: now.after(every_ms), count });
        count <= looks_max
    }

    /// When `look_again` is due.
    pub(super) fn next_look(&self) -> Option<Ms> {
        self.looks.values().map(|look| look.at).min()
    }

    pub(super) fn look_again(&mut self, ctx: &mut Ctx, now: Ms) {
        let due = self.looks.iter().filter(|(_, look)| look.at <= now);
        for key in due.map(|(key, _)| *key).collect::<Vec<_>>() {
            match self.children.get(key.0).and_then(|child| child.probed.as_deref().cloned()) {
                Some((process, cgroup)) => {
                    self.probe_group(ctx, ServerId(key.0), process, cgroup.as_deref());
                }
                // It was started anew since.
                None => drop(self.looks.remove(&key)),
            }
        }
    }

    fn find_member(
        &self,
        server: ServerId,
        process: Identity,
    ) -> io::Result<Option<(i32, OwnedFd)>> {
        let child = self.children.get(server.0);
        if let Some(Child { pidfd: Some(fd), is_ours, process: own, forked: None, .. }) = child
            && *own == Some(process)
            && let Err(error) = signal_group(fd, process, 0, *is_ours)
            && error.raw_os_error() == Some(libc::ESRCH)
        {
            return Ok(None);
        }
        // Only zombies may be left of it: what a pidfd says is alive is alive. A fork in the middle
        // of a look at /proc can hide a child, so an empty look is made twice.
        let first = self.own_members(server, process)?.into_iter().next();
        match first {
            Some(member) => Ok(Some(member)),
            None => Ok(self.own_members(server, process)?.into_iter().next()),
        }
    }

    pub(super) fn watch_witness(&mut self, ctx: &mut Ctx, server: ServerId, fd: OwnedFd) {
        let Some(child) = self.children.get_mut(server.0) else { return };
        if let Some(old) = child.witness.take() {
            ctx.close(old);
        }
        // Without it the core's deadline asks again.
        if let Some(child) = self.children.get_mut(server.0)
            && ctx.watch(&fd, Source::Witness(server.0)).is_ok()
        {
            child.witness = Some(fd);
        }
    }

    /// A member died: look again.
    pub fn on_witness(&mut self, ctx: &mut Ctx, number: usize) {
        let Some(child) = self.children.get_mut(number) else { return };
        let Some(fd) = &child.witness else { return };
        if !pidfd::is_dead(fd) {
            return;
        }
        if let Some(fd) = child.witness.take() {
            ctx.close(fd);
        }
        if let Some((process, cgroup)) = child.probed.as_deref().cloned() {
            self.probe_group(ctx, ServerId(number), process, cgroup.as_deref());
        }
    }

    /// Is a process with this server's mark alive?
    pub fn probe_strays(&mut self, ctx: &mut Ctx, server: ServerId) {
        let name = self.name(server);
        let pid = match output_mark::survivors(&ctx.owner, &ctx.fifos()) {
            Ok(found) => found.iter().find(|one| one.name == name).map(|one| one.identity.pid),
            Err(_) => Some(0),
        };
        ctx.tell(Event::Strays { server, pid });
    }
}

fn signal_group(fd: &OwnedFd, process: Identity, signal: i32, is_ours: bool) -> io::Result<()> {
    match pidfd::signal_group(fd, process.pid, signal, is_ours) {
        // A child that has not got its own session yet has no group: it gets the signal itself.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) && !pidfd::is_dead(fd) => {
            pidfd::signal(fd, signal)
        }
        other => other,
    }
}
