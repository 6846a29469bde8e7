//! `diff` and `apply` on real pairs: what changes is restarted and nothing else, and whoever dies on
//! the way, the configuration in force is the old one or the new one.
//!
//! Must not look at how it is done, only at processes, `status` and answers.

#[path = "../support/mod.rs"]
mod support;

mod deaths;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use support::{Pair, both, is_alive, signal, wait_for, wait_until};

/// A server that runs until it is told to stop.
pub fn sleeper(name: &str, more: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", \"trap 'exit 0' TERM; while :; do sleep \
         0.05; done\"]\nsettleTime = \"50ms\"\n{more}\n"
    )
}

/// The configuration's generation, as `status` says.
pub fn generation(pair: &Pair) -> u64 {
    pair.status()["configGeneration"].as_u64().expect("a generation")
}

/// The variable `V` of a server's process.
pub fn v_of(pid: i32) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let environ = String::from_utf8_lossy(&environ).into_owned();
    environ.split('\0').find_map(|one| one.strip_prefix("V=").map(str::to_owned))
}

fn names(pair: &Pair) -> Vec<String> {
    let status = pair.status();
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    servers.iter().map(|one| one["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn only_what_differs_is_started_stopped_and_restarted_and_diff_says_so_before() {
    let four = [sleeper("same", ""), sleeper("gone", ""), sleeper("env", "env = { V = \"1\" }")];
    let pair = Pair::new("", &(four.concat() + &sleeper("place", "")));
    pair.start();
    assert_eq!(lines(&pair.ok(&["diff"])), ["nothing differs from the configuration in force"]);
    assert_eq!(lines(&pair.ok(&["apply"])), ["nothing differs from the configuration in force"]);
    let before = pair.pids();
    let active = pair.pid_of("active");
    let new = [
        sleeper("same", ""),
        sleeper("env", "env = { V = \"2\" }"),
        sleeper("place", "stop = { timeout = \"7s\" }\ntags = [\"x\"]"),
        sleeper("new", ""),
        sleeper("later", "autoStart = false"),
    ];
    pair.configure("logLevel = \"debug\"", &new.concat());
    let expected = [
        "change [nodeManager] logLevel",
        "restart env env",
        "change place tags, stop",
        "start new",
        "add later",
        "stop gone",
    ];
    assert_eq!(lines(&pair.ok(&["reread"])), expected);
    assert_eq!(pair.pids(), before, "diff changes nothing");
    assert_eq!(pair.pid_of("active"), active);
    assert_eq!(lines(&pair.ok(&["apply"])), expected);
    let after = pair.pids();
    assert_eq!((after["same"], after["place"]), (before["same"], before["place"]));
    assert_ne!(after["env"], before["env"]);
    assert_eq!(v_of(after["env"]).as_deref(), Some("2"));
    assert!(after.contains_key("new") && !is_alive(before["gone"]));
    assert_eq!(names(&pair), ["same", "env", "place", "new", "later"]);
    assert_eq!(pair.server("later")["state"], "STOPPED");
    assert_eq!(pair.server("place")["tags"][0], "x");
    assert_eq!(generation(&pair), 1);
    pair.wait_whole();
    assert_eq!(lines(&pair.ok(&["update"])), ["nothing differs from the configuration in force"]);
    assert_eq!(pair.pids(), after);
    signal(pair.pid_of("active"), support::SIGKILL);
    pair.wait_whole();
    assert_eq!(pair.pids(), after, "a takeover restarts nothing");
}

#[test]
fn the_number_of_instances_changes_and_the_others_run_on() {
    let web = |count: u32| {
        sleeper("web", &format!("instances = {count}\nenv = {{ PORT = \"80${{instance}}\" }}"))
    };
    let pair = Pair::new("", &web(3));
    pair.start();
    let three = pair.pids();
    pair.configure("", &web(5));
    assert_eq!(lines(&pair.ok(&["apply"])), ["start web@4", "start web@5"]);
    let five = pair.pids();
    assert_eq!(five.len(), 5);
    assert!(three.iter().all(|(name, pid)| five[name] == *pid));
    pair.configure("", &web(2));
    assert_eq!(lines(&pair.ok(&["apply"])), ["stop web@3", "stop web@4", "stop web@5"]);
    assert_eq!(pair.pids(), five.into_iter().take(2).collect::<BTreeMap<_, _>>());
    // One that comes back is started as a new one.
    pair.configure("", &web(3));
    pair.ok(&["apply"]);
    assert_eq!(pair.server("web@3")["state"], "RUNNING");
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_says_every_line() {
    let pair = Pair::new("", &sleeper("a", ""));
    pair.start();
    let (before, keeper) = (pair.pids(), pair.pid_of("keeper"));
    let bad = "[[server]]\nname = \"b\"\ncommand = \"x\"\nsettleTime = 5\nnice = 99\n";
    pair.configure("", &(sleeper("a", "env = { V = \"2\" }") + bad));
    for command in ["diff", "apply"] {
        let output = pair.run(&[command]);
        let text = both(&output);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains("settleTime") && text.contains("nice"), "{text}");
        assert!(text.matches("conf/nodemanager.toml:").count() >= 2, "{text}");
    }
    // The pair itself reads it at a signal.
    signal(keeper, 1);
    wait_until("the reason in the log", || {
        let log = pair.log(false);
        log.contains("NodeManager-0148] cannot apply: ") && log.contains("settleTime")
    });
    pair.configure("heartbeatTimeout = \"2s\"", &sleeper("a", "env = { V = \"2\" }"));
    let output = pair.run(&["apply"]);
    assert_eq!(output.status.code(), Some(78), "{}", both(&output));
    assert!(both(&output).contains("heartbeatTimeout"), "{}", both(&output));
    assert!(pair.ok(&["diff"]).contains("refused"));
    assert_eq!((pair.pids(), generation(&pair)), (before, 0));
}

#[test]
fn a_file_that_was_broken_keeps_nobody_from_looking_at_the_pair_and_stopping_it() {
    let pair = Pair::new("", &sleeper("a", ""));
    pair.start();
    let whole = std::fs::read_to_string(pair.config()).unwrap();
    for broken in
        [whole.replace("name = \"a\"", "name = 7"), whole.replace("[[server]]", "[[server")]
    {
        std::fs::write(pair.config(), broken).unwrap();
        let output = pair.run(&["restart", "a"]);
        assert!(output.status.success(), "{}", both(&output));
        let text = both(&output);
        assert!(text.contains("conf/nodemanager.toml:") && text.contains("in force"), "{text}");
        assert_eq!(pair.run(&["apply"]).status.code(), Some(78));
    }
    assert!(pair.run(&["shutdown", "--stop-servers"]).status.success());
    // Without a pair there is nothing in force.
    assert_eq!(pair.run(&["status"]).status.code(), Some(78));
}

#[test]
fn names_limit_what_is_applied() {
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "") + &sleeper("c", "")));
    pair.start();
    let before = pair.pids();
    let changed = |name| sleeper(name, "env = { V = \"2\" }");
    let needy = sleeper("c", "dependsOn = [\"d\"]");
    pair.configure(
        "logLevel = \"debug\"",
        &(changed("a") + &changed("b") + &needy + &sleeper("d", "")),
    );
    assert_eq!(lines(&pair.ok(&["diff", "a"])), ["restart a env"]);
    assert_eq!(lines(&pair.ok(&["apply", "a"])), ["restart a env"]);
    let after = pair.pids();
    assert_ne!(after["a"], before["a"]);
    assert_eq!((after["b"], after["c"], after.len()), (before["b"], before["c"], 3));
    let output = pair.run(&["apply", "c"]);
    assert!(both(&output).contains("c needs d"), "{}", both(&output));
    let output = pair.run(&["apply", "x"]);
    assert!(both(&output).contains("unknown server x"), "{}", both(&output));
    let all = ["change [nodeManager] logLevel", "restart b env", "change c dependsOn", "start d"];
    assert_eq!(lines(&pair.ok(&["apply"])), all);
}

