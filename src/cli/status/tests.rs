//! The texts of `status`, letter by letter, and its exit statuses.

use super::*;
use crate::api::{Active, ExitKind, Keeper, LastExit, LastTakeover, SCHEMA, Standby, State};
use crate::cli::test_server::{Reply, RunDir, Server};
use crate::core::Wanted;

const NOW: &str = "2026-11-21T19:44:01.123Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn ago(seconds: i64) -> Option<String> {
    Some(Timestamp::from_second(now().as_second() - seconds).unwrap().to_string())
}

fn server(name: &str, state: State, wanted: Wanted, detail: &str) -> ServerStatus {
    ServerStatus {
        name: name.into(),
        program: String::new(),
        instance: None,
        tags: Vec::new(),
        state,
        wanted,
        enabled: true,
        pid: None,
        started_at: None,
        ready_at: None,
        adopted: false,
        restarts: 0,
        fail_count: 0,
        last_exit: None,
        reason: None,
        next_try_at: None,
        waits_for: None,
        status_text: None,
        checks: Vec::new(),
        cpu_seconds: None,
        rss_bytes: None,
        oom_kills: None,
        detail: detail.into(),
        command: Vec::new(),
        last_lines: Vec::new(),
    }
}

fn running(name: &str, pid: i32, seconds: i64) -> ServerStatus {
    ServerStatus {
        pid: Some(pid),
        started_at: ago(seconds),
        cpu_seconds: Some(seconds as f64 / 100.0),
        rss_bytes: Some(88_080_384),
        ..server(name, State::Running, Wanted::Up, "")
    }
}

fn status(servers: Vec<ServerStatus>) -> Status {
    Status {
        schema: SCHEMA,
        node: "nodemanager-1".into(),
        version: "0.1.0".into(),
        pair: Pair::Ok,
        since: ago(12 * 86_400 + 4 * 3600),
        takeovers: 2,
        switchovers: 0,
        last_switchover: None,
        last_takeover: Some(LastTakeover {
            at: ago(3 * 86_400 + 2 * 3600).unwrap(),
            cause: "death".into(),
            ms: 6,
        }),
        maintenance: false,
        active: Some(Active {
            pid: 9120,
            version: "0.1.0".into(),
            since: ago(3 * 86_400 + 2 * 3600).unwrap(),
        }),
        standby: Some(Standby {
            pid: Some(9377),
            version: Some("0.1.0".into()),
            state: StandbyState::Watching,
            heartbeat_age_ms: Some(12),
            reason: None,
        }),
        config_generation: 0,
        applying: false,
        keeper: Some(Keeper { pid: 4709, joined: false }),
        servers,
    }
}

fn backoff() -> ServerStatus {
    ServerStatus {
        restarts: 3,
        fail_count: 4,
        ..server("web@2", State::Backoff, Wanted::Up, "exit 1; try 4/5 in 5s")
    }
}

fn shown(status: &Status, wanted: &[&str], view: View) -> (String, String, u8) {
    let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = show(status.clone(), &wanted, view, now(), &mut out, &mut err);
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), exit)
}

fn text_of(status: &Status) -> String {
    shown(status, &[], View::default()).0
}

#[test]
fn the_status_looks_as_documented() {
    let disabled =
        ServerStatus { enabled: false, ..server("old", State::Stopped, Wanted::Down, "disabled") };
    let mailer = server("mailer", State::Failed, Wanted::Up, "exec: no such file");
    let whole = status(vec![running("redis", 4713, 1_051_200), backoff(), mailer, disabled]);
    let (text, err, exit) = shown(&whole, &[], View::default());
    assert_eq!(
        text,
        "\
nodemanager-1 0.1.0: pair OK; up 12d04h, 2 takeovers, last 3d02h ago (6 ms)
  active 9120 up 3d02h   standby 9377 WATCHING 12 ms   keeper 4709
NAME    STATE    PID   UPTIME  RST  CPU  MEM  DETAIL
redis   RUNNING  4713  12d04h    0   1%  84M
web@2   BACKOFF  -     -         3    -    -  exit 1; try 4/5 in 5s
mailer  FAILED   -     -         0    -    -  exec: no such file
old     STOPPED  -     -         0    -    -  disabled
4 servers: 1 up, 2 wanted up but are not (web@2, mailer), 1 disabled
"
    );
    assert_eq!((err.as_str(), exit), ("", exit::NOT_WHOLE));
}

