//! One question over a connection, from its first byte to the last of the answer.
//!
//! Must not wait, and must not read more than it has room for.

use crate::config::{Http, Target};
use crate::shell::ctx::Ctx;
use httparse::{EMPTY_HEADER, Response, Status};
use mio::event::Source as _;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Token};
use regex_lite::Regex;
use std::io::{self, ErrorKind, Read, Write};

/// The longest answer that is looked at, its head included.
const ANSWER_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;
/// Reads of one answer before others have their turn.
const READS_MAX: usize = 32;

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What came of a look.
pub enum Progress {
    Waits,
    Answered(Result<(), String>),
}

/// One question.
pub struct Exchange {
    stream: Stream,
    is_connected: bool,
    /// `None`: the connection is all that is asked for.
    http: Option<Expected>,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

struct Expected {
    status: Vec<u16>,
    body: Option<Regex>,
}

impl Exchange {
    /// Is a connection taken?
    ///
    /// # Errors
    /// It is refused at once.
    pub fn connect(target: &Target) -> Result<Exchange, String> {
        let stream = match target {
            Target::Tcp(address) => TcpStream::connect(*address).map(Stream::Tcp),
            Target::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        };
        let stream = stream.map_err(|error| refusal(&error))?;
        let (request, answer) = (Vec::new(), Vec::new());
        Ok(Exchange { stream, is_connected: false, http: None, request, sent: 0, answer })
    }

    /// Is a GET request answered as it should be?
    ///
    /// # Errors
    /// As [`Exchange::connect`].
    pub fn request(http: &Http) -> Result<Exchange, String> {
        let body = http.body.as_deref().map(Regex::new).transpose();
        let body = body.map_err(|error| format!("body is no regular expression: {error}"))?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: nodemanager/{}\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n",
            http.path,
            http.host,
            env!("CARGO_PKG_VERSION")
        );
        let expected = Expected { status: http.status.clone(), body };
        let exchange = Exchange::connect(&http.target)?;
        Ok(Exchange { http: Some(expected), request: request.into_bytes(), ..exchange })
    }

    /// # Errors
    /// It can't be watched.
    pub fn watch(&mut self, ctx: &Ctx, token: Token) -> Result<(), String> {
        let (registry, both) = (ctx.poll.registry(), Interest::READABLE | Interest::WRITABLE);
        let watched = match &mut self.stream {
            Stream::Tcp(stream) => stream.register(registry, token, both),
            Stream::Unix(stream) => stream.register(registry, token, both),
        };
        watched.map_err(|error| format!("cannot watch the connection: {error}"))
    }

    pub fn unwatch(&mut self, ctx: &Ctx) {
        let registry = ctx.poll.registry();
        let _ = match &mut self.stream {
            Stream::Tcp(stream) => stream.deregister(registry),
            Stream::Unix(stream) => stream.deregister(registry),
        };
    }

    /// What a question that took too long still waited for.
    pub fn waits_for(&self) -> &'static str {
        match (self.is_connected, self.answer.is_empty()) {
            (false, _) => "no connection in time",
            (true, true) => "no answer in time",
            (true, false) => "no whole answer in time",
        }
    }

    /// Goes as far as it can without waiting.
    pub fn go_on(&mut self) -> Progress {
        match self.try_go_on() {
            Ok(true) => Progress::Answered(self.judge()),
            Ok(false) => Progress::Waits,
            Err(error) => Progress::Answered(Err(refusal(&error))),
        }
    }

    /// True: the answer is whole.
    fn try_go_on(&mut self) -> io::Result<bool> {
        if !self.is_connected && !self.connects()? {
            return Ok(false);
        }
        self.is_connected = true;
        while self.sent < self.request.len() {
            match self.stream.write(self.request.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.http.is_none() {
            return Ok(true);
        }
        self.read()
    }

    fn connects(&mut self) -> io::Result<bool> {
        let Stream::Tcp(stream) = &self.stream else { return Ok(true) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        for _ in 0..READS_MAX {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => self.answer.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(self.needs_no_more());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.answer.len() >= ANSWER_MAX || self.needs_no_more() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Without a pattern for the body the head is enough.
    fn needs_no_more(&self) -> bool {
        let Some(Expected { body, .. }) = &self.http else { return true };
        let Some((_, at, length)) = head(&self.answer) else { return false };
        let has = self.answer.len().saturating_sub(at);
        body.is_none() || length.is_some_and(|length| has >= length)
    }

    fn judge(&self) -> Result<(), String> {
        let Some(expected) = &self.http else { return Ok(()) };
        let Some((status, at, _)) = head(&self.answer) else {
            return Err("the answer is no HTTP".to_string());
        };
        if !expected.status.contains(&status) {
            return Err(format!("HTTP {status}"));
        }
        let body = String::from_utf8_lossy(self.answer.get(at..).unwrap_or_default());
        match &expected.body {
            Some(pattern) if !pattern.is_match(&body) => {
                Err(format!("HTTP {status}, and the body does not match {:?}", pattern.as_str()))
            }
            _ => Ok(()),
        }
    }
}

impl Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

/// The status, where the body begins, and how long it says it is; `None` while the head is not
/// whole, or is none.
fn head(answer: &[u8]) -> Option<(u16, usize, Option<usize>)> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let Ok(Status::Complete(at)) = response.parse(answer) else { return None };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    Some((response.code?, at, length))
}

fn refusal(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_string(),
        ErrorKind::NotFound => "no such socket".to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_an_answer_is_found_when_it_is_whole_and_not_before() {
        let answer = b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(head(answer), Some((204, answer.len() - 3, Some(3))));
        for end in 0..answer.len() - 3 {
            assert_eq!(head(&answer[..end]), None, "{end}");
        }
        assert_eq!(head(b"SSH-2.0-OpenSSH_9.2\r\n"), None);
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").unwrap().2, None);
    }
}
