//! The servers' output: FIFOs, their drains, and the lock of who moves it.
//!
//! Must not move a byte without the mover's lock: two movers of one FIFO tear its output apart.
//! A standby only holds the FIFOs open, so that what is in them outlives the active.

mod bursts;
mod join;
mod moved;
mod ways;

use self::bursts::Came;
use self::join::Joining;
use self::ways::Way;
use super::ctx::Ctx;
use crate::config::OutputTo;
use crate::core::{Ms, Name};
use crate::output::{Drain, Lost, Now, loss};
use crate::sys::lock::{Attempt, Lock};
use crate::sys::{self, fifo, pidfd, process};
use log::{info, warn};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A server opens its own FIFO before it changes its user.
const FIFO_MODE: u32 = 0o600;
/// Moved from one FIFO before the others have their turn.
const BUDGET_BYTES: usize = 1 << 20;
/// All of them together in one turn: a slow disk under many logs is no hang.
const TURN_MS: u64 = 50;
/// The lock is asked for so often while somebody else still moves.
const LOCK_AGAIN_MS: u64 = 10;
/// A mover that does not end in this time (stopped, stuck) is killed: servers wait for their FIFOs.
const MOVER_KILL_MS: u64 = 5_000;
/// Somebody may have rotated or removed a log: looked at so often.
const CHECK_EVERY_MS: u64 = 5_000;
/// What could not be opened is tried again after so long: a server that fills its FIFO waits.
const JOIN_AGAIN_MS: u64 = 1_000;

/// All drains.
#[derive(Default)]
pub struct Outputs {
    /// Held open before there is a drain.
    held: BTreeMap<Name, OwnedFd>,
    drains: Vec<Entry>,
    /// The latest drain of each way, by its key.
    by_name: BTreeMap<Name, usize>,
    by_fifo: BTreeMap<FileId, usize>,
    joining: Option<Joining>,
    lock: Option<Lock>,
    lock_again: Option<Ms>,
    /// Somebody else was first seen to hold it.
    lock_since: Option<Ms>,
    /// Whoever holds the lock is not told to let it go.
    waits_for_lock: bool,
    /// Drains with bytes left, and those that want another try.
    ready: BTreeSet<usize>,
    /// Where the last turn had to end; the next one goes on there.
    next: usize,
    retry: BTreeMap<usize, Ms>,
    /// Drains whose FIFO is not watched, but looked at in each turn.
    by_time: BTreeSet<usize>,
    check_at: Ms,
    /// Ways whose FIFO could not be joined with their log, and when that is tried again.
    unjoined: BTreeMap<Name, Way>,
    join_at: Option<Ms>,
    /// A log was rotated whose files are to be compressed.
    compress: bool,
}

struct Entry {
    /// The key of its way.
    name: Name,
    drain: Drain,
    /// Its rotated files are to be compressed.
    compress: bool,
    /// It is rotated by age, also while nothing comes.
    ages: bool,
    fifo: FileId,
    /// Bytes moved since this process began.
    moved: u64,
    pace: bursts::Pace,
    /// Why its log's path can't be followed: said once.
    path_trouble: Option<String>,
}

/// Device and inode.
type FileId = (u64, u64);

/// Where the lock of the mover is.
pub fn lock_path(run_dir: &Path) -> PathBuf {
    run_dir.join("mover.lock")
}

impl Outputs {
    /// Holds the FIFOs of a server, without reading.
    ///
    /// # Errors
    /// Something else is at its path, or no descriptor is left.
    pub fn hold(&mut self, ctx: &Ctx, name: &str) -> io::Result<()> {
        let Some(server) = ctx.server_or_retired(name) else { return Ok(()) };
        ways::of(&ctx.config, server).iter().try_for_each(|way| self.hold_way(way))
    }

    fn hold_way(&mut self, way: &Way) -> io::Result<()> {
        if !self.held.contains_key(&way.key) {
            self.held.insert(way.key.clone(), fifo::open(&way.fifo, FIFO_MODE)?);
        }
        Ok(())
    }

    /// A server that was found again may still write to a FIFO whose name was removed or moved away with
    /// the run directory: this process has never had it. It is drained beside the one that has the name.
    pub fn join_unlinked(&mut self, ctx: &Ctx, name: &str, pid: i32) {
        self.join_first(ctx, name);
        let Some(config) = ctx.server_or_retired(name).cloned() else { return };
        for way in ways::of(&ctx.config, &config) {
            let fd = if way.is_stderr { 2 } else { 1 };
            let Ok(Some(fifo)) = fifo::open_unlinked(pid, fd, &way.fifo) else { continue };
            let named = self.by_name.get(&way.key).copied();
            let key = way.key.clone();
            self.add(ctx, way, fifo);
            // The next start uses the one that has the name.
            if let Some(named) = named {
                self.by_name.insert(key, named);
            }
        }
    }

