//! What the core's notes about the pair are as events.
//!
//! Pure. What a server's record says is compared elsewhere (`seen`); a note that is here `None` is
//! told there, or in the log alone.

use crate::api::{ApplyAnswer, What};
use crate::core::record::{Cause, LastExit, Planned};
use crate::core::server::exit_text;
use crate::core::{Note, ServerId};
use crate::events::{Draft, Kind};
use serde_json::{Value, json};

/// Servers whose changes are told one by one.
const CHANGES_MAX: usize = 20;

/// What a note does not say itself.
pub struct Facts<'a> {
    /// Of this process, and of the other twin.
    pub pid: i32,
    pub other_pid: i32,
    pub generation: u64,
    pub name: &'a dyn Fn(ServerId) -> String,
    pub last_exit: &'a dyn Fn(ServerId) -> Option<LastExit>,
}

/// The event that a note is.
pub fn of_note(note: &Note, facts: &Facts<'_>) -> Option<Draft> {
    Some(match note {
        Note::NewLife | Note::SameLife => {
            let life = if *note == Note::NewLife { "new" } else { "same" };
            let text = format!("the pair serves, active PID {}; a {life} life", facts.pid);
            let draft = Draft::new(Kind::PairStarted, text).with("life", life);
            draft.with("pid", facts.pid).with("generation", facts.generation)
        }
        Note::Ending { stop_servers } => {
            let text = match stop_servers {
                true => "the pair ends, and its servers",
                false => "the pair ends; its servers stay up",
            };
            Draft::new(Kind::PairEnding, text).with("stopServers", *stop_servers)
        }
        Note::Ended => Draft::new(Kind::PairEnded, "the pair has ended").with("pid", facts.pid),
        Note::TookOver { cause, took_ms } => took_over(*cause, *took_ms, facts),
        Note::SwitchedOver { why, took_ms } => switched_over(*why, *took_ms, facts),
        Note::NotHandedOver { text } => {
            let said = format!("the active goes on after all: {text}");
            Draft::new(Kind::SwitchoverFailed, said).with("reason", text.as_str())
        }
        Note::Maintenance { is_on: true } => {
            Draft::new(Kind::MaintenanceOn, "maintenance is ON: nothing is restarted by itself")
        }
        Note::Maintenance { is_on: false } => {
            Draft::new(Kind::MaintenanceOff, "maintenance is OFF")
        }
        Note::HangsRepeat { times, timeout_ms } => {
            let text = format!("{times} hangs in a short time; is a disk dead?");
            let draft = Draft::new(Kind::HangsRepeat, text).with("times", *times);
            draft.with("timeoutMs", *timeout_ms)
        }
        Note::StandbyUp { process } => {
            let text = format!("the standby is WATCHING, PID {}", process.pid);
            Draft::new(Kind::StandbyWatching, text).with("pid", process.pid)
        }
        Note::StandbyDown { reason, retry_ms } => {
            let text = format!("the standby is down: {reason}; the next one in {retry_ms} ms");
            let draft = Draft::new(Kind::StandbyDown, text).with("reason", reason.as_str());
            draft.with("retryMs", *retry_ms)
        }
        Note::StandbyHung { process } => {
            let text = format!("the standby hangs and is killed, PID {}", process.pid);
            Draft::new(Kind::StandbyHung, text).with("pid", process.pid)
        }
        other => return of_server(other, facts),
    })
}

