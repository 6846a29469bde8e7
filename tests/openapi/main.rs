//! docs/openapi.json and the server say the same: every route is in the file, and what a real pair answers, to good
//! requests and to bad ones, has a status and a body that the file describes.
//!
//! Must not judge what an answer means: other tests do.

#[path = "../support/mod.rs"]
mod support;

mod schema;

use nodemanager::api::routes;
use schema::Schemas;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use support::*;

/// Properties that need what not every machine has (a cgroup with a memory controller), what lasts
/// too short a time to be asked for, or what only the commands say.
const UNSEEN: [&str; 3] = ["Server.oomKills", "Standby.reason", "ApplyAnswer.refused"];

fn file() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let text = std::fs::read_to_string(path).expect("docs/openapi.json");
    serde_json::from_str(&text).expect("docs/openapi.json is JSON")
}

#[test]
fn every_route_of_the_server_is_in_the_file_and_no_other() {
    let control = routes::CONTROL.iter().map(|entry| (entry.path, entry.method));
    let metrics = routes::METRICS.iter().map(|entry| (entry.path, entry.method));
    let known: BTreeSet<(String, String)> =
        control.chain(metrics).map(|(path, method)| (path.into(), method.into())).collect();
    let file = file();
    let mut written = BTreeSet::new();
    for (path, item) in file["paths"].as_object().expect("paths") {
        let methods = item.as_object().expect("methods").keys();
        let methods = methods.filter(|key| !["servers", "description"].contains(&key.as_str()));
        written.extend(methods.map(|method| (path.clone(), method.to_uppercase())));
        let is_metrics = routes::METRICS.iter().any(|entry| entry.path == path);
        assert_eq!(item.get("servers").is_some(), is_metrics, "{path} is answered elsewhere");
    }
    assert_eq!(written, known);
}

/// A pair, what the file says, and how often each path was answered with each status.
struct Tried {
    pair: Pair,
    metrics: u16,
    schemas: Schemas,
    statuses: BTreeSet<(String, u16)>,
    next: u32,
}

impl Tried {
    /// Sends a request as it is; its answer must be one that the file has for `path` and `method`.
    fn send(&mut self, path: &str, method: &str, request: &str) -> (u16, Value) {
        // A connection that its active took in is closed without an answer when that active ends; then
        // the same request, with the same id, is asked again.
        let answer = wait_for("an answer", || {
            Some(self.exchange(path, request)).filter(|answer| !answer.is_empty())
        });
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let header = |line: &str| line.strip_prefix("Content-Type: ").map(str::to_owned);
        let content_type = head.lines().find_map(header).unwrap_or_default();
        let operation = self.schemas.file["paths"][path][method].clone();
        let documented = &operation["responses"][status.to_string()];
        assert!(
            documented.is_object(),
            "{path}: {status} is not in the file; asked\n{request:.300}\n{answer:.900}"
        );
        let content = self.schemas.resolve(documented)["content"].clone();
        let media = content.get(&content_type);
        let media =
            media.unwrap_or_else(|| panic!("{path} {status}: {content_type} is not in {content}"));
        let value = match content_type.as_str() {
            "application/json" => serde_json::from_str(body).expect("JSON"),
            _ => Value::String(body.to_owned()),
        };
        let wrong = self.schemas.wrong(&media["schema"], &value);
        assert!(wrong.is_empty(), "{path} {status}:\n{}\n{body:.2000}", wrong.join("\n"));
        self.statuses.insert((path.to_owned(), status));
        (status, value)
    }

    fn exchange(&self, path: &str, request: &str) -> String {
        if routes::METRICS.iter().any(|entry| entry.path == path) {
            exchange(TcpStream::connect(("127.0.0.1", self.metrics)).expect("metrics"), request)
        } else {
            let socket = self.pair.home.join("run/control.sock");
            exchange(UnixStream::connect(socket).expect("the control socket"), request)
        }
    }

