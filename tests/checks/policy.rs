//! What follows an end: codes that are no failure, codes after which nothing helps, oneshots, and
//! servers without which the pair is of no use.

use crate::*;

#[test]
fn an_end_with_a_success_code_is_no_failure_and_one_that_forbids_it_is_not_restarted() {
    let restart = "restart = { successCodes = [0, 3], noRestartCodes = [78], delay = \"50ms\" }";
    let pair = Pair::new(
        "",
        &[
            shell("well", "exit 3", restart),
            shell("wrong", "exit 78", restart),
            shell(
                "failing",
                "exit 4",
                "restart = { tries = 1, delay = \"50ms\", then = \"fail\" }",
            ),
        ]
        .concat(),
    );
    pair.run(&["run", "--detach", "--timeout", "5s"]);
    pair.wait_state("well", "EXITED");
    let wrong = pair.wait_state("wrong", "FAILED");
    assert_eq!(text(&wrong, "reason"), "exit 78; not restarted: restart.noRestartCodes");
    pair.wait_state("failing", "FAILED");
    take_over(&pair);
    assert_eq!(pair.server("well")["state"], "EXITED");
    assert_eq!(pair.server("wrong")["restarts"], 0);
    assert_eq!(pair.server("failing")["restarts"], 1);
}

#[test]
fn a_oneshot_runs_once_and_again_only_when_it_is_asked() {
    let script = "echo run >> {home}/runs";
    let pair = Pair::new("", &shell("migrate", script, "type = \"oneshot\""));
    pair.start();
    pair.wait_state("migrate", "EXITED");
    take_over(&pair);
    assert_eq!(pair.server("migrate")["state"], "EXITED");
    let runs = || std::fs::read_to_string(pair.home.join("runs")).unwrap().lines().count();
    assert_eq!(runs(), 1);
    pair.ok(&["start", "migrate"]);
    assert_eq!(runs(), 2);
}

#[test]
fn a_oneshot_that_runs_during_a_takeover_ends_well_for_the_next_active() {
    let script = "echo run >> {home}/runs; while ! test -e {home}/go; do sleep 0.02; done";
    let more = "type = \"oneshot\"";
    let needs = lives("web", "dependsOn = [\"migrate\"]");
    let pair = Pair::new("", &(shell("migrate", script, more) + &needs));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    wait_until("its run", || pair.home.join("runs").exists());
    assert_eq!(pair.server("web")["state"], "WAITING");
    take_over(&pair);
    std::fs::write(pair.home.join("go"), "").unwrap();
    pair.wait_state("migrate", "EXITED");
    pair.wait_state("web", "RUNNING");
    assert_eq!(std::fs::read_to_string(pair.home.join("runs")).unwrap(), "run\n");
}

#[test]
fn an_essential_server_that_is_given_up_ends_the_pair_with_exit_status_1() {
    let more = "essential = true\nrestart = { tries = 0, then = \"fail\" }\nsettleTime = \"0s\"";
    let script = "while ! test -e {home}/go; do sleep 0.02; done; exit 9";
    let pair = Pair::new("", &(shell("core", script, more) + &lives("other", "")));
    let mut keeper = pair.command(&["run"]).spawn().unwrap();
    wait_until("both up", || {
        pair.twin("active").is_some() && pair.run(&["wait", "--ready", "all"]).status.success()
    });
    take_over(&pair);
    let other = pair.server("other")["pid"].as_i64().unwrap() as i32;
    std::fs::write(pair.home.join("go"), "").unwrap();
    let status = wait_for("the keeper's end", || keeper.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    assert!(!is_alive(other), "the others were stopped");
    assert!(pair.log(false).contains("core is essential and was given up"), "{}", pair.log(false));
}
