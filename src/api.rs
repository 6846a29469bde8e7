//! The JSON of the control socket and of `run/pair.json`, as plain values.
//!
//! Must hold no behaviour beyond words for its values. Names and meanings are fixed for scripts:
//! fields may be added; `schema` changes when one changes its meaning. Times are RFC 3339, UTC.

mod apply;
mod pair;
pub mod routes;

pub use apply::{ApplyAnswer, ApplyAsk, Change, What};
pub use pair::{MaintenanceAsk, PairAnswer, PairAsk};

use crate::core::Wanted;
use crate::names::Known;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the meaning of [`Status`] and [`PairFile`].
pub const SCHEMA: u32 = 1;
/// GET: [`Status`]. Each `name=` in the query adds what only `status NAME` shows of it.
pub const STATUS_PATH: &str = "/v1/status";
/// GET: any answer proves that somebody serves.
pub const PING_PATH: &str = "/v1/ping";
/// POST [`Ask`], with the action's name behind it; `routes.rs` has all of them.
pub const SERVERS_PATH: &str = "/v1/servers/";
/// POST [`ShutdownAsk`]: [`ShutdownAnswer`].
pub const SHUTDOWN_PATH: &str = "/v1/shutdown";
/// POST [`ApplyAsk`]: [`ApplyAnswer`].
pub const APPLY_PATH: &str = "/v1/apply";
/// POST [`PairAsk`]: [`PairAnswer`]. The other twin is to be the active.
pub const SWITCHOVER_PATH: &str = "/v1/switchover";
/// POST [`PairAsk`]: [`PairAnswer`]. The pair is to run the program that is on disk now.
pub const UPGRADE_PATH: &str = "/v1/upgrade";
/// POST [`MaintenanceAsk`]: [`PairAnswer`].
pub const MAINTENANCE_PATH: &str = "/v1/maintenance";
/// What happened, newest events only: `?since=NUMBER`.
pub const EVENTS_PATH: &str = "/v1/events";
/// GET: the metrics, as Prometheus reads them.
pub const METRICS_PATH: &str = "/v1/metrics";
/// The longest request id that is taken, in bytes: ids are kept on record.
pub const REQUEST_ID_MAX: usize = 64;

/// Whether `id` can be put on record: letters, digits and `-`, not empty, not too long.
pub fn is_request_id(id: &str) -> bool {
    (1..=REQUEST_ID_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// How the pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pair {
    /// An active, a WATCHING standby and a keeper.
    Ok,
    /// No WATCHING standby, or no keeper.
    Degraded,
    /// There is no standbyPort, so there is no standby.
    Single,
    /// The standby is taking the active's place.
    Takeover,
    /// No pair runs: what is told comes from the journal.
    Down,
}

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    Stopped,
    /// For a dependency, a lock or a free start slot; the detail says which.
    Waiting,
    Starting,
    /// Ready.
    Running,
    Stopping,
    Draining,
    /// Waits for its next try.
    Backoff,
    /// Given up; the reason says why.
    Failed,
    /// Ended by itself, and well.
    Exited,
    /// It lives, and no pair runs.
    Unmanaged,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Stopped => "STOPPED",
            State::Waiting => "WAITING",
            State::Starting => "STARTING",
            State::Running => "RUNNING",
            State::Stopping => "STOPPING",
            State::Draining => "DRAINING",
            State::Backoff => "BACKOFF",
            State::Failed => "FAILED",
            State::Exited => "EXITED",
            State::Unmanaged => "UNMANAGED",
        })
    }
}

/// All that `status` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub schema: u32,
    pub node: String,
    pub version: String,
    pub pair: Pair,
    /// When this life of the pair began; null when no pair runs.
    pub since: Option<String>,
    pub takeovers: u64,
    pub switchovers: u64,
    pub last_takeover: Option<LastTakeover>,
    #[serde(default)]
    pub last_switchover: Option<LastSwitchover>,
    pub maintenance: bool,
    /// Null when no pair runs, or while nobody is active.
    pub active: Option<Active>,
    /// Null without standbyPort.
    pub standby: Option<Standby>,
    pub keeper: Option<Keeper>,
    /// Rises with each `apply` since the pair was started.
    #[serde(default)]
    pub config_generation: u64,
    /// Another configuration is on its way to being in force.
    #[serde(default)]
    pub applying: bool,
    /// In the order of the configuration.
    pub servers: Vec<ServerStatus>,
}

/// The last takeover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastTakeover {
    pub at: String,
    /// `death` or `hang`.
    pub cause: String,
    pub ms: u64,
}

/// The last switchover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastSwitchover {
    pub at: String,
    /// `asked`, `apply` or `upgrade`.
    pub cause: String,
    pub ms: u64,
}

