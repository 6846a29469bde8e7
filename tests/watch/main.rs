//! `status --watch` as a person sees it: a real pair, the real program, a pseudo terminal.
//!
//! Must look at what the screen shows, not at how it is drawn.

mod screen;
#[path = "../support/mod.rs"]
mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use screen::Screen;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use support::{Pair, SIGCONT, SIGKILL, SIGSTOP, signal, wait_until};

const SERVERS: &str = r#"
[[server]]
name = "web"
command = ["sh", "-c", "echo hello of web; exec sleep 1000"]
[[server]]
name = "db"
command = ["sleep", "1000"]
"#;

fn pair() -> Pair {
    let pair = Pair::new("", SERVERS);
    pair.start();
    pair.wait_whole();
    pair
}

fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

#[test]
fn the_screen_follows_a_crash_and_a_takeover() {
    let pair = pair();
    pair.wait_state("web", "RUNNING");
    let mut screen = Screen::open(&pair, 24, 100, &[]);
    screen.wait("2 servers: 2 up");
    assert!(screen.is_taken());
    // What it draws comes in pieces.
    wait_until("its colours", || screen.has_colours());
    wait_until("web's line", || screen.line("web  ").contains("RUNNING"));

    let web = pair.pids()["web"];
    signal(web, SIGKILL);
    screen.wait_until("another web", |text| {
        let line = text.lines().find(|line| line.starts_with("web ")).unwrap_or_default();
        !line.contains(&web.to_string()) && line.contains("RUNNING")
    });

    let active = pair.pid_of("active");
    signal(active, SIGKILL);
    screen.wait("1 takeover, last");
    screen.wait("pair OK");
    let before = format!("active {active} ");
    screen.wait_until("another active", |text| !text.contains(&before));
    screen.press("q");
    assert!(screen.wait_end().success());
    screen.wait_given_back();
}

#[test]
fn a_silent_active_is_told_until_its_place_is_taken() {
    let pair = Pair::new("heartbeatTimeout = \"4s\"", SERVERS);
    pair.start();
    pair.wait_whole();
    let screen = Screen::open(&pair, 24, 100, &[]);
    screen.wait("pair OK");
    let active = pair.pid_of("active");
    signal(active, SIGSTOP);
    screen.wait("takeover ... nobody has answered for");
    screen.wait("1 takeover, last");
    signal(active, SIGCONT);
}

#[test]
fn keys_start_stop_and_restart_servers_and_show_logs_and_details() {
    let pair = pair();
    let web = pair.wait_state("web", "RUNNING")["pid"].clone();
    let mut screen = Screen::open(&pair, 24, 100, &[("NO_COLOR", "1")]);
    screen.wait("2 servers: 2 up");
    assert!(!screen.has_colours());
    screen.press("t");
    screen.wait("stop web? (y/n)");
    screen.press("n");
    screen.wait("web: not done");
    assert_eq!(pair.server("web")["pid"], web);
    screen.press("ty");
    screen.wait_until("web to be STOPPED", |text| {
        text.lines().any(|line| line.starts_with("web ") && line.contains("STOPPED"))
    });
    assert_eq!(pair.server("web")["state"], "STOPPED");
    screen.press("s");
    let started = pair.wait_state("web", "RUNNING")["pid"].clone();
    screen.wait(&started.to_string());
    screen.press("ry");
    wait_until("web to be restarted", || {
        let server = pair.server("web");
        server["state"] == "RUNNING" && server["pid"] != started
    });

    screen.press("l");
    screen.wait("log of web (follows)");
    screen.wait("hello of web");
    screen.press("q");
    screen.wait("2 servers: 2 up");
    screen.press("\x1b[B\r");
    screen.wait("db: wanted up");
    screen.wait("command: sleep 1000");
    screen.press("q/we\r");
    screen.wait("filter: we");
    screen.wait_until("web alone", |text| !text.contains("\ndb "));
    screen.press("?");
    screen.wait("follow its log");
    // With a key of another page: Ctrl-C ends it as the signal does.
    screen.press("\x03");
    assert_eq!(screen.wait_end().signal(), Some(2));
    screen.wait_given_back();
}

