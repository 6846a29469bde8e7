//! What the commands ask, what they print, and what they exit with.

use super::*;
use crate::api::{Left, PAIR_ENDED};
use crate::cli::test_server::{Reply, RunDir, Server, twin};
use std::process::Command;

fn result(name: &str, exit: u8, text: &str, last_lines: &[&str]) -> ServerResult {
    let last_lines = last_lines.iter().map(|line| (*line).to_owned()).collect();
    ServerResult { name: name.into(), ok: exit == 0, exit, text: text.into(), last_lines }
}

fn as_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

fn acted(run: &RunDir, action: Action, options: Options) -> (String, String, u8) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let names = vec!["web".to_owned()];
    let exit = act(&run.client(), action, names, options, &mut out, &mut err);
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), exit)
}

fn two_results() -> Answer {
    let results = vec![
        result("web@1", 0, "RUNNING, PID 4713", &[]),
        result("web@2", 1, "FAILED: exit 1 after 200 ms", &["cannot bind", "bye\x07"]),
    ];
    Answer { exit: 1, results }
}

#[test]
fn each_server_has_its_line_and_a_failure_its_last_output() {
    let run = RunDir::new();
    let server = Server::start(&run.path("control.sock"), |_, _| {
        Reply::Answer(200, as_json(&two_results()))
    });
    let (out, err, exit) = acted(&run, Action::Start, Options::default());
    assert_eq!(out, "web@1: RUNNING, PID 4713\n");
    assert_eq!(
        err,
        "web@2: FAILED: exit 1 after 200 ms; its last output lines:\n    cannot bind\n    bye?\n"
    );
    assert_eq!(exit, exit::FAILED);
    let request = &server.requests()[0];
    let ask: Ask = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/servers/start"));
    assert!(ask.wait && ask.names == ["web"] && ask.id.len() == 32);
    assert_eq!((ask.signal, ask.goal), (None, None));
}

#[test]
fn what_an_action_needs_is_in_its_request() {
    let run = RunDir::new();
    let server = Server::start(&run.path("control.sock"), |_, _| {
        Reply::Answer(200, as_json(&Answer { exit: 0, results: vec![] }))
    });
    let no_wait = Options { no_wait: true, ..Options::default() };
    acted(&run, Action::Signal("SIGHUP".into()), Options::default());
    acted(&run, Action::Wait(Goal::Down), Options::default());
    acted(&run, Action::Stop, no_wait);
    let asks: Vec<(String, Ask)> = server
        .requests()
        .into_iter()
        .map(|request| (request.path, serde_json::from_slice(&request.body).unwrap()))
        .collect();
    assert_eq!(asks[0].0, "/v1/servers/signal");
    assert_eq!(asks[0].1.signal.as_deref(), Some("SIGHUP"));
    assert_eq!((asks[1].0.as_str(), asks[1].1.goal), ("/v1/servers/wait", Some(Goal::Down)));
    assert!(asks[0].1.wait && !asks[2].1.wait);
    assert!(asks[0].1.id != asks[1].1.id);
}

#[test]
fn json_is_the_answer_itself() {
    let run = RunDir::new();
    let _server = Server::start(&run.path("control.sock"), |_, _| {
        Reply::Answer(200, as_json(&two_results()))
    });
    let json = Options { json: true, ..Options::default() };
    let (out, err, exit) = acted(&run, Action::Start, json);
    assert_eq!(serde_json::from_str::<Answer>(&out).unwrap(), two_results());
    assert_eq!((err.as_str(), exit), ("", exit::FAILED));
}

#[test]
fn an_error_is_told_with_the_exit_status_it_asks_for() {
    let run = RunDir::new();
    let _server = Server::start(&run.path("control.sock"), |_, before| match before {
        0 => Reply::Answer(404, r#"{"exit":4,"error":"unknown server web"}"#.into()),
        1 => Reply::Answer(500, r#"{"exit":0,"error":"disk"}"#.into()),
        _ => Reply::Answer(200, "not json".into()),
    });
    let start = || acted(&run, Action::Start, Options::default());
    let unknown = "nodemanager: unknown server web\n".to_owned();
    assert_eq!(start(), (String::new(), unknown, exit::UNKNOWN_NAME));
    assert_eq!(start().2, exit::FAILED, "an error is no success");
    let (_, err, exit) = start();
    assert!(err.starts_with("nodemanager: cannot read the answer (HTTP 200): "), "{err}");
    assert_eq!(exit, exit::FAILED);
}

#[test]
fn when_the_time_is_over_the_action_goes_on() {
    let run = RunDir::new();
    let _server = Server::start(&run.path("control.sock"), |_, _| Reply::Hold);
    let timeout = Some(Duration::from_millis(100));
    let (_, err, exit) = acted(&run, Action::Start, Options { timeout, ..Options::default() });
    assert_eq!(exit, exit::TIME_OVER);
    assert!(err.contains("no answer within 100ms; what was asked for goes on"), "{err}");
}

fn shut_down(run: &RunDir, servers: Servers, options: Options) -> (String, String, u8) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = shutdown(&run.client(), servers, options, &mut out, &mut err);
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), exit)
}

