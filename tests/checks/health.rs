//! A server that is not well is restarted, with the reason shown.

use crate::*;

#[test]
fn bad_answers_in_a_row_restart_a_server_also_after_a_takeover() {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/alive");
    let more = format!(
        "health = [{{ http = \"{url}\", interval = \"100ms\", timeout = \"1s\", failures = 3 }}]\n\
         restart = {{ delay = \"50ms\" }}\nsettleTime = \"100ms\""
    );
    let pair = Pair::new("", &http_server("web", port, 0, &more));
    pair.start();
    let first = pair.server("web")["pid"].as_i64();
    wait_until("a good answer", || pair.server("web")["checks"][0]["ok"] == true);
    std::fs::write(pair.home.join("web.answer"), "500\n").unwrap();
    let restarted = |pid: Option<i64>| {
        let web = pair.server("web");
        (web["state"] == "RUNNING" && web["pid"].as_i64() != pid).then_some(web)
    };
    let second = wait_for("a restart", || restarted(first));
    assert!(pair.log(false).contains("health check 1: HTTP 500 (3 times)"), "{}", pair.log(false));
    // It takes connections and says nothing.
    take_over(&pair);
    std::fs::write(pair.home.join("web.answer"), "0\n").unwrap();
    wait_for("a restart by the next active", || restarted(second["pid"].as_i64()));
    std::fs::remove_file(pair.home.join("web.answer")).unwrap();
    wait_until("that it is well", || pair.server("web")["checks"][0]["ok"] == true);
}

#[test]
fn a_server_above_its_memory_for_too_long_is_restarted() {
    // A shell that keeps what it reads; its child's memory counts too.
    let script = "test -e {home}/once && exec sleep 600; touch {home}/once; \
                  sh -c 'x=$$(head -c 40000000 /dev/zero | tr \\\\\\\\0 x); sleep 600' & wait";
    let more = "health = [{ rss = \\\"30MiB\\\", for = \\\"300ms\\\", interval = \\\"100ms\\\" }]"
        .replace('\\', "");
    let more = format!("{more}\nrestart = {{ delay = \"50ms\" }}\nsettleTime = \"0s\"");
    let pair = Pair::new("", &shell("big", script, &more));
    pair.start();
    wait_until("a restart", || pair.server("big")["restarts"] == 1);
    assert!(pair.log(false).contains("is above 30 MiB"), "{}", pair.log(false));
    pair.wait_state("big", "RUNNING");
}