/// The twin that does the work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Active {
    pub pid: i32,
    pub version: String,
    /// When it became active.
    pub since: String,
}

/// What the standby does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StandbyState {
    Starting,
    /// It can take over now.
    Watching,
    /// There is none at present; the reason says why.
    Down,
}

impl fmt::Display for StandbyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StandbyState::Starting => "STARTING",
            StandbyState::Watching => "WATCHING",
            StandbyState::Down => "DOWN",
        })
    }
}

/// The twin that watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standby {
    pub pid: Option<i32>,
    pub version: Option<String>,
    pub state: StandbyState,
    /// How long ago it was heard.
    pub heartbeat_age_ms: Option<u64>,
    pub reason: Option<String>,
}

/// The process that `run` leaves in the foreground.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keeper {
    pub pid: i32,
    /// It joined a living pair, so it is no ancestor and reports no exit statuses.
    #[serde(default)]
    pub joined: bool,
}

impl ServerStatus {
    /// Whether it is what is wanted of it. EXITED is: it ended by itself, and well. One that is on
    /// its way up, or waits for something, is not yet. A disabled one is not wanted.
    pub fn is_as_wanted(&self) -> bool {
        self.wanted == Wanted::Down
            || !self.enabled
            || matches!(self.state, State::Running | State::Exited | State::Unmanaged)
    }

    /// What names of commands are compared with.
    pub fn known(&self) -> Known<'_> {
        match self.program.as_str() {
            // of a pair that does not say it yet
            "" => Known::by_name(&self.name),
            program => Known { name: &self.name, program, tags: &self.tags },
        }
    }
}

/// One server in [`Status`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    pub name: String,
    /// What is before the `@` of an instance; of any other server its name.
    #[serde(default)]
    pub program: String,
    /// The number behind the `@`; null for a server without instances.
    #[serde(default)]
    pub instance: Option<u32>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub state: State,
    pub wanted: Wanted,
    pub enabled: bool,
    pub pid: Option<i32>,
    /// When the present process was started.
    pub started_at: Option<String>,
    /// When it became RUNNING.
    pub ready_at: Option<String>,
    /// The present process was started by an earlier active.
    pub adopted: bool,
    /// All restarts since the life began.
    pub restarts: u64,
    /// Failures in the current window.
    pub fail_count: u64,
    pub last_exit: Option<LastExit>,
    pub reason: Option<String>,
    pub next_try_at: Option<String>,
    pub waits_for: Option<String>,
    /// What the server says of itself (sd_notify STATUS=).
    pub status_text: Option<String>,
    /// Results of readiness and health checks; empty where none is configured.
    #[serde(default)]
    pub checks: Vec<serde_json::Value>,
    /// Of the whole group, since its start.
    pub cpu_seconds: Option<f64>,
    pub rss_bytes: Option<u64>,
    /// How many of its processes the kernel killed for want of memory, in the present run; null
    /// where it has no cgroup with the memory controller.
    #[serde(default)]
    pub oom_kills: Option<u64>,
    /// One line for people about the state.
    #[serde(default)]
    pub detail: String,
    /// Only for a server that was asked for by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Its last output lines; only for a server that was asked for by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// How an end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitKind {
    Code,
    Signal,
    /// Nobody who knows could be asked.
    Unknown,
}

/// The last end of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastExit {
    pub kind: ExitKind,
    pub code: Option<i32>,
    /// The signal's name, such as `SIGSEGV`.
    pub signal: Option<String>,
    pub at: String,
    pub ran_ms: u64,
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    /// Its process exists.
    Up,
    /// It is RUNNING.
    Ready,
    /// Its group is gone.
    Down,
}

/// What is asked of servers. An unknown field is refused: it could change what is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ask {
    /// The same id again is the same request: what was done is answered, not done twice.
    pub id: String,
    pub names: Vec<String>,
    /// The answer comes with the result, not with the begin of the action.
    #[serde(default = "yes")]
    pub wait: bool,
    /// Only for `signal`: its name, such as `SIGHUP`.
    #[serde(default)]
    pub signal: Option<String>,
    /// Only for `wait`.
    #[serde(default)]
    pub goal: Option<Goal>,
    /// For `stop` and `restart`: what of the servers that need these? Without it, such a request is
    /// refused.
    #[serde(default)]
    pub dependants: Option<Dependants>,
}

/// What a stop or a restart does with those that need the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Dependants {
    /// They are stopped or restarted too.
    Too,
    /// They are left as they are.
    Leave,
}

fn yes() -> bool {
    true
}

/// What came of an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The exit status of the command.
    pub exit: u8,
    pub results: Vec<ServerResult>,
}

