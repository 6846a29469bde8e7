//! What others make of the text: promtool, Prometheus itself, and the dashboard.

use crate::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let Some(mut promtool) = program("promtool") else { return };
    let (pair, port) = pair_with_metrics(LIVES);
    take_over(&pair);
    let text = scrape(port);
    let promtool = promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}in\n{text}", both(&output));
    assert_eq!((output.stdout, output.stderr), (Vec::new(), Vec::new()));
}

/// A process of the test, ended by its PID.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_scrapes_the_pair_over_a_takeover() {
    let Some(mut prometheus) = program("prometheus") else { return };
    let (pair, port) = pair_with_metrics(LIVES);
    let own = free_port();
    let file = pair.home.join("prometheus.yml");
    let config = format!(
        "global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\nscrape_configs:\n\
         - job_name: nodemanager\n  static_configs:\n  - targets: ['127.0.0.1:{port}']\n"
    );
    std::fs::write(&file, config).unwrap();
    let log = std::fs::File::create(pair.home.join("prometheus.log")).unwrap();
    let child = prometheus
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", pair.home.join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{own}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let _child = Ended(child.unwrap());
    let up = query(own, "nodemanager_server_up%7Bserver=%22web%22%7D", "1");
    assert_eq!(up["metric"]["program"], "web");
    assert!(up["metric"].get("exported_instance").is_none(), "{up}");
    take_over(&pair);
    query(own, "nodemanager_takeovers_total", "1");
    query(own, "nodemanager_takeover_duration_seconds_count", "1");
}

/// The one series of an instant query, once it has that value.
fn query(port: u16, query: &str, value: &str) -> Value {
    let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
    wait_for(&format!("{query} to be {value}"), || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let (_, body) = split(&exchange(&mut stream, request.as_bytes()));
        let answer: Value = serde_json::from_str(&body).ok()?;
        let series = answer["data"]["result"].get(0)?.clone();
        (series["value"][1] == value).then_some(series)
    })
}

/// Names of metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_of_names = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_of_names(c))
        .filter(|word| word.starts_with("nodemanager_"))
        .map(str::to_owned)
        .collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn dashboard_and_document_name_metrics_that_exist_and_the_document_names_all() {
    let (_pair, port) = pair_with_metrics(LIVES);
    let there = named(&scrape(port));
    let dashboard: Value = serde_json::from_str(&read("conf/grafana/nodemanager.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = BTreeSet::new();
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let names = named(target["expr"].as_str().unwrap());
        assert!(!names.is_empty(), "{target}");
        asked.extend(names);
    }
    assert!(panels.len() >= 5 && asked.len() >= 5, "{asked:?}");
    let unknown: Vec<&String> = asked.difference(&there).collect();
    assert!(unknown.is_empty(), "the dashboard asks for {unknown:?}");
    let document = named(&read("docs/METRICS.md"));
    let unknown: Vec<&String> = document.difference(&there).collect();
    assert!(unknown.is_empty(), "the document names {unknown:?}");
    let text = scrape(port);
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(document.contains(name), "docs/METRICS.md lacks {name}");
    }
}
