//! The safety rules, held against every action before it is carried out, and every exec.
//!
//! Must not change the world. It remembers what the rules need: what was on record, what was
//! asked for, and which processes were whose.

use crate::disk::newer;
use crate::os::{Os, State, Uid, What};
use crate::world::World;
use nodemanager::core::ask::{Ask, Verb};
use nodemanager::core::plan::OnFailure;
use nodemanager::core::{
    Action, Entry, Identity, Record, Scope, ServerId, ServerPlan, ServerRecord,
};
use std::collections::{BTreeMap, BTreeSet};

pub struct Guard {
    /// Identities that were on disk, or that a standby acknowledged.
    pub on_record: BTreeSet<Identity>,
    /// Writes that failed and records that were lost: what depends on them is not promised.
    pub disk_troubles: u64,
    /// Ends of each server that nobody asked for.
    pub bad_ends: Vec<u64>,
    /// A stop or kill was asked for, so it may be wanted down.
    pub asked_down: Vec<bool>,
    pub tasks: crate::tasks::TaskTruth,
}

impl Guard {
    pub fn new(servers: usize) -> Guard {
        Guard {
            on_record: BTreeSet::new(),
            disk_troubles: 0,
            bad_ends: vec![0; servers],
            asked_down: vec![false; servers],
            tasks: crate::tasks::TaskTruth::default(),
        }
    }

    /// A need of others ended: those that ask for it may be ended.
    pub fn need_ended(os: &mut Os, plans: &[ServerPlan], need: ServerId) {
        let minds = |server: usize| {
            let needs = &plans[server].needs;
            needs.iter().any(|one| one.server == need && one.on_failure != OnFailure::Keep)
        };
        for one in os.procs.values_mut() {
            one.may_be_ended |= one.server().is_some_and(minds);
        }
    }

    /// A request reaches the active: from here on it may end what runs now.
    pub fn asked(&mut self, os: &mut Os, ask: &Ask) {
        let is_all = matches!(ask.verb, Verb::Shutdown { stop_servers: true, .. });
        if !is_all && !matches!(ask.verb, Verb::Stop | Verb::Kill | Verb::Restart | Verb::Drain) {
            return;
        }
        let named = |server: usize| is_all || ask.servers.iter().any(|id| id.0 == server);
        for server in (0..self.asked_down.len()).filter(|server| named(*server)) {
            self.asked_down[server] |= ask.verb != Verb::Restart;
        }
        for one in os.procs.values_mut() {
            if one.server().is_some_and(named) {
                one.may_be_ended = true;
            }
        }
    }
}

/// Only the holder of the lock acts on servers and the record.
fn needs_lock(action: &Action) -> bool {
    matches!(
        action,
        Action::Spawn { .. }
            | Action::Discard { .. }
            | Action::OpenGate { .. }
            | Action::SpawnTask { .. }
            | Action::OpenTaskGate { .. }
            | Action::KillTask { .. }
            | Action::WatchTask { .. }
            | Action::Signal { .. }
            | Action::Reap { .. }
            | Action::Verify { .. }
            | Action::OpenJournal { .. }
            | Action::Save { .. }
            | Action::SendSnapshot { .. }
            | Action::Answer { .. }
            | Action::AnswerAboutPair { .. }
            | Action::HandOver
            | Action::SpawnStandby
            | Action::ReadJournal { .. }
            | Action::Serve
    )
}

