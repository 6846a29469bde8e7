//! Carries out the actions of a twin, as the shell does, one at a time.
//!
//! Must not decide anything. Each action is first held against the safety rules (`guard.rs`).

use crate::guard;
use crate::os::{Gate, State, Uid, What};
use crate::world::{Due, Stream, World};
use nodemanager::core::keeper::TwinRole;
use nodemanager::core::record::sound_until;
use nodemanager::core::{
    Action, Entry, Event, Exit, Found, Identity, Note, Record, Recovered, Scope, ServerId, Survivor,
};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

impl World {
    pub fn carry_out(&mut self, uid: Uid, action: Action, cause: Option<usize>) {
        guard::before(self, uid, &action, cause);
        match action {
            Action::Spawn { server, start_number } => self.spawn(uid, server, start_number),
            Action::Discard { server, start_number } => {
                if let Some(child) = self.os.child_at_gate(uid, server.0, start_number) {
                    if let Some(child) = self.os.procs.get_mut(&child) {
                        child.discarded = true;
                    }
                    self.dies_soon(child, 20, Exit::Signal(SIGKILL));
                }
            }
            Action::OpenGate { server, start_number } => {
                if let Some(child) = self.os.child_at_gate(uid, server.0, start_number) {
                    if let Some(child) = self.os.procs.get_mut(&child) {
                        child.gate = Gate::Open;
                    }
                    let delay_ms = self.rng.delay(2, 5);
                    self.at(delay_ms, Due::ChildGoesOn(child));
                }
            }
            Action::Signal { process, signal, scope, .. } => self.signal(process, signal, scope),
            Action::Reap { process, .. } => {
                if let Some(dead) = self.os.by_identity(process)
                    && self.os.get(dead).is_some_and(|one| one.parent == uid && !one.lives())
                {
                    self.os.procs.remove(&dead);
                    self.reuse_number(process.pid);
                }
            }
            Action::ProbeGroup { server, process } => {
                let leader = self.os.history.get(&process).map(|(leader, _)| *leader);
                let living = leader.and_then(|leader| self.os.group(leader).first().copied());
                let living = living.and_then(|one| self.os.get(one)).map(|one| one.id.pid);
                self.tell(uid, Stream::Servers, Event::Group { server, process, living });
            }
            Action::ProbeStrays { server } => {
                let pid = self.os.running(server.0).next().map(|(_, one)| one.id.pid);
                self.tell(uid, Stream::Servers, Event::Strays { server, pid });
            }
            Action::Probe { server, start_number, check } => {
                self.probe(uid, server, start_number, check);
            }
            Action::Verify { server, process, .. } => {
                // Whatever happens before its turn comes, happens to a server not looked at.
                let delay_ms = self.rng.delay(2, 300);
                self.at(delay_ms, Due::Look(uid, server, process));
            }
            // No server of these worlds forks.
            Action::FindMain { .. } => {}
            Action::SpawnTask { server, number, kind } => {
                self.spawn_task(uid, server, number, kind)
            }
            Action::OpenTaskGate { server, number } => self.open_task_gate(uid, server, number),
            Action::KillTask { server, number } => self.kill_task(uid, server, number),
            Action::WatchTask { server, number, process } => {
                self.watch_task(uid, server, number, process);
            }
            Action::OpenJournal { entries, goes_on } => {
                match goes_on {
                    true => self.disk.go_on(entries),
                    false => self.disk.replace(entries),
                };
            }
            Action::Save { entry, answer } => self.save(uid, *entry, answer),
            Action::Answer { client, outcomes } => self.answered(uid, client, &outcomes),
            Action::AnswerAboutPair { client, result, .. } => {
                self.answered_about_pair(uid, client, result);
            }
            Action::HandOver => self.dies(uid, Exit::Code(0)),
            Action::SpawnStandby => self.spawn_standby(uid),
            Action::KillStandby { process } => {
                if let Some(standby) = self.os.by_identity(process) {
                    self.kill_twin(standby);
                }
            }
            Action::Hold { .. } => {}
            Action::Ack { seq } => self.send(uid, Event::Acked { seq }),
            Action::SendSnapshot { .. }
            | Action::TellStandbyToStop
            | Action::DropStandbyLink
            | Action::Connect
            | Action::SayWatching
            | Action::CloseLink => self.carry_out_link(uid, action),
            Action::Beat => self.beat(uid),
            Action::Fence => {
                if let Some(active) = self.twins.get(&uid).and_then(|twin| twin.watches) {
                    self.kill_twin(active);
                }
            }
            Action::TakeLock => self.take_lock(uid),
            Action::ReadJournal { find_survivors, known_seq } => {
                self.read_journal(uid, find_survivors, known_seq);
            }
            Action::Serve => self.serve(uid),
            Action::LeaveMover => {}
            Action::Exit { code } => self.twin_exits(uid, code),
            Action::Note(note) => {
                if matches!(note, Note::ActiveHung { .. }) {
                    self.counts.hangs += 1;
                }
            }
        }
    }

