//! What an operator does, through the real commands: one, two at once, in the middle of a takeover.
//!
//! Must not allow an exit status that the situation does not explain.

use crate::Held;
use crate::machine::{Process, is_alive, signal, wait_for};
use crate::report::After;
use crate::servers::{self, Kind, Wish};
use crate::world::{Done, World};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// What else happens while a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Another command for the same server.
    Rival,
    /// The active dies or hangs.
    Takeover,
    /// Both twins die.
    BothDie,
}

/// A command that nobody answers gives up after 30 s; it began a little before the fault.
const COMMAND_PATIENCE: Duration = Duration::from_secs(25);

/// A command for one server.
#[derive(Clone, Debug)]
struct Order {
    verb: &'static str,
    /// The server's place in the list.
    at: usize,
    words: Vec<String>,
}

const VERBS: [&str; 14] = [
    "start",
    "start",
    "stop",
    "stop",
    "restart",
    "restart",
    "kill",
    "signal WINCH",
    "signal USR1",
    "reset",
    "status",
    "logs",
    "wait --up",
    "status NAME",
];

impl World {
    fn draw_order(&mut self) -> Order {
        let verb = self.rng.pick(&VERBS);
        let at = self.draw_server();
        self.order(verb, at)
    }

    /// One that any command may name.
    fn draw_server(&mut self) -> usize {
        loop {
            let at = self.rng.below(self.servers.len() as u64) as usize;
            if self.servers[at].is_free() {
                return at;
            }
        }
    }

    /// It was asked to start, and so was what it needs.
    fn expect_need(&mut self, at: usize, is_sure: bool) {
        let Some(need) = self.servers[at].need() else { return };
        let need = self.servers.iter_mut().find(|one| one.name == need);
        if let Some(need) = need.filter(|need| need.wish != Wish::Up) {
            need.wish = if is_sure { Wish::Up } else { Wish::Either };
        }
    }

    fn order(&mut self, verb: &'static str, at: usize) -> Order {
        let mut words: Vec<String> = verb.split(' ').map(str::to_string).collect();
        let name = self.servers[at].name.clone();
        match verb {
            "status" => {}
            "status NAME" => words[1] = name,
            "wait --up" => words.extend([name, "--timeout".to_string(), "1s".to_string()]),
            _ => words.push(name),
        }
        if !self.is_calm() && verb != "wait --up" {
            words.extend(["--timeout".to_string(), "20s".to_string()]);
        }
        Order { verb, at, words }
    }

    /// The exit statuses that the interface allows.
    fn allowed(&self, order: &Order, beside: Beside) -> Vec<i32> {
        let server = &self.servers[order.at];
        let acts = matches!(order.verb, "start" | "restart" | "stop" | "kill");
        let mut allowed = match order.verb {
            "start" | "restart" if !server.is_steady() => vec![0, 1],
            "status" | "status NAME" => vec![0, 3],
            "wait --up" => vec![0, 1, 124],
            verb if verb.starts_with("signal") => match (server.pinned, server.wish) {
                (Some(_), Wish::Up) => vec![0],
                (None, Wish::Down) => vec![1],
                _ => vec![0, 1],
            },
            _ => vec![0],
        };
        if beside == Beside::Rival && (acts || order.verb.starts_with("signal")) {
            allowed.push(1);
        }
        if matches!(beside, Beside::Takeover | Beside::BothDie) && order.verb.starts_with("signal")
        {
            // It may have been sent; nobody can know.
            allowed.extend([1, 75]);
        }
        if beside == Beside::BothDie {
            allowed.push(75);
        }
        if beside != Beside::Nothing && acts && server.need().is_some() {
            // It may be told that what it needs is not wanted up.
            allowed.push(1);
        }
        if !self.is_calm() {
            allowed.extend([1, 75, 124]);
        }
        allowed
    }

    /// What the order did to what is expected.
    fn expect(&mut self, order: &Order, done: &Done, beside: Beside) {
        let server = &mut self.servers[order.at];
        let wish = match order.verb {
            "start" | "restart" => Wish::Up,
            "stop" | "kill" => Wish::Down,
            "signal USR1" => {
                server.pinned = None;
                return;
            }
            _ => return,
        };
        let is_sure = matches!(done.status, 0 | 1) && beside != Beside::Rival;
        server.wish = if is_sure { wish } else { Wish::Either };
        // A start leaves a server alone that runs.
        if order.verb != "start" || beside == Beside::Rival {
            server.pinned = None;
        }
        if wish == Wish::Up {
            self.expect_need(order.at, done.status == 0 && beside != Beside::Rival);
        }
    }

    fn finish_order(&mut self, order: &Order, done: &Done, beside: Beside) -> Held {
        let allowed = self.allowed(order, beside);
        self.allow(done, &allowed)?;
        self.expect(order, done, beside);
        let is_stop = matches!(order.verb, "stop" | "kill");
        if is_stop && done.status == 0 && beside != Beside::Rival {
            let name = self.servers[order.at].name.clone();
            self.must_be_gone(done, |server| server == name)?;
        }
        Ok(())
    }

