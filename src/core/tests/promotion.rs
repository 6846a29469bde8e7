//! The way to being active: fence, lock, journal, serve.

use super::*;
use crate::core::copy::Latest;
use crate::core::node::Timer;
use crate::core::promotion::{FENCE_AGAIN_MS, LOCK_AGAIN_MS, LOCK_TOLD_MS, know, new_life};
use crate::core::record::{Cause, NodeRecord, Why};
use crate::core::record::{Held, sound_until};

/// A standby that has a copy of one running server.
fn standby() -> Node {
    let mut node = Node::standby(NOW, pair_plan(), vec![plan()]);
    node.begin(NOW, &mut Vec::new());
    tell(&mut node, Event::LinkUp);
    tell(&mut node, Event::Copied(entry(7, up(9))));
    tell(&mut node, Event::CopyComplete { seq: 7 });
    node
}

fn is_act(action: &Action) -> bool {
    !matches!(action, Action::Note(_) | Action::CloseLink)
}

fn acts(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().filter(is_act).collect()
}

/// The loop stands still for so long that the next look says: hung.
fn conclude_hang(node: &mut Node) -> Vec<Action> {
    tell(node, Event::Pulse { counter: 1 });
    let later = NOW.after(1_000);
    let mut out = Vec::new();
    node.fire_armed(later, Timer::Beat, &mut out);
    node.handle(later, Event::Pulse { counter: 1 }, &mut out);
    acts(out)
}

#[test]
fn a_hung_active_is_fenced_and_its_death_seen_before_the_lock_is_asked_for() {
    let mut node = standby();
    assert_eq!(conclude_hang(&mut node), [Action::Beat, Action::Fence]);
    assert_eq!(node.role, Role::Promoting);
    assert_eq!(tell(&mut node, Event::Locked), [], "nobody asked for it yet");
    assert_eq!(acts(tell(&mut node, Event::ActiveDied)), [Action::TakeLock]);
    assert_eq!(acts(tell(&mut node, Event::ActiveDied)), [], "once");
}

#[test]
fn an_active_that_does_not_die_is_fenced_again_and_said_to_be_waited_for() {
    let mut node = standby();
    conclude_hang(&mut node);
    let mut out = Vec::new();
    node.fire_armed(NOW.after(1_000 + FENCE_AGAIN_MS), Timer::Promotion, &mut out);
    assert!(out.contains(&Action::Note(Note::WaitsForDeath { since_ms: FENCE_AGAIN_MS })));
    assert_eq!(acts(out), [Action::Fence]);
    assert!(node.armed().contains(&Timer::Promotion), "and again after that");
}

#[test]
fn after_a_death_comes_the_lock_then_the_journal_then_the_standby_and_then_the_doors_open() {
    let mut node = standby();
    assert_eq!(acts(tell(&mut node, Event::ActiveDied)), [Action::TakeLock]);
    let read = Action::ReadJournal { find_survivors: false, known_seq: 7 };
    assert_eq!(acts(tell(&mut node, Event::Locked)), [read]);
    let recovered = Recovered { same_boot: true, ..Recovered::default() };
    let out = tell(&mut node, Event::Recovered(recovered));
    let journal = place(&out, |action| matches!(action, Action::OpenJournal { .. }));
    let standby = place(&out, |action| *action == Action::SpawnStandby);
    let serve = place(&out, |action| *action == Action::Serve);
    let verify = place(&out, |action| matches!(action, Action::Verify { .. }));
    assert!(journal < standby && standby < serve && serve < verify, "{out:#?}");
    assert_eq!(node.role, Role::Active);
    assert_eq!(node.record.takeovers, 1);
    assert!(node.record.last_takeover.is_some_and(|last| last.cause == Cause::Death));
}

#[test]
fn of_the_journal_only_what_came_after_the_last_complete_copy_is_read() {
    let mut node = standby();
    tell(&mut node, Event::Copied(entry(8, up(9))));
    tell(&mut node, Event::LinkDown);
    // 9 was only written to the disk; of the next copy not all came.
    tell(&mut node, Event::LinkUp);
    tell(&mut node, Event::Copied(entry(10, up(9))));
    tell(&mut node, Event::ActiveDied);
    let read = Action::ReadJournal { find_survivors: false, known_seq: 8 };
    assert_eq!(acts(tell(&mut node, Event::Locked)), [read]);
}

#[test]
fn a_start_while_somebody_holds_the_lock_ends_with_75() {
    let mut node = Node::first(NOW, pair_plan(), vec![plan()], false);
    let out = tell(&mut node, Event::LockHeld { pid: 412 });
    assert_eq!(out[0], Action::TakeLock);
    assert!(out.contains(&Action::Note(Note::WaitsForLock { pid: 412, error: None })));
    assert_eq!(out.last(), Some(&Action::Exit { code: 75 }));
}

