//! The servers' processes: children, gates, pidfds, groups.
//!
//! Must not decide anything about a server: it does what the core says, and tells the core what
//! happened. Everything is addressed by pidfd; a bare PID is never signalled.

use super::ctx::Ctx;
use super::spec;
use super::token::Source;
use crate::core::{Event, Exit, Found, Identity, Ms, Scope, ServerId};
use crate::sys::pidfd::{self, Verified};
use crate::sys::spawn::{self, News};
use crate::sys::{output_mark, process};
use log::{debug, warn};
use nix::errno::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

/// PIDFD_GET_INFO right after a death often knows nothing yet: it is asked for so long.
const STATUS_ASK_MS: u64 = 5_000;
const STATUS_ASK_EVERY_MS: u64 = 10;
/// Reports of the keeper that came before our own look, kept until they are asked for.
const REPORTS_MAX: usize = 4_096;

/// A server's processes as this process sees them.
#[derive(Default)]
struct Child {
    process: Option<Identity>,
    pidfd: Option<OwnedFd>,
    /// We forked it, so its status and its reaping are ours.
    is_ours: bool,
    /// Its death was told.
    is_dead: bool,
    gate: Option<OwnedFd>,
    start_number: u64,
    /// One living member of the group of the dead leader.
    witness: Option<OwnedFd>,
}

/// A dead process whose status is still asked for.
struct Ask {
    server: ServerId,
    process: Identity,
    /// Its pidfd, once the server has another process; until then it is the server's.
    pidfd: Option<OwnedFd>,
    until: Ms,
}

/// All servers' processes.
#[derive(Default)]
pub struct Servers {
    names: Vec<String>,
    children: Vec<Child>,
    /// Held by a standby for the takeover.
    held: BTreeMap<String, (Identity, OwnedFd)>,
    discarded: BTreeMap<usize, OwnedFd>,
    discarded_next: usize,
    asks: Vec<Ask>,
    ask_next: Option<Ms>,
    reports: VecDeque<(i32, u64, Exit)>,
}

impl Servers {
    /// This process is the active now, with these servers.
    pub fn begin(&mut self, names: Vec<String>) {
        self.children = names.iter().map(|_| Child::default()).collect();
        self.names = names;
    }

    pub fn name(&self, server: ServerId) -> &str {
        self.names.get(server.0).map_or("?", String::as_str)
    }

    // ---- the standby

    /// Holds a pidfd of a server's process, opened while it surely is that process.
    pub fn hold(&mut self, name: &str, process: Option<Identity>) {
        let Some(process) = process else {
            // Kept: its exit status may still be asked for. The next process replaces it.
            return;
        };
        if self.held.get(name).is_some_and(|(held, _)| *held == process) {
            return;
        }
        match pidfd::open_verified(&process) {
            Ok(Verified::Alive(fd)) => {
                self.held.insert(name.to_string(), (process, fd));
            }
            Ok(Verified::Gone) => {}
            Err(error) => {
                warn!(target: "0212", "cannot hold PID {} of {name}: {error}", process.pid);
            }
        }
    }

    // ---- start

    /// Forks the child of a server. It waits at its gate.
    pub fn spawn(&mut self, ctx: &mut Ctx, server: ServerId, start_number: u64) {
        match self.try_spawn(ctx, server, start_number) {
            Ok(process) => ctx.tell(Event::Spawned { server, start_number, process }),
            Err(error) => ctx.tell(Event::SpawnFailed { server, start_number, error }),
        }
    }

