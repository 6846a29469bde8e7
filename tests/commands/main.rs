//! The commands as people and scripts use them: what they do, print and return.

mod lives;
mod logs;
#[path = "../support/mod.rs"]
mod support;
#[path = "../tools/mod.rs"]
mod tools;

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{
    Pair, SIGKILL, SIGTERM, binary, example, has_tool, is_alive, signal, wait_for, wait_until,
};
use tools::{Ended, exits, finish, has, is_root, pid_in, power_cut, rebooted, twins};

/// Its output says that its traps are set: a server runs before its shell has done anything.
fn wait_output(pair: &Pair, name: &str, text: &str) {
    wait_until(&format!("{text:?} of {name}"), || pair.output_of(name).contains(text));
}

/// Runs quickly up, stays up.
fn sleeper(name: &str, more: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = \"sleep 1000\"\nsettleTime = \"50ms\"\n{more}\n"
    )
}

fn shell(name: &str, script: &str, more: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n\
         settleTime = \"50ms\"\n{more}\n"
    )
}

/// One that is not up before it has ended, however long its shell takes.
fn settling(name: &str, script: &str, more: &str) -> String {
    shell(name, script, more).replace("\"50ms\"", "\"10m\"")
}

fn pid(server: &Value) -> i32 {
    server["pid"].as_i64().unwrap_or_default() as i32
}

// ---- start, stop, restart, kill

#[test]
fn start_stop_restart_and_kill_do_what_they_say_and_saying_it_twice_is_no_error() {
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "autoStart = false")));
    pair.start();
    assert_eq!(pair.server("b")["state"], "STOPPED");
    has(&exits(&pair, &["start", "b"], 0).0, &["b: RUNNING, PID"]);
    let first = pid(&pair.server("b"));
    has(&exits(&pair, &["start", "b"], 0).0, &["b: already RUNNING", &first.to_string()]);
    assert_eq!(pid(&pair.server("b")), first);
    has(&exits(&pair, &["restart", "b"], 0).0, &["b: RUNNING, PID"]);
    let second = pid(&pair.server("b"));
    assert!(second != first && !is_alive(first));
    has(&exits(&pair, &["stop", "b"], 0).0, &["b: STOPPED"]);
    assert!(!is_alive(second));
    has(&exits(&pair, &["stop", "b"], 0).0, &["b: STOPPED"]);
    assert_eq!(pair.server("b")["wanted"], "down");
    has(&exits(&pair, &["restart", "b"], 0).0, &["b: RUNNING, PID"]);
    let third = pid(&pair.server("b"));
    has(&exits(&pair, &["kill", "b"], 0).0, &["b: STOPPED (killed by SIGKILL)"]);
    assert!(!is_alive(third));
    let status = pair.server("b");
    assert_eq!((&status["state"], &status["wanted"]), (&"STOPPED".into(), &"down".into()));
    assert_eq!(status["lastExit"]["signal"], "SIGKILL");
    // The other one was never touched.
    assert_eq!(pair.server("a")["restarts"], 0);
}

#[test]
fn a_start_that_ends_early_is_reported_with_its_exit_and_its_last_lines() {
    let servers =
        settling("bad", "echo one; echo cannot find my file >&2; exit 7", "autoStart = false")
            + &settling("well", "echo done; exit 0", "autoStart = false")
            + &sleeper("good", "autoStart = false");
    let pair = Pair::new("", &servers);
    pair.start();
    let (out, err) = exits(&pair, &["start", "bad", "good"], 1);
    has(&out, &["good: RUNNING, PID"]);
    has(&err, &["bad: exit 7 after ", "    one", "    cannot find my file"]);
    // A server that ends well at once is no failure.
    has(&exits(&pair, &["start", "well"], 0).0, &["well: "]);
    assert_eq!(pair.server("well")["state"], "EXITED");
    assert_eq!(pair.server("well")["lastExit"]["code"], 0);
    has(&exits(&pair, &["stop", "bad"], 0).0, &["bad: STOPPED"]);
}

