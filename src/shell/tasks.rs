//! The commands that run beside servers: hooks, stop, reload and drain commands.
//!
//! Must not decide anything about a server: it runs what the core says, and tells the core how it
//! ended. A task outlives the active that started it, as a server does, and whoever takes over waits
//! for it; its status then comes from its pidfd or from the keeper. It runs as its server does (user,
//! limits, directory, environment), without the server's mark, and writes where the server writes.

use super::ctx::Ctx;
use super::jobs::failure;
use super::servers::Servers;
use super::spec;
use super::token::Source;
use crate::config::ServerConfig;
use crate::core::record::TaskKind;
use crate::core::server::Server;
use crate::core::task::TaskEnd;
use crate::core::{Event, Exit, Identity, Ms, Name, ServerId, ServerRecord};
use crate::sys::pidfd::{self, Verified};
use crate::sys::spawn;
use log::warn;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// The status of a task that an earlier active started is asked for so often, and so long.
const ASK_EVERY_MS: u64 = 10;
const ASK_MS: u64 = 2_000;

struct Running {
    number: u64,
    process: Identity,
    /// `None`: an earlier active started it, and it was gone when it was looked for.
    pidfd: Option<OwnedFd>,
    gate: Option<OwnedFd>,
    /// The gate is to be opened, and could not be yet.
    opens: bool,
    /// We forked it.
    is_ours: bool,
    look: Look,
}

/// How its end is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Its pidfd is watched.
    Watched,
    /// It could not be opened or watched, so it is looked at again and again.
    Polled,
    /// It is dead, and its status is asked for until then.
    Asked { until: Ms },
}

/// All tasks that run: at most one of each server.
#[derive(Default)]
pub struct Tasks {
    /// Held by a standby for the takeover: a pidfd that was opened while the process lived tells how
    /// it ended (Linux 6.15), also when the keeper has reaped it and told an active that died since.
    held: BTreeMap<Name, (Identity, OwnedFd)>,
    running: BTreeMap<usize, Running>,
}

impl Tasks {
    /// This process is the active now, with these servers.
    /// What is held of commands that are not on record any more is of no use: nobody would close it.
    pub fn begin(&mut self, servers: &[Server]) {
        if self.held.is_empty() {
            return;
        }
        let on_record: BTreeMap<&str, Option<Identity>> = servers
            .iter()
            .map(|one| (one.rec.name.as_str(), one.rec.task.as_ref().and_then(|task| task.process)))
            .collect();
        self.held.retain(|name, (held, _)| on_record.get(name.as_str()) == Some(&Some(*held)));
    }

    /// Forks the child of a task. It waits at its gate.
    pub fn spawn(
        &mut self,
        ctx: &mut Ctx,
        servers: &mut Servers,
        server: ServerId,
        number: u64,
        begun: (TaskKind, &ServerRecord),
    ) {
        let (kind, rec) = begun;
        match self.try_spawn(ctx, servers, server, number, kind, rec) {
            Ok(process) => ctx.tell(Event::TaskSpawned { server, number, process }),
            Err(text) => {
                let end = TaskEnd::NotBegun(text);
                ctx.tell(Event::TaskEnded { server, number, end });
            }
        }
    }

    fn try_spawn(
        &mut self,
        ctx: &mut Ctx,
        servers: &mut Servers,
        server: ServerId,
        number: u64,
        kind: TaskKind,
        rec: &ServerRecord,
    ) -> Result<Identity, String> {
        let gone = "it is not in the configuration any more";
        let config = ctx.server_or_retired(&rec.name).cloned().ok_or(gone)?;
        let command = command_of(&config, kind).ok_or(gone)?;
        let spec = spec::task(ctx, &config, command, &variables(kind, rec))?;
        let child = spawn::spawn_server(spec).map_err(|error| format!("cannot fork: {error}"))?;
        let begun = pidfd::identify(child.pid, &child.pidfd).and_then(|process| {
            ctx.watch(&child.pidfd, Source::Task(server.0))?;
            Ok(process)
        });
        let process = match begun {
            Ok(process) => process,
            Err(error) => {
                let _ = pidfd::signal(&child.pidfd, libc::SIGKILL);
                servers.discard(ctx, child.pidfd);
                return Err(format!("cannot watch the child: {error}"));
            }
        };
        self.kill_any(ctx, servers, server);
        let (pidfd, gate) = (Some(child.pidfd), Some(child.gate));
        let (opens, is_ours, look) = (false, true, Look::Watched);
        let one = Running { number, process, pidfd, gate, opens, is_ours, look };
        self.running.insert(server.0, one);
        Ok(process)
    }

