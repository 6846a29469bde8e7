//! What a twin's actions do to the world, and what is wrong with an action where it is carried out.
//!
//! Must not decide what happens next (`steps.rs` does). Results are found at once and heard later.

use crate::links::{send_to_active, send_to_standby};
use crate::world::{Life, Link, Message, Pair, Process, twin_identity};
use nodemanager::core::ask::{Ended, Outcome, Verb};
use nodemanager::core::{
    Action, ClientId, Entry, Event, Exit, Found, Record, Recovered, ServerId, Survivor,
};
use std::rc::Rc;

pub const SERVER: ServerId = ServerId(0);

pub fn act(pair: &mut Pair, generation: i32, action: Action) {
    need_lock(pair, generation, &action);
    match action {
        Action::Spawn { .. }
        | Action::Discard { .. }
        | Action::OpenGate { .. }
        | Action::Signal { .. }
        | Action::Reap { .. }
        | Action::ProbeGroup { .. }
        | Action::ProbeStrays { .. }
        | Action::Probe { .. }
        | Action::Verify { .. } => act_on_server(pair, generation, action),
        Action::SpawnTask { .. }
        | Action::OpenTaskGate { .. }
        | Action::KillTask { .. }
        | Action::WatchTask { .. } => crate::commands::act(pair, generation, action),
        // What is gone on with is there already.
        Action::OpenJournal { entries, .. } => {
            pair.disk_is_whole = true;
            entries.into_iter().for_each(|entry| save(pair, entry));
        }
        Action::Save { entry, answer } => {
            let seq = entry.seq;
            send_to_standby(pair, generation, Message::Copied(Rc::new(*entry.clone())));
            save(pair, *entry);
            if answer {
                pair.owe(generation, Event::Saved { seq });
            }
        }
        Action::Answer { client, outcomes } => answer(pair, client, &outcomes),
        Action::AnswerAboutPair { client, result, .. } => answer_about_pair(pair, client, result),
        Action::HandOver => pair.end_twin(generation),
        Action::TakeLock => match pair.lock {
            Some(pid) if pid != generation => pair.owe(generation, Event::LockHeld { pid }),
            _ => {
                pair.lock = Some(generation);
                pair.owe(generation, Event::Locked);
            }
        },
        Action::ReadJournal { find_survivors, known_seq } => {
            let mut read = read_journal(pair, find_survivors);
            read.entries.retain(|entry| entry.seq > known_seq);
            let event = Event::Recovered(read);
            pair.owe(generation, event);
        }
        Action::Beat => pair.owe(generation, Event::Pulse { counter: 0 }),
        Action::Exit { code } => {
            pair.end_twin(generation);
            if code == 0 && pair.ending_is_done() && pair.twins.is_empty() {
                pair.has_ended = true;
            }
        }
        Action::Serve | Action::Note(_) | Action::Hold { .. } | Action::LeaveMover => {}
        other => act_on_pair(pair, generation, other),
    }
}

/// Whatever only an active may do, only the holder of the lock does.
fn need_lock(pair: &mut Pair, generation: i32, action: &Action) {
    let is_free_to_all = matches!(
        action,
        Action::Connect
            | Action::Ack { .. }
            | Action::SayWatching
            | Action::CloseLink
            | Action::Beat
            | Action::Fence
            | Action::TakeLock
            | Action::Exit { .. }
    );
    if !is_free_to_all && pair.lock != Some(generation) {
        pair.fail(format!("twin {generation} does {action:?} without the lock"));
    }
}

