//! Requests: done once, saved before they are answered, answered when they are through.

use super::*;
use crate::core::ask::{Ask, Ended, MARKS_MAX, Outcome, Reach, Verb};
use crate::core::node::Timer;

fn ask(client: u64, id: &str, verb: Verb, wait: bool) -> Event {
    let (client, servers) = (ClientId(client), vec![ServerId(0)]);
    Event::Asked(Ask { client, id: id.to_string(), verb, servers, wait, reach: Reach::Refuse })
}

/// The outcomes that this client gets here, if it is answered.
fn answered(actions: &[Action], to: u64) -> Option<Vec<Outcome>> {
    actions.iter().find_map(|action| match action {
        Action::Answer { client, outcomes } if *client == ClientId(to) => Some(outcomes.clone()),
        _ => None,
    })
}

/// How the request of this client ended, in one word and in text.
fn outcome(actions: &[Action], to: u64) -> (Ended, String) {
    let outcomes = answered(actions, to).unwrap_or_else(|| panic!("no answer in {actions:#?}"));
    (outcomes[0].result, outcomes[0].text.clone())
}

fn counts(actions: &[Action], is_it: impl Fn(&Action) -> bool) -> usize {
    actions.iter().filter(|action| is_it(action)).count()
}

fn is_signal(action: &Action) -> bool {
    matches!(action, Action::Signal { .. })
}

/// The journal as these actions leave it.
fn saved(actions: &[Action]) -> Vec<Entry> {
    let entries = actions.iter().filter_map(|action| match action {
        Action::Save { entry, .. } => Some((**entry).clone()),
        _ => None,
    });
    entries.collect()
}

#[test]
fn a_start_of_what_runs_says_so_at_once() {
    let mut node = active_with_server_up(9);
    let out = tell(&mut node, ask(1, "a", Verb::Start, true));
    assert_eq!(outcome(&out, 1), (Ended::Well, "already RUNNING, PID 9".to_string()));
}

#[test]
fn a_stop_is_answered_when_the_group_is_gone_and_not_before() {
    let mut node = active_with_server_up(9);
    let out = tell(&mut node, ask(1, "a", Verb::Stop, true));
    assert_eq!(answered(&out, 1), None);
    let (server, process) = (ServerId(0), process(9));
    let out = tell(&mut node, Event::Died { server, process, exit: Some(Exit::Code(0)) });
    assert_eq!(answered(&out, 1), None, "its leader is dead, its group may live");
    let out = tell(&mut node, Event::Group { server, process, living: Some(10) });
    assert_eq!(answered(&out, 1), None);
    let out = tell(&mut node, Event::Group { server, process, living: None });
    assert_eq!(outcome(&out, 1), (Ended::Well, "STOPPED (exit 0)".to_string()));
}

#[test]
fn an_answer_comes_after_the_save_and_the_save_before_the_signal() {
    let mut node = active_with_server_up(9);
    let out = tell(&mut node, ask(1, "a", Verb::Stop, false));
    let save = place(&out, |action| matches!(action, Action::Save { .. }));
    let stop = place(&out, is_signal);
    let answer = place(&out, |action| matches!(action, Action::Answer { .. }));
    assert!(save < stop && save < answer, "{out:#?}");
}

#[test]
fn a_request_asked_twice_acts_once_and_both_are_answered() {
    let mut node = active_with_server_up(9);
    let first = tell(&mut node, ask(1, "same", Verb::Restart, true));
    assert_eq!(counts(&first, is_signal), 1);
    let second = tell(&mut node, ask(2, "same", Verb::Restart, true));
    assert_eq!(counts(&second, is_signal), 0);
    end_whole_group(&mut node, 0, 9, Exit::Code(0));
    let start_number = node.servers[0].rec.start_number;
    let server = ServerId(0);
    let out = tell(&mut node, Event::Spawned { server, start_number, process: process(11) });
    save_all(&mut node, &out);
    tell(&mut node, Event::Executed { server, start_number });
    let mut out = Vec::new();
    node.fire_armed(NOW, node::Timer::Server(server), &mut out);
    for client in [1, 2] {
        assert_eq!(outcome(&out, client), (Ended::Well, "RUNNING, PID 11".to_string()));
    }
    let late = tell(&mut node, ask(3, "same", Verb::Restart, true));
    assert_eq!(counts(&late, is_signal), 0, "it was done already");
    assert_eq!(outcome(&late, 3).0, Ended::Well);
}

