//! What servers are given while the pair runs: another configuration, a place among the disabled
//! ones, a check, a need.
//!
//! Must not allow an exit status that the situation does not explain.

use crate::Held;
use crate::machine::{is_alive, pid_in, rows, signal};
use crate::servers::{self, Kind, Wish};
use crate::world::{Done, World};
use nix::sys::signal::Signal;
use std::fs;
use std::time::Duration;

/// So often an operator asks again for what did not come into force.
const ASKED_AGAIN_MAX: usize = 5;
const INSTANCES_MAX: u64 = 5;

impl World {
    /// Some servers of a kind, by chance.
    pub fn draw_of(&mut self, kind: Kind) -> usize {
        let all: Vec<usize> =
            (0..self.servers.len()).filter(|at| self.servers[*at].kind == kind).collect();
        self.rng.pick(&all)
    }

    /// Runs a command; under fire the active is killed, or both twins are, at some moment of it.
    pub fn run_given(&mut self, words: &[&str], under_fire: bool) -> Held<Done> {
        self.say(&format!("  {}{}", words.join(" "), if under_fire { ", under fire" } else { "" }));
        let command = self.spawn(words)?;
        if under_fire {
            let pause = Duration::from_micros(self.rng.delay(20_000, 600_000));
            std::thread::sleep(pause);
            let status = self.status()?;
            for role in ["active", "standby"].iter().take(1 + self.rng.below(2) as usize) {
                pid_in(&status, role).iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
            }
        }
        command.finish()
    }

    pub fn allow_given(&mut self, done: &Done, under_fire: bool) -> Held {
        let mut allowed = vec![0];
        if under_fire {
            allowed.push(75);
        }
        if self.faults.ends_helpers() {
            allowed.push(1);
        }
        if !self.is_calm() {
            allowed.extend([1, 75, 124]);
        }
        self.allow(done, &allowed)
    }
}

pub fn apply(world: &mut World) -> Held {
    change(world, false)
}

pub fn apply_under_fire(world: &mut World) -> Held {
    change(world, true)
}

/// One server's definition, and how many instances there are of another one.
fn change(world: &mut World, under_fire: bool) -> Held {
    world.undo_all()?;
    world.audit()?;
    let changed = world.draw_of(Kind::Changed);
    world.servers[changed].version += 1;
    world.touch(changed);
    if world.rng.per_mille(300) {
        // It is taken over without a restart.
        world.settle_ms = world.rng.range(20, 300);
    }
    let gone = change_instances(world);
    world.configure()?;
    let mut is_first = under_fire;
    let mut done = world.run_given(&["apply"], is_first)?;
    for _ in 0..ASKED_AGAIN_MAX {
        world.allow_given(&done, is_first)?;
        if done.status == 0 {
            break;
        }
        // Who died on the way may have taken it along.
        is_first = true;
        done = world.run_given(&["apply"], false)?;
    }
    if done.status != 0 {
        return Err(format!("asked again and again, and it is not in force: {}", done.text));
    }
    let done = world.run(&["diff"])?;
    world.allow_given(&done, false)?;
    if done.status == 0 && !done.text.starts_with("nothing differs") {
        return Err(format!("it is in force, and this differs: {}", done.text));
    }
    let left = world.processes().into_iter().find(|one| {
        one.server.as_ref().is_some_and(|name| gone.contains(name)) && is_alive(one.pid)
    });
    match left {
        Some(left) => Err(format!("it is not in the configuration any more, and lives: {left:?}")),
        None => has_version(world, changed),
    }
}

/// Gives the names of those that are no more.
fn change_instances(world: &mut World) -> Vec<String> {
    let is_one = |kind| kind == Kind::Instance;
    let before = world.servers.iter().filter(|one| is_one(one.kind)).count();
    let wanted = world.rng.range(1, INSTANCES_MAX) as usize;
    let gone: Vec<String> = (wanted + 1..=before).map(servers::instance).collect();
    world.servers.retain(|one| !gone.contains(&one.name));
    for number in before + 1..=wanted {
        world.servers.push(servers::new(servers::instance(number), Kind::Instance));
    }
    gone
}

/// A process that runs by now was started with the present definition.
fn has_version(world: &World, at: usize) -> Held {
    let server = &world.servers[at];
    let status = world.status()?;
    let rows = rows(&status);
    let row = rows.get(&server.name).ok_or("it is not in the status")?;
    if row["state"] != "RUNNING" {
        return Ok(());
    }
    let environ = fs::read(format!("/proc/{}/environ", row["pid"])).unwrap_or_default();
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let wanted = format!("V={}", server.version);
    // One that was killed meanwhile says nothing.
    match environ.is_empty() || environ.split('\0').any(|one| one == wanted) {
        true => Ok(()),
        false => Err(format!("{} runs without {wanted}: {row}", server.name)),
    }
}

