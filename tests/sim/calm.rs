//! After the chaos: faults end, and within ten minutes everything must be as it should.
//!
//! Must not help the core; it only lets what was stopped go on, and types `run` when nobody is
//! left to revive the pair.

use crate::os::What;
use crate::world::World;
use nodemanager::core::node::Role;
use nodemanager::core::order::Obstacle;
use nodemanager::core::{Phase, ServerId, Wanted};

const CALM_MS: u64 = 600_000;
const LOOK_EVERY_MS: u64 = 500;

impl World {
    /// A whole run: chaos, then calm, then what must be true.
    pub fn run(&mut self) {
        let chaos_ends = self.now + self.plan.weather.chaos_ms;
        let early = self.plan.shutdown.filter(|_| self.plan.shutdown_early);
        if let Some(stop_servers) = early {
            self.run_until(chaos_ends / 2);
            self.ask_to_end(stop_servers);
        }
        self.run_until(chaos_ends);
        self.calm();
        if let Some(stop_servers) = self.plan.shutdown {
            if early.is_none() && self.failure.is_none() {
                self.expect_settled();
                self.ask_to_end(stop_servers);
            }
            self.expect_ended(stop_servers);
            if self.failure.is_none() {
                // Somebody starts it again: what stayed up is adopted.
                self.dismiss_clients();
                self.clients.is_closing = true;
                self.plan.shutdown = None;
                self.run_command();
            }
        }
        self.expect_settled();
    }

    pub fn run_until(&mut self, until: u64) {
        while self.now < until && self.failure.is_none() {
            self.look_at_guard();
            if !self.step() {
                return;
            }
        }
    }

    fn look_at_guard(&mut self) {
        if let Some(problem) = self.clients.at_most_once.take() {
            self.fail(|| problem);
        }
    }

    /// The faults stop.
    pub fn calm(&mut self) {
        self.note(|| "calm".to_string());
        self.weather.on = false;
        self.disk.is_full = false;
        self.fork_refused = false;
        self.clients.is_closing = true;
        let twins: Vec<_> = self.twins.keys().copied().collect();
        for uid in twins.into_iter().chain(self.keeper.as_ref().map(|keeper| keeper.uid)) {
            self.continues(uid);
        }
    }

    fn wait_for(&mut self, what: &str, is_so: impl Fn(&World) -> Option<String>) {
        let until = self.now + CALM_MS;
        let mut well_since = None;
        let mut problem = String::new();
        while self.now < until && self.failure.is_none() {
            self.look_at_list();
            self.end_maintenance();
            match is_so(self) {
                None => {
                    // It stays so for a while.
                    let since = *well_since.get_or_insert(self.now);
                    if self.now >= since + 2_000 {
                        return;
                    }
                }
                Some(why) => (well_since, problem) = (None, why),
            }
            if self.keeper.is_none() && !self.ended {
                self.run_command();
            }
            let next = self.now + LOOK_EVERY_MS;
            self.run_until(next);
            // Nothing is left to happen: only time goes by.
            self.now = self.now.max(next);
        }
        self.fail(|| format!("{what} after ten minutes of calm: {problem}"));
    }

    pub fn expect_settled(&mut self) {
        self.wait_for("not settled", World::why_not_settled);
    }

    pub fn expect_ended(&mut self, stop_servers: bool) {
        if self.keeper.is_none() && !self.ended {
            self.run_command();
        }
        if self.guard.disk_troubles > 0 || self.counts.runs > 1 || self.counts.joins > 0 {
            // The wish itself may be lost (with a keeper that was killed before it was answered), or
            // somebody typed `run` after it, who wants the pair up: it is asked for again.
            let next = self.now + 20_000;
            self.run_until(next);
            if !self.ended && self.active().is_some() {
                self.ask_to_end(stop_servers);
            }
        }
        self.wait_for("not ended", |world| world.why_not_ended(stop_servers));
    }

