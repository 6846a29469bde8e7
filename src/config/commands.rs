//! The commands that run beside a server: hooks, the stop command, the reload command, and how it is
//! drained.
//!
//! Pure, as all of the parsing: must not look at the machine.

use super::reader::{self, Reader};
use super::sections::{DRAIN_KEYS, HOOK_KEYS, HOOKS_KEYS, RELOAD_KEYS, STOP_KEYS};
use super::servers::signal;
use crate::core::plan::Kind;
use serde::{Deserialize, Serialize};

const MINUTE_MS: u64 = 60_000;

/// A command with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    pub command: Vec<String>,
    pub timeout_ms: u64,
}

/// What runs beside a server, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Before its process; the start fails with it.
    pub pre_start: Option<Hook>,
    /// Once it is ready, and before it counts as RUNNING; the start fails with it.
    pub post_start: Option<Hook>,
    /// Before it is stopped.
    pub pre_stop: Option<Hook>,
    /// When nothing of it is left, however it ended.
    pub post_stop: Option<Hook>,
    /// When it failed, before its policy decides.
    pub on_failure: Option<Hook>,
}

/// How a server is stopped: the signal or the command, and SIGKILL when the time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    pub signal: i32,
    pub timeout_ms: u64,
    /// Instead of the signal.
    pub command: Option<Vec<String>>,
}

/// How a server is told to read its own configuration again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reload {
    Signal(i32),
    Command(Hook),
}

impl Reload {
    /// What is run, where it is no signal.
    pub fn command(&self) -> Option<&[String]> {
        match self {
            Reload::Signal(_) => None,
            Reload::Command(hook) => Some(&hook.command),
        }
    }
}

/// How a server is brought to have no work left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Makes it take no new work.
    pub command: Option<Vec<String>>,
    /// Ends with 0 when no work is left.
    pub check: Option<Vec<String>>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// When it is not drained in time it goes on running.
    pub keeps: bool,
    pub on_stop: bool,
    pub on_restart: bool,
}

/// The `hooks` table.
pub fn hooks(server: &Reader<'_>, kind: Kind) -> Hooks {
    let keys = server.inner("hooks", HOOKS_KEYS);
    let hook = |key| hook(&keys, key);
    let hooks = Hooks {
        pre_start: hook("preStart"),
        post_start: hook("postStart"),
        pre_stop: hook("preStop"),
        post_stop: hook("postStop"),
        on_failure: hook("onFailure"),
    };
    if kind == Kind::Oneshot && hooks.post_start.is_some() {
        let text =
            "can't be with type = \"oneshot\", which is ready when it has ended: use postStop";
        keys.error("postStart", text.to_owned());
    }
    hooks
}

/// A command, or a table with a command and its time.
fn hook(keys: &Reader<'_>, key: &'static str) -> Option<Hook> {
    let value = keys.value(key)?.get_ref();
    if !value.is_table() {
        return Some(Hook { command: reader::command(keys, key)?, timeout_ms: MINUTE_MS });
    }
    let table = keys.inner(key, HOOK_KEYS);
    if table.value("command").is_none() {
        keys.error(key, "has no command: { command = [\"/srv/web/bin/migrate\"] }".to_owned());
    }
    Some(Hook {
        command: reader::command(&table, "command")?,
        timeout_ms: timeout(&table, "1m", MINUTE_MS),
    })
}

fn timeout(keys: &Reader<'_>, example: &str, default_ms: u64) -> u64 {
    let timeout_ms = keys.duration("timeout", example, default_ms);
    keys.at_least("timeout", timeout_ms, 10, "10ms");
    timeout_ms
}

/// The `stop` table.
pub fn stop(server: &Reader<'_>) -> Stop {
    let keys = server.inner("stop", STOP_KEYS);
    Stop {
        signal: keys.get("signal", "a signal such as \"SIGTERM\"", signal).unwrap_or(libc::SIGTERM),
        timeout_ms: keys.duration("timeout", "10s", 10_000),
        command: optional_command(&keys, "command"),
    }
}

/// As people switch a command off: an empty array is none.
fn optional_command(keys: &Reader<'_>, key: &'static str) -> Option<Vec<String>> {
    let is_empty =
        |value: &toml::de::DeValue<'_>| value.as_array().is_some_and(|all| all.is_empty());
    match keys.value(key)?.get_ref() {
        value if is_empty(value) => None,
        _ => reader::command(keys, key),
    }
}

