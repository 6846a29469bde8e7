//! `start`, `stop`, `restart`, `reload`, `drain`, `signal`, `kill`, `reset`, `wait` and `shutdown`: asks, prints what
//! came of it, and returns the exit status.
//!
//! Must not decide what is possible: the active does, and says why not.

use super::client::{CallError, Client, Patience, Response, request_id};
use super::progress::{self, Plan, Reached};
use super::{Failure, exit, print, printable, status};
use crate::api::{
    Answer, Ask, Dependants, ErrorAnswer, Goal, SERVERS_PATH, SHUTDOWN_PATH, ServerResult,
    ShutdownAnswer, ShutdownAsk,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

/// What is to be done with servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start,
    Stop,
    Restart,
    /// Its full name, such as `SIGHUP`.
    Signal(String),
    Kill,
    Reset,
    Reload,
    Drain,
    Enable,
    Disable,
    Wait(Goal),
}

impl Action {
    /// Its name in the path of the request.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Restart => "restart",
            Action::Signal(_) => "signal",
            Action::Kill => "kill",
            Action::Reset => "reset",
            Action::Reload => "reload",
            Action::Drain => "drain",
            Action::Enable => "enable",
            Action::Disable => "disable",
            Action::Wait(_) => "wait",
        }
    }
}

/// What was said beside the action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub json: bool,
    /// `--timeout`: when it is over, the action goes on, and the exit status is 124.
    pub timeout: Option<Duration>,
    pub no_wait: bool,
    /// For a stop or a restart: `--dependants` or `--only`.
    pub dependants: Option<Dependants>,
    /// A person looks at standard error: how far a long action is can be told there.
    pub shows_progress: bool,
}

impl Options {
    /// `plan`, where somebody waits and looks.
    pub fn shown(&self, plan: Option<Plan>) -> Option<Plan> {
        plan.filter(|_| self.shows_progress && !self.json && !self.no_wait)
    }

    pub(super) fn patience(&self) -> Patience {
        match self.timeout {
            Some(limit) => Patience::Until(status::after(limit)),
            None if self.no_wait => Patience::Question,
            None => Patience::Action,
        }
    }
}

/// Asks for `action` on the servers that `names` means and prints one line for each; what went
/// well on `out`, the rest on `err`. Returns the exit status.
pub fn act(
    client: &Client,
    action: Action,
    names: Vec<String>,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let answer: Answer = match ask(client, &action, names, options) {
        Ok(answer) => answer,
        Err(failure) => return failure.print(err),
    };
    show(&answer, options, out, err)
}

/// Prints what came of a request; returns the exit status.
pub(super) fn show(
    answer: &Answer,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let exit = exit::worst(answer.results.iter().map(|result| result.exit).chain([answer.exit]));
    if options.json {
        return print_json(answer, exit, out, err);
    }
    let (done, failed): (Vec<_>, Vec<_>) = answer.results.iter().partition(|result| result.ok);
    let lines = |results: Vec<&ServerResult>| results.into_iter().map(lines_of).collect::<String>();
    let exit = print(out, &lines(done), exit);
    print(err, &lines(failed), exit)
}

/// Asks for `action` on the servers that `names` means.
///
/// # Errors
/// There is no answer, or it is an error.
pub(super) fn ask(
    client: &Client,
    action: &Action,
    names: Vec<String>,
    options: Options,
) -> Result<Answer, Failure> {
    let (mut signal, mut goal) = (None, None);
    match action {
        Action::Signal(name) => signal = Some(name.clone()),
        Action::Wait(what) => goal = Some(*what),
        Action::Start
        | Action::Stop
        | Action::Restart
        | Action::Kill
        | Action::Reset
        | Action::Reload
        | Action::Drain
        | Action::Enable
        | Action::Disable => {}
    }
    let (wait, dependants) = (!options.no_wait, options.dependants);
    let plan = options.shown(Plan::of(action, &names));
    let ask = Ask { id: request_id()?, names, wait, signal, goal, dependants };
    let path = format!("{SERVERS_PATH}{}", action.name());
    progress::during(client, plan, || post(client, &path, &ask, options))
}

/// Sends `ask` there and gives the answer to it.
///
/// # Errors
/// There is no answer, or it is an error.
pub(super) fn post<A: DeserializeOwned>(
    client: &Client,
    path: &str,
    ask: &impl Serialize,
    options: Options,
) -> Result<A, Failure> {
    let response = client
        .call("POST", path, Some(json(ask)?), options.patience())
        .map_err(|error| error.failure(client.control_socket(), options.timeout))?;
    parse(&response)
}

fn lines_of(result: &ServerResult) -> String {
    let mut text = format!("{}: {}", printable(&result.name), printable(&result.text));
    if !result.last_lines.is_empty() {
        text.push_str("; its last output lines:");
    }
    text.push('\n');
    for line in &result.last_lines {
        let _ = writeln!(text, "    {}", printable(line));
    }
    text
}