#[test]
fn an_exec_that_fails_names_the_path_and_the_error() {
    let pair = Pair::new("", "");
    let home = pair.home.display().to_string();
    fs::write(pair.home.join("plain"), "no program").unwrap();
    let garbage = pair.home.join("garbage");
    fs::write(&garbage, [0x7f, b'E', b'L', b'F', 1, 2, 3]).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&garbage, mode).unwrap();
    let server = |name: &str, command: &str, more: &str| {
        format!(
            "[[server]]\nname = \"{name}\"\ncommand = \"{command}\"\nautoStart = false\n{more}\n"
        )
    };
    let servers = [
        server("none", "{home}/missing/program", ""),
        server("bare", "no-such-program-anywhere", ""),
        server("plain", "{home}/plain", ""),
        server("garbage", "{home}/garbage", ""),
        server("cwd", "sleep 1000", "cwd = \"{home}/missing\""),
    ];
    pair.configure("", &servers.concat());
    pair.start();
    for (name, parts) in [
        ("none", [format!("{home}/missing/program"), "No such file".into(), "errno 2".into()]),
        ("bare", ["no-such-program-anywhere".into(), "PATH".into(), "errno 2".into()]),
        ("plain", [format!("{home}/plain"), "ermission denied".into(), "errno 13".into()]),
        ("garbage", [format!("{home}/garbage"), "xec format error".into(), "errno 8".into()]),
        ("cwd", [format!("{home}/missing"), "No such file".into(), "errno 2".into()]),
    ] {
        let (_, err) = exits(&pair, &["start", name], 1);
        has(&err, &parts.each_ref().map(String::as_str));
        let reason = pair.server(name)["reason"].to_string();
        has(&reason, &[&parts[0]]);
        exits(&pair, &["stop", name], 0);
    }
}

#[test]
fn a_deaf_server_is_killed_after_its_grace() {
    let deaf = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let pair = Pair::new("", &shell("deaf", deaf, "stop = { timeout = \"300ms\" }"));
    pair.start();
    wait_until("the trap to be set", || pair.output_of("deaf").contains("ready"));
    let before = pid(&pair.server("deaf"));
    has(&exits(&pair, &["stop", "deaf"], 0).0, &["deaf: STOPPED (killed by SIGKILL)"]);
    assert!(!is_alive(before));
}

#[test]
fn a_stop_ends_only_when_the_group_is_empty() {
    // The leader dies of SIGTERM, its deaf child does not.
    let script = "sh -c 'trap \"\" TERM; echo $$$$ > {home}/child; exec sleep 1000' & wait";
    let pair = Pair::new("", &shell("family", script, "stop = { timeout = \"500ms\" }"));
    pair.start();
    let child = pid_in(&pair.home.join("child"));
    has(&exits(&pair, &["stop", "family"], 0).0, &["family: STOPPED"]);
    assert!(!is_alive(child), "a member of the group outlived the stop");
}

#[test]
fn a_leader_that_dies_and_leaves_a_child_is_not_started_again_before_that_is_gone() {
    let script = "
        if [ -e {home}/child ]; then echo second; exec sleep 1000; fi
        sh -c 'trap \"\" TERM; echo $$$$ > {home}/child; exec sleep 1000' &
        while ! [ -e {home}/child ]; do sleep 0.01; done
        while ! [ -e {home}/go ]; do sleep 0.01; done
        exit 3";
    let more = "stop = { timeout = \"10m\" }\nrestart = { delay = \"0ms\" }";
    let pair = Pair::new("", &shell("family", script, more));
    pair.start();
    let child = pid_in(&pair.home.join("child"));
    fs::write(pair.home.join("go"), "").unwrap();
    let server = pair.wait_state("family", "STOPPING");
    has(&server["reason"].to_string(), &["exit 3", &format!("PID {child}")]);
    assert!(is_alive(child) && !pair.output_of("family").contains("second"));
    signal(child, SIGKILL);
    pair.wait_state("family", "RUNNING");
    wait_until("the second copy", || pair.output_of("family").contains("second"));
    assert_eq!(pair.server("family")["lastExit"]["code"], 3);
}

