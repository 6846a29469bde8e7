//! Streams of systemd-journald: what is written to one becomes entries of the journal, a line each.
//!
//! The protocol is that of systemd.exec(5)'s `StandardOutput=journal`: a stream socket, seven lines
//! that say who writes, and then the output itself. Must not wait in the pair's loop: only a
//! server's child connects in blocking mode.

use super::child::{Stepped, keep_as};
use super::raw;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Priority of a line on standard output (syslog(3): informational).
pub const INFO: u8 = 6;
/// Priority of a line on standard error, where it has a stream of its own (error).
pub const ERROR: u8 = 3;

/// A stream that a child is to open: everything prepared before its fork.
#[derive(Clone, Debug)]
pub struct JournalStream {
    address: UnixAddr,
    header: Vec<u8>,
}

impl JournalStream {
    /// A stream to the socket at `path` whose lines get this identifier and priority.
    ///
    /// # Errors
    /// The path is too long for a socket address.
    pub fn new(path: &Path, identifier: &str, priority: u8) -> io::Result<JournalStream> {
        let address = UnixAddr::new(path)?;
        Ok(JournalStream { address, header: header(identifier, priority, false) })
    }

    /// Connects, in a child: descriptor `target` is the stream then. System calls only.
    pub(super) fn connect_as(&self, target: RawFd) -> Stepped {
        let stream = raw::socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
        raw::connect(stream, &self.address)?;
        let mut rest = self.header.as_slice();
        while !rest.is_empty() {
            let sent = raw::send(stream, rest)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        keep_as(stream, target)
    }
}

/// A stream for the pair's own log, whose lines begin with `<N>`, their priority. Nothing waits:
/// what does not fit into the socket's buffer is an error.
///
/// # Errors
/// There is no journald (NotFound, ConnectionRefused), or it takes nothing now (WouldBlock).
pub fn connect_log(path: &Path, identifier: &str) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    let header = header(identifier, INFO, true);
    if send_now(&stream, &header)? < header.len() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(stream.into())
}

/// Sends what fits now, and raises no signal.
///
/// # Errors
/// Those of send(2).
pub fn send_now(stream: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    Ok(send(stream.as_raw_fd(), bytes, flags)?)
}

/// Identifier, unit (none), priority, whether lines begin with a priority, and whether they go on
/// to syslog, to the kernel's log and to the console (no).
fn header(identifier: &str, priority: u8, has_prefixes: bool) -> Vec<u8> {
    format!("{identifier}\n\n{priority}\n{}\n0\n0\n0\n", u8::from(has_prefixes)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::spawn::{ServerSpec, Stdout};
    use crate::sys::testing::{Scratch, Server, shell_spec};
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_server_writes_straight_into_streams_of_its_own() {
        let scratch = Scratch::new();
        let path = scratch.path("stdout");
        let journald = UnixListener::bind(&path).unwrap();
        let stream =
            |priority| Stdout::Journal(JournalStream::new(&path, "web", priority).unwrap());
        let spec = ServerSpec {
            stdout: stream(INFO),
            stderr: Some(stream(ERROR)),
            ..shell_spec("echo one; echo two >&2")
        };
        let server = Server::running(&spec);
        let mut said = ["web\n\n6\n0\n0\n0\n0\none\n", "web\n\n3\n0\n0\n0\n0\ntwo\n"].to_vec();
        for _ in 0..2 {
            let mut text = String::new();
            journald.accept().unwrap().0.read_to_string(&mut text).unwrap();
            let at = said.iter().position(|expected| *expected == text);
            said.remove(at.unwrap_or_else(|| panic!("unexpected: {text}")));
        }
        drop(server);
    }

    #[test]
    fn without_journald_a_log_has_a_cause_to_tell() {
        let scratch = Scratch::new();
        let error = connect_log(&scratch.path("none"), "n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