#[test]
fn a_takeover_asks_for_a_held_lock_again_ever_later_and_tells_it_when_that_takes_long() {
    let mut node = standby();
    tell(&mut node, Event::ActiveDied);
    let (mut delays, mut told) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let out = tell(&mut node, Event::LockHeld { pid: 412 });
        let is_note = |action: &Action| {
            matches!(action, Action::Note(Note::WaitsForLock { pid: 412, error: None }))
        };
        told.push(out.iter().any(is_note));
        delays.push(node.promotion.as_ref().and_then(|p| p.until).map(|at| at.since(NOW)));
        let mut out = Vec::new();
        node.fire_armed(NOW, Timer::Promotion, &mut out);
        assert_eq!(acts(out), [Action::TakeLock]);
    }
    let expected = [1, 2, 4, 8].map(|times| times * LOCK_AGAIN_MS);
    assert_eq!(delays, expected.map(Some));
    assert_eq!(told, expected.map(|delay_ms| delay_ms >= LOCK_TOLD_MS));
    let failed = tell(&mut node, Event::LockFailed { error: "no locks".to_string() });
    assert!(!failed.iter().any(|action| matches!(action, Action::Exit { .. })));
}

#[test]
fn a_promotion_goes_on_whatever_the_link_says() {
    let mut node = standby();
    tell(&mut node, Event::ActiveDied);
    for event in [Event::LinkUp, Event::LinkDown, Event::ToldToStop, Event::ActiveHeard] {
        assert_eq!(tell(&mut node, event), []);
    }
    assert_eq!(node.role, Role::Promoting);
}

#[test]
fn a_hang_is_remembered_so_that_the_next_timeout_is_longer() {
    let mut node = standby();
    conclude_hang(&mut node);
    tell(&mut node, Event::ActiveDied);
    tell(&mut node, Event::Locked);
    let recovered = Recovered { same_boot: true, ..Recovered::default() };
    tell(&mut node, Event::Recovered(recovered));
    assert_eq!(node.record.hangs, [NOW]);
}

#[test]
fn of_disk_and_copy_the_newer_record_counts() {
    let disk = vec![entry(5, Phase::Failed)];
    let copy = |seq, phase| {
        let mut copy = Latest::default();
        copy.put(entry(seq, phase));
        copy
    };
    let entries = disk.clone();
    let known =
        know(Recovered { entries, same_boot: true, ..Recovered::default() }, copy(6, up(9)));
    assert_eq!((known.servers.get("web"), known.seq), (Some(&entry(6, up(9))), 6));
    let entries = disk;
    let known =
        know(Recovered { entries, same_boot: true, ..Recovered::default() }, copy(4, up(9)));
    assert_eq!((known.servers.get("web"), known.seq), (Some(&entry(5, Phase::Failed)), 5));
}

/// How the journal is opened by a takeover that reads this.
fn opens(recovered: Recovered) -> (usize, bool) {
    let mut node = standby();
    let node_record = Entry { seq: 7, record: Record::Node(NodeRecord::default().into()) };
    tell(&mut node, Event::Copied(node_record));
    let mut known = entry(7, up(9));
    let Record::Server(server) = &mut known.record else { panic!("not a server's record") };
    server.revision = Some(plan().revision);
    known.seq = 8;
    tell(&mut node, Event::Copied(known));
    tell(&mut node, Event::ActiveDied);
    tell(&mut node, Event::Locked);
    let out = tell(&mut node, Event::Recovered(recovered));
    let opened = out.iter().find_map(|action| match action {
        Action::OpenJournal { entries, goes_on } => Some((entries.len(), *goes_on)),
        _ => None,
    });
    opened.expect("a journal")
}

#[test]
fn a_takeover_goes_on_with_a_journal_that_has_every_record() {
    let found = Recovered { same_boot: true, sound_until: Some(8), ..Recovered::default() };
    assert_eq!(opens(found), (1, true), "the node's record alone is new");
}

#[test]
fn a_takeover_begins_the_journal_anew_where_a_record_may_be_missing_in_it() {
    let base = || Recovered { same_boot: true, sound_until: Some(8), ..Recovered::default() };
    let survivor =
        Survivor { name: "web".to_string(), start_number: 0, process: process(50), leads: false };
    for found in [
        Recovered { sound_until: None, ..base() },
        // The copy has a later one: the disk was full.
        Recovered { sound_until: Some(7), ..base() },
        Recovered { incomplete: true, ..base() },
        Recovered { survivors: vec![survivor], ..base() },
    ] {
        assert_eq!(opens(found.clone()), (2, false), "{found:?}");
    }
}

#[test]
fn numbers_of_records_show_whether_one_is_missing() {
    let until = |seqs: &[u64]| sound_until(seqs.iter().copied());
    assert_eq!(until(&[]), None);
    assert_eq!(until(&[5, 5, 5, 6, 7]), Some(7), "a snapshot, and what was added");
    assert_eq!(until(&[9, 9, 7, 8, 9, 10]), Some(10), "what a snapshot was in the middle of");
    assert_eq!(until(&[5, 5, 7]), None, "6 could not be written");
}

