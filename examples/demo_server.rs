//! A small HTTP server that the default configuration runs: `demo_server --port 8101`.
//!
//! It needs nothing but the standard library, answers every request with its PID and its uptime,
//! and writes a line for each, so that there is something to see. It must not know anything of the
//! node manager.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let port = match (args.next().as_deref(), args.next().map(|port| port.parse::<u16>())) {
        (Some("--port"), Some(Ok(port))) => port,
        _ => return fail("usage: demo_server --port PORT"),
    };
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => listener,
        Err(error) => return fail(&format!("cannot listen on 127.0.0.1:{port}: {error}")),
    };
    let started = Instant::now();
    say(&format!("listening on 127.0.0.1:{port}, PID {}", std::process::id()));
    for stream in listener.incoming() {
        match stream.and_then(|stream| answer(stream, started)) {
            Ok(line) => say(&line),
            Err(error) => say(&format!("a request failed: {error}")),
        }
    }
    ExitCode::SUCCESS
}

/// Reads the head of a request and answers it; gives the line for the log.
fn answer(stream: TcpStream, started: Instant) -> std::io::Result<String> {
    // A client that says nothing must not keep the others waiting for ever.
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(&stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let (pid, up) = (std::process::id(), started.elapsed().as_secs());
    let body = format!("demo server, PID {pid}, up {up} s\n");
    let length = body.len();
    write!(
        &stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    Ok(format!("answered {}", first.trim_end()))
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Without a reader there is nobody to tell.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn fail(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}