    fn why_not_settled(&self) -> Option<String> {
        let Some(active) = self.active() else { return Some("nobody serves".to_string()) };
        if self.ended {
            return Some("the pair has ended".to_string());
        }
        let node = active.node.as_ref()?;
        let watching = self.twins.values().filter(|twin| twin.watches == Some(active.uid)).count();
        let has_standby = self.plan.pair.has_standby;
        if has_standby && !(node.standby.is_watching() && watching == 1) {
            return Some(format!("the standby is {:?}, {watching} are there", node.standby.state));
        }
        if self.twins.len() != 1 + usize::from(has_standby) {
            return Some(format!("{} twins live", self.twins.len()));
        }
        if node.record.maintenance {
            return Some("maintenance is on".to_string());
        }
        if !self.clients.are_served() {
            let phases: Vec<&Phase> = node.servers.iter().map(|one| &one.rec.phase).collect();
            return Some(format!("clients wait: {:?}, {phases:?}", self.clients.what_is_open()));
        }
        (0..self.plan.servers.len()).find_map(|server| self.why_server_not_settled(server))
    }

    fn why_server_not_settled(&self, server: usize) -> Option<String> {
        let node = self.active()?.node.as_ref()?;
        let record = &node.servers.get(server)?.rec;
        let (phase, record_id) = (&record.phase, ServerId(server));
        let alive: Vec<_> = self.os.running(server).collect();
        let has_losses = self.guard.disk_troubles > 0;
        let leader = phase.process().and_then(|process| self.os.by_identity(process));
        if record.disabled != self.disabled.contains(record.name.as_str()) {
            return Some(format!("server {server}: the list says {:?}", self.disabled));
        }
        let why = |text: &str| Some(format!("server {server} {text}: {phase:?}, {alive:?}"));
        let is_of = |uid: u64| {
            matches!(self.os.get(uid).map(|one| one.what),
                Some(What::Member { leader: of, .. }) if Some(of) == leader)
        };
        if let Some(problem) = self.forgotten_task(server).filter(|_| !has_losses) {
            return Some(problem);
        }
        if phase.is_gone() && !alive.is_empty() {
            return why("has orphans");
        }
        if leader.is_some() && alive.iter().any(|(uid, _)| Some(*uid) != leader && !is_of(*uid)) {
            return why("has orphans");
        }
        if !self.guard.asked_down[server] && record.wanted != Wanted::Up {
            return why("is not wanted, and nobody asked");
        }
        if record.wanted == Wanted::Down {
            let has_stray = matches!(phase, Phase::Waiting { .. }) && !alive.is_empty();
            return if phase.is_gone() || has_stray { None } else { why("is not down") };
        }
        if *phase == Phase::Queued && matches!(node.obstacle(record_id), Some(Obstacle::Need(_))) {
            return None;
        }
        let is_up = matches!(phase, Phase::Up { .. }) && leader.is_some();
        let is_well = self.plan.behaviours[server].is_well()
            && self.guard.bad_ends[server] == 0
            && self.guard.disk_troubles == 0;
        if is_well || is_up {
            return if is_up { None } else { why("is not up") };
        }
        match phase {
            // What carries its mark is not ours to end; it is waited for.
            Phase::Waiting { .. } if !alive.is_empty() => None,
            Phase::Down
            | Phase::Verifying { .. }
            | Phase::AtGate { .. }
            | Phase::Draining { .. }
            | Phase::Waiting { .. } => why("is stuck"),
            _ => None,
        }
    }

    fn why_not_ended(&self, stop_servers: bool) -> Option<String> {
        if !self.twins.is_empty() || self.keeper.is_some() {
            let roles: Vec<Option<Role>> =
                self.twins.values().map(|t| t.node.as_ref().map(|node| node.role)).collect();
            let active = self.active().and_then(|active| active.node.as_ref());
            let phases: Option<Vec<_>> = active.map(|node| {
                node.servers.iter().map(|s| (s.rec.wanted, s.rec.held, &s.rec.phase)).collect()
            });
            let keeper = self.keeper.is_some();
            return Some(format!("{roles:?} live, keeper: {keeper}, servers: {phases:?}"));
        }
        if !self.ended {
            return Some("nobody ended it".to_string());
        }
        // After a loss of records a helper without its leader is left alone.
        let has_losses = self.guard.disk_troubles > 0;
        let counts = |what: What| !has_losses || matches!(what, What::Leader { .. });
        let alive = |server: usize| self.os.running(server).any(|(_, one)| counts(one.what));
        let left = (0..self.plan.servers.len()).find(|server| alive(*server));
        if stop_servers && left.is_some() {
            return Some(format!("server {left:?} still lives"));
        }
        None
    }
}
