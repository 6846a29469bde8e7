//! What people are told: for the log, the events and run/pair.json.
//!
//! Plain values; must hold no behaviour.

use super::{Cause, Identity, Name, ServerId, record};

/// What people are told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// A server's record changed its phase.
    Server(ServerId),
    Adopted(ServerId),
    /// How it ended was unknown, and is known now.
    ExitLearned(ServerId),
    StandbyUp {
        process: Identity,
    },
    StandbyDown {
        reason: String,
        retry_ms: u64,
    },
    StandbyHung {
        process: Identity,
    },
    LinkRebuilt,
    LinkLost,
    LinkUp,
    ActiveDead,
    /// It ended as it had said.
    ActiveHandsOver,
    ActiveHung {
        silent_ms: u64,
    },
    WaitsForDeath {
        since_ms: u64,
    },
    WaitsForLock {
        pid: i32,
        error: Option<String>,
    },
    TookOver {
        cause: Cause,
        took_ms: u64,
    },
    /// It was planned.
    SwitchedOver {
        why: record::Planned,
        took_ms: u64,
    },
    NotHandedOver {
        text: String,
    },
    Maintenance {
        is_on: bool,
    },
    HangsRepeat {
        times: usize,
        timeout_ms: u64,
    },
    NewLife,
    SameLife,
    LeftOver {
        name: Name,
    },
    /// It was stopped, or is restarted, because a server that it needs ended.
    NeedLost {
        server: ServerId,
        need: ServerId,
    },
    /// It was disabled or enabled.
    Enabling {
        server: ServerId,
        is_enabled: bool,
    },
    /// Another process is its main one now.
    MainFound(ServerId),
    /// A command beside it has ended.
    Task {
        server: ServerId,
        kind: record::TaskKind,
        failed: Option<String>,
    },
    /// No work is left, or it could not be drained.
    Drained {
        server: ServerId,
        failed: Option<String>,
    },
    /// An essential server was given up, so the pair ends.
    EssentialFailed(ServerId),
    Ending {
        stop_servers: bool,
    },
    StandbyKilledAtStop,
    ShutdownTimeout,
    Ended,
}
