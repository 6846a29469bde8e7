//! The list of disabled servers: read when it has changed, changed by a process of its own.
//!
//! Must not sync in the loop (the saver does), and must not judge: the core says what a disabled
//! server may do. The list on disk is the authority, because people edit it and it outlives a
//! reboot; the core's records keep what it said last, for an active that can't read it.

use super::Shell;
use crate::core::Event;
use crate::core::ask::{Ask, Verb};
use crate::state::disabled::{self, Look};
use log::warn;
use std::collections::BTreeSet;

/// What was seen of the list.
#[derive(Default)]
pub struct DisabledList {
    /// As it was when it was read last.
    look: Option<Look>,
    unknown: BTreeSet<String>,
    /// It could not be read, and that was said.
    is_failing: bool,
}

impl Shell {
    /// The list, before anything is started; `None` when it can't be read.
    pub(super) fn read_disabled(&mut self) -> Option<BTreeSet<String>> {
        let state_dir = &self.ctx.config.node.state_dir;
        let path = disabled::path(state_dir);
        self.disabled.look = Some(disabled::look(state_dir));
        match disabled::read(state_dir) {
            Ok(names) => {
                self.disabled.is_failing = false;
                let servers = self.ctx.config.servers.iter().map(|one| one.name.as_str());
                let unknown = disabled::unknown(&names, servers);
                if self.disabled.unknown != unknown {
                    if let Some(text) = disabled::warning(state_dir, &unknown) {
                        warn!(target: "0143", "{text}");
                    }
                    self.disabled.unknown = unknown;
                }
                Some(names)
            }
            Err(error) => {
                // Tried again with each heartbeat, and said once.
                self.disabled.look = None;
                if !std::mem::replace(&mut self.disabled.is_failing, true) {
                    warn!(target: "0144", "cannot read {}: {error}; what it said before counts", path.display());
                }
                None
            }
        }
    }

    /// Has somebody edited it?
    pub(super) fn look_at_disabled(&mut self) {
        let look = disabled::look(&self.ctx.config.node.state_dir);
        if self.disabled.look != Some(look) {
            self.tell_disabled();
        }
    }

    /// The core gets it as it is now.
    pub(super) fn tell_disabled(&mut self) {
        if let Some(names) = self.read_disabled() {
            self.ctx.tell(Event::Disabled { names });
        }
    }

    /// The changes that a request asks for.
    pub(super) fn enabling(&self, ask: &Ask) -> Vec<disabled::Change> {
        let is_off = match ask.verb {
            Verb::Enable => false,
            Verb::Disable => true,
            _ => return Vec::new(),
        };
        let name = |server| (self.servers.name(server).to_string(), is_off);
        ask.servers.iter().map(|server| name(*server)).collect()
    }
}
