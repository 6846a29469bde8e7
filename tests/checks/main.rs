//! Readiness, health and the order of servers, with real servers and with the active killed in the
//! middle.
//!
//! Must not judge a time: what has to come is waited for, with a limit.

#[path = "../support/mod.rs"]
mod support;

mod health;
mod order;
mod policy;
mod ready;

use support::*;

/// The table of an HTTP server that listens on `port` after so long, and answers with `FILE`.
fn http_server(name: &str, port: u16, after_ms: u64, more: &str) -> String {
    let program = example("http_server");
    format!(
        "[[server]]\nname = \"{name}\"\n\
         command = [\"{}\", \"{port}\", \"{after_ms}\", \"{{home}}/{name}.answer\"]\n{more}\n",
        program.display()
    )
}

/// The table of a server that only lives, or runs a script.
fn shell(name: &str, script: &str, more: &str) -> String {
    format!("[[server]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\n{more}\n")
}

fn lives(name: &str, more: &str) -> String {
    shell(name, "exec sleep 600", &format!("settleTime = \"0s\"\n{more}"))
}

/// Kills the active and waits until another one serves.
fn take_over(pair: &Pair) {
    let old = pair.pid_of("active");
    signal(old, SIGKILL);
    wait_until("a takeover", || pair.twin("active").is_some_and(|pid| pid != old));
}

fn text<'a>(server: &'a serde_json::Value, key: &str) -> &'a str {
    server[key].as_str().unwrap_or_default()
}
