//! `restart --rolling`: one server after the other, each RUNNING again before the next.
//!
//! Must not be more than single requests: each is done once and outlives a takeover by itself, so
//! the roll as a whole does. A command that is killed leaves the rest as it was.

use super::client::Client;
use super::control::{Action, Options, ask, show};
use super::{Failure, exit, status};
use crate::api::{Answer, Dependants, ServerResult, ServerStatus};
use crate::names;
use std::io::Write;
use std::time::Instant;

/// Restarts the servers that `names` means one by one, and stops at the first that fails. Prints
/// one answer about all of them, also those that were not touched. Returns the exit status.
pub fn restart(
    client: &Client,
    names: &[String],
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    if options.no_wait {
        let text = "--rolling waits for each server; it can't be combined with --no-wait";
        return Failure::new(exit::USAGE, text).print(err);
    }
    let deadline = options.timeout.map(status::after);
    // Those that need the servers keep what they need: that is what it is for.
    let dependants = options.dependants.or(Some(Dependants::Leave));
    let options = Options { dependants, ..options };
    let chosen = match choose(client, names, options) {
        Ok(chosen) => chosen,
        Err(failure) => return failure.print(err),
    };
    let mut results: Vec<ServerResult> = Vec::new();
    let mut failed: Option<String> = None;
    for server in chosen {
        if let Some(before) = &failed {
            let text = format!("not restarted, because {before} was not");
            results.push(not_done(server.name, exit::FAILED, text));
        } else if !server.enabled {
            let text = "not restarted: it is disabled".to_owned();
            results.push(not_done(server.name, exit::FAILED, text));
        } else {
            let done = restart_one(client, &server.name, options, deadline);
            if done.iter().any(|result| !result.ok) {
                failed = Some(server.name);
            }
            results.extend(done);
        }
    }
    let exit = exit::worst(results.iter().map(|result| result.exit));
    show(&Answer { exit, results }, options, out, err)
}

/// In the order of the configuration.
fn choose(
    client: &Client,
    wanted: &[String],
    options: Options,
) -> Result<Vec<ServerStatus>, Failure> {
    let status = status::fetch(client, &[], options.timeout)?;
    let known: Vec<names::Known<'_>> = status.servers.iter().map(ServerStatus::known).collect();
    let chosen =
        names::select(wanted, &known).map_err(|text| Failure::new(exit::UNKNOWN_NAME, text))?;
    Ok(chosen.into_iter().filter_map(|at| status.servers.get(at).cloned()).collect())
}

fn restart_one(
    client: &Client,
    name: &str,
    options: Options,
    deadline: Option<Instant>,
) -> Vec<ServerResult> {
    let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let options = Options { timeout, ..options };
    match ask(client, &Action::Restart, vec![name.to_owned()], options) {
        Ok(answer) => answer.results,
        Err(failure) => vec![not_done(name.to_owned(), failure.exit, failure.text)],
    }
}

fn not_done(name: String, exit: u8, text: String) -> ServerResult {
    ServerResult { name, ok: false, exit, text, last_lines: Vec::new() }
}
