//! Short stories on the simulator's world, each the bug that a seed found, told on purpose.
//!
//! Must not depend on chance: where the moment matters, every moment is tried.

use crate::os::Uid;
use crate::plan::{Behaviour, Plan};
use crate::world::{Due, World};
use nodemanager::core::ask::Verb;
use nodemanager::core::restart::When;
use nodemanager::core::{Exit, Identity, Phase, Wanted};
use std::collections::VecDeque;

const KILLED: Exit = Exit::Signal(9);

/// A pair that is up, in calm weather; different seeds give different delays.
fn settled(seed: u64, plan: Plan) -> World {
    let mut world = World::new(seed, plan);
    world.weather.on = false;
    world.expect_settled();
    world.trace = Some(VecDeque::new());
    world
}

/// What happened, for a failing test.
fn story(world: &World) -> String {
    let lines: Vec<&str> = world.trace.iter().flatten().map(String::as_str).collect();
    lines.join("\n")
}

fn active(world: &World) -> Uid {
    world.active().map(|twin| twin.uid).expect("an active")
}

fn standby(world: &World) -> Uid {
    let active = active(world);
    world.twins.values().find(|t| t.watches == Some(active)).map(|t| t.uid).expect("a standby")
}

fn later(world: &mut World, ms: u64) {
    let until = world.now + ms;
    world.run_until(until);
}

fn process(world: &World) -> Option<Identity> {
    let node = world.active().and_then(|twin| twin.node.as_ref());
    node.and_then(|node| node.servers[0].rec.phase.process())
}

/// Disk and network work again, everybody goes on, and all promises hold.
fn ends_well(mut world: World, what: &str) -> World {
    if world.failure.is_none() {
        world.calm();
        world.expect_settled();
    }
    assert_eq!(world.failure, None, "{what}\n{}", story(&world));
    world
}

#[test]
fn a_gate_stays_shut_while_its_record_is_on_its_way_in_a_snapshot() {
    for seed in 0..20 {
        for moment in 0..40 {
            let mut world = settled(seed, Plan::simple());
            let standby = standby(&world);
            world.disk.is_full = true;
            world.dies(standby, KILLED);
            later(&mut world, moment);
            world.ask(Verb::Restart, 0);
            later(&mut world, 300);
            ends_well(world, &format!("seed {seed}, {moment} ms"));
        }
    }
}

#[test]
fn a_standby_without_a_copy_finds_what_a_full_disk_kept_from_the_journal() {
    for moment in 0..60 {
        let mut world = settled(moment, Plan::simple());
        world.disk.is_full = true;
        world.ask(Verb::Restart, 0);
        later(&mut world, 2_000);
        let (first, second) = (standby(&world), active(&world));
        world.dies(first, KILLED);
        later(&mut world, moment);
        world.dies(second, KILLED);
        later(&mut world, 2_000);
        ends_well(world, &format!("{moment} ms"));
    }
}

#[test]
fn both_dead_and_a_full_disk_start_nothing_twice_and_stop_nothing() {
    for seed in 0..20 {
        // Full from before the start, or from a moment in the middle of it.
        for moment in 0..15 {
            let mut world = settled(seed, Plan::simple());
            world.ask(Verb::Stop, 0);
            later(&mut world, 3_000);
            world.disk.is_full = moment == 0;
            world.ask(Verb::Start, 0);
            later(&mut world, moment);
            world.disk.is_full = true;
            later(&mut world, 3_000);
            let before = process(&world);
            world.kill_all_twins();
            later(&mut world, 3_000);
            let what = format!("seed {seed}, {moment} ms");
            let world = ends_well(world, &what);
            assert_eq!(process(&world), before, "{what}: it was touched\n{}", story(&world));
        }
    }
}

#[test]
fn a_keeper_that_sees_both_twins_dead_starts_one_pair() {
    for seed in 0..50 {
        let mut world = settled(seed, Plan::simple());
        world.kill_all_twins();
        later(&mut world, 5_000);
        assert_eq!(world.twins.len(), 2, "seed {seed}");
        ends_well(world, &format!("seed {seed}"));
    }
}

