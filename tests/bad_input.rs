//! Bad input of every kind: the program says in one clear line what is wrong and what would be
//! right, and a pair that runs is not disturbed.

mod support;
mod tools;

use nix::fcntl::OFlag;
use nodemanager::wire::{self, Message, PROTOCOL, Secret};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{LIMIT, Pair, SIGCONT, SIGKILL, SIGTERM, binary, is_alive, signal, wait_until};
use tools::{
    Ended, assert_nothing_left, assert_undisturbed, control, exchange, exits, finish, has,
    has_tool, is_root, twins, until_closed,
};

const SLEEPER: &str = r#"
[[server]]
name = "a"
command = "sleep 1000"
settleTime = "50ms"
"#;

/// Deaf to SIGTERM, and given ten minutes of grace.
const DEAF: &str = r#"
[[server]]
name = "deaf"
command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
settleTime = "50ms"
stop = { timeout = "10m" }
"#;

// ---- the configuration and the ground

#[test]
fn every_error_of_a_configuration_is_shown_at_once_with_line_and_cure_and_nothing_is_started() {
    let servers = r#"
[[server]]
name = "a"
comand = "sleep 1"
[[server]]
name = "a"
command = []
[[server]]
name = "b"
command = "sleep 1000"
autoStart = 7
settleTime = 5
"#;
    let pair = Pair::new("logLevle = \"info\"", servers);
    for words in [&["run"][..], &["run", "--detach"], &["check"], &["status"], &["start", "b"]] {
        let (_, err) = exits(&pair, words, 78);
        let config = pair.config().display().to_string();
        for (line, parts) in [
            (6, &["logLevle", "logLevel"][..]),
            (10, &["comand", "command"]),
            (11, &["twice", "line 8"]),
            (13, &["empty"]),
            (17, &["autoStart", "remember", "7"]),
            (18, &["settleTime", "\"1s\"", "5"]),
        ] {
            let at = format!("{config}:{line}: ");
            let found = err.lines().find(|text| text.starts_with(&at));
            let found =
                found.unwrap_or_else(|| panic!("{words:?}: nothing for line {line}: {err}"));
            has(found, parts);
        }
    }
    assert_nothing_left(&pair);
    assert!(!pair.home.join("run").exists() && !pair.home.join("logs").exists());
}

#[test]
fn a_configuration_that_can_not_be_read_is_named_with_the_cause() {
    let pair = Pair::new("", SLEEPER);
    let check = |path: &std::path::Path, parts: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["run", "--detach", "-c"]).arg(path);
        let output = finish(command, "run");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        has(&err, &[&path.display().to_string()]);
        has(&err, parts);
    };
    check(&pair.home.join("conf/none.toml"), &["cannot read", "-c"]);
    check(&pair.home.join("conf"), &["not a regular file"]);
    let bytes = pair.home.join("conf/bytes.toml");
    fs::write(&bytes, b"[nodeManager]\nname = \"\xff\"\n").unwrap();
    check(&bytes, &["bytes.toml:2: ", "UTF-8"]);
    let cut = pair.home.join("conf/cut.toml");
    fs::write(&cut, "[nodeManager]\nname = \"x\n").unwrap();
    check(&cut, &["cut.toml:2: "]);
    assert_nothing_left(&pair);
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_holder_and_the_line_and_leaves_nothing() {
    let pair = Pair::new("", SLEEPER);
    let holder = TcpListener::bind(("127.0.0.1", pair.port)).unwrap();
    let pid = format!("PID {} (", std::process::id());
    let at = format!("{}:3", pair.config().display());
    for words in [&["run", "--detach"][..], &["run"]] {
        let (_, err) = exits(&pair, words, 78);
        has(&err, &["cannot bind standbyPort", &pair.port.to_string(), &pid, &at, "another port"]);
        assert_nothing_left(&pair);
    }
    // What failed is in the log as well, and `--detach` showed where.
    let (_, err) = exits(&pair, &["run", "--detach"], 78);
    has(&err, &["last lines of", "logs/", "-0103]", "cannot bind"]);
    drop(holder);
    pair.start();
}

#[test]
fn a_run_dir_that_can_not_be_made_is_an_error_that_names_its_key() {
    let pair = Pair::new("runDir = \"file\"", SLEEPER);
    fs::write(pair.home.join("file"), "mine").unwrap();
    let (_, err) = exits(&pair, &["run", "--detach"], 78);
    has(&err, &["file", "runDir"]);
    assert_eq!(fs::read_to_string(pair.home.join("file")).unwrap(), "mine");
    assert_nothing_left(&pair);
}

