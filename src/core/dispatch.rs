//! Which event goes to which part of a node, and what a node does when it becomes active.
//!
//! Must not decide for a part. An event that no part is waiting for is old news and is dropped
//! where it is read, by name, so that a new kind can't be forgotten.

use super::apply::{is_under, under, unnamed};
use super::ending::{Resume, believed, resume, wanted_in_new_life};
use super::node::{Gate, Node, Role, Timer};
use super::promotion::{Known, Promotion, know, new_life};
use super::rare::Rare;
use super::record::{Cause, Identity, NodeRecord, Phase, Planned, ServerRecord, Takeover};
use super::server::{Server, Step};
use super::standby::State;
use super::time::{Moment, Ms};
use super::watch::HANGS_WINDOW_MS;
use super::{Action, Entry, Event, Exit, Note, Record, Recovered, ServerId, ServerPlan, Wanted};
use std::collections::BTreeSet;

/// Hangs that are remembered.
const HANGS_MAX: usize = 8;

impl Node {
    pub(super) fn on_event(&mut self, now: Ms, event: Event) {
        match self.role {
            Role::Standby => self.on_standby_event(now, event),
            Role::Promoting => self.on_promotion_event(now, event),
            Role::Active => self.on_active_event(now, event),
            Role::Ended => {}
        }
    }

    fn on_standby_event(&mut self, now: Ms, event: Event) {
        match event {
            Event::LinkUp => self.watch.on_link_up(now, &mut self.out),
            Event::LinkDown => self.watch.on_link_down(now, &mut self.out),
            Event::ActiveHeard => self.watch.on_heard(now),
            Event::Copied(mut entry) => {
                self.name_as_planned(&mut entry);
                self.watch.on_copied(now, entry, &mut self.out);
            }
            Event::CopyComplete { seq } => self.watch.on_copy_complete(seq, &mut self.out),
            Event::ActiveDied => {
                let note = match self.watch.is_handed_over() {
                    true => Note::ActiveHandsOver,
                    false => Note::ActiveDead,
                };
                self.out.push(Action::Note(note));
                self.take_over(now, Cause::Death);
            }
            Event::Pulse { counter } => {
                let late = self.take_staleness(now);
                let hang = self.watch.on_pulse(now, counter, late, &self.plan, &mut self.out);
                if let Some(cause) = hang {
                    self.take_over(now, cause);
                }
            }
            Event::ToldToStop => {
                self.role = Role::Ended;
                self.out.push(Action::CloseLink);
                self.out.push(Action::Note(Note::Ended));
                self.out.push(Action::Exit { code: 0 });
            }
            // For the active.
            _ => {}
        }
    }

    /// The name of a record that comes in its turn is the plan's: first the node's comes, then those of
    /// the servers in their order.
    fn name_as_planned(&self, entry: &mut Entry) {
        let at = self.watch.copy.len().wrapping_sub(1);
        if let (Record::Server(server), Some(plan)) = (&mut entry.record, self.plans.get(at)) {
            server.name.share_with(&plan.name);
        }
    }

    fn take_over(&mut self, now: Ms, cause: Cause) {
        self.role = Role::Promoting;
        self.out.push(Action::CloseLink);
        self.promotion = Some(Promotion::takeover(now, cause, &mut self.out));
    }

    fn on_promotion_event(&mut self, now: Ms, event: Event) {
        let Some(promotion) = &mut self.promotion else { return };
        match event {
            Event::ActiveDied => promotion.on_active_dead(&mut self.out),
            Event::Locked => promotion.on_locked(&self.watch, &mut self.out),
            Event::LockHeld { pid } => promotion.on_lock_refused(now, pid, None, &mut self.out),
            Event::LockFailed { error } => {
                promotion.on_lock_refused(now, 0, Some(error), &mut self.out);
            }
            Event::Recovered(recovered) => self.become_active(now, recovered),
            // A promotion goes on whatever the link or the pulse say.
            _ => {}
        }
    }