#[test]
fn a_crash_loop_backs_off_and_fails_with_the_reason_until_it_is_reset() {
    let script = "[ -e {home}/cured ] && exec sleep 1000; echo sick; exit 5";
    let more = "restart = { tries = 2, window = \"10m\", delay = \"50ms\", then = \"fail\" }\n\
                autoStart = false\nready = { exec = [\"test\", \"-e\", \"{home}/cured\"] }";
    let pair = Pair::new("", &shell("sick", script, more));
    pair.start();
    exits(&pair, &["start", "sick"], 1);
    let server = pair.wait_state("sick", "FAILED");
    has(&server["reason"].to_string(), &["exit 5", "gave up after 2 restarts"]);
    assert_eq!((&server["restarts"], &server["failCount"]), (&2.into(), &3.into()));
    wait_until("its words", || pair.output_of("sick").matches("sick").count() == 3);
    // Wanted up and not up: 3. A wait for it does not hang.
    has(&exits(&pair, &["status"], 3).0, &["FAILED", "gave up"]);
    has(&exits(&pair, &["wait", "--ready", "sick"], 1).1, &["gave up"]);
    fs::write(pair.home.join("cured"), "").unwrap();
    exits(&pair, &["reset", "sick"], 0);
    let server = pair.wait_state("sick", "RUNNING");
    assert_eq!(server["failCount"], 0);
    exits(&pair, &["status"], 0);
}

#[test]
fn backoff_is_shown_with_the_next_try_and_start_does_not_wait_for_it() {
    let more = "restart = { delay = \"1h\", delayMax = \"1h\" }\n\
                ready = { exec = [\"test\", \"-e\", \"{home}/well\"] }";
    let pair =
        Pair::new("", &shell("flaky", "[ -e {home}/well ] && exec sleep 1000; exit 5", more));
    exits(&pair, &["run", "--detach"], 1);
    let server = pair.wait_state("flaky", "BACKOFF");
    assert!(server["nextTryAt"].is_string(), "{server}");
    has(&exits(&pair, &["status"], 3).0, &["BACKOFF", "exit 5", "try 1/5"]);
    fs::write(pair.home.join("well"), "").unwrap();
    exits(&pair, &["start", "flaky"], 0);
}

#[test]
fn a_signal_is_only_sent_and_the_restart_policy_applies_to_what_follows() {
    let script = "trap 'echo got it' USR1; echo ready; while :; do sleep 0.05; done";
    let more = "restart = { when = \"always\", delay = \"0ms\" }";
    let pair = Pair::new("", &shell("listens", script, more));
    pair.start();
    wait_until("the trap to be set", || pair.output_of("listens").contains("ready"));
    let before = pid(&pair.server("listens"));
    exits(&pair, &["signal", "USR1", "listens"], 0);
    wait_until("the signal", || pair.output_of("listens").contains("got it"));
    assert_eq!(pid(&pair.server("listens")), before);
    exits(&pair, &["signal", "SIGKILL", "listens"], 0);
    wait_until("a new one", || {
        let server = pair.server("listens");
        server["state"] == "RUNNING" && pid(&server) != before
    });
    let server = pair.server("listens");
    assert_eq!((&server["restarts"], &server["wanted"]), (&1.into(), &"up".into()));
    has(&exits(&pair, &["signal", "NOSUCH", "listens"], 64).1, &["no such signal"]);
    exits(&pair, &["stop", "listens"], 0);
    let (_, err) = exits(&pair, &["signal", "USR1", "listens"], 1);
    has(&err, &["listens: "]);
}

// ---- waiting

#[test]
fn a_start_in_the_background_that_does_not_wait_returns_when_an_active_serves() {
    let pair =
        Pair::new("", &sleeper("a", "ready = { exec = [\"false\"] }\nstartTimeout = \"10m\""));
    let said = pair.ok(&["run", "--detach", "--no-wait"]);
    has(&said, &["active ", "standby ", "a "]);
    pair.wait_state("a", "STARTING");
}