#[test]
fn directories_that_another_user_may_not_write_are_an_error_that_names_the_key() {
    if !is_root("giving up root") || !has_tool("setpriv") {
        return;
    }
    let pair = Pair::new("", SLEEPER);
    let copy = pair.home.join("nodemanager");
    fs::copy(binary(), &copy).unwrap();
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        command.args(["run", "--detach", "-c"]).arg(pair.config());
        let output = finish(command, "run as nobody");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{err}");
        err
    };
    let run = pair.home.join("run");
    has(&as_nobody(), &[&run.display().to_string(), "runDir", "ermission denied"]);
    // It may be there and still not be theirs.
    fs::create_dir(&run).unwrap();
    has(&as_nobody(), &[&run.display().to_string(), "runDir", "ermission denied"]);
    assert_nothing_left(&pair);
}

#[test]
fn a_run_dir_of_another_pair_is_refused_with_its_pid_and_since_when() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let keeper = pair.pid_of("keeper");
    let other = Pair::new(&format!("runDir = \"{}\"", pair.home.join("run").display()), SLEEPER);
    for words in [&["run"][..], &["run", "--detach"]] {
        let (_, err) = exits(&other, words, 75);
        has(&err, &["already runs", &format!("PID {keeper}"), "since 20"]);
    }
    // The same pair once more: a second keeper is refused, whoever only wants it up has it.
    has(&exits(&pair, &["run"], 75).1, &["already runs", &format!("PID {keeper}"), "since 20"]);
    has(&exits(&pair, &["run", "--detach"], 0).0, &["already running", "a RUNNING"]);
    assert_undisturbed(&pair, before);
}

#[test]
fn a_start_whose_servers_fail_says_which_and_why() {
    let servers = r#"
[[server]]
name = "good"
command = "sleep 1000"
settleTime = "50ms"
[[server]]
name = "bad"
command = ["sh", "-c", "echo no luck today; exit 7"]
settleTime = "50ms"
"#;
    let pair = Pair::new("", servers);
    let (_, err) = exits(&pair, &["run", "--detach"], 1);
    has(&err, &["bad", "exit 7", "nodemanager logs"]);
    pair.wait_state("good", "RUNNING");
}

// ---- standbyPort

fn link(pair: &Pair) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", pair.port)).expect("standbyPort");
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

fn hello(secret: &str) -> Vec<u8> {
    let message = Message::Hello {
        protocol: PROTOCOL,
        version: "0".into(),
        pid: 1,
        start_ticks: 1,
        secret: Secret(secret.into()),
    };
    let mut bytes = Vec::new();
    wire::encode(&message, &mut bytes).unwrap();
    bytes
}

#[test]
fn strangers_on_standby_port_are_dropped_and_logged_once_and_the_pair_does_not_notice() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let noise: Vec<u8> =
        (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let half = hello("x");
    let mut claims_much = Vec::from(u32::MAX.to_le_bytes());
    claims_much.extend([0; 100]);
    let inputs: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &hello("0123456789abcdef"),
        &hello(""),
        &half[..half.len() / 2],
        &noise,
        &claims_much,
    ];
    for bytes in inputs {
        assert_eq!(exchange(&mut link(&pair), bytes), "", "a stranger was answered");
    }
    let mut crowd: Vec<TcpStream> = (0..100).map(|_| link(&pair)).collect();
    crowd.iter_mut().for_each(|stream| assert_eq!(until_closed(stream), ""));
    assert_undisturbed(&pair, before);
    let said = pair.log(false).matches("-0111]").count();
    assert!((1..=2).contains(&said), "said {said} times");
}

