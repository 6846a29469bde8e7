//! The keys of the configuration, and the `[nodeManager]` table: what each key means, its default
//! and its limits.
//!
//! Pure: the text goes in, a configuration or all of its errors come out. Must not look at the
//! machine.

use super::document::{Document, Value};
use super::error::ConfigErrors;
use super::reader::{self, Reader, Refused};
use super::servers::servers;
use super::units::quoted;
use super::{Config, LogFormat, LogLevel, LogTarget, NodeConfig, OnTerm, ServerConfig};
use crate::core::restart::{Policy, Then, When};
use std::path::Path;
use toml::de::{DeTable, DeValue};

const TOP_KEYS: &[&str] = &["nodeManager", "server"];

pub const NODE_KEYS: &[&str] = &[
    "name",
    "standbyPort",
    "runDir",
    "stateDir",
    "logDir",
    "heartbeatInterval",
    "heartbeatTimeout",
    "onTerm",
    "shutdownTimeout",
    "logLevel",
    "logTarget",
    "logFormat",
    "logMaxSize",
    "logMaxFiles",
    "logCompress",
    "journalSocket",
    "syslogSocket",
    "controlMode",
    "serverAutoRestart",
    "serverRestartTryCount",
    "serverRestartDurationTime",
    "serverRetryRestart",
];

pub const SERVER_KEYS: &[&str] = &[
    "name",
    "command",
    "cwd",
    "env",
    "passEnv",
    "autoStart",
    "settleTime",
    "restart",
    "stop",
    "output",
];

pub const RESTART_KEYS: &[&str] =
    &["when", "tries", "window", "delay", "delayMax", "resetAfter", "then"];
pub const STOP_KEYS: &[&str] = &["signal", "timeout"];
pub const OUTPUT_KEYS: &[&str] =
    &["to", "stderr", "maxSize", "maxFiles", "maxAge", "compress", "timestamps"];

/// All tables with their keys, to say where a misplaced key belongs.
pub const SECTIONS: &[(&str, &[&str])] = &[
    ("[nodeManager]", NODE_KEYS),
    ("[[server]]", SERVER_KEYS),
    ("restart of a [[server]]", RESTART_KEYS),
    ("stop of a [[server]]", STOP_KEYS),
    ("output of a [[server]]", OUTPUT_KEYS),
];

/// The longest socket path: sun_path has 108 bytes, the last one is NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// A name becomes a part of file names, which have 255 bytes.
const MAX_NAME: usize = 100;

/// Below that a log would rotate at every other line.
pub const LEAST_LOG_SIZE: (u64, &str) = (1024, "1KiB");

/// Kept failures are as many as tries, in every record of a server.
pub const MAX_TRIES: u32 = 1_000;

pub const MAX_FILES: u32 = 1_000;

/// The configuration in `text`. `file` is for messages and kept as it is; `home`, an absolute
/// path, is where relative paths start.
pub fn parse(text: &str, file: &Path, home: &Path) -> Result<Config, ConfigErrors> {
    let document = Document::new(text, file, home);
    let content = document.parse(text);
    let checked = content.as_ref().map(|table| read(&document, table.get_ref()));
    let warnings = document.finish()?;
    // without content there are errors; the defaults are never seen
    let (node, servers) = checked.ok_or_else(|| ConfigErrors(Vec::new()))?;
    Ok(Config { file: file.to_owned(), home: home.to_owned(), node, servers, warnings })
}

fn read(document: &Document<'_>, table: &DeTable<'_>) -> (NodeConfig, Vec<ServerConfig>) {
    document.refuse_nul(table);
    if document.home.to_str().is_none() {
        document.error(None, "the path of the home is not UTF-8: rename it".to_owned());
    }
    let top = Reader::new(document, Some(table), TOP_KEYS, "the top level".to_owned());
    let (node, policy) = node(&top);
    (node, servers(&top, &policy))
}

/// The `[nodeManager]` table, and the restart policy that servers have by default.
fn node(top: &Reader<'_>) -> (NodeConfig, Policy) {
    let document = top.document;
    let table = match top.value("nodeManager").map(Value::get_ref) {
        Some(DeValue::Table(table)) => Some(table),
        Some(other) => {
            let text = format!("nodeManager must be a table, not {}", reader::shown(other));
            document.error(top.line_of("nodeManager"), text);
            None
        }
        None => None,
    };
    let keys = Reader::new(document, table, NODE_KEYS, "[nodeManager]".to_owned());
    let node = NodeConfig {
        name: name(&keys).unwrap_or("nodemanager-1").to_owned(),
        standby_port: standby_port(&keys),
        standby_port_line: keys.line_of("standbyPort"),
        run_dir: keys.path("runDir", "run"),
        state_dir: keys.path("stateDir", "state"),
        log_dir: keys.path("logDir", "logs"),
        heartbeat_interval_ms: keys.duration("heartbeatInterval", "500ms", 500),
        heartbeat_timeout_ms: keys.duration("heartbeatTimeout", "3s", 3_000),
        on_term: keys.choice("onTerm", ON_TERM, OnTerm::StopServers),
        shutdown_timeout_ms: keys.duration("shutdownTimeout", "2m", 120_000),
        log_level: keys.choice("logLevel", LOG_LEVEL, LogLevel::Info),
        log_target: keys.choice("logTarget", LOG_TARGET, LogTarget::File),
        log_format: keys.choice("logFormat", LOG_FORMAT, LogFormat::Text),
        log_max_size: keys.size("logMaxSize", 10 << 20),
        log_max_files: keys.number("logMaxFiles", "a number", 1..=MAX_FILES).unwrap_or(7),
        log_compress: keys.boolean("logCompress", false),
        journal_socket: keys.path("journalSocket", "/run/systemd/journal/stdout"),
        syslog_socket: keys.path("syslogSocket", "/dev/log"),
        control_mode: keys
            .get("controlMode", "an octal string such as \"0600\"", mode)
            .unwrap_or(0o600),
    };
    check_node(&keys, &node);
    (node, default_policy(&keys))
}

