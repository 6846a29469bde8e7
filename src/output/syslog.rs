//! Lines as datagrams to syslog's socket, as RFC 3164 has them: `<30>Nov 21 19:44:01 web[412]: text`.
//!
//! Must not wait: a socket that is full is an error like any other. Must not read a clock.

use super::zone;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Longest text of one message: with its head it fits into the 8 KiB that receivers take.
pub const TEXT_MAX: usize = 8_000;
/// Facility "daemon" (3) with severity "informational" (6), and "error" (3).
const INFO: u8 = 3 * 8 + 6;
const ERROR: u8 = 3 * 8 + 3;

/// The way of one output to syslog.
#[derive(Debug)]
pub struct Syslog {
    path: PathBuf,
    name: String,
    priority: u8,
    pid: Option<i32>,
    zone: TimeZone,
    socket: Option<UnixDatagram>,
    /// What is in the FIFO without a line's end is all of its line: who wrote it is dead.
    pub(super) flushes: bool,
}

impl Syslog {
    /// A way to the socket at `path` for the server `name`.
    pub fn new(path: &Path, name: &str, is_stderr: bool) -> Syslog {
        Syslog {
            path: path.to_owned(),
            name: name.to_owned(),
            priority: if is_stderr { ERROR } else { INFO },
            pid: None,
            zone: zone::local(),
            socket: None,
            flushes: false,
        }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The process whose lines follow.
    pub fn set_pid(&mut self, pid: Option<i32>) {
        self.pid = pid;
    }

    /// The process whose lines follow.
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Connects, unless that is done.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(&mut self) -> io::Result<&UnixDatagram> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(&self.path)?;
                socket
            }
        };
        Ok(self.socket.insert(socket))
    }

    /// The next message connects anew.
    pub fn disconnect(&mut self) {
        self.socket = None;
    }

    /// Sends one line, without its end and of at most `TEXT_MAX` bytes.
    ///
    /// # Errors
    /// WouldBlock: the receiver is busy. Else it is gone, and the next try connects anew.
    pub fn send(&mut self, wall_ms: u64, text: &[u8]) -> io::Result<()> {
        let message = self.message(wall_ms, text);
        let sent = self.connect()?.send(&message);
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => {
                self.disconnect();
                Err(error)
            }
        }
    }

    fn message(&self, wall_ms: u64, text: &[u8]) -> Vec<u8> {
        let at = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time = at.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.zone.clone());
        let time = time.strftime("%b %e %H:%M:%S");
        let pid = self.pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
        let mut message = format!("<{}>{time} {}{pid}: ", self.priority, self.name).into_bytes();
        message.extend_from_slice(text);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_rfc_3164_has_it() {
        let mut syslog = Syslog::new(Path::new("/dev/log"), "web", false);
        syslog.zone = TimeZone::UTC;
        let text = |syslog: &Syslog, ms| String::from_utf8(syslog.message(ms, b"a b")).unwrap();
        assert_eq!(text(&syslog, 1_795_290_241_123), "<30>Nov 21 19:44:01 web: a b");
        syslog.set_pid(Some(412));
        assert_eq!(text(&syslog, 1_793_650_000_000), "<30>Nov  2 20:06:40 web[412]: a b");
        let mut errors = Syslog::new(Path::new("/dev/log"), "web", true);
        errors.zone = TimeZone::UTC;
        assert!(text(&errors, 0).starts_with("<27>Jan  1 "));
    }
}
