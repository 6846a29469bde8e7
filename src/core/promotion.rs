//! The way to being active: fence, lock, journal. Start and takeover go the same way.
//!
//! Must not serve anything on the way. Fence before lock: until its death is seen, the old active
//! may still act. Lock before journal: who holds the lock is the only writer, so what is read
//! then is all there is.

use super::copy::Latest;
use super::record::{Cause, Entry, Identity, Record, ServerRecord, Wanted, Why};
use super::time::{Moment, Ms};
use super::watch::Watch;
use super::{Action, Name, NodeRecord, Note, Phase, Recovered, Survivor};
use std::collections::BTreeMap;

/// SIGKILL is sent again so often to an active that does not die.
pub const FENCE_AGAIN_MS: u64 = 1_000;
/// A lock that is still held is tried again after this, doubled each time. A child that the old
/// active made in its last instant has its table of descriptors, and so its lock, until its first
/// act; that is over in much less than a millisecond.
pub const LOCK_AGAIN_MS: u64 = 1;
/// From this delay on it is told: what ends by itself before needs nobody's attention.
pub const LOCK_TOLD_MS: u64 = 8;
pub const LOCK_AGAIN_MAX_MS: u64 = 1_000;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The old active's death is waited for.
    Fence,
    /// The lock is asked for.
    Lock { delay_ms: u64 },
    /// The journal is being read.
    Journal,
}

/// A process on its way to being active.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promotion {
    /// `None`: a start, not a takeover.
    pub cause: Option<Cause>,
    pub since: Ms,
    pub step: Step,
    pub until: Option<Ms>,
}

impl Promotion {
    /// The first active of a pair: nobody is there to be fenced.
    pub fn start(now: Ms, out: &mut Vec<Action>) -> Promotion {
        out.push(Action::TakeLock);
        let step = Step::Lock { delay_ms: LOCK_AGAIN_MS };
        Promotion { cause: None, since: now, step, until: None }
    }

    /// The active died (its pidfd says so) or hangs (then it is killed first).
    pub fn takeover(now: Ms, cause: Cause, out: &mut Vec<Action>) -> Promotion {
        let mut new = Promotion { cause: Some(cause), since: now, step: Step::Fence, until: None };
        match cause {
            Cause::Death => new.on_active_dead(out),
            Cause::Hang => {
                new.until = Some(now.after(FENCE_AGAIN_MS));
                out.push(Action::Fence);
            }
        }
        new
    }

    /// The death of the old active was seen: now, and not before, the lock.
    pub fn on_active_dead(&mut self, out: &mut Vec<Action>) {
        if self.step == Step::Fence {
            self.step = Step::Lock { delay_ms: LOCK_AGAIN_MS };
            self.until = None;
            out.push(Action::TakeLock);
        }
    }

    /// Where the copy was complete once, what a full disk may have kept from the journal is in it.
    pub fn on_locked(&mut self, watch: &Watch, out: &mut Vec<Action>) {
        if let Step::Lock { .. } = self.step {
            self.step = Step::Journal;
            self.until = None;
            let find_survivors = self.cause.is_none() || !watch.was_complete;
            out.push(Action::ReadJournal { find_survivors, known_seq: watch.known_seq });
        }
    }

    /// Somebody else holds the lock, or it could not be asked for. A start ends here.
    pub fn on_lock_refused(
        &mut self,
        now: Ms,
        pid: i32,
        error: Option<String>,
        out: &mut Vec<Action>,
    ) {
        let Step::Lock { delay_ms } = self.step else { return };
        if self.cause.is_none() || error.is_some() || delay_ms >= LOCK_TOLD_MS {
            out.push(Action::Note(Note::WaitsForLock { pid, error }));
        }
        if self.cause.is_none() {
            out.push(Action::Exit { code: 75 });
            return;
        }
        self.until = Some(now.after(delay_ms));
        self.step = Step::Lock { delay_ms: (delay_ms * 2).min(LOCK_AGAIN_MAX_MS) };
    }