const ON_TERM: &[(&str, OnTerm)] =
    &[("stop-servers", OnTerm::StopServers), ("keep-servers", OnTerm::KeepServers)];

const LOG_LEVEL: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const LOG_TARGET: &[(&str, LogTarget)] =
    &[("file", LogTarget::File), ("stderr", LogTarget::Stderr), ("journal", LogTarget::Journal)];

const LOG_FORMAT: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

fn check_node(keys: &Reader<'_>, node: &NodeConfig) {
    keys.at_least("heartbeatInterval", node.heartbeat_interval_ms, 10, "10ms");
    keys.at_least("logMaxSize", node.log_max_size, LEAST_LOG_SIZE.0, LEAST_LOG_SIZE.1);
    let (interval_ms, timeout_ms) = (node.heartbeat_interval_ms, node.heartbeat_timeout_ms);
    if timeout_ms < interval_ms.saturating_mul(2) {
        let key = match keys.line_of("heartbeatTimeout") {
            Some(_) => "heartbeatTimeout",
            None => "heartbeatInterval",
        };
        let text = format!(
            "does not fit: heartbeatTimeout ({timeout_ms} ms) must be at least twice \
             heartbeatInterval ({interval_ms} ms)"
        );
        keys.error(key, text);
    }
    for (key, path) in
        [("journalSocket", &node.journal_socket), ("syslogSocket", &node.syslog_socket)]
    {
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            keys.error(key, format!("is too long: {length} bytes, and only {MAX_SOCKET_PATH} fit"));
        }
    }
    let socket = node.control_socket();
    let length = socket.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let text = format!(
            "is too long: the path of the control socket, {}, has {length} bytes, and only \
             {MAX_SOCKET_PATH} fit; choose a shorter runDir",
            socket.display()
        );
        keys.error("runDir", text);
    }
}

/// The name of the node or of a server: it becomes a part of file names.
pub fn name<'a>(keys: &Reader<'a>) -> Option<&'a str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    keys.get("name", "a string", |value| {
        let name = value.as_str().ok_or(Refused::NotWanted)?;
        let cause = match name {
            "" => "must not be empty",
            "." | ".." => "can't be \".\" or \"..\", which are directories",
            name if !name.chars().all(allowed) => {
                "may have letters, digits, \".\", \"_\" and \"-\" only"
            }
            name if name.starts_with('-') => "must not start with \"-\", as options do",
            name if name.len() > MAX_NAME => "is longer than 100 characters",
            name => return Ok(name),
        };
        Err(Refused::Because(format!("{cause}, not {}", quoted(name))))
    })
}

fn standby_port(keys: &Reader<'_>) -> Option<u16> {
    let port = keys.number("standbyPort", "a port", 1..=65_535);
    if keys.value("standbyPort").is_none() {
        let text = "no standbyPort in [nodeManager], so there is no standby that could take over";
        keys.document.warn(None, text.to_owned());
    }
    port.and_then(|port| u16::try_from(port).ok())
}

/// Permission bits, from octal digits.
fn mode(value: &DeValue<'_>) -> Result<u32, Refused> {
    let digits = value.as_str().ok_or(Refused::NotWanted)?;
    let octal = (3..=4).contains(&digits.len()) && digits.chars().all(|c| c.is_digit(8));
    let mode = u32::from_str_radix(digits, 8).map_err(|_| Refused::NotWanted)?;
    if octal && mode <= 0o777 { Ok(mode) } else { Err(Refused::NotWanted) }
}

/// What the names of JEUS say about every server's restart table.
fn default_policy(keys: &Reader<'_>) -> Policy {
    let auto_restart = keys.boolean("serverAutoRestart", true);
    let retry = keys.boolean("serverRetryRestart", true);
    let tries = keys.number("serverRestartTryCount", "a number", 0..=MAX_TRIES);
    Policy {
        when: if auto_restart { When::OnFailure } else { When::Never },
        tries: tries.unwrap_or(5),
        window_ms: keys.duration_or_ms("serverRestartDurationTime", 120_000),
        delay_ms: 1_000,
        delay_max_ms: 30_000,
        reset_after_ms: 60_000,
        then: if retry { Then::Slow } else { Then::Fail },
    }
}
