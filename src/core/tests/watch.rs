//! The standby's view of the active.

use super::*;
use crate::core::record::{Cause, NodeRecord, Task, TaskKind};
use crate::core::watch::{CONNECT_AGAIN_MS, HANGS_DOUBLINGS_MAX, Watch};

fn linked() -> Watch {
    let mut watch = Watch::new(NOW);
    watch.on_link_up(NOW, &mut Vec::new());
    watch
}

fn pulse(watch: &mut Watch, now: Ms, counter: u64, late: bool) -> (Option<Cause>, Vec<Action>) {
    let mut out = Vec::new();
    let cause = watch.on_pulse(now, counter, late, &pair_plan(), &mut out);
    (cause, out)
}

#[test]
fn a_snapshot_is_acknowledged_when_all_of_it_is_there() {
    let (mut watch, mut out) = (linked(), Vec::new());
    watch.on_copied(NOW, entry(5, Phase::Down), &mut out);
    assert!(!out.contains(&Action::Ack { seq: 5 }));
    watch.on_copy_complete(5, &mut out);
    assert!(out.ends_with(&[Action::Ack { seq: 5 }, Action::SayWatching]));
}

#[test]
fn a_single_record_is_held_before_it_is_acknowledged() {
    let (mut watch, mut out) = (linked(), Vec::new());
    watch.on_copy_complete(5, &mut Vec::new());
    watch.on_copied(NOW, entry(6, Phase::Up { process: process(9) }), &mut out);
    let hold = Action::Hold { name: "web".into(), process: Some(process(9)), task: None };
    assert_eq!(out, [hold, Action::Ack { seq: 6 }]);
}

#[test]
fn the_command_beside_a_server_is_held_too_and_let_go_when_it_has_ended() {
    let (mut watch, mut out) = (linked(), Vec::new());
    let (kind, running) = (TaskKind::PreStart, Some(process(8)));
    let task = Task { kind, process: running, until: NOW, is_over: false };
    let mut begun = entry(6, Phase::Down);
    let Record::Server(server) = &mut begun.record else { panic!("not a server's record") };
    server.task = Some(task.into());
    watch.on_copied(NOW, begun, &mut out);
    watch.on_copied(NOW, entry(7, Phase::Down), &mut out);
    let hold = |task| Action::Hold { name: "web".into(), process: None, task };
    assert_eq!(out, [hold(running), hold(None)]);
}

#[test]
fn after_a_broken_link_nothing_is_acknowledged_before_the_next_snapshot() {
    let (mut watch, mut out) = (linked(), Vec::new());
    watch.on_copy_complete(5, &mut Vec::new());
    watch.on_link_down(NOW, &mut Vec::new());
    assert_eq!(watch.connect, Some(NOW.after(CONNECT_AGAIN_MS)));
    watch.on_link_up(NOW, &mut Vec::new());
    watch.on_copied(NOW, entry(6, Phase::Down), &mut out);
    assert!(!out.contains(&Action::Ack { seq: 6 }));
}

#[test]
fn an_older_record_does_not_replace_a_newer_one() {
    let mut watch = linked();
    watch.on_copied(NOW, entry(6, Phase::Failed), &mut Vec::new());
    watch.on_copied(NOW, entry(5, Phase::Down), &mut Vec::new());
    assert_eq!(watch.copy.get("web"), Some(&entry(6, Phase::Failed)));
}

#[test]
fn a_hang_needs_both_a_silent_link_and_a_still_pulse() {
    let mut watch = linked();
    pulse(&mut watch, NOW, 1, false);
    let later = NOW.after(1_000);
    let mut heard = watch.clone();
    heard.on_heard(NOW.after(500));
    assert_eq!(pulse(&mut heard, later, 1, false).0, None, "the link was not silent");
    let mut moved = watch.clone();
    assert_eq!(pulse(&mut moved, later, 2, false).0, None, "the pulse moved");
    assert_eq!(pulse(&mut watch, later, 1, false).0, Some(Cause::Hang));
}

#[test]
fn a_moment_before_the_timeout_it_is_no_hang() {
    let mut watch = linked();
    pulse(&mut watch, NOW, 1, false);
    assert_eq!(pulse(&mut watch, NOW.after(999), 1, false), (None, Vec::new()));
}

#[test]
fn a_silent_link_beside_a_moving_pulse_is_rebuilt() {
    let mut watch = linked();
    let (cause, out) = pulse(&mut watch, NOW.after(1_000), 1, false);
    assert_eq!(cause, None);
    assert!(out.contains(&Action::CloseLink));
    assert!(watch.connect.is_some());
    let (_, again) = pulse(&mut watch, NOW.after(1_100), 2, false);
    assert!(!again.contains(&Action::CloseLink), "it is closed once");
}

#[test]
fn a_twin_that_was_late_itself_does_not_judge() {
    let mut watch = linked();
    pulse(&mut watch, NOW, 1, false);
    assert_eq!(pulse(&mut watch, NOW.after(60_000), 1, true).0, None);
    assert_eq!(pulse(&mut watch, NOW.after(60_999), 1, false).0, None, "it waits anew");
    assert_eq!(pulse(&mut watch, NOW.after(61_000), 1, false).0, Some(Cause::Hang));
}

#[test]
fn the_timeout_doubles_with_each_hang_up_to_a_cap() {
    let mut watch = linked();
    let mut timeout = |hangs: usize| {
        let record = NodeRecord { hangs: vec![NOW; hangs], ..NodeRecord::default() };
        watch.copy.put(Entry { seq: 1, record: Record::Node(record.into()) });
        watch.timeout_ms(NOW.after(1), &pair_plan())
    };
    assert_eq!([0, 1, 2].map(&mut timeout), [1_000, 2_000, 4_000]);
    assert_eq!(timeout(100), 1_000 << HANGS_DOUBLINGS_MAX);
}

#[test]
fn hangs_of_long_ago_do_not_count() {
    let mut watch = linked();
    let record = NodeRecord { hangs: vec![Ms(0)], ..NodeRecord::default() };
    watch.copy.put(Entry { seq: 1, record: Record::Node(record.into()) });
    assert_eq!(watch.timeout_ms(NOW, &pair_plan()), 1_000);
}
