//! The examples in `conf/examples`, as they are, with the real software: the active is killed while
//! they are asked, and nothing is left when they are stopped.
//!
//! A test whose software is missing says so and passes. Must not change what an example does: only
//! its ports, its node's name and its place are the test's own.

mod jvm;
mod postgresql;
#[path = "../support/mod.rs"]
mod support;
#[path = "../tools/mod.rs"]
mod tools;
mod web_stack;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use support::{Pair, SIGCONT, SIGKILL, free_port, is_alive, signal, wait_until};

/// A copy of an example with a pair of its own.
struct Example {
    pair: Pair,
    /// The ports of the example, and those that the copy has instead.
    ports: BTreeMap<u16, u16>,
}

impl Example {
    fn new(name: &str, ports: &[u16]) -> Example {
        let pair = Pair::new("", "");
        let ports: BTreeMap<u16, u16> = ports.iter().map(|port| (*port, free_port())).collect();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples").join(name);
        copy(&from, &pair.home, &ports);
        let file = pair.home.join("nodemanager.toml");
        let text = fs::read_to_string(&file).expect("the example's configuration");
        let text = replace_value(&text, "name", &format!("{:?}", pair.name()));
        let text = replace_value(&text, "standbyPort", &pair.port.to_string());
        fs::write(pair.config(), text).expect("the test's configuration");
        fs::remove_file(file).expect("the copy's configuration");
        Example { pair, ports }
    }

    fn port(&self, port: u16) -> u16 {
        self.ports[&port]
    }

    /// Kills the active; gives the answer of `ask` right after that. The servers are the same.
    fn take_over<T>(&self, ask: impl Fn() -> T) -> T {
        let servers = self.pair.pids();
        let active = self.pair.pid_of("active");
        signal(active, SIGKILL);
        let answer = ask();
        wait_until("a takeover", || self.pair.twin("active").is_some_and(|pid| pid != active));
        self.pair.wait_whole();
        assert_eq!(self.pair.pids(), servers, "servers were restarted");
        answer
    }

    /// Stops everything; nothing may be left, also no process that has hidden its marks.
    fn stop(&self) {
        tools::exits(&self.pair, &["shutdown", "--stop-servers"], 0);
        tools::assert_nothing_left(&self.pair);
        wait_until("no process in the example's directory", || self.inhabitants().is_empty());
    }

    /// The processes that work below the example's directory. Some programs overwrite their
    /// environment, so the pair's marks do not find all of them.
    fn inhabitants(&self) -> BTreeSet<i32> {
        let entries = fs::read_dir("/proc").map(|dir| dir.flatten().collect::<Vec<_>>());
        let pids = entries.unwrap_or_default().into_iter();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
                cwd.is_ok_and(|cwd| cwd.starts_with(&self.pair.home)) && is_alive(*pid)
            })
            .collect()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // First those who would start others again.
        for pid in self.pair.processes().into_iter().chain(self.inhabitants()) {
            signal(pid, SIGKILL);
            signal(pid, SIGCONT);
        }
    }
}

/// Copies what a fresh clone has of a directory, with other ports in it.
fn copy(from: &Path, to: &Path, ports: &BTreeMap<u16, u16>) {
    fs::create_dir_all(to).expect("a directory of the copy");
    for entry in fs::read_dir(from).expect("a directory of the example").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            // What somebody who tried the example has there.
            if !["run", "logs", "state"].iter().any(|made| name == *made) {
                copy(&path, &to.join(name), ports);
            }
            continue;
        }
        let text = fs::read_to_string(&path).expect("a file of the example");
        let text = ports
            .iter()
            .fold(text, |text, (old, new)| text.replace(&old.to_string(), &new.to_string()));
        fs::write(to.join(name), text).expect("a file of the copy");
    }
}

/// The text with another value in the first line `key = ...`.
fn replace_value(text: &str, key: &str, value: &str) -> String {
    let start = format!("{key} = ");
    let old = text.lines().find(|line| line.starts_with(&start));
    let old = old.unwrap_or_else(|| panic!("the example has no {key}"));
    text.replacen(old, &format!("{start}{value}"), 1)
}

/// The status of `GET path` and its whole answer with head; what went wrong is the answer too.
fn get(port: u16, path: &str, header: &str) -> (u16, String) {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(support::LIMIT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n{header}\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().unwrap_or_else(|error| error.to_string());
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    (status.unwrap_or(0), text)
}

/// The number that follows `before` in a text.
fn number_after(text: &str, before: &str) -> i32 {
    let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("no {before:?} in {text}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after {before:?} in {text}"))
}

#[test]
fn every_example_is_right_and_has_its_description() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples");
    let mut found = 0;
    for entry in fs::read_dir(all).expect("the examples").flatten() {
        let file = entry.path().join("nodemanager.toml");
        let config = nodemanager::config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(config.node.standby_port.is_some(), "{} has no standby", file.display());
        assert!(entry.path().join("README.md").exists(), "{} is not described", file.display());
        found += 1;
    }
    assert!(found >= 3, "only {found} examples");
}
