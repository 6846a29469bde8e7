//! The active's view of its standby: started, watched, replaced when it died or hung.
//!
//! Must not know about servers. A standby that ends again and again is replaced with a growing
//! delay; one that hangs is killed first, and its death seen, so that there are never two.

use super::record::Identity;
use super::silence::{Silence, Verdict};
use super::time::Ms;
use super::{Action, Note, PairPlan};

/// The first replacement comes at once, the later ones after this, doubled each time.
pub const RETRY_MS: u64 = 200;
/// The longest delay between two replacements.
pub const RETRY_MAX_MS: u64 = 30_000;
/// WATCHING for so long, the failures are forgotten.
pub const STABLE_MS: u64 = 60_000;
/// A standby that is not WATCHING after so many heartbeat timeouts, and whose pulse does not move,
/// is replaced.
pub const START_TIMEOUTS: u64 = 5;
/// SIGKILL is sent again so often to a standby that does not die.
pub const KILL_AGAIN_MS: u64 = 5_000;

/// Where the standby is, as the active sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The configuration has no standbyPort.
    Off,
    /// None is there; the next one is started then. `None`: none is wanted any more.
    Down {
        retry: Option<Ms>,
    },
    /// One was asked for.
    Spawning,
    /// It is there, and must be WATCHING until then.
    Starting {
        process: Identity,
        until: Ms,
    },
    Watching {
        process: Identity,
        since: Ms,
    },
    /// The pair ends; it was told to stop, and is killed then.
    Stopping {
        process: Identity,
        until: Ms,
    },
    /// SIGKILL was sent; its death is waited for.
    Dying {
        process: Identity,
        again: Ms,
    },
}

/// The standby, seen from the active.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Standby {
    pub state: State,
    /// Failures in a row.
    pub failures: u32,
    /// What was heard and seen of it.
    pub silence: Silence,
    /// Why there is none, for people.
    pub reason: Option<String>,
}

impl Standby {
    /// None yet.
    pub fn new(plan: &PairPlan) -> Standby {
        let state = if plan.has_standby { State::Down { retry: None } } else { State::Off };
        Standby { state, failures: 0, silence: Silence::new(Ms(0)), reason: None }
    }

    /// Its process, if there is one.
    pub fn process(&self) -> Option<Identity> {
        match self.state {
            State::Off | State::Down { .. } | State::Spawning => None,
            State::Starting { process, .. }
            | State::Watching { process, .. }
            | State::Stopping { process, .. }
            | State::Dying { process, .. } => Some(process),
        }
    }

    /// It has all records and watches.
    pub fn is_watching(&self) -> bool {
        matches!(self.state, State::Watching { .. })
    }

    pub fn deadline(&self) -> Option<Ms> {
        match self.state {
            State::Off | State::Spawning | State::Watching { .. } => None,
            State::Down { retry } => retry,
            State::Starting { until, .. } | State::Stopping { until, .. } => Some(until),
            State::Dying { again, .. } => Some(again),
        }
    }

    /// Asks for a standby, unless there is one or none is configured.
    pub fn start(&mut self, out: &mut Vec<Action>) {
        if let State::Down { .. } = self.state {
            self.state = State::Spawning;
            out.push(Action::SpawnStandby);
        }
    }

    pub fn on_spawned(&mut self, now: Ms, process: Identity, plan: &PairPlan) {
        let until = now.after(plan.heartbeat_timeout_ms * START_TIMEOUTS);
        self.state = State::Starting { process, until };
        self.silence = Silence::new(now);
    }

    pub fn on_spawn_failed(&mut self, now: Ms, error: String, out: &mut Vec<Action>) {
        self.down(now, format!("cannot start a standby: {error}"), out);
    }

    /// It can be told something from now on. What it was told before did not reach it: one that is
    /// to stop would be waited for until it is killed.
    pub fn on_connected(&self, out: &mut Vec<Action>) {
        if let State::Stopping { .. } = self.state {
            out.push(Action::TellStandbyToStop);
        }
    }

    pub fn on_watching(&mut self, now: Ms, out: &mut Vec<Action>) {
        self.silence.heard = now;
        if let State::Starting { process, .. } = self.state {
            self.state = State::Watching { process, since: now };
            self.reason = None;
            out.push(Action::Note(Note::StandbyUp { process }));
        }
    }

