//! Who listens on a TCP port, for error messages.
//!
//! Must not be relied on for a decision: it sees only what this user may see, and the answer
//! may be old.

use super::process;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// As much of a socket table as is read.
const TABLE_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// As many descriptors of one process as are looked at.
const DESCRIPTORS_MAX: usize = 65_536;
/// The state LISTEN in /proc/net/tcp.
const LISTEN: &str = "0A";

/// A process that listens on the TCP port, and its program's name; `None` when nobody does, or
/// it can't be seen.
pub fn holder_of_tcp_port(port: u16) -> Option<(i32, String)> {
    let links: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| listening_inode(table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if links.is_empty() {
        return None;
    }
    let pid = process::pids().ok()?.find(|pid| has_descriptor(*pid, &links))?;
    Some((pid, process::comm(pid).ok()?))
}

fn listening_inode(table: &str, port: u16) -> Option<u64> {
    let reader = BufReader::new(File::open(table).ok()?.take(TABLE_MAX_BYTES));
    reader.lines().map_while(Result::ok).find_map(|line| parse_line(&line, port))
}

/// The socket's inode, if the line is that of a listening socket on the port.
fn parse_line(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, hex_port) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == LISTEN;
    let inode = fields.get(9)?.parse().ok()?;
    (listens && u16::from_str_radix(hex_port, 16) == Ok(port)).then_some(inode)
}

fn has_descriptor(pid: i32, links: &[String]) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().take(DESCRIPTORS_MAX).any(|entry| {
        std::fs::read_link(entry.path())
            .is_ok_and(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_process_that_listens_on_a_port_is_found_and_none_when_it_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let (pid, comm) = holder_of_tcp_port(port).unwrap();
            assert_eq!(pid, std::process::id() as i32);
            assert_eq!(comm, process::comm(pid).unwrap());
        }
    }

    #[test]
    fn a_line_that_is_no_listening_socket_on_the_port_is_passed_over() {
        let line = "  0: 0100007F:1E33 00000000:0000 0A 00000000:00000000 00:0 0 0 0 4711 1 0";
        assert_eq!(parse_line(line, 7731), Some(4711));
        assert_eq!(parse_line(line, 7732), None);
        assert_eq!(parse_line(&line.replace("0A", "01"), 7731), None);
        assert_eq!(parse_line("  sl  local_address rem_address   st", 7731), None);
        assert_eq!(parse_line("", 7731), None);
    }
}
