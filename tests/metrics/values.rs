//! The values, health and readiness, and the control socket.

use crate::*;
use std::os::unix::net::UnixStream;

#[test]
fn the_values_are_those_of_the_servers() {
    let servers = format!(
        "{LIVES}[[server]]\nname = \"job\"\ninstances = 1\nautoStart = false\nsettleTime = \"0s\"\n\
         restart = {{ when = \"never\" }}\n\
         command = [\"/bin/sh\", \"-c\", \"echo 12345; read x; exit 3\"]\n"
    );
    let (pair, port) = pair_with_metrics(&servers);
    let text = scrape(port);
    let web = "{server=\"web\",program=\"web\"";
    let job = "{server=\"job@1\",program=\"job\",instance_number=\"1\"";
    let expected = [
        (format!("nodemanager_server_up{web}}}"), 1.0),
        (format!("nodemanager_server_up{job}}}"), 0.0),
        (format!("nodemanager_server_wanted{job}}}"), 0.0),
        (format!("nodemanager_server_state{web},state=\"RUNNING\"}}"), 1.0),
        (format!("nodemanager_server_state{job},state=\"STOPPED\"}}"), 1.0),
        (format!("nodemanager_server_restarts_total{web}}}"), 0.0),
        (format!("nodemanager_server_exits_total{web},kind=\"signal\"}}"), 0.0),
        ("nodemanager_pair_ok".to_owned(), 1.0),
        ("nodemanager_takeovers_total".to_owned(), 0.0),
        ("nodemanager_maintenance".to_owned(), 0.0),
        ("nodemanager_takeover_duration_seconds_count".to_owned(), 0.0),
    ];
    for (series, wanted) in expected {
        assert_eq!(value(&text, &series), Some(wanted), "{series} in\n{text}");
    }
    assert!(value(&text, &format!("nodemanager_server_resident_memory_bytes{web}}}")) > Some(1e4));
    assert!(value(&text, &format!("nodemanager_server_cpu_seconds_total{web}}}")) < Some(10.0));
    assert!(value(&text, "nodemanager_heartbeat_age_seconds") < Some(60.0));
    let version = format!("nodemanager_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&text, &version), Some(1.0));
    for count in [1.0, 2.0] {
        signal(pair.pids()["web"], SIGKILL);
        let signals = format!("nodemanager_server_exits_total{web},kind=\"signal\"}}");
        wait_value(port, &signals, |value| value == count);
        wait_value(port, &format!("nodemanager_server_restarts_total{web}}}"), |v| v == count);
        wait_value(port, &format!("nodemanager_server_up{web}}}"), |value| value == 1.0);
    }
    pair.run(&["start", "job"]);
    let exits = format!("nodemanager_server_exits_total{job},kind=\"code\"}}");
    wait_value(port, &exits, |value| value == 1.0);
    wait_value(port, &format!("nodemanager_server_output_bytes_total{job}}}"), |v| v == 6.0);
    pair.ok(&["maintenance", "on"]);
    wait_value(port, "nodemanager_maintenance", |value| value == 1.0);
}

#[test]
fn ready_is_who_has_all_wanted_servers_up_and_health_is_that_somebody_serves() {
    let servers = format!(
        "{LIVES}[[server]]\nname = \"bad\"\ncommand = [\"/bin/false\"]\nautoStart = false\n\
         settleTime = \"0s\"\nrestart = {{ tries = 1, delay = \"0s\", then = \"fail\" }}\n"
    );
    let (pair, port) = pair_with_metrics(&servers);
    assert_eq!(ask(port, "GET /readyz"), (200, "ok\n".to_owned()));
    pair.run(&["start", "bad"]);
    wait_until("503 with the name", || {
        ask(port, "GET /readyz") == (503, "not ready\nbad FAILED\n".to_owned())
    });
    assert_eq!(ask(port, "GET /healthz"), (200, "ok\n".to_owned()));
    pair.ok(&["stop", "bad"]);
    wait_until("200 again", || ask(port, "GET /readyz").0 == 200);
}

#[test]
fn nothing_but_three_pages_is_there_and_nobody_can_write() {
    let (pair, port) = pair_with_metrics(LIVES);
    for path in ["/", "/v1/status", "/v1/servers/stop", "/metrics/", "/metricsx", "//metrics"] {
        assert_eq!(ask(port, &format!("GET {path}")).0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        assert_eq!(ask(port, &format!("{method} /metrics")).0, 405, "{method}");
        assert_eq!(ask(port, &format!("{method} /v1/shutdown")).0, 404, "{method}");
    }
    assert_eq!(ask(port, "GET /metrics?x=y").0, 200);
    assert_eq!(pair.status()["pair"], "ok");
}

#[test]
fn the_control_socket_tells_metrics_also_where_no_address_is_configured() {
    let pair = Pair::new("", LIVES);
    pair.start();
    let mut stream = UnixStream::connect(pair.home.join("run/control.sock")).unwrap();
    stream.write_all(b"GET /v1/metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("Content-Type: text/plain; version=0.0.4"), "{answer}");
    let (status, text) = split(&answer);
    assert_eq!(status, 200);
    assert_eq!(value(&text, "nodemanager_server_up{server=\"web\",program=\"web\"}"), Some(1.0));
}

#[test]
fn a_port_that_is_taken_fails_the_start_with_who_has_it() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let pair = Pair::new("", &format!("{}{LIVES}", metrics_at(port)));
    let output = pair.run(&["run", "--detach"]);
    let said = both(&output);
    let wanted = format!(
        "cannot bind listen of [metrics], 127.0.0.1:{port}: in use by PID {}",
        std::process::id()
    );
    assert!(said.contains(&wanted) && said.contains("nodemanager.toml:"), "{said}");
    assert_eq!(output.status.code(), Some(78), "{said}");
}