    fn try_spawn(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        start_number: u64,
    ) -> Result<Identity, String> {
        let name = self.name(server).to_string();
        let config = ctx.server(&name).ok_or("it is not in the configuration any more")?;
        let spec = spec::spec(ctx, config, start_number)?;
        let cannot = |what: &str, error: io::Error| format!("cannot {what}: {error}");
        let child = spawn::spawn_server(&spec).map_err(|error| cannot("fork", error))?;
        // From here on dropping `child` closes its gate, and it ends without exec.
        let started = pidfd::identify(child.pid, &child.pidfd)
            .and_then(|process| {
                ctx.watch(&child.gate, Source::Gate(server.0))?;
                ctx.watch(&child.pidfd, Source::Leader(server.0))?;
                Ok(process)
            })
            .map_err(|error| cannot("watch the child", error));
        let Some(slot) = self.children.get_mut(server.0) else { return Err("unknown".into()) };
        let process = match started {
            Ok(process) => process,
            Err(text) => {
                ctx.unwatch(&child.gate);
                ctx.unwatch(&child.pidfd);
                let _ = pidfd::signal(&child.pidfd, libc::SIGKILL);
                self.discard(ctx, child.pidfd);
                return Err(text);
            }
        };
        let old = std::mem::replace(
            slot,
            Child {
                process: Some(process),
                pidfd: Some(child.pidfd),
                is_ours: true,
                gate: Some(child.gate),
                start_number,
                ..Child::default()
            },
        );
        self.let_go(ctx, old);
        Ok(process)
    }

    /// The core starts only when the one before is gone and its group is empty: all that is left
    /// of it is, perhaps, the question how it ended.
    fn let_go(&mut self, ctx: &Ctx, old: Child) {
        for fd in [&old.pidfd, &old.gate, &old.witness].into_iter().flatten() {
            ctx.unwatch(fd);
        }
        let ask = self.asks.iter_mut().find(|ask| Some(ask.process) == old.process);
        if let Some(ask) = ask {
            ask.pidfd = old.pidfd;
        }
    }

    /// Ends a child at its gate that came too late.
    pub fn discard_child(&mut self, ctx: &mut Ctx, server: ServerId, start_number: u64) {
        let Some(child) = self.children.get_mut(server.0) else { return };
        if child.start_number != start_number || !child.is_ours {
            return;
        }
        let child = std::mem::take(child);
        if let Some(gate) = child.gate {
            ctx.close(gate);
        }
        if let Some(pidfd) = child.pidfd {
            let _ = pidfd::signal(&pidfd, libc::SIGKILL);
            self.discard(ctx, pidfd);
        }
    }

    /// Waits for a child that nobody wants, to reap it.
    fn discard(&mut self, ctx: &mut Ctx, pidfd: OwnedFd) {
        ctx.unwatch(&pidfd);
        let number = self.discarded_next;
        self.discarded_next += 1;
        if ctx.watch(&pidfd, Source::Discarded(number)).is_ok() {
            self.discarded.insert(number, pidfd);
        }
    }

    pub fn on_discarded(&mut self, ctx: &mut Ctx, number: usize) {
        if let Some(pidfd) = self.discarded.remove(&number) {
            let _ = pidfd::reap(&pidfd);
            ctx.close(pidfd);
        }
    }

    /// The record is safe: the child may go.
    pub fn open_gate(&mut self, server: ServerId, start_number: u64) {
        let Some(child) = self.children.get(server.0) else { return };
        if child.start_number == start_number
            && let Some(gate) = &child.gate
            && let Err(error) = spawn::open_gate(gate)
        {
            // The child is dead; its pidfd tells.
            debug!(target: "0399", "{}: cannot open the gate: {error}", self.name(server));
        }
    }

    /// Something came through a gate's socket.
    pub fn on_gate(&mut self, ctx: &mut Ctx, number: usize) {
        let server = ServerId(number);
        // The child says at most two things: ready, and what failed.
        for _ in 0..4 {
            let Some(child) = self.children.get_mut(number) else { return };
            let (start_number, Some(gate)) = (child.start_number, &child.gate) else { return };
            match spawn::read_news(gate) {
                Ok(None) => return,
                Ok(Some(News::Ready)) => {}
                Ok(Some(News::Failed { step, errno, program })) => {
                    let error = self.failure_text(ctx, server, step, errno, program);
                    ctx.tell(Event::ChildFailed { server, start_number, error });
                }
                Ok(Some(News::Closed)) | Err(_) => {
                    if let Some(gate) = child.gate.take() {
                        ctx.close(gate);
                    }
                    ctx.tell(Event::Executed { server, start_number });
                    return;
                }
            }
        }
    }