    /// The run directory was removed: the lock and the FIFOs are made anew in the new one.
    pub fn renew(&mut self, ctx: &Ctx) {
        self.join_rest(ctx);
        for way in ways::all(&ctx.config) {
            if let Err(error) = self.ensure_way(ctx, &way) {
                self.note_unjoined(ctx, way, &format!("cannot make its FIFO: {error}"));
            }
        }
        self.lock = None;
        self.lock_again = Some(ctx.now());
        self.take_lock(ctx);
    }

    /// A server is about to open its FIFOs by their paths. One that was removed is made anew; the
    /// old one, which others may still write to, is drained on.
    ///
    /// # Errors
    /// It can't be made: NotFound when its directory is gone.
    pub fn ensure(&mut self, ctx: &Ctx, name: &str) -> io::Result<()> {
        self.join_first(ctx, name);
        let Some(server) = ctx.server(name) else { return Ok(()) };
        let ways = ways::of(&ctx.config, server);
        ways.iter().try_for_each(|way| self.ensure_way(ctx, way))
    }

    fn ensure_way(&mut self, ctx: &Ctx, way: &Way) -> io::Result<()> {
        let drain = self.by_name.get(&way.key).and_then(|number| self.drains.get(*number));
        let is_ours = drain.is_some_and(|entry| {
            let there = nix::sys::stat::lstat(&way.fifo);
            there.is_ok_and(|there| (there.st_dev, there.st_ino) == entry.fifo)
        });
        if !is_ours {
            let fd = fifo::open(&way.fifo, FIFO_MODE)?;
            self.add(ctx, way.clone(), fd);
        }
        Ok(())
    }

    /// Who moved before us must have stopped; a mover that was left behind is told to.
    fn take_lock(&mut self, ctx: &Ctx) {
        if self.lock.is_some() || self.lock_again.is_none_or(|at| at > ctx.now()) {
            return;
        }
        match Lock::try_take(&lock_path(&ctx.config.node.run_dir)) {
            Ok(Attempt::Taken(lock)) => {
                self.lock = Some(lock);
                self.lock_again = None;
                self.ready.extend(0..self.drains.len());
                self.keep_losses(ctx);
                return;
            }
            Ok(Attempt::HeldBy(_)) if self.waits_for_lock => {}
            Ok(Attempt::HeldBy(pid)) => {
                let since = *self.lock_since.get_or_insert(ctx.now());
                let is_late = ctx.now().since(since) >= MOVER_KILL_MS;
                // A kill loses nothing either: what was spliced is in the log, the rest in the FIFO.
                let signal = if is_late { libc::SIGKILL } else { libc::SIGTERM };
                end_mover(pid, &lock_path(&ctx.config.node.run_dir), signal);
            }
            Err(error) => {
                warn!(target: "0362", "cannot take the lock of the output mover: {error}")
            }
        }
        self.lock_again = Some(ctx.now().after(LOCK_AGAIN_MS));
    }

    /// Has this process the lock: does it move?
    pub fn moves(&self) -> bool {
        self.lock.is_some()
    }

    /// Goes on with the counts of who moved before us.
    fn keep_losses(&mut self, ctx: &Ctx) {
        for entry in &mut self.drains {
            entry.drain.forget_record();
        }
        let names: Vec<&str> = self.by_name.keys().map(Name::as_str).collect();
        match loss::open(&ctx.config.node.run_dir.join("dropped"), &names) {
            Ok(records) => {
                for (number, record) in self.by_name.values().zip(records) {
                    if let Some(entry) = self.drains.get_mut(*number) {
                        entry.drain.keep_loss_in(record);
                    }
                }
            }
            Err(error) => warn!(
                target: "0362",
                "cannot open the record of dropped output, its counts end with this process: {error}"
            ),
        }
    }

    pub fn on_readable(&mut self, number: usize) {
        self.ready.insert(number);
    }

    /// Is there work that needs no event?
    pub fn is_busy(&self) -> bool {
        self.joining.is_some() || (self.lock.is_some() && !self.ready.is_empty())
    }

    pub fn deadline(&self) -> Option<Ms> {
        let retry = self.retry.values().min().copied();
        self.lock_again.into_iter().chain(retry).chain(self.join_at).min()
    }

    /// One turn: every drain that is ready moves at most its budget.
    pub fn turn(&mut self, ctx: &mut Ctx) {
        self.join_some(ctx);
        self.join_again(ctx);
        self.take_lock(ctx);
        if self.lock.is_none() {
            return;
        }
        let now = ctx.now();
        let due = self.retry.iter().filter(|(_, at)| **at <= now).map(|(number, _)| *number);
        let due: Vec<usize> = due.collect();
        for number in due {
            self.retry.remove(&number);
            self.ready.insert(number);
        }
        self.look_at_bursts();
        let mut first = std::mem::take(&mut self.ready);
        let mut order = first.split_off(&self.next).into_iter().chain(first);
        self.next = 0;
        // One at least, so that there is progress.
        while let Some(number) = order.next() {
            let came = self.pump(number, now);
            self.pace(ctx, number, now, came);
            if ctx.now().since(now) >= TURN_MS {
                let mut rest = order.peekable();
                self.next = rest.peek().copied().unwrap_or(0);
                self.ready.extend(rest);
                return;
            }
        }
    }

