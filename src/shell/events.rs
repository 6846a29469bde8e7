//! Events: what the core's notes say becomes the history in `stateDir`, and is handed to hooks and mail.
//!
//! Must not decide what happened (`derive` and `seen` do, from the core's notes and records), and
//! must not end or wait for a history that can't be written: events stay in memory then, and are
//! written when that works again.

mod derive;
mod recall;
mod seen;

use super::Shell;
use crate::api::{ApplyAnswer, SCHEMA};
use crate::core::{ClientId, Ms, Note, ServerId};
use crate::events::file::EventFile;
use crate::events::{Answer, Draft, Kind, Record, path_in};
use crate::http::Request;
use crate::sys::process;
use derive::Facts;
use jiff::Timestamp;
use log::warn;
use recall::Recall;
use seen::Seen;
use std::collections::{BTreeSet, VecDeque};
use std::mem;

/// The newest events that are kept in memory, also while they can't be written.
const RING_MAX: usize = 500;
/// Bytes of the history that a new active reads to know what was told.
const RECALL_BYTES: u64 = 256 << 10;
/// What could not be written is tried again so often.
const AGAIN_MS: u64 = 5_000;

/// An event as its line, which takes a third of the memory.
struct Kept {
    seq: u64,
    line: Box<str>,
}

impl Kept {
    fn new(record: &Record) -> Kept {
        Kept { seq: record.seq, line: record.line().into_boxed_str() }
    }

    fn record(&self) -> Option<Record> {
        serde_json::from_str(&self.line).ok()
    }
}

/// The history, and what was told of each server.
#[derive(Default)]
pub struct Events {
    /// `None`: not opened yet, or it can't be.
    file: Option<EventFile>,
    /// What the active before told.
    recall: Recall,
    is_failing: bool,
    again_at: Option<Ms>,
    last: u64,
    ring: VecDeque<Kept>,
    /// As many of the newest in the ring are not in the file.
    unwritten: usize,
    /// What happened and has no number yet, with the wall clock's time.
    waiting: Vec<(u64, Draft)>,
    /// Their records are to be compared with what was told.
    changed: BTreeSet<ServerId>,
    /// What was told of each server, by its number.
    seen: Vec<Seen>,
    /// When the first of them may have recovered.
    recovers_at: Option<Ms>,
    is_new_life: bool,
    /// The generation of the configuration that the history knows.
    generation: Option<u64>,
}

impl Events {
    /// When `tell_events` has something to do.
    pub fn deadline(&self) -> Option<Ms> {
        self.recovers_at.into_iter().chain(self.again_at).min()
    }

    /// The highest number that was given.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Those behind a number, oldest first.
    pub fn since(&self, seq: u64) -> impl Iterator<Item = Record> {
        self.ring.iter().filter(move |kept| kept.seq > seq).filter_map(Kept::record)
    }
}

impl Shell {
    /// A note of the core; only an active tells events.
    pub(super) fn happened(&mut self, note: &Note) {
        if self.lock.is_none() {
            return;
        }
        match note {
            Note::Server(server) | Note::Adopted(server) => {
                self.events.changed.insert(*server);
                // One step may be followed by others before the turn ends.
                return self.compare_changed();
            }
            Note::NewLife => self.events.is_new_life = true,
            // It is replaced by one with the new configuration or program.
            Note::StandbyDown { .. } if self.succession.obstacle().is_some() => return,
            _ => {}
        }
        let facts = Facts {
            pid: self.own.pid,
            other_pid: self.other.as_ref().map_or(0, |(process, _)| process.pid),
            generation: self.ctx.config.applied.generation,
            name: &|server| self.servers.name(server).to_owned(),
            last_exit: &|server| self.node.servers.get(server.0)?.rec.last_exit.as_deref().cloned(),
        };
        let draft = derive::of_note(note, &facts);
        draft.into_iter().for_each(|draft| self.happen(draft));
    }

    /// Something happened. It gets its number at the end of the turn.
    pub(super) fn happen(&mut self, draft: Draft) {
        if self.lock.is_some() {
            self.events.waiting.push((process::wall_ms(), draft));
        }
    }