/// What `shutdown` is to do with the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    Keep,
    Stop,
    /// With SIGKILL at once.
    Kill,
}

/// Ends the pair, waits until its processes are gone (the active answers when its servers are
/// down, or when it is certain that they stay up), and prints what is left behind and how
/// to stop it. Returns the exit status.
pub fn shutdown(
    client: &Client,
    servers: Servers,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let twins = client.living();
    let patience = options.patience();
    let plan = options.shown(Some(Plan::of_all("stopping", Reached::Down)));
    let plan = plan.filter(|_| servers != Servers::Keep);
    let asked = progress::during(client, plan, || ask_shutdown(client, servers, options, patience));
    let answer = match asked {
        Ok(answer) => answer,
        Err(failure) => return failure.print(err),
    };
    let deadline = match patience {
        Patience::Until(deadline) => Some(deadline),
        Patience::Question | Patience::Action => None,
    };
    let is_gone = options.no_wait || client.wait_until_gone(&twins, deadline);
    let exit = if is_gone { exit::DONE } else { exit::TIME_OVER };
    let exit = match (options.json, &answer) {
        (true, Some(answer)) => print_json(answer, exit, out, err),
        (false, Some(answer)) => {
            let has_waited = !options.no_wait;
            print(out, &left_behind(answer, is_gone && has_waited, has_waited), exit)
        }
        (_, None) => print(err, "the pair has ended; its answer was lost on the way\n", exit),
    };
    if !is_gone {
        let pids: Vec<_> = twins.iter().map(|twin| twin.pid.to_string()).collect();
        let text = format!("the pair (PID {}) is still ending; it goes on", pids.join(", "));
        return Failure::new(exit, text).print(err);
    }
    exit
}

/// None: the request was sent, and then the pair was gone before its answer came.
fn ask_shutdown(
    client: &Client,
    servers: Servers,
    options: Options,
    patience: Patience,
) -> Result<Option<ShutdownAnswer>, Failure> {
    let stop_servers = servers != Servers::Keep;
    let (force, wait) = (servers == Servers::Kill, !options.no_wait);
    let ask = ShutdownAsk { id: request_id()?, stop_servers, force, wait };
    match client.call("POST", SHUTDOWN_PATH, Some(json(&ask)?), patience) {
        Ok(response) => parse(&response).map(Some),
        Err(CallError::NotRunning { asked: true }) => Ok(None),
        Err(error) => Err(error.failure(client.control_socket(), options.timeout)),
    }
}

fn left_behind(answer: &ShutdownAnswer, is_gone: bool, has_waited: bool) -> String {
    let mut text = if is_gone { "the pair has ended" } else { "the pair ends" }.to_owned();
    if answer.left.is_empty() {
        // Who did not wait can't know it.
        text.push_str(if has_waited { "; no server is up\n" } else { "\n" });
        return text;
    }
    text.push_str("; these servers stay up, without a node manager:\n");
    let width = answer.left.iter().map(|left| left.name.chars().count()).max().unwrap_or(0);
    for left in &answer.left {
        let _ = writeln!(text, "  {:<width$}  PID {}", printable(&left.name), left.pid);
    }
    if let Some(mover) = answer.mover {
        let _ = writeln!(text, "PID {mover} goes on moving their output");
    }
    text.push_str(
        "stop them with `nodemanager shutdown --stop-servers`; manage them again with \
         `nodemanager run`\n",
    );
    text
}

/// The value in a good answer.
///
/// # Errors
/// The error in a bad one, with the exit status that it asks for.
pub(super) fn parse<T: DeserializeOwned>(response: &Response) -> Result<T, Failure> {
    let wrong = |error: serde_json::Error| {
        let text = format!("cannot read the answer (HTTP {}): {error}", response.status);
        Failure::new(exit::FAILED, text)
    };
    if response.status == 200 {
        return serde_json::from_slice(&response.body).map_err(wrong);
    }
    let error: ErrorAnswer = serde_json::from_slice(&response.body).map_err(wrong)?;
    // An error is never success, whatever its sender says.
    let exit = if error.exit == exit::DONE { exit::FAILED } else { error.exit };
    Err(Failure::new(exit::worst([exit]), error.error))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value)
        .map_err(|error| Failure::new(exit::FAILED, format!("cannot write the request: {error}")))
}

pub(super) fn print_json(
    value: &impl Serialize,
    exit: u8,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match serde_json::to_string(value) {
        Ok(text) => print(out, &format!("{text}\n"), exit),
        Err(error) => Failure::new(exit::FAILED, error.to_string()).print(err),
    }
}

#[cfg(test)]
mod tests;
