//! A client of the control socket that asks until it is answered, for the benches.
//!
//! Must not pause longer than it is told: the time until an answer is what is measured.

use super::support::LIMIT;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Waits until `holds` gives something.
///
/// # Errors
/// It did not within the limit.
pub fn poll_for<T>(
    what: &str,
    pause: Duration,
    mut holds: impl FnMut() -> Option<T>,
) -> io::Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = holds() {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(io::Error::other(format!("waited in vain for {what}")));
        }
        std::thread::sleep(pause);
    }
}

/// One request, answered on a connection of its own.
///
/// # Errors
/// Nobody listens, or the answer is not there within the limit, or is none.
pub fn ask(socket: &Path, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: nodemanager\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(answer),
        false => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}