#[test]
fn a_keeper_that_slept_through_the_end_of_its_pair_does_not_start_it_again() {
    for seed in 0..20 {
        let mut world = settled(seed, Plan::simple());
        let old: Vec<Uid> = world.twins.keys().copied().collect();
        world.kill_all_twins();
        while world.twins.keys().all(|uid| old.contains(uid)) {
            world.step();
        }
        // It sleeps before it saw the new active serve.
        let keeper = world.keeper.as_mut().expect("a keeper");
        keeper.stopped = true;
        let keeper = keeper.uid;
        later(&mut world, 2_000);
        let first = active(&world);
        world.dies(first, KILLED);
        later(&mut world, 1_000);
        world.ask(Verb::Shutdown { stop_servers: false, force: false }, 0);
        later(&mut world, 2_000);
        assert!(world.ended && world.twins.is_empty(), "seed {seed}\n{}", story(&world));
        world.lose_journal();
        world.continues(keeper);
        // An active that was started all the same would end again at once: the pulse says why.
        while world.keeper.is_some() {
            world.step();
            assert!(world.twins.is_empty(), "seed {seed}\n{}", story(&world));
        }
        world.expect_ended(false);
        assert_eq!(world.failure, None, "seed {seed}\n{}", story(&world));
    }
}

#[test]
fn a_standby_that_was_stopped_fences_nobody_when_it_goes_on() {
    for seed in 0..5 {
        for moment in 0..100 {
            let mut world = settled(seed, Plan::simple());
            let (active, standby) = (active(&world), standby(&world));
            let stop = |world: &mut World, uid: Uid, stopped: bool| {
                world.twins.get_mut(&uid).into_iter().for_each(|twin| twin.stopped = stopped);
            };
            // The active misses a heartbeat, then the standby stops: not so long that it is
            // replaced, but perhaps between its look at the pulse and the answer.
            stop(&mut world, active, true);
            later(&mut world, 110 + moment);
            stop(&mut world, standby, true);
            stop(&mut world, active, false);
            later(&mut world, 450);
            world.continues(standby);
            later(&mut world, 1_000);
            let what = format!("seed {seed}, {moment} ms");
            assert_eq!(world.counts.hangs, 0, "{what}\n{}", story(&world));
            ends_well(world, &what);
        }
    }
}

#[test]
fn a_restart_whose_fork_is_refused_is_not_forgotten_when_the_exit_status_comes_late() {
    for seed in 0..50 {
        let mut plan = Plan::simple();
        plan.servers[0].policy.when = When::OnFailure;
        let mut world = settled(seed, plan);
        // Adopted, so that the status comes from the keeper.
        let first = active(&world);
        world.dies(first, KILLED);
        world.expect_settled();
        world.fork_refused = true;
        world.ask(Verb::Restart, 0);
        later(&mut world, 3_000);
        let world = ends_well(world, &format!("seed {seed}"));
        assert!(process(&world).is_some(), "{}", story(&world));
    }
}

#[test]
fn a_stray_is_waited_for_also_after_stop_and_start() {
    for seed in 0..50 {
        let mut plan = Plan::simple();
        plan.behaviours[0] = Behaviour { members: 2, has_deaf_member: true, ..Behaviour::WELL };
        let mut world = settled(seed, plan);
        later(&mut world, 2_000);
        let leader = process(&world).and_then(|process| world.os.by_identity(process));
        world.lose_journal();
        world.kill_all_twins();
        leader.into_iter().for_each(|leader| world.dies(leader, KILLED));
        world.expect_settled();
        world.ask(Verb::Stop, 0);
        later(&mut world, 2_000);
        world.ask(Verb::Start, 0);
        later(&mut world, 2_000);
        ends_well(world, &format!("seed {seed}"));
    }
}

#[test]
fn a_pair_that_ended_and_is_run_again_touches_no_server() {
    for seed in 0..20 {
        let mut world = settled(seed, Plan::simple());
        let before = process(&world);
        world.ask(Verb::Shutdown { stop_servers: false, force: false }, 0);
        world.expect_ended(false);
        world.dismiss_clients();
        world.run_command();
        world.expect_settled();
        assert_eq!(
            (process(&world), &world.failure),
            (before, &None),
            "seed {seed}\n{}",
            story(&world)
        );
    }
}

