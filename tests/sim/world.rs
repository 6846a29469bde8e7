//! The world: virtual time, the queue of what is due, the twins, and one step after another.
//!
//! Must not check anything (`checks.rs` does) nor decide for the core. Every result of an action
//! comes back as an event after a delay, in order per stream of its process.

use crate::chaos::Weathers;
use crate::clients::Clients;
use crate::disk::Disk;
use crate::guard::Guard;
use crate::keeper::KeeperProc;
use crate::link::Link;
use crate::os::{Os, Uid};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::twin::Twin;
use nodemanager::core::{EndAsked, Event, Exit, Identity, Ms, Node, ServerId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// Something that happens at its time.
#[derive(Debug)]
pub enum Due {
    /// An event reaches a twin; over a link, if it came over one.
    Event(Uid, Box<Event>, Option<u64>),
    TwinStarts {
        uid: Uid,
        watches: Option<Uid>,
        revives: bool,
    },
    /// A new active looks at a process on record, in one of its turns.
    Look(Uid, ServerId, Identity),
    /// A child whose gate has been opened goes on to exec.
    ChildGoesOn(Uid),
    /// A server says that it is ready.
    SaysReady(Uid),
    ForkMember(Uid),
    Dies(Uid, Exit),
    /// A dead process whose parent is gone is reaped by the keeper or init.
    ReapOrphan(Uid),
    Continues(Uid),
    Client(usize),
    Fault,
    DiskHasRoom,
    ForkWorks,
}

struct Queued {
    at: u64,
    n: u64,
    due: Due,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.n) == (other.at, other.n)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.n).cmp(&(other.at, other.n))
    }
}

/// Events of one stream arrive in their order.
#[derive(Clone, Copy)]
pub enum Stream {
    Results = 0,
    Servers = 1,
    Pair = 2,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    pub uid: Uid,
    pub role: Option<nodemanager::core::keeper::TwinRole>,
    pub counter: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub takeovers: u64,
    pub steps: u64,
    pub starts: u64,
    pub kills: u64,
    pub answered: u64,
    pub hangs: u64,
    /// How often somebody typed `run` and it started the pair.
    pub runs: u64,
    /// `run` was typed beside a pair whose keeper was dead.
    pub joins: u64,
}

pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub plan: Plan,
    pub os: Os,
    pub disk: Disk,
    pub lock: Option<Uid>,
    pub twins: BTreeMap<Uid, Twin>,
    pub slots: [Slot; 2],
    /// What the pulse says of the end.
    pub end_asked: Option<EndAsked>,
    pub keeper: Option<KeeperProc>,
    pub links: BTreeMap<u64, Link>,
    pub clients: Clients,
    pub guard: Guard,
    pub weather: Weathers,
    pub counts: Counts,
    pub trace: Option<VecDeque<String>>,
    /// How many of the last steps the trace keeps.
    pub trace_length: usize,
    pub failure: Option<String>,
    pub fork_refused: bool,
    /// The list in the state directory.
    pub disabled: BTreeSet<String>,
    pub faults: u64,
    /// The pair has ended because it was asked to.
    pub ended: bool,
    steps_in_ms: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    n: u64,
}

/// More than this is no progress.
const STEPS_IN_MS_MAX: u64 = 20_000;

impl World {
    pub fn new(seed: u64, plan: Plan) -> World {
        let mut world = World {
            now: 1_000,
            rng: Rng::new(seed),
            os: Os::new(plan.has_inodes),
            disk: Disk::default(),
            lock: None,
            twins: BTreeMap::new(),
            slots: [Slot::default(); 2],
            end_asked: None,
            keeper: None,
            links: BTreeMap::new(),
            clients: Clients::new(plan.clients),
            guard: Guard::new(plan.servers.len()),
            weather: Weathers { on: true },
            counts: Counts::default(),
            trace: None,
            trace_length: 60,
            failure: None,
            fork_refused: false,
            disabled: BTreeSet::new(),
            faults: 0,
            ended: false,
            steps_in_ms: 0,
            queue: BinaryHeap::new(),
            n: 0,
            plan,
        };
        world.run_command();
        for client in 0..world.plan.clients {
            world.at(500, Due::Client(client));
        }
        let first_fault = world.plan.weather.fault_every_ms;
        world.at(first_fault, Due::Fault);
        world
    }

    pub fn ms(&self) -> Ms {
        Ms(self.now)
    }