    fn on_active_event(&mut self, now: Ms, event: Event) {
        match event {
            Event::Saved { seq } => {
                self.on_recorded(now, seq);
                self.on_handover_safe(seq, false);
            }
            Event::NotSaved { seq, error } => self.on_not_saved(seq, &error),
            Event::Acked { seq } => {
                self.standby.silence.heard = now;
                let safe: Vec<u64> = self.gates.range(..=seq).map(|(seq, _)| *seq).collect();
                for seq in safe {
                    self.on_recorded(now, seq);
                }
                self.on_handover_safe(seq, true);
            }
            Event::SuccessorReady { why, id } => self.begin_handover(now, why, id),
            Event::Disabled { names } => self.on_disabled(now, &names),
            Event::Asked(ask) => self.on_ask(now, ask),
            Event::ClientGone { client } => self.forget_client(client),
            Event::Status { pid, start_ticks, exit } => self.on_status(now, pid, start_ticks, exit),
            Event::StandbySpawned { .. }
            | Event::StandbySpawnFailed { .. }
            | Event::StandbyConnected
            | Event::StandbyWatching
            | Event::StandbyHeard
            | Event::StandbyLinkLost
            | Event::StandbyDied { .. }
            | Event::Pulse { .. } => self.on_pair_event(now, event),
            other => self.on_server_event(now, other),
        }
    }

    fn on_server_event(&mut self, now: Ms, event: Event) {
        match event {
            Event::Spawned { server, start_number, process } => {
                self.with_server(server, |s, steps| {
                    s.on_spawned(now, start_number, process, steps);
                });
            }
            Event::OutputAt { server, start_number, place } => {
                self.with_server(server, |s, _| s.on_output_at(start_number, place));
            }
            Event::OomKilled { server, process, kills } => {
                self.with_server(server, |s, _| s.on_oom_killed(process, kills));
            }
            Event::CgroupAt { server, start_number, dir } => {
                self.with_server(server, |s, _| s.on_cgroup_at(start_number, dir));
            }
            Event::SpawnFailed { server, start_number, error } => {
                self.with_server(server, |s, steps| {
                    s.on_spawn_failed(now, start_number, error, steps);
                });
            }
            Event::ChildFailed { server, start_number, error } => {
                self.with_server(server, |s, steps| {
                    s.on_child_failed(now, start_number, error, steps);
                });
            }
            Event::ChildRefused { server, start_number, error } => {
                self.with_server(server, |s, steps| {
                    s.on_child_refused(now, start_number, error, steps);
                });
            }
            Event::ChildWaits { server, start_number, text, timeout_ms } => {
                self.with_server(server, |s, steps| {
                    s.on_child_waits(now, start_number, text, timeout_ms, steps);
                });
            }
            Event::Executed { server, start_number } => {
                self.with_server(server, |s, steps| s.on_executed(now, start_number, steps));
            }
            Event::Died { server, process, exit } => {
                self.with_server(server, |s, steps| s.on_died(now, process, exit, steps));
            }
            Event::Group { server, process, living } => {
                self.with_server(server, |s, steps| s.on_group(now, process, living, steps));
            }
            Event::Strays { server, pid } => {
                self.with_server(server, |s, steps| s.on_strays(pid, steps));
            }
            Event::Probed { server, start_number, check, answer } => {
                self.with_server(server, |s, steps| {
                    s.on_probed(now, start_number, check, answer, steps);
                });
            }
            Event::Told { server, start_number, told } => {
                self.with_server(server, |s, steps| s.on_told(now, start_number, told, steps));
            }
            Event::MainFound { server, start_number, process, group } => {
                self.with_server(server, |s, steps| {
                    s.on_main_found(now, start_number, process, group, steps);
                });
            }
            Event::MainMissing { server, start_number, text } => {
                self.with_server(server, |s, _| s.on_main_missing(start_number, text));
            }
            Event::TaskSpawned { server, number, process } => {
                self.with_server(server, |s, steps| s.on_task_spawned(now, number, process, steps));
            }
            Event::TaskEnded { server, number, end } => {
                self.with_server(server, |s, steps| s.on_task_ended(now, number, end, steps));
            }
            Event::Verified { server, process, found } => {
                self.with_server(server, |s, steps| {
                    s.on_verified(now, process, found, steps);
                });
            }
            // News from before the takeover.
            _ => {}
        }
    }

