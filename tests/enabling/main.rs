//! Disabled servers, reload and rolling restarts, with real processes; the lives of a pair are in
//! `lives.rs`.

mod lives;
mod requests;
#[path = "../support/mod.rs"]
mod support;
#[path = "../tools/mod.rs"]
mod tools;

use serde_json::Value;
use std::fs;
use support::{Pair, SIGKILL, is_alive, signal, wait_until};
use tools::{exits, has, twins};

/// Quickly up, stays up; its restart comes at once.
fn sleeper(name: &str, more: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = \"sleep 1000\"\nsettleTime = \"50ms\"\n\
         {more}\n"
    )
}

const AT_ONCE: &str = "restart = { when = \"always\", delay = \"0ms\" }";

fn pid(server: &Value) -> i32 {
    server["pid"].as_i64().unwrap_or_default() as i32
}

fn list(pair: &Pair) -> String {
    fs::read_to_string(pair.home.join("state/disabled")).unwrap_or_default()
}

fn is_enabled(pair: &Pair, name: &str) -> bool {
    pair.server(name)["enabled"].as_bool().expect("a field of status")
}

/// The active dies; the standby takes over and the pair is whole again.
fn take_over(pair: &Pair) {
    let (active, standby) = twins(pair);
    signal(active, SIGKILL);
    wait_until("the takeover", || pair.twin("active") == Some(standby));
    pair.wait_whole();
}

#[test]
fn a_disabled_server_runs_on_and_is_started_by_nothing_also_after_takeovers() {
    let pair = Pair::new("", &(sleeper("web", AT_ONCE) + &sleeper("other", AT_ONCE)));
    pair.start();
    let first = pair.pids();
    has(&exits(&pair, &["disable", "web"], 0).0, &["web: disabled; PID", "runs on"]);
    assert_eq!((list(&pair), is_enabled(&pair, "web")), ("web\n".to_string(), false));
    has(&exits(&pair, &["status"], 0).0, &["DISABLED", "2 servers: 2 up"]);
    take_over(&pair);
    assert_eq!(pair.pids(), first, "a takeover touches neither");
    signal(first["web"], SIGKILL);
    let server = pair.wait_state("web", "STOPPED");
    assert_eq!((&server["enabled"], &server["wanted"]), (&false.into(), &"down".into()));
    let detail = || pair.server("web")["detail"].to_string();
    // The standby became its active: it learns of the status a moment later.
    wait_until("the exit status", || detail().contains("DISABLED; killed by SIGKILL"));
    // Nobody starts it: not a takeover, not those who ask.
    take_over(&pair);
    for verb in ["start", "restart"] {
        has(&exits(&pair, &[verb, "web"], 1).1, &["web: disabled", "enable --now web"]);
    }
    exits(&pair, &["reset", "web"], 0);
    has(&exits(&pair, &["status"], 0).0, &["2 servers: 1 up, 1 disabled"]);
    assert_eq!(pair.server("web")["pid"], Value::Null);
    // Enabled it may be started, which is another wish.
    has(&exits(&pair, &["enable", "web"], 0).0, &["web: enabled"]);
    assert_eq!(
        (list(&pair), pair.server("web")["state"].clone()),
        (String::new(), "STOPPED".into())
    );
    has(
        &exits(&pair, &["disable", "--now", "web", "other"], 0).0,
        &["web: disabled; STOPPED", "other: disabled; STOPPED"],
    );
    assert!(pair.pids().is_empty());
    has(&exits(&pair, &["enable", "--now", "all"], 0).0, &["web: enabled; RUNNING, PID"]);
    assert_eq!(pair.pids().len(), 2);
}