#[test]
fn a_broken_pair_is_told_with_what_is_missing() {
    let mut broken = status(vec![running("web", 1, 200)]);
    broken.pair = Pair::Degraded;
    broken.takeovers = 0;
    broken.last_takeover = None;
    broken.maintenance = true;
    broken.keeper = None;
    broken.standby = Some(Standby {
        pid: None,
        version: None,
        state: StandbyState::Down,
        heartbeat_age_ms: None,
        reason: Some("next try in 4 s".into()),
    });
    assert_eq!(
        text_of(&broken),
        "\
nodemanager-1 0.1.0: pair DEGRADED; up 12d04h, no takeovers; maintenance ON
  active 9120 up 3d02h   standby DOWN (next try in 4 s)   no keeper
NAME  STATE    PID  UPTIME  RST  CPU  MEM  DETAIL
web   RUNNING  1    3m20s     0   1%  84M
1 server: 1 up
"
    );
    let pair_only = View { pair_only: true, ..View::default() };
    let (text, _, exit) = shown(&broken, &[], pair_only);
    assert_eq!((text.lines().count(), exit), (2, exit::NOT_WHOLE));
    assert_eq!(shown(&broken, &[], View::default()).2, exit::DONE);
}

#[test]
fn a_single_active_with_a_joined_keeper_says_so() {
    let mut single = status(Vec::new());
    (single.pair, single.standby, single.switchovers) = (Pair::Single, None, 1);
    single.keeper = Some(Keeper { pid: 4709, joined: true });
    let text = text_of(&single);
    assert!(text.contains("pair SINGLE; "), "{text}");
    assert!(text.contains("(6 ms), 1 switchover\n"), "{text}");
    assert!(
        text.contains("   no standby (standbyPort is not set)   keeper 4709 (joined)\n"),
        "{text}"
    );
    assert!(text.ends_with("no servers configured\n"), "{text}");
    let (.., exit) = shown(&single, &[], View { pair_only: true, ..View::default() });
    assert_eq!(exit, exit::NOT_WHOLE);
}

#[test]
fn during_a_takeover_nobody_is_active() {
    let mut between = status(Vec::new());
    (between.pair, between.active) = (Pair::Takeover, None);
    let text = text_of(&between);
    assert!(text.contains("pair TAKEOVER; ") && text.contains("  no active   standby"), "{text}");
}

#[test]
fn without_a_pair_servers_are_unmanaged_and_the_exit_status_is_69() {
    let unmanaged = ServerStatus { state: State::Unmanaged, ..running("web", 7, 59) };
    let mut down = status(vec![unmanaged]);
    (down.pair, down.active, down.standby, down.keeper) = (Pair::Down, None, None, None);
    let (text, _, exit) = shown(&down, &[], View::default());
    assert_eq!(
        text,
        "\
nodemanager-1 0.1.0: no pair runs; start it with `nodemanager run`
NAME  STATE      PID  UPTIME  RST  CPU  MEM  DETAIL
web   UNMANAGED  7    59s       0   1%  84M
1 server: 0 up, 1 unmanaged
"
    );
    assert_eq!(exit, exit::NOT_RUNNING);
}