#[test]
fn a_fresh_standby_gets_through_a_crowd_of_silent_strangers() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let (end, port) = (Arc::new(AtomicBool::new(false)), pair.port);
    let crowd = std::thread::spawn({
        let end = end.clone();
        move || {
            let mut held = std::collections::VecDeque::new();
            while !end.load(Ordering::SeqCst) {
                held.extend(TcpStream::connect(("127.0.0.1", port)));
                if held.len() > 40 {
                    held.pop_front();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    signal(before.1, SIGKILL);
    wait_until("a fresh standby", || {
        let status = pair.status();
        status["standby"]["pid"] != before.1 && status["standby"]["state"] == "WATCHING"
    });
    end.store(true, Ordering::SeqCst);
    crowd.join().unwrap();
    assert_eq!(pair.pid_of("active"), before.0);
}

// ---- the control socket

#[test]
fn bad_requests_get_an_answer_that_says_what_is_wrong() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    let body = |text: &str| {
        let length = text.len();
        format!("POST /v1/servers/stop HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{text}")
    };
    let cases: Vec<(String, &str)> = vec![
        ("\u{1}\u{2}\u{3} garbage\r\n\r\n".into(), " 400 "),
        ("GET /v1/nothing HTTP/1.1\r\n\r\n".into(), " 405 "),
        ("DELETE /v1/status HTTP/1.1\r\n\r\n".into(), " 405 "),
        (long, " 431 "),
        ("POST /v1/shutdown HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".into(), " 413 "),
        ("POST /v1/shutdown HTTP/1.1\r\nContent-Length: -1\r\n\r\n".into(), " 400 "),
        (
            "POST /v1/shutdown HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            " 501 ",
        ),
        (body("{}"), " 400 "),
        (body("not json"), " 400 "),
        (body(r#"{"id":"../../x","names":["a"],"wait":true}"#), " 400 "),
        (body(r#"{"id":"x1","names":["nobody"],"wait":true}"#), " 404 "),
    ];
    for (bytes, status) in cases {
        let answer = exchange(&mut control(&pair), bytes.as_bytes());
        let first = answer.lines().next().unwrap_or_default().to_string();
        assert!(first.contains(status), "{bytes:.60?} was answered with {first:?}");
    }
    // Endless bytes without a line end, and a body that never comes.
    let noise = vec![b'x'; 1 << 20];
    has(&exchange(&mut control(&pair), &noise), &["HTTP/1.1 4"]);
    let mut half = control(&pair);
    half.write_all(b"POST /v1/shutdown HTTP/1.1\r\nContent-Length: 50\r\n\r\n{").unwrap();
    assert_eq!(until_closed(&mut half), "", "half a request was answered");
    assert_undisturbed(&pair, before);
    assert_eq!(pair.server("a")["state"], "RUNNING");
    let said = pair.log(false).matches("-0116]").count();
    assert!((1..=2).contains(&said), "said {said} times");
}

#[test]
fn clients_that_stop_reading_do_not_keep_others_waiting_and_are_dropped() {
    let many: String = (0..1200)
        .map(|n| {
            format!("[[server]]\nname = \"s{n}\"\ncommand = \"sleep 1000\"\nautoStart = false\n")
        })
        .collect();
    let pair = Pair::new("heartbeatTimeout = \"3s\"", &many);
    pair.start();
    let before = twins(&pair);
    let clients = || fs::read_dir(format!("/proc/{}/fd", before.0)).unwrap().count();
    let idle = clients();
    let request = b"GET /v1/status HTTP/1.1\r\n\r\n".repeat(200);
    let mut deaf: Vec<_> = (0..20).map(|_| control(&pair)).collect();
    for stream in &mut deaf {
        let _ = stream.write_all(&request);
    }
    assert_eq!(pair.status()["servers"].as_array().unwrap().len(), 1200);
    wait_until("the clients to be dropped", || clients() <= idle + 2);
    for stream in &mut deaf {
        let answer = until_closed(stream);
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "more than one answer");
    }
    assert_undisturbed(&pair, before);
}

#[test]
fn six_hundred_idle_clients_do_not_keep_others_from_being_served() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let mut idle: Vec<_> = (0..600)
        .map(|_| {
            let stream = control(&pair);
            stream.set_nonblocking(false).unwrap();
            stream
        })
        .collect();
    pair.ok(&["restart", "a"]);
    assert_undisturbed(&pair, before);
    for stream in &mut idle {
        assert_eq!(until_closed(stream), "");
    }
}

#[test]
fn a_client_that_never_stops_sending_does_not_stop_the_loop() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let end = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..2)
        .map(|number| {
            let (end, path, port) = (end.clone(), pair.home.join("run/control.sock"), pair.port);
            std::thread::spawn(move || {
                let noise = vec![b'\r'; 1 << 20];
                while !end.load(Ordering::SeqCst) {
                    if number == 0 {
                        let stream = std::os::unix::net::UnixStream::connect(&path);
                        let _ = stream.and_then(|mut stream| stream.write_all(&noise));
                    } else {
                        let stream = TcpStream::connect(("127.0.0.1", port));
                        let _ = stream.and_then(|mut stream| stream.write_all(&noise));
                    }
                }
            })
        })
        .collect();
    for _ in 0..5 {
        pair.ok(&["restart", "a"]);
    }
    end.store(true, Ordering::SeqCst);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    assert_undisturbed(&pair, before);
}

// ---- signals

fn ends_with_its_servers(role: &str) {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    signal(pair.pid_of(role), SIGTERM);
    wait_until("pair and servers to end", || pair.processes().is_empty());
    assert_nothing_left(&pair);
    assert_eq!(pair.server("a")["state"], "STOPPED");
}

#[test]
fn sigterm_to_the_keeper_ends_pair_and_servers() {
    ends_with_its_servers("keeper");
}

#[test]
fn sigterm_to_the_active_ends_pair_and_servers() {
    ends_with_its_servers("active");
}

fn second_sigterm_kills(role: &str) {
    let pair = Pair::new("", DEAF);
    pair.start();
    wait_until("the deaf server to be ready", || pair.output_of("deaf").contains("ready"));
    let (pid, server) = (pair.pid_of(role), pair.pids()["deaf"]);
    signal(pid, SIGTERM);
    pair.wait_state("deaf", "STOPPING");
    assert!(is_alive(server));
    signal(pid, SIGTERM);
    wait_until("pair and servers to end", || pair.processes().is_empty());
    assert!(!is_alive(server));
}

#[test]
fn a_second_sigterm_to_the_keeper_kills_a_deaf_server_at_once() {
    second_sigterm_kills("keeper");
}

#[test]
fn a_second_sigterm_to_the_active_kills_a_deaf_server_at_once() {
    second_sigterm_kills("active");
}

#[test]
fn sigterm_to_the_standby_ends_nothing() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    signal(before.1, SIGTERM);
    wait_until("the standby to say so", || pair.log(true).contains("-0214]"));
    assert_undisturbed(&pair, before);
}

#[test]
fn a_hang_up_a_stop_key_and_a_quit_key_do_not_disturb() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let (before, keeper, servers) = (twins(&pair), pair.pid_of("keeper"), pair.pids());
    for number in [libc::SIGHUP, libc::SIGTSTP, libc::SIGQUIT] {
        signal(keeper, number);
    }
    wait_until("SIGHUP to be passed on", || pair.log(false).contains("-0122]"));
    signal(before.0, libc::SIGHUP);
    signal(before.1, libc::SIGHUP);
    wait_until("SIGHUP to be read", || pair.log(true).contains("-0214]"));
    assert_undisturbed(&pair, before);
    assert_eq!((pair.pid_of("keeper"), pair.pids()), (keeper, servers));
}

/// `run` in the foreground of a terminal of its own; gives the terminal's other end.
fn in_a_terminal(pair: &Pair) -> (fs::File, Ended) {
    // Close-on-exec from the start: a hang-up needs the last copy of this end to be closed.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = nix::pty::posix_openpt(flags).unwrap();
    nix::pty::grantpt(&master).unwrap();
    nix::pty::unlockpt(&master).unwrap();
    let path = nix::pty::ptsname_r(&master).unwrap();
    let options = fs::File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).clone();
    let slave = options.open(path).unwrap();
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(binary()).arg("run").arg("-c").arg(pair.config());
    command.stdin(Stdio::from(slave.try_clone().unwrap()));
    command.stdout(Stdio::from(slave.try_clone().unwrap())).stderr(Stdio::from(slave));
    command.process_group(0);
    let child = Ended(command.spawn().unwrap());
    (std::os::fd::OwnedFd::from(master).into(), child)
}

