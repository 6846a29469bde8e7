//! nginx, two instances of an application, and Redis.

use super::*;
use support::has_tool;
use tools::{exits, has};

const NGINX: u16 = 8480;
const PORTS: [u16; 4] = [NGINX, 8481, 8482, 8483];

fn is_installed() -> bool {
    // nginx is where only root's PATH looks.
    let nginx = Path::new("/usr/sbin/nginx").exists() || has_tool("nginx");
    nginx && has_tool("redis-server") && has_tool("python3")
}

/// Asks through nginx; the number of the visit, the instance and its PID.
fn visit(port: u16) -> (i32, i32, i32) {
    let (status, text) = get(port, "/", "");
    assert_eq!(status, 200, "{text}");
    (number_after(&text, "visit "), number_after(&text, "instance "), number_after(&text, "PID "))
}

#[test]
fn the_web_stack_answers_through_takeovers_a_rolling_restart_and_the_death_of_an_instance() {
    if !is_installed() {
        return;
    }
    let example = Example::new("web-stack", &PORTS);
    let (pair, port) = (&example.pair, example.port(NGINX));
    pair.start();
    let pids = pair.pids();
    let seen: Vec<(i32, i32, i32)> = (0..4).map(|_| visit(port)).collect();
    let instances: BTreeSet<i32> = seen.iter().map(|(_, instance, _)| *instance).collect();
    assert_eq!(instances, BTreeSet::from([1, 2]), "nginx asks both: {seen:?}");
    assert!(seen.iter().all(|(_, at, pid)| pids[&format!("app@{at}")] == *pid), "{seen:?}");
    let counted: Vec<i32> = seen.iter().map(|(visit, ..)| *visit).collect();
    assert_eq!(counted, [1, 2, 3, 4]);

    let after = example.take_over(|| (0..4).map(|_| visit(port).0).collect::<Vec<_>>());
    assert_eq!(after, [5, 6, 7, 8]);

    // nginx stays up while one instance after the other is restarted, and hides it.
    let mut roll = pair.command(&["restart", "--rolling", "app"]);
    let mut roll = tools::Ended(roll.spawn().expect("a command"));
    let mut visits = 0;
    wait_until("the roll", || {
        visit(port);
        visits += 1;
        roll.0.try_wait().expect("a child of this test").is_some()
    });
    assert!(roll.0.wait().expect("its status").success());
    let rolled = pair.pids();
    assert_ne!(rolled["app@1"], pids["app@1"]);
    assert_eq!((rolled["redis"], rolled["nginx"]), (pids["redis"], pids["nginx"]));

    signal(rolled["app@2"], SIGKILL);
    visit(port);
    wait_until("the instance to be back", || {
        let row = pair.server("app@2");
        row["state"] == "RUNNING" && row["restarts"] == 1
    });

    exits(pair, &["reload", "nginx"], 0);
    wait_until("other workers", || pair.output_of("nginx").contains("gracefully shutting down"));
    let last = visit(port).0;
    assert_eq!(last, 10 + visits, "Redis has lost or repeated a count");
    let (_, refusal) = exits(pair, &["restart", "redis"], 1);
    has(&refusal, &["needed by app@1, app@2"]);
    assert!(!refusal.contains("last output"), "a refusal is no failed start: {refusal}");
    example.stop();

    // Redis has kept the count.
    pair.start();
    assert_eq!(visit(port).0, last + 1);
    example.stop();
}
