//! What can be told and done without a running pair: from the journal alone.
//!
//! Must not write the journal or take the pair's lock for longer than a stop takes: it is the
//! commands' view of servers that were left up.

use crate::api::{self, Pair, State, Status};
use crate::config::{Config, ServerConfig};
use crate::core::copy::Latest;
use crate::core::promotion::know;
use crate::core::{Entry, Identity, NodeRecord, Recovered, ServerRecord, Wanted};
use crate::journal;
use crate::shell::view::{Clock, server_status, with_programs};
use crate::state::{disabled, stopped};
use crate::sys::pidfd::{self, Verified};
use crate::sys::process;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Between two looks at a server that is being stopped.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Who was killed is gone by then.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
/// Stop signal and grace, in milliseconds, of a server that is not in the configuration.
const OTHERWISE: (i32, u64) = (libc::SIGTERM, 10_000);

/// What the journal says now.
pub struct Records {
    /// The number of the last one.
    last: Option<u64>,
    node: Option<NodeRecord>,
    servers: BTreeMap<String, ServerRecord>,
    same_boot: bool,
}

/// Reads the journal.
///
/// # Errors
/// It can't be read; the text says why.
pub fn read(config: &Config) -> Result<Records, String> {
    let mut records =
        Records { last: None, node: None, servers: BTreeMap::new(), same_boot: false };
    let contents = journal::read(&config.node.run_dir).map_err(|error| error.to_string())?;
    let Some(contents) = contents else { return Ok(records) };
    records.same_boot = process::boot_id().is_ok_and(|boot| boot == contents.origin.boot_id)
        && process::pid_namespace_inode().is_ok_and(|inode| inode == contents.origin.pid_namespace);
    let entries: Vec<Entry> = contents
        .payloads
        .iter()
        .filter_map(|payload| serde_json::from_slice(payload).ok())
        .collect();
    records.last = entries.iter().map(|entry| entry.seq).max();
    let found = Recovered { entries, same_boot: true, ..Recovered::default() };
    let mut known = know(found, Latest::default());
    records.node = known.node.take();
    records.servers = known.rest().map(|server| (server.name.to_string(), *server)).collect();
    Ok(records)
}

impl Records {
    /// The status without a pair: servers that are still up are UNMANAGED.
    pub fn status(&self, config: &Config) -> Status {
        let clock = Clock::read();
        let version = env!("CARGO_PKG_VERSION").to_string();
        let mut servers: Vec<api::ServerStatus> = Vec::new();
        for server in &config.servers {
            let record = self.servers.get(server.name.as_str()).cloned();
            let record =
                record.unwrap_or_else(|| ServerRecord::new(server.name.clone(), Wanted::Down));
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

    /// Stops what was left up, those that need others before these: stop signal, grace, SIGKILL,
    /// until each group is empty. Gives a line for each server, and whether all are gone.
    ///
    /// The next start begins a new life then.
    pub fn stop_all(&self, config: &Config) -> (Vec<String>, bool) {
        let mut left: Vec<Left<'_>> = Vec::new();
        for record in self.servers.values() {
            if let Some((process, fd)) = self.living(record) {
                let server = config.servers.iter().find(|server| server.name == record.name);
                left.push(Left { name: &record.name, server, process, fd, until: None });
            }
        }
        let mut lines = Vec::new();
        let end = Instant::now() + Duration::from_millis(config.node.shutdown_timeout_ms);
        while !left.is_empty() && Instant::now() < end + KILLED_WITHIN {
            signal(&mut left, Instant::now() >= end);
            left.retain(|one| {
                let is_gone = is_group_gone(&one.fd, &one.process);
                if is_gone {
                    lines.push(format!("{}: stopped, PID {}", one.name, one.process.pid));
                }
                !is_gone
            });
            // A command may wait; nothing else runs in this process.
            std::thread::sleep(LOOK_EVERY);
        }
        for one in &left {
            lines.push(format!("{}: PID {} is still up", one.name, one.process.pid));
        }
        let is_all_gone = left.is_empty();
        if is_all_gone
            && let Some(last) = self.last.filter(|_| self.same_boot)
            && let Err(error) = stopped::write(&config.node.run_dir, last)
        {
            let dir = config.node.run_dir.display();
            lines.push(format!(
                "warning: cannot write to {dir}: {error}; the next start takes the servers as wanted as they were"
            ));
        }
        (lines, is_all_gone)
    }
}

/// A server that is up without a pair.
struct Left<'a> {
    name: &'a str,
    /// `None`: it is not in the configuration any more.
    server: Option<&'a ServerConfig>,
    process: Identity,
    fd: OwnedFd,
    /// The end of its grace; `None`: it was not told to end.
    until: Option<Instant>,
}

/// The stop signal for those that nobody who is up needs; SIGKILL where the grace is over, and for
/// all when the time for all of them is over.
fn signal(left: &mut [Left<'_>], is_over: bool) {
    let needs = left.iter().filter_map(|one| one.server).flat_map(|server| &server.depends_on);
    let needed: BTreeSet<&str> = needs.map(|need| need.name.as_str()).collect();
    for one in left {
        let (number, grace_ms) =
            one.server.map_or(OTHERWISE, |server| (server.stop.signal, server.stop.timeout_ms));
        match one.until {
            None if !is_over && needed.contains(one.name) => {}
            None if !is_over => {
                let _ = pidfd::signal_group(&one.fd, one.process.pid, number, false);
                one.until = Some(Instant::now() + Duration::from_millis(grace_ms));
            }
            Some(until) if !is_over && Instant::now() < until => {}
            _ => {
                let _ = pidfd::signal_group(&one.fd, one.process.pid, libc::SIGKILL, false);
            }
        }
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
