//! Commands beside one server: its hooks, its stop, reload and drain commands, on their own and
//! through a takeover.

use super::*;
use crate::core::ask::{Ask, Ended, Reach, Verb};
use crate::core::checks::Check;
use crate::core::node::Timer;
use crate::core::plan::{Drain, Reload};
use crate::core::record::{StopWith, Task, TaskKind};
use crate::core::task::TaskEnd;
use TaskKind::*;

const WEB: ServerId = ServerId(0);

/// One active with one server, which has these commands; a command has this process.
struct World {
    node: Node,
    out: Vec<Action>,
    pid: i32,
}

fn only(kinds: &[TaskKind]) -> ServerPlan {
    let tasks = kinds.iter().map(|kind| (*kind, 3_000)).collect();
    ServerPlan { tasks, ..plan() }
}

fn draining() -> ServerPlan {
    ServerPlan { drain: plan_with_tasks().drain, ..plan() }
}

fn drain_of(plan: &mut ServerPlan) -> &mut Drain {
    plan.drain.as_mut().expect("it has one")
}

impl World {
    fn new(plan: ServerPlan) -> World {
        World::after(plan, Vec::new())
    }

    fn after(plan: ServerPlan, entries: Vec<Entry>) -> World {
        let (node, out) = active_after(vec![plan], entries);
        World { node, out, pid: 100 }
    }

    /// The active died, and the keeper's next one reads what it had saved.
    fn taken_over(&self, plan: ServerPlan) -> World {
        let mut node = Node::first(NOW, pair_plan(), vec![plan], true);
        let mut out = Vec::new();
        node.begin(NOW, &mut out);
        tell(&mut node, Event::Locked);
        let mut saved: Vec<Entry> = self.node.entries();
        for action in &self.out {
            if let Action::Save { entry, .. } = action {
                saved.push((**entry).clone());
            }
        }
        // What the active knew and had not saved is lost with it.
        saved.remove(1);
        let recovered = Recovered { entries: saved, same_boot: true, ..Recovered::default() };
        let out = tell(&mut node, Event::Recovered(recovered));
        World { node, out, pid: self.pid + 100 }
    }

    fn tell(&mut self, event: Event) {
        let out = tell(&mut self.node, event);
        self.out.extend(out);
    }

    fn phase(&self) -> Phase {
        self.node.servers[0].rec.phase.clone()
    }

    fn reason(&self) -> String {
        self.node.servers[0].rec.reason.clone().unwrap_or_default()
    }

    fn count(&self, is_it: impl Fn(&Action) -> bool) -> usize {
        self.out.iter().filter(|action| is_it(action)).count()
    }

    /// The number of the last command that was asked for or is watched, and of what kind.
    fn last_task(&self) -> (u64, Option<TaskKind>) {
        let of = |action: &Action| match action {
            Action::SpawnTask { number, kind, .. } => Some((*number, Some(*kind))),
            Action::WatchTask { number, .. } => Some((*number, None)),
            _ => None,
        };
        self.out.iter().rev().find_map(of).expect("a command was asked for")
    }

    fn times(&self, kind: TaskKind) -> usize {
        self.count(|action| matches!(action, Action::SpawnTask { kind: of, .. } if *of == kind))
    }

    /// The command comes to be, is on record, and passes its gate.
    fn runs(&mut self, kind: TaskKind) {
        let (number, of) = self.last_task();
        assert_eq!(of, Some(kind), "{:?}", self.phase());
        self.pid += 1;
        let process = process(self.pid);
        let from = self.out.len();
        self.tell(Event::TaskSpawned { server: WEB, number, process });
        assert!(!self.out[from..].iter().any(is_gate), "its gate opens before its record");
        let saved = save_all(&mut self.node, &self.out[from..]);
        assert!(saved.iter().any(is_gate), "{saved:?}");
        self.out.extend(saved);
    }

    fn ends(&mut self, exit: Exit) {
        let (number, _) = self.last_task();
        self.tell(Event::TaskEnded { server: WEB, number, end: TaskEnd::Exited(exit) });
    }

    fn runs_well(&mut self, kind: TaskKind) {
        self.runs(kind);
        self.ends(Exit::Code(0));
    }

    fn fire(&mut self, timer: Timer, now: Ms) {
        let mut out = Vec::new();
        self.node.fire_armed(now, timer, &mut out);
        self.out.extend(out);
    }

    fn takes_too_long(&mut self) {
        self.fire(Timer::Task(WEB), NOW);
    }

    fn ask(&mut self, id: &str, verb: Verb) {
        let (client, reach) = (ClientId(id.len() as u64), Reach::Refuse);
        let (id, servers) = (id.to_string(), vec![WEB]);
        self.tell(Event::Asked(Ask { client, id, verb, servers, wait: true, reach }));
    }

    fn answer(&self) -> Option<(Ended, String)> {
        self.out.iter().rev().find_map(|action| match action {
            Action::Answer { outcomes, .. } => {
                outcomes.first().map(|one| (one.result, one.text.clone()))
            }
            _ => None,
        })
    }