    fn failure_text(
        &self,
        ctx: &Ctx,
        server: ServerId,
        step: spawn::Step,
        errno: i32,
        program: usize,
    ) -> String {
        let name = self.name(server);
        let cause = Errno::from_raw(errno).desc();
        let Some(config) = ctx.server(name) else { return format!("{step}: {cause}") };
        match step {
            spawn::Step::Exec => {
                let number = self.children.get(server.0).map_or(0, |child| child.start_number);
                let tried = spec::spec(ctx, config, number).ok();
                let path = tried.and_then(|spec| spec.programs.get(program).cloned());
                let path = path.map(|path| path.to_string_lossy().into_owned());
                let path =
                    path.unwrap_or_else(|| config.command.first().cloned().unwrap_or_default());
                let is_searched = config.command.first().is_some_and(|word| !word.contains('/'));
                match (is_searched, errno) {
                    (true, libc::ENOENT) => format!(
                        "cannot execute {}: not found in the PATH of the server (errno {errno})",
                        config.command.first().map_or("", String::as_str)
                    ),
                    _ => format!("cannot execute {path}: {cause} (errno {errno})"),
                }
            }
            spawn::Step::Chdir => {
                format!("cannot change to {}: {cause} (errno {errno})", config.cwd.display())
            }
            spawn::Step::Output => format!("cannot open its output: {cause} (errno {errno})"),
            other => format!("cannot start: step {other}: {cause} (errno {errno})"),
        }
    }

    // ---- death

    /// A leader's pidfd is readable.
    pub fn on_leader(&mut self, ctx: &mut Ctx, number: usize) {
        let Some(child) = self.children.get_mut(number) else { return };
        let (Some(process), Some(fd)) = (child.process, &child.pidfd) else { return };
        if child.is_dead || !pidfd::is_dead(fd) {
            return;
        }
        child.is_dead = true;
        ctx.unwatch(fd);
        let exit = match child.is_ours {
            true => pidfd::exit_of_child(fd).ok().flatten(),
            false => pidfd::exit_info(fd).ok().flatten(),
        };
        // News from the gate counts before the death: it may say why it died.
        self.on_gate(ctx, number);
        self.tell_death(ctx, ServerId(number), process, exit);
    }

    fn tell_death(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        process: Identity,
        exit: Option<Exit>,
    ) {
        let exit = exit.or_else(|| self.reported(process));
        if exit.is_none() {
            let now = ctx.now();
            let until = now.after(STATUS_ASK_MS);
            self.asks.push(Ask { server, process, pidfd: None, until });
            self.ask_next = Some(now.after(STATUS_ASK_EVERY_MS));
        }
        ctx.tell(Event::Died { server, process, exit });
    }

    fn reported(&self, process: Identity) -> Option<Exit> {
        let is_it = |(pid, ticks, _): &&(i32, u64, Exit)| {
            *pid == process.pid && *ticks == process.start_ticks
        };
        self.reports.iter().rev().find(is_it).map(|(_, _, exit)| *exit)
    }

    /// The keeper reported a status. It may come before we saw the death.
    pub fn on_report(&mut self, ctx: &mut Ctx, pid: i32, start_ticks: u64, exit: Exit) {
        if self.reports.len() >= REPORTS_MAX {
            self.reports.pop_front();
        }
        self.reports.push_back((pid, start_ticks, exit));
        self.asks.retain(|ask| ask.process.pid != pid || ask.process.start_ticks != start_ticks);
        ctx.tell(Event::Status { pid, start_ticks, exit });
    }

    /// When `ask_again` is due.
    pub fn deadline(&self) -> Option<Ms> {
        self.ask_next
    }

    /// Asks the pidfds of the dead for their status, again and for a bounded time.
    pub fn ask_again(&mut self, ctx: &mut Ctx) {
        let now = ctx.now();
        if self.ask_next.is_none_or(|at| at > now) {
            return;
        }
        let mut known = Vec::new();
        let children = &self.children;
        self.asks.retain(|ask| {
            let own = children.get(ask.server.0).filter(|own| own.process == Some(ask.process));
            let pidfd = ask.pidfd.as_ref().or_else(|| own.and_then(|own| own.pidfd.as_ref()));
            match pidfd.and_then(|fd| pidfd::exit_info(fd).ok().flatten()) {
                Some(exit) => {
                    known.push((ask.process, exit));
                    false
                }
                None => now < ask.until,
            }
        });
        for (process, exit) in known {
            let Identity { pid, start_ticks, .. } = process;
            ctx.tell(Event::Status { pid, start_ticks, exit });
        }
        self.ask_next = (!self.asks.is_empty()).then(|| now.after(STATUS_ASK_EVERY_MS));
    }

