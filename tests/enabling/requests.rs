//! `reload` and `restart --rolling`.

use crate::support::{Pair, SIGKILL, signal, wait_until};
use crate::tools::{exits, finish_child, has, pid_in, twins};
use crate::{pid, sleeper};
use std::fs;
use std::process::Stdio;

/// Says each SIGHUP, and that it listens.
const LISTENS: &str = "trap 'echo again >> {home}/reloads' HUP; echo $$$$ > {home}/ready; \
                       while :; do sleep 0.02; done";

fn reloads(pair: &Pair) -> usize {
    fs::read_to_string(pair.home.join("reloads")).unwrap_or_default().lines().count()
}

#[test]
fn a_reload_sends_the_signal_once_and_is_refused_where_none_is_set() {
    let listens = format!(
        "[[server]]\nname = \"web\"\ncommand = [\"sh\", \"-c\", '''{LISTENS}''']\n\
         settleTime = \"50ms\"\nreload = {{ signal = \"SIGHUP\" }}\n"
    );
    let pair = Pair::new("", &(listens + &sleeper("mute", "")));
    pair.start();
    let first = pid_in(&pair.home.join("ready"));
    has(&exits(&pair, &["reload", "web"], 0).0, &["web: SIGHUP sent to PID", &first.to_string()]);
    wait_until("the reload", || reloads(&pair) == 1);
    let (out, err) = exits(&pair, &["reload", "all"], 1);
    has(&out, &["web: SIGHUP sent"]);
    has(&err, &["mute: ", "reload = { signal"]);
    wait_until("the reload", || reloads(&pair) == 2);
    // With the active killed at that moment, it was sent, or nobody knows; never twice.
    let (active, _) = twins(&pair);
    let mut command = pair.command(&["reload", "web"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    signal(active, SIGKILL);
    let status = finish_child(child, "reload").status.code();
    pair.wait_whole();
    assert!(matches!(status, Some(0 | 75)), "{status:?}");
    exits(&pair, &["reload", "web"], 0);
    wait_until("the reload", || reloads(&pair) >= 3);
    assert!(reloads(&pair) <= 4);
    assert_eq!(pid(&pair.server("web")), first);
    exits(&pair, &["stop", "web"], 0);
    has(&exits(&pair, &["reload", "web"], 1).1, &["not running"]);
}

/// Notes each start and stop with its number, and is up when both will be noted; one that is to fail
/// does.
fn instances(more: &str) -> String {
    let script = "echo start ${instance} >> {home}/story; [ -e {home}/fail-${instance} ] && exit 1; \
                  trap 'echo stop ${instance} >> {home}/story; exit 0' TERM; \
                  echo up; while :; do sleep 0.02; done";
    format!(
        "[[server]]\nname = \"web\"\ninstances = 3\ncommand = [\"sh\", \"-c\", \"\"\"{script}\"\"\"]\n\
         ready = {{ log = \"^up$\" }}\n{more}\n"
    )
}

fn story(pair: &Pair) -> Vec<String> {
    let text = fs::read_to_string(pair.home.join("story")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What a roll over these instances looks like.
fn roll(numbers: &[u32]) -> Vec<String> {
    let words = |number: &u32| ["stop", "start"].map(|word| format!("{word} {number}"));
    numbers.iter().flat_map(words).collect()
}

fn begin(more: &str) -> Pair {
    let pair = Pair::new("", &instances(more));
    pair.start();
    fs::remove_file(pair.home.join("story")).unwrap();
    pair
}

#[test]
fn a_rolling_restart_takes_one_after_the_other_also_when_the_active_dies_in_the_middle() {
    let pair = begin("");
    let before = pair.pids();
    has(
        &exits(&pair, &["restart", "--rolling", "web"], 0).0,
        &["web@1: RUNNING, PID", "web@2: RUNNING, PID", "web@3: RUNNING, PID"],
    );
    assert_eq!(story(&pair), roll(&[1, 2, 3]));
    assert!(pair.pids().iter().all(|(name, pid)| before[name] != *pid));
    fs::remove_file(pair.home.join("story")).unwrap();
    let (active, _) = twins(&pair);
    let mut command = pair.command(&["restart", "--rolling", "--json", "web"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the second to start", || story(&pair).contains(&"start 2".to_string()));
    signal(active, SIGKILL);
    let output = finish_child(child, "restart --rolling");
    assert!(output.status.success(), "{}", crate::support::both(&output));
    assert_eq!(story(&pair), roll(&[1, 2, 3]));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(3));
    exits(&pair, &["restart", "--rolling", "--no-wait", "web"], 64);
    exits(&pair, &["restart", "--rolling", "nobody"], 4);
}

#[test]
fn a_rolling_restart_stops_at_the_first_failure_and_says_what_is_not_done() {
    let pair = begin("restart = { when = \"never\" }");
    let before = pair.pids();
    fs::write(pair.home.join("fail-2"), "").unwrap();
    exits(&pair, &["disable", "web@1"], 0);
    let (_, err) = exits(&pair, &["restart", "--rolling", "web"], 1);
    has(
        &err,
        &[
            "web@1: not restarted: it is disabled",
            "web@2: ",
            "web@3: not restarted, because web@2 was not",
        ],
    );
    let now = pair.pids();
    assert_eq!((now["web@1"], now["web@3"]), (before["web@1"], before["web@3"]));
    assert_eq!(story(&pair), roll(&[2]));
}
