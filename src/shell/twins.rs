//! The other twin and the movers: how they are started, and what they inherit.
//!
//! Must not wait for them. A standby gets the listening sockets, so that a client waits instead of
//! being refused, and a pidfd of this process, opened while it surely is this process.

use super::bequest::{self, Bequest, at};
use super::control::Control;
use super::ctx::Ctx;
use super::peer::Peers;
use super::token::Source;
use super::{Shell, actions, upgrade};
use crate::config::{Config, LogTarget, ServerConfig};
use crate::core::node::Role;
use crate::core::{Event, Identity};
use crate::sys::spawn::{TwinSpec, spawn_twin};
use crate::sys::{self, lifeline, pidfd, ports, process, processor};
use log::warn;
use mio::net::{TcpListener, UnixListener};
use std::ffi::CString;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// Descriptors that are not a server's.
const OTHERS: usize = 256;

/// What a standby inherits: the listeners, and its active.
///
/// # Errors
/// A descriptor is missing: the process was not started by an active.
pub fn inherit(
    ctx: &Ctx,
    bequest: &Bequest,
    own: Identity,
) -> io::Result<(Control, Peers, (Identity, OwnedFd))> {
    let control = std::os::unix::net::UnixListener::from(sys::inherited(bequest::CONTROL)?);
    let control = Control::new(Some(UnixListener::from_std(control)));
    let link = std::net::TcpListener::from(sys::inherited(bequest::LINK)?);
    let link = TcpListener::from_std(link);
    let mut peers = Peers::new((own.pid, own.start_ticks), Some(link));
    let active = bequest.active.ok_or_else(|| io::Error::other("no active in the bequest"))?;
    let fd = sys::inherited(bequest::ACTIVE)?;
    ctx.watch(&fd, Source::OtherTwin)?;
    if bequest.has_lifeline {
        let lifeline = sys::inherited(bequest.lifeline_number())?;
        // Without it the pidfd tells, later.
        let _ = ctx.watch(&lifeline, Source::OtherTwin);
        peers.lifeline = Some(lifeline);
    }
    Ok((control, peers, (active, fd)))
}

/// Binds standbyPort on loopback (with SO_REUSEADDR, so that a port in TIME_WAIT is no obstacle).
///
/// # Errors
/// The text names who has the port.
pub fn bind_port(config: &Config, port: u16) -> Result<TcpListener, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port).into()).map_err(|error| {
        let line = config.node.standby_port_line.map(|line| format!(":{line}")).unwrap_or_default();
        let file = config.file.display();
        let cause = match ports::holder_of_tcp_port(port) {
            Some((pid, name)) => format!("in use by PID {pid} ({name})"),
            None => error.to_string(),
        };
        format!("cannot bind standbyPort {port}: {cause}; choose another port in {file}{line}")
    })
}

impl Shell {
    /// Starts a standby from the image that this process runs itself, unless an upgrade is on its way.
    pub(super) fn spawn_standby(&mut self) {
        match self.try_spawn_standby() {
            Ok((process, fd)) => {
                self.other = Some((process, fd));
                self.ctx.tell(Event::StandbySpawned { process });
            }
            Err(error) => self.ctx.tell(Event::StandbySpawnFailed { error }),
        }
        // Who is about to serve writes it then.
        if self.is_serving {
            self.note_serving();
        }
    }

    fn try_spawn_standby(&mut self) -> Result<(Identity, OwnedFd), String> {
        let secret = actions::new_secret()?;
        let text = |error: io::Error| error.to_string();
        let (theirs, lifeline) = lifeline::make(self.above_servers()).map_err(text)?;
        let bequest = Bequest {
            twin: self.ctx.twin.other(),
            secret: secret.clone(),
            active: Some(self.own),
            endpoints: self.endpoints.names(),
            has_metrics: self.scrapes.is_bound(),
            has_lifeline: true,
            ..self.bequest()
        };
        let packed = bequest.pack().map_err(text)?;
        let active = pidfd::open(self.own.pid).map_err(text)?;
        let control = self.control.listener_fd().ok_or("there is no control socket")?;
        let link = self.peers.listener_fd().ok_or("there is no standbyPort")?;
        let mut fds = vec![
            at(&packed, bequest::BEQUEST),
            self.succession.config_for_standby(&self.ctx.packed).handed(),
            at(&self.ctx.pulse.fd(), bequest::PULSE),
            (control, bequest::CONTROL),
            (link, bequest::LINK),
            at(&active, bequest::ACTIVE),
        ];
        fds.extend(self.reports.as_ref().map(|fd| at(fd, bequest::REPORTS)));
        if let Some([out, err]) = &self.ctx.inheritance {
            fds.extend([at(out, bequest::STDOUT), at(err, bequest::STDERR)]);
        }
        fds.extend(self.endpoints.hand_over());
        fds.extend(self.scrapes.hand_over(&bequest));
        fds.push(at(&theirs, bequest.lifeline_number()));
        // Its slot says nothing any more of the one before; what the child writes there stays.
        self.ctx.pulse.write_identity(bequest.twin.slot(), 0, 0);
        let program = self.succession.image_for_standby().map(upgrade::program_path);
        let program = program.transpose().map_err(text)?;
        let (pid, fd) = self.spawn("standby", program, fds).map_err(text)?;
        let started = pidfd::identify(pid, &fd).and_then(|process| {
            self.ctx.watch(&fd, Source::OtherTwin)?;
            Ok(process)
        });
        match started {
            Ok(process) => {
                self.peers.secret = secret;
                self.peers.lifeline = Some(lifeline);
                self.succession.note_standby(process);
                let ticks = process.start_ticks;
                self.ctx.pulse.claim_for_child(bequest.twin.slot(), process.pid, ticks);
                Ok((process, fd))
            }
            Err(error) => {
                // Nobody would see it die, and the next one would have a rival.
                self.ctx.unwatch(&fd);
                let _ = pidfd::signal(&fd, libc::SIGKILL);
                self.servers.discard(&mut self.ctx, fd);
                Err(format!("cannot watch it: {error}"))
            }
        }
    }

