//! The deaths of servers: seen by pidfd, with the status from whoever knows it.
//!
//! Must not make up a status: our own child's comes from waitid, an orphan's from the keeper's
//! report or from its pidfd, and else it is not known.

use super::{Ask, REPORTS_MAX, STATUS_ASK_EVERY_MS, STATUS_ASK_MS, Servers};
use crate::core::{Event, Exit, Identity, Ms, ServerId};
use crate::shell::ctx::Ctx;
use crate::shell::token::Source;
use crate::sys::pidfd;
use log::warn;

impl Servers {
    /// A leader's pidfd is readable.
    pub fn on_leader(&mut self, ctx: &mut Ctx, number: usize) {
        let Some(child) = self.children.get_mut(number) else { return };
        let (Some(process), Some(fd)) = (child.process, &child.pidfd) else { return };
        let exit = match (pidfd::has_died(fd), child.is_ours) {
            (Ok(false), _) => return,
            _ if child.is_dead => return,
            (Err(_), _) => return ctx.look_again(Source::Leader(number)),
            (Ok(true), false) => pidfd::exit_info(fd),
            (Ok(true), true) => match pidfd::exit_of_child(fd) {
                Ok(exit) => exit,
                // Reaped by somebody else.
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => None,
                Err(_) => return ctx.look_again(Source::Leader(number)),
            },
        };
        child.is_dead = true;
        ctx.unwatch(fd);
        // News from the gate counts before the death: it may say why it died.
        self.on_gate(ctx, number);
        self.tell_death(ctx, ServerId(number), process, exit);
    }

    pub(super) fn tell_death(
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

    /// What the keeper said of this process, if it did.
    pub fn reported(&self, process: Identity) -> Option<Exit> {
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
        self.ask_next.into_iter().chain(self.next_look()).min()
    }

    /// Asks the pidfds of the dead for their status, again and for a bounded time.
    pub fn ask_again(&mut self, ctx: &mut Ctx) {
        let now = ctx.now();
        self.look_again(ctx, now);
        let dead = self.discarded.iter().find(|(_, fd)| pidfd::is_dead(fd)).map(|(n, _)| *n);
        if let Some(number) = dead {
            self.on_discarded(ctx, number);
        }
        if self.ask_next.is_none_or(|at| at > now) {
            return;
        }
        let mut known = Vec::new();
        let children = &self.children;
        self.asks.retain(|ask| {
            let own = children.get(ask.server.0).filter(|own| own.process == Some(ask.process));
            let pidfd = ask.pidfd.as_ref().or_else(|| own.and_then(|own| own.pidfd.as_ref()));
            match pidfd.and_then(pidfd::exit_info) {
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
    pub fn reap(&mut self, ctx: &mut Ctx, server: ServerId, process: Identity) {
        let Some(child) = self.children.get(server.0) else { return };
        let (true, true, Some(fd)) = (child.is_ours, child.process == Some(process), &child.pidfd)
        else {
            return;
        };
        match pidfd::reap(fd) {
            Ok(Some(_)) => return,
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return,
            // Who traces it has not let it go yet, or it can't be reaped now.
            Ok(None) | Err(_) => {}
        }
        match fd.try_clone() {
            Ok(copy) => self.discard(ctx, copy),
            Err(error) => warn!(target: "0398", "cannot reap PID {}: {error}", process.pid),
        }
    }
}