#[test]
fn a_request_asked_again_of_the_next_active_acts_once() {
    let mut node = active_with_server_up(9);
    let mut entries = node.entries();
    entries.extend(saved(&tell(&mut node, ask(1, "same", Verb::Stop, true))));
    let newest = entries.pop().into_iter().collect();
    let (mut next, _) = active_after(vec![plan()], newest);
    let (server, process) = (ServerId(0), process(9));
    tell(&mut next, Event::Verified { server, process, found: Found::Gone });
    let out = tell(&mut next, ask(1, "same", Verb::Stop, true));
    assert_eq!(counts(&out, is_signal), 0);
    tell(&mut next, Event::Group { server, process, living: None });
    let mut out = Vec::new();
    next.fire_armed(NOW.after(500), Timer::Status(server), &mut out);
    assert_eq!(outcome(&out, 1).0, Ended::Well);
}

#[test]
fn a_signal_whose_result_is_not_on_record_may_have_been_sent() {
    let mut node = active_with_server_up(9);
    let out = tell(&mut node, ask(1, "hup", Verb::Signal(1), true));
    assert_eq!(outcome(&out, 1), (Ended::Well, "SIGHUP sent to PID 9".to_string()));
    let sent = place(&out, is_signal);
    let save = |action: &Action| matches!(action, Action::Save { .. });
    assert!(place(&out, save) < sent && counts(&out[sent..], save) == 1, "{out:#?}");
    let again = tell(&mut node, ask(2, "hup", Verb::Signal(1), true));
    assert_eq!((counts(&again, is_signal), outcome(&again, 2).0), (0, Ended::Well));
    // The active dies between the intent and the result.
    let first = saved(&out)[0].clone();
    let Record::Server(mut record) = first.record else { panic!("a server's record") };
    record.marks.iter_mut().for_each(|mark| mark.done = false);
    let entries = vec![Entry { seq: first.seq, record: Record::Server(record) }];
    let (mut next, _) = active_after(vec![plan()], entries);
    let out = tell(&mut next, ask(1, "hup", Verb::Signal(1), true));
    assert_eq!((counts(&out, is_signal), outcome(&out, 1).0), (0, Ended::MaybeSent));
}

#[test]
fn a_client_that_is_gone_is_forgotten_and_what_it_asked_for_goes_on() {
    let mut node = active_with_server_up(9);
    tell(&mut node, ask(1, "a", Verb::Stop, true));
    tell(&mut node, Event::ClientGone { client: ClientId(1) });
    let out = end_whole_group(&mut node, 0, 9, Exit::Code(0));
    assert_eq!(answered(&out, 1), None);
    assert_eq!(node.servers[0].rec.phase, Phase::Down);
}

#[test]
fn who_waits_for_a_start_hears_that_another_request_stopped_it() {
    let (mut node, _) = active_after(vec![plan()], Vec::new());
    tell(&mut node, ask(1, "a", Verb::Start, true));
    tell(&mut node, ask(2, "b", Verb::Stop, true));
    let start_number = node.servers[0].rec.start_number;
    let (server, process) = (ServerId(0), process(9));
    let out = tell(&mut node, Event::Spawned { server, start_number, process });
    assert_eq!(outcome(&out, 1).0, Ended::Badly);
    assert_eq!(outcome(&out, 2).0, Ended::Well);
}

#[test]
fn waits_end_with_the_state_they_are_for() {
    let (mut node, _) = active_after(vec![plan()], Vec::new());
    tell(&mut node, ask(1, "a", Verb::WaitUp, true));
    tell(&mut node, ask(2, "b", Verb::WaitReady, true));
    let (server, start_number) = (ServerId(0), node.servers[0].rec.start_number);
    let out = tell(&mut node, Event::Spawned { server, start_number, process: process(9) });
    save_all(&mut node, &out);
    let out = tell(&mut node, Event::Executed { server, start_number });
    assert_eq!((outcome(&out, 1).0, answered(&out, 2)), (Ended::Well, None));
    let mut out = Vec::new();
    node.fire_armed(NOW, node::Timer::Server(server), &mut out);
    assert_eq!(outcome(&out, 2).0, Ended::Well);
    let out = tell(&mut node, ask(3, "c", Verb::WaitDown, true));
    assert_eq!(answered(&out, 3), None);
    tell(&mut node, ask(4, "d", Verb::Stop, false));
    let out = end_whole_group(&mut node, 0, 9, Exit::Code(0));
    assert_eq!(outcome(&out, 3).0, Ended::Well);
}

#[test]
fn a_wait_changes_nothing_and_leaves_no_mark() {
    let mut node = active_with_server_up(9);
    let out = tell(&mut node, ask(1, "a", Verb::WaitDown, true));
    assert_eq!((out, node.servers[0].rec.marks.len()), (Vec::new(), 0));
}

