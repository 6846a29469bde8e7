//! What one server's state means for others: who may start, who must wait, who goes down first.
//!
//! Must not touch a server's phase itself: it tells a server that it may start, that it has to
//! stop, or that what it needs is gone. What has to be looked at again is derived from records, so
//! that a new active finds the same.

use super::ask::{Ask, Ended, Outcome, Reach, Verb};
use super::node::{Node, Role};
use super::plan::{Kind, OnFailure};
use super::record::{Held, Phase, Wanted};
use super::server::Server;
use super::time::Ms;
use super::{Action, Note, ServerId};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of all servers together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// Who needs a server, of each that is needed.
    dependants: BTreeMap<ServerId, Vec<(ServerId, OnFailure)>>,
    /// How many are on their way to being ready.
    starting: usize,
    queued: BTreeSet<ServerId>,
    held: BTreeSet<ServerId>,
    /// Those whose standing changed since the last look.
    changed: BTreeSet<ServerId>,
    /// Those that ended by themselves since then.
    lost: BTreeSet<ServerId>,
    /// Those that are ready again after they had ended by themselves.
    back: BTreeSet<ServerId>,
}

/// What others see of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    is_starting: bool,
    is_ready: bool,
    is_gone: bool,
    is_lost: bool,
    is_queued: bool,
    is_held: bool,
    /// An order that waits for it can be carried out as far as its own phase goes.
    is_releasable: bool,
    is_failed: bool,
    /// An order that waits can go on when this ends.
    is_verifying: bool,
}

/// Why a server that is to be started is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// That server is not ready.
    Need(ServerId),
    /// Too many are starting.
    Places,
}

impl Server {
    pub(super) fn standing(&self) -> Standing {
        Standing {
            is_starting: self.rec.phase.is_starting(),
            is_ready: self.is_ready(),
            is_gone: is_out_of_the_way(&self.rec.phase),
            is_lost: self.rec.lost,
            is_queued: self.rec.phase == Phase::Queued,
            is_held: self.rec.held.is_some(),
            is_releasable: self.rec.held.is_some() && can_be_brought_down(&self.rec.phase),
            is_failed: self.rec.phase == Phase::Failed,
            is_verifying: matches!(self.rec.phase, Phase::Verifying { .. }),
        }
    }

    /// Those that need it may start.
    pub fn is_ready(&self) -> bool {
        match self.rec.phase {
            Phase::Up { .. } => self.rec.wanted == Wanted::Up && self.rec.held.is_none(),
            Phase::Exited => self.plan.kind == Kind::Oneshot,
            _ => false,
        }
    }

    /// Nobody can say when, or whether, it becomes ready.
    fn is_hopeless(&self) -> bool {
        match self.rec.phase {
            Phase::Failed | Phase::Backoff { .. } | Phase::Waiting { .. } => true,
            Phase::Exited => self.plan.kind != Kind::Oneshot,
            _ => self.rec.wanted == Wanted::Down,
        }
    }
}

/// Nothing of it is left, or nothing that is ours to stop.
fn is_out_of_the_way(phase: &Phase) -> bool {
    phase.is_gone() || matches!(phase, Phase::Waiting { .. })
}

/// What is being told apart, or is just beginning, is not brought down yet.
fn can_be_brought_down(phase: &Phase) -> bool {
    !matches!(phase, Phase::Verifying { .. } | Phase::Spawning { .. } | Phase::Seeking { .. })
}

impl Node {
    /// Begins with the servers as they are on record.
    pub(super) fn begin_order(&mut self) {
        let mut order = Order::default();
        for server in &self.servers {
            for need in &server.plan.needs {
                if need.server.0 < self.servers.len() {
                    let list = order.dependants.entry(need.server).or_default();
                    list.push((server.id, need.on_failure));
                }
            }
            order.starting += usize::from(server.rec.phase.is_starting());
            order.changed.insert(server.id);
            if server.rec.phase == Phase::Queued {
                order.queued.insert(server.id);
            }
            if server.rec.held.is_some() {
                order.held.insert(server.id);
            }
            if server.rec.lost {
                order.lost.insert(server.id);
            }
        }
        self.order = order;
    }

