//! One twin: joins the pair's roles, the servers, the requests and the timers.
//!
//! Must not know how anything is done. `handle` takes one event, `tick` whatever is due; both
//! append to the caller's list, so there is nothing to drain and nothing to forget.

use super::ask::{Goal, Outcome};
use super::ending::Progress;
use super::order::Order;
use super::promotion::Promotion;
use super::record::{Entry, NodeRecord, Record};
use super::server::{Server, Step, Steps};
use super::standby::Standby;
use super::switchover::Handing;
use super::time::{Key, Ms, Timers};
use super::watch::{Watch, grown_timeout_ms};
use super::{Action, ClientId, Event, PairPlan, ServerId, ServerPlan};
use std::collections::{BTreeMap, BTreeSet};

/// What this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Standby,
    /// On its way to being active: nothing is served, nothing is done to servers.
    Promoting,
    Active,
    Ended,
}

/// The keys of the one table of deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    Beat,
    Connect,
    Promotion,
    Standby,
    Ending,
    /// The record of a handover is owed.
    Handover,
    Server(ServerId),
    Checks(ServerId),
    /// The exit status that the answer to a stop waits for.
    Status(ServerId),
    /// The command that runs beside a server.
    Task(ServerId),
}

impl Key for Timer {
    /// First those of the pair, then those of each server, side by side.
    fn place(self) -> usize {
        const OF_PAIR: usize = 6;
        const OF_SERVER: usize = 4;
        let of = |id: ServerId, which| OF_PAIR + OF_SERVER * id.0 + which;
        match self {
            Timer::Beat => 0,
            Timer::Connect => 1,
            Timer::Promotion => 2,
            Timer::Standby => 3,
            Timer::Ending => 4,
            Timer::Handover => 5,
            Timer::Server(id) => of(id, 0),
            Timer::Checks(id) => of(id, 1),
            Timer::Status(id) => of(id, 2),
            Timer::Task(id) => of(id, 3),
        }
    }
}

/// What waits for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Gate {
    /// The child with this start number.
    Start(u64),
    /// The task with this number.
    Task(u64),
}

/// One twin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub role: Role,
    pub plan: PairPlan,
    /// Of the configured servers, until they are built of them.
    pub(super) plans: Vec<ServerPlan>,
    pub record: NodeRecord,
    pub servers: Vec<Server>,
    pub watch: Watch,
    pub standby: Standby,
    pub promotion: Option<Promotion>,
    pub(super) ending: Option<Progress>,
    pub(super) handing: Option<Handing>,
    /// Clients that wait until the pair is whole after a switchover.
    pub(super) whole_waits: BTreeSet<ClientId>,
    pub(super) order: Order,
    /// Started by the keeper because nobody served, not by a person.
    pub(super) revives: bool,
    /// This process was not on time at its last heartbeat.
    pub(super) was_late: bool,
    /// When that was.
    pub(super) beaten_at: Ms,
    pub(super) timers: Timers<Timer>,
    pub(super) seq: u64,
    /// Entries on which a gate waits.
    pub(super) gates: BTreeMap<u64, (ServerId, Gate)>,
    /// Clients that wait, by server.
    pub(super) waits: BTreeMap<ServerId, Vec<(ClientId, Goal)>>,
    /// What clients that wait have been promised so far.
    pub(super) pending: BTreeMap<ClientId, Pending>,
    pub(super) out: Vec<Action>,
}

/// What a client that waits is still owed, and what it will get.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub left: BTreeSet<ServerId>,
    pub outcomes: Vec<Outcome>,
}

impl Node {
    /// The first active. `revives`: the keeper starts it because nobody served any more.
    pub fn first(now: Ms, plan: PairPlan, plans: Vec<ServerPlan>, revives: bool) -> Node {
        let mut node = Node::new(now, plan, plans, Role::Promoting, revives);
        node.promotion = Some(Promotion::start(now, &mut node.out));
        node
    }