    fn on_recorded(&mut self, now: Ms, seq: u64) {
        if let Some((server, gate)) = self.gates.remove(&seq) {
            self.with_server(server, |s, steps| match gate {
                Gate::Start(start_number) => s.on_recorded(now, start_number, steps),
                Gate::Task(number) => s.on_task_recorded(number, steps),
            });
        }
    }

    /// The disk did not take it. If a standby watches, its acknowledgement opens the gate.
    fn on_not_saved(&mut self, seq: u64, error: &str) {
        if let Some((server, Gate::Start(start_number))) = self.gates.get(&seq)
            && let Some(server) = self.servers.get_mut(server.0)
        {
            server.on_not_recorded(*start_number, error);
        }
    }

    fn on_status(&mut self, now: Ms, pid: i32, start_ticks: u64, exit: Exit) {
        let is_it = |id: &Identity| id.pid == pid && id.start_ticks == start_ticks;
        let found = self.servers.iter().find_map(|server| {
            let waiting = match &server.rec.phase {
                Phase::Reaping { process, .. } => Some(*process),
                phase => phase.process(),
            };
            let last = server.rec.last_exit.as_ref().map(|last| last.process);
            waiting.into_iter().chain(last).find(is_it).map(|process| (server.id, process))
        });
        if let Some((id, process)) = found {
            self.with_server(id, |s, steps| s.on_status(now, process, exit, steps));
        }
    }

    fn on_pair_event(&mut self, now: Ms, event: Event) {
        let late = matches!(event, Event::Pulse { .. }) && self.take_staleness(now);
        let (plan, out) = (&self.plan, &mut self.out);
        match event {
            Event::StandbySpawned { process } => self.standby.on_spawned(now, process, plan),
            Event::StandbySpawnFailed { error } => self.standby.on_spawn_failed(now, error, out),
            Event::StandbyConnected => {
                self.standby.silence.heard = now;
                let (entries, seq) = (self.entries(), self.seq);
                self.out.push(Action::SendSnapshot { entries, seq });
                self.standby.on_connected(&mut self.out);
            }
            Event::StandbyWatching => self.standby.on_watching(now, out),
            Event::StandbyHeard => self.standby.silence.heard = now,
            Event::StandbyLinkLost => self.standby.on_link_lost(now, plan, out),
            Event::StandbyDied { process } => self.standby.on_died(now, process, out),
            Event::Pulse { counter } => {
                self.standby.on_pulse(now, counter, late, plan, out);
            }
            _ => {}
        }
        if self.ending_told_standby() {
            self.keep_ending_standby(now);
        }
        self.look_at_handover();
        self.look_at_whole_waits();
        self.arm_standby();
    }

