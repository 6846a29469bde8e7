//! The pair is killed at every system call that it makes, and every call that can fail does.
//!
//! For each situation in `scenarios` the calls of one process are counted under ptrace(2); then, for
//! one call after the other, the process is killed at it (or the call fails), and everything that
//! must hold afterwards is checked.
//!
//! A plain `cargo test` takes samples of the calls of each situation. `NM_POINTS=all` takes every
//! one (an hour or two); `NM_POINTS=40` so many of each; `NM_SCENARIO=rotate,hung` only those with one
//! of these in their name, `NM_AT=17` just that call, `NM_KIND=2` just that error; `NM_LOG=debug` shows more.
//!
//! Must not fail where ptrace(2) is forbidden: it says so then, and is skipped. Registers are those
//! of x86_64.

#![cfg(target_arch = "x86_64")]

mod audit;
mod commands;
mod errors;
mod features;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;
mod telling;
mod tracer;

use audit::Before;
use scenarios::{Scenario, Traced, World};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use support::cgroup_root::Root;
use support::{Pair, SIGCONT, SIGKILL, signal};
use tracer::{Fault, Seen, Trace};

/// Points of each situation in a plain `cargo test`.
const SAMPLE: usize = 6;
/// After a fork the child is looked at and watched with so many calls.
const AFTER_FORK: usize = 7;
/// A process that is traced is slow; where a hang is to be seen in a second, it may be taken for hung
/// itself, and killed. That is no fault of the call; it is looked at again so often.
const TAKEN_FOR_HUNG_MAX: usize = 3;
/// A situation in which more calls are made than this never comes to an end.
/// Some look at all processes of the machine, which may be many.
const CALLS_MAX: usize = 200_000;

fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str) -> Option<usize> {
    asked(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// One pair of one scenario, and how many points it has seen.
struct Stage<'a> {
    scenario: &'a Scenario,
    pair: Pair,
    /// Dropped behind the pair: its servers are in there.
    _cgroups: Option<Root>,
    points: usize,
}

impl<'a> Stage<'a> {
    fn new(scenario: &'a Scenario) -> Stage<'a> {
        let level = asked("NM_LOG").unwrap_or_else(|| "info".to_string());
        let timeout = scenario.heartbeat_timeout();
        let node = format!("heartbeatInterval = \"50ms\"\nheartbeatTimeout = \"{timeout}\"\n");
        let cgroups = scenario.is_in_cgroups().then(|| Root::new(&new_name())).flatten();
        let root = cgroups.as_ref().map(Root::key).unwrap_or_default();
        let node = format!("{node}logLevel = \"{level}\"\n{root}");
        let pair = Pair::new(&node, &(scenario.servers)());
        pair.start();
        Stage { scenario, pair, _cgroups: cgroups, points: 0 }
    }

    /// One point from beginning to end.
    fn point(&mut self, fault: Fault) -> Seen {
        if self.points == self.scenario.points_per_pair() {
            *self = Stage::new(self.scenario);
        }
        self.points += 1;
        let (pair, scenario) = (&self.pair, self.scenario);
        audit::recover(pair, false);
        (scenario.prepare)(pair);
        let before = Before::look(pair, scenario);
        if scenario.starts_the_pair() {
            pair.ok(&["shutdown", "--keep-servers"]);
            support::wait_until("the pair to be down", || scenarios::twins(pair).is_empty());
        }
        let run = scenario.starts_the_pair().then(|| scenarios::stopped_run(pair));
        let root = run.as_ref().map_or_else(|| self.root(), pid_of_child);
        let trace = Trace::start(root, scenario.whose(), scenario.from, fault);
        if run.is_some() {
            signal(root, SIGCONT);
        }
        let has_error = !matches!(fault, Fault::Kill { .. });
        let traced = scenario.traced;
        let mut world = World { pair, trace: &trace, has_error, traced, run };
        (scenario.act)(&world);
        let run = world.run.take();
        let seen = trace.finish();
        audit::recover(pair, scenario.may_need_run());
        audit::check(pair, &before, scenario);
        self.end_run(run);
        seen
    }

    fn root(&self) -> i32 {
        self.pair.pid_of(match self.scenario.traced {
            Traced::Standby => "standby",
            Traced::Keeper => "keeper",
            _ => "active",
        })
    }

    /// The shell that became the keeper is this process's child: it has to be reaped.
    fn end_run(&self, run: Option<Child>) {
        let Some(mut run) = run else { return };
        self.pair.ok(&["shutdown", "--keep-servers"]);
        signal(pid_of_child(&run), SIGKILL);
        let _ = run.wait();
        self.pair.start();
    }
}

/// Of a directory of cgroups: several tests of this process have one at the same time.
fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("calls-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

fn pid_of_child(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a PID")
}

/// Which calls of so many are the points.
fn points(calls: usize) -> Vec<usize> {
    if let Some(at) = number("NM_AT") {
        return vec![at];
    }
    let wanted = match asked("NM_POINTS").as_deref() {
        Some("all") => calls,
        _ => number("NM_POINTS").unwrap_or(SAMPLE),
    };
    let wanted = wanted.clamp(1, calls.max(1));
    (0..wanted).map(|n| 1 + n * calls / wanted).collect()
}

/// Goes through a scenario with one kind of fault; gives how often it hit.
fn go_through(
    scenario: &Scenario,
    fault_at: &dyn Fn(usize, usize) -> Fault,
    kinds: usize,
) -> usize {
    let mut stage = Stage::new(scenario);
    // A fault that never comes: the calls are counted.
    let calls = stage.point(fault_at(usize::MAX, 0)).calls;
    assert!(calls > 0, "{}: no call was seen", scenario.name);
    assert!(calls < CALLS_MAX, "{}: {calls} calls", scenario.name);
    let mut hits = 0;
    for at in points(calls) {
        for kind in 0..kinds {
            let kind = number("NM_KIND").unwrap_or(if kinds == 1 { at } else { kind });
            // A test's output is shown when it fails: the last point is the one that did.
            println!("{}: {:?} of {calls}", scenario.name, fault_at(at, kind));
            let begun = Instant::now();
            let mut seen = stage.point(fault_at(at, kind));
            for _ in 0..TAKEN_FOR_HUNG_MAX {
                if !scenario.may_be_taken_for_hung() || !seen.was_killed_by_another() {
                    break;
                }
                println!("  again: it was taken for hung, and killed");
                seen = stage.point(fault_at(at, kind));
            }
            println!("  whole again after {} ms", begun.elapsed().as_millis());
            if let Some(hit) = &seen.hit {
                println!("  hit {hit}, ended: {:?}", seen.ended);
                hits += 1;
            }
            judge(scenario, &stage, &seen);
            if seen.hit.is_some() && kind + 1 >= seen.kinds {
                // Every error that fits this call was tried.
                break;
            }
        }
    }
    println!("== {}: {calls} calls, {hits} faults hit", scenario.name);
    hits
}

/// A call that fails ends nobody.
fn judge(scenario: &Scenario, stage: &Stage, seen: &Seen) {
    let Some(ended) = &seen.ended else { return };
    // Who was to end in this scenario, and who could not even begin, may; nobody panics.
    assert!(
        seen.was_killed || scenario.may_end(),
        "{}: ended ({ended}) by {:?}",
        scenario.name,
        seen.hit
    );
    let panicked = ended.contains("SIGABRT") || ended.contains("exit 101");
    assert!(!panicked, "{}: {ended} by {:?}", stage.scenario.name, seen.hit);
}

fn run_all(what: &str, fault_at: &dyn Fn(usize, usize) -> Fault, kinds: usize) {
    if !tracer::is_allowed() {
        return println!("skipped: this user may not trace other processes with ptrace(2)");
    }
    let only = asked("NM_SCENARIO");
    let is_asked = |name: &str| {
        only.as_ref().is_none_or(|only| only.split(',').any(|part| name.contains(part)))
    };
    let mut hits = 0;
    for scenario in scenarios::ALL.iter().chain(commands::ALL) {
        if scenario.is_in_cgroups() && Root::new(&new_name()).is_none() {
            continue;
        }
        if is_asked(scenario.name) {
            hits += go_through(scenario, fault_at, kinds);
        }
    }
    println!("{hits} {what}");
    assert!(hits > 0, "no fault hit");
}

#[test]
fn killed_at_any_system_call_the_pair_comes_back_and_nothing_is_lost_doubled_or_made_up() {
    run_all("processes killed at a system call", &|at, _| Fault::Kill { at }, 1);
}

#[test]
fn whatever_system_call_fails_nobody_ends_and_nothing_is_lost_doubled_or_made_up() {
    let kinds = if asked("NM_POINTS").as_deref() == Some("all") { 5 } else { 1 };
    run_all("system calls failed", &|at, kind| Fault::Fail { at, kind }, kinds);
}

#[test]
fn a_child_that_cannot_be_looked_at_or_watched_is_reaped_all_the_same() {
    if !tracer::is_allowed() {
        return println!("skipped: this user may not trace other processes with ptrace(2)");
    }
    // A check's program, the process that reads a configuration, the one that writes the list.
    let names = ["ready by a program", "apply, active", "disable now"];
    for scenario in scenarios::ALL.iter().filter(|one| names.contains(&one.name)) {
        let mut stage = Stage::new(scenario);
        let seen = stage.point(Fault::Fail { at: usize::MAX, kind: 0 });
        assert!(!seen.forks.is_empty(), "{}: no child in {} calls", scenario.name, seen.calls);
        for fork in 1..=seen.forks.len() {
            for call in 1..=AFTER_FORK {
                println!("{}: call {call} after fork {fork}", scenario.name);
                let seen = stage.point(Fault::FailAfterFork { fork, call });
                judge(scenario, &stage, &seen);
            }
        }
    }
}

#[test]
fn a_standby_that_could_not_be_killed_leaves_no_control_socket_that_nobody_serves() {
    if !tracer::is_allowed() {
        return println!("skipped: this user may not trace other processes with ptrace(2)");
    }
    let name = "lose the control socket";
    let scenario = scenarios::ALL.iter().find(|one| one.name == name).expect("the situation");
    let mut stage = Stage::new(scenario);
    let mut hits = 0;
    loop {
        // Each begins with the death of the active: its standby then serves what it was handed.
        let seen = stage.point(Fault::FailNamed { name: "pidfd_send_signal", nth: hits + 1 });
        judge(scenario, &stage, &seen);
        if seen.hit.is_none() {
            break;
        }
        hits += 1;
    }
    assert!(hits > 0, "no signal was sent");
}
