//! One HTTP/1.1 exchange of the control socket as a value: bytes go in, a request comes out, the
//! answer's bytes come out.
//!
//! Must not do I/O, read a clock or know a path: the loop owns the socket and drops a client that
//! takes longer than [`CLIENT_TIMEOUT_MS`] to send its request or to take its answer. One request
//! a connection; every answer says `Connection: close`, so there is nothing to keep between two.

use std::mem;

/// The longest request line with all headers, in bytes.
pub const HEAD_MAX: usize = 16 * 1024;
/// The longest body of a request, in bytes.
pub const BODY_MAX: usize = 64 * 1024;
/// The most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// For the loop: how long a client may take to send its whole request, and, counted from the
/// answer, to take all of it.
pub const CLIENT_TIMEOUT_MS: u64 = 10_000;
/// The content type of everything but plain text.
pub const JSON: &str = "application/json";

/// A whole request. Nothing in it is checked beyond its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Starts with `/`; as it was sent, without the query.
    pub path: String,
    /// Behind the `?`, as it was sent; see [`Request::query_values`].
    pub query: String,
    pub body: Vec<u8>,
}

impl Request {
    /// The decoded values of `key` in the query, in their order.
    pub fn query_values(&self, key: &str) -> Vec<String> {
        let pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.filter(|(name, _)| name == key).map(|(_, value)| value.into_owned()).collect()
    }
}

/// Why a request was not taken. The loop answers with [`Connection::refuse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// For people.
    pub text: String,
}

impl Refusal {
    fn new(status: u16, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into() }
    }
}

#[derive(Debug)]
enum Stage {
    /// The request comes in.
    Reading { buffer: Vec<u8> },
    /// The request was handed out; the answer is owed.
    Asked,
    /// The answer goes out.
    Answering { out: Vec<u8>, sent: usize },
}

/// One connection, from its first byte to the last of its answer.
#[derive(Debug)]
pub struct Connection {
    stage: Stage,
}

impl Default for Connection {
    fn default() -> Self {
        Connection { stage: Stage::Reading { buffer: Vec::new() } }
    }
}

impl Connection {
    /// Takes bytes from the client; the request once it is whole. What follows a request, or
    /// comes after a refusal, is dropped: memory stays below `HEAD_MAX + BODY_MAX`.
    ///
    /// # Errors
    /// A request that is malformed, too large or not of the supported kind.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Request>, Refusal> {
        let Stage::Reading { buffer } = &mut self.stage else { return Ok(None) };
        let room = (HEAD_MAX + BODY_MAX).saturating_sub(buffer.len());
        buffer.extend(bytes.iter().take(room));
        let taken = take_request(buffer);
        if !matches!(taken, Ok(None)) {
            self.stage = Stage::Asked;
        }
        taken
    }

    /// Sets the answer. The first one counts; later ones are dropped. It may come before the
    /// request is whole.
    pub fn respond(&mut self, status: u16, content_type: &'static str, body: &[u8]) {
        if matches!(self.stage, Stage::Answering { .. }) {
            return;
        }
        let mut out = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            reason_phrase(status),
            body.len(),
        )
        .into_bytes();
        out.extend_from_slice(body);
        self.stage = Stage::Answering { out, sent: 0 };
    }

    /// Answers with an error in the form that the commands read (`api::ErrorAnswer`).
    pub fn refuse(&mut self, refusal: &Refusal) {
        let exit = if refusal.status < 500 { 64 } else { 1 };
        let body = serde_json::json!({ "exit": exit, "error": refusal.text });
        self.respond(refusal.status, JSON, body.to_string().as_bytes());
    }

    /// What is to be written next; empty when nothing is.
    pub fn pending(&self) -> &[u8] {
        match &self.stage {
            Stage::Answering { out, sent } => out.get(*sent..).unwrap_or_default(),
            Stage::Reading { .. } | Stage::Asked => &[],
        }
    }

    /// `count` bytes of [`Connection::pending`] were written.
    pub fn advance(&mut self, count: usize) {
        if let Stage::Answering { out, sent } = &mut self.stage {
            *sent = sent.saturating_add(count).min(out.len());
        }
    }

    /// The request was handed out or refused: the client's time to send it is no longer counted.
    pub fn is_asked(&self) -> bool {
        !matches!(self.stage, Stage::Reading { .. })
    }

    /// The whole answer was written: the connection is to be closed.
    pub fn is_done(&self) -> bool {
        matches!(&self.stage, Stage::Answering { out, sent } if *sent >= out.len())
    }
}

fn take_request(buffer: &mut Vec<u8>) -> Result<Option<Request>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_part = buffer.get(..HEAD_MAX.min(buffer.len())).unwrap_or_default();
    let head_length = match head.parse(head_part) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() < HEAD_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => {
            return Err(Refusal::new(431, format!("the head is longer than {HEAD_MAX} bytes")));
        }
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, format!("more than {HEADERS_MAX} headers")));
        }
        Err(error) => return Err(Refusal::new(400, format!("not HTTP/1.1: {error}"))),
    };
    let body_length = body_length(head.headers)?;
    let method = head.method.unwrap_or_default().to_owned();
    let target = head.path.unwrap_or_default();
    if !target.starts_with('/') {
        return Err(Refusal::new(400, "the path must start with /"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let Some(body) = buffer.get(head_length..head_length.saturating_add(body_length)) else {
        return Ok(None);
    };
    let body = body.to_vec();
    mem::take(buffer);
    Ok(Some(Request { method, path, query, body }))
}

/// The length that the headers announce; none is 0 (RFC 9112, 6.3).
fn body_length(headers: &[httparse::Header<'_>]) -> Result<usize, Refusal> {
    let mut length = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Refusal::new(501, "a body is taken with Content-Length only"));
        }
        if !header.name.eq_ignore_ascii_case("content-length") {
            continue;
        }
        let digits = !header.value.is_empty() && header.value.iter().all(u8::is_ascii_digit);
        if length.is_some() || !digits {
            return Err(Refusal::new(400, "Content-Length must be one number"));
        }
        // Digits that do not fit a number are too many bytes, not a malformed header.
        let text = std::str::from_utf8(header.value).unwrap_or_default();
        length = Some(text.parse().unwrap_or(usize::MAX));
    }
    match length.unwrap_or(0) {
        length if length > BODY_MAX => {
            Err(Refusal::new(413, format!("the body is longer than {BODY_MAX} bytes")))
        }
        length => Ok(length),
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        // The phrase may be empty (RFC 9112, 4).
        _ => "",
    }
}

#[cfg(test)]
mod tests;
