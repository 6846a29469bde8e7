//! How the pair ends: on record first, then the servers (if asked), the standby, the active.
//!
//! Must not decide what happens to servers that stay up (the shell leaves a mover behind). That
//! the pair is to be down is on record before anything else, so that whoever takes over or comes
//! back in the middle goes on with the ending instead of reviving the pair.

use super::ask::{Ask, Ended, Outcome, Verb};
use super::node::{Node, Role, Timer};
use super::record::{Ending, Held, Phase};
use super::server::Server;
use super::time::Ms;
use super::{Action, ClientId, EndAsked, Note, Wanted};

/// After `shutdownTimeout` everything is killed; said again so often.
const KILL_ALL_AGAIN_MS: u64 = 5_000;

/// How far the ending is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Who waits for the end.
    pub clients: Vec<ClientId>,
    pub told_standby: bool,
    pub exited: bool,
}

impl Node {
    /// Somebody asked for the end of the pair.
    pub(super) fn ask_to_end(&mut self, now: Ms, ask: Ask, stop_servers: bool, force: bool) {
        let ending = self.record.ending.get_or_insert_with(|| Ending {
            stop_servers,
            since: now,
            ids: Vec::new(),
            done: false,
            failed: None,
        });
        // Asked twice, the more thorough wish counts.
        let is_new_stop = stop_servers && (!ending.stop_servers || ending.ids.is_empty());
        ending.stop_servers |= stop_servers;
        if ending.ids.len() < super::ask::MARKS_MAX && !ending.ids.contains(&ask.id) {
            ending.ids.push(ask.id);
        }
        let stop_servers = ending.stop_servers;
        self.save_node();
        self.out.push(Action::Note(Note::Ending { stop_servers }));
        if self.ending.is_none() || is_new_stop {
            self.begin_ending(now);
        }
        if force && stop_servers {
            self.kill_all(now);
        }
        if let Some(progress) = &mut self.ending {
            match ask.wait {
                true => progress.clients.push(ask.client),
                false => self.out.push(Action::Answer { client: ask.client, outcomes: Vec::new() }),
            }
        }
    }

    /// Carries out what the record says, from the start or after a takeover in the middle.
    pub(super) fn begin_ending(&mut self, now: Ms) {
        let Some(ending) = self.record.ending.clone() else { return };
        let clients = self.ending.take().map(|old| old.clients).unwrap_or_default();
        self.ending = Some(Progress { clients, told_standby: false, exited: false });
        if ending.stop_servers {
            let all: Vec<_> = self.ids().collect();
            for id in all {
                self.bring_down_in_order(now, id, Held::Stop);
            }
            self.timers.set(Timer::Ending, Some(now.after(self.plan.shutdown_timeout_ms)));
        }
    }

    /// An essential server was given up: the pair ends, and says so with its exit status.
    pub(super) fn end_for_failure(&mut self, now: Ms, name: String) {
        let ids = vec!["essential".to_string()];
        let failed = Some(name);
        self.record.ending =
            Some(Ending { stop_servers: true, since: now, ids, done: false, failed });
        self.save_node();
        self.out.push(Action::Note(Note::Ending { stop_servers: true }));
        self.begin_ending(now);
    }

    /// `shutdownTimeout` is over.
    pub(super) fn on_ending_deadline(&mut self, now: Ms) {
        self.out.push(Action::Note(Note::ShutdownTimeout));
        self.kill_all(now);
        self.timers.set(Timer::Ending, Some(now.after(KILL_ALL_AGAIN_MS)));
    }

    fn kill_all(&mut self, now: Ms) {
        let alive: Vec<_> =
            self.ids().filter(|id| !self.servers[id.0].rec.phase.is_gone()).collect();
        for id in alive {
            self.with_server(id, |server, steps| server.kill(now, steps));
        }
    }