fn act_on_pair(pair: &mut Pair, generation: i32, action: Action) {
    match action {
        Action::SpawnStandby => {
            let process = twin_identity(pair.start_standby(generation));
            pair.owe(generation, Event::StandbySpawned { process });
        }
        Action::KillStandby { process }
            if pair.standby_of(generation).is_some_and(|twin| twin.generation == process.pid) =>
        {
            pair.end_twin(process.pid);
        }
        Action::Fence => {
            let parent = pair.twin(generation).and_then(|twin| twin.parent);
            parent.into_iter().for_each(|parent| pair.end_twin(parent));
        }
        Action::SendSnapshot { entries, seq } => {
            for entry in entries {
                send_to_standby(pair, generation, Message::Copied(Rc::new(entry)));
            }
            send_to_standby(pair, generation, Message::CopyComplete { seq });
        }
        Action::TellStandbyToStop => send_to_standby(pair, generation, Message::Stop),
        Action::DropStandbyLink => {
            let standby = pair.standby_of(generation);
            if let Some(twin) = standby.filter(|twin| twin.link.is_some()) {
                twin.owe(Event::LinkDown);
            }
        }
        Action::Connect => connect(pair, generation),
        Action::Ack { seq } => send_to_active(pair, generation, Message::Ack { seq }),
        Action::SayWatching => send_to_active(pair, generation, Message::Watching),
        Action::CloseLink => {
            let Some(twin) = pair.twin(generation) else { return };
            let parent = twin.parent.filter(|_| twin.link.take().is_some());
            twin.inbox.retain(|event| *event != Event::LinkDown);
            if let Some(parent) = parent {
                pair.owe(parent, Event::StandbyLinkLost);
            }
        }
        _ => {}
    }
}

fn connect(pair: &mut Pair, generation: i32) {
    let Some(twin) = pair.twin(generation) else { return };
    let Some(parent) = twin.parent.filter(|_| twin.link.is_none()) else { return };
    if pair.twins.iter().any(|twin| twin.generation == parent) {
        if let Some(twin) = pair.twin(generation) {
            twin.link = Some(Link::default());
            twin.hear(Event::LinkUp);
        }
        pair.owe(parent, Event::StandbyConnected);
    } else {
        pair.owe(generation, Event::LinkDown);
    }
}

fn act_on_server(pair: &mut Pair, generation: i32, action: Action) {
    match action {
        Action::Spawn { start_number, .. } => spawn(pair, generation, start_number),
        Action::Discard { start_number, .. } => {
            for process in &mut pair.processes {
                let is_it = process.parent == generation && process.start_number == start_number;
                if let (true, Life::AtGate { .. }) = (is_it, process.life) {
                    process.life = Life::AtGate { discarded: true };
                }
            }
        }
        Action::Probe { server, start_number, check } => {
            let answer = Ok(());
            pair.owe(generation, Event::Probed { server, start_number, check, answer });
        }
        Action::OpenGate { start_number, .. } => {
            let is_it = |p: &&mut Process| p.parent == generation && p.start_number == start_number;
            let Some(process) = pair.processes.iter_mut().find(is_it) else { return };
            let was_recorded = process.was_recorded;
            let passes = process.life == (Life::AtGate { discarded: false });
            if passes {
                process.life = Life::Passing;
                crate::commands::check_start(pair);
            }
            if !was_recorded {
                pair.fail(format!("the gate of start {start_number} opened without a record"));
            }
        }
        Action::Signal { process, signal, .. } => match pair.process(process.pid) {
            Some(known) if known.identity() == process => {
                known.has_member = false;
                pair.end_process(process.pid, Exit::Signal(signal));
            }
            _ => pair.fail(format!("signal {signal} to a stranger, {process:?}")),
        },
        Action::Reap { process, .. } => reap(pair, generation, process.pid),
        Action::ProbeGroup { process, .. } => {
            let living = pair.group_of(process.pid);
            pair.owe(generation, Event::Group { server: SERVER, process, living });
        }
        Action::ProbeStrays { .. } => {
            let pid = pair.processes.iter().find(|p| p.is_a_copy()).map(|p| p.pid);
            pair.owe(generation, Event::Strays { server: SERVER, pid });
        }
        Action::Verify { process, .. } => {
            let found = match pair.process(process.pid) {
                Some(known) if known.is_alive() => {
                    known.watcher = Some(generation);
                    if known.life == Life::Running { Found::Alive } else { Found::AtGate }
                }
                _ => Found::Gone,
            };
            pair.owe(generation, Event::Verified { server: SERVER, process, found });
        }
        _ => {}
    }
}

