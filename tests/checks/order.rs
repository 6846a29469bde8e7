//! Servers that need others: who waits for whom, and who goes down first.

use crate::*;

/// A server is up when it says so: a shell runs before it has done anything.
const SAYS_UP: &str = "ready = { log = \"^up$\" }";

/// `web` needs `app`, which needs `db`; each writes its name when it starts and when it ends.
fn chain(more: &str) -> String {
    let server = |name: &str, needs: &str| {
        let script = format!(
            "echo +{name} >> {{home}}/story; trap 'echo -{name} >> {{home}}/story; exit 0' TERM; \
             echo up; while :; do sleep 0.02; done"
        );
        shell(name, &script, &format!("{SAYS_UP}\n{needs}\n{more}"))
    };
    server("web", "dependsOn = [\"app\"]")
        + &server("app", "dependsOn = [\"db\"]")
        + &server("db", "")
}

fn story(pair: &Pair) -> Vec<String> {
    let text = std::fs::read_to_string(pair.home.join("story")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn servers_start_after_what_they_need_and_stop_before_it() {
    let pair = Pair::new("", &chain(""));
    pair.start();
    assert_eq!(story(&pair), ["+db", "+app", "+web"]);
    pair.ok(&["shutdown", "--stop-servers"]);
    assert_eq!(story(&pair)[3..], ["-web", "-app", "-db"]);
}

#[test]
fn the_order_of_a_stop_is_kept_when_the_active_dies_in_the_middle() {
    let slow = "trap 'while ! test -e {home}/go; do sleep 0.02; done; echo -web >> {home}/story; \
                exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let web = shell("web", slow, &format!("{SAYS_UP}\ndependsOn = [\"db\"]"));
    let trap =
        "trap 'echo -db >> {home}/story; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let pair = Pair::new("", &(web + &shell("db", trap, SAYS_UP)));
    pair.start();
    let mut stop = pair.command(&["stop", "all"]).spawn().unwrap();
    wait_until("the stop", || pair.server("web")["state"] == "STOPPING");
    assert_eq!(pair.server("db")["state"], "RUNNING");
    take_over(&pair);
    std::fs::write(pair.home.join("go"), "").unwrap();
    assert!(stop.wait().unwrap().success());
    assert_eq!(story(&pair), ["-web", "-db"]);
}

#[test]
fn a_stop_of_what_others_need_says_who_and_what_to_do() {
    let pair = Pair::new("", &chain(""));
    pair.start();
    let refused = pair.run(&["stop", "db"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = both(&refused);
    assert!(said.contains("db: needed by web, app; --dependants: these too, --only"), "{said}");
    assert_eq!(pair.server("db")["state"], "RUNNING");
    pair.ok(&["restart", "--dependants", "app"]);
    assert_eq!(story(&pair)[3..], ["-web", "-app", "+app", "+web"]);
    pair.ok(&["stop", "--only", "db"]);
    assert_eq!(pair.server("web")["state"], "RUNNING");
    pair.ok(&["start", "web"]);
    assert_eq!(pair.server("db")["wanted"], "up", "what a server needs is started with it");
}

#[test]
fn a_server_whose_need_fails_waits_and_says_so() {
    let db = shell(
        "db",
        "exit 7",
        "restart = { tries = 0, then = \"fail\" }\nready = { delay = \"1m\" }",
    );
    let pair = Pair::new("", &(db + &lives("web", "dependsOn = [\"db\"]")));
    let started = pair.run(&["run", "--detach", "--timeout", "10s"]);
    let said = both(&started);
    assert!(said.contains("web") && said.contains("waits for db, which is FAILED"), "{said}");
    let web = pair.server("web");
    assert_eq!(
        (&web["state"], text(&web, "waitsFor")),
        (&"WAITING".into(), "waits for db, which is FAILED")
    );
    take_over(&pair);
    assert_eq!(pair.server("web")["state"], "WAITING");
}

#[test]
fn on_failure_decides_what_becomes_of_those_that_need_a_server() {
    let needs = |kind: &str| format!("dependsOn = [{{ name = \"db\", onFailure = \"{kind}\" }}]");
    let servers = lives("db", "restart = { delay = \"300ms\" }")
        + &lives("keeps", &needs("keep"))
        + &lives("stops", &needs("stop"))
        + &lives("restarts", &needs("restart"));
    let pair = Pair::new("", &servers);
    pair.start();
    let before = pair.pids();
    signal(before["db"], SIGKILL);
    take_over(&pair);
    wait_until("all are up again", || {
        let now = pair.pids();
        now.len() == 4
            && now["db"] != before["db"]
            && now["stops"] != before["stops"]
            && now["restarts"] != before["restarts"]
    });
    assert_eq!(pair.pids()["keeps"], before["keeps"]);
}

#[test]
fn no_more_servers_start_at_once_than_the_limit_says() {
    let ready = "ready = { exec = [\"test\", \"-e\", \"{home}/go\"], interval = \"50ms\" }";
    let servers: String =
        (0..5).map(|n| shell(&format!("s{n}"), "exec sleep 600", ready)).collect();
    let pair = Pair::new("maxParallelStarts = 2", &servers);
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    let count =
        |state: &str| (0..5).filter(|n| pair.server(&format!("s{n}"))["state"] == state).count();
    wait_until("two that start", || count("STARTING") == 2);
    assert_eq!(count("WAITING"), 3);
    assert!(text(&pair.server("s4"), "waitsFor").contains("maxParallelStarts"));
    take_over(&pair);
    std::fs::write(pair.home.join("go"), "").unwrap();
    wait_until("all", || count("RUNNING") == 5);
}
