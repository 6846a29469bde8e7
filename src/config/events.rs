//! Events: how long the history may get, `[[hook]]` tables, and `[mail]`.
//!
//! Pure, as all of the parsing: must not look at the machine.

use super::identity::{Identity, groups, user};
use super::reader::{self, Reader};
use super::sections::{EVENT_HOOK_KEYS, MAIL_KEYS, name};
use super::servers::env;
use super::units::quoted;
use crate::events::{Kind, Record};
use glob::Pattern;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use toml::de::DeValue;

/// What a history is held to: enough for some hundred events, and quick to read.
const SIZE_MIN: u64 = 64 << 10;
const SIZE_MAX: u64 = 64 << 20;
const MAX_HOOKS: usize = 100;
const MAX_RECIPIENTS: usize = 100;
/// RFC 5321, 4.5.3.1.3: a path has 256 bytes, two of them brackets.
const MAX_ADDRESS: usize = 254;
const DAY_MS: u64 = 86_400_000;
/// What mail is for, unless it is said.
const MAIL_ON: [&str; 5] =
    ["takeover", "standby-down", "server-failed", "server-failing", "server-recovered"];

/// Who is told of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alerts {
    pub hooks: Vec<EventHook>,
    pub mail: Option<Mail>,
}

/// A program that is run when something happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventHook {
    pub name: String,
    /// Patterns of kinds.
    pub on: Vec<String>,
    /// A pattern of servers; `None`: what is about the pair too.
    pub server: Option<String>,
    pub command: Vec<String>,
    pub timeout_ms: u64,
    pub env: BTreeMap<String, String>,
    /// Its user and groups.
    pub identity: Identity,
}

/// Mail about events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mail {
    pub to: Vec<String>,
    pub from: String,
    /// Patterns of kinds.
    pub on: Vec<String>,
    /// What happens within this time is one mail.
    pub group_ms: u64,
    pub way: MailWay,
}

/// How mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MailWay {
    Sendmail(PathBuf),
    /// Host and port.
    Smtp(String),
}

impl EventHook {
    /// It is to be run for this event.
    pub fn is_for(&self, record: &Record) -> bool {
        let is_server = match (&self.server, &record.server) {
            (None, _) => true,
            (Some(pattern), Some(name)) => matches(pattern, name),
            (Some(_), None) => false,
        };
        is_server && is_told(&self.on, record)
    }
}

impl Mail {
    /// It is to be told.
    pub fn is_for(&self, record: &Record) -> bool {
        is_told(&self.on, record)
    }
}

/// Nothing is told of a failure to tell: that would never end.
fn is_told(on: &[String], record: &Record) -> bool {
    let is_of_alerts = Kind::ALL.iter().any(|kind| kind.is_of_alerts() && record.is(*kind));
    !is_of_alerts && on.iter().any(|pattern| matches(pattern, &record.kind))
}

fn matches(pattern: &str, name: &str) -> bool {
    Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(name))
}

/// `eventsMaxSize`.
pub fn check_size(keys: &Reader<'_>, size: u64) {
    if !(SIZE_MIN..=SIZE_MAX).contains(&size) {
        keys.error("eventsMaxSize", "must be from \"64KiB\" to \"64MiB\"".to_owned());
    }
}

/// Hooks and mail of the main file.
pub fn alerts(top: &Reader<'_>) -> Alerts {
    Alerts { hooks: hooks(top), mail: mail(top) }
}

fn hooks(top: &Reader<'_>) -> Vec<EventHook> {
    let document = top.document;
    let items = match top.value("hook").map(|value| value.get_ref()) {
        None => return Vec::new(),
        Some(DeValue::Array(items)) if items.len() <= MAX_HOOKS => items,
        Some(DeValue::Array(_)) => {
            let text = format!("there are more than {MAX_HOOKS} [[hook]]");
            document.error(top.line_of("hook"), text);
            return Vec::new();
        }
        Some(_) => {
            let text = "hook must be an array of tables: write [[hook]]".to_owned();
            document.error(top.line_of("hook"), text);
            return Vec::new();
        }
    };
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for (number, item) in (1..).zip(items.iter()) {
        let line = document.line(item.span().start);
        let DeValue::Table(table) = item.get_ref() else {
            document.error(Some(line), "hook must be an array of tables".to_owned());
            continue;
        };
        let written = table.get("name").and_then(|name| name.get_ref().as_str());
        let title = match written {
            Some(name) if !name.is_empty() => format!("[[hook]] {}", name.escape_debug()),
            _ => format!("[[hook]] number {number}"),
        };
        if written.is_some_and(|name| !names.insert(name)) {
            document.error(Some(line), format!("{title} is defined twice"));
        }
        let keys = Reader::new(document, Some(table), EVENT_HOOK_KEYS, title);
        all.extend(hook(&keys, line));
    }
    all
}

