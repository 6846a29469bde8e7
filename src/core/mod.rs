//! The decisions: events and the time go in, actions come out.
//!
//! Must not read a clock, do I/O, log, or fail: a failure outside is an event. Uses nothing but
//! `std` collections and serde's derives. This file is the whole vocabulary on one screen; the
//! actions of one list are carried out in their order, and that order is the safety of it all.

pub mod adopt;
pub mod apply;
pub mod ask;
pub mod checks;
pub mod clients;
pub mod copy;
pub mod counts;
pub mod dispatch;
pub mod drain;
pub mod end;
pub mod ending;
pub mod forking;
pub mod keeper;
pub mod maintenance;
pub mod name;
pub mod node;
pub mod note;
pub mod order;
pub mod orders;
pub mod plan;
pub mod promotion;
pub mod rare;
pub mod record;
pub mod restart;
pub mod server;
pub mod silence;
pub mod standby;
pub mod start;
pub mod stop;
pub mod switchover;
pub mod task;
#[cfg(test)]
mod tests;
pub mod time;
pub mod watch;

pub use name::Name;
pub use node::Node;
pub use note::Note;
pub use plan::{PairPlan, ServerPlan};
pub use record::{Cause, Entry, Exit, Identity, NodeRecord, Phase, Record, ServerRecord, Wanted};
pub use time::Ms;

use ask::{Ask, Outcome};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A server's place in the node's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerId(pub usize);

/// A connection on the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// What a look at the process on record showed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// It lives and carries its mark: it passed its gate.
    Alive,
    /// It lives without its mark: it still waits at a gate that nobody can open any more.
    AtGate,
    /// It is dead, or its number belongs to another process now.
    Gone,
    /// It could not be told.
    Unclear(String),
}

/// A living process that carries a server's mark, found without a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Survivor {
    pub name: String,
    /// 0: it can't be known, because the process has wiped its mark.
    pub start_number: u64,
    pub process: Identity,
    /// It leads its session, as every server's first process does.
    pub leads: bool,
}

/// What was on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recovered {
    pub entries: Vec<Entry>,
    /// The journal was written in this boot.
    pub same_boot: bool,
    /// There was no journal, or it was cut.
    pub incomplete: bool,
    /// The journal is sound, can be gone on with, and has every record up to this one (`sound_until`).
    pub sound_until: Option<u64>,
    /// Looked for as `Action::ReadJournal` says.
    pub survivors: Vec<Survivor>,
    /// What the memory that outlives both twins says of the pair's end.
    pub end_asked: Option<EndAsked>,
    /// The servers that are disabled; `None` when the list can't be read.
    pub disabled: Option<BTreeSet<String>>,
    /// Somebody stopped all of them since, while no pair ran.
    pub was_stopped: bool,
}

/// Somebody asked for the end of the pair that is served now. Once said it stays: an end is never
/// taken back, and who starts the pair again after it begins with new memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndAsked {
    ServersStay,
    ServersStop,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::large_enum_variant, reason = "few of them are there at a time")]