    /// Its record is safe: it may begin.
    pub fn open_gate(&mut self, ctx: &mut Ctx, server: ServerId, number: u64) {
        if let Some(one) = self.running.get_mut(&server.0).filter(|one| one.number == number) {
            one.opens = true;
            one.try_gate(ctx, server);
        }
    }

    /// Holds the command on record; `None`: it has ended.
    pub fn hold(&mut self, name: &Name, process: Option<Identity>) {
        let held = self.held.get(name).map(|(held, _)| *held);
        if held == process {
            return;
        }
        self.held.remove(name);
        if let Some(process) = process
            && let Ok(Verified::Alive(fd)) = pidfd::open_verified(&process)
        {
            self.held.insert(name.clone(), (process, fd));
        }
    }

    /// Watches the task that an earlier active started.
    pub fn watch(
        &mut self,
        ctx: &mut Ctx,
        name: &str,
        server: ServerId,
        number: u64,
        process: Identity,
    ) {
        let held = self.held.remove(name).filter(|(held, _)| *held == process);
        let (pidfd, gate, opens) = (held.map(|(_, fd)| fd), None, false);
        let (is_ours, look) = (false, Look::Polled);
        let mut one = Running { number, process, pidfd, gate, opens, is_ours, look };
        one.open(ctx, Source::Task(server.0));
        self.running.insert(server.0, one);
    }

    /// SIGKILL to all of it.
    pub fn kill(&mut self, ctx: &mut Ctx, servers: &mut Servers, server: ServerId, number: u64) {
        if self.running.get(&server.0).is_some_and(|one| one.number == number) {
            self.kill_any(ctx, servers, server);
        }
    }

    fn kill_any(&mut self, ctx: &mut Ctx, servers: &mut Servers, server: ServerId) {
        let Some(one) = self.running.remove(&server.0) else { return };
        let opened = || match pidfd::open_verified(&one.process) {
            Ok(Verified::Alive(fd)) => Some(fd),
            Ok(Verified::Gone) => None,
            Err(error) => {
                let pid = one.process.pid;
                warn!(target: "0397", "cannot end the command with PID {pid}: {error}");
                None
            }
        };
        if let Some(pidfd) = one.pidfd.or_else(opened) {
            kill_group(&pidfd, &one.process, one.is_ours);
            let _ = pidfd::signal(&pidfd, libc::SIGKILL);
            servers.discard(ctx, pidfd);
        }
        if let Some(gate) = one.gate {
            ctx.close(gate);
        }
    }

    /// A task's pidfd is readable.
    pub fn on_ready(&mut self, ctx: &mut Ctx, servers: &mut Servers, number: usize) {
        let Some(one) = self.running.get_mut(&number) else { return };
        one.try_gate(ctx, ServerId(number));
        let Some(fd) = &one.pidfd else { return };
        let exit = match (pidfd::has_died(fd), one.is_ours) {
            (Ok(false), _) => return,
            (Err(_), _) => return ctx.look_again(Source::Task(number)),
            (Ok(true), false) => pidfd::exit_info(fd).or_else(|| servers.reported(one.process)),
            (Ok(true), true) => match pidfd::exit_of_child(fd) {
                Ok(exit) => exit,
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Some(Exit::Unknown),
                Err(_) => return ctx.look_again(Source::Task(number)),
            },
        };
        match exit {
            Some(exit) => self.end(ctx, servers, number, exit),
            None if one.look == Look::Watched => {
                one.look = Look::Asked { until: ctx.now().after(ASK_MS) };
            }
            None => {}
        }
    }

    /// What it left behind in its group has no task any more; it is ended before the leader is reaped,
    /// for until then the number of the group is its own. The leader is reaped in a later turn, when its
    /// end is on record: whoever takes over before that can still learn how it ended, and does not run
    /// it again.
    fn end(&mut self, ctx: &mut Ctx, servers: &mut Servers, server: usize, exit: Exit) {
        let Some(one) = self.running.remove(&server) else { return };
        let mut end = TaskEnd::Exited(exit);
        if let Some(text) = one.gate.as_ref().and_then(failure) {
            end = TaskEnd::NotBegun(text);
        }
        if let Some(pidfd) = one.pidfd {
            kill_group(&pidfd, &one.process, one.is_ours);
            servers.discard(ctx, pidfd);
        }
        let number = one.number;
        ctx.tell(Event::TaskEnded { server: ServerId(server), number, end });
    }

