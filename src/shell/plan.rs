//! From the configuration to what the core needs to know of it.
//!
//! Must not decide anything, nor look at the machine.

use crate::config::{AutoStart, Config, HealthCheck, Readiness, ServerConfig};
use crate::core::plan::{Health, Ready};
use crate::core::{PairPlan, ServerPlan};

/// What the core needs to know of the configuration.
pub fn plans(config: &Config, remembered: &dyn Fn(&str) -> bool) -> (PairPlan, Vec<ServerPlan>) {
    let pair = PairPlan {
        has_standby: config.node.standby_port.is_some(),
        heartbeat_interval_ms: config.node.heartbeat_interval_ms,
        heartbeat_timeout_ms: config.node.heartbeat_timeout_ms,
        shutdown_timeout_ms: config.node.shutdown_timeout_ms,
        starts_max: 16,
    };
    (pair, config.servers.iter().map(|server| server_plan(server, remembered)).collect())
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
        ..ServerPlan::new(&server.name)
    }
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
    match check {
        &HealthCheck::Watchdog { timeout_ms } => Health::Watchdog { timeout_ms },
        &HealthCheck::Asked { interval_ms, timeout_ms, failures, for_ms, .. } => {
            Health::Asked { interval_ms, timeout_ms, failures, for_ms }
        }
    }
}