#[test]
fn a_hang_up_signal_to_the_keeper_or_the_active_applies() {
    let pair = Pair::new("", &sleeper("a", "env = { V = \"1\" }"));
    pair.start();
    for (role, v) in [("keeper", "2"), ("active", "3")] {
        pair.wait_whole();
        pair.configure("", &sleeper("a", &format!("env = {{ V = \"{v}\" }}")));
        signal(pair.pid_of(role), 1);
        wait_until("the new variable", || {
            pair.pids().get("a").and_then(|pid| v_of(*pid)).as_deref() == Some(v)
        });
    }
}

#[test]
fn a_restart_by_apply_stops_with_the_settings_of_the_old_definition() {
    let old = "[[server]]\nname = \"a\"\nready = { log = \"^up$\" }\nstop = { signal = \"SIGUSR2\", timeout = \"50s\" }\n\
               command = [\"sh\", \"-c\", \"trap 'echo by USR2; exit 0' USR2; trap '' TERM; echo up; while :; do sleep 0.05; done\"]\n";
    let pair = Pair::new("", old);
    pair.start();
    pair.configure("", &sleeper("a", ""));
    pair.ok(&["apply"]);
    wait_until("the word of the old one", || pair.output_of("a").contains("by USR2"));
    pair.configure("", &(sleeper("a", "") + old.replace("\"a\"", "\"b\"").as_str()));
    pair.ok(&["apply"]);
    pair.configure("", &sleeper("a", ""));
    pair.ok(&["apply"]);
    wait_until("that a removed server is stopped so too", || {
        pair.output_of("b").contains("by USR2")
    });
}

