//! The cgroups of servers: entered before they run, found again, empty before they count as gone.
//!
//! Must not touch a process outside the cgroup that is on record for the server.

use super::Servers;
use super::groups::Awaited;
use crate::config::ServerConfig;
use crate::core::{Event, Identity, Scope, ServerId};
use crate::shell::cgroups::{self, Prepared};
use crate::shell::ctx::Ctx;
use crate::sys::cgroup::{self, Living};
use crate::sys::pidfd;
use crate::sys::spawn::ServerSpec;
use log::warn;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes the cgroup of a child that is about to be forked, and has it enter. Gives its directory.
///
/// # Errors
/// As [`cgroups::prepare`].
pub(super) fn prepare(
    ctx: &Ctx,
    config: &ServerConfig,
    spec: &mut ServerSpec,
    unprepared: &mut Option<String>,
) -> Result<Option<String>, String> {
    let Prepared { dir, refused } = cgroups::prepare(&ctx.cgroup_root, &ctx.config.node, config)?;
    if let Some(text) = refused {
        unprepared.get_or_insert(text);
        spec.is_unprepared = true;
    }
    let Some(dir) = dir else { return Ok(None) };
    let procs = CString::new(dir.join(cgroup::PROCS).as_os_str().as_bytes());
    spec.cgroup = procs.ok().map(|procs| (procs, !config.cgroup.is_empty()));
    Ok(dir.into_os_string().into_string().ok())
}

impl Servers {
    /// A server without limits runs where it could not enter its cgroup; that is said.
    pub(super) fn check_cgroup(&self, ctx: &Ctx, server: ServerId) {
        let Some(child) = self.children.get(server.0) else { return };
        let (Some(process), Some(fd)) = (child.process, &child.pidfd) else { return };
        let name = self.name(server);
        let (Ok(_), Some(config)) = (&ctx.cgroup_root, ctx.server(name)) else { return };
        let is_in = cgroups::found(&ctx.config.node.name, name, process.pid).is_some();
        if config.cgroup.is_empty() && !is_in && !pidfd::is_dead(fd) {
            let pid = process.pid;
            warn!(target: "0327", "{name}: PID {pid} could not enter its cgroup; it runs without");
        }
    }

    /// A process that was found without a record of its cgroup.
    pub fn find_cgroup(
        &self,
        ctx: &mut Ctx,
        server: ServerId,
        process: Identity,
        start_number: u64,
    ) {
        let found = cgroups::found(&ctx.config.node.name, self.name(server), process.pid);
        if let Some(dir) = found.and_then(|dir| dir.into_os_string().into_string().ok()) {
            ctx.tell(Event::CgroupAt { server, start_number, dir: Some(dir) });
        }
    }

    /// `Group`: SIGKILL reaches the whole cgroup; any other signal stays in the process group as long
    /// as the leader lives, who may have plans with the others. `LeftGroup`: those others.
    pub(super) fn signal_cgroup(
        &self,
        server: ServerId,
        process: Identity,
        signal: i32,
        scope: Scope,
        dir: &Path,
    ) {
        let sent: io::Result<()> = match scope {
            Scope::Group if signal == libc::SIGKILL => cgroup::kill(dir),
            Scope::LeftGroup => cgroup::signal_outside(dir, process.pid, signal),
            Scope::Group | Scope::Leader => Ok(()),
        };
        if let Err(error) = sent {
            let name = self.name(server);
            let dir = dir.display();
            warn!(target: "0397", "{name}: cannot send signal {signal} to all in {dir}: {error}");
        }
    }

    /// The process group is empty: is the cgroup?
    pub(super) fn probe_cgroup(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        process: Identity,
        dir: &Path,
    ) {
        let living = match cgroup::living(dir) {
            Ok(Living::Empty) => None,
            Ok(Living::Member(pid, fd)) => {
                self.watch_witness(ctx, server, fd);
                Some(pid)
            }
            Ok(Living::Unseen) if self.looks_again(ctx.now(), server, Awaited::Unseen) => return,
            Ok(Living::Unseen) => Some(0),
            // It can't be told, so it is not empty; the core asks again.
            Err(error) => {
                warn!(target: "0397", "{}: cannot look into its cgroup: {error}", self.name(server));
                Some(0)
            }
        };
        self.looks.remove(&(server.0, Awaited::Unseen));
        if let Some(kills) = cgroup::oom_kills(dir).filter(|kills| *kills > 0) {
            ctx.tell(Event::OomKilled { server, process, kills });
        }
        if living.is_none() {
            // One that can't be removed now is taken, or removed, by the next start.
            let _ = cgroup::remove(dir);
        }
        ctx.tell(Event::Group { server, process, living });
    }
}
