//! What the log says of servers.
//!
//! Must not change anything.

use super::super::Shell;
use crate::core::server::exit_text;
use crate::core::{Note, Phase, ServerId, Wanted};
use log::{error, info, warn};

impl Shell {
    /// What happened to a server beside its phase.
    pub(super) fn note_beside(&self, note: Note) {
        match note {
            Note::NeedLost { server, need } => {
                let (name, need) = (self.servers.name(server), self.servers.name(need));
                warn!(target: "0316", "{name}: {need}, which it needs, has ended or came back after that");
            }
            Note::Enabling { server, is_enabled } => {
                let name = self.servers.name(server);
                match is_enabled {
                    true => info!(target: "0320", "{name} is enabled"),
                    false => info!(target: "0320", "{name} is disabled: nothing starts it"),
                }
            }
            Note::MainFound(server) => {
                let (name, one) = (self.servers.name(server), self.node.servers.get(server.0));
                let process = one.and_then(|one| one.rec.phase.process());
                let pid = process.map_or(0, |process| process.pid);
                info!(target: "0329", "{name}: PID {pid} is its main process now");
            }
            Note::Task { server, kind, failed } => {
                let (name, title) = (self.servers.name(server), kind.title());
                match failed {
                    None => info!(target: "0321", "{name}: its {title} ended well"),
                    Some(text) => warn!(target: "0322", "{name}: its {title} failed: {text}"),
                }
            }
            Note::Drained { server, failed } => {
                let name = self.servers.name(server);
                match failed {
                    None => info!(target: "0323", "{name}: no work is left"),
                    Some(text) => warn!(target: "0324", "{name}: not drained: {text}"),
                }
            }
            Note::EssentialFailed(server) => {
                let name = self.servers.name(server);
                error!(target: "0317", "{name} is essential and was given up, so the pair ends with exit status 1");
            }
            // Said by `note`.
            _ => {}
        }
    }

    /// Its phase is another one.
    pub(super) fn note_server(&self, server: ServerId) {
        let Some(one) = self.node.servers.get(server.0) else { return };
        let (rec, name) = (&one.rec, &one.rec.name);
        let reason = rec.reason_text();
        match &rec.phase {
            Phase::AtGate { process, .. } => {
                info!(target: "0301", "{name}: starting, PID {}", process.pid);
            }
            Phase::Settling { process, .. } => {
                info!(target: "0302", "{name}: runs, PID {}", process.pid)
            }
            Phase::Preparing | Phase::Closing { .. } => {
                let what = one.running_task().map_or("", |task| task.kind.title());
                info!(target: "0325", "{name}: its {what} runs");
            }
            Phase::Draining { process, .. } => {
                info!(target: "0326", "{name}: DRAINING, PID {}", process.pid);
            }
            Phase::Seeking { starter, .. } => {
                let pid = starter.pid;
                info!(target: "0328", "{name}: PID {pid}, which started it, has ended; its main process is looked for");
            }
            Phase::Unready { process, .. } => {
                info!(target: "0318", "{name}: runs, PID {}; not ready yet", process.pid);
            }
            Phase::Queued => info!(target: "0315", "{name}: WAITING: {reason}"),
            Phase::Up { process } => info!(target: "0303", "{name}: RUNNING, PID {}", process.pid),
            Phase::Stopping { process, leader_dead: false, killed, .. } => {
                let how = match (killed, one.running_task()) {
                    (true, _) => "SIGKILL",
                    (false, Some(task)) => task.kind.title(),
                    (false, None) => "its stop signal",
                };
                let why = if reason.is_empty() { reason } else { format!("; {reason}") };
                info!(target: "0304", "{name}: stopping, PID {}, with {how}{why}", process.pid);
            }
            Phase::Stopping { process, leader_dead: true, .. } => {
                let exit =
                    rec.last_exit.as_ref().map_or_else(String::new, |last| exit_text(last.exit));
                let is_wanted = rec.wanted == Wanted::Up;
                match is_wanted {
                    true => warn!(target: "0305", "{name}: ended, PID {}: {exit}", process.pid),
                    false => info!(target: "0305", "{name}: ended, PID {}: {exit}", process.pid),
                }
            }
            Phase::Reaping { process, .. } => {
                info!(target: "0306", "{name}: ended, PID {}; its exit status is asked for", process.pid);
            }
            Phase::Down => info!(target: "0307", "{name}: STOPPED"),
            Phase::Exited => info!(target: "0308", "{name}: EXITED: {reason}"),
            Phase::Backoff { until } => {
                let wait_ms = until.since(self.ctx.now());
                warn!(target: "0309", "{name}: BACKOFF: {reason}; the next try in {wait_ms} ms");
            }
            Phase::Failed => {
                error!(target: "0310", "{name}: FAILED: {reason}; `nodemanager reset {name}` tries again")
            }
            Phase::Waiting { pid, .. } => {
                warn!(target: "0311", "{name}: WAITING for the end of PID {pid}, which carries its mark");
            }
            Phase::Locking { .. } => warn!(target: "0314", "{name}: WAITING for {reason}"),
            Phase::Spawning { .. } | Phase::Execing { .. } | Phase::Verifying { .. } => {
                info!(target: "0312", "{name}: {reason}");
            }
        }
    }
}