#[test]
fn the_list_may_be_edited_while_the_pair_runs_and_keeps_what_is_written_around_the_names() {
    let pair = Pair::new("", &(sleeper("web", "") + &sleeper("db", "")));
    pair.start();
    let file = pair.home.join("state/disabled");
    fs::write(&file, "# till Monday\nweb # disk\nstranger\n").unwrap();
    wait_until("the list to be seen", || !is_enabled(&pair, "web"));
    wait_until("a warning", || pair.log(false).contains("names no server"));
    has(&pair.log(false), &["[NodeManager-0143]", "stranger", "web is disabled"]);
    has(&exits(&pair, &["check"], 0).1, &["warning", "stranger"]);
    exits(&pair, &["disable", "db"], 0);
    exits(&pair, &["enable", "web"], 0);
    assert_eq!(list(&pair), "# till Monday\nstranger\ndb\n");
    assert!(is_enabled(&pair, "web") && !is_enabled(&pair, "db"));
    // What can't be read changes nothing; a change of it is refused and says so.
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    wait_until("a warning", || pair.log(false).contains("[NodeManager-0144]"));
    assert!(!is_enabled(&pair, "db"));
    has(&exits(&pair, &["enable", "db"], 1).1, &["could not be written"]);
    take_over(&pair);
    assert!(!is_enabled(&pair, "db"), "the records know it");
    fs::remove_file(&file).unwrap();
    wait_until("the list to be empty", || is_enabled(&pair, "db"));
    assert_eq!(pair.status()["takeovers"], 1);
}

#[test]
fn without_its_directory_the_list_counts_as_before_and_no_change_of_it_succeeds() {
    let pair = Pair::new("", &(sleeper("web", "") + &sleeper("db", "")));
    pair.start();
    exits(&pair, &["disable", "web"], 0);
    let (state, moved) = (pair.home.join("state"), pair.home.join("moved"));
    fs::rename(&state, &moved).unwrap();
    for words in [["disable", "web"], ["enable", "web"], ["disable", "db"]] {
        has(&exits(&pair, &words, 1).1, &["state/disabled could not be written; see the log"]);
    }
    assert!(!is_enabled(&pair, "web") && is_enabled(&pair, "db"));
    fs::rename(&moved, &state).unwrap();
    exits(&pair, &["disable", "web"], 0);
    exits(&pair, &["enable", "web"], 0);
    assert!(is_enabled(&pair, "web") && list(&pair).is_empty());
}

#[test]
fn a_disabled_need_keeps_its_dependants_waiting_and_their_start_says_so() {
    let servers = sleeper("db", "") + &sleeper("web", "dependsOn = [\"db\"]");
    let pair = Pair::new("", &servers);
    // Without a pair the list is changed all the same.
    has(&exits(&pair, &["disable", "db"], 0).0, &["db: disabled; no node manager runs"]);
    exits(&pair, &["disable", "--now", "db"], 69);
    assert!(!is_enabled(&pair, "db"));
    exits(&pair, &["run", "--detach"], 1);
    assert_eq!(pair.wait_state("web", "WAITING")["pid"], Value::Null);
    has(
        &exits(&pair, &["start", "web"], 1).1,
        &["waits for db, which is disabled", "enable --now"],
    );
    take_over(&pair);
    assert_eq!(pair.server("db")["state"], "STOPPED");
    exits(&pair, &["enable", "--now", "db"], 0);
    pair.wait_state("web", "RUNNING");
}

#[test]
fn the_list_is_whole_whoever_is_killed_while_it_is_changed() {
    let names: Vec<String> = (0..6).map(|number| format!("s{number}")).collect();
    let servers: String = names.iter().map(|name| sleeper(name, "autoStart = false")).collect();
    let pair = Pair::new("", &servers);
    pair.start();
    for name in &names {
        let (active, _) = twins(&pair);
        let mut command = pair.command(&["disable", name]);
        let child =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = child.spawn().unwrap();
        signal(active, SIGKILL);
        let output = tools::finish_child(child, "disable");
        assert!(output.status.success(), "{}", support::both(&output));
        assert!(list(&pair).lines().any(|line| line == name), "{:?}", list(&pair));
    }
    wait_until("all to be disabled", || names.iter().all(|name| !is_enabled(&pair, name)));
    assert_eq!(list(&pair), names.iter().map(|name| format!("{name}\n")).collect::<String>());
    assert!(pair.processes().iter().all(|pid| is_alive(*pid)));
}
