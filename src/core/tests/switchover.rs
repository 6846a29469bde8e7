//! The planned way from one active to the other, and maintenance.

use super::*;
use crate::core::ask::{Ask, Ended, Reach, Verb};
use crate::core::node::Timer;
use crate::core::record::{Cause, Handover, NodeRecord, Planned, Why};

fn asked(id: &str, client: u64, verb: Verb) -> Event {
    let (servers, wait, reach) = (Vec::new(), true, Reach::Refuse);
    Event::Asked(Ask { client: ClientId(client), id: id.to_string(), verb, servers, wait, reach })
}

fn switch(id: &str, client: u64) -> Event {
    asked(id, client, Verb::Switch)
}

/// An active with a server that is up (PID 9) and a standby that watches (PID 2).
fn pair() -> Node {
    let mut node = active_with_server_up(9);
    tell(&mut node, Event::StandbySpawned { process: process(2) });
    tell(&mut node, Event::StandbyConnected);
    tell(&mut node, Event::StandbyWatching);
    node
}

fn handover_on_record(out: &[Action]) -> Option<u64> {
    out.iter().find_map(|action| match action {
        Action::Save { entry, answer: true } => match &entry.record {
            Record::Node(node) if node.handover.is_some() => Some(entry.seq),
            _ => None,
        },
        _ => None,
    })
}