/// What came of an [`Ask`] for one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerResult {
    pub name: String,
    pub ok: bool,
    pub exit: u8,
    /// For people, without the name: `RUNNING, PID 4713`.
    pub text: String,
    /// Its last output lines, where they explain the result.
    #[serde(default)]
    pub last_lines: Vec<String>,
}

/// Asks for the end of the pair. An unknown field is refused: it could change what is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShutdownAsk {
    pub id: String,
    #[serde(default)]
    pub stop_servers: bool,
    /// SIGKILL at once to what is still up.
    #[serde(default)]
    pub force: bool,
    /// Answer when it is done; else when it is on record.
    #[serde(default = "yes")]
    pub wait: bool,
}

/// The pair ends; these are left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShutdownAnswer {
    /// Servers that stay up.
    pub left: Vec<Left>,
    /// The PID of the process that goes on moving their output.
    pub mover: Option<i32>,
}

/// A server that stays up without a node manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    pub name: String,
    pub pid: i32,
}

/// The body of every answer that is not 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorAnswer {
    /// The exit status of the command.
    pub exit: u8,
    pub error: String,
}

/// `run/pair.json`, for the time when nobody answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairFile {
    pub schema: u32,
    pub node: String,
    /// `starting`, `serving`, `taking over`, or [`PAIR_ENDED`].
    pub state: String,
    pub active: Option<Twin>,
    pub standby: Option<Twin>,
    pub keeper: Option<Twin>,
    /// Why nobody serves now.
    pub waits_for: Option<String>,
    /// How long, in milliseconds, an active may hang before it is replaced: it grows when hangs
    /// repeat. A client is ready to wait longer than that.
    #[serde(default)]
    pub decides_within_ms: Option<u64>,
    pub written_at: String,
}

/// The `state` of a pair that was asked to end and has.
pub const PAIR_ENDED: &str = "ended";

/// A process of the pair, told apart from a later one with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Twin {
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks from boot to its start.
    pub start_ticks: u64,
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"{"schema": 1, "node": "nodemanager-1", "version": "0.1.0", "pair": "ok",
 "takeovers": 2, "switchovers": 0,
 "lastTakeover": {"at": "2026-11-21T19:44:01.123Z", "cause": "death", "ms": 6}, "maintenance": false,
 "active": {"pid": 4711, "version": "0.1.0", "since": "2026-11-21T19:44:01.123Z"},
 "standby": {"pid": 4712, "version": "0.1.0", "state": "WATCHING", "heartbeatAgeMs": 12, "reason": null},
 "keeper": {"pid": 4710},
 "servers": [{"name": "web@1", "program": "web", "instance": 1, "tags": ["shop"], "state": "RUNNING", "wanted": "up", "enabled": true, "pid": 4713,
   "startedAt": "2026-11-21T19:44:01.123Z", "readyAt": null, "adopted": true,
   "restarts": 0, "failCount": 0, "lastExit": {"kind": "code", "code": 1, "signal": null,
   "at": "2026-11-21T19:44:01.123Z", "ranMs": 200}, "reason": null, "nextTryAt": null,
   "waitsFor": null, "statusText": null, "checks": [], "cpuSeconds": 1.5, "rssBytes": 88080384}]}"#;

    #[test]
    fn every_name_of_the_documented_status_is_read_and_written_again() {
        let status: Status = serde_json::from_str(EXAMPLE).unwrap();
        let documented: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
        let written = serde_json::to_value(&status).unwrap();
        contains(&written, &documented, "status");
    }

    fn contains(whole: &serde_json::Value, part: &serde_json::Value, place: &str) {
        use serde_json::Value::{Array, Object};
        match (whole, part) {
            (Object(whole), Object(part)) => part.iter().for_each(|(key, value)| {
                contains(whole.get(key).unwrap_or_else(|| panic!("{place}: no {key}")), value, key);
            }),
            (Array(whole), Array(part)) => {
                assert_eq!(whole.len(), part.len(), "{place}");
                whole.iter().zip(part).for_each(|(whole, part)| contains(whole, part, place));
            }
            (whole, part) => assert_eq!(whole, part, "{place}"),
        }
    }

    #[test]
    fn an_ask_with_an_unknown_field_is_refused_and_waits_unless_it_says_otherwise() {
        let ask: Ask = serde_json::from_str(r#"{"id":"a","names":["web"]}"#).unwrap();
        assert!(ask.wait);
        assert!(serde_json::from_str::<Ask>(r#"{"id":"a","names":["web"],"only":true}"#).is_err());
    }

    #[test]
    fn a_request_id_is_short_and_plain() {
        assert!(is_request_id("0af-Z9"));
        assert!(!is_request_id("") && !is_request_id("a b") && !is_request_id(&"a".repeat(65)));
    }
}
