//! A server that has work is stopped when it has none.

use super::takeover::take_over;
use super::*;

const QUIESCE: &str = "command = [\"/bin/sh\", \"-c\", 'echo quiesce >> {home}/ran']";
const CHECK: &str =
    "check = [\"/bin/sh\", \"-c\", 'test -e {home}/go && exit 0; echo 3 orders are left; exit 1']";

fn drain(more: &str) -> String {
    format!("drain = {{ {QUIESCE}, {CHECK}, interval = \"20ms\"{more} }}")
}

fn wait_detail(pair: &Pair, part: &str) {
    wait_until(&format!("{part:?} in {}", pair.server("web")), || {
        text(&pair.server("web"), "detail").contains(part)
    });
}

#[test]
fn a_drain_waits_until_no_work_is_left_and_a_takeover_in_the_middle_of_it_changes_nothing() {
    let pair = Pair::new("", &lives("web", &drain("")));
    pair.start();
    wait_ran(&pair, "started");
    let pid = pair.wait_state("web", "RUNNING")["pid"].as_i64().unwrap() as i32;
    let mut waits =
        pair.command(&["drain", "web"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    wait_detail(&pair, "work is left: 3 orders are left");
    assert_eq!(pair.server("web")["state"], "DRAINING");
    take_over(&pair);
    wait_detail(&pair, "3 orders are left");
    assert!(is_alive(pid));
    let_go(&pair);
    assert!(waits.wait().unwrap().success());
    pair.wait_state("web", "STOPPED");
    assert_eq!(ran(&pair), ["started", "quiesce"], "it is told once to take no new work");
    pair.ok(&["start", "web"]);
}

#[test]
fn a_server_that_can_not_be_drained_in_time_goes_on_or_is_stopped_as_its_configuration_says() {
    // Long enough for one answer.
    let keep = drain(", timeout = \"2s\", onTimeout = \"keep\"");
    let pair =
        Pair::new("", &(lives("kept", &keep) + &lives("stopped", &drain(", timeout = \"200ms\""))));
    pair.start();
    let pid = pair.wait_state("kept", "RUNNING")["pid"].clone();
    let output = pair.run(&["drain", "kept"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not drained after 2 s (last answer: 3 orders are left)"), "{said}");
    assert!(said.contains("it goes on running"), "{said}");
    let kept = pair.server("kept");
    assert_eq!(
        (&kept["pid"], &kept["state"], &kept["wanted"]),
        (&pid, &"RUNNING".into(), &"up".into())
    );
    pair.ok(&["drain", "stopped"]);
    assert_eq!(pair.server("stopped")["state"], "STOPPED");
}

#[test]
fn a_stop_drains_first_where_it_is_said_and_a_kill_never() {
    let pair = Pair::new("", &lives("web", &drain(", on = [\"drain\", \"stop\", \"restart\"]")));
    pair.start();
    let first = pair.wait_state("web", "RUNNING")["pid"].clone();
    pair.ok(&["restart", "--no-wait", "web"]);
    wait_detail(&pair, "3 orders are left");
    let_go(&pair);
    wait_until("another process", || {
        let web = pair.server("web");
        web["state"] == "RUNNING" && web["pid"] != first
    });
    fs::remove_file(pair.home.join("go")).unwrap();
    pair.ok(&["stop", "--no-wait", "web"]);
    wait_detail(&pair, "3 orders are left");
    pair.ok(&["kill", "web"]);
    assert_eq!(pair.server("web")["state"], "STOPPED");
}

#[test]
fn a_server_without_the_key_can_not_be_drained_and_the_message_names_it() {
    let pair = Pair::new("", &lives("web", ""));
    pair.start();
    let output = pair.run(&["drain", "web"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("set drain = {"), "{said}");
    assert_eq!(pair.server("web")["state"], "RUNNING");
}
