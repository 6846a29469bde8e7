//! A mail about events: its text, and how it is sent, by the local `sendmail` or over SMTP.
//!
//! It blocks, with limits: only the process that sends calls it, never a loop. No TLS and no
//! passwords: that is the local mail server's.

pub mod smtp;

use crate::config::{Mail, MailWay};
use crate::events::Record;
use crate::sys::pidfd;
use jiff::{Timestamp, Zoned};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// `sendmail` has so long.
const SENDMAIL_LIMIT_MS: u16 = 60_000;
/// Bytes of a quoted-printable line (RFC 2045, 6.7): 76 with the `=` at its end.
const LINE_BYTES: usize = 75;
/// Bytes of what `sendmail` says.
const SAID_MAX: u64 = 4096;

/// Sends one mail about these events. What is given back is worth a warning: not everybody got it.
///
/// # Errors
/// Nobody got it; the text says why.
pub fn send(mail: &Mail, node: &str, events: &[Record], left_out: u64) -> Result<String, String> {
    let host = host_name();
    let text = compose(mail, node, &host, &Zoned::now(), events, left_out);
    match &mail.way {
        MailWay::Sendmail(program) => by_sendmail(program, &text).map(|()| String::new()),
        MailWay::Smtp(address) => smtp::send(address, &host, &mail.from, &mail.to, &text)
            .map_err(|error| format!("SMTP server {address}: {error}")),
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let is_name = |name: &String| {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        !name.is_empty() && name.chars().all(is_letter)
    };
    name.filter(is_name).unwrap_or_else(|| "localhost".to_owned())
}

/// The whole mail, its lines ended by LF.
fn compose(
    mail: &Mail,
    node: &str,
    host: &str,
    now: &Zoned,
    events: &[Record],
    left_out: u64,
) -> String {
    let date = jiff::fmt::rfc2822::to_string(now).unwrap_or_default();
    let first = events.first().map_or(0, |event| event.seq);
    let at_ms = now.timestamp().as_millisecond();
    let mut text = format!(
        "From: {}\nTo: {}\nSubject: {}\nDate: {date}\nMessage-ID: <{first}.{at_ms}.{node}@{host}>\n\
         Auto-Submitted: auto-generated\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n",
        mail.from,
        mail.to.join(",\n "),
        subject(node, host, events, left_out),
    );
    for event in events {
        let time = event.time.parse::<Timestamp>().map(|time| {
            let local = time.to_zoned(now.time_zone().clone());
            local.strftime("%Y-%m-%d %H:%M:%S%.3f %z").to_string()
        });
        let time = time.unwrap_or_else(|_| event.time.clone());
        let server = event.server.as_ref().map_or(String::new(), |name| format!("  {name}"));
        let line = format!("{time}  {}{server}\n    {}\n", event.kind, event.text);
        quoted_printable(&line, &mut text);
    }
    if left_out > 0 {
        quoted_printable(&format!("... and {left_out} more\n"), &mut text);
    }
    quoted_printable(&format!("\nnode {node} on {host}: nodemanager events\n"), &mut text);
    text
}

/// Names of nodes, hosts, kinds and servers are ASCII.
fn subject(node: &str, host: &str, events: &[Record], left_out: u64) -> String {
    if let ([event], 0) = (events, left_out) {
        let server = event.server.as_ref().map_or(String::new(), |name| format!(" {name}"));
        return format!("[{node}@{host}] {}{server}", event.kind);
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    events.iter().for_each(|event| *kinds.entry(&event.kind).or_default() += 1);
    let shown = kinds.iter().take(4).map(|(kind, count)| format!("{count} {kind}"));
    let shown: Vec<String> = shown.collect();
    let count = events.len() as u64 + left_out;
    format!("[{node}@{host}] {count} events: {}", shown.join(",\n "))
}

/// RFC 2045, 6.7: ASCII in short lines, whatever the text is.
fn quoted_printable(text: &str, out: &mut String) {
    for line in text.split_inclusive('\n') {
        let content = line.strip_suffix('\n').unwrap_or(line);
        let mut length = 0;
        for (at, byte) in content.bytes().enumerate() {
            let is_last = at + 1 == content.len();
            let is_plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || byte == b' ' && !is_last;
            let needed = if is_plain { 1 } else { 3 };
            if length + needed > LINE_BYTES {
                out.push_str("=\n");
                length = 0;
            }
            length += needed;
            match is_plain {
                true => out.push(char::from(byte)),
                // writing to a String can't fail
                false => drop(write!(out, "={byte:02X}")),
            }
        }
        if content.len() < line.len() {
            out.push('\n');
        }
    }
}

fn memory(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"nodemanager-mail", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// Memory on both sides, so that nothing waits for who does not read or write.
fn by_sendmail(program: &Path, text: &str) -> Result<(), String> {
    let shown = program.display();
    let cannot = |error: io::Error| format!("cannot run {shown}: {error}");
    let input = memory(text.as_bytes()).map_err(cannot)?;
    let mut said = memory(b"").map_err(cannot)?;
    let mut child = Command::new(program)
        .args(["-t", "-i"])
        .stdin(input)
        .stdout(said.try_clone().map_err(cannot)?)
        .stderr(said.try_clone().map_err(cannot)?)
        .process_group(0)
        .spawn()
        .map_err(cannot)?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let pidfd = pidfd::open(pid).map_err(cannot)?;
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let is_over = poll(&mut fds, PollTimeout::from(SENDMAIL_LIMIT_MS)).is_ok_and(|ready| ready > 0);
    if !is_over {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let status = child.wait().map_err(cannot)?;
    if status.success() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    let _ = said.rewind().and_then(|()| said.take(SAID_MAX).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let last = last.map_or(String::new(), |line| format!(": {line}"));
    Err(match is_over {
        true => format!("{shown}: {status}{last}"),
        false => format!("{shown} took longer than {SENDMAIL_LIMIT_MS} ms and was killed{last}"),
    })
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