    fn spawn(&mut self, uid: Uid, server: ServerId, start_number: u64) {
        let now = self.ms();
        let what = What::Leader { server: server.0, number: start_number };
        let child = match self.fork_refused {
            true => None,
            false => self.os.fork(&mut self.rng, now, uid, what),
        };
        self.counts.starts += 1;
        let Some(child) = child else {
            let error = "cannot fork".to_string();
            return self.tell(
                uid,
                Stream::Servers,
                Event::SpawnFailed { server, start_number, error },
            );
        };
        let needs = &self.plan.servers[server.0].needs;
        let leads =
            |of: usize| self.os.running(of).any(|(_, one)| matches!(one.what, What::Leader { .. }));
        let has_needs = needs.iter().all(|one| leads(one.server.0));
        if let Some(child) = self.os.procs.get_mut(&child) {
            // One that it needs has just ended, and the twin does not know yet.
            child.may_be_ended = !has_needs;
        }
        let process = self.os.procs[&child].id;
        // Rarely so late that nobody waits for it any more.
        let is_late = self.weather.on && self.rng.per_mille(3);
        let delay_ms = if is_late { 11_000 } else { self.rng.delay(3, 100) };
        let event = Event::Spawned { server, start_number, process };
        self.tell_after(uid, Stream::Servers, delay_ms, event);
    }

    fn signal(&mut self, process: Identity, signal: i32, scope: Scope) {
        let Some((leader, _)) = self.os.history.get(&process).copied() else { return };
        let targets = match scope {
            Scope::Group => self.os.group(leader),
            Scope::Leader if self.os.lives(leader) => vec![leader],
            // The model has no cgroups.
            Scope::Leader | Scope::LeftGroup => Vec::new(),
        };
        for target in targets {
            let Some(one) = self.os.get(target) else { continue };
            match signal {
                SIGKILL => self.dies_soon(target, 5, Exit::Signal(SIGKILL)),
                SIGTERM if one.is_running() && one.deaf => {}
                SIGTERM => {
                    let exit = self.rng.pick(&[Exit::Signal(SIGTERM), Exit::Code(0)]);
                    self.dies_soon(target, 100, exit);
                }
                _ => {}
            }
        }
    }

    pub fn dies_soon(&mut self, uid: Uid, worst_ms: u64, exit: Exit) {
        let delay_ms = self.rng.below(worst_ms + 1);
        self.at(delay_ms, Due::Dies(uid, exit));
    }

