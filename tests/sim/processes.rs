//! What processes do by themselves: pass the gate, fork helpers, crash, die, are reaped.
//!
//! Must not know the core. Truth about every end is kept for the checks.

use crate::guard::Guard;
use crate::os::{Gate, State, Uid, What};
use crate::world::{Due, Stream, World};
use nodemanager::core::{Event, Exit, ServerId};

impl World {
    pub fn child_goes_on(&mut self, uid: Uid) {
        let Some(child) = self.os.get(uid) else { return };
        if let What::Task { .. } = child.what {
            return self.task_goes_on(uid);
        }
        let What::Leader { server, number } = child.what else { return };
        if child.state != State::AtGate {
            return;
        }
        let parent = child.parent;
        let has_parent = self.twins.contains_key(&parent);
        if !has_parent && child.gate == Gate::Waits {
            return self.dies(uid, Exit::Signal(9));
        }
        if !has_parent && self.rng.per_mille(500) {
            // Its parent's death signal was quicker than the byte at the gate.
            return self.dies(uid, Exit::Signal(9));
        }
        let behaviour = self.plan.behaviours[server];
        let may_wait = self.weather.on && has_parent && child.gate == Gate::Open;
        if may_wait && self.rng.per_mille(behaviour.locks) {
            return self.child_waits(uid, server, number);
        }
        if self.weather.on && self.rng.per_mille(behaviour.exec_fails / 3) {
            let error = "cannot open its output".to_string();
            let event =
                Event::ChildRefused { server: ServerId(server), start_number: number, error };
            self.tell(parent, Stream::Servers, event);
            return self.dies_soon(uid, 30, Exit::Code(127));
        }
        if self.rng.per_mille(behaviour.exec_fails) {
            let error = "cannot exec: no such file".to_string();
            let event =
                Event::ChildFailed { server: ServerId(server), start_number: number, error };
            self.tell(parent, Stream::Servers, event);
            self.guard.bad_ends[server] += 1;
            return self.dies_soon(uid, 30, Exit::Code(127));
        }
        crate::guard::at_exec(self, uid, server);
        let Some(child) = self.os.procs.get_mut(&uid) else { return };
        child.state = State::Running;
        child.deaf = behaviour.deaf;
        self.note(|| format!("process {uid} is server {server} #{number}"));
        let event = Event::Executed { server: ServerId(server), start_number: number };
        self.tell(parent, Stream::Servers, event);
        self.will_say_ready(uid, server);
        let ends = behaviour.crashes_after_ms.map(|ms| (ms, Exit::Code(1)));
        let ends = ends.or(behaviour.exits_after_ms.map(|ms| (ms, Exit::Code(0))));
        if let Some((about_ms, exit)) = ends {
            self.guard.bad_ends[server] += 1;
            self.dies_soon(uid, about_ms * 2, exit);
        }
        for _ in 0..behaviour.members {
            let delay_ms = self.rng.below(1_000);
            self.at(delay_ms, Due::ForkMember(uid));
        }
    }

    /// Somebody else holds its lock, for a time that may be longer than it waits.
    fn child_waits(&mut self, uid: Uid, server: usize, number: u64) {
        let Some(child) = self.os.procs.get_mut(&uid) else { return };
        child.gate = Gate::Waits;
        child.has_waited = true;
        let (parent, timeout_ms) = (child.parent, self.rng.pick(&[20, 500, 5_000]));
        let text = "a lock".to_string();
        let server_id = ServerId(server);
        let event = Event::ChildWaits { server: server_id, start_number: number, text, timeout_ms };
        self.tell(parent, Stream::Servers, event);
        self.guard.bad_ends[server] += 1;
        let delay_ms = self.rng.pick(&[5, 20, 500, 3_000, 20_000]);
        self.at(delay_ms, Due::ChildGoesOn(uid));
    }

    pub fn fork_member(&mut self, leader: Uid) {
        let Some(one) = self.os.get(leader).filter(|one| one.is_running()) else { return };
        let What::Leader { server, number } = one.what else { return };
        let what = What::Member { server, leader, group: one.id.pid, number };
        let now = self.ms();
        let Some(uid) = self.os.fork(&mut self.rng, now, leader, what) else { return };
        let is_deaf = self.plan.behaviours[server].has_deaf_member && self.rng.per_mille(500);
        if let Some(member) = self.os.procs.get_mut(&uid) {
            member.deaf = is_deaf;
        }
        if self.rng.per_mille(500) {
            self.dies_soon(uid, 20_000, Exit::Code(0));
        }
    }