    fn child_is_up(&mut self, pid: i32) {
        let start_number = self.node.servers[0].rec.start_number;
        let from = self.out.len();
        self.tell(Event::Spawned { server: WEB, start_number, process: process(pid) });
        save_all(&mut self.node, &self.out[from..]);
        self.tell(Event::Executed { server: WEB, start_number });
        self.fire(Timer::Server(WEB), NOW);
    }

    fn dies(&mut self, pid: i32, exit: Exit) {
        let out = end_whole_group(&mut self.node, 0, pid, exit);
        self.out.extend(out);
    }

    fn leader_dies(&mut self, pid: i32) {
        let exit = Some(Exit::Code(0));
        self.tell(Event::Died { server: WEB, process: process(pid), exit });
    }

    fn verified(&mut self, pid: i32, found: Found) {
        self.tell(Event::Verified { server: WEB, process: process(pid), found });
    }

    fn group(&mut self, pid: i32, living: Option<i32>) {
        self.tell(Event::Group { server: WEB, process: process(pid), living });
    }

    fn signals(&self) -> Vec<i32> {
        let signal = |action: &Action| match action {
            Action::Signal { signal, .. } => Some(*signal),
            _ => None,
        };
        self.out.iter().filter_map(signal).collect()
    }

    fn starts(&self) -> usize {
        self.count(|action| matches!(action, Action::Spawn { .. }))
    }
}

fn is_gate(action: &Action) -> bool {
    matches!(action, Action::OpenTaskGate { .. })
}

fn is_kill(action: &Action) -> bool {
    matches!(action, Action::KillTask { .. })
}

fn is_watch(action: &Action) -> bool {
    matches!(action, Action::WatchTask { .. })
}

/// Up with PID 9.
fn up_with(kinds: &[TaskKind]) -> World {
    let mut world = World::new(only(kinds));
    world.child_is_up(9);
    assert_eq!(world.phase(), up(9));
    world
}

// ---- preStart

#[test]
fn pre_start_ends_before_the_child_is_asked_for() {
    let mut world = World::new(only(&[PreStart]));
    assert_eq!((world.phase(), world.starts()), (Phase::Preparing, 0));
    world.runs(PreStart);
    assert_eq!(world.starts(), 0);
    world.ends(Exit::Code(0));
    assert_eq!(world.starts(), 1);
}

#[test]
fn a_pre_start_that_fails_is_a_failed_start_and_counts() {
    for slow in [false, true] {
        let mut world = World::new(only(&[PreStart]));
        world.runs(PreStart);
        if slow {
            world.takes_too_long()
        } else {
            world.ends(Exit::Code(3))
        }
        assert!(matches!(world.phase(), Phase::Backoff { .. }), "{:?}", world.phase());
        let what = if slow { "preStart hook: took too long" } else { "preStart hook: exit 3" };
        assert_eq!((world.reason().as_str(), world.starts()), (what, 0));
        assert_eq!(world.count(is_kill), usize::from(slow));
        assert_eq!(world.node.servers[0].rec.failures.len(), 1);
    }
}

#[test]
fn a_stop_during_pre_start_kills_it_before_the_record_and_starts_nothing() {
    let mut world = World::new(only(&[PreStart]));
    world.runs(PreStart);
    let from = world.out.len();
    world.ask("a", Verb::Stop);
    let new = &world.out[from..];
    let kill = place(new, is_kill);
    assert!(kill < place(new, |action| matches!(action, Action::Save { .. })), "{new:?}");
    world.ends(Exit::Code(0));
    assert_eq!((world.phase(), world.starts()), (Phase::Down, 0));
}

#[test]
fn a_pre_start_that_runs_through_a_takeover_is_watched_and_not_run_again() {
    let mut world = World::new(only(&[PreStart]));
    world.runs(PreStart);
    let mut next = world.taken_over(only(&[PreStart]));
    assert_eq!((next.count(is_watch), next.times(PreStart)), (1, 0));
    next.ends(Exit::Code(0));
    assert_eq!((next.starts(), next.times(PreStart)), (1, 0));
}

#[test]
fn a_pre_start_that_never_passed_its_gate_is_run_by_the_next_active() {
    let world = World::new(only(&[PreStart]));
    let next = world.taken_over(only(&[PreStart]));
    assert_eq!((next.count(is_watch), next.times(PreStart)), (0, 1));
}

#[test]
fn a_command_of_which_nobody_knows_whether_it_ran_is_run_again() {
    for exit in [Exit::Unknown, Exit::Signal(9)] {
        let mut world = World::new(only(&[PreStart]));
        world.runs(PreStart);
        let mut next = world.taken_over(only(&[PreStart]));
        next.ends(exit);
        assert_eq!((next.starts(), next.times(PreStart)), (0, 1));
    }
}