#[test]
fn a_named_server_is_told_in_full() {
    let mut web = backoff();
    web.command = vec!["/srv/web".into(), "--name".into(), "a b".into()];
    web.last_exit = Some(LastExit {
        kind: ExitKind::Code,
        code: Some(1),
        signal: None,
        at: ago(5).unwrap(),
        ran_ms: 200,
    });
    web.last_lines = vec!["cannot bind\x1b[2J".into()];
    let whole = status(vec![running("redis", 4713, 60), web]);
    let (text, _, exit) = shown(&whole, &["web"], View::default());
    assert_eq!(
        text,
        "\
NAME   STATE    PID  UPTIME  RST  CPU  MEM  DETAIL
web@2  BACKOFF  -    -         3    -    -  exit 1; try 4/5 in 5s

web@2: wanted up; 3 restarts, 4 failures in the current window
  command: /srv/web --name 'a b'
  last exit: code 1 after 200 ms; 5s ago, 2026-11-21T19:43:56Z
  last output:
    cannot bind?[2J
  next: nodemanager logs -n 50 web@2
"
    );
    assert_eq!(exit, exit::NOT_WHOLE);
    assert_eq!(shown(&whole, &["redis"], View::default()).2, exit::DONE);
}

#[test]
fn an_unknown_name_exits_with_4_and_names_the_nearest() {
    let (text, err, exit) = shown(&status(vec![backoff()]), &["wbe"], View::default());
    assert_eq!((text.as_str(), exit), ("", exit::UNKNOWN_NAME));
    assert_eq!(err, "nodemanager: unknown server wbe; did you mean web?\n");
}

#[test]
fn details_are_cut_to_a_terminal_and_never_in_a_pipe() {
    let detail = "a very long story ".repeat(10);
    let long = status(vec![server("web", State::Failed, Wanted::Up, &detail)]);
    let rows = View { no_header: true, ..View::default() };
    let (text, ..) = shown(&long, &[], rows);
    assert_eq!(text.trim_end(), format!("web  FAILED  -  -  0  -  -  {}", detail.trim_end()));
    let (text, ..) = shown(&long, &[], View { columns: Some(80), ..rows });
    assert_eq!(text.trim_end().len(), 80);
    assert!(text.ends_with("...\n"), "{text}");
    let (text, ..) = shown(&long, &[], View { columns: Some(1), ..rows });
    assert_eq!(text, "web  FAILED  -  -  0  -  -\n");
}

#[test]
fn a_server_that_ended_well_or_is_not_wanted_is_fine_and_one_on_its_way_is_not() {
    let exit = |state, wanted, enabled| {
        let server = ServerStatus { enabled, ..server("web", state, wanted, "") };
        exit_status(&status(vec![server]), false)
    };
    assert_eq!(exit(State::Exited, Wanted::Up, true), exit::DONE);
    assert_eq!(exit(State::Stopped, Wanted::Down, true), exit::DONE);
    assert_eq!(exit(State::Stopped, Wanted::Up, false), exit::DONE);
    for state in [State::Waiting, State::Starting, State::Draining, State::Backoff] {
        assert_eq!(exit(state, Wanted::Up, true), exit::NOT_WHOLE, "{state}");
    }
}

#[test]
fn the_summary_counts_every_server_once_and_names_only_some() {
    let mut servers: Vec<_> = (0..10)
        .map(|number| server(&format!("s{number}"), State::Failed, Wanted::Up, ""))
        .collect();
    servers.push(server("job", State::Exited, Wanted::Up, ""));
    servers.push(server("idle", State::Stopped, Wanted::Down, ""));
    let running_disabled = ServerStatus { enabled: false, ..running("old", 3, 1) };
    servers.push(running_disabled);
    let text = text_of(&status(servers));
    let last = text.lines().last().unwrap();
    assert_eq!(
        last,
        "13 servers: 1 up, 10 wanted up but are not (s0, s1, s2, s3, s4, s5, s6, s7, 2 more), \
         1 ended well, 1 down"
    );
}

#[test]
fn json_is_one_line_with_the_chosen_servers() {
    let whole = status(vec![running("redis", 4713, 60), backoff()]);
    let (text, _, exit) = shown(&whole, &["redis"], View { json: true, ..View::default() });
    let read: Status = serde_json::from_str(&text).unwrap();
    assert_eq!((text.lines().count(), exit), (1, exit::DONE));
    assert_eq!(read.servers, whole.servers[..1]);
}

#[test]
fn pids_are_printed_one_a_line_and_a_missing_one_is_told() {
    let whole = status(vec![running("redis", 4713, 60), backoff()]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = show_pids(whole, &["all".to_owned()], &mut out, &mut err);
    assert_eq!((String::from_utf8(out).unwrap().as_str(), exit), ("4713\n", exit::NOT_WHOLE));
    let err = String::from_utf8(err).unwrap();
    assert_eq!(err, "nodemanager: web@2 has no process: it is BACKOFF\n");
}

#[test]
fn the_status_is_fetched_with_the_names_that_were_asked_for() {
    let run = RunDir::new();
    let body = serde_json::to_string(&status(vec![backoff()])).unwrap();
    let server =
        Server::start(&run.path("control.sock"), move |_, _| Reply::Answer(200, body.clone()));
    let wanted = ["web@2".to_owned(), "a&[b]*".to_owned()];
    let fetched = fetch(&run.client(), &wanted, None).unwrap();
    assert_eq!(fetched.servers.len(), 1);
    assert_eq!(server.requests()[0].query_values("name"), wanted);
    drop(server);
    std::fs::remove_file(run.path("control.sock")).unwrap();
    assert_eq!(fetch(&run.client(), &[], None).unwrap_err().exit, exit::NOT_RUNNING);
}

#[test]
fn states_have_colours_only_where_they_are_wanted_and_wide_letters_keep_the_columns() {
    let all = [
        (State::Running, "\x1b[32mRUNNING \x1b[0m"),
        (State::Starting, "\x1b[33mSTARTING\x1b[0m"),
        (State::Failed, "\x1b[31mFAILED  \x1b[0m"),
        (State::Exited, "\x1b[2mEXITED  \x1b[0m"),
    ];
    let servers = all.iter().map(|(state, _)| server("a", *state, Wanted::Up, "")).collect();
    let whole = status(servers);
    let coloured = View { has_colours: true, no_header: true, ..View::default() };
    let (text, ..) = shown(&whole, &[], coloured);
    for (line, (_, expected)) in text.lines().zip(all) {
        assert!(line.contains(expected), "{line:?}");
    }
    let (plain, ..) = shown(&whole, &[], View { no_header: true, ..View::default() });
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let wide = server("日本", State::Failed, Wanted::Up, "日本日本日本日本日本");
    let narrow = server("abcd", State::Failed, Wanted::Up, "");
    let table = text::table(&[wide, narrow], false, Some(50), now());
    assert_eq!(table.state, 6..12);
    for line in &table.lines {
        assert_eq!(text::parts(line, &table.state)[1], "FAILED");
        assert!(unicode_width::UnicodeWidthStr::width(line.as_str()) <= 50, "{line:?}");
    }
}
