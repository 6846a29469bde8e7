//! The standby's view of the active: the link, the heartbeats, the pulse, death and hang.
//!
//! Must not take over (`promotion.rs` does); it only says that it is time. Death is certain: the
//! pidfd says it. A hang is concluded, so it needs two witnesses: the link silent *and* the pulse
//! still for the whole timeout, while this process was on time itself.

use super::copy::Latest;
use super::record::{Cause, Entry, Record};
use super::silence::{Silence, Verdict};
use super::time::Ms;
use super::{Action, Note, PairPlan};

/// A broken link is connected again after this.
pub const CONNECT_AGAIN_MS: u64 = 100;
/// Hangs within this time make the timeout grow.
pub const HANGS_WINDOW_MS: u64 = 600_000;
/// The timeout doubles with each hang, at most so many times.
pub const HANGS_DOUBLINGS_MAX: usize = 5;

/// The timeout that follows from the moments of earlier hangs.
pub fn grown_timeout_ms(hangs: &[Ms], now: Ms, plan: &PairPlan) -> u64 {
    let recent = hangs.iter().filter(|at| now.since(**at) < HANGS_WINDOW_MS).count();
    plan.heartbeat_timeout_ms << recent.min(HANGS_DOUBLINGS_MAX)
}

/// What a standby knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watch {
    is_linked: bool,
    /// When to connect (again).
    pub connect: Option<Ms>,
    /// All records have come, and all that a takeover needs is held.
    pub is_complete: bool,
    /// All records have come once. From then on a gate opens only for a record that is on disk
    /// or in this copy, so that the two together know every process.
    pub was_complete: bool,
    /// Of every server, and of the node, the copy has the latest record up to this one.
    pub known_seq: u64,
    silence: Silence,
    /// The copy: the latest record of each server (by its name), and of the node (by "").
    pub copy: Latest,
}

impl Watch {
    /// A standby that has just been started.
    pub fn new(now: Ms) -> Watch {
        Watch {
            is_linked: false,
            connect: None,
            is_complete: false,
            was_complete: false,
            known_seq: 0,
            silence: Silence::new(now),
            copy: Latest::default(),
        }
    }

    pub fn begin(&mut self, now: Ms, out: &mut Vec<Action>) {
        self.connect = Some(now.after(CONNECT_AGAIN_MS * 10));
        out.push(Action::Connect);
    }

    pub fn on_link_up(&mut self, now: Ms, out: &mut Vec<Action>) {
        self.is_linked = true;
        self.connect = None;
        self.silence.heard = now;
        out.push(Action::Note(Note::LinkUp));
    }

    /// The link broke: perhaps the active died (its pidfd will say), perhaps only the link did.
    pub fn on_link_down(&mut self, now: Ms, out: &mut Vec<Action>) {
        if std::mem::replace(&mut self.is_linked, false) {
            out.push(Action::Note(Note::LinkLost));
        }
        self.is_complete = false;
        self.connect = Some(now.after(CONNECT_AGAIN_MS));
    }

    pub fn on_heard(&mut self, now: Ms) {
        self.silence.heard = now;
    }

    /// A record: first what it needs is held, then it is acknowledged. The records of a snapshot
    /// share one number, so that they are acknowledged together, when the last one is here.
    pub fn on_copied(&mut self, now: Ms, entry: Entry, out: &mut Vec<Action>) {
        self.silence.heard = now;
        let seq = entry.seq;
        if let Record::Server(server) = &entry.record {
            let process = server.phase.process();
            let task = server.task.as_ref().and_then(|task| task.process);
            out.push(Action::Hold { name: server.name.clone(), process, task });
        }
        self.copy.put_if(entry, |old| old.seq < seq);
        if self.is_complete {
            // They come in their order, and none is left out while the link holds.
            self.known_seq = self.known_seq.max(seq);
            out.push(Action::Ack { seq });
        }
    }

    /// All records up to this one are here.
    pub fn on_copy_complete(&mut self, seq: u64, out: &mut Vec<Action>) {
        self.is_complete = true;
        self.was_complete = true;
        self.copy.shrink_to_fit();
        self.known_seq = self.known_seq.max(seq);
        out.push(Action::Ack { seq });
        out.push(Action::SayWatching);
    }

    pub fn on_connect_deadline(&mut self, now: Ms, out: &mut Vec<Action>) {
        self.connect = Some(now.after(CONNECT_AGAIN_MS * 10));
        out.push(Action::Connect);
    }

    /// The active has said that it ends, and that this twin goes on.
    pub fn is_handed_over(&self) -> bool {
        let node = self.copy.get("").map(|entry| &entry.record);
        matches!(node, Some(Record::Node(node)) if node.handover.is_some())
    }

    /// The timeout that applies now: it grows when hangs repeat, so that a dead disk, which stops
    /// every active in turn, does not become a storm.
    pub fn timeout_ms(&self, now: Ms, plan: &PairPlan) -> u64 {
        match self.copy.get("").map(|entry| &entry.record) {
            Some(Record::Node(node)) => grown_timeout_ms(&node.hangs, now, plan),
            _ => plan.heartbeat_timeout_ms,
        }
    }

    /// The active's pulse, looked at with every own heartbeat; says whether it is a hang.
    pub fn on_pulse(
        &mut self,
        now: Ms,
        counter: u64,
        late: bool,
        plan: &PairPlan,
        out: &mut Vec<Action>,
    ) -> Option<Cause> {
        let timeout_ms = self.timeout_ms(now, plan);
        match self.silence.look(now, counter, late, timeout_ms) {
            Verdict::Alive => None,
            Verdict::LinkIsBroken => {
                if self.is_linked {
                    out.push(Action::CloseLink);
                    out.push(Action::Note(Note::LinkRebuilt));
                    self.on_link_down(now, out);
                }
                None
            }
            Verdict::Hangs => {
                let silent_ms = now.since(self.silence.heard);
                out.push(Action::Note(Note::ActiveHung { silent_ms }));
                Some(Cause::Hang)
            }
        }
    }
}