    /// When `tick` is due.
    pub fn deadline(&self, now: Ms) -> Option<Ms> {
        let is_owed = self.running.values().any(|one| one.look != Look::Watched);
        is_owed.then(|| now.after(ASK_EVERY_MS))
    }

    /// Looks at those that are not watched, and asks for the statuses of the dead that were not our
    /// children.
    pub fn tick(&mut self, ctx: &mut Ctx, servers: &mut Servers) {
        let now = ctx.now();
        let owed = self.running.iter().filter(|(_, one)| one.look != Look::Watched);
        for server in owed.map(|(server, _)| *server).collect::<Vec<_>>() {
            let Some(one) = self.running.get_mut(&server) else { continue };
            match one.look {
                Look::Watched => {}
                Look::Polled => one.open(ctx, Source::Task(server)),
                Look::Asked { until } => {
                    let known = one.pidfd.as_ref().and_then(pidfd::exit_info);
                    let exit = known.or_else(|| servers.reported(one.process));
                    let exit = exit.or_else(|| (until <= now).then_some(Exit::Unknown));
                    exit.into_iter().for_each(|exit| self.end(ctx, servers, server, exit));
                }
            }
        }
    }
}

impl Running {
    /// EPIPE: the child is dead; its pidfd tells. Else it waits, and would until its time is over.
    fn try_gate(&mut self, ctx: &mut Ctx, server: ServerId) {
        let Some(gate) = self.gate.as_ref().filter(|_| self.opens) else { return };
        let opened = spawn::open_gate(gate);
        self.opens = opened.is_err_and(|error| error.raw_os_error() != Some(libc::EPIPE));
        if self.opens {
            ctx.look_again(Source::Task(server.0));
        }
    }

    /// Opens and watches it. Only what is proven to be gone counts as dead: what can't be told may
    /// live, and must not be run a second time.
    fn open(&mut self, ctx: &Ctx, source: Source) {
        let asked = Look::Asked { until: ctx.now().after(ASK_MS) };
        let fd = match &self.pidfd {
            Some(fd) => fd,
            None => match pidfd::open_verified(&self.process) {
                Ok(Verified::Alive(fd)) => self.pidfd.insert(fd),
                Ok(Verified::Gone) => return self.look = asked,
                Err(_) => return,
            },
        };
        self.look = match (pidfd::has_died(fd), ctx.watch(fd, source)) {
            (Ok(true), _) => asked,
            (_, Ok(())) => Look::Watched,
            _ => Look::Polled,
        };
    }
}

fn kill_group(pidfd: &OwnedFd, process: &Identity, is_ours: bool) {
    if let Err(error) = pidfd::signal_group(pidfd, process.pid, libc::SIGKILL, is_ours)
        && error.raw_os_error() != Some(libc::ESRCH)
    {
        warn!(target: "0397", "cannot kill what a command of PID {} left: {error}", process.pid);
    }
}

fn command_of(config: &ServerConfig, kind: TaskKind) -> Option<&[String]> {
    let hook = match kind {
        TaskKind::PreStart => &config.hooks.pre_start,
        TaskKind::PostStart => &config.hooks.post_start,
        TaskKind::PreStop => &config.hooks.pre_stop,
        TaskKind::PostStop => &config.hooks.post_stop,
        TaskKind::OnFailure => &config.hooks.on_failure,
        TaskKind::Stop => return config.stop.command.as_deref(),
        TaskKind::Drain => return config.drain.as_ref()?.command.as_deref(),
        TaskKind::Reload => return config.reload.as_ref()?.command(),
    };
    hook.as_ref().map(|hook| hook.command.as_slice())
}

/// What a command learns of its server.
fn variables(kind: TaskKind, rec: &ServerRecord) -> Vec<(&'static str, String)> {
    let mut variables = vec![("NM_TASK", kind.name().to_string())];
    if let Some(process) = rec.phase.process() {
        variables.push(("NM_MAIN_PID", process.pid.to_string()));
    }
    if let Some(reason) = &rec.reason {
        variables.push(("NM_REASON", reason.to_string()));
    }
    if let (TaskKind::PostStop | TaskKind::OnFailure, Some(last)) = (kind, &rec.last_exit) {
        match last.exit {
            Exit::Code(code) => variables.push(("NM_EXIT_CODE", code.to_string())),
            Exit::Signal(signal) => {
                let name = crate::config::units::signal_name(signal);
                variables.push(("NM_EXIT_SIGNAL", name));
            }
            Exit::Unknown => {}
        }
    }
    variables
}
