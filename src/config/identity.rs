//! Who a server is and what it may use: user, groups, umask, environment files, limits, lock.
//!
//! Pure, as all of the parsing: names are looked up in `accounts`, files are read at each start.

use super::reader::{self, Reader, Refused};
use super::sections::{LIMIT_KEYS, LOCK_KEYS, mode};
use super::units::{parse_duration_ms, parse_size, quoted};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use toml::de::DeValue;

/// No limit, as setrlimit(2) has it.
pub const UNLIMITED: u64 = u64::MAX;

/// Names in one `group`, and files in one `envFile`.
const MAX_NAMES: usize = 100;

/// What a server is told apart by and held to. What is absent it has from the node manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// A name or a number, as written; `""` is the node manager's own, whatever `serverUser` says.
    pub user: Option<Named>,
    /// The primary group first.
    pub groups: Vec<Named>,
    /// What the names above stand for, once they were looked up.
    pub account: Option<Account>,
    pub umask: Option<u32>,
    pub env_files: Vec<EnvFile>,
    pub limits: Vec<Limit>,
    /// -20 to 19.
    pub nice: Option<i32>,
    /// -1000 to 1000.
    pub oom_score_adjust: Option<i32>,
    pub no_new_privileges: bool,
    pub lock: Option<LockFile>,
}

/// A name or number of a user or a group, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    pub line: Option<u32>,
}

/// A user and groups as the kernel and the environment want them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// There is a `user`: HOME and the like are its.
    pub is_login: bool,
    /// `None`: a number without an entry.
    pub name: Option<String>,
    pub home: String,
    /// `None` where the entry has none that can be used.
    pub shell: Option<String>,
}

/// A file of variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvFile {
    /// Absolute.
    pub path: PathBuf,
    pub may_be_missing: bool,
}

/// A resource limit, in the units of setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// One of `LIMIT_KEYS`.
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

/// A file whose flock(2) the server holds while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockFile {
    /// Absolute.
    pub file: PathBuf,
    pub timeout_ms: u64,
}

/// These keys of a `[[server]]`.
pub fn identity(keys: &Reader<'_>) -> Identity {
    Identity {
        user: named(keys, "user"),
        groups: groups(keys),
        account: None,
        umask: keys.get("umask", "an octal string such as \"027\"", mode),
        env_files: env_files(keys),
        limits: limits(&keys.inner("limits", LIMIT_KEYS)),
        nice: number(keys, "nice", -20, 19),
        oom_score_adjust: number(keys, "oomScoreAdjust", -1000, 1000),
        no_new_privileges: keys.boolean("noNewPrivileges", false),
        lock: lock(keys),
    }
}

/// A user's name or number; `""` is none.
pub fn user(keys: &Reader<'_>, key: &'static str) -> Option<Named> {
    named(keys, key).filter(|user| !user.name.is_empty())
}

fn named(keys: &Reader<'_>, key: &'static str) -> Option<Named> {
    let name = keys.get(key, "a user's name or number", name_or_number)?;
    Some(Named { name, line: keys.line_of(key) })
}

pub fn groups(keys: &Reader<'_>) -> Vec<Named> {
    let wanted = "a group's name or number, or an array of them, the primary one first";
    let names = keys.get("group", wanted, |value| match value {
        DeValue::Array(items) if items.is_empty() || items.len() > MAX_NAMES => {
            Err(Refused::NotWanted)
        }
        DeValue::Array(items) => items.iter().map(|item| name_or_number(item.get_ref())).collect(),
        one => name_or_number(one).map(|name| vec![name]),
    });
    let line = keys.line_of("group");
    let names = names.unwrap_or_default().into_iter().filter(|name| !name.is_empty());
    names.map(|name| Named { name, line }).collect()
}

fn name_or_number(value: &DeValue<'_>) -> Result<String, Refused> {
    match (value.as_str(), reader::integer(value)) {
        (Some(name), _) if !name.contains([':', '/', '\n']) => Ok(name.to_owned()),
        // the last number stands for "leave it as it is" in the system calls
        (_, Some(number)) if u32::try_from(number).is_ok_and(|number| number != u32::MAX) => {
            Ok(number.to_string())
        }
        _ => Err(Refused::NotWanted),
    }
}

fn number(keys: &Reader<'_>, key: &'static str, least: i32, most: i32) -> Option<i32> {
    keys.get(key, &format!("a number from {least} to {most}"), |value| {
        let number = reader::integer(value).and_then(|number| i32::try_from(number).ok());
        number.filter(|number| (least..=most).contains(number)).ok_or(Refused::NotWanted)
    })
}