    fn get(&mut self, path: &str, query: &str) -> (u16, Value) {
        self.send(path, "get", &format!("GET {path}{query} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    fn post_text(&mut self, path: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        self.send(path, "post", &(head + body))
    }

    /// A request with an id of its own. Its body must be one that the file allows.
    fn post(&mut self, path: &str, mut body: Value) -> (u16, Value) {
        self.next += 1;
        body["id"] = json!(format!("id-{}", self.next));
        let operation = &self.schemas.file["paths"][path]["post"];
        let schema = operation["requestBody"]["content"]["application/json"]["schema"].clone();
        let wrong = self.schemas.wrong(&schema, &body);
        assert!(wrong.is_empty(), "{path}: {}", wrong.join("\n"));
        self.post_text(path, &body.to_string())
    }

    fn act(&mut self, verb: &str, body: Value) -> (u16, Value) {
        self.post(&format!("/v1/servers/{verb}"), body)
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    let mut answer = Vec::new();
    // A server that has read enough may close before all was written.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn server(name: &str, script: &str, more: &str) -> String {
    format!("[[server]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\n{more}\n")
}

/// Servers in all the states that last, with all that a status can say of them.
fn servers(metrics: u16, socket: u16) -> String {
    let lives = "echo hello; exec sleep 600";
    let quick = "settleTime = \"0s\"";
    let told = example("test_server");
    let told = told.display();
    [
        format!("[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n"),
        server("web", lives, "instances = 2\ntags = [\"shop\"]\nsettleTime = \"0s\"\nreload = { signal = \"SIGCONT\" }"),
        server("needed", lives, quick),
        server("needs", lives, "dependsOn = [\"needed\"]\nsettleTime = \"0s\""),
        server("failed", "echo no; exit 3", "restart = { tries = 1, delay = \"1ms\", then = \"fail\" }"),
        server("backoff", "exit 4", "restart = { delay = \"10m\", delayMax = \"10m\" }"),
        server("killed", "kill -9 $$$$", "restart = { delay = \"10m\", delayMax = \"10m\" }"),
        server("stopped", lives, "autoStart = false\nsettleTime = \"0s\""),
        server("exited", "exit 0", "type = \"oneshot\""),
        server("waits", lives, "dependsOn = [\"failed\"]"),
        server("unready", lives, "ready = { tcp = \"127.0.0.1:1\" }\nstartTimeout = \"10m\""),
        server("healthy", lives, "settleTime = \"0s\"\nhealth = [{ exec = [\"true\"], interval = \"100ms\" }, { exec = [\"false\"], interval = \"100ms\", failures = 1000 }]"),
        server("drained", lives, "settleTime = \"0s\"\ndrain = { command = [\"true\"], check = [\"false\"], interval = \"50ms\", timeout = \"10m\" }"),
        server("listens", lives, &format!("settleTime = \"0s\"\nsocket = [{{ listen = \"tcp:127.0.0.1:{socket}\" }}]")),
        format!("[[server]]\nname = \"notifies\"\ncommand = [\"{told}\", \"--notify\", \"READY=1;STATUS=at work\"]\nready = {{ notify = true }}\n"),
    ]
    .concat()
}

fn start() -> Tried {
    let (metrics, socket) = (free_port(), free_port());
    let pair = Pair::new("", &servers(metrics, socket));
    // It returns with 1: a server has failed, as it is meant to.
    let _ = pair.run(&["run", "--detach", "--no-wait"]);
    pair.wait_whole();
    for (name, state) in [
        ("web@1", "RUNNING"),
        ("needs", "RUNNING"),
        ("failed", "FAILED"),
        ("backoff", "BACKOFF"),
        ("killed", "BACKOFF"),
        ("stopped", "STOPPED"),
        ("exited", "EXITED"),
        ("waits", "WAITING"),
        ("unready", "STARTING"),
        ("healthy", "RUNNING"),
        ("drained", "RUNNING"),
        ("listens", "RUNNING"),
        ("notifies", "RUNNING"),
    ] {
        pair.wait_state(name, state);
    }
    let schemas = Schemas::new(file());
    Tried { pair, metrics, schemas, statuses: BTreeSet::new(), next: 0 }
}

#[test]
fn what_a_pair_answers_is_as_the_file_says() {
    let mut tried = start();
    questions(&mut tried);
    about_servers(&mut tried);
    about_the_pair(&mut tried);
    bad_requests(&mut tried);
    until_the_end(&mut tried);

    for (path, item) in tried.schemas.file["paths"].as_object().expect("paths") {
        assert!(
            tried.statuses.contains(&(path.clone(), 200)),
            "{path} was never answered with 200"
        );
        for status in item["post"]["responses"].as_object().into_iter().flat_map(|all| all.keys()) {
            let number = status.parse().expect("a status");
            // These need a machine on which something is broken.
            let is_rare = number == 500 || (number == 409 && path == "/v1/upgrade");
            let is_tried = tried.statuses.contains(&(path.clone(), number));
            assert!(is_tried || is_rare, "{path} was never answered with {status}");
        }
    }
    for name in ["Status", "Server", "LastExit", "Check", "Standby", "Event", "ApplyAnswer"] {
        let schema = tried.schemas.file["components"]["schemas"][name].clone();
        for key in schema["properties"].as_object().expect("properties").keys() {
            let key = format!("{name}.{key}");
            let is_seen = tried.schemas.seen.contains_key(&key) || UNSEEN.contains(&key.as_str());
            assert!(is_seen, "no answer had {key}");
        }
    }
}

fn questions(tried: &mut Tried) {
    tried.get("/v1/ping", "");
    tried.get("/v1/status", "");
    tried.get("/v1/status", "?name=web&name=nobody&name=failed");
    let (_, events) = tried.get("/v1/events", "");
    assert!(events["events"].as_array().is_some_and(|events| events.len() > 5), "{events}");
    tried.get("/v1/events", "?since=3");
    assert_eq!(tried.get("/v1/events", "?since=x").0, 400);
    tried.get("/v1/metrics", "");
    tried.get("/metrics", "");
    tried.get("/healthz", "");
    assert_eq!(tried.get("/readyz", "").0, 503);
    // A takeover, for what is told of it.
    let old = tried.pair.pid_of("active");
    signal(old, SIGKILL);
    wait_until("a takeover", || tried.pair.twin("active").is_some_and(|pid| pid != old));
    tried.pair.wait_whole();
    let again = |tried: &mut Tried| tried.get("/v1/status", "?name=all").1;
    wait_until("each check to have an answer again", || {
        let status = again(tried);
        let checks = status["servers"].as_array().into_iter().flatten();
        let checks = checks.flat_map(|one| one["checks"].as_array().cloned().unwrap_or_default());
        checks.into_iter().all(|check| !check["at"].is_null() || check["kind"] == "ready")
    });
}

fn about_servers(tried: &mut Tried) {
    let web = json!({"names": ["web@1"]});
    for verb in ["start", "restart", "reload", "reset", "enable", "kill", "start"] {
        let (status, answer) = tried.act(verb, web.clone());
        assert_eq!((status, &answer["exit"]), (200, &json!(0)), "{verb}: {answer}");
    }
    tried.act("signal", json!({"names": ["web@1"], "signal": "SIGCONT"}));
    for goal in ["up", "ready"] {
        tried.act("wait", json!({"names": ["tag:shop"], "goal": goal}));
    }
    tried.act("wait", json!({"names": ["stopped"], "goal": "down"}));
    // What fails is 200 with an exit status; what others need is refused, or taken too.
    let (_, answer) = tried.act("start", json!({"names": ["failed", "web@2"]}));
    assert_eq!(answer["exit"], 1, "{answer}");
    let (_, answer) = tried.act("stop", json!({"names": ["needed"]}));
    assert_eq!(answer["exit"], 1, "{answer}");
    tried.act("stop", json!({"names": ["needed"], "dependants": "too"}));
    tried.act("restart", json!({"names": ["needed"], "dependants": "leave"}));
    tried.act("drain", json!({"names": ["drained"], "wait": false}));
    tried.pair.wait_state("drained", "DRAINING");
    tried.get("/v1/status", "");
    tried.act("disable", json!({"names": ["stopped"]}));
    tried.get("/v1/status", "");
    tried.act("enable", json!({"names": ["stopped"]}));
    tried.act("stop", json!({"names": ["all"]}));
    assert_eq!(tried.get("/readyz", "").0, 200);
}

fn about_the_pair(tried: &mut Tried) {
    for on in [true, false] {
        tried.post("/v1/maintenance", json!({"on": on}));
    }
    let (_, answer) = tried.post("/v1/switchover", json!({}));
    assert_eq!(answer["exit"], 0, "{answer}");
    tried.get("/v1/status", "");
    let (_, answer) = tried.post("/v1/upgrade", json!({}));
    assert_eq!(answer["exit"], 0, "{answer}");

    let more = server("more", "exec sleep 600", "") + &servers(tried.metrics, free_port());
    tried.pair.configure("logLevel = \"debug\"", &more.replace("echo hello", "echo hallo"));
    let (_, shown) = tried.post("/v1/apply", json!({"onlyShow": true}));
    assert!(shown["servers"].as_array().is_some_and(|all| all.len() > 2), "{shown}");
    assert_eq!(shown["node"], json!(["logLevel"]));
    let (_, begun) = tried.post("/v1/apply", json!({}));
    // As long as it is on its way nothing else is.
    for path in ["/v1/apply", "/v1/switchover", "/v1/upgrade"] {
        assert_eq!(tried.post(path, json!({})).0, 503, "{path}");
    }
    wait_until("the new configuration", || {
        let status = tried.get("/v1/status", "").1;
        status["configGeneration"] == begun["generation"] && status["pair"] == "ok"
    });
    tried.pair.configure("heartbeatInterval = 3", "");
    assert_eq!(tried.post("/v1/apply", json!({})).0, 400);
}

/// What every path answers to what is no request of it.
fn bad_requests(tried: &mut Tried) {
    let paths = tried.schemas.file["paths"].as_object().expect("paths").clone();
    for (path, item) in paths {
        let method = if item.get("get").is_some() { "get" } else { "post" };
        let other = if method == "get" { "POST" } else { "GET" };
        let upper = method.to_uppercase();
        let long = "x".repeat(20_000);
        for (status, request) in [
            (400, format!("{upper} {path} garbage\r\n\r\n")),
            (400, format!("{upper} {path} HTTP/1.1\r\nContent-Length: x\r\n\r\n")),
            (405, format!("{other} {path} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}")),
            (405, format!("DELETE {path} HTTP/1.1\r\n\r\n")),
            (413, format!("{upper} {path} HTTP/1.1\r\nContent-Length: 70000\r\n\r\n")),
            (431, format!("{upper} {path} HTTP/1.1\r\nX: {long}\r\n\r\n")),
            (501, format!("{upper} {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")),
        ] {
            assert_eq!(tried.send(&path, method, &request).0, status, "{request:.80}");
        }
        if method == "post" {
            for body in [
                "",
                "[]",
                "{}",
                r#"{"id":"a b","names":["web"],"on":true}"#,
                r#"{"id":"a","names":["web"],"on":true,"more":1}"#,
            ] {
                assert_eq!(tried.post_text(&path, body).0, 400, "{path}: {body}");
            }
        }
        if path.starts_with("/v1/servers/") {
            let body = r#"{"id":"n1","names":["nobody"],"signal":"SIGHUP","goal":"up"}"#;
            assert_eq!(tried.post_text(&path, body).0, 404, "{path}");
        }
    }
    for request in ["GET /v1/nothing", "POST /v1/servers/nothing", "POST /", "DELETE /v2"] {
        let socket = tried.pair.home.join("run/control.sock");
        let stream = UnixStream::connect(socket).expect("the control socket");
        let answer = exchange(stream, &format!("{request} HTTP/1.1\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 404 "), "{request}: {answer}");
    }
}

/// A pair that ends: what it refuses meanwhile, and the answer to who asked.
fn until_the_end(tried: &mut Tried) {
    let deaf = server(
        "deaf",
        "trap '' TERM; echo up; while :; do sleep 1; done",
        "stop = { timeout = \"10m\" }\nsettleTime = \"0s\"",
    );
    tried
        .pair
        .configure("", &format!("[metrics]\nlisten = \"127.0.0.1:{}\"\n{deaf}", tried.metrics));
    tried.post("/v1/apply", json!({}));
    wait_until("a server that does not end", || tried.pair.output_of("deaf").contains("up"));
    tried.pair.wait_whole();
    tried.post("/v1/shutdown", json!({"stopServers": true, "wait": false}));
    wait_until("the pair to be ending", || tried.post("/v1/apply", json!({})).0 == 409);
    tried.post("/v1/upgrade", json!({}));
    tried.post("/v1/shutdown", json!({"stopServers": true, "force": true}));
}
