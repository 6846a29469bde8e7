//! The `[[server]]` tables: what each key means, its default and its limits.
//!
//! Pure, as all of the parsing: must not look at the machine.

use super::document::Value;
use super::reader::{self, Reader, Refused};
use super::sections::{MAX_TRIES, OUTPUT_KEYS, RESTART_KEYS, SERVER_KEYS, STOP_KEYS, name};
use super::units::{is_signal, parse_signal, quoted};
use super::{AutoStart, ServerConfig, Stop, output};
use crate::core::restart::{Policy, Then, When};
use std::collections::BTreeMap;
use toml::de::DeValue;

/// All `[[server]]` tables.
pub fn servers(top: &Reader<'_>, policy: &Policy) -> Vec<ServerConfig> {
    let document = top.document;
    let array = match top.value("server").map(Value::get_ref) {
        Some(DeValue::Array(array)) => Some(array),
        Some(_) => {
            let text = "server must be an array of tables: write [[server]]".to_owned();
            document.error(top.line_of("server"), text);
            return Vec::new();
        }
        None => None,
    };
    let mut servers = Vec::new();
    let mut lines: BTreeMap<&str, u32> = BTreeMap::new();
    for (index, item) in array.into_iter().flatten().enumerate() {
        let line = document.line(item.span().start);
        let DeValue::Table(table) = item.get_ref() else {
            document.error(Some(line), "server must be an array of tables".to_owned());
            continue;
        };
        let written = table.get("name").and_then(|name| name.get_ref().as_str());
        let title = match written {
            Some(name) if !name.is_empty() => format!("[[server]] {}", unquoted(name)),
            _ => format!("[[server]] number {}", index + 1),
        };
        if let Some(first) = written.and_then(|name| lines.insert(name, line)) {
            document
                .error(Some(line), format!("{title} is defined twice: here and in line {first}"));
        }
        let keys = Reader::new(document, Some(table), SERVER_KEYS, title);
        servers.push(server(&keys, line, policy));
    }
    output::refuse_same_fifos(document, &servers);
    if servers.is_empty() {
        document.warn(None, "no [[server]], so there is nothing to manage".to_owned());
    }
    servers
}

/// The text as in quotes, without them.
fn unquoted(text: &str) -> String {
    quoted(text).trim_matches('"').to_owned()
}

/// One `[[server]]` table.
fn server(keys: &Reader<'_>, line: u32, policy: &Policy) -> ServerConfig {
    for key in ["name", "command"] {
        if keys.value(key).is_none() {
            keys.document.error(Some(line), format!("{} has no {key}", keys.title));
        }
    }
    let name = name(keys).unwrap_or_default();
    if name == "all" {
        keys.error("name", "can't be \"all\", which commands take as every server".to_owned());
    }
    let every = || vec!["*".to_owned()];
    let server = ServerConfig {
        name: name.to_owned(),
        line,
        command: command(keys).unwrap_or_default(),
        cwd: keys.path("cwd", "."),
        env: env(keys),
        pass_env: keys
            .strings("passEnv", "an array of names such as [\"*\"]")
            .unwrap_or_else(every),
        auto_start: keys
            .get("autoStart", "true, false or \"remember\"", auto_start)
            .unwrap_or(AutoStart::Yes),
        settle_ms: keys.duration("settleTime", "1s", 1_000),
        restart: restart(&keys.inner("restart", RESTART_KEYS), policy),
        stop: stop(&keys.inner("stop", STOP_KEYS)),
        output: output::output(&keys.inner("output", OUTPUT_KEYS)),
    };
    if server.pass_env.iter().any(|name| name.is_empty() || name.contains('=')) {
        keys.error("passEnv", "must hold names, not empty and without \"=\"".to_owned());
    }
    server
}

