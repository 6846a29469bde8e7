//! Metrics of real pairs: their values, what they outlive, who may ask, and what Prometheus makes of
//! them.
//!
//! Must not know how they are rendered. The tests with promtool and prometheus are skipped, and say
//! so, where these are not installed.

#[path = "../support/mod.rs"]
mod support;

mod apply;
mod crowd;
mod prometheus;
mod takeover;
mod values;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use support::*;

/// A server that lives until it is stopped.
const LIVES: &str =
    "[[server]]\nname = \"web\"\ncommand = [\"/bin/sleep\", \"1000\"]\nsettleTime = \"0s\"\n";

/// A pair that tells metrics at a port of its own.
fn pair_with_metrics(servers: &str) -> (Pair, u16) {
    let port = free_port();
    let pair = Pair::new("", &format!("{}{servers}", metrics_at(port)));
    pair.start();
    pair.wait_whole();
    (pair, port)
}

fn metrics_at(port: u16) -> String {
    format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n")
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream
}

/// The answer to some bytes; what is read until the end or a reset.
fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    if stream.write_all(bytes).is_ok() {
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status and body of a request.
fn ask(port: u16, request: &str) -> (u16, String) {
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
    split(&exchange(&mut connect(port), request.as_bytes()))
}

fn split(answer: &str) -> (u16, String) {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

fn scrape(port: u16) -> String {
    let (status, body) = ask(port, "GET /metrics");
    assert_eq!(status, 200, "{body}");
    body
}

/// The value of a series, written as in the text.
fn value(text: &str, series: &str) -> Option<f64> {
    let of = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(of)
}

/// Waits until a series has a value that is right.
fn wait_value(port: u16, series: &str, is_right: impl Fn(f64) -> bool) -> f64 {
    let mut last = String::new();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(series, || {
            last = scrape(port);
            value(&last, series).filter(|value| is_right(*value))
        })
    }));
    found.unwrap_or_else(|_| panic!("waited in vain for {series} in\n{last}"))
}

/// A program of the package prometheus; `None` and a line when it is not installed.
fn program(name: &str) -> Option<Command> {
    let is_there = Command::new(name).arg("--version").output().is_ok();
    if !is_there {
        println!("skipped: {name} is not installed (Debian: apt-get install prometheus)");
    }
    is_there.then(|| Command::new(name))
}

/// Kills the active and waits until another one serves.
fn take_over(pair: &Pair) {
    let old = pair.pid_of("active");
    signal(old, SIGKILL);
    wait_until("a takeover", || pair.twin("active").is_some_and(|pid| pid != old));
    pair.wait_whole();
}

const PAUSE: Duration = Duration::from_millis(20);
