//! `diff` and `apply`: asks the pair what its configuration file would change, or to change it.
//!
//! Must not read the configuration for the pair: the pair does, with the environment that it was
//! started with.

use super::client::{Client, Patience, request_id};
use super::control::{Options, post, print_json};
use super::progress::{Plan, Reached, during};
use super::{Failure, exit, print, printable, status};
use crate::api::{APPLY_PATH, ApplyAnswer, ApplyAsk, Change, ServerStatus, State, Status, What};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

/// Between two looks at the pair.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So long, without a `--timeout`, nobody answers or nothing moves before it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Prints what an `apply` would do; returns the exit status.
pub fn diff(
    client: &Client,
    names: Vec<String>,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match ask(client, names, true, options) {
        Ok(answer) if options.json => print_json(&answer, exit::DONE, out, err),
        Ok(answer) => print(out, &text(&answer), exit::DONE),
        Err(failure) => failure.print(err),
    }
}

/// Puts the configuration file in force and waits until what it changes is done; returns the exit
/// status.
pub fn apply(
    client: &Client,
    names: Vec<String>,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match try_apply(client, names, options, out, err) {
        Ok(code) => code,
        Err(failure) => failure.print(err),
    }
}

fn try_apply(
    client: &Client,
    names: Vec<String>,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Failure> {
    let before = status::fetch(client, &[], options.timeout)?;
    let answer = ask(client, names, false, options)?;
    if !options.json {
        let code = print(out, &text(&answer), exit::DONE);
        if code != exit::DONE {
            return Ok(code);
        }
    }
    let is_done = answer.is_empty() || options.no_wait;
    let plan = options.shown(Some(Plan::of_all("applying", Reached::AsWanted)));
    let failed = match is_done {
        true => Vec::new(),
        false => during(client, plan, || wait(client, &before, &answer, options))?,
    };
    let code = if failed.is_empty() { exit::DONE } else { exit::FAILED };
    if options.json {
        return Ok(print_json(&answer, code, out, err));
    }
    for line in failed {
        Failure::new(exit::FAILED, line).print(err);
    }
    Ok(code)
}

fn ask(
    client: &Client,
    names: Vec<String>,
    only_show: bool,
    options: Options,
) -> Result<ApplyAnswer, Failure> {
    let ask = ApplyAsk { id: request_id()?, names, only_show };
    post(client, APPLY_PATH, &ask, options)
}

/// Waits until the configuration is in force and every server that it changes is where it is to
/// be; says which are not well.
fn wait(
    client: &Client,
    before: &Status,
    answer: &ApplyAnswer,
    options: Options,
) -> Result<Vec<String>, Failure> {
    let limit = match options.patience() {
        Patience::Until(limit) => Some(limit),
        Patience::Question | Patience::Action => None,
    };
    let pids: BTreeMap<&str, Option<i32>> =
        before.servers.iter().map(|one| (one.name.as_str(), one.pid)).collect();
    let mut moved = Instant::now();
    let mut left_last = usize::MAX;
    loop {
        let left_ms = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
        let now = status::fetch(client, &[], left_ms)?;
        if now.config_generation < answer.generation && !now.applying {
            let text = "the configuration did not come into force: the active died on the way, or no \
                        standby got ready with it (see `nodemanager logs --self`); ask again";
            return Err(Failure::new(exit::TRY_LATER, text));
        }
        let is_in_force = now.config_generation >= answer.generation;
        let judged: Vec<Judged> =
            answer.servers.iter().map(|change| judge(change, &now, &pids)).collect();
        let left = judged.iter().filter(|one| matches!(one, Judged::NotYet)).count();
        if is_in_force && left == 0 {
            return Ok(judged.into_iter().filter_map(Judged::failure).collect());
        }
        if left != left_last {
            (moved, left_last) = (Instant::now(), left);
        }
        let is_over = match limit {
            Some(limit) => Instant::now() >= limit,
            None => moved.elapsed() >= SILENCE_MAX,
        };
        if is_over {
            let text = format!("not through yet: {left} servers; it goes on");
            return Err(Failure::new(exit::TIME_OVER, text));
        }
        // A command may wait; nothing else runs in this process.
        std::thread::sleep(LOOK_EVERY);
    }
}

enum Judged {
    Done,
    NotYet,
    Failed(String),
}

impl Judged {
    fn failure(self) -> Option<String> {
        match self {
            Judged::Failed(text) => Some(text),
            Judged::Done | Judged::NotYet => None,
        }
    }
}

fn judge(change: &Change, now: &Status, before: &BTreeMap<&str, Option<i32>>) -> Judged {
    let found = now.servers.iter().find(|server| server.name == change.name);
    let pid = before.get(change.name.as_str()).copied().flatten();
    match (change.what, found) {
        (What::Add | What::Change, _) | (What::Stop, None) => Judged::Done,
        (What::Stop, Some(server)) if server.pid.is_none() && server.state == State::Stopped => {
            Judged::Done
        }
        (What::Stop, Some(_)) | (What::Start | What::Restart, None) => Judged::NotYet,
        // It is still to be stopped.
        (What::Restart, Some(server)) if server.pid.is_some() && server.pid == pid => {
            Judged::NotYet
        }
        (What::Start | What::Restart, Some(server)) => judge_start(server),
    }
}

fn judge_start(server: &ServerStatus) -> Judged {
    match server.state {
        State::Running | State::Exited | State::Stopped => Judged::Done,
        State::Failed | State::Backoff => {
            Judged::Failed(format!("{}: {} {}", server.name, server.state, server.detail))
        }
        _ => Judged::NotYet,
    }
}

/// One line for each change.
fn text(answer: &ApplyAnswer) -> String {
    if answer.is_empty() {
        return "nothing differs from the configuration in force\n".to_owned();
    }
    let mut rows: Vec<(&str, String, String)> = Vec::new();
    let node = "[nodeManager]".to_owned();
    if !answer.refused.is_empty() {
        let keys = format!("{}: only while the pair is down", answer.refused.join(", "));
        rows.push(("refused", node.clone(), keys));
    }
    if !answer.node.is_empty() {
        rows.push(("change", node, answer.node.join(", ")));
    }
    rows.extend(answer.servers.iter().map(|change| {
        let what = match change.what {
            What::Start => "start",
            What::Add => "add",
            What::Stop => "stop",
            What::Restart => "restart",
            What::Change => "change",
        };
        (what, printable(&change.name), change.keys.join(", "))
    }));
    let width = rows.iter().map(|(_, name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(what, name, keys): (&str, String, String)| {
        format!("{}\n", format!("{what:<8} {name:<width$}  {keys}").trim_end())
    };
    rows.into_iter().map(line).collect()
}
