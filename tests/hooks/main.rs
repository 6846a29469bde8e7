//! The commands around a server's life, on real pairs: hooks, stop and reload commands, drain. Each is
//! also met by the death of the active in the middle of it: it goes on, and is not run again.
//!
//! Must not know how they are carried out: what ran is what the commands themselves wrote.

#[path = "../support/mod.rs"]
mod support;

mod draining;
mod forking;
mod takeover;

use serde_json::Value;
use std::fs;
use support::{Pair, is_alive, wait_until};

/// A server that lives until it is told to stop, with a script of its own in front.
fn server(name: &str, script: &str, more: &str) -> String {
    let script = script.replace('\'', "\"");
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = [\"/bin/sh\", \"-c\", '{script}']\n\
         settleTime = \"0s\"\n{more}\n"
    )
}

/// A server that does nothing until it is told to stop.
fn lives(name: &str, more: &str) -> String {
    server(name, "echo started >> {home}/ran; exec sleep 1000", more)
}

/// A hook that says that it ran.
fn says(key: &str) -> String {
    format!("{key} = {{ command = [\"/bin/sh\", \"-c\", 'echo $$NM_TASK >> {{home}}/ran'] }}")
}

/// A hook that says that it began, waits until the test lets it go on, and says that it ended.
fn waits(key: &str) -> String {
    let script = "echo begin $$NM_TASK >> {home}/ran; while ! test -e {home}/go; do sleep 0.02; done; \
                  echo end $$NM_TASK >> {home}/ran";
    format!("{key} = {{ command = [\"/bin/sh\", \"-c\", '{script}'], timeout = \"1m\" }}")
}

