//! What `status` shows, made of the core's records.
//!
//! Must not change anything. Times in records are milliseconds since the boot; people get the
//! wall clock's, counted back from now.

mod beside;

use crate::api::{self, ExitKind, Pair, ServerStatus, StandbyState, State, Status};
use crate::config::{Config, ServerConfig, units};
use crate::core::node::Node;
use crate::core::record::{Cause, LastExit, Task};
use crate::core::server::exit_text;
use crate::core::standby;
use crate::core::{Exit, Ms, Phase, ServerRecord};
use crate::names;
use crate::sys::{cgroup, process};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;

/// The clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall_ms: i64,
    pub now: Ms,
}

impl Clock {
    pub fn read() -> Clock {
        let wall_ms = i64::try_from(process::wall_ms()).unwrap_or(i64::MAX);
        Clock { wall_ms, now: process::monotonic_ms() }
    }

    /// RFC 3339 of a moment of this boot.
    pub fn time(&self, at: Ms) -> String {
        let ago = i64::try_from(self.now.0).unwrap_or(0) - i64::try_from(at.0).unwrap_or(0);
        let time = Timestamp::from_millisecond(self.wall_ms.saturating_sub(ago));
        time.map(|time| format!("{time:.3}")).unwrap_or_default()
    }
}

/// Who keeps the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeeperSeen {
    pub pid: i32,
    pub joined: bool,
}

/// The whole status, from the active.
/// `standby_version`: what its hello said.
pub fn status(
    node: &Node,
    config: &Config,
    keeper: Option<KeeperSeen>,
    since: Ms,
    standby_version: Option<&str>,
) -> Status {
    let clock = Clock::read();
    let by_name: BTreeMap<&str, &ServerConfig> =
        config.servers.iter().map(|server| (server.name.as_str(), server)).collect();
    let version = env!("CARGO_PKG_VERSION").to_string();
    let is_watching = node.standby.is_watching();
    let pair = match (&node.standby.state, keeper) {
        (standby::State::Off, _) => Pair::Single,
        (_, Some(_)) if is_watching => Pair::Ok,
        _ => Pair::Degraded,
    };
    Status {
        schema: api::SCHEMA,
        node: config.node.name.clone(),
        version: version.clone(),
        pair,
        since: Some(clock.time(node.record.born_at)),
        takeovers: node.record.takeovers,
        switchovers: node.record.switchovers,
        last_switchover: node.record.last_switchover.as_ref().map(|last| api::LastSwitchover {
            at: clock.time(last.at),
            cause: last.why.name().to_string(),
            ms: last.took_ms,
        }),
        last_takeover: node.record.last_takeover.as_ref().map(|last| api::LastTakeover {
            at: clock.time(last.at),
            cause: match last.cause {
                Cause::Death => "death".to_string(),
                Cause::Hang => "hang".to_string(),
            },
            ms: last.took_ms,
        }),
        maintenance: node.record.maintenance,
        active: Some(api::Active {
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            version: version.clone(),
            since: clock.time(since),
        }),
        standby: standby_status(node, &clock, standby_version),
        keeper: keeper.map(|seen| api::Keeper { pid: seen.pid, joined: seen.joined }),
        config_generation: config.applied.generation,
        applying: false,
        servers: with_programs(
            node.servers
                .iter()
                .map(|one| {
                    let mut row = server_status(&one.rec, &clock, one.plan.policy.tries);
                    let own = by_name.get(one.rec.name.as_str()).copied();
                    beside::add(&mut row, node, one.id, own, &clock);
                    row
                })
                .collect(),
            config,
        ),
    }
}

/// Adds what only the configuration knows of a server.
pub fn with_programs(mut servers: Vec<ServerStatus>, config: &Config) -> Vec<ServerStatus> {
    let known: BTreeMap<&str, &ServerConfig> =
        config.servers.iter().map(|server| (server.name.as_str(), server)).collect();
    for server in &mut servers {
        if let Some(config) = known.get(server.name.as_str()) {
            server.program = config.program.name.to_string();
            server.instance = config.instance;
            server.tags = config.program.tags.to_vec();
        }
    }
    servers
}

fn standby_status(node: &Node, clock: &Clock, version: Option<&str>) -> Option<api::Standby> {
    let state = match node.standby.state {
        standby::State::Off => return None,
        standby::State::Down { .. } | standby::State::Spawning | standby::State::Dying { .. } => {
            StandbyState::Down
        }
        standby::State::Starting { .. } | standby::State::Stopping { .. } => StandbyState::Starting,
        standby::State::Watching { .. } => StandbyState::Watching,
    };
    let is_up = state == StandbyState::Watching;
    Some(api::Standby {
        pid: node.standby.process().map(|process| process.pid),
        version: node.standby.process().and(version).map(str::to_owned),
        state,
        heartbeat_age_ms: is_up.then(|| clock.now.since(node.standby.silence.heard)),
        reason: node.standby.reason.clone().filter(|_| !is_up),
    })
}

