//! The planned way from one active to the other: on record first, then the active just ends.
//!
//! Must not take over: what follows the end of the active is the takeover that would follow its death,
//! so that the way that is seldom needed is the one that is often taken. The record tells the next
//! active that it was meant, and whose request it was: who asks again is answered there.

use super::ask::{Ask, Ended, MARKS_MAX};
use super::node::{Node, Role, Timer};
use super::promotion::Promotion;
use super::record::{Cause, Handover, Planned, Switchover};
use super::standby::State;
use super::time::Ms;
use super::{Action, ClientId, Note};

/// A record that is neither on disk nor with the standby by then is given up.
const SAFE_LIMIT_MS: u64 = 5_000;
/// After a switchover the fresh standby may fail so often before that is the answer.
const STANDBY_FAILURES_MAX: u32 = 3;

/// An active that is about to hand over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handing {
    /// The number of its record.
    seq: u64,
}

impl Node {
    /// Somebody wants the other twin to be the active, or asks again what came of it.
    pub(super) fn ask_to_switch(&mut self, now: Ms, ask: &Ask) {
        if self.record.handed_over.contains(&ask.id) {
            return self.wait_for_whole_pair(ask);
        }
        if let Some((ended, text)) = self.obstacle_to_switch() {
            return self.answer_about_pair(ask.client, ended, text);
        }
        match &self.record.handover {
            Some(handover) if handover.id == ask.id => {}
            Some(_) => {
                let text = "the active is about to hand over for another request; try again";
                return self.answer_about_pair(ask.client, Ended::Later, text.to_string());
            }
            None => self.begin_handover(now, Planned::Asked, ask.id.clone()),
        }
        if ask.wait {
            // Its connection ends with this process; it asks the next active, which knows the id.
            self.whole_waits.insert(ask.client);
        } else {
            self.answer_about_pair(ask.client, Ended::Well, "accepted".to_string());
        }
    }

    /// The record of it is owed.
    pub fn is_handing_over(&self) -> bool {
        self.handing.is_some()
    }

    /// Why nobody could go on.
    fn obstacle_to_switch(&self) -> Option<(Ended, String)> {
        if self.record.ending.is_some() {
            return Some((Ended::Badly, "the pair is ending".to_string()));
        }
        let reason = self.standby.reason.clone().map(|reason| format!(": {reason}"));
        let reason = reason.unwrap_or_default();
        match self.standby.state {
            State::Watching { .. } => None,
            State::Off => {
                let text = "there is no standby that could go on: set standbyPort in [nodeManager]";
                Some((Ended::Badly, text.to_string()))
            }
            State::Starting { .. } | State::Spawning => {
                let text =
                    format!("the standby is not WATCHING yet{reason}; try again in a moment");
                Some((Ended::Later, text))
            }
            State::Down { .. } | State::Stopping { .. } | State::Dying { .. } => {
                Some((Ended::Badly, format!("no standby is WATCHING{reason}")))
            }
        }
    }

    /// The successor is ready: `id` is the request's, or empty.
    pub(super) fn begin_handover(&mut self, now: Ms, why: Planned, id: String) {
        if self.handing.is_some() || self.record.ending.is_some() {
            return;
        }
        self.record.handover = Some(Handover { why, id });
        self.save_node_for_handover();
        self.handing = Some(Handing { seq: self.seq });
        self.timers.set(Timer::Handover, Some(now.after(SAFE_LIMIT_MS)));
    }

    /// Every record up to this one is with the standby, or this one is on disk: either is read at a
    /// takeover.
    pub(super) fn on_handover_safe(&mut self, seq: u64, is_copy: bool) {
        let Some(handing) = &self.handing else { return };
        if handing.seq != seq && !(is_copy && handing.seq <= seq) {
            return;
        }
        // Without a standbyPort the keeper goes on; the shell has looked.
        if !matches!(self.standby.state, State::Watching { .. } | State::Off) {
            return self.cancel_handover("the standby is not WATCHING any more");
        }
        self.role = Role::Ended;
        self.out.push(Action::HandOver);
    }

    /// Nobody is there any more who would go on.
    pub(super) fn look_at_handover(&mut self) {
        if self.handing.is_some()
            && !matches!(self.standby.state, State::Watching { .. } | State::Off)
        {
            self.cancel_handover("the standby is not WATCHING any more");
        }
    }

    pub(super) fn cancel_handover(&mut self, text: &str) {
        self.handing = None;
        self.record.handover = None;
        self.timers.set(Timer::Handover, None);
        self.save_node();
        self.out.push(Action::Note(Note::NotHandedOver { text: text.to_string() }));
        for client in std::mem::take(&mut self.whole_waits) {
            self.answer_about_pair(client, Ended::Badly, format!("nothing was done: {text}"));
        }
    }

    /// This process becomes the active: was that meant? Who goes on after a death alone knows; a hang
    /// is a hang, whatever was meant.
    pub(super) fn note_switchover(&mut self, now: Ms, promotion: &Promotion) -> bool {
        let Some(handover) = self.record.handover.take() else { return false };
        if promotion.cause == Some(Cause::Hang) || promotion.cause.is_none() && !self.revives {
            return false;
        }
        let took_ms = now.since(promotion.since);
        self.record.switchovers += 1;
        self.record.last_switchover = Some(Switchover { at: now, why: handover.why, took_ms });
        if !handover.id.is_empty() {
            if self.record.handed_over.len() >= MARKS_MAX {
                self.record.handed_over.remove(0);
            }
            self.record.handed_over.push(handover.id);
        }
        self.out.push(Action::Note(Note::SwitchedOver { why: handover.why, took_ms }));
        true
    }

    /// It was done; answered when a standby watches again.
    fn wait_for_whole_pair(&mut self, ask: &Ask) {
        if ask.wait {
            self.whole_waits.insert(ask.client);
            self.look_at_whole_waits();
        } else {
            self.answer_about_pair(ask.client, Ended::Well, "done".to_string());
        }
    }

    /// Is the pair whole again, for those who wait for that after a switchover?
    pub(super) fn look_at_whole_waits(&mut self) {
        if self.handing.is_some() || self.whole_waits.is_empty() {
            return;
        }
        let (result, text) = match self.standby.state {
            State::Watching { .. } | State::Off => (Ended::Well, "done".to_string()),
            _ if self.standby.failures >= STANDBY_FAILURES_MAX => {
                let reason = self.standby.reason.clone().unwrap_or_default();
                let text = format!("done, but the fresh standby fails: {reason}; see the log");
                (Ended::Badly, text)
            }
            _ => return,
        };
        for client in std::mem::take(&mut self.whole_waits) {
            self.answer_about_pair(client, result, text.clone());
        }
    }

    pub(super) fn answer_about_pair(&mut self, client: ClientId, result: Ended, text: String) {
        self.out.push(Action::AnswerAboutPair { client, result, text });
    }
}