    /// Its connection broke. It connects again by itself; when it does not, it is replaced.
    pub fn on_link_lost(&mut self, now: Ms, plan: &PairPlan, out: &mut Vec<Action>) {
        if let State::Watching { process, .. } = self.state {
            let until = now.after(plan.heartbeat_timeout_ms * START_TIMEOUTS);
            self.state = State::Starting { process, until };
            out.push(Action::Note(Note::LinkLost));
        }
    }

    pub fn on_died(&mut self, now: Ms, process: Identity, out: &mut Vec<Action>) {
        if self.process() != Some(process) {
            return;
        }
        match self.state {
            State::Stopping { .. } => self.state = State::Down { retry: None },
            State::Dying { .. } => self.down(now, "it hung and was killed".to_string(), out),
            State::Watching { since, .. } if now.since(since) >= STABLE_MS => {
                self.failures = 0;
                self.down(now, "it died".to_string(), out);
            }
            _ => self.down(now, "it died".to_string(), out),
        }
    }

    fn down(&mut self, now: Ms, reason: String, out: &mut Vec<Action>) {
        let delay_ms = match self.failures {
            0 => 0,
            n => (RETRY_MS << (n - 1).min(16)).min(RETRY_MAX_MS),
        };
        self.failures = self.failures.saturating_add(1);
        self.state = State::Down { retry: Some(now.after(delay_ms)) };
        self.reason = Some(reason.clone());
        out.push(Action::Note(Note::StandbyDown { reason, retry_ms: delay_ms }));
    }

    pub fn on_deadline(&mut self, now: Ms, plan: &PairPlan, out: &mut Vec<Action>) {
        match self.state {
            State::Down { retry: Some(_) } => self.start(out),
            // Its pulse moves: it works, and only the link does not. Nobody is killed for that.
            State::Starting { process, .. }
                if self.silence.moves(now, plan.heartbeat_timeout_ms) =>
            {
                let until = now.after(plan.heartbeat_timeout_ms * START_TIMEOUTS);
                self.state = State::Starting { process, until };
                self.reason = Some("its pulse moves, but it is not WATCHING".to_string());
            }
            State::Starting { process, .. } => self.kill(now, process, out),
            State::Stopping { process, .. } => {
                out.push(Action::Note(Note::StandbyKilledAtStop));
                out.push(Action::KillStandby { process });
                self.state = State::Stopping { process, until: now.after(KILL_AGAIN_MS) };
            }
            State::Dying { process, .. } => {
                self.state = State::Dying { process, again: now.after(KILL_AGAIN_MS) };
                out.push(Action::KillStandby { process });
            }
            State::Off | State::Down { retry: None } | State::Spawning | State::Watching { .. } => {
            }
        }
    }

    fn kill(&mut self, now: Ms, process: Identity, out: &mut Vec<Action>) {
        self.reason = Some("it hangs and is being killed".to_string());
        self.state = State::Dying { process, again: now.after(KILL_AGAIN_MS) };
        out.push(Action::Note(Note::StandbyHung { process }));
        out.push(Action::KillStandby { process });
    }

    /// Its pulse, looked at with every own heartbeat; `late` as in [`Silence::look`].
    pub fn on_pulse(
        &mut self,
        now: Ms,
        counter: u64,
        late: bool,
        plan: &PairPlan,
        out: &mut Vec<Action>,
    ) {
        let verdict = self.silence.look(now, counter, late, plan.heartbeat_timeout_ms);
        let State::Watching { process, .. } = self.state else { return };
        match verdict {
            Verdict::Alive => {}
            Verdict::LinkIsBroken => {
                out.push(Action::DropStandbyLink);
                out.push(Action::Note(Note::LinkRebuilt));
                let until = now.after(plan.heartbeat_timeout_ms * START_TIMEOUTS);
                self.state = State::Starting { process, until };
            }
            Verdict::Hangs => self.kill(now, process, out),
        }
    }

    /// The pair ends: it is told to, and killed when it does not answer in time.
    pub fn stop(&mut self, now: Ms, plan: &PairPlan, out: &mut Vec<Action>) {
        match self.state {
            State::Starting { process, .. } | State::Watching { process, .. } => {
                let until = now.after(plan.heartbeat_timeout_ms);
                self.state = State::Stopping { process, until };
                out.push(Action::TellStandbyToStop);
            }
            State::Down { .. } => self.state = State::Down { retry: None },
            State::Dying { process, again } => {
                self.state = State::Stopping { process, until: again };
            }
            // The answer to the spawn is owed; it is stopped when it is there.
            State::Spawning | State::Off | State::Stopping { .. } => {}
        }
    }

    /// No standby is left.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Off | State::Down { .. })
    }
}
