//! Records under another configuration.

use super::*;
use crate::core::apply::{under, unnamed};
use crate::core::record::{Held, StopWith};
use crate::core::{Identity, Phase, ServerRecord, Wanted};

const OLD: StopWith = StopWith { signal: 12, timeout_ms: 50, by_command: false };

fn up(revision: Option<u64>) -> ServerRecord {
    let process = Identity { pid: 7, start_ticks: 7, inode: 7 };
    let (phase, stop_with) = (Phase::Up { process }, Some(OLD));
    ServerRecord { phase, revision, stop_with, ..ServerRecord::new("web", Wanted::Up) }
}

fn revised() -> ServerPlan {
    ServerPlan { revision: 2, ..plan() }
}

#[test]
fn a_process_of_another_revision_is_restarted_once_and_stopped_as_it_was_defined() {
    let record = under(up(Some(1)), &revised(), true);
    assert_eq!((record.held, record.stop_with), (Some(Held::Restart), Some(OLD)));
    let again = under(ServerRecord { held: None, ..record }, &revised(), true);
    assert_eq!(again.held, None, "an order for a revision is given once");
}

#[test]
fn a_process_of_the_same_or_an_unknown_revision_and_one_found_by_a_person_run_on() {
    let cases = [(Some(2), true), (None, true), (Some(1), false)];
    for (revision, goes_on) in cases {
        let record = under(up(revision), &revised(), goes_on);
        assert_eq!((record.held, record.stop_with, record.revision), (None, None, Some(2)));
    }
}

#[test]
fn a_server_that_was_given_up_starts_anew_and_one_that_is_not_wanted_does_not() {
    let failed = ServerRecord { phase: Phase::Failed, ..up(Some(1)) };
    assert_eq!(under(failed, &revised(), true).phase, Phase::Down);
    let stopped = ServerRecord { wanted: Wanted::Down, phase: Phase::Exited, ..up(Some(1)) };
    let record = under(stopped, &revised(), true);
    assert_eq!((record.wanted, record.phase), (Wanted::Down, Phase::Exited));
}

#[test]
fn a_pre_start_hook_counts_for_the_definition_that_it_belongs_to() {
    for phase in [Phase::Spawning { until: NOW }, Phase::Backoff { until: NOW }] {
        for (revision, is_prepared) in [(Some(2), true), (Some(1), false), (None, false)] {
            let old = ServerRecord { phase: phase.clone(), prepared: true, ..up(revision) };
            assert_eq!(
                under(old, &revised(), true).prepared,
                is_prepared,
                "{phase:?} {revision:?}"
            );
        }
    }
}

#[test]
fn a_server_taken_out_is_stopped_but_not_one_that_somebody_started_the_pair_without() {
    let record = unnamed(up(Some(1)), true);
    assert_eq!((record.wanted, record.held), (Wanted::Down, Some(Held::Stop)));
    let back = under(record, &revised(), true);
    assert_eq!((back.wanted, back.held, back.removed), (Wanted::Up, Some(Held::Restart), false));
    let left = unnamed(up(Some(1)), false);
    assert_eq!((left.wanted, left.held), (Wanted::Up, None));
    assert_eq!(unnamed(left, true).wanted, Wanted::Up, "nor by a takeover later");
}
