//! What surrounds the twins in the search: processes, the lock, the disk, the links, requests.
//!
//! Must not decide anything that the core decides. Time does not exist here: every moment is 0,
//! and a timer that is armed may fire.

use crate::budget::Budget;
use crate::explore::hash;
use nodemanager::core::ask::Verb;
use nodemanager::core::node::{Node, Role};
use nodemanager::core::plan::{Health, Ready, Rules};
use nodemanager::core::record::TaskKind;
use nodemanager::core::restart::{Policy, Then, When};
use nodemanager::core::{
    Action, EndAsked, Entry, Event, Exit, Identity, Ms, PairPlan, Phase, Record, ServerPlan, Wanted,
};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

pub const NOW: Ms = Ms(0);
pub const SIGKILL: i32 = 9;

/// When the messages of a link arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkPace {
    AtOnce,
    /// Late, but all that is on the way together.
    Late,
    /// With anything in between.
    OneByOne,
}

/// What stays as it is on all paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    pub has_standby: bool,
    pub link: LinkPace,
    /// The server is asked whether it is ready, and well.
    pub is_checked: bool,
    /// It has a preStart hook and a stop command.
    pub has_commands: bool,
}

/// A message on a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    Copied(Rc<Entry>),
    CopyComplete { seq: u64 },
    Stop,
    Ack { seq: u64 },
    Watching,
}

/// A standby's connection to its active.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Link {
    pub to_standby: VecDeque<Message>,
    pub to_active: VecDeque<Message>,
}

/// A living twin. Its PID is `generation`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Twin {
    pub generation: i32,
    /// The active that started it as its standby.
    pub parent: Option<i32>,
    pub node: Node,
    /// What it has decided and not done yet.
    pub queue: VecDeque<Action>,
    /// What it will hear, in any order that `may_hear` allows.
    pub inbox: Vec<Event>,
    pub link: Option<Link>,
    /// It was killed and does nothing any more, but is not dead: it holds its lock.
    pub is_dying: bool,
}

/// How far a server's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    AtGate {
        discarded: bool,
    },
    /// The gate is open, exec not done.
    Passing,
    /// The gate is open; somebody else holds its lock.
    Locking,
    Running,
    /// Its parent has not reaped it.
    Zombie(Exit),
    Gone(Exit),
}

/// A process of the one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub pid: i32,
    pub start_number: u64,
    /// The twin that forked it.
    pub parent: i32,
    /// The twin that watches it without being its parent.
    pub watcher: Option<i32>,
    pub life: Life,
    /// A process of its group lives beside it.
    pub has_member: bool,
    /// Its record was on the disk, or a standby had it.
    pub was_recorded: bool,
    pub was_on_disk: bool,
    /// The active that read its exit status from the keeper.
    pub told: Option<i32>,
}

impl Process {
    pub fn identity(&self) -> Identity {
        Identity { pid: self.pid, start_ticks: 7, inode: 0 }
    }

    pub fn is_alive(&self) -> bool {
        let is_before_exec =
            matches!(self.life, Life::AtGate { .. } | Life::Passing | Life::Locking);
        is_before_exec || self.life == Life::Running
    }

    /// Part of it runs as the server, or is about to.
    pub fn is_a_copy(&self) -> bool {
        matches!(self.life, Life::Passing | Life::Running) || self.has_member
    }
}

/// A client that asks, and asks again when the active died.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    pub verb: Verb,
    /// The twin that has it.
    pub asked: Option<i32>,
    pub is_answered: bool,
}

/// Everything. What seldom changes is shared between states.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    pub setting: Setting,
    pub budget: Budget,
    pub twins: Vec<Rc<Twin>>,
    pub generations: i32,
    pub lock: Option<i32>,
    pub disk: Rc<BTreeMap<String, Entry>>,
    pub processes: Vec<Process>,
    pub commands: Vec<crate::commands::Command>,
    /// The preStart hook ended well, and no child passed its gate since.
    pub is_prepared: bool,
    /// What the keeper reaped and no twin has read.
    pub statuses: Vec<(i32, Exit)>,
    pub requests: Vec<Request>,
    /// The pair was stopped, and the active ended by itself.
    pub has_ended: bool,
    /// What the pulse says of the end; a person who starts the pair again makes a new one.
    pub end_asked: Option<EndAsked>,
    /// Every record that should be on the disk is there.
    pub disk_is_whole: bool,
    /// What went wrong in the step that led here.
    pub broken: Option<String>,
}

/// Durations of 0 where a comparison would hide a case, of 1 where a phase would be skipped.
fn pair_plan(has_standby: bool) -> PairPlan {
    PairPlan {
        has_standby,
        heartbeat_interval_ms: 0,
        heartbeat_timeout_ms: 0,
        shutdown_timeout_ms: 1,
        starts_max: 16,
    }
}