/// The program and its arguments. A program with a `/` in it is taken from the home when it is
/// relative; a bare name stays, to be looked up in the server's PATH.
fn command(keys: &Reader<'_>) -> Option<Vec<String>> {
    let wanted = "an array of strings, or one string that is split as a shell splits";
    let mut command = keys.get("command", wanted, |value| match value.as_str() {
        Some(line) => shlex::split(line)
            .ok_or_else(|| Refused::Because("can't be split: a quote is not closed".to_owned())),
        None => reader::strings(value).ok_or(Refused::NotWanted),
    })?;
    match command.first_mut() {
        Some(program) if program.contains('/') => {
            let path = reader::from_home(keys.document.home, program);
            *program = path.to_str().unwrap_or_default().to_owned();
        }
        Some(program) if !program.is_empty() => {}
        _ => keys.error("command", "is empty: it needs a program".to_owned()),
    }
    Some(command)
}

fn env(keys: &Reader<'_>) -> BTreeMap<String, String> {
    let table = keys.inner("env", &[]);
    let mut env = BTreeMap::new();
    for (key, value) in table.entries() {
        let name: &str = key.get_ref();
        let slipped = table.slipped(name);
        let problem = match value.get_ref() {
            _ if name.is_empty() || name.contains('=') => {
                Some("is no name of a variable: it must not be empty or contain \"=\"".to_owned())
            }
            // it marks the processes of a server, so that none is ever started twice
            _ if name == "NM_SERVER" => Some("is set by the node manager itself".to_owned()),
            DeValue::String(text) => {
                env.insert(name.to_owned(), text.clone().into_owned());
                None
            }
            other => Some(format!("must be a string, not {}", reader::shown(other))),
        };
        match (problem, slipped) {
            (Some(problem), Some(hint)) => table.error(name, format!("{problem}; {hint}")),
            (Some(problem), None) => table.error(name, problem),
            (None, Some(hint)) => {
                let text =
                    format!("{} has a variable {name:?}; if the key is meant, {hint}", keys.title);
                keys.document.warn(table.line_of(name), text);
            }
            (None, None) => {}
        }
    }
    env
}

fn auto_start(value: &DeValue<'_>) -> Result<AutoStart, Refused> {
    match (value.as_bool(), value.as_str()) {
        (Some(true), _) => Ok(AutoStart::Yes),
        (Some(false), _) => Ok(AutoStart::No),
        (_, Some("remember")) => Ok(AutoStart::Remember),
        _ => Err(Refused::NotWanted),
    }
}

const WHEN: &[(&str, When)] =
    &[("always", When::Always), ("on-failure", When::OnFailure), ("never", When::Never)];

fn restart(keys: &Reader<'_>, default: &Policy) -> Policy {
    let policy = Policy {
        when: keys.choice("when", WHEN, default.when),
        tries: keys.number("tries", "a number", 0..=MAX_TRIES).unwrap_or(default.tries),
        window_ms: keys.duration("window", "2m", default.window_ms),
        delay_ms: keys.duration("delay", "1s", default.delay_ms),
        delay_max_ms: keys.duration("delayMax", "30s", default.delay_max_ms),
        reset_after_ms: keys.duration("resetAfter", "1m", default.reset_after_ms),
        then: keys.choice("then", &[("slow", Then::Slow), ("fail", Then::Fail)], default.then),
    };
    // what goes on slowly for ever must not become a loop without a pause
    keys.at_least("delayMax", policy.delay_max_ms, 100, "100ms");
    if policy.delay_ms > policy.delay_max_ms {
        let (delay, most) = (policy.delay_ms, policy.delay_max_ms);
        keys.error("delay", format!("({delay} ms) must not be more than delayMax ({most} ms)"));
    }
    policy
}

fn stop(keys: &Reader<'_>) -> Stop {
    let signal = |value: &DeValue<'_>| match (value.as_str(), reader::integer(value)) {
        (Some(text), _) => parse_signal(text).map_err(reader::is_refused),
        (_, number) => number
            .and_then(|number| i32::try_from(number).ok())
            .filter(|number| is_signal(*number))
            .ok_or(Refused::NotWanted),
    };
    Stop {
        signal: keys.get("signal", "a signal such as \"SIGTERM\"", signal).unwrap_or(libc::SIGTERM),
        timeout_ms: keys.duration("timeout", "10s", 10_000),
    }
}
