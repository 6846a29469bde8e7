//! Kills and stops: of the twins, the keeper, servers, and several at one instant.
//!
//! Must not wait for more than that somebody serves again; the audit waits for the rest.

use crate::Held;
use crate::machine::{is_alive, pid_in, rows, signal, wait_for};
use crate::report::After;
use crate::world::World;
use nix::sys::signal::Signal::{self, SIGCONT, SIGKILL, SIGSTOP};
use std::time::{Duration, Instant};

impl World {
    /// The active, about to be lost: somebody must be left who notices.
    pub fn doomed_active(&mut self) -> Held<i32> {
        let status = self.status()?;
        if status["standby"]["state"] != "WATCHING" {
            self.resume_keeper();
        }
        pid_in(&status, "active").ok_or_else(|| format!("no active in {status}"))
    }
}

pub fn kill_active(world: &mut World) -> Held {
    let active = world.doomed_active()?;
    let after = if world.is_calm() { After::Death } else { After::DeathInTrouble };
    let since = Instant::now();
    signal(active, SIGKILL);
    world.time_takeover(&[active], since, after)
}

pub fn kill_standby(world: &mut World) -> Held {
    let standby = world.standby()?;
    signal(standby, SIGKILL);
    Ok(())
}

/// At one instant: stopped first, so that none acts on another's death.
fn at_once(pids: &[i32]) -> Held {
    for what in [SIGSTOP, SIGKILL] {
        pids.iter().filter(|pid| **pid > 0).for_each(|pid| signal(*pid, what));
    }
    wait_for("the killed to end", || (!pids.iter().any(|pid| is_alive(*pid))).then_some(()))
}

pub fn kill_both(world: &mut World) -> Held {
    world.resume_keeper();
    let twins = [world.pid_of("active")?, world.standby()?];
    let since = Instant::now();
    match world.rng.below(3) {
        0 => at_once(&twins)?,
        1 => twins.iter().for_each(|pid| signal(*pid, SIGKILL)),
        _ => twins.iter().rev().for_each(|pid| signal(*pid, SIGKILL)),
    }
    world.time_takeover(&twins, since, After::BothKilled)
}

/// The active, and the one that took its place before it has a standby.
pub fn kill_twice(world: &mut World) -> Held {
    world.resume_keeper();
    let first = world.pid_of("active")?;
    let since = Instant::now();
    signal(first, SIGKILL);
    let after = if world.is_calm() { After::Death } else { After::DeathInTrouble };
    world.time_takeover(&[first], since, after)?;
    let second = world.pid_of("active")?;
    let since = Instant::now();
    signal(second, SIGKILL);
    world.time_takeover(&[first, second], since, After::BothKilled)
}

pub fn kill_keeper(world: &mut World) -> Held {
    world.undo_all()?;
    world.audit()?;
    let keeper = world.pid_of("keeper")?;
    signal(keeper, SIGKILL);
    wait_for("the keeper to end", || (!is_alive(keeper)).then_some(()))?;
    std::thread::sleep(Duration::from_millis(world.rng.below(300)));
    if world.rng.per_mille(300) {
        kill_active(world)?;
    }
    world.start_pair()
}

pub fn kill_all_three(world: &mut World) -> Held {
    world.undo_all()?;
    let all = world.pair_pids()?;
    at_once(&all)?;
    run_again(world, &all)
}

pub fn kill_all_and_servers(world: &mut World) -> Held {
    world.undo_all()?;
    let mut all = world.pair_pids()?;
    let pair = all.clone();
    all.extend(victims(world, 6)?);
    at_once(&all)?;
    run_again(world, &pair)
}

fn run_again(world: &mut World, dead: &[i32]) -> Held {
    if world.rng.per_mille(300) {
        world.no_pair()?;
    }
    let since = Instant::now();
    let run = world.spawn(&["run", "--detach"])?;
    world.time_takeover(dead, since, After::NewRun)?;
    let done = run.finish()?;
    world.allow(&done, &[0, 1])
}