fn spawn(pair: &mut Pair, generation: i32, start_number: u64) {
    if let Some(old) = pair.processes.iter().find(|process| process.is_a_copy()) {
        let pid = old.pid;
        pair.fail(format!("start {start_number} while PID {pid} of the copy before it lives"));
    }
    let number = i32::try_from(start_number).unwrap_or(99);
    let process = Process {
        pid: 1000 + 100 * generation + number,
        start_number,
        parent: generation,
        watcher: None,
        life: Life::AtGate { discarded: false },
        has_member: false,
        was_recorded: false,
        was_on_disk: false,
        told: None,
    };
    let identity = process.identity();
    pair.processes.push(process);
    pair.processes.sort_by_key(|process| process.pid);
    pair.owe(generation, Event::Spawned { server: SERVER, start_number, process: identity });
}

/// The kernel forgets a status with the zombie, so it must be on record first.
fn reap(pair: &mut Pair, generation: i32, pid: i32) {
    let on_disk = match pair.disk.get("web").map(|entry| &entry.record) {
        Some(Record::Server(server)) => server.last_exit.as_ref().map(|last| last.process.pid),
        _ => None,
    };
    let is_whole = pair.disk_is_whole;
    let Some(process) = pair.process(pid).filter(|process| process.parent == generation) else {
        return;
    };
    if let Life::Zombie(exit) = process.life {
        process.life = Life::Gone(exit);
        if is_whole && on_disk != Some(pid) {
            pair.fail(format!("PID {pid} is reaped before its exit is on record"));
        }
    }
}

fn save(pair: &mut Pair, entry: Entry) {
    note_end(pair, &entry);
    if let Some(process) = note_record(pair, &entry) {
        process.was_on_disk = true;
    }
    let key = match &entry.record {
        Record::Node(_) => String::new(),
        Record::Server(server) => server.name.to_string(),
    };
    Rc::make_mut(&mut pair.disk).insert(key, entry);
}

/// The pulse hears of the end before the disk is asked.
pub fn note_end(pair: &mut Pair, entry: &Entry) {
    if let Record::Node(node) = &entry.record {
        let asked = node.ending.as_ref().map(|ending| ending.asked());
        pair.end_asked = asked.or(pair.end_asked);
    }
}

/// The process that this record is about is known to somebody who may outlive the active.
pub fn note_record<'a>(pair: &'a mut Pair, entry: &Entry) -> Option<&'a mut Process> {
    let Record::Server(server) = &entry.record else { return None };
    let command = server.task.as_ref().and_then(|task| task.process).map(|process| process.pid);
    for known in pair.commands.iter_mut().filter(|known| Some(known.pid) == command) {
        known.was_recorded = true;
    }
    let process = server.phase.process().and_then(|identity| pair.process(identity.pid))?;
    process.was_recorded = true;
    Some(process)
}

fn read_journal(pair: &Pair, find_survivors: bool) -> Recovered {
    let mut survivors = Vec::new();
    for process in pair.processes.iter().filter(|_| find_survivors || !pair.disk_is_whole) {
        if process.life == Life::Running || process.has_member {
            survivors.push(Survivor {
                name: "web".to_string(),
                start_number: process.start_number,
                process: process.identity(),
                leads: process.life == Life::Running,
            });
        }
    }
    Recovered {
        entries: pair.disk.values().cloned().collect(),
        same_boot: true,
        incomplete: !pair.disk_is_whole,
        survivors,
        end_asked: pair.end_asked,
        disabled: None,
        ..Recovered::default()
    }
}

/// A switchover that was done is on record.
fn answer_about_pair(pair: &mut Pair, client: ClientId, result: Ended) {
    let switchovers = pair.active().map_or(0, |active| active.node.record.switchovers);
    let Some(request) = pair.requests.get_mut(client.0 as usize) else { return };
    request.is_answered = true;
    if request.verb == Verb::Switch && result == Ended::Well && switchovers == 0 {
        pair.fail("a switchover was answered that nobody made".to_string());
    }
}

fn answer(pair: &mut Pair, client: ClientId, outcomes: &[Outcome]) {
    let copy = pair.processes.iter().find(|process| process.is_a_copy()).map(|p| p.pid);
    let Some(request) = pair.requests.get_mut(client.0 as usize) else { return };
    request.is_answered = true;
    let says_gone =
        request.verb == Verb::Stop && outcomes.iter().any(|outcome| outcome.result == Ended::Well);
    if let (true, Some(pid)) = (says_gone, copy) {
        pair.fail(format!("stop was answered while PID {pid} lives"));
    }
}