    /// The journal has been read: this process is the active from here on.
    fn become_active(&mut self, now: Ms, recovered: Recovered) {
        let Some(promotion) = self.promotion.take() else { return };
        let (same_boot, was_found) = (recovered.same_boot, !recovered.entries.is_empty());
        let (incomplete, end_asked) = (recovered.incomplete, recovered.end_asked);
        let (disabled, was_stopped) = (recovered.disabled.clone(), recovered.was_stopped);
        let whole_until = whole_until(&recovered);
        let copy = std::mem::take(&mut self.watch.copy);
        let mut known = know(recovered, copy);
        let seq = known.seq;
        self.seq = seq + 1;
        let has_record = known.node.is_some();
        self.record = known.node.take().unwrap_or_default();
        let revives = promotion.cause.is_some() || self.revives;
        let on_record = self.record.ending.take().filter(|_| same_boot);
        if revives {
            let is_whole = same_boot && !incomplete;
            self.record.ending = believed(on_record.clone(), end_asked, is_whole, now);
        }
        let resume = match (&self.record.ending, same_boot) {
            (Some(ending), _) => resume(Some(ending), true),
            // Nobody asked for the end of this life. What is on record all the same is the end of a
            // life before, after which somebody started the pair again.
            (None, true) if was_stopped && !revives => Resume::NewLife,
            (None, true) => resume(on_record.as_ref(), false),
            (None, false) => Resume::NewLife,
        };
        if resume == Resume::Done {
            self.role = Role::Ended;
            self.out.push(Action::Exit { code: 0 });
            return;
        }
        let is_new_life = resume == Resume::NewLife || !has_record;
        let planned = self.record.handover.as_ref().map(|handover| handover.why);
        let is_upgrade = planned == Some(Planned::Upgrade);
        self.note_life(now, &promotion, is_new_life, resume);
        let goes_on = revives && !is_new_life && resume != Resume::GoOn;
        let changed = self.build_servers(known, resume == Resume::NewLife, incomplete, goes_on);
        self.begin_order();
        self.role = Role::Active;
        // To write all records anew would be a third of a takeover. Another version of the program does.
        let is_takeover = promotion.cause.is_some() && !is_new_life && !is_upgrade;
        let goes_on = is_takeover && whole_until == Some(seq);
        let entries = match goes_on {
            true => self.entries_of(&changed),
            false => self.entries(),
        };
        self.out.push(Action::OpenJournal { entries, goes_on });
        if resume != Resume::GoOn {
            // Before serving: from here on a death of this process is survived again. A start
            // that fails does not delay what follows.
            self.standby.start(&mut self.out);
        }
        self.out.push(Action::Serve);
        let life = if is_new_life { Note::NewLife } else { Note::SameLife };
        if promotion.cause.is_none() && (was_found || is_new_life) {
            self.out.push(Action::Note(life));
        }
        for id in self.ids() {
            self.with_server(id, |server, steps| server.adopt(now, steps));
            self.disable_adopted(now, id, disabled.as_ref());
        }
        if resume == Resume::GoOn {
            self.begin_ending(now);
        }
    }

    fn note_life(&mut self, now: Ms, promotion: &Promotion, is_new: bool, resume: Resume) {
        let ending = self.record.ending.take().filter(|_| resume == Resume::GoOn);
        if is_new {
            let epoch = self.record.epoch;
            self.record = NodeRecord { born_at: now, epoch, ..NodeRecord::default() };
        }
        self.record.ending = ending;
        self.record.epoch += 1;
        if self.note_switchover(now, promotion) {
            return;
        }
        let Some(cause) = promotion.cause else { return };
        self.record.takeovers += 1;
        let took_ms = now.since(promotion.since);
        self.record.takeover_times.note(took_ms);
        self.record.last_takeover = Some(Takeover { at: now, cause, took_ms });
        self.out.push(Action::Note(Note::TookOver { cause, took_ms }));
        if cause == Cause::Hang {
            self.record.hangs.retain(|at| now.since(*at) < HANGS_WINDOW_MS);
            self.record.hangs.push(now);
            if self.record.hangs.len() > HANGS_MAX {
                self.record.hangs.remove(0);
            }
            let times = self.record.hangs.len();
            if times > 1 {
                let doublings = times.min(super::watch::HANGS_DOUBLINGS_MAX);
                let timeout_ms = self.plan.heartbeat_timeout_ms << doublings;
                self.out.push(Action::Note(Note::HangsRepeat { times, timeout_ms }));
            }
        }
    }