#[test]
fn a_pre_start_that_ended_well_is_not_run_again_for_the_same_child() {
    let mut world = World::new(only(&[PreStart]));
    world.runs_well(PreStart);
    let next = world.taken_over(only(&[PreStart]));
    assert_eq!((next.starts(), next.times(PreStart)), (1, 0));
}

#[test]
fn every_start_has_its_own_pre_start() {
    let mut world = World::new(only(&[PreStart]));
    world.runs_well(PreStart);
    world.child_is_up(9);
    world.ask("a", Verb::Restart);
    world.dies(9, Exit::Code(0));
    assert_eq!((world.times(PreStart), world.starts()), (2, 1));
}

#[test]
fn a_pre_start_of_an_older_definition_is_ended_and_the_new_one_run() {
    let new = ServerPlan { revision: 1, ..only(&[PreStart]) };
    let mut world = World::new(only(&[PreStart]));
    world.runs(PreStart);
    let next = world.taken_over(new.clone());
    assert_eq!((next.count(is_kill), next.times(PreStart)), (1, 1));
    let mut world = World::new(only(&[PreStart]));
    world.runs_well(PreStart);
    let next = world.taken_over(new);
    assert_eq!((next.starts(), next.times(PreStart)), (0, 1), "that hook was not this one");
}

#[test]
fn a_pre_start_that_is_not_configured_any_more_holds_nothing_up() {
    let world = World::new(only(&[PreStart]));
    let mut next = world.taken_over(plan());
    next.fire(Timer::Task(WEB), NOW);
    assert_eq!(next.starts(), 1);
}

#[test]
fn a_pre_start_of_a_server_that_is_not_configured_any_more_is_ended() {
    for goes_on in [true, false] {
        let mut world = World::new(only(&[PreStart]));
        world.runs(PreStart);
        let mut node = Node::first(NOW, pair_plan(), Vec::new(), goes_on);
        node.begin(NOW, &mut Vec::new());
        tell(&mut node, Event::Locked);
        let (entries, same_boot) = (world.node.entries(), true);
        let recovered = Recovered { entries, same_boot, ..Recovered::default() };
        let out = tell(&mut node, Event::Recovered(recovered));
        assert!(out.iter().any(is_kill), "{out:?}");
        assert_eq!(node.servers[0].rec.phase, Phase::Down);
    }
}

// ---- postStart

#[test]
fn post_start_comes_before_running_and_its_failure_stops_the_server() {
    let mut world = World::new(only(&[PostStart]));
    world.child_is_up(9);
    assert!(matches!(world.phase(), Phase::Unready { .. }));
    world.runs_well(PostStart);
    assert_eq!(world.phase(), up(9));
    let mut world = World::new(only(&[PostStart]));
    world.child_is_up(9);
    world.runs(PostStart);
    world.ends(Exit::Code(1));
    assert_eq!((world.signals(), world.reason()), (vec![15], "postStart hook: exit 1".into()));
}

#[test]
fn a_server_that_dies_during_its_post_start_ends_that_too() {
    let mut world = World::new(only(&[PostStart]));
    world.child_is_up(9);
    world.runs(PostStart);
    world.dies(9, Exit::Code(1));
    assert_eq!(world.count(is_kill), 1);
    assert!(matches!(world.phase(), Phase::Backoff { .. }));
}

#[test]
fn a_post_start_that_runs_through_a_takeover_leads_to_running() {
    let mut world = World::new(only(&[PostStart]));
    world.child_is_up(9);
    world.runs(PostStart);
    let mut next = world.taken_over(only(&[PostStart]));
    next.verified(9, Found::Alive);
    assert!(matches!(next.phase(), Phase::Unready { .. }));
    next.ends(Exit::Code(0));
    assert_eq!((next.phase(), next.times(PostStart)), (up(9), 0));
}

// ---- preStop and the stop command

#[test]
fn pre_stop_ends_before_the_signal_however_it_ends() {
    for exit in [Exit::Code(0), Exit::Code(1)] {
        let mut world = up_with(&[PreStop]);
        world.ask("a", Verb::Stop);
        world.runs(PreStop);
        assert_eq!(world.signals(), []);
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
    assert_eq!(world.signals(), []);
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
        assert_eq!(world.signals(), []);
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
    server.rec.task = Some(Task { kind: PreStop, process: None, until: Ms(5), is_over: false });
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
        assert_eq!(world.node.servers[0].rec.failures, []);
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
    assert_eq!(next.signals(), []);
}

// ---- reload

fn reloading() -> ServerPlan {
    ServerPlan { reload: Some(Reload::Command { timeout_ms: 3_000 }), ..plan() }
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
    let record = crate::core::promotion::new_life(old, false);
    let mut server = server_in(Phase::Down);
    (server.plan, server.rec) = (only(&[PreStart]), record);
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
    assert_eq!((node.servers[0].rec.phase.clone(), node.servers[0].rec.task), (up(9), None));
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
