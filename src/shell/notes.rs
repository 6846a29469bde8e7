//! What people are told: log lines with their codes, and `run/pair.json`.
//!
//! Must not decide anything. The codes are stable and listed in docs/LOG_CODES.md.

mod servers;

use super::Shell;
use crate::api::{self, PairFile, Twin};
use crate::config::{Config, LogLevel};
use crate::core::record::{Cause, Planned};
use crate::core::server::exit_text;
use crate::core::{Identity, Note, Phase, ServerId};
use crate::sys::process;
use jiff::Timestamp;
use log::{LevelFilter, error, info, warn};
use std::io::{self, Write};
use std::path::PathBuf;

/// Says something on stderr; a closed pipe or a full device is no reason to end.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The `log` crate's level for the configuration's.
pub fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

/// Writes `run/pair.json`, for the time when nobody answers.
pub struct PairFileWriter {
    path: PathBuf,
    node: String,
    is_failing: bool,
    /// That the pair is served is still to be written, in so many turns.
    turns: u8,
}

/// Making a file may wait for the disk for milliseconds: whoever waited for a takeover is answered before.
const TURNS_TO_PAIR_FILE: u8 = 3;

impl PairFileWriter {
    pub fn new(config: &Config) -> PairFileWriter {
        let path = config.node.run_dir.join("pair.json");
        PairFileWriter { path, node: config.node.name.clone(), is_failing: false, turns: 0 }
    }

    pub fn is_due(&self) -> bool {
        self.turns > 0
    }

    fn write(&mut self, file: &PairFile) {
        let new = self.path.with_extension("json.new");
        let text = serde_json::to_vec(file).unwrap_or_default();
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.path));
        match written {
            Ok(()) => self.is_failing = false,
            Err(error) if !std::mem::replace(&mut self.is_failing, true) => {
                warn!(target: "0105", "cannot write {}: {error}", self.path.display());
            }
            Err(_) => {}
        }
    }
}

impl Shell {
    /// Who is who, and what is waited for.
    pub(super) fn write_pair_file(&mut self, state: &str, waits_for: Option<String>) {
        let version = env!("CARGO_PKG_VERSION");
        let twin = |process: Identity| Twin {
            pid: process.pid,
            start_ticks: process.start_ticks,
            version: version.to_string(),
        };
        let other = self.other.as_ref().map(|(process, _)| twin(*process));
        let own = Some(twin(self.own));
        let is_active = self.node.role == crate::core::node::Role::Active;
        let (active, standby) = if is_active { (own, other) } else { (other, own) };
        let keeper = self.keeper.keeper().zip(self.keeper.start_ticks());
        let file = PairFile {
            schema: api::SCHEMA,
            node: self.pair_file.node.clone(),
            state: state.to_string(),
            active,
            standby,
            keeper: keeper.map(|(seen, start_ticks)| Twin {
                pid: seen.pid,
                start_ticks,
                version: version.to_string(),
            }),
            waits_for,
            decides_within_ms: Some(self.node.hang_timeout_ms(self.ctx.now())),
            written_at: Timestamp::from_millisecond(
                i64::try_from(process::wall_ms()).unwrap_or_default(),
            )
            .map(|time| format!("{time:.3}"))
            .unwrap_or_default(),
        };
        self.pair_file.turns = 0;
        self.pair_file.write(&file);
    }

    /// That this process serves is written in one of the next turns.
    pub(super) fn note_serving(&mut self) {
        self.pair_file.turns = TURNS_TO_PAIR_FILE;
    }

    pub(super) fn write_due_pair_file(&mut self) {
        if !self.pair_file.is_due() {
            return;
        }
        self.pair_file.turns -= 1;
        if !self.pair_file.is_due() {
            self.write_pair_file("serving", None);
        }
    }

    pub(super) fn say_beginning(&self) {
        let (pid, file) = (self.own.pid, self.ctx.config.file.display());
        let version = env!("CARGO_PKG_VERSION");
        if self.node.role == crate::core::node::Role::Standby {
            info!(target: "0201", "standby node manager {version} starting, PID {pid}");
            info!(target: "0102", "configuration {file}, handed over by the active");
        } else {
            info!(target: "0101", "node manager {version} starting, PID {pid}");
            info!(target: "0102", "configuration {file}, servers: {}", self.ctx.config.servers.len());
            for warning in &self.ctx.config.warnings {
                warn!(target: "0102", "{warning}");
            }
        }
    }

