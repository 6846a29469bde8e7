//! How much of each server's output this process has moved.
//!
//! Must not move anything.

use super::Outputs;
use crate::config::ServerConfig;
use crate::core::Name;
use crate::shell::ctx::Ctx;
use std::collections::BTreeMap;

impl Outputs {
    /// Bytes by the name of the server, since this process began; of those whose output is moved.
    pub fn moved(&self, ctx: &Ctx) -> BTreeMap<Name, u64> {
        let mut by_key: BTreeMap<&str, u64> = BTreeMap::new();
        for entry in &self.drains {
            let sum = by_key.entry(&entry.name).or_default();
            *sum = sum.saturating_add(entry.moved);
        }
        let mut by_server = BTreeMap::new();
        for stream in ctx.config.all_servers().flat_map(ServerConfig::piped) {
            let moved = by_key.get(stream.key().as_str()).copied().unwrap_or_default();
            let sum: &mut u64 = by_server.entry(stream.server.name.clone()).or_default();
            *sum = sum.saturating_add(moved);
        }
        by_server
    }
}
