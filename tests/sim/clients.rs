//! Clients: they ask, lose their connection, ask again with the same id, and count what was done.
//!
//! Must not look into a twin.

use crate::guard;
use crate::keeper::KEEPER_CLIENT;
use crate::os::Uid;
use crate::world::{Due, World};
use nodemanager::core::ask::{Ask, Ended, Outcome, Reach, Verb};
use nodemanager::core::{ClientId, Event, ServerId};
use std::collections::BTreeSet;

/// After so long without an answer a client hangs up (and, unless it only waits, asks again).
const PATIENCE_MS: u64 = 40_000;

/// One request, over all the times it is sent.
pub struct Request {
    pub verb: Verb,
    server: usize,
    wait: bool,
    id: String,
    /// How many requests its server had taken in, and the disk's troubles, when it came first.
    since: Option<(u64, u64)>,
    /// Who got a signal because of it.
    signalled: Vec<Uid>,
}

#[derive(Default)]
struct Client {
    /// What it is at, and the connection it has.
    request: Option<usize>,
    connection: Option<(ClientId, Uid)>,
    sent_at: u64,
    /// It came for one thing only.
    asks_once: bool,
}

pub struct Clients {
    clients: Vec<Client>,
    pub requests: Vec<Request>,
    /// Which request each connection carries.
    connections: Vec<usize>,
    /// New ids that each server has taken in.
    taken: Vec<u64>,
    pub at_most_once: Option<String>,
    /// Nobody asks anything new.
    pub is_closing: bool,
    seen: BTreeSet<String>,
    troubles: u64,
}

impl Clients {
    pub fn new(count: usize) -> Clients {
        Clients {
            clients: (0..count).map(|_| Client::default()).collect(),
            requests: Vec::new(),
            connections: Vec::new(),
            taken: vec![0; 16],
            at_most_once: None,
            is_closing: false,
            seen: BTreeSet::new(),
            troubles: 0,
        }
    }

    pub fn request_of(&self, client: ClientId) -> Option<usize> {
        if client == KEEPER_CLIENT {
            return None;
        }
        self.connections.get(client.0 as usize - 1).copied()
    }

    pub fn taken_in(&mut self, request: Option<usize>, id: &str) {
        let Some(request) = request.and_then(|index| self.requests.get_mut(index)) else { return };
        if self.seen.insert(id.to_string()) {
            self.taken[request.server] += 1;
            request.since = Some((self.taken[request.server], self.troubles));
        }
    }

    /// A signal goes out because of a request: at most one process, and a plain signal only once.
    pub fn signalled(&mut self, cause: Option<usize>, server: usize, leader: Uid, signal: i32) {
        let Some(request) = cause.and_then(|index| self.requests.get_mut(index)) else { return };
        let taken = self.taken[server];
        request.signalled.push(leader);
        let is_remembered =
            request.since.is_some_and(|(at, troubles)| taken < at + 7 && troubles == self.troubles);
        let is_twice = match request.verb {
            Verb::Signal(_) | Verb::Reload => request.signalled.len() > 1,
            Verb::Restart => request.signalled.iter().any(|one| *one != leader),
            _ => false,
        };
        if is_twice && is_remembered {
            let id = &request.id;
            self.at_most_once = Some(format!("request {id} sent signal {signal} twice"));
        }
    }

    /// Everybody has an answer.
    pub fn are_served(&self) -> bool {
        self.clients.iter().all(|client| client.request.is_none())
    }

    pub fn what_is_open(&self) -> Vec<(&str, Verb, usize)> {
        let open = self.clients.iter().filter_map(|client| client.request);
        open.map(|index| &self.requests[index]).map(|r| (r.id.as_str(), r.verb, r.server)).collect()
    }
}

impl World {
    pub fn client_acts(&mut self, index: usize) {
        self.clients.troubles = self.guard.disk_troubles;
        let delay_ms = self.rng.range(100, 1_500);
        self.at(delay_ms, Due::Client(index));
        let Some(client) = self.clients.clients.get(index) else { return };
        match (client.request, client.connection) {
            (None, _) if self.clients.is_closing || client.asks_once => {}
            (None, _) => {
                let request = self.new_request();
                self.clients.clients[index].request = Some(request);
                self.send_request(index);
            }
            (Some(_), None) => self.send_request(index),
            (Some(request), Some((connection, twin))) => {
                let is_impatient = self.now > client.sent_at + PATIENCE_MS;
                let hangs_up = self.weather.on && self.rng.per_mille(20);
                if is_impatient || hangs_up {
                    self.clients.clients[index].connection = None;
                    let event = Event::ClientGone { client: connection };
                    self.at(1, Due::Event(twin, Box::new(event), None));
                    let verb = self.clients.requests[request].verb;
                    if matches!(verb, Verb::WaitUp | Verb::WaitReady | Verb::WaitDown) {
                        self.clients.clients[index].request = None;
                    }
                }
            }
        }
    }

