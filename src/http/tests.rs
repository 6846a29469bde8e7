//! What the exchange promises: whole requests in any pieces, limits, and no panic on any bytes.

use super::*;

const POST: &[u8] = b"POST /v1/servers/start?name=web%402&x=1&name=db HTTP/1.1\r\n\
    Host: localhost\r\nContent-Length: 5\r\n\r\nhello";

fn status_of(bytes: &[u8]) -> u16 {
    Connection::default().receive(bytes).unwrap_err().status
}

#[test]
fn a_request_is_the_same_whole_and_byte_by_byte() {
    let whole = Connection::default().receive(POST).unwrap().unwrap();
    assert_eq!((whole.method.as_str(), whole.path.as_str()), ("POST", "/v1/servers/start"));
    assert_eq!(whole.body, b"hello");
    let mut connection = Connection::default();
    let mut found = Vec::new();
    for byte in POST {
        found.extend(connection.receive(&[*byte]).unwrap());
    }
    assert_eq!(found, [whole]);
}

#[test]
fn the_query_is_decoded_by_key() {
    let request = Connection::default().receive(POST).unwrap().unwrap();
    assert_eq!(request.query_values("name"), ["web@2", "db"]);
    assert!(request.query_values("nothing").is_empty());
}

#[test]
fn an_answer_goes_out_in_pieces_and_only_the_first_counts() {
    let mut connection = Connection::default();
    assert!(connection.receive(POST).unwrap().is_some());
    assert!(connection.is_asked() && connection.pending().is_empty() && !connection.is_done());
    connection.respond(200, JSON, b"{}");
    connection.respond(500, JSON, b"late");
    let mut sent = Vec::new();
    while !connection.is_done() {
        let count = connection.pending().len().min(7);
        sent.extend_from_slice(&connection.pending()[..count]);
        connection.advance(count);
    }
    let text = String::from_utf8(sent).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("Content-Length: 2\r\n") && text.ends_with("\r\n\r\n{}"), "{text}");
    assert!(connection.pending().is_empty());
}

#[test]
fn a_refusal_is_an_error_answer_that_commands_can_read() {
    let mut connection = Connection::default();
    let refusal = connection.receive(b"GET nothing HTTP/1.1\r\n\r\n").unwrap_err();
    connection.refuse(&refusal);
    let text = String::from_utf8(connection.pending().to_vec()).unwrap();
    let body = text.split("\r\n\r\n").nth(1).unwrap();
    let error: crate::api::ErrorAnswer = serde_json::from_str(body).unwrap();
    assert_eq!((error.exit, error.error.as_str()), (64, "the path must start with /"));
}

#[test]
fn what_is_too_large_or_not_supported_is_refused_with_its_status() {
    assert_eq!(status_of(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 501);
    assert_eq!(status_of(b"POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n"), 413);
    let huge = b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n";
    assert_eq!(status_of(huge), 413);
    assert_eq!(status_of(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400);
    let twice = b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab";
    assert_eq!(status_of(twice), 400);
    assert_eq!(status_of(b"\x16\x03\x01\x02\x00"), 400);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
    assert_eq!(status_of(many.as_bytes()), 431);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(HEAD_MAX));
    assert_eq!(status_of(long.as_bytes()), 431);
}

#[test]
fn a_head_and_a_body_of_exactly_the_limit_are_taken() {
    let frame = "GET /?".len() + " HTTP/1.1\r\nContent-Length: 65536\r\n\r\n".len();
    let head = format!(
        "GET /?{} HTTP/1.1\r\nContent-Length: {BODY_MAX}\r\n\r\n",
        "a".repeat(HEAD_MAX - frame)
    );
    assert_eq!(head.len(), HEAD_MAX);
    let mut bytes = head.into_bytes();
    bytes.resize(HEAD_MAX + BODY_MAX, b'b');
    let request = Connection::default().receive(&bytes).unwrap().unwrap();
    assert_eq!(request.body.len(), BODY_MAX);
}

/// xorshift64*: the same numbers in every run, so that a failure can be seen again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }
}

fn held(connection: &Connection) -> usize {
    match &connection.stage {
        Stage::Reading { buffer } => buffer.len(),
        Stage::Asked => 0,
        Stage::Answering { out, .. } => out.len(),
    }
}

#[test]
fn no_bytes_make_it_panic_or_hold_more_than_its_limit() {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let mut whole_requests = 0;
    for round in 0..100_000 {
        let mut bytes = POST.to_vec();
        if round % 4 == 0 {
            bytes = (0..numbers.below(300)).map(|_| numbers.below(256) as u8).collect();
        }
        for _ in 0..numbers.below(4) {
            let at = numbers.below(bytes.len());
            match numbers.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, b"\r\n:0 \0\xff?"[numbers.below(8)]),
                2 => bytes.extend_from_within(at..),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
            }
        }
        let mut connection = Connection::default();
        for piece in bytes.chunks(1 + numbers.below(200)) {
            match connection.receive(piece) {
                Ok(Some(request)) => {
                    assert!(request.body.len() <= BODY_MAX && request.path.starts_with('/'));
                    whole_requests += 1;
                    connection.respond(200, JSON, &request.body);
                }
                Ok(None) => {}
                Err(refusal) => connection.refuse(&refusal),
            }
            assert!(held(&connection) <= HEAD_MAX + BODY_MAX + 1024);
        }
        connection.advance(numbers.below(1000));
    }
    assert!(whole_requests > 1000, "the inputs never got past the head: {whole_requests}");
}

#[test]
fn an_endless_request_is_held_only_up_to_the_limit() {
    let mut connection = Connection::default();
    let mut refused = 0;
    for _ in 0..200 {
        refused += usize::from(connection.receive(&[b'A'; 4096]).is_err());
        assert!(held(&connection) <= HEAD_MAX + BODY_MAX);
    }
    assert_eq!(refused, 1);
}
