//! The control socket: any bytes are a request or are refused, and the answer is read by a client.

use nodemanager::api::{self, is_request_id};
use nodemanager::cli::client::parse_answer;
use nodemanager::http::{BODY_MAX, Connection, HEAD_MAX, JSON, Request};
use nodemanager::names;
use nodemanager::shell::requests::{parse_ask, parse_shutdown};

pub const WORDS: &[&str] = &[
    "GET ",
    "POST ",
    " HTTP/1.1\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    "Content-Length: ",
    "content-length:",
    "Transfer-Encoding: chunked\r\n",
    "/v1/status?name=",
    "tag:data",
    "/v1/servers/",
    "%2a",
    "+",
    "&name=",
    "*",
    "[",
    "0",
    "65536",
    "65537",
    "18446744073709551616",
    "-1",
    "{\"id\":\"a\",\"names\":[\"all\"]}",
    "\"goal\":\"up\"",
    "\"signal\":\"SIGHUP\"",
    "\"wait\":false",
    ",",
    "}",
    "\0",
];

type Outcome = Result<Option<Request>, u16>;

/// What a connection makes of these bytes, in pieces of so many.
fn received(data: &[u8], piece: usize) -> (Outcome, Connection) {
    let mut connection = Connection::default();
    for part in data.chunks(piece) {
        match connection.receive(part) {
            Ok(None) => {}
            Ok(request) => return (Ok(request), connection),
            Err(refusal) => {
                assert!((400..600).contains(&refusal.status) && !refusal.text.is_empty());
                return (Err(refusal.status), connection);
            }
        }
    }
    (Ok(None), connection)
}

pub fn run(data: &[u8]) {
    let (whole, mut connection) = received(data, data.len().max(1));
    for piece in [1, 7, 1 + data.len() / 2] {
        let (parts, _) = received(data, piece);
        // A line that is refused as soon as it is seen may have come before one that is too much.
        let is_same = parts == whole || (parts.is_err() && whole.is_err());
        assert!(is_same, "in pieces of {piece}: {parts:?}, not {whole:?}");
    }
    assert_eq!(connection.is_asked(), !matches!(whole, Ok(None)));
    match whole {
        Ok(None) => assert!(data.len() < HEAD_MAX + BODY_MAX),
        Ok(Some(request)) => is_as_sent(data, &request),
        Err(_) => {}
    }
    if connection.is_asked() {
        assert_eq!(connection.receive(data), Ok(None), "one request a connection");
    }
    answer(&mut connection, data);
}

/// Method, path, query and body stand in what was sent, and where they belong.
fn is_as_sent(data: &[u8], request: &Request) {
    let end = blank_line(data).expect("a head ends with an empty line");
    assert!(end <= HEAD_MAX && request.body.len() <= BODY_MAX);
    assert_eq!(data.get(end..end + request.body.len()), Some(request.body.as_slice()));
    let head = String::from_utf8_lossy(&data[..end]).to_ascii_lowercase();
    let announced = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let announced = announced.map_or(0, |text| text.trim().parse().expect("a checked number"));
    assert_eq!(request.body.len(), announced);
    assert!(!head.contains("\ntransfer-encoding:"), "a body of another kind is taken");
    let target = match request.query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    };
    let line = format!("{} {target}", request.method);
    let start = data.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(0);
    assert!(data[start..].starts_with(line.as_bytes()), "{line:?}");
    assert!(request.path.starts_with('/') && !request.path.contains('?'));
    let wanted = request.query_values("name");
    let tags = ["data".to_owned()];
    let known = ["web@1", "web@2", "db"].map(names::Known::by_name);
    let known = known.map(|server| names::Known { tags: &tags, ..server });
    if let Ok(chosen) = names::select(&wanted, &known) {
        assert!(chosen.is_sorted() && chosen.iter().all(|at| *at < known.len()));
    }
    bodies(request);
}

/// Where the first empty line behind some text ends.
fn blank_line(data: &[u8]) -> Option<usize> {
    let start = data.iter().position(|byte| !b"\r\n".contains(byte))?;
    let ends = |at: &usize| {
        let rest = &data[*at..];
        rest.starts_with(b"\n\n") || rest.starts_with(b"\n\r\n")
    };
    let at = (start..data.len()).find(ends)?;
    Some(at + if data[at + 1] == b'\n' { 2 } else { 3 })
}

fn bodies(request: &Request) {
    for verb in ["start", "stop", "signal", "wait", "kill", "reset", "restart", "no"] {
        match parse_ask(verb, &request.body) {
            Ok((ask, _)) => {
                assert!(is_request_id(&ask.id) && verb != "no");
                assert!(verb != "wait" || ask.goal.is_some());
                super::comes_back(&ask);
            }
            Err((status, exit, text)) => {
                assert!([400, 404].contains(&status) && exit == 64 && !text.is_empty());
            }
        }
    }
    if let Ok(ask) = parse_shutdown(&request.body) {
        assert!(is_request_id(&ask.id));
        super::comes_back(&ask);
    }
}

/// Whatever is answered, a client that reads it in pieces gets the same.
fn answer(connection: &mut Connection, data: &[u8]) {
    let body = &data[..data.len().min(300)];
    let status = [200, 404, 503, 999][data.len() % 4];
    connection.respond(status, JSON, body);
    connection.respond(500, JSON, b"too late");
    let mut sent = Vec::new();
    while !connection.is_done() {
        assert_eq!(parse_answer(&sent), Ok(None), "an answer before it is whole");
        let piece = connection.pending().len().min(1 + data.len() % 50 + body.len() / 4);
        sent.extend_from_slice(&connection.pending()[..piece]);
        connection.advance(piece);
    }
    assert!(connection.pending().is_empty());
    let read = parse_answer(&sent).expect("an answer").expect("a whole answer");
    assert_eq!((read.status, read.body.as_slice()), (status, body));
}

pub fn seeds() -> Vec<Vec<u8>> {
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    let ask = api::Ask {
        id: "0af-9".to_string(),
        names: vec!["web*".to_string(), "db".to_string()],
        wait: true,
        signal: Some("SIGHUP".to_string()),
        goal: Some(api::Goal::Ready),
        dependants: Some(api::Dependants::Too),
    };
    let shutdown =
        api::ShutdownAsk { id: "1".to_string(), stop_servers: true, force: false, wait: true };
    let json = |ask: &dyn Fn() -> serde_json::Result<String>| ask().expect("JSON");
    vec![
        b"GET /v1/status?name=web%40*&name=db HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        post("/v1/servers/signal", &json(&|| serde_json::to_string(&ask))),
        post("/v1/shutdown", &json(&|| serde_json::to_string(&shutdown))),
        b"POST / HTTP/1.1\nContent-Length: 3\ncontent-length: 3\n\nabc".to_vec(),
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
    ]
}
