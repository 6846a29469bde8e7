//! One mail over SMTP (RFC 5321), without extensions: to the mail server of this machine or net.
//!
//! It blocks, with a limit on each answer. No TLS, no passwords. Small enough to stand here: the
//! libraries for it bring more code than this whole program has.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// To connect, and for each answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// RFC 5321, 4.5.3.1.5: a reply line has 512 bytes.
const REPLY_LINE_MAX: u64 = 1024;
/// Lines of one answer.
const REPLY_LINES_MAX: usize = 100;
/// Addresses of the server's name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Sends it; gives back who was refused, if somebody else was not.
///
/// # Errors
/// It can't be reached, or refuses the mail; the text has its answer.
pub fn send(
    address: &str,
    host: &str,
    from: &str,
    to: &[String],
    text: &str,
) -> io::Result<String> {
    let stream = connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    converse(&mut BufReader::new(stream.try_clone()?), &mut &stream, host, from, to, text)
}

/// The conversation with the server at the other end of `reader` and `writer`, as in [`send`].
///
/// # Errors
/// It refuses the mail, ends too early or speaks something else.
pub fn converse(
    reader: &mut dyn BufRead,
    writer: &mut dyn Write,
    host: &str,
    from: &str,
    to: &[String],
    text: &str,
) -> io::Result<String> {
    let mut session = Session { reader, writer };
    session.answer(220)?;
    if session.say(&format!("EHLO {host}"), 250).is_err() {
        session.say(&format!("HELO {host}"), 250)?;
    }
    session.say(&format!("MAIL FROM:<{from}>"), 250)?;
    let mut refused = Vec::new();
    for one in to {
        // 251: it is passed on.
        if let Err(error) = session.say(&format!("RCPT TO:<{one}>"), 250)
            && !error.to_string().starts_with("251")
        {
            refused.push(format!("{one} was refused: {error}"));
        }
    }
    if refused.len() == to.len() {
        return Err(Error::other(refused.join("; ")));
    }
    session.say("DATA", 354)?;
    session.writer.write_all(data(text).as_bytes())?;
    session.answer(250)?;
    // It has the mail: what comes after does not matter.
    let _ = session.say("QUIT", 221);
    Ok(refused.join("; "))
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = Error::new(ErrorKind::NotFound, "the name has no address");
    for one in address.to_socket_addrs()?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&one, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// With CRLF, and a dot more where a line begins with one (RFC 5321, 4.5.2).
fn data(text: &str) -> String {
    let mut data = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        if line.starts_with('.') {
            data.push('.');
        }
        data.push_str(line);
        data.push_str("\r\n");
    }
    data + ".\r\n"
}

struct Session<'a> {
    reader: &'a mut dyn BufRead,
    writer: &'a mut dyn Write,
}

impl Session<'_> {
    fn say(&mut self, line: &str, wanted: u16) -> io::Result<()> {
        self.writer.write_all(format!("{line}\r\n").as_bytes())?;
        self.answer(wanted)
    }

    fn answer(&mut self, wanted: u16) -> io::Result<()> {
        for _ in 0..REPLY_LINES_MAX {
            let mut line = Vec::new();
            (&mut self.reader).take(REPLY_LINE_MAX).read_until(b'\n', &mut line)?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.is_empty() {
                return Err(Error::new(ErrorKind::UnexpectedEof, "it closed the connection"));
            }
            // `250-...` goes on.
            if line.get(3..4) == Some("-") {
                continue;
            }
            return match line.get(..3).and_then(|code| code.parse::<u16>().ok()) {
                Some(code) if code == wanted => Ok(()),
                _ => Err(Error::other(line)),
            };
        }
        Err(Error::other("its answer has no end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_begin_with_a_dot_do_not_end_the_mail() {
        assert_eq!(data("a\n.\n..b\n"), "a\r\n..\r\n...b\r\n.\r\n");
    }
}
