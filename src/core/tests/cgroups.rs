//! A server with a cgroup: who left its process group is told to stop, and when.

use super::*;
use crate::core::record::Why;
use crate::core::server::{Server, Step};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

fn with_cgroup(phase: Phase) -> Server {
    let mut server = server_in(phase);
    server.rec.cgroup = Some("/sys/fs/cgroup/node:a".into());
    server
}

fn stopping(pid: i32, why: Why, leader_dead: bool, killed: bool) -> Phase {
    Phase::Stopping { process: process(pid), why, leader_dead, killed, until: NOW }
}

fn died(server: &mut Server, exit: Exit) -> Vec<Step> {
    steps_of(server, |s, steps| s.on_died(NOW, process(9), Some(exit), steps))
}

#[test]
fn who_left_the_group_is_told_to_stop_when_the_leader_is_dead() {
    let left = signal(9, SIGTERM, Scope::LeftGroup);
    let probe = Step::Do(Action::ProbeGroup { server: ServerId(0), process: process(9) });
    let mut server = with_cgroup(stopping(9, Why::Asked, false, false));
    let steps = died(&mut server, Exit::Signal(SIGTERM));
    assert!(in_order(&steps, &[Step::Save, left.clone(), probe]));
    // SIGKILL went to the whole cgroup.
    let mut server = with_cgroup(stopping(9, Why::Asked, false, true));
    assert!(!died(&mut server, Exit::Signal(SIGKILL)).contains(&left));
    // One that ended by itself: what it left gets the signal, when there is something.
    let mut server = with_cgroup(up(9));
    assert!(!died(&mut server, Exit::Code(0)).contains(&left));
    let steps = steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), Some(10), steps));
    assert!(in_order(&steps, &[signal(9, SIGTERM, Scope::Group), left.clone()]));
    // Without a cgroup nobody could be found.
    let mut server = server_in(stopping(9, Why::Asked, false, false));
    assert!(!died(&mut server, Exit::Signal(SIGTERM)).contains(&left));
}

#[test]
fn a_new_active_tells_who_left_the_group_again_as_long_as_nobody_was_killed() {
    let left = signal(9, SIGTERM, Scope::LeftGroup);
    for (why, killed, is_told) in
        [(Why::Asked, false, true), (Why::Asked, true, false), (Why::Ended, false, false)]
    {
        let mut server = with_cgroup(stopping(9, why, true, killed));
        let steps = steps_of(&mut server, |s, steps| s.adopt(NOW, steps));
        assert_eq!(steps.contains(&left), is_told, "{why:?} {killed}");
    }
}

#[test]
fn the_cgroup_of_a_start_is_on_record_with_the_child() {
    let mut server = server_in(Phase::Spawning { until: NOW });
    let (number, dir) = (server.rec.start_number, Some("/x".to_string()));
    server.on_cgroup_at(number + 1, dir.clone());
    assert_eq!(server.rec.cgroup, None, "of another start");
    server.on_cgroup_at(number, dir.clone());
    assert_eq!(server.rec.cgroup.as_deref(), dir.as_deref());
    let mut server = server_in(up(9));
    server.on_cgroup_at(server.rec.start_number, dir);
    assert_eq!(server.rec.cgroup, None, "too late");
}

#[test]
fn memory_that_ran_out_is_named_as_the_reason() {
    let mut server = with_cgroup(up(9));
    died(&mut server, Exit::Signal(SIGKILL));
    server.on_oom_killed(process(8), 1);
    assert_eq!(server.rec.reason.as_deref(), Some("killed by SIGKILL"), "another process");
    for _ in 0..2 {
        server.on_oom_killed(process(9), 2);
        let reason = "killed by SIGKILL; its cgroup ran out of memory (processes killed: 2)";
        assert_eq!(server.rec.reason.as_deref(), Some(reason));
    }
    let mut server = with_cgroup(up(9));
    died(&mut server, Exit::Code(1));
    server.on_oom_killed(process(9), 2);
    assert_eq!(server.rec.reason.as_deref(), Some("exit 1"));
}