    /// Every configured server, and every one on record that still has a process. Gives those whose record
    /// is not as it was read.
    fn build_servers(
        &mut self,
        mut known: Known,
        is_new_life: bool,
        incomplete: bool,
        goes_on: bool,
    ) -> Vec<ServerId> {
        let mut changed = Vec::new();
        self.servers.clear();
        let (retired, plans): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.plans).into_iter().partition(|plan| plan.left_over);
        self.servers.reserve_exact(plans.len());
        for plan in plans {
            let mut old = known.take(&plan.name);
            if let Some(old) = &mut old {
                old.name.share_with(&plan.name);
            }
            let record = match old {
                Some(old) if !is_new_life && is_under(&old, &plan) => {
                    self.add_server(plan, old);
                    continue;
                }
                Some(old) if is_new_life => {
                    // Beside a hole in the record, its process is what shows that it was started
                    // in this life: it is not stopped for that `autoStart` would not start it.
                    let was_started = old.wanted == Wanted::Up && old.phase.process().is_some();
                    new_life(*old, plan.auto_start || incomplete && was_started)
                }
                Some(old) => *old,
                None => ServerRecord::new(plan.name.clone(), wanted_in_new_life(plan.auto_start)),
            };
            let record = under(record, &plan, goes_on);
            changed.push(self.add_server(plan, record.into()));
        }
        for record in known.rest() {
            if record.phase.is_gone() || matches!(record.phase, Phase::Spawning { .. }) {
                continue;
            }
            let record = unnamed(*record, goes_on);
            if !record.removed {
                self.out.push(Action::Note(Note::LeftOver { name: record.name.clone() }));
            }
            let plan = retired.iter().find(|plan| plan.name == record.name).cloned();
            let plan = plan.unwrap_or_else(|| left_over(&record.name));
            changed.push(self.add_server(plan, record.into()));
        }
        changed
    }

    fn add_server(&mut self, plan: ServerPlan, rec: Box<ServerRecord>) -> ServerId {
        let id = ServerId(self.servers.len());
        let (checks, task_run, status_due) = (Rare::NONE, Rare::NONE, Moment::NONE);
        let maintenance = self.record.maintenance;
        let server = Server { id, plan, rec, checks, status_due, task_run, maintenance };
        self.timers.set(Timer::Server(id), server.deadline());
        self.servers.push(server);
        id
    }

    /// Before anything is started: the list may have changed while nobody was active.
    fn disable_adopted(&mut self, now: Ms, id: ServerId, disabled: Option<&BTreeSet<String>>) {
        let rec = &self.servers[id.0].rec;
        match disabled.map_or(rec.disabled, |names| names.contains(rec.name.as_str())) {
            true => self.with_server(id, |server, steps| server.disable(now, steps)),
            false => self.with_server(id, |server, steps| server.enable(steps)),
        }
    }

    /// The list of disabled servers, whole, as it is now.
    fn on_disabled(&mut self, now: Ms, names: &BTreeSet<String>) {
        for id in self.ids() {
            let rec = &self.servers[id.0].rec;
            let is_enabled = !names.contains(rec.name.as_str());
            if rec.disabled != is_enabled {
                continue;
            }
            self.with_server(id, |server, steps| {
                steps.push(Step::Do(Action::Note(Note::Enabling { server: id, is_enabled })));
                match is_enabled {
                    true => server.enable(steps),
                    false => server.disable(now, steps),
                }
            });
        }
    }

    fn ending_told_standby(&self) -> bool {
        self.ending.as_ref().is_some_and(|progress| progress.told_standby)
    }

    /// A standby that came up while the pair ends is stopped like the one before.
    fn keep_ending_standby(&mut self, now: Ms) {
        if !matches!(self.standby.state, State::Stopping { .. } | State::Spawning) {
            self.standby.stop(now, &self.plan, &mut self.out);
        }
    }
}

/// The last record of a journal that lacks none, if it is about the processes that there are.
fn whole_until(found: &Recovered) -> Option<u64> {
    let is_whole = found.same_boot && !found.incomplete && found.survivors.is_empty();
    found.sound_until.filter(|_| is_whole)
}

/// A server that the configuration does not name any more: it runs on, can be stopped, and is
/// not started again.
fn left_over(name: &str) -> ServerPlan {
    ServerPlan { left_over: true, ..ServerPlan::new(name) }
}
