//! Draining and reloading by commands, the pair's end, and records that are older than what lives.

use super::*;

// ---- drain

#[test]
fn a_drain_quiesces_then_asks_until_no_work_is_left_then_stops() {
    let mut world = World::new(draining());
    world.child_is_up(9);
    world.ask("a", Verb::Drain);
    let asks = |action: &Action| matches!(action, Action::Probe { check: Check::Drain, .. });
    assert_eq!(world.count(asks), 0);
    world.runs_well(TaskKind::Drain);
    for n in 1..=3 {
        world.fire(Timer::Checks(WEB), NOW);
        assert_eq!((world.count(asks), world.signals()), (n, vec![]));
        let answer = if n == 3 { Ok(()) } else { Err("2 left".to_string()) };
        let (server, start_number, check) = (WEB, 1, Check::Drain);
        world.tell(Event::Probed { server, start_number, check, answer });
    }
    assert_eq!(world.signals(), [15]);
    world.dies(9, Exit::Code(0));
    assert_eq!(world.answer().map(|(how, _)| how), Some(Ended::Well));
}

#[test]
fn one_that_is_not_drained_in_time_is_stopped_or_kept_as_it_is_configured() {
    for keeps in [false, true] {
        let mut plan = draining();
        drain_of(&mut plan).keeps = keeps;
        let mut world = World::new(plan);
        world.child_is_up(9);
        world.ask("a", Verb::Drain);
        world.runs(TaskKind::Drain);
        world.fire(Timer::Server(WEB), NOW);
        assert_eq!(world.count(is_kill), 1);
        assert_eq!(world.signals(), if keeps { vec![] } else { vec![15] });
        if keeps {
            assert_eq!((world.phase(), world.node.servers[0].rec.wanted), (up(9), Wanted::Up));
            assert_eq!(world.answer().map(|(how, _)| how), Some(Ended::Badly));
        }
    }
}

#[test]
fn a_stop_or_a_restart_drains_first_where_it_is_so_configured() {
    for verb in [Verb::Stop, Verb::Restart] {
        let mut plan = draining();
        let drain = drain_of(&mut plan);
        (drain.on_stop, drain.on_restart) = (verb == Verb::Stop, verb == Verb::Restart);
        let mut world = World::new(plan);
        world.child_is_up(9);
        world.ask("a", verb);
        assert!(matches!(world.phase(), Phase::Draining { .. }), "{verb:?}");
        world.ask("bb", Verb::Kill);
        assert_eq!((world.signals(), world.count(is_kill)), (vec![9], 1));
    }
}

#[test]
fn a_start_during_a_drain_brings_it_back_once_it_is_drained_and_gone() {
    let mut world = World::new(draining());
    world.child_is_up(9);
    world.ask("a", Verb::Drain);
    world.ask("bb", Verb::Start);
    world.fire(Timer::Server(WEB), NOW);
    assert_eq!(world.starts(), 1);
    world.dies(9, Exit::Code(0));
    assert_eq!(world.starts(), 2);
}

#[test]
fn a_server_that_dies_while_it_drains_is_down_and_no_failure() {
    for verb in [Verb::Drain, Verb::Restart] {
        let mut plan = draining();
        drain_of(&mut plan).on_restart = true;
        let mut world = World::new(plan);
        world.child_is_up(9);
        world.ask("a", verb);
        world.runs(TaskKind::Drain);
        world.dies(9, Exit::Code(1));
        assert_eq!(world.count(is_kill), 1);
        assert_eq!(world.signals(), [15], "what is left of its group is told to stop");
        assert_eq!(world.node.servers[0].rec.failures[..], []);
        match verb {
            Verb::Drain => assert_eq!(world.phase(), Phase::Down),
            _ => assert_eq!(world.starts(), 2),
        }
    }
}

#[test]
fn a_drain_goes_on_after_a_takeover() {
    let mut world = World::new(draining());
    world.child_is_up(9);
    world.ask("a", Verb::Drain);
    world.runs(TaskKind::Drain);
    let mut next = world.taken_over(draining());
    next.verified(9, Found::Alive);
    assert_eq!((next.signals(), next.times(TaskKind::Drain)), (vec![], 0));
    next.ends(Exit::Code(0));
    let mut third = next.taken_over(draining());
    third.verified(9, Found::Alive);
    third.fire(Timer::Checks(WEB), NOW);
    let asks = |action: &Action| matches!(action, Action::Probe { check: Check::Drain, .. });
    assert_eq!((third.count(asks), third.count(is_watch)), (1, 0));
}

#[test]
fn a_drain_that_is_asked_for_before_the_process_was_told_apart_is_no_plain_stop() {
    let mut world = World::new(draining());
    world.child_is_up(9);
    world.ask("a", Verb::Stop);
    let mut world = World::new(draining());
    world.child_is_up(9);
    world.fire(Timer::Beat, NOW);
    let mut next = World::after(draining(), world.node.entries());
    next.ask("a", Verb::Drain);
    next.verified(9, Found::Alive);
    assert!(matches!(next.phase(), Phase::Draining { .. }), "{:?}", next.phase());
    assert!(next.signals().is_empty());
}

// ---- reload

fn reloading() -> ServerPlan {
    plan().with(|plan| plan.reload = Some(Reload::Command { timeout_ms: 3_000 }))
}

