//! The end of the pair: on record first, then servers, standby, active.

use super::*;
use crate::core::ask::{Ask, Reach, Verb};
use crate::core::ending::{Resume, resume};
use crate::core::node::Timer;
use crate::core::record::Ending;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

fn end(id: &str, stop_servers: bool, force: bool) -> Event {
    let verb = Verb::Shutdown { stop_servers, force };
    let client = ClientId(1);
    Event::Asked(Ask {
        client,
        id: id.to_string(),
        verb,
        servers: Vec::new(),
        wait: true,
        reach: Reach::Refuse,
    })
}

/// An active with a server that is up (PID 9) and a standby that watches (PID 2).
fn pair() -> Node {
    let mut node = active_with_server_up(9);
    tell(&mut node, Event::StandbySpawned { process: process(2) });
    tell(&mut node, Event::StandbyConnected);
    tell(&mut node, Event::StandbyWatching);
    assert!(node.standby.is_watching());
    node
}

fn is_end_on_record(action: &Action, is_done: bool) -> bool {
    let Action::Save { entry, .. } = action else { return false };
    let Record::Node(node) = &entry.record else { return false };
    node.ending.as_ref().is_some_and(|ending| ending.done == is_done)
}

fn is_signal(action: &Action, number: i32) -> bool {
    matches!(action, Action::Signal { signal, .. } if *signal == number)
}

fn ending(stop_servers: bool, done: bool) -> Ending {
    Ending { stop_servers, since: NOW, ids: vec!["a".to_string()], done, failed: None }
}

/// What a new active finds on disk when the pair was ending.
fn left(ending: Ending, phase: Phase) -> Vec<Entry> {
    let record = NodeRecord { ending: Some(ending), ..NodeRecord::default() };
    vec![Entry { seq: 1, record: Record::Node(record.into()) }, entry(2, phase)]
}

fn taken_over(entries: Vec<Entry>, end_asked: Option<EndAsked>) -> (Node, Vec<Action>) {
    taken_over_with(Recovered { entries, same_boot: true, end_asked, ..Recovered::default() })
}

fn taken_over_with(recovered: Recovered) -> (Node, Vec<Action>) {
    let mut node = Node::standby(NOW, pair_plan(), vec![plan()]);
    node.begin(NOW, &mut Vec::new());
    tell(&mut node, Event::ActiveDied);
    tell(&mut node, Event::Locked);
    let out = tell(&mut node, Event::Recovered(recovered));
    (node, out)
}

/// The keeper starts the pair again, because both twins died.
fn revived_with(recovered: Recovered) -> (Node, Vec<Action>) {
    let mut node = Node::first(NOW, pair_plan(), vec![plan()], true);
    tell(&mut node, Event::Locked);
    let out = tell(&mut node, Event::Recovered(recovered));
    (node, out)
}

fn exits(out: &[Action]) -> bool {
    out.iter().any(|action| matches!(action, Action::Exit { .. }))
}

#[test]
fn the_end_is_on_record_before_the_standby_is_told() {
    let mut node = pair();
    let out = tell(&mut node, end("a", false, false));
    let recorded = place(&out, |action| is_end_on_record(action, false));
    let told = place(&out, |action| *action == Action::TellStandbyToStop);
    assert!(recorded < told, "{out:#?}");
    assert!(!out.iter().any(|action| matches!(action, Action::Exit { .. })), "it still lives");
}

#[test]
fn the_active_ends_after_its_standby_and_says_that_all_is_done_before() {
    let mut node = pair();
    tell(&mut node, end("a", false, false));
    let out = tell(&mut node, Event::StandbyDied { process: process(2) });
    let done = place(&out, |action| is_end_on_record(action, true));
    let mover = place(&out, |action| *action == Action::LeaveMover);
    let answer = place(&out, |action| matches!(action, Action::Answer { .. }));
    let exit = place(&out, |action| *action == Action::Exit { code: 0 });
    assert!(done < answer && mover < exit && answer < exit, "{out:#?}");
    assert!(!out.iter().any(|action| is_signal(action, SIGTERM)), "the servers stay up");
    assert_eq!(out.iter().filter(|action| matches!(action, Action::Exit { .. })).count(), 1);
    let again = tell(&mut node, Event::StandbyHeard);
    assert_eq!(again, [], "it ends once");
}