/// The event that a note about one server is.
fn of_server(note: &Note, facts: &Facts<'_>) -> Option<Draft> {
    let name = |server: &ServerId| (facts.name)(*server);
    Some(match note {
        Note::LeftOver { name } => {
            let text = "it still runs, and is not in the configuration any more";
            Draft::new(Kind::ServerLeftOver, text).of(name)
        }
        Note::Enabling { server, is_enabled: true } => {
            Draft::new(Kind::ServerEnabled, "enabled").of(&name(server))
        }
        Note::Enabling { server, is_enabled: false } => {
            Draft::new(Kind::ServerDisabled, "disabled: nothing starts it").of(&name(server))
        }
        Note::NeedLost { server, need } => {
            let need = name(need);
            let text = format!("{need}, which it needs, has ended or came back after that");
            Draft::new(Kind::ServerNeedLost, text).with("need", need).of(&name(server))
        }
        Note::Drained { server, failed: None } => {
            Draft::new(Kind::ServerDrained, "no work is left").of(&name(server))
        }
        Note::Drained { server, failed: Some(text) } => {
            let draft = Draft::new(Kind::ServerNotDrained, format!("not drained: {text}"));
            draft.with("reason", text.as_str()).of(&name(server))
        }
        Note::Task { server, kind, failed: Some(text) } => {
            let said = format!("its {} failed: {text}", kind.title());
            let draft = Draft::new(Kind::ServerCommandFailed, said).with("command", kind.name());
            draft.with("reason", text.as_str()).of(&name(server))
        }
        Note::ExitLearned(server) => {
            let last = (facts.last_exit)(*server)?;
            let text = format!("how it ended is known now: {}", exit_text(last.exit));
            super::seen::of_exit(Draft::new(Kind::ServerExitKnown, text), &last).of(&name(server))
        }
        _ => return None,
    })
}

fn took_over(cause: Cause, took_ms: u64, facts: &Facts<'_>) -> Draft {
    let cause = match cause {
        Cause::Death => "death",
        Cause::Hang => "hang",
    };
    let (old, pid) = (facts.other_pid, facts.pid);
    let text = format!(
        "takeover after the {cause} of PID {old}: PID {pid} is the active now ({took_ms} ms)"
    );
    let draft = Draft::new(Kind::Takeover, text).with("cause", cause).with("tookMs", took_ms);
    draft.with("oldPid", old).with("pid", pid).with("generation", facts.generation)
}

fn switched_over(why: Planned, took_ms: u64, facts: &Facts<'_>) -> Draft {
    let (cause, version) = (why.name(), env!("CARGO_PKG_VERSION"));
    let (old, pid) = (facts.other_pid, facts.pid);
    let what = match why {
        Planned::Upgrade => format!("upgraded to {version}: "),
        Planned::Asked | Planned::Apply => String::new(),
    };
    let text =
        format!("{what}switchover from PID {old}: PID {pid} is the active now ({took_ms} ms)");
    let draft = Draft::new(Kind::Switchover, text).with("cause", cause).with("tookMs", took_ms);
    let draft = draft.with("oldPid", old).with("pid", pid).with("version", version);
    draft.with("generation", facts.generation)
}

/// A configuration is on its way.
pub fn applying(answer: &ApplyAnswer) -> Draft {
    let changes = answer.servers.iter().map(|one| {
        let what = match one.what {
            What::Start => "started",
            What::Add => "added",
            What::Restart => "restarted",
            What::Stop => "taken out",
            What::Change => "changed",
        };
        (one.name.as_str(), what)
    });
    let all: Vec<(&str, &str)> = changes.collect();
    let shown = all.iter().take(CHANGES_MAX);
    let mut words: Vec<String> =
        shown.clone().map(|(name, what)| format!("{name} {what}")).collect();
    words.extend(answer.node.iter().map(|key| format!("{key} changed")));
    if all.len() > CHANGES_MAX {
        words.push(format!("and {} servers more", all.len() - CHANGES_MAX));
    }
    let servers: Vec<Value> =
        shown.map(|(name, what)| json!({ "name": name, "what": what })).collect();
    let generation = answer.generation;
    let text = format!("configuration {generation} is on its way: {}", words.join(", "));
    let draft = Draft::new(Kind::ConfigurationApplying, text).with("generation", generation);
    let draft = draft.with("servers", Value::Array(servers)).with("serversCount", all.len());
    draft.with("nodeManager", answer.node.clone())
}
