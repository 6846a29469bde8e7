//! From the configuration to what the core needs to know of it.
//!
//! Must not decide anything, nor look at the machine.

use crate::config::{AutoStart, Config, Dependency, HealthCheck, Readiness, ServerConfig};
use crate::core::plan::{Health, Need, Ready};
use crate::core::{PairPlan, ServerId, ServerPlan};
use std::collections::BTreeMap;

/// What the core needs to know of the configuration.
pub fn plans(config: &Config, remembered: &dyn Fn(&str) -> bool) -> (PairPlan, Vec<ServerPlan>) {
    let pair = PairPlan {
        has_standby: config.node.standby_port.is_some(),
        heartbeat_interval_ms: config.node.heartbeat_interval_ms,
        heartbeat_timeout_ms: config.node.heartbeat_timeout_ms,
        shutdown_timeout_ms: config.node.shutdown_timeout_ms,
        starts_max: config.node.max_parallel_starts as usize,
    };
    let places: BTreeMap<&str, usize> =
        config.servers.iter().enumerate().map(|(at, one)| (one.name.as_str(), at)).collect();
    let plan = |server: &ServerConfig| ServerPlan {
        needs: needs(server, &places),
        revision: config.revision(&server.name),
        ..server_plan(server, remembered)
    };
    (pair, config.servers.iter().map(plan).collect())
}

fn server_plan(server: &ServerConfig, remembered: &dyn Fn(&str) -> bool) -> ServerPlan {
    ServerPlan {
        auto_start: match server.auto_start {
            AutoStart::Yes => true,
            AutoStart::No => false,
            AutoStart::Remember => remembered(&server.name),
        },
        kind: server.kind,
        settle_ms: match &server.ready {
            Some(Readiness::Delay(ms)) => *ms,
            _ => server.settle_ms,
        },
        ready: server.ready.as_ref().and_then(ready),
        start_timeout_ms: server.start_timeout_ms,
        health: server.health.iter().map(health).collect(),
        policy: server.restart.clone(),
        stop_signal: server.stop.signal,
        stop_timeout_ms: server.stop.timeout_ms,
        reload_signal: server.reload.as_ref().map(|reload| reload.signal),
        essential: server.essential,
        ..ServerPlan::new(&server.name)
    }
}

fn needs(server: &ServerConfig, places: &BTreeMap<&str, usize>) -> Vec<Need> {
    let need = |one: &Dependency| {
        let at = *places.get(one.name.as_str())?;
        Some(Need { server: ServerId(at), on_failure: one.on_failure })
    };
    server.depends_on.iter().filter_map(need).collect()
}

/// `None`: it is ready when it has been up for `settle_ms`.
fn ready(readiness: &Readiness) -> Option<Ready> {
    match readiness {
        Readiness::Notify | Readiness::Fd(_) | Readiness::Log(_) => Some(Ready::Told),
        Readiness::Delay(_) => None,
        &Readiness::Asked { interval_ms, timeout_ms, .. } => {
            Some(Ready::Asked { interval_ms, timeout_ms })
        }
    }
}

fn health(check: &HealthCheck) -> Health {
    match *check {
        HealthCheck::Watchdog { timeout_ms } => Health::Watchdog { timeout_ms },
        HealthCheck::Asked { interval_ms, timeout_ms, failures, for_ms, .. } => {
            Health::Asked { interval_ms, timeout_ms, failures, for_ms }
        }
    }
}