#[test]
fn servers_that_are_to_stop_are_gone_before_the_standby_is_told() {
    let mut node = pair();
    let out = tell(&mut node, end("a", true, false));
    let recorded = place(&out, |action| is_end_on_record(action, false));
    assert!(recorded < place(&out, |action| is_signal(action, SIGTERM)));
    assert!(!out.contains(&Action::TellStandbyToStop));
    let out = end_whole_group(&mut node, 0, 9, Exit::Signal(SIGTERM));
    assert!(out.contains(&Action::TellStandbyToStop));
    let out = tell(&mut node, Event::StandbyDied { process: process(2) });
    assert!(!out.contains(&Action::LeaveMover), "nobody is left");
    assert!(out.contains(&Action::Exit { code: 0 }));
}

#[test]
fn an_exit_status_that_is_still_asked_for_is_waited_for() {
    let mut node = pair();
    tell(&mut node, end("a", true, false));
    let (server, process) = (ServerId(0), process(9));
    tell(&mut node, Event::Died { server, process, exit: None });
    let out = tell(&mut node, Event::Group { server, process, living: None });
    assert!(!out.contains(&Action::TellStandbyToStop), "how it ended would be lost: {out:#?}");
    let (exit, start_ticks) = (Exit::Signal(SIGTERM), process.start_ticks);
    let out = tell(&mut node, Event::Status { pid: 9, start_ticks, exit });
    assert!(out.contains(&Action::TellStandbyToStop));
    assert_eq!(node.servers[0].rec.last_exit.as_ref().map(|last| last.exit), Some(exit));
}

#[test]
fn a_server_that_keeps_the_pair_from_ending_can_be_killed() {
    let ask = |verb| {
        let (client, id, servers) = (ClientId(2), format!("{verb:?}"), vec![ServerId(0)]);
        Event::Asked(Ask { client, id, verb, servers, wait: true, reach: Reach::Refuse })
    };
    let mut node = pair();
    tell(&mut node, end("a", true, false));
    let out = tell(&mut node, ask(Verb::Restart));
    assert!(!out.iter().any(|action| is_signal(action, SIGKILL)), "{out:?}");
    let out = tell(&mut node, ask(Verb::Kill));
    assert!(out.iter().any(|action| is_signal(action, SIGKILL)), "{out:?}");
    let out = end_whole_group(&mut node, 0, 9, Exit::Signal(SIGKILL));
    assert!(out.contains(&Action::TellStandbyToStop), "{out:?}");
    // Its servers stay up: that ending waits for none of them.
    let mut node = pair();
    tell(&mut node, end("a", false, false));
    let out = tell(&mut node, ask(Verb::Kill));
    assert!(!out.iter().any(|action| is_signal(action, SIGKILL)), "{out:?}");
}

#[test]
fn after_the_shutdown_timeout_what_is_left_is_killed_and_killed_again() {
    let mut node = pair();
    tell(&mut node, end("a", true, false));
    for _ in 0..2 {
        assert!(node.armed().contains(&Timer::Ending));
        let mut out = Vec::new();
        node.fire_armed(NOW.after(8_000), Timer::Ending, &mut out);
        assert!(out.contains(&Action::Note(Note::ShutdownTimeout)));
    }
    let killed = matches!(node.servers[0].rec.phase, Phase::Stopping { killed, .. } if killed);
    assert!(killed);
}

#[test]
fn a_second_and_forceful_wish_kills_at_once() {
    let mut node = pair();
    let first = tell(&mut node, end("a", true, false));
    assert!(!first.iter().any(|action| is_signal(action, SIGKILL)));
    let second = tell(&mut node, end("b", true, true));
    assert!(second.iter().any(|action| is_signal(action, SIGKILL)));
}

#[test]
fn asked_twice_the_more_thorough_wish_counts() {
    let mut node = pair();
    tell(&mut node, end("a", false, false));
    let out = tell(&mut node, end("b", true, false));
    assert!(out.iter().any(|action| is_signal(action, SIGTERM)));
    let mut node = pair();
    tell(&mut node, end("a", true, false));
    tell(&mut node, end("b", false, false));
    assert!(node.record.ending.as_ref().is_some_and(|ending| ending.stop_servers));
}

#[test]
fn a_standby_that_does_not_stop_is_killed_and_does_not_hold_the_end_up() {
    let mut node = pair();
    tell(&mut node, end("a", false, false));
    let mut out = Vec::new();
    node.fire_armed(NOW.after(1_000), Timer::Standby, &mut out);
    assert!(out.contains(&Action::KillStandby { process: process(2) }));
    let out = tell(&mut node, Event::StandbyDied { process: process(2) });
    assert!(out.contains(&Action::Exit { code: 0 }));
}

