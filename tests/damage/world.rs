//! A machine after the death of both twins, or of the active: servers live, and one file or both are damaged.
//!
//! Must not decide anything that the core decides. It carries out what the core says, remembers who
//! lives, and fails when a server is started beside a living one.

use nodemanager::core::restart::{Policy, Then, When};
use nodemanager::core::{
    Action, Entry, Event, Found, Identity, Ms, Node, PairPlan, Recovered, Scope, ServerId,
    ServerPlan, Survivor,
};

/// Far behind every time on record.
const NOW: Ms = Ms(10_000_000);
/// So much time passes after the start: every delay of a first try is over.
const WATCHED_MS: u64 = 120_000;
const SIGKILL: i32 = 9;

/// A living process of a server.
#[derive(Clone, Debug)]
pub struct Process {
    pub server: usize,
    pub start_number: u64,
    pub identity: Identity,
    /// It wrote over its environment: only its output tells whose it is.
    pub is_unmarked: bool,
}

/// How the next active comes to its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Both twins died; somebody, or the keeper, starts the pair.
    Start { revives: bool },
    /// The standby takes over, with every record copied.
    Takeover,
    /// The standby takes over, before it had every record.
    EarlyTakeover,
}

pub struct World {
    pub names: Vec<String>,
    pub living: Vec<Process>,
    node: Node,
    now: Ms,
    started: Vec<usize>,
    has_exited: bool,
}

/// What the next active did.
#[derive(Debug)]
pub struct Done {
    /// The numbers of the servers that it started.
    pub started: Vec<usize>,
    /// Who lives then.
    pub living: Vec<Process>,
    /// It ended by itself.
    pub has_exited: bool,
}

fn plans(names: &[String]) -> Vec<ServerPlan> {
    let policy = Policy {
        when: When::Always,
        tries: 5,
        window_ms: 60_000,
        delay_ms: 100,
        delay_max_ms: 1_000,
        reset_after_ms: 60_000,
        then: Then::Fail,
        ..Policy::never()
    };
    let plan = |name: &String| ServerPlan {
        auto_start: true,
        ..ServerPlan::new(name).with(|plan| {
            plan.settle_ms = 100;
            plan.policy = policy.clone();
            plan.stop_signal = 15;
            plan.stop_timeout_ms = 1_000;
        })
    };
    names.iter().map(plan).collect()
}

const PLAN: PairPlan = PairPlan {
    has_standby: false,
    heartbeat_interval_ms: 100,
    heartbeat_timeout_ms: 1_000,
    shutdown_timeout_ms: 1_000,
    starts_max: 16,
};

impl World {
    pub fn new(names: &[String], living: Vec<Process>) -> World {
        let node = Node::first(NOW, PLAN, plans(names), false);
        World {
            names: names.to_vec(),
            living,
            node,
            now: NOW,
            started: Vec::new(),
            has_exited: false,
        }
    }

    /// A new active finds this on the disk. Gives what it did.
    ///
    /// # Errors
    /// A server was started although it lives.
    pub fn begin(mut self, way: Way, disk: &Recovered, copy: &[Entry]) -> Result<Done, String> {
        let mut out = Vec::new();
        match way {
            Way::Start { revives } => {
                self.node = Node::first(NOW, PLAN, plans(&self.names), revives);
                self.node.begin(NOW, &mut out);
            }
            Way::Takeover | Way::EarlyTakeover => {
                self.node = Node::standby(NOW, PLAN, plans(&self.names));
                self.node.begin(NOW, &mut out);
                out.clear();
                let is_whole = way == Way::Takeover;
                let copied = copy.iter().take(if is_whole { copy.len() } else { 1 });
                let mut events = vec![Event::LinkUp];
                events.extend(copied.cloned().map(Event::Copied));
                let seq = copy.iter().map(|entry| entry.seq).max().unwrap_or(0);
                events.extend(is_whole.then_some(Event::CopyComplete { seq }));
                for event in events {
                    self.node.handle(NOW, event, &mut Vec::new());
                }
                self.node.handle(NOW, Event::ActiveDied, &mut out);
            }
        }
        self.carry_out(out, disk)?;
        while !self.has_exited
            && let Some(at) = self.node.deadline().filter(|at| at.0 <= NOW.0 + WATCHED_MS)
        {
            self.now = Ms(at.0.max(self.now.0));
            let mut out = Vec::new();
            self.node.tick(self.now, &mut out);
            self.carry_out(out, disk)?;
        }
        Ok(Done { started: self.started, living: self.living, has_exited: self.has_exited })
    }

