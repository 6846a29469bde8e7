//! What is kept for servers beside their output: notify sockets, the FIFOs of their readiness,
//! and the sockets that they are handed.
//!
//! Must not judge what a server says (the core does). All of it outlives the active: a standby
//! inherits the sockets and opens the FIFOs, and what it lacks makes it be replaced.

mod sockets;
mod told;

use super::Shell;
use super::bequest::{Bequest, ENDPOINTS, Endpoint};
use super::ctx::Ctx;
use super::spec::c_string;
use super::token::Source;
use crate::config::{Config, ServerConfig};
use crate::core::record::Wanted;
use crate::core::{Ms, Name, ServerId};
use crate::sys::{self, fifo, notify};
use log::error;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A server opens its own FIFO before it changes its user.
const FIFO_MODE: u32 = 0o600;

/// All of them.
#[derive(Default)]
pub struct Endpoints {
    kept: BTreeMap<Endpoint, OwnedFd>,
    /// The file that a notify socket was when it was bound, or inherited.
    files: BTreeMap<Name, (u64, u64)>,
    /// The FIFOs of readiness, by server.
    ready: BTreeMap<Name, OwnedFd>,
    /// Something was made that the standby does not have.
    is_unshared: bool,
    /// What a server says in vain is logged once in a while.
    vain_log_at: Ms,
}

impl Endpoints {
    /// Those that the active hands over.
    ///
    /// # Errors
    /// A descriptor is missing: the process was not started by an active.
    pub fn inherit(bequest: &Bequest, config: &Config) -> io::Result<Endpoints> {
        let mut all = Endpoints::default();
        for (endpoint, number) in bequest.endpoints.iter().zip(ENDPOINTS..) {
            all.kept.insert(endpoint.clone(), sys::inherited(number)?);
            let server = config.servers.iter().find(|one| one.name == endpoint.server);
            if let (Some(server), None) = (server, &endpoint.listen) {
                all.note_file(server, &config.node.run_dir);
            }
        }
        Ok(all)
    }

    /// Whose each is, in the order in which they are handed over.
    pub fn names(&self) -> Vec<Endpoint> {
        self.kept.keys().cloned().collect()
    }

    /// Each with its number in the standby, which has all of them then.
    pub fn hand_over(&mut self) -> Vec<(RawFd, RawFd)> {
        self.is_unshared = false;
        self.kept.values().map(AsRawFd::as_raw_fd).zip(ENDPOINTS..).collect()
    }

    /// Holds the FIFO of a server's readiness, without reading.
    ///
    /// # Errors
    /// Something else is at its path, or no descriptor is left.
    pub fn hold_ready(&mut self, ctx: &Ctx, name: &str) -> io::Result<()> {
        let Some(server) = ctx.server(name).filter(|server| server.ready_fd().is_some()) else {
            return Ok(());
        };
        let path = server.ready_path(&ctx.config.node.run_dir);
        if self.ready.get(name).is_none_or(|fd| !is_at(fd, &path)) {
            self.ready.insert(server.name.clone(), fifo::open(&path, FIFO_MODE)?);
        }
        Ok(())
    }

    /// The notify socket of a server; bound anew when it is not there, or not at its path.
    fn hold_notify(&mut self, ctx: &Ctx, name: &str) -> io::Result<()> {
        let Some(server) = ctx.server(name).filter(|server| server.notifies()) else {
            return Ok(());
        };
        let run_dir = &ctx.config.node.run_dir;
        let key = Endpoint { server: name.to_owned(), listen: None };
        let there = file_at(&server.notify_path(run_dir));
        if self.kept.contains_key(&key) && there.is_some() && there == self.files.get(name).copied()
        {
            return Ok(());
        }
        let fd = notify::bind_at(&server.notify_path(run_dir))?;
        if let Some(old) = self.kept.insert(key, fd) {
            ctx.close(old);
        }
        self.note_file(server, run_dir);
        self.is_unshared = true;
        Ok(())
    }

    fn note_file(&mut self, server: &ServerConfig, run_dir: &Path) {
        match file_at(&server.notify_path(run_dir)) {
            Some(file) => self.files.insert(server.name.clone(), file),
            None => self.files.remove(&server.name),
        };
    }

    fn notify_fd(&self, name: &str) -> Option<&OwnedFd> {
        self.kept.get(&Endpoint { server: name.to_owned(), listen: None })
    }

    /// The descriptors through which a server tells of itself.
    fn tellers(&self, name: &str) -> impl Iterator<Item = &OwnedFd> {
        self.notify_fd(name).into_iter().chain(self.ready.get(name))
    }
}

