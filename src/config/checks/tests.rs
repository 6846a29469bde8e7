//! The `ready` and `health` tables: what they mean, and what is wrong with them.

use super::super::tests::{errors_of, parsed};
use super::*;

fn server(lines: &str) -> super::super::ServerConfig {
    let text = format!("[[server]]\nname = \"web\"\ncommand = \"/bin/web\"\n{lines}");
    parsed(&text).unwrap_or_else(|errors| panic!("{errors}")).servers.remove(0)
}

/// The errors of these lines, which begin in line 4.
fn errors(lines: &str) -> String {
    errors_of(&format!("[[server]]\nname = \"web\"\ncommand = \"/bin/web\"\n{lines}"))
}

#[test]
fn each_kind_of_readiness_is_read() {
    let ready = |text: &str| server(&format!("ready = {text}")).ready.as_ref().unwrap().clone();
    assert_eq!(ready("\"notify\""), Readiness::Notify);
    assert_eq!(ready("{ notify = true }"), Readiness::Notify);
    assert_eq!(ready("{ fd = 3 }"), Readiness::Fd(3));
    assert_eq!(ready("{ log = \"^ready\" }"), Readiness::Log("^ready".to_owned()));
    assert_eq!(ready("{ delay = \"5s\" }"), Readiness::Delay(5_000));
    let probe = Probe::Exec(vec!["/srv/nm/bin/idle".to_owned(), "-q".to_owned()]);
    let expected = Readiness::Asked { probe, interval_ms: 250, timeout_ms: 2_000 };
    assert_eq!(ready("{ exec = \"bin/idle -q\", interval = \"250ms\" }"), expected);
    assert_eq!(server("").ready, None);
}

#[test]
fn an_http_check_takes_any_success_unless_it_says_otherwise() {
    let http = |text: &str| match (*server(&format!("ready = {{ {text} }}")).ready).clone() {
        Some(Readiness::Asked { probe: Probe::Http(http), .. }) => http,
        other => panic!("{other:?}"),
    };
    let plain = http("http = \"http://127.0.0.1:8080/ready?deep=1\"");
    assert_eq!(plain.target, Target::Tcp("127.0.0.1:8080".parse().unwrap()));
    assert_eq!((plain.host.as_str(), plain.path.as_str()), ("127.0.0.1:8080", "/ready?deep=1"));
    assert!(
        plain.status.contains(&200) && plain.status.contains(&204) && plain.status.len() == 100
    );
    let strict = http("http = \"http://localhost\", status = [200], body = \"ok\"");
    assert_eq!(strict.target, Target::Tcp("127.0.0.1:80".parse().unwrap()));
    assert_eq!(
        (strict.path.as_str(), strict.status, strict.body),
        ("/", vec![200], Some("ok".into()))
    );
    let unix = http("http = \"http://unix:run/app.sock:/alive\"");
    assert_eq!(unix.target, Target::Unix("/srv/nm/run/app.sock".into()));
    assert_eq!(unix.path, "/alive");
}

#[test]
fn each_kind_of_health_check_is_read_with_its_times() {
    let health = server(
        "health = [{ tcp = \"[::1]:80\", failures = 1 }, { rss = \"900MiB\", for = \"1m\" }, \
         { watchdog = \"30s\" }]",
    )
    .health
    .clone();
    let target = Target::Tcp("[::1]:80".parse().unwrap());
    let asked = |probe, failures, for_ms| HealthCheck::Asked {
        probe,
        interval_ms: 10_000,
        timeout_ms: 3_000,
        failures,
        for_ms,
    };
    let expected = [
        asked(Probe::Tcp(target), 1, 0),
        asked(Probe::Rss(900 << 20), 1, 60_000),
        HealthCheck::Watchdog { timeout_ms: 30_000 },
    ];
    assert_eq!(*health, expected);
    assert_eq!(server("health = { tcp = \"localhost:80\" }").health.len(), 1, "one table will do");
}

#[test]
fn what_is_wrong_with_a_check_is_said_with_its_line_and_what_is_right() {
    for (lines, expected) in [
        (
            "ready = { }",
            "ready of [[server]] web says nothing of what is asked: it has one of notify",
        ),
        (
            "ready = { tcp = \"h:1\", log = \"x\" }",
            ":4: ready.tcp of [[server]] web and log are in one check",
        ),
        ("ready = { tcp = \"db.example.org:5432\" }", "names are not looked up"),
        ("ready = { tcp = \"127.0.0.1\" }", "has no port: write 127.0.0.1:PORT"),
        ("ready = { http = \"https://127.0.0.1/\" }", "curl"),
        ("ready = { http = \"127.0.0.1/\" }", "must begin with http://"),
        ("ready = { log = \"(\" }", "is no regular expression"),
        ("ready = { fd = 2 }", "must be a descriptor from 3 to 255, not the number 2"),
        ("ready = { notify = false }", "leave ready out"),
        ("ready = { tcp = \"127.0.0.1:1\", status = [200] }", "is for http, and this check is tcp"),
        ("ready = { delai = \"1s\" }", "did you mean \"delay\"?"),
        ("ready = { log = \"x\" }\noutput = { to = \"null\" }", "can't be log: only with"),
        ("ready = \"yes\"", "ready of [[server]] web must be a table, not \"yes\""),
        ("health = [{ tcp = \"127.0.0.1:1\" },\n 7]", "must hold tables, not the number 7"),
        ("health = [{ http = \"http://127.0.0.1/\", status = [99] }]", "such as [200, 204]"),
        ("health = [{ watchdog = \"1ms\" }]", "must be at least \"100ms\""),
        (
            "health = [{ exec = \"\" }]",
            "health.exec of [[server]] web is empty: it needs a program",
        ),
        ("[[server.health]]\ntcp = \"127.0.0.1:1\"\ninterval = 5", ":6: health.interval of"),
    ] {
        let errors = errors(lines);
        assert!(errors.contains(expected), "{lines}\n{errors}");
    }
}
