//! Requests that are about the pair and name no servers: switchover, upgrade, maintenance.
//!
//! Must not decide: the core does, and who prepares an upgrade.

use super::Shell;
use super::requests::{Refused, check_id, unreadable};
use crate::api::{MaintenanceAsk, PairAnswer, PairAsk};
use crate::core::ask::{Ask, Ended, Reach, Verb};
use crate::core::{ClientId, Event};

impl Shell {
    pub(super) fn on_switchover(&mut self, client: ClientId, body: &[u8]) -> Result<(), Refused> {
        let ask = parse_pair(body)?;
        // What is asked for again has been done, or is being done.
        let is_known = self.node.record.handed_over.contains(&ask.id);
        if let Some(text) = self.succession.obstacle().filter(|_| !is_known) {
            return Err((503, 75, format!("{text}; try again")));
        }
        self.ask_about_pair(client, ask, Verb::Switch);
        Ok(())
    }

    pub(super) fn on_maintenance(&mut self, client: ClientId, body: &[u8]) -> Result<(), Refused> {
        let ask: MaintenanceAsk =
            serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
        check_id(&ask.id)?;
        let verb = Verb::Maintenance { is_on: ask.on };
        self.ask_about_pair(client, PairAsk { id: ask.id, wait: true }, verb);
        Ok(())
    }

    pub(super) fn ask_about_pair(&mut self, client: ClientId, ask: PairAsk, verb: Verb) {
        let (servers, reach) = (Vec::new(), Reach::Refuse);
        let ask = Ask { client, id: ask.id, verb, servers, wait: ask.wait, reach };
        self.ctx.tell(Event::Asked(ask));
    }

    pub(super) fn answer_about_pair(&mut self, client: ClientId, result: Ended, text: String) {
        let exit = match result {
            Ended::Well => 0,
            Ended::Badly => 1,
            Ended::MaybeSent | Ended::Later => 75,
        };
        self.control.answer(&mut self.ctx, client, 200, &PairAnswer { exit, text });
    }
}

/// The body of a request to switch over or to upgrade.
///
/// # Errors
/// It is none.
pub fn parse_pair(body: &[u8]) -> Result<PairAsk, Refused> {
    let ask: PairAsk = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    check_id(&ask.id)?;
    Ok(ask)
}
