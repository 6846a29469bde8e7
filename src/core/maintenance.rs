//! Maintenance: while it is on, nothing is restarted or stopped by the node manager itself.
//!
//! Must not keep anybody from asking: what is asked for is done. What would have been done by itself is
//! left undone where it stands (a server that failed stays in BACKOFF), so that it follows when
//! maintenance is over, whoever is the active then.

use super::ask::{Ask, Ended};
use super::node::Node;
use super::record::Phase;
use super::server::Server;
use super::{Note, ServerId};

impl Node {
    /// Switches it on or off.
    pub(super) fn ask_for_maintenance(&mut self, ask: &Ask, is_on: bool) {
        if self.record.ending.is_some() {
            let text = "the pair is ending".to_string();
            return self.answer_about_pair(ask.client, Ended::Badly, text);
        }
        let was_on = std::mem::replace(&mut self.record.maintenance, is_on);
        if was_on != is_on {
            self.save_node();
            self.out.push(super::Action::Note(Note::Maintenance { is_on }));
            for id in self.ids() {
                // Its deadline comes back with that, and may be over.
                self.with_server(id, |server, _| server.maintenance = is_on);
                self.look_again(id);
            }
        }
        let text = match (is_on, was_on) {
            (true, true) => "maintenance was ON already",
            (true, false) => "maintenance is ON: nothing is restarted by itself",
            (false, true) => "maintenance is OFF",
            (false, false) => "maintenance was OFF already",
        };
        self.answer_about_pair(ask.client, Ended::Well, text.to_string());
    }

    /// It failed, and is not tried again by itself.
    pub(super) fn is_left_undone(&self, id: ServerId) -> bool {
        self.servers.get(id.0).is_some_and(Server::is_left_undone)
    }
}

impl Server {
    /// It would be tried again, if that were not switched off.
    pub fn is_left_undone(&self) -> bool {
        self.maintenance && matches!(self.rec.phase, Phase::Backoff { .. })
    }
}