#[test]
fn signals_give_the_terminal_back_and_a_stopped_view_goes_on() {
    let pair = pair();
    for number in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut screen = Screen::open(&pair, 24, 80, &[]);
        screen.wait("2 servers: 2 up");
        let pid = Pid::from_raw(screen.pid());
        kill(pid, Signal::SIGTSTP).expect("the view lives");
        wait_until("the view to stop", || is_stopped(screen.pid()));
        screen.wait_given_back();
        signal(screen.pid(), SIGCONT);
        wait_until("the terminal to be taken again", || screen.is_taken());
        screen.wait("2 servers: 2 up");
        // As the key.
        screen.press("\x1a");
        wait_until("the view to stop", || is_stopped(screen.pid()));
        screen.wait_given_back();
        signal(screen.pid(), SIGCONT);
        screen.wait("2 servers: 2 up");
        kill(pid, number).expect("the view lives");
        assert_eq!(screen.wait_end().signal(), Some(number as i32));
        screen.wait_given_back();
    }
}

#[test]
fn another_size_is_used_and_many_servers_scroll() {
    let servers: String = (1..=12)
        .map(|at| format!("[[server]]\nname = \"s{at:02}\"\ncommand = [\"sleep\", \"1000\"]\n"))
        .collect();
    let pair = Pair::new("", &servers);
    pair.start();
    pair.wait_whole();
    let mut screen = Screen::open(&pair, 24, 80, &[]);
    screen.wait("12 servers: 12 up");
    screen.wait("s12 ");
    screen.resize(5, 20);
    screen.wait_until("two rows", |text| {
        text.lines().filter(|line| line.starts_with('s')).count() == 2
    });
    screen.wait_until("no other rows", |text| !text.contains("s12 "));
    screen.press("G");
    screen.wait("s12 ");
    screen.resize(30, 140);
    screen.wait_until("all rows", |text| text.contains("s01 ") && text.contains("s12 "));
    screen.press("q");
    assert!(screen.wait_end().success());
    screen.wait_given_back();
}

#[test]
fn without_a_terminal_or_as_json_it_says_what_to_use_instead() {
    let pair = Pair::new("", SERVERS);
    for (words, hint) in [
        (vec!["status", "--watch"], "--watch needs a terminal"),
        (vec!["status", "--watch", "--json"], "nodemanager events --follow --json"),
    ] {
        let output = pair.run(&words);
        assert_eq!(output.status.code(), Some(64), "{}", support::both(&output));
        assert!(support::both(&output).contains(hint), "{}", support::both(&output));
    }
}

#[test]
fn the_end_of_the_pair_is_no_end_of_the_view() {
    let pair = pair();
    let mut screen = Screen::open(&pair, 24, 100, &[]);
    screen.wait("pair OK");
    pair.ok(&["shutdown", "--stop-servers"]);
    screen.wait("no pair runs; start it with");
    pair.start();
    screen.wait("pair OK");
    screen.press("q");
    assert!(screen.wait_end().success());
}

#[test]
fn a_long_action_shows_its_progress_on_a_terminal_alone() {
    let servers = r#"
[[server]]
name = "slow"
command = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"]
ready = { log = "^deaf$" }
stop = { timeout = "4s" }
"#;
    let pair = Pair::new("", servers);
    pair.start();
    pair.wait_state("slow", "RUNNING");
    let mut screen = Screen::with(&pair, &["stop", "slow"], (24, 80), &[]);
    screen.wait("stopping: 0 of 1; waits for slow (STOPPING)");
    assert!(screen.wait_end().success());
    screen.wait("slow: ");
    assert!(!screen.text().contains("waits for"), "{}", screen.text());
    pair.ok(&["start", "slow"]);
    let output = pair.run(&["stop", "slow"]);
    assert!(!support::both(&output).contains("stopping: "), "{}", support::both(&output));
}

#[test]
fn a_start_that_takes_long_shows_its_progress() {
    let servers = r#"
[[server]]
name = "slow"
command = ["sleep", "1000"]
settleTime = "4s"
"#;
    let pair = Pair::new("", servers);
    let mut screen = Screen::with(&pair, &["run", "--detach"], (24, 80), &[]);
    screen.wait("starting: 0 of 1; waits for slow (STARTING)");
    assert!(screen.wait_end().success());
    screen.wait("slow RUNNING PID");
    assert!(!screen.text().contains("waits for"), "{}", screen.text());
}
