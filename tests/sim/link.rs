//! The link between two twins: one stream each way, in order, that can be cut.
//!
//! Must not know what the messages mean. What was sent before a death still arrives, unless the
//! cut loses it; what arrives on an old connection is never read on a new one.

use crate::os::Uid;
use crate::world::{Due, World};
use nodemanager::core::{Action, Event};

pub struct Link {
    pub active: Uid,
    pub standby: Uid,
    pub is_open: bool,
    /// When the last message arrives, each way.
    last: [u64; 2],
}

impl World {
    /// Sends over the link that this twin has now.
    pub fn send(&mut self, from: Uid, event: Event) {
        let Some(id) = self.twins.get(&from).and_then(|twin| twin.link) else { return };
        if self.links.get(&id).is_some_and(|link| link.is_open) {
            self.push_link(id, from, event);
        }
    }

    fn push_link(&mut self, id: u64, from: Uid, event: Event) {
        let delay_ms = self.rng.delay(4, 100);
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let (way, to) = if from == link.active { (0, link.standby) } else { (1, link.active) };
        link.last[way] = link.last[way].max(now + delay_ms);
        let at = link.last[way] - now;
        self.at(at, Due::Event(to, Box::new(event), Some(id)));
    }

    /// The standby calls its active.
    pub fn connect(&mut self, standby: Uid) {
        let Some(active) = self.twins.get(&standby).and_then(|twin| twin.watches) else { return };
        if !self.os.lives(active) {
            // Refused: whether the shell says so does not matter.
            return;
        }
        if self.twins.get(&standby).is_some_and(|twin| twin.link.is_some()) {
            return;
        }
        let id = self.links.keys().next_back().map_or(1, |last| last + 1);
        self.links.insert(id, Link { active, standby, is_open: true, last: [0; 2] });
        self.push_link(id, active, Event::LinkUp);
        self.push_link(id, standby, Event::StandbyConnected);
    }

    /// One end closes: the other hears of it after what is under way.
    pub fn close_link(&mut self, by: Uid) {
        let Some(twin) = self.twins.get_mut(&by) else { return };
        if let Some(id) = twin.link.take() {
            self.end_link(id, Some(by));
        }
    }

    /// `by`: the end that does not hear of it, if one closed it.
    fn end_link(&mut self, id: u64, by: Option<Uid>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if !std::mem::replace(&mut link.is_open, false) {
            return;
        }
        let (active, standby) = (link.active, link.standby);
        if by != Some(active) {
            self.push_link(id, standby, Event::StandbyLinkLost);
        }
        if by != Some(standby) {
            self.push_link(id, active, Event::LinkDown);
        }
    }

    pub fn cut_links(&mut self) {
        for id in self.open_links() {
            self.end_link(id, None);
        }
    }

    fn open_links(&self) -> Vec<u64> {
        self.links.iter().filter(|(_, link)| link.is_open).map(|(id, _)| *id).collect()
    }

    /// A twin is dead.
    pub fn links_of_dead(&mut self, uid: Uid) {
        for id in self.open_links() {
            let link = &self.links[&id];
            if link.active == uid || link.standby == uid {
                self.end_link(id, Some(uid));
            }
        }
        if self.links.len() > 16 {
            let oldest = self.links.keys().next().copied();
            oldest.and_then(|id| self.links.remove(&id));
        }
    }

    pub fn carry_out_link(&mut self, uid: Uid, action: Action) {
        match action {
            Action::SendSnapshot { entries, seq } => {
                for entry in entries {
                    self.send(uid, Event::Copied(entry));
                }
                self.send(uid, Event::CopyComplete { seq });
            }
            Action::TellStandbyToStop => self.send(uid, Event::ToldToStop),
            Action::Connect => self.connect(uid),
            Action::SayWatching => self.send(uid, Event::StandbyWatching),
            Action::CloseLink | Action::DropStandbyLink => self.close_link(uid),
            _ => {}
        }
    }
}
