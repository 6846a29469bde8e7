//! Orders while the main process of a daemon that forks is looked for.

use super::*;
use crate::core::plan::Kind;

fn forking() -> ServerPlan {
    plan().with(|plan| (plan.kind, plan.start_timeout_ms) = (Kind::Forking, 60_000))
}

/// Its starter (PID 9) has ended.
fn seeking() -> World {
    let mut world = World::new(forking());
    world.starter_runs(9);
    world.leader_dies(9);
    assert!(matches!(world.phase(), Phase::Seeking { .. }), "{:?}", world.phase());
    world
}

impl World {
    fn starter_runs(&mut self, pid: i32) {
        let start_number = self.node.servers[0].rec.start_number;
        let from = self.out.len();
        self.tell(Event::Spawned { server: WEB, start_number, process: process(pid) });
        save_all(&mut self.node, &self.out[from..]);
        self.tell(Event::Executed { server: WEB, start_number });
    }

    fn main_is_found(&mut self, pid: i32) {
        let (start_number, group) = (self.node.servers[0].rec.start_number, pid);
        self.tell(Event::MainFound { server: WEB, start_number, process: process(pid), group });
    }
}

#[test]
fn a_restart_while_the_main_process_is_looked_for_stops_the_one_that_is_found() {
    let mut world = seeking();
    world.ask("a", Verb::Restart);
    assert_eq!((world.signals(), world.answer()), (vec![], None));
    world.main_is_found(10);
    assert_eq!(world.signals(), [15]);
    world.dies(10, Exit::Code(0));
    assert_eq!(world.starts(), 2);
    world.starter_runs(11);
    world.leader_dies(11);
    world.main_is_found(12);
    assert_eq!(world.answer().map(|(how, _)| how), Some(Ended::Well));
}

#[test]
fn a_stop_looks_for_a_main_process_no_longer_than_a_stop_may_take() {
    let mut world = seeking();
    world.ask("a", Verb::Stop);
    let Phase::Seeking { until, .. } = world.phase() else { panic!("{:?}", world.phase()) };
    assert!(until <= NOW.after(world.node.servers[0].plan.stop_timeout_ms), "{until:?}");
}

#[test]
fn what_may_run_behind_a_wrong_pid_file_has_the_grace_of_a_stop() {
    let mut world = seeking();
    world.fire(Timer::Server(WEB), NOW.after(60_000));
    assert_eq!(world.signals(), [15]);
    let Phase::Stopping { until, killed: false, .. } = world.phase() else {
        panic!("{:?}", world.phase())
    };
    let grace_ms = world.node.servers[0].plan.stop_timeout_ms;
    assert!(until >= NOW.after(grace_ms), "{until:?}");
    world.group(9, None);
    assert!(matches!(world.phase(), Phase::Backoff { .. }), "{:?}", world.phase());
}