#[test]
fn a_stop_in_the_middle_of_a_takeover_is_carried_out_by_the_next_active() {
    for moment in 0..60 {
        let mut plan = Plan::simple();
        plan.behaviours[0] = Behaviour { deaf: true, ..Behaviour::WELL };
        let mut world = settled(moment, plan);
        world.ask(Verb::Stop, 0);
        later(&mut world, moment * 5);
        let first = active(&world);
        world.dies(first, KILLED);
        let world = ends_well(world, &format!("{} ms", moment * 5));
        let node = world.active().and_then(|twin| twin.node.as_ref()).expect("a node");
        let record = &node.servers[0].rec;
        assert_eq!(
            (record.wanted, &record.phase),
            (Wanted::Down, &Phase::Down),
            "{}",
            story(&world)
        );
    }
}

fn stop(world: &mut World, uid: Uid) {
    if let Some(twin) = world.twins.get_mut(&uid) {
        twin.stopped = true;
    }
    if let Some(keeper) = world.keeper.as_mut().filter(|keeper| keeper.uid == uid) {
        keeper.stopped = true;
    }
}

fn keeper(world: &World) -> Uid {
    world.keeper.as_ref().map(|keeper| keeper.uid).expect("a keeper")
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn a_suspended_pair_goes_on_whatever_wakes_first() {
    for order in ORDERS {
        for seed in 0..4 {
            // Less than the timeout (500 ms) in all, at every moment of a heartbeat.
            for between_ms in (0..200).step_by(7) {
                let mut world = settled(seed, Plan::simple());
                let all = [keeper(&world), active(&world), standby(&world)];
                later(&mut world, between_ms * 3);
                all.iter().for_each(|uid| stop(&mut world, *uid));
                for (turn, at) in (0..).zip(order) {
                    world.at(10_000 + turn * between_ms, Due::Continues(all[at]));
                }
                later(&mut world, 13_000);
                let what = format!("seed {seed}, {order:?}, {between_ms} ms between");
                let now = [keeper(&world), active(&world), standby(&world)];
                assert_eq!(now, all, "{what}\n{}", story(&world));
                assert_eq!(world.counts.takeovers, 0, "{what}");
                ends_well(world, &what);
            }
        }
    }
}

#[test]
fn a_pair_whose_twins_wake_too_far_apart_has_one_takeover_and_no_more() {
    for seed in 0..10 {
        for between_ms in (900..1_400).step_by(50) {
            let mut world = settled(seed, Plan::simple());
            let all = [keeper(&world), active(&world), standby(&world)];
            all.iter().for_each(|uid| stop(&mut world, *uid));
            // The standby is awake for longer than the timeout, and sees an active that is not.
            for (at, after_ms) in [(0, 0), (2, 0), (1, between_ms)] {
                world.at(10_000 + after_ms, Due::Continues(all[at]));
            }
            later(&mut world, 14_000);
            let what = format!("seed {seed}, {between_ms} ms between");
            assert_eq!(world.counts.takeovers, 1, "{what}\n{}", story(&world));
            assert_eq!((keeper(&world), active(&world)), (all[0], all[2]), "{what}");
            ends_well(world, &what);
        }
    }
}

#[test]
fn a_twin_that_is_late_again_and_again_disturbs_nobody() {
    for seed in 0..20 {
        for is_active_late in [true, false] {
            let mut world = settled(seed, Plan::simple());
            let all = [keeper(&world), active(&world), standby(&world)];
            let late = if is_active_late { all[1] } else { all[2] };
            for times in 0..40 {
                stop(&mut world, late);
                later(&mut world, 200 + times * 3);
                world.continues(late);
                later(&mut world, 50);
            }
            let what = format!("seed {seed}, the active: {is_active_late}");
            let now = [keeper(&world), active(&world), standby(&world)];
            assert_eq!((now, world.counts.takeovers), (all, 0), "{what}\n{}", story(&world));
            ends_well(world, &what);
        }
    }
}

#[test]
fn a_server_that_is_disabled_at_any_moment_of_its_start_is_started_by_no_active() {
    for seed in 0..10 {
        for moment in 0..30 {
            let mut world = settled(seed, Plan::simple());
            world.ask(Verb::Restart, 0);
            later(&mut world, moment);
            world.toggle(0);
            world.look_at_list();
            let first = active(&world);
            world.dies(first, KILLED);
            later(&mut world, 2_000);
            if let Some(process) = process(&world) {
                // It runs on; this is its end.
                let uid = world.os.by_identity(process).expect("a process");
                world.dies(uid, KILLED);
            }
            let world = ends_well(world, &format!("seed {seed}, {moment} ms"));
            assert_eq!(process(&world), None, "seed {seed}, {moment} ms");
        }
    }
}