#[test]
fn the_numbers_of_records_go_on_rising_after_a_takeover() {
    let mut node = standby();
    tell(&mut node, Event::ActiveDied);
    tell(&mut node, Event::Locked);
    let recovered = Recovered { same_boot: true, ..Recovered::default() };
    let out = tell(&mut node, Event::Recovered(recovered));
    let numbers: Vec<u64> = out
        .iter()
        .filter_map(|action| match action {
            Action::OpenJournal { entries, .. } => Some(entries.iter().map(|entry| entry.seq)),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(numbers.iter().all(|seq| *seq > 7), "{numbers:?}");
}

#[test]
fn after_a_boot_no_process_on_record_is_left_and_what_is_wanted_stays() {
    let mut node = Node::first(NOW, pair_plan(), vec![plan()], false);
    tell(&mut node, Event::Locked);
    let node_entry = Entry { seq: 1, record: Record::Node(NodeRecord::default().into()) };
    let entries = vec![node_entry, entry(2, up(9))];
    let recovered = Recovered { entries, same_boot: false, ..Recovered::default() };
    let out = tell(&mut node, Event::Recovered(recovered));
    assert!(!out.iter().any(|action| matches!(action, Action::Verify { .. })));
    assert!(out.contains(&Action::Spawn { server: ServerId(0), start_number: 1 }));
}

#[test]
fn a_survivor_without_a_record_is_adopted_and_not_started_a_second_time() {
    let mut node = Node::first(NOW, pair_plan(), vec![plan()], false);
    tell(&mut node, Event::Locked);
    let survivor =
        Survivor { name: "web".to_string(), start_number: 6, process: process(9), leads: true };
    let survivors = vec![survivor];
    let recovered =
        Recovered { same_boot: true, incomplete: true, survivors, ..Recovered::default() };
    let out = tell(&mut node, Event::Recovered(recovered));
    let (server, process) = (ServerId(0), process(9));
    assert!(out.contains(&Action::Verify { server, process, start_number: 6 }));
    assert!(!out.iter().any(|action| matches!(action, Action::Spawn { .. })));
}

#[test]
fn a_stray_found_after_the_journal_was_lost_is_waited_for() {
    let mut node = Node::first(NOW, pair_plan(), vec![plan()], false);
    tell(&mut node, Event::Locked);
    let survivor =
        Survivor { name: "web".to_string(), start_number: 6, process: process(9), leads: false };
    let survivors = vec![survivor];
    let recovered =
        Recovered { same_boot: true, incomplete: true, survivors, ..Recovered::default() };
    let out = tell(&mut node, Event::Recovered(recovered));
    assert!(matches!(node.servers[0].rec.phase, Phase::Waiting { .. }));
    assert!(!out.iter().any(|action| matches!(action, Action::Spawn { .. })));
}

#[test]
fn a_server_that_is_on_record_alone_is_kept_and_never_started_again() {
    let mut gone = plan();
    gone.name = "api".into();
    let (node, out) = active_after(vec![gone], vec![entry(2, up(9))]);
    assert!(out.contains(&Action::Note(Note::LeftOver { name: "web".into() })));
    assert!(node.servers[1].plan.left_over);
    assert_eq!(node.servers[1].plan.policy.when, When::Never);
}

#[test]
fn a_new_life_keeps_processes_and_forgets_wishes_and_counts() {
    let mut old = server_in(up(9)).rec;
    (old.wanted, old.restarts, old.failures_in_row) = (Wanted::Down, 7, 3);
    let new = new_life(*old, true);
    assert_eq!((new.phase, new.wanted), (up(9), Wanted::Up));
    assert_eq!((new.restarts, new.failures_in_row, new.start_number), (0, 0, 4));
    let failed = new_life(*server_in(Phase::Failed).rec, false);
    assert_eq!((failed.phase, failed.wanted), (Phase::Down, Wanted::Down));
}

#[test]
fn an_unmarked_process_newer_than_the_dead_one_of_a_cut_journal_is_adopted() {
    let (old, new) = (process(120), Identity { start_ticks: 1_210, ..process(121) });
    let until = Ms(1);
    let why = Why::Ended;
    for phase in [
        Phase::Reaping { process: old, until, at_gate: false },
        Phase::Stopping { process: old, why, leader_dead: true, killed: false, until },
        Phase::Up { process: old },
    ] {
        let record =
            ServerRecord { phase, start_number: 1, ..ServerRecord::new("web", Wanted::Up) };
        let record = ServerRecord { held: Some(Held::Restart), ..record };
        let survivor =
            Survivor { name: "web".to_string(), start_number: 0, process: new, leads: true };
        let recovered = Recovered {
            entries: vec![Entry { seq: 1, record: Record::Server(record.into()) }],
            same_boot: true,
            incomplete: true,
            survivors: vec![survivor],
            ..Recovered::default()
        };
        let mut known = know(recovered, Latest::default());
        let record = known.take(&"web".into()).expect("its record");
        assert_eq!(record.phase, Phase::Up { process: new });
        assert_eq!(record.held, None, "the order was for the old one");
    }
}
