//! The process that stays, where it is not the one that was forked: found by its PID file, or named by
//! the server itself (MAINPID).
//!
//! Must not believe a number: a PID file can be old, or written by somebody who wants a stranger
//! signalled. A process counts when it carries the mark of this start, or when it has none, is younger
//! than the process that started it, and is its child or landed with the keeper, as orphans of a
//! server do. Twins and other servers' processes are children of the keeper too: these never count.

use super::{Child, Servers};
use crate::core::{Event, Identity, ServerId};
use crate::shell::ctx::Ctx;
use crate::shell::token::Source;
use crate::shell::view::KeeperSeen;
use crate::sys::{pid_file, pidfd, process};
use std::io;
use std::os::fd::OwnedFd;

/// The keeper and the standby, while they live.
#[derive(Clone, Copy)]
pub struct PairPids {
    pub keeper: Option<i32>,
    pub standby: Option<i32>,
}

impl PairPids {
    pub fn of(keeper: Option<KeeperSeen>, standby: Option<Identity>) -> PairPids {
        let (keeper, standby) = (keeper.map(|one| one.pid), standby.map(|one| one.pid));
        PairPids { keeper, standby }
    }
}

impl Servers {
    /// Reads the PID file of a server whose starter has ended.
    pub fn find_main(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        start_number: u64,
        starter: Identity,
        pair: PairPids,
    ) {
        let name = self.name(server).to_string();
        let path = ctx.server_or_retired(&name).and_then(|config| config.pid_file.clone());
        let found = path
            .ok_or_else(|| "it has no pidFile any more".to_string())
            .and_then(|path| pid_file::read(&path))
            .and_then(|pid| self.prove(ctx, server, start_number, pid, &starter, pair));
        match found {
            Ok(found) => self.take_main(ctx, server, start_number, found),
            Err(text) => ctx.tell(Event::MainMissing { server, start_number, text }),
        }
    }

    /// The server says that this process is its main one from now on.
    ///
    /// # Errors
    /// It is not proven to be one of the server's.
    pub fn name_main(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        start_number: u64,
        (pid, leader): (i32, Identity),
        pair: PairPids,
    ) -> Result<(), String> {
        let found = self.prove(ctx, server, start_number, pid, &leader, pair)?;
        self.take_main(ctx, server, start_number, found);
        Ok(())
    }

    /// From here on it is watched in place of the one before, which is only reaped.
    fn take_main(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        start_number: u64,
        (process, group, fd): (Identity, i32, OwnedFd),
    ) {
        if let Err(error) = ctx.watch(&fd, Source::Leader(server.0)) {
            let text = format!("cannot watch PID {}: {error}", process.pid);
            return ctx.tell(Event::MainMissing { server, start_number, text });
        }
        let Some(slot) = self.children.get_mut(server.0) else { return };
        let new = Child {
            process: Some(process),
            pidfd: Some(fd),
            start_number,
            forked: Some(group),
            ..Child::default()
        };
        let old = std::mem::replace(slot, new);
        for fd in [old.gate, old.witness].into_iter().flatten() {
            ctx.close(fd);
        }
        if let Some(pidfd) = old.pidfd {
            // One that is dead and reaped already is closed by that.
            self.discard(ctx, pidfd);
        }
        ctx.tell(Event::MainFound { server, start_number, process, group });
    }

    /// That this process is one of the server's, with its process group.
    fn prove(
        &self,
        ctx: &Ctx,
        server: ServerId,
        start_number: u64,
        pid: i32,
        before: &Identity,
        pair: PairPids,
    ) -> Result<(Identity, i32, OwnedFd), String> {
        let cannot = |error: io::Error| match error.raw_os_error() {
            Some(libc::ESRCH) => format!("PID {pid} is not alive"),
            _ => format!("cannot look at PID {pid}: {error}"),
        };
        let fd = pidfd::open(pid).map_err(cannot)?;
        let process = pidfd::identify(pid, &fd).map_err(cannot)?;
        let mark = process::mark_of(pid).ok().flatten();
        let parent = process::parent(pid).map_err(cannot)?;
        let group = process::group(pid).map_err(cannot)?;
        if pidfd::is_dead(&fd) {
            return Err(format!("PID {pid} is not alive"));
        }
        if let Some(whose) = self.whose_else(server, pid, group, pair) {
            return Err(format!("PID {pid} is {whose}, not one of its processes"));
        }
        let is_orphan = Some(parent) == pair.keeper || parent == before.pid;
        let is_younger = process.start_ticks >= before.start_ticks;
        let is_own = match mark {
            Some(mark) => mark == ctx.owner.mark(self.name(server), start_number),
            None => is_orphan && is_younger,
        };
        match is_own {
            true => Ok((process, group, fd)),
            false => Err(format!("PID {pid} is not one of its processes")),
        }
    }

    /// One of the pair, or a process in the group of another server that runs.
    fn whose_else(&self, server: ServerId, pid: i32, group: i32, pair: PairPids) -> Option<String> {
        if pair.keeper == Some(pid) {
            return Some("the keeper".to_string());
        }
        if pair.standby == Some(pid) || i32::try_from(std::process::id()) == Ok(pid) {
            return Some("the node manager's own".to_string());
        }
        let is_its = |child: &Child| {
            let leader = child.process.filter(|_| child.pidfd.is_some() && !child.is_dead);
            leader.is_some_and(|one| [pid, group].contains(&one.pid) || child.forked == Some(group))
        };
        let other = |(at, child): (usize, &Child)| (at != server.0 && is_its(child)).then_some(at);
        let at = self.children.iter().enumerate().find_map(other)?;
        Some(format!("of {}", self.name(ServerId(at))))
    }

    /// The process group of a main process, where a server has one; `None` for one that forked nothing.
    pub fn set_forked(&mut self, server: ServerId, group: Option<i32>) {
        if let Some(child) = self.children.get_mut(server.0) {
            child.forked = group;
        }
    }

    /// The living processes of a forking server: the group of its main process, and who carries its
    /// mark anywhere.
    pub(super) fn forked_members(
        &self,
        server: ServerId,
        of: Identity,
        group: i32,
    ) -> io::Result<Vec<(i32, OwnedFd)>> {
        let mut members = Vec::new();
        // A process that has the group's number, and is another one, leads a group of its own.
        let is_strange = process::start_ticks(group).is_ok_and(|ticks| ticks > of.start_ticks);
        if !is_strange {
            members = process::live_group_members(group)?;
        }
        let name = self.name(server);
        for one in process::survivors(&self.owner)? {
            let is_new = members.iter().all(|(pid, _)| *pid != one.identity.pid);
            if one.name == name
                && is_new
                && let pidfd::Verified::Alive(fd) = pidfd::open_verified(&one.identity)?
            {
                members.push((one.identity.pid, fd));
            }
        }
        Ok(members)
    }
}