/// Some servers' leaders; they are not expected to stay.
fn victims(world: &mut World, most: u64) -> Held<Vec<i32>> {
    let rows = rows(&world.status()?);
    let count = world.rng.range(1, most);
    let mut pids = Vec::new();
    for _ in 0..count {
        let at = world.rng.below(world.servers.len() as u64) as usize;
        let pid = rows.get(&world.servers[at].name).and_then(|row| row["pid"].as_i64());
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            world.touch(at);
            world.say(&format!("  {} PID {pid}", world.servers[at].name));
            pids.push(pid);
        }
    }
    Ok(pids)
}

pub fn kill_servers(world: &mut World) -> Held {
    victims(world, 5)?.into_iter().for_each(|pid| signal(pid, SIGKILL));
    Ok(())
}

pub fn kill_active_and_servers(world: &mut World) -> Held {
    let active = world.doomed_active()?;
    let mut all = vec![active];
    all.extend(victims(world, 5)?);
    if world.rng.per_mille(500) {
        all.reverse();
    }
    let after = if world.is_calm() { After::Death } else { After::DeathInTrouble };
    let since = Instant::now();
    all.iter().for_each(|pid| signal(*pid, SIGKILL));
    world.time_takeover(&[active], since, after)
}

/// Children only: their leaders stay.
pub fn kill_children(world: &mut World) -> Held {
    let seen = world.processes();
    let is_child =
        |server: &Option<String>| server.as_deref().is_some_and(|name| name.starts_with("forking"));
    let children: Vec<i32> = seen
        .iter()
        .filter(|one| is_child(&one.server) && !one.is_zombie && one.session != one.pid)
        .map(|one| one.pid)
        .collect();
    for _ in 0..world.rng.range(1, 6) {
        if !children.is_empty() {
            signal(world.rng.pick(&children), SIGKILL);
        }
    }
    Ok(())
}

pub fn stop_active(world: &mut World) -> Held {
    if !world.wants_hang() {
        return Ok(());
    }
    let active = world.doomed_active()?;
    let after = if world.is_calm() { After::Hang } else { After::HangInTrouble };
    let since = Instant::now();
    signal(active, SIGSTOP);
    world.time_takeover(&[active], since, after)
}

pub fn stop_standby(world: &mut World) -> Held {
    let standby = world.standby()?;
    signal(standby, SIGSTOP);
    wait_for("the stopped standby to be ended", || (!is_alive(standby)).then_some(()))
}

pub fn stop_both(world: &mut World) -> Held {
    world.resume_keeper();
    let twins = [world.pid_of("active")?, world.standby()?];
    let since = Instant::now();
    twins.iter().for_each(|pid| signal(*pid, SIGSTOP));
    world.time_takeover(&twins, since, After::BothHung)
}

pub fn stop_active_kill_standby(world: &mut World) -> Held {
    world.resume_keeper();
    let twins = [world.pid_of("active")?, world.standby()?];
    let what: [Signal; 2] = world.rng.pick(&[[SIGSTOP, SIGKILL], [SIGKILL, SIGSTOP]]);
    let since = Instant::now();
    twins.iter().zip(what).for_each(|(pid, what)| signal(*pid, what));
    let old: &[i32] = if twins[1] > 0 { &twins } else { &twins[..1] };
    world.time_takeover(old, since, After::BothHung)
}

/// Shorter or a little longer than a hang: whoever serves afterwards, one does.
pub fn stop_for_a_moment(world: &mut World) -> Held {
    let status = world.status()?;
    let roles = world.rng.pick(&[&["active"] as &[&str], &["standby"], &["active", "standby"]]);
    let pids: Vec<i32> = roles.iter().filter_map(|role| pid_in(&status, role)).collect();
    let pause = Duration::from_millis(world.rng.range(100, 1_600));
    let starts: Vec<_> = pids.iter().map(|pid| crate::machine::stat(*pid)).collect();
    pids.iter().for_each(|pid| signal(*pid, SIGSTOP));
    std::thread::sleep(pause);
    for (pid, start) in pids.iter().zip(starts) {
        let now = crate::machine::stat(*pid).map(|now| now.start_ticks);
        if now.is_some() && now == start.map(|start| start.start_ticks) {
            signal(*pid, SIGCONT);
        }
    }
    Ok(())
}
