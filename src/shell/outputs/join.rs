//! Joining FIFOs with where their bytes go: at the beginning, and again where that failed.
//!
//! Must not move a byte, nor ask for the mover's lock before all are joined: who has it goes on with the
//! counts of all.

use super::ways::{self, Way};
use super::{Entry, FIFO_MODE, JOIN_AGAIN_MS, Outputs, bursts};
use crate::config::OutputTo;
use crate::core::Name;
use crate::shell::ctx::Ctx;
use crate::shell::token::Source;
use crate::sys::fifo;
use log::error;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

/// So many servers' FIFOs are joined in a turn of the loop: clients are answered, and
/// deaths seen, meanwhile. Nothing is lost: what is written waits in its FIFO.
const JOINS_PER_TURN: usize = 8;
/// A client that waited for the takeover is taken in in one turn, and answered in the next.
const TURNS_TO_JOIN: u8 = 3;

/// What is still to be joined.
pub(super) struct Joining {
    /// By the name of their server; `None` until the first is joined.
    ways: Option<BTreeMap<Name, Vec<Way>>>,
    /// Who writes, by the name of the server; of those whose output says so.
    writers: BTreeMap<Name, i32>,
    /// Turns until the first is joined.
    turns: u8,
}

impl Joining {
    fn ways(&mut self, ctx: &Ctx) -> &mut BTreeMap<Name, Vec<Way>> {
        self.ways.get_or_insert_with(|| {
            let mut ways: BTreeMap<Name, Vec<Way>> = BTreeMap::new();
            for way in ways::all(&ctx.config) {
                ways.entry(way.server.clone()).or_default().push(way);
            }
            ways
        })
    }
}

impl Outputs {
    /// Joins every held FIFO with its log, at once, for a mover: the active that left it behind lets the
    /// lock go by itself. `writers`: the servers' processes.
    pub fn begin_as_mover<'a>(
        &mut self,
        ctx: &Ctx,
        writers: impl Iterator<Item = (&'a Name, i32)>,
    ) {
        self.waits_for_lock = true;
        self.begin(ctx, writers);
        self.join_rest(ctx);
    }

    /// Joins every held FIFO with its log in the next turns, or when it is first needed: by a start,
    /// a command, a reader. A FIFO that can't be opened or watched is said and tried again: the others
    /// must not wait for it. `writers`: the servers' processes.
    pub fn begin<'a>(&mut self, ctx: &Ctx, writers: impl Iterator<Item = (&'a Name, i32)>) {
        let tells = |name: &str| {
            ctx.server_or_retired(name).is_some_and(|one| one.output.to == OutputTo::Syslog)
        };
        let tells_any = ctx.config.all_servers().any(|one| one.output.to == OutputTo::Syslog);
        let writers = writers.filter(|(name, _)| tells_any && tells(name));
        let writers = writers.map(|(name, pid)| (name.clone(), pid)).collect();
        self.joining = Some(Joining { ways: None, writers, turns: TURNS_TO_JOIN });
    }

    /// To be called in each turn.
    pub(super) fn join_some(&mut self, ctx: &Ctx) {
        let Some(joining) = &mut self.joining else { return };
        if joining.turns > 0 {
            joining.turns -= 1;
            return;
        }
        self.join_next(ctx, JOINS_PER_TURN);
    }

    /// All that are left, and then whatever else moving needs.
    pub fn join_rest(&mut self, ctx: &Ctx) {
        self.join_next(ctx, usize::MAX);
    }

    fn join_next(&mut self, ctx: &Ctx, servers_max: usize) {
        for _ in 0..servers_max {
            let Some(joining) = &mut self.joining else { return };
            match joining.ways(ctx).first_key_value().map(|(name, _)| name.clone()) {
                Some(name) => self.join_first(ctx, &name),
                None => return self.end_joining(ctx),
            }
        }
    }

    fn end_joining(&mut self, ctx: &Ctx) {
        self.joining = None;
        // What a predecessor did not finish.
        self.compress = true;
        self.lock_again = Some(ctx.now());
        self.take_lock(ctx);
    }

    /// Those of this server, if they are still to be joined.
    pub(super) fn join_first(&mut self, ctx: &Ctx, name: &str) {
        let Some(joining) = &mut self.joining else { return };
        let writer = joining.writers.remove(name);
        for way in joining.ways(ctx).remove(name).into_iter().flatten() {
            match self.hold_way(&way) {
                Ok(()) => {
                    if let Some(fifo) = self.held.remove(&way.key) {
                        self.add(ctx, way, fifo);
                    }
                }
                Err(error) => {
                    self.note_unjoined(ctx, way, &format!("cannot open its FIFO: {error}"));
                }
            }
        }
        if writer.is_some() {
            self.set_writer(ctx, name, writer);
        }
    }

    pub(super) fn add(&mut self, ctx: &Ctx, way: Way, fifo: OwnedFd) {
        let Some(config) = ctx.server_or_retired(&way.server) else { return };
        let id = match nix::sys::stat::fstat(&fifo) {
            Ok(status) => (status.st_dev, status.st_ino),
            Err(error) => {
                return self.note_unjoined(ctx, way, &format!("cannot look at its FIFO: {error}"));
            }
        };
        // Two drains of one FIFO would take turns, each with its own idea of the log.
        if let Some(number) = self.by_fifo.get(&id) {
            self.unjoined.remove(&way.key);
            self.by_name.insert(way.key, *number);
            return;
        }
        let number = self.drains.len();
        let drain = way.drain(&ctx.config, config, fifo);
        let (compress, ages) = (config.output.compress, config.output.max_age_ms > 0);
        let fd = drain.fifo_fd().as_raw_fd();
        if let Err(error) = ctx.watch(&fd, Source::Output(number)) {
            return self.note_unjoined(ctx, way, &format!("cannot watch its FIFO: {error}"));
        }
        self.unjoined.remove(&way.key);
        self.by_name.insert(way.key.clone(), number);
        self.by_fifo.insert(id, number);
        self.ready.insert(number);
        let (name, moved, pace, path_trouble) = (way.key, 0, bursts::Pace::default(), None);
        let fifo = id;
        self.drains.push(Entry { name, drain, fifo, compress, ages, moved, pace, path_trouble });
    }

    pub(super) fn note_unjoined(&mut self, ctx: &Ctx, way: Way, text: &str) {
        if !self.unjoined.contains_key(&way.key) {
            let name = &way.key;
            error!(target: "0361", "{name}: {text}; its output waits in its FIFO until that works");
            self.unjoined.insert(way.key.clone(), way);
        }
        self.join_at = Some(ctx.now().after(JOIN_AGAIN_MS));
    }

    pub(super) fn join_again(&mut self, ctx: &Ctx) {
        if self.join_at.is_none_or(|at| at > ctx.now()) {
            return;
        }
        self.join_at = None;
        for way in self.unjoined.values().cloned().collect::<Vec<_>>() {
            match fifo::open(&way.fifo, FIFO_MODE) {
                Ok(fd) => self.add(ctx, way, fd),
                Err(error) => {
                    self.note_unjoined(ctx, way, &format!("cannot open its FIFO: {error}"));
                }
            }
        }
        if self.lock.is_some() {
            self.keep_losses(ctx);
        }
    }
}
