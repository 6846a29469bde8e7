//! No command hangs, and no request is lost, whatever the other side does.

use super::patience::state_of;
use super::*;
use crate::cli::test_server::{Reply, RunDir, Server, twin};
use nix::sys::socket::{Backlog, bind, listen};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const SOON: Duration = Duration::from_secs(1);

fn soon() -> Patience {
    Patience::Until(Instant::now() + SOON)
}

/// Time enough on a busy machine; the tests that use it end long before.
fn long() -> Patience {
    Patience::Until(Instant::now() + Duration::from_secs(60))
}

fn impatient(run: &RunDir) -> Client {
    let (answer_limit, probe_every) = (SOON, SOON / 10);
    Client { answer_limit, probe_every, ..run.client() }
}

fn me() -> Twin {
    twin(std::process::id())
}

fn answered(text: &str) -> Reply {
    Reply::Answer(200, text.to_owned())
}

#[test]
fn an_answer_comes_back_with_its_status_and_body() {
    let run = RunDir::new();
    let server =
        Server::start(&run.path("control.sock"), |_, _| Reply::Answer(404, "no".to_owned()));
    let response = run.client().call("POST", "/v1/a?b=c", Some(b"body".to_vec()), long()).unwrap();
    assert_eq!(response, Response { status: 404, body: b"no".to_vec() });
    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/a"));
    assert_eq!((request.query.as_str(), request.body.as_slice()), ("b=c", &b"body"[..]));
}

#[test]
fn the_same_request_is_sent_again_after_a_broken_connection_and_after_503() {
    let run = RunDir::new();
    let server = Server::start(&run.path("control.sock"), |_, before| match before {
        0 => Reply::Bytes(Vec::new()),
        1 => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        2 => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal".to_vec()),
        3 => Reply::Answer(503, "{}".to_owned()),
        _ => answered("whole"),
    });
    let response = run.client().call("POST", "/v1/a", Some(b"id".to_vec()), long()).unwrap();
    assert_eq!(response.body, b"whole");
    let requests = server.requests();
    assert_eq!(requests.len(), 5);
    assert!(requests.iter().all(|request| *request == requests[0]));
}

#[test]
fn a_503_is_the_answer_when_nothing_better_comes_in_time() {
    let run = RunDir::new();
    let _server = Server::start(&run.path("control.sock"), |_, _| Reply::Answer(503, "x".into()));
    // Long enough for one answer.
    let patience = Patience::Until(Instant::now() + SOON * 5);
    assert_eq!(run.client().call("GET", "/", None, patience).unwrap().status, 503);
}

#[test]
fn without_a_socket_and_without_a_living_twin_nothing_runs() {
    let run = RunDir::new();
    let client = run.client();
    let nothing = Err(CallError::NotRunning { asked: false });
    assert_eq!(client.call("GET", "/", None, long()), nothing);
    let stranger = Twin { start_ticks: me().start_ticks + 1, ..me() };
    run.write_pair("serving", Some(stranger), None);
    assert_eq!(client.call("GET", "/", None, long()), nothing, "a later process with its PID");
    run.write_pair(PAIR_ENDED, Some(me()), None);
    assert_eq!(client.call("GET", "/", None, long()), nothing, "the pair says that it ended");
    fs::write(run.path("pair.json"), "{").unwrap();
    assert_eq!(client.call("GET", "/", None, long()), nothing, "an unreadable pair.json");
}

#[test]
fn a_refused_connection_is_tried_again_while_a_twin_lives() {
    let run = RunDir::new();
    run.write_pair("starting", Some(me()), None);
    // A socket file with nobody behind it.
    drop(std::os::unix::net::UnixListener::bind(run.path("control.sock")).unwrap());
    let late = Err(CallError::TimedOut { asked: false });
    assert_eq!(run.client().call("GET", "/", None, soon()), late);
    fs::remove_file(run.path("control.sock")).unwrap();
    let client = run.client();
    let caller = thread::spawn(move || client.call("GET", "/", None, long()));
    let _server = Server::start(&run.path("control.sock"), |_, _| answered("late"));
    assert_eq!(caller.join().unwrap().unwrap().body, b"late");
}

#[test]
fn what_the_pair_waits_for_is_told_when_time_is_over() {
    let run = RunDir::new();
    run.write_pair("taking over", Some(me()), Some("PID 12 can't be killed"));
    let waits = Err(CallError::WaitsFor("PID 12 can't be killed".to_owned()));
    assert_eq!(run.client().call("GET", "/", None, soon()), waits);
    run.write_pair("taking over", Some(me()), None);
    let late = Err(CallError::TimedOut { asked: false });
    assert_eq!(run.client().call("GET", "/", None, soon()), late);
}

