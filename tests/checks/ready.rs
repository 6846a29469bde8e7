//! A server is RUNNING when its check says so, and has failed when that takes too long.

use crate::*;

#[test]
fn a_server_is_running_when_its_http_check_is_answered_and_not_before() {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/ready");
    let ready = format!(
        "ready = {{ http = \"{url}\", status = [200], body = \"^fine\", interval = \"50ms\" }}"
    );
    let pair = Pair::new("", &http_server("web", port, 300, &ready));
    let answer = pair.home.join("web.answer");
    std::fs::write(&answer, "503\nbusy").unwrap();
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    let told = |part: &str| wait_until(part, || text(&pair.server("web"), "reason").contains(part));
    told("HTTP 503");
    assert_eq!(pair.server("web")["state"], "STARTING");
    std::fs::write(&answer, "200\nnot fine").unwrap();
    told("does not match");
    take_over(&pair);
    std::fs::write(&answer, "200\nfine").unwrap();
    let web = pair.wait_state("web", "RUNNING");
    assert!(web["readyAt"].is_string(), "{web}");
    assert_eq!(web["checks"][0]["ok"], true, "{web}");
    assert_eq!(web["restarts"], 0, "{web}");
}

#[test]
fn redis_is_running_when_its_port_takes_a_connection() {
    if !has_tool("redis-server") {
        return;
    }
    let port = free_port();
    let server = format!(
        "[[server]]\nname = \"redis\"\ncommand = [\"redis-server\", \"--port\", \"{port}\", \
         \"--save\", \"\"]\nready = {{ tcp = \"127.0.0.1:{port}\", interval = \"20ms\" }}\n"
    );
    let pair = Pair::new("", &server);
    pair.start();
    let redis = pair.server("redis");
    assert_eq!((&redis["state"], text(&redis["checks"][0], "kind")), (&"RUNNING".into(), "ready"));
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[test]
fn a_program_can_be_the_check_and_runs_as_its_server_does() {
    let check = "[\"sh\", \"-c\", \"test -e go && test $$MODE = live && test $$NM_NAME = job\"]";
    let ready = format!(
        "cwd = \"{{home}}\"\nenv = {{ MODE = \"live\" }}\nready = {{ exec = {check}, interval = \"50ms\" }}"
    );
    let pair = Pair::new("", &shell("job", "exec sleep 600", &ready));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    wait_until("a bad answer", || text(&pair.server("job"), "reason").contains("exit 1"));
    take_over(&pair);
    std::fs::write(pair.home.join("go"), "").unwrap();
    pair.wait_state("job", "RUNNING");
}

#[test]
fn a_check_that_hangs_is_ended_with_all_that_it_started() {
    let ready = "ready = { exec = [\"sh\", \"-c\", \"echo $$$$ > {home}/check; sleep 500; true\"], \
                 interval = \"50ms\", timeout = \"2s\" }";
    let pair = Pair::new("", &shell("job", "exec sleep 600", ready));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    wait_until("a bad answer", || text(&pair.server("job"), "reason").contains("took too long"));
    let read = || std::fs::read_to_string(pair.home.join("check")).ok()?.trim().parse().ok();
    let check: i32 = wait_for("the check's PID", read);
    wait_until("its end", || !is_alive(check));
    // A check in the middle of a takeover dies with its active.
    let next: i32 = wait_for("the next check", || read().filter(|pid| *pid != check));
    take_over(&pair);
    wait_until("its end with the active", || !is_alive(next));
}

#[test]
fn a_server_that_is_not_ready_in_time_has_failed_to_start() {
    let port = free_port();
    let more = format!(
        "ready = {{ tcp = \"127.0.0.1:{port}\", interval = \"50ms\" }}\nstartTimeout = \"700ms\"\n\
         restart = {{ tries = 0, then = \"fail\" }}"
    );
    let pair = Pair::new("", &shell("late", "exec sleep 600", &more));
    pair.run(&["run", "--detach", "--timeout", "5s"]);
    let late = pair.wait_state("late", "FAILED");
    let reason = text(&late, "reason");
    assert!(reason.contains("not ready after 1 s (last answer: connection refused)"), "{reason}");
    assert!(late["pid"].is_null(), "{late}");
}

#[test]
fn a_line_of_its_output_makes_a_server_ready_and_none_of_an_earlier_run() {
    let script = "echo begin; while ! test -e {home}/go; do sleep 0.02; done; echo server is up; \
                  exec sleep 600";
    let ready = "ready = { log = \"is up$\" }\noutput = { timestamps = true }";
    let pair = Pair::new("", &shell("app", script, ready));
    std::fs::write(pair.home.join("go"), "").unwrap();
    pair.start();
    let go = pair.home.join("go");
    std::fs::remove_file(&go).unwrap();
    let mut restart = pair.command(&["restart", "app"]).spawn().unwrap();
    let begun = || pair.output_of("app").matches("begin").count() == 2;
    wait_until("the second run", begun);
    assert_eq!(pair.server("app")["state"], "STARTING");
    take_over(&pair);
    assert_eq!(pair.server("app")["state"], "STARTING");
    std::fs::write(go, "").unwrap();
    assert!(restart.wait().unwrap().success());
    pair.wait_state("app", "RUNNING");
}

#[test]
fn ready_with_delay_is_a_matter_of_time_alone() {
    let pair = Pair::new("", &shell("slow", "exec sleep 600", "ready = { delay = \"300ms\" }"));
    pair.start();
    pair.wait_state("slow", "RUNNING");
}
