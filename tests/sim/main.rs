//! The core under a seeded simulator: thousands of crashes a second, on a made-up machine.
//!
//! Must not use the shell. docs/SIMULATION.md tells what is simulated and what is checked.
//! `NM_SIM_SEEDS` sets how many seeds run (from `NM_SIM_FIRST_SEED`), `NM_SIM_SEED` runs one and prints its
//! trace, `NM_SIM_TRACE` how many steps of it are kept.

mod actions;
mod answers;
mod calm;
mod chaos;
mod checks;
mod clients;
mod disk;
mod enabling;
mod guard;
mod keeper;
mod link;
mod os;
mod plan;
mod processes;
mod rng;
mod scenarios;
mod tasks;
mod twin;
mod world;

use plan::Plan;
use rng::Rng;
use std::collections::VecDeque;
use world::{Counts, World};

/// Enough of them for a hundred thousand takeovers.
const SEEDS: u64 = 3_500;

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn world_of(seed: u64) -> World {
    World::new(seed, Plan::draw(&mut Rng::new(seed ^ 0xa5a5)))
}

fn run_seed(seed: u64) -> Counts {
    let mut world = world_of(seed);
    world.run();
    if world.failure.is_some() {
        panic!("{}", story_of(seed));
    }
    world.counts
}

/// The same seed again, with its trace.
fn story_of(seed: u64) -> String {
    let mut world = world_of(seed);
    world.trace = Some(VecDeque::new());
    world.trace_length = number_from("NM_SIM_TRACE").map_or(60, |lines| lines as usize);
    world.run();
    let trace: Vec<String> = world.trace.unwrap_or_default().into();
    let failure = world.failure.unwrap_or_default();
    format!("seed {seed}: {failure}\n{:?}\n{}", world.plan, trace.join("\n"))
}

fn run_seeds(seeds: impl Iterator<Item = u64>) -> Counts {
    let mut sum = Counts::default();
    for seed in seeds {
        let counts = run_seed(seed);
        sum.takeovers += counts.takeovers;
        sum.steps += counts.steps;
        sum.starts += counts.starts;
        sum.kills += counts.kills;
        sum.answered += counts.answered;
        sum.hangs += counts.hangs;
        sum.runs += counts.runs;
    }
    sum
}

#[test]
fn a_hundred_thousand_takeovers_break_no_promise() {
    if let Some(seed) = number_from("NM_SIM_SEED") {
        println!("{}", story_of(seed));
        run_seed(seed);
        return;
    }
    let asked_for = number_from("NM_SIM_SEEDS");
    let first = number_from("NM_SIM_FIRST_SEED").unwrap_or(0);
    let sum = run_seeds(first..first + asked_for.unwrap_or(SEEDS));
    println!("{sum:?}");
    assert!(asked_for.is_some() || sum.takeovers >= 100_000, "only {} takeovers", sum.takeovers);
    assert!(asked_for.is_some() || sum.hangs > 500, "only {} hangs", sum.hangs);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        assert_eq!(run_seed(seed), run_seed(seed));
        assert_eq!(story_of(seed), story_of(seed));
    }
}