    pub fn verify(&mut self, uid: Uid, server: ServerId, process: Identity) {
        match self.twins.get(&uid) {
            Some(twin) if twin.stopped => return self.at(5, Due::Look(uid, server, process)),
            Some(_) => {}
            None => return,
        }
        let unclear = self.plan.weather.unclear;
        if self.weather.on && self.rng.per_mille(unclear) {
            let found = Found::Unclear("permission denied".to_string());
            return self.tell(uid, Stream::Servers, Event::Verified { server, process, found });
        }
        let found = match self.os.by_identity(process) {
            Some(one) => {
                let (state, child) = (self.os.procs[&one].state, self.os.procs.get_mut(&one));
                if let (State::AtGate, Some(child)) = (state, child) {
                    child.seen_at_gate = true;
                }
                if state != State::Zombie
                    && let Some(twin) = self.twins.get_mut(&uid)
                {
                    twin.watched.push(one);
                }
                match state {
                    State::AtGate => Found::AtGate,
                    State::Running => Found::Alive,
                    State::Zombie => Found::Gone,
                }
            }
            None => Found::Gone,
        };
        self.tell(uid, Stream::Servers, Event::Verified { server, process, found });
    }

    fn save(&mut self, uid: Uid, entry: Entry, answer: bool) {
        let (seq, process) = (entry.seq, saved_processes(&entry));
        if let Record::Node(node) = &entry.record {
            let asked = node.ending.as_ref().map(|ending| ending.asked());
            self.end_asked = asked.or(self.end_asked);
        }
        let tears = self.rng.per_mille(500);
        let is_saved = self.disk.append(entry.clone(), tears);
        if !is_saved {
            self.guard.disk_troubles += 1;
        }
        if is_saved {
            self.guard.on_record.extend(process);
        }
        if let Record::Server(server) = &entry.record
            && let Some(at) = self.plan.servers.iter().position(|plan| plan.name == server.name)
        {
            let task = server.task.as_ref().and_then(|task| task.process);
            self.task_is_saved(uid, at, task, is_saved);
        }
        if answer {
            let event = match is_saved {
                true => Event::Saved { seq },
                false => Event::NotSaved { seq, error: "no space left on device".to_string() },
            };
            self.tell(uid, Stream::Results, event);
        }
        // The process may be killed between the two writes.
        let weather = &self.plan.weather;
        if !(self.weather.on && self.rng.per_mille(weather.kill_at_action / 4)) {
            self.send(uid, Event::Copied(entry));
        } else {
            self.note(|| format!("twin {uid} is killed before it sent {seq}"));
            self.dies(uid, Exit::Signal(SIGKILL));
        }
    }

    fn spawn_standby(&mut self, uid: Uid) {
        let Some(twin) = self.twins.get(&uid) else { return };
        let slot = 1 - twin.slot;
        let standby = match self.fork_refused {
            true => None,
            false => self.new_twin(uid, slot),
        };
        let Some(standby) = standby else {
            let error = "cannot fork".to_string();
            return self.tell(uid, Stream::Results, Event::StandbySpawnFailed { error });
        };
        if let Some(new) = self.twins.get_mut(&standby) {
            new.watches = Some(uid);
        }
        if let Some(twin) = self.twins.get_mut(&uid) {
            twin.standby = Some(standby);
        }
        let delay_ms = self.rng.range(3, 40);
        self.at(delay_ms, Due::TwinStarts { uid: standby, watches: Some(uid), revives: true });
        let process = self.os.procs[&standby].id;
        self.tell_after(uid, Stream::Results, 2, Event::StandbySpawned { process });
    }

    /// SIGKILL to a twin; rarely it is stuck in the kernel and dies only later.
    pub fn kill_twin(&mut self, uid: Uid) {
        let frozen = self.plan.weather.frozen;
        let is_frozen = self.weather.on && self.rng.per_mille(frozen);
        let delay_ms = if is_frozen { self.rng.below(8_000) } else { self.rng.below(6) };
        if let Some(twin) = self.twins.get_mut(&uid) {
            twin.killed = true;
            self.at(delay_ms, Due::Dies(uid, Exit::Signal(SIGKILL)));
        }
    }

