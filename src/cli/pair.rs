//! `switchover`, `upgrade` and `maintenance`: asks something of the pair itself.
//!
//! Must not decide what is possible: the active does, and says why not.

use super::client::{Client, request_id};
use super::control::{Options, post, print_json};
use super::{Failure, exit, print, status};
use crate::api::{
    MAINTENANCE_PATH, MaintenanceAsk, PairAnswer, PairAsk, SWITCHOVER_PATH, Status, UPGRADE_PATH,
};
use std::io::Write;

/// Lets the other twin be the active; returns the exit status.
pub fn switch_over(
    client: &Client,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    move_pair(client, SWITCHOVER_PATH, options, out, err)
}

/// Lets the pair run the program that is on disk; returns the exit status.
pub fn upgrade(client: &Client, options: Options, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    move_pair(client, UPGRADE_PATH, options, out, err)
}

fn move_pair(
    client: &Client,
    path: &str,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let moved = request_id().and_then(|id| {
        let ask = PairAsk { id, wait: !options.no_wait };
        let before = status::fetch(client, &[], options.timeout)?;
        let answer: PairAnswer = post(client, path, &ask, options)?;
        let is_done = answer.exit == exit::DONE && !options.no_wait;
        let after = if is_done { Some(status::fetch(client, &[], options.timeout)?) } else { None };
        let text = after.and_then(|after| said(&before, &after));
        Ok(PairAnswer { text: text.unwrap_or(answer.text), exit: answer.exit })
    });
    show(moved, options, out, err)
}

/// Who is who now, if that is another one.
fn said(before: &Status, after: &Status) -> Option<String> {
    let (old, new) = (before.active.as_ref()?, after.active.as_ref()?);
    if old.pid == new.pid {
        return None;
    }
    let versions = match old.version == new.version {
        true => String::new(),
        false => format!("{} -> {}: ", old.version, new.version),
    };
    let took = after.last_switchover.as_ref().map(|last| format!(" ({} ms)", last.ms));
    let standby = after.standby.as_ref().and_then(|standby| standby.pid);
    let standby = standby.map(|pid| format!(", its standby PID {pid}")).unwrap_or_default();
    Some(format!(
        "{versions}PID {} is the active now, after PID {}{}{standby}",
        new.pid,
        old.pid,
        took.unwrap_or_default()
    ))
}

/// Switches maintenance on or off; returns the exit status.
pub fn maintain(
    client: &Client,
    on: bool,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let answer = request_id()
        .and_then(|id| post(client, MAINTENANCE_PATH, &MaintenanceAsk { id, on }, options));
    show(answer, options, out, err)
}

fn show(
    answer: Result<PairAnswer, Failure>,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match answer {
        Ok(answer) if options.json => print_json(&answer, answer.exit, out, err),
        Ok(answer) if answer.exit == exit::DONE => {
            print(out, &format!("{}\n", answer.text), exit::DONE)
        }
        Ok(answer) => Failure::new(answer.exit, answer.text).print(err),
        Err(failure) => failure.print(err),
    }
}