    fn carry_out(&mut self, actions: Vec<Action>, disk: &Recovered) -> Result<(), String> {
        let mut queue: std::collections::VecDeque<Action> = actions.into();
        let mut steps = 0;
        while let Some(action) = queue.pop_front() {
            steps += 1;
            assert!(steps < 10_000, "the core never comes to rest");
            let mut out = Vec::new();
            for event in self.act(action, disk)? {
                self.node.handle(self.now, event, &mut out);
            }
            queue.extend(out);
        }
        Ok(())
    }

    fn act(&mut self, action: Action, disk: &Recovered) -> Result<Vec<Event>, String> {
        let event = match action {
            Action::TakeLock => Event::Locked,
            Action::ReadJournal { find_survivors, known_seq } => {
                let looks = find_survivors || disk.incomplete;
                let survivors = if looks { self.survivors() } else { Vec::new() };
                let mut read = Recovered { survivors, ..disk.clone() };
                read.entries.retain(|entry| entry.seq > known_seq);
                Event::Recovered(read)
            }
            Action::Save { entry, answer: true } => Event::Saved { seq: entry.seq },
            Action::Verify { server, process, .. } => {
                let lives = self.living.iter().any(|one| one.identity == process);
                let found = if lives { Found::Alive } else { Found::Gone };
                Event::Verified { server, process, found }
            }
            Action::ProbeStrays { server } => {
                let one = self.living.iter().find(|one| one.server == server.0);
                Event::Strays { server, pid: one.map(|one| one.identity.pid) }
            }
            Action::ProbeGroup { server, process } => {
                let one = self.living.iter().find(|one| one.identity == process);
                Event::Group { server, process, living: one.map(|one| one.identity.pid) }
            }
            Action::Signal { server, process, signal, scope } => {
                return Ok(self.signal(server, process, signal, scope));
            }
            Action::Spawn { server, start_number } => return self.spawn(server, start_number),
            Action::OpenGate { server, start_number } => Event::Executed { server, start_number },
            Action::Exit { .. } => {
                self.has_exited = true;
                return Ok(Vec::new());
            }
            Action::Beat => Event::Pulse { counter: self.now.0 },
            _ => return Ok(Vec::new()),
        };
        Ok(vec![event])
    }

    fn spawn(&mut self, server: ServerId, start_number: u64) -> Result<Vec<Event>, String> {
        let name = self.names.get(server.0).cloned().unwrap_or_default();
        if let Some(old) = self.living.iter().find(|one| one.server == server.0) {
            return Err(format!("start {start_number} of {name} while {old:?} lives"));
        }
        self.started.push(server.0);
        let pid = 9_000 + self.started.len() as i32;
        let identity = Identity { pid, start_ticks: 1_000_000 + self.now.0, inode: 0 };
        let is_unmarked = false;
        self.living.push(Process { server: server.0, start_number, identity, is_unmarked });
        Ok(vec![Event::Spawned { server, start_number, process: identity }])
    }

    fn signal(&mut self, server: ServerId, to: Identity, signal: i32, _: Scope) -> Vec<Event> {
        let before = self.living.len();
        if signal == SIGKILL || signal == 15 {
            self.living.retain(|one| one.identity != to);
        }
        let died = Event::Died { server, process: to, exit: None };
        if self.living.len() < before { vec![died] } else { Vec::new() }
    }

    fn survivors(&self) -> Vec<Survivor> {
        let survivor = |one: &Process| Survivor {
            name: self.names[one.server].clone(),
            start_number: if one.is_unmarked { 0 } else { one.start_number },
            process: one.identity,
            leads: true,
        };
        self.living.iter().map(survivor).collect()
    }
}
