//! Commands beside one server: its hooks, its stop, reload and drain commands, on their own and
//! through a takeover.

mod ends;
mod forking;
mod others;

use super::*;
use crate::core::ask::{Ask, Ended, Reach, Verb};
use crate::core::checks::Check;
use crate::core::node::Timer;
use crate::core::plan::{Drain, Reload};
use crate::core::record::TaskKind::*;
use crate::core::record::{StopWith, Task, TaskKind};
use crate::core::task::TaskEnd;

const WEB: ServerId = ServerId(0);

/// One active with one server, which has these commands; a command has this process.
struct World {
    node: Node,
    out: Vec<Action>,
    pid: i32,
}

fn only(kinds: &[TaskKind]) -> ServerPlan {
    let tasks = kinds.iter().map(|kind| (*kind, 3_000)).collect();
    plan().with(|plan| plan.tasks = tasks)
}

fn draining() -> ServerPlan {
    plan().with(|plan| plan.drain = plan_with_tasks().drain)
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
        self.node.servers[0].rec.reason_text()
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