#[test]
fn silence_ends_with_the_deadline() {
    let run = RunDir::new();
    let _server = Server::start(&run.path("control.sock"), |_, _| Reply::Hold);
    let late = Err(CallError::TimedOut { asked: true });
    assert_eq!(run.client().call("GET", "/", None, soon()), late);
    assert_eq!(impatient(&run).call("GET", "/", None, Patience::Question), late);
    assert_eq!(impatient(&run).call("GET", "/", None, Patience::Action), late);
}

/// As `write_pair`, with a standby and how long it takes to decide.
fn write_watched(run: &RunDir, standby: Option<Twin>, keeper: Option<Twin>) {
    run.write_pair("serving", Some(me()), None);
    let mut pair = run.client().read_pair_file().unwrap();
    (pair.standby, pair.keeper, pair.decides_within_ms) = (standby, keeper, Some(60_000));
    fs::write(run.path("pair.json"), serde_json::to_vec(&pair).unwrap()).unwrap();
}

/// The first connection is never answered; the next one is.
fn deaf_at_first(run: &RunDir) -> Server {
    Server::start(&run.path("control.sock"), |_, before| match before {
        0 => Reply::Hold,
        _ => answered("the next one"),
    })
}

#[test]
fn a_silent_active_is_waited_for_as_long_as_its_standby_or_keeper_may_take() {
    for (standby, keeper) in [(Some(me()), None), (None, Some(me()))] {
        let run = RunDir::new();
        write_watched(&run, standby, keeper);
        let _server = deaf_at_first(&run);
        let response = impatient(&run).call("GET", "/", None, Patience::Question).unwrap();
        assert_eq!(response.body, b"the next one");
    }
}

#[test]
fn a_silent_active_that_nobody_watches_is_not_waited_for() {
    let mut stopped = Command::new("sleep").arg("60").spawn().unwrap();
    let stop = || {
        let pid = nix::unistd::Pid::from_raw(stopped.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    };
    stop();
    let stopped_twin = twin(stopped.id());
    while state_of(&stopped_twin).as_deref() != Some("T") {
        thread::yield_now();
    }
    for (standby, keeper) in [(None, None), (Some(stopped_twin.clone()), Some(stopped_twin))] {
        let run = RunDir::new();
        write_watched(&run, standby, keeper);
        let _server = deaf_at_first(&run);
        let late = Err(CallError::TimedOut { asked: true });
        assert_eq!(impatient(&run).call("GET", "/", None, Patience::Question), late);
    }
    stopped.kill().unwrap();
    stopped.wait().unwrap();
}

#[test]
fn the_own_timeout_is_not_moved_by_who_decides() {
    let run = RunDir::new();
    write_watched(&run, Some(me()), None);
    let _server = Server::start(&run.path("control.sock"), |_, _| Reply::Hold);
    let late = Err(CallError::TimedOut { asked: true });
    assert_eq!(run.client().call("GET", "/", None, soon()), late);
}

thread_local!(static SAID: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) });

fn say(text: &str) {
    SAID.with_borrow_mut(|said| said.push(text.to_string()));
}

#[test]
fn who_serves_while_an_action_takes_longer_than_the_own_timeout_is_not_called_silent() {
    let run = RunDir::new();
    write_watched(&run, Some(me()), None);
    let _server = Server::start(&run.path("control.sock"), |request, _| match &*request.path {
        PING_PATH => answered("{}"),
        _ => Reply::Hold,
    });
    let client = Client { notice_after: SOON / 10, ..run.client().telling(say) };
    let late = Err(CallError::TimedOut { asked: true });
    assert_eq!(client.call("POST", "/v1/a", None, soon()), late);
    assert_eq!(SAID.take(), [""; 0]);
}

#[test]
fn what_a_silence_waits_for_is_said_once() {
    let run = RunDir::new();
    write_watched(&run, Some(me()), None);
    let _server = Server::start(&run.path("control.sock"), |_, _| Reply::Hold);
    let client = Client { notice_after: SOON / 10, ..run.client().telling(say) };
    for _ in 0..2 {
        let _ = client.call("GET", "/", None, soon());
    }
    let pid = std::process::id();
    let text =
        format!("waiting: the active (PID {pid}) does not answer; the standby decides within 60 s");
    assert_eq!(SAID.take(), [text]);
}