    /// The keeper is gone.
    pub(super) fn keeper_lost(&mut self, pid: i32) {
        let text = format!("the keeper (PID {pid}) is gone; the pair goes on");
        self.happen(Draft::new(Kind::KeeperLost, text).with("pid", pid));
    }

    /// A pair that had none has a keeper.
    pub(super) fn keeper_joined(&mut self, pid: i32) {
        let text = format!("PID {pid} is the keeper now");
        self.happen(Draft::new(Kind::KeeperJoined, text).with("pid", pid));
    }

    /// Another configuration is on its way.
    pub(super) fn is_applying(&mut self, answer: &ApplyAnswer) {
        self.happen(derive::applying(answer));
    }

    /// It does not get there.
    pub(super) fn not_applied(&mut self, generation: u64, why: &str) {
        let text = format!("configuration {generation} was not applied: {why}");
        let draft = Draft::new(Kind::ConfigurationNotApplied, text).with("generation", generation);
        self.happen(draft.with("reason", why));
    }

    /// The pair stays what it is.
    pub(super) fn not_upgraded(&mut self, text: &str) {
        self.happen(Draft::new(Kind::UpgradeFailed, text));
    }

    fn compare_changed(&mut self) {
        if !self.events.recall.is_done() {
            return;
        }
        let now = self.ctx.now();
        for server in mem::take(&mut self.events.changed) {
            let Some(one) = self.node.servers.get(server.0) else { continue };
            let Some(seen) = self.events.seen.get_mut(server.0) else { continue };
            for draft in seen.compare(&one.rec, &one.plan.policy, now) {
                self.events.waiting.push((process::wall_ms(), draft));
            }
            let known = self.events.recovers_at;
            self.events.recovers_at = known.into_iter().chain(seen.recovers_at.get()).min();
        }
    }

    /// Numbers, writes and hands on what happened; called in each turn.
    pub(super) fn tell_events(&mut self) {
        let now = self.ctx.now();
        if self.lock.is_none() {
            return;
        }
        if !self.events.recall.is_done() {
            // A start that fails tells nothing.
            if !self.is_serving {
                return;
            }
            if self.exit.is_some() {
                self.recall_all();
            } else if !self.recall_next(now) {
                return;
            }
        }
        self.compare_changed();
        self.recover_servers(now);
        self.tell_alerts();
        let is_due = self.events.again_at.is_some_and(|at| at <= now);
        if self.events.waiting.is_empty() && !is_due {
            return;
        }
        for (wall_ms, draft) in mem::take(&mut self.events.waiting) {
            let record = self.events.number(wall_ms, draft);
            self.alert(&record);
        }
        self.write_events(now);
        // Those of now begin at once.
        self.tell_alerts();
    }

    /// Whoever waited through a takeover is answered first, in the next turn, and others between the
    /// turns. What is not told then is told by the next active.
    fn recall_next(&mut self, now: Ms) -> bool {
        let is_first = self.events.again_at.replace(now).is_none();
        !is_first && self.recall_some()
    }

    fn recover_servers(&mut self, now: Ms) {
        if self.events.recovers_at.is_none_or(|at| at > now) {
            return;
        }
        for (one, seen) in self.node.servers.iter().zip(&mut self.events.seen) {
            if let Some(draft) = seen.recover(&one.rec, now) {
                self.events.waiting.push((process::wall_ms(), draft));
            }
        }
        let seen = self.events.seen.iter();
        self.events.recovers_at = seen.filter_map(|seen| seen.recovers_at.get()).min();
    }

