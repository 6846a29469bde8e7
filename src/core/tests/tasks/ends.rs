//! What runs at the end of a server: preStop, the stop command, postStop and onFailure.

use super::*;

// ---- preStop and the stop command

#[test]
fn pre_stop_ends_before_the_signal_however_it_ends() {
    for exit in [Exit::Code(0), Exit::Code(1)] {
        let mut world = up_with(&[PreStop]);
        world.ask("a", Verb::Stop);
        world.runs(PreStop);
        assert!(world.signals().is_empty());
        world.ends(exit);
        assert_eq!(world.signals(), [15]);
    }
}

#[test]
fn a_stop_command_takes_the_place_of_the_signal_and_comes_after_pre_stop() {
    let mut world = up_with(&[PreStop, Stop]);
    world.ask("a", Verb::Stop);
    world.runs_well(PreStop);
    world.runs_well(Stop);
    assert!(world.signals().is_empty());
    world.dies(9, Exit::Code(0));
    assert_eq!(world.phase(), Phase::Down);
}

#[test]
fn a_stop_command_that_fails_is_followed_by_the_signal() {
    let mut world = up_with(&[Stop]);
    world.ask("a", Verb::Stop);
    world.runs(Stop);
    world.ends(Exit::Code(1));
    assert_eq!((world.signals(), world.reason()), (vec![15], "stop command: exit 1".into()));
}

#[test]
fn a_stop_command_that_was_of_no_use_is_followed_by_sigkill() {
    let mut world = up_with(&[Stop]);
    world.ask("a", Verb::Stop);
    world.runs_well(Stop);
    world.fire(Timer::Server(WEB), NOW);
    assert_eq!(world.signals(), [9]);
}

#[test]
fn a_stop_command_that_outlives_its_server_is_waited_for() {
    let mut world = up_with(&[Stop, PostStop]);
    world.ask("a", Verb::Restart);
    world.runs(Stop);
    world.dies(9, Exit::Code(0));
    assert!(matches!(world.phase(), Phase::Closing { .. }));
    let starts = world.starts();
    world.ends(Exit::Code(0));
    world.runs(PostStop);
    assert_eq!(world.starts(), starts, "the next start waits for postStop");
    world.ends(Exit::Code(0));
    assert_eq!(world.starts(), starts + 1);
}

#[test]
fn what_is_left_of_a_group_is_told_after_the_pre_stop_that_its_leader_did_not_outlive() {
    for (kind, exit) in [(PreStop, Exit::Code(0)), (Stop, Exit::Code(1))] {
        let mut world = up_with(&[kind]);
        world.ask("a", Verb::Stop);
        world.runs(kind);
        world.leader_dies(9);
        world.group(9, Some(10));
        assert!(world.signals().is_empty());
        world.ends(exit);
        assert_eq!(world.signals(), [15], "{kind:?}");
    }
}

#[test]
fn a_kill_ends_the_commands_of_a_stop_and_does_not_wait() {
    for kind in [PreStop, Stop] {
        let mut world = up_with(&[kind]);
        world.ask("a", Verb::Stop);
        world.runs(kind);
        let from = world.out.len();
        world.ask("bb", Verb::Kill);
        let new = &world.out[from..];
        assert!(place(new, is_kill) < place(new, |a| matches!(a, Action::Save { .. })), "{new:?}");
        assert_eq!(world.signals(), [9]);
        world.dies(9, Exit::Signal(9));
        assert_eq!(world.phase(), Phase::Down);
    }
}

#[test]
fn a_stop_command_goes_through_a_takeover_and_the_signal_is_not_sent_beside_it() {
    let mut world = up_with(&[Stop]);
    world.ask("a", Verb::Stop);
    world.runs(Stop);
    let mut next = world.taken_over(only(&[Stop]));
    next.verified(9, Found::Alive);
    assert_eq!((next.signals(), next.count(is_watch), next.times(Stop)), (vec![], 1, 0));
    next.ends(Exit::Code(1));
    assert_eq!(next.signals(), [15]);
}

#[test]
fn a_stop_command_that_had_ended_well_is_not_run_again_after_a_takeover() {
    let mut world = up_with(&[Stop]);
    world.ask("a", Verb::Stop);
    world.runs_well(Stop);
    let mut next = world.taken_over(only(&[Stop]));
    next.verified(9, Found::Alive);
    assert_eq!((next.signals(), next.times(Stop)), (vec![], 0));
}

#[test]
fn a_stop_command_that_is_not_configured_any_more_is_replaced_by_the_signal() {
    let mut world = up_with(&[Stop]);
    world.ask("a", Verb::Stop);
    let mut next = world.taken_over(plan());
    next.verified(9, Found::Alive);
    next.fire(Timer::Task(WEB), NOW);
    assert_eq!(next.signals(), [15]);
}

#[test]
fn a_pre_stop_that_is_run_again_has_its_whole_time() {
    let mut server = server_in(Phase::Verifying {
        was: Box::new(Phase::Stopping {
            process: process(9),
            why: record::Why::Asked,
            leader_dead: false,
            killed: false,
            until: Ms(5),
        }),
        until: NOW,
    });
    server.plan = only(&[PreStop]);
    server.rec.wanted = Wanted::Down;
    let task = Task { kind: PreStop, process: None, until: Ms(5), is_over: false };
    server.rec.task = Some(task.into());
    steps_of(&mut server, |server, steps| {
        server.on_verified(NOW, process(9), Found::Alive, steps);
    });
    assert!(server.deadline() > server.task_deadline(), "{:?}", server.rec);
}

