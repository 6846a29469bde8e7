//! What is on record: the journal's and the link's content, and the words it is made of.
//!
//! Plain values; must hold no behaviour beyond their names. Every record is whole: it replaces the one before it
//! for the same server, so replaying means keeping the one with the highest sequence number.

use super::counts::{Durations, ExitCounts};
use super::name::Name;
use super::rare::{Rare, Text};
use super::time::{Moment, Ms};
use serde::{Deserialize, Serialize};

/// What makes a process itself and not a later one with its number (within one boot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The process number.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks from boot to the start of the process.
    pub start_ticks: u64,
    /// The inode of its pidfd, unique in a boot where the kernel has pidfs (Linux 6.9), else 0.
    pub inode: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// It returned this number.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Nobody who knows could be asked; never a made-up number.
    Unknown,
}

/// What is wanted of a server, beside the state it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wanted {
    /// It is to run.
    Up,
    /// It is to be down.
    Down,
}

/// Why a server is on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// Somebody asked for it, or the pair ends with its servers.
    Asked,
    /// It is to be started again as soon as it is gone.
    Restart,
    /// It ended by itself; what is left of its group is cleared before the policy decides.
    Ended,
    /// It ended by itself, and what is left of its group has been told to stop.
    Clearing,
    /// It never passed its gate, so its end counts for nothing.
    NeverRan,
    /// It runs, and is not ready in time or not well: a failure, however it ends now.
    Failing,
    /// A server that it needs has ended; it waits until that is ready again.
    Need,
}

/// Where a server is in its life. The process is inside the phase that has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// No process, and none wanted.
    Down,
    /// To be started: it waits until what it needs is ready, and for a free place among the starts.
    Queued,
    /// Its preStart hook runs.
    Preparing,
    /// A child was asked for; the answer is owed until then.
    Spawning { until: Ms },
    /// The child waits at its gate while its identity goes on record.
    AtGate { process: Identity, until: Ms },
    /// The gate is open; the result of exec is owed.
    Execing { process: Identity, until: Ms },
    /// The gate is open; the child waits, before its exec, for a lock that somebody else holds.
    Locking { process: Identity, until: Ms },
    /// It runs, and is watched for an early end until then.
    Settling { process: Identity, until: Ms },
    /// It runs, and has to show until then that it is ready; a oneshot has to end well until then.
    Unready { process: Identity, until: Ms },
    /// Its first process has ended well; the one that stays is looked for, again then.
    /// In a box, so that it makes no other phase larger.
    Seeking { starter: Box<Identity>, again: Ms, until: Ms },
    /// It runs and is ready.
    Up { process: Identity },
    /// The leader is dead; its exit status is still asked for.
    Reaping { process: Identity, until: Ms, at_gate: bool },
    /// On its way down, until no living member of its group is left.
    Stopping { process: Identity, why: Why, leader_dead: bool, killed: bool, until: Ms },
    /// It runs, takes no new work, and is stopped once none is left. `quiesced`: the command that
    /// makes it so is through. `keeps`: not drained in time, it goes on running.
    Draining { process: Identity, until: Ms, why: Why, quiesced: bool, keeps: bool },
    /// Its group is gone; a command that belongs to its end still runs.
    Closing { why: Why },
    /// Something with this server's mark lives outside any group we know; it is waited for.
    Waiting { until: Ms, pid: i32 },
    /// Waits for its next try.
    Backoff { until: Ms },
    /// Given up; the record's `reason` says why.
    Failed,
    /// Ended by itself, and well.
    Exited,
    /// After a takeover: the process on record is being told apart from strangers.
    Verifying { was: Box<Phase>, until: Ms },
}

/// The last end of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastExit {
    pub process: Identity,
    pub exit: Exit,
    /// When its end was seen.
    pub at: Ms,
    /// How long it had run.
    pub ran_ms: u64,
}

/// What was asked of a server, kept so that asking twice does it once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// The request's id.
    pub id: String,
    /// The start number of the server when the request came.
    pub start_number: u64,
    /// The result of a signal is on record; without it, it may or may not have been sent.
    pub done: bool,
    /// It is done, and failed so.
    #[serde(default)]
    pub failed: Option<String>,
}

/// A command that runs beside a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TaskKind {
    PreStart,
    PostStart,
    PreStop,
    PostStop,
    OnFailure,
    /// Instead of the stop signal.
    Stop,
    Reload,
    /// Makes it take no new work.
    Drain,
}

/// The command that runs beside a server: one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub kind: TaskKind,
    /// `None`: it was asked for, and has not passed its gate.
    pub process: Option<Identity>,
    /// It is ended then.
    pub until: Ms,
    /// It is through: what follows is not to be done again. Before a start: it belongs to an older
    /// definition.
    pub is_over: bool,
}