    /// One server did something.
    pub(super) fn note_standing(&mut self, id: ServerId, before: Standing) {
        let Some(after) = self.servers.get(id.0).map(Server::standing) else { return };
        if before == after {
            return;
        }
        let order = &mut self.order;
        order.changed.insert(id);
        order.starting += usize::from(after.is_starting);
        order.starting = order.starting.saturating_sub(usize::from(before.is_starting));
        put(&mut order.queued, id, after.is_queued);
        put(&mut order.held, id, after.is_held);
        if after.is_lost && !before.is_lost {
            order.lost.insert(id);
        }
        if before.is_lost && after.is_ready {
            order.back.insert(id);
        }
    }

    /// What it means for others is looked at in the next turn, as if it had changed.
    pub(super) fn look_again(&mut self, id: ServerId) {
        self.order.changed.insert(id);
    }

    /// Looks at what has changed until nothing more follows from it.
    pub(super) fn settle_order(&mut self, now: Ms) {
        if self.role != Role::Active {
            return;
        }
        // Each round moves a server at least one phase on; the limit is for a mistake in this file.
        let mut rounds = 8 + 4 * self.servers.len();
        while !self.order.changed.is_empty() && rounds > 0 {
            rounds -= 1;
            let changed = std::mem::take(&mut self.order.changed);
            for id in std::mem::take(&mut self.order.lost) {
                self.tell_dependants(now, id, OnFailure::Stop);
            }
            for id in std::mem::take(&mut self.order.back) {
                self.tell_dependants(now, id, OnFailure::Restart);
            }
            for id in self.order.held.clone() {
                self.release_if_free(now, id);
            }
            self.admit_queued(now);
            for id in &changed {
                self.look_at_essential(now, *id);
            }
            self.look_at_queued_waits(&changed);
        }
    }

    /// What a start waits for may lie behind others that wait: where somebody needs one that changed,
    /// each of them is looked at.
    fn look_at_queued_waits(&mut self, changed: &BTreeSet<ServerId>) {
        let order = &self.order;
        let is_needed = |id: &ServerId| order.dependants.contains_key(id);
        let among = if changed.iter().any(is_needed) { &order.queued } else { changed };
        let is_waited_for =
            |id: &&ServerId| order.queued.contains(id) && self.waits.contains_key(id);
        let waits: Vec<ServerId> = among.iter().filter(is_waited_for).copied().collect();
        waits.into_iter().for_each(|id| self.look_at_waits(id));
    }

    fn dependants(&self, id: ServerId) -> Vec<(ServerId, OnFailure)> {
        self.order.dependants.get(&id).cloned().unwrap_or_default()
    }

    fn tell_dependants(&mut self, now: Ms, need: ServerId, kind: OnFailure) {
        for (id, on_failure) in self.dependants(need) {
            let process = self.servers[id.0].rec.phase.process();
            let is_up = self.servers[id.0].rec.wanted == Wanted::Up && process.is_some();
            // Started after the need came back, it has never seen the one that ended. (The record
            // may not know of that return: the disk was full.)
            let back = self.servers[need.0].rec.phase.process();
            let is_newer = kind == OnFailure::Restart
                && process.zip(back).is_some_and(|(own, back)| own.start_ticks >= back.start_ticks);
            // One that is disabled would not come back.
            let stays = kind == OnFailure::Restart && self.servers[id.0].rec.disabled;
            if on_failure != kind || !is_up || is_newer || stays {
                continue;
            }
            let name = &self.servers[need.0].rec.name;
            let reason = match kind {
                OnFailure::Restart => format!("{name}, which it needs, ended and is back"),
                OnFailure::Stop | OnFailure::Keep => format!("{name}, which it needs, ended"),
            };
            if self.record.maintenance {
                continue;
            }
            self.out.push(Action::Note(Note::NeedLost { server: id, need }));
            self.with_server(id, |server, steps| server.lose_need(now, reason, steps));
        }
    }