#[test]
fn a_process_that_was_started_without_a_stop_command_gets_the_signal() {
    let mut world = up_with(&[Stop]);
    let with = StopWith { signal: 10, timeout_ms: 5, by_command: false };
    world.node.servers[0].rec.stop_with = Some(with);
    world.ask("a", Verb::Stop);
    assert_eq!((world.signals(), world.times(Stop)), (vec![10], 0));
}

// ---- postStop and onFailure

#[test]
fn a_stop_is_answered_when_its_post_stop_is_through() {
    let mut world = up_with(&[PostStop]);
    world.ask("a", Verb::Stop);
    world.dies(9, Exit::Code(0));
    world.runs(PostStop);
    assert_eq!(world.answer(), None);
    world.ends(Exit::Code(1));
    assert_eq!((world.phase(), world.answer().is_some()), (Phase::Down, true));
}

#[test]
fn a_failure_is_told_to_on_failure_before_the_policy_decides() {
    let mut world = up_with(&[PostStop, OnFailure]);
    world.dies(9, Exit::Code(1));
    world.runs_well(PostStop);
    world.runs(OnFailure);
    assert_eq!(world.node.servers[0].rec.failures.len(), 0);
    world.ends(Exit::Code(0));
    assert!(matches!(world.phase(), Phase::Backoff { .. }));
    assert_eq!(world.reason(), "exit 1");
}

#[test]
fn an_end_that_is_none_has_no_on_failure() {
    let mut world = up_with(&[OnFailure]);
    world.dies(9, Exit::Code(0));
    assert_eq!((world.phase(), world.times(OnFailure)), (Phase::Exited, 0));
    let mut world = up_with(&[OnFailure]);
    world.ask("a", Verb::Stop);
    world.dies(9, Exit::Signal(15));
    assert_eq!((world.phase(), world.times(OnFailure)), (Phase::Down, 0));
}

#[test]
fn an_exit_code_of_no_restart_codes_is_told_to_on_failure_and_then_given_up() {
    let mut plan = only(&[OnFailure]);
    plan.policy.no_restart_codes = vec![78];
    let mut world = World::new(plan);
    world.child_is_up(9);
    world.dies(9, Exit::Code(78));
    world.runs_well(OnFailure);
    assert_eq!(world.phase(), Phase::Failed);
    assert!(world.reason().contains("noRestartCodes"), "{}", world.reason());
}

#[test]
fn a_stop_during_on_failure_is_obeyed_when_that_is_through() {
    let mut world = up_with(&[OnFailure]);
    world.dies(9, Exit::Code(1));
    world.runs(OnFailure);
    world.ask("a", Verb::Stop);
    assert_eq!((world.count(is_kill), world.answer()), (0, None));
    world.ends(Exit::Code(0));
    assert_eq!((world.phase(), world.starts()), (Phase::Down, 1));
}

#[test]
fn a_start_during_post_stop_waits_for_it() {
    let mut world = up_with(&[PostStop]);
    world.ask("a", Verb::Stop);
    world.dies(9, Exit::Code(0));
    world.runs(PostStop);
    world.ask("bb", Verb::Start);
    assert_eq!(world.starts(), 1);
    world.ends(Exit::Code(0));
    assert_eq!(world.starts(), 2);
}

#[test]
fn hooks_of_an_end_that_run_through_a_takeover_are_watched_and_not_run_again() {
    for kind in [PostStop, OnFailure] {
        let mut world = up_with(&[kind]);
        world.dies(9, Exit::Code(1));
        world.runs(kind);
        let mut next = world.taken_over(only(&[kind]));
        assert_eq!((next.count(is_watch), next.times(kind), next.starts()), (1, 0, 0));
        next.ends(Exit::Code(0));
        assert!(matches!(next.phase(), Phase::Backoff { .. }), "{kind:?}: {:?}", next.phase());
        // How it ended is on record too: whoever comes next does not watch the dead.
        let third = next.taken_over(only(&[kind]));
        assert_eq!((third.count(is_watch), third.times(kind)), (0, 0));
    }
}

#[test]
fn an_end_of_post_stop_that_leads_to_a_start_at_once_is_on_record() {
    let mut world = up_with(&[PostStop]);
    world.ask("a", Verb::Restart);
    world.dies(9, Exit::Code(0));
    world.runs_well(PostStop);
    assert!(matches!(world.phase(), Phase::Spawning { .. }));
    let next = world.taken_over(only(&[PostStop]));
    assert_eq!((next.times(PostStop), next.count(is_watch), next.starts()), (0, 0, 1));
}

#[test]
fn post_stop_waits_a_moment_for_the_exit_status_and_no_longer() {
    for is_told in [true, false] {
        let mut world = up_with(&[PostStop]);
        world.ask("a", Verb::Stop);
        let process = process(9);
        world.tell(Event::Died { server: WEB, process, exit: None });
        world.group(9, None);
        assert!(matches!(world.phase(), Phase::Closing { .. }));
        assert_eq!(world.times(PostStop), 0, "how it ended is still asked for");
        match is_told {
            true => {
                let (pid, start_ticks, exit) = (process.pid, process.start_ticks, Exit::Code(3));
                world.tell(Event::Status { pid, start_ticks, exit });
            }
            false => world.fire(Timer::Status(WEB), NOW),
        }
        world.runs_well(PostStop);
        assert_eq!(world.phase(), Phase::Down);
    }
}
