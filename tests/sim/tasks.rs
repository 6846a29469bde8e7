//! The commands beside servers: their processes, how they end, and the rules that hold for them.
//!
//! Must not decide anything about a twin. A command outlives the twin that started it; who learns how
//! it ended is up to its parent, the keeper and luck.

use crate::os::{Gate, State, Uid, What};
use crate::world::{Due, Stream, World};
use nodemanager::core::plan::{Drain, Reload};
use nodemanager::core::record::TaskKind;
use nodemanager::core::task::TaskEnd;
use nodemanager::core::{Event, Exit, Identity, ServerId, ServerPlan};
use std::collections::BTreeSet;

/// Longer than any command of these worlds may take.
const HANGS_MS: u64 = 100_000;

/// One run of a command: its server, its kind, and the start that it belongs to.
pub type Occasion = (usize, TaskKind, u64);

/// What the rules for commands need.
#[derive(Default)]
pub struct TaskTruth {
    /// Each server's preStart hook ended well, and no child passed its gate since.
    prepared: BTreeSet<usize>,
    /// The twin was told how it ended, and that is on disk.
    done: BTreeSet<Occasion>,
    /// Told, and not on disk yet: by the twin.
    told: Vec<(Uid, Occasion)>,
}

/// Servers of some worlds have commands.
pub fn add_tasks(rng: &mut crate::rng::Rng, server: &mut ServerPlan) {
    use TaskKind::{OnFailure, PostStart, PostStop, PreStart, PreStop, Stop};
    for kind in [PreStart, PostStart, PreStop, PostStop, OnFailure, Stop] {
        if rng.per_mille(400) {
            server.tasks.push((kind, rng.pick(&[300, 3_000])));
        }
    }
    server.reload =
        rng.pick(&[None, Some(Reload::Signal(1)), Some(Reload::Command { timeout_ms: 1_000 })]);
    if rng.per_mille(400) {
        let (has_command, has_check) = rng.pick(&[(true, false), (false, true), (true, true)]);
        server.drain = Some(Drain {
            has_command,
            has_check,
            interval_ms: 200,
            timeout_ms: rng.pick(&[1_000, 5_000]),
            keeps: rng.per_mille(500),
            on_stop: rng.per_mille(300),
            on_restart: rng.per_mille(300),
        });
    }
}

impl World {
    /// Its commands that have passed their gates, and that nobody has killed.
    pub fn running_tasks(&self, server: usize) -> Vec<(Uid, TaskKind, Identity)> {
        let kind_of = |what: What| match what {
            What::Task { server: of, kind, .. } if of == server => Some(kind),
            _ => None,
        };
        let running = self.os.procs.iter().filter(|(_, one)| one.is_running() && !one.discarded);
        running.filter_map(|(uid, one)| Some((*uid, kind_of(one.what)?, one.id))).collect()
    }

    pub fn spawn_task(&mut self, uid: Uid, server: ServerId, number: u64, kind: TaskKind) {
        self.kill_task_of(uid, server.0, None);
        let node = self.twins.get(&uid).and_then(|twin| twin.node.as_ref());
        let start = node.map_or(0, |node| node.servers[server.0].rec.start_number);
        let (now, what) = (self.ms(), What::Task { server: server.0, kind, start });
        let child = match self.fork_refused {
            true => None,
            false => self.os.fork(&mut self.rng, now, uid, what),
        };
        let Some(child) = child else {
            self.may_be_ended(server);
            let end = TaskEnd::NotBegun("cannot fork".to_string());
            let event = Event::TaskEnded { server, number, end };
            return self.tell(uid, Stream::Servers, event);
        };
        if let Some(twin) = self.twins.get_mut(&uid) {
            twin.tasks.insert(server.0, (number, child));
        }
        let process = self.os.procs[&child].id;
        // Rarely so late that nobody waits for it any more.
        let is_late = self.weather.on && self.rng.per_mille(3);
        let delay_ms = if is_late { 11_000 } else { self.rng.delay(3, 100) };
        let event = Event::TaskSpawned { server, number, process };
        self.tell_after(uid, Stream::Servers, delay_ms, event);
    }