fn hook(keys: &Reader<'_>, line: u32) -> Option<EventHook> {
    for key in ["name", "on", "command"] {
        if keys.value(key).is_none() {
            keys.document.error(Some(line), format!("{} has no {key}", keys.title));
        }
    }
    let timeout_ms = keys.duration("timeout", "10s", 10_000);
    keys.at_least("timeout", timeout_ms, 10, "10ms");
    let server =
        keys.get("server", "the name of a server, or a pattern such as \"web*\"", |value| {
            value.as_str().map(str::to_owned).ok_or(reader::Refused::NotWanted)
        });
    if let Some(Err(error)) = server.as_deref().map(Pattern::new) {
        keys.error("server", format!("is no pattern: {error}"));
    }
    let identity =
        Identity { user: user(keys, "user"), groups: groups(keys), ..Identity::default() };
    let on = on(keys, &[]);
    Some(EventHook {
        name: name(keys)?.to_owned(),
        on,
        server,
        command: reader::command(keys, "command")?,
        timeout_ms,
        env: env(keys),
        identity,
    })
}

/// Patterns of kinds, each of which has to mean one.
fn on(keys: &Reader<'_>, default: &[&str]) -> Vec<String> {
    let wanted = "an array of kinds of events such as [\"server-failed\", \"takeover\"]";
    let Some(patterns) = keys.strings("on", wanted) else {
        return default.iter().map(|kind| (*kind).to_owned()).collect();
    };
    let names: Vec<&'static str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    if patterns.is_empty() {
        keys.error("on", "is empty: name a kind of events".to_owned());
    }
    for pattern in &patterns {
        if names.iter().any(|name| matches(pattern, name)) {
            continue;
        }
        let near = reader::nearest(pattern, &names);
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        let text = format!("has {}, which is no kind of event{hint}", quoted(pattern));
        keys.error("on", text);
    }
    patterns
}

fn mail(top: &Reader<'_>) -> Option<Mail> {
    top.value("mail")?.get_ref().as_table().or_else(|| {
        top.document.error(top.line_of("mail"), "mail must be a table: write [mail]".to_owned());
        None
    })?;
    let table = top.value("mail")?.get_ref().as_table();
    let keys = Reader::new(top.document, table, MAIL_KEYS, "[mail]".to_owned());
    for key in ["to", "from"] {
        if keys.value(key).is_none() {
            top.document.error(top.line_of("mail"), format!("[mail] has no {key}"));
        }
    }
    let to = keys.strings("to", "an array of addresses such as [\"ops@example.org\"]");
    let to = to.unwrap_or_default();
    if keys.value("to").is_some() && (to.is_empty() || to.len() > MAX_RECIPIENTS) {
        keys.error("to", format!("must have 1 to {MAX_RECIPIENTS} addresses"));
    }
    let from = keys.get("from", "an address such as \"nm@example.org\"", |value| {
        value.as_str().map(str::to_owned).ok_or(reader::Refused::NotWanted)
    });
    for (key, address) in
        to.iter().map(|one| ("to", one)).chain(from.iter().map(|one| ("from", one)))
    {
        if !is_address(address) {
            keys.error(
                key,
                format!("has {}, which is no address like ops@example.org", quoted(address)),
            );
        }
    }
    let group_ms = keys.duration("group", "30s", 30_000);
    if group_ms > DAY_MS {
        keys.error("group", "must be at most \"1d\"".to_owned());
    }
    Some(Mail { to, from: from?, on: on(&keys, &MAIL_ON), group_ms, way: way(&keys) })
}

fn way(keys: &Reader<'_>) -> MailWay {
    if keys.value("smtp").is_some() && keys.value("sendmail").is_some() {
        keys.error("smtp", "and sendmail are both there: mail goes one way".to_owned());
    }
    let smtp = keys.get("smtp", "a host and a port such as \"127.0.0.1:25\"", |value| {
        let address = value.as_str().filter(|text| is_host_and_port(text));
        address.map(str::to_owned).ok_or(reader::Refused::NotWanted)
    });
    match smtp {
        Some(address) => MailWay::Smtp(address),
        None => MailWay::Sendmail(keys.path("sendmail", "/usr/sbin/sendmail")),
    }
}

fn is_host_and_port(text: &str) -> bool {
    let is_of_hosts =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.chars().all(is_of_hosts)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// Nothing that would be read as more than one address, or end the line that it is in.
fn is_address(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_graphic() && !"<>,;:()[]\\\"".contains(c);
    let has_both =
        text.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    has_both && text.len() <= MAX_ADDRESS && text.chars().all(is_plain) && !text.starts_with('-')
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