    /// An order that waits for dependants: is one of them still on its way down?
    fn release_if_free(&mut self, now: Ms, id: ServerId) {
        if !can_be_brought_down(&self.servers[id.0].rec.phase) {
            return;
        }
        let is_in_the_way = |id: &ServerId| {
            let one = &self.servers[id.0].rec;
            let goes_down = one.wanted == Wanted::Down
                || one.held.is_some()
                || matches!(
                    one.phase,
                    Phase::Stopping { .. } | Phase::Draining { .. } | Phase::Closing { .. }
                );
            goes_down && !is_out_of_the_way(&one.phase)
        };
        let dependants = self.order.dependants.get(&id);
        if !dependants.is_some_and(|all| all.iter().any(|(id, _)| is_in_the_way(id))) {
            self.with_server(id, |server, steps| server.release(now, steps));
        }
    }

    fn admit_queued(&mut self, now: Ms) {
        let mut from = ServerId(0);
        while self.has_place()
            && let Some(&id) = self.order.queued.range(from..).next()
        {
            if self.obstacle(id).is_none() {
                self.with_server(id, |server, steps| server.admit(now, steps));
            }
            from = ServerId(id.0 + 1);
        }
    }

    fn has_place(&self) -> bool {
        self.order.starting < self.plan.starts_max.max(1)
    }

    /// Why a server that is to be started is not.
    pub fn obstacle(&self, id: ServerId) -> Option<Obstacle> {
        let plan = &self.servers.get(id.0)?.plan;
        let is_ready = |id: ServerId| self.servers.get(id.0).is_none_or(|server| server.is_ready());
        match plan.needs.iter().find(|need| !is_ready(need.server)) {
            Some(need) => Some(Obstacle::Need(need.server)),
            None => (!self.has_place()).then_some(Obstacle::Places),
        }
    }

    /// What a start that waits can be told: nothing while it may still come by itself.
    pub(super) fn hopeless_wait(&self, id: ServerId) -> Option<Outcome> {
        let server = self.servers.get(id.0)?;
        let mut need = server;
        // Needs have no cycles; the limit is for a mistake elsewhere.
        for _ in 0..self.servers.len() {
            if need.rec.phase != Phase::Queued {
                break;
            }
            let Some(Obstacle::Need(next)) = self.obstacle(need.id) else { return None };
            need = self.servers.get(next.0)?;
        }
        if need.id == id || !need.is_hopeless() {
            return None;
        }
        let name = &need.rec.name;
        if need.rec.disabled {
            let text =
                format!("waits for {name}, which is disabled; `nodemanager enable --now {name}`");
            return Some(server.outcome_now(Ended::Badly, &text));
        }
        let state = match &need.rec.phase {
            Phase::Failed => "is FAILED",
            Phase::Backoff { .. } => "failed and is tried again",
            Phase::Exited => "has ended",
            Phase::Waiting { .. } => "waits for the end of an older copy",
            _ => "is not wanted up",
        };
        let text = format!("waits for {name}, which {state}; it starts when {name} is ready");
        Some(server.outcome_now(Ended::Badly, &text))
    }

    /// Down, or down and up again, after those that need it and go down too.
    pub(super) fn bring_down_in_order(&mut self, now: Ms, id: ServerId, order: Held) {
        let is_free = self.order.dependants.get(&id).is_none_or(Vec::is_empty);
        self.with_server(id, |server, steps| match order {
            Held::Stop if is_free => server.stop(now, steps),
            Held::Drain if is_free => server.drain(now, steps),
            Held::Restart if is_free => server.restart(now, steps),
            order => server.hold(order, steps),
        });
    }

