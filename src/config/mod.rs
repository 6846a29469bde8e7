//! The configuration file: read once, checked completely, then plain values.
//!
//! Must not start, open or change anything: it reads one file and says what is wrong with it. The
//! values hold resolved paths and milliseconds, and go as JSON to the processes of the pair, so
//! that all of them work with the same ones.

mod document;
mod error;
mod file;
mod output;
mod reader;
mod sections;
mod servers;
pub mod units;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, ConfigErrors};
pub use file::{find_file, home_of, load, parse_bytes};
pub use output::{Output, OutputTo, Stderr, Stream};
pub use sections::parse;

use crate::core::restart::Policy;
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
    pub node: NodeConfig,
    /// In the order of the file; names differ.
    pub servers: Vec<ServerConfig>,
    /// What is allowed but probably not meant, one sentence each, with file and line.
    pub warnings: Vec<String>,
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
    /// Where journald takes streams.
    pub journal_socket: PathBuf,
    /// Where syslog takes datagrams.
    pub syslog_socket: PathBuf,
    /// Permission bits of the control socket.
    pub control_mode: u32,
}

impl NodeConfig {
    /// The path of the control socket; it fits a socket address.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }
}

/// A `[[server]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerConfig {
    pub name: String,
    /// Of its header.
    pub line: u32,
    /// The program and its arguments, never empty. A program with a `/` in it is an absolute path
    /// here; a bare name is to be looked up in the server's PATH.
    pub command: Vec<String>,
    /// Absolute.
    pub cwd: PathBuf,
    pub env: BTreeMap<String, String>,
    /// Names, or patterns of names with `*`, of variables that the server gets from its manager.
    pub pass_env: Vec<String>,
    pub auto_start: AutoStart,
    /// Up for so long, a server without a readiness check counts as started.
    pub settle_ms: u64,
    pub restart: Policy,
    pub stop: Stop,
    pub output: Output,
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

/// How a server is stopped: the signal, and SIGKILL when the time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    pub signal: i32,
    pub timeout_ms: u64,
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
    for server in &config.servers {
        let command = shlex::try_join(server.command.iter().map(String::as_str))
            .unwrap_or_else(|_| server.command.join(" "))
            .replace(char::is_control, "?");
        let cwd = server.cwd.display();
        let _ = writeln!(lines, "server {:<8} {command} (in {cwd})", server.name);
    }
    lines
}
