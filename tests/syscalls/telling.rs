//! Situations of what is told about servers: the history, a hook, a mail, metrics.
//!
//! Events and hooks come at least once, whoever dies: what is looked for is that they came, and that
//! the numbers of the history rise.

use crate::features::QUICK;
use crate::scenarios::{World, once_more, wait_up};
use crate::support::counted::counted;
use crate::support::{Pair, free_port, wait_for, wait_until};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Two servers, of which one is told about in every way.
pub fn told() -> String {
    // One write a record: that of an active that was killed may still run beside the next one's.
    let keep = "printf '%s\\\\n' \\\"$(cat)\\\" >> {home}/hooked";
    let port = free_port();
    counted("t", "", QUICK)
        + &counted("steady", "", QUICK)
        + &format!(
            "[metrics]\nlisten = \"127.0.0.1:{port}\"\n\
             [[hook]]\nname = \"kept\"\non = [\"server-running\", \"takeover\", \"pair-started\"]\ncommand = [\"sh\", \"-c\", \"{keep}\"]\n\
             [mail]\nto = [\"ops@example.org\"]\nfrom = \"nm@example.org\"\ngroup = \"1s\"\n\
             on = [\"server-running\"]\nsendmail = \"{{home}}/sendmail\"\n"
        )
}

/// The program that is called for a mail keeps it.
pub fn with_mailer(pair: &Pair) {
    use std::os::unix::fs::PermissionsExt;
    let path = pair.home.join("sendmail");
    if !path.exists() {
        let script = format!("#!/bin/sh\ncat >> {}/mailed\n", pair.home.display());
        // Nobody may find it half written.
        let new = pair.home.join("sendmail.new");
        fs::write(&new, script).expect("the mailer");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("its mode");
        fs::rename(new, path).expect("its name");
    }
    pair.ok(&["start", "t"]);
}

/// The lines of a file that are whole records.
fn records(pair: &Pair, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(pair.home.join(file)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The number of a record.
fn seq(record: &Value) -> u64 {
    record["seq"].as_u64().unwrap_or_default()
}

/// The server is restarted, and that is told: in the history, to a hook, by mail.
pub fn act_tell(world: &World) {
    let pair = world.pair;
    once_more(world, "t", || world.command(&["restart", "t"]));
    let pid = pair.pids().get("t").copied().expect("its process");
    let is_it = |record: &Value| record["server"] == "t" && record["fields"]["pid"] == pid;
    let event = wait_for("the event", || {
        records(pair, "state/events.jsonl").into_iter().find(|record| is_it(record))
    });
    // One that could not be started has failed, and is told as that.
    let has_failed = |seq: u64| {
        let all = records(pair, "state/events.jsonl");
        world.has_error
            && all.iter().any(|record| {
                let is_failure =
                    record["kind"] == "hook-failed" && record["fields"]["event"] == seq;
                is_failure || record["kind"] == "hook-dropped"
            })
    };
    wait_until("the hook", || records(pair, "hooked").iter().any(is_it) || has_failed(seq(&event)));
    let text = event["text"].as_str().unwrap_or_default().to_owned();
    wait_until(&format!("a mail about {text}"), || {
        fs::read_to_string(pair.home.join("mailed")).unwrap_or_default().contains(&text)
    });
    rise(pair);
}

/// A takeover is told by the one who took over, or, when that one was killed, that the keeper began
/// anew.
pub fn act_tell_takeover(world: &World) {
    let of = |file: &str| {
        let all = records(world.pair, file);
        let is_it = |one: &&Value| one["kind"] == "takeover" || one["kind"] == "pair-started";
        all.iter().filter(is_it).map(seq).max().unwrap_or(0)
    };
    let before = of("state/events.jsonl");
    crate::scenarios::act_kill_active(world);
    wait_until("the event", || of("state/events.jsonl") > before);
    wait_until("the hook", || world.has_error || of("hooked") > before);
    rise(world.pair);
}

/// Each number comes once, and in order.
fn rise(pair: &Pair) {
    let numbers: Vec<u64> = records(pair, "state/events.jsonl").iter().map(seq).collect();
    let rising = numbers.windows(2).all(|two| two[0] < two[1]);
    assert!(rising && numbers.first() > Some(&0), "the numbers of the history: {numbers:?}");
}

/// The figures are asked for from outside, as long as it takes to be told.
pub fn act_ask_metrics(world: &World) {
    let text = fs::read_to_string(world.pair.config()).expect("the configuration");
    let port = text.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("the port of the metrics");
    let up = "nodemanager_server_up{";
    wait_until("the metrics", || ask(port).is_ok_and(|text| text.contains(up)));
    wait_up(world.pair, "t");
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(crate::support::LIMIT))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