    /// Those that run, are wanted, need one of these directly or not, and are not among them.
    fn running_dependants(&self, of: &[ServerId]) -> Vec<ServerId> {
        let mut seen: BTreeSet<ServerId> = of.iter().copied().collect();
        let mut ahead: Vec<ServerId> = of.to_vec();
        let mut found = Vec::new();
        while let Some(id) = ahead.pop() {
            for (dependant, _) in self.dependants(id) {
                if !seen.insert(dependant) {
                    continue;
                }
                ahead.push(dependant);
                let one = &self.servers[dependant.0].rec;
                if one.wanted == Wanted::Up && !is_out_of_the_way(&one.phase) {
                    found.push(dependant);
                }
            }
        }
        found.sort();
        found
    }

    /// Whom a stop or a restart is for, or why it is refused.
    pub(super) fn reach(&self, ask: &Ask) -> Result<Vec<ServerId>, Vec<Outcome>> {
        let mut servers: Vec<ServerId> =
            ask.servers.iter().copied().filter(|id| id.0 < self.servers.len()).collect();
        if !matches!(ask.verb, Verb::Stop | Verb::Restart | Verb::Drain) || ask.reach == Reach::Only
        {
            return Ok(servers);
        }
        if ask.reach == Reach::Dependants {
            servers.extend(self.running_dependants(&servers));
        }
        // Asked for, and goes on running all the same.
        let stays =
            |id: &ServerId| ask.verb == Verb::Drain && self.servers[id.0].plan.drain.is_none();
        let refusal = |id: &ServerId| {
            let mut others = self.running_dependants(&[*id]);
            others.retain(|other| !servers.contains(other) || stays(other));
            let names: Vec<&str> =
                others.iter().map(|id| self.servers[id.0].rec.name.as_str()).collect();
            let what = match others.iter().any(stays) {
                true => "a drain does not end all of them: stop them first",
                false => "--dependants: these too",
            };
            let names_text = names.join(", ");
            let text = format!("needed by {names_text}; {what}, --only: leave them as they are");
            let was_asked = self.servers[id.0].mark(&ask.id).is_some();
            (!names.is_empty() && !was_asked)
                .then(|| self.servers[id.0].outcome_now(Ended::Badly, &text))
        };
        let refused: Vec<Outcome> = servers.iter().filter_map(refusal).collect();
        if refused.is_empty() { Ok(servers) } else { Err(refused) }
    }

    /// What a server needs is started with it, if somebody had stopped it or nobody had started it.
    pub(super) fn start_needs(&mut self, id: ServerId) {
        let mut seen = BTreeSet::from([id]);
        let mut ahead = vec![id];
        while let Some(id) = ahead.pop() {
            let needs: Vec<ServerId> =
                self.servers[id.0].plan.needs.iter().map(|need| need.server).collect();
            for need in needs {
                if need.0 >= self.servers.len() || !seen.insert(need) {
                    continue;
                }
                ahead.push(need);
                let rec = &self.servers[need.0].rec;
                let is_down = rec.wanted == Wanted::Down || self.is_left_undone(need);
                if is_down && !rec.disabled {
                    self.with_server(need, |server, steps| server.start(steps));
                }
            }
        }
    }

    /// An essential server that was given up ends the pair.
    fn look_at_essential(&mut self, now: Ms, id: ServerId) {
        let server = &self.servers[id.0];
        let is_over = server.plan.essential && server.rec.phase == Phase::Failed;
        if is_over && self.record.ending.is_none() && !self.record.maintenance {
            let name = server.rec.name.to_string();
            self.out.push(Action::Note(Note::EssentialFailed(id)));
            self.end_for_failure(now, name);
        }
    }
}

fn put(set: &mut BTreeSet<ServerId>, id: ServerId, is_in: bool) {
    if is_in {
        set.insert(id);
    } else {
        set.remove(&id);
    }
}
