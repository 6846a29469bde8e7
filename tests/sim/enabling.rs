//! The list of disabled servers: people change it at any moment, the active looks at it now and then.
//!
//! Must not touch the core's values.

use crate::world::{Due, World};
use nodemanager::core::Event;

/// Every so many faults somebody changes the list.
const EVERY_FAULTS: u64 = 5;

impl World {
    /// Takes a server from the list, or puts it there.
    pub fn edit_list(&mut self) {
        self.faults += 1;
        if self.faults.is_multiple_of(EVERY_FAULTS) {
            let server = (self.faults / EVERY_FAULTS) as usize % self.plan.servers.len();
            self.toggle(server);
        }
        self.look_at_list();
    }

    /// Nobody starts it any more, or somebody may again.
    pub fn toggle(&mut self, server: usize) {
        let name = self.plan.servers[server].name.to_string();
        self.note(|| format!("{name} is disabled or enabled"));
        if !self.disabled.remove(&name) {
            self.disabled.insert(name);
            // What ends from here on is not wanted any more, and what has not begun is ended.
            self.guard.asked_down[server] = true;
            for one in self.os.procs.values_mut().filter(|one| one.server() == Some(server)) {
                one.may_be_ended = true;
            }
        }
    }

    /// What the active does with a heartbeat.
    pub fn look_at_list(&mut self) {
        let Some(active) = self.active() else { return };
        let servers = active.node.iter().flat_map(|node| &node.servers);
        let mut known =
            servers.map(|one| (one.rec.disabled, self.disabled.contains(one.rec.name.as_str())));
        if known.any(|(known, is_so)| known != is_so) {
            let (uid, names) = (active.uid, self.disabled.clone());
            self.at(0, Due::Event(uid, Box::new(Event::Disabled { names }), None));
        }
    }
}
