//! Events on real pairs: what the history says and outlives, and how it is followed; hooks and mail.
//!
//! Must not know how they are carried out: what counts is what the command, the hooks and the mail say.

#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod following;

use serde_json::Value;
use std::fs;
use support::{Pair, SIGKILL, SIGSTOP, signal, wait_for, wait_until};

/// A server that lives until it is stopped.
const LIVES: &str =
    "[[server]]\nname = \"web\"\ncommand = [\"/bin/sleep\", \"1000\"]\nsettleTime = \"0s\"\n";

/// A server whose script decides how it ends.
fn script(name: &str, script: &str, more: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = [\"/bin/sh\", \"-c\", '{script}']\n\
         settleTime = \"0s\"\n{more}\n"
    )
}

/// All events, by the command.
fn events(pair: &Pair) -> Vec<Value> {
    let text = pair.ok(&["events", "--json", "-n", "100000"]);
    text.lines().map(|line| serde_json::from_str(line).expect("an event is JSON")).collect()
}

fn kinds(pair: &Pair) -> Vec<String> {
    events(pair).iter().map(|one| one["kind"].as_str().unwrap_or_default().to_owned()).collect()
}

fn count(pair: &Pair, kind: &str) -> usize {
    kinds(pair).iter().filter(|one| *one == kind).count()
}

/// Waits for one of this kind, and gives the newest.
fn wait_event(pair: &Pair, kind: &str) -> Value {
    wait_for(&format!("{kind} among {:?}", kinds(pair)), || {
        events(pair).into_iter().rev().find(|one| one["kind"] == kind)
    })
}

/// The newest of this kind about this server.
fn newest(pair: &Pair, kind: &str, server: &str) -> Option<Value> {
    events(pair).into_iter().rev().find(|one| one["kind"] == kind && one["server"] == server)
}

/// Numbers rise by one.
fn assert_no_gap(pair: &Pair) {
    let seqs: Vec<u64> = events(pair).iter().filter_map(|one| one["seq"].as_u64()).collect();
    let first = seqs.first().copied().unwrap_or(1);
    let expected: Vec<u64> = (first..first + seqs.len() as u64).collect();
    assert_eq!(seqs, expected);
}

fn kill(pair: &Pair, role: &str) {
    signal(pair.pid_of(role), SIGKILL);
}

#[test]
fn what_happens_to_servers_is_told_with_its_fields() {
    let fails = "restart = { delay = \"10ms\", tries = 1, then = \"fail\" }";
    let slow = "restart = { delay = \"10ms\", delayMax = \"100ms\", tries = 1, window = \"1m\", then = \"slow\", resetAfter = \"2s\" }";
    let servers = LIVES.to_owned()
        + &script("bad", "test -e {home}/good && exec sleep 1000; exit 3", fails)
        + &script("slow", "test -e {home}/good && exec sleep 1000; kill -9 $$$$", slow)
        + &script(
            "sick",
            "exec sleep 1000",
            "health = [{ exec = [\"/bin/false\"], interval = \"20ms\", failures = 1 }]\nrestart = { when = \"never\" }",
        )
        + &script("once", "exit 0", "type = \"oneshot\"")
        + &script(
            "hooked",
            "exec sleep 1000",
            "hooks = { postStart = \"/bin/false\" }\nautoStart = false",
        )
        + &script(
            "busy",
            "exec sleep 1000",
            "drain = { check = [\"/bin/true\"], interval = \"10ms\" }",
        );
    let pair = Pair::new("", &servers);
    pair.run(&["run", "--detach"]);
    let failed = wait_for("that bad has failed", || newest(&pair, "server-failed", "bad"));
    for kind in ["server-failing", "server-unhealthy", "server-exited", "server-backoff"] {
        wait_event(&pair, kind);
    }
    let of = |name: &str, kind: &str| {
        events(&pair).into_iter().find(|one| one["server"] == name && one["kind"] == kind)
    };
    let ended = of("bad", "server-ended").expect("bad ended");
    assert_eq!((&ended["fields"]["exit"], &ended["fields"]["code"]), (&"code".into(), &3.into()));
    assert_eq!(of("slow", "server-ended").unwrap()["fields"]["signal"], "SIGKILL");
    assert!(failed["text"].as_str().unwrap().contains("FAILED"), "{failed}");
    fs::write(pair.home.join("good"), "").unwrap();
    pair.ok(&["reset", "bad"]);
    for name in ["bad", "slow"] {
        wait_for("both have recovered", || newest(&pair, "server-recovered", name));
    }
    pair.ok(&["stop", "web"]);
    assert_eq!(of("web", "server-stopped").unwrap()["fields"]["why"], "asked");
    pair.ok(&["disable", "web"]);
    pair.ok(&["enable", "web"]);
    pair.ok(&["drain", "busy"]);
    pair.run(&["start", "hooked"]);
    for kind in ["server-disabled", "server-enabled", "server-drained", "server-command-failed"] {
        wait_event(&pair, kind);
    }
    assert_no_gap(&pair);
    let text = pair.ok(&["events", "-n", "1", "--kind", "server-stopped", "web"]);
    assert!(text.contains("  server-stopped          web           stopped as asked"), "{text}");
    assert!(!text.contains('\x1b'), "no colours outside of a terminal: {text:?}");
}

