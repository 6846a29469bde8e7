//! Unit tests of what records add to what was told. Must not start anything.

use super::*;
use crate::core::restart::{Then, When};
use crate::core::{ServerRecord, Wanted};

const NOW: Ms = Ms(100_000);

fn policy() -> Policy {
    Policy {
        when: When::OnFailure,
        tries: 2,
        then: Then::Slow,
        reset_after_ms: 60_000,
        ..Policy::never()
    }
}

fn process(pid: i32) -> Identity {
    Identity { pid, start_ticks: 7, inode: 0 }
}

fn record() -> ServerRecord {
    ServerRecord::new("web", Wanted::Up)
}

fn kinds(seen: &mut Seen, rec: &ServerRecord) -> Vec<&'static str> {
    seen.compare(rec, &policy(), NOW).iter().map(|draft| draft.kind.name()).collect()
}

fn ended(rec: &mut ServerRecord, pid: i32, exit: Exit) {
    rec.last_exit = Some(LastExit { process: process(pid), exit, at: NOW, ran_ms: 5 }.into());
}

fn learn(seen: &mut Seen, drafts: Vec<Draft>) {
    for (seq, draft) in (1..).zip(drafts) {
        seen.learn(&Record::new(seq, String::new(), draft));
    }
}

#[test]
fn a_life_is_told_once_however_often_it_is_looked_at() {
    let (mut seen, mut rec) = (Seen::default(), record());
    rec.phase = Phase::Up { process: process(5) };
    assert_eq!(kinds(&mut seen, &rec), ["server-running"]);
    assert!(kinds(&mut seen, &rec).is_empty());
    ended(&mut rec, 5, Exit::Code(1));
    rec.failures = vec![NOW].into();
    rec.phase = Phase::Backoff { until: NOW.after(50) };
    assert_eq!(kinds(&mut seen, &rec), ["server-ended", "server-backoff"]);
    assert!(kinds(&mut seen, &rec).is_empty());
}

#[test]
fn what_an_active_had_no_time_to_tell_is_told_by_the_next() {
    let mut rec = record();
    rec.phase = Phase::Up { process: process(5) };
    let mut before = Seen::default();
    let mut told = before.compare(&rec, &policy(), NOW);
    ended(&mut rec, 5, Exit::Code(1));
    rec.phase = Phase::Failed;
    let mut after = Seen::of(&rec);
    learn(&mut after, told.clone());
    assert_eq!(kinds(&mut after, &rec), ["server-ended", "server-failed"]);
    told.extend(before.compare(&rec, &policy(), NOW));
    let mut all_told = Seen::of(&rec);
    learn(&mut all_told, told);
    assert!(kinds(&mut all_told, &rec).is_empty());
    rec.phase = Phase::Up { process: process(6) };
    assert_eq!(kinds(&mut all_told, &rec), ["server-running", "server-recovered"]);
}

#[test]
fn used_up_tries_are_told_once_and_recovery_when_it_stays_up() {
    let (mut seen, mut rec) = (Seen::default(), record());
    let mut all = Vec::new();
    for pid in 1..6 {
        rec.phase = Phase::Up { process: process(pid) };
        (rec.ready_at, rec.started_at) = (NOW.into(), NOW.into());
        all.extend(kinds(&mut seen, &rec));
        ended(&mut rec, pid, Exit::Signal(9));
        rec.failures.push(NOW);
        rec.phase = Phase::Backoff { until: NOW };
        all.extend(kinds(&mut seen, &rec));
    }
    assert_eq!(all.iter().filter(|kind| **kind == "server-failing").count(), 1, "{all:?}");
    assert!(!all.contains(&"server-recovered"), "{all:?}");
    rec.phase = Phase::Up { process: process(9) };
    assert_eq!(kinds(&mut seen, &rec), ["server-running"]);
    assert_eq!(seen.recovers_at.get(), Some(NOW.after(60_000)));
    assert!(seen.recover(&rec, NOW.after(59_999)).is_none());
    let recovered = seen.recover(&rec, NOW.after(60_000)).unwrap();
    assert_eq!(recovered.kind, Kind::ServerRecovered);
    assert!(seen.recover(&rec, NOW.after(120_000)).is_none());
}

#[test]
fn a_stop_is_told_with_who_wanted_it_and_once() {
    let (mut seen, mut rec) = (Seen::default(), record());
    rec.phase = Phase::Up { process: process(5) };
    kinds(&mut seen, &rec);
    let until = NOW;
    let (process, why) = (process(5), Why::Asked);
    rec.phase = Phase::Stopping { process, why, leader_dead: true, killed: false, until };
    ended(&mut rec, 5, Exit::Signal(15));
    let drafts = seen.compare(&rec, &policy(), NOW);
    assert_eq!(drafts.len(), 1);
    assert_eq!(
        (drafts[0].kind, drafts[0].fields["signal"].as_str()),
        (Kind::ServerStopped, Some("SIGTERM"))
    );
    rec.phase = Phase::Down;
    assert!(kinds(&mut seen, &rec).is_empty());
    rec.phase = Phase::Queued;
    assert!(kinds(&mut seen, &rec).is_empty());
    rec.phase = Phase::Backoff { until };
    assert_eq!(kinds(&mut seen, &rec), ["server-backoff"]);
    rec.phase = Phase::Down;
    assert_eq!(kinds(&mut seen, &rec), ["server-stopped"], "it was to be tried again");
}

#[test]
fn a_server_that_is_not_well_is_told_before_its_end() {
    let (mut seen, mut rec) = (Seen::default(), record());
    rec.phase = Phase::Up { process: process(5) };
    kinds(&mut seen, &rec);
    let (until, why) = (NOW, Why::Failing);
    rec.phase =
        Phase::Stopping { process: process(5), why, leader_dead: false, killed: false, until };
    assert_eq!(kinds(&mut seen, &rec), ["server-unhealthy"]);
    rec.phase =
        Phase::Stopping { process: process(5), why, leader_dead: true, killed: false, until };
    ended(&mut rec, 5, Exit::Signal(15));
    assert_eq!(kinds(&mut seen, &rec), ["server-ended"]);
}