    /// Moves what waits in the FIFOs of a server.
    pub fn settle(&mut self, ctx: &Ctx, name: &str) {
        self.join_rest(ctx);
        let Some(server) = ctx.server(name).filter(|_| self.lock.is_some()) else { return };
        for way in ways::of(&ctx.config, server) {
            if let Some(number) = self.by_name.get(&way.key).copied() {
                self.pump(number, ctx.now());
            }
        }
    }

    /// Gives what came.
    fn pump(&mut self, number: usize, now: Ms) -> Came {
        let Some(entry) = self.drains.get_mut(number) else { return Came::default() };
        let pumped = entry.drain.pump(moment(now), BUDGET_BYTES);
        entry.moved += pumped.moved;
        let came = Came { moved: pumped.moved, pieces: pumped.pieces, room: entry.drain.room() };
        self.compress |= pumped.rotated && entry.compress;
        let name = &entry.name;
        if let Some(lost) = pumped.lost {
            warn!(target: "0364", "{name}: {}", loss_text(lost));
            entry.drain.loss_is_told();
        }
        if let Some(trouble) = pumped.trouble {
            if trouble.is_new {
                warn!(target: "0363", "{name}: {}", trouble.text);
            }
            if let Some(after_ms) = trouble.retry_after_ms {
                self.retry.insert(number, now.after(after_ms));
            }
        }
        if pumped.more {
            self.ready.insert(number);
        }
        came
    }

    /// Which process writes a server's output from now on; what is in its FIFO by now is of the one
    /// before.
    pub fn set_writer(&mut self, ctx: &Ctx, server: &str, pid: Option<i32>) {
        let Some(server) = ctx.server_or_retired(server) else { return };
        if server.output.to != OutputTo::Syslog {
            return;
        }
        self.join_first(ctx, &server.name);
        for way in ways::of(&ctx.config, server) {
            let number = self.by_name.get(&way.key);
            if let Some(entry) = number.and_then(|number| self.drains.get_mut(*number)) {
                entry.drain.set_paused(self.lock.is_none());
                entry.drain.set_writer(moment(ctx.now()), pid);
                entry.drain.set_paused(false);
            }
        }
    }

    /// Is there a rotated log to be compressed, since this was asked for the last time?
    pub fn take_compress(&mut self) -> bool {
        self.lock.is_some() && std::mem::take(&mut self.compress)
    }

    /// Goes to the logs' paths anew where they lead to other files now.
    pub fn check_paths(&mut self, ctx: &Ctx, must: bool) {
        if !must && ctx.now() < self.check_at {
            return;
        }
        self.check_at = ctx.now().after(CHECK_EVERY_MS);
        for (number, entry) in self.drains.iter_mut().enumerate() {
            if entry.ages {
                self.ready.insert(number);
            }
            let trouble = match entry.drain.check_path() {
                Ok(true) => {
                    info!(target: "0365", "{}: its log was opened again", entry.name);
                    None
                }
                Ok(false) => None,
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = trouble.as_ref().filter(|_| trouble != entry.path_trouble) {
                warn!(target: "0363", "{}: cannot open its log: {error}; the old one is written on", entry.name);
            }
            entry.path_trouble = trouble;
        }
    }

    /// Empties what is there, as far as one turn goes, and lets the lock go for who comes next.
    pub fn end(&mut self, ctx: &mut Ctx) {
        self.join_rest(ctx);
        self.take_lock(ctx);
        if self.lock.is_some() {
            // All of them, however long it takes: there is no next turn.
            for number in 0..self.drains.len() {
                self.pump(number, ctx.now());
            }
        }
        for entry in &self.drains {
            ctx.unwatch(&entry.drain.fifo_fd().as_raw_fd());
        }
        self.lock = None;
    }
}

/// This moment, by both clocks.
fn moment(now: Ms) -> Now {
    Now { mono_ms: now.0, wall_ms: process::wall_ms() }
}

fn loss_text(lost: Lost) -> String {
    let ended = match lost.ended_lines {
        0 => String::new(),
        lines => format!(" (ended there by a newline: cut lines, {lines})"),
    };
    match lost.before_byte {
        Some(byte) => format!(
            "{} bytes of its output were dropped while its log could not be written; they are \
             missing before byte {byte} of the log{ended}",
            lost.bytes
        ),
        None => {
            format!("{} bytes of its output were dropped while syslog took nothing", lost.bytes)
        }
    }
}

/// Ends a mover that was left behind. The lock's holder is asked for again after the
/// pidfd was opened, so that no stranger with its number is hit.
fn end_mover(pid: i32, lock: &Path, signal: i32) {
    let Ok(fd) = pidfd::open(pid) else { return };
    if sys::lock::holder(lock).ok().flatten() == Some(pid) {
        // With SIGTERM it ends after its present round; the lock says when.
        let _ = pidfd::signal(&fd, signal);
    }
}
