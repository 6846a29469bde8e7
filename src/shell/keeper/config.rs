//! The configuration that the keeper starts the pair again with: that which is in force.
//!
//! Must not read it in the middle of a takeover, when the processors are needed: at the keeper's own looks
//! is soon enough, and before it starts an active.

use super::KeeperShell;
use crate::config::{Applied, Config};
use crate::shell::in_force;
use crate::shell::packed::PackedConfig;
use log::warn;

impl KeeperShell {
    /// The pair is started again as it was, whatever the file says by now, and whatever it said when
    /// this process read it.
    pub(super) fn take_config_in_force(&mut self) {
        // Nobody has served yet, or the run directory was emptied.
        let Some(last) = in_force::last_writing(&self.config.node.run_dir) else { return };
        if self.in_force == Some((last, true)) {
            return;
        }
        let found = in_force::read_new(&self.config, &self.packed);
        let seen = Some((last, found.is_ok()));
        match found {
            Ok(Some((config, packed))) => self.take_config(config, packed),
            Ok(None) => {}
            // Tried again, and told once.
            Err(_) if self.in_force == seen => {}
            Err(error) => {
                let dir = self.config.node.run_dir.display();
                warn!(target: "0030", "cannot use config.json in {dir}: {error}; the last configuration that the keeper read counts");
            }
        }
        self.in_force = seen;
    }

    fn take_config(&mut self, config: Config, packed: PackedConfig) {
        self.fifos.want(&config);
        self.config = without_servers(config);
        self.packed = packed;
        // A thousand servers are some megabytes.
        self.memory.give_back();
    }
}

pub(super) fn without_servers(mut config: Config) -> Config {
    config.servers = Vec::new();
    config.applied = Applied::default();
    config
}
