//! Looks at everything after an act: what must hold at every instant fails at once, what must come
//! true again is waited for.
//!
//! Must not act.

use crate::Held;
use crate::machine::{self, LIMIT, Process, ask_status, is_alive, pid_in, rows, stat};
use crate::servers::{Server, Wish};
use crate::world::World;
use nodemanager::sys::lock;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Without descriptors nobody may answer: then so long.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl World {
    /// Waits until everything is as it must be; fails with all that is not.
    pub fn audit(&mut self) -> Held {
        self.report.audits += 1;
        let end = Instant::now() + LIMIT;
        let mut zombies = None;
        loop {
            let problems = self.look(&mut zombies)?;
            if problems.is_empty() {
                return self.read_chatter();
            }
            if Instant::now() > end {
                return Err(format!("after {} s: {}", LIMIT.as_secs(), problems.join("; ")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One look. Fails when something is wrong that no later look can heal; gives what is not yet
    /// as it must be.
    fn look(&mut self, zombies: &mut Option<BTreeSet<(i32, u64)>>) -> Held<Vec<String>> {
        let seen = self.processes();
        machine::reap(&seen);
        self.one_active(&seen)?;
        self.one_of_each(&seen)?;
        self.none_touched()?;
        self.commands_are_whole()?;
        let Some(status) = ask_status(&self.home, ANSWER_LIMIT) else {
            let may = self.faults.few_descriptors();
            return Ok(if may { vec![] } else { vec!["nobody answers".to_string()] });
        };
        let mut problems = self.pair_problems(&seen, &status);
        // A keeper that is stopped can't reap.
        if self.is_calm() {
            problems.extend(staying_zombies(&seen, zombies));
        }
        let rows = rows(&status);
        let is_calm = self.is_calm();
        for server in &mut self.servers {
            let need = server.need().and_then(|need| rows.get(&need));
            server.need_is_down = need.is_some_and(|need| need["state"] != "RUNNING");
            let Some(row) = rows.get(&server.name) else {
                problems.push(format!("{} is not in the status", server.name));
                continue;
            };
            never_wrong(server, row)?;
            let own: Vec<&Process> =
                seen.iter().filter(|one| one.server.as_deref() == Some(&server.name)).collect();
            let problem = server_problem(server, row, &own, is_calm);
            problems.extend(problem.map(|what| format!("{}: {what}: {row}", server.name)));
        }
        let known: BTreeSet<&str> = self.servers.iter().map(|one| one.name.as_str()).collect();
        let strange = rows.keys().filter(|name| !known.contains(name.as_str()));
        problems.extend(strange.map(|name| format!("{name} is in the status")));
        if is_calm {
            problems.extend(self.read_history()?);
        }
        self.remember(&status, &rows, problems.is_empty());
        Ok(problems)
    }

    fn one_active(&self, seen: &[Process]) -> Held {
        let serving = machine::serving(seen);
        match serving.len() {
            0 | 1 => Ok(()),
            _ => Err(format!("two serve at once: {serving:?}")),
        }
    }

    /// A server's copies are led by session leaders; children stay in the leader's session.
    fn one_of_each(&self, seen: &[Process]) -> Held {
        let mut leaders: BTreeMap<&str, Vec<&Process>> = BTreeMap::new();
        for one in seen.iter().filter(|one| !one.is_zombie && one.session == one.pid) {
            // Who starts a daemon is there beside it for a moment.
            let is_starter = || {
                let comm = std::fs::read_to_string(format!("/proc/{}/comm", one.pid));
                comm.is_ok_and(|comm| matches!(comm.trim_end(), "sh" | "setsid"))
            };
            if let Some(name) = &one.server
                && !(name.starts_with("daemon-") && is_starter())
            {
                leaders.entry(name).or_default().push(one);
            }
        }
        for (name, copies) in leaders.iter().filter(|(_, copies)| copies.len() > 1) {
            // The look took its time: one may have ended before the other began.
            let lives = |one: &&&Process| {
                stat(one.pid)
                    .is_some_and(|now| !now.is_zombie && now.start_ticks == one.start_ticks)
            };
            if copies.iter().filter(lives).count() > 1 {
                return Err(format!("{name} runs more than once: {copies:?}"));
            }
        }
        Ok(())
    }

    fn none_touched(&self) -> Held {
        for server in &self.servers {
            if let Some(pid) = server.pinned.filter(|pid| !is_alive(*pid)) {
                return Err(format!("{} (PID {pid}) is dead, and nobody touched it", server.name));
            }
        }
        Ok(())
    }

    fn pair_problems(&self, seen: &[Process], status: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, what: &dyn Fn() -> String| {
            if !holds {
                problems.push(what());
            }
        };
        let active = pid_in(status, "active");
        let serving = machine::serving(seen);
        must(serving == Vec::from_iter(active), &|| {
            format!("{active:?} answers, {serving:?} serve by the pulse")
        });
        let holder = lock::holder(&self.home.join("run/nodemanager.lock")).ok().flatten();
        must(holder == active, &|| format!("{active:?} answers, {holder:?} has the lock"));
        if !self.is_calm() {
            return problems;
        }
        must(status["pair"] == "ok", &|| {
            format!("the pair is {}: {}, {}", status["pair"], status["standby"], status["keeper"])
        });
        let with = |role: &str| {
            let living = seen.iter().filter(|one| !one.is_zombie);
            let pids = living.filter(|one| one.role.as_deref() == Some(role)).map(|one| one.pid);
            pids.collect::<BTreeSet<i32>>()
        };
        let wanted = |roles: &[&str]| {
            roles.iter().filter_map(|role| pid_in(status, role)).collect::<BTreeSet<i32>>()
        };
        let twins = &with("active") | &with("standby");
        must(twins == wanted(&["active", "standby"]), &|| format!("the twins are {twins:?}"));
        must(with("run") == wanted(&["keeper"]), &|| format!("the keepers are {:?}", with("run")));
        let roles = ["run", "active", "standby"];
        let other = seen.iter().filter_map(|one| one.role.as_deref());
        let other: Vec<&str> = other.filter(|role| !roles.contains(role)).collect();
        must(other.is_empty(), &|| format!("other processes of the pair live: {other:?}"));
        problems
    }

    /// Counts that may never sink; after a good look the processes that may not change.
    fn remember(&mut self, status: &Value, rows: &BTreeMap<String, Value>, is_good: bool) {
        let takeovers = status["takeovers"].as_u64().unwrap_or(0);
        self.report.takeovers += match takeovers.checked_sub(self.takeovers_seen) {
            Some(more) => more,
            // A new life.
            None => takeovers,
        };
        self.takeovers_seen = takeovers;
        for server in &mut self.servers {
            let Some(row) = rows.get(&server.name) else { continue };
            server.restarts = row["restarts"].as_u64().unwrap_or(0);
            if is_good {
                server.is_disabled = row["enabled"].as_bool().map(|enabled| !enabled);
            }
            if is_good && server.is_steady() {
                let pid = row["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
                server.pinned = pid.filter(|_| row["state"] == "RUNNING");
                if server.wish == Wish::Either {
                    server.wish = if row["wanted"] == "up" { Wish::Up } else { Wish::Down };
                }
            }
        }
    }
}

/// Zombies below the pair that are there at every look.
fn staying_zombies(seen: &[Process], zombies: &mut Option<BTreeSet<(i32, u64)>>) -> Option<String> {
    let of_pair: BTreeSet<i32> =
        seen.iter().filter(|one| one.role.is_some()).map(|one| one.pid).collect();
    let now: BTreeSet<(i32, u64)> = seen
        .iter()
        .filter(|one| one.is_zombie && of_pair.contains(&one.parent))
        .map(|one| (one.pid, one.start_ticks))
        .collect();
    let staying = match zombies {
        Some(before) => &*before & &now,
        None => now,
    };
    *zombies = Some(staying.clone());
    (!staying.is_empty()).then(|| format!("zombies stay: {staying:?}"))
}

/// What no later look can heal.
fn never_wrong(server: &Server, row: &Value) -> Held {
    let name = &server.name;
    let restarts = row["restarts"].as_u64().unwrap_or(0);
    if restarts < server.restarts {
        return Err(format!("{name}: {restarts} restarts, before it were {}", server.restarts));
    }
    if server.wrong_exit(row) {
        return Err(format!("{name}: a wrong exit status: {row}"));
    }
    if server.pinned.is_some_and(|pid| row["pid"] != pid) {
        return Err(format!("{name}: PID {:?} was not touched: {row}", server.pinned));
    }
    Ok(())
}

fn server_problem(server: &Server, row: &Value, own: &[&Process], is_calm: bool) -> Option<String> {
    let is_up = row["wanted"] == "up";
    match (server.wish, is_up) {
        (Wish::Up, false) => return Some("it must be wanted up".to_string()),
        (Wish::Down, true) => return Some("it must be wanted down".to_string()),
        _ => {}
    }
    let enabled = server.is_disabled.map(|is_disabled| !is_disabled);
    if enabled.is_some_and(|enabled| row["enabled"] != enabled) {
        return Some(format!("disabled must be {:?}", server.is_disabled));
    }
    let pid = row["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let living = || own.iter().filter(|one| !one.is_zombie);
    if let Some(orphan) = living().find(|one| Some(one.session) != pid) {
        return Some(format!("nobody accounts for {orphan:?}"));
    }
    if is_up {
        if !server.may_be(row, is_calm) {
            return Some("it is wanted up".to_string());
        }
        let has_leader = living().any(|one| Some(one.pid) == pid);
        return (row["state"] == "RUNNING" && !has_leader).then(|| "it does not live".to_string());
    }
    let is_down = row["state"] == "STOPPED" && living().next().is_none();
    (is_calm && !is_down).then(|| "it is not down".to_string())
}