    pub fn open_task_gate(&mut self, uid: Uid, server: ServerId, number: u64) {
        let Some((own, child)) = self.task_of(uid, server.0) else { return };
        let Some(one) = self.os.procs.get_mut(&child) else { return };
        if own != number || one.state != State::AtGate {
            return;
        }
        one.gate = Gate::Open;
        let id = one.id;
        if !self.guard.on_record.contains(&id) {
            self.fail(|| format!("2: the gate of a command opens before {id:?} is on record"));
        }
        let delay_ms = self.rng.delay(2, 5);
        self.at(delay_ms, Due::ChildGoesOn(child));
    }

    fn task_of(&self, uid: Uid, server: usize) -> Option<(u64, Uid)> {
        self.twins.get(&uid)?.tasks.get(&server).copied()
    }

    pub fn kill_task(&mut self, uid: Uid, server: ServerId, number: u64) {
        self.may_be_ended(server);
        self.kill_task_of(uid, server.0, Some(number));
    }

    fn kill_task_of(&mut self, uid: Uid, server: usize, number: Option<u64>) {
        let Some((own, child)) = self.task_of(uid, server) else { return };
        if number.is_some_and(|number| number != own) {
            return;
        }
        if let Some(twin) = self.twins.get_mut(&uid) {
            twin.tasks.remove(&server);
        }
        if let Some(one) = self.os.procs.get_mut(&child) {
            one.discarded = true;
            self.dies_soon(child, 5, Exit::Signal(9));
        }
    }

    pub fn watch_task(&mut self, uid: Uid, server: ServerId, number: u64, process: Identity) {
        match self.os.by_identity(process) {
            Some(child) => {
                if let Some(twin) = self.twins.get_mut(&uid) {
                    twin.tasks.insert(server.0, (number, child));
                }
            }
            None => self.tell_end_of_stranger(uid, server.0, number, process),
        }
    }

    /// Somebody else's child has ended: perhaps it can be known how.
    fn tell_end_of_stranger(&mut self, uid: Uid, server: usize, number: u64, process: Identity) {
        let can_be_known = self.keeper_is_ancestor() && self.rng.per_mille(700);
        let truth = self.os.exits.get(&process).copied().filter(|_| can_be_known);
        let (exit, server) = (truth.unwrap_or(Exit::Unknown), ServerId(server));
        let delay_ms = self.rng.delay(20, 500);
        let event = Event::TaskEnded { server, number, end: TaskEnd::Exited(exit) };
        self.tell_after(uid, Stream::Servers, delay_ms, event);
    }

    /// Its gate was opened.
    pub fn task_goes_on(&mut self, uid: Uid) {
        let Some(one) = self.os.get(uid) else { return };
        let What::Task { server, kind, start } = one.what else { return };
        let (parent, was_killed) = (one.parent, one.discarded);
        if one.state != State::AtGate {
            return;
        }
        let has_parent = self.twins.contains_key(&parent);
        if was_killed || (!has_parent && self.rng.per_mille(500)) {
            return self.dies(uid, Exit::Signal(9));
        }
        self.task_may_run(uid, (server, kind, start));
        let Some(one) = self.os.procs.get_mut(&uid) else { return };
        one.state = State::Running;
        self.note(|| format!("process {uid} is {kind:?} of server {server} #{start}"));
        let about_ms = self.rng.pick(&[1, 5, 50, 500, 3_000]);
        let hangs = self.weather.on && self.rng.per_mille(50);
        let fails = self.weather.on && self.rng.per_mille(150);
        let takes_ms = if hangs { HANGS_MS } else { self.rng.below(about_ms + 1) };
        let exit = match fails {
            true => self.rng.pick(&[Exit::Code(1), Exit::Signal(9), Exit::Signal(11)]),
            false => Exit::Code(0),
        };
        self.at(takes_ms, Due::Dies(uid, exit));
    }

    /// A command has no mark, so one whose record was lost is not found again.
    fn breaks_11(&mut self, text: String) {
        if self.guard.disk_troubles == 0 {
            self.fail(|| format!("11: {text}"));
        }
    }

    /// The rules that a command is held against at its exec.
    fn task_may_run(&mut self, uid: Uid, occasion: Occasion) {
        let (server, kind, _) = occasion;
        if let Some(other) = self.running_tasks(server).first().copied() {
            let text = format!("{kind:?} of server {server} runs as {uid} beside {other:?}");
            self.breaks_11(text);
        }
        let is_alone =
            matches!(kind, TaskKind::PreStart | TaskKind::PostStop | TaskKind::OnFailure);
        let leader = self
            .os
            .running(server)
            .find(|(_, one)| matches!(one.what, What::Leader { .. }))
            .map(|(leader, _)| leader);
        if is_alone && leader.is_some() {
            self.breaks_11(format!("{kind:?} of server {server} runs while {leader:?} lives"));
        }
        if self.guard.tasks.done.contains(&occasion) {
            self.breaks_11(format!("{occasion:?} is run again, and it is known how it ended"));
        }
    }