#[test]
fn each_error_of_a_file_that_was_broken_under_a_pair_is_a_warning_of_its_own() {
    let pair = Pair::new("", &sleeper("a", ""));
    pair.start();
    pair.configure("nothing = 1", &sleeper("a", "neither = 2"));
    let output = pair.run(&["status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.lines().count() == 3, "{said}");
    assert!(said.lines().all(|line| line.starts_with("warning: ")), "{said}");
}

#[test]
fn when_the_time_is_over_the_exit_status_is_124_and_the_action_goes_on() {
    let deaf = "trap '' TERM; echo ready; while ! [ -e {home}/go ]; do sleep 0.01; done";
    let pair = Pair::new("", &shell("deaf", deaf, "stop = { timeout = \"10m\" }"));
    pair.start();
    wait_until("the trap to be set", || pair.output_of("deaf").contains("ready"));
    let (_, err) = exits(&pair, &["stop", "deaf", "--timeout", "300ms"], 124);
    has(&err, &["300ms", "goes on"]);
    let server = pair.server("deaf");
    assert_eq!((&server["state"], &server["wanted"]), (&"STOPPING".into(), &"down".into()));
    exits(&pair, &["wait", "--down", "deaf", "--timeout", "200ms"], 124);
    // Without waiting it is 0 at once.
    exits(&pair, &["stop", "deaf", "--no-wait"], 0);
    fs::write(pair.home.join("go"), "").unwrap();
    exits(&pair, &["wait", "--down", "deaf"], 0);
    assert_eq!(pair.server("deaf")["state"], "STOPPED");
    has(&exits(&pair, &["stop", "deaf", "--timeout", "5"], 64).1, &["5s or 5ms"]);
}

#[test]
fn wait_up_ready_and_down_return_when_it_is_so() {
    let slow = sleeper("slow", "autoStart = false").replace("50ms", "1s");
    let pair = Pair::new("", &slow);
    pair.start();
    let mut ready = Ended(pair.command(&["wait", "--ready", "slow"]).spawn().unwrap());
    exits(&pair, &["start", "slow", "--no-wait"], 0);
    has(&exits(&pair, &["wait", "--up", "slow"], 0).0, &["slow: PID"]);
    assert!(ready.0.wait().unwrap().success());
    assert_eq!(pair.server("slow")["state"], "RUNNING");
    let mut down = Ended(pair.command(&["wait", "--down", "slow"]).spawn().unwrap());
    assert!(down.0.try_wait().unwrap().is_none());
    exits(&pair, &["stop", "slow"], 0);
    assert!(down.0.wait().unwrap().success());
    exits(&pair, &["wait", "slow"], 64);
}

// ---- names

#[test]
fn names_are_servers_patterns_or_all_and_an_unknown_one_is_4_with_the_nearest() {
    let names = ["web-1", "web-2", "mailer"];
    let servers: String = names.iter().map(|name| sleeper(name, "")).collect();
    let pair = Pair::new("", &servers);
    pair.start();
    let state = |name: &str| pair.server(name)["state"].as_str().unwrap_or_default().to_string();
    exits(&pair, &["stop", "web-*"], 0);
    assert_eq!(names.map(&state), ["STOPPED", "STOPPED", "RUNNING"]);
    exits(&pair, &["start", "all"], 0);
    assert_eq!(names.map(&state), ["RUNNING", "RUNNING", "RUNNING"]);
    for words in [
        &["stop", "maler"][..],
        &["start", "maler"],
        &["restart", "web-1", "maler"],
        &["status", "maler"],
        &["logs", "maler"],
        &["wait", "--ready", "maler"],
        &["signal", "HUP", "maler"],
    ] {
        has(&exits(&pair, words, 4).1, &["maler", "mailer"]);
    }
    exits(&pair, &["stop", "nothing-*"], 4);
    // Nothing was done when one name was wrong.
    assert_eq!(pair.server("web-1")["restarts"], 0);
    assert_eq!(names.map(&state), ["RUNNING", "RUNNING", "RUNNING"]);
    for words in [&["stop"][..], &["frobnicate"], &["status", "--nonsense"]] {
        exits(&pair, words, 64);
    }
}

// ---- status

#[test]
fn status_says_3_for_what_is_wanted_and_not_up_and_for_a_pair_that_is_not_whole() {
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "autoStart = false")));
    pair.start();
    let before = twins(&pair);
    let (out, _) = exits(&pair, &["status"], 0);
    has(&out, &["pair OK", "NAME", "STATE", &format!("active {}", before.0), "WATCHING", "keeper"]);
    exits(&pair, &["status", "--pair"], 0);
    signal(pair.pid_of("keeper"), SIGKILL);
    wait_until("the keeper to be missed", || pair.status()["keeper"].is_null());
    has(&exits(&pair, &["status", "--pair"], 3).0, &["DEGRADED"]);
    // Servers are fine.
    exits(&pair, &["status"], 0);
    assert_eq!(exits(&pair, &["pid", "a"], 0).0.trim(), pair.pids()["a"].to_string());
}