    /// A takeover that brings another configuration is told as that.
    fn note_generation(&mut self) {
        let own = self.ctx.config.applied.generation;
        if self.events.is_new_life || self.events.generation.is_none_or(|known| own <= known) {
            return;
        }
        let is_takeover =
            |(_, draft): &(u64, Draft)| matches!(draft.kind, Kind::Takeover | Kind::Switchover);
        let changes = self.events.ring.iter().rev().filter_map(Kept::record).find(|record| {
            record.is(Kind::ConfigurationApplying) && record.number("generation") == Some(own)
        });
        let mut text = format!("configuration {own} is in force, active PID {}", self.own.pid);
        if let Some((_, words)) = changes.as_ref().and_then(|record| record.text.split_once(": ")) {
            text = format!("{text}: {words}");
        }
        let mut draft = Draft::new(Kind::ConfigurationApplied, text).with("generation", own);
        draft.fields.extend(changes.map(|record| record.fields).unwrap_or_default());
        let at = self.events.waiting.iter().position(is_takeover);
        let place = at.unwrap_or(self.events.waiting.len());
        if at.is_some() {
            let (_, takeover) = self.events.waiting.remove(place);
            draft.fields.extend(takeover.fields);
            draft.fields.remove("cause");
        }
        self.events.waiting.insert(place, (process::wall_ms(), draft));
    }

    fn open_history(&mut self) {
        if self.events.file.is_some() {
            return;
        }
        let dir = &self.ctx.config.node.state_dir;
        // A pair that came back serves without it, too.
        let _ = std::fs::create_dir_all(dir);
        match EventFile::open(&path_in(dir)) {
            Ok((file, last)) => {
                self.events.file = Some(file);
                self.events.last = self.events.last.max(last);
            }
            Err(error) => self.cannot_write(&error),
        }
    }

    fn write_events(&mut self, now: Ms) {
        self.open_history();
        let max = self.ctx.config.node.events_max_size;
        let events = &mut self.events;
        let lines = events.lines();
        let Some(file) = &mut events.file else {
            events.again_at = Some(now.after(AGAIN_MS));
            return;
        };
        let written = match lines.is_empty() {
            true => Ok(()),
            false => file.append(lines.as_bytes()),
        };
        let done = written.and_then(|()| {
            events.unwritten = 0;
            file.shrink(max)
        });
        events.again_at = done.is_err().then(|| now.after(AGAIN_MS));
        match done {
            Ok(()) => events.is_failing = false,
            Err(error) => self.cannot_write(&error),
        }
    }

    fn cannot_write(&mut self, error: &std::io::Error) {
        if !mem::replace(&mut self.events.is_failing, true) {
            let path = path_in(&self.ctx.config.node.state_dir);
            warn!(target: "0150", "cannot write {}: {error}; the newest {RING_MAX} events stay in memory until it can be written", path.display());
        }
    }

    /// The newest events, behind the number that is asked for.
    pub(super) fn on_events(
        &mut self,
        client: ClientId,
        request: &Request,
    ) -> Result<(), super::requests::Refused> {
        let since = request.query_values("since").pop().unwrap_or_default();
        let since: u64 = match since.as_str() {
            "" => 0,
            text => text.parse().map_err(|_| {
                (400, 64, "since must be the number of an event: /v1/events?since=17".to_owned())
            })?,
        };
        self.recall_all();
        let events: Vec<Record> = self.events.since(since).collect();
        let answer = Answer { schema: SCHEMA, last: self.events.last, events };
        self.control.answer(&mut self.ctx, client, 200, &answer);
        Ok(())
    }
}

impl Events {
    fn number(&mut self, wall_ms: u64, draft: Draft) -> Record {
        self.last = self.last.saturating_add(1);
        let record = Record::new(self.last, time_text(wall_ms), draft);
        self.keep(&record);
        self.unwritten = (self.unwritten + 1).min(RING_MAX);
        record
    }

    fn keep(&mut self, record: &Record) {
        if self.ring.len() >= RING_MAX {
            self.ring.pop_front();
        }
        self.ring.push_back(Kept::new(record));
    }

    /// Those that are not in the file.
    fn lines(&self) -> String {
        let skip = self.ring.len().saturating_sub(self.unwritten);
        self.ring.iter().skip(skip).map(|kept| &*kept.line).collect()
    }
}

fn time_text(wall_ms: u64) -> String {
    let time = Timestamp::from_millisecond(i64::try_from(wall_ms).unwrap_or_default());
    time.map(|time| format!("{time:.3}")).unwrap_or_default()
}