#[test]
fn a_server_that_was_given_up_or_stopped_is_treated_by_what_is_wanted_of_it() {
    let broken = "[[server]]\nname = \"a\"\ncommand = \"false\"\nrestart = { when = \"never\" }\n";
    let pair = Pair::new("", &(broken.to_owned() + &sleeper("b", "")));
    pair.run(&["run", "--detach"]);
    pair.wait_state("a", "FAILED");
    pair.ok(&["stop", "b"]);
    pair.configure("", &(sleeper("a", "") + &sleeper("b", "env = { V = \"2\" }")));
    let text = pair.ok(&["apply"]);
    assert_eq!(lines(&text)[1], "change b env");
    pair.wait_state("a", "RUNNING");
    assert_eq!(pair.server("b")["state"], "STOPPED");
    pair.ok(&["start", "b"]);
    assert_eq!(v_of(pair.pids()["b"]).as_deref(), Some("2"));
}

#[test]
fn without_a_standby_the_keeper_goes_on_with_the_new_configuration() {
    let pair = Pair::new("none-standbyPort", &(sleeper("a", "") + &sleeper("b", "")));
    pair.start();
    let before = pair.pids();
    pair.configure("none-standbyPort", &(sleeper("a", "env = { V = \"2\" }") + &sleeper("b", "")));
    assert_eq!(lines(&pair.ok(&["apply"])), ["restart a env"]);
    let after = pair.pids();
    assert_eq!((v_of(after["a"]).as_deref(), after["b"]), (Some("2"), before["b"]));
}

#[test]
fn the_environment_that_counts_is_that_of_the_pair() {
    let server = |more: &str| sleeper("a", &format!("env = {{ V = \"${{NM_TEST_V}}\" }}\n{more}"));
    let pair = Pair::new("", &server(""));
    let output = pair.command(&["run", "--detach"]).env("NM_TEST_V", "pair").output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    let before = pair.pids();
    pair.configure("", &server("tags = [\"x\"]"));
    let output = pair.command(&["apply"]).env("NM_TEST_V", "shell").output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(lines(&String::from_utf8_lossy(&output.stdout)), ["change a tags"]);
    assert_eq!(pair.pids(), before);
    let _ = wait_for("the tag", || Some(pair.server("a")).filter(|one| one["tags"] != Value::Null));
}

#[test]
fn another_standby_port_replaces_the_standby_and_one_that_is_taken_changes_nothing() {
    let pair = Pair::new("", &sleeper("a", ""));
    pair.start();
    let (pids, active) = (pair.pids(), pair.pid_of("active"));
    let other = std::net::TcpListener::bind(("127.0.0.1", support::free_port())).unwrap();
    let taken = other.local_addr().unwrap().port();
    pair.configure(&format!("standbyPort = {taken}"), &sleeper("a", ""));
    let refused = pair.run(&["apply"]);
    assert_eq!(refused.status.code(), Some(1), "{}", support::both(&refused));
    let said = support::both(&refused);
    assert!(said.contains(&format!("cannot bind standbyPort {taken}: in use by PID")), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!((pair.pid_of("active"), pair.pids()), (active, pids.clone()));
    pair.wait_whole();
    drop(other);
    assert_eq!(lines(&pair.ok(&["apply"])), ["change [nodeManager] standbyPort"]);
    pair.wait_whole();
    signal(pair.pid_of("active"), support::SIGKILL);
    pair.wait_whole();
    assert_eq!(pair.pids(), pids);
    assert!(std::net::TcpListener::bind(("127.0.0.1", taken)).is_err(), "the pair listens there");
    assert!(std::net::TcpListener::bind(("127.0.0.1", pair.port)).is_ok(), "and not here any more");
}
