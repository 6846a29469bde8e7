//! What the line says, and when there is none.

use super::*;
use serde_json::json;

fn status(servers: &[(&str, &str, Option<i32>, Option<&str>)]) -> Status {
    let servers: Vec<_> = servers
        .iter()
        .map(|(name, state, pid, started_at)| {
            json!({"name": name, "state": state, "wanted": "up", "enabled": true, "pid": pid,
                "startedAt": started_at, "readyAt": null, "adopted": false, "restarts": 0,
                "failCount": 0, "lastExit": null, "reason": null, "nextTryAt": null,
                "waitsFor": null, "statusText": null, "cpuSeconds": null, "rssBytes": null,
                "oomKills": null, "detail": ""})
        })
        .collect();
    let value = json!({"schema": 1, "node": "n", "version": "0.1.0", "pair": "ok", "since": null,
        "takeovers": 0, "switchovers": 0, "lastTakeover": null, "maintenance": false,
        "active": null, "standby": null, "keeper": null, "servers": servers});
    serde_json::from_value(value).unwrap()
}

#[test]
fn the_line_counts_what_is_through_and_names_what_moves() {
    let some = status(&[
        ("a", "RUNNING", Some(1), Some("2026-11-21T19:44:01Z")),
        ("b", "WAITING", None, None),
        ("c", "STARTING", Some(2), Some("2026-11-21T19:50:01Z")),
        ("d", "RUNNING", Some(3), Some("2026-11-21T19:50:01Z")),
    ]);
    let line = |action: Action| Plan::of(&action, &[]).unwrap().line(&some);
    assert_eq!(line(Action::Start), "starting: 2 of 4; waits for c (STARTING)");
    assert_eq!(line(Action::Stop), "stopping: 1 of 4; waits for c (STARTING)");
    assert_eq!(line(Action::Wait(Goal::Up)), "waiting: 3 of 4; waits for b (WAITING)");
    let since = "2026-11-21T19:49:00Z".parse().unwrap();
    let plan = Plan::of_all("restarting", Reached::UpSince(since));
    assert_eq!(plan.line(&some), "restarting: 1 of 4; waits for c (STARTING)");
    let plan = Plan::of_all("applying", Reached::AsWanted);
    assert_eq!(plan.line(&status(&[])), "applying: 0 of 0");
}

#[test]
fn what_is_done_at_once_has_no_progress() {
    for action in [Action::Reset, Action::Reload, Action::Enable, Action::Signal("SIGHUP".into())] {
        assert_eq!(Plan::of(&action, &[]), None);
    }
}