fn server_plan(setting: &Setting) -> ServerPlan {
    let is_checked = setting.is_checked;
    let commands = vec![(TaskKind::PreStart, 1), (TaskKind::Stop, 1)];
    let (interval_ms, timeout_ms) = (1, 1);
    let health = Health::Asked { interval_ms, timeout_ms, failures: 1, for_ms: 0 };
    let rules = Rules {
        ready: is_checked.then_some(Ready::Asked { interval_ms, timeout_ms }),
        health: if is_checked { vec![health] } else { Vec::new() },
        settle_ms: 1,
        policy: Policy {
            when: When::OnFailure,
            tries: 1,
            window_ms: 1,
            delay_ms: 1,
            delay_max_ms: 1,
            reset_after_ms: 1,
            then: Then::Fail,
            ..Policy::never()
        },
        stop_signal: 15,
        stop_timeout_ms: 1,
        tasks: if setting.has_commands { commands } else { Vec::new() },
        ..Rules::default()
    };
    ServerPlan { auto_start: true, ..ServerPlan::of("web", rules) }
}

impl Pair {
    /// Nobody is there yet but the first active.
    pub fn new(setting: Setting, budget: Budget) -> Pair {
        let mut pair = Pair {
            setting,
            budget,
            twins: Vec::new(),
            generations: 0,
            lock: None,
            disk: Rc::default(),
            processes: Vec::new(),
            commands: Vec::new(),
            is_prepared: false,
            statuses: Vec::new(),
            requests: Vec::new(),
            has_ended: false,
            end_asked: None,
            disk_is_whole: true,
            broken: None,
        };
        pair.start_active(false);
        pair
    }

    pub fn start_active(&mut self, revives: bool) {
        let node = Node::first(
            NOW,
            pair_plan(self.setting.has_standby),
            vec![server_plan(&self.setting)],
            revives,
        );
        self.add_twin(node, None);
    }

    pub fn start_standby(&mut self, parent: i32) -> i32 {
        let node = Node::standby(
            NOW,
            pair_plan(self.setting.has_standby),
            vec![server_plan(&self.setting)],
        );
        self.add_twin(node, Some(parent))
    }

    fn add_twin(&mut self, mut node: Node, parent: Option<i32>) -> i32 {
        self.generations += 1;
        let mut out = Vec::new();
        node.begin(NOW, &mut out);
        let generation = self.generations;
        let (queue, inbox, link) = (VecDeque::new(), Vec::new(), None);
        let is_dying = false;
        let mut twin = Twin { generation, parent, node, queue, inbox, link, is_dying };
        twin.take(out);
        self.twins.push(Rc::new(twin));
        generation
    }

    pub fn twin(&mut self, generation: i32) -> Option<&mut Twin> {
        let twin = self.twins.iter_mut().find(|twin| twin.generation == generation);
        twin.map(Rc::make_mut)
    }

    /// The standby of an active.
    pub fn standby_of(&mut self, generation: i32) -> Option<&mut Twin> {
        let twin = self.twins.iter_mut().find(|twin| twin.parent == Some(generation));
        twin.map(Rc::make_mut)
    }