#[test]
fn shutdown_names_what_stays_up_and_how_to_stop_it() {
    let run = RunDir::new();
    let left =
        vec![Left { name: "redis".into(), pid: 4713 }, Left { name: "web@1".into(), pid: 4714 }];
    let answer = as_json(&ShutdownAnswer { left, mover: Some(99) });
    let server =
        Server::start(&run.path("control.sock"), move |_, _| Reply::Answer(200, answer.clone()));
    let (out, err, exit) = shut_down(&run, Servers::Keep, Options::default());
    assert_eq!(
        out,
        "\
the pair has ended; these servers stay up, without a node manager:
  redis  PID 4713
  web@1  PID 4714
PID 99 goes on moving their output
stop them with `nodemanager shutdown --stop-servers`; manage them again with `nodemanager run`
"
    );
    assert_eq!((err.as_str(), exit), ("", exit::DONE));
    shut_down(&run, Servers::Stop, Options::default());
    let no_wait = Options { no_wait: true, ..Options::default() };
    shut_down(&run, Servers::Kill, no_wait);
    let asks: Vec<(bool, bool, bool)> = server
        .requests()
        .iter()
        .map(|request| serde_json::from_slice::<ShutdownAsk>(&request.body).unwrap())
        .map(|ask| (ask.stop_servers, ask.force, ask.wait))
        .collect();
    assert_eq!(asks, [(false, false, true), (true, false, true), (true, true, false)]);
}

#[test]
fn shutdown_waits_until_the_processes_of_the_pair_are_gone() {
    let run = RunDir::new();
    let mut active = Command::new("sleep").arg("60").spawn().unwrap();
    run.write_pair("serving", Some(twin(active.id())), None);
    let answer = as_json(&ShutdownAnswer { left: vec![], mover: None });
    let _server =
        Server::start(&run.path("control.sock"), move |_, _| Reply::Answer(200, answer.clone()));
    let timeout = Some(Duration::from_secs(1));
    let (out, err, exit) =
        shut_down(&run, Servers::Stop, Options { timeout, ..Options::default() });
    assert_eq!((out.as_str(), exit), ("the pair ends; no server is up\n", exit::TIME_OVER));
    assert!(err.contains(&format!("(PID {}) is still ending", active.id())), "{err}");
    active.kill().unwrap();
    active.wait().unwrap();
    let (out, _, exit) = shut_down(&run, Servers::Stop, Options::default());
    assert_eq!((out.as_str(), exit), ("the pair has ended; no server is up\n", exit::DONE));
}

#[test]
fn shutdown_is_done_when_the_pair_is_gone_before_its_answer_came() {
    let run = RunDir::new();
    run.write_pair(PAIR_ENDED, None, None);
    let socket = run.path("control.sock");
    let _server = Server::start(&run.path("control.sock"), move |_, _| {
        std::fs::remove_file(&socket).unwrap();
        Reply::Bytes(Vec::new())
    });
    let (out, err, exit) = shut_down(&run, Servers::Keep, Options::default());
    assert_eq!((out.as_str(), exit), ("", exit::DONE));
    assert_eq!(err, "the pair has ended; its answer was lost on the way\n");
}

#[test]
fn without_a_pair_every_command_exits_with_69() {
    let run = RunDir::new();
    assert_eq!(acted(&run, Action::Stop, Options::default()).2, exit::NOT_RUNNING);
    assert_eq!(shut_down(&run, Servers::Keep, Options::default()).2, exit::NOT_RUNNING);
}

/// A full device, or a reader that went away.
struct Broken(std::io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Err(self.0.into())
    }
}

#[test]
fn a_reader_that_went_away_changes_nothing_and_a_full_device_is_a_failure() {
    let printed = |kind| print(&mut Broken(kind), "text", exit::DONE);
    assert_eq!(printed(std::io::ErrorKind::BrokenPipe), exit::DONE);
    assert_eq!(printed(std::io::ErrorKind::StorageFull), exit::FAILED);
}