/// The `reload` table. There is no default: SIGHUP ends a program that does not know it.
pub fn reload(server: &Reader<'_>) -> Option<Reload> {
    let is_table = server.value("reload")?.get_ref().is_table();
    let keys = server.inner("reload", RELOAD_KEYS);
    match (keys.value("signal"), keys.value("command")) {
        (Some(_), Some(_)) => {
            keys.error("command", "and signal are both there: a reload has one of them".to_owned());
            None
        }
        (None, Some(_)) => Some(Reload::Command(Hook {
            command: reader::command(&keys, "command")?,
            timeout_ms: timeout(&keys, "1m", MINUTE_MS),
        })),
        (Some(_), None) => {
            if keys.value("timeout").is_some() {
                keys.error("timeout", "is for a command; a signal is only sent".to_owned());
            }
            let number = keys.get("signal", "a signal such as \"SIGHUP\"", signal)?;
            if [libc::SIGKILL, libc::SIGSTOP].contains(&number) {
                let text = "can't be SIGKILL or SIGSTOP, which no program can answer";
                keys.error("signal", text.to_owned());
            }
            Some(Reload::Signal(number))
        }
        (None, None) => {
            if is_table {
                let text = "has no signal and no command: reload = { signal = \"SIGHUP\" }";
                server.error("reload", text.to_owned());
            }
            None
        }
    }
}

const ON_TIMEOUT: &[(&str, bool)] = &[("stop", false), ("keep", true)];
const ON: [&str; 3] = ["drain", "stop", "restart"];

/// The `drain` table.
pub fn drain(server: &Reader<'_>) -> Option<Drain> {
    let is_table = server.value("drain")?.get_ref().is_table();
    let keys = server.inner("drain", DRAIN_KEYS);
    let drain = Drain {
        command: optional_command(&keys, "command"),
        check: optional_command(&keys, "check"),
        interval_ms: keys.duration("interval", "1s", 1_000),
        timeout_ms: timeout(&keys, "5m", 5 * MINUTE_MS),
        keeps: keys.choice("onTimeout", ON_TIMEOUT, false),
        on_stop: false,
        on_restart: false,
    };
    keys.at_least("interval", drain.interval_ms, 10, "10ms");
    if is_table && drain.command.is_none() && drain.check.is_none() {
        let text = "has no command and no check: it needs one of them, or both";
        server.error("drain", text.to_owned());
    }
    let on = keys.strings("on", "an array of \"drain\", \"stop\" and \"restart\"");
    let on = on.unwrap_or_else(|| vec!["drain".to_owned()]);
    if let Some(wrong) = on.iter().find(|one| !ON.contains(&one.as_str())) {
        let text = format!("must hold \"drain\", \"stop\" and \"restart\" only, not {wrong:?}");
        keys.error("on", text);
    }
    let has = |what: &str| on.iter().any(|one| one == what);
    Some(Drain { on_stop: has("stop"), on_restart: has("restart"), ..drain })
}

#[cfg(test)]
mod tests {
    use crate::config::parse;
    use std::path::Path;

    fn errors(server: &str) -> String {
        let text = format!(
            "[nodeManager]\nstandbyPort = 7731\n[[server]]\nname = \"a\"\ncommand = \"x\"\n{server}\n"
        );
        let config = parse(&text, Path::new("/c.toml"), Path::new("/h"));
        config.map(|_| String::new()).unwrap_or_else(|errors| errors.to_string())
    }

    #[test]
    fn what_is_wrong_with_a_command_is_said_once_and_with_its_line() {
        for (wrong, text) in [
            ("hooks = { preStart = {} }", "has no command"),
            ("reload = true", "must be a table"),
            ("reload = {}", "has no signal and no command"),
            ("reload = { signal = \"SIGKILL\" }", "can't be SIGKILL"),
            ("drain = {}", "has no command and no check"),
            ("drain = 5", "must be a table"),
        ] {
            let errors = errors(wrong);
            let is_said = errors.contains("c.toml:6") && errors.contains(text);
            assert!(is_said && errors.lines().count() == 1, "{wrong}: {errors}");
        }
    }

    #[test]
    fn a_pid_file_belongs_to_one_server() {
        let shared = "type = \"forking\"\npidFile = \"/x\"\ninstances = 3";
        let errors = errors(shared);
        assert!(errors.contains("c.toml:3") && errors.contains("a@1, too: /x"), "{errors}");
        assert_eq!(self::errors(&shared.replace("/x", "/x-${instance}")), "");
    }
}