fn ran(pair: &Pair) -> Vec<String> {
    let text = fs::read_to_string(pair.home.join("ran")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_ran(pair: &Pair, line: &str) {
    wait_until(&format!("{line:?} of {:?}", ran(pair)), || ran(pair).iter().any(|one| one == line));
}

fn let_go(pair: &Pair) {
    fs::write(pair.home.join("go"), "").unwrap();
}

fn text(server: &Value, key: &str) -> String {
    server[key].as_str().unwrap_or_default().to_owned()
}

#[test]
fn every_hook_runs_once_at_its_place_and_what_it_says_is_in_the_log_of_its_server() {
    let hooks = ["preStart", "postStart", "preStop", "postStop", "onFailure"].map(says).join(", ");
    let more = format!(
        "hooks = {{ {hooks} }}\nready = {{ exec = [\"/bin/grep\", \"-q\", \"started\", \"{{home}}/ran\"] }}"
    );
    let pair = Pair::new("", &lives("web", &more));
    pair.start();
    pair.wait_state("web", "RUNNING");
    assert_eq!(ran(&pair), ["preStart", "started", "postStart"]);
    pair.ok(&["stop", "web"]);
    assert_eq!(ran(&pair), ["preStart", "started", "postStart", "preStop", "postStop"]);
    let script = "hooks = { preStart = \"/bin/echo 'made ready'\" }";
    pair.configure("", &lives("web", script));
    pair.ok(&["apply"]);
    pair.ok(&["start", "web"]);
    wait_until("its word in the log", || {
        pair.ok(&["logs", "web"]).lines().any(|line| line.ends_with("made ready"))
    });
    assert!(pair.log(false).contains("web: its preStart hook ended well"), "{}", pair.log(false));
}

#[test]
fn a_pre_start_hook_that_fails_is_a_failed_start_and_its_failure_is_told_to_on_failure() {
    let tells = "onFailure = [\"/bin/sh\", \"-c\", 'echo $$NM_REASON >> {home}/ran']";
    let hooks = format!("hooks = {{ preStart = [\"/bin/sh\", \"-c\", \"exit 7\"], {tells} }}");
    let more = format!("{hooks}\nrestart = {{ tries = 1, delay = \"50ms\", then = \"fail\" }}");
    let pair = Pair::new("", &lives("web", &more));
    pair.run(&["run", "--detach", "--timeout", "20s"]);
    let web = pair.wait_state("web", "FAILED");
    assert_eq!(text(&web, "reason"), "preStart hook: exit 7; gave up after 1 restart in 120 s");
    assert_eq!(ran(&pair), ["preStart hook: exit 7", "preStart hook: exit 7"]);
    assert!(web["lastExit"].is_null(), "it never ran: {web}");
}

#[test]
fn the_first_words_of_forty_hooks_that_run_at_once_are_each_in_the_log_of_their_server() {
    let names: Vec<String> = (0..40).map(|number| format!("s{number}")).collect();
    let hooks = "hooks = { preStart = \"/bin/echo 'made ready'\" }";
    let one = |name: &String| server(name, "exec sleep 1000", hooks);
    let pair = Pair::new("", &names.iter().map(one).collect::<String>());
    pair.start();
    for name in &names {
        pair.wait_state(name, "RUNNING");
        wait_until(&format!("the word of {name}"), || {
            pair.ok(&["logs", name]).lines().any(|line| line.ends_with("made ready"))
        });
    }
    assert!(!pair.log(false).contains("hook failed"), "{}", pair.log(false));
}

#[test]
fn on_failure_learns_how_the_server_ended_and_an_end_that_is_none_is_not_told() {
    let script = "echo \"$$NM_NAME $$NM_EXIT_CODE $$NM_EXIT_SIGNAL\" >> {home}/ran";
    let more = format!(
        "hooks = {{ onFailure = [\"/bin/sh\", \"-c\", '{script}'] }}\nrestart = {{ when = \"on-failure\", \
         tries = 0, then = \"fail\" }}"
    );
    let pair = Pair::new(
        "",
        &[
            server("code", "exit 3", &more),
            server("killed", "kill -9 $$$$", &more),
            server("well", "exit 0", &more),
        ]
        .concat(),
    );
    pair.run(&["run", "--detach", "--timeout", "20s"]);
    pair.wait_state("code", "FAILED");
    pair.wait_state("killed", "FAILED");
    pair.wait_state("well", "EXITED");
    let mut ran = ran(&pair);
    ran.sort();
    assert_eq!(ran, ["code 3 ", "killed  SIGKILL"]);
}

#[test]
fn a_post_start_hook_that_fails_stops_the_server_and_counts() {
    let more = "hooks = { postStart = \"/bin/false\", postStop = \"/bin/touch {home}/stopped\" }\n\
                restart = { tries = 0, then = \"fail\" }";
    let pair = Pair::new("", &lives("web", more));
    pair.run(&["run", "--detach", "--timeout", "20s"]);
    let web = pair.wait_state("web", "FAILED");
    assert!(text(&web, "reason").starts_with("postStart hook: exit 1"), "{web}");
    assert!(pair.home.join("stopped").exists(), "postStop runs however it ended");
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_all_that_it_started() {
    let script = "sleep 1000 & echo $$! > {home}/child; wait";
    let hook = format!(
        "hooks = {{ preStart = {{ command = [\"/bin/sh\", \"-c\", '{script}'], timeout = \"3s\" }} }}"
    );
    let more = format!("{hook}\nrestart = {{ tries = 0, then = \"fail\" }}");
    let pair = Pair::new("", &lives("web", &more));
    pair.run(&["run", "--detach", "--timeout", "20s"]);
    let web = pair.wait_state("web", "FAILED");
    assert!(text(&web, "reason").starts_with("preStart hook: took too long"), "{web}");
    let child = fs::read_to_string(pair.home.join("child")).unwrap().trim().parse().unwrap();
    wait_until("the end of what it started", || !is_alive(child));
    assert!(ran(&pair).is_empty(), "the server was not started");
}

#[test]
fn a_hook_that_can_not_be_run_says_which_step_failed() {
    let more =
        "hooks = { preStart = \"/nonexistent/program\" }\nrestart = { tries = 0, then = \"fail\" }";
    let pair = Pair::new("", &lives("web", more));
    pair.run(&["run", "--detach", "--timeout", "20s"]);
    let reason = text(&pair.wait_state("web", "FAILED"), "reason");
    assert!(reason.contains("step exec: No such file"), "{reason}");
}

#[test]
fn a_stop_while_a_hook_of_its_start_runs_ends_the_hook_and_starts_nothing() {
    let more = format!("hooks = {{ {} }}", waits("preStart"));
    let pair = Pair::new("", &lives("web", &more));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    wait_ran(&pair, "begin preStart");
    let web = pair.server("web");
    assert_eq!(
        (text(&web, "state"), text(&web, "detail")),
        ("STARTING".into(), "its preStart hook runs".into())
    );
    pair.ok(&["stop", "web"]);
    let_go(&pair);
    pair.ok(&["start", "web"]);
    // It counts as running when its shell does, which may be before the shell has said anything.
    wait_ran(&pair, "started");
    assert_eq!(ran(&pair), ["begin preStart", "begin preStart", "end preStart", "started"]);
}

#[test]
fn a_server_is_stopped_by_its_stop_command_and_by_the_signal_when_that_fails() {
    let script = "trap '' TERM; trap 'echo asked >> {home}/ran; exit 0' INT; echo up >> {home}/up; while :; do sleep 0.02; done";
    let asks = "stop = { signal = \"SIGTERM\", command = [\"/bin/sh\", \"-c\", 'kill -INT $$NM_MAIN_PID'], timeout = \"20s\" }";
    let fails = "stop = { signal = \"SIGINT\", command = \"/bin/false\", timeout = \"20s\" }";
    let pair =
        Pair::new("", &(server("asked", script, asks) + &server("signalled", script, fails)));
    pair.start();
    wait_until("both up", || {
        fs::read_to_string(pair.home.join("up")).is_ok_and(|text| text.lines().count() == 2)
    });
    assert!(pair.ok(&["stop", "asked"]).contains("exit 0"));
    assert!(pair.ok(&["stop", "signalled"]).contains("exit 0"));
    assert_eq!(ran(&pair), ["asked", "asked"]);
    assert!(pair.log(false).contains("signalled: its stop command failed: exit 1"));
}

#[test]
fn a_server_that_is_taken_out_of_the_configuration_is_stopped_by_its_own_stop_command() {
    let script = "trap 'echo asked >> {home}/ran; exit 0' INT; echo up >> {home}/up; while :; do sleep 0.02; done";
    let asks = "stop = { command = [\"/bin/sh\", \"-c\", 'kill -INT $$NM_MAIN_PID'], timeout = \"20s\" }\n\
                hooks = { postStop = \"/bin/touch {home}/after\" }";
    let pair = Pair::new("", &(server("old", script, asks) + &lives("new", "")));
    pair.start();
    wait_until("it is up", || pair.home.join("up").exists());
    pair.configure("", &lives("new", ""));
    pair.ok(&["apply"]);
    wait_ran(&pair, "asked");
    wait_until("its postStop hook", || pair.home.join("after").exists());
    assert!(pair.run(&["status", "old"]).status.code() != Some(0));
}

#[test]
fn a_reload_command_is_run_and_its_failure_is_told() {
    let well =
        "reload = { command = [\"/bin/sh\", \"-c\", 'echo reload $$NM_MAIN_PID >> {home}/ran'] }";
    let badly = "reload = { command = [\"/bin/sh\", \"-c\", \"exit 5\"] }";
    let pair = Pair::new("", &(lives("well", well) + &lives("badly", badly)));
    pair.start();
    let pid = pair.wait_state("well", "RUNNING")["pid"].as_i64().unwrap();
    pair.ok(&["reload", "well"]);
    wait_ran(&pair, &format!("reload {pid}"));
    let output = pair.run(&["reload", "badly"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("reload command: exit 5"), "{said}");
    assert_eq!(pair.server("badly")["state"], "RUNNING");
}
