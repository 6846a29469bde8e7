//! The sockets that servers are handed (LISTEN_FDS): bound once, kept, and taken back.
//!
//! Must not be read or accepted from here. A socket that cannot be bound fails the start of its
//! server, never the pair.

use super::super::Shell;
use super::super::bequest::Endpoint;
use crate::config::{Listen, Socket};
use crate::sys::pidfd::{self, Verified};
use crate::sys::{listening, ports};
use log::{info, warn};
use nix::unistd::geteuid;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The number of the first socket in a server (sd_listen_fds(3)).
const FIRST: RawFd = 3;
/// A server that moved its sockets is searched so far.
const SEARCHED_MAX: usize = 4_096;

impl Shell {
    /// All sockets of a server, bound where they are not yet, as they are here.
    pub(super) fn bind_sockets(&mut self, name: &str) -> Result<Vec<RawFd>, String> {
        let Some(server) = self.ctx.server(name) else { return Ok(Vec::new()) };
        let account = server.identity.account.as_ref().filter(|_| geteuid().is_root());
        let (owner, sockets) = (account.map(|account| account.uid), server.sockets.clone());
        let mut fds = Vec::new();
        for socket in sockets {
            let key = Endpoint { server: name.to_owned(), listen: Some(socket.listen.clone()) };
            let raw = match self.endpoints.kept.get(&key) {
                Some(fd) => fd.as_raw_fd(),
                None => {
                    let fd = bind(&socket, owner).map_err(|error| in_words(&socket, &error))?;
                    info!(target: "0384", "{name}: listening on {}", socket.listen);
                    let raw = fd.as_raw_fd();
                    self.endpoints.kept.insert(key, fd);
                    self.endpoints.is_unshared = true;
                    raw
                }
            };
            fds.push(raw);
        }
        Ok(fds)
    }

    /// Both twins died, or the one that bound them died before another one had them: a server that
    /// is up has the last copies of its sockets.
    pub(super) fn take_sockets_back(&mut self, number: usize, name: &str) {
        let Some(server) = self.ctx.server(name) else { return };
        let key = |socket: &Socket| Endpoint {
            server: name.to_owned(),
            listen: Some(socket.listen.clone()),
        };
        let lacks = |socket: &&Socket| !self.endpoints.kept.contains_key(&key(socket));
        let missing: Vec<Socket> = server.sockets.iter().filter(lacks).cloned().collect();
        let process = self.node.servers.get(number).and_then(|one| one.rec.phase.process());
        let (Some(process), false) = (process, missing.is_empty()) else { return };
        let Ok(Verified::Alive(fd)) = pidfd::open_verified(&process) else { return };
        let pid = process.pid;
        for socket in missing {
            let listen = &socket.listen;
            match find_in(&fd, pid, listen) {
                Ok(Some(found)) => {
                    info!(target: "0384", "{name}: listening on {listen}, taken back from PID {pid}");
                    self.endpoints.kept.insert(key(&socket), found);
                    self.endpoints.is_unshared = true;
                }
                Ok(None) => warn!(
                    target: "0385",
                    "{name}: PID {pid} does not listen on {listen} any more; it is bound at its next start"
                ),
                Err(error) => warn!(
                    target: "0385",
                    "{name}: cannot take {listen} back from PID {pid}: {error}; it runs on, and the socket comes \
                     back at its next restart, which refuses connections for a moment"
                ),
            }
        }
    }
}

fn bind(socket: &Socket, owner: Option<u32>) -> io::Result<OwnedFd> {
    match &socket.listen {
        Listen::Tcp(address) => listening::bind_tcp(*address, socket.backlog),
        Listen::Udp(address) => listening::bind_udp(*address),
        Listen::Unix(path) => listening::bind_unix(path, socket.mode, socket.backlog, owner),
    }
}

fn in_words(socket: &Socket, error: &io::Error) -> String {
    let listen = &socket.listen;
    let is_used = error.raw_os_error() == Some(libc::EADDRINUSE);
    let holder = match listen {
        Listen::Tcp(address) if is_used => ports::holder_of_tcp_port(address.port()),
        _ => None,
    };
    match holder {
        Some((pid, name)) => format!(
            "cannot bind its socket {listen}: in use by PID {pid} ({name}); end that, or choose \
             another port"
        ),
        None => format!("cannot bind its socket {listen}: {error}"),
    }
}

/// The process's copy of the socket.
fn find_in(process: &OwnedFd, pid: i32, listen: &Listen) -> io::Result<Option<OwnedFd>> {
    let mut refused = None;
    let mut looked_at = |number: RawFd| {
        let copy = listening::copy_from(process, number);
        match copy {
            Ok(copy) if is_there(&copy, listen) => Some(copy),
            Ok(_) => None,
            Err(error) => {
                if error.raw_os_error() != Some(libc::EBADF) {
                    refused = Some(error);
                }
                None
            }
        }
    };
    let listed = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let numbers = listed
        .filter(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // The first where /proc can't be read.
    let found = numbers.take(SEARCHED_MAX).chain([FIRST]).find_map(&mut looked_at);
    match (found, refused) {
        (None, Some(error)) => Err(error),
        (found, _) => Ok(found),
    }
}

fn is_there(fd: &OwnedFd, listen: &Listen) -> bool {
    match listen {
        Listen::Tcp(address) => listening::is_inet(fd, *address, false),
        Listen::Udp(address) => listening::is_inet(fd, *address, true),
        Listen::Unix(path) => listening::is_unix(fd, path),
    }
}
