//! What is held of the servers' processes for a takeover: a pidfd of each, opened while it lived.
//!
//! Must not open or ask one. A standby has them by their servers' places in its configuration, which are
//! the servers' numbers once it is the active: then it finds each without a name.

use crate::core::server::Server;
use crate::core::{Identity, Name, ServerId};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// A process and its pidfd.
pub(super) type One = (Identity, OwnedFd);

/// All of them.
#[derive(Default)]
pub(super) struct Held {
    placed: Vec<Option<One>>,
    /// Of those that the configuration does not name.
    others: BTreeMap<Name, One>,
}

impl Held {
    /// Whether this process is the one that is held of a server. `place`: that of the server in the
    /// configuration.
    pub fn has(&self, place: Option<usize>, name: &str, process: Identity) -> bool {
        let one = match place {
            Some(place) => self.placed.get(place).and_then(Option::as_ref),
            None => self.others.get(name),
        };
        one.is_some_and(|(held, _)| *held == process)
    }

    /// Holds a server's process, and the one before no more. `places`: how many the configuration has.
    pub fn put(&mut self, place: Option<usize>, places: usize, name: &Name, one: One) {
        let Some(place) = place else {
            self.others.insert(name.clone(), one);
            return;
        };
        if self.placed.len() < places {
            self.placed.reserve_exact(places - self.placed.len());
            self.placed.resize_with(places, || None);
        }
        if let Some(slot) = self.placed.get_mut(place) {
            *slot = Some(one);
        }
    }

    /// These are the servers now. What is held of a process that is not on record is let go.
    pub fn begin(&mut self, servers: &[Server]) {
        if self.placed.is_empty() && self.others.is_empty() {
            return;
        }
        self.placed.resize_with(servers.len(), || None);
        for (server, slot) in servers.iter().zip(&mut self.placed) {
            if !self.others.is_empty() && server.plan.left_over {
                *slot = self.others.remove(&server.rec.name);
            }
            let process = server.rec.phase.process();
            // Its descriptor is closed.
            drop(slot.take_if(|(held, _)| Some(*held) != process));
        }
        self.others.clear();
    }

    /// What is held of a server, once `begin` has said which there are.
    pub fn get(&self, server: ServerId) -> Option<&One> {
        self.placed.get(server.0)?.as_ref()
    }

    /// Takes it out.
    pub fn take(&mut self, server: ServerId) -> Option<One> {
        self.placed.get_mut(server.0)?.take()
    }
}