#[test]
fn a_standby_that_comes_up_while_the_pair_ends_is_stopped_too() {
    let mut node = active_with_server_up(9);
    let out = tell(&mut node, end("a", false, false));
    assert!(!out.iter().any(|action| matches!(action, Action::Exit { .. })), "one is owed");
    let out = tell(&mut node, Event::StandbySpawned { process: process(2) });
    assert!(out.contains(&Action::TellStandbyToStop));
    let out = tell(&mut node, Event::StandbyDied { process: process(2) });
    assert!(out.contains(&Action::Exit { code: 0 }));
}

#[test]
fn a_standby_that_connects_after_it_was_to_stop_is_told_then() {
    let mut node = active_with_server_up(9);
    tell(&mut node, Event::StandbySpawned { process: process(2) });
    // It is there, but cannot be reached yet.
    tell(&mut node, end("a", false, false));
    let out = tell(&mut node, Event::StandbyConnected);
    let snapshot = place(&out, |action| matches!(action, Action::SendSnapshot { .. }));
    assert!(snapshot < place(&out, |action| *action == Action::TellStandbyToStop));
    let mut node = pair();
    tell(&mut node, Event::StandbyLinkLost);
    assert!(!tell(&mut node, Event::StandbyConnected).contains(&Action::TellStandbyToStop));
}

#[test]
fn while_the_pair_ends_nothing_is_started() {
    let mut node = pair();
    tell(&mut node, end("a", true, false));
    let (client, id, verb) = (ClientId(2), "b".to_string(), Verb::Start);
    let start =
        Ask { client, id, verb, servers: vec![ServerId(0)], wait: true, reach: Reach::Refuse };
    let out = tell(&mut node, Event::Asked(start));
    assert!(matches!(&out[..], [Action::Answer { outcomes, .. }]
        if outcomes[0].text == "the pair is ending"));
    let out = end_whole_group(&mut node, 0, 9, Exit::Code(0));
    assert!(!out.iter().any(|action| matches!(action, Action::Spawn { .. })));
}

#[test]
fn a_takeover_in_the_middle_goes_on_with_the_end_and_starts_no_standby() {
    let (mut node, out) = taken_over(left(ending(true, false), up(9)), Some(EndAsked::ServersStop));
    assert!(!out.contains(&Action::SpawnStandby));
    let (server, process) = (ServerId(0), process(9));
    let out = tell(&mut node, Event::Verified { server, process, found: Found::Alive });
    assert!(out.iter().any(|action| is_signal(action, SIGTERM)));
    let out = end_whole_group(&mut node, 0, 9, Exit::Signal(SIGTERM));
    assert!(out.contains(&Action::Exit { code: 0 }));
}

#[test]
fn a_takeover_after_all_was_done_ends_at_once() {
    let (node, out) = taken_over(left(ending(false, true), up(9)), Some(EndAsked::ServersStay));
    assert_eq!(out, [Action::Exit { code: 0 }]);
    assert_eq!(node.role, Role::Ended);
}

#[test]
fn what_the_end_on_record_means_depends_on_who_starts() {
    assert_eq!(resume(None, true), Resume::SameLife);
    assert_eq!(resume(Some(&ending(true, false)), true), Resume::GoOn);
    assert_eq!(resume(Some(&ending(true, true)), true), Resume::Done);
    assert_eq!(resume(Some(&ending(true, true)), false), Resume::NewLife);
    assert_eq!(resume(Some(&ending(false, true)), false), Resume::SameLife);
}

#[test]
fn a_person_who_starts_the_pair_again_has_its_servers_up_again() {
    let (node, out) = active_after(vec![plan()], left(ending(true, true), Phase::Down));
    assert!(out.contains(&Action::Note(Note::NewLife)));
    assert!(out.iter().any(|action| matches!(action, Action::Spawn { .. })));
    assert_eq!(node.record.ending, None);
}

#[test]
fn a_standby_that_is_told_to_stop_closes_the_link_and_ends() {
    let mut node = Node::standby(NOW, pair_plan(), vec![plan()]);
    node.begin(NOW, &mut Vec::new());
    let out = tell(&mut node, Event::ToldToStop);
    assert!(place(&out, |action| *action == Action::CloseLink) == 0, "{out:#?}");
    assert_eq!(out.last(), Some(&Action::Exit { code: 0 }));
    assert_eq!(tell(&mut node, Event::ActiveDied), [], "it takes nothing over any more");
}

