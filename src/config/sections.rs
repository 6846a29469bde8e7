//! The keys of the configuration, and the `[nodeManager]` table: what each key means, its default
//! and its limits.
//!
//! Pure: the text goes in, a configuration or all of its errors come out. Must not look at the
//! machine.

use super::cgroup;
use super::checks::{HEALTH_KEYS, READY_KEYS};
use super::document::Value;
use super::events;
use super::identity;
use super::input::problem_of;
use super::reader::{self, Reader, Refused};
use super::units::quoted;
use super::{ControlGroup, LogFormat, LogLevel, LogTarget, NodeConfig, OnTerm};
use crate::core::restart::{Policy, Then, When};
use toml::de::DeValue;

pub const TOP_KEYS: &[&str] = &["nodeManager", "server", "hook", "mail", "metrics"];

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
    "eventsMaxSize",
    "journalSocket",
    "syslogSocket",
    "controlMode",
    "controlGroup",
    "cgroupRoot",
    "maxParallelStarts",
    "include",
    "serverAutoRestart",
    "serverRestartTryCount",
    "serverRestartDurationTime",
    "serverRetryRestart",
    "serverUser",
];

pub const SERVER_KEYS: &[&str] = &[
    "name",
    "command",
    "type",
    "pidFile",
    "instances",
    "vars",
    "tags",
    "cwd",
    "env",
    "passEnv",
    "autoStart",
    "dependsOn",
    "essential",
    "settleTime",
    "ready",
    "startTimeout",
    "health",
    "socket",
    "restart",
    "stop",
    "reload",
    "hooks",
    "drain",
    "output",
    "user",
    "group",
    "umask",
    "envFile",
    "limits",
    "cgroup",
    "nice",
    "oomScoreAdjust",
    "noNewPrivileges",
    "lock",
];

pub const RESTART_KEYS: &[&str] = &[
    "when",
    "tries",
    "window",
    "delay",
    "delayMax",
    "jitter",
    "resetAfter",
    "then",
    "successCodes",
    "noRestartCodes",
];
pub const STOP_KEYS: &[&str] = &["signal", "timeout", "command"];
/// The keys of a server's reload table.
pub const RELOAD_KEYS: &[&str] = &["signal", "command", "timeout"];
pub const HOOKS_KEYS: &[&str] = &["preStart", "postStart", "preStop", "postStop", "onFailure"];
pub const HOOK_KEYS: &[&str] = &["command", "timeout"];
pub const DRAIN_KEYS: &[&str] = &["command", "check", "interval", "timeout", "onTimeout", "on"];
pub const OUTPUT_KEYS: &[&str] =
    &["to", "stderr", "maxSize", "maxFiles", "maxAge", "compress", "timestamps"];
pub const DEPENDENCY_KEYS: &[&str] = &["name", "onFailure"];
pub const SOCKET_KEYS: &[&str] = &["name", "listen", "mode", "backlog"];
pub const CGROUP_KEYS: &[&str] =
    &["memoryMax", "memoryHigh", "memorySwapMax", "cpuMax", "cpuWeight", "pidsMax", "set"];
/// The keys of a `[[hook]]`, which runs when something happens.
pub const EVENT_HOOK_KEYS: &[&str] =
    &["name", "on", "server", "command", "timeout", "env", "user", "group"];
pub const MAIL_KEYS: &[&str] = &["to", "from", "on", "group", "sendmail", "smtp"];
/// The keys of `[metrics]`.
pub const METRICS_KEYS: &[&str] = &["listen"];
pub const LOCK_KEYS: &[&str] = &["file", "timeout"];
/// The resources of setrlimit(2), by the names that limits.conf(5) gives them.
pub const LIMIT_KEYS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// All tables with their keys, to say where a misplaced key belongs.
pub const SECTIONS: &[(&str, &[&str])] = &[
    ("[nodeManager]", NODE_KEYS),
    ("[[server]]", SERVER_KEYS),
    ("restart of a [[server]]", RESTART_KEYS),
    ("stop of a [[server]]", STOP_KEYS),
    ("reload of a [[server]]", RELOAD_KEYS),
    ("hooks of a [[server]]", HOOKS_KEYS),
    ("a hook of a [[server]]", HOOK_KEYS),
    ("drain of a [[server]]", DRAIN_KEYS),
    ("output of a [[server]]", OUTPUT_KEYS),
    ("ready of a [[server]]", READY_KEYS),
    ("health of a [[server]]", HEALTH_KEYS),
    ("dependsOn of a [[server]]", DEPENDENCY_KEYS),
    ("lock of a [[server]]", LOCK_KEYS),
    ("socket of a [[server]]", SOCKET_KEYS),
    ("limits of a [[server]]", LIMIT_KEYS),
    ("cgroup of a [[server]]", CGROUP_KEYS),
    ("[[hook]]", EVENT_HOOK_KEYS),
    ("[mail]", MAIL_KEYS),
    ("[metrics]", METRICS_KEYS),
];