    pub(super) fn say_serving(&self) {
        let node = &self.ctx.config.node;
        info!(target: "0108", "listening on {}", node.control_socket().display());
        if let Some(port) = node.standby_port {
            info!(target: "0108", "listening on 127.0.0.1:{port} for the standby");
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        self.happened(&note);
        match note {
            Note::Server(server) => {
                self.set_writer(server);
                self.watch_log(server);
                self.note_server(server);
            }
            Note::Adopted(server) => {
                self.set_writer(server);
                self.watch_log(server);
                let name = self.servers.name(server);
                let pid = self.node.servers.get(server.0).and_then(|one| one.rec.phase.process());
                let pid = pid.map_or(0, |process| process.pid);
                let name = name.to_string();
                self.outputs.join_unlinked(&self.ctx, &name, pid);
                info!(target: "0115", "{name}: found again, PID {pid}");
                info!(target: "0137", "{name}: begins to watch it");
                info!(target: "0145", "{name}: its process is alive, PID {pid}");
            }
            Note::ExitLearned(server) => {
                let one = self.node.servers.get(server.0);
                if let Some(last) = one.and_then(|one| one.rec.last_exit.as_ref()) {
                    let (name, pid) = (self.servers.name(server), last.process.pid);
                    let exit = exit_text(last.exit);
                    info!(target: "0313", "{name}: how PID {pid} ended is known now: {exit}");
                }
            }
            Note::NewLife => {
                info!(target: "0106", "a new life begins: autoStart decides what starts")
            }
            Note::SameLife => {
                info!(target: "0106", "the life goes on: servers are wanted as they were")
            }
            Note::LeftOver { name } => warn!(
                target: "0107",
                "{name} still runs and is not in the configuration any more; `nodemanager stop {name}` ends it"
            ),
            Note::Ending { stop_servers: true } => {
                info!(target: "0130", "the pair ends, and its servers")
            }
            Note::Ending { stop_servers: false } => {
                info!(target: "0130", "the pair ends; its servers stay up")
            }
            Note::StandbyKilledAtStop => {
                warn!(target: "0131", "the standby did not end in time and was killed")
            }
            Note::ShutdownTimeout => {
                warn!(target: "0132", "shutdownTimeout is over: what is still up is killed")
            }
            Note::Ended => info!(target: "0133", "ends, PID {}", self.own.pid),
            Note::NeedLost { .. }
            | Note::Enabling { .. }
            | Note::MainFound(_)
            | Note::Task { .. }
            | Note::Drained { .. }
            | Note::EssentialFailed(_) => self.note_beside(note),
            other => self.note_pair(other),
        }
    }

    /// Lines in syslog have the PID of who wrote them.
    pub(super) fn set_writer(&mut self, server: ServerId) {
        let Some(one) = self.node.servers.get(server.0) else { return };
        let pid = one.rec.phase.process().map(|process| process.pid);
        self.outputs.set_writer(&self.ctx, &one.rec.name, pid);
    }

    fn note_pair(&mut self, note: Note) {
        match note {
            Note::StandbyUp { process } => {
                info!(target: "0125", "the standby is WATCHING, PID {}", process.pid);
                if self.came_by_upgrade {
                    self.renew_keeper();
                }
                self.note_serving();
            }
            Note::StandbyDown { reason, retry_ms } => {
                warn!(target: "0126", "the standby is down: {reason}; the next one in {retry_ms} ms");
                self.note_serving();
            }
            Note::StandbyHung { process } => {
                warn!(target: "0127", "the standby hangs and is killed, PID {}", process.pid);
            }
            Note::LinkRebuilt => {
                warn!(target: "0128", "the link is silent while the other twin works: it is rebuilt, nobody is killed");
            }
            Note::LinkLost => warn!(target: "0202", "the link is lost"),
            Note::LinkUp => {
                let pid = self.other.as_ref().map_or(0, |(process, _)| process.pid);
                info!(target: "0203", "connected to the active, PID {pid}");
            }
            Note::ActiveDead => {
                let pid = self.other.as_ref().map_or(0, |(process, _)| process.pid);
                warn!(target: "0204", "the active died, PID {pid}: taking over");
            }
            Note::ActiveHung { silent_ms } => {
                let pid = self.other.as_ref().map_or(0, |(process, _)| process.pid);
                warn!(target: "0205", "the active hangs, PID {pid}: no heartbeat and no pulse for {silent_ms} ms; it is killed");
            }
            Note::WaitsForDeath { since_ms } => {
                let pid = self.other.as_ref().map_or(0, |(process, _)| process.pid);
                let text = format!(
                    "waits for the death of the old active, PID {pid}: SIGKILL was sent {} s ago and \
                     it is still there (frozen, or stuck in the kernel)",
                    since_ms / 1000
                );
                error!(target: "0206", "{text}");
                self.write_pair_file("taking over", Some(text));
            }
            Note::WaitsForLock { pid, error } => self.note_lock(pid, error),
            Note::TookOver { cause, took_ms } => self.note_takeover(cause, took_ms),
            Note::SwitchedOver { why, took_ms } => {
                self.came_by_upgrade = why == Planned::Upgrade;
                self.note_switchover(took_ms);
            }
            Note::NotHandedOver { text } => {
                warn!(target: "0161", "this active goes on after all: {text}");
            }
            Note::Maintenance { is_on: true } => {
                warn!(target: "0162", "maintenance is ON: nothing is restarted by itself until `nodemanager maintenance off`");
            }
            Note::Maintenance { is_on: false } => info!(target: "0162", "maintenance is OFF"),
            Note::ActiveHandsOver => {
                let pid = self.other.as_ref().map_or(0, |(process, _)| process.pid);
                info!(target: "0209", "the active, PID {pid}, has ended and handed over");
            }
            Note::HangsRepeat { times, timeout_ms } => error!(
                target: "0129",
                "ALERT: {times} hangs in a short time (is a disk dead?); a hang is concluded only after {timeout_ms} ms now"
            ),
            // Said by `note`.
            _ => {}
        }
    }

    fn note_lock(&mut self, pid: i32, error: Option<String>) {
        let path = super::lock_path(&self.ctx.config);
        let text = match error {
            Some(error) => format!("cannot take the lock {}: {error}", path.display()),
            None if self.revives => format!(
                "{} is held by PID {pid}: a twin was quicker, so this one is not needed",
                path.display()
            ),
            None => format!(
                "{} is held by PID {pid}: another pair runs with this runDir",
                path.display()
            ),
        };
        error!(target: "0103", "{text}");
        if self.stderr_is_open {
            say(&format!("nodemanager: {text}"));
        }
        if self.node.promotion.as_ref().is_some_and(|promotion| promotion.cause.is_some()) {
            self.write_pair_file("taking over", Some(text));
        }
    }

    /// In both logs: the standby's, and then the active's, which this process goes on with.
    fn note_takeover(&mut self, cause: Cause, took_ms: u64) {
        let why = match cause {
            Cause::Death => "death",
            Cause::Hang => "hang",
        };
        let old = self.other.as_ref().map_or(0, |(process, _)| process.pid);
        let text = format!(
            "takeover after the {why} of PID {old}: PID {} is the active now ({took_ms} ms)",
            self.own.pid
        );
        warn!(target: "0207", "{text}");
        if self.goes_on_in_actives_log() {
            warn!(target: "0207", "{text}");
        }
    }

    /// As a takeover, in both logs.
    fn note_switchover(&mut self, took_ms: u64) {
        let from = self.other.as_ref().map(|(process, _)| format!(" from PID {}", process.pid));
        let from = from.unwrap_or_default();
        let text =
            format!("switchover{from}: PID {} is the active now ({took_ms} ms)", self.own.pid);
        info!(target: "0208", "{text}");
        if self.goes_on_in_actives_log() {
            info!(target: "0208", "{text}");
        }
    }

    /// Whether the lines of this process go to another file from here on.
    fn goes_on_in_actives_log(&mut self) -> bool {
        // Its pidfd has told all it can. Who was no standby writes the active's log already.
        let was_standby = self.other.take().is_some();
        if self.ctx.config.node.log_target != crate::config::LogTarget::File || !was_standby {
            return false;
        }
        if let Err(error) = self.log.switch_to(&super::log_path(&self.ctx.config, false)) {
            warn!(target: "0104", "cannot write the active's log: {error}");
        }
        true
    }

    /// A server that is ready when its log says so.
    fn watch_log(&mut self, server: ServerId) {
        let Some(one) = self.node.servers.get(server.0) else { return };
        let rec = &one.rec;
        let Some(config) = self.ctx.server(&rec.name) else { return };
        match rec.phase {
            Phase::Unready { .. } => {
                let (number, place) = (rec.start_number, rec.output_at.as_deref().copied());
                self.log_watch.begin(&self.ctx, server, config, number, place);
            }
            _ => self.log_watch.end(server),
        }
    }
}
