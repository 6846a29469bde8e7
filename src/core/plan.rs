//! What the core needs to know of the configuration.
//!
//! Plain values; must hold no behaviour beyond their defaults.

use super::ServerId;
use super::name::Name;
use super::record::TaskKind;
use super::restart::Policy;
use serde::{Deserialize, Serialize};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// What the core needs to know of a server's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerPlan {
    pub name: Name,
    /// Rises when the definition changes in a way that needs a restart.
    pub revision: u64,
    /// Wanted up in a new life.
    pub auto_start: bool,
    /// It is on record and alive, but the configuration does not name it any more.
    pub left_over: bool,
    /// Shared with servers that have the same.
    pub rules: Arc<Rules>,
}

/// How a server is run: what all instances of a program have alike, and mostly all servers, so that it
/// is kept once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    pub kind: Kind,
    /// Without a readiness check: up for so long, it counts as RUNNING.
    pub settle_ms: u64,
    /// How it shows that it is ready.
    pub ready: Option<Ready>,
    /// Not ready after that, it failed to start. With a readiness check, and for a oneshot.
    pub start_timeout_ms: u64,
    /// Looked at while it is RUNNING.
    pub health: Vec<Health>,
    pub policy: Policy,
    pub stop_signal: i32,
    pub stop_timeout_ms: u64,
    /// What makes it read its configuration again.
    pub reload: Option<Reload>,
    /// The hooks and the stop command that it has, with their times; never those of a reload or a
    /// drain.
    pub tasks: Vec<(TaskKind, u64)>,
    pub drain: Option<Drain>,
    /// Its start waits until these are ready.
    pub needs: Vec<Need>,
    /// When it is FAILED the pair ends.
    pub essential: bool,
}

/// What kind of program a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Its first process is the server.
    Simple,
    /// Its first process ends well once another one is up, which is the server.
    Forking,
    /// It does its work and ends.
    Oneshot,
}

/// How a server shows that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ready {
    /// It says so itself.
    Told,
    /// It is asked, `interval_ms` after each answer; an answer takes at most `timeout_ms`.
    Asked { interval_ms: u64, timeout_ms: u64 },
}

/// One health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// It must give a sign of life so often.
    Watchdog { timeout_ms: u64 },
    /// It is asked. After `failures` bad answers in a row, and after they came for `for_ms`, it is
    /// restarted.
    Asked { interval_ms: u64, timeout_ms: u64, failures: u32, for_ms: u64 },
}

/// What makes a server read its configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reload {
    Signal(i32),
    Command { timeout_ms: u64 },
}

/// How a server is brought to have no work left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Drain {
    /// A command makes it take no new work.
    pub has_command: bool,
    /// Another one says whether work is left, `interval_ms` after each answer.
    pub has_check: bool,
    pub interval_ms: u64,
    /// For all of it together.
    pub timeout_ms: u64,
    /// Not drained in time, it goes on running.
    pub keeps: bool,
    pub on_stop: bool,
    pub on_restart: bool,
}

/// A server that another one needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Need {
    pub server: ServerId,
    pub on_failure: OnFailure,
}

/// What happens to a server when one that it needs ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Nothing.
    Keep,
    /// It is stopped, and waits until the other is ready again.
    Stop,
    /// It is restarted once the other is ready again.
    Restart,
}

/// What the core needs to know of the pair's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PairPlan {
    /// There is a standbyPort.
    pub has_standby: bool,
    pub heartbeat_interval_ms: u64,
    pub heartbeat_timeout_ms: u64,
    /// For all servers together, when the pair ends with them.
    pub shutdown_timeout_ms: u64,
    /// So many servers may be on their way to being ready at the same time.
    pub starts_max: usize,
}

impl ServerPlan {
    /// A server of which only the name is known: it is started when asked for, and never by itself.
    pub fn new(name: impl Into<Name>) -> ServerPlan {
        ServerPlan::of(name, Rules::default())
    }

    /// A server that is run so, and starts when it is asked for.
    pub fn of(name: impl Into<Name>, rules: Rules) -> ServerPlan {
        let (revision, auto_start, left_over) = (0, false, false);
        ServerPlan { name: name.into(), revision, auto_start, left_over, rules: rules.into() }
    }

    /// The same plan but for what is done to it here.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut ServerPlan)) -> ServerPlan {
        change(&mut self);
        self
    }

    /// Keeps what this one has like the other one only once.
    pub fn share_with(&mut self, other: &ServerPlan) {
        if self.rules == other.rules {
            self.rules = Arc::clone(&other.rules);
        }
    }
}

impl Default for Rules {
    /// Nothing is done by itself, and a stop is SIGTERM.
    fn default() -> Rules {
        const SIGTERM: i32 = 15;
        Rules {
            kind: Kind::Simple,
            settle_ms: 0,
            ready: None,
            start_timeout_ms: 60_000,
            health: Vec::new(),
            policy: Policy::never(),
            stop_signal: SIGTERM,
            stop_timeout_ms: 10_000,
            reload: None,
            tasks: Vec::new(),
            drain: None,
            needs: Vec::new(),
            essential: false,
        }
    }
}

/// The rules are what most of the core asks a plan for.
impl Deref for ServerPlan {
    type Target = Rules;

    fn deref(&self) -> &Rules {
        &self.rules
    }
}

/// Who changes the rules of a server has them alone from then on.
impl DerefMut for ServerPlan {
    fn deref_mut(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.rules)
    }
}

impl Rules {
    /// How long a task of this kind may take; `None`: the server has none.
    pub fn task_timeout_ms(&self, kind: TaskKind) -> Option<u64> {
        match (kind, self.reload, self.drain) {
            (TaskKind::Reload, Some(Reload::Command { timeout_ms }), _) => Some(timeout_ms),
            (TaskKind::Drain, _, Some(drain)) => drain.has_command.then_some(drain.timeout_ms),
            (TaskKind::Reload | TaskKind::Drain, ..) => None,
            _ => self.tasks.iter().find(|(own, _)| *own == kind).map(|(_, ms)| *ms),
        }
    }
}