    /// A stop was answered: nothing of these servers may live.
    fn must_be_gone(&self, done: &Done, is_meant: impl Fn(&str) -> bool) -> Held {
        let is_left = |one: &Process| {
            one.server.as_deref().is_some_and(&is_meant) && !one.is_zombie && is_alive(one.pid)
        };
        match self.processes().into_iter().find(is_left) {
            Some(left) => Err(format!("`{}` was answered, and {left:?} lives", done.words)),
            None => Ok(()),
        }
    }
}

fn refs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

pub fn one_command(world: &mut World) -> Held {
    let order = world.draw_order();
    world.say(&format!("  {}", order.words.join(" ")));
    let done = world.run(&refs(&order.words))?;
    world.finish_order(&order, &done, Beside::Nothing)
}

pub fn two_at_once(world: &mut World) -> Held {
    let first = world.draw_order();
    let mut second = world.draw_order();
    if world.rng.per_mille(500) {
        second = world.order(second.verb, first.at);
    }
    both(world, [first, second])
}

pub fn same_twice(world: &mut World) -> Held {
    let order = world.draw_order();
    both(world, [order.clone(), order])
}

fn both(world: &mut World, orders: [Order; 2]) -> Held {
    let beside = if orders[0].at == orders[1].at { Beside::Rival } else { Beside::Nothing };
    world.say(&format!("  {} & {}", orders[0].words.join(" "), orders[1].words.join(" ")));
    let first = world.spawn(&refs(&orders[0].words))?;
    let pause = Duration::from_micros(world.rng.delay(2_000, 200_000));
    std::thread::sleep(pause);
    let second = world.spawn(&refs(&orders[1].words))?;
    let done = [first.finish()?, second.finish()?];
    let before = world.servers[orders[0].at].clone();
    for (order, done) in orders.iter().zip(&done) {
        // What the first one did must not narrow what the second may answer.
        if beside == Beside::Rival {
            world.servers[order.at].pinned = None;
            world.servers[order.at].wish = Wish::Either;
        }
        world.finish_order(order, done, beside)?;
    }
    let changes =
        |order: &Order| matches!(order.verb, "start" | "restart" | "stop" | "kill" | "signal USR1");
    if beside == Beside::Rival && !orders.iter().any(changes) {
        world.servers[orders[0].at] = before;
    }
    Ok(())
}

/// All servers of a kind at once, by a pattern.
pub fn pattern(world: &mut World) -> Held {
    let pattern = world.rng.pick(&["quick-1*", "deaf-*", "forking-*", "chatty-*"]);
    let verb = world.rng.pick(&["restart", "stop", "start"]);
    let prefix = pattern.trim_end_matches('*').to_string();
    let mut words = vec![verb, pattern];
    if !world.is_calm() {
        words.extend(["--timeout", "30s"]);
    }
    world.say(&format!("  {}", words.join(" ")));
    let done = world.run(&words)?;
    let allowed: &[i32] = if world.is_calm() { &[0] } else { &[0, 1, 75, 124] };
    world.allow(&done, allowed)?;
    if verb == "stop" && done.status == 0 {
        world.must_be_gone(&done, |server| server.starts_with(&prefix))?;
    }
    for server in world.servers.iter_mut().filter(|one| one.name.starts_with(&prefix)) {
        let wish = if verb == "stop" { Wish::Down } else { Wish::Up };
        server.wish = if matches!(done.status, 0 | 1) { wish } else { Wish::Either };
        if verb != "start" {
            server.pinned = None;
        }
    }
    Ok(())
}

/// What no situation allows.
pub fn wrong_words(world: &mut World) -> Held {
    let cases: [(&[&str], i32); 6] = [
        (&["start", "nosuch"], 4),
        (&["stop", "nosuch*"], 4),
        (&["signal", "NOSUCH", "quick-0"], 64),
        (&["start"], 64),
        (&["strat", "quick-0"], 64),
        (&["logs", "nosuch"], 4),
    ];
    for (words, status) in cases {
        let done = world.run(words)?;
        let calm = [status];
        let troubled = [status, 75, 124];
        world.allow(&done, if world.is_calm() { &calm } else { &troubled })?;
    }
    Ok(())
}