    /// A standby.
    pub fn standby(now: Ms, plan: PairPlan, plans: Vec<ServerPlan>) -> Node {
        let mut node = Node::new(now, plan, plans, Role::Standby, true);
        node.watch.begin(now, &mut node.out);
        node
    }

    fn new(now: Ms, plan: PairPlan, plans: Vec<ServerPlan>, role: Role, revives: bool) -> Node {
        let mut timers = Timers::default();
        timers.set(Timer::Beat, Some(now.after(plan.heartbeat_interval_ms)));
        Node {
            role,
            standby: Standby::new(&plan),
            plan,
            plans,
            record: NodeRecord::default(),
            servers: Vec::new(),
            watch: Watch::new(now),
            promotion: None,
            ending: None,
            handing: None,
            whole_waits: BTreeSet::new(),
            order: Order::default(),
            revives,
            was_late: false,
            beaten_at: now,
            timers,
            seq: 0,
            gates: BTreeMap::new(),
            waits: BTreeMap::new(),
            pending: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// When `tick` is due.
    pub fn deadline(&self) -> Option<Ms> {
        self.timers.next()
    }

    /// The timers that are armed.
    pub fn armed(&self) -> Vec<Timer> {
        self.timers.armed().into_iter().collect()
    }

    /// Takes one event.
    pub fn handle(&mut self, now: Ms, event: Event, out: &mut Vec<Action>) {
        self.on_event(now, event);
        self.after_step(now, out);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Ms, out: &mut Vec<Action>) {
        // Who was not on time itself (stopped, starved, suspended) may not judge others by it.
        let late = self.is_late(now);
        while let Some(timer) = self.timers.pop_due(now) {
            self.fire(now, timer, late);
        }
        self.after_step(now, out);
    }

    /// Fires one armed timer, whenever it is due (for the search, which forgets when).
    pub fn fire_armed(&mut self, now: Ms, timer: Timer, out: &mut Vec<Action>) {
        self.timers.set(timer, None);
        self.fire(now, timer, false);
        self.after_step(now, out);
    }

    /// The actions that were due before the first event.
    pub fn begin(&mut self, now: Ms, out: &mut Vec<Action>) {
        self.after_step(now, out);
    }

    fn is_late(&self, now: Ms) -> bool {
        let due = self.timers.get(Timer::Beat).unwrap_or(now);
        now.since(due) > self.plan.heartbeat_interval_ms
    }

    /// The answer to the last heartbeat says nothing about the other twin: this process was late
    /// with the heartbeat, or was stopped between it and the answer.
    pub(super) fn take_staleness(&mut self, now: Ms) -> bool {
        let was_late = std::mem::take(&mut self.was_late);
        was_late || now.since(self.beaten_at) > self.plan.heartbeat_interval_ms
    }

    /// How long this active may hang before its standby acts.
    pub fn hang_timeout_ms(&self, now: Ms) -> u64 {
        grown_timeout_ms(&self.record.hangs, now, &self.plan)
    }

    fn after_step(&mut self, now: Ms, out: &mut Vec<Action>) {
        self.settle_order(now);
        self.advance_ending(now);
        self.arm();
        if out.is_empty() {
            // A takeover's are thousands: neither copied, nor is their room kept.
            *out = std::mem::take(&mut self.out);
        } else {
            out.append(&mut self.out);
        }
    }

    fn arm(&mut self) {
        let connect = (self.role == Role::Standby).then_some(self.watch.connect).flatten();
        self.timers.set(Timer::Connect, connect);
        let until = self.promotion.as_ref().and_then(|promotion| promotion.until);
        self.timers.set(Timer::Promotion, until);
    }

    fn fire(&mut self, now: Ms, timer: Timer, late: bool) {
        match timer {
            Timer::Beat => {
                self.timers.set(Timer::Beat, Some(now.after(self.plan.heartbeat_interval_ms)));
                // Until an answer has come: it may be the one to a heartbeat before.
                self.was_late |= late;
                self.beaten_at = now;
                self.out.push(Action::Beat);
            }
            Timer::Connect => self.watch.on_connect_deadline(now, &mut self.out),
            Timer::Promotion => {
                if let Some(promotion) = &mut self.promotion {
                    promotion.on_deadline(now, &mut self.out);
                }
            }
            Timer::Standby => {
                self.standby.on_deadline(now, &self.plan, &mut self.out);
                self.arm_standby();
            }
            Timer::Ending => self.on_ending_deadline(now),
            Timer::Handover => self.cancel_handover("its record could not be written"),
            Timer::Server(id) => {
                self.with_server(id, |server, steps| server.on_deadline(now, steps));
            }
            Timer::Checks(id) => {
                self.with_server(id, |server, steps| server.on_check_due(now, steps));
            }
            Timer::Status(id) => {
                self.with_server(id, |server, steps| server.on_status_settled(now, steps));
            }
            Timer::Task(id) => {
                self.with_server(id, |server, steps| server.on_task_deadline(now, steps));
            }
        }
    }

    // ---- records

    /// All records as they are now; what a new generation of the journal begins with.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries_with(self.servers.iter())
    }

    fn entries_with<'a>(&self, servers: impl Iterator<Item = &'a Server>) -> Vec<Entry> {
        let entry = |record| Entry { seq: self.seq, record };
        let servers = servers.map(|server| entry(Record::Server(server.rec.clone())));
        std::iter::once(entry(Record::Node(self.record.clone().into()))).chain(servers).collect()
    }