#[test]
fn a_request_for_several_servers_is_answered_once_when_the_last_is_through() {
    let mut second = plan();
    second.name = "api".into();
    let (mut node, _) = active_after(vec![plan(), second], Vec::new());
    bring_up(&mut node, 0, 9);
    bring_up(&mut node, 1, 10);
    let servers = vec![ServerId(1), ServerId(0)];
    let (client, id, verb) = (ClientId(1), "a".to_string(), Verb::Stop);
    tell(
        &mut node,
        Event::Asked(Ask { client, id, verb, servers, wait: true, reach: Reach::Refuse }),
    );
    let out = end_whole_group(&mut node, 1, 10, Exit::Code(0));
    assert_eq!(answered(&out, 1), None);
    let out = end_whole_group(&mut node, 0, 9, Exit::Code(0));
    let outcomes = answered(&out, 1).unwrap_or_default();
    let order: Vec<ServerId> = outcomes.iter().map(|outcome| outcome.server).collect();
    assert_eq!(order, [ServerId(0), ServerId(1)], "in the order of the configuration");
}

#[test]
fn a_server_that_does_not_exist_is_no_panic() {
    let mut node = active_with_server_up(9);
    let servers = vec![ServerId(99)];
    let (client, id, verb) = (ClientId(1), "a".to_string(), Verb::Stop);
    let out = tell(
        &mut node,
        Event::Asked(Ask { client, id, verb, servers, wait: true, reach: Reach::Refuse }),
    );
    assert_eq!(answered(&out, 1), Some(Vec::new()));
}

#[test]
fn a_restart_is_not_taken_in_before_its_process_is_told_apart() {
    let (mut node, _) = active_after(vec![plan()], vec![entry(2, up(9))]);
    let out = tell(&mut node, ask(1, "a", Verb::Restart, true));
    assert_eq!(outcome(&out, 1).0, Ended::Later);
}

#[test]
fn a_left_over_server_can_be_stopped_and_not_started() {
    let (mut node, _) = active_after(Vec::new(), vec![entry(2, up(9))]);
    let (server, process) = (ServerId(0), process(9));
    tell(&mut node, Event::Verified { server, process, found: Found::Alive });
    let out = tell(&mut node, ask(1, "a", Verb::Start, true));
    assert_eq!(outcome(&out, 1).0, Ended::Badly);
    let out = tell(&mut node, ask(2, "b", Verb::Stop, true));
    assert_eq!(counts(&out, is_signal), 1);
}

#[test]
fn only_the_latest_requests_are_remembered() {
    let mut node = active_with_server_up(9);
    for number in 0..100 {
        tell(&mut node, ask(number, &format!("id {number}"), Verb::Start, true));
    }
    let marks = &node.servers[0].rec.marks;
    assert_eq!(marks.len(), MARKS_MAX);
    assert_eq!(marks.last().map(|mark| mark.id.as_str()), Some("id 99"));
}

#[test]
fn a_record_that_no_disk_took_opens_the_gate_when_the_standby_has_it() {
    let (mut node, _) = active_after(vec![plan()], Vec::new());
    let (server, start_number) = (ServerId(0), node.servers[0].rec.start_number);
    let out = tell(&mut node, Event::Spawned { server, start_number, process: process(9) });
    let seq = saved(&out)[0].seq;
    let error = "no space left".to_string();
    assert_eq!(tell(&mut node, Event::NotSaved { seq, error }), []);
    assert_eq!(tell(&mut node, Event::Acked { seq: seq - 1 }), [], "an earlier one");
    let open = Action::OpenGate { server, start_number };
    assert_eq!(tell(&mut node, Event::Acked { seq }), [open]);
    assert_eq!(tell(&mut node, Event::Saved { seq }), [], "it is opened once");
}

#[test]
fn a_stop_waits_a_moment_for_an_exit_status_that_comes_on_another_way_and_no_longer() {
    for comes in [true, false] {
        let mut node = active_with_server_up(9);
        tell(&mut node, ask(1, "a", Verb::Stop, true));
        let (server, process) = (ServerId(0), process(9));
        tell(&mut node, Event::Died { server, process, exit: None });
        let out = tell(&mut node, Event::Group { server, process, living: None });
        assert_eq!(answered(&out, 1), None, "its status is still asked for");
        let out = match comes {
            true => {
                let (pid, start_ticks, exit) = (9, process.start_ticks, Exit::Code(3));
                tell(&mut node, Event::Status { pid, start_ticks, exit })
            }
            false => {
                let mut out = Vec::new();
                assert!(node.deadline().is_some_and(|at| at <= NOW.after(500)));
                node.fire_armed(NOW.after(500), Timer::Status(server), &mut out);
                out
            }
        };
        let text = if comes { "STOPPED (exit 3)" } else { "STOPPED (exit status unknown)" };
        assert_eq!(outcome(&out, 1), (Ended::Well, text.to_string()));
    }
}