#[test]
fn a_reload_command_runs_once_per_id_and_its_failure_is_told_after_a_takeover_too() {
    let mut world = World::new(reloading());
    world.child_is_up(9);
    world.ask("a", Verb::Reload);
    world.runs(TaskKind::Reload);
    world.ask("a", Verb::Reload);
    assert_eq!((world.times(TaskKind::Reload), world.answer()), (1, None));
    world.ends(Exit::Code(2));
    let told = Some((Ended::Badly, "reload command: exit 2".to_string()));
    assert_eq!(world.answer(), told);
    let mut next = world.taken_over(reloading());
    next.verified(9, Found::Alive);
    next.ask("a", Verb::Reload);
    assert_eq!((next.answer(), next.times(TaskKind::Reload)), (told.clone(), 0));
    // Another one that ends well does not change that.
    next.ask("bb", Verb::Reload);
    next.runs_well(TaskKind::Reload);
    assert_eq!(next.answer().map(|(how, _)| how), Some(Ended::Well));
    next.ask("a", Verb::Reload);
    assert_eq!(next.answer(), told);
}

#[test]
fn a_reload_command_that_runs_through_a_takeover_is_waited_for() {
    let mut world = World::new(reloading());
    world.child_is_up(9);
    world.ask("a", Verb::Reload);
    world.runs(TaskKind::Reload);
    let mut next = world.taken_over(reloading());
    next.ask("a", Verb::Reload);
    assert_eq!(next.answer(), None);
    next.verified(9, Found::Alive);
    next.ends(Exit::Code(0));
    assert_eq!(next.answer().map(|(how, _)| how), Some(Ended::Well));
    assert_eq!(next.times(TaskKind::Reload), 0);
}

#[test]
fn a_reload_that_the_end_of_its_server_cuts_short_has_failed() {
    let mut world = World::new(reloading());
    world.child_is_up(9);
    world.ask("a", Verb::Reload);
    world.runs(TaskKind::Reload);
    world.dies(9, Exit::Code(1));
    assert_eq!((world.count(is_kill), world.answer().map(|(how, _)| how)), (1, Some(Ended::Badly)));
}

// ---- the pair's end, and records that are older than what lives

#[test]
fn the_end_of_the_pair_comes_when_the_commands_of_its_servers_are_through() {
    for kind in [PreStart, PreStop, Stop, PostStop] {
        let mut world = World::new(only(&[kind]));
        let is_down = kind == PreStart;
        if is_down {
            world.runs(kind)
        } else {
            world.child_is_up(9)
        }
        let (stop_servers, force) = (true, false);
        world.ask("a", Verb::Shutdown { stop_servers, force });
        if matches!(kind, PreStop | Stop) {
            world.runs_well(kind);
        }
        if !is_down {
            world.dies(9, Exit::Code(0));
        }
        if kind == PostStop {
            let tells = |action: &Action| matches!(action, Action::TellStandbyToStop);
            world.runs(kind);
            assert_eq!(world.count(tells), 0);
            world.ends(Exit::Code(0));
        }
        assert_eq!((world.phase(), world.count(is_kill)), (Phase::Down, usize::from(is_down)));
    }
}

#[test]
fn a_new_life_ends_the_hook_of_a_server_that_it_does_not_want() {
    let mut world = World::new(only(&[PreStart]));
    world.runs(PreStart);
    let Some(Entry { record: Record::Server(old), .. }) = world.node.entries().pop() else {
        panic!("the last record is the server's");
    };
    let record = crate::core::promotion::new_life(*old, false);
    let mut server = server_in(Phase::Down);
    (server.plan, server.rec) = (only(&[PreStart]), record.into());
    let steps = steps_of(&mut server, |server, steps| server.adopt(NOW, steps));
    let kills = |step: &Step| matches!(step, Step::Do(action) if is_kill(action));
    assert!(steps.iter().any(kills), "{steps:?}");
    assert_eq!((server.rec.phase, server.rec.task), (Phase::Down, None));
}

#[test]
fn a_command_of_a_record_that_is_older_than_its_server_is_ended_and_not_run_again() {
    let mut world = World::new(only(&[PreStart]));
    world.runs(PreStart);
    let (entries, name) = (world.node.entries(), "web".to_string());
    let survivor = Survivor { name, start_number: 1, process: process(9), leads: true };
    let mut node = Node::first(NOW, pair_plan(), vec![only(&[PreStart])], true);
    node.begin(NOW, &mut Vec::new());
    tell(&mut node, Event::Locked);
    let (same_boot, survivors) = (true, vec![survivor]);
    let recovered = Recovered { entries, same_boot, survivors, ..Recovered::default() };
    tell(&mut node, Event::Recovered(recovered));
    let (server, process, found) = (WEB, process(9), Found::Alive);
    let out = tell(&mut node, Event::Verified { server, process, found });
    assert!(place(&out, is_watch) < place(&out, is_kill), "{out:?}");
    assert!(!out.iter().any(|action| matches!(action, Action::SpawnTask { .. })), "{out:?}");
    assert_eq!(
        (node.servers[0].rec.phase.clone(), node.servers[0].rec.task.clone()),
        (up(9), None)
    );
}

#[test]
fn a_child_of_a_command_that_comes_too_late_is_ended() {
    let mut world = World::new(only(&[PreStart]));
    let (number, _) = world.last_task();
    world.takes_too_long();
    assert!(matches!(world.phase(), Phase::Backoff { .. }));
    world.tell(Event::TaskSpawned { server: WEB, number, process: process(50) });
    assert_eq!(world.count(is_kill), 2);
    assert_eq!(world.count(is_gate), 0);
}
