//! The safety rules that hold after every step, whatever it was.
//!
//! Must not change the world.

use crate::os::Uid;
use crate::world::World;
use nodemanager::core::node::{Role, Timer};
use nodemanager::core::promotion::Step;
use nodemanager::core::standby::State;
use nodemanager::core::{Exit, Node, Phase};

impl World {
    /// After a step of this twin (it may have died in it).
    pub fn check_twin(&mut self, uid: Uid) {
        self.one_active();
        let Some(twin) = self.twins.get(&uid) else { return };
        let Some(node) = &twin.node else { return };
        let problem = exits_are_true(self, node).or_else(|| waits_are_armed(node));
        if let Some(problem) = problem {
            self.fail(|| format!("twin {uid}: {problem}"));
        }
    }

    fn one_active(&mut self) {
        let is_active = |node: &Node| node.role == Role::Active;
        let mut actives =
            self.twins.values().filter(|twin| twin.node.as_ref().is_some_and(is_active));
        let (first, second) = (actives.next().map(|t| t.uid), actives.next().map(|t| t.uid));
        if let (Some(first), Some(second)) = (first, second) {
            return self.fail(|| format!("1: {first} and {second} are both active"));
        }
        let holder = self.lock;
        if first.is_some() && holder != first {
            self.fail(|| format!("1: {first:?} is active, the lock is held by {holder:?}"));
        }
    }
}

/// 6: a status is the true one, or unknown.
fn exits_are_true(world: &World, node: &Node) -> Option<String> {
    for server in &node.servers {
        let Some(last) = &server.rec.last_exit else { continue };
        let truth = world.os.exits.get(&last.process).copied();
        if last.exit != Exit::Unknown && Some(last.exit) != truth {
            return Some(format!(
                "6: {:?} is said to be {:?}, is {truth:?}",
                last.process, last.exit
            ));
        }
    }
    None
}

/// Whoever waits has a deadline.
fn waits_are_armed(node: &Node) -> Option<String> {
    let armed = node.armed();
    let is_armed = |timer: Timer| armed.contains(&timer);
    if node.role != Role::Ended && !is_armed(Timer::Beat) {
        return Some("no heartbeat is armed".to_string());
    }
    if node.role == Role::Active {
        for server in &node.servers {
            let is_queued = server.rec.phase == Phase::Queued;
            if is_queued && node.obstacle(server.id).is_none() {
                return Some(format!("{} is queued, and nothing is in its way", server.rec.name));
            }
            let waits = !server.is_left_undone()
                && !matches!(
                    server.rec.phase,
                    Phase::Queued | Phase::Down | Phase::Failed | Phase::Exited | Phase::Up { .. }
                );
            let timer = match server.rec.phase {
                // Its hooks wait for its exit status.
                Phase::Closing { .. } if server.status_due.is_some() => Timer::Status(server.id),
                Phase::Preparing | Phase::Closing { .. } => Timer::Task(server.id),
                _ => Timer::Server(server.id),
            };
            if waits && !is_armed(timer) {
                return Some(format!("{:?} waits without a timer", server.rec.phase));
            }
        }
        let waits = match node.standby.state {
            State::Down { retry } => retry.is_some(),
            State::Starting { .. } | State::Stopping { .. } | State::Dying { .. } => true,
            State::Off | State::Spawning | State::Watching { .. } => false,
        };
        if waits && !is_armed(Timer::Standby) {
            return Some(format!("{:?} waits without a timer", node.standby.state));
        }
    }
    let is_fencing = node.promotion.as_ref().is_some_and(|going| going.step == Step::Fence);
    if is_fencing && !is_armed(Timer::Promotion) {
        return Some("a fence waits without a timer".to_string());
    }
    None
}