/// All that must outlive an active about one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRecord {
    pub name: Name,
    pub wanted: Wanted,
    pub phase: Phase,
    /// Rises with every child that was asked for; part of the mark in its environment.
    pub start_number: u64,
    /// When the present process was started.
    #[serde(default, skip_serializing_if = "is_default")]
    pub started_at: Moment,
    /// When it became RUNNING.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready_at: Moment,
    /// The present process was started by an earlier active.
    pub adopted: bool,
    /// All restarts since the life began.
    pub restarts: u64,
    /// When it failed, within the window of its policy; at most `tries` + 1 of them.
    pub failures: Rare<Vec<Ms>>,
    /// Failures in a row, for the growing delay.
    pub failures_in_row: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_exit: Option<Box<LastExit>>,
    /// Why it is in the phase it is in, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: Option<Text>,
    /// The latest requests, newest last; at most `MARKS_MAX`.
    pub marks: Rare<Vec<Mark>>,
    /// What the present process says of itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status_text: Option<Text>,
    /// Where its output begins, for a readiness check that reads it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub output_at: Option<Box<LogPlace>>,
    /// It ended by itself since it was last ready: who needs it may have to be stopped or restarted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lost: bool,
    /// An order that waits until those that need this server are down.
    #[serde(default, skip_serializing_if = "is_default")]
    pub held: Option<Held>,
    /// Nothing starts it. The list in the state directory is the authority; this is what it said
    /// when it was last read, for an active that can't read it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disabled: bool,
    /// The revision of its definition that the process belongs to, or is being brought to. `None`:
    /// not known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revision: Option<u64>,
    /// The directory of its cgroup, where it has one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cgroup: Option<Text>,
    /// How the present process is stopped, when that is not what the configuration says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stop_with: Option<StopWith>,
    /// It was taken out of the configuration.
    #[serde(default, skip_serializing_if = "is_default")]
    pub removed: bool,
    /// The command that runs beside it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub task: Option<Box<Task>>,
    /// The process group of its main process, where that is not the child that was forked for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub main_group: Option<i32>,
    /// Its preStart hook ended well for the next child, which is not on record yet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prepared: bool,
    /// How its processes ended since the life began.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exits: Rare<ExitCounts>,
}

/// The last of these numbers of records, in the order in which they are in a journal, if none is missing
/// before it. A snapshot's share one number; older ones may follow it, which it contains.
pub fn sound_until(seqs: impl Iterator<Item = u64>) -> Option<u64> {
    let mut last: Option<u64> = None;
    for seq in seqs {
        match last {
            Some(last) if seq > last.saturating_add(1) => return None,
            last_one => last = last_one.max(Some(seq)),
        }
    }
    last
}

/// What most servers do not have is left out of their records: half of the text.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A place in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPlace {
    pub device: u64,
    pub inode: u64,
    /// Bytes in front of it.
    pub offset: u64,
}

/// How a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopWith {
    pub signal: i32,
    pub timeout_ms: u64,
    /// By its stop command, if it still has one.
    #[serde(default)]
    pub by_command: bool,
}

/// An order that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Held {
    Stop,
    Restart,
    Drain,
}

/// Why the last takeover happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The active's process ended.
    Death,
    /// The active stopped beating.
    Hang,
}

/// The last takeover.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Takeover {
    pub at: Ms,
    pub cause: Cause,
    /// From the moment the cause was seen to the moment the new active served.
    pub took_ms: u64,
}

/// Why the active hands over while it could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Planned {
    /// Somebody wanted the other twin to be the active.
    Asked,
    /// The other twin has another configuration.
    Apply,
    /// The other twin is another program.
    Upgrade,
}

/// The active is about to hand over; on record before it ends, so that the next one knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handover {
    pub why: Planned,
    /// The id of the request; empty when nobody waits for it.
    pub id: String,
}

/// The last switchover.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Switchover {
    pub at: Ms,
    pub why: Planned,
    /// From the end of the one active to the moment the next one served.
    pub took_ms: u64,
}

/// The pair is to be down; on record before the standby is told, so that nobody revives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    pub stop_servers: bool,
    pub since: Ms,
    /// Ids of the requests that asked for it.
    pub ids: Vec<String>,
    /// All that was to be done is done.
    pub done: bool,
    /// The essential server for whose failure the pair ends; it ends with exit status 1 then.
    #[serde(default)]
    pub failed: Option<String>,
}

impl Planned {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Planned::Asked => "asked",
            Planned::Apply => "apply",
            Planned::Upgrade => "upgrade",
        }
    }
}

impl TaskKind {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            TaskKind::PreStart => "preStart",
            TaskKind::PostStart => "postStart",
            TaskKind::PreStop => "preStop",
            TaskKind::PostStop => "postStop",
            TaskKind::OnFailure => "onFailure",
            TaskKind::Stop => "stop",
            TaskKind::Reload => "reload",
            TaskKind::Drain => "drain",
        }
    }

    /// As the configuration calls it.
    pub fn title(self) -> &'static str {
        match self {
            TaskKind::PreStart => "preStart hook",
            TaskKind::PostStart => "postStart hook",
            TaskKind::PreStop => "preStop hook",
            TaskKind::PostStop => "postStop hook",
            TaskKind::OnFailure => "onFailure hook",
            TaskKind::Stop => "stop command",
            TaskKind::Reload => "reload command",
            TaskKind::Drain => "drain command",
        }
    }
}

/// All that must outlive an active about the pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecord {
    /// When this life of the servers began.
    pub born_at: Ms,
    /// Rises with every active.
    pub epoch: u64,
    pub takeovers: u64,
    pub last_takeover: Option<Takeover>,
    /// Latest takeovers because of a hang, for the growing timeout.
    pub hangs: Vec<Ms>,
    pub ending: Option<Ending>,
    #[serde(default)]
    pub switchovers: u64,
    #[serde(default)]
    pub last_switchover: Option<Switchover>,
    #[serde(default)]
    pub handover: Option<Handover>,
    /// Ids of requests for which the active handed over, newest last; at most `MARKS_MAX`.
    #[serde(default)]
    pub handed_over: Vec<String>,
    /// Nothing is restarted by itself.
    #[serde(default)]
    pub maintenance: bool,
    /// How long the takeovers of this life took.
    #[serde(default)]
    pub takeover_times: Durations,
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Record {
    Node(Box<NodeRecord>),
    // In a box, so that a takeover with thousands of them moves and copies none.
    Server(Box<ServerRecord>),
}

/// A record with its place in the order of all records of this life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub seq: u64,
    pub record: Record,
}