#[test]
fn a_long_action_is_waited_for_while_somebody_serves() {
    let run = RunDir::new();
    // Many more probes than fit into the limit without an answer.
    let server = Server::start(&run.path("control.sock"), |request, before| {
        match (request.path.as_str(), before) {
            (PING_PATH, 12..) => Reply::Release("done".to_owned()),
            (PING_PATH, _) => answered("{}"),
            _ => Reply::Hold,
        }
    });
    let begun = Instant::now();
    let response = impatient(&run).call("POST", "/v1/a", None, Patience::Action).unwrap();
    assert_eq!(response.body, b"done");
    assert!(begun.elapsed() > SOON, "the action did not outlast the limit: it proves nothing");
    let asked = server.requests().iter().filter(|request| request.path == "/v1/a").count();
    assert_eq!(asked, 1);
}

#[test]
fn a_full_backlog_is_an_end_at_the_deadline_and_not_a_hang() {
    let run = RunDir::new();
    let address = UnixAddr::new(&run.path("control.sock")).unwrap();
    let kind = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::Stream, kind, None).unwrap();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let _fills_it = std::os::unix::net::UnixStream::connect(run.path("control.sock")).unwrap();
    let late = Err(CallError::TimedOut { asked: false });
    assert_eq!(run.client().call("GET", "/", None, soon()), late);
}

#[test]
fn what_is_not_http_is_an_error_at_once() {
    let run = RunDir::new();
    let _server = Server::start(&run.path("control.sock"), |_, before| match before {
        0 => Reply::Bytes(b"SSH-2.0-OpenSSH\r\n".to_vec()),
        1 => Reply::Bytes(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        _ => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()),
    });
    for _ in 0..3 {
        let error = run.client().call("GET", "/", None, long()).unwrap_err();
        assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
    }
    let long_path = Client::new("a".repeat(200).into(), run.path("p"), run.path("l"));
    let error = long_path.call("GET", "/", None, long()).unwrap_err();
    assert!(matches!(error, CallError::Protocol(_)), "{error:?}");
}

#[test]
fn every_error_has_its_exit_status_and_says_what_to_do() {
    let text = |error: CallError| {
        let failure = error.failure(Path::new("run/control.sock"), Some(Duration::from_secs(5)));
        format!("{} {}", failure.exit, failure.text)
    };
    assert_eq!(
        text(CallError::NotRunning { asked: false }),
        "69 no node manager runs at run/control.sock; start it with `nodemanager run`"
    );
    assert_eq!(
        text(CallError::TimedOut { asked: true }),
        "124 no answer within 5s; what was asked for goes on; see `nodemanager status`"
    );
    assert!(text(CallError::Denied).starts_with("77 cannot use run/control.sock: permission"));
    assert!(text(CallError::WaitsFor("x".into())).starts_with("75 "));
    assert!(text(CallError::Protocol("x".into())).starts_with("1 "));
}

#[test]
fn request_ids_differ_and_can_be_put_on_record() {
    let (one, other) = (request_id().unwrap(), request_id().unwrap());
    assert!(one != other && one.len() == 32 && crate::api::is_request_id(&one));
}

#[test]
fn a_held_lock_means_that_the_pair_lives_even_without_its_pair_file() {
    let run = RunDir::new();
    File::create(run.path("lock")).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cli::client::tests::holds_a_lock", "--ignored", "--nocapture"])
        .env("LOCK_FILE", run.path("lock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_locked = lines.map_while(Result::ok).any(|line| line.contains("lock is held"));
    let is_seen = run.client().pair_lives();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(is_locked && is_seen);
    assert!(!run.client().pair_lives(), "the lock went with its holder");
}

#[test]
#[ignore = "a process for the test above"]
fn holds_a_lock() {
    let Some(path) = std::env::var_os("LOCK_FILE") else { return };
    let file = File::options().write(true).open(path).unwrap();
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLK(&lock)).unwrap();
    writeln!(std::io::stdout(), "lock is held").unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_zombie_is_gone() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let twin = twin(child.id());
    assert!(lives(&twin));
    child.kill().unwrap();
    let run = RunDir::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    assert!(run.client().wait_until_gone(std::slice::from_ref(&twin), Some(deadline)));
    child.wait().unwrap();
    assert!(!run.client().wait_until_gone(&[me()], Some(Instant::now())));
}
