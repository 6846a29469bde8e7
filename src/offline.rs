//! What can be told and done without a running pair: from the journal alone.
//!
//! Must not write the journal or take the pair's lock for longer than a stop takes: it is the
//! commands' view of servers that were left up.

use crate::api::{self, Pair, State, Status};
use crate::config::Config;
use crate::core::promotion::merge;
use crate::core::record::Record;
use crate::core::{Entry, Identity, NodeRecord, ServerRecord, Wanted};
use crate::journal;
use crate::shell::view::{Clock, server_status, with_programs};
use crate::state::disabled;
use crate::sys::pidfd::{self, Verified};
use crate::sys::process;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Between two looks at a server that is being stopped.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the journal says now.
pub struct Records {
    node: Option<NodeRecord>,
    servers: BTreeMap<String, ServerRecord>,
    same_boot: bool,
}

/// Reads the journal.
///
/// # Errors
/// It can't be read; the text says why.
pub fn read(config: &Config) -> Result<Records, String> {
    let mut records = Records { node: None, servers: BTreeMap::new(), same_boot: false };
    let contents = journal::read(&config.node.run_dir).map_err(|error| error.to_string())?;
    let Some(contents) = contents else { return Ok(records) };
    records.same_boot = process::boot_id().is_ok_and(|boot| boot == contents.origin.boot_id)
        && process::pid_namespace_inode().is_ok_and(|inode| inode == contents.origin.pid_namespace);
    let entries: Vec<Entry> = contents
        .payloads
        .iter()
        .filter_map(|payload| serde_json::from_slice(payload).ok())
        .collect();
    for entry in merge(entries, BTreeMap::new()).0.into_values() {
        match entry.record {
            Record::Node(node) => records.node = Some(node),
            Record::Server(server) => drop(records.servers.insert(server.name.clone(), server)),
        }
    }
    Ok(records)
}

impl Records {
    /// The status without a pair: servers that are still up are UNMANAGED.
    pub fn status(&self, config: &Config) -> Status {
        let clock = Clock::read();
        let version = env!("CARGO_PKG_VERSION").to_string();
        let mut servers: Vec<api::ServerStatus> = Vec::new();
        for server in &config.servers {
            let record = self.servers.get(&server.name).cloned();
            let record = record.unwrap_or_else(|| ServerRecord::new(&server.name, Wanted::Down));
            servers.push(self.server(&record, &clock, server.restart.tries));
        }
        let is_configured = |name: &str| config.servers.iter().any(|server| server.name == name);
        for record in self.servers.values().filter(|record| !is_configured(&record.name)) {
            let status = self.server(record, &clock, 0);
            if status.state == State::Unmanaged {
                servers.push(status);
            }
        }
        Status {
            schema: api::SCHEMA,
            node: config.node.name.clone(),
            version,
            pair: Pair::Down,
            since: None,
            takeovers: self.node.as_ref().map_or(0, |node| node.takeovers),
            switchovers: 0,
            last_switchover: None,
            last_takeover: None,
            maintenance: false,
            active: None,
            standby: None,
            keeper: None,
            config_generation: 0,
            applying: false,
            servers: with_list(with_programs(servers, config), config),
        }
    }

    fn server(&self, record: &ServerRecord, clock: &Clock, tries: u32) -> api::ServerStatus {
        let alive = self.living(record);
        let mut status = server_status(record, clock, tries);
        match alive {
            Some(_) => status.state = State::Unmanaged,
            None => {
                status.state = State::Stopped;
                (status.pid, status.started_at, status.ready_at) = (None, None, None);
                (status.cpu_seconds, status.rss_bytes) = (None, None);
            }
        }
        status
    }

    fn living(&self, record: &ServerRecord) -> Option<(Identity, OwnedFd)> {
        let process = record.phase.process().filter(|_| self.same_boot)?;
        match pidfd::open_verified(&process) {
            Ok(Verified::Alive(fd)) => Some((process, fd)),
            _ => None,
        }
    }

    /// Stops what was left up: stop signal, grace, SIGKILL, until each group is empty. Gives a
    /// line for each server, and whether all are gone.
    pub fn stop_all(&self, config: &Config) -> (Vec<String>, bool) {
        let mut living = Vec::new();
        for record in self.servers.values() {
            if let Some((process, fd)) = self.living(record) {
                let server = config.servers.iter().find(|server| server.name == record.name);
                let signal = server.map_or(libc::SIGTERM, |server| server.stop.signal);
                let grace_ms = server.map_or(10_000, |server| server.stop.timeout_ms);
                let _ = pidfd::signal_group(&fd, process.pid, signal, false);
                let until = Instant::now() + Duration::from_millis(grace_ms);
                living.push((record.name.clone(), process, fd, until));
            }
        }
        let mut lines = Vec::new();
        let end = Instant::now() + Duration::from_millis(config.node.shutdown_timeout_ms);
        while !living.is_empty() && Instant::now() < end {
            living.retain(|(name, process, fd, until)| {
                let is_gone = is_group_gone(fd, process);
                if is_gone {
                    lines.push(format!("{name}: stopped, PID {}", process.pid));
                } else if Instant::now() >= *until {
                    let _ = pidfd::signal_group(fd, process.pid, libc::SIGKILL, false);
                }
                !is_gone
            });
            // A command may wait; nothing else runs in this process.
            std::thread::sleep(LOOK_EVERY);
        }
        for (name, process, ..) in &living {
            lines.push(format!("{name}: PID {} is still up", process.pid));
        }
        let is_all_gone = living.is_empty();
        (lines, is_all_gone)
    }
}

/// The list of disabled servers is the authority, not what the journal knew of it.
fn with_list(mut servers: Vec<api::ServerStatus>, config: &Config) -> Vec<api::ServerStatus> {
    if let Ok(names) = disabled::read(&config.node.state_dir) {
        for server in &mut servers {
            server.enabled = !names.contains(&server.name);
        }
    }
    servers
}

fn is_group_gone(fd: &OwnedFd, process: &Identity) -> bool {
    if !pidfd::is_dead(fd) {
        return false;
    }
    match pidfd::signal_group(fd, process.pid, 0, false) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => true,
        _ => process::live_group_members(process.pid).is_ok_and(|members| members.is_empty()),
    }
}