/// Commands that do not wait, or not long: what was asked for goes on.
pub fn little_patience(world: &mut World) -> Held {
    let verb = world.rng.pick(&["start", "stop", "restart"]);
    let at = world.draw_server();
    let name = world.servers[at].name.clone();
    let limit = world.rng.pick(&[None, Some("1ms"), Some("50ms")]);
    let words = match limit {
        None => vec![verb, &name, "--no-wait"],
        Some(limit) => vec![verb, &name, "--timeout", limit],
    };
    let done = world.run(&words)?;
    let calm: &[i32] = if limit.is_none() { &[0, 1] } else { &[0, 1, 124] };
    world.allow(&done, if world.is_calm() { calm } else { &[0, 1, 75, 124] })?;
    let is_asked = done.status == 0;
    let wish = if verb == "stop" { Wish::Down } else { Wish::Up };
    world.servers[at].wish = if is_asked { wish } else { Wish::Either };
    world.touch(at);
    if verb != "stop" {
        world.expect_need(at, is_asked);
    }
    if !is_asked {
        // The request may still be on its way; a later one must not overtake it.
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

pub fn under_kill_of_active(world: &mut World) -> Held {
    under_fire(world, Beside::Takeover, Signal::SIGKILL)
}

pub fn under_stop_of_active(world: &mut World) -> Held {
    if !world.wants_hang() {
        return Ok(());
    }
    under_fire(world, Beside::Takeover, Signal::SIGSTOP)
}

pub fn under_kill_of_both(world: &mut World) -> Held {
    under_fire(world, Beside::BothDie, Signal::SIGKILL)
}

fn under_fire(world: &mut World, beside: Beside, what: Signal) -> Held {
    world.resume_keeper();
    let pids = match beside {
        Beside::BothDie => vec![world.pid_of("active")?, world.standby()?],
        _ => vec![world.pid_of("active")?],
    };
    let after = match (beside, what, world.is_calm()) {
        (Beside::BothDie, ..) => After::BothKilled,
        (_, Signal::SIGKILL, true) => After::Death,
        (_, Signal::SIGKILL, false) => After::DeathInTrouble,
        (_, _, true) => After::Hang,
        (_, _, false) => After::HangInTrouble,
    };
    let order = world.draw_order();
    world.say(&format!("  {} while {pids:?} get {what}", order.words.join(" ")));
    let command = world.spawn(&refs(&order.words))?;
    let pause = Duration::from_micros(world.rng.delay(20_000, 1_500_000));
    std::thread::sleep(pause);
    let since = Instant::now();
    pids.iter().filter(|pid| **pid > 0).for_each(|pid| signal(*pid, what));
    world.time_takeover(&pids, since, after)?;
    let waited = since.elapsed();
    let done = command.finish()?;
    if waited > COMMAND_PATIENCE && done.status == 124 {
        // Hangs that repeat are waited for longer each time, a command is not.
        world.servers[order.at].wish = Wish::Either;
        world.touch(order.at);
        return Ok(());
    }
    world.finish_order(&order, &done, beside)
}

/// An ordered shutdown that keeps the servers, another configuration, and a start.
pub fn new_configuration(world: &mut World) -> Held {
    world.undo_all()?;
    world.audit()?;
    let extra = world.servers.iter().position(|server| server.name.starts_with("extra"));
    if let Some(at) = extra {
        let name = world.servers[at].name.clone();
        let done = world.run(&["stop", &name])?;
        world.allow(&done, &[0])?;
    }
    let done = world.run(&["shutdown", "--keep-servers"])?;
    world.allow(&done, &[0])?;
    world.no_pair()?;
    if world.rng.per_mille(300) {
        // Without it the servers wait when their FIFOs are full.
        let seen = world.processes();
        let mover = seen.iter().find(|one| one.role.as_deref() == Some("mover"));
        mover.iter().for_each(|one| signal(one.pid, Signal::SIGKILL));
    }
    match extra {
        Some(at) => drop(world.servers.remove(at)),
        None => {
            let name = format!("extra-{}", world.act);
            world.servers.push(servers::new(name, Kind::Quick));
        }
    }
    world.settle_ms = world.rng.range(20, 300);
    world.configure()?;
    world.start_pair()
}

/// Everything ends, and begins anew.
pub fn new_life(world: &mut World) -> Held {
    world.undo_all()?;
    if world.rng.per_mille(500) {
        let done = world.run(&["shutdown", "--stop-servers"])?;
        world.allow(&done, &[0])?;
    } else {
        let keeper = world.pid_of("keeper")?;
        signal(keeper, Signal::SIGTERM);
        wait_for("the keeper to end", || (!is_alive(keeper)).then_some(()))?;
    }
    world.no_pair()?;
    if let Some(left) = world.processes().into_iter().find(|one| one.server.is_some()) {
        return Err(format!("all was stopped, and {left:?} lives"));
    }
    world.forget();
    world.start_pair()
}

impl World {
    /// The standby's PID, or 0 for none.
    pub fn standby(&self) -> Held<i32> {
        let status = self.status()?;
        Ok(crate::machine::pid_in(&status, "standby").unwrap_or(0))
    }

    /// Neither twin nor keeper lives, and the commands say so.
    pub fn no_pair(&mut self) -> Held {
        wait_for("the pair's end", || {
            let roles = ["run", "active", "standby"];
            let seen = self.processes();
            let mut twins = seen.iter().filter(|one| !one.is_zombie);
            let lives = twins.any(|one| one.role.as_deref().is_some_and(|it| roles.contains(&it)));
            (!lives).then_some(())
        })?;
        let done = self.run(&["status"])?;
        self.allow(&done, &[69])
    }
}