pub fn enabling(world: &mut World) -> Held {
    toggle(world, false)
}

pub fn enabling_under_fire(world: &mut World) -> Held {
    world.resume_keeper();
    toggle(world, true)
}

/// A disabled server is down and can't be started; an enabled one is up.
fn toggle(world: &mut World, under_fire: bool) -> Held {
    let at = world.draw_of(Kind::Listed);
    let name = world.servers[at].name.clone();
    let is_disabled = world.servers[at].is_disabled == Some(true);
    if is_disabled && world.is_calm() {
        let done = world.run(&["start", &name])?;
        world.allow(&done, &[1])?;
    }
    let (verb, wish) = if is_disabled { ("enable", Wish::Up) } else { ("disable", Wish::Down) };
    let done = world.run_given(&[verb, "--now", &name, "--timeout", "30s"], under_fire)?;
    world.allow_given(&done, under_fire)?;
    let is_done = done.status == 0;
    let server = &mut world.servers[at];
    server.is_disabled = is_done.then_some(!is_disabled);
    server.wish = if is_done { wish } else { Wish::Either };
    world.touch(at);
    if !is_done {
        return Ok(());
    }
    let list = fs::read_to_string(world.home.join("state/disabled")).unwrap_or_default();
    match list.lines().any(|line| line == name) == is_disabled {
        true => Err(format!("`{}` was answered, and the list is {list:?}", done.words)),
        false => Ok(()),
    }
}

/// Up means that its check was answered.
pub fn ready(world: &mut World) -> Held {
    let at = world.draw_of(Kind::Asked);
    let name = world.servers[at].name.clone();
    let done = world.run_given(&["restart", &name, "--timeout", "30s"], false)?;
    world.allow_given(&done, false)?;
    world.touch(at);
    world.servers[at].wish = if done.status == 0 { Wish::Up } else { Wish::Either };
    if !world.is_calm() {
        return Ok(());
    }
    let row = rows(&world.status()?).remove(&name).ok_or("it is not in the status")?;
    match row["readyAt"].is_string() && row["checks"][0]["ok"] == true {
        true => Ok(()),
        false => Err(format!("`{}` was answered, and {row}", done.words)),
    }
}

/// What is needed goes with those that need it, and comes with them.
pub fn needs(world: &mut World) -> Held {
    let at = world.draw_of(Kind::Dependent);
    let (name, need) = (world.servers[at].name.clone(), world.servers[at].need());
    let need = need.ok_or("it needs nobody")?;
    let stops = world.rng.per_mille(500);
    let words = match stops {
        true => vec!["stop", &need, "--dependants", "--timeout", "30s"],
        false => vec!["start", &name, "--timeout", "30s"],
    };
    let done = world.run_given(&words, false)?;
    world.allow_given(&done, false)?;
    let wish = if stops { Wish::Down } else { Wish::Up };
    for server in world.servers.iter_mut().filter(|one| one.name == name || one.name == need) {
        server.wish = if done.status == 0 { wish } else { Wish::Either };
        if stops {
            server.pinned = None;
        }
    }
    Ok(())
}

pub fn switch_over(world: &mut World) -> Held {
    switch(world, false)
}

pub fn switch_over_under_fire(world: &mut World) -> Held {
    world.resume_keeper();
    switch(world, true)
}

/// The other twin is the active, or it is said why not.
fn switch(world: &mut World, under_fire: bool) -> Held {
    let before = world.status()?["switchovers"].as_u64();
    let words = ["switchover", "--timeout", "30s"];
    let done = world.run_given(&words, under_fire)?;
    let allowed: &[i32] =
        if under_fire || !world.is_calm() { &[0, 1, 75, 124] } else { &[0, 1, 75] };
    world.allow(&done, allowed)?;
    // A new life counts anew.
    let after = world.status()?["switchovers"].as_u64();
    match done.status == 0 && world.is_calm() && after <= before {
        true => Err(format!("`{}` was answered, and {before:?} became {after:?}", done.words)),
        false => Ok(()),
    }
}

/// Whatever dies meanwhile, all that is wanted is up again when it is over.
pub fn maintenance(world: &mut World) -> Held {
    world.resume_keeper();
    let done = world.run_given(&["maintenance", "on", "--timeout", "30s"], true)?;
    world.allow(&done, &[0, 1, 75, 124])?;
    for _ in 0..ASKED_AGAIN_MAX {
        let done = world.run_given(&["maintenance", "off", "--timeout", "30s"], false)?;
        if done.status == 0 {
            return Ok(());
        }
        world.allow(&done, &[1, 75, 124])?;
    }
    Err(format!("maintenance could not be switched off in {ASKED_AGAIN_MAX} tries"))
}