    pub fn at(&mut self, delay_ms: u64, due: Due) {
        self.n += 1;
        self.queue.push(Reverse(Queued { at: self.now + delay_ms, n: self.n, due }));
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= self.trace_length {
                trace.pop_front();
            }
            trace.push_back(format!("{:>7} {}", self.now, text()));
        }
    }

    pub fn fail(&mut self, text: impl FnOnce() -> String) {
        if self.failure.is_none() {
            let text = text();
            self.note(|| format!("*** {text}"));
            self.failure = Some(text);
        }
    }

    /// An event for a twin, later than all before it on that stream.
    pub fn tell(&mut self, to: Uid, stream: Stream, event: Event) {
        let delay_ms = self.rng.delay(3, 200);
        self.tell_after(to, stream, delay_ms, event);
    }

    pub fn tell_after(&mut self, to: Uid, stream: Stream, delay_ms: u64, event: Event) {
        let now = self.now;
        let Some(twin) = self.twins.get_mut(&to) else { return };
        let last = &mut twin.last[stream as usize];
        *last = (*last).max(now + delay_ms);
        let delay_ms = *last - now;
        self.at(delay_ms, Due::Event(to, Box::new(event), None));
    }

    /// The next thing that happens; false when nothing ever will.
    pub fn step(&mut self) -> bool {
        self.counts.steps += 1;
        let queue_at = self.queue.peek().map(|Reverse(queued)| queued.at);
        let twin_at = self.twins.values().filter_map(|t| Some((t.next(self.now)?, t.uid))).min();
        let keeper_at = self.keeper.as_ref().and_then(|keeper| keeper.next(self.now));
        let candidates = [queue_at, twin_at.map(|(at, _)| at), keeper_at];
        let Some(at) = candidates.into_iter().flatten().min() else { return false };
        if at > self.now {
            (self.now, self.steps_in_ms) = (at, 0);
        }
        self.steps_in_ms += 1;
        if self.steps_in_ms > STEPS_IN_MS_MAX {
            self.fail(|| "no end of steps within one millisecond".to_string());
        }
        if queue_at == Some(at) {
            if let Some(Reverse(queued)) = self.queue.pop() {
                self.happen(queued.due);
            }
        } else if let Some((_, uid)) = twin_at.filter(|(twin_at, _)| *twin_at == at) {
            self.step_twin(uid);
        } else {
            self.step_keeper();
        }
        true
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Event(to, event, link) => {
                if let Some(twin) = self.twins.get_mut(&to) {
                    twin.inbox.push_back((*event, link));
                }
            }
            Due::TwinStarts { uid, watches, revives } => self.twin_starts(uid, watches, revives),
            Due::Look(twin, server, process) => self.verify(twin, server, process),
            Due::ChildGoesOn(uid) => self.child_goes_on(uid),
            Due::SaysReady(uid) => self.says_ready(uid),
            Due::ForkMember(uid) => self.fork_member(uid),
            Due::Dies(uid, exit) => self.dies(uid, exit),
            Due::ReapOrphan(uid) => self.reap_orphan(uid),
            Due::Continues(uid) => self.continues(uid),
            Due::Client(client) => self.client_acts(client),
            Due::Fault => self.fault(),
            Due::DiskHasRoom => self.disk.is_full = false,
            Due::ForkWorks => self.fork_refused = false,
        }
    }

    fn twin_starts(&mut self, uid: Uid, watches: Option<Uid>, revives: bool) {
        let now = self.ms();
        let (pair, servers) = (self.plan.pair.clone(), self.plan.servers.clone());
        let Some(twin) = self.twins.get_mut(&uid) else { return };
        let mut node = match watches {
            Some(_) => Node::standby(now, pair, servers),
            None => Node::first(now, pair, servers, revives),
        };
        let mut out = Vec::new();
        node.begin(now, &mut out);
        twin.node = Some(node);
        twin.todo.extend(out.into_iter().map(|action| (action, None)));
        if watches.is_some_and(|active| !self.os.lives(active)) {
            self.tell(uid, Stream::Pair, Event::ActiveDied);
        }
        self.note(|| format!("twin {uid} starts, watches {watches:?}"));
        self.set_role(uid);
    }

    pub fn active(&self) -> Option<&Twin> {
        use nodemanager::core::node::Role;
        self.twins.values().find(|twin| {
            twin.serves && twin.node.as_ref().is_some_and(|node| node.role == Role::Active)
        })
    }
}