pub enum Event {
    // ---- servers
    /// The child is there, and waits at its gate.
    Spawned {
        server: ServerId,
        start_number: u64,
        process: Identity,
    },
    /// Where the output of a child that is about to be forked begins.
    OutputAt {
        server: ServerId,
        start_number: u64,
        place: record::LogPlace,
    },
    /// The cgroup of a child that is about to be forked, or of a process that was found.
    CgroupAt {
        server: ServerId,
        start_number: u64,
        dir: Option<String>,
    },
    /// There is no child: fork was refused, or no descriptor was left.
    SpawnFailed {
        server: ServerId,
        start_number: u64,
        error: String,
    },
    /// A step of the child failed before or at exec; it ends.
    ChildFailed {
        server: ServerId,
        start_number: u64,
        error: String,
    },
    /// What the machine owes a child was gone (the run directory was emptied) before the child was
    /// ready; it ends without exec. Not the server's failure.
    ChildRefused {
        server: ServerId,
        start_number: u64,
        error: String,
    },
    /// The child passed its gate and waits for what `text` names before its exec; it is given so
    /// long.
    ChildWaits {
        server: ServerId,
        start_number: u64,
        text: String,
        timeout_ms: u64,
    },
    /// exec succeeded (or the child was killed on its way there: `Died` follows).
    Executed {
        server: ServerId,
        start_number: u64,
    },
    /// The leader is dead. The status is known where it was our child.
    Died {
        server: ServerId,
        process: Identity,
        exit: Option<Exit>,
    },
    /// A status that came on another way: from the keeper, or from the pidfd.
    Status {
        pid: i32,
        start_ticks: u64,
        exit: Exit,
    },
    /// What is left of the group of a dead leader: one living member's PID, or none.
    Group {
        server: ServerId,
        process: Identity,
        living: Option<i32>,
    },
    /// The kernel killed so many processes of its cgroup for want of memory.
    OomKilled {
        server: ServerId,
        process: Identity,
        kills: u64,
    },
    /// A living process with the server's mark, or none.
    Strays {
        server: ServerId,
        pid: Option<i32>,
    },
    /// The answer to a check.
    Probed {
        server: ServerId,
        start_number: u64,
        check: checks::Check,
        answer: Result<(), String>,
    },
    /// A server said something of itself.
    Told {
        server: ServerId,
        start_number: u64,
        told: checks::Told,
    },
    /// The process that stays after the one that started it has ended, or that the server named. It
    /// is watched already.
    MainFound {
        server: ServerId,
        start_number: u64,
        process: Identity,
        group: i32,
    },
    /// There is none yet, and why.
    MainMissing {
        server: ServerId,
        start_number: u64,
        text: String,
    },
    /// The child of a task is there, and waits at its gate.
    TaskSpawned {
        server: ServerId,
        number: u64,
        process: Identity,
    },
    /// The child of a task has ended, with how it ended where that can be known, or there is none.
    TaskEnded {
        server: ServerId,
        number: u64,
        end: task::TaskEnd,
    },
    /// The process on record was looked at.
    Verified {
        server: ServerId,
        process: Identity,
        found: Found,
    },
    // ---- record
    /// The entry is in the journal.
    Saved {
        seq: u64,
    },
    /// It is not, and why.
    NotSaved {
        seq: u64,
        error: String,
    },
    /// The standby has it.
    Acked {
        seq: u64,
    },
    /// Whom the shell has prepared is ready to go on; `id`: the request's, or empty.
    SuccessorReady {
        why: record::Planned,
        id: String,
    },
    /// The list of disabled servers was read anew.
    Disabled {
        names: BTreeSet<String>,
    },
    // ---- clients
    Asked(Ask),
    ClientGone {
        client: ClientId,
    },
    // ---- the active's side of the pair
    StandbySpawned {
        process: Identity,
    },
    StandbySpawnFailed {
        error: String,
    },
    /// It proved the secret.
    StandbyConnected,
    /// It has all records, holds all that a takeover needs, and watches.
    StandbyWatching,
    /// Something came from it over the link.
    StandbyHeard,
    StandbyLinkLost,
    StandbyDied {
        process: Identity,
    },
    // ---- the standby's side
    LinkUp,
    LinkDown,
    /// Something came from the active over the link.
    ActiveHeard,
    Copied(Entry),
    CopyComplete {
        seq: u64,
    },
    ToldToStop,
    ActiveDied,
    // ---- both
    /// The other twin's heartbeat counter in shared memory, asked for by `Action::Beat`.
    Pulse {
        counter: u64,
    },
    Locked,
    LockHeld {
        pid: i32,
    },
    LockFailed {
        error: String,
    },
    Recovered(Recovered),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    // ---- servers
    /// Fork a child that waits at its gate.
    Spawn {
        server: ServerId,
        start_number: u64,
    },
    /// A child came too late: end it without exec.
    Discard {
        server: ServerId,
        start_number: u64,
    },
    OpenGate {
        server: ServerId,
        start_number: u64,
    },
    Signal {
        server: ServerId,
        process: Identity,
        signal: i32,
        scope: Scope,
    },
    /// The status is on record: the zombie may go.
    Reap {
        server: ServerId,
        process: Identity,
    },
    ProbeGroup {
        server: ServerId,
        process: Identity,
    },
    ProbeStrays {
        server: ServerId,
    },
    /// Ask a server whether it is ready, or well; `Event::Probed` is the answer.
    Probe {
        server: ServerId,
        start_number: u64,
        check: checks::Check,
    },
    /// Look for the process that stays after `starter`.
    FindMain {
        server: ServerId,
        start_number: u64,
        starter: Identity,
    },
    /// Fork the child of a task, which waits at its gate.
    SpawnTask {
        server: ServerId,
        number: u64,
        kind: record::TaskKind,
    },
    OpenTaskGate {
        server: ServerId,
        number: u64,
    },
    /// SIGKILL to its group; nobody waits for it any more.
    KillTask {
        server: ServerId,
        number: u64,
    },
    /// Watch the task that an earlier active started.
    WatchTask {
        server: ServerId,
        number: u64,
        process: Identity,
    },
    /// Tell the process on record apart from strangers, and watch it if it is ours.
    Verify {
        server: ServerId,
        process: Identity,
        start_number: u64,
    },
    // ---- record
    /// `goes_on`: add these entries to the journal that was read; it has all others as they are. Else begin
    /// a new generation with them.
    OpenJournal {
        entries: Vec<Entry>,
        goes_on: bool,
    },
    /// Append to the journal and copy to the standby; `answer`: a gate waits for the result.
    Save {
        entry: Box<Entry>,
        answer: bool,
    },
    /// All records as they are now, for a standby that has just connected.
    SendSnapshot {
        entries: Vec<Entry>,
        seq: u64,
    },
    // ---- clients
    Answer {
        client: ClientId,
        outcomes: Vec<Outcome>,
    },
    /// The answer to a request that names no servers.
    AnswerAboutPair {
        client: ClientId,
        result: ask::Ended,
        text: String,
    },
    // ---- the active's side of the pair
    /// End at once and without a word: the other twin, or the keeper, goes on.
    HandOver,
    SpawnStandby,
    KillStandby {
        process: Identity,
    },
    TellStandbyToStop,
    DropStandbyLink,
    // ---- the standby's side
    Connect,
    /// Hold what a takeover needs of this server: its FIFO, and pidfds of its process and of
    /// the command that runs beside it.
    Hold {
        name: Name,
        process: Option<Identity>,
        task: Option<Identity>,
    },
    Ack {
        seq: u64,
    },
    SayWatching,
    CloseLink,
    // ---- both
    /// Count up the own pulse, send a heartbeat, look at the other's pulse.
    Beat,
    /// SIGKILL to the active, through its pidfd.
    Fence,
    TakeLock,
    /// `find_survivors`: look for living processes with a mark too; done as well when the journal
    /// turns out to be incomplete.
    /// Records up to `known_seq` are not needed: the copy has them, or newer ones in their place.
    ReadJournal {
        find_survivors: bool,
        known_seq: u64,
    },
    /// Open the doors: from here on this process is the active.
    Serve,
    /// Somebody must go on emptying the FIFOs of the servers that stay up.
    LeaveMover,
    Exit {
        code: u8,
    },
    /// For the log, the events and run/pair.json.
    Note(Note),
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Leader,
    /// The process group of the leader; SIGKILL also to all of its cgroup.
    Group,
    /// Those of its cgroup that are in no process group of the leader's.
    LeftGroup,
}