    /// Looks how far it is; called after every event.
    pub(super) fn advance_ending(&mut self, now: Ms) {
        let Some(progress) = &self.ending else { return };
        if progress.exited || self.role != Role::Active {
            return;
        }
        let stop_servers = self.record.ending.as_ref().is_some_and(|ending| ending.stop_servers);
        if stop_servers && !self.servers.iter().all(is_through) {
            return;
        }
        if !progress.told_standby {
            if let Some(progress) = &mut self.ending {
                progress.told_standby = true;
            }
            self.standby.stop(now, &self.plan, &mut self.out);
            self.arm_standby();
        }
        if self.standby.is_gone() {
            self.finish_ending(stop_servers);
        }
    }

    fn finish_ending(&mut self, stop_servers: bool) {
        if let Some(ending) = &mut self.record.ending {
            ending.done = true;
        }
        self.save_node();
        let is_any_alive = self.servers.iter().any(|server| server.rec.phase.process().is_some());
        if !stop_servers && is_any_alive {
            self.out.push(Action::LeaveMover);
        }
        if let Some(progress) = &mut self.ending {
            progress.exited = true;
            for client in std::mem::take(&mut progress.clients) {
                let outcomes = Vec::<Outcome>::new();
                self.out.push(Action::Answer { client, outcomes });
            }
        }
        self.out.push(Action::Note(Note::Ended));
        self.out.push(Action::Exit { code: 0 });
    }

    /// While the pair ends nothing is started any more. Killed may be what keeps it from ending.
    pub(super) fn refuses_while_ending(&mut self, ask: &Ask) -> bool {
        let Some(ending) = &self.record.ending else { return false };
        if ending.stop_servers && !ending.done && ask.verb == Verb::Kill {
            return false;
        }
        let outcomes = ask
            .servers
            .iter()
            .map(|id| self.servers[id.0].outcome_now(Ended::Badly, "the pair is ending"))
            .collect();
        self.out.push(Action::Answer { client: ask.client, outcomes });
        true
    }
}

/// Nothing of it is left to stop, and how it ended is known or was asked for long enough: nobody
/// asks after the pair's end. A stray process is not ours to end.
fn is_through(server: &Server) -> bool {
    let phase = &server.rec.phase;
    let is_down = phase.is_gone() || matches!(phase, Phase::Waiting { .. });
    is_down && server.status_due.is_none()
}

/// What the record of an ending means for who starts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Serve, with the servers wanted as they were.
    SameLife,
    /// Serve, and `autoStart` decides.
    NewLife,
    /// Go on ending.
    GoOn,
    /// All was done already: exit.
    Done,
}

impl Ending {
    /// The word that outlives both twins beside the journal.
    pub fn asked(&self) -> EndAsked {
        if self.stop_servers { EndAsked::ServersStop } else { EndAsked::ServersStay }
    }
}

/// The ending that a takeover or the keeper goes on with. Whether there is one is said by `asked`
/// alone, which is written before the record and is as old as this life of the pair. An ending that
/// is on record without it is the one of a life before: the newer file is damaged, or the disk
/// was full when this life began. What the record says of how far it is counts when the record is
/// whole; else all of it is done again, which does no harm.
pub fn believed(
    on_record: Option<Ending>,
    asked: Option<EndAsked>,
    is_whole: bool,
    now: Ms,
) -> Option<Ending> {
    let stop_servers = asked? == EndAsked::ServersStop;
    let anew = Ending { stop_servers, since: now, ids: Vec::new(), done: false, failed: None };
    match on_record {
        Some(ending) if is_whole => Some(ending),
        Some(Ending { since, ids, failed, .. }) => Some(Ending { since, ids, failed, ..anew }),
        None => Some(anew),
    }
}

/// A takeover or the keeper (`revives`) goes on with what is on record; a person who starts the
/// pair again wants it up.
pub fn resume(ending: Option<&Ending>, revives: bool) -> Resume {
    match ending {
        None => Resume::SameLife,
        Some(ending) if revives && ending.done => Resume::Done,
        Some(_) if revives => Resume::GoOn,
        Some(ending) if ending.stop_servers => Resume::NewLife,
        Some(_) => Resume::SameLife,
    }
}

/// A server of a life that has ended is wanted by nobody.
pub fn wanted_in_new_life(auto_start: bool) -> Wanted {
    if auto_start { Wanted::Up } else { Wanted::Down }
}
