//! The configuration file: read once, checked completely, then plain values.
//!
//! Must not start, open or change anything: it reads one file and says what is wrong with it. The
//! values hold resolved paths and milliseconds, and go as JSON to the processes of the pair, so
//! that all of them work with the same ones.

mod accounts;
mod assemble;
pub mod cgroup;
mod checks;
mod commands;
mod dependencies;
mod document;
mod effective;
pub mod env_file;
mod error;
mod events;
mod expand;
mod file;
pub mod identity;
mod input;
mod instances;
mod metrics;
mod order;
mod output;
mod policy;
mod reader;
mod sections;
mod server;
mod servers;
mod shared;
mod sockets;
pub mod units;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_many;

pub use self::events::{Alerts, EventHook, Mail, MailWay};
pub use accounts::look_up_accounts;
pub use assemble::{parse, parse_input};
pub use checks::{HealthCheck, Http, Probe, Readiness, Target};
pub use commands::{Drain, Hook, Hooks, Reload, Stop};
pub use effective::{Effective, effective};
pub use error::{ConfigError, ConfigErrors};
pub use file::{find_file, home_of, likely_run_dir, load, load_for_command, read_all};
pub use input::{Include, Input, Source, Unset, includes};
pub use metrics::Metrics;
pub use output::{Output, OutputTo, Stderr, Stream};
pub use server::{Definition, Dependency, Program, ServerConfig};
pub use shared::Shared;
pub use sockets::{Listen, Socket};

pub use crate::core::plan::OnFailure;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// A whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Absolute when it was loaded.
    pub file: PathBuf,
    /// Where relative paths start, absolute.
    pub home: PathBuf,
    /// Files that `include` brought in, in their order.
    pub included: Vec<PathBuf>,
    pub node: NodeConfig,
    /// In the order of the file; names differ.
    #[serde(deserialize_with = "shared::servers")]
    pub servers: Vec<ServerConfig>,
    /// Who is told of events.
    #[serde(default)]
    pub alerts: Alerts,
    /// Where metrics are told beside the control socket.
    #[serde(default)]
    pub metrics: Option<Metrics>,
    /// What is allowed but probably not meant, one sentence each, with file and line.
    pub warnings: Vec<String>,
    /// What became of it in the pair.
    #[serde(default)]
    pub applied: Applied,
}

/// What a configuration in force remembers of those before it; in a file there is nothing of this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Rises with each `apply` since the pair was started.
    pub generation: u64,
    /// Of each server whose definition was changed in a way that needs a restart.
    pub revisions: BTreeMap<String, u64>,
    /// Servers that were taken out, while a process of theirs may live.
    #[serde(deserialize_with = "shared::servers")]
    pub retired: Vec<ServerConfig>,
}

impl Config {
    /// Those in force, and those on their way out.
    pub fn all_servers(&self) -> impl Iterator<Item = &ServerConfig> {
        self.servers.iter().chain(&self.applied.retired)
    }

    /// The revision of a server's definition.
    pub fn revision(&self, name: &str) -> u64 {
        self.applied.revisions.get(name).copied().unwrap_or_default()
    }
}

/// The `[nodeManager]` table. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfig {
    pub name: String,
    /// Without it there is no standby.
    pub standby_port: Option<u16>,
    pub standby_port_line: Option<u32>,
    /// What is worth nothing after a reboot.
    pub run_dir: PathBuf,
    /// What must outlive a reboot.
    pub state_dir: PathBuf,
    pub log_dir: PathBuf,
    pub heartbeat_interval_ms: u64,
    /// At least twice the interval.
    pub heartbeat_timeout_ms: u64,
    pub on_term: OnTerm,
    /// For all servers together.
    pub shutdown_timeout_ms: u64,
    pub log_level: LogLevel,
    pub log_target: LogTarget,
    pub log_format: LogFormat,
    /// Bytes.
    pub log_max_size: u64,
    pub log_max_files: u32,
    /// Rotated logs of the pair become gzip files.
    pub log_compress: bool,
    /// Bytes; of a history that is larger the older half goes.
    pub events_max_size: u64,
    /// Where journald takes streams.
    pub journal_socket: PathBuf,
    /// Where syslog takes datagrams.
    pub syslog_socket: PathBuf,
    /// Permission bits of the control socket.
    pub control_mode: u32,
    /// The user of servers that name none, where this is root.
    pub server_user: Option<identity::Named>,
    pub control_group: Option<ControlGroup>,
    /// Where the servers' cgroups are.
    pub cgroup_root: cgroup::CgroupRoot,
    /// Servers that may be on their way up at once.
    pub max_parallel_starts: u32,
}

/// The group of the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlGroup {
    /// As it was written.
    pub name: String,
    pub line: u32,
    /// `None` until a name was looked up.
    pub gid: Option<u32>,
}

impl NodeConfig {
    /// The path of the control socket; it fits a socket address.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }
}

/// What SIGTERM to the keeper or the active does with the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnTerm {
    StopServers,
    KeepServers,
}

/// How much the logs of the pair say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Where the logs of the pair go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    File,
    Stderr,
    Journal,
}

/// What a line of the pair's logs looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Text,
    Json,
}

/// Whether a server starts in a new life of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoStart {
    Yes,
    No,
    /// As it was before the reboot.
    Remember,
}

/// The resolved paths and servers, one a line, for people to read.
pub fn effective_lines(config: &Config) -> String {
    let node = &config.node;
    let standby_port = match node.standby_port {
        Some(port) => port.to_string(),
        None => "none, so there is no standby".to_owned(),
    };
    let rows = [
        ("file", config.file.display().to_string()),
        ("home", config.home.display().to_string()),
        ("runDir", node.run_dir.display().to_string()),
        ("stateDir", node.state_dir.display().to_string()),
        ("logDir", node.log_dir.display().to_string()),
        ("control socket", node.control_socket().display().to_string()),
        ("standbyPort", standby_port),
    ];
    let mut lines = String::new();
    for (title, value) in rows {
        // writing to a String can't fail
        let _ = writeln!(lines, "{title:<15} {value}");
    }
    for file in &config.included {
        let _ = writeln!(lines, "included        {}", file.display());
    }
    for server in &config.servers {
        let command = shlex::try_join(server.command.iter().map(String::as_str))
            .unwrap_or_else(|_| server.command.join(" "))
            .replace(char::is_control, "?");
        let cwd = server.cwd.display();
        let who = server.identity.account.as_ref().map_or(String::new(), |account| {
            let name = account.name.clone().unwrap_or_else(|| "no name".to_owned());
            format!(", as {name}: uid {}, gid {}", account.uid, account.gid)
        });
        let _ = writeln!(lines, "server {:<8} {command} (in {cwd}{who})", server.name);
    }
    lines
}