fn answers(out: &[Action]) -> Vec<(ClientId, Ended)> {
    let of = |action: &Action| match action {
        Action::AnswerAboutPair { client, result, .. } => Some((*client, *result)),
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

/// A standby that takes over after the death of an active with this on record.
fn next_active(record: NodeRecord, cause_is_hang: bool) -> (Node, Vec<Action>) {
    let mut node = Node::standby(NOW, pair_plan(), vec![plan()]);
    node.begin(NOW, &mut Vec::new());
    tell(&mut node, Event::LinkUp);
    tell(&mut node, Event::CopyComplete { seq: 1 });
    if cause_is_hang {
        tell(&mut node, Event::Pulse { counter: 1 });
        let later = NOW.after(1_000);
        node.fire_armed(later, Timer::Beat, &mut Vec::new());
        node.handle(later, Event::Pulse { counter: 1 }, &mut Vec::new());
    }
    tell(&mut node, Event::ActiveDied);
    tell(&mut node, Event::Locked);
    let up = entry(2, Phase::Up { process: process(9) });
    let entries = vec![Entry { seq: 3, record: Record::Node(record.into()) }, up];
    let out = tell(
        &mut node,
        Event::Recovered(Recovered { entries, same_boot: true, ..Recovered::default() }),
    );
    (node, out)
}

fn handed_over(id: &str) -> NodeRecord {
    let handover = Some(Handover { why: Planned::Asked, id: id.to_string() });
    NodeRecord { handover, ..NodeRecord::default() }
}

#[test]
fn an_active_hands_over_only_when_that_is_on_record() {
    let mut node = pair();
    let out = tell(&mut node, switch("a", 5));
    let seq = handover_on_record(&out).expect("a record");
    assert!(!out.contains(&Action::HandOver));
    assert!(!tell(&mut node, Event::Saved { seq: seq + 7 }).contains(&Action::HandOver));
    assert!(tell(&mut node, Event::Saved { seq }).contains(&Action::HandOver));
    assert_eq!(node.role, Role::Ended, "it does nothing more");
}

#[test]
fn the_standbys_copy_is_as_good_as_the_disk() {
    let mut node = pair();
    let seq = handover_on_record(&tell(&mut node, switch("a", 5))).expect("a record");
    tell(&mut node, Event::NotSaved { seq, error: "no space".to_string() });
    assert!(tell(&mut node, Event::Acked { seq }).contains(&Action::HandOver));
}

#[test]
fn nobody_hands_over_to_a_standby_that_does_not_watch() {
    let mut node = active_with_server_up(9);
    let out = tell(&mut node, switch("a", 5));
    assert_eq!(answers(&out), [(ClientId(5), Ended::Later)], "it comes");
    let mut node = pair();
    let seq = handover_on_record(&tell(&mut node, switch("a", 5))).expect("a record");
    let out = tell(&mut node, Event::StandbyDied { process: process(2) });
    assert_eq!(answers(&out), [(ClientId(5), Ended::Badly)]);
    assert_eq!(node.record.handover, None, "the next death is no switchover");
    assert!(!tell(&mut node, Event::Saved { seq }).contains(&Action::HandOver));
}

#[test]
fn a_record_that_is_never_safe_is_given_up() {
    let mut node = pair();
    tell(&mut node, switch("a", 5));
    let mut out = Vec::new();
    node.fire_armed(NOW.after(5_000), Timer::Handover, &mut out);
    assert_eq!(answers(&out), [(ClientId(5), Ended::Badly)]);
    assert_eq!(node.role, Role::Active);
}

#[test]
fn what_was_meant_counts_as_a_switchover_and_is_answered_when_a_standby_watches_again() {
    let (mut node, out) = next_active(handed_over("a"), false);
    assert_eq!((node.record.switchovers, node.record.takeovers), (1, 0));
    assert!(out.iter().any(|one| matches!(one, Action::Note(Note::SwitchedOver { .. }))));
    assert_eq!(node.record.handover, None);
    assert_eq!(answers(&tell(&mut node, switch("a", 6))), [], "the pair is not whole");
    tell(&mut node, Event::StandbySpawned { process: process(3) });
    tell(&mut node, Event::StandbyConnected);
    let out = tell(&mut node, Event::StandbyWatching);
    assert_eq!(answers(&out), [(ClientId(6), Ended::Well)]);
    let out = tell(&mut node, switch("a", 7));
    assert_eq!(answers(&out), [(ClientId(7), Ended::Well)], "once more: it was done");
    assert_eq!(handover_on_record(&out), None);
}

#[test]
fn a_hang_is_a_takeover_whatever_was_meant() {
    let (node, _) = next_active(handed_over("a"), true);
    assert_eq!((node.record.switchovers, node.record.takeovers), (0, 1));
    assert!(node.record.last_takeover.is_some_and(|last| last.cause == Cause::Hang));
}

#[test]
fn who_waits_is_told_that_the_fresh_standby_fails() {
    let (mut node, _) = next_active(handed_over("a"), false);
    tell(&mut node, switch("a", 6));
    let mut out = Vec::new();
    for pid in 3..6 {
        tell(&mut node, Event::StandbySpawned { process: process(pid) });
        out = tell(&mut node, Event::StandbyDied { process: process(pid) });
        node.fire_armed(NOW, Timer::Standby, &mut Vec::new());
    }
    assert_eq!(answers(&out), [(ClientId(6), Ended::Badly)]);
}

#[test]
fn a_second_switchover_waits_for_its_turn() {
    let mut node = pair();
    tell(&mut node, switch("a", 5));
    let out = tell(&mut node, switch("b", 6));
    assert_eq!(answers(&out), [(ClientId(6), Ended::Later)]);
}

// ---- maintenance

fn maintain(node: &mut Node, is_on: bool) -> Vec<Action> {
    let out = tell(node, asked("m", 8, Verb::Maintenance { is_on }));
    assert_eq!(answers(&out), [(ClientId(8), Ended::Well)]);
    out
}

fn dies(node: &mut Node, pid: i32) {
    let exit = Some(Exit::Code(1));
    tell(node, Event::Died { server: ServerId(0), process: process(pid), exit });
    tell(node, Event::Group { server: ServerId(0), process: process(pid), living: None });
}

fn spawns(out: &[Action]) -> bool {
    out.iter().any(|action| matches!(action, Action::Spawn { .. }))
}

#[test]
fn in_maintenance_a_server_that_dies_is_not_restarted_until_it_is_over() {
    let mut node = pair();
    assert!(maintain(&mut node, true).iter().any(|one| matches!(one, Action::Save { .. })));
    dies(&mut node, 9);
    assert!(matches!(node.servers[0].rec.phase, Phase::Backoff { .. }));
    assert!(!node.armed().contains(&Timer::Server(ServerId(0))), "nothing will be done");
    let mut out = maintain(&mut node, false);
    node.tick(NOW.after(60_000), &mut out);
    assert!(spawns(&out), "{out:?}");
}

#[test]
fn in_maintenance_what_is_asked_for_is_done() {
    let mut node = pair();
    maintain(&mut node, true);
    dies(&mut node, 9);
    let (client, id, reach) = (ClientId(9), "s".to_string(), Reach::Refuse);
    let ask = Ask { client, id, verb: Verb::Start, servers: vec![ServerId(0)], wait: true, reach };
    assert!(spawns(&tell(&mut node, Event::Asked(ask))));
}

#[test]
fn maintenance_goes_on_under_the_next_active_and_not_in_a_new_life() {
    let record = NodeRecord { maintenance: true, ..NodeRecord::default() };
    let (mut node, _) = next_active(record.clone(), false);
    let (server, process) = (ServerId(0), process(9));
    tell(&mut node, Event::Verified { server, process, found: Found::Alive });
    dies(&mut node, 9);
    assert!(node.servers[0].is_left_undone(), "{:?}", node.servers[0].rec.phase);
    let mut first = Node::first(NOW, pair_plan(), vec![plan()], false);
    tell(&mut first, Event::Locked);
    let entries = vec![Entry { seq: 3, record: Record::Node(record.into()) }];
    tell(&mut first, Event::Recovered(Recovered { entries, ..Recovered::default() }));
    assert!(!first.record.maintenance, "another boot");
}

#[test]
fn in_maintenance_a_failed_check_and_the_end_of_a_need_stop_nobody() {
    let mut server = server_in(Phase::Up { process: process(9) });
    server.maintenance = true;
    let steps = steps_of(&mut server, |server, steps| {
        server.lose_need(NOW, "db, which it needs, ended".to_string(), steps);
    });
    assert_eq!(steps, []);
    let mut server = server_in(Phase::Stopping {
        process: process(9),
        why: Why::Need,
        leader_dead: true,
        killed: false,
        until: NOW,
    });
    server.maintenance = true;
    server.on_group(NOW, process(9), None, &mut Steps::new());
    assert!(server.is_left_undone());
}
