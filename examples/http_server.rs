//! An HTTP server that the tests manage: it listens after a while, and answers with what is in a file.
//!
//! Must not know anything of the node manager, and must not stay for ever.
//!
//! `http_server PORT AFTER_MS [FILE]`: the first line of FILE is the status, the rest the body;
//! without the file 200 and `ok`. A status of 0: it takes connections and says nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The test that started it is over by then.
const LIFE: Duration = Duration::from_secs(600);
/// Nobody waits longer for a request.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let (Some(port), Some(after_ms)) = (number(0), number(1)) else {
        let _ = writeln!(std::io::stderr(), "usage: http_server PORT AFTER_MS [FILE]");
        return ExitCode::from(64);
    };
    sleep(Duration::from_millis(after_ms));
    let listener = match TcpListener::bind(("127.0.0.1", port as u16)) {
        Ok(listener) => listener,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cannot listen on {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _ = writeln!(std::io::stdout(), "listening on {port}");
    let end = Instant::now() + LIFE;
    let mut silent = Vec::new();
    for stream in listener.incoming().flatten() {
        if Instant::now() >= end {
            break;
        }
        let file = words.get(2).and_then(|path| std::fs::read_to_string(path).ok());
        let text = file.unwrap_or_else(|| "200\nok".to_string());
        let (status, body) = text.split_once('\n').unwrap_or((&text, ""));
        match status.trim() {
            "0" => silent.push(stream),
            status => answer(stream, status, body),
        }
    }
    ExitCode::SUCCESS
}

fn answer(mut stream: TcpStream, status: &str, body: &str) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: {length}\r\n\r\n{body}");
}
