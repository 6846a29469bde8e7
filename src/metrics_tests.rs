//! The text of the metrics.

use super::*;

const STATUS: &str = r#"{"schema": 1, "node": "n", "version": "0.1.0", "pair": "ok", "since": null,
 "takeovers": 2, "switchovers": 1, "lastTakeover": null, "maintenance": true, "active": null,
 "standby": {"pid": 1, "version": null, "state": "WATCHING", "heartbeatAgeMs": 12, "reason": null},
 "keeper": null, "servers": [
 {"name": "web@2", "program": "web", "instance": 2, "state": "RUNNING", "wanted": "up",
  "enabled": true, "pid": 9, "startedAt": null, "readyAt": null, "adopted": false, "restarts": 3,
  "failCount": 0, "lastExit": null, "reason": null, "nextTryAt": null, "waitsFor": null,
  "statusText": null, "cpuSeconds": 1.5, "rssBytes": 4096},
 {"name": "odd", "program": "odd", "state": "BACKOFF", "wanted": "up",
  "enabled": true, "pid": null, "startedAt": null, "readyAt": null, "adopted": false, "restarts": 0,
  "failCount": 0, "lastExit": null, "reason": null, "nextTryAt": null, "waitsFor": null,
  "statusText": null, "cpuSeconds": null, "rssBytes": null}]}"#;

fn status() -> Status {
    serde_json::from_str(STATUS).unwrap()
}

fn text_of(status: &Status) -> String {
    let mut times = Durations::default();
    [1, 6, 40_000].into_iter().for_each(|took_ms| times.note(took_ms));
    let exits = ExitCounts { signal: 4, ..ExitCounts::default() };
    let counts = ServerCounts { exits, output_bytes: Some(77) };
    let servers = BTreeMap::from([("web@2".to_owned(), counts)]);
    render(&Figures { status, takeover_times: &times, servers: &servers })
}

#[test]
fn every_figure_is_there_with_its_labels() {
    let text = text_of(&status());
    let web = "server=\"web@2\",program=\"web\",instance_number=\"2\"";
    for wanted in [
        "nodemanager_build_info{version=\"0.1.0\"} 1".to_owned(),
        "nodemanager_pair_ok 1".to_owned(),
        "nodemanager_maintenance 1".to_owned(),
        "nodemanager_heartbeat_age_seconds 0.012".to_owned(),
        "nodemanager_takeovers_total 2".to_owned(),
        "nodemanager_switchovers_total 1".to_owned(),
        format!("nodemanager_server_up{{{web}}} 1"),
        "nodemanager_server_up{server=\"odd\",program=\"odd\"} 0".to_owned(),
        "nodemanager_server_wanted{server=\"odd\",program=\"odd\"} 1".to_owned(),
        format!("nodemanager_server_state{{{web},state=\"RUNNING\"}} 1"),
        format!("nodemanager_server_state{{{web},state=\"FAILED\"}} 0"),
        format!("nodemanager_server_restarts_total{{{web}}} 3"),
        format!("nodemanager_server_exits_total{{{web},kind=\"signal\"}} 4"),
        format!("nodemanager_server_cpu_seconds_total{{{web}}} 1.5"),
        format!("nodemanager_server_resident_memory_bytes{{{web}}} 4096"),
        format!("nodemanager_server_output_bytes_total{{{web}}} 77"),
    ] {
        assert!(text.lines().any(|line| line == wanted), "no {wanted} in\n{text}");
    }
    assert_eq!(text.matches("nodemanager_server_state{").count(), 2 * STATES.len());
    assert!(!text.contains("bytes{server=\"odd\""), "a server without a process has no memory");
}

#[test]
fn buckets_are_cumulative_and_the_last_one_is_the_count() {
    let text = text_of(&status());
    let of = |rest: &str| {
        let start = format!("nodemanager_takeover_duration_seconds{rest} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&start));
        found.unwrap_or_else(|| panic!("no {start} in\n{text}")).to_owned()
    };
    let bounds = ["0.001", "0.005", "0.01", "10", "+Inf"];
    let counts = bounds.map(|bound| of(&format!("_bucket{{le=\"{bound}\"}}")));
    assert_eq!(counts, ["1", "1", "2", "2", "3"]);
    assert_eq!([of("_sum"), of("_count")], ["40.007", "3"]);
}

#[test]
fn every_metric_has_its_help_and_its_type_once_and_before_its_samples() {
    let text = text_of(&status());
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(known.insert(name, kind), None, "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(known.contains_key(name) || base.is_some_and(|base| known.contains_key(base)));
        }
    }
    assert!(known.len() >= 15, "{known:?}");
}

#[test]
fn what_is_in_a_label_cannot_end_it() {
    let mut status = status();
    status.servers[0].name = "a\"b\\c\nd".to_owned();
    let text = text_of(&status);
    assert!(text.contains("server=\"a\\\"b\\\\c\\nd\","), "{text}");
}

#[test]
fn a_pair_that_is_not_whole_says_so_and_has_no_heartbeat() {
    let mut status = status();
    (status.pair, status.standby) = (Pair::Degraded, None);
    let text = text_of(&status);
    assert!(text.contains("nodemanager_pair_ok 0\n"));
    assert!(!text.contains("heartbeat_age"));
}

#[test]
fn what_is_not_ready_is_named_and_what_nobody_wants_is_not() {
    let mut status = status();
    assert_eq!(not_ready(&status), Some("not ready\nodd BACKOFF\n".to_owned()));
    status.servers[1].wanted = Wanted::Down;
    assert_eq!(not_ready(&status), None);
}
