//! `events -f`, and the control socket.

use super::support::{Pair, wait_until};
use super::{LIVES, count, events, kill};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;

/// A command that is ended with the test.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn following_goes_on_through_a_takeover_and_a_smaller_file() {
    let pair = Pair::new("eventsMaxSize = \"64KiB\"", LIVES);
    pair.start();
    let path = pair.home.join("followed");
    let mut command = pair.command(&["events", "-f", "-n", "0", "--json"]);
    let first = events(&pair).len() as u64;
    let _following = Following(command.stdout(File::create(&path).unwrap()).spawn().unwrap());
    let seqs = || -> Vec<u64> {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["seq"].as_u64())
            .collect()
    };
    // It shows what happens from its own beginning on.
    wait_until("a restart is shown", || {
        pair.ok(&["restart", "web"]);
        !seqs().is_empty()
    });
    kill(&pair, "active");
    pair.wait_whole();
    wait_until("the takeover is shown", || {
        fs::read_to_string(&path).unwrap().contains("\"takeover\"")
    });
    let long = "x".repeat(60 << 10);
    let history = pair.home.join("state/events.jsonl");
    let mut file = File::options().append(true).open(&history).unwrap();
    // No event, but a reason to make it smaller.
    writeln!(file, "{long}").unwrap();
    while fs::read_to_string(&history).unwrap().contains(&long) {
        pair.ok(&["restart", "web"]);
    }
    pair.ok(&["stop", "web"]);
    wait_until("the last one is shown", || {
        fs::read_to_string(&path).unwrap().contains("\"asked\"")
    });
    let all = seqs();
    let expected: Vec<u64> = (all[0]..all[0] + all.len() as u64).collect();
    assert_eq!(all, expected, "each once, in order");
    assert!(all[0] >= first, "nothing old was asked for");
}

#[test]
fn the_control_socket_tells_the_events_behind_a_number() {
    let pair = Pair::new("", LIVES);
    pair.start();
    pair.ok(&["restart", "web"]);
    kill(&pair, "active");
    pair.wait_whole();
    wait_until("the takeover is told", || count(&pair, "takeover") == 1);
    let all = events(&pair);
    let answer = ask(&pair, "/v1/events?since=2");
    let told: Vec<u64> =
        answer["events"].as_array().unwrap().iter().filter_map(|one| one["seq"].as_u64()).collect();
    assert_eq!(told[0], 3, "also what the active before told");
    assert!(told.len() >= all.len() - 2);
    assert_eq!(answer["last"].as_u64(), told.last().copied());
    assert!(ask(&pair, "/v1/events?since=x")["error"].as_str().unwrap().contains("number"));
}

pub fn ask(pair: &Pair, path: &str) -> Value {
    let mut stream = UnixStream::connect(pair.home.join("run/control.sock")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}
