//! What must hold in every state of the search, what a good end is, and what must be seen.

use crate::commands::Command;
use crate::world::{Life, Pair, Process, Twin};
use nodemanager::core::node::{Role, Timer};
use nodemanager::core::promotion::Step;
use nodemanager::core::record::{TaskKind, Why};
use nodemanager::core::{Exit, Phase, Record, ServerRecord, Wanted};
use std::rc::Rc;

pub fn check(pair: &Pair) -> Result<(), String> {
    if let Some(error) = &pair.broken {
        return Err(error.clone());
    }
    one_active(pair)?;
    one_of_each(pair)?;
    end_is_kept(pair)?;
    for twin in &pair.twins {
        who_waits_has_a_timer(twin)?;
        twin.node.servers.iter().try_for_each(|server| exit_is_true(pair, &server.rec))?;
        twin.node.servers.iter().try_for_each(|server| exit_is_kept(pair, twin, &server.rec))?;
        twin.node.watch.copy.values().try_for_each(|entry| record_is_true(pair, &entry.record))?;
    }
    pair.disk.values().try_for_each(|entry| record_is_true(pair, &entry.record))
}

fn one_active(pair: &Pair) -> Result<(), String> {
    let active: Vec<i32> = pair
        .twins
        .iter()
        .filter(|twin| twin.node.role == Role::Active)
        .map(|twin| twin.generation)
        .collect();
    if active.iter().any(|generation| pair.lock != Some(*generation)) {
        return Err(format!("{active:?} are active, the lock is with {:?}", pair.lock));
    }
    let of_one = |parent| pair.twins.iter().filter(|twin| twin.parent == Some(parent)).count();
    match pair.twins.iter().find(|twin| of_one(twin.generation) > 1) {
        Some(twin) => Err(format!("twin {} has two standbys", twin.generation)),
        None => Ok(()),
    }
}

fn one_of_each(pair: &Pair) -> Result<(), String> {
    let copies: Vec<i32> =
        pair.processes.iter().filter(|process| process.is_a_copy()).map(|p| p.pid).collect();
    if copies.len() > 1 { Err(format!("the server runs twice: PIDs {copies:?}")) } else { Ok(()) }
}

/// Who serves a pair that is to end goes on with it, whatever the disk kept of that.
fn end_is_kept(pair: &Pair) -> Result<(), String> {
    match (pair.end_asked, pair.active()) {
        (Some(asked), Some(active)) if active.node.record.ending.is_none() => {
            Err(format!("the end was asked for ({asked:?}) and is forgotten"))
        }
        _ => Ok(()),
    }
}

fn who_waits_has_a_timer(twin: &Twin) -> Result<(), String> {
    let armed = twin.node.armed();
    let needs = |is_waiting: bool, timer: Timer| {
        if is_waiting && !armed.contains(&timer) {
            return Err(format!("twin {} waits without the timer {timer:?}", twin.generation));
        }
        Ok(())
    };
    match twin.node.role {
        Role::Active => {
            for server in &twin.node.servers {
                let rests = matches!(
                    server.rec.phase,
                    Phase::Up { .. } | Phase::Down | Phase::Failed | Phase::Exited
                ) || server.is_left_undone();
                let timer = match server.rec.phase {
                    Phase::Preparing | Phase::Closing { .. } => Timer::Task(server.id),
                    _ => Timer::Server(server.id),
                };
                needs(!rests, timer)?;
            }
            let standby = &twin.node.standby;
            needs(standby.process().is_some() && !standby.is_watching(), Timer::Standby)?;
            needs(true, Timer::Beat)
        }
        Role::Promoting => {
            let at_fence = twin.node.promotion.as_ref().is_some_and(|p| p.step == Step::Fence);
            needs(at_fence, Timer::Promotion)?;
            needs(true, Timer::Beat)
        }
        Role::Standby => needs(true, Timer::Beat),
        Role::Ended => Ok(()),
    }
}

fn record_is_true(pair: &Pair, record: &Record) -> Result<(), String> {
    match record {
        Record::Server(server) => exit_is_true(pair, server),
        Record::Node(_) => Ok(()),
    }
}

fn exit_is_true(pair: &Pair, record: &ServerRecord) -> Result<(), String> {
    let Some(last) = &record.last_exit else { return Ok(()) };
    let process = pair.processes.iter().find(|process| process.pid == last.process.pid);
    match process.map(|process| process.life) {
        Some(Life::Zombie(exit) | Life::Gone(exit)) if exit == last.exit => Ok(()),
        Some(Life::Zombie(_) | Life::Gone(_)) if last.exit == Exit::Unknown => Ok(()),
        life => Err(format!("it is said to have ended with {:?}, but it is {life:?}", last.exit)),
    }
}