    /// A process ends now.
    pub fn dies(&mut self, uid: Uid, exit: Exit) {
        let Some(one) = self.os.procs.get_mut(&uid) else { return };
        if !one.lives() {
            return;
        }
        let was_gate = one.gate;
        let (what, parent, id, discarded) = (one.what, one.parent, one.id, one.discarded);
        let was_at_gate = one.state == State::AtGate;
        one.state = State::Zombie;
        self.note(|| format!("process {uid} ({what:?}) ends: {exit:?}"));
        match what {
            What::Member { .. } | What::Stranger => {
                self.os.procs.remove(&uid);
            }
            What::Leader { server, number } => {
                self.os.exits.insert(id, exit);
                let server = ServerId(server);
                Guard::need_ended(&mut self.os, &self.plan.servers, server);
                if !self.twins.contains_key(&parent) {
                    let delay_ms = self.rng.below(50);
                    self.at(delay_ms, Due::ReapOrphan(uid));
                } else if discarded {
                    self.os.procs.remove(&uid);
                } else {
                    if was_at_gate && was_gate != Gate::Shut && self.rng.per_mille(500) {
                        // The exec pipe closes as if exec had succeeded.
                        let start_number = number;
                        let event = Event::Executed { server, start_number };
                        self.tell(parent, Stream::Servers, event);
                    }
                    let event = Event::Died { server, process: id, exit: Some(exit) };
                    self.tell(parent, Stream::Servers, event);
                }
                let watchers: Vec<Uid> = self
                    .twins
                    .values()
                    .filter(|twin| twin.watched.contains(&uid) && twin.uid != parent)
                    .map(|twin| twin.uid)
                    .collect();
                for watcher in watchers {
                    let event = Event::Died { server, process: id, exit: None };
                    self.tell(watcher, Stream::Servers, event);
                    if self.rng.per_mille(300) {
                        // The kernel tells it through the pidfd, a moment later.
                        let delay_ms = self.rng.range(1, 1_000);
                        let (pid, start_ticks) = (id.pid, id.start_ticks);
                        let event = Event::Status { pid, start_ticks, exit };
                        self.at(delay_ms, Due::Event(watcher, Box::new(event), None));
                    }
                }
            }
            What::Task { .. } => self.task_ended(uid, what, id, exit, !was_at_gate),
            What::Twin => self.twin_dies(uid, exit),
            What::Keeper => self.keeper_dies(uid),
        }
    }

    fn twin_dies(&mut self, uid: Uid, exit: Exit) {
        let process = self.os.procs.remove(&uid).map(|one| one.id);
        self.twins.remove(&uid);
        if self.lock == Some(uid) {
            self.lock = None;
        }
        self.links_of_dead(uid);
        let standbys: Vec<Uid> =
            self.twins.values().filter(|twin| twin.watches == Some(uid)).map(|t| t.uid).collect();
        for standby in standbys {
            // One that does not run yet sees it when it starts.
            if self.twins[&standby].node.is_some() {
                self.tell(standby, Stream::Pair, Event::ActiveDied);
            }
        }
        let actives: Vec<Uid> =
            self.twins.values().filter(|twin| twin.standby == Some(uid)).map(|t| t.uid).collect();
        for active in actives {
            if let Some(process) = process {
                self.tell(active, Stream::Results, Event::StandbyDied { process });
            }
        }
        self.started_twin_died(uid, exit);
        self.clients_of_dead(uid);
        self.orphan_children(uid);
    }

    /// Children of a dead twin: one at a shut gate ends; a zombie is reaped by somebody else.
    fn orphan_children(&mut self, parent: Uid) {
        let children: Vec<_> = self
            .os
            .procs
            .iter()
            .filter(|(_, one)| one.parent == parent)
            .map(|(uid, one)| (*uid, one.state, one.gate))
            .collect();
        for (uid, state, gate) in children {
            match (state, gate) {
                (State::AtGate, Gate::Shut | Gate::Waits) => {
                    self.dies_soon(uid, 20, Exit::Signal(9))
                }
                (State::Zombie, _) => {
                    let delay_ms = self.rng.below(50);
                    self.at(delay_ms, Due::ReapOrphan(uid));
                }
                _ => {}
            }
        }
    }

    /// The keeper reaps it and tells the twins, if it lives and is their ancestor; else init does,
    /// and says nothing.
    pub fn reap_orphan(&mut self, uid: Uid) {
        if self.keeper_is_stopped() {
            return self.at(500, Due::ReapOrphan(uid));
        }
        let Some(one) = self.os.procs.remove(&uid) else { return };
        self.reuse_number(one.id.pid);
        let Some(exit) = self.os.exits.get(&one.id).copied() else { return };
        if !self.keeper_is_ancestor() {
            return;
        }
        let (pid, start_ticks) = (one.id.pid, one.id.start_ticks);
        let twins: Vec<Uid> = self.twins.keys().copied().collect();
        for twin in twins {
            let delay_ms = self.rng.delay(50, 2_000);
            let event = Event::Status { pid, start_ticks, exit };
            self.at(delay_ms, Due::Event(twin, Box::new(event), None));
        }
    }

    /// A dead server's PID is soon somebody else's.
    pub fn reuse_number(&mut self, pid: i32) {
        let now = self.ms();
        if self.rng.per_mille(200)
            && let Some(stranger) = self.os.fork_as(pid, now, 0, What::Stranger)
        {
            self.dies_soon(stranger, 10_000, Exit::Code(0));
        }
    }

    pub fn continues(&mut self, uid: Uid) {
        if let Some(twin) = self.twins.get_mut(&uid) {
            twin.stopped = false;
            twin.busy_until = self.now;
        }
        self.keeper_continues(uid);
    }
}
