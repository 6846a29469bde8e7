//! `[metrics]` is changed while the pair runs.

use crate::*;

#[test]
fn apply_moves_the_address_adds_it_and_takes_it_away() {
    let pair = Pair::new("", LIVES);
    pair.start();
    pair.wait_whole();
    let before = pair.pids();
    let (first, second) = (free_port(), free_port());
    let is_open = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
    pair.configure("", &format!("{}{LIVES}", metrics_at(first)));
    assert!(pair.ok(&["diff"]).contains("metrics.listen"));
    assert!(!is_open(first));
    pair.ok(&["apply"]);
    pair.wait_whole();
    assert_eq!(ask(first, "GET /readyz").0, 200);
    pair.configure("", &format!("{}{LIVES}", metrics_at(second)));
    pair.ok(&["apply"]);
    pair.wait_whole();
    assert_eq!(ask(second, "GET /readyz").0, 200);
    wait_until("the old address is closed", || !is_open(first));
    take_over(&pair);
    assert_eq!(ask(second, "GET /readyz").0, 200);
    pair.configure("", LIVES);
    pair.ok(&["apply"]);
    pair.wait_whole();
    wait_until("it is told nowhere", || !is_open(second));
    assert_eq!(pair.pids(), before);
}

#[test]
fn an_address_that_is_taken_changes_nothing() {
    let (pair, port) = pair_with_metrics(LIVES);
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().port();
    let active = pair.pid_of("active");
    pair.configure("", &format!("{}{LIVES}", metrics_at(taken)));
    let said = both(&pair.run(&["apply"]));
    assert!(said.contains("in use by PID") && said.contains("nothing was changed"), "{said}");
    assert_eq!(ask(port, "GET /healthz").0, 200);
    assert_eq!(pair.pid_of("active"), active);
}

#[test]
fn when_both_twins_died_and_the_port_is_taken_servers_are_watched_all_the_same() {
    let (pair, port) = pair_with_metrics(LIVES);
    let before = pair.pids();
    let (keeper, active) = (pair.pid_of("keeper"), pair.pid_of("active"));
    signal(keeper, SIGSTOP);
    signal(pair.pid_of("standby"), SIGKILL);
    signal(active, SIGKILL);
    let held = wait_for("the port", || std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    signal(keeper, SIGCONT);
    wait_until("a new active", || pair.twin("active").is_some_and(|pid| pid != active));
    pair.wait_whole();
    assert_eq!(pair.pids(), before);
    assert!(pair.log(false).contains("NodeManager-0171"), "{}", pair.log(false));
    drop(held);
    wait_until("metrics are told again", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok() && ask(port, "GET /healthz").0 == 200
    });
}