#[test]
fn an_end_that_nobody_asked_for_in_this_life_is_the_one_of_a_life_before() {
    for incomplete in [false, true] {
        for (stop_servers, done) in [(false, false), (false, true), (true, false), (true, true)] {
            let entries = left(ending(stop_servers, done), Phase::Down);
            let process = process(9);
            let survivor = Survivor { name: "web".into(), start_number: 6, process, leads: true };
            let survivors = if incomplete { vec![survivor] } else { Vec::new() };
            let recovered = Recovered {
                entries,
                same_boot: true,
                incomplete,
                survivors,
                ..Recovered::default()
            };
            for (node, out) in [revived_with(recovered.clone()), taken_over_with(recovered)] {
                assert!(!exits(&out) && node.role == Role::Active, "{stop_servers} {done}");
                assert!(out.contains(&Action::SpawnStandby));
                assert_eq!(
                    (node.record.ending.as_ref(), node.servers[0].rec.wanted),
                    (None, Wanted::Up)
                );
            }
        }
    }
}

#[test]
fn after_an_old_end_a_survivor_that_nobody_starts_by_itself_is_adopted_and_not_stopped() {
    let (start_number, process) = (6, process(9));
    let survivor = Survivor { name: "web".into(), start_number, process, leads: true };
    let recovered = Recovered {
        entries: left(ending(true, true), Phase::Down),
        same_boot: true,
        incomplete: true,
        survivors: vec![survivor],
        ..Recovered::default()
    };
    for revives in [true, false] {
        let by_hand = ServerPlan { auto_start: false, ..plan() };
        let mut node = Node::first(NOW, pair_plan(), vec![by_hand], revives);
        tell(&mut node, Event::Locked);
        tell(&mut node, Event::Recovered(recovered.clone()));
        let server = ServerId(0);
        let out = tell(&mut node, Event::Verified { server, process, found: Found::Alive });
        assert!(!out.iter().any(|action| is_signal(action, SIGTERM)), "{out:#?}");
        assert_eq!(node.servers[0].rec.phase, up(9));
    }
}

#[test]
fn an_end_that_was_asked_for_goes_on_although_the_record_of_it_is_lost() {
    let lost = [
        // The journal was cut before it, holds an older one, or nothing at all; the disk was full.
        (vec![entry(2, up(9))], true),
        (left(ending(false, true), up(9)), true),
        (Vec::new(), true),
        (vec![entry(2, up(9))], false),
    ];
    for (entries, incomplete) in lost {
        let process = process(9);
        let survivor = Survivor { name: "web".into(), start_number: 6, process, leads: true };
        let survivors = if incomplete { vec![survivor] } else { Vec::new() };
        let end_asked = Some(EndAsked::ServersStop);
        let entries_of_it = Recovered { entries, incomplete, survivors, ..Recovered::default() };
        let recovered = Recovered { same_boot: true, end_asked, ..entries_of_it };
        for (mut node, out) in [revived_with(recovered.clone()), taken_over_with(recovered)] {
            assert!(!exits(&out) && !out.contains(&Action::SpawnStandby), "{out:#?}");
            let journal = place(&out, |action| {
                let Action::OpenJournal { entries, .. } = action else { return false };
                let Record::Node(node) = &entries[0].record else { return false };
                node.ending.as_ref().is_some_and(|ending| ending.stop_servers && !ending.done)
            });
            assert!(journal < place(&out, |action| *action == Action::Serve));
            let server = ServerId(0);
            let out = tell(&mut node, Event::Verified { server, process, found: Found::Alive });
            assert!(out.iter().any(|action| is_signal(action, SIGTERM)));
            let out = end_whole_group(&mut node, 0, 9, Exit::Signal(SIGTERM));
            assert!(out.contains(&Action::Exit { code: 0 }));
        }
    }
}

#[test]
fn servers_that_were_stopped_while_no_pair_ran_begin_a_new_life_for_a_person_alone() {
    let server = ServerRecord::new("web", Wanted::Up);
    let entries = vec![
        Entry { seq: 1, record: Record::Node(NodeRecord::default().into()) },
        Entry { seq: 2, record: Record::Server(server.into()) },
    ];
    let recovered =
        Recovered { entries, same_boot: true, was_stopped: true, ..Recovered::default() };
    let plan = ServerPlan { auto_start: false, ..plan() };
    for (revives, wanted) in [(false, Wanted::Down), (true, Wanted::Up)] {
        let mut node = Node::first(NOW, pair_plan(), vec![plan.clone()], revives);
        tell(&mut node, Event::Locked);
        let out = tell(&mut node, Event::Recovered(recovered.clone()));
        assert_eq!(out.contains(&Action::Note(Note::NewLife)), !revives, "{out:#?}");
        assert_eq!(node.servers[0].rec.wanted, wanted);
    }
}
