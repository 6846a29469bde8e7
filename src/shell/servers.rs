//! The servers' processes: children, gates, pidfds, groups.
//!
//! Must not decide anything about a server: it does what the core says, and tells the core what
//! happened. Everything is addressed by pidfd; a bare PID is never signalled.

mod adoption;
mod cgroups;
mod deaths;
mod failures;
mod groups;
mod held;
mod main_process;

pub use main_process::PairPids;

use self::held::Held;
use super::ctx::Ctx;
use super::spec;
use super::token::Source;
use crate::core::rare::Text;
use crate::core::server::Server;
use crate::core::{Event, Exit, Identity, Ms, Name, ServerId};
use crate::sys::mark::Owner;
use crate::sys::pidfd::{self, Verified};
use crate::sys::spawn::{self, News};
use log::warn;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

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
    /// The gate is to be opened, and could not be yet.
    opens: bool,
    start_number: u64,
    /// It forks, and its main process is in this group.
    forked: Option<i32>,
    /// Why its start could not be prepared.
    unprepared: Option<Text>,
    /// One living member of the group, or the cgroup, of the dead leader.
    witness: Option<OwnedFd>,
    /// The leader whose group is being watched until it is empty, and its cgroup.
    probed: Option<Box<(Identity, Option<PathBuf>)>>,
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
    /// The node's name, which is a part of marks.
    owner: Owner,
    names: Vec<Name>,
    children: Vec<Child>,
    /// When what is left of a server is looked at again.
    looks: BTreeMap<(usize, groups::Awaited), groups::Look>,
    /// Held by a standby for the takeover.
    held: Held,
    /// A takeover's, in the order in which they are looked at.
    unseen: VecDeque<adoption::Unseen>,
    dead_come_first: bool,
    /// Turns until the first look: clients are answered before.
    turns_to_look: u8,
    discarded: BTreeMap<usize, OwnedFd>,
    discarded_next: usize,
    asks: Vec<Ask>,
    ask_next: Option<Ms>,
    reports: VecDeque<(i32, u64, Exit)>,
}

impl Servers {
    /// This process is the active now, with these servers.
    /// What is held of processes that are not on record any more is of no use: nobody would close it.
    pub fn begin(&mut self, owner: &Owner, servers: &[Server]) {
        self.owner = owner.clone();
        let names: Vec<Name> = servers.iter().map(|one| one.rec.name.clone()).collect();
        self.held.begin(servers);
        self.looks.clear();
        self.unseen.clear();
        self.children = names.iter().map(|_| Child::default()).collect();
        self.names = names;
    }

    pub fn name(&self, server: ServerId) -> &str {
        self.names.get(server.0).map_or("?", Name::as_str)
    }

    /// The process that is watched now.
    pub fn process(&self, server: ServerId) -> Option<Identity> {
        self.children.get(server.0).and_then(|child| child.process)
    }

    // ---- the standby

    /// Holds a pidfd of a server's process, opened while it surely is that process.
    pub fn hold(&mut self, ctx: &Ctx, name: &Name, process: Option<Identity>) {
        let Some(process) = process else {
            // Kept: its exit status may still be asked for. The next process replaces it.
            return;
        };
        let place = ctx.place(name);
        if self.held.has(place, name, process) {
            return;
        }
        match pidfd::open_verified(&process) {
            Ok(Verified::Alive(fd)) => {
                self.held.put(place, ctx.config.servers.len(), name, (process, fd));
            }
            Ok(Verified::Gone) => {}
            Err(error) => {
                warn!(target: "0212", "cannot hold PID {} of {name}: {error}", process.pid);
            }
        }
    }

    // ---- start

    /// Forks the child of a server. It waits at its gate.
    /// `sockets` are its descriptors from 3 on.
    pub fn spawn(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        start_number: u64,
        sockets: Vec<RawFd>,
    ) {
        match self.try_spawn(ctx, server, start_number, sockets) {
            Ok(process) => ctx.tell(Event::Spawned { server, start_number, process }),
            Err(error) => ctx.tell(Event::SpawnFailed { server, start_number, error }),
        }
    }

