//! What of a server only the active knows: what its start waits for, and how its checks are.
//!
//! Must not change anything.

use super::{Clock, state_of};
use crate::api::ServerStatus;
use crate::config::ServerConfig;
use crate::core::checks::{Check, Progress};
use crate::core::node::Node;
use crate::core::order::Obstacle;
use crate::core::server::Server;
use crate::core::{Phase, ServerId};
use serde_json::{Value, json};

/// Adds it to the row of a server.
pub fn add(
    status: &mut ServerStatus,
    node: &Node,
    id: ServerId,
    config: Option<&ServerConfig>,
    clock: &Clock,
) {
    let Some(server) = node.servers.get(id.0) else { return };
    if server.rec.phase == Phase::Queued {
        let waits_for = waits_for(node, id);
        status.detail.clone_from(&waits_for);
        if let Some(reason) = &server.rec.reason {
            status.detail = format!("{waits_for}; {reason}");
        }
        status.waits_for = Some(waits_for);
    }
    if server.is_left_undone() {
        let reason = server.rec.reason_text();
        status.detail = format!("{reason}; not restarted: maintenance is on");
        status.next_try_at = None;
    }
    if let Some(held) = server.rec.held {
        let what = match held {
            crate::core::record::Held::Stop => "stops",
            crate::core::record::Held::Restart => "restarts",
            crate::core::record::Held::Drain => "is drained",
        };
        let when = match server.rec.phase {
            Phase::Seeking { .. } => "its main process is found",
            _ => "those that need it are down",
        };
        status.detail = format!("{what} when {when}");
    }
    status.status_text = server.rec.status_text.as_deref().map(str::to_owned);
    if let (Some(text), true) = (&status.status_text, status.detail.is_empty()) {
        status.detail.clone_from(text);
    }
    if let Some(config) = config {
        status.checks = checks(server, config, clock);
    }
}

fn waits_for(node: &Node, id: ServerId) -> String {
    match node.obstacle(id) {
        Some(Obstacle::Need(need)) => match node.servers.get(need.0) {
            Some(need) => {
                format!("waits for {}, which is {}", need.rec.name, state_of(&need.rec.phase))
            }
            None => "waits for a server".to_string(),
        },
        Some(Obstacle::Places) => "waits for a free start slot (maxParallelStarts)".to_string(),
        None => "is about to start".to_string(),
    }
}

/// The results of the checks that are made now.
fn checks(server: &Server, config: &ServerConfig, clock: &Clock) -> Vec<Value> {
    let ready = config.ready.as_ref().map(|ready| {
        let is_ready = server.rec.ready_at.is_some();
        one("ready", &ready.title(), Check::Ready, &server.checks.ready, Some(is_ready), clock)
    });
    let health = config.health.iter().enumerate().filter_map(|(at, check)| {
        let progress = server.checks.health.get(at)?;
        Some(one("health", &check.title(), Check::Health(at), progress, None, clock))
    });
    let is_draining = matches!(server.rec.phase, Phase::Draining { quiesced: true, .. });
    let drain = config.drain.as_ref().filter(|_| is_draining).and_then(|drain| {
        let title = format!("exec {}", drain.check.as_ref()?.first()?);
        Some(one("drain", &title, Check::Drain, &server.checks.drain, None, clock))
    });
    ready.into_iter().chain(health).chain(drain).collect()
}

fn one(
    kind: &str,
    title: &str,
    check: Check,
    progress: &Progress,
    is_ok: Option<bool>,
    clock: &Clock,
) -> Value {
    let last_ok = progress.last.as_ref().map(Result::is_ok);
    let error = progress.last.as_ref().and_then(|last| last.as_ref().err());
    json!({
        "kind": kind,
        "number": match check { Check::Ready | Check::Drain => 0, Check::Health(at) => at + 1 },
        "check": title,
        "ok": is_ok.or(last_ok),
        "failures": progress.failures,
        "error": error,
        "at": progress.last_at.map(|at| clock.time(at)),
    })
}