/// One server, from its record.
pub fn server_status(rec: &ServerRecord, clock: &Clock, tries: u32) -> ServerStatus {
    let pid = rec.phase.process().map(|process| process.pid);
    let cgroup = rec.cgroup.as_deref().filter(|_| pid.is_some()).map(Path::new);
    let usage =
        cgroup.and_then(cgroup::usage).or_else(|| pid.and_then(|pid| process::usage(pid).ok()));
    let next_try_at = match rec.phase {
        Phase::Backoff { until } => Some(clock.time(until)),
        _ => None,
    };
    ServerStatus {
        name: rec.name.to_string(),
        program: names::program(&rec.name).to_owned(),
        instance: None,
        tags: Vec::new(),
        state: state_of(&rec.phase),
        wanted: rec.wanted,
        enabled: !rec.disabled,
        pid,
        started_at: rec.started_at.get().map(|at| clock.time(at)),
        ready_at: rec.ready_at.get().map(|at| clock.time(at)),
        adopted: rec.adopted,
        restarts: rec.restarts,
        fail_count: rec.failures.len() as u64,
        last_exit: rec.last_exit.as_ref().map(|last| exit_status(last, clock)),
        reason: rec.reason.as_deref().map(str::to_owned),
        next_try_at,
        waits_for: match rec.phase {
            Phase::Waiting { pid, .. } => {
                Some(format!("the end of PID {pid}, which carries its mark"))
            }
            Phase::Locking { .. } => rec.reason.as_deref().map(str::to_owned),
            _ => None,
        },
        status_text: rec.status_text.as_deref().map(str::to_owned),
        checks: Vec::new(),
        cpu_seconds: usage.as_ref().map(|usage| usage.cpu_ms as f64 / 1000.0),
        rss_bytes: usage.as_ref().map(|usage| usage.rss_bytes),
        oom_kills: cgroup.and_then(cgroup::oom_kills),
        detail: detail_of(rec, clock.now, tries),
        command: Vec::new(),
        last_lines: Vec::new(),
    }
}

fn exit_status(last: &LastExit, clock: &Clock) -> api::LastExit {
    let (kind, code, signal) = match last.exit {
        Exit::Code(code) => (ExitKind::Code, Some(code), None),
        Exit::Signal(signal) => (ExitKind::Signal, None, Some(units::signal_name(signal))),
        Exit::Unknown => (ExitKind::Unknown, None, None),
    };
    api::LastExit { kind, code, signal, at: clock.time(last.at), ran_ms: last.ran_ms }
}

/// The state that people know a phase by.
pub fn state_of(phase: &Phase) -> State {
    match phase {
        Phase::Down => State::Stopped,
        Phase::Spawning { .. }
        | Phase::Preparing
        | Phase::AtGate { .. }
        | Phase::Execing { .. }
        | Phase::Settling { .. }
        | Phase::Seeking { .. }
        | Phase::Unready { .. } => State::Starting,
        Phase::Draining { .. } => State::Draining,
        Phase::Up { .. } => State::Running,
        Phase::Reaping { .. } | Phase::Stopping { .. } | Phase::Closing { .. } => State::Stopping,
        Phase::Queued | Phase::Waiting { .. } | Phase::Locking { .. } => State::Waiting,
        Phase::Backoff { .. } => State::Backoff,
        Phase::Failed => State::Failed,
        Phase::Exited => State::Exited,
        Phase::Verifying { was, .. } => state_of(was),
    }
}

/// The detail, behind what people have to know first.
fn detail_of(rec: &ServerRecord, now: Ms, tries: u32) -> String {
    let detail = detail(rec, now, tries);
    match (rec.disabled, detail.is_empty()) {
        (true, true) => "DISABLED".to_string(),
        (true, false) => format!("DISABLED; {detail}"),
        (false, _) => detail,
    }
}

/// The last column: why it is as it is.
fn detail(rec: &ServerRecord, now: Ms, tries: u32) -> String {
    let reason = rec.reason_text();
    if let Some(Task { kind, is_over: false, .. }) = rec.task.as_deref() {
        let more = if reason.is_empty() { reason } else { format!("; {reason}") };
        return format!("its {} runs{more}", kind.title());
    }
    match &rec.phase {
        Phase::Backoff { until } => {
            let seconds = until.since(now).div_ceil(1000);
            let tried = rec.failures.len();
            let count = match tried <= tries as usize {
                true => format!("try {tried}/{tries}"),
                false => "slow retry".to_string(),
            };
            format!("{reason}; {count} in {seconds}s")
        }
        Phase::Stopping { leader_dead: false, killed, .. } if reason.is_empty() => {
            match (killed, &rec.task) {
                (true, _) => "SIGKILL sent".to_string(),
                (false, Some(_)) => "its stop command has ended".to_string(),
                (false, None) => "stop signal sent".to_string(),
            }
        }
        Phase::Draining { quiesced: true, .. } if reason.is_empty() => {
            "takes no new work".to_string()
        }
        Phase::Stopping { leader_dead: true, .. } if reason.is_empty() => {
            "its leader is gone; others of its group still live".to_string()
        }
        Phase::Waiting { pid, .. } => {
            format!("waits for the end of PID {pid}, which carries its mark")
        }
        Phase::Locking { .. } => format!("waits for {reason}"),
        Phase::Seeking { .. } => format!("its main process is looked for: {reason}"),
        Phase::Exited | Phase::Down if reason.is_empty() => {
            rec.last_exit.as_ref().map(|last| exit_text(last.exit)).unwrap_or_default()
        }
        _ => reason,
    }
}