    pub fn on_deadline(&mut self, now: Ms, out: &mut Vec<Action>) {
        match self.step {
            Step::Fence => {
                let since_ms = now.since(self.since);
                out.push(Action::Note(Note::WaitsForDeath { since_ms }));
                out.push(Action::Fence);
                self.until = Some(now.after(FENCE_AGAIN_MS));
            }
            Step::Lock { .. } => {
                self.until = None;
                out.push(Action::TakeLock);
            }
            Step::Journal => {}
        }
    }
}

/// Disk and copy together: of each record the one with the highest number counts. `latest` is the copy.
fn merge(disk: Vec<Entry>, latest: &mut Latest) -> u64 {
    let mut seq_max = latest.values().map(|entry| entry.seq).max().unwrap_or(0);
    for entry in disk {
        seq_max = seq_max.max(entry.seq);
        let seq = entry.seq;
        latest.put_if(entry, |old| old.seq <= seq);
    }
    seq_max
}

/// What is known when the journal has been read.
pub struct Known {
    pub node: Option<NodeRecord>,
    pub servers: Latest,
    pub seq: u64,
}

impl Known {
    /// Takes out what is known of a server.
    pub fn take(&mut self, name: &Name) -> Option<Box<ServerRecord>> {
        self.servers.take(name).and_then(of_server)
    }

    /// What is known of all others.
    pub fn rest(self) -> impl Iterator<Item = Box<ServerRecord>> {
        self.servers.into_values().filter_map(of_server)
    }
}

fn of_server(entry: Entry) -> Option<Box<ServerRecord>> {
    match entry.record {
        Record::Server(server) => Some(server),
        Record::Node(_) => None,
    }
}

/// Turns what was found into what is known. Processes of another boot are gone; survivors take
/// the place of records that were lost.
pub fn know(recovered: Recovered, copy: Latest) -> Known {
    let mut servers = copy;
    let seq = merge(recovered.entries, &mut servers);
    let node = servers.take_node().and_then(|entry| match entry.record {
        Record::Node(node) => Some(*node),
        Record::Server(_) => None,
    });
    if !recovered.same_boot {
        servers.values_mut().filter_map(server_of).for_each(forget_process);
    }
    let mut by_name: BTreeMap<&str, Vec<&Survivor>> = BTreeMap::new();
    for survivor in &recovered.survivors {
        by_name.entry(&survivor.name).or_default().push(survivor);
    }
    for (name, survivors) in by_name {
        if servers.get(name).is_none() {
            let record = Record::Server(ServerRecord::new(name, Wanted::Up).into());
            servers.put(Entry { seq, record });
        }
        if let Some(record) = servers.get_mut(name).and_then(server_of) {
            add_survivors(record, &survivors, recovered.incomplete);
        }
    }
    Known { node, servers, seq }
}

fn server_of(entry: &mut Entry) -> Option<&mut ServerRecord> {
    match &mut entry.record {
        Record::Server(server) => Some(server),
        Record::Node(_) => None,
    }
}

/// The boot took all processes with it.
fn forget_process(server: &mut ServerRecord) {
    server.phase = Phase::Down;
    server.task = None;
    server.started_at = Moment::NONE;
    server.ready_at = Moment::NONE;
    server.reason = None;
    server.failures.clear();
    server.failures_in_row = 0;
}

