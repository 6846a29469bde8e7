//! How a server is asked whether it is ready and well: the `ready` and `health` tables.
//!
//! Pure, as all of the parsing: must not look at the machine, and so takes no names of hosts: whoever
//! asks must not wait for a name server.

use super::reader::{self, Reader, Refused};
use super::units::quoted;
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use toml::de::DeValue;

pub const READY_KEYS: &[&str] = &[
    "notify", "fd", "tcp", "http", "exec", "log", "delay", "status", "body", "interval", "timeout",
];
pub const HEALTH_KEYS: &[&str] = &[
    "tcp", "http", "exec", "rss", "watchdog", "status", "body", "interval", "timeout", "failures",
    "for",
];
const READY_KINDS: &[&str] = &["notify", "fd", "tcp", "http", "exec", "log", "delay"];
const HEALTH_KINDS: &[&str] = &["tcp", "http", "exec", "rss", "watchdog"];

/// The lowest and the highest descriptor that a server may be handed for its newline.
const READY_FDS: std::ops::RangeInclusive<u32> = 3..=255;
/// More checks than that have no use, and each costs a timer.
const HEALTH_MAX: usize = 16;

/// How a server shows that it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Readiness {
    /// It says READY=1 to $NOTIFY_SOCKET (sd_notify(3)).
    Notify,
    /// It writes a newline to this descriptor (as in s6).
    Fd(i32),
    /// A line of its output matches.
    Log(String),
    /// It has been up for so long.
    Delay(u64),
    Asked {
        probe: Probe,
        interval_ms: u64,
        timeout_ms: u64,
    },
}

/// One health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HealthCheck {
    /// It says WATCHDOG=1 to $NOTIFY_SOCKET at least so often.
    Watchdog {
        timeout_ms: u64,
    },
    Asked {
        probe: Probe,
        interval_ms: u64,
        timeout_ms: u64,
        failures: u32,
        for_ms: u64,
    },
}

/// A question to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// A connection is taken.
    Tcp(Target),
    Http(Http),
    /// A program ends with 0.
    Exec(Vec<String>),
    /// Its memory is not above so many bytes.
    Rss(u64),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A GET request and the answer that is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    pub target: Target,
    /// For the Host header.
    pub host: String,
    /// Path and query.
    pub path: String,
    pub status: Vec<u16>,
    /// A regular expression that the body must match.
    pub body: Option<String>,
}

impl Probe {
    /// For people: what is asked.
    pub fn title(&self) -> String {
        match self {
            Probe::Tcp(target) => format!("tcp {}", target.title()),
            Probe::Http(http) => format!("http {}{}", http.host, http.path),
            Probe::Exec(command) => format!("exec {}", command.first().map_or("", String::as_str)),
            Probe::Rss(bytes) => format!("rss {} MiB", bytes >> 20),
        }
    }
}