#[test]
fn without_a_pair_status_shows_what_is_still_up_and_commands_say_69() {
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "autoStart = false")));
    has(&exits(&pair, &["stop", "a"], 69).1, &["no node manager runs", "nodemanager run"]);
    exits(&pair, &["shutdown"], 69);
    pair.start();
    let pids = pair.pids();
    let (out, _) = exits(&pair, &["shutdown"], 0);
    has(&out, &["a", &format!("PID {}", pids["a"]), "shutdown --stop-servers"]);
    let output = finish(pair.command(&["status"]), "status");
    has(
        &String::from_utf8_lossy(&output.stdout),
        &["UNMANAGED", &pids["a"].to_string(), "STOPPED"],
    );
    assert_eq!(output.status.code(), Some(69));
    assert_eq!(pair.server("a")["state"], "UNMANAGED");
    assert_eq!(pair.server("b")["state"], "STOPPED");
    for words in [&["stop", "a"][..], &["start", "all"], &["wait", "--down", "a"], &["shutdown"]] {
        has(&exits(&pair, words, 69).1, &["no node manager runs"]);
    }
    let (out, _) = exits(&pair, &["shutdown", "--stop-servers"], 0);
    has(&out, &["a: stopped", &pids["a"].to_string()]);
    assert!(!is_alive(pids["a"]));
    wait_until("the mover to end", || pair.processes().is_empty());
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    assert_eq!(pair.server("a")["state"], "STOPPED");
}

#[test]
fn servers_that_are_stopped_without_a_pair_end_in_order_and_the_next_start_begins_a_new_life() {
    let servers = sleeper("db", "")
        + &shell(
            "web",
            "trap 'grep -q ^State:.S /proc/$(cat {home}/db.pid)/status && touch {home}/in-order; exit 0' TERM; \
             echo up; while :; do sleep 0.02; done",
            "dependsOn = [\"db\"]",
        )
        + &sleeper("extra", "autoStart = false");
    let pair = Pair::new("", &servers);
    pair.start();
    exits(&pair, &["start", "extra"], 0);
    exits(&pair, &["stop", "web"], 0);
    wait_until("its first life", || pair.output_of("web").contains("up"));
    exits(&pair, &["start", "web"], 0);
    wait_until("its trap", || pair.output_of("web").matches("up").count() == 2);
    fs::write(pair.home.join("db.pid"), pair.pids()["db"].to_string()).unwrap();
    exits(&pair, &["shutdown", "--keep-servers"], 0);
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    assert!(pair.home.join("in-order").exists(), "what web needs was stopped before it");
    exits(&pair, &["run", "--detach"], 0);
    assert_eq!(pair.server("extra")["state"], "STOPPED", "autoStart decides in a new life");
    assert_eq!(pair.server("web")["state"], "RUNNING");
    // It was said of the life before: this one goes on as it is.
    exits(&pair, &["start", "extra"], 0);
    exits(&pair, &["shutdown", "--keep-servers"], 0);
    exits(&pair, &["run", "--detach"], 0);
    assert_eq!(pair.server("extra")["state"], "RUNNING");
}

#[test]
fn without_a_pair_the_time_of_a_shutdown_is_over_for_those_that_are_needed_too() {
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    let servers = sleeper("db", "")
        + &shell("web", deaf, "dependsOn = [\"db\"]\nstop = { timeout = \"10m\" }");
    let pair = Pair::new("shutdownTimeout = \"1s\"", &servers);
    pair.start();
    wait_output(&pair, "web", "ready");
    let pids = pair.pids();
    exits(&pair, &["shutdown", "--keep-servers"], 0);
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    assert!(pids.values().all(|pid| !is_alive(*pid)));
}

const THREE_WAYS: [(&str, &str); 4] = [
    ("always", "autoStart = true"),
    ("never", "autoStart = false"),
    ("kept", "autoStart = \"remember\""),
    ("gone", "autoStart = \"remember\""),
];

/// A copy of bin/ in the pair's home, beside the built program, as an installation has it.
fn scripts(pair: &Pair) -> std::path::PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bin");
    let bin = pair.home.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for name in ["startNodeManager", "stopNodeManager", "nodemanager-env"] {
        fs::copy(source.join(name), bin.join(name)).unwrap();
    }
    std::os::unix::fs::symlink(binary(), bin.join("nodemanager")).unwrap();
    bin
}

fn script(bin: &Path, name: &str, words: &[&str], status: i32) -> String {
    let mut command = Command::new(bin.join(name));
    command.args(words).env_remove("NODEMANAGER_CONFIG");
    let output = finish(command, name);
    let text = support::both(&output);
    assert_eq!(output.status.code(), Some(status), "{name} {words:?}: {text}");
    text
}
