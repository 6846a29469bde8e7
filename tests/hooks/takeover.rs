//! The active dies in the middle of a command.

use super::*;
use support::SIGKILL;
use support::signal;

/// The active is killed; the next one serves.
pub fn take_over(pair: &Pair) {
    let active = pair.pid_of("active");
    signal(active, SIGKILL);
    wait_until("a takeover", || pair.twin("active").is_some_and(|pid| pid != active));
    wait_until("a standby", || pair.status()["standby"]["state"] == "WATCHING");
}

#[test]
fn a_hook_of_a_start_runs_once_when_the_active_dies_in_the_middle_of_it() {
    for key in ["preStart", "postStart"] {
        let pair = Pair::new("", &lives("web", &format!("hooks = {{ {} }}", waits(key))));
        pair.run(&["run", "--detach", "--timeout", "1s"]);
        wait_ran(&pair, &format!("begin {key}"));
        take_over(&pair);
        let_go(&pair);
        pair.wait_state("web", "RUNNING");
        wait_ran(&pair, "started");
        let mut lines = ran(&pair);
        // A postStart hook begins beside its server, so either may write first.
        let started = lines.iter().position(|line| line == "started").expect("the server ran");
        lines.remove(started);
        assert_eq!(lines, [format!("begin {key}"), format!("end {key}")]);
        assert!(started == 2 || key == "postStart");
    }
}

#[test]
fn a_hook_of_a_stop_runs_once_when_the_active_dies_in_the_middle_of_it() {
    for key in ["preStop", "postStop"] {
        let pair = Pair::new("", &lives("web", &format!("hooks = {{ {} }}", waits(key))));
        pair.start();
        wait_ran(&pair, "started");
        let pid = pair.wait_state("web", "RUNNING")["pid"].as_i64().unwrap() as i32;
        pair.ok(&["stop", "--no-wait", "web"]);
        wait_ran(&pair, &format!("begin {key}"));
        assert_eq!(is_alive(pid), key == "preStop");
        take_over(&pair);
        assert_eq!(is_alive(pid), key == "preStop");
        let_go(&pair);
        pair.wait_state("web", "STOPPED");
        assert_eq!(
            ran(&pair),
            ["started".to_owned(), format!("begin {key}"), format!("end {key}")]
        );
    }
}

#[test]
fn a_stop_command_runs_once_when_the_active_dies_in_the_middle_of_it() {
    let command = "echo begin >> {home}/ran; while ! test -e {home}/go; do sleep 0.02; done; \
                   kill -INT $$NM_MAIN_PID; echo end >> {home}/ran";
    let script = "trap '' TERM; trap 'exit 0' INT; touch {home}/up; while :; do sleep 0.02; done";
    let more =
        format!("stop = {{ command = [\"/bin/sh\", \"-c\", '{command}'], timeout = \"1m\" }}");
    let pair = Pair::new("", &server("web", script, &more));
    pair.start();
    wait_until("its traps", || pair.home.join("up").exists());
    pair.wait_state("web", "RUNNING");
    pair.ok(&["stop", "--no-wait", "web"]);
    wait_ran(&pair, "begin");
    take_over(&pair);
    let_go(&pair);
    let web = pair.wait_state("web", "STOPPED");
    wait_ran(&pair, "end");
    assert_eq!(ran(&pair), ["begin", "end"]);
    assert_eq!(web["lastExit"]["code"], 0, "{web}");
}

#[test]
fn a_reload_command_that_fails_after_a_takeover_is_told_to_who_waits() {
    let script = "echo begin >> {home}/ran; while ! test -e {home}/go; do sleep 0.02; done; exit 6";
    let more = format!("reload = {{ command = [\"/bin/sh\", \"-c\", '{script}'] }}");
    let pair = Pair::new("", &lives("web", &more));
    pair.start();
    let reload = pair.command(&["reload", "web"]).stderr(std::process::Stdio::piped()).spawn();
    wait_ran(&pair, "begin");
    take_over(&pair);
    let_go(&pair);
    let output = reload.unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("reload command: exit 6"), "{said}");
    assert_eq!(ran(&pair).iter().filter(|line| *line == "begin").count(), 1);
}

#[test]
fn a_hook_goes_on_when_both_twins_die_in_the_middle_of_it() {
    let pair = Pair::new("", &lives("web", &format!("hooks = {{ {} }}", waits("preStart"))));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    wait_ran(&pair, "begin preStart");
    let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
    signal(standby, SIGKILL);
    signal(active, SIGKILL);
    wait_until("the next pair", || {
        pair.twin("active").is_some_and(|pid| pid != active && pid != standby)
    });
    let_go(&pair);
    wait_ran(&pair, "started");
    assert_eq!(ran(&pair), ["begin preStart", "end preStart", "started"]);
    pair.wait_state("web", "RUNNING");
}

#[test]
fn the_pair_ends_in_the_middle_of_a_hook() {
    let pair = Pair::new("", &lives("web", &format!("hooks = {{ {} }}", waits("preStart"))));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    wait_ran(&pair, "begin preStart");
    pair.ok(&["shutdown", "--stop-servers"]);
    let_go(&pair);
    assert_eq!(ran(&pair), ["begin preStart"]);
    pair.start();
    pair.wait_state("web", "RUNNING");
}

#[test]
fn hooks_know_how_a_server_ended_that_an_earlier_active_started() {
    let says = "echo $$NM_TASK $$NM_EXIT_CODE $$NM_EXIT_SIGNAL >> {home}/ran";
    let hook = |key: &str| format!("{key} = [\"/bin/sh\", \"-c\", '{says}']");
    let more = format!(
        "hooks = {{ {}, {} }}\nrestart = {{ tries = 0, then = \"fail\" }}",
        hook("postStop"),
        hook("onFailure")
    );
    let script = "trap 'exit 4' USR1; touch {home}/up; while :; do sleep 0.02; done";
    let pair = Pair::new("", &(server("web", script, &more) + &lives("asked", &more)));
    pair.start();
    wait_until("its trap", || pair.home.join("up").exists());
    wait_ran(&pair, "started");
    take_over(&pair);
    signal(pair.server("web")["pid"].as_i64().unwrap() as i32, 10);
    pair.wait_state("web", "FAILED");
    pair.ok(&["stop", "asked"]);
    assert_eq!(ran(&pair), ["started", "postStop 4", "onFailure 4", "postStop SIGTERM"]);
}