    fn new_request(&mut self) -> usize {
        let verb = self.rng.pick(&[
            Verb::Start,
            Verb::Start,
            Verb::Start,
            Verb::Stop,
            Verb::Kill,
            Verb::Restart,
            Verb::Restart,
            Verb::Restart,
            Verb::Reset,
            Verb::Drain,
            Verb::Reload,
            Verb::Signal(1),
            Verb::Signal(10),
            Verb::WaitUp,
            Verb::WaitReady,
            Verb::WaitDown,
            Verb::Switch,
            Verb::Switch,
            Verb::Maintenance { is_on: true },
            Verb::Maintenance { is_on: false },
            Verb::Maintenance { is_on: false },
        ]);
        let server = self.rng.below(self.plan.servers.len() as u64) as usize;
        let wait = self.rng.per_mille(700);
        self.request(verb, server, wait)
    }

    pub fn request(&mut self, verb: Verb, server: usize, wait: bool) -> usize {
        let id = format!("r{}", self.clients.requests.len());
        let (since, signalled) = (None, Vec::new());
        self.clients.requests.push(Request { verb, server, wait, id, since, signalled });
        self.clients.requests.len() - 1
    }

    /// A client of its own asks this one thing until it is answered.
    pub fn ask(&mut self, verb: Verb, server: usize) {
        let request = self.request(verb, server, true);
        self.clients.clients.push(Client {
            request: Some(request),
            asks_once: true,
            ..Client::default()
        });
        let index = self.clients.clients.len() - 1;
        self.at(0, Due::Client(index));
    }

    fn send_request(&mut self, index: usize) {
        let Some(twin) = self.active().map(|twin| twin.uid) else { return };
        let Some(number) = self.clients.clients[index].request else { return };
        self.clients.connections.push(number);
        let connection = ClientId(self.clients.connections.len() as u64);
        let client = &mut self.clients.clients[index];
        client.connection = Some((connection, twin));
        client.sent_at = self.now;
        let request = &self.clients.requests[number];
        let servers = match request.verb {
            Verb::Shutdown { .. } | Verb::Switch | Verb::Maintenance { .. } => Vec::new(),
            _ => vec![ServerId(request.server)],
        };
        let (id, verb, wait) = (request.id.clone(), request.verb, request.wait);
        let ask = Ask { client: connection, id, verb, servers, wait, reach: Reach::Refuse };
        let delay_ms = self.rng.below(5);
        self.at(delay_ms, Due::Event(twin, Box::new(Event::Asked(ask)), None));
    }

    /// Who was connected to a dead twin asks again.
    pub fn clients_of_dead(&mut self, uid: Uid) {
        for client in &mut self.clients.clients {
            if client.connection.is_some_and(|(_, twin)| twin == uid) {
                client.connection = None;
            }
        }
    }

    pub fn answered(&mut self, uid: Uid, connection: ClientId, outcomes: &[Outcome]) {
        if connection == KEEPER_CLIENT {
            return self.keeper_answered();
        }
        let is_it = |client: &Client| client.connection == Some((connection, uid));
        let Some(index) = self.clients.clients.iter().position(is_it) else { return };
        let Some(number) = self.clients.clients[index].request else { return };
        let (verb, wait) = (self.clients.requests[number].verb, self.clients.requests[number].wait);
        self.counts.answered += 1;
        self.clients.clients[index].connection = None;
        for outcome in outcomes {
            if outcome.result == Ended::Later {
                // It asks again.
                return;
            }
            let is_stop = matches!(verb, Verb::Stop | Verb::Kill | Verb::Drain | Verb::WaitDown);
            if is_stop && wait && outcome.result == Ended::Well {
                guard::stop_is_true(self, outcome.server.0);
            }
        }
        self.clients.clients[index].request = None;
    }

    pub fn answered_about_pair(&mut self, uid: Uid, connection: ClientId, result: Ended) {
        let is_it = |client: &Client| client.connection == Some((connection, uid));
        let Some(index) = self.clients.clients.iter().position(is_it) else { return };
        self.counts.answered += 1;
        self.clients.clients[index].connection = None;
        if result != Ended::Later {
            self.clients.clients[index].request = None;
        }
    }

    /// Somebody may have left it on.
    pub fn end_maintenance(&mut self) {
        let node = self.active().and_then(|active| active.node.as_ref());
        let is_on = node.is_some_and(|node| node.record.maintenance);
        if is_on && self.clients.are_served() {
            self.ask(Verb::Maintenance { is_on: false }, 0);
        }
    }

    /// The pair has ended: nobody is there to answer.
    pub fn dismiss_clients(&mut self) {
        for client in &mut self.clients.clients {
            client.request = None;
            client.connection = None;
        }
    }
}
