//! The keeper's process, and `run`, which makes one.
//!
//! Must not decide (`core::keeper` does).

use crate::os::{Uid, What};
use crate::world::{Due, World};
use nodemanager::core::ask::{Ask, Reach, Verb};
use nodemanager::core::keeper::{Action, Event, Keeper, TwinRole, TwinSeen};
use nodemanager::core::{self, ClientId, Exit};
use std::collections::VecDeque;

/// The keeper's connection to the active.
pub const KEEPER_CLIENT: ClientId = ClientId(0);

pub struct KeeperProc {
    pub uid: Uid,
    core: Keeper,
    pub stopped: bool,
    /// It started the pair, so orphans land with it.
    is_ancestor: bool,
    /// The active that it started last.
    started: Option<Uid>,
    inbox: VecDeque<Event>,
    todo: VecDeque<Action>,
}

impl KeeperProc {
    pub fn next(&self, now: u64) -> Option<u64> {
        if self.stopped {
            return None;
        }
        if !self.todo.is_empty() || !self.inbox.is_empty() {
            return Some(now);
        }
        Some(self.core.deadline().0.max(now))
    }
}

impl World {
    /// A person types `run`: it starts the pair, or joins one that has no keeper.
    pub fn run_command(&mut self) {
        if self.keeper.is_some() {
            return;
        }
        let now = self.ms();
        let Some(uid) = self.os.fork(&mut self.rng, now, 0, What::Keeper) else { return };
        let pair = &self.plan.pair;
        let (interval_ms, timeout_ms) = (pair.heartbeat_interval_ms, pair.heartbeat_timeout_ms);
        let mut out = Vec::new();
        let joins = !self.twins.is_empty();
        self.counts.runs += u64::from(!joins);
        self.counts.joins += u64::from(joins);
        let core = match joins {
            true => Keeper::join(now, interval_ms, timeout_ms),
            false => {
                // A new pulse.
                self.slots = Default::default();
                self.end_asked = None;
                self.ended = false;
                Keeper::start(now, interval_ms, timeout_ms, &mut out)
            }
        };
        self.note(|| format!("run: keeper {uid}, joins: {joins}"));
        self.keeper = Some(KeeperProc {
            uid,
            core,
            stopped: false,
            is_ancestor: !joins,
            started: None,
            inbox: VecDeque::new(),
            todo: out.into(),
        });
    }

    pub fn step_keeper(&mut self) {
        let now = self.ms();
        let Some(mut keeper) = self.keeper.take() else { return };
        if let Some(action) = keeper.todo.pop_front() {
            let uid = keeper.uid;
            self.keeper = Some(keeper);
            if self.weather.on && self.rng.per_mille(self.plan.weather.kill_keeper) {
                return self.dies(uid, Exit::Signal(9));
            }
            self.note(|| format!("keeper {action:?}"));
            return self.keeper_does(action);
        }
        let mut out = Vec::new();
        let ticks = keeper.inbox.is_empty();
        if let Some(event) = keeper.inbox.pop_front() {
            if let Event::StartedExited { .. } = event {
                keeper.core.handle(now, Event::Look(self.look()), &mut out);
            }
            keeper.core.handle(now, event, &mut out);
        } else {
            if keeper.core.wants_look(now) {
                keeper.core.handle(now, Event::Look(self.look()), &mut out);
            }
            keeper.core.tick(now, &mut out);
        }
        keeper.todo.extend(out);
        let is_stuck = ticks && keeper.todo.is_empty() && keeper.core.deadline() <= now;
        let state = format!("{:?}", is_stuck.then_some(&keeper.core));
        self.keeper = Some(keeper);
        if is_stuck {
            self.fail(|| format!("the keeper's deadline does not move: {state}"));
        }
    }

    fn look(&self) -> [TwinSeen; 2] {
        self.slots.map(|slot| TwinSeen {
            role: slot.role.unwrap_or(TwinRole::None),
            counter: slot.counter,
            alive: self.twins.contains_key(&slot.uid),
        })
    }

    fn keeper_does(&mut self, action: Action) {
        match action {
            Action::Start { revives } => {
                let parent = self.keeper.as_ref().map_or(0, |keeper| keeper.uid);
                let uid = match self.fork_refused {
                    true => None,
                    false => self.new_twin(parent, 0),
                };
                let Some(keeper) = &mut self.keeper else { return };
                let Some(uid) = uid else { return keeper.inbox.push_back(Event::StartFailed) };
                keeper.started = Some(uid);
                keeper.is_ancestor = true;
                let delay_ms = self.rng.range(20, 60);
                self.at(delay_ms, Due::TwinStarts { uid, watches: None, revives });
            }
            Action::KillTwins => {
                for slot in self.slots {
                    self.kill_twin(slot.uid);
                }
            }
            Action::AskToEnd { force } => {
                let Some(active) = self.active().map(|twin| twin.uid) else { return };
                let verb = Verb::Shutdown { stop_servers: true, force };
                let ask = Ask {
                    client: KEEPER_CLIENT,
                    id: "sigterm".to_string(),
                    verb,
                    servers: Vec::new(),
                    wait: false,
                    reach: Reach::Refuse,
                };
                let delay_ms = self.rng.below(10);
                self.at(delay_ms, Due::Event(active, Box::new(core::Event::Asked(ask)), None));
            }
            Action::Exit { .. } => {
                if let Some(keeper) = &self.keeper {
                    self.dies(keeper.uid, Exit::Code(0));
                }
            }
            Action::Note(_) => {}
        }
    }

    /// SIGTERM to the keeper.
    pub fn ask_keeper_to_end(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.inbox.push_back(Event::AskedToEnd);
        }
    }

    pub fn keeper_answered(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.inbox.push_back(Event::EndAnswered);
        }
    }

    pub fn keeper_dies(&mut self, uid: Uid) {
        self.os.procs.remove(&uid);
        self.keeper = None;
    }

    pub fn started_twin_died(&mut self, uid: Uid, exit: Exit) {
        let Some(keeper) = &mut self.keeper else { return };
        if keeper.started == Some(uid) {
            let code = match exit {
                Exit::Code(code) => code as u8,
                _ => 137,
            };
            keeper.started = None;
            keeper.inbox.push_back(Event::StartedExited { code });
        }
    }

    pub fn keeper_is_ancestor(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.is_ancestor)
    }

    pub fn keeper_is_stopped(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.stopped)
    }

    pub fn keeper_continues(&mut self, uid: Uid) {
        if let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.uid == uid) {
            keeper.stopped = false;
        }
    }
}
