//! A real pair with some sixty servers under an operator and an adversary who both act at random:
//! `cargo run --release --example chaos -- --seed 1 --minutes 5`.
//!
//! After each act everything is looked at from outside (`audit.rs`). All chance comes from the
//! seed, so that a seed and a number of acts name a run, as far as real processes repeat. Must not
//! set the real clock, and must leave nothing behind but the directory of a run that failed.

mod acts;
mod adversary;
mod audit;
mod beside;
mod chatter;
mod faults;
mod garbage;
mod given;
mod history;
mod machine;
mod operator;
mod report;
#[path = "../../tests/sim/rng.rs"]
#[allow(dead_code, reason = "shared with the simulator, which uses more of it")]
mod rng;
mod servers;
mod world;

use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use world::World;

/// How something that was tried ended: what did not hold, in a sentence.
type Held<T = ()> = Result<T, String>;

const USAGE: &str = "usage: chaos [OPTION]...
  --seed S      all chance comes from it (default: from the clock)
  --minutes M   how long it acts (default 1; a fraction is allowed)
  --acts N      end after so many acts
  --only NAMES  only acts with one of these words in their names (comma between)
  --verbose     a line for each act
  --list        print the acts with their weights, and end
";

/// What was asked for.
struct Options {
    seed: u64,
    limit: Duration,
    acts: u64,
    only: Option<String>,
    is_verbose: bool,
    is_list: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            say(&format!("chaos: {text}\n{USAGE}"));
            return ExitCode::from(64);
        }
    };
    if options.is_list {
        acts::ACTS.iter().for_each(|act| say(&format!("{:>4} {}", act.weight, act.name)));
        return ExitCode::SUCCESS;
    }
    if let Some(status) = machine::in_own_mounts() {
        return status;
    }
    say(&format!("seed {}", options.seed));
    let mut world = match World::new(options.seed, options.is_verbose, options.limit) {
        Ok(world) => world,
        Err(text) => {
            say(&format!("chaos: {text}"));
            return ExitCode::FAILURE;
        }
    };
    let held = run(&mut world, &options);
    world.report.print();
    match held {
        Ok(()) => {
            world.clean();
            say("all held");
            ExitCode::SUCCESS
        }
        Err(what) => {
            world.keep_evidence(&what);
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Held<Options> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut options = Options {
        seed: clock.map_or(1, |since| since.as_secs()),
        limit: Duration::from_secs(60),
        acts: u64::MAX,
        only: None,
        is_verbose: false,
        is_list: false,
    };
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} has no value"));
        let wrong = |_| format!("{option}: no number");
        match option.as_str() {
            "--seed" => options.seed = value()?.parse().map_err(wrong)?,
            "--acts" => options.acts = value()?.parse().map_err(wrong)?,
            "--only" => options.only = Some(value()?),
            "--minutes" => {
                let minutes: f64 = value()?.parse().map_err(|_| "--minutes: no number")?;
                options.limit = Duration::from_secs_f64(minutes.clamp(0.0, 10_000.0) * 60.0);
            }
            "--verbose" => options.is_verbose = true,
            "--list" => options.is_list = true,
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok(options)
}

/// The whole run: start, acts with an audit after each, calm, the end.
fn run(world: &mut World, options: &Options) -> Held {
    world.start_pair()?;
    world.audit()?;
    let end = Instant::now() + options.limit;
    while Instant::now() < end && world.act < options.acts {
        world.begin_act(options.seed);
        world.undo_expired()?;
        let act = acts::choose(&mut world.rng, options.only.as_deref())?;
        world.say(&format!("act {} {}", world.act, act.name));
        world.report.count(act.name);
        (act.run)(world).map_err(|what| format!("{}: {what}", act.name))?;
        world.audit().map_err(|what| format!("after {}: {what}", act.name))?;
    }
    world.undo_all()?;
    world.audit().map_err(|what| format!("when all was calm again: {what}"))?;
    world.end()
}

/// Prints a line; without a reader there is nobody to tell.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Whether a program can be run.
fn has_tool(name: &str) -> bool {
    Command::new(name).arg("--version").output().is_ok()
}