    /// A number that no descriptor of a server has as a rule: its pidfd, its sockets, a FIFO and a log
    /// file for each way of its output.
    fn above_servers(&self) -> RawFd {
        let of = |server: &ServerConfig| 1 + server.sockets.len() + 2 * server.piped().count();
        let servers = self.ctx.config.all_servers().map(of).fold(OTHERS, usize::saturating_add);
        RawFd::try_from(servers).unwrap_or(RawFd::MAX)
    }

    /// `program`: its path; `None`: what this process runs.
    pub(super) fn spawn(
        &self,
        role: &str,
        program: Option<CString>,
        fds: Vec<(RawFd, RawFd)>,
    ) -> io::Result<(i32, OwnedFd)> {
        let (argv, env) = bequest::command(role, &self.ctx.config)?;
        let to_stderr = self.ctx.config.node.log_target == LogTarget::Stderr;
        let stderr = to_stderr.then(|| io::stderr().as_fd().as_raw_fd());
        spawn_twin(&TwinSpec { argv, env, fds, stderr, program })
    }

    /// As `spawn`, and its end is told. One that can't be watched is ended, and reaped in its time.
    pub(super) fn spawn_watched(
        &mut self,
        role: &str,
        program: Option<CString>,
        fds: Vec<(RawFd, RawFd)>,
        source: Source,
    ) -> io::Result<OwnedFd> {
        let (_, fd) = self.spawn(role, program, fds)?;
        let watched = self.ctx.watch(&fd, source);
        match watched {
            Ok(()) => Ok(fd),
            Err(error) => {
                let _ = pidfd::signal(&fd, libc::SIGKILL);
                self.servers.discard(&mut self.ctx, fd);
                Err(error)
            }
        }
    }

    /// What any child of this process is told.
    pub(super) fn bequest(&self) -> Bequest {
        Bequest {
            revives: true,
            has_reports: self.reports.is_some(),
            image: self.ctx.image.clone(),
            ..Bequest::new(self.ctx.twin, self.ctx.originals)
        }
    }

    /// Somebody must go on emptying the FIFOs of the servers that stay up. It is no node manager.
    pub(super) fn leave_mover(&mut self) {
        let left = self
            .node
            .servers
            .iter()
            .filter_map(|one| {
                one.rec.phase.process().map(|process| (one.rec.name.clone(), process))
            })
            .collect();
        let bequest = Bequest { left, active: Some(self.own), ..self.bequest() };
        let started = bequest.pack().and_then(|packed| {
            self.spawn("mover", None, vec![at(&packed, bequest::BEQUEST), self.ctx.packed.handed()])
        });
        match started {
            Ok((pid, _)) => self.mover = Some(pid),
            Err(error) => warn!(
                target: "0121",
                "cannot leave a process behind that moves the servers' output: {error}; it waits in \
                 their FIFOs, and a server that fills its FIFO waits too, until the next start"
            ),
        }
    }

    /// The other twin's pidfd is readable, or its lifeline is broken.
    pub(super) fn on_other_twin(&mut self) {
        let Some((process, fd)) = &self.other else { return };
        let process = *process;
        let is_active = self.node.role == Role::Active;
        match pidfd::has_died(fd) {
            Ok(true) => {}
            Ok(false) if is_active => return,
            // It does nothing any more. Who has got the lock then knows that nobody else writes.
            Ok(false) => match process::exits_on(&process) {
                Some(number) => drop(processor::leave(number)),
                None => return,
            },
            Err(_) => return self.ctx.look_again(Source::OtherTwin),
        }
        match is_active {
            true => self.on_standby_death(process),
            false => self.on_active_death(),
        }
    }

    fn on_standby_death(&mut self, process: Identity) {
        if let Some((_, fd)) = self.other.take() {
            self.servers.discard(&mut self.ctx, fd);
        }
        self.ctx.tell(Event::StandbyDied { process });
        self.peers.close_main(&mut self.ctx);
    }

    fn on_active_death(&mut self) {
        // What it said came before its end.
        if let Some(link) = self.peers.main() {
            self.on_peer(link);
        }
        if let Some((_, fd)) = &self.other {
            self.ctx.unwatch(fd);
        }
        if let Some(lifeline) = self.peers.lifeline.take() {
            self.ctx.close(lifeline);
        }
        self.ctx.tell(Event::ActiveDied);
    }
}
