//! From the configuration to what the core needs to know of it.
//!
//! Must not decide anything, nor look at the machine.

use crate::config::{
    self, AutoStart, Config, Dependency, HealthCheck, Hook, Readiness, ServerConfig,
};
use crate::core::plan::{Drain, Health, Need, Ready, Reload, Rules};
use crate::core::record::TaskKind;
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
    let mut plans: Vec<ServerPlan> =
        Vec::with_capacity(config.servers.len() + config.applied.retired.len());
    let mut add = |mut plan: ServerPlan| {
        if let Some(before) = plans.last() {
            plan.share_with(before);
        }
        plans.push(plan);
    };
    for server in &config.servers {
        add(ServerPlan {
            revision: config.revision(&server.name),
            auto_start: match server.auto_start {
                AutoStart::Yes => true,
                AutoStart::No => false,
                AutoStart::Remember => remembered(&server.name),
            },
            ..ServerPlan::of(server.name.clone(), rules(server, needs(server, &places)))
        });
    }
    config.applied.retired.iter().for_each(|server| add(retired_plan(server)));
    (pair, plans)
}

/// A server that was taken out while it ran: all that is needed to stop it.
fn retired_plan(server: &ServerConfig) -> ServerPlan {
    let rules = Rules {
        stop_signal: server.stop.signal,
        stop_timeout_ms: server.stop.timeout_ms,
        tasks: tasks(server),
        drain: server.drain.as_ref().map(drain),
        ..Rules::default()
    };
    ServerPlan { left_over: true, ..ServerPlan::of(server.name.clone(), rules) }
}

fn reload(reload: &config::Reload) -> Reload {
    match reload {
        config::Reload::Signal(signal) => Reload::Signal(*signal),
        config::Reload::Command(hook) => Reload::Command { timeout_ms: hook.timeout_ms },
    }
}

fn tasks(server: &ServerConfig) -> Vec<(TaskKind, u64)> {
    let hooks = &server.hooks;
    let hooks = [
        (TaskKind::PreStart, &hooks.pre_start),
        (TaskKind::PostStart, &hooks.post_start),
        (TaskKind::PreStop, &hooks.pre_stop),
        (TaskKind::PostStop, &hooks.post_stop),
        (TaskKind::OnFailure, &hooks.on_failure),
    ];
    let stop = server.stop.command.as_ref().map(|_| (TaskKind::Stop, server.stop.timeout_ms));
    let hook = |(kind, hook): (TaskKind, &Option<Hook>)| Some((kind, hook.as_ref()?.timeout_ms));
    hooks.into_iter().filter_map(hook).chain(stop).collect()
}

fn drain(drain: &config::Drain) -> Drain {
    let config::Drain { command, check, interval_ms, timeout_ms, keeps, on_stop, on_restart } =
        drain;
    Drain {
        has_command: command.is_some(),
        has_check: check.is_some(),
        interval_ms: *interval_ms,
        timeout_ms: *timeout_ms,
        keeps: *keeps,
        on_stop: *on_stop,
        on_restart: *on_restart,
    }
}

fn rules(server: &ServerConfig, needs: Vec<Need>) -> Rules {
    Rules {
        needs,
        kind: server.kind,
        settle_ms: match &*server.ready {
            Some(Readiness::Delay(ms)) => *ms,
            _ => server.settle_ms,
        },
        ready: server.ready.as_ref().and_then(ready),
        start_timeout_ms: server.start_timeout_ms,
        health: server.health.iter().map(health).collect(),
        policy: (*server.restart).clone(),
        stop_signal: server.stop.signal,
        stop_timeout_ms: server.stop.timeout_ms,
        reload: server.reload.as_ref().map(reload),
        tasks: tasks(server),
        drain: server.drain.as_ref().map(drain),
        essential: server.essential,
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