/// What the keeper told an active is not forgotten again, whenever it came.
fn exit_is_kept(pair: &Pair, twin: &Twin, record: &ServerRecord) -> Result<(), String> {
    let Some(last) = record.last_exit.as_ref().filter(|last| last.exit == Exit::Unknown) else {
        return Ok(());
    };
    let told = |process: &&Process| {
        process.pid == last.process.pid && process.told == Some(twin.generation)
    };
    match pair.processes.iter().find(told) {
        Some(process) => Err(format!("the exit status of PID {} was told and lost", process.pid)),
        None => Ok(()),
    }
}

/// All is as it is wanted, nothing is on its way, and the next death would be survived.
pub fn is_good(pair: &Pair) -> bool {
    if pair.twins.is_empty() {
        return pair.has_ended;
    }
    let Some(active) = pair.active() else { return false };
    pair.twins.iter().all(|twin| twin.is_quiet())
        && (active.node.standby.is_watching() || !pair.setting.has_standby)
        && pair.server_is_well(active)
        && !pair.commands.iter().any(|command| command.runs())
        && pair.requests.iter().all(|request| request.is_answered)
}

pub fn sights(pair: &Pair) -> Vec<&'static str> {
    let mut seen = Vec::new();
    let mut see = |is_seen: bool, name: &'static str| {
        if is_seen {
            seen.push(name);
        }
    };
    see(pair.has_ended, "the pair ended");
    see(pair.twins.is_empty() && !pair.has_ended, "both twins are dead");
    let promoting = pair.twins.iter().any(|twin| twin.node.role == Role::Promoting);
    see(promoting && pair.lock.is_none() && pair.generations > 1, "a takeover is on its way");
    let on_its_way = |twin: &&Rc<Twin>| {
        twin.node.promotion.as_ref().is_some_and(|promotion| promotion.cause.is_some())
    };
    let taker = pair.twins.iter().find(on_its_way);
    see(taker.is_some() && pair.budget.kills > 0, "a takeover on its way may still die");
    let knows_little = taker.is_some_and(|taker| !taker.node.watch.was_complete);
    see(knows_little, "a standby takes over before it knew all");
    let Some(active) = pair.active() else { return seen };
    let is_newer = |twin: &Rc<Twin>| twin.generation > active.generation + 1;
    let is_replaced = active.node.standby.is_watching() && pair.twins.iter().any(is_newer);
    see(is_replaced, "a standby was replaced");
    see(active.is_dying, "a killed active is not dead");
    let takeovers = active.node.record.takeovers;
    see(takeovers == 1, "one takeover");
    see(takeovers >= 2, "a takeover after a takeover");
    see(active.node.record.switchovers > 0, "a switchover");
    see(active.node.record.maintenance, "maintenance");
    see(active.node.record.hangs.len() == 1, "a takeover after a hang");
    see(active.node.standby.is_watching(), "a standby watches");
    see(takeovers > 0 && active.node.standby.is_watching(), "a new standby watches");
    let Some(server) = active.node.servers.first() else { return seen };
    let is_up = matches!(server.rec.phase, Phase::Up { .. });
    see(is_up, "the server is up");
    see(matches!(server.rec.phase, Phase::Locking { .. }), "the server waits for a lock");
    see(server.rec.phase == Phase::Preparing, "a hook before the start");
    let is_stop = |command: &Command| command.runs() && command.kind == TaskKind::Stop;
    see(pair.commands.iter().any(is_stop), "a stop command");
    see(matches!(server.rec.phase, Phase::Unready { .. }), "the server is not ready yet");
    let is_failing = matches!(server.rec.phase, Phase::Stopping { why: Why::Failing, .. });
    see(is_failing, "the server fails a check");
    see(is_up && server.rec.adopted, "the server was adopted");
    see(is_up && server.rec.restarts > 0, "the server was restarted");
    see(matches!(server.rec.phase, Phase::Failed), "the server was given up");
    see(matches!(server.rec.phase, Phase::Exited), "the server exited well");
    see(server.rec.phase == Phase::Down && server.rec.wanted == Wanted::Down, "it was stopped");
    let late = server.rec.last_exit.as_ref().is_some_and(|last| {
        let parent = pair.processes.iter().find(|p| p.pid == last.process.pid).map(|p| p.parent);
        last.exit != Exit::Unknown && parent != Some(active.generation)
    });
    see(late, "the status of an adopted server is known");
    see(pair.requests.iter().any(|request| request.is_answered), "a request was answered");
    seen
}
