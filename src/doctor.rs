//! `doctor`: looks at what a pair needs of this machine, and says what to do where it lacks something.
//!
//! Must not change anything or manage anything: it reads, asks, and binds the standby's port for a moment
//! when no pair runs.

mod machine;
mod pair;

use crate::cli::{exit, print};
use crate::config::{self, Config};
use crate::launch;
use std::io::Write;
use std::path::Path;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warn,
    Fail,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub level: Level,
    pub text: String,
    /// What to do; empty when all is well.
    pub todo: String,
}

impl Finding {
    fn ok(check: &'static str, text: impl Into<String>) -> Finding {
        Finding { check, level: Level::Ok, text: text.into(), todo: String::new() }
    }

    fn warn(check: &'static str, text: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding { check, level: Level::Warn, text: text.into(), todo: todo.into() }
    }

    fn fail(check: &'static str, text: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding { check, level: Level::Fail, text: text.into(), todo: todo.into() }
    }
}

/// Prints all checks; exit status 1 when one of them failed.
pub fn doctor(file: &Path, json: bool, out: &mut dyn Write) -> u8 {
    let findings = look(file);
    let is_well = findings.iter().all(|finding| finding.level < Level::Fail);
    let exit = if is_well { exit::DONE } else { exit::FAILED };
    if json {
        let answer = serde_json::json!({ "schema": 1, "ok": is_well, "checks": findings });
        return print(out, &format!("{answer}\n"), exit);
    }
    let lines: Vec<String> = findings.iter().map(line).collect();
    print(out, &(lines.join("\n") + "\n"), exit)
}

fn line(finding: &Finding) -> String {
    let word = match finding.level {
        Level::Ok => "ok  ",
        Level::Warn => "warn",
        Level::Fail => "FAIL",
    };
    let todo = if finding.todo.is_empty() { String::new() } else { format!("; {}", finding.todo) };
    let text = format!("{}{todo}", finding.text).replace('\n', "; ");
    format!("{word} {}: {}", finding.check, crate::cli::printable(&text))
}

fn look(file: &Path) -> Vec<Finding> {
    let mut findings = vec![machine::kernel()];
    findings.extend(machine::clock(None));
    let config = match config::load(file).and_then(launch::with_accounts) {
        Ok(config) => {
            findings.extend(configuration(&config));
            config
        }
        Err(errors) => {
            let todo = "see `nodemanager check`";
            findings.push(Finding::fail("configuration", errors.to_string(), todo));
            // With a variable that is set elsewhere, or while a pair runs, the rest can be looked at.
            let other = config::load_for_command(file).ok();
            let Some(config) = other.or_else(|| launch::config_in_force(file)) else {
                return findings;
            };
            config
        }
    };
    let newest = machine::newest(&config.node.run_dir);
    findings.extend(newest.and_then(|newest| machine::clock(Some(newest))));
    findings.extend(machine::limits(&config));
    findings.extend(machine::directories(&config));
    findings.extend(pair::pair(&config));
    findings.extend(pair::journal(&config));
    findings.push(machine::cgroups(&config));
    findings
}

fn configuration(config: &Config) -> Vec<Finding> {
    let check = "configuration";
    let servers = config.servers.len();
    let word = if servers == 1 { "server" } else { "servers" };
    let text = format!("{}: {servers} {word}", config.file.display());
    let mut findings: Vec<Finding> =
        config.warnings.iter().map(|warning| Finding::warn(check, warning, "")).collect();
    if let Err(text) = launch::check_rights(config) {
        findings.push(Finding::fail(check, text, ""));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, text));
    }
    findings
}