fn file_at(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn is_at(fd: &OwnedFd, path: &Path) -> bool {
    let ours = nix::sys::stat::fstat(fd.as_fd()).map(|file| (file.st_dev, file.st_ino)).ok();
    ours.is_some() && ours == file_at(path)
}

impl Shell {
    /// This process is the active: it has, or makes, what the servers need, and listens to them.
    pub(super) fn begin_endpoints(&mut self) {
        for (number, name) in self.with_endpoints() {
            if let Err(error) = self.listen_to(number, &name) {
                error!(target: "0381", "{name}: {error}; tried again at its next start");
            }
            self.take_sockets_back(number, &name);
            let one = self.node.servers.get(number).map(|one| &one.rec);
            if one.is_some_and(|rec| rec.wanted == Wanted::Up && rec.phase.process().is_none()) {
                // What fails is told by its start.
                let _ = self.bind_sockets(&name);
            }
        }
    }

    /// The run directory was made anew, and who is up must be heard all the same.
    pub(super) fn renew_endpoints(&mut self) {
        for (number, name) in self.with_endpoints() {
            if let Err(error) = self.listen_to(number, &name) {
                error!(target: "0381", "{name}: {error}; tried again at its next start");
            }
        }
    }

    fn with_endpoints(&self) -> Vec<(usize, Name)> {
        let names = self.node.servers.iter().map(|one| one.rec.name.clone()).enumerate();
        names
            .filter(|(_, name)| {
                self.ctx.server(name).is_some_and(|server| server.kept_descriptors() > 0)
            })
            .collect()
    }

    fn listen_to(&mut self, number: usize, name: &str) -> Result<(), String> {
        let notify = self.endpoints.hold_notify(&self.ctx, name);
        notify.map_err(|error| format!("cannot make its notify socket: {error}"))?;
        let ready = self.endpoints.hold_ready(&self.ctx, name);
        ready.map_err(|error| format!("cannot make the FIFO of its readiness: {error}"))?;
        for fd in self.endpoints.tellers(name) {
            self.ctx.unwatch(fd);
            let watched = self.ctx.watch(fd, Source::Told(number));
            watched.map_err(|error| format!("cannot listen to it: {error}"))?;
        }
        Ok(())
    }

    /// A server is about to be started: what it needs is there, and what was said before does not
    /// count. Gives its sockets.
    pub(super) fn prepare_endpoints(&mut self, server: ServerId) -> Result<Vec<RawFd>, String> {
        let name = self.servers.name(server).to_string();
        let keeps = self.ctx.server(&name).is_some_and(|server| server.kept_descriptors() > 0);
        if !keeps {
            return Ok(Vec::new());
        }
        self.listen_to(server.0, &name)?;
        self.forget_told(&name);
        let sockets = self.bind_sockets(&name);
        if self.endpoints.is_unshared && self.other.is_some() {
            self.replace_standby();
        }
        sockets
    }
}

/// What a server is told of what is kept for it; it replaces what is configured under these names.
pub fn set_variables(
    run_dir: &Path,
    server: &ServerConfig,
    env: &mut BTreeMap<OsString, OsString>,
) {
    if server.notifies() {
        env.insert("NOTIFY_SOCKET".into(), server.notify_path(run_dir).into());
    }
    if let Some(ms) = server.watchdog_ms() {
        let us = ms.saturating_mul(1_000);
        env.insert("WATCHDOG_USEC".into(), us.to_string().into());
    }
    if !server.sockets.is_empty() {
        let names: Vec<&str> = server.sockets.iter().map(|one| one.name.as_str()).collect();
        env.insert("LISTEN_FDS".into(), server.sockets.len().to_string().into());
        env.insert("LISTEN_FDNAMES".into(), names.join(":").into());
    }
    for name in pid_variables(server) {
        env.remove(std::ffi::OsStr::new(name));
    }
}

/// Variables with the server's own PID, which only its child knows.
pub fn pid_variables(server: &ServerConfig) -> Vec<&'static str> {
    let watchdog = server.watchdog_ms().map(|_| "WATCHDOG_PID");
    let listen = (!server.sockets.is_empty()).then_some("LISTEN_PID");
    watchdog.into_iter().chain(listen).collect()
}

/// The FIFO to which it writes that it is ready, and its number there.
///
/// # Errors
/// The path contains a NUL byte.
pub fn ready(run_dir: &Path, server: &ServerConfig) -> Result<Option<(RawFd, CString)>, String> {
    let path = |number| {
        let path = c_string(server.ready_path(run_dir).as_os_str().as_bytes())?;
        Ok((number, path))
    };
    server.ready_fd().map(path).transpose()
}
