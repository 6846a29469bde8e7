//! Remembered wishes (`autoStart = "remember"`) and the list of disabled servers on their way to
//! the disk.
//!
//! Must not sync in the loop: a process of its own does, one at a time, and the requests that wait
//! for it are handed to the core when it is through. A wish outlives a reboot only if it was
//! synced before the answer.

use super::bequest::{self, Bequest};
use super::helpers::end_of;
use super::{Shell, token::Source};
use crate::config::AutoStart;
use crate::core::ask::{Ask, Ended, Outcome, Verb};
use crate::core::{Event, Exit, ServerId};
use crate::state::Wishes;
use crate::state::disabled::{self, Change};
use crate::sys;
use log::warn;
use std::os::fd::OwnedFd;

/// The wishes, and who waits for them.
#[derive(Default)]
pub struct WishSaver {
    /// Those that this active was told. The file has others as well, which the actives before it
    /// were told, so it is never written from memory alone.
    wishes: Wishes,
    saver: Option<OwnedFd>,
    /// For the process that is writing now, and for the next one.
    waits: Vec<Ask>,
    waits_next: Vec<Ask>,
    /// For the next one: changes of the list of disabled servers.
    enabling: Vec<Change>,
}

/// Exit statuses of the process that writes.
const WISHES_LOST: u8 = 1;
const LIST_NOT_CHANGED: u8 = 2;

/// The process that writes; gives its exit status.
pub fn run() -> u8 {
    let _ = sys::set_name("nm-saver");
    let (Ok(bequest), Ok(config)) = (Bequest::unpack(), bequest::config()) else {
        return WISHES_LOST | LIST_NOT_CHANGED;
    };
    let state_dir = &config.node.state_dir;
    let mut failed = 0;
    if !bequest.wishes.is_empty() && Wishes::add(&bequest.wishes, state_dir).is_err() {
        failed |= WISHES_LOST;
    }
    let enabling = &bequest.enabling;
    if !enabling.is_empty() && disabled::change(enabling, state_dir).is_err() {
        failed |= LIST_NOT_CHANGED;
    }
    failed
}

impl Shell {
    /// Hands a request to the core, after its wish is safe if it has one.
    pub(super) fn ask_core(&mut self, ask: Ask) {
        let is_up = match ask.verb {
            Verb::Start | Verb::Restart => true,
            Verb::Stop | Verb::Kill => false,
            Verb::Enable | Verb::Disable => {
                let enabling = self.enabling(&ask);
                self.wishes.enabling.extend(enabling);
                self.wishes.waits_next.push(ask);
                return self.save_wishes();
            }
            _ => return self.ctx.tell(Event::Asked(ask)),
        };
        let names: Vec<String> = ask
            .servers
            .iter()
            .filter(|server| !is_up || !self.is_disabled(**server))
            .map(|server: &ServerId| self.servers.name(*server).to_string())
            .filter(|name| {
                let config = self.ctx.server(name);
                config.is_some_and(|server| server.auto_start == AutoStart::Remember)
            })
            .collect();
        if names.is_empty() {
            return self.ctx.tell(Event::Asked(ask));
        }
        for name in names {
            self.wishes.wishes.set(&name, is_up);
        }
        self.wishes.waits_next.push(ask);
        self.save_wishes();
    }

    /// Its start is refused, so it is no wish.
    fn is_disabled(&self, server: ServerId) -> bool {
        self.node.servers.get(server.0).is_some_and(|server| server.rec.disabled)
    }

    fn save_wishes(&mut self) {
        if self.wishes.saver.is_some() || self.wishes.waits_next.is_empty() {
            return;
        }
        self.wishes.waits = std::mem::take(&mut self.wishes.waits_next);
        let enabling = std::mem::take(&mut self.wishes.enabling);
        let bequest = Bequest { wishes: self.wishes.wishes.text(), enabling, ..self.bequest() };
        match self.start_helper("saver", &bequest, Vec::new(), Source::Saver) {
            Ok(process) => self.wishes.saver = Some(process),
            Err(error) => {
                warn!(target: "0142", "cannot write what is to outlive a reboot: {error}; a wish is done, and forgotten then");
                self.wishes_saved(false);
            }
        }
    }

    /// The process that writes has ended.
    pub(super) fn on_saver(&mut self) {
        let failed = match end_of(&mut self.ctx, &mut self.wishes.saver, Source::Saver) {
            None => return,
            Some(Exit::Code(code)) => u8::try_from(code).unwrap_or(WISHES_LOST),
            Some(_) => WISHES_LOST,
        };
        let dir = self.ctx.config.node.state_dir.display();
        if failed & WISHES_LOST != 0 {
            warn!(target: "0142", "cannot read or write {dir}/wishes: a wish is done, and forgotten at a reboot");
        }
        if failed & LIST_NOT_CHANGED != 0 {
            warn!(target: "0144", "cannot read or write {dir}/disabled: it stays as it is");
        }
        self.wishes_saved(failed & LIST_NOT_CHANGED == 0);
    }

    fn wishes_saved(&mut self, is_list_changed: bool) {
        if self.wishes.waits.iter().any(|ask| matches!(ask.verb, Verb::Enable | Verb::Disable)) {
            // The list is the authority, also for the answer.
            self.tell_disabled();
        }
        for ask in std::mem::take(&mut self.wishes.waits) {
            let is_about_list = matches!(ask.verb, Verb::Enable | Verb::Disable);
            match is_about_list && !is_list_changed {
                true => self.list_not_changed(&ask),
                false => self.ctx.tell(Event::Asked(ask)),
            }
        }
        self.save_wishes();
    }

    /// What counts now is what the list said before. That may be what was asked for, and is no
    /// success all the same: after a reboot it would not be so.
    fn list_not_changed(&mut self, ask: &Ask) {
        let path = disabled::path(&self.ctx.config.node.state_dir);
        let text = format!("{} could not be written; see the log", path.display());
        let failed = |server: &ServerId| Outcome {
            server: *server,
            result: Ended::Badly,
            text: text.clone(),
        };
        let outcomes = ask.servers.iter().map(failed).collect();
        self.answer(ask.client, outcomes);
    }
}