    /// The status is on record: the zombie may go. The pidfd stays, to reach the group.
    pub fn reap(&mut self, server: ServerId, process: Identity) {
        let Some(child) = self.children.get(server.0) else { return };
        if let (true, true, Some(fd)) =
            (child.is_ours, child.process == Some(process), &child.pidfd)
            && let Err(error) = pidfd::reap(fd)
        {
            warn!(target: "0398", "cannot reap PID {}: {error}", process.pid);
        }
    }

    // ---- signals and groups

    pub fn signal(&mut self, server: ServerId, process: Identity, signal: i32, scope: Scope) {
        let Some(child) = self.children.get(server.0) else { return };
        let result = match &child.pidfd {
            Some(fd) if child.process == Some(process) => match scope {
                Scope::Leader => pidfd::signal(fd, signal),
                Scope::Group => signal_group(fd, process, signal, child.is_ours),
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
        for (_, fd) in self.own_members(server, process)? {
            pidfd::signal(&fd, signal)?;
        }
        Ok(())
    }

    /// The living members of a dead leader's group. Without a pidfd that was opened in its life,
    /// the group's number alone proves nothing: only members with the server's mark count.
    fn own_members(&self, server: ServerId, process: Identity) -> io::Result<Vec<(i32, OwnedFd)>> {
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
    pub fn probe_group(&mut self, ctx: &mut Ctx, server: ServerId, process: Identity) {
        let living = match self.find_member(server, process) {
            Ok(None) => None,
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

    fn find_member(
        &self,
        server: ServerId,
        process: Identity,
    ) -> io::Result<Option<(i32, OwnedFd)>> {
        let child = self.children.get(server.0);
        if let Some(Child { pidfd: Some(fd), is_ours, process: own, .. }) = child
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

    fn watch_witness(&mut self, ctx: &mut Ctx, server: ServerId, fd: OwnedFd) {
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
        if let Some(process) = child.process {
            self.probe_group(ctx, ServerId(number), process);
        }
    }

    /// Is a process with this server's mark alive?
    pub fn probe_strays(&mut self, ctx: &mut Ctx, server: ServerId) {
        let name = self.name(server);
        let pid = match output_mark::survivors(&ctx.config.node.name, &ctx.fifos()) {
            Ok(found) => found.iter().find(|one| one.name == name).map(|one| one.identity.pid),
            Err(_) => Some(0),
        };
        ctx.tell(Event::Strays { server, pid });
    }

    // ---- adoption

    /// Looks at the process on record; from now on it is watched, if it is ours.
    pub fn verify(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        process: Identity,
        start_number: u64,
        may_be_at_gate: bool,
    ) {
        let name = self.name(server).to_string();
        let found = self.look(ctx, &name, process, start_number, may_be_at_gate);
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
                let exit = held.and_then(|fd| pidfd::exit_info(fd).ok().flatten());
                self.tell_death(ctx, server, process, exit);
            }
            false => ctx.tell(Event::Verified { server, process, found }),
        }
    }

    fn look(
        &mut self,
        ctx: &Ctx,
        name: &str,
        process: Identity,
        start_number: u64,
        may_be_at_gate: bool,
    ) -> io::Result<(Found, Option<OwnedFd>)> {
        let fd = match self.held.remove(name) {
            Some((held, fd)) if held == process => fd,
            _ => match pidfd::open_verified(&process)? {
                Verified::Alive(fd) => fd,
                Verified::Gone => return Ok((Found::Gone, None)),
            },
        };
        if pidfd::is_dead(&fd) {
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
    let mark = spec::mark(&ctx.config.node.name, name, start_number);
    if process::mark_of(pid)?.as_deref() == Some(mark.as_str()) {
        return Ok(false);
    }
    let theirs = std::fs::metadata(format!("/proc/{pid}/exe"))?;
    let ours = std::fs::metadata("/proc/self/exe")?;
    Ok(theirs.dev() == ours.dev() && theirs.ino() == ours.ino())
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