    fn try_spawn(
        &mut self,
        ctx: &mut Ctx,
        server: ServerId,
        start_number: u64,
        sockets: Vec<RawFd>,
    ) -> Result<Identity, String> {
        let name = self.name(server).to_string();
        let config = ctx.server(&name).ok_or("it is not in the configuration any more")?;
        let (mut spec, mut unprepared) = spec::spec(ctx, config, start_number, sockets)?;
        let dir = cgroups::prepare(ctx, config, &mut spec, &mut unprepared)?;
        ctx.tell(Event::CgroupAt { server, start_number, dir });
        let cannot = |what: &str, error: io::Error| format!("cannot {what}: {error}");
        let child = spawn::spawn_server(spec).map_err(|error| cannot("fork", error))?;
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
                unprepared: unprepared.map(Text::from),
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

    /// A child that is of no use and was killed, or ends by itself: it still has to be reaped.
    pub fn discard(&mut self, ctx: &mut Ctx, pidfd: OwnedFd) {
        ctx.unwatch(&pidfd);
        let number = self.discarded_next;
        self.discarded_next += 1;
        // One that can't be watched is looked at in each turn.
        let _ = ctx.watch(&pidfd, Source::Discarded(number));
        self.discarded.insert(number, pidfd);
    }

    pub fn on_discarded(&mut self, ctx: &mut Ctx, number: usize) {
        let Some(pidfd) = self.discarded.remove(&number) else { return };
        match pidfd::reap(&pidfd) {
            Ok(Some(_)) => ctx.close(pidfd),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => ctx.close(pidfd),
            // It is dead, but who traces it (a debugger) has not let it go yet.
            Ok(None) | Err(_) => {
                self.discarded.insert(number, pidfd);
            }
        }
    }

    /// The record is safe: the child may go.
    pub fn open_gate(&mut self, ctx: &mut Ctx, server: ServerId, start_number: u64) {
        let Some(child) = self.children.get_mut(server.0) else { return };
        if child.start_number != start_number {
            return;
        }
        let Some(gate) = &child.gate else { return };
        let opened = spawn::open_gate(gate);
        // EPIPE: the child is dead; its pidfd tells. Else it waits, and would for ever.
        child.opens = opened.is_err_and(|error| error.raw_os_error() != Some(libc::EPIPE));
        if child.opens {
            ctx.look_again(Source::Gate(server.0));
        }
    }

    /// Something came through a gate's socket.
    pub fn on_gate(&mut self, ctx: &mut Ctx, number: usize) {
        let server = ServerId(number);
        if let Some(child) = self.children.get(number).filter(|child| child.opens) {
            self.open_gate(ctx, server, child.start_number);
        }
        // The child says at most three things: ready, that it waits, and what failed.
        for _ in 0..4 {
            let Some(child) = self.children.get_mut(number) else { return };
            let (start_number, Some(gate)) = (child.start_number, &child.gate) else { return };
            match spawn::read_news(gate) {
                Ok(None) => return,
                Ok(Some(News::Ready)) => {}
                Ok(Some(News::WaitsForLock { device, inode })) => {
                    self.tell_wait(ctx, server, start_number, device, inode);
                }
                Ok(Some(News::Failed { step, errno, detail })) => {
                    let error = self.failure_text(ctx, server, step, errno, detail);
                    // Its FIFO was there when it was forked: somebody empties the run directory.
                    let is_piped = ctx
                        .server(self.name(server))
                        .is_some_and(|config| config.piped().next().is_some());
                    let is_path = matches!(step, spawn::Step::Output | spawn::Step::Ready);
                    let is_gone = is_path && errno == libc::ENOENT;
                    ctx.tell(match is_piped && is_gone {
                        true => Event::ChildRefused { server, start_number, error },
                        false => Event::ChildFailed { server, start_number, error },
                    });
                }
                Err(error) if error.kind() != ErrorKind::InvalidData => {
                    return ctx.look_again(Source::Gate(number));
                }
                Ok(Some(News::Closed)) | Err(_) => {
                    if let Some(gate) = child.gate.take() {
                        ctx.close(gate);
                    }
                    self.check_cgroup(ctx, server);
                    ctx.tell(Event::Executed { server, start_number });
                    return;
                }
            }
        }
    }
}
