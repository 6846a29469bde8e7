//! `status` and `pid`: asks for the status, chooses the servers, prints it as text or JSON.
//!
//! Must not read a clock or ask for a terminal: both are handed in, so that every text is a test.

pub(super) mod text;

use super::client::{CallError, Client, Patience};
use super::{Failure, control, exit, print};
use crate::api::{Pair, STATUS_PATH, ServerStatus, StandbyState, Status};
use crate::names;
use jiff::Timestamp;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

/// How the status is to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub json: bool,
    /// Only the pair; its wholeness decides the exit status.
    pub pair_only: bool,
    /// Only the rows.
    pub no_header: bool,
    /// The terminal's width in columns, where stdout is one: details are cut to it.
    pub columns: Option<usize>,
    /// States have colours.
    pub has_colours: bool,
}

/// Asks the pair for its status, and for more about the servers in `wanted`.
///
/// # Errors
/// Nobody answered (exit status 69: no pair runs, the journal may tell), or the answer is wrong.
pub fn fetch(
    client: &Client,
    wanted: &[String],
    timeout: Option<Duration>,
) -> Result<Status, Failure> {
    let names = wanted.iter().map(|name| ("name", name));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(names).finish();
    let separator = if query.is_empty() { "" } else { "?" };
    let path = format!("{STATUS_PATH}{separator}{query}");
    let patience = timeout.map_or(Patience::Question, |limit| Patience::Until(after(limit)));
    let response = client.call("GET", &path, None, patience).map_err(|error| {
        let error = match error {
            // Nothing goes on behind a question.
            CallError::TimedOut { .. } => CallError::TimedOut { asked: false },
            error => error,
        };
        error.failure(client.control_socket(), timeout)
    })?;
    control::parse(&response)
}

/// The moment `limit` from now; a limit too long for a clock is a year.
pub(super) fn after(limit: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    let now = Instant::now();
    now.checked_add(limit.min(YEAR)).unwrap_or(now)
}

/// Prints `status` for all servers, or for those that `wanted` names; returns the exit status:
/// 69 when no pair runs, 4 for an unknown name, 3 when what was asked about is not whole.
pub fn show(
    mut status: Status,
    wanted: &[String],
    view: View,
    now: Timestamp,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    if let Err(failure) = narrow(&mut status, wanted) {
        return failure.print(err);
    }
    let exit = exit_status(&status, view.pair_only);
    let text = match view.json {
        true => match serde_json::to_string(&status) {
            Ok(text) => format!("{text}\n"),
            Err(error) => return Failure::new(exit::FAILED, error.to_string()).print(err),
        },
        false => text::render(&status, !wanted.is_empty(), view, now),
    };
    print(out, &text, exit)
}

/// Prints the PIDs of the servers that `wanted` names, one a line; a server without a process
/// is told on `err`, with exit status 3.
pub fn show_pids(
    mut status: Status,
    wanted: &[String],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    if let Err(failure) = narrow(&mut status, wanted) {
        return failure.print(err);
    }
    let mut text = String::new();
    let mut exit = exit::DONE;
    for server in &status.servers {
        match server.pid {
            Some(pid) => drop(writeln!(text, "{pid}")),
            None => {
                let reason = format!("{} has no process: it is {}", server.name, server.state);
                exit = Failure::new(exit::NOT_WHOLE, reason).print(err);
            }
        }
    }
    print(out, &text, exit)
}

/// Leaves the servers that `wanted` names; without a name all of them.
///
/// # Errors
/// A name that means no server: exit status 4.
pub fn narrow(status: &mut Status, wanted: &[String]) -> Result<(), Failure> {
    if wanted.is_empty() {
        return Ok(());
    }
    let known: Vec<names::Known<'_>> = status.servers.iter().map(ServerStatus::known).collect();
    let chosen =
        names::select(wanted, &known).map_err(|text| Failure::new(exit::UNKNOWN_NAME, text))?;
    let servers = chosen.into_iter().filter_map(|at| status.servers.get(at).cloned()).collect();
    status.servers = servers;
    Ok(())
}

/// The exit status of `status`.
pub fn exit_status(status: &Status, pair_only: bool) -> u8 {
    let has_standby =
        status.standby.as_ref().is_some_and(|standby| standby.state == StandbyState::Watching);
    let is_whole = match pair_only {
        true => has_standby && status.keeper.is_some(),
        false => status.servers.iter().all(ServerStatus::is_as_wanted),
    };
    match (status.pair, is_whole) {
        (Pair::Down, _) => exit::NOT_RUNNING,
        (_, false) => exit::NOT_WHOLE,
        (_, true) => exit::DONE,
    }
}

#[cfg(test)]
mod tests;
