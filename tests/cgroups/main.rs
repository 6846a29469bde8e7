//! Real servers in real cgroups v2.
//!
//! Each test makes a directory below its own cgroup and removes it; where none can be made it says
//! so and is skipped. What a controller enforces is shown where the kernel has that controller in v2.

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use support::cgroup_root::{Root, members, own_group};
use support::*;

/// A controller that was given to the groups below one, and is taken back at the end.
struct Given(PathBuf, &'static str);

impl Drop for Given {
    fn drop(&mut self) {
        // Another test's group may still have it; then it stays.
        let _ = fs::write(&self.0, format!("-{}", self.1));
    }
}

/// `more`: lines of its table.
fn shell_server(name: &str, script: &str, more: &str) -> String {
    format!("[[server]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n{more}\n")
}

/// A child of its own session, twice forked, that does not hear SIGTERM, and writes its PID.
const DEAF_STRAY: &str =
    "(setsid sh -c 'trap \"\" TERM; echo $$$$ > {home}/stray; while :; do sleep 0.1; done' &)";

/// The PID that a server's child wrote.
fn stray(pair: &Pair) -> i32 {
    wait_for("the child of the child", || {
        fs::read_to_string(pair.home.join("stray")).ok()?.trim().parse().ok()
    })
}

#[test]
fn a_server_runs_in_its_own_cgroup_from_its_first_instruction_on() {
    let Some(root) = Root::new("own") else { return };
    let script = "cat /proc/self/cgroup; exec sleep 300";
    let servers = shell_server("a", script, "settleTime = \"0s\"") + &shell_server("b", script, "");
    let pair = Pair::new(&root.key(), &servers);
    pair.start();
    for server in ["a", "b"] {
        let group = root.of(&pair, server);
        let name = group.file_name().expect("a name").to_string_lossy().into_owned();
        wait_until("it says where it is", || pair.output_of(server).contains(&name));
        let pid = pair.pids()[server];
        // Who said it, a child of the shell, may be about to end.
        wait_until("it to be alone", || members(&group) == [pid]);
    }
    // Not among them: the node manager's own.
    assert!(members(&root.0).is_empty());
    pair.ok(&["shutdown", "--stop-servers"]);
    wait_until("no group is left", || {
        fs::read_dir(&root.0).is_ok_and(|dir| !dir.flatten().any(|entry| entry.path().is_dir()))
    });
}

#[test]
fn a_child_that_left_the_session_ends_with_its_server() {
    let Some(root) = Root::new("stray") else { return };
    let script = format!("{DEAF_STRAY}; exec sleep 300");
    let pair = Pair::new(&root.key(), &shell_server("a", &script, "stop = { timeout = \"1s\" }"));
    pair.start();
    let (leader, stray) = (pair.pids()["a"], stray(&pair));
    assert!(is_alive(stray));
    pair.ok(&["stop", "a"]);
    // `stop` answers when the group is empty, and not before.
    assert!(!is_alive(stray) && !is_alive(leader));
    assert!(!root.of(&pair, "a").exists(), "an empty group is removed");
    let _ = fs::remove_file(pair.home.join("stray"));
    pair.ok(&["start", "a"]);
    let again = self::stray(&pair);
    pair.ok(&["kill", "a"]);
    assert!(!is_alive(again));
}

#[test]
fn a_child_that_left_the_session_gets_the_stop_signal_once_the_leader_is_dead() {
    let Some(root) = Root::new("grace") else { return };
    let script = "(setsid sh -c 'trap \"echo heard; exit 0\" TERM; echo $$$$ > {home}/stray; \
                  while :; do sleep 0.1; done' &); exec sleep 300";
    // With a long grace: a stop that waited for its end would fail this test.
    let pair = Pair::new(&root.key(), &shell_server("a", script, "stop = { timeout = \"10m\" }"));
    pair.start();
    let stray = stray(&pair);
    pair.ok(&["stop", "--timeout", "60s", "a"]);
    assert!(!is_alive(stray));
    wait_until("it heard the signal", || pair.output_of("a").contains("heard"));
}

#[test]
fn a_server_that_left_a_child_behind_is_not_started_again_before_that_is_gone() {
    let Some(root) = Root::new("free") else { return };
    let script = format!(
        "if [ -s {{home}}/stray ] && kill -0 $(cat {{home}}/stray) 2>/dev/null; then echo TWICE; fi; \
         {DEAF_STRAY}; while [ ! -s {{home}}/stray ]; do sleep 0.05; done; exec sleep 300"
    );
    let more = "stop = { timeout = \"1s\" }\nrestart = { delay = \"1ms\" }";
    let pair = Pair::new(&root.key(), &shell_server("a", &script, more));
    pair.start();
    let first = stray(&pair);
    let leader = pair.pids()["a"];
    signal(leader, SIGKILL);
    wait_until("the next one", || pair.pids().get("a").is_some_and(|pid| *pid != leader));
    assert!(!is_alive(first));
    assert!(!pair.output_of("a").contains("TWICE"));
}

#[test]
fn a_takeover_in_the_middle_of_a_stop_finds_the_child_that_left() {
    let Some(root) = Root::new("takeover") else { return };
    let script = format!("{DEAF_STRAY}; exec sleep 300");
    let pair = Pair::new(&root.key(), &shell_server("a", &script, "stop = { timeout = \"3s\" }"));
    pair.start();
    pair.wait_whole();
    let (leader, stray) = (pair.pids()["a"], stray(&pair));
    pair.ok(&["stop", "--no-wait", "a"]);
    wait_until("the leader is dead", || !is_alive(leader));
    let active = pair.pid_of("active");
    signal(active, SIGKILL);
    wait_until("another active", || pair.twin("active").is_some_and(|pid| pid != active));
    let row = pair.server("a");
    assert!(row["state"] == "STOPPING" || !is_alive(stray), "{row}");
    pair.wait_state("a", "STOPPED");
    assert!(!is_alive(stray));
    assert!(!root.of(&pair, "a").exists());
}

#[test]
fn both_twins_gone_and_the_journal_lost_the_cgroup_is_found_again() {
    let Some(root) = Root::new("lost") else { return };
    let script = format!("{DEAF_STRAY}; exec sleep 300");
    let pair = Pair::new(&root.key(), &shell_server("a", &script, "stop = { timeout = \"1s\" }"));
    pair.start();
    let (leader, stray) = (pair.pids()["a"], stray(&pair));
    pair.ok(&["shutdown", "--keep-servers"]);
    fs::remove_dir_all(pair.home.join("run")).expect("the run directory");
    pair.start();
    assert_eq!(pair.pids()["a"], leader);
    pair.ok(&["stop", "a"]);
    assert!(!is_alive(stray));
}

#[test]
fn status_counts_what_the_children_use() {
    let Some(root) = Root::new("figures") else { return };
    let script = "(setsid sh -c 'while :; do :; done' &) ; exec sleep 300";
    let pair = Pair::new(&root.key(), &shell_server("a", script, ""));
    pair.start();
    wait_until("the child's time", || {
        pair.server("a")["cpuSeconds"].as_f64().is_some_and(|seconds| seconds > 0.2)
    });
    assert!(pair.server("a")["rssBytes"].as_u64().is_some_and(|bytes| bytes > 0));
}

#[test]
fn a_limit_that_nobody_would_enforce_fails_the_start_and_says_why() {
    let limited = shell_server(
        "a",
        "exec sleep 300",
        "cgroup = { set = { \"nothing.max\" = 1 } }\n\
        restart = { when = \"never\" }",
    );
    let off = Pair::new("cgroupRoot = \"off\"", &limited);
    let _ = off.run(&["run", "--detach"]);
    let row = off.wait_state("a", "FAILED");
    assert!(row["reason"].to_string().contains("cgroupRoot is \\\"off\\\""), "{row}");
    let Some(root) = Root::new("refused") else { return };
    let pair = Pair::new(&root.key(), &limited);
    let checked = both(&pair.run(&["check"]));
    assert!(checked.contains("has no controller nothing"), "{checked}");
    let _ = pair.run(&["run", "--detach"]);
    let row = pair.wait_state("a", "FAILED");
    assert!(row["reason"].to_string().contains("cannot limit its nothing in"), "{row}");
    // Without limits it runs all the same, and the log says what it lacks.
    let lost = Pair::new("cgroupRoot = \"/nowhere\"", &shell_server("b", "exec sleep 300", ""));
    lost.start();
    lost.wait_state("b", "RUNNING");
    assert!(lost.log(false).contains("0327"), "{}", lost.log(false));
}

/// With the one controller that is there where all others are mounted as v1.
#[test]
fn a_limit_is_in_the_kernel_before_the_server_runs() {
    let Some(own) = own_group() else { return };
    let above = own.join("cgroup.subtree_control");
    let there = fs::read_to_string(&above).unwrap_or_default();
    let known = [("pids", "pids.max", "77"), ("hugetlb", "hugetlb.2MB.max", "4194304")];
    let mut given = None;
    let found = known.into_iter().find(|(name, _, _)| {
        there.split_whitespace().any(|one| one == *name) || {
            let is_given = fs::write(&above, format!("+{name}")).is_ok();
            given = is_given.then(|| Given(above.clone(), name));
            is_given
        }
    });
    let Some((_, file, value)) = found else {
        return println!("skipped: no controller can be had in {}", own.display());
    };
    let Some(root) = Root::new("limit") else { return };
    let more = format!("cgroup = {{ set = {{ \"{file}\" = \"{value}\" }} }}");
    let pair = Pair::new(&root.key(), &shell_server("a", "exec sleep 300", &more));
    pair.start();
    pair.wait_state("a", "RUNNING");
    let written = fs::read_to_string(root.of(&pair, "a").join(file)).expect("the limit's file");
    assert_eq!(written.trim(), value);
    // A value that the kernel does not take.
    pair.configure(
        &root.key(),
        &shell_server(
            "b",
            "exec sleep 300",
            &format!(
                "cgroup = {{ set = {{ \"{file}\" = \"much\" }} }}\nrestart = {{ when = \"never\" }}"
            ),
        ),
    );
    let _ = pair.run(&["apply"]);
    let row = pair.wait_state("b", "FAILED");
    assert!(row["reason"].to_string().contains("cannot write much to"), "{row}");
}

#[test]
fn nobody_is_started_into_a_cgroup_in_which_a_stranger_lives() {
    let Some(root) = Root::new("stranger") else { return };
    let pair = Pair::new(&root.key(), &shell_server("a", "exec sleep 300", "autoStart = false"));
    pair.start();
    let group = root.of(&pair, "a");
    fs::create_dir(&group).expect("the server's group");
    let mut stranger = std::process::Command::new("sleep").arg("300").spawn().expect("sleep");
    let entered = fs::write(group.join("cgroup.procs"), stranger.id().to_string());
    pair.ok(&["start", "--no-wait", "a"]);
    let pid = stranger.id().to_string();
    wait_until("it says who is in its way", || {
        pair.server("a")["reason"].to_string().contains(&format!("PID {pid} (sleep)"))
    });
    let is_there = is_alive(stranger.id().cast_signed());
    stranger.kill().expect("the stranger");
    stranger.wait().expect("the stranger");
    entered.expect("the stranger enters");
    assert!(is_there, "a stranger is left alone");
    pair.wait_state("a", "RUNNING");
}