    fn beat(&mut self, uid: Uid) {
        let now = self.now;
        let Some(twin) = self.twins.get_mut(&uid) else { return };
        twin.beats = [twin.beats[1], now];
        let (slot, serves) = (twin.slot, twin.serves);
        let is_active = twin.node.as_ref().is_some_and(|node| !node.entries().is_empty() && serves);
        if self.slots[slot].uid == uid {
            self.slots[slot].counter += 1;
        }
        let counter = self.slots[1 - slot].counter;
        let message = if serves { Event::ActiveHeard } else { Event::StandbyHeard };
        self.send(uid, message);
        self.tell(uid, Stream::Pair, Event::Pulse { counter });
        // The shell writes a journal that was lost, or that lacks a record, again.
        if is_active && (self.disk.journal.is_none() || self.disk.has_holes) && !self.disk.is_full {
            let entries = self.twins[&uid].node.as_ref().map(|node| node.entries());
            self.disk.replace(entries.unwrap_or_default());
        }
    }

    fn take_lock(&mut self, uid: Uid) {
        let holder = self.lock.filter(|holder| *holder != uid);
        let event = match holder.and_then(|holder| self.os.get(holder)) {
            Some(holder) => Event::LockHeld { pid: holder.id.pid },
            None => {
                self.lock = Some(uid);
                Event::Locked
            }
        };
        self.tell(uid, Stream::Results, event);
    }

    fn read_journal(&mut self, uid: Uid, find_survivors: bool, known_seq: u64) {
        let incomplete = self.disk.journal.is_none() || self.disk.is_torn;
        let end_asked = self.end_asked;
        let mut entries = self.disk.journal.clone().unwrap_or_default();
        let numbers = entries.iter().map(|entry| entry.seq);
        let sound_until = sound_until(numbers).filter(|_| !incomplete);
        entries.retain(|entry| entry.seq > known_seq);
        let survivors = match find_survivors || incomplete {
            true => self.survivors(),
            false => Vec::new(),
        };
        if let Some(twin) = self.twins.get_mut(&uid) {
            let mut read = [self.disk.saved(), self.disk.latest()];
            for entry in twin.node.iter().flat_map(|node| node.watch.copy.values()) {
                read.iter_mut().for_each(|read| crate::disk::newer(read, entry));
            }
            twin.read = Some(read);
        }
        let disabled = Some(self.disabled.clone());
        let recovered = Recovered {
            entries,
            same_boot: true,
            incomplete,
            sound_until,
            survivors,
            end_asked,
            disabled,
            ..Recovered::default()
        };
        self.tell(uid, Stream::Results, Event::Recovered(recovered));
    }

    /// Every living process that carries a server's mark.
    fn survivors(&self) -> Vec<Survivor> {
        let mut found = Vec::new();
        for one in self.os.procs.values().filter(|one| one.is_running()) {
            let (server, start_number, leads) = match one.what {
                What::Leader { server, number } => (server, number, true),
                What::Member { server, number, .. } => (server, number, false),
                _ => continue,
            };
            let name = self.plan.servers[server].name.to_string();
            found.push(Survivor { name, start_number, process: one.id, leads });
        }
        found
    }

    fn serve(&mut self, uid: Uid) {
        let Some(twin) = self.twins.get_mut(&uid) else { return };
        twin.serves = true;
        if twin.watches.is_some() {
            self.counts.takeovers += 1;
        }
        self.set_role_of(uid, TwinRole::Serving);
    }

    fn twin_exits(&mut self, uid: Uid, code: u8) {
        let was_active = self.lock == Some(uid);
        if was_active && code == 0 {
            self.ended = true;
            self.set_role_of(uid, TwinRole::Ended);
        }
        self.dies(uid, Exit::Code(i32::from(code)));
    }

    fn set_role_of(&mut self, uid: Uid, role: TwinRole) {
        for slot in &mut self.slots {
            if slot.uid == uid {
                slot.role = Some(role);
            }
        }
    }
}

/// The processes that an entry puts on record: its server's, and that of the command beside it.
pub fn saved_processes(entry: &Entry) -> Vec<Identity> {
    match &entry.record {
        Record::Server(server) => {
            let task = server.task.as_ref().and_then(|task| task.process);
            server.phase.process().into_iter().chain(task).collect()
        }
        Record::Node(_) => Vec::new(),
    }
}