#[test]
fn the_keys_of_a_terminal_and_its_hang_up_leave_the_pair_alone_but_ctrl_c_ends_it() {
    if !has_tool("setsid") {
        return;
    }
    let pair = Pair::new("", SLEEPER);
    let (mut terminal, mut child) = in_a_terminal(&pair);
    let before = twins(&pair);
    pair.wait_state("a", "RUNNING");
    terminal.write_all(b"\x1a\x1c").unwrap();
    // Read back as an echo, so they were taken as keys.
    let mut echo = [0; 64];
    assert!(terminal.read(&mut echo).unwrap() > 0);
    assert_undisturbed(&pair, before);
    terminal.write_all(b"\x03").unwrap();
    wait_until("the pair to end", || pair.processes().is_empty());
    assert!(child.0.wait().unwrap().success());

    let (terminal, _child) = in_a_terminal(&pair);
    let before = twins(&pair);
    let servers = pair.pids();
    drop(terminal);
    wait_until("the hang-up to be noticed", || pair.log(false).contains("-0122]"));
    assert_undisturbed(&pair, before);
    assert_eq!(pair.pids(), servers);
}

#[test]
fn sigusr1_opens_the_logs_again_after_they_were_moved() {
    let servers = r#"
[[server]]
name = "talker"
command = ["sh", "-c", "while :; do echo line; sleep 0.05; done"]
settleTime = "50ms"
"#;
    let pair = Pair::new("", servers);
    pair.start();
    wait_until("output", || pair.output_of("talker").contains("line"));
    let logs = pair.home.join("logs");
    let own = format!("{}.log", pair.name());
    for name in [own.as_str(), "talker.out"] {
        fs::rename(logs.join(name), logs.join(format!("{name}.moved"))).unwrap();
    }
    signal(pair.pid_of("keeper"), libc::SIGUSR1);
    wait_until("the pair's log", || pair.log(false).contains("-0123]"));
    wait_until("the server's log", || pair.output_of("talker").contains("line"));
    // Nothing was left out in between: both end and begin with a whole line.
    let moved = fs::read_to_string(logs.join("talker.out.moved")).unwrap();
    assert!(moved.ends_with("line\n") && pair.output_of("talker").starts_with("line\n"));
    signal(pair.pids()["talker"], SIGCONT);
}