    /// The node's record and these servers'.
    pub(super) fn entries_of(&self, servers: &[ServerId]) -> Vec<Entry> {
        let servers = servers.iter().filter_map(|id| self.servers.get(id.0));
        self.entries_with(servers)
    }

    pub(super) fn save_node(&mut self) {
        self.save_node_and(false);
    }

    /// `Event::Saved` comes when it is on disk.
    pub(super) fn save_node_for_handover(&mut self) {
        self.save_node_and(true);
    }

    fn save_node_and(&mut self, answer: bool) {
        self.seq += 1;
        let entry = Entry { seq: self.seq, record: Record::Node(self.record.clone().into()) };
        self.out.push(Action::Save { entry: Box::new(entry), answer });
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ServerId> + use<> {
        (0..self.servers.len()).map(ServerId)
    }

    /// Lets one server do something: its steps become actions in their order, its deadline is
    /// armed anew, and whoever waits for it is looked at.
    pub(super) fn with_server(&mut self, id: ServerId, work: impl FnOnce(&mut Server, &mut Steps)) {
        let Some(server) = self.servers.get_mut(id.0) else { return };
        let mut steps = Steps::new();
        let before = server.standing();
        work(server, &mut steps);
        let (deadline, check_deadline) = (server.deadline(), server.check_deadline());
        let (status_due, task_deadline) = (server.status_due.get(), server.task_deadline());
        let start_number = server.rec.start_number;
        for step in steps {
            match step {
                Step::Do(action) => self.out.push(action),
                Step::Save => self.save_server(id, None),
                Step::SaveForGate => self.save_server(id, Some(Gate::Start(start_number))),
                Step::SaveForTask(number) => self.save_server(id, Some(Gate::Task(number))),
            }
        }
        self.timers.set(Timer::Server(id), deadline);
        self.timers.set(Timer::Checks(id), check_deadline);
        self.timers.set(Timer::Status(id), status_due);
        self.timers.set(Timer::Task(id), task_deadline);
        self.note_standing(id, before);
        self.look_at_waits(id);
    }

    fn save_server(&mut self, id: ServerId, gate: Option<Gate>) {
        self.seq += 1;
        let record = self.servers[id.0].rec.clone();
        if let Some(gate) = gate {
            self.gates.retain(|_, (server, _)| *server != id);
            self.gates.insert(self.seq, (id, gate));
        }
        let entry = Entry { seq: self.seq, record: Record::Server(record) };
        self.out.push(Action::Save { entry: Box::new(entry), answer: gate.is_some() });
    }

    pub(super) fn arm_standby(&mut self) {
        self.timers.set(Timer::Standby, self.standby.deadline());
    }
}
