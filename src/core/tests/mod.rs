//! Tests of the core's parts; the whole is searched in `tests/search` and simulated in `tests/sim`.
//!
//! This file makes the values that the tests use; must not decide anything.

mod adopt;
mod apply;
mod cgroups;
mod checks;
mod disabled;
mod ending;
mod keeper;
mod order;
mod orders;
mod promotion;
mod requests;
mod server;
mod standby;
mod switchover;
mod table;
mod tasks;
mod watch;

use super::node::Role;
use super::plan::Rules;
use super::record::LastExit;
use super::restart::{Policy, Then, When};
use super::server::{Server, Step, Steps};
use super::time::Moment;
use super::*;

pub const NOW: Ms = Ms(1_000_000);

pub fn process(pid: i32) -> Identity {
    Identity { pid, start_ticks: 70, inode: 7 }
}

pub fn policy() -> Policy {
    Policy {
        when: When::OnFailure,
        tries: 2,
        window_ms: 60_000,
        delay_ms: 100,
        delay_max_ms: 1_000,
        reset_after_ms: 10_000,
        then: Then::Fail,
        ..Policy::never()
    }
}

pub fn plan() -> ServerPlan {
    let rules = Rules {
        settle_ms: 50,
        policy: policy(),
        stop_signal: 15,
        stop_timeout_ms: 5_000,
        ..Rules::default()
    };
    ServerPlan { auto_start: true, ..ServerPlan::of("web", rules) }
}

/// All hooks, a stop and a reload command, and a drain with both of its commands.
pub fn plan_with_tasks() -> ServerPlan {
    use super::plan::{Drain, Reload};
    use super::record::TaskKind::*;
    let drain = Drain {
        has_command: true,
        has_check: true,
        interval_ms: 200,
        timeout_ms: 5_000,
        keeps: false,
        on_stop: false,
        on_restart: false,
    };
    let kinds = [PreStart, PostStart, PreStop, PostStop, OnFailure, Stop];
    plan().with(|plan| {
        plan.tasks = kinds.map(|kind| (kind, 3_000)).to_vec();
        plan.reload = Some(Reload::Command { timeout_ms: 3_000 });
        plan.drain = Some(drain);
    })
}

pub fn pair_plan() -> PairPlan {
    PairPlan {
        has_standby: true,
        heartbeat_interval_ms: 100,
        heartbeat_timeout_ms: 1_000,
        shutdown_timeout_ms: 8_000,
        starts_max: 16,
    }
}

/// A record of the server with this number.
pub fn entry(seq: u64, phase: Phase) -> Entry {
    let mut record = ServerRecord::new("web", Wanted::Up);
    record.phase = phase;
    Entry { seq, record: Record::Server(record.into()) }
}

/// A server that is wanted up, at its fourth start.
pub fn server_in(phase: Phase) -> Server {
    let mut rec = ServerRecord::new("web", Wanted::Up);
    rec.phase = phase;
    rec.start_number = 4;
    rec.started_at = Ms(NOW.0 - 500).into();
    let (checks, task_run) = Default::default();
    Server {
        id: ServerId(0),
        plan: plan(),
        rec: rec.into(),
        checks,
        status_due: Moment::NONE,
        task_run,
        maintenance: false,
    }
}

/// What a server wants done after this.
pub fn steps_of(server: &mut Server, work: impl FnOnce(&mut Server, &mut Steps)) -> Steps {
    let mut steps = Steps::new();
    work(server, &mut steps);
    // As the node does when nothing is in its way.
    if server.rec.wanted == Wanted::Up {
        server.admit(NOW, &mut steps);
    }
    steps
}

/// Whether these steps come in this order, with anything in between.
pub fn in_order(steps: &[Step], wanted: &[Step]) -> bool {
    let mut rest = steps.iter();
    wanted.iter().all(|one| rest.any(|step| step == one))
}

pub fn signal(pid: i32, signal: i32, scope: Scope) -> Step {
    let (server, process) = (ServerId(0), process(pid));
    Step::Do(Action::Signal { server, process, signal, scope })
}

pub fn ended(pid: i32, exit: Exit) -> Option<Box<LastExit>> {
    Some(LastExit { process: process(pid), exit, at: NOW, ran_ms: 500 }.into())
}

pub fn up(pid: i32) -> Phase {
    Phase::Up { process: process(pid) }
}

/// Sends one event at `NOW`.
pub fn tell(node: &mut Node, event: Event) -> Vec<Action> {
    let mut out = Vec::new();
    node.handle(NOW, event, &mut out);
    out
}

/// Tells the node that everything it asked to be saved for a gate was saved.
pub fn save_all(node: &mut Node, actions: &[Action]) -> Vec<Action> {
    let mut out = Vec::new();
    for action in actions {
        if let Action::Save { entry, answer: true } = action {
            out.extend(tell(node, Event::Saved { seq: entry.seq }));
        }
    }
    out
}

/// An active that has read these entries; what it did on the way is the second part.
pub fn active_after(plans: Vec<ServerPlan>, entries: Vec<Entry>) -> (Node, Vec<Action>) {
    let mut node = Node::first(NOW, pair_plan(), plans, false);
    let mut out = Vec::new();
    node.begin(NOW, &mut out);
    out.extend(tell(&mut node, Event::Locked));
    let recovered = Recovered { entries, same_boot: true, ..Recovered::default() };
    out.extend(tell(&mut node, Event::Recovered(recovered)));
    (node, out)
}

/// An active whose one server has been started and is up with this PID.
pub fn active_with_server_up(pid: i32) -> Node {
    let (mut node, _) = active_after(vec![plan()], Vec::new());
    bring_up(&mut node, 0, pid);
    assert_eq!((node.role, node.servers[0].rec.phase.clone()), (Role::Active, up(pid)));
    node
}

/// Answers all that a server that was asked for needs until it is up.
pub fn bring_up(node: &mut Node, index: usize, pid: i32) {
    let server = ServerId(index);
    let start_number = node.servers[index].rec.start_number;
    let out = tell(node, Event::Spawned { server, start_number, process: process(pid) });
    save_all(node, &out);
    tell(node, Event::Executed { server, start_number });
    node.fire_armed(NOW, node::Timer::Server(server), &mut Vec::new());
}

/// A process of a server ends, and nothing of its group is left.
pub fn end_whole_group(node: &mut Node, index: usize, pid: i32, exit: Exit) -> Vec<Action> {
    let (server, process) = (ServerId(index), process(pid));
    let mut out = tell(node, Event::Died { server, process, exit: Some(exit) });
    out.extend(tell(node, Event::Group { server, process, living: None }));
    out
}

/// The position of the first action that is like this.
pub fn place(actions: &[Action], is_it: impl Fn(&Action) -> bool) -> usize {
    let found = actions.iter().position(is_it);
    found.unwrap_or_else(|| panic!("it is not among {actions:#?}"))
}
