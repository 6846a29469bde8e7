//! Records under another configuration: what a new active does when the one before it worked with
//! an older one.
//!
//! Must not start or stop anything itself: it leaves orders in the records, which are in the journal
//! before the first of them is carried out. A server's process belongs to the revision of its
//! definition that it was started with; an order for a revision is given once.

use super::promotion::new_life;
use super::record::{Held, Phase, ServerRecord, StopWith, TaskKind, Wanted};
use super::server::Server;
use super::{ServerId, ServerPlan};

/// Whether a record says already what `under` would make of it.
pub(super) fn is_under(record: &ServerRecord, plan: &ServerPlan) -> bool {
    !record.removed
        && record.revision == Some(plan.revision)
        && record.stop_with.is_none_or(|with| with == stop_with(plan))
}

/// How a process is stopped that is started with this definition.
fn stop_with(plan: &ServerPlan) -> StopWith {
    let (signal, timeout_ms) = (plan.stop_signal, plan.stop_timeout_ms);
    let by_command = plan.task_timeout_ms(TaskKind::Stop).is_some();
    StopWith { signal, timeout_ms, by_command }
}

/// The record of a configured server. `goes_on`: nobody has started the pair since the record was
/// written, so another revision comes of an `apply`; else what runs is taken as it is.
pub(super) fn under(old: ServerRecord, plan: &ServerPlan, goes_on: bool) -> ServerRecord {
    // Taken out of the configuration and put in again: as a new one, but for its process.
    let mut record = match old.removed {
        true => ServerRecord {
            revision: old.revision,
            stop_with: old.stop_with,
            ..new_life(old, plan.auto_start)
        },
        false => old,
    };
    let before = record.revision.replace(plan.revision);
    // A hook that was not this one.
    record.prepared &= before == Some(plan.revision);
    if !goes_on || before.is_none_or(|before| before == plan.revision) {
        record.stop_with = None;
        return record;
    }
    if record.wanted == Wanted::Down {
        return record;
    }
    match record.phase {
        // What is wanted and down is started, with the new definition: the old failures do not count.
        Phase::Down | Phase::Queued | Phase::Backoff { .. } | Phase::Failed | Phase::Exited => {
            record.phase = Phase::Down;
            record.failures.clear();
            record.failures_in_row = 0;
            record.reason = None;
        }
        // The next start has the new definition anyway.
        Phase::Spawning { .. }
        | Phase::Waiting { .. }
        | Phase::Reaping { .. }
        | Phase::Closing { .. } => {}
        // Its hook is run again, as it is now.
        Phase::Preparing => record.task.iter_mut().for_each(|task| task.is_over = true),
        Phase::AtGate { .. }
        | Phase::Execing { .. }
        | Phase::Locking { .. }
        | Phase::Settling { .. }
        | Phase::Unready { .. }
        | Phase::Seeking { .. }
        | Phase::Up { .. }
        | Phase::Draining { .. }
        | Phase::Stopping { .. }
        | Phase::Verifying { .. } => record.held = Some(Held::Restart),
    }
    record
}

/// The record of a server that the configuration does not name, and that has a process. It is
/// stopped if it was named in this life; one that somebody started the pair without runs on.
pub(super) fn unnamed(mut record: ServerRecord, goes_on: bool) -> ServerRecord {
    if !goes_on {
        record.revision = None;
    } else if record.revision.is_some() && !record.removed {
        record.removed = true;
        record.wanted = Wanted::Down;
        record.held = Some(Held::Stop);
    }
    record
}

impl Server {
    /// The signal of a stop: that of the definition which the process was started with, unless that
    /// was changed in place.
    pub(super) fn stop_signal(&self) -> i32 {
        self.rec.stop_with.map_or(self.plan.stop_signal, |with| with.signal)
    }

    /// The time between the stop signal and SIGKILL, likewise.
    pub(super) fn stop_timeout_ms(&self) -> u64 {
        self.rec.stop_with.map_or(self.plan.stop_timeout_ms, |with| with.timeout_ms)
    }

    /// It is stopped by its stop command: one that it had at its start, and has now.
    pub(super) fn stops_by_command(&self) -> bool {
        self.rec.stop_with.is_none_or(|with| with.by_command)
    }

    /// A child is asked for: it belongs to the present definition.
    pub(super) fn note_revision(&mut self) {
        self.rec.revision = (!self.plan.left_over).then_some(self.plan.revision);
        self.rec.stop_with = Some(stop_with(&self.plan));
    }

    /// It was taken out of the configuration, and nothing of it is left.
    pub fn is_removed(&self) -> bool {
        self.plan.left_over && self.rec.removed && self.rec.phase.is_gone()
    }
}

impl super::Node {
    /// Servers of which nothing is left, not even a place in the configuration.
    pub fn removed(&self) -> Vec<ServerId> {
        self.servers.iter().filter(|one| one.is_removed()).map(|one| one.id).collect()
    }
}
