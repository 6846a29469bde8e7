//! sd_notify and the newline of readiness, also while nobody is active.

use crate::support::{Pair, SIGCONT, SIGKILL, SIGSTOP, signal, wait_until};
use crate::{begin, lose_both, pid, server, take_over, variable, wait_descriptors};
use std::fs;
use std::os::unix::net::UnixDatagram;

/// It says READY=1 when the file `go` is there.
fn on_go(text: &str, keys: &str) -> Pair {
    let options = format!("--notify {text} --notify-when {{home}}/go");
    Pair::new("", &server("web", &options, keys))
}

/// Lets the server speak, and waits until it has.
fn go(pair: &Pair) {
    fs::write(pair.home.join("go"), "").expect("the file that it waits for");
    wait_until("it to have spoken", || pair.home.join("go.said").exists());
}

/// The server speaks while the active is dead and the standby is stopped.
fn go_between_two_actives(pair: &Pair, act: impl Fn()) {
    let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
    signal(standby, SIGSTOP);
    signal(active, SIGKILL);
    act();
    signal(standby, SIGCONT);
}

#[test]
fn a_server_is_ready_when_it_says_so_and_its_text_is_shown_over_a_takeover() {
    let pair = on_go("STATUS=well;READY=1", "ready = { notify = true }");
    begin(&pair);
    let web = pid(&pair, "web", "STARTING");
    let socket = pair.home.join("run/notify/web.sock");
    assert_eq!(variable(web, "NOTIFY_SOCKET"), Some(socket.display().to_string()));
    assert_eq!(variable(web, "WATCHDOG_USEC"), None);
    wait_descriptors(web, &[]);
    go(&pair);
    assert_eq!(pid(&pair, "web", "RUNNING"), web);
    assert_eq!(pair.server("web")["statusText"], "well");
    take_over(&pair);
    assert_eq!(pid(&pair, "web", "RUNNING"), web);
    assert_eq!(pair.server("web")["statusText"], "well");
}

#[test]
fn a_server_that_says_it_is_ready_while_nobody_is_active_is_heard() {
    let pair = on_go("READY=1", "ready = \"notify\"\nstartTimeout = \"1m\"");
    begin(&pair);
    let web = pid(&pair, "web", "STARTING");
    go_between_two_actives(&pair, || go(&pair));
    assert_eq!(pid(&pair, "web", "RUNNING"), web);
    // Who is active now goes on hearing it.
    pair.wait_whole();
    assert_eq!(pair.server("web")["restarts"], 0);
}

#[test]
fn when_both_twins_died_the_socket_is_there_again_and_who_was_ready_stays_so() {
    let ready = server("ready", "--notify READY=1", "ready = \"notify\"");
    let text = server("web", "--notify READY=1 --notify-when {home}/go", "ready = \"notify\"");
    let pair = Pair::new("", &(ready + &text));
    begin(&pair);
    let (web, other) = (pid(&pair, "web", "STARTING"), pid(&pair, "ready", "RUNNING"));
    lose_both(&pair);
    assert_eq!(pid(&pair, "ready", "RUNNING"), other);
    assert_eq!(pid(&pair, "web", "STARTING"), web);
    go(&pair);
    assert_eq!(pid(&pair, "web", "RUNNING"), web);
    assert_eq!(pid(&pair, "ready", "RUNNING"), other);
}

#[test]
fn a_server_without_a_sign_of_life_is_restarted_and_one_with_it_is_left_alone_by_takeovers() {
    let keys = "health = [{ watchdog = \"2s\" }]";
    let silent = server("silent", "--life 600", "health = [{ watchdog = \"200ms\" }]");
    let pair = Pair::new("", &(server("alive", "--ping 50", keys) + &silent));
    begin(&pair);
    let alive = pid(&pair, "alive", "RUNNING");
    assert_eq!(variable(alive, "WATCHDOG_USEC").as_deref(), Some("2000000"));
    assert_eq!(variable(alive, "WATCHDOG_PID"), Some(alive.to_string()));
    wait_until("the silent one to be restarted", || pair.server("silent")["restarts"] != 0);
    for _ in 0..3 {
        take_over(&pair);
    }
    assert_eq!(pid(&pair, "alive", "RUNNING"), alive);
    assert_eq!(pair.server("alive")["restarts"], 0);
}

#[test]
fn what_a_stranger_says_does_not_count_and_is_logged() {
    let pair = on_go("READY=1", "ready = \"notify\"");
    begin(&pair);
    pid(&pair, "web", "STARTING");
    let socket = UnixDatagram::unbound().expect("a socket");
    let path = pair.home.join("run/notify/web.sock");
    socket.send_to(b"READY=1\nSTATUS=a lie", path).expect("everybody may send");
    wait_until("the log line", || pair.log(false).contains("NodeManager-0382"));
    assert!(pair.log(false).contains("no process of its present start"));
    let row = pair.server("web");
    assert_eq!((row["state"].as_str(), row["statusText"].as_str()), (Some("STARTING"), None));
    go(&pair);
    pid(&pair, "web", "RUNNING");
}

fn shell(script: &str, keys: &str) -> String {
    format!("[[server]]\nname = \"web\"\ncommand = ['sh', '-c', '''{script}''']\n{keys}\n")
}

#[test]
fn a_newline_on_its_descriptor_means_ready_also_between_two_actives() {
    let script = "while [ ! -e {home}/go ]; do sleep 0.01; done; echo >&5; : > {home}/go.said\n\
                  exec sleep 1000";
    let pair = Pair::new("", &shell(script, "ready = { fd = 5 }"));
    begin(&pair);
    let web = pid(&pair, "web", "STARTING");
    wait_descriptors(web, &[(5, pair.home.join("run/ready/web.fifo"))]);
    go_between_two_actives(&pair, || go(&pair));
    assert_eq!(pid(&pair, "web", "RUNNING"), web);
    take_over(&pair);
    assert_eq!(pid(&pair, "web", "RUNNING"), web);
}

#[test]
fn a_newline_of_the_start_before_does_not_count() {
    // The first start writes one while nobody reads, and dies before anybody does.
    let script = "echo x >> {home}/starts; [ $(wc -l < {home}/starts) -gt 1 ] && exec sleep 1000\n\
                  while [ ! -e {home}/go ]; do sleep 0.01; done; echo >&3; : > {home}/go.said";
    let keys = "ready = { fd = 3 }\nrestart = { when = \"always\", delay = \"10ms\" }";
    let pair = Pair::new("", &shell(script, keys));
    begin(&pair);
    let first = pid(&pair, "web", "STARTING");
    go_between_two_actives(&pair, || {
        go(&pair);
        wait_until("its end", || !crate::support::is_alive(first));
    });
    wait_until("the second start", || {
        fs::read_to_string(pair.home.join("starts")).is_ok_and(|text| text.lines().count() > 1)
    });
    let second = pid(&pair, "web", "STARTING");
    assert_ne!(second, first);
    pair.wait_whole();
    assert_eq!(pid(&pair, "web", "STARTING"), second);
}