/// Living processes with a server's mark. One that is newer than the record proves that the
/// record is old: what it names is gone, and the server was wanted up after it. If it leads its
/// session it is the server itself, and is adopted; else it is waited for. Where the journal has a
/// hole, older ones are waited for too, so that nothing is started beside them.
fn add_survivors(record: &mut ServerRecord, survivors: &[&Survivor], incomplete: bool) {
    // A child that was asked for with this number and lives is newer than the asking.
    let is_owed = matches!(record.phase, Phase::Spawning { .. });
    let least = record.start_number + u64::from(!is_owed);
    let newer = survivors.iter().filter(|survivor| survivor.start_number >= least);
    let newest =
        newer.max_by_key(|one| (one.leads, one.start_number, std::cmp::Reverse(one.process)));
    if let Some(newest) = newest {
        record.start_number = newest.start_number;
        record.wanted = Wanted::Up;
        forget_orders(record);
        record.phase = match newest.leads {
            true => Phase::Up { process: newest.process },
            false => Phase::Waiting { until: Ms(0), pid: newest.process.pid },
        };
        return;
    }
    if incomplete && let Some(unmarked) = unmarked_leader(record, survivors) {
        forget_orders(record);
        record.wanted = Wanted::Up;
        record.phase = Phase::Up { process: unmarked.process };
        return;
    }
    // What has a process is looked after: others with its mark are its own children.
    let has_none =
        record.phase.is_gone() || matches!(record.phase, Phase::Spawning { .. } | Phase::Preparing);
    if let (true, true, Some(stray)) = (incomplete, has_none, survivors.first()) {
        record.start_number = record.start_number.max(stray.start_number);
        record.phase = Phase::Waiting { until: Ms(0), pid: stray.process.pid };
    }
}

/// The process is another one than the record is about: an order that waited was for the one before,
/// and which definition this one has is not known.
fn forget_orders(record: &mut ServerRecord) {
    (record.held, record.revision, record.stop_with) = (None, None, None);
    record.main_group = None;
    (record.removed, record.prepared) = (false, false);
}

/// The process that the record is about, also when it says that it is dead: what is newer was started
/// after the record was written.
fn last_process(phase: &Phase) -> Option<Identity> {
    match phase {
        Phase::Reaping { process, .. } | Phase::Stopping { process, .. } => Some(*process),
        phase => phase.process(),
    }
}

/// A leader whose mark is gone, so that its place among the starts can't be known. It is the
/// server itself, if the record has nothing, or a process that is older and lives no more. The
/// first one counts: a later leader is something that it started.
fn unmarked_leader<'a>(record: &ServerRecord, survivors: &[&'a Survivor]) -> Option<&'a Survivor> {
    let has_none = record.phase.is_gone() || matches!(record.phase, Phase::Spawning { .. });
    let own = last_process(&record.phase);
    if own.is_some_and(|own| survivors.iter().any(|survivor| survivor.process == own)) {
        return None;
    }
    let is_newer = |one: &Survivor| match own {
        Some(own) => one.process.start_ticks > own.start_ticks,
        None => has_none,
    };
    let leaders = survivors.iter().filter(|one| one.leads && one.start_number == 0);
    leaders.copied().filter(|one| is_newer(one)).min_by_key(|one| one.process.start_ticks)
}

/// The records of a new life: processes are kept (one of each), wishes and counts are not.
pub fn new_life(old: ServerRecord, auto_start: bool) -> ServerRecord {
    let wanted = if auto_start { Wanted::Up } else { Wanted::Down };
    let keeps_process = old.phase.process().is_some()
        || matches!(
            old.phase,
            Phase::Reaping { .. }
                | Phase::Stopping { .. }
                | Phase::Closing { .. }
                | Phase::Seeking { .. }
                | Phase::Waiting { .. }
        )
        // Its hook runs: it goes on, or is ended.
        || old.phase == Phase::Preparing;
    let phase = match old.phase {
        // Whatever it was stopped for, it is stopped; then the new wish counts.
        Phase::Stopping { process, leader_dead, killed, until, .. } => {
            Phase::Stopping { process, why: Why::Asked, leader_dead, killed, until }
        }
        Phase::Closing { .. } => Phase::Closing { why: Why::Asked },
        Phase::Draining { process, until, quiesced, .. } => {
            Phase::Draining { process, until, why: Why::Asked, quiesced, keeps: false }
        }
        phase if keeps_process => phase,
        _ => Phase::Down,
    };
    ServerRecord {
        task: old.task.filter(|_| keeps_process),
        main_group: old.main_group.filter(|_| keeps_process),
        phase,
        start_number: old.start_number,
        started_at: old.started_at.get().filter(|_| keeps_process).into(),
        ready_at: old.ready_at.get().filter(|_| keeps_process).into(),
        last_exit: old.last_exit,
        disabled: old.disabled,
        ..ServerRecord::new(old.name, wanted)
    }
}