    /// A server passes its gate: nothing that belongs to its start or the end before it runs.
    pub fn start_is_prepared(&mut self, server: usize) {
        if let Some(task) = self.running_tasks(server).first().copied() {
            self.breaks_11(format!("server {server} starts while {task:?} runs"));
        }
        let needs_hook = self.plan.servers[server].task_timeout_ms(TaskKind::PreStart).is_some();
        let was_prepared = self.guard.tasks.prepared.remove(&server);
        if needs_hook && !was_prepared {
            self.breaks_11(format!("server {server} starts without its preStart hook"));
        }
    }

    /// A command has ended.
    pub fn task_ended(&mut self, uid: Uid, what: What, id: Identity, exit: Exit, began: bool) {
        let What::Task { server, kind, .. } = what else { return };
        self.os.exits.insert(id, exit);
        let one = self.os.procs.remove(&uid);
        if began && exit == Exit::Code(0) {
            if kind == TaskKind::PreStart {
                self.guard.tasks.prepared.insert(server);
            }
            if kind == TaskKind::Stop {
                self.stops_by_command(server);
            }
        } else {
            self.may_be_ended(ServerId(server));
        }
        let watchers: Vec<(Uid, u64)> = self
            .twins
            .values()
            .filter_map(|twin| Some((twin.uid, twin.tasks.get(&server)?)))
            .filter(|(_, (_, of))| *of == uid)
            .map(|(twin, (number, _))| (twin, *number))
            .collect();
        for (twin, number) in watchers {
            if let Some(twin) = self.twins.get_mut(&twin) {
                twin.tasks.remove(&server);
            }
            if one.as_ref().is_some_and(|one| one.parent == twin) {
                let end = TaskEnd::Exited(exit);
                let event = Event::TaskEnded { server: ServerId(server), number, end };
                self.tell(twin, Stream::Servers, event);
            } else {
                self.tell_end_of_stranger(twin, server, number, id);
            }
        }
    }

    /// What a stop command tells the server.
    fn stops_by_command(&mut self, server: usize) {
        let targets: Vec<Uid> =
            self.os.running(server).filter(|(_, one)| !one.deaf).map(|(uid, _)| uid).collect();
        for target in targets {
            self.dies_soon(target, 300, Exit::Code(0));
        }
    }

    /// The twin is told how a command ended.
    pub fn task_is_told(&mut self, uid: Uid, server: ServerId, kind: TaskKind, start: u64) {
        use TaskKind::{PostStart, PostStop, PreStop, Stop};
        if matches!(kind, PostStart | PreStop | Stop | PostStop) {
            self.guard.tasks.told.push((uid, (server.0, kind, start)));
        }
    }

    /// A record is carried out by this twin: a command that it forgets must be over or killed.
    pub fn task_is_saved(
        &mut self,
        uid: Uid,
        server: usize,
        on_record: Option<Identity>,
        safe: bool,
    ) {
        let child = self.task_of(uid, server).map(|(_, child)| child);
        let running = child.and_then(|child| self.os.get(child)).filter(|one| one.is_running());
        if let Some(id) = running.map(|one| one.id).filter(|id| Some(*id) != on_record) {
            self.breaks_11(format!("server {server} forgets its command {id:?}, which runs"));
        }
        if !safe {
            return;
        }
        for (twin, occasion) in std::mem::take(&mut self.guard.tasks.told) {
            if twin == uid && occasion.0 == server {
                self.guard.tasks.done.insert(occasion);
            } else if self.twins.contains_key(&twin) {
                self.guard.tasks.told.push((twin, occasion));
            }
        }
    }

    /// In the calm: what runs beside a server is what its record names.
    pub fn forgotten_task(&self, server: usize) -> Option<String> {
        let node = self.active()?.node.as_ref()?;
        let own = node.servers.get(server)?.running_task().and_then(|task| task.process);
        let found = self.running_tasks(server).into_iter().find(|(.., id)| Some(*id) != own)?;
        Some(format!("server {server} has a command that nobody waits for: {found:?}"))
    }
}
