//! Bad input of every kind: the program says in one clear line what is wrong and what would be
//! right, and a pair that runs is not disturbed.

mod signals;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
#[path = "../tools/mod.rs"]
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
use support::{
    LIMIT, Pair, SIGCONT, SIGKILL, SIGTERM, binary, has_tool, is_alive, signal, wait_until,
};
use tools::{
    Ended, assert_nothing_left, assert_undisturbed, control, exchange, exits, finish, has, is_root,
    twins, until_closed,
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
settleTime = "10m"
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

fn ends_with_its_servers(role: &str) {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    signal(pair.pid_of(role), SIGTERM);
    wait_until("pair and servers to end", || pair.processes().is_empty());
    assert_nothing_left(&pair);
    assert_eq!(pair.server("a")["state"], "STOPPED");
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