/// The longest socket path: sun_path has 108 bytes, the last one is NUL (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// A name becomes a part of file names, which have 255 bytes.
const MAX_NAME: usize = 100;

/// Below that a log would rotate at every other line.
pub const LEAST_LOG_SIZE: (u64, &str) = (1024, "1KiB");

/// Kept failures are as many as tries, in every record of a server.
pub const MAX_TRIES: u32 = 1_000;

pub const MAX_FILES: u32 = 1_000;

const MAX_PARALLEL_STARTS: u32 = 1_000;

/// The `[nodeManager]` table, and the restart policy that servers have by default.
pub fn node(top: &Reader<'_>) -> (NodeConfig, Policy) {
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
        events_max_size: keys.size("eventsMaxSize", 4 << 20),
        journal_socket: keys.path("journalSocket", "/run/systemd/journal/stdout"),
        syslog_socket: keys.path("syslogSocket", "/dev/log"),
        control_mode: keys
            .get("controlMode", "an octal string such as \"0600\"", mode)
            .unwrap_or(0o600),
        control_group: control_group(&keys),
        cgroup_root: cgroup::root(&keys),
        max_parallel_starts: keys
            .number("maxParallelStarts", "a number", 1..=MAX_PARALLEL_STARTS)
            .unwrap_or(16),
        server_user: identity::user(&keys, "serverUser"),
    };
    check_includes(&keys);
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
    events::check_size(keys, node.events_max_size);
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
    if node.control_group.is_some() && node.control_mode & 0o020 == 0 {
        let text = format!(
            "controlGroup has no effect with controlMode \"{:04o}\": to connect, the group must be \
             allowed to write; \"0660\" does",
            node.control_mode
        );
        keys.document.warn(keys.line_of("controlGroup"), text);
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

/// Who else may use the control socket; whether there is such a group is looked up later.
fn control_group(keys: &Reader<'_>) -> Option<ControlGroup> {
    let group = keys.get("controlGroup", "the name or number of a group", |value| {
        match (value.as_str(), reader::integer(value)) {
            (Some(name), _) => Ok((name.to_owned(), name.parse().ok())),
            (_, Some(number)) => match u32::try_from(number) {
                Ok(gid) => Ok((number.to_string(), Some(gid))),
                Err(_) => Err(Refused::NotWanted),
            },
            _ => Err(Refused::NotWanted),
        }
    });
    let (name, gid) = group.filter(|(name, _)| !name.is_empty())?;
    // chown(2) takes it for "leave it as it is"
    if gid == Some(u32::MAX) {
        keys.error("controlGroup", format!("can't be {name}, which is no group"));
    }
    Some(ControlGroup { name, line: keys.line_of("controlGroup").unwrap_or(1), gid })
}

/// The files themselves were read before.
fn check_includes(keys: &Reader<'_>) {
    let wanted = "an array of paths such as [\"conf.d/*.toml\"]";
    let patterns = keys.strings("include", wanted).unwrap_or_default();
    for pattern in patterns {
        if let Some(problem) = problem_of(&pattern) {
            keys.error("include", format!("can't have {}: {problem}", quoted(&pattern)));
        }
    }
}

/// The name of the node or of a server: it becomes a part of file names.
pub fn name<'a>(keys: &Reader<'a>) -> Option<&'a str> {
    keys.get("name", "a string", |value| {
        let name = value.as_str().ok_or(Refused::NotWanted)?;
        let cause = match name {
            "" => "must not be empty",
            "." | ".." => "can't be \".\" or \"..\", which are directories",
            name if !name.chars().all(is_of_names) => {
                "may have letters, digits, \".\", \"_\" and \"-\" only"
            }
            name if name.starts_with('-') => "must not start with \"-\", as options do",
            name if name.len() > MAX_NAME => "is longer than 100 characters",
            name => return Ok(name),
        };
        Err(Refused::Because(format!("{cause}, not {}", quoted(name))))
    })
}

fn is_of_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Whether a tag is made as names are.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(is_of_names)
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
pub fn mode(value: &DeValue<'_>) -> Result<u32, Refused> {
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
        ..Policy::never()
    }
}
