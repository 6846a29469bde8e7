//! A twin's process: it carries out its actions one by one, and hands events to its core.
//!
//! Must not carry anything out itself (`actions.rs` does). Between any two actions it may be
//! killed, and while one is left no event is read, as in the shell's loop.

use crate::os::{Uid, What};
use crate::world::{Slot, World};
use nodemanager::core::keeper::TwinRole;
use nodemanager::core::node::Role;
use nodemanager::core::task::TaskEnd;
use nodemanager::core::{Action, Entry, Event, Exit, Node};
use std::collections::{BTreeMap, VecDeque};

/// One living node manager process.
pub struct Twin {
    pub uid: Uid,
    pub slot: usize,
    /// None until it got to run.
    pub node: Option<Node>,
    /// What it still has to carry out, each with the request that caused it.
    pub todo: VecDeque<(Action, Option<usize>)>,
    pub inbox: VecDeque<(Event, Option<u64>)>,
    /// It does nothing before.
    pub busy_until: u64,
    pub stopped: bool,
    /// SIGKILL was sent: it runs no instruction of its own any more.
    pub killed: bool,
    /// The active that it watches.
    pub watches: Option<Uid>,
    /// Its standby.
    pub standby: Option<Uid>,
    pub link: Option<u64>,
    /// Servers' processes it holds a watched pidfd of, besides its children.
    pub watched: Vec<Uid>,
    /// The command beside each server: its number, and its process.
    pub tasks: BTreeMap<usize, (u64, Uid)>,
    pub serves: bool,
    /// Its last two heartbeats.
    pub beats: [u64; 2],
    /// What disk and copy said when it read the journal: what was saved, and all that was there.
    pub read: Option<[BTreeMap<String, Entry>; 2]>,
    /// When the last event of each stream arrives.
    pub last: [u64; 3],
}

impl World {
    /// A new twin's process, not running yet.
    pub fn new_twin(&mut self, parent: Uid, slot: usize) -> Option<Uid> {
        let now = self.ms();
        let uid = self.os.fork(&mut self.rng, now, parent, What::Twin)?;
        self.twins.insert(
            uid,
            Twin {
                uid,
                slot,
                node: None,
                todo: VecDeque::new(),
                inbox: VecDeque::new(),
                busy_until: self.now,
                stopped: false,
                killed: false,
                watches: None,
                standby: None,
                link: None,
                watched: Vec::new(),
                tasks: BTreeMap::new(),
                serves: false,
                beats: [self.now; 2],
                read: None,
                last: [0; 3],
            },
        );
        self.slots[slot] = Slot { uid, role: None, counter: 0 };
        Some(uid)
    }

    pub fn step_twin(&mut self, uid: Uid) {
        let Some(mut twin) = self.twins.remove(&uid) else { return };
        twin.busy_until = self.now;
        if let Some((action, cause)) = twin.todo.pop_front() {
            if self.weather.on && self.rng.per_mille(self.plan.weather.kill_at_action) {
                self.note(|| format!("twin {uid} is killed before {action:?}"));
                self.twins.insert(uid, twin);
                self.counts.kills += 1;
                return self.dies(uid, Exit::Signal(9));
            }
            // Most actions cost no time; some cost a moment.
            twin.busy_until += u64::from(self.rng.per_mille(100));
            self.twins.insert(uid, twin);
            if action != Action::Beat || shows_beats() {
                self.note(|| format!("twin {uid} {}", brief(&action)));
            }
            self.carry_out(uid, action, cause);
        } else {
            self.think(&mut twin);
            self.twins.insert(uid, twin);
            self.set_role(uid);
        }
        self.check_twin(uid);
    }

    /// Hands the next event, or the time, to the core.
    fn think(&mut self, twin: &mut Twin) {
        let now = self.ms();
        let Some(node) = &mut twin.node else { return };
        let is_due = node.deadline().is_some_and(|at| at <= now);
        let mut out = Vec::new();
        let (mut cause, mut told) = (None, None);
        if twin.inbox.is_empty() || (is_due && self.rng.per_mille(500)) {
            node.tick(now, &mut out);
            // What was done may have armed one that is due at once; then the next tick is its.
            if out.is_empty() && node.deadline().is_some_and(|at| at <= now) {
                let timers = node.armed();
                self.fail(|| format!("a deadline does not move: {timers:?}"));
            }
        } else if let Some((event, link)) = twin.inbox.pop_front() {
            match (&event, link) {
                (Event::LinkUp | Event::StandbyConnected, Some(_)) => twin.link = link,
                (Event::LinkDown | Event::StandbyLinkLost, Some(_)) if twin.link == link => {
                    twin.link = None;
                }
                (_, Some(_)) if twin.link != link => return,
                _ => {}
            }
            if let Event::Asked(ask) = &event {
                cause = self.clients.request_of(ask.client);
                self.clients.taken_in(cause, &ask.id);
                self.guard.asked(&mut self.os, ask);
            }
            let is_beat =
                matches!(event, Event::Pulse { .. } | Event::ActiveHeard | Event::StandbyHeard);
            if let Some(trace) = self.trace.as_mut().filter(|_| !is_beat || shows_beats()) {
                if trace.len() >= self.trace_length {
                    trace.pop_front();
                }
                trace.push_back(format!("{:>7} twin {} <- {event:?}", self.now, twin.uid));
            }
            if let Event::TaskEnded { server, number, end: TaskEnd::Exited(exit) } = &event
                && !matches!(exit, Exit::Unknown | Exit::Signal(9))
            {
                let one = &node.servers[server.0];
                told = one.waits_for(*number).map(|kind| (*server, kind, one.rec.start_number));
            }
            node.handle(now, event, &mut out);
        }
        twin.todo.extend(out.into_iter().map(|action| (action, cause)));
        if let Some((server, kind, start)) = told {
            self.task_is_told(twin.uid, server, kind, start);
        }
    }

    /// What the twin says of itself in the pulse.
    pub fn set_role(&mut self, uid: Uid) {
        let Some(twin) = self.twins.get(&uid) else { return };
        let Some(node) = &twin.node else { return };
        let role = match node.role {
            Role::Standby => TwinRole::Standby,
            Role::Promoting if twin.watches.is_none() => TwinRole::Starting,
            Role::Promoting => TwinRole::Promoting,
            Role::Active if twin.serves => TwinRole::Serving,
            Role::Active => TwinRole::Starting,
            Role::Ended => return,
        };
        if self.slots[twin.slot].uid == uid {
            self.slots[twin.slot].role = Some(role);
        }
    }
}

impl Twin {
    pub fn next(&self, now: u64) -> Option<u64> {
        if self.stopped || self.killed {
            return None;
        }
        let node = self.node.as_ref()?;
        if !self.todo.is_empty() || !self.inbox.is_empty() {
            return Some(self.busy_until.max(now));
        }
        node.deadline().map(|at| at.0.max(self.busy_until).max(now))
    }
}

/// An action on one line of the trace.
fn brief(action: &Action) -> String {
    match action {
        Action::OpenJournal { entries, goes_on } => {
            format!("OpenJournal of {}, goes on: {goes_on}", entries.len())
        }
        Action::SendSnapshot { entries, seq } => format!("SendSnapshot of {} {seq}", entries.len()),
        other => format!("{other:?}"),
    }
}

/// Heartbeats fill a trace; they are shown on request.
fn shows_beats() -> bool {
    std::env::var_os("NM_SIM_BEATS").is_some()
}