#[test]
fn the_history_goes_on_over_takeovers_the_death_of_both_and_a_torn_line() {
    let pair = Pair::new("", LIVES);
    pair.start();
    kill(&pair, "active");
    pair.wait_whole();
    let takeover = wait_event(&pair, "takeover");
    assert_eq!(takeover["fields"]["cause"], "death");
    assert_eq!(takeover["fields"]["pid"].as_i64(), Some(i64::from(pair.pid_of("active"))));
    kill(&pair, "standby");
    wait_event(&pair, "standby-down");
    pair.wait_whole();
    let keeper = pair.pid_of("keeper");
    kill(&pair, "keeper");
    wait_event(&pair, "keeper-lost");
    assert_eq!(wait_event(&pair, "keeper-lost")["fields"]["pid"].as_i64(), Some(i64::from(keeper)));
    pair.start();
    wait_event(&pair, "keeper-joined");
    pair.wait_whole();
    pair.ok(&["shutdown"]);
    wait_event(&pair, "pair-ended");
    let path = pair.home.join("state/events.jsonl");
    let torn = fs::read_to_string(&path).unwrap() + "{\"seq\":999,\"time\":\"20";
    fs::write(&path, torn).unwrap();
    assert_no_gap(&pair);
    pair.start();
    wait_until("the next pair has started", || count(&pair, "pair-started") == 2);
    assert_no_gap(&pair);
    assert!(!fs::read_to_string(&path).unwrap().contains("\"seq\":999"));
    // The server lived on through all of it.
    assert_eq!(count(&pair, "server-running"), 1, "{:?}", kinds(&pair));
    assert_eq!(count(&pair, "server-ended"), 0);
}

#[test]
fn a_long_history_is_known_to_whoever_takes_over_and_nothing_is_told_twice() {
    const SERVERS: usize = 100;
    let many = script("s", "exec sleep 1000", &format!("instances = {SERVERS}"));
    let pair = Pair::new("", &many);
    pair.start();
    for number in 1..=4 {
        pair.wait_whole();
        kill(&pair, "active");
        if number % 2 == 0 {
            // Asked before it has read all by itself.
            let answer = following::ask(&pair, "/v1/events?since=0");
            let told = answer["events"].as_array().expect("a list").len();
            assert!(told >= SERVERS, "only {told} events: {answer}");
        }
        wait_until("the takeover is told", || count(&pair, "takeover") == number);
    }
    assert_no_gap(&pair);
    assert_eq!(count(&pair, "server-running"), SERVERS);
}

#[test]
fn both_dead_at_once_are_told_as_a_start_of_the_same_life() {
    let pair = Pair::new("", LIVES);
    pair.start();
    let twins = [pair.pid_of("active"), pair.pid_of("standby")];
    // Stopped first: neither acts on the other's death.
    for number in [SIGSTOP, SIGKILL] {
        twins.iter().for_each(|pid| signal(*pid, number));
    }
    wait_until("the pair is there again", || count(&pair, "pair-started") == 2);
    assert_eq!(wait_event(&pair, "pair-started")["fields"]["life"], "same");
    assert_eq!(count(&pair, "server-running"), 1);
    assert_no_gap(&pair);
}

#[test]
fn an_applied_configuration_is_told_with_what_changed_and_is_no_takeover() {
    let pair = Pair::new("", LIVES);
    pair.start();
    let more = LIVES.to_owned() + &script("new", "exec sleep 1000", "");
    pair.configure("", &more);
    pair.ok(&["apply"]);
    let applied = wait_event(&pair, "configuration-applied");
    assert_eq!(applied["fields"]["generation"], 1, "{applied}");
    assert_eq!(applied["fields"]["servers"][0]["name"], "new", "{applied}");
    assert_eq!((count(&pair, "takeover"), count(&pair, "standby-down")), (0, 0));
    assert_no_gap(&pair);
}

#[test]
fn the_history_stays_below_its_limit_and_keeps_the_newest() {
    let quick =
        "instances = 20\nrestart = { delay = \"10ms\", delayMax = \"100ms\", tries = 1000 }";
    let pair = Pair::new("eventsMaxSize = \"64KiB\"", &script("bad", "exit 3", quick));
    pair.run(&["run", "--detach", "--no-wait"]);
    let path = pair.home.join("state/events.jsonl");
    wait_until("the first events are gone", || {
        assert!(fs::metadata(&path).map_or(0, |status| status.len()) <= (64 << 10) + 4096);
        events(&pair).first().is_some_and(|first| first["seq"].as_u64() > Some(1))
    });
    pair.ok(&["stop", "bad"]);
    assert_no_gap(&pair);
    wait_until("the newest is there", || count(&pair, "server-stopped") > 0);
}

#[test]
fn a_history_that_cannot_be_written_hurts_nobody_and_is_written_later() {
    let pair = Pair::new("", LIVES);
    pair.start();
    let path = pair.home.join("state/events.jsonl");
    let before = count(&pair, "server-stopped");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    pair.ok(&["restart", "web"]);
    wait_until("it is said in the log", || pair.log(false).contains("NodeManager-0150"));
    fs::remove_dir(&path).unwrap();
    pair.ok(&["restart", "web"]);
    wait_until("all of it is there", || count(&pair, "server-stopped") == before + 2);
    assert_eq!(pair.log(false).matches("NodeManager-0150").count(), 1);
    assert_no_gap(&pair);
}
