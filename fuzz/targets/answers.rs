//! What a command reads from the control socket, where anybody may have answered.

use nodemanager::api::{Answer, ErrorAnswer, ShutdownAnswer, Status};
use nodemanager::cli::client::parse_answer;
use nodemanager::cli::printable;

pub const WORDS: &[&str] = &[
    "HTTP/1.1 ",
    "200 OK\r\n",
    "\r\n",
    "\r\n\r\n",
    "Content-Length: ",
    "content-length: 0\r\n",
    "67108864",
    "67108865",
    "18446744073709551616",
    "-1",
    "+1",
    "{\"exit\":75,\"error\":\"e\"}",
    "\"servers\":[",
    "null",
    "{}",
    "\"state\":\"RUNNING\"",
    "\u{1b}[31m",
    "\0",
];

pub fn run(data: &[u8]) {
    let whole = parse_answer(data);
    let Ok(Some(response)) = &whole else {
        // What is not whole yet may be so later, and then still is what it is now.
        let longer = parse_answer(&[data, b"x"].concat());
        assert!(whole.is_ok() || longer.is_err(), "{whole:?} becomes {longer:?}");
        return;
    };
    let body = &response.body;
    assert!(data.len() >= body.len());
    let longer = parse_answer(&[data, b"more"].concat());
    assert_eq!(longer.as_ref(), Ok(&Some(response.clone())), "what follows changes nothing");
    for end in [0, data.len() / 2, data.len() - 1, data.len() - body.len().min(data.len())] {
        match parse_answer(&data[..end]) {
            Ok(None) => {}
            Ok(Some(part)) => assert_eq!(&part, response, "a part is another answer"),
            Err(error) => panic!("a part is refused: {error}"),
        }
    }
    bodies(body);
}

fn bodies(body: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<Answer>(body) {
        super::comes_back(&answer);
    }
    if let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(body) {
        super::comes_back(&answer);
        assert!(!printable(&answer.error).contains('\u{1b}'), "an escape reaches the terminal");
    }
    if let Ok(answer) = serde_json::from_slice::<ShutdownAnswer>(body) {
        super::comes_back(&answer);
    }
    if let Ok(status) = serde_json::from_slice::<Status>(body) {
        super::comes_back(&status);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let whole = |status: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    let results = "{\"exit\":0,\"results\":[{\"name\":\"web\",\"ok\":true,\"exit\":0,\"text\":\"RUNNING, PID 7\"}]}";
    let status = "{\"schema\":1,\"node\":\"n\",\"version\":\"0\",\"pair\":\"down\",\"since\":null,\"takeovers\":2,\
         \"switchovers\":0,\"lastTakeover\":null,\"maintenance\":false,\"active\":null,\"standby\":null,\
         \"keeper\":{\"pid\":1},\"servers\":[]}";
    vec![
        whole("200 OK", results),
        whole("503 Service Unavailable", "{\"exit\":75,\"error\":\"\u{1b}[2Jlater\"}"),
        whole("200 OK", "{\"left\":[{\"name\":\"a\",\"pid\":7}],\"mover\":null}"),
        whole("200 ", status),
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
    ]
}