fn env_files(keys: &Reader<'_>) -> Vec<EnvFile> {
    let wanted = "an array of paths such as [\"-/etc/default/web\"]";
    let paths = keys.strings("envFile", wanted).unwrap_or_default();
    if paths.len() > MAX_NAMES {
        keys.error("envFile", format!("has more than {MAX_NAMES} files"));
    }
    let files = paths.into_iter().take(MAX_NAMES).map(|written| {
        let path = written.strip_prefix('-').unwrap_or(&written);
        if path.is_empty() {
            keys.error("envFile", format!("has an empty path, {}", quoted(&written)));
        }
        let may_be_missing = path.len() < written.len();
        EnvFile { path: reader::from_home(keys.document.home, path), may_be_missing }
    });
    files.collect()
}

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Things,
    Bytes,
    Seconds,
    Microseconds,
    /// 0 to 40 as the kernel has it, or a nice value with its sign.
    Nice,
}

fn counts(name: &str) -> Counts {
    match name {
        "as" | "core" | "data" | "fsize" | "memlock" | "msgqueue" | "rss" | "stack" => {
            Counts::Bytes
        }
        "cpu" => Counts::Seconds,
        "rttime" => Counts::Microseconds,
        "nice" => Counts::Nice,
        _ => Counts::Things,
    }
}

fn limits(keys: &Reader<'_>) -> Vec<Limit> {
    let limit = |name: &'static str| {
        let counts = counts(name);
        let (soft, hard) = keys.get(name, wanted(counts), |value| soft_and_hard(value, counts))?;
        Some(Limit { name: name.to_owned(), soft, hard })
    };
    LIMIT_KEYS.iter().copied().filter_map(limit).collect()
}

fn wanted(counts: Counts) -> &'static str {
    match counts {
        Counts::Things => "a number, \"unlimited\" or \"soft:hard\"",
        Counts::Bytes => "a size such as \"1GiB\", \"unlimited\" or \"soft:hard\"",
        Counts::Seconds => "seconds, a duration such as \"10m\", \"unlimited\" or \"soft:hard\"",
        Counts::Microseconds => {
            "microseconds, a duration such as \"500ms\", \"unlimited\" or \"soft:hard\""
        }
        Counts::Nice => "a number from 0 to 40, a nice value such as \"-5\", or \"soft:hard\"",
    }
}

fn soft_and_hard(value: &DeValue<'_>, counts: Counts) -> Result<(u64, u64), Refused> {
    let text = match (value.as_str(), reader::integer(value)) {
        (Some(text), _) => text.to_owned(),
        (_, Some(number)) => number.to_string(),
        _ => return Err(Refused::NotWanted),
    };
    let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
    let is_bare = value.as_str().is_none();
    let (soft, hard) = (amount(soft, counts, is_bare)?, amount(hard, counts, is_bare)?);
    if soft > hard {
        return Err(Refused::Because(format!(
            "has a soft limit above the hard one: {}",
            quoted(&text)
        )));
    }
    Ok((soft, hard))
}

/// `is_bare`: written as a number of TOML.
fn amount(text: &str, counts: Counts, is_bare: bool) -> Result<u64, Refused> {
    if matches!(text, "unlimited" | "infinity") && counts != Counts::Nice {
        return Ok(UNLIMITED);
    }
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u64>().ok().filter(|_| is_number);
    match (counts, number) {
        (Counts::Nice, _) => nice_limit(text, is_bare).ok_or(Refused::NotWanted),
        // the last number means no limit
        (_, Some(number)) if number < UNLIMITED => Ok(number),
        (Counts::Bytes, _) => parse_size(text).map_err(reader::is_refused),
        (Counts::Seconds, _) => match parse_duration_ms(text).map_err(reader::is_refused)? {
            ms if ms % 1000 == 0 => Ok(ms / 1000),
            _ => Err(Refused::Because("must be whole seconds".to_owned())),
        },
        (Counts::Microseconds, _) => {
            let ms = parse_duration_ms(text).map_err(reader::is_refused)?;
            Ok(ms.saturating_mul(1000))
        }
        (Counts::Things, _) => Err(Refused::NotWanted),
    }
}

/// getrlimit(2): a nice value n is the limit 20 - n.
fn nice_limit(text: &str, is_bare: bool) -> Option<u64> {
    let number = text.parse::<i64>().ok()?;
    let limit = match text.starts_with(['+', '-']) && !is_bare {
        true if (-20..=19).contains(&number) => 20 - number,
        false if (0..=40).contains(&number) => number,
        _ => return None,
    };
    u64::try_from(limit).ok()
}

fn lock(keys: &Reader<'_>) -> Option<LockFile> {
    let is_table = keys.value("lock")?.get_ref().is_table();
    let inner = keys.inner("lock", LOCK_KEYS);
    if inner.value("file").is_none() {
        if is_table {
            keys.error("lock", "has no file: write { file = \"/run/lock/web\" }".to_owned());
        }
        return None;
    }
    let timeout_ms = inner.duration("timeout", "1m", 60_000);
    inner.at_least("timeout", timeout_ms, 1, "1ms");
    Some(LockFile { file: inner.path("file", "lock"), timeout_ms })
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