pub fn before(world: &mut World, uid: Uid, action: &Action, cause: Option<usize>) {
    if needs_lock(action) && world.lock != Some(uid) {
        world.fail(|| format!("1: twin {uid} acts without the lock: {action:?}"));
    }
    match action {
        Action::Spawn { server, .. } => {
            let node = world.twins.get(&uid).and_then(|twin| twin.node.as_ref());
            if node.is_some_and(|node| node.servers[server.0].rec.disabled) {
                world.fail(|| format!("9: server {server:?} is started, and is disabled"));
            }
        }
        Action::OpenGate { server, start_number } => {
            let child = world.os.child_at_gate(uid, server.0, *start_number);
            let id = child.and_then(|child| world.os.get(child)).map(|one| one.id);
            if id.is_some_and(|id| !world.guard.on_record.contains(&id)) {
                world.fail(|| format!("2: a gate opens before {id:?} is on record"));
            }
        }
        Action::Signal { server, process, signal, scope } => {
            may_signal(world, server.0, *process, *signal, *scope, cause);
        }
        Action::Ack { .. } => acknowledged(world, uid),
        Action::OpenJournal { entries, goes_on } => {
            // What disk and copy have already is not said again. The copy may know more than the disk: a
            // snapshot has what was not saved yet.
            let read = world.twins.get(&uid).and_then(|twin| twin.read.as_ref());
            let known = read.filter(|_| *goes_on).map(|[_, there]| there.clone());
            if let Some(known) = &known {
                lacks_nothing(world, uid, &known.clone(), entries);
            }
            let mut all = known.unwrap_or_default();
            entries.iter().for_each(|entry| newer(&mut all, entry));
            counters_survive(world, uid, &all.into_values().collect::<Vec<_>>());
        }
        Action::Fence => fence_is_due(world, uid),
        Action::TakeLock => {
            let watched = world.twins.get(&uid).and_then(|twin| twin.watches);
            if watched.is_some_and(|active| world.os.lives(active)) {
                world.fail(|| format!("1: twin {uid} wants the lock, its active is not fenced"));
            }
        }
        Action::KillStandby { process } => {
            let is_own = world.os.by_identity(*process).is_none_or(|found| {
                world.os.get(found).is_some_and(|one| one.what == What::Twin && one.parent == uid)
            });
            if !is_own {
                world.fail(|| format!("5: KillStandby hits {process:?}, which is no standby"));
            }
        }
        _ => {}
    }
}

/// A journal that is gone on with gets what could not be written to it, and is in the copy.
fn lacks_nothing(world: &mut World, uid: Uid, known: &BTreeMap<String, Entry>, entries: &[Entry]) {
    let mut added = BTreeMap::new();
    entries.iter().for_each(|entry| newer(&mut added, entry));
    let lacks = |(key, seq): &(&String, &u64)| {
        known.get(*key).is_some_and(|entry| entry.seq >= **seq) && !added.contains_key(*key)
    };
    let missing = world.disk.missing.iter().find(lacks).map(|(key, seq)| (key.clone(), *seq));
    if let Some((key, seq)) = missing {
        world.fail(|| format!("9: twin {uid} goes on without record {seq} of {key:?}"));
    }
}

fn may_signal(
    world: &mut World,
    server: usize,
    process: Identity,
    signal: i32,
    scope: Scope,
    cause: Option<usize>,
) {
    let Some((leader, owner)) = world.os.history.get(&process).copied() else {
        return world.fail(|| format!("5: {process:?} never was a server's process"));
    };
    if owner != server {
        return world.fail(|| format!("3: server {server} signals a process of server {owner}"));
    }
    world.clients.signalled(cause, server, leader, signal);
    let is_user_signal = !matches!(signal, 9 | 15);
    let Some(one) = world.os.get(leader).filter(|one| one.is_running()) else { return };
    let plan = &world.plan.servers[server];
    let may_be_ended = one.may_be_ended || one.seen_at_gate || one.has_waited;
    let is_late = plan.ready.is_some() && world.ms().since(one.born) >= plan.start_timeout_ms;
    if is_late {
        world.guard.bad_ends[server] += 1;
    }
    if !is_user_signal && !may_be_ended && !is_late {
        world.fail(|| {
            format!("4: {scope:?} of running server {server} gets {signal}, and nobody asked")
        });
    }
}