    pub fn process(&mut self, pid: i32) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.pid == pid)
    }

    pub fn fail(&mut self, error: String) {
        self.broken.get_or_insert(error);
    }

    /// An event for a twin, if it lives.
    pub fn owe(&mut self, generation: i32, event: Event) {
        if let Some(twin) = self.twin(generation) {
            twin.owe(event);
        }
    }

    /// A twin is dead: the kernel lets go of its lock, and says so to who watches it.
    pub fn end_twin(&mut self, generation: i32) {
        let Some(index) = self.twins.iter().position(|twin| twin.generation == generation) else {
            return;
        };
        let dead = self.twins.remove(index);
        if self.lock == Some(generation) {
            self.lock = None;
        }
        if let Some(parent) = dead.parent {
            if dead.link.is_some() {
                self.owe(parent, Event::StandbyLinkLost);
            }
            self.owe(parent, Event::StandbyDied { process: twin_identity(generation) });
        }
        if let Some(twin) = self.standby_of(generation) {
            twin.owe(Event::ActiveDied);
            if twin.link.is_some() {
                twin.owe(Event::LinkDown);
            }
        }
        // PR_SET_PDEATHSIG ends a child with its parent until the moment before exec. That moment
        // counts here where the disk knows the child. Where only the dead standby knew it, it is
        // a limit: disk full, both twins killed, and all that within one exec.
        let is_lost = |process: &&Process| {
            process.parent == generation && process.life == Life::Passing && !process.was_on_disk
        };
        let lost: Vec<i32> = self.processes.iter().filter(is_lost).map(|p| p.pid).collect();
        lost.into_iter().for_each(|pid| self.end_process(pid, Exit::Signal(SIGKILL)));
        // The keeper reaps what the dead one left.
        for process in self.processes.iter_mut().filter(|process| process.parent == generation) {
            if let Life::Zombie(exit) = process.life {
                process.life = Life::Gone(exit);
                self.statuses.push((process.pid, exit));
            }
        }
        self.statuses.sort_by_key(|(pid, _)| *pid);
    }

    /// A leader is dead: its parent hears of it, else the keeper and whoever watches it.
    pub fn end_process(&mut self, pid: i32, exit: Exit) {
        let living: Vec<i32> = self.twins.iter().map(|twin| twin.generation).collect();
        let Some(process) = self.process(pid).filter(|process| process.is_alive()) else { return };
        let server = nodemanager::core::ServerId(0);
        let identity = process.identity();
        if living.contains(&process.parent) {
            process.life = Life::Zombie(exit);
            let parent = process.parent;
            self.owe(parent, Event::Died { server, process: identity, exit: Some(exit) });
            return;
        }
        process.life = Life::Gone(exit);
        let watcher = process.watcher;
        self.statuses.push((pid, exit));
        self.statuses.sort_by_key(|(pid, _)| *pid);
        if let Some(watcher) = watcher {
            self.owe(watcher, Event::Died { server, process: identity, exit: None });
        }
    }

    /// A living process of the server's group.
    pub fn group_of(&self, pid: i32) -> Option<i32> {
        let process = self.processes.iter().find(|process| process.pid == pid)?;
        (process.is_alive() || process.has_member).then_some(pid)
    }

    pub fn active(&self) -> Option<&Twin> {
        self.twins.iter().find(|twin| twin.node.role == Role::Active).map(Rc::as_ref)
    }

    pub fn ending_is_done(&self) -> bool {
        let node = self.disk.get("").map(|entry| &entry.record);
        matches!(node, Some(Record::Node(node)) if node.ending.as_ref().is_some_and(|e| e.done))
    }

    /// The server is as it is wanted, or given up with a reason.
    pub fn server_is_well(&self, twin: &Twin) -> bool {
        let Some(server) = twin.node.servers.first() else { return false };
        let runs = |pid| {
            self.processes.iter().any(|process| process.pid == pid && process.life == Life::Running)
        };
        match (&server.rec.phase, server.rec.wanted) {
            (Phase::Up { process }, Wanted::Up) => runs(process.pid),
            (Phase::Failed, Wanted::Up) => server.rec.reason.is_some(),
            (Phase::Exited, Wanted::Up) | (Phase::Down, Wanted::Down) => true,
            _ => false,
        }
    }
}

impl Twin {
    /// New decisions. What nobody outside can see is not worth a state.
    pub fn take(&mut self, actions: Vec<Action>) {
        let is_seen = |action: &Action| {
            !matches!(action, Action::Note(_) | Action::Hold { .. } | Action::LeaveMover)
        };
        self.queue.extend(actions.into_iter().filter(is_seen));
    }

    pub fn hear(&mut self, event: Event) {
        let mut out = Vec::new();
        self.node.handle(NOW, event, &mut out);
        self.take(out);
    }

    /// Kept in an order of its own, so that the order of arrival makes no further state.
    pub fn owe(&mut self, event: Event) {
        if !self.inbox.contains(&event) {
            self.inbox.push(event);
            self.inbox.sort_by_cached_key(hash);
        }
    }

    pub fn has(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.inbox.iter().any(is_it)
    }

    /// The shell hands on some news only after other news.
    pub fn may_hear(&self, event: &Event) -> bool {
        let spawned =
            |pid| self.has(|e| matches!(e, Event::Spawned { process, .. } if process.pid == pid));
        match event {
            Event::Executed { .. } | Event::ChildFailed { .. } => {
                !self.has(|e| matches!(e, Event::ChildWaits { .. }))
            }
            Event::Died { process, .. } => !spawned(process.pid),
            Event::TaskEnded { .. } => !self.has(|e| matches!(e, Event::TaskSpawned { .. })),
            Event::StandbyLinkLost | Event::StandbyDied { .. } => {
                !self.has(|e| matches!(e, Event::StandbySpawned { .. }))
            }
            Event::StandbyConnected => {
                !self.has(|e| matches!(e, Event::StandbySpawned { .. } | Event::StandbyLinkLost))
            }
            _ => true,
        }
    }

    /// News of its standby's connection comes before what the standby says over it.
    pub fn awaits_link(&self) -> bool {
        self.has(|event| matches!(event, Event::StandbyLinkLost | Event::StandbyConnected))
    }

    /// It has done all that it decided, and waits for what comes.
    pub fn is_free(&self) -> bool {
        self.queue.is_empty() && !self.is_dying
    }

    pub fn is_quiet(&self) -> bool {
        self.is_free() && self.inbox.is_empty()
    }
}

pub fn twin_identity(generation: i32) -> Identity {
    Identity { pid: generation, start_ticks: 1, inode: 0 }
}
