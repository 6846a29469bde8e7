//! What the history says was told: read by a new active, so that nothing is told twice, and what the
//! one before had no time to tell is told now.
//!
//! Must not be read at once while clients wait: thousands of lines take milliseconds.

use super::seen::Seen;
use super::{RECALL_BYTES, Shell};
use crate::core::ServerId;
use crate::events::{Kind, Record, file, path_in, record};
use std::mem;

/// So many lines in a turn.
const LINES_PER_TURN: usize = 32;

/// Where the reading is.
#[derive(Default)]
pub enum Recall {
    #[default]
    NotBegun,
    Reading(Reading),
    Done,
}

/// The history, and what was found in it.
pub struct Reading {
    text: Vec<u8>,
    /// Behind what was read.
    at: usize,
    keeper_is_lost: bool,
}

impl Recall {
    pub fn is_done(&self) -> bool {
        matches!(self, Recall::Done)
    }
}

impl Reading {
    fn next(&mut self) -> Option<&[u8]> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        self.at += end + 1;
        rest.get(..end)
    }
}

impl Shell {
    /// The next few lines; returns whether all are read.
    pub(super) fn recall_some(&mut self) -> bool {
        let mut reading = match mem::replace(&mut self.events.recall, Recall::Done) {
            Recall::Done => return true,
            Recall::Reading(reading) => reading,
            Recall::NotBegun => self.begin_recall(),
        };
        for _ in 0..LINES_PER_TURN {
            let Some(line) = reading.next() else {
                self.end_recall(reading.keeper_is_lost);
                return true;
            };
            if let Some(record) = record(line) {
                self.learn(&record, &mut reading.keeper_is_lost);
            }
        }
        self.events.recall = Recall::Reading(reading);
        false
    }

    /// All of it: somebody asks for events, or this process ends.
    pub(super) fn recall_all(&mut self) {
        while !self.recall_some() {}
    }

    fn begin_recall(&mut self) -> Reading {
        self.open_history();
        let path = path_in(&self.ctx.config.node.state_dir);
        let text = file::read(&path, RECALL_BYTES).unwrap_or_default();
        self.events.seen = self.node.servers.iter().map(|one| Seen::of(&one.rec)).collect();
        Reading { text, at: 0, keeper_is_lost: false }
    }

    fn learn(&mut self, record: &Record, keeper_is_lost: &mut bool) {
        let place = record.server.as_deref().and_then(|name| self.place_among_all(name));
        let events = &mut self.events;
        if let Some(one) = place.and_then(|at| events.seen.get_mut(at)) {
            one.learn(record);
        }
        if !record.is(Kind::ConfigurationApplying) && !record.is(Kind::ConfigurationNotApplied) {
            events.generation = record.number("generation").or(events.generation);
        }
        if record.is(Kind::KeeperLost) {
            *keeper_is_lost = true;
        } else if record.is(Kind::KeeperJoined) || record.is(Kind::PairStarted) {
            *keeper_is_lost = false;
        }
        events.last = events.last.max(record.seq);
        events.keep(record);
    }

    /// The place of a server, also of one that is left over.
    fn place_among_all(&self, name: &str) -> Option<usize> {
        let (servers, known) = (&self.node.servers, self.ctx.config.servers.len());
        let is_it = |at: &usize| servers.get(*at).is_some_and(|one| one.rec.name.as_str() == name);
        self.ctx.place(name).filter(is_it).or_else(|| (known..servers.len()).find(is_it))
    }

    fn end_recall(&mut self, keeper_is_lost: bool) {
        let servers = &self.node.servers;
        if self.events.is_new_life {
            for (one, told) in servers.iter().zip(&mut self.events.seen) {
                *told = mem::take(told).in_new_life(&one.rec);
            }
        }
        self.events.changed = (0..servers.len()).map(ServerId).collect();
        if let Some(seen) = self.keeper.keeper().filter(|_| keeper_is_lost) {
            self.keeper_joined(seen.pid);
        }
        self.note_generation();
        self.recall_alerts();
    }
}