/// The standby says that it has this entry: what it has is on record.
fn acknowledged(world: &mut World, uid: Uid) {
    let Some(twin) = world.twins.get(&uid) else { return };
    let Some(node) = &twin.node else { return };
    for entry in node.watch.copy.values() {
        world.guard.on_record.extend(crate::actions::saved_processes(entry));
    }
}

/// A new active's first records are the last that were saved.
fn counters_survive(world: &mut World, uid: Uid, entries: &[Entry]) {
    let Some(read) = world.twins.get_mut(&uid).and_then(|twin| twin.read.take()) else { return };
    let is_takeover = world.twins.get(&uid).is_some_and(|twin| twin.watches.is_some());
    for entry in entries {
        let Record::Server(new) = &entry.record else { continue };
        let [saved, there] =
            read.each_ref().map(|read| match read.get(new.name.as_str())?.record {
                Record::Server(ref old) => Some(old),
                Record::Node(_) => None,
            });
        let Some(old) = saved.or(there) else { continue };
        // A new generation of the journal may have had what was not saved yet. It need not count.
        let is_there = there.is_some_and(|there| is_same(there, new));
        if is_takeover && !is_same(old, new) && !is_there {
            return world.fail(|| format!("9: saved {old:?}, after the takeover {new:?}"));
        }
        if new.start_number < old.start_number {
            return world.fail(|| format!("9: {}'s start number went back", new.name));
        }
    }
}

fn is_same(old: &ServerRecord, new: &ServerRecord) -> bool {
    // A survivor newer than its record is wanted up, whatever the old record says.
    (old.wanted == new.wanted || new.start_number > old.start_number)
        && (old.restarts, old.failures_in_row) == (new.restarts, new.failures_in_row)
        && old.failures == new.failures
        && old.marks == new.marks
}

/// A hang is concluded only of an active that really was silent.
fn fence_is_due(world: &mut World, uid: Uid) {
    let Some(watched) = world.twins.get(&uid).and_then(|twin| twin.watches) else { return };
    let Some(active) = world.twins.get(&watched).filter(|active| !active.stopped && !active.killed)
    else {
        return;
    };
    // A heartbeat of just now may come too late to be seen: the silence before it counts then.
    let seen_ms = world.now.saturating_sub(world.plan.pair.heartbeat_interval_ms);
    let [before, last] = active.beats;
    let silent_ms = world.now - if last >= seen_ms { before } else { last };
    // What it sent may have been on its way for a while; half of the timeout is generous.
    let least_ms = world.plan.pair.heartbeat_timeout_ms / 2;
    let is_first = active.node.is_some();
    if is_first && silent_ms < least_ms {
        world.fail(|| format!("4: an active that beat {silent_ms} ms ago is fenced as hung"));
    }
}

/// One of each: nothing of an earlier copy may live when a server passes its gate.
pub fn at_exec(world: &mut World, uid: Uid, server: usize) {
    world.start_is_prepared(server);
    let Some(other) = world.os.running(server).next().map(|(other, one)| (other, one.what)) else {
        return;
    };
    world.fail(|| format!("2: server {server} starts as {uid} while {other:?} lives"));
}

/// After a stop was answered, nothing of the server may live.
pub fn stop_is_true(world: &mut World, server: usize) {
    let at_gate_open = world.os.procs.values().any(|one| {
        one.server() == Some(server)
            && one.state == State::AtGate
            && one.gate != crate::os::Gate::Shut
    });
    let living = world.os.running(server).next().map(|(uid, _)| uid);
    let task = world.running_tasks(server).first().copied();
    if let Some(task) = task.filter(|_| world.guard.disk_troubles == 0) {
        world.fail(|| format!("10: a stop of {server} was answered, but {task:?} runs"));
    }
    if living.is_some() || at_gate_open {
        world.fail(|| format!("10: a stop of {server} was answered, but {living:?} lives"));
    }
}
