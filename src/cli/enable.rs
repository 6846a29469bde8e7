//! `enable` and `disable`: asks the pair, and starts or stops the servers too with `--now`; without
//! a pair the list of disabled servers is changed directly.
//!
//! Must not decide what is possible: the active does, and says why not.

use super::client::Client;
use super::control::{Action, Options, ask, show};
use super::{Failure, exit, print};
use crate::api::{Answer, ServerResult};
use crate::config::Config;
use crate::names;
use crate::state::disabled;
use std::collections::BTreeMap;
use std::io::Write;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub names: Vec<String>,
    pub is_enabled: bool,
    /// They are started or stopped too.
    pub now: bool,
}

/// Enables or disables servers; one line for each. Returns the exit status.
pub fn enable(
    client: &Client,
    config: &Config,
    change: Change,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let action = if change.is_enabled { Action::Enable } else { Action::Disable };
    // It ends at once, whatever is said of what follows it.
    let listed = Options { no_wait: false, dependants: None, ..options };
    let answer = match ask(client, &action, change.names.clone(), listed) {
        Ok(answer) => answer,
        Err(failure) if failure.exit == exit::NOT_RUNNING && !change.now => {
            return without_pair(config, &change, options, out, err);
        }
        Err(failure) => return failure.print(err),
    };
    let is_done = answer.results.iter().all(|result| result.ok);
    if !change.now || !is_done {
        return show(&answer, options, out, err);
    }
    let action = if change.is_enabled { Action::Start } else { Action::Stop };
    match ask(client, &action, change.names, options) {
        Ok(second) => show(&joined(&answer, second), options, out, err),
        Err(failure) => {
            let exit = show(&answer, options, out, err);
            exit::worst([exit, failure.print(err)])
        }
    }
}

/// One result for each server: what became of it in the list, and what of it now.
fn joined(first: &Answer, mut second: Answer) -> Answer {
    let listed: BTreeMap<&str, &str> =
        first.results.iter().map(|one| (one.name.as_str(), one.text.as_str())).collect();
    for result in &mut second.results {
        if let Some(text) = listed.get(result.name.as_str()) {
            // What runs on is the news of the moment before.
            let word = text.split(';').next().unwrap_or_default();
            result.text = format!("{word}; {}", result.text);
        }
    }
    second
}

fn without_pair(
    config: &Config,
    change: &Change,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let known: Vec<names::Known<'_>> = config.servers.iter().map(|one| one.known()).collect();
    let chosen = match names::select(&change.names, &known) {
        Ok(chosen) => chosen,
        Err(text) => return Failure::new(exit::UNKNOWN_NAME, text).print(err),
    };
    let chosen: Vec<String> = chosen
        .into_iter()
        .filter_map(|at| config.servers.get(at))
        .map(|one| one.name.to_string())
        .collect();
    let changes: Vec<disabled::Change> =
        chosen.iter().map(|name| (name.clone(), !change.is_enabled)).collect();
    let dir = &config.node.state_dir;
    let made = std::fs::create_dir_all(dir).and_then(|()| disabled::change(&changes, dir));
    if let Err(error) = made {
        let path = disabled::path(dir);
        let text =
            format!("no node manager runs, and {} cannot be written: {error}", path.display());
        return Failure::new(exit::FAILED, text).print(err);
    }
    let word = if change.is_enabled { "enabled" } else { "disabled" };
    let text = format!("{word}; no node manager runs");
    let result = |name: String| ServerResult {
        name,
        ok: true,
        exit: exit::DONE,
        text: text.clone(),
        last_lines: Vec::new(),
    };
    let answer = Answer { exit: exit::DONE, results: chosen.into_iter().map(result).collect() };
    show(&answer, options, out, err)
}

/// A list that is not read as it was meant is a warning of `check`.
///
/// # Errors
/// The list can't be read.
pub fn list_warning(config: &Config) -> Result<Option<String>, String> {
    let dir = &config.node.state_dir;
    if !dir.exists() {
        return Ok(None);
    }
    let names = disabled::read(dir)
        .map_err(|error| format!("cannot read {}: {error}", disabled::path(dir).display()))?;
    let servers = config.servers.iter().map(|one| one.name.as_str());
    Ok(disabled::warning(dir, &disabled::unknown(&names, servers)))
}

/// Prints it.
pub fn warn_of_list(config: &Config, err: &mut dyn Write) {
    let warning = list_warning(config).unwrap_or_else(Some);
    if let Some(text) = warning {
        print(err, &format!("warning: {text}\n"), exit::DONE);
    }
}
