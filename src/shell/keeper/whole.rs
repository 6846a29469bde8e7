//! Is the pair whole, and are its servers up? What `run --detach` waits for, and what an init system is
//! told.
//!
//! Must not ask anybody: it judges a status that somebody has.

use crate::api::{Pair, ServerStatus, Standby, StandbyState, State, Status};
use std::time::Duration;

/// A pair that is not whole after this is reported as it is.
pub const WHOLE_LIMIT: Duration = Duration::from_secs(120);
/// How soon a server's second try must come for a start to wait for it.
const NEXT_TRY_LIMIT: Duration = Duration::from_secs(10);

/// How far a start is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// An active serves, a standby watches where there is to be one, and the servers are up.
    Whole,
    /// Says what is missing.
    NotYet(String),
    /// The pair runs; says which server was given up, or will not be up soon.
    Failed(String),
}

/// Is the pair whole, and are the servers up that are wanted?
pub fn judge(status: &Status) -> Judged {
    let is_on_its_way = |server: &&ServerStatus| match server.state {
        State::Starting | State::Stopping => true,
        State::Backoff => has_a_try_left(server),
        _ => false,
    };
    let is_any_on_its_way = wanted(status).any(|server| is_on_its_way(&server));
    let failed: Vec<String> = wanted(status)
        .filter(|server| match server.state {
            State::Failed => true,
            // For a lock it waits with a process, and not for ever; for others as long as any of them
            // may still become ready.
            State::Waiting => server.pid.is_none() && !is_any_on_its_way,
            State::Backoff => !has_a_try_left(server),
            _ => false,
        })
        .map(|server| format!("{}: {} {}", server.name, server.state, server.detail))
        .collect();
    if !failed.is_empty() {
        let text = failed.join("; ");
        return Judged::Failed(format!(
            "the pair runs, but not all servers are up: {text}; see `nodemanager logs NAME`"
        ));
    }
    let is_watching = |standby: &Standby| standby.state == StandbyState::Watching;
    let has_its_standby = status.standby.as_ref().is_none_or(is_watching);
    let has_keeper = status.standby.is_none() || status.keeper.is_some();
    if status.pair == Pair::Down || !has_its_standby || !has_keeper {
        return Judged::NotYet("the pair is not whole yet".to_string());
    }
    let is_up = |server: &&ServerStatus| matches!(server.state, State::Running | State::Exited);
    let missing: Vec<&str> =
        wanted(status).filter(|server| !is_up(server)).map(|server| server.name.as_str()).collect();
    match missing.is_empty() {
        true => Judged::Whole,
        false => Judged::NotYet(format!("not up yet: {}", missing.join(", "))),
    }
}

/// One failure alone says little: it may have happened while no pair ran, or before something that
/// the server needs was up. Its next try is waited for, if that comes soon.
fn has_a_try_left(server: &ServerStatus) -> bool {
    let next = server.next_try_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let now = jiff::Timestamp::now();
    let soon = now.checked_add(NEXT_TRY_LIMIT).unwrap_or(now);
    server.fail_count <= 1 && next.is_some_and(|at| at < soon)
}

fn wanted(status: &Status) -> impl Iterator<Item = &ServerStatus> {
    status.servers.iter().filter(|server| server.wanted == crate::core::Wanted::Up)
}