impl Target {
    fn title(&self) -> String {
        match self {
            Target::Tcp(address) => address.to_string(),
            Target::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

impl Readiness {
    /// For people: how it becomes ready.
    pub fn title(&self) -> String {
        match self {
            Readiness::Notify => "notify".to_owned(),
            Readiness::Fd(number) => format!("fd {number}"),
            Readiness::Log(pattern) => format!("log {}", quoted(pattern)),
            Readiness::Delay(ms) => format!("delay {ms} ms"),
            Readiness::Asked { probe, .. } => probe.title(),
        }
    }
}

impl HealthCheck {
    /// For people: what is looked at.
    pub fn title(&self) -> String {
        match self {
            HealthCheck::Watchdog { timeout_ms } => format!("watchdog {timeout_ms} ms"),
            HealthCheck::Asked { probe, .. } => probe.title(),
        }
    }
}

/// The `ready` table, or `ready = "notify"`.
pub fn readiness(server: &Reader<'_>) -> Option<Readiness> {
    if server.value("ready").is_some_and(|value| value.get_ref().as_str() == Some("notify")) {
        return Some(Readiness::Notify);
    }
    server.value("ready")?;
    let keys = server.inner("ready", READY_KEYS);
    let kind = one_of(&keys, READY_KINDS)?;
    let (interval_ms, timeout_ms) = times(&keys, "500ms", 500, "2s", 2_000);
    Some(match kind {
        "notify" if keys.boolean("notify", true) => Readiness::Notify,
        "notify" => {
            keys.error("notify", "can only be true; without a check, leave ready out".to_owned());
            return None;
        }
        "fd" => Readiness::Fd(i32::try_from(keys.number("fd", "a descriptor", READY_FDS)?).ok()?),
        "log" => Readiness::Log(pattern(&keys, "log")?),
        "delay" => Readiness::Delay(keys.duration("delay", "5s", 0)),
        _ => Readiness::Asked { probe: probe(&keys, kind)?, interval_ms, timeout_ms },
    })
}

/// The `health` tables.
pub fn health(server: &Reader<'_>) -> Vec<HealthCheck> {
    let all = server.inners("health", HEALTH_KEYS);
    if all.len() > HEALTH_MAX {
        server.error("health", format!("has more than {HEALTH_MAX} checks"));
    }
    all.iter().filter_map(check).collect()
}

fn check(keys: &Reader<'_>) -> Option<HealthCheck> {
    let kind = one_of(keys, HEALTH_KINDS)?;
    if kind == "watchdog" {
        let timeout_ms = keys.duration("watchdog", "30s", 30_000);
        keys.at_least("watchdog", timeout_ms, 100, "100ms");
        return Some(HealthCheck::Watchdog { timeout_ms });
    }
    let (interval_ms, timeout_ms) = times(keys, "10s", 10_000, "3s", 3_000);
    let is_rss = kind == "rss";
    let failures = keys.number("failures", "a number", 1..=1_000);
    Some(HealthCheck::Asked {
        probe: probe(keys, kind)?,
        interval_ms,
        timeout_ms,
        failures: failures.unwrap_or(if is_rss { 1 } else { 3 }),
        for_ms: keys.duration("for", "1m", 0),
    })
}

/// Intervals below that are a load of their own.
fn times(
    keys: &Reader<'_>,
    interval: &str,
    interval_ms: u64,
    timeout: &str,
    timeout_ms: u64,
) -> (u64, u64) {
    let interval_ms = keys.duration("interval", interval, interval_ms);
    let timeout_ms = keys.duration("timeout", timeout, timeout_ms);
    keys.at_least("interval", interval_ms, 10, "10ms");
    keys.at_least("timeout", timeout_ms, 10, "10ms");
    (interval_ms, timeout_ms)
}

/// The one key that says which kind of check it is.
fn one_of(keys: &Reader<'_>, kinds: &'static [&'static str]) -> Option<&'static str> {
    let mut there = kinds.iter().filter(|kind| keys.value(kind).is_some());
    let (first, second) = (there.next().copied(), there.next().copied());
    let text = match (first, second) {
        (Some(first), None) => return Some(first),
        (Some(first), Some(second)) => {
            let text = format!("and {second} are in one check: a check has one of {}", list(kinds));
            keys.error(first, text);
            return None;
        }
        (None, _) => format!("says nothing of what is asked: it has one of {}", list(kinds)),
    };
    keys.error_here(text);
    None
}

fn list(kinds: &[&str]) -> String {
    kinds.join(", ")
}

fn probe(keys: &Reader<'_>, kind: &str) -> Option<Probe> {
    for key in
        ["status", "body"].into_iter().filter(|key| kind != "http" && keys.value(key).is_some())
    {
        keys.error(key, format!("is for http, and this check is {kind}"));
    }
    Some(match kind {
        "tcp" => {
            let home = keys.document.home;
            let read = |value: &DeValue<'_>| {
                let text = value.as_str().ok_or(Refused::NotWanted)?;
                target(text, home).map_err(Refused::Because)
            };
            Probe::Tcp(keys.get("tcp", "an address such as \"127.0.0.1:8080\"", read)?)
        }
        "http" => Probe::Http(http(keys)?),
        "exec" => Probe::Exec(reader::command(keys, "exec")?),
        _ => Probe::Rss(keys.size("rss", 0)),
    })
}

fn http(keys: &Reader<'_>) -> Option<Http> {
    let home = keys.document.home;
    let (target, host, path) =
        keys.get("http", "a URL such as \"http://127.0.0.1:8080/ready\"", |value| {
            let url = value.as_str().ok_or(Refused::NotWanted)?;
            url_parts(url, home).map_err(Refused::Because)
        })?;
    let status = keys.get("status", "an array of HTTP status codes such as [200, 204]", |value| {
        let codes = value.as_array().ok_or(Refused::NotWanted)?;
        let code = |item: &DeValue<'_>| {
            let code = reader::integer(item).and_then(|code| u16::try_from(code).ok());
            code.filter(|code| (100..=599).contains(code)).ok_or(Refused::NotWanted)
        };
        codes.iter().map(|item| code(item.get_ref())).collect::<Result<Vec<u16>, Refused>>()
    });
    let body = keys.value("body").and_then(|_| pattern(keys, "body"));
    // Any success is one, as with curl -f.
    let status = status.unwrap_or_else(|| (200..=299).collect());
    Some(Http { target, host, path, status, body })
}

/// A regular expression that can be compiled.
fn pattern(keys: &Reader<'_>, key: &'static str) -> Option<String> {
    keys.get(key, "a regular expression", |value| {
        let text = value.as_str().ok_or(Refused::NotWanted)?;
        Regex::new(text)
            .map_err(|error| Refused::Because(format!("is no regular expression: {error}")))?;
        Ok(text.to_owned())
    })
}

/// `127.0.0.1:80`, `[::1]:80`, `localhost:80`, or `unix:PATH`.
pub fn target(text: &str, home: &std::path::Path) -> Result<Target, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.is_empty() {
            true => Err("has no path behind unix:".to_owned()),
            false => Ok(Target::Unix(reader::from_home(home, path))),
        };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Target::Tcp(address));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| {
        format!("has no port: write {}:PORT", if text.is_empty() { "127.0.0.1" } else { text })
    })?;
    let port: u16 =
        port.parse().map_err(|_| format!("has no port from 1 to 65535: {}", quoted(port)))?;
    let address: IpAddr = match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.trim_matches(['[', ']']).parse().map_err(|_| {
            format!(
                "has {}, which is no IP address: names are not looked up, because that could wait \
                 for a name server; write the address, or localhost",
                quoted(host)
            )
        })?,
    };
    Ok(Target::Tcp(SocketAddr::new(address, port)))
}

/// Where to, the Host header, and the path of a URL; `http://unix:/run/app.sock:/path` as nginx has it.
fn url_parts(url: &str, home: &std::path::Path) -> Result<(Target, String, String), String> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(match url.starts_with("https://") {
            true => "can't be https: ask with exec = [\"curl\", \"-fsS\", ...]".to_owned(),
            false => "must begin with http://".to_owned(),
        });
    };
    let is_bad = |c: char| c.is_ascii_control() || c == ' ' || !c.is_ascii();
    if rest.contains(is_bad) {
        return Err("has a space, a control character or a letter that is not ASCII".to_owned());
    }
    if let Some(unix) = rest.strip_prefix("unix:") {
        let (socket, path) = unix.split_once(':').unwrap_or((unix, "/"));
        let target = target(&format!("unix:{socket}"), home)?;
        return Ok((target, "localhost".to_owned(), path.to_owned()));
    }
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let place = if has_port { host.to_owned() } else { format!("{host}:80") };
    Ok((target(&place, home)?, host.to_owned(), path))
}

#[cfg(test)]
mod tests;
